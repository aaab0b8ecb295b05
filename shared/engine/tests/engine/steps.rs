//! Backups and restores in steps: done twice, at once, late, and killed at every operation.

use std::sync::Arc;
use std::time::Duration;

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{
    BackupSteps, EngineError, PrunePolicy, Repository, RestoreOptions, RestoreOutcome, RestoreSteps, Result, Target,
    prune,
};
use firebackup_model::DatabaseName;
use firebackup_model::id::{JobId, JobKind, SnapshotId};
use firebackup_model::job::RestoreMode;
use firebackup_model::manifest::Manifest;
use object_store::ObjectStore;

use crate::faults::{DyingStore, Fuse};
use crate::fixture::{Fixture, all_whole, backup, contents, restore, target};

fn steps(repository: &Repository, fixture: &Fixture) -> BackupSteps {
    backup(repository, &fixture.database).chunk_documents(10).steps()
}

/// Of chunks that take more than one step: bounds are looked at every 256 documents.
fn long_steps(repository: &Repository, fixture: &Fixture) -> BackupSteps {
    backup(repository, &fixture.database).chunk_documents(700).step_time(Duration::ZERO).steps()
}

fn job(fixture: &Fixture, kind: JobKind) -> JobId {
    fixture.world.job_id(kind)
}

type Steps = fn(&Repository, &Fixture) -> BackupSteps;

/// What the state machine does with the steps; the repository is opened anew for each, as on another machine.
async fn run_backup(fixture: &Fixture, steps: Steps, job: &JobId) -> Result<Manifest> {
    let chunks = steps(&fixture.open().await, fixture).plan(job).await?.chunks;
    for chunk in 0..chunks {
        let mut sequence = 0;
        loop {
            let done = steps(&fixture.open().await, fixture).chunk(job, chunk, sequence).await?;
            assert_eq!(done.sequence, sequence + 1);
            if done.done {
                break;
            }
            sequence = done.sequence;
        }
    }
    steps(&fixture.open().await, fixture).finalize(job).await
}

#[tokio::test]
async fn a_backup_in_steps_is_that_of_one_go() {
    for (documents, steps, fewest) in [(120, steps as Steps, 8), (2100, long_steps, 2)] {
        is_that_of_one_go(documents, steps, fewest).await;
    }
}

async fn is_that_of_one_go(documents: usize, steps: Steps, fewest: u32) {
    let (fixture, repository) = Fixture::new(documents).await;
    let job = job(&fixture, JobKind::Backup);
    let chunks = steps(&repository, &fixture).plan(&job).await.unwrap().chunks;
    assert!(chunks >= fewest, "{chunks} chunks");
    let manifest = run_backup(&fixture, steps, &job).await.unwrap();
    assert_eq!((&manifest.id, manifest.totals.documents), (&job, documents as u64));
    assert!(fewest == 8 || manifest.runs.len() >= 2 * chunks as usize, "no chunk took more than one step");
    let in_one_go = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    assert_eq!(in_one_go.collections, manifest.collections);
    all_whole(&repository).await;
    assert!(
        fixture
            .objects()
            .await
            .iter()
            .all(|object| !object.starts_with("receipts/") && !object.starts_with("intents/"))
    );
    assert_eq!(steps(&repository, &fixture).finalize(&job).await.unwrap(), manifest, "done again it is the same");
}

#[tokio::test]
async fn every_step_can_be_done_twice_and_by_two_at_once() {
    let (fixture, repository) = Fixture::new(2100).await;
    let job = job(&fixture, JobKind::Backup);
    let here = long_steps(&repository, &fixture);
    let there = long_steps(&fixture.open().await, &fixture);
    let (a, b) = tokio::join!(here.plan(&job), there.plan(&job));
    let planned = a.unwrap();
    assert_eq!((&b.unwrap(), &here.plan(&job).await.unwrap()), (&planned, &planned));
    let chunks = planned.chunks;
    let (mut documents, mut done) = (0, 0);
    for chunk in 0..chunks {
        let mut sequence = 0;
        loop {
            let (a, b) = tokio::join!(here.chunk(&job, chunk, sequence), there.chunk(&job, chunk, sequence));
            let (a, b) = (a.unwrap(), b.unwrap());
            assert!(a.is_first != b.is_first, "one of them does it: {a:?} {b:?}");
            assert_eq!((a.sequence, a.done, a.documents), (b.sequence, b.done, b.documents));
            let again = here.chunk(&job, chunk, sequence).await.unwrap();
            assert_eq!((again.is_first, again.sequence, again.done), (false, a.sequence, a.done));
            documents += a.documents;
            done += 1;
            if a.done {
                break;
            }
            sequence = a.sequence;
        }
    }
    assert_eq!(documents, 2100);
    let (a, b) = tokio::join!(here.finalize(&job), there.finalize(&job));
    assert_eq!(a.unwrap().totals, b.unwrap().totals);
    assert!(all_whole(&repository).await.len() == 1 && done >= 2 * chunks, "{done} steps of {chunks} chunks");
}

#[tokio::test]
async fn a_step_that_nothing_leads_to_is_refused() {
    let (fixture, repository) = Fixture::new(60).await;
    let steps = steps(&repository, &fixture);
    let job = job(&fixture, JobKind::Backup);
    assert!(matches!(steps.chunk(&job, 0, 0).await, Err(EngineError::Incomplete { .. })), "it was not planned");
    let chunks = steps.plan(&job).await.unwrap().chunks;
    assert!(matches!(steps.chunk(&job, 0, 1).await, Err(EngineError::Incomplete { .. })));
    assert!(matches!(steps.chunk(&job, chunks, 0).await, Err(EngineError::Refused(_))));
    assert!(matches!(steps.finalize(&job).await, Err(EngineError::Incomplete { .. })));
    assert!(all_whole(&repository).await.is_empty());
}

#[tokio::test]
async fn a_job_that_was_given_up_leaves_nothing_and_a_late_step_changes_nothing() {
    let (fixture, repository) = Fixture::new(60).await;
    let steps = steps(&repository, &fixture);
    let job = job(&fixture, JobKind::Backup);
    steps.plan(&job).await.unwrap();
    steps.chunk(&job, 0, 0).await.unwrap();
    assert_eq!(BackupSteps::give_up(&repository, &job).await.unwrap(), None);
    assert!(matches!(steps.chunk(&job, 0, 1).await, Err(EngineError::Incomplete { .. })));
    assert!(matches!(steps.finalize(&job).await, Err(EngineError::Incomplete { .. })));
    prune(&repository, &PrunePolicy { exclusive: true, ..PrunePolicy::default() }).await.unwrap();
    let left: Vec<_> = fixture.objects().await.into_iter().filter(|object| !object.starts_with("keys/")).collect();
    assert_eq!(left, ["firebackup.json"]);
}

#[tokio::test]
async fn a_job_that_was_committed_cannot_be_given_up() {
    let (fixture, repository) = Fixture::new(60).await;
    let job = job(&fixture, JobKind::Backup);
    let manifest = run_backup(&fixture, steps, &job).await.unwrap();
    assert_eq!(BackupSteps::give_up(&repository, &job).await.unwrap(), Some(manifest));
    assert_eq!(all_whole(&repository).await.len(), 1);
}

#[tokio::test]
async fn a_job_that_waited_too_long_is_refused() {
    let (fixture, repository) = Fixture::new(10).await;
    let job = job(&fixture, JobKind::Backup);
    fixture.clock.pass_hours(13);
    assert!(matches!(steps(&repository, &fixture).plan(&job).await, Err(EngineError::Incomplete { .. })));
}

/// Firestore's pace decides how long a restore takes: a billion documents are more than a day.
#[tokio::test]
async fn a_restore_goes_on_for_six_days_and_no_longer() {
    let (fixture, repository) = Fixture::new(30).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    fixture.database.set("users/u00000", 99);
    let steps = restoring(&repository, &snapshot, fixture.target(), RestoreOptions::default());
    let job = job(&fixture, JobKind::Restore);
    assert!(steps.plan(&job).await.unwrap() > 1);
    fixture.clock.pass_hours(6 * 24 - 1);
    prune(&repository, &PrunePolicy { keep_last: Some(1), ..PrunePolicy::default() }).await.unwrap();
    assert!(steps.part(&job, 0, 0).await.unwrap().done, "what it needs is pinned");
    fixture.clock.pass_hours(2);
    assert!(matches!(steps.part(&job, 1, 0).await, Err(EngineError::Incomplete { .. })));
    RestoreSteps::give_up(&repository, &job).await.unwrap();
    assert_eq!(all_whole(&repository).await.len(), 2, "what it had replaced is an undo");
}

#[tokio::test]
async fn a_selection_that_fits_nothing_commits_nothing() {
    let (fixture, repository) = Fixture::new(10).await;
    let selection = firebackup_model::Selection { include: vec!["nobody".to_owned()], ..Default::default() };
    let steps = backup(&repository, &fixture.database).selection(selection).chunk_documents(10).steps();
    let job = job(&fixture, JobKind::Backup);
    let chunks = steps.plan(&job).await.unwrap().chunks;
    for chunk in 0..chunks {
        assert!(steps.chunk(&job, chunk, 0).await.unwrap().done);
    }
    assert!(matches!(steps.finalize(&job).await, Err(EngineError::NotFound(_))));
    assert_eq!(BackupSteps::give_up(&repository, &job).await.unwrap(), None);
    assert!(all_whole(&repository).await.is_empty());
}

#[tokio::test]
async fn each_step_of_a_backup_killed_at_any_operation_and_tried_again_makes_one_whole_backup() {
    for lost_answers in [false, true] {
        let (fixture, _) = Fixture::new(40).await;
        let job = job(&fixture, JobKind::Backup);
        let dying = |operations| {
            let (store, fuse) = (fixture.store.clone(), Fuse::new(operations));
            let store: Arc<dyn ObjectStore> = Arc::new(DyingStore::new(store, fuse, lost_answers));
            store
        };
        let mut kills = 0;
        let mut planned = None;
        // each try dies one operation later, until one lives
        for operations in 1.. {
            let Ok(repository) = fixture.open_on(dying(operations)).await else { continue };
            if let Ok(done) = steps(&repository, &fixture).plan(&job).await {
                planned = Some(done.chunks);
                break;
            }
            kills += 1;
        }
        for chunk in 0..planned.unwrap() {
            let (mut sequence, mut operations) = (0, 1);
            loop {
                let done = match fixture.open_on(dying(operations)).await {
                    Ok(repository) => steps(&repository, &fixture).chunk(&job, chunk, sequence).await.ok(),
                    Err(_) => None,
                };
                match done {
                    Some(done) if done.done => break,
                    Some(done) => (sequence, operations) = (done.sequence, 1),
                    None => (kills, operations) = (kills + 1, operations + 1),
                }
            }
        }
        for operations in 1.. {
            let Ok(repository) = fixture.open_on(dying(operations)).await else { continue };
            if let Ok(manifest) = steps(&repository, &fixture).finalize(&job).await {
                assert_eq!((manifest.id, manifest.totals.documents), (job.clone(), 40));
                break;
            }
            kills += 1;
            // nothing half done is listed
            all_whole(&fixture.open().await).await;
        }
        let manifests = all_whole(&fixture.open().await).await;
        assert!(manifests.len() == 1 && kills > 50, "{kills} kills");
    }
}

pub fn restoring(repository: &Repository, snapshot: &SnapshotId, to: Target, options: RestoreOptions) -> RestoreSteps {
    RestoreSteps {
        restore: restore(repository, snapshot, to, options),
        users: None,
        dry_run: false,
        part_documents: 10,
        step_time: Duration::from_secs(60),
        samples: 5,
    }
}

async fn run_restore(steps: &RestoreSteps, job: &JobId) -> Result<RestoreOutcome> {
    for part in 0..steps.plan(job).await? {
        let mut sequence = 0;
        loop {
            let done = steps.part(job, part, sequence).await?;
            if done.done {
                break;
            }
            sequence = done.sequence;
        }
    }
    let outcome = steps.finalize(job).await?;
    steps.clear(job).await?;
    Ok(outcome)
}

/// A backup, and a database that has changed since.
async fn changed() -> (Fixture, Repository, SnapshotId) {
    let (fixture, repository) = Fixture::new(90).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    for n in 0..20 {
        fixture.database.set(&format!("users/u{:05}", n * 4), -n - 1);
        fixture.database.set(&format!("users/added{n}"), n);
    }
    fixture.database.remove("zoo/ü3");
    (fixture, repository, snapshot)
}

fn mirror() -> RestoreOptions {
    RestoreOptions { mode: RestoreMode::Mirror, ..RestoreOptions::default() }
}

#[tokio::test]
async fn a_restore_in_steps_of_any_length_gives_back_everything_and_can_be_undone() {
    for step_time in [Duration::ZERO, Duration::from_secs(60)] {
        let (fixture, repository, snapshot) = changed().await;
        let before = contents(&fixture.database);
        let mut steps = restoring(&repository, &snapshot, fixture.target(), mirror());
        steps.step_time = step_time;
        let job = job(&fixture, JobKind::Restore);
        assert!(steps.plan(&job).await.unwrap() > 4);
        let outcome = run_restore(&steps, &job).await.unwrap();
        let RestoreOutcome::Restored { report, .. } = outcome else { panic!("{outcome:?}") };
        let tally = &report.tally;
        assert_eq!((tally.written, tally.deleted, tally.same, tally.failed), (21, 20, 69, 0), "{step_time:?}");
        let elsewhere = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
        restore(&repository, &snapshot, target(&elsewhere), RestoreOptions::default()).run().await.unwrap();
        assert_eq!(contents(&fixture.database), contents(&elsewhere));
        let undoing = restoring(&repository, &job, fixture.target(), RestoreOptions::default());
        run_restore(&undoing, &fixture.world.job_id(JobKind::Restore)).await.unwrap();
        assert_eq!(contents(&fixture.database), before);
        assert!(fixture.objects().await.iter().all(|object| !object.starts_with("receipts/")));
    }
}

#[tokio::test]
async fn a_dry_run_in_steps_says_what_one_in_one_go_says_and_changes_nothing() {
    for step_time in [Duration::ZERO, Duration::from_secs(60)] {
        let (fixture, repository, snapshot) = changed().await;
        let before = contents(&fixture.database);
        let mut steps = restoring(&repository, &snapshot, fixture.target(), mirror());
        (steps.dry_run, steps.step_time) = (true, step_time);
        let outcome = run_restore(&steps, &job(&fixture, JobKind::Restore)).await.unwrap();
        let RestoreOutcome::DryRun(dry_run) = outcome else { panic!("{outcome:?}") };
        let in_one_go = restore(&repository, &snapshot, fixture.target(), mirror()).dry_run(5).await.unwrap();
        assert_eq!(dry_run.difference, in_one_go.difference);
        assert_eq!(contents(&fixture.database), before);
        assert!(repository.snapshot_ids().await.unwrap().len() == 1);
    }
}

#[tokio::test]
async fn a_restore_with_renames_in_steps_moves_and_mirrors_what_one_in_one_go_does() {
    for step_time in [Duration::ZERO, Duration::from_secs(60)] {
        let (_, repository, snapshot) = changed().await;
        let renames = vec![("users".to_owned(), "people".to_owned()), ("zoo".to_owned(), "ark/old/animals".to_owned())];
        let options = RestoreOptions { renames, ..mirror() };
        let databases = [(); 2].map(|()| {
            let database = MemoryDatabase::new(DatabaseName::new("q", "copy"));
            for path in ["people/extra", "people/u00004", "people/zz/orders/1", "ark/old/animals/x", "ark/old", "a/b"] {
                database.set(path, 99);
            }
            database
        });
        let mut steps = restoring(&repository, &snapshot, target(&databases[0]), options.clone());
        steps.step_time = step_time;
        let job = repository.world().job_id(JobKind::Restore);
        let outcome = run_restore(&steps, &job).await.unwrap();
        let RestoreOutcome::Restored { report, .. } = outcome else { panic!("{outcome:?}") };
        let in_one_go = restore(&repository, &snapshot, target(&databases[1]), options).run().await.unwrap();
        assert_eq!(report.tally, in_one_go.tally);
        assert!(report.tally.deleted >= 4 && report.tally.written > 80, "{report:?}");
        assert_eq!(contents(&databases[0]), contents(&databases[1]));
    }
}

#[tokio::test]
async fn each_step_of_a_restore_killed_at_any_operation_completes_and_its_undo_gives_back_the_state_before() {
    let (fixture, _, snapshot) = changed().await;
    let before = contents(&fixture.database);
    let job = job(&fixture, JobKind::Restore);
    let mut kills = 0;
    let mut steps_left = vec![None];
    // every step dies one operation later at each try, until one lives; the answer is lost at every other
    while let Some(step) = steps_left.pop() {
        for operations in (1..).step_by(2) {
            let store = DyingStore::new(fixture.store.clone(), Fuse::new(operations), operations % 4 < 2);
            let Ok(repository) = fixture.open_on(Arc::new(store)).await else { continue };
            let mut steps = restoring(&repository, &snapshot, fixture.target(), mirror());
            steps.part_documents = 30;
            let lived = match step {
                None => steps.plan(&job).await.map(|parts| steps_left = (0..parts).map(Some).collect()),
                Some(part) => steps.part(&job, part, 0).await.map(|done| assert!(done.done)),
            };
            if lived.is_ok() {
                break;
            }
            kills += 1;
        }
    }
    for operations in (1..).step_by(3) {
        let store = DyingStore::new(fixture.store.clone(), Fuse::new(operations), operations % 4 < 2);
        let Ok(repository) = fixture.open_on(Arc::new(store)).await else { continue };
        if restoring(&repository, &snapshot, fixture.target(), mirror()).finalize(&job).await.is_ok() {
            break;
        }
        kills += 1;
    }
    assert!(kills > 30, "{kills} kills");
    let repository = fixture.open().await;
    restoring(&repository, &snapshot, fixture.target(), mirror()).clear(&job).await.unwrap();
    let elsewhere = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
    restore(&repository, &snapshot, target(&elsewhere), RestoreOptions::default()).run().await.unwrap();
    assert_eq!(contents(&fixture.database), contents(&elsewhere));
    restore(&repository, &job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!(contents(&fixture.database), before);
}

#[tokio::test]
async fn a_restore_that_was_given_up_keeps_an_undo_of_what_it_did() {
    let (fixture, repository, snapshot) = changed().await;
    let before = contents(&fixture.database);
    let steps = restoring(&repository, &snapshot, fixture.target(), mirror());
    let job = job(&fixture, JobKind::Restore);
    let parts = steps.plan(&job).await.unwrap();
    for part in (0..parts).step_by(2) {
        steps.part(&job, part, 0).await.unwrap();
    }
    assert_ne!(contents(&fixture.database), before);
    assert!(matches!(steps.finalize(&job).await, Err(EngineError::Incomplete { .. })), "parts are missing");
    assert!(RestoreSteps::give_up(&repository, &job).await.unwrap());
    assert!(RestoreSteps::give_up(&repository, &job).await.unwrap(), "giving up twice is giving up once");
    assert!(steps.part(&job, 1, 0).await.is_err(), "a late step writes nothing");
    restore(&repository, &job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!(contents(&fixture.database), before);
}

#[tokio::test]
async fn parts_of_a_restore_done_at_once_by_many_keep_one_undo() {
    let (fixture, repository, snapshot) = changed().await;
    let before = contents(&fixture.database);
    let steps = Arc::new(restoring(&repository, &snapshot, fixture.target(), mirror()));
    let job = job(&fixture, JobKind::Restore);
    let parts = steps.plan(&job).await.unwrap();
    let running = (0..parts).flat_map(|part| [part, part]).map(|part| {
        let (steps, job) = (Arc::clone(&steps), job.clone());
        tokio::spawn(async move { steps.part(&job, part, 0).await })
    });
    for done in futures::future::join_all(running).await {
        assert!(done.unwrap().unwrap().done);
    }
    let outcome = steps.finalize(&job).await.unwrap();
    let RestoreOutcome::Restored { report, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(report.tally.failed, 0);
    steps.clear(&job).await.unwrap();
    restore(&repository, &job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!(contents(&fixture.database), before);
}
