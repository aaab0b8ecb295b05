//! Two at once: zombies, racing commits, prunes beside backups.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_engine::{BackupBuilder, PrunePolicy, Repository, Resume, prune};
use firebackup_model::id::JobId;
use firebackup_model::manifest::Manifest;

use crate::faults::{DyingStore, Fuse};
use crate::fixture::{Fixture, all_whole, backup};

/// Leaves a job behind that has a plan and some receipts.
async fn unfinished_job(fixture: &Fixture, operations: u64, parallel: usize) -> Option<JobId> {
    let store = Arc::new(DyingStore::new(fixture.store.clone(), Fuse::new(operations), false));
    let repository = fixture.open_on(store).await.ok()?;
    let dying = backup(&repository, &fixture.database).step_bytes(1500).parallel(parallel);
    assert!(dying.build().run().await.is_err());
    let repository = fixture.open().await;
    let jobs = firebackup_engine::unfinished_jobs(&repository).await.unwrap();
    jobs.into_iter().find_map(|job| match job {
        firebackup_engine::UnfinishedJob::Backup(plan) => Some(plan.job),
        _ => None,
    })
}

/// Runs in the store that no manifest refers to.
async fn unreferenced_runs(fixture: &Fixture, manifests: &[Manifest]) -> BTreeSet<String> {
    let referenced: BTreeSet<_> =
        manifests.iter().flat_map(|manifest| manifest.all_runs()).map(|run| run.id.to_string()).collect();
    let is_unreferenced = |path: &String| !referenced.iter().any(|run| path.contains(run.as_str()));
    fixture.objects().await.into_iter().filter(|path| path.starts_with("runs/")).filter(is_unreferenced).collect()
}

/// Lets others go first so many times.
pub async fn turns(count: i64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn two_processes_of_one_job_make_one_whole_snapshot() {
    // one chunk of several steps: a step ends at a multiple of 256 documents
    const DOCUMENTS: usize = 1100;
    let (mut rounds, mut late_receipts, mut runs_in_vain) = (0, 0, 0);
    for operations in (8..26).step_by(2) {
        let (fixture, _) = Fixture::new(DOCUMENTS).await;
        let Some(job) = unfinished_job(&fixture, operations, 1).await else { continue };
        rounds += 1;
        let runs_before = unreferenced_runs(&fixture, &[]).await;
        // different step sizes: what one covers the other must adopt, or it would leave a gap
        let (one, two) = (fixture.open().await, fixture.open().await);
        let go_on = |repository: &Repository, step_bytes| -> BackupBuilder {
            backup(repository, &fixture.database).step_bytes(step_bytes).resume(Resume::Job(job.clone()))
        };
        let (slow, quick) = (go_on(&one, 700).build(), go_on(&two, 40_000).build());
        let (a, b) = tokio::join!(slow.run(), quick.run());
        let repository = fixture.open().await;
        let manifests = all_whole(&repository).await;
        assert_eq!(manifests.len(), 1);
        assert_eq!(manifests[0].totals.documents, DOCUMENTS as u64, "{operations}");
        assert!(a.is_ok() || b.is_ok());
        for outcome in [a, b].into_iter().flatten() {
            assert_eq!(outcome.manifest, manifests[0]);
        }
        late_receipts += fixture.shared.late_puts("receipts");
        runs_in_vain += unreferenced_runs(&fixture, &manifests).await.difference(&runs_before).count();
    }
    assert!(rounds > 6, "only {rounds} jobs were left unfinished");
    assert!(late_receipts > 0 && runs_in_vain >= late_receipts, "{late_receipts} receipts, {runs_in_vain} runs");
}

#[tokio::test]
async fn a_backup_after_a_committed_one_is_a_new_one() {
    let (fixture, _) = Fixture::new(20).await;
    // killed between commit and cleaning up: every operation from some number on
    for operations in 20..80 {
        let store = Arc::new(DyingStore::new(fixture.store.clone(), Fuse::new(operations), false));
        if let Ok(repository) = fixture.open_on(store).await {
            let _ = backup(&repository, &fixture.database).build().run().await;
        }
    }
    let repository = fixture.open().await;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    fixture.database.set("users/newer", 1);
    let newest = backup(&repository, &fixture.database).build().run().await.unwrap();
    assert!(!newest.resumed);
    assert_eq!(newest.manifest.totals.documents, 21);
}

#[tokio::test]
async fn prunes_beside_backups_take_nothing_away() {
    let (fixture, repository) = Fixture::new(60).await;
    let (other, policy) = (fixture.open().await, PrunePolicy { keep_last: Some(2), ..PrunePolicy::default() });
    let mut deleted_beside = 0;
    for round in 0..16 {
        fixture.database.set("users/u00000", round);
        let job = backup(&repository, &fixture.database).step_bytes(1500).resume(Resume::Never).build();
        let is_running = Cell::new(true);
        // now one begins first, now the other: they meet at different places
        let (backup_waits, prune_waits) = if round % 2 == 0 { (round, 0) } else { (0, 2 * round) };
        let backing_up = async {
            turns(backup_waits).await;
            let outcome = job.run().await;
            is_running.set(false);
            outcome
        };
        let pruning = async {
            turns(prune_waits).await;
            let mut deleted = 0;
            for _ in 0..4 {
                let report = prune(&other, &policy).await.unwrap();
                deleted += if is_running.get() { report.deleted } else { 0 };
            }
            deleted
        };
        let (outcome, deleted) = tokio::join!(backing_up, pruning);
        let manifest = outcome.unwrap().manifest;
        deleted_beside += deleted;
        let manifests = all_whole(&repository).await;
        assert!(manifests.contains(&manifest) && manifest.totals.documents == 60, "round {round}");
        // what this round dropped is ripe in the next one, or waits for a later one
        fixture.clock.pass_hours(if round % 5 == 4 { 1 } else { 25 });
    }
    assert!(deleted_beside > 0, "nothing was deleted while a backup ran");
    prune(&repository, &policy).await.unwrap();
    assert_eq!(all_whole(&repository).await.len(), 2);
}

#[tokio::test]
async fn a_backup_whose_key_was_pruned_meanwhile_commits_nothing() {
    let (fixture, _) = Fixture::new(60).await;
    let Some(job) = unfinished_job(&fixture, 20, 2).await else { panic!("the test needs an unfinished job") };
    let repository = fixture.open().await;
    // resumes with the plan in memory, while somebody prunes with --exclusive
    let resumed = backup(&repository, &fixture.database).step_bytes(1500).resume(Resume::Job(job)).build();
    let other = fixture.open().await;
    let policy = PrunePolicy { exclusive: true, ..PrunePolicy::default() };
    let (outcome, _) = tokio::join!(resumed.run(), prune(&other, &policy));
    let clean = fixture.open().await;
    assert_eq!(all_whole(&clean).await.len(), usize::from(outcome.is_ok()));
}
