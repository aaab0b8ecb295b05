//! One document put back as it was reported, and nothing else.

use firebackup_engine::{Restore, RestoreOptions, as_reported};
use firebackup_model::Selection;
use firebackup_model::job::RestoreMode;
use firebackup_model::reported::AsReported;

use super::*;
use crate::capture::moments;
use crate::faults::{DyingStore, Fuse};
use crate::fixture::{Fixture, contents, restore};

const PATH: &str = "users/u00000";

/// A database in which a document was changed, deleted and made again between two points, with its events.
async fn reported_database() -> (Fixture, Repository, [ReportedEvent; 3]) {
    let (fixture, repository, _) = begun(12).await;
    let database = &fixture.database;
    captured(&repository, database).await;
    let events = [set(database, PATH, 77), remove(database, PATH), set(database, PATH, 99)];
    folded(&repository, &events).await;
    captured(&repository, database).await;
    (fixture, repository, events)
}

async fn put_back(fixture: &Fixture, repository: &Repository, at: Timestamp, options: RestoreOptions) -> Restore {
    let path = DocumentPath::new(PATH).unwrap();
    let near = moments(repository, &fixture.database).await.snapshot_near(at).unwrap();
    let selection = Selection::of_document(&path);
    let reported = Some(AsReported { path, at });
    restore(repository, &near, fixture.target(), RestoreOptions { selection, reported, ..options })
}

fn now(database: &MemoryDatabase) -> Option<Vec<u8>> {
    contents(database).remove(&DocumentPath::new(PATH).unwrap())
}

fn canonical(document: &ReportedChange) -> Option<Vec<u8>> {
    match document {
        ReportedChange::Put(put) => Some(firebackup_codec::canonical::canonical(&put.document).unwrap()),
        ReportedChange::Gone => None,
    }
}

#[tokio::test]
async fn a_version_that_only_an_event_told_of_is_put_back_and_taken_back() {
    let (fixture, repository, events) = reported_database().await;
    let database = &fixture.database;
    let (before, others) = (now(database), contents(database).len());
    let job = put_back(&fixture, &repository, events[0].time, RestoreOptions::default()).await;
    let dry = job.dry_run(10).await.unwrap();
    assert_eq!((dry.difference.totals.updated, dry.difference.totals.created), (1, 0));
    assert_eq!(now(database), before, "a dry run writes nothing");
    let report = job.run().await.unwrap();
    assert_eq!((report.tally.written, report.reported), (1, job.options.reported.clone()));
    assert_eq!(now(database), canonical(&events[0].change));
    assert_eq!(contents(database).len(), others);
    let undo = restore(&repository, &report.job, fixture.target(), RestoreOptions::default());
    undo.run().await.unwrap();
    assert_eq!(now(database), before);
}

#[tokio::test]
async fn modes_and_the_guard_are_those_of_any_restore() {
    let (fixture, repository, events) = reported_database().await;
    let database = &fixture.database;
    let before = now(database);
    let skipping = RestoreOptions { mode: RestoreMode::SkipExisting, ..RestoreOptions::default() };
    let report = put_back(&fixture, &repository, events[0].time, skipping).await.run().await.unwrap();
    assert_eq!((report.tally.skipped, now(database)), (1, before));

    let dry =
        put_back(&fixture, &repository, events[0].time, RestoreOptions::default()).await.dry_run(1).await.unwrap();
    database.set(PATH, 5);
    let edited = now(database);
    let guarded = RestoreOptions { guard: Some(dry.guard), ..RestoreOptions::default() };
    let report = put_back(&fixture, &repository, events[0].time, guarded).await.run().await.unwrap();
    assert_eq!((report.tally.conflicts, now(database)), (1, edited));

    // a mirror of one document leaves all others alone, and deletes it where it was gone
    let others = contents(database).len();
    let mirror = || RestoreOptions { mode: RestoreMode::Mirror, ..RestoreOptions::default() };
    put_back(&fixture, &repository, events[0].time, mirror()).await.run().await.unwrap();
    assert_eq!((now(database), contents(database).len()), (canonical(&events[0].change), others));
    put_back(&fixture, &repository, events[1].time, mirror()).await.run().await.unwrap();
    assert_eq!((now(database), contents(database).len()), (None, others - 1));
}

#[tokio::test]
async fn between_the_events_the_version_before_counts_and_behind_them_the_captured_one() {
    let (fixture, repository, events) = reported_database().await;
    let path = DocumentPath::new(PATH).unwrap();
    let at = |time: Timestamp, nanos: i64| {
        let nanos = i64::from(time.nanos) + nanos;
        Timestamp::new(time.seconds, u32::try_from(nanos).unwrap())
    };
    let name = name(&fixture.database);
    let version = async |at| as_reported(&repository, &name, &path, at, &Arc::default()).await;
    for (time, event) in [(at(events[0].time, 500), 0), (at(events[2].time, 0), 2), (fixture.database.now(), 2)] {
        let found = version(time).await.unwrap().document;
        let ReportedChange::Put(put) = &events[event].change else { panic!("a document") };
        assert_eq!(found.as_ref(), Some(&put.document), "{time}");
    }
    assert_eq!(version(at(events[1].time, 500)).await.unwrap().document, None);
    let before = version(at(events[0].time, -1)).await.unwrap();
    assert_eq!((before.origin, before.document.is_some()), (Origin::Snapshot, true));
    assert!(version(Timestamp::new(1_600_000_000, 0)).await.is_err());
    // what was heard last lasts for no longer than a quiet database may go without a word, whoever told it
    let heard = moments(&repository, &fixture.database).await.points().last().unwrap().max(events[2].time);
    assert!(version(heard.plus_seconds(4500)).await.is_ok());
    let late = version(heard.plus_seconds(4501)).await.unwrap_err().to_string();
    assert!(late.contains("nothing is known") && late.contains(&heard.to_string()), "{late}");
}

#[tokio::test]
async fn what_was_gone_or_is_unknown_and_more_than_one_document_are_refused() {
    let (fixture, repository, events) = reported_database().await;
    let database = &fixture.database;
    let before = contents(database);
    let gone = put_back(&fixture, &repository, events[1].time, RestoreOptions::default()).await;
    assert!(gone.run().await.is_err() && gone.dry_run(1).await.is_err());
    let early = put_back(&fixture, &repository, Timestamp::new(1_600_000_000, 0), RestoreOptions::default()).await;
    assert!(early.run().await.unwrap_err().to_string().contains("nothing is known"));
    let job = || put_back(&fixture, &repository, events[0].time, RestoreOptions::default());
    for selection in [
        Selection::default(),
        Selection { include: vec!["users".to_owned()], ..Selection::default() },
        Selection { paths: vec![PATH.to_owned(), "users/u00004".to_owned()], ..Selection::default() },
        Selection { exclude: vec!["zoo".to_owned()], ..Selection::of_document(&DocumentPath::new(PATH).unwrap()) },
    ] {
        let mut wide = job().await;
        wide.options.selection = selection;
        assert!(wide.run().await.unwrap_err().to_string().contains("only one document"));
        assert!(wide.dry_run(1).await.is_err());
    }
    let mut moment = job().await;
    moment.at = Some(database.now());
    assert!(moment.run().await.is_err());
    assert_eq!(contents(database), before);
}

#[tokio::test]
async fn a_restore_of_a_reported_version_that_is_killed_at_any_operation_ends_the_same() {
    for operations in 1.. {
        let (fixture, repository, events) = reported_database().await;
        let database = &fixture.database;
        let before = now(database);
        let fuse = Fuse::new(operations);
        let store = Arc::new(DyingStore::new(fixture.store.clone(), fuse.clone(), operations % 2 == 0));
        let job = put_back(&fixture, &repository, events[0].time, RestoreOptions::default()).await;
        let lived = match fixture.open_on(store).await {
            Ok(dying) => Restore { repository: dying, ..job }.run().await.is_ok(),
            Err(_) => false,
        };
        assert!([before, canonical(&events[0].change)].contains(&now(database)), "killed at {operations}");
        let again = put_back(&fixture, &fixture.open().await, events[0].time, RestoreOptions::default()).await;
        again.run().await.unwrap();
        assert_eq!(now(database), canonical(&events[0].change), "killed at {operations}");
        if lived {
            assert!(operations > 10, "a restore takes more operations than {operations}");
            break;
        }
    }
}
