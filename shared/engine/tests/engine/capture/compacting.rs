//! Segments merged into longer ones: every moment stays, and what it takes to read one is bounded.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_engine::{
    CaptureEvent, CompactReport, Compaction, Moments, PrunePolicy, Repository, StatusBounds, Stop, capture_status,
    prune,
};
use firebackup_model::port::{ChangeSource, ChangeStream, DocumentStream, ListenFrom};
use firebackup_model::{PathRange, PortError, Timestamp};
use object_store::ObjectStoreExt;

use super::{all_moments_are_right, begun, capture, moments, until_now};
use crate::faults::{DyingStore, Fuse};
use crate::fixture::Fixture;

pub fn compaction(repository: &Repository, fixture: &Fixture) -> Compaction {
    let source: &dyn firebackup_model::port::DocumentSource = &fixture.database;
    Compaction {
        repository: repository.clone(),
        database: source.database().clone(),
        meter: Arc::default(),
        stop: Stop::default(),
    }
}

async fn compact(fixture: &Fixture) -> CompactReport {
    compaction(&fixture.open().await, fixture).run().await.unwrap()
}

/// So many segments, one every `seconds`, with scans among them.
async fn segments(fixture: &Fixture, number: i64, seconds: i64) {
    let repository = fixture.open().await;
    let database = &fixture.database;
    for round in 0..number {
        database.set("users/u00000", round);
        database.set(&format!("fresh/{}", round % 7), round);
        database.remove(&format!("fresh/{}", (round + 3) % 7));
        if round % 11 == 10 {
            database.listen_faults(|faults| faults.resets = 1);
        }
        database.pass_seconds(seconds);
        until_now(&capture(&repository, database)).await;
    }
}

#[tokio::test]
async fn every_moment_and_every_gap_stays_while_segments_become_few() {
    let (fixture, repository, _) = begun(24).await;
    segments(&fixture, 47, 1800).await;
    let before = all_moments_are_right(&repository, &fixture.database).await;
    let report = compact(&fixture).await;
    assert!(report.made > 2 && report.segments < 20, "{report:?}");
    assert_eq!(all_moments_are_right(&repository, &fixture.database).await, before);
    assert_eq!(compact(&fixture).await, CompactReport { segments: report.segments, ..CompactReport::default() });
    // what was merged goes, at once by name and its runs a day later
    let dropped = prune(&repository, &PrunePolicy::default()).await.unwrap();
    assert!(dropped.segments_dropped >= report.merged - report.made, "{dropped:?}");
    fixture.clock.pass_hours(25);
    assert!(prune(&repository, &PrunePolicy::default()).await.unwrap().deleted > 30);
    assert_eq!(all_moments_are_right(&repository, &fixture.database).await, before);
    // and the chain goes on
    segments(&fixture, 12, 1800).await;
    compact(&fixture).await;
    let after = all_moments_are_right(&repository, &fixture.database).await;
    assert_eq!(after[..before.len() - 1], before[..before.len() - 1]);
}

#[tokio::test]
async fn points_that_are_proven_later_become_moments_although_they_were_merged() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    let mut late = capture(&repository, database);
    (late.options.prove_cheaply_every_seconds, late.options.prove_every_seconds) = (100_000, 100_000);
    for round in 0..25 {
        database.set("hidden/1", round);
        database.set("users/u00000", round);
        database.pass_seconds(60);
        until_now(&late).await;
    }
    let report = compact(&fixture).await;
    assert!(report.made >= 2, "{report:?}");
    assert_eq!(moments(&repository, database).await.points().count(), 1);
    database.set("users/u00000", 7);
    until_now(&capture(&repository, database)).await;
    let windows = all_moments_are_right(&repository, database).await;
    assert_eq!((windows.len(), windows[0].moments), (1, 27));
}

#[tokio::test]
async fn two_compactions_at_once_make_what_one_makes() {
    let (fixture, repository, _) = begun(24).await;
    segments(&fixture, 33, 1800).await;
    let before = all_moments_are_right(&repository, &fixture.database).await;
    let (one, other) = (compaction(&repository, &fixture), compaction(&repository, &fixture));
    let (one, other) = tokio::join!(one.run(), other.run());
    assert_eq!(one.unwrap().segments, other.unwrap().segments);
    assert_eq!(all_moments_are_right(&repository, &fixture.database).await, before);
}

#[tokio::test]
async fn a_compaction_killed_at_any_operation_takes_nothing_away() {
    for lost_answers in [false, true] {
        for operations in (1..).step_by(7) {
            let (fixture, repository, _) = begun(12).await;
            segments(&fixture, 22, 1800).await;
            let before = all_moments_are_right(&repository, &fixture.database).await;
            let fuse = Fuse::new(operations);
            let store = Arc::new(DyingStore::new(fixture.store.clone(), fuse.clone(), lost_answers));
            let lived = match fixture.open_on(store).await {
                Ok(dying) => compaction(&dying, &fixture).run().await.is_ok(),
                Err(_) => false,
            };
            assert_eq!(all_moments_are_right(&fixture.open().await, &fixture.database).await, before);
            let merged = compact(&fixture).await;
            assert!(merged.segments < 12, "{merged:?}");
            assert_eq!(all_moments_are_right(&fixture.open().await, &fixture.database).await, before);
            if lived {
                assert!(operations > 50, "{operations}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn scans_that_were_merged_still_count_against_the_budget() {
    let (fixture, repository, _) = begun(24).await;
    // the eleventh segment is a scan
    segments(&fixture, 20, 60).await;
    assert!(compact(&fixture).await.made > 1);
    let mut spent = capture(&repository, &fixture.database);
    spent.options.max_scans_a_day = Some(1);
    fixture.database.set("users/u00000", 1);
    fixture.database.listen_faults(|faults| faults.resets = 1);
    assert_eq!(until_now(&spent).await.0, firebackup_engine::Captured::Degraded);
}

#[tokio::test]
async fn what_is_not_proven_behind_what_is_in_one_merged_segment_becomes_moments_without_a_scan() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    database.set("users/u00000", 100);
    until_now(&capture(&repository, database)).await;
    let mut late = capture(&repository, database);
    (late.options.prove_cheaply_every_seconds, late.options.prove_every_seconds) = (100_000, 100_000);
    for round in 0..11 {
        database.set("users/u00000", round);
        database.set("hidden/1", round);
        database.remove("users/u00004");
        database.set("users/u00004", round);
        until_now(&late).await;
    }
    assert_eq!(compact(&fixture).await.made, 1);
    database.set("users/u00000", 7);
    let (_, events) = until_now(&capture(&repository, database)).await;
    assert!(matches!(&events[..], [CaptureEvent::Sealed(_)]), "{events:?}");
    let windows = all_moments_are_right(&repository, database).await;
    assert_eq!((windows.len(), windows[0].moments), (1, 14));
}

/// Listens only once it is let to: as on a machine that slept.
struct Sleeper {
    database: firebackup_engine::memory::MemoryDatabase,
    wakes: Arc<tokio::sync::Semaphore>,
}

#[async_trait::async_trait]
impl ChangeSource for Sleeper {
    async fn listen(&self, groups: &BTreeSet<String>, from: ListenFrom) -> Result<ChangeStream, PortError> {
        let _awake = self.wakes.acquire().await;
        self.database.listen(groups, from).await
    }

    async fn count_group(&self, group: &str, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.database.count_group(group, range, at).await
    }

    async fn stream_group(&self, group: &str, at: Timestamp) -> Result<DocumentStream, PortError> {
        self.database.stream_group(group, at).await
    }
}

#[tokio::test]
async fn who_slept_while_others_went_on_and_merged_and_pruned_takes_no_moment_away() {
    for passes_long in [true, false] {
        let (fixture, repository, _) = begun(24).await;
        segments(&fixture, 3, 60).await;
        let wakes = Arc::new(tokio::sync::Semaphore::new(0));
        let mut sleeping = capture(&repository, &fixture.database);
        sleeping.changes = Arc::new(Sleeper { database: fixture.database.clone(), wakes: wakes.clone() });
        let task = tokio::spawn(async move { sleeping.until_now(&mut |_| {}).await });
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        segments(&fixture, 9, 60).await;
        compact(&fixture).await;
        prune(&repository, &PrunePolicy { exclusive: true, ..PrunePolicy::default() }).await.unwrap();
        let before: BTreeSet<_> = moments(&repository, &fixture.database).await.points().collect();
        if passes_long {
            fixture.clock.pass_hours(1);
        }
        fixture.database.set("users/u00000", 77);
        wakes.add_permits(10);
        task.await.unwrap().unwrap();
        segments(&fixture, 12, 60).await;
        compact(&fixture).await;
        all_moments_are_right(&repository, &fixture.database).await;
        let after: BTreeSet<_> = moments(&repository, &fixture.database).await.points().collect();
        assert!(before.is_subset(&after), "lost: {:?}", before.difference(&after).collect::<Vec<_>>());
    }
}

/// Why the moments cannot be read while this object is damaged; it is whole again then.
async fn error_of_damaged(fixture: &Fixture, repository: &Repository, path: &str) -> String {
    let bytes = fixture.read(path).await;
    fixture.damage(path).await;
    let source: &dyn firebackup_model::port::DocumentSource = &fixture.database;
    let error = Moments::read(repository, source.database()).await.err().unwrap().in_full();
    fixture.store.put(&path.into(), bytes.into()).await.unwrap();
    assert!(error.contains(path), "{error}");
    error
}

#[tokio::test]
async fn a_merged_manifest_that_is_damaged_is_told_to_lose_nothing_and_loses_nothing_until_a_prune() {
    const GIVES_UP: &str = "remove it, which gives up the moments from there";
    let (fixture, repository, _) = begun(24).await;
    segments(&fixture, 20, 1800).await;
    let before = all_moments_are_right(&repository, &fixture.database).await;
    let plain: Vec<_> = fixture.objects().await.into_iter().filter(|path| path.starts_with("segments/")).collect();
    let error = error_of_damaged(&fixture, &repository, &plain[3]).await;
    assert!(error.contains(GIVES_UP), "{error}");
    assert!(compact(&fixture).await.made > 1);
    let objects = fixture.objects().await;
    let is_merged = |path: &&String| path.starts_with("segments/") && !plain.contains(path);
    let mut merged: Vec<String> = objects.iter().filter(is_merged).cloned().collect();
    // what was merged twice first: what lies in it is read only then
    merged.sort_by_cached_key(|path| {
        let (after, end) = path.rsplit_once('_').unwrap();
        (after.to_owned(), Reverse(end.to_owned()))
    });
    for path in &merged {
        let error = error_of_damaged(&fixture, &repository, path).await;
        assert!(error.contains("that it was merged from are read instead") && !error.contains(GIVES_UP), "{error}");
        fixture.store.delete(&path.as_str().into()).await.unwrap();
        assert_eq!(all_moments_are_right(&repository, &fixture.database).await, before);
    }
}

async fn segments_now(fixture: &Fixture, repository: &Repository) -> u64 {
    let source: &dyn firebackup_model::port::DocumentSource = &fixture.database;
    let status = capture_status(repository, source.database(), StatusBounds::of_window(60.0)).await.unwrap();
    status.segments
}

/// One more segment, of very much more than any other; says of how many bytes.
async fn large_segment(fixture: &Fixture, repository: &Repository) -> u64 {
    for number in 0..400 {
        fixture.database.set(&format!("users/large{number}"), number);
    }
    let (_, events) = until_now(&capture(repository, &fixture.database)).await;
    let large = events.iter().find_map(|event| match event {
        CaptureEvent::Sealed(segment) => Some(segment.runs.iter().map(|run| run.raw_bytes).sum::<u64>()),
        _ => None,
    });
    large.unwrap()
}

#[tokio::test]
async fn where_what_is_large_rests_what_is_small_is_merged_and_a_later_merge_does_the_rest() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    segments(&fixture, 20, 60).await;
    let small = large_segment(&fixture, &repository).await - 1;
    segments(&fixture, 20, 60).await;
    let there = segments_now(&fixture, &repository).await;
    assert!((40..64).contains(&there), "{there}");
    let moments = all_moments_are_right(&repository, database).await;
    let report = compaction(&repository, &fixture).run_small_up_to(small).await.unwrap();
    // of the eights the one with the large one in it rests
    assert_eq!((report.made, report.segments), (there / 8 - 1, there / 8 - 1 + 8 + there % 8), "{report:?}");
    assert_eq!(segments_now(&fixture, &repository).await, report.segments);
    assert_eq!(all_moments_are_right(&repository, database).await, moments);
    let idle = CompactReport { segments: report.segments, ..CompactReport::default() };
    assert_eq!(compaction(&repository, &fixture).run_small_up_to(small).await.unwrap(), idle);
    let report = compact(&fixture).await;
    assert_eq!((report.made, report.segments), (1, there / 8 + there % 8), "{report:?}");
    assert_eq!(all_moments_are_right(&repository, database).await, moments);
}

#[tokio::test]
async fn what_is_too_large_to_be_merged_stays_and_what_lies_beside_it_is_merged() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    segments(&fixture, 20, 60).await;
    let before = segments_now(&fixture, &repository).await;
    let most = large_segment(&fixture, &repository).await - 1;
    let with_it = segments_now(&fixture, &repository).await;
    segments(&fixture, 20, 60).await;
    let behind = segments_now(&fixture, &repository).await - with_it;
    assert!(with_it == before + 1 && behind < 64, "{before} {with_it} {behind}");

    let moments = all_moments_are_right(&repository, database).await;
    let report = compaction(&repository, &fixture).run_within(most).await.unwrap();
    let left = |segments: u64| segments / 8 + segments % 8;
    assert_eq!(report.segments, left(before) + 1 + left(behind), "{report:?}");
    assert_eq!(all_moments_are_right(&repository, database).await, moments);
    let idle = CompactReport { segments: report.segments, ..CompactReport::default() };
    assert_eq!(compaction(&repository, &fixture).run_within(most).await.unwrap(), idle);

    // once the day is over, what lies before and behind it is one each
    database.pass_seconds(24 * 3600);
    segments(&fixture, 1, 60).await;
    let moments = all_moments_are_right(&repository, database).await;
    let today = segments_now(&fixture, &repository).await - report.segments;
    let report = compaction(&repository, &fixture).run_within(most).await.unwrap();
    assert_eq!(report.segments, 3 + today, "{report:?}");
    assert_eq!(all_moments_are_right(&repository, database).await, moments);
    assert_eq!(compaction(&repository, &fixture).run_within(most).await.unwrap().made, 0);
    // and where it is not too large, all of it is
    assert_eq!(compact(&fixture).await.segments, 1 + today);
    assert_eq!(all_moments_are_right(&repository, database).await, moments);
}

#[tokio::test]
async fn a_merge_that_is_asked_to_stop_ends_at_once_and_leaves_nothing() {
    let (fixture, repository, _) = begun(24).await;
    segments(&fixture, 9, 60).await;
    let moments = all_moments_are_right(&repository, &fixture.database).await;
    let objects = fixture.objects().await;
    let stop = Stop::default();
    let stopped = Compaction { stop: stop.clone(), ..compaction(&repository, &fixture) };
    fixture.shared.take_gets();
    let ask = async {
        // until it reads what it merges
        while !fixture.shared.take_gets().keys().any(|path| path.to_string().starts_with("runs/")) {
            tokio::task::yield_now().await;
        }
        stop.request();
    };
    let (report, ()) = tokio::join!(stopped.run(), ask);
    let report = report.unwrap();
    assert_eq!((report.made, report.is_stopped), (0, true), "{report:?}");
    let report = compact(&fixture).await;
    assert_eq!((report.made, report.is_stopped), (1, false), "{report:?}");
    assert_eq!(
        fixture.objects().await.len(),
        objects.len() + 2,
        "one run and its manifest, and none of the one before"
    );
    assert_eq!(all_moments_are_right(&repository, &fixture.database).await, moments);
}
