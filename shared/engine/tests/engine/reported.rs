//! Versions that events told of: what they add to the history of a document, and that they change nothing else.

mod keeping;
mod model;
mod putting_back;

use std::sync::Arc;

use bytes::Bytes;
use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{Change, Folded, Origin, Period, Repository, Version, fold, history};
use firebackup_model::port::DocumentSource;
use firebackup_model::reported::{ReportedChange, ReportedDocument, ReportedEvent};
use firebackup_model::{DatabaseName, DocumentPath, Timestamp, document};

use crate::capture::{begun, capture, until_now};

fn name(database: &MemoryDatabase) -> DatabaseName {
    DocumentSource::database(database).clone()
}

fn reported(document: Bytes) -> ReportedDocument {
    let update_time = document::head(&document).unwrap().update_time.unwrap();
    ReportedDocument { document, update_time }
}

/// The event of what has just been done to a document.
fn event_of(database: &MemoryDatabase, path: &str, before: Option<Bytes>) -> ReportedEvent {
    let (path, time) = (DocumentPath::new(path).unwrap(), database.now());
    let now = database.documents_at(time).remove(&path);
    ReportedEvent {
        id: format!("{path}@{time}"),
        source: format!("//firestore.googleapis.com/{}", name(database).resource()),
        database: name(database),
        path,
        time,
        change: now.map_or(ReportedChange::Gone, |document| ReportedChange::Put(reported(document))),
        before: before.map(reported),
    }
}

fn set(database: &MemoryDatabase, path: &str, n: i64) -> ReportedEvent {
    let before = database.documents().remove(&DocumentPath::new(path).unwrap());
    database.set(path, n);
    event_of(database, path, before)
}

fn remove(database: &MemoryDatabase, path: &str) -> ReportedEvent {
    let before = database.documents().remove(&DocumentPath::new(path).unwrap());
    database.remove(path);
    event_of(database, path, before)
}

/// The same without what was before.
fn bare(event: &ReportedEvent) -> ReportedEvent {
    ReportedEvent { before: None, ..event.clone() }
}

async fn folded(repository: &Repository, events: &[ReportedEvent]) -> Folded {
    fold(repository, &events[0].database, events, &Arc::default()).await.unwrap()
}

async fn versions(repository: &Repository, database: &MemoryDatabase, path: &str) -> Vec<Version> {
    let path = DocumentPath::new(path).unwrap();
    let mut history =
        history(repository, &name(database), &path, Period::default(), &Arc::default()).await.unwrap().versions;
    history.reverse();
    history
}

/// What the versions are, oldest first.
fn told(versions: &[Version]) -> Vec<(Change, Origin)> {
    versions.iter().map(|version| (version.change, version.origin)).collect()
}

async fn captured(repository: &Repository, database: &MemoryDatabase) -> Timestamp {
    until_now(&capture(repository, database)).await;
    database.now()
}

#[tokio::test]
async fn every_version_between_two_points_is_told_and_the_last_is_the_captured_one() {
    let (fixture, repository, _) = begun(12).await;
    let database = &fixture.database;
    let path = "users/u00000";
    captured(&repository, database).await;
    let events = [set(database, path, 50), set(database, path, 51), remove(database, path), set(database, path, 52)];
    let times: Vec<_> = events.iter().map(|event| event.time).collect();
    assert_eq!(folded(&repository, &events).await.versions, 5, "and what was before the first");

    // behind all that was captured
    let open = versions(&repository, database, path).await;
    assert_eq!(open.len(), 5);
    assert_eq!((open[4].origin, open[4].until, open[4].moment), (Origin::Reported, None, None));
    assert_eq!(open[3].until, Some(times[3]));

    captured(&repository, database).await;
    let closed = versions(&repository, database, path).await;
    let expected = [
        (Change::Created, Origin::Snapshot),
        (Change::Updated, Origin::Reported),
        (Change::Updated, Origin::Reported),
        (Change::Deleted, Origin::Reported),
        (Change::Created, Origin::Captured),
    ];
    assert_eq!(told(&closed), expected);
    assert_eq!(closed[1..].iter().map(|version| version.time()).collect::<Vec<_>>(), times);
    assert_eq!(closed[3].update_time, Some(times[2]), "a deletion is dated by its event");
    assert!(closed[4].moment.is_some() && closed[4].point > times[3] && closed[4].until.is_none());
    assert_eq!(closed[0].moment.is_some(), closed[0].point < times[0]);
}

#[tokio::test]
async fn a_deletion_that_was_captured_is_dated_by_its_event_and_one_whose_event_was_lost_is_not() {
    let (fixture, repository, _) = begun(12).await;
    let database = &fixture.database;
    let (known, lost) = ("users/u00000", "users/u00004");
    let gone = remove(database, known);
    remove(database, lost);
    folded(&repository, std::slice::from_ref(&gone)).await;
    captured(&repository, database).await;
    let of_known = versions(&repository, database, known).await;
    assert_eq!(told(&of_known), [(Change::Created, Origin::Snapshot), (Change::Deleted, Origin::Captured)]);
    assert_eq!((of_known[1].time(), of_known[1].update_time), (gone.time, Some(gone.time)));
    assert!(of_known[1].moment == Some(of_known[1].point) && of_known[1].point > gone.time);
    let of_lost = versions(&repository, database, lost).await;
    assert_eq!((of_lost[1].time(), of_lost[1].update_time), (of_lost[1].point, None));
}

#[tokio::test]
async fn what_was_created_and_whose_deletion_nobody_told_of_does_not_live_on() {
    let (fixture, repository, _) = begun(12).await;
    let database = &fixture.database;
    let path = "users/brief";
    let created = set(database, path, 1);
    remove(database, path);
    // of a document that came and went a stream need not tell
    database.listen_faults(|faults| faults.is_terse = true);
    database.set("users/u00004", 9);
    let point = captured(&repository, database).await;
    folded(&repository, std::slice::from_ref(&created)).await;
    let all = versions(&repository, database, path).await;
    assert_eq!(told(&all), [(Change::Created, Origin::Reported), (Change::Deleted, Origin::Captured)]);
    assert_eq!((all[0].point, all[0].until), (created.time, Some(all[1].point)));
    assert!(all[1].point <= point && all[1].moment.is_some());
    // and the event comes again, after everything
    let again = ReportedEvent { id: "again".to_owned(), ..created };
    folded(&repository, &[again]).await;
    assert_eq!(versions(&repository, database, path).await.len(), 2);
}

#[tokio::test]
async fn what_contradicts_a_backup_or_a_point_ends_with_it() {
    let (fixture, repository, manifest) = begun(12).await;
    let database = &fixture.database;
    let path = "users/u00000";
    let read = manifest.read_time().unwrap();
    let known = database.documents()[&DocumentPath::new(path).unwrap()].clone();
    captured(&repository, database).await;
    let event = |id: &str, time: Timestamp, change| ReportedEvent {
        id: id.to_owned(),
        time,
        change,
        ..bare(&event_of(database, path, None))
    };
    // dated just before the backup was read, and at its very moment
    let before = Timestamp::new(read.seconds, read.nanos - 1);
    let lies = [
        event("1", before, ReportedChange::Gone),
        event("2", read, ReportedChange::Gone),
        event("3", read.plus_seconds(-60), ReportedChange::Gone),
    ];
    folded(&repository, &lies).await;
    let all = versions(&repository, database, path).await;
    let expected = [(Change::Deleted, Origin::Reported), (Change::Created, Origin::Snapshot)];
    assert_eq!(told(&all), expected, "{all:?}");
    assert_eq!((all[0].until, all[1].document.as_ref(), all[1].point), (Some(read), Some(&known), read));
}

#[tokio::test]
async fn a_point_that_is_not_proven_yet_ends_nothing() {
    let (fixture, repository, _) = begun(12).await;
    let database = &fixture.database;
    let mut unproven = capture(&repository, database);
    unproven.options.prove_cheaply_every_seconds = 500;
    unproven.options.prove_every_seconds = 500;
    // nobody listens to the group yet
    let created = set(database, "hidden/1", 1);
    database.set("users/u00004", 1);
    until_now(&unproven).await;
    folded(&repository, &[created]).await;
    let open = versions(&repository, database, "hidden/1").await;
    assert_eq!((told(&open), open[0].until), (vec![(Change::Created, Origin::Reported)], None));
    captured(&repository, database).await;
    let found = versions(&repository, database, "hidden/1").await;
    assert_eq!(told(&found), [(Change::Created, Origin::Captured)]);
}

#[tokio::test]
async fn events_of_another_database_are_refused_and_no_events_make_nothing() {
    let (fixture, repository, _) = begun(4).await;
    let database = &fixture.database;
    let before = fixture.objects().await;
    let event = set(database, "users/a", 1);
    let other = DatabaseName::new("p", "other");
    let refused = fold(&repository, &other, &[event], &Arc::default()).await.unwrap_err();
    assert!(refused.to_string().contains("p/other"), "{refused}");
    assert_eq!(fold(&repository, &other, &[], &Arc::default()).await.unwrap(), Folded::default());
    assert_eq!(fixture.objects().await, before);
}

#[tokio::test]
async fn a_batch_that_comes_twice_is_one_object() {
    let (fixture, repository, _) = begun(4).await;
    let database = &fixture.database;
    let events = [set(database, "users/a", 1), remove(database, "users/a"), set(database, "users/b", 1)];
    let first = folded(&repository, &events).await;
    assert!(!first.was_there && first.events == 3 && first.versions == 3, "{first:?}");
    let objects = fixture.objects().await;
    let turned: Vec<_> = events.iter().rev().chain(&events).cloned().collect();
    let second = folded(&repository, &turned).await;
    assert_eq!((second.was_there, second.repeated), (true, 3));
    assert_eq!(fixture.objects().await, objects);
}
