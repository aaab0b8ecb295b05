//! Two at once: zombies, racing commits, prunes beside backups.

use std::sync::Arc;

use firebackup_engine::{PrunePolicy, Resume, prune};
use firebackup_model::id::JobId;

use crate::faults::{DyingStore, Fuse};
use crate::fixture::{Fixture, all_whole, backup};

/// Leaves a job behind that has a plan and some receipts.
async fn unfinished_job(fixture: &Fixture, operations: u64) -> Option<JobId> {
    let store = Arc::new(DyingStore::new(fixture.store.clone(), Fuse::new(operations), false));
    let repository = fixture.open_on(store).await.ok()?;
    let result = backup(&repository, &fixture.database).step_bytes(1500).build().run().await;
    assert!(result.is_err());
    let repository = fixture.open().await;
    let jobs = firebackup_engine::unfinished_jobs(&repository).await.unwrap();
    jobs.into_iter().find_map(|job| match job {
        firebackup_engine::UnfinishedJob::Backup(plan) => Some(plan.job),
        _ => None,
    })
}

#[tokio::test]
async fn two_processes_of_one_job_make_one_whole_snapshot() {
    let mut rounds = 0;
    for operations in 8..24 {
        let (fixture, _) = Fixture::new(120).await;
        let Some(job) = unfinished_job(&fixture, operations).await else { continue };
        rounds += 1;
        // different step sizes: what one covers the other must adopt, or it would leave a gap
        let (one, two) = (fixture.open().await, fixture.open().await);
        let slow = backup(&one, &fixture.database).step_bytes(700).resume(Resume::Job(job.clone())).build();
        let quick = backup(&two, &fixture.database).step_bytes(2900).resume(Resume::Job(job.clone())).build();
        let (a, b) = tokio::join!(slow.run(), quick.run());
        let repository = fixture.open().await;
        let manifests = all_whole(&repository).await;
        assert_eq!(manifests.len(), 1);
        assert_eq!(manifests[0].totals.documents, 120, "{operations}");
        assert!(a.is_ok() || b.is_ok());
        for outcome in [a, b].into_iter().flatten() {
            assert_eq!(outcome.manifest, manifests[0]);
        }
    }
    assert!(rounds > 8, "only {rounds} jobs were left unfinished");
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
    for round in 0..12 {
        let (other, policy) = (fixture.open().await, PrunePolicy { keep_last: Some(3), ..PrunePolicy::default() });
        let job = backup(&repository, &fixture.database).step_bytes(1500).resume(Resume::Never).build();
        let pruning = async {
            for _ in 0..4 {
                prune(&other, &policy).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (outcome, ()) = tokio::join!(job.run(), pruning);
        outcome.unwrap();
        all_whole(&repository).await;
        // a mark of this round is ripe in a round to come
        fixture.clock.pass_hours(if round % 3 == 2 { 25 } else { 1 });
    }
    prune(&repository, &PrunePolicy { keep_last: Some(3), ..PrunePolicy::default() }).await.unwrap();
    assert_eq!(all_whole(&repository).await.len(), 3);
}

#[tokio::test]
async fn a_backup_whose_key_was_pruned_meanwhile_commits_nothing() {
    let (fixture, _) = Fixture::new(60).await;
    let Some(job) = unfinished_job(&fixture, 20).await else { panic!("the test needs an unfinished job") };
    let repository = fixture.open().await;
    // resumes with the plan in memory, while somebody prunes with --exclusive
    let resumed = backup(&repository, &fixture.database).step_bytes(1500).resume(Resume::Job(job)).build();
    let other = fixture.open().await;
    let policy = PrunePolicy { exclusive: true, ..PrunePolicy::default() };
    let (outcome, _) = tokio::join!(resumed.run(), prune(&other, &policy));
    let clean = fixture.open().await;
    assert_eq!(all_whole(&clean).await.len(), usize::from(outcome.is_ok()));
}
