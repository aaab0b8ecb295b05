//! Steps whose time is up before their work is done: it goes on in further steps.

use std::collections::BTreeSet;
use std::time::Duration;

use firebackup_bootstrap::StepSettings;
use firebackup_google::sample::sample;
use firebackup_testkit::Method;
use serde_json::{Value, json};

use super::bucket::{Bucketed, is_put};
use super::cut_power;
use super::within::Within;
use crate::serve::installation::{Api, id};
use crate::stage::{assert_same, database, delete_all, read_all, write_all};

/// More than the four batches of 500 that a part has on their way at one time, and the one that waits for its turn: it
/// goes on when the time is up.
const DOCUMENTS: usize = 2600;
/// Documents that a restore replaces or deletes.
const OTHERS: usize = 200;
const STEP: Duration = Duration::from_millis(500);
/// Longer than a step may take.
const HELD_UP: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_has_no_time_for_is_done_by_the_next_and_nothing_is_done_twice() {
    let mut stage = Bucketed::with(DOCUMENTS).await;
    cut_power(&mut stage.place);
    // the time is looked at every 256 documents of a chunk
    let steps =
        StepSettings { chunk_documents: 700, part_documents: 10_000, step_time: STEP, ..StepSettings::default() };
    let within = Within::on(&stage.place.installation, steps).await;
    let api = within.api(&stage.place.key);
    within
        .working(async {
            let backup = backed_up(&stage, &api).await;
            put_back_and_undone(&stage, &api, &backup).await;
        })
        .await;
}

/// The steps that were done of each of `pieces`: numbers without a gap, each once, and somewhere more than one.
fn assert_in_sequence(steps: &[(u32, u32)], pieces: u64) {
    let distinct: BTreeSet<_> = steps.iter().copied().collect();
    assert_eq!(distinct.len(), steps.len(), "done twice: {steps:?}");
    let named: BTreeSet<_> = steps.iter().map(|(piece, _)| u64::from(*piece)).collect();
    assert_eq!(named, (0..pieces).collect(), "{steps:?}");
    assert!(steps.len() as u64 > pieces, "nobody has handed over: {steps:?}");
    for (piece, sequence) in distinct.iter().filter(|(_, sequence)| *sequence > 0) {
        assert!(distinct.contains(&(*piece, sequence - 1)), "{piece}/{sequence} follows nothing: {steps:?}");
    }
}

/// Every query of a chunk takes longer than a step may.
async fn backed_up(stage: &Bucketed, api: &Api) -> String {
    let puts = stage.note_puts();
    let google = stage.google.control().clone();
    stage.aws.faults().strike(move |call| {
        // the plan is made: what is read from now on is read by chunks
        if is_put(call) && call.path.ends_with("/plan") {
            google.delay(Method::RunQuery, HELD_UP);
        }
        None
    });
    let backup = api.back_up(&stage.place.project).await;
    let done = api.ends(&stage.place.backup_path(&backup), "completed").await;
    stage.aws.faults().clear();
    stage.google.control().clear_faults();
    let steps = puts.numbers(&format!("/receipts/{backup}/"));
    assert_in_sequence(&steps, done["progress"]["chunks"].as_u64().unwrap());
    // what was done twice would have been counted, and billed, twice
    let counted = [&done["progress"]["documents"], &done["progress"]["reads"], &done["result"]["reads"]];
    assert_eq!(counted.map(Value::as_u64), [Some(DOCUMENTS as u64); 3], "{done:#}");
    stage.assert_whole(api, &backup, DOCUMENTS as u64).await;
    backup
}

/// Every batch takes longer than a step may. The undo is made of what several steps replaced.
async fn put_back_and_undone(stage: &Bucketed, api: &Api, backup: &str) {
    let source = &stage.place.source;
    let wanted = read_all(source).await;
    delete_all(source).await;
    write_all(source, sample(&database(), OTHERS, 2)).await;
    let before = read_all(source).await;
    let puts = stage.note_puts();
    stage.google.control().delay(Method::BatchWrite, HELD_UP);
    let restore = id(&api.post("/backups/restore", json!({"backupId": backup, "mode": "mirror"})).await);
    let done = api.ends(&format!("/restores/{restore}"), "completed").await;
    stage.aws.faults().clear();
    stage.google.control().clear_faults();
    assert_in_sequence(
        &puts.numbers(&format!("/receipts/{restore}/parts/")),
        done["progress"]["chunks"].as_u64().unwrap(),
    );
    let counted = [&done["result"]["written"], &done["result"]["deleted"], &done["progress"]["writes"]];
    let in_the_way = before.keys().filter(|path| !wanted.contains_key(*path)).count();
    let expected = [DOCUMENTS, in_the_way, DOCUMENTS + in_the_way].map(|count| Some(count as u64));
    assert_eq!(counted.map(Value::as_u64), expected, "{done:#}");
    assert_same(&read_all(source).await, &wanted);

    let undo = id(&api.post("/backups/restore", json!({"backupId": restore})).await);
    api.ends(&format!("/restores/{undo}"), "completed").await;
    assert_same(&read_all(source).await, &before);
    stage.assert_no_traces().await;
}
