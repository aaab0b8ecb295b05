//! What the control plane relies on in a store of records, as one suite that every adapter passes.
//!
//! What it does not ask for, because servers differ: the order of items that share a place in the index; whether 3.0
//! comes back as a float or as an integer; the last bit of a float that needs 17 digits; what a range whose end lies
//! before its beginning gives; the version that counters show.

mod bodies;
mod counters;
mod expiry;
mod keys;
mod paging;
mod races;
mod ranges;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use firebackup_model::ErrorKind;
use firebackup_model::port::{Item, ItemBody, ItemKey, ItemQuery, ItemStore, ItemWrite, NewItem};
use serde_json::{Value, json};

use crate::eventually::eventually;
use crate::hand_clock::HandClock;

/// How far an index may be behind.
const INDEX_LAG: Duration = Duration::from_secs(20);

/// Runs the suite. `clock` is the one that the store reads; it is moved forward.
///
/// # Panics
/// When the store, which should be empty, does not do what the product relies on.
pub async fn conforms(store: Arc<dyn ItemStore>, clock: &HandClock) {
    let one = store.as_ref();
    keys::check(one).await;
    bodies::check(one).await;
    transactions::check(one).await;
    ranges::check(one).await;
    paging::check(one).await;
    counters::check(&store).await;
    races::check(&store).await;
    expiry::check(one, clock).await;
}

fn body(value: Value) -> ItemBody {
    match value {
        Value::Object(body) => body,
        other => panic!("{other} is no object"),
    }
}

fn key(partition: &str, sort: &str) -> ItemKey {
    ItemKey::new(partition, sort)
}

fn item(partition: &str, sort: &str, value: Value) -> NewItem {
    NewItem::new(key(partition, sort), body(value))
}

/// An item that says little.
fn small(partition: &str, sort: &str) -> NewItem {
    item(partition, sort, json!({"sort": sort}))
}

fn create(partition: &str, sort: &str) -> ItemWrite {
    ItemWrite::Create(small(partition, sort))
}

fn in_index(mut item: NewItem, partition: &str, sort: &str) -> NewItem {
    item.index = Some(key(partition, sort));
    item
}

async fn read(store: &dyn ItemStore, key: &ItemKey) -> Option<Item> {
    store.get(key).await.unwrap_or_else(|error| panic!("read {key:?}: {error:?}"))
}

async fn write(store: &dyn ItemStore, writes: Vec<ItemWrite>) {
    let keys: Vec<ItemKey> = writes.iter().take(3).map(|write| write.key().clone()).collect();
    store.write(writes).await.unwrap_or_else(|error| panic!("write {keys:?}: {error:?}"));
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, firebackup_model::PortError>, kind: ErrorKind, what: &str) {
    match result {
        Ok(value) => panic!("{what} was taken: {value:?}"),
        Err(error) => assert_eq!(error.kind, kind, "{what}: {error:?}"),
    }
}

/// All of a partition of the index, which may be a little behind: waits until it holds `expected` sort keys.
async fn index_holds(store: &dyn ItemStore, partition: &str, expected: &[&str]) {
    let query = ItemQuery { by_index: true, ..ItemQuery::prefix(partition, "") };
    let what = format!("{partition} of the index holds {expected:?}");
    eventually(&what, INDEX_LAG, async || {
        let page = store.query(&query).await.unwrap_or_else(|error| panic!("query {partition}: {error:?}"));
        let found: Vec<&str> = page.items.iter().map(|item| item.key.sort.as_str()).collect();
        (found == expected).then_some(())
    })
    .await;
}
