//! Random histories, with whatever goes wrong in between; every moment that is listed must be what the database was.

use firebackup_engine::{Captured, PrunePolicy, RestoreOptions, prune, synthesize};
use firebackup_model::ErrorKind;
use firebackup_model::Timestamp;
use firebackup_model::job::RestoreMode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::compacting::compaction;
use super::{all_moments_are_right, begun, capture, moments};
use crate::fixture::{backup, restore, target};

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

async fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (fixture, repository, _) = begun(random.random_range(0..30)).await;
    let database = &fixture.database;
    let mut capture = capture(&repository, database);
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
            let captured = capture.until_now(&mut |_| {}).await.unwrap();
            assert!(matches!(captured, Captured::Through(_)));
        }
    }
    all_moments_are_right(&repository, database).await;
    let moments = moments(&repository, database).await;
    let (first, last) = (moments.points().next().unwrap(), moments.points().last().unwrap());
    for _ in 0..5 {
        let span = last.seconds_since(first) as i64;
        let at = first.plus_seconds(random.random_range(0..=span.max(1)));
        let newest = moments.points().filter(|point| *point <= at).last().unwrap();
        match moments.resolve(at, false) {
            Ok(moment) => assert_eq!(moment.point, newest),
            // refused only where something is missing behind the newest point
            Err(error) => assert!(error.to_string().contains("gap"), "{error}"),
        }
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
    let expected: Vec<_> = database.documents_at(at).into_keys().collect();
    assert_eq!(empty.documents().into_keys().collect::<Vec<_>>(), expected);
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
