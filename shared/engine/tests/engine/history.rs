//! What is known of one document, and how a capture stands, against a database that keeps all its versions.

use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{
    CaptureOptions, CaptureState, CaptureStatus, Captured, Change, Compaction, History, Meter, Origin, Period,
    PrunePolicy, Repository, StatusBounds, Version, capture_status, history, lookup_at, prune,
};
use firebackup_model::port::DocumentSource;
use firebackup_model::{DocumentPath, Selection, Timestamp};

use crate::capture::{begun, capture, compaction, moments, options, until_now};
use crate::fixture::{Fixture, backup};

fn name(database: &MemoryDatabase) -> firebackup_model::DatabaseName {
    DocumentSource::database(database).clone()
}

async fn history_in(repository: &Repository, database: &MemoryDatabase, path: &str, period: Period) -> History {
    let path = DocumentPath::new(path).unwrap();
    let meter = Arc::new(Meter::default());
    let history = history(repository, &name(database), &path, period, &meter).await.unwrap();
    assert_eq!(history.runs > 0, meter.stored.get() > 0);
    history
}

async fn versions_of(repository: &Repository, database: &MemoryDatabase, path: &str) -> Vec<Version> {
    history_in(repository, database, path, Period::default()).await.versions
}

/// What the versions are, oldest first.
fn told(versions: &[Version]) -> Vec<(Change, Origin, usize)> {
    versions.iter().rev().map(|version| (version.change, version.origin, version.snapshots.len())).collect()
}

/// Every version that can be put back must be what the database held at its moment.
async fn all_are_right(repository: &Repository, database: &MemoryDatabase, path: &str, versions: &[Version]) {
    let moments = moments(repository, database).await;
    let path = DocumentPath::new(path).unwrap();
    for version in versions {
        assert_eq!(database.documents_at(version.point).get(&path), version.document.as_ref(), "{version:?}");
        let Some(at) = version.moment else { continue };
        let moment = moments.resolve(at, true).unwrap();
        let found = lookup_at(repository, &moments, &moment, &path, &Arc::default()).await.unwrap();
        assert_eq!(found.map(|found| found.document), version.document, "{version:?}");
    }
}

async fn captured(repository: &Repository, database: &MemoryDatabase) -> Timestamp {
    let (Captured::Through(point), _) = until_now(&capture(repository, database)).await else { panic!("degraded") };
    point
}

#[tokio::test]
async fn each_version_stands_once_however_many_snapshots_hold_it() {
    let (fixture, repository, first) = begun(12).await;
    let database = &fixture.database;
    let path = "users/u00000";
    backup(&repository, database).build().run().await.unwrap();
    database.set(path, 100);
    captured(&repository, database).await;
    // of one document too many others change
    database.set("users/u00004", 5);
    captured(&repository, database).await;
    database.remove(path);
    captured(&repository, database).await;
    backup(&repository, database).build().run().await.unwrap();
    database.set(path, 101);
    let last = captured(&repository, database).await;
    backup(&repository, database).build().run().await.unwrap();

    let versions = versions_of(&repository, database, path).await;
    let expected = [
        (Change::Created, Origin::Snapshot, 2),
        (Change::Updated, Origin::Captured, 0),
        (Change::Deleted, Origin::Captured, 0),
        (Change::Created, Origin::Captured, 1),
    ];
    assert_eq!(told(&versions), expected);
    assert_eq!(versions[0].moment, Some(last));
    assert_eq!(versions[3].moment, first.read_time());
    assert_eq!(versions[1].update_time, None);
    assert!(versions.iter().all(|version| version.moment.is_some()));
    all_are_right(&repository, database, path, &versions).await;
}

#[tokio::test]
async fn a_document_that_came_later_was_created_and_one_that_never_was_has_no_versions() {
    let (fixture, repository, _) = begun(12).await;
    let database = &fixture.database;
    // written twice before anybody looked
    database.set("users/fresh", 1);
    database.set("users/fresh", 2);
    captured(&repository, database).await;
    let versions = versions_of(&repository, database, "users/fresh").await;
    assert_eq!(told(&versions), [(Change::Created, Origin::Captured, 0)]);
    all_are_right(&repository, database, "users/fresh", &versions).await;
    assert_eq!(versions_of(&repository, database, "users/nobody").await.len(), 0);
    assert_eq!(versions_of(&repository, database, "aaa/before").await.len(), 0);
}

#[tokio::test]
async fn what_a_scan_found_says_so_and_a_group_that_was_found_late_has_all_its_versions() {
    let (fixture, repository, _) = begun(12).await;
    let database = &fixture.database;
    database.set("users/u00000", 2);
    database.listen_faults(|faults| faults.resets = 1);
    captured(&repository, database).await;
    let versions = versions_of(&repository, database, "users/u00000").await;
    assert_eq!(told(&versions), [(Change::Created, Origin::Snapshot, 1), (Change::Updated, Origin::Compared, 0)]);
    all_are_right(&repository, database, "users/u00000", &versions).await;

    // nobody listens to the group: the segment that proves it tells of the points before
    let mut unproven = capture(&repository, database);
    unproven.options = CaptureOptions { prove_cheaply_every_seconds: 500, prove_every_seconds: 500, ..options() };
    for round in 0..3 {
        database.set("hidden/1", round);
        database.set("users/u00004", round);
        database.pass_seconds(60);
        until_now(&unproven).await;
    }
    assert_eq!(versions_of(&repository, database, "hidden/1").await.len(), 0);
    database.pass_seconds(500);
    database.set("users/u00004", 9);
    captured(&repository, database).await;
    let versions = versions_of(&repository, database, "hidden/1").await;
    assert_eq!(versions.len(), 3, "{versions:?}");
    all_are_right(&repository, database, "hidden/1", &versions).await;
    let before = told(&versions_of(&repository, database, "users/u00004").await);

    // segments that were merged tell the same
    database.pass_seconds(26 * 3600);
    database.set("users/u00008", 1);
    captured(&repository, database).await;
    let stop = firebackup_engine::Stop::default();
    let name = name(database);
    let compaction = Compaction { repository: repository.clone(), database: name, meter: Arc::default(), stop };
    assert!(compaction.run().await.unwrap().made > 0);
    let merged = versions_of(&repository, database, "hidden/1").await;
    assert_eq!(told(&merged), told(&versions));
    assert_eq!(told(&versions_of(&repository, database, "users/u00004").await), before);
    assert_eq!(status(&fixture, &repository).await.gaps.len(), 1);
}

#[tokio::test]
async fn what_is_not_proven_is_told_and_cannot_be_put_back_yet() {
    let (fixture, repository, _) = begun(12).await;
    let database = &fixture.database;
    let mut unproven = capture(&repository, database);
    unproven.options = CaptureOptions { prove_cheaply_every_seconds: 500, prove_every_seconds: 500, ..options() };
    database.set("users/u00000", 7);
    until_now(&unproven).await;
    let versions = versions_of(&repository, database, "users/u00000").await;
    assert_eq!((versions.len(), versions[0].moment), (2, None));
    database.set("users/u00004", 7);
    let proven = captured(&repository, database).await;
    let versions = versions_of(&repository, database, "users/u00000").await;
    assert!(versions[0].moment.is_some_and(|moment| moment < proven), "{versions:?}");
}

#[tokio::test]
async fn a_period_reads_less_and_shows_what_came_about_in_it() {
    let (fixture, repository, _) = begun(12).await;
    let database = &fixture.database;
    let path = "users/u00000";
    let mut points = Vec::new();
    for round in 0..6 {
        database.set(path, round);
        points.push(captured(&repository, database).await);
        if round % 2 == 1 {
            backup(&repository, database).build().run().await.unwrap();
        }
        // what a proof finds late is looked for behind a period
        database.pass_seconds(3 * 3600);
    }
    let whole = history_in(&repository, database, path, Period::default()).await;
    assert_eq!(whole.versions.len(), 7);
    let period = Period { from: Some(points[2]), to: Some(points[3]) };
    let some = history_in(&repository, database, path, period).await;
    let expected: Vec<_> =
        whole.versions.iter().filter(|version| period.from <= Some(version.time())).map(Version::time).collect();
    let seen: Vec<_> = some.versions.iter().map(Version::time).collect();
    assert_eq!((seen.len(), &seen[..]), (1, &expected[expected.len() - 1..]), "the third was written before its point");
    assert!(some.runs < whole.runs, "{} of {}", some.runs, whole.runs);
    assert_eq!(some.versions[0].change, Change::Updated);
    let from = Period { from: Some(whole.versions[1].time()), to: None };
    assert_eq!(history_in(&repository, database, path, from).await.versions.len(), 2);
}

#[tokio::test]
async fn of_each_run_that_may_hold_a_document_its_ends_and_two_blocks_are_read_and_nothing_of_others() {
    let (fixture, repository) = Fixture::new(400).await;
    let database = &fixture.database;
    database.flow();
    backup(&repository, database).block_bytes(2048).build().run().await.unwrap();
    let mut changes = 1;
    for round in 0..40 {
        for other in 0..4 {
            database.set(&format!("others/o{other}"), round);
        }
        if round % 10 == 0 {
            database.set("users/u00000", round);
            changes += 1;
        }
        captured(&repository, database).await;
        fixture.clock.pass_hours(1);
        if round % 20 == 19 {
            compaction(&repository, &fixture).run().await.unwrap();
        }
    }
    // what was merged goes
    let policy = PrunePolicy { exclusive: true, keep_moments_days: 90, ..PrunePolicy::default() };
    prune(&repository, &policy).await.unwrap();
    fixture.shared.take_gets();
    let found = history_in(&repository, database, "users/u00000", Period::default()).await;
    let gets = fixture.shared.take_gets();
    let read: Vec<_> = gets.iter().filter(|(path, _)| path.as_ref().starts_with("runs/")).collect();
    assert_eq!((found.versions.len(), found.runs), (changes, read.len() as u64));
    assert!(read.iter().all(|(_, gets)| **gets <= 4), "a header, a footer and two blocks: {read:?}");
    let runs = fixture.objects().await.into_iter().filter(|path| path.starts_with("runs/")).count();
    assert!(read.len() < runs, "{} of {runs}", read.len());
}

#[tokio::test]
async fn what_a_backup_saw_between_two_points_does_not_live_on_when_it_is_gone_at_the_second() {
    let (fixture, repository, _) = begun(12).await;
    let database = &fixture.database;
    captured(&repository, database).await;
    database.set("users/brief", 1);
    database.set("users/stays", 1);
    backup(&repository, database).build().run().await.unwrap();
    database.remove("users/brief");
    // of a document that came and went a stream need not tell
    database.listen_faults(|faults| faults.is_terse = true);
    let point = captured(&repository, database).await;
    let brief = versions_of(&repository, database, "users/brief").await;
    assert_eq!(told(&brief), [(Change::Created, Origin::Snapshot, 1), (Change::Deleted, Origin::Captured, 0)]);
    assert_eq!((brief[0].point, brief[0].moment), (point, Some(point)));
    all_are_right(&repository, database, "users/brief", &brief).await;
    let stays = versions_of(&repository, database, "users/stays").await;
    assert_eq!(told(&stays), [(Change::Created, Origin::Snapshot, 1)]);
}

#[tokio::test]
async fn backups_of_some_collections_tell_of_those_only() {
    let (fixture, repository) = Fixture::new(12).await;
    let database = &fixture.database;
    let users = Selection { include: vec!["users".to_owned()], ..Selection::default() };
    backup(&repository, database).selection(users).build().run().await.unwrap();
    backup(&repository, database).build().run().await.unwrap();
    let orders = versions_of(&repository, database, "orders/__id2__").await;
    assert_eq!(told(&orders), [(Change::Created, Origin::Snapshot, 1)], "the first says nothing of it");
    let users = versions_of(&repository, database, "users/u00000").await;
    assert_eq!(told(&users), [(Change::Created, Origin::Snapshot, 2)]);
    let kept: BTreeSet<_> = users[0].snapshots.iter().collect();
    assert_eq!(kept.len(), 2);
}

async fn status(fixture: &Fixture, repository: &Repository) -> CaptureStatus {
    let bounds = StatusBounds::of_window(60.0);
    capture_status(repository, &name(&fixture.database), bounds).await.unwrap()
}

#[tokio::test]
async fn a_status_follows_a_capture_from_nothing_through_a_gap_to_a_pause() {
    let (fixture, repository, manifest) = begun(12).await;
    let database = &fixture.database;
    assert_eq!(status(&fixture, &repository).await.state, CaptureState::Disabled);
    database.set("users/u00000", 1);
    database.remove("users/u00004");
    let point = captured(&repository, database).await;
    let active = status(&fixture, &repository).await;
    assert_eq!((active.state, active.segments, active.changes), (CaptureState::Active, 1, 2));
    assert_eq!((active.captured_through, active.proven_through), (Some(point), Some(point)));
    assert!(active.lag_seconds.is_some_and(|lag| lag < 180.0) && active.stored_bytes > 0, "{active:?}");
    assert_eq!((active.gaps.len(), active.scans_today), (0, 0));
    assert!(manifest.read_time() < Some(point));

    database.set("users/u00000", 2);
    database.listen_faults(|faults| faults.resets = 1);
    let behind = captured(&repository, database).await;
    let scanned = status(&fixture, &repository).await;
    assert_eq!((scanned.scans_today, scanned.segments), (1, 2));
    assert!(scanned.scan_reads_today >= 11, "{scanned:?}");
    assert_eq!(scanned.gaps.iter().map(|gap| (gap.after, gap.until)).collect::<Vec<_>>(), [(point, behind)]);
    let gaps = moments(&repository, database).await.gaps();
    assert_eq!(gaps, scanned.gaps);
    fixture.clock.pass_hours(1);
    assert_eq!(status(&fixture, &repository).await.state, CaptureState::Paused);
}
