//! Drills: what passes, what does not, and whose the scratch database is.

use std::collections::HashMap;
use std::sync::Arc;

use firebackup_codec::object::{self, ObjectType};
use firebackup_codec::signature::{WriterKey, WriterPublicKey};
use firebackup_codec::{Sealing, SecretKey};
use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{
    Drill, DrillOptions, EngineError, KEPT_DRILL_DAYS, KEPT_DRILLS, ProvenOrigin, PrunePolicy, Repository,
    RestoreOptions, Secrets, Stop, Target, prune,
};
use firebackup_model::drill::DrillReport;
use firebackup_model::id::{JobId, JobKind, KeyId, SnapshotId};
use firebackup_model::manifest::Manifest;
use firebackup_model::port::{DocumentSink, DocumentSource, Write, WriteOutcome};
use firebackup_model::{DatabaseName, PortError, Selection};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::capture::{back_up, begun, capture, moments, until_now};
use crate::faults::{Trouble, Troubled};
use crate::fixture::{Fixture, backup, restore, target, target_of};

const WHOLE: DrillOptions = DrillOptions { sample: None, moments: 2, seed: 1, ramp: false, take_over: false };
const SAMPLE: DrillOptions = DrillOptions { sample: Some(40), ..WHOLE };

fn scratch() -> MemoryDatabase {
    let scratch = MemoryDatabase::new(DatabaseName::new("scratch", "(default)"));
    scratch.flow();
    scratch
}

fn drill(repository: &Repository, snapshot: &SnapshotId, scratch: Target, options: DrillOptions) -> Drill {
    let (meter, stop) = (Arc::default(), Stop::default());
    Drill { repository: repository.clone(), snapshot: snapshot.clone(), scratch, options, by: None, meter, stop }
}

async fn captured() -> (Fixture, Repository, SnapshotId) {
    captured_of(400).await
}

/// A backup, and three moments behind it.
async fn captured_of(documents: usize) -> (Fixture, Repository, SnapshotId) {
    let (fixture, repository, manifest) = begun(documents).await;
    three_moments(&fixture, &repository).await;
    (fixture, repository, manifest.id)
}

async fn three_moments(fixture: &Fixture, repository: &Repository) {
    for round in 0..3 {
        fixture.database.set("users/u00000", 1000 + round);
        fixture.database.set(&format!("new/{round}"), round);
        fixture.database.remove(&format!("users/u0000{}", 4 + 4 * (round % 2)));
        fixture.database.pass_seconds(60);
        until_now(&capture(repository, &fixture.database)).await;
    }
}

/// A backup by which what was captured before is drilled no less: a minute behind the last moment.
async fn newer_backup(fixture: &Fixture, repository: &Repository) -> Manifest {
    fixture.database.pass_seconds(60);
    backup(repository, &fixture.database).build().run().await.unwrap().manifest
}

async fn kept(repository: &Repository) -> Vec<DrillReport> {
    repository.drills(usize::MAX).await.unwrap().reports.into_iter().map(|(report, _)| report).collect()
}

#[tokio::test]
async fn a_backup_and_moments_behind_it_are_restored_compared_and_taken_away_again() {
    let (fixture, repository, snapshot) = captured().await;
    let scratch = scratch();
    let report = drill(&repository, &snapshot, target(&scratch), WHOLE).run().await.unwrap();
    assert!(report.has_passed(), "{report:?}");
    let [of_backup, moments @ ..] = &report.exercises[..] else { panic!("{report:?}") };
    assert_eq!((of_backup.is_backup, of_backup.documents, of_backup.same), (true, 400, 400));
    assert_eq!(moments.len(), 2);
    for moment in moments {
        assert_eq!(moment.documents, fixture.database.documents_at(moment.point).len() as u64);
        assert!(!moment.is_backup && moment.point > of_backup.point);
    }
    assert!(scratch.documents().is_empty());
    assert_eq!(kept(&repository).await, [report]);
    assert!(!fixture.objects().await.iter().any(|path| path.ends_with("/begun") || path.starts_with("receipts/")));
}

#[tokio::test]
async fn moments_behind_a_backup_of_any_kind_are_put_back_and_the_report_says_how_many_were_wanted() {
    let (fixture, repository, _) = captured().await;
    let wanted = DrillOptions { moments: 9, ..WHOLE };
    let some = Selection { include: vec!["users".to_owned()], ..Selection::default() };
    for is_incremental in [true, false] {
        let snapshot = match is_incremental {
            true => back_up(&repository, &fixture).await.unwrap().1,
            false => {
                let partial = backup(&repository, &fixture.database).selection(some.clone());
                partial.build().run().await.unwrap().manifest
            }
        };
        assert!(!snapshot.is_whole(), "{:?}", snapshot.kind);
        // all but the full backup, which is a moment by itself
        let before = moments(&repository, &fixture.database).await.points().count() - 1;
        let run = async || drill(&repository, &snapshot.id, target(&scratch()), wanted).run().await.unwrap();
        let report = run().await;
        assert!(report.has_passed(), "{report:?}");
        assert_eq!((report.moments_wanted, report.moments()), (9, before), "nothing was captured since");
        fixture.database.set("new/behind", 1);
        fixture.database.pass_seconds(60);
        until_now(&capture(&repository, &fixture.database)).await;
        let report = run().await;
        assert!(report.has_passed(), "{report:?}");
        assert_eq!(report.moments(), before + 1);
        assert!(Some(report.exercises[1].point) > snapshot.read_time(), "{report:?}");
        let all = fixture.database.documents_at(report.exercises[1].point).len() as u64;
        assert_eq!(report.exercises[1].documents, all, "all of the database, whatever the backup holds");
    }
}

#[tokio::test]
async fn a_moment_of_before_the_newest_backup_is_put_back_on_its_own_and_found_when_it_is_damaged() {
    let (fixture, repository, first) = captured().await;
    let (first, _) = repository.manifest(&first).await.unwrap();
    let newest = newer_backup(&fixture, &repository).await;
    let of_backups: Vec<String> = first.runs.iter().chain(&newest.runs).map(|run| run.id.to_string()).collect();
    let is_captured = |path: &String| path.starts_with("runs/") && !of_backups.iter().any(|id| path.contains(id));
    let captured = fixture.objects().await.into_iter().find(is_captured).unwrap();
    // more than there is, so that all is compared, but not every segment read as with `sample: None`
    let many = DrillOptions { sample: Some(4000), moments: 10, ..WHOLE };
    let run = async |options| drill(&repository, &newest.id, target(&scratch()), options).run().await.unwrap();
    let report = run(many).await;
    assert!(report.has_passed(), "{report:?}");
    let kept = moments(&repository, &fixture.database).await.points().count();
    assert_eq!(report.moments(), kept - 2, "all but the two backups");
    for moment in &report.exercises[1..] {
        assert!(Some(moment.point) > first.read_time() && Some(moment.point) < newest.read_time(), "{report:?}");
        assert_eq!(moment.documents, fixture.database.documents_at(moment.point).len() as u64);
    }
    assert_eq!(run(DrillOptions { moments: 1, ..many }).await.moments(), 1, "there is none behind the backup");
    let mut bytes = fixture.read(&captured).await.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fixture.store.put(&captured.as_str().into(), bytes.into()).await.unwrap();
    let report = run(many).await;
    assert!(!report.has_passed() && report.exercises[0].has_passed(), "{report:?}");
    let failure = report.failure.unwrap();
    assert!(failure.starts_with("the moment ") && failure.contains(&captured), "{failure}");
    assert!(run(DrillOptions { moments: 0, ..many }).await.has_passed(), "no moment is asked for");
    let all = run(DrillOptions { sample: None, ..many }).await;
    assert!(!all.has_passed() && all.exercises[0].has_passed(), "the backup by itself is good: {all:?}");
    assert!(all.failure.unwrap().contains("of the captured changes, cannot be read back"));
}

#[tokio::test]
async fn damaged_changes_of_another_database_make_no_backup_of_this_one_bad() {
    let (fixture, repository, snapshot) = captured().await;
    let before = fixture.objects().await;
    let other = MemoryDatabase::new(DatabaseName::new("p", "other"));
    crate::fixture::fill(&other, 24);
    other.flow();
    let whole = backup(&repository, &other).build().run().await.unwrap().manifest;
    other.set("users/u00000", 1);
    until_now(&capture(&repository, &other)).await;
    let of_backup: Vec<String> = whole.all_runs().map(|run| run.id.to_string()).collect();
    let is_captured = |path: &String| path.starts_with("runs/") && !of_backup.iter().any(|id| path.contains(id));
    let captured = fixture.objects().await.difference(&before).find(|path| is_captured(path)).unwrap().clone();
    fixture.damage(&captured).await;
    for (drilled, passes) in [(&snapshot, true), (&whole.id, false)] {
        let report = drill(&repository, drilled, target(&scratch()), WHOLE).run().await.unwrap();
        assert_eq!(report.has_passed(), passes, "{report:?}");
    }
}

#[tokio::test]
async fn of_two_moments_one_is_behind_the_backup_and_a_single_one_is_so_now_and_then() {
    let (fixture, repository, _) = captured_of(40).await;
    let newest = newer_backup(&fixture, &repository).await;
    three_moments(&fixture, &repository).await;
    let (mut of_two, mut of_one) = (0, 0);
    for seed in 0..24 {
        let run = async |moments| {
            let options = DrillOptions { moments, seed, ..WHOLE };
            let report = drill(&repository, &newest.id, target(&scratch()), options).run().await.unwrap();
            let points = report.exercises[1..].iter().map(|moment| Some(moment.point) < newest.read_time());
            points.collect::<Vec<_>>()
        };
        let two = run(2).await;
        assert!(two.len() == 2 && !two[0], "the first is behind it: {two:?}");
        of_two += u32::from(two[1]);
        of_one += u32::from(run(1).await[0]);
    }
    assert!((1..24).contains(&of_two) && (1..24).contains(&of_one), "{of_two} and {of_one} of before it");
}

#[tokio::test]
async fn a_sample_reads_less_and_the_same_seed_takes_the_same() {
    let (_fixture, repository, snapshot) = captured_of(3000).await;
    let run = async |options| drill(&repository, &snapshot, target(&scratch()), options).run().await.unwrap();
    let (whole, sample, again) = (run(WHOLE).await, run(SAMPLE).await, run(SAMPLE).await);
    assert!(sample.has_passed(), "{sample:?}");
    assert_eq!(sample.exercises.len(), 3);
    assert!(sample.exercises.iter().all(|one| (10..=40).contains(&one.documents)), "{sample:?}");
    assert_eq!(sample.exercises, again.exercises);
    assert!(sample.bytes < whole.bytes, "{} of {}", sample.bytes, whole.bytes);
    let mut differs = false;
    for seed in 2..6 {
        differs |= run(DrillOptions { seed, ..SAMPLE }).await.exercises != sample.exercises;
    }
    assert!(differs, "the seed chooses nothing");
    // of less than a sample everything is taken
    let small = run(DrillOptions { sample: Some(4000), ..WHOLE }).await;
    assert_eq!(small.exercises[0].documents, 3000);
}

/// A repository in which drills are signed, and those of this writer are believed.
async fn signed() -> (Fixture, Repository, SnapshotId) {
    let (fixture, _) = Fixture::new(40).await;
    let ours = writer(1);
    let secrets = signing(&ours, vec![ours.public()]);
    let repository = Repository::init(Arc::new(InMemory::new()), secrets, fixture.world.clone()).await.unwrap();
    let manifest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    (fixture, repository, manifest.id)
}

#[tokio::test]
async fn a_report_that_cannot_be_read_is_named_and_no_earlier_pass_counts_until_a_later_one() {
    let (fixture, repository, snapshot) = signed().await;
    let run = async || drill(&repository, &snapshot, target(&scratch()), SAMPLE).run().await.unwrap();
    let put = async |path: &str, bytes: Vec<u8>| repository.store().put(&path.into(), bytes.into()).await.unwrap();
    let drills = async || repository.drills(usize::MAX).await.unwrap();
    let passed = run().await;
    assert_eq!(drills().await.restored(), HashMap::from([(snapshot.clone(), passed.finished)]));
    assert!(drills().await.failed().is_empty());
    // whatever it said of this backup is not known any more
    let last = newer_than(&passed, &fixture);
    put(&path_of(&last), b"FB".to_vec()).await;
    let kept = drills().await;
    let [unreadable] = &kept.unreadable[..] else { panic!("{kept:?}") };
    assert_eq!((&unreadable.id, &unreadable.path), (&last.id, &path_of(&last)));
    assert_eq!(kept.reports.iter().map(|(report, _)| &report.id).collect::<Vec<_>>(), [&passed.id]);
    assert!(kept.restored().is_empty(), "{kept:?}");
    let newest = repository.drills(1).await.unwrap();
    assert_eq!((newest.reports.len(), newest.unreadable.len()), (0, 1), "it is one of the newest");
    // what began behind it is known
    let again = run().await;
    assert_eq!(drills().await.restored(), HashMap::from([(snapshot.clone(), again.finished)]));
    // of two, the newer one says from when on
    put(&path_of(&newer_than(&again, &fixture)), Vec::new()).await;
    let kept = drills().await;
    assert!(kept.restored().is_empty() && kept.unreadable.len() == 2, "{kept:?}");
}

#[tokio::test]
async fn what_a_restore_replaced_is_refused_before_anything_is_written_and_gets_no_report() {
    let (fixture, repository) = Fixture::new(40).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    fixture.database.set("users/u00001", 7);
    let options = RestoreOptions::default();
    let undo = restore(&repository, &snapshot, target(&fixture.database), options).run().await.unwrap().job;
    assert!(repository.snapshot_ids().await.unwrap().contains(&undo), "there is something to drill");
    let before = fixture.objects().await;
    // a database that a drill would refuse too, were it looked at first
    let error = drill(&repository, &undo, target(&fixture.database), WHOLE).run().await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused(text) if text.contains("only backups")), "{error}");
    let error = drill(&repository, &undo, target(&scratch()), SAMPLE).run().await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused(text) if text.contains("only backups")), "{error}");
    assert_eq!(fixture.objects().await, before);
}

#[tokio::test]
async fn a_backup_of_nothing_is_as_good_as_any() {
    let (fixture, repository) = Fixture::new(0).await;
    let manifest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let report = drill(&repository, &manifest.id, target(&scratch()), WHOLE).run().await.unwrap();
    assert!(report.has_passed() && report.documents() == 0, "{report:?}");
}

#[tokio::test]
async fn a_damaged_backup_does_not_pass_and_the_report_says_why() {
    let (fixture, repository, snapshot) = captured().await;
    let (manifest, _) = repository.manifest(&snapshot).await.unwrap();
    let id = manifest.runs[0].id.to_string();
    let run = fixture.objects().await.into_iter().find(|path| path.contains(&id)).unwrap();
    let mut bytes = fixture.read(&run).await.to_vec();
    let whole = bytes.clone();
    bytes[200] ^= 1;
    let replace = async |bytes: Vec<u8>| fixture.store.put(&run.as_str().into(), bytes.into()).await.unwrap();
    replace(bytes).await;
    let scratch = scratch();
    let report = drill(&repository, &snapshot, target(&scratch), WHOLE).run().await.unwrap();
    assert!(!report.has_passed() && report.failure.as_ref().unwrap().contains(&run), "{report:?}");
    fixture.store.delete(&run.as_str().into()).await.unwrap();
    let report = drill(&repository, &snapshot, target(&scratch), SAMPLE).run().await.unwrap();
    assert!(!report.has_passed() && report.failure.as_ref().unwrap().contains(&run), "{report:?}");
    replace(whole).await;
    assert!(drill(&repository, &snapshot, target(&scratch), WHOLE).run().await.unwrap().has_passed());
    assert_eq!(kept(&repository).await.iter().map(DrillReport::has_passed).collect::<Vec<_>>(), [false, false, true]);
    assert!(scratch.documents().is_empty());
}

/// Says of writes to one document that they were done.
struct Forgetful(MemoryDatabase, &'static str);

#[async_trait::async_trait]
impl DocumentSink for Forgetful {
    fn database(&self) -> &DatabaseName {
        DocumentSink::database(&self.0)
    }

    async fn can_write(&self) -> Result<(), PortError> {
        self.0.can_write().await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteOutcome>, PortError> {
        let outcomes = self.0.write(writes.clone()).await?;
        for write in writes {
            if write.path.as_str() == self.1 && write.document.is_some() {
                self.0.remove(self.1);
            }
        }
        Ok(outcomes)
    }
}

#[tokio::test]
async fn a_document_that_does_not_arrive_is_found_missing() {
    let (_fixture, repository, snapshot) = captured().await;
    for troubles in [&[Trouble::CountsByName][..], &[]] {
        let database = scratch();
        let sink = Arc::new(Forgetful(database.clone(), "zoo/ü3"));
        let scratch = Target { source: Arc::new(Troubled::new(database.clone(), troubles)), sink };
        let report = drill(&repository, &snapshot, scratch, WHOLE).run().await.unwrap();
        assert!(!report.has_passed() && report.failure.is_none(), "{report:?}");
        let found = &report.exercises[0];
        assert_eq!((found.documents, found.same), (400, 399));
        let expected = ["`zoo/ü3` is not there", "400 documents were to be restored, and 399 are there"];
        assert_eq!(found.differences, expected);
        assert!(database.documents().is_empty());
    }
}

#[tokio::test]
async fn on_a_server_that_does_not_count_a_drill_passes_and_nothing_is_counted_that_is_not_its_own() {
    let (_fixture, repository, snapshot) = captured().await;
    let database = scratch();
    let uncounted = Arc::new(Troubled::new(database.clone(), &[Trouble::CountsByName]));
    for options in [WHOLE, SAMPLE] {
        let report = drill(&repository, &snapshot, target_of(uncounted.clone()), options).run().await.unwrap();
        assert!(report.has_passed(), "{report:?}");
        assert!(database.documents().is_empty());
    }
    database.set("mine/1", 1);
    let uncounted = Arc::new(Troubled::new(database.clone(), &[Trouble::CountsByName]));
    let error = drill(&repository, &snapshot, target_of(uncounted.clone()), WHOLE).run().await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused(text) if text.contains("holds documents")), "{error}");
    assert!(!uncounted.counts_by_reading(), "names were read");
}

#[tokio::test]
async fn what_is_not_the_drills_own_is_never_touched() {
    let (fixture, repository, snapshot) = captured().await;
    let refused = async |scratch: &MemoryDatabase, expected: &str| {
        let before = scratch.documents();
        let options = DrillOptions { take_over: true, ..WHOLE };
        let error = drill(&repository, &snapshot, target(scratch), options).run().await.unwrap_err();
        assert!(matches!(&error, EngineError::Refused(text) if text.contains(expected)), "{error}");
        assert_eq!(scratch.documents(), before);
    };
    refused(&fixture.database, "was backed up into this repository").await;
    // before and behind the place of those that say who drills
    for path in ["books/1", "mine/1"] {
        let used = scratch();
        used.set(path, 1);
        refused(&used, "holds documents").await;
    }
    assert!(kept(&repository).await.is_empty());
}

#[tokio::test]
async fn what_a_drill_that_died_has_left_is_taken_over_only_when_asked() {
    let (fixture, repository, snapshot) = captured().await;
    let database = scratch();
    let troubled = Arc::new(Troubled::gated(database.clone(), 2));
    let dying = drill(&repository, &snapshot, target_of(troubled.clone()), WHOLE);
    let task = tokio::spawn(async move { dying.run().await });
    troubled.gate.as_ref().unwrap().reached.notified().await;
    task.abort();
    drop(task.await);
    assert!(!database.documents().is_empty());
    assert!(fixture.objects().await.iter().any(|path| path.ends_with("/begun")));
    let error = drill(&repository, &snapshot, target(&database), WHOLE).run().await.unwrap_err();
    assert!(error.to_string().contains("--take-over"), "{error}");
    assert!(!database.documents().is_empty());
    // another database is nobody's
    assert!(drill(&repository, &snapshot, target(&scratch2()), WHOLE).run().await.unwrap().has_passed());
    let options = DrillOptions { take_over: true, ..WHOLE };
    assert!(drill(&repository, &snapshot, target(&database), options).run().await.unwrap().has_passed());
    assert!(database.documents().is_empty());
    // nothing is left that would keep what it needs from a prune
    let is_left =
        |path: &String| path.ends_with("/begun") || path.starts_with("receipts/") || path.starts_with("intents/");
    assert!(!fixture.objects().await.iter().any(is_left));
}

#[tokio::test]
async fn what_cannot_be_read_of_other_drills_stops_none() {
    let (fixture, repository, snapshot) = captured().await;
    drill(&repository, &snapshot, target(&scratch()), SAMPLE).run().await.unwrap();
    let report = fixture.objects().await.into_iter().find(|path| path.ends_with("/report")).unwrap();
    for path in [report.clone(), report.replace("/report", "/begun")] {
        fixture.store.put(&path.as_str().into(), "junk".into()).await.unwrap();
    }
    assert!(kept(&repository).await.is_empty());
    assert!(drill(&repository, &snapshot, target(&scratch()), SAMPLE).run().await.unwrap().has_passed());
    assert_eq!(kept(&repository).await.len(), 1);
}

#[tokio::test]
async fn what_is_gone_at_a_moment_is_not_taken_for_a_sample_of_it() {
    let (fixture, repository, manifest) = begun(40).await;
    let paths: Vec<String> = fixture.database.documents().into_keys().map(|path| path.to_string()).collect();
    for path in &paths[1..] {
        fixture.database.remove(path);
    }
    fixture.database.pass_seconds(60);
    until_now(&capture(&repository, &fixture.database)).await;
    for seed in 0..8 {
        let options = DrillOptions { sample: Some(2), moments: 1, seed, ..SAMPLE };
        let report = drill(&repository, &manifest.id, target(&scratch()), options).run().await.unwrap();
        let moment = &report.exercises[1];
        // it was found, or the report does not say that all was well
        assert_eq!(report.has_passed(), moment.documents == 1, "{report:?}");
    }
}

fn scratch2() -> MemoryDatabase {
    MemoryDatabase::new(DatabaseName::new("scratch", "other"))
}

#[tokio::test]
async fn whoever_stops_a_drill_leaves_no_report_and_an_empty_database() {
    let (fixture, repository, snapshot) = captured().await;
    let database = scratch();
    let stopped = drill(&repository, &snapshot, target(&database), WHOLE);
    stopped.stop.request();
    let error = stopped.run().await.unwrap_err();
    assert!(error.is_resumable_stop(), "{error}");
    assert!(database.documents().is_empty() && kept(&repository).await.is_empty());
    assert!(!fixture.objects().await.iter().any(|path| path.ends_with("/begun")));
}

#[tokio::test]
async fn of_two_repositories_whose_drills_meet_in_one_database_one_steps_back_and_takes_nothing_away() {
    let (_fixture, repository, snapshot) = captured().await;
    let (_other, other_repository, other_snapshot) = captured_of(401).await;
    let database = scratch();
    let troubled = Arc::new(Troubled::gated(database.clone(), 1));
    let first = drill(&repository, &snapshot, target_of(troubled.clone()), SAMPLE);
    let task = tokio::spawn(async move { first.run().await });
    let gate = troubled.gate.as_ref().unwrap();
    gate.reached.notified().await;
    let before = database.documents();
    let options = DrillOptions { take_over: true, ..WHOLE };
    drill(&other_repository, &other_snapshot, target(&database), options).run().await.unwrap_err();
    assert_eq!(database.documents(), before);
    gate.open.notify_one();
    assert!(task.await.unwrap().unwrap().has_passed());
    assert!(database.documents().is_empty());
    assert!(drill(&other_repository, &other_snapshot, target(&database), WHOLE).run().await.unwrap().has_passed());
}

#[tokio::test]
async fn beside_the_mark_of_another_drill_nothing_is_begun_and_nothing_deleted() {
    let (fixture, repository, snapshot) = captured().await;
    let database = scratch();
    let foreign = "firebackup-drills/drill_01JZ8Q6V7C9X2M4T5B8K1N3R6W";
    database.set(foreign, 1);
    let error = drill(&repository, &snapshot, target(&database), WHOLE).run().await.unwrap_err();
    assert!(error.to_string().contains("another repository"), "{error}");
    assert_eq!(database.documents().into_keys().map(|path| path.to_string()).collect::<Vec<_>>(), [foreign]);
    assert!(!fixture.objects().await.iter().any(|path| path.ends_with("/begun")));
}

#[tokio::test]
async fn a_backup_that_is_dropped_while_it_is_drilled_has_not_failed() {
    for is_dropped in [true, false] {
        let (fixture, repository, snapshot) = captured().await;
        let database = scratch();
        let held = fixture.shared.hold_put("drills");
        let drilled = drill(&repository, &snapshot, target(&database), SAMPLE);
        let task = tokio::spawn(async move { drilled.run().await });
        // it has begun, and read nothing but the manifest
        held.came().await;
        for path in fixture.objects().await {
            if path.starts_with("runs/") || is_dropped && path.contains(snapshot.as_str()) {
                fixture.store.delete(&path.as_str().into()).await.unwrap();
            }
        }
        held.goes();
        let ended = task.await.unwrap();
        // of what is gone without having been dropped it is known that it is gone
        match ended {
            Err(error) => assert!(is_dropped && error.to_string().contains("was dropped while"), "{error}"),
            Ok(report) => assert!(!is_dropped && !report.has_passed(), "{report:?}"),
        }
        assert_eq!(kept(&repository).await.len(), usize::from(!is_dropped));
        assert!(database.documents().is_empty());
    }
}

#[tokio::test]
async fn whoever_is_taken_for_dead_says_nothing_of_the_backup() {
    let (_fixture, repository, snapshot) = captured().await;
    let database = scratch();
    let troubled = Arc::new(Troubled::gated(database.clone(), 1));
    let first = drill(&repository, &snapshot, target_of(troubled.clone()), SAMPLE);
    let task = tokio::spawn(async move { first.run().await });
    let gate = troubled.gate.as_ref().unwrap();
    gate.reached.notified().await;
    let options = DrillOptions { take_over: true, ..SAMPLE };
    assert!(drill(&repository, &snapshot, target(&database), options).run().await.unwrap().has_passed());
    gate.open.notify_one();
    let error = task.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("taken it over"), "{error}");
    assert_eq!(kept(&repository).await.len(), 1);
    assert!(database.documents().is_empty());
}

#[tokio::test]
async fn drills_that_follow_each_other_take_over_from_their_own_and_from_nobody_else() {
    let (_fixture, repository, snapshot) = captured().await;
    let database = scratch();
    let of = |by: &str, scratch| Drill { by: Some(by.to_owned()), ..drill(&repository, &snapshot, scratch, SAMPLE) };
    let troubled = Arc::new(Troubled::gated(database.clone(), 1));
    let dying = of("proj_a", target_of(troubled.clone()));
    let task = tokio::spawn(async move { dying.run().await });
    troubled.gate.as_ref().unwrap().reached.notified().await;
    task.abort();
    drop(task.await);
    let error = of("proj_b", target(&database)).run().await.unwrap_err();
    assert!(error.to_string().contains("--take-over"), "{error}");
    assert!(!database.documents().is_empty());
    assert!(of("proj_a", target(&database)).run().await.unwrap().has_passed());
    assert!(database.documents().is_empty());
}

#[tokio::test]
async fn users_are_opened_decoded_and_counted_and_a_damaged_one_fails() {
    let (fixture, repository) = Fixture::new(20).await;
    let users = Arc::new(crate::policed::Users::named(&["a", "b", "c"]));
    let backup = backup(&repository, &fixture.database).users(users).build();
    let manifest = backup.run().await.unwrap().manifest;
    let report = drill(&repository, &manifest.id, target(&scratch()), SAMPLE).run().await.unwrap();
    assert!(report.has_passed(), "{report:?}");
    let users = report.users.unwrap();
    assert!(users.users > 0 && users.read == users.users, "{users:?}");
    let less =
        DrillReport { users: Some(firebackup_model::drill::UsersRead { read: users.read - 1, ..users }), ..report };
    assert!(!less.has_passed());
    let path = format!("runs/{}", &manifest.auth.unwrap().runs[0].id.to_string());
    let path = fixture.objects().await.into_iter().find(|one| one.contains(&path[5..])).unwrap();
    let mut bytes = fixture.read(&path).await.to_vec();
    bytes[150] ^= 1;
    fixture.store.put(&path.as_str().into(), bytes.into()).await.unwrap();
    let report = drill(&repository, &manifest.id, target(&scratch()), SAMPLE).run().await.unwrap();
    assert!(!report.has_passed() && report.failure.as_ref().unwrap().contains(&path), "{report:?}");
}

#[tokio::test]
async fn reports_are_kept_for_400_days_and_of_each_database_the_newest_hundred() {
    let (fixture, repository) = Fixture::new(4).await;
    let manifest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let run = async || drill(&repository, &manifest.id, target(&scratch()), SAMPLE).run().await.unwrap();
    let pruned = async || {
        let report = prune(&repository, &PrunePolicy::default()).await.unwrap();
        (report.drills_deleted, kept(&repository).await.len())
    };
    let first = run().await;
    for _ in 0..KEPT_DRILLS {
        run().await;
    }
    assert_eq!(pruned().await, (0, KEPT_DRILLS + 1), "they are young");
    fixture.clock.pass_hours(24 * (KEPT_DRILL_DAYS + 1));
    let dry = PrunePolicy { dry_run: true, ..PrunePolicy::default() };
    assert_eq!(prune(&repository, &dry).await.unwrap().drills_deleted, 1);
    assert_eq!(pruned().await, (1, KEPT_DRILLS));
    assert!(kept(&repository).await.iter().all(|report| report.id != first.id));
    let newest = run().await;
    assert_eq!(pruned().await, (1, KEPT_DRILLS));
    let two = repository.drills(2).await.unwrap().reports;
    let two: Vec<_> = two.into_iter().map(|(report, _)| report.id).collect();
    assert_eq!((two.len(), &two[1]), (2, &newest.id));
}

/// The drills whose reports can be read, and whether each is by a writer that is believed: only such a one makes a backup good.
async fn told(repository: &Repository) -> Vec<(JobId, bool)> {
    let kept = repository.drills(usize::MAX).await.unwrap();
    kept.reports.into_iter().map(|(report, origin)| (report.id, matches!(origin, ProvenOrigin::Proven(_)))).collect()
}

fn path_of(report: &DrillReport) -> String {
    format!("drills/{}/report", report.id)
}

/// The same report as of a later drill.
fn newer_than(report: &DrillReport, fixture: &Fixture) -> DrillReport {
    DrillReport { id: fixture.world.job_id(JobKind::Drill), started: fixture.world.now(), ..report.clone() }
}

/// A report as whoever can write to the store makes it: sealed and signed as he likes, and where it belongs.
fn forged(repository: &Repository, report: &DrillReport, sealing: &Sealing, signer: Option<&WriterKey>) -> Vec<u8> {
    let json = serde_json::to_vec(report).unwrap();
    object::seal(ObjectType::Drill, repository.id(), &path_of(report), sealing, signer, [5; 32], &json).unwrap()
}

fn writer(byte: u8) -> WriterKey {
    WriterKey::from_seed(&SecretKey::from_bytes([byte; 32]))
}

/// What a machine holds that signs, into a repository in the clear, and believes these.
fn signing(writer: &WriterKey, pinned: Vec<WriterPublicKey>) -> Secrets {
    Secrets { signing: Some(writer.clone()), pinned, ..Secrets::default() }
}

/// In the clear nothing but the signature stands between a report and whoever can write to the store.
#[tokio::test]
async fn a_report_that_somebody_else_signed_or_changed_makes_no_backup_good() {
    let (fixture, _) = Fixture::new(40).await;
    let (ours, stranger) = (writer(1), writer(2));
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let believing_us = signing(&ours, vec![ours.public()]);
    let repository = Repository::init(store.clone(), believing_us, fixture.world.clone()).await.unwrap();
    let manifest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let good = drill(&repository, &manifest.id, target(&scratch()), SAMPLE).run().await.unwrap();
    assert!(good.has_passed(), "{good:?}");
    assert_eq!(told(&repository).await, [(good.id.clone(), true)]);
    let put = async |report: &DrillReport, bytes: Vec<u8>| {
        store.put(&path_of(report).into(), bytes.into()).await.unwrap();
    };

    let newer = newer_than(&good, &fixture);
    let genuine = store.get(&path_of(&good).into()).await.unwrap().bytes().await.unwrap().to_vec();
    let unsigned = forged(&repository, &newer, &Sealing::Plain, None);
    let by_stranger = forged(&repository, &newer, &Sealing::Plain, Some(&stranger));
    for bytes in [unsigned, genuine.clone(), by_stranger.clone()] {
        put(&newer, bytes).await;
        assert_eq!(told(&repository).await, [(good.id.clone(), true)]);
    }
    // it is the signer that it is refused for
    put(&newer, forged(&repository, &newer, &Sealing::Plain, Some(&ours))).await;
    assert_eq!(told(&repository).await, [(good.id.clone(), true), (newer.id.clone(), true)]);

    // who says of nobody that he is believed reads all reports, and has none for proven
    put(&newer, by_stranger).await;
    let anybody = Repository::open(store.clone(), Secrets::default(), fixture.world.clone()).await.unwrap();
    assert_eq!(told(&anybody).await, [(good.id.clone(), false), (newer.id.clone(), false)]);
    let believing_him = signing(&ours, vec![stranger.public()]);
    let other = Repository::open(store.clone(), believing_him, fixture.world.clone()).await.unwrap();
    assert_eq!(told(&other).await, [(newer.id.clone(), true)], "ours is a stranger to whoever believes another one");

    for at in 0..genuine.len() {
        let mut changed = genuine.clone();
        changed[at] ^= 1;
        put(&good, changed).await;
        assert!(told(&repository).await.is_empty(), "with byte {at} changed");
    }
}

#[tokio::test]
async fn a_report_that_the_keys_of_an_encrypted_repository_did_not_seal_makes_no_backup_good() {
    let (fixture, repository, snapshot) = captured_of(40).await;
    let good = drill(&repository, &snapshot, target(&scratch()), WHOLE).run().await.unwrap();
    assert_eq!(told(&repository).await, [(good.id.clone(), true)]);
    let newer = newer_than(&good, &fixture);
    let key = SecretKey::from_bytes([9; 32]);
    let own = Sealing::Key { id: KeyId([9; 16]), key: key.clone() };
    let under_our_name = Sealing::Key { id: repository.config().key.unwrap(), key };
    for sealing in [Sealing::Plain, own, under_our_name] {
        for signer in [None, Some(&writer(2))] {
            let bytes = forged(&repository, &newer, &sealing, signer);
            fixture.store.put(&path_of(&newer).into(), bytes.into()).await.unwrap();
            assert_eq!(told(&repository).await, [(good.id.clone(), true)]);
        }
    }
}

#[tokio::test]
async fn another_backup_that_is_damaged_keeps_no_drill_from_this_one() {
    let (fixture, repository, snapshot) = captured().await;
    let other = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let path = format!("snapshots/{other}.manifest");
    fixture.store.put(&path.as_str().into(), "junk".into()).await.unwrap();
    let alone = DrillOptions { moments: 0, ..SAMPLE };
    assert!(drill(&repository, &snapshot, target(&scratch()), alone).run().await.unwrap().has_passed());
    // no moment can be put back where it is not known of which databases there are backups, and that is what is told
    let report = drill(&repository, &snapshot, target(&scratch()), SAMPLE).run().await.unwrap();
    assert!(report.exercises[0].has_passed() && report.failure.unwrap().contains(&path));
    let error = drill(&repository, &other, target(&scratch()), SAMPLE).run().await.unwrap_err();
    assert!(error.to_string().contains(other.as_str()) || error.in_full().contains(other.as_str()), "{error}");
}
