//! Death at every operation: a backup, a restore, a prune.

use std::collections::BTreeMap;
use std::sync::Arc;

use firebackup_engine::{PrunePolicy, PruneReport, RestoreOptions, Resume, prune};
use firebackup_model::DocumentPath;
use firebackup_model::id::{JobKind, SnapshotId};
use firebackup_model::job::RestoreMode;

use crate::faults::{DyingStore, Fuse, Trouble, Troubled};
use crate::fixture::{Fixture, all_whole, backup, backup_of, contents, restore, target_of};

/// Runs a backup whose process dies at its `operations`-th operation on the store; says whether it lived.
async fn dying_backup(fixture: &Fixture, operations: u64, lost_answers: bool) -> bool {
    let fuse = Fuse::new(operations);
    let store = Arc::new(DyingStore::new(fixture.store.clone(), fuse.clone(), lost_answers));
    let Ok(repository) = fixture.open_on(store).await else { return false };
    let result = backup(&repository, &fixture.database).step_bytes(1500).build().run().await;
    assert!(result.is_ok() || fuse.blew(), "{result:?}");
    result.is_ok()
}

#[tokio::test]
async fn a_backup_killed_at_any_operation_leaves_whole_snapshots_and_completes_when_run_again() {
    for lost_answers in [false, true] {
        for operations in 3.. {
            let (fixture, _) = Fixture::new(60).await;
            let lived = dying_backup(&fixture, operations, lost_answers).await;
            let repository = fixture.open().await;
            for manifest in all_whole(&repository).await {
                assert_eq!(manifest.totals.documents, 60, "killed at {operations}");
            }
            let manifest =
                backup(&repository, &fixture.database).step_bytes(1500).build().run().await.unwrap().manifest;
            assert_eq!(manifest.totals.documents, 60);
            leaves_nothing_but_what_is_referred_to(&fixture, operations).await;
            if lived {
                assert!(operations > 30, "a backup takes more operations than {operations}");
                break;
            }
        }
    }
}

async fn leaves_nothing_but_what_is_referred_to(fixture: &Fixture, operations: u64) {
    let repository = fixture.open().await;
    prune(&repository, &PrunePolicy { exclusive: true, ..PrunePolicy::default() }).await.unwrap();
    let manifests = all_whole(&repository).await;
    let mut expected = vec!["firebackup.json".to_owned()];
    for manifest in &manifests {
        expected.push(format!("snapshots/{}.manifest", manifest.id));
        expected.extend(manifest.all_runs().map(|run| format!("runs/{}/{}.run", &run.id.to_string()[..2], run.id)));
    }
    let keys: Vec<_> = manifests.iter().filter_map(|manifest| manifest.key).chain(repository.config().key).collect();
    let objects = fixture.objects().await;
    for object in &objects {
        let is_key = keys.iter().any(|key| object.starts_with(&format!("keys/{key}/")));
        assert!(is_key || expected.contains(object), "`{object}` is left after a kill at {operations}");
    }
    assert!(expected.iter().all(|object| objects.contains(object)));
    assert!(keys.iter().all(|key| objects.iter().any(|object| object.starts_with(&format!("keys/{key}/")))));
}

#[tokio::test]
async fn ten_deaths_in_a_row_and_then_a_life() {
    let (fixture, _) = Fixture::new(120).await;
    for operations in (5..60).step_by(3) {
        dying_backup(&fixture, operations, operations % 2 == 0).await;
        all_whole(&fixture.open().await).await;
    }
    let repository = fixture.open().await;
    backup(&repository, &fixture.database).step_bytes(1500).build().run().await.unwrap();
    leaves_nothing_but_what_is_referred_to(&fixture, 0).await;
}

/// A repository in which a prune has everything to do: a snapshot to drop, marks that are ripe, a job to give up.
/// Returns the newest backup, which must stay.
async fn worth_pruning() -> (Fixture, SnapshotId) {
    let (fixture, repository) = Fixture::new(40).await;
    assert!(!dying_backup(&fixture, 25, false).await);
    let mut newest = None;
    for n in 0..3 {
        fixture.database.set("users/u00000", n);
        let job = backup(&repository, &fixture.database).resume(Resume::Never).build();
        newest = Some(job.run().await.unwrap().manifest.id);
    }
    let marked = prune(&repository, &PrunePolicy { keep_last: Some(2), ..PrunePolicy::default() }).await.unwrap();
    assert!(marked.dropped.len() == 1 && marked.marked > 0 && marked.abandoned.is_empty(), "{marked:?}");
    fixture.clock.pass_hours(25);
    (fixture, newest.unwrap())
}

/// Prunes by a process that dies at its `operations`-th operation; returns what it did when it lived.
async fn dying_prune(
    fixture: &Fixture,
    policy: &PrunePolicy,
    operations: u64,
    lost_answers: bool,
) -> Option<PruneReport> {
    let fuse = Fuse::new(operations);
    let store = Arc::new(DyingStore::new(fixture.store.clone(), fuse.clone(), lost_answers));
    let result = match fixture.open_on(store).await {
        Ok(repository) => prune(&repository, policy).await,
        Err(error) => Err(error),
    };
    assert!(result.is_ok() || fuse.blew(), "{result:?}");
    result.ok()
}

async fn is_whole_and_holds(fixture: &Fixture, newest: &SnapshotId, operations: u64) {
    let manifests = all_whole(&fixture.open().await).await;
    assert!(manifests.iter().any(|manifest| manifest.id == *newest), "the newest is gone after a kill at {operations}");
}

#[tokio::test]
async fn a_prune_killed_at_any_operation_takes_nothing_that_is_needed_and_completes_when_run_again() {
    let policy = PrunePolicy { keep_last: Some(1), ..PrunePolicy::default() };
    for lost_answers in [false, true] {
        for operations in 1.. {
            let (fixture, newest) = worth_pruning().await;
            let report = dying_prune(&fixture, &policy, operations, lost_answers).await;
            is_whole_and_holds(&fixture, &newest, operations).await;
            // what is dropped only now goes with the prune after the next
            for _ in 0..2 {
                prune(&fixture.open().await, &policy).await.unwrap();
                is_whole_and_holds(&fixture, &newest, operations).await;
                fixture.clock.pass_hours(25);
            }
            let last = prune(&fixture.open().await, &policy).await.unwrap();
            assert_eq!((last.dropped.len(), last.marked, last.kept), (0, 0, 1), "killed at {operations}");
            leaves_nothing_but_what_is_referred_to(&fixture, operations).await;
            is_whole_and_holds(&fixture, &newest, operations).await;
            if let Some(report) = report {
                assert!(report.deleted > 0 && report.marked > 0 && report.dropped.len() == 1, "{report:?}");
                assert_eq!(report.abandoned.len(), 1);
                assert!(operations > 20, "a prune takes more operations than {operations}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_restore_killed_at_any_operation_completes_and_its_undo_gives_back_the_state_before_the_first_try() {
    for operations in (1..).step_by(3) {
        let (fixture, repository) = Fixture::new(90).await;
        let wanted = contents(&fixture.database);
        let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
        for n in 0..30 {
            fixture.database.set(&format!("users/u{:05}", n * 4), -n);
            fixture.database.set(&format!("users/added{n}"), n);
        }
        fixture.database.remove("zoo/ü3");
        let before = contents(&fixture.database);
        let options = RestoreOptions { mode: RestoreMode::Mirror, ..RestoreOptions::default() };
        let fuse = Fuse::new(operations);
        let dying: Arc<dyn object_store::ObjectStore> =
            Arc::new(DyingStore::new(fixture.store.clone(), fuse.clone(), operations % 2 == 0));
        let mut lived = false;
        if let Ok(dying) = fixture.open_on(dying).await {
            lived = restore(&dying, &snapshot, fixture.target(), options.clone()).run().await.is_ok();
        }
        let repository = fixture.open().await;
        let report = restore(&repository, &snapshot, fixture.target(), options).run().await.unwrap();
        assert_same(&contents(&fixture.database), &wanted, operations);
        assert_eq!(report.tally.failed, 0);
        // a restore that died behind its commit was whole, and has an undo of its own
        let mut undos = repository.snapshot_ids().await.unwrap();
        undos.retain(|id| id.kind() == JobKind::Restore);
        assert!(undos.contains(&report.job));
        for job in undos.iter().rev() {
            let undo = restore(&repository, job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
            assert_eq!(undo.tally.failed, 0);
        }
        assert_same(&contents(&fixture.database), &before, operations);
        if lived {
            assert!(operations > 20, "a restore takes more operations than {operations}");
            break;
        }
    }
}

/// Compares without printing everything.
fn assert_same(left: &BTreeMap<DocumentPath, Vec<u8>>, right: &BTreeMap<DocumentPath, Vec<u8>>, operations: u64) {
    let differing: Vec<_> =
        left.iter().filter(|(path, document)| right.get(*path) != Some(*document)).map(|(path, _)| path).collect();
    let missing: Vec<_> = right.keys().filter(|path| !left.contains_key(*path)).collect();
    assert!(
        differing.is_empty() && missing.is_empty(),
        "killed at {operations}: differ {differing:?}, missing {missing:?}"
    );
}

#[tokio::test]
async fn the_undo_of_a_restore_that_never_ended_works_too() {
    let (fixture, repository) = Fixture::new(90).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    for n in 0..20 {
        fixture.database.set(&format!("users/u{:05}", n * 4), -n);
    }
    let before = contents(&fixture.database);
    // a restore that wrote something before it died
    for operations in 20.. {
        let store = DyingStore::new(fixture.store.clone(), Fuse::new(operations), false);
        let dying = fixture.open_on(Arc::new(store)).await.unwrap();
        let result = restore(&dying, &snapshot, fixture.target(), RestoreOptions::default()).run().await;
        assert!(result.is_err(), "no restore died behind its first write");
        if contents(&fixture.database) != before {
            break;
        }
    }
    let unfinished = firebackup_engine::unfinished_restores(&repository).await.unwrap();
    restore(&repository, &unfinished[0].job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_same(&contents(&fixture.database), &before, 0);
}

#[tokio::test]
async fn lost_answers_and_refusals_change_nothing_of_the_result_or_the_undo() {
    tokio::time::pause();
    for troubles in [[Trouble::LoseAnswers(2)], [Trouble::RefuseWrites(7)]] {
        let (fixture, repository) = Fixture::new(120).await;
        let wanted = contents(&fixture.database);
        let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
        for n in 0..30 {
            fixture.database.set(&format!("users/u{:05}", n * 4), -n - 1);
        }
        let before = contents(&fixture.database);
        let troubled = Arc::new(Troubled::new(fixture.database.clone(), &troubles));
        let report =
            restore(&repository, &snapshot, target_of(troubled), RestoreOptions::default()).run().await.unwrap();
        assert_eq!((report.tally.failed, report.tally.written, report.tally.same), (0, 30, 90));
        assert_eq!(contents(&fixture.database), wanted);
        restore(&repository, &report.job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
        assert_eq!(contents(&fixture.database), before);
    }
}

#[tokio::test]
async fn a_backup_of_a_source_that_breaks_on_a_store_that_dies() {
    for operations in (10..70).step_by(7) {
        let (fixture, _) = Fixture::new(80).await;
        let store = Arc::new(DyingStore::new(fixture.store.clone(), Fuse::new(operations), true));
        let source = Arc::new(Troubled::new(fixture.database.clone(), &[Trouble::CutStreams(9)]));
        if let Ok(repository) = fixture.open_on(store).await {
            let _ = backup_of(&repository, source.clone()).build().run().await;
        }
        let repository = fixture.open().await;
        let manifest = backup_of(&repository, source).build().run().await.unwrap().manifest;
        assert_eq!(manifest.totals.documents, 80);
        all_whole(&repository).await;
    }
}
