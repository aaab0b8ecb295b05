//! Random histories, with whatever goes wrong in between; every moment that is listed must be what the database was.

use firebackup_engine::{CaptureEvent, Captured, Moments, PrunePolicy, RestoreOptions, prune, synthesize};
use firebackup_model::ErrorKind;
use firebackup_model::Timestamp;
use firebackup_model::job::RestoreMode;
use firebackup_model::segment::{SegmentKind, SegmentManifest};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::compacting::compaction;
use super::{all_moments_are_right, begun, capture, moments};
use crate::fixture::{backup, contents, contents_at, restore, target};

const GROUPS: [&str; 5] = ["users", "orders", "zoo", "fresh", "late"];

fn change(random: &mut StdRng, database: &firebackup_engine::memory::MemoryDatabase) {
    let group = GROUPS[random.random_range(0..GROUPS.len())];
    let id = random.random_range(0..12u32);
    let path = match random.random_range(0..4u32) {
        0 => format!("{group}/{id}/orders/{id}"),
        1 => format!("deep/{id}/{group}/x"),
        _ => format!("{group}/{id}"),
    };
    match random.random_range(0..3u32) {
        0 => database.remove(&path),
        _ => database.set(&path, random.random_range(0..1000)),
    }
}

fn trouble(random: &mut StdRng, database: &firebackup_engine::memory::MemoryDatabase) {
    let now = database.now();
    let what = random.random_range(0..12u32);
    let is_terse = random.random_range(0..2u32) == 0;
    database.listen_faults(|faults| {
        *faults = firebackup_engine::memory::ListenFaults { is_terse, ..Default::default() };
        match what {
            0 => faults.breaks = vec![ErrorKind::Unavailable; 2],
            1 => faults.resets = 1,
            2 => faults.swallows_deletions = true,
            4 => faults.forgotten_before = now,
            5 => faults.has_filters = true,
            6 => faults.breaks = vec![ErrorKind::InvalidArgument],
            _ => {}
        }
    });
}

/// What a capture told of, where that was a segment.
fn sealed_by(event: CaptureEvent) -> Option<SegmentManifest> {
    match event {
        CaptureEvent::Sealed(segment) => Some(*segment),
        _ => None,
    }
}

/// Whether nothing is missing between two moments that follow one another, as far as captures told of what they sealed:
/// the stream was listened to from the one to the other.
fn was_heard(sealed: &[SegmentManifest], before: Timestamp, behind: Timestamp) -> bool {
    let between: Vec<_> = sealed.iter().filter(|segment| segment.after < behind && segment.end() > before).collect();
    let is_covered = between.first().is_some_and(|first| first.after <= before)
        && between.last().is_some_and(|last| last.end() >= behind)
        && between.windows(2).all(|pair| pair[0].end() == pair[1].after);
    // a point that is no moment was never proven
    let is_inside = |point: &Timestamp| before < *point && *point < behind;
    is_covered
        && between.iter().all(|segment| segment.kind == SegmentKind::Listened)
        && !between.iter().flat_map(|segment| &segment.points).any(is_inside)
}

/// A time is the newest moment at or before it, and refused just where nobody listened between the moments around it.
fn is_resolved_rightly(moments: &Moments, sealed: &[SegmentManifest], at: Timestamp) {
    let newest = moments.points().filter(|point| *point <= at).last().unwrap();
    let next = moments.points().find(|point| *point > at);
    let is_missing = next.is_some_and(|next| at != newest && !was_heard(sealed, newest, next));
    let windows = moments.windows();
    let is_within = windows.iter().any(|window| window.start <= at && at <= window.end);
    assert!(next.is_none() || is_within != is_missing, "{at} behind {newest}, before {next:?}, of {windows:?}");
    match moments.resolve(at, false) {
        Ok(moment) => assert_eq!((moment.point, is_missing), (newest, false), "{at}, before {next:?}, of {windows:?}"),
        Err(error) => assert!(is_missing && error.to_string().contains("gap"), "{at} behind {newest}: {error}"),
    }
}

async fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (fixture, repository, _) = begun(random.random_range(0..30)).await;
    let database = &fixture.database;
    let mut capture = capture(&repository, database);
    let mut sealed = Vec::new();
    if random.random_range(0..3u32) == 0 {
        capture.options.prove_cheaply_every_seconds = 90;
        capture.options.prove_every_seconds = 90;
    }
    for _ in 0..random.random_range(2..14u32) {
        for _ in 0..random.random_range(0..12u32) {
            change(&mut random, database);
        }
        database.pass_seconds(random.random_range(0..80));
        trouble(&mut random, database);
        if random.random_range(0..8u32) == 0 {
            backup(&repository, database).build().run().await.unwrap();
        }
        if random.random_range(0..6u32) == 0 {
            database.pass_seconds(random.random_range(0..2) * 24 * 3600);
            compaction(&repository, &fixture).run().await.unwrap();
        }
        if random.random_range(0..10u32) == 0 {
            fixture.clock.pass_hours(13);
            let policy = PrunePolicy { keep_last: Some(1), keep_moments_days: 1, ..PrunePolicy::default() };
            prune(&repository, &policy).await.unwrap();
        }
        if random.random_range(0..8u32) == 0 {
            let all = moments(&repository, database).await;
            let last = all.resolve(all.points().last().unwrap(), true).unwrap();
            if !last.is_base {
                synthesize(&repository, &all, &last).unwrap().build().run().await.unwrap();
            }
        }
        if random.random_range(0..4u32) > 0 {
            let captured = capture.until_now(&mut |event| sealed.extend(sealed_by(event))).await.unwrap();
            assert!(matches!(captured, Captured::Through(_)));
        }
    }
    all_moments_are_right(&repository, database).await;
    let moments = moments(&repository, database).await;
    let (first, last) = (moments.points().next().unwrap(), moments.points().last().unwrap());
    for _ in 0..5 {
        let span = last.seconds_since(first) as i64;
        is_resolved_rightly(&moments, &sealed, first.plus_seconds(random.random_range(0..=span.max(1))));
    }
    // just behind each moment: the database's clock has no nanoseconds
    for point in moments.points() {
        is_resolved_rightly(&moments, &sealed, Timestamp::new(point.seconds, point.nanos + 1));
    }
    restores(&repository, database, moments.resolve(last, true).unwrap().point).await;
}

async fn restores(
    repository: &firebackup_engine::Repository,
    database: &firebackup_engine::memory::MemoryDatabase,
    at: Timestamp,
) {
    let moment = moments(repository, database).await.resolve(at, true).unwrap();
    let empty = firebackup_engine::memory::MemoryDatabase::new(firebackup_model::DatabaseName::new("p", "(default)"));
    let options = RestoreOptions { mode: RestoreMode::Mirror, ..RestoreOptions::default() };
    let mut put_back = restore(repository, &moment.base, target(&empty), options);
    put_back.at = (!moment.is_base).then_some(moment.point);
    put_back.run().await.unwrap();
    assert_eq!(contents(&empty), contents_at(database, at));
}

#[tokio::test]
async fn every_moment_of_random_histories_is_what_the_database_was() {
    let first = std::env::var("FIREBACKUP_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..200u64, |seed| seed..seed + 1);
    for seed in seeds {
        let told = std::panic::AssertUnwindSafe(history(seed));
        if futures::FutureExt::catch_unwind(told).await.is_err() {
            panic!("the history of FIREBACKUP_SEED={seed} is not what the database was");
        }
    }
}
