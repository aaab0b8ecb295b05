//! A backup of several read times over the end of a chain whose stream is lost.

use std::sync::Arc;

use firebackup_engine::{CaptureEvent, PrunePolicy, Repository, prune};
use firebackup_model::manifest::{Consistency, Manifest};
use firebackup_model::port::DocumentSource;

use super::{all_moments_are_right, begun, capture, until_now};
use crate::faults::{Trouble, Troubled};
use crate::fixture::{Fixture, backup, backup_of};

/// A chain that ends while a backup is read, and that backup. Of the last group its part was read behind the end: there one document
/// is gone by then, and another one has come.
async fn ended_within_a_backup() -> (Fixture, Repository, Manifest) {
    let (fixture, repository, _) = begun(100).await;
    let database = &fixture.database;
    database.set("users/u00000", 1);
    until_now(&capture(&repository, database)).await;
    let stopped = backup(&repository, database).max_reads(Some(60)).build().run().await.unwrap_err();
    assert!(stopped.is_resumable_stop(), "{stopped:?}");
    database.set("users/u00000", 2);
    until_now(&capture(&repository, database)).await;
    // nobody captures any more
    database.remove("zoo/ü99");
    database.set("zoo/brief", 1);
    let now = database.snapshot_time().await.unwrap();
    let source = Arc::new(Troubled::new(database.clone(), &[Trouble::TooOld(now)]));
    let ranged = backup_of(&repository, source).build().run().await.unwrap().manifest;
    assert_eq!(ranged.consistency, Consistency::Ranged);
    (fixture, repository, ranged)
}

async fn is_scanned(fixture: &Fixture, repository: &Repository) {
    let database = &fixture.database;
    database.set("users/u00004", 1);
    database.listen_faults(|faults| faults.resets = 1);
    let (_, events) = until_now(&capture(repository, database)).await;
    assert!(matches!(&events[..], [CaptureEvent::Scanning(_), CaptureEvent::Sealed(_)]), "{events:?}");
}

/// A scan is a difference to what was known when the stream was lost. A backup of which a part was read behind that has other
/// documents there: one that was deleted by then, and one that came since and went before the scan.
#[tokio::test]
async fn a_backup_that_was_read_on_both_sides_of_a_scan_brings_nothing_back_and_may_go() {
    let (fixture, repository, ranged) = ended_within_a_backup().await;
    let database = &fixture.database;
    database.remove("zoo/brief");
    is_scanned(&fixture, &repository).await;
    database.set("users/u00004", 2);
    until_now(&capture(&repository, database)).await;
    let windows = all_moments_are_right(&repository, database).await;
    let policy = PrunePolicy { drop: vec![ranged.id.clone()], exclusive: true, ..PrunePolicy::default() };
    assert_eq!(prune(&repository, &policy).await.unwrap().dropped, [ranged.id]);
    assert_eq!(all_moments_are_right(&repository, database).await, windows);
}

#[tokio::test]
async fn what_capturing_goes_on_from_stays_beside_a_backup_that_was_read_on_behind_the_end() {
    let (fixture, repository, _) = ended_within_a_backup().await;
    let policy = PrunePolicy { keep_last: Some(1), keep_moments_days: 0, exclusive: true, ..PrunePolicy::default() };
    fixture.clock.pass_hours(1);
    prune(&repository, &policy).await.unwrap();
    is_scanned(&fixture, &repository).await;
    all_moments_are_right(&repository, &fixture.database).await;
}
