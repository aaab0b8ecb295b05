//! What a prune keeps of captured changes, and what it drops.

use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_engine::{PrunePolicy, RestoreOptions, prune, verify_segments};
use firebackup_model::Timestamp;
use firebackup_model::id::JobKind;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{all_moments_are_right, begun, capture, compaction, moments, until_now};
use crate::faults::{DyingStore, Fuse};
use crate::fixture::{Fixture, backup};
use crate::steps::restoring;

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
async fn a_snapshot_on_which_no_kept_moment_builds_any_more_goes_when_it_is_named() {
    let (fixture, repository, first) = begun(24).await;
    for round in 0..3 {
        fixture.database.set("users/u00000", round);
        until_now(&capture(&repository, &fixture.database)).await;
    }
    // nobody captures any more, for longer than moments are kept
    fixture.clock.pass_hours(24 * 9);
    let policy = PrunePolicy { drop: vec![first.id.clone()], exclusive: true, ..PrunePolicy::default() };
    let report = prune(&repository, &policy).await.unwrap();
    assert_eq!((report.needed.len(), report.dropped), (0, vec![first.id]));
    assert_eq!((report.segments_dropped, report.segments_kept), (3, 1), "what capturing goes on from");
    fixture.database.set("users/new", 1);
    backup(&repository, &fixture.database).build().run().await.unwrap();
    fixture.database.set("users/newer", 1);
    until_now(&capture(&repository, &fixture.database)).await;
    assert!(all_moments_are_right(&repository, &fixture.database).await[0].moments >= 2);
}

/// Behind the hole there is no base, or one that only what comes behind it builds on.
#[tokio::test]
async fn what_lies_behind_a_lost_segment_is_kept_for_the_window_and_leads_to_moments_once_that_is_put_back() {
    for backs_up in [false, true] {
        let (fixture, repository, _) = begun(24).await;
        let database = &fixture.database;
        for round in 0..6 {
            database.set("users/u00000", round);
            until_now(&capture(&repository, database)).await;
        }
        let before = points(&fixture).await;
        // the first of these says where the chain begins
        let lost = fixture.objects().await.into_iter().filter(|path| path.starts_with("segments/")).nth(2).unwrap();
        let bytes = fixture.read(&lost).await;
        fixture.store.delete(&lost.as_str().into()).await.unwrap();
        if backs_up {
            backup(&repository, database).build().run().await.unwrap();
            database.set("users/new", 1);
            until_now(&capture(&repository, database)).await;
        }
        fixture.clock.pass_hours(24);
        let report = prune(&repository, &PrunePolicy::default()).await.unwrap();
        assert_eq!(report.segments_dropped, 0, "{backs_up}: {report:?}");
        fixture.store.put(&lost.as_str().into(), bytes.into()).await.unwrap();
        assert!(before.is_subset(&points(&fixture).await), "{backs_up}");
        all_moments_are_right(&repository, database).await;
        // where it stays lost, the window passes the others
        fixture.store.delete(&lost.as_str().into()).await.unwrap();
        fixture.clock.pass_hours(24 * 8);
        let report = prune(&repository, &PrunePolicy::default()).await.unwrap();
        assert_eq!(report.segments_kept, 1, "{backs_up}: what capturing goes on from, of {report:?}");
    }
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_keeps_everything() {
    let (fixture, repository, _) = begun(24).await;
    fixture.database.set("users/u00000", 5);
    until_now(&capture(&repository, &fixture.database)).await;
    let objects = fixture.objects().await;
    let policy = PrunePolicy { keep_last: Some(1), exclusive: true, ..PrunePolicy::default() };
    let segments: Vec<_> = objects.iter().filter(|path| path.starts_with("segments/")).collect();
    assert_eq!(segments.len(), 2, "where it begins, and what changed");
    for segment in segments {
        let bytes = fixture.read(segment).await;
        fixture.damage(segment).await;
        assert!(prune(&repository, &policy).await.is_err());
        assert_eq!(fixture.objects().await, objects);
        fixture.store.put(&segment.as_str().into(), bytes.into()).await.unwrap();
    }
}

/// The same objects in a store of their own.
async fn copy_of(store: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    let copy = InMemory::new();
    let metas: Vec<_> = store.list(None).try_collect().await.unwrap();
    for meta in metas {
        let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        copy.put(&meta.location, bytes.into()).await.unwrap();
    }
    Arc::new(copy)
}

async fn objects_in(store: &Arc<dyn ObjectStore>) -> usize {
    store.list(None).try_collect::<Vec<_>>().await.unwrap().len()
}

#[tokio::test]
async fn a_prune_killed_at_any_operation_takes_no_moment_of_the_window_and_leaves_all_that_are_listed_right() {
    let (fixture, repository, _) = begun(12).await;
    days(&fixture, 4).await;
    // what the first one marks the second deletes, and drops a day more
    let policy = PrunePolicy { keep_last: Some(1), keep_moments_days: 3, ..PrunePolicy::default() };
    assert!(prune(&repository, &policy).await.unwrap().segments_dropped > 0);
    fixture.clock.pass_hours(25);
    let before = points(&fixture).await;
    let all = objects_in(&fixture.store).await;
    let mut killed_while_deleting = 0;
    for operations in (1..).step_by(3) {
        let store = copy_of(&fixture.store).await;
        let since = fixture.world.now().plus_seconds(-3 * DAY);
        let dying = DyingStore::new(store.clone(), Fuse::new(operations), operations % 2 == 0);
        let pruned = match fixture.open_on(Arc::new(dying)).await {
            Ok(dying) => prune(&dying, &policy).await.ok(),
            Err(_) => None,
        };
        let left = fixture.open_on(store.clone()).await.unwrap();
        let after: BTreeSet<_> = moments(&left, &fixture.database).await.points().collect();
        assert!(before.iter().all(|point| *point < since || after.contains(point)), "killed at {operations}");
        // as long as nothing is gone they are what they were
        if objects_in(&store).await < all {
            all_moments_are_right(&left, &fixture.database).await;
            killed_while_deleting += 1;
        }
        if let Some(report) = pruned {
            assert!(report.segments_dropped > 0 && report.deleted > 8, "{report:?}");
            break;
        }
    }
    assert!(killed_while_deleting > 4, "{killed_while_deleting}");
}

/// A capture, a full backup and a prune a day.
#[tokio::test]
async fn the_oldest_moment_follows_where_snapshots_are_kept_for_a_shorter_time_than_moments() {
    let (fixture, repository, _) = begun(12).await;
    let database = &fixture.database;
    let policy = PrunePolicy { keep_last: Some(1), keep_moments_days: 7, ..PrunePolicy::default() };
    let mut captured = Vec::new();
    for day in 1..=24 {
        database.set("users/u00000", day);
        database.set(&format!("users/d{day}"), day);
        database.pass_seconds(DAY);
        fixture.clock.pass_hours(24);
        until_now(&capture(&repository, database)).await;
        captured.extend(points(&fixture).await.last().copied());
        backup(&repository, database).build().run().await.unwrap();
        let report = prune(&repository, &policy).await.unwrap();
        // two windows at most, and the snapshots that they begin with
        assert!(report.segments_kept <= 14 && report.kept <= 3, "day {day}: {report:?}");
        let left = points(&fixture).await;
        let days_ago = |days: i64| database.now().plus_seconds(-days * DAY);
        assert!(left.first() >= Some(&days_ago(14)), "day {day}: {left:?}");
        let lost: Vec<_> = captured.iter().filter(|point| **point >= days_ago(7) && !left.contains(point)).collect();
        assert!(lost.is_empty(), "day {day}: {lost:?}");
        all_moments_are_right(&fixture.open().await, database).await;
    }
}

#[tokio::test]
async fn what_moments_build_on_next_is_kept_from_policies_and_dropped_by_name() {
    let (fixture, repository, _) = begun(24).await;
    days(&fixture, 7).await;
    let backups = repository.snapshot_ids().await.unwrap();
    let policy = PrunePolicy { keep_last: Some(1), keep_moments_days: 4, exclusive: true, ..PrunePolicy::default() };
    // four days ago the fourth was just made; the last one is kept for itself
    let report = prune(&repository, &policy).await.unwrap();
    assert_eq!(report.dropped, backups[..3]);
    assert_eq!(repository.snapshot_ids().await.unwrap(), backups[3..]);
    let named = PrunePolicy { drop: backups[3..5].to_vec(), ..policy };
    let report = prune(&repository, &named).await.unwrap();
    assert_eq!((report.needed, report.dropped), (vec![backups[3].clone()], vec![backups[4].clone()]));
    all_moments_are_right(&fixture.open().await, &fixture.database).await;
}

#[tokio::test]
async fn a_restore_of_an_old_backup_keeps_it_and_leaves_what_moments_build_on_behind_it() {
    let (fixture, repository, _) = begun(24).await;
    days(&fixture, 7).await;
    let backups = repository.snapshot_ids().await.unwrap();
    let restore = restoring(&repository, &backups[0], fixture.target(), RestoreOptions::default());
    restore.plan(&fixture.world.job_id(JobKind::Restore)).await.unwrap();
    let policy = PrunePolicy { keep_last: Some(1), keep_moments_days: 4, ..PrunePolicy::default() };
    let report = prune(&repository, &policy).await.unwrap();
    // without the restore the window begins with the fourth, and goes on with the fifth
    assert_eq!((&report.dropped[..], report.segments_dropped), (&backups[1..3], 0));
    all_moments_are_right(&fixture.open().await, &fixture.database).await;
    // once it is given up they take its place at once
    let ended = PrunePolicy { keep_undo_days: 0, exclusive: true, ..policy };
    let report = prune(&repository, &ended).await.unwrap();
    assert_eq!((&report.dropped[..], report.abandoned.len()), (&backups[..1], 1));
    assert!(report.segments_dropped > 20, "{report:?}");
    all_moments_are_right(&fixture.open().await, &fixture.database).await;
}

#[tokio::test]
async fn a_dry_run_says_which_moment_is_the_oldest_that_stays() {
    let (fixture, repository, _) = begun(24).await;
    days(&fixture, 5).await;
    let before = points(&fixture).await;
    let policy = PrunePolicy { keep_last: Some(1), keep_moments_days: 2, ..PrunePolicy::default() };
    let dry = prune(&repository, &PrunePolicy { dry_run: true, ..policy.clone() }).await.unwrap();
    assert_eq!(prune(&repository, &policy).await.unwrap().moments, dry.moments);
    let after = points(&fixture).await;
    let [told] = &dry.moments[..] else { panic!("{:?}", dry.moments) };
    // the first moment of each is that of the snapshot it begins with
    assert_eq!(Some(&told.from_before), before.iter().nth(1));
    assert_eq!(told.from_after.as_ref(), after.iter().nth(1));
    assert!(told.from_after > Some(told.from_before));
    let again = prune(&repository, &policy).await.unwrap().moments;
    assert_eq!(again[0].from_before, told.from_after.unwrap());
    assert_eq!(again[0].from_after, told.from_after);
}

#[tokio::test]
async fn damage_anywhere_in_captured_changes_is_found_and_named() {
    let (fixture, repository, first) = begun(24).await;
    for round in 0..3 {
        fixture.database.set("users/u00000", round);
        until_now(&capture(&repository, &fixture.database)).await;
    }
    let whole = verify_segments(&repository, &Arc::default()).await.unwrap();
    assert_eq!((whole.segments, whole.records, whole.damaged.len()), (3, 3, 0));
    let of_backup: BTreeSet<String> = first.all_runs().map(|run| run.id.to_string()).collect();
    let is_captured = |path: &&String| {
        let is_run = path.starts_with("runs/") && !of_backup.iter().any(|run| path.contains(run));
        path.starts_with("segments/") || is_run
    };
    let captured: Vec<String> = fixture.objects().await.iter().filter(is_captured).cloned().collect();
    assert_eq!(captured.len(), 7);
    for object in captured {
        let bytes = fixture.read(&object).await;
        fixture.damage(&object).await;
        let verified = verify_segments(&fixture.open().await, &Arc::default()).await.unwrap();
        // what says where the chain begins is none of the three
        let whole = if object.contains("/1970-01-01T") { 3 } else { 2 };
        assert_eq!((verified.segments, verified.damaged.len()), (whole, 1), "{object}");
        assert!(verified.damaged[0].1.in_full().contains(&object), "{:?}", verified.damaged);
        fixture.store.put(&object.as_str().into(), bytes.into()).await.unwrap();
    }
}

#[tokio::test]
async fn segments_that_are_merged_and_dropped_while_others_are_read_are_no_damage_and_those_that_stay_away_are() {
    let (fixture, repository, _) = begun(24).await;
    for round in 0..12 {
        fixture.database.set("users/u00000", round);
        until_now(&capture(&repository, &fixture.database)).await;
    }
    let verify_beside = || {
        let repository = repository.clone();
        tokio::spawn(async move { verify_segments(&repository, &Arc::default()).await.unwrap() })
    };
    // the first of these says where the chain begins
    let segments: Vec<String> =
        fixture.objects().await.into_iter().filter(|path| path.starts_with("segments/")).collect();
    let held = fixture.shared.hold_get(&segments[3]);
    let verifying = verify_beside();
    held.came().await;
    assert_eq!(compaction(&repository, &fixture).run().await.unwrap().merged, 8);
    assert_eq!(prune(&repository, &PrunePolicy::default()).await.unwrap().segments_dropped, 8);
    held.goes();
    let verified = verifying.await.unwrap();
    // two that were read before they went, and four that were not merged
    assert_eq!((verified.segments, verified.damaged.len()), (6, 0), "{verified:?}");

    // one that was not listed, and is there when it is looked for again
    let lost = &segments[10];
    let bytes = fixture.read(lost).await;
    fixture.store.delete(&lost.as_str().into()).await.unwrap();
    let held = fixture.shared.hold_get(&segments[11]);
    let verifying = verify_beside();
    held.came().await;
    fixture.store.put(&lost.as_str().into(), bytes.into()).await.unwrap();
    held.goes();
    let verified = verifying.await.unwrap();
    assert!(verified.damaged.is_empty(), "{verified:?}");
    fixture.store.delete(&lost.as_str().into()).await.unwrap();
    let verified = verify_segments(&repository, &Arc::default()).await.unwrap();
    let [(path, error)] = &verified.damaged[..] else { panic!("{verified:?}") };
    assert!(*path == segments[11] && error.to_string().contains("a segment before it is missing"), "{verified:?}");
}
