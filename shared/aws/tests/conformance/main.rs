//! Every adapter passes its port's suite on a local AWS, and does what only AWS asks of it. One test runs it all: a
//! local AWS is started once.

mod buckets;
mod failures;
mod requests;
mod stage;
mod suites;

use stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn the_adapters_conform() {
    let stage = Stage::start().await;
    tokio::join!(
        failures::what_the_stack_lacks_is_told(&stage),
        buckets::all(&stage),
        suites::a_table_conforms(&stage),
        suites::a_queue_conforms(&stage),
        suites::a_queue_with_groups_keeps_their_order(&stage),
        suites::state_machines_conform(&stage),
        suites::a_schedule_group_conforms(&stage),
        suites::a_bus_conforms(&stage),
        suites::master_keys_conform(&stage),
    );
}
