//! A restore without undo that was stopped goes on from about where it was, and trusts nothing that it did not see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{EngineError, PrunePolicy, RestoreOptions, Stop, Target, prune};
use firebackup_model::job::RestoreMode;
use firebackup_model::port::{DocumentSink, Write, WriteOutcome};
use firebackup_model::{DatabaseName, PortError};

use crate::fixture::{Fixture, backup, contents, restore};

/// Asks the restore to stop after so many writes.
struct StopsAfter {
    inner: MemoryDatabase,
    left: AtomicU64,
    writes: AtomicU64,
    stop: Stop,
}

#[async_trait]
impl DocumentSink for StopsAfter {
    fn database(&self) -> &DatabaseName {
        DocumentSink::database(&self.inner)
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteOutcome>, PortError> {
        let number = writes.len() as u64;
        self.writes.fetch_add(number, Ordering::SeqCst);
        if self.left.fetch_sub(number, Ordering::SeqCst) <= number {
            self.left.store(u64::MAX, Ordering::SeqCst);
            self.stop.request();
        }
        self.inner.write(writes).await
    }

    async fn can_write(&self) -> Result<(), PortError> {
        Ok(())
    }
}

const DOCUMENTS: usize = 12_000;

/// Restores without undo, stopped after `left` writes; returns how many writes it sent.
async fn attempt(
    repository: &firebackup_engine::Repository,
    snapshot: &firebackup_model::id::SnapshotId,
    database: &MemoryDatabase,
    mode: RestoreMode,
    left: u64,
) -> (Result<firebackup_engine::RestoreReport, EngineError>, u64) {
    let stop = Stop::default();
    let sink = Arc::new(StopsAfter {
        inner: database.clone(),
        left: AtomicU64::new(left),
        writes: AtomicU64::new(0),
        stop: stop.clone(),
    });
    let target = Target { source: Arc::new(database.clone()), sink: sink.clone() };
    let options = RestoreOptions { undo: false, mode, ..RestoreOptions::default() };
    let mut job = restore(repository, snapshot, target, options);
    job.options.batch_writes = 500;
    job.stop = stop;
    let result = job.run().await;
    (result, sink.writes.load(Ordering::SeqCst))
}

#[tokio::test]
async fn what_was_written_is_read_and_not_written_again() {
    for mode in [RestoreMode::Overwrite, RestoreMode::SkipExisting, RestoreMode::Mirror] {
        let (fixture, repository) = Fixture::new(DOCUMENTS).await;
        let wanted = contents(&fixture.database);
        let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
        let empty = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
        let (stopped, first) = attempt(&repository, &snapshot, &empty, mode, 8_000).await;
        assert!(matches!(stopped, Err(EngineError::Interrupted { .. })), "{stopped:?}");
        assert!(first < DOCUMENTS as u64, "it was not stopped: {first}");
        // a prune in between takes nothing that is needed
        prune(&repository, &PrunePolicy::default()).await.unwrap();

        // somebody edits and deletes what was written already
        let written: Vec<_> = empty.documents().into_keys().collect();
        empty.remove(written[3].as_str());
        let edited = mode != RestoreMode::SkipExisting;
        if edited {
            empty.set(written[5].as_str(), -1);
        }
        let (report, second) = attempt(&repository, &snapshot, &empty, mode, u64::MAX / 2).await;
        let report = report.unwrap();
        assert!(report.resumed);
        // everything not marked is written again, and of what is marked what is not right any more
        let marked = 5_000;
        assert!(second <= DOCUMENTS as u64 - marked + 2, "{mode:?}: {second} writes of the second attempt");
        assert!(report.tally.same >= marked - 2, "{:?}", report.tally);
        assert_eq!(contents(&empty), wanted, "{mode:?}");
        assert!(fixture.objects().await.iter().all(|path| !path.starts_with("receipts/")));
    }
}

#[tokio::test]
async fn a_target_that_was_emptied_in_between_is_filled_all_the_same() {
    let (fixture, repository) = Fixture::new(DOCUMENTS).await;
    let wanted = contents(&fixture.database);
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let target = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
    attempt(&repository, &snapshot, &target, RestoreMode::Overwrite, 8_000).await.0.unwrap_err();
    let emptied = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
    let report = attempt(&repository, &snapshot, &emptied, RestoreMode::Overwrite, u64::MAX / 2).await.0.unwrap();
    assert!(report.resumed);
    assert_eq!(report.tally.written, DOCUMENTS as u64);
    assert_eq!(contents(&emptied), wanted);
}

#[tokio::test]
async fn two_restores_of_the_same_at_once_lose_nothing_and_share_one_undo() {
    for round in 0..12_i64 {
        let (fixture, repository) = Fixture::new(160).await;
        let wanted = contents(&fixture.database);
        let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
        for n in 0..40 {
            fixture.database.set(&format!("users/u{:05}", n * 4), -n - round);
        }
        let before = contents(&fixture.database);
        // the first one has begun when the second one comes
        let job = restore(&repository, &snapshot, fixture.target(), RestoreOptions::default());
        job.stop.request();
        job.run().await.unwrap_err();
        let (one, two) = (fixture.open().await, fixture.open().await);
        let slow = restore(&one, &snapshot, fixture.target(), RestoreOptions::default());
        let mut quick = restore(&two, &snapshot, fixture.target(), RestoreOptions::default());
        quick.options.batch_writes = 3 + round as usize;
        let (a, b) = tokio::join!(slow.run(), quick.run());
        let reports: Vec<_> = [&a, &b].into_iter().flatten().collect();
        assert!(!reports.is_empty(), "{a:?} {b:?}");
        for error in [&a, &b].into_iter().filter_map(|result| result.as_ref().err()) {
            assert!(error.to_string().contains("has ended it"), "{error:?}");
        }
        assert_eq!(contents(&fixture.database), wanted);
        assert!(reports.iter().all(|report| report.job == reports[0].job && report.tally.failed == 0));
        restore(&repository, &reports[0].job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
        assert_eq!(contents(&fixture.database), before, "round {round}");
    }
}
