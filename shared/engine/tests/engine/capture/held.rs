//! A capture that sleeps while its segment is on its way to the store, until its place is free although others went on.

use std::time::Duration;

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{CaptureEvent, PrunePolicy, prune};
use firebackup_model::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{all_moments_are_right, begun, capture, compaction, follow, held_at, moments, until_now};
use crate::fixture::{Fixture, backup};

async fn others_go_on(fixture: &Fixture, windows: i64) {
    let repository = fixture.open().await;
    for round in 0..windows {
        fixture.database.set("users/u00004", round);
        until_now(&capture(&repository, &fixture.database)).await;
    }
}

/// What others put is merged, and what it was merged from dropped.
async fn others_free_the_place(fixture: &Fixture) {
    let repository = fixture.open().await;
    others_go_on(fixture, 9).await;
    assert!(compaction(&repository, fixture).run().await.unwrap().made > 0);
    let policy = PrunePolicy { exclusive: true, ..PrunePolicy::default() };
    assert!(prune(&repository, &policy).await.unwrap().segments_dropped > 0);
    others_go_on(fixture, 2).await;
    fixture.clock.pass_hours(8);
}

/// Captures until a segment was put. What is told meanwhile does not matter.
async fn next_sealed(database: &MemoryDatabase, told: &mut UnboundedReceiver<CaptureEvent>) {
    loop {
        database.tell();
        match tokio::time::timeout(Duration::from_millis(50), told.recv()).await {
            Ok(Some(CaptureEvent::Sealed(_))) => return,
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => panic!("the capture has ended"),
        }
    }
}

/// Whoever follows sleeps while a segment is on its way, and goes on, beside others or alone: what is captured behind that has
/// moments.
async fn who_slept_goes_on(is_alone: bool) {
    let (fixture, repository, _) = begun(24).await;
    let database = fixture.database.clone();
    others_go_on(&fixture, 3).await;
    let held = fixture.shared.hold_put("segments");
    database.set("users/u00000", 1);
    let (following, mut told, task) = follow(capture(&repository, &database));
    held.came().await;
    others_free_the_place(&fixture).await;
    held.goes();
    for round in 0..6 {
        database.set("users/u00000", 10 + round);
        next_sealed(&database, &mut told).await;
        if !is_alone {
            others_go_on(&fixture, 1).await;
        }
    }
    following.stop.request();
    task.await.unwrap().unwrap();
    let last_change = database.now();
    others_go_on(&fixture, 1).await;
    are_known_until(&fixture, last_change).await;
}

async fn are_known_until(fixture: &Fixture, last_change: Timestamp) {
    let (repository, database) = (fixture.open().await, &fixture.database);
    assert_eq!(all_moments_are_right(&repository, database).await.len(), 1);
    let known = moments(&repository, database).await;
    assert_eq!(known.gaps(), []);
    let last = known.points().last().unwrap();
    assert!(last > last_change, "moments end at {last}, the last change is of {last_change}");
    assert_eq!(held_at(&repository, &known, last).await, database.documents());
}

#[tokio::test]
async fn who_slept_while_a_segment_was_on_its_way_goes_on_behind_others() {
    who_slept_goes_on(true).await;
}

#[tokio::test]
async fn who_slept_while_a_segment_was_on_its_way_goes_on_beside_others() {
    who_slept_goes_on(false).await;
}

#[tokio::test]
async fn who_slept_while_it_said_that_the_chain_begins_anew_goes_on_behind_others() {
    let (fixture, repository, _) = begun(24).await;
    let database = fixture.database.clone();
    others_go_on(&fixture, 3).await;
    database.set("users/u00000", 1);
    backup(&repository, &database).build().run().await.unwrap();
    let held = fixture.shared.hold_put("segments");
    database.listen_faults(|faults| faults.resets = 1);
    let slept = capture(&repository, &database);
    let task = tokio::spawn(async move { slept.until_now(&mut |_| {}).await.map(drop) });
    held.came().await;
    others_free_the_place(&fixture).await;
    held.goes();
    task.await.unwrap().unwrap();
    let last_change = database.now();
    others_go_on(&fixture, 1).await;
    are_known_until(&fixture, last_change).await;
}
