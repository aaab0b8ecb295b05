//! Restores in part, elsewhere, in every mode, with dry run, guard and undo.

use std::sync::Arc;

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{EngineError, RestoreBill, RestoreOptions, Stop};
use firebackup_model::job::RestoreMode;
use firebackup_model::{DatabaseName, Selection};

use crate::faults::{Trouble, Troubled};
use crate::fixture::{Fixture, backup, contents, restore, target, target_of};

fn paths(patterns: &[&str]) -> Selection {
    Selection { paths: patterns.iter().map(ToString::to_string).collect(), ..Selection::default() }
}

#[tokio::test]
async fn a_dry_run_counts_what_the_restore_then_does() {
    for mode in [RestoreMode::Overwrite, RestoreMode::SkipExisting, RestoreMode::Mirror] {
        let (fixture, repository) = Fixture::new(80).await;
        let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
        fixture.database.set("users/u00000", -1);
        fixture.database.remove("users/u00004");
        fixture.database.set("users/added", 1);
        let before = contents(&fixture.database);
        let job =
            restore(&repository, &snapshot, fixture.target(), RestoreOptions { mode, ..RestoreOptions::default() });
        let dry = job.dry_run(10).await.unwrap();
        assert_eq!(contents(&fixture.database), before, "a dry run writes nothing");
        let (created, updated, deleted) = match mode {
            RestoreMode::Overwrite => (1, 1, 0),
            RestoreMode::SkipExisting => (1, 0, 0),
            RestoreMode::Mirror => (1, 1, 1),
        };
        let totals = dry.difference.totals;
        assert_eq!((totals.created, totals.updated, totals.deleted), (created, updated, deleted), "{mode:?}");
        assert_eq!(dry.difference.samples.len() as u64, created + updated + deleted);
        let report = job.run().await.unwrap();
        assert_eq!((report.tally.written, report.tally.deleted), (created + updated, deleted), "{mode:?}");
        restore(&repository, &report.job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
        assert_eq!(contents(&fixture.database), before, "the undo gives back what was there: {mode:?}");
    }
}

#[tokio::test]
async fn the_bill_of_a_dry_run_is_what_the_restore_then_takes() {
    for mode in [RestoreMode::Overwrite, RestoreMode::SkipExisting, RestoreMode::Mirror] {
        for undo in [true, false] {
            let (fixture, repository) = Fixture::new(80).await;
            let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
            for n in 0..7 {
                fixture.database.set(&format!("users/u{:05}", n * 4), -n - 1);
            }
            for n in 7..10 {
                fixture.database.remove(&format!("users/u{:05}", n * 4));
            }
            fixture.database.set("users/added", 1);
            let options = RestoreOptions { mode, undo, ..RestoreOptions::default() };
            let dry = restore(&repository, &snapshot, fixture.target(), options.clone()).dry_run(0).await.unwrap();
            let options = RestoreOptions { guard: Some(dry.guard), ..options };
            let job = restore(&repository, &snapshot, fixture.target(), options);
            let report = job.run().await.unwrap();
            let taken = RestoreBill {
                reads: job.meter.reads.get(),
                writes: report.tally.written,
                deletes: report.tally.deleted,
            };
            assert_eq!(dry.bill(mode), taken, "{mode:?} {undo}");
            assert_eq!(taken.writes + taken.deletes, job.meter.writes.get(), "{mode:?} {undo}");
        }
    }
}

#[tokio::test]
async fn mirror_deletes_only_within_the_selection() {
    let (fixture, repository) = Fixture::new(80).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    fixture.database.set("users/added", 1);
    fixture.database.set("zoo/added", 1);
    let selection = Selection { include: vec!["users".to_owned()], ..Selection::default() };
    let options = RestoreOptions { mode: RestoreMode::Mirror, selection, ..RestoreOptions::default() };
    let report = restore(&repository, &snapshot, fixture.target(), options).run().await.unwrap();
    assert_eq!(report.tally.deleted, 1);
    let left = contents(&fixture.database);
    assert!(!left.contains_key("users/added") && left.contains_key("zoo/added"));
}

#[tokio::test]
async fn one_document_a_glob_or_a_collection_can_be_put_back() {
    let (fixture, repository) = Fixture::new(80).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let documents = contents(&fixture.database);
    for (patterns, expected) in
        [(&["users/u00000"][..], 1), (&["users/*"], 20), (&["users/**"], 40), (&["zoo/ü3", "zoo/ü7"], 2)]
    {
        let empty = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
        let options = RestoreOptions { selection: paths(patterns), ..RestoreOptions::default() };
        let report = restore(&repository, &snapshot, target(&empty), options).run().await.unwrap();
        assert_eq!(report.tally.written, expected, "{patterns:?}");
        assert!(contents(&empty).iter().all(|(path, document)| documents[path] == *document));
    }
}

#[tokio::test]
async fn another_project_and_collection_get_documents_under_their_own_names() {
    let (fixture, repository) = Fixture::new(80).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let elsewhere = MemoryDatabase::new(DatabaseName::new("copy", "second"));
    let renames = vec![("users".to_owned(), "people".to_owned())];
    let options = RestoreOptions { renames: renames.clone(), mode: RestoreMode::Mirror, ..RestoreOptions::default() };
    elsewhere.set("people/too-many", 1);
    let report = restore(&repository, &snapshot, target(&elsewhere), options).run().await.unwrap();
    assert_eq!((report.tally.written, report.tally.deleted, report.tally.failed), (80, 1, 0));
    let expected: Vec<_> =
        contents(&fixture.database).into_keys().map(|path| path.as_str().replace("users/", "people/")).collect();
    let mut there: Vec<_> = contents(&elsewhere).into_keys().map(|path| path.to_string()).collect();
    there.sort();
    let mut expected = expected;
    expected.sort();
    assert_eq!(there, expected);
    for (path, document) in elsewhere.documents() {
        let head = firebackup_model::document::head(&document).unwrap();
        assert_eq!(head.name, format!("projects/copy/databases/second/documents/{path}"));
    }
}

#[tokio::test]
async fn a_rename_onto_a_collection_that_is_restored_too_is_refused() {
    let (fixture, repository) = Fixture::new(20).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let onto = |from: &str, to: &str| RestoreOptions {
        renames: vec![(from.to_owned(), to.to_owned())],
        ..RestoreOptions::default()
    };
    for (from, to) in [("users", "zoo"), ("users", "users/a/b"), ("users/a", "x"), ("users", "x/y")] {
        let error = restore(&repository, &snapshot, fixture.target(), onto(from, to)).run().await.unwrap_err();
        assert!(matches!(error, EngineError::Refused(_)), "{from} {to}: {error:?}");
    }
}

#[tokio::test]
async fn edits_since_the_dry_run_are_reported_and_not_lost() {
    let (fixture, repository) = Fixture::new(80).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    for n in 0..10 {
        fixture.database.set(&format!("users/u{:05}", n * 4), -n - 1);
    }
    let guard =
        restore(&repository, &snapshot, fixture.target(), RestoreOptions::default()).dry_run(0).await.unwrap().guard;
    fixture.database.set("users/u00000", 1234);
    fixture.database.remove("users/u00004");
    let edited = contents(&fixture.database);
    let options = RestoreOptions { guard: Some(guard), ..RestoreOptions::default() };
    let report = restore(&repository, &snapshot, fixture.target(), options).run().await.unwrap();
    assert_eq!((report.tally.written, report.tally.conflicts), (8, 2));
    let problems: Vec<_> = report.tally.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(problems, ["users/u00000", "users/u00004"]);
    let now = contents(&fixture.database);
    assert_eq!(now.get("users/u00000"), edited.get("users/u00000"));
    assert!(!now.contains_key("users/u00004"));
}

#[tokio::test]
async fn a_document_that_cannot_be_written_is_reported_and_the_rest_goes_on() {
    let (fixture, repository) = Fixture::new(80).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    for trouble in [Trouble::Poison("users/u00008"), Trouble::PoisonRequest("users/u00008")] {
        for undo in [true, false] {
            let empty = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
            let troubled = Arc::new(Troubled::new(empty.clone(), &[trouble]));
            let options = RestoreOptions { undo, ..RestoreOptions::default() };
            let report = restore(&repository, &snapshot, target_of(troubled), options).run().await.unwrap();
            assert_eq!((report.tally.written, report.tally.failed), (79, 1), "{trouble:?}");
            assert_eq!(report.tally.problems[0].path, "users/u00008");
        }
    }
}

#[tokio::test]
async fn no_batch_is_larger_than_asked_and_a_stop_can_go_on() {
    let (fixture, repository) = Fixture::new(200).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let empty = Arc::new(Troubled::new(MemoryDatabase::new(DatabaseName::new("p", "(default)")), &[]));
    let stop = Stop::default();
    stop.request();
    let mut job = restore(&repository, &snapshot, target_of(empty.clone()), RestoreOptions::default());
    job.stop = stop;
    assert!(job.run().await.unwrap_err().is_resumable_stop());
    job.stop = Stop::default();
    let report = job.run().await.unwrap();
    assert!(report.resumed);
    assert_eq!(report.tally.written, 200);
    assert_eq!(empty.largest_batch.load(std::sync::atomic::Ordering::SeqCst), 20);
}

#[tokio::test]
async fn an_undo_can_itself_be_undone() {
    let (fixture, repository) = Fixture::new(40).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let original = contents(&fixture.database);
    fixture.database.set("users/u00000", -5);
    let edited = contents(&fixture.database);
    let once = restore(&repository, &snapshot, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!(contents(&fixture.database), original);
    let twice = restore(&repository, &once.job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!(contents(&fixture.database), edited);
    restore(&repository, &twice.job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!(contents(&fixture.database), original);
}

#[tokio::test]
async fn mirroring_a_partial_snapshot_deletes_nothing_that_was_never_backed_up() {
    let (fixture, repository) = Fixture::new(80).await;
    let selection = Selection { include: vec!["users".to_owned()], ..Selection::default() };
    let partial = backup(&repository, &fixture.database).selection(selection).build().run().await.unwrap().manifest;
    fixture.database.set("users/added", 1);
    let options = RestoreOptions { mode: RestoreMode::Mirror, ..RestoreOptions::default() };
    let report = restore(&repository, &partial.id, fixture.target(), options.clone()).run().await.unwrap();
    assert_eq!(report.tally.deleted, 1);
    assert_eq!(contents(&fixture.database).len(), 80);
    let undo = restore(&repository, &report.job, fixture.target(), options).run().await.unwrap_err();
    assert!(matches!(undo, EngineError::Refused(_)), "{undo:?}");
}

#[tokio::test]
async fn a_mirror_with_a_rename_can_be_run_twice() {
    let (fixture, repository) = Fixture::new(80).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let elsewhere = MemoryDatabase::new(DatabaseName::new("p", "copy"));
    for undo in [true, false, true] {
        let renames = vec![("users".to_owned(), "people".to_owned())];
        let options = RestoreOptions { renames, mode: RestoreMode::Mirror, undo, ..RestoreOptions::default() };
        elsewhere.set("people/too-many", 1);
        let report = restore(&repository, &snapshot, target(&elsewhere), options).run().await.unwrap();
        assert_eq!((report.tally.deleted, report.tally.failed, contents(&elsewhere).len()), (1, 0, 80));
    }
}

/// Changes a document once, just before the write that would replace it.
#[derive(Debug)]
struct Meddling {
    inner: MemoryDatabase,
    path: &'static str,
    done: std::sync::atomic::AtomicBool,
    lose_answer: bool,
}

#[async_trait::async_trait]
impl firebackup_model::port::DocumentSource for Meddling {
    fn database(&self) -> &DatabaseName {
        firebackup_model::port::DocumentSource::database(&self.inner)
    }

    async fn snapshot_time(&self) -> Result<firebackup_model::Timestamp, firebackup_model::PortError> {
        self.inner.snapshot_time().await
    }

    async fn versions_since(&self) -> Result<Option<firebackup_model::Timestamp>, firebackup_model::PortError> {
        self.inner.versions_since().await
    }

    async fn split_points(
        &self,
        range: &firebackup_model::PathRange,
        wanted: usize,
        at: firebackup_model::Timestamp,
    ) -> Result<Vec<firebackup_model::DocumentPath>, firebackup_model::PortError> {
        self.inner.split_points(range, wanted, at).await
    }

    async fn stream(
        &self,
        range: &firebackup_model::PathRange,
        at: firebackup_model::Timestamp,
        limit: Option<u32>,
    ) -> Result<firebackup_model::port::DocumentStream, firebackup_model::PortError> {
        self.inner.stream(range, at, limit).await
    }

    async fn count(
        &self,
        range: &firebackup_model::PathRange,
        at: firebackup_model::Timestamp,
    ) -> Result<u64, firebackup_model::PortError> {
        self.inner.count(range, at).await
    }

    async fn get(
        &self,
        paths: &[firebackup_model::DocumentPath],
        at: Option<firebackup_model::Timestamp>,
    ) -> Result<Vec<Option<firebackup_model::document::RawDocument>>, firebackup_model::PortError> {
        self.inner.get(paths, at).await
    }
}

#[async_trait::async_trait]
impl firebackup_model::port::DocumentSink for Meddling {
    fn database(&self) -> &DatabaseName {
        firebackup_model::port::DocumentSink::database(&self.inner)
    }

    async fn write(
        &self,
        writes: Vec<firebackup_model::port::Write>,
    ) -> Result<Vec<firebackup_model::port::WriteOutcome>, firebackup_model::PortError> {
        let hits = writes.iter().any(|write| write.path.as_str() == self.path);
        if hits && !self.done.swap(true, std::sync::atomic::Ordering::SeqCst) {
            self.inner.set(self.path, 4711);
            if self.lose_answer {
                let kind = firebackup_model::ErrorKind::Unavailable;
                return Err(firebackup_model::PortError::new(kind, "write", "nothing was done, and nobody knows"));
            }
        }
        self.inner.write(writes).await
    }

    async fn can_write(&self) -> Result<(), firebackup_model::PortError> {
        self.inner.can_write().await
    }
}

#[tokio::test]
async fn an_undo_gives_back_what_somebody_wrote_between_our_read_and_our_write() {
    tokio::time::pause();
    for (mode, lose_answer) in
        [(RestoreMode::Overwrite, false), (RestoreMode::Overwrite, true), (RestoreMode::SkipExisting, false)]
    {
        let (fixture, repository) = Fixture::new(40).await;
        let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
        let path = "users/u00000";
        if mode == RestoreMode::SkipExisting {
            fixture.database.remove(path);
        } else {
            fixture.database.set(path, -1);
        }
        let done = std::sync::atomic::AtomicBool::new(false);
        let meddling = Arc::new(Meddling { inner: fixture.database.clone(), path, done, lose_answer });
        let options = RestoreOptions { mode, ..RestoreOptions::default() };
        let report = restore(&repository, &snapshot, target_of(meddling), options).run().await.unwrap();
        assert_eq!(report.tally.written, u64::from(mode == RestoreMode::Overwrite), "{mode:?} {lose_answer}");
        restore(&repository, &report.job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
        let meddled = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
        meddled.set(path, 4711);
        assert_eq!(contents(&fixture.database).get(path), contents(&meddled).get(path), "{mode:?} {lose_answer}");
    }
}

#[tokio::test]
async fn an_old_attempt_is_closed_and_its_undo_stays_its_own() {
    let (fixture, repository) = Fixture::new(200).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    fixture.database.set("users/u00000", -1);
    let stop = Stop::default();
    stop.request();
    let mut job = restore(&repository, &snapshot, fixture.target(), RestoreOptions::default());
    job.stop = stop;
    assert!(job.run().await.unwrap_err().is_resumable_stop());
    fixture.clock.pass_hours(13);
    fixture.database.set("users/u00004", -2);
    let before = contents(&fixture.database);
    job.stop = Stop::default();
    let report = job.run().await.unwrap();
    assert!(!report.resumed);
    assert!(firebackup_engine::unfinished_restores(&repository).await.unwrap().is_empty());
    restore(&repository, &report.job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!(contents(&fixture.database), before);
}
