//! Backups that hold only what changed since another one.

use std::sync::Arc;

use firebackup_engine::{Increment, MAX_DEPTH, PrunePolicy, Repository, increment, lookup, prune};
use firebackup_model::manifest::{Manifest, SnapshotKind};
use firebackup_model::port::DocumentSource;
use firebackup_model::{Generations, Selection};

use super::merging::documents;
use super::{all_moments_are_right, begun, capture, until_now};
use crate::faults::{DyingStore, Fuse};
use crate::fixture::{Fixture, all_whole, backup, contents, restore, target};

#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    Captured,
    Scanned,
    Full,
}

pub async fn back_up(repository: &Repository, fixture: &Fixture) -> firebackup_engine::Result<(Way, Manifest)> {
    let source: Arc<dyn DocumentSource> = Arc::new(fixture.database.clone());
    let (way, backup) = match increment(repository, &source, &Selection::default()).await? {
        Increment::Captured(captured) => (Way::Captured, *captured),
        Increment::Scanned(scan) => (Way::Scanned, *scan),
        Increment::Full(_) => (Way::Full, backup(repository, &fixture.database)),
    };
    let outcome = backup.compression("zstd:1".parse().unwrap()).block_bytes(2048).build().run().await?;
    Ok((way, outcome.manifest))
}

/// A snapshot must be what the database was at its read time.
pub async fn is_right(repository: &Repository, fixture: &Fixture, manifest: &Manifest) {
    let expected = fixture.database.documents_at(manifest.read_time().unwrap());
    assert_eq!(documents(repository, &manifest.id).await, expected.into_iter().collect::<Vec<_>>());
}

fn change(fixture: &Fixture, round: i64) {
    fixture.database.set("users/u00000", round);
    fixture.database.set(&format!("fresh/{}", round % 5), round);
    fixture.database.remove(&format!("fresh/{}", (round + 2) % 5));
    fixture.database.remove(&format!("zoo/ü{}", 3 + 4 * round));
}

#[tokio::test]
async fn only_what_differs_is_stored_and_each_is_restored_whole() {
    let (fixture, repository, full) = begun(60).await;
    let mut made = Vec::new();
    for round in 0..6 {
        change(&fixture, round);
        let (way, manifest) = back_up(&repository, &fixture).await.unwrap();
        assert_eq!((way, manifest.kind), (Way::Scanned, SnapshotKind::Incremental));
        assert!(manifest.totals.documents <= 3 && manifest.runs.iter().map(|run| run.records).sum::<u64>() <= 5);
        made.push(manifest);
    }
    assert_eq!(made[0].parent, Some(full.id.clone()));
    assert_eq!(made[3].parent, Some(made[2].id.clone()));
    for manifest in &made {
        is_right(&repository, &fixture, manifest).await;
    }
    all_whole(&repository).await;
    // a document that stands in an ancestor only is found
    let path = firebackup_model::DocumentPath::new("users/u00004").unwrap();
    assert!(lookup(&repository, &made[5], &path, &Arc::default()).await.unwrap().is_some());
    let empty = firebackup_engine::memory::MemoryDatabase::new(firebackup_model::DatabaseName::new("p", "(default)"));
    restore(&repository, &made[5].id, target(&empty), Default::default()).run().await.unwrap();
    assert_eq!(contents(&empty), contents(&fixture.database));
}

#[tokio::test]
async fn what_was_captured_is_backed_up_without_a_read() {
    let (fixture, repository, _) = begun(60).await;
    for round in 0..4 {
        change(&fixture, round);
        until_now(&capture(&repository, &fixture.database)).await;
    }
    let (way, manifest) = back_up(&repository, &fixture).await.unwrap();
    assert_eq!((way, manifest.reads, manifest.kind), (Way::Captured, 0, SnapshotKind::Incremental));
    is_right(&repository, &fixture, &manifest).await;
    // on top of it: captured again, and where there is a gap scanned
    change(&fixture, 7);
    until_now(&capture(&repository, &fixture.database)).await;
    let (way, next) = back_up(&repository, &fixture).await.unwrap();
    assert_eq!((way, next.parent.as_ref()), (Way::Captured, Some(&manifest.id)));
    is_right(&repository, &fixture, &next).await;
    change(&fixture, 8);
    fixture.database.listen_faults(|faults| faults.resets = 1);
    until_now(&capture(&repository, &fixture.database)).await;
    let (way, after_a_gap) = back_up(&repository, &fixture).await.unwrap();
    assert_eq!(way, Way::Scanned);
    is_right(&repository, &fixture, &after_a_gap).await;
    all_moments_are_right(&repository, &fixture.database).await;
}

#[tokio::test]
async fn a_chain_of_backups_ends_in_a_full_one() {
    let (fixture, repository, _) = begun(12).await;
    for round in 0..=MAX_DEPTH as i64 {
        fixture.database.set("users/u00000", round);
        let (way, _) = back_up(&repository, &fixture).await.unwrap();
        assert_eq!(way, if round == MAX_DEPTH as i64 { Way::Full } else { Way::Scanned }, "{round}");
    }
    fixture.database.set("users/u00000", 99);
    let (way, manifest) = back_up(&repository, &fixture).await.unwrap();
    assert_eq!(way, Way::Scanned);
    is_right(&repository, &fixture, &manifest).await;
}

#[tokio::test]
async fn what_a_kept_backup_builds_on_is_not_dropped() {
    let (fixture, repository, full) = begun(24).await;
    let mut made = Vec::new();
    for round in 0..4 {
        change(&fixture, round);
        made.push(back_up(&repository, &fixture).await.unwrap().1);
    }
    let policy = PrunePolicy { keep_last: Some(1), exclusive: true, ..PrunePolicy::default() };
    assert_eq!(prune(&repository, &policy).await.unwrap().dropped.len(), 0);
    let named = PrunePolicy { drop: vec![full.id.clone(), made[0].id.clone(), made[1].id.clone()], ..policy.clone() };
    let report = prune(&repository, &named).await.unwrap();
    assert_eq!((report.dropped.len(), report.needed.len()), (0, 3));
    is_right(&repository, &fixture, &made[3]).await;
    // once a full one is there, the whole lineage goes
    backup(&repository, &fixture.database).build().run().await.unwrap();
    assert_eq!(prune(&repository, &policy).await.unwrap().dropped.len(), 5);
    all_whole(&repository).await;
}

#[tokio::test]
async fn what_the_kept_backup_of_a_day_builds_on_is_kept_with_it() {
    let (fixture, repository, full) = begun(24).await;
    let pass_a_day = || {
        fixture.database.pass_seconds(24 * 3600);
        fixture.clock.pass_hours(24);
    };
    change(&fixture, 0);
    let same_day = back_up(&repository, &fixture).await.unwrap().1;
    pass_a_day();
    change(&fixture, 1);
    let next_day = back_up(&repository, &fixture).await.unwrap().1;
    assert_eq!((&next_day.parent, &same_day.parent), (&Some(same_day.id.clone()), &Some(full.id.clone())));
    pass_a_day();
    backup(&repository, &fixture.database).build().run().await.unwrap();
    pass_a_day();
    change(&fixture, 2);
    let newest = back_up(&repository, &fixture).await.unwrap().1;

    let of_days = |daily| {
        let keep_generations = Generations { daily, ..Generations::default() };
        PrunePolicy { keep_generations, exclusive: true, ..PrunePolicy::default() }
    };
    // that of the second day is kept, and needs both of the first
    assert_eq!(prune(&repository, &of_days(3)).await.unwrap().dropped.len(), 0);
    is_right(&repository, &fixture, &next_day).await;
    // where it is not kept, nobody needs them
    let dry = prune(&repository, &PrunePolicy { dry_run: true, ..of_days(2) }).await.unwrap();
    assert_eq!(dry.dropped, [full.id, same_day.id, next_day.id]);
    assert_eq!(all_whole(&repository).await.len(), 5, "a dry run changes nothing");
    assert_eq!(prune(&repository, &of_days(2)).await.unwrap(), dry);
    assert_eq!(all_whole(&repository).await.len(), 2);
    is_right(&repository, &fixture, &newest).await;
}

#[tokio::test]
async fn a_selection_is_compared_with_its_own_backups_only() {
    let (fixture, repository, _) = begun(24).await;
    let users = Selection { include: vec!["users".to_owned()], ..Selection::default() };
    let source: Arc<dyn DocumentSource> = Arc::new(fixture.database.clone());
    let first = increment(&repository, &source, &users).await.unwrap();
    assert!(matches!(first, Increment::Full(_)));
    backup(&repository, &fixture.database).selection(users.clone()).build().run().await.unwrap();
    change(&fixture, 1);
    let Increment::Scanned(scan) = increment(&repository, &source, &users).await.unwrap() else { panic!("no scan") };
    let manifest = scan.build().run().await.unwrap().manifest;
    assert_eq!((manifest.totals.documents, manifest.totals.deletions), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_increment_killed_at_any_operation_leaves_whole_snapshots() {
    for is_captured in [false, true] {
        for operations in (1..).step_by(3) {
            let (fixture, repository, _) = begun(24).await;
            change(&fixture, 1);
            if is_captured {
                until_now(&capture(&repository, &fixture.database)).await;
            }
            let fuse = Fuse::new(operations);
            let store = Arc::new(DyingStore::new(fixture.store.clone(), fuse.clone(), true));
            let lived = match fixture.open_on(store).await {
                Ok(dying) => back_up(&dying, &fixture).await.is_ok(),
                Err(_) => false,
            };
            for manifest in all_whole(&fixture.open().await).await {
                is_right(&fixture.open().await, &fixture, &manifest).await;
            }
            change(&fixture, 2);
            let (_, manifest) = back_up(&fixture.open().await, &fixture).await.unwrap();
            is_right(&fixture.open().await, &fixture, &manifest).await;
            if lived {
                assert!(operations > 12, "{operations}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_prune_killed_at_any_operation_leaves_no_backup_without_what_it_builds_on() {
    for operations in 1.. {
        let (fixture, repository, _) = begun(12).await;
        for round in 0..4 {
            change(&fixture, round);
            back_up(&repository, &fixture).await.unwrap();
        }
        backup(&repository, &fixture.database).build().run().await.unwrap();
        let fuse = Fuse::new(operations);
        let store = Arc::new(DyingStore::new(fixture.store.clone(), fuse.clone(), false));
        let policy = PrunePolicy { keep_last: Some(1), exclusive: true, ..PrunePolicy::default() };
        let lived = match fixture.open_on(store).await {
            Ok(dying) => prune(&dying, &policy).await.is_ok(),
            Err(_) => false,
        };
        let repository = fixture.open().await;
        for manifest in all_whole(&repository).await {
            is_right(&repository, &fixture, &manifest).await;
        }
        if lived {
            assert!(operations > 15, "{operations}");
            break;
        }
    }
}
