//! What a prune keeps of captured changes, and what it drops.

use std::collections::BTreeSet;

use firebackup_engine::{PrunePolicy, prune, verify_segments};
use firebackup_model::Timestamp;
use object_store::ObjectStoreExt;

use super::{all_moments_are_right, begun, capture, moments, until_now};
use crate::fixture::{Fixture, backup};

const DAY: i64 = 24 * 3600;

/// Days with a change every three hours, and a backup each day but the last.
async fn days(fixture: &Fixture, days: i64) {
    let repository = fixture.open().await;
    let database = &fixture.database;
    for hour in 0..8 * days {
        if hour % 8 == 0 && hour > 0 && hour < 8 * (days - 1) {
            backup(&repository, database).build().run().await.unwrap();
        }
        database.set("users/u00000", hour);
        database.set(&format!("users/h{hour}"), hour);
        database.pass_seconds(3 * 3600);
        fixture.clock.pass_hours(3);
        until_now(&capture(&repository, database)).await;
    }
}

async fn points(fixture: &Fixture) -> BTreeSet<Timestamp> {
    moments(&fixture.open().await, &fixture.database).await.points().collect()
}

#[tokio::test]
async fn every_moment_of_the_window_is_kept_whatever_happens_to_snapshots_and_older_ones_go() {
    let (fixture, repository, first) = begun(24).await;
    days(&fixture, 10).await;
    let before = points(&fixture).await;
    let policy = PrunePolicy { keep_last: Some(1), keep_moments_days: 3, ..PrunePolicy::default() };
    let dry = prune(&repository, &PrunePolicy { dry_run: true, ..policy.clone() }).await.unwrap();
    assert_eq!(points(&fixture).await, before);
    let report = prune(&repository, &policy).await.unwrap();
    assert_eq!((&report.dropped, report.segments_dropped), (&dry.dropped, dry.segments_dropped));
    assert!(report.segments_dropped > 30 && report.segments_kept > 20, "{report:?}");
    assert!(report.dropped.contains(&first.id));
    let since = fixture.database.now().plus_seconds(-3 * DAY);
    let after = points(&fixture).await;
    let lost: Vec<_> = before.iter().filter(|point| **point >= since && !after.contains(point)).collect();
    // what only a dropped snapshot was a moment of is no captured one
    assert!(lost.is_empty(), "{lost:?}");
    assert!(after.first() > before.first());
    // what nothing refers to any more is marked, and goes a day later
    fixture.clock.pass_hours(25);
    let swept = prune(&repository, &policy).await.unwrap();
    assert!(swept.deleted > 30, "{swept:?}");
    all_moments_are_right(&fixture.open().await, &fixture.database).await;
    // and capturing goes on
    fixture.database.set("users/u00000", 5);
    until_now(&capture(&repository, &fixture.database)).await;
    assert_eq!(all_moments_are_right(&repository, &fixture.database).await.len(), 1);
}

#[tokio::test]
async fn a_snapshot_that_kept_moments_build_on_is_not_dropped_even_when_it_is_named() {
    let (fixture, repository, first) = begun(24).await;
    fixture.database.set("users/u00000", 5);
    until_now(&capture(&repository, &fixture.database)).await;
    let policy = PrunePolicy { drop: vec![first.id.clone()], exclusive: true, ..PrunePolicy::default() };
    let report = prune(&repository, &policy).await.unwrap();
    assert_eq!((report.needed, report.dropped.len()), (vec![first.id], 0));
    assert_eq!(all_moments_are_right(&repository, &fixture.database).await[0].moments, 2);
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_keeps_everything() {
    let (fixture, repository, _) = begun(24).await;
    fixture.database.set("users/u00000", 5);
    until_now(&capture(&repository, &fixture.database)).await;
    let objects = fixture.objects().await;
    let segment = objects.iter().find(|path| path.starts_with("segments/")).unwrap();
    fixture.damage(segment).await;
    let policy = PrunePolicy { keep_last: Some(1), exclusive: true, ..PrunePolicy::default() };
    assert!(prune(&repository, &policy).await.is_err());
    assert_eq!(fixture.objects().await, objects);
}

#[tokio::test]
async fn a_prune_killed_at_any_operation_takes_no_moment_of_the_window() {
    for operations in (1..).step_by(9) {
        let (fixture, _, _) = begun(12).await;
        days(&fixture, 4).await;
        let before = points(&fixture).await;
        let policy = PrunePolicy { keep_last: Some(1), keep_moments_days: 1, ..PrunePolicy::default() };
        let fuse = crate::faults::Fuse::new(operations);
        let store = std::sync::Arc::new(crate::faults::DyingStore::new(fixture.store.clone(), fuse.clone(), false));
        let lived = match fixture.open_on(store).await {
            Ok(dying) => prune(&dying, &policy).await.is_ok(),
            Err(_) => false,
        };
        let since = fixture.database.now().plus_seconds(-DAY);
        let after = points(&fixture).await;
        assert!(before.iter().all(|point| *point < since || after.contains(point)), "killed at {operations}");
        if lived {
            assert!(operations > 30, "{operations}");
            break;
        }
    }
}

#[tokio::test]
async fn damage_anywhere_in_captured_changes_is_found_and_named() {
    let (fixture, repository, first) = begun(24).await;
    for round in 0..3 {
        fixture.database.set("users/u00000", round);
        until_now(&capture(&repository, &fixture.database)).await;
    }
    let whole = verify_segments(&repository, &std::sync::Arc::default()).await.unwrap();
    assert_eq!((whole.segments, whole.records, whole.damaged.len()), (3, 3, 0));
    let of_backup: BTreeSet<String> = first.all_runs().map(|run| run.id.to_string()).collect();
    let is_captured = |path: &&String| {
        let is_run = path.starts_with("runs/") && !of_backup.iter().any(|run| path.contains(run));
        path.starts_with("segments/") || is_run
    };
    let captured: Vec<String> = fixture.objects().await.iter().filter(is_captured).cloned().collect();
    assert_eq!(captured.len(), 6);
    for object in captured {
        let bytes = fixture.read(&object).await;
        fixture.damage(&object).await;
        let verified = verify_segments(&fixture.open().await, &std::sync::Arc::default()).await.unwrap();
        assert_eq!((verified.segments, verified.damaged.len()), (2, 1), "{object}");
        assert!(verified.damaged[0].1.in_full().contains(&object), "{:?}", verified.damaged);
        fixture.store.put(&object.as_str().into(), bytes.into()).await.unwrap();
    }
}
