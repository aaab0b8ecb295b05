//! Backups that keep only what changed, or are merged, in steps: killed at every operation, done twice and at once, while segments
//! are merged and pruned beside them.

use std::sync::Arc;
use std::time::Duration;

use firebackup_engine::{
    BackupBuilder, BackupSteps, EngineError, PrunePolicy, Repository, Resume, captured_since, merging, prune,
};
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::manifest::{Manifest, SnapshotKind};
use firebackup_model::port::DocumentSource;
use firebackup_model::{DatabaseName, Selection};
use object_store::ObjectStore;

use super::increments::is_right;
use super::{all_moments_are_right, begun, capture, compaction, until_now};
use crate::faults::{DyingStore, Fuse};
use crate::fixture::{Fixture, all_whole, backup};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Captured,
    Scanned,
    Merged,
}

const KINDS: [Kind; 3] = [Kind::Captured, Kind::Scanned, Kind::Merged];

impl Kind {
    /// Steps of chunks that take more than one step each.
    fn steps(self, repository: &Repository, fixture: &Fixture) -> BackupSteps {
        let builder = match self {
            Self::Captured | Self::Scanned => backup(repository, &fixture.database).incremental(),
            Self::Merged => merged(repository, fixture),
        };
        builder.compression("zstd:1".parse().unwrap()).block_bytes(2048).chunk_documents(30).steps()
    }

    fn is_made(self, manifest: &Manifest, base: &Manifest) {
        let kind = if self == Self::Merged { SnapshotKind::Synthetic } else { SnapshotKind::Incremental };
        assert_eq!(manifest.kind, kind);
        assert_eq!(manifest.parent.as_ref(), (self != Self::Merged).then_some(&base.id));
        assert_eq!(manifest.reads == 0, self != Self::Scanned, "{self:?}: {} reads", manifest.reads);
        assert_eq!(manifest.parent_changed_until.is_some(), self == Self::Captured);
    }
}

fn name(fixture: &Fixture) -> DatabaseName {
    DocumentSource::database(&fixture.database).clone()
}

fn merged(repository: &Repository, fixture: &Fixture) -> BackupBuilder {
    merging(repository, &name(fixture))
}

async fn change(fixture: &Fixture, repository: &Repository, rounds: std::ops::Range<i64>, is_captured: bool) {
    for round in rounds {
        for n in 0..8 {
            fixture.database.set(&format!("users/u{:05}", 4 * n), 100 * round + n);
            fixture.database.set(&format!("fresh/{round}/below/{n}"), n);
        }
        fixture.database.remove(&format!("zoo/ü{}", 3 + 4 * round));
        fixture.database.remove(&format!("fresh/{}/below/1", round - 1));
        fixture.database.pass_seconds(600);
        if is_captured {
            until_now(&capture(repository, &fixture.database)).await;
        }
    }
}

/// A database that has changed since its backup, which was captured unless everything has to be read.
async fn changed(kind: Kind, documents: usize) -> (Fixture, Repository, Manifest) {
    let (fixture, repository, base) = begun(documents).await;
    change(&fixture, &repository, 0..5, kind != Kind::Scanned).await;
    (fixture, repository, base)
}

fn job(fixture: &Fixture) -> JobId {
    fixture.world.job_id(JobKind::Backup)
}

/// What the state machine does behind the plan; the repository is opened anew for each step, as on another machine.
async fn go_on(fixture: &Fixture, kind: Kind, job: &JobId, chunks: u32) -> firebackup_engine::Result<Manifest> {
    for chunk in 0..chunks {
        let mut sequence = 0;
        loop {
            let done = kind.steps(&fixture.open().await, fixture).chunk(job, chunk, sequence).await?;
            if done.done {
                break;
            }
            sequence = done.sequence;
        }
    }
    kind.steps(&fixture.open().await, fixture).finalize(job).await
}

#[tokio::test]
async fn each_kind_is_what_the_database_was_at_its_read_time() {
    for kind in KINDS {
        let (fixture, repository, base) = changed(kind, 90).await;
        let job = job(&fixture);
        let planned = kind.steps(&repository, &fixture).plan(&job).await.unwrap();
        assert_eq!((planned.chunks > 1, planned.full_because), (true, None), "{kind:?}");
        let manifest = go_on(&fixture, kind, &job, planned.chunks).await.unwrap();
        kind.is_made(&manifest, &base);
        is_right(&repository, &fixture, &manifest).await;
        all_whole(&repository).await;
        let left = fixture.objects().await;
        assert!(left.iter().all(|object| !object.starts_with("receipts/") && !object.starts_with("intents/")));
        assert_eq!(
            kind.steps(&repository, &fixture).finalize(&job).await.unwrap(),
            manifest,
            "done again it is the same"
        );
    }
}

#[tokio::test]
async fn a_step_of_captured_changes_that_has_no_more_time_hands_over() {
    let (fixture, repository, base) = begun(24).await;
    for n in 0..900 {
        fixture.database.set(&format!("users/u{n:05}"), 7);
    }
    until_now(&capture(&repository, &fixture.database)).await;
    let steps = || {
        backup(&repository, &fixture.database).incremental().step_time(Duration::ZERO).chunk_documents(10_000).steps()
    };
    let job = job(&fixture);
    assert_eq!(steps().plan(&job).await.unwrap().chunks, 1);
    let (mut sequence, mut taken) = (0, 0);
    loop {
        let done = steps().chunk(&job, 0, sequence).await.unwrap();
        assert_eq!((done.reads, done.sequence), (0, sequence + 1));
        taken += done.documents;
        if done.done {
            break;
        }
        sequence = done.sequence;
    }
    assert_eq!((sequence, taken), (3, 900));
    let manifest = steps().finalize(&job).await.unwrap();
    assert_eq!((manifest.runs.len(), manifest.parent.as_ref()), (4, Some(&base.id)));
    is_right(&repository, &fixture, &manifest).await;
}

#[tokio::test]
async fn every_step_can_be_done_twice_and_by_two_at_once() {
    for kind in KINDS {
        let (fixture, repository, base) = changed(kind, 90).await;
        let job = job(&fixture);
        let (here, there) = (kind.steps(&repository, &fixture), kind.steps(&fixture.open().await, &fixture));
        let (a, b) = tokio::join!(here.plan(&job), there.plan(&job));
        let planned = a.unwrap();
        assert_eq!((&b.unwrap(), &here.plan(&job).await.unwrap()), (&planned, &planned));
        for chunk in 0..planned.chunks {
            let (a, b) = tokio::join!(here.chunk(&job, chunk, 0), there.chunk(&job, chunk, 0));
            let (a, b) = (a.unwrap(), b.unwrap());
            assert!(a.is_first != b.is_first && a.done && b.done, "{a:?} {b:?}");
        }
        let (a, b) = tokio::join!(here.finalize(&job), there.finalize(&job));
        let manifest = a.unwrap();
        assert_eq!(manifest.runs, b.unwrap().runs, "{kind:?}");
        kind.is_made(&manifest, &base);
        is_right(&repository, &fixture, &manifest).await;
        assert_eq!(all_whole(&repository).await.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn each_step_killed_at_any_operation_and_tried_again_makes_one_whole_backup() {
    for (kind, lost_answers) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let (fixture, _, base) = changed(kind, 60).await;
        let job = job(&fixture);
        let dying = async |operations| {
            let store: Arc<dyn ObjectStore> =
                Arc::new(DyingStore::new(fixture.store.clone(), Fuse::new(operations), lost_answers));
            Some(kind.steps(&fixture.open_on(store).await.ok()?, &fixture))
        };
        let (mut kills, mut planned) = (0, None);
        // each try dies one operation later, until one lives
        for operations in 1.. {
            let Some(steps) = dying(operations).await else { continue };
            if let Ok(done) = steps.plan(&job).await {
                planned = Some(done.chunks);
                break;
            }
            kills += 1;
        }
        for chunk in 0..planned.unwrap() {
            for operations in 1.. {
                let Some(steps) = dying(operations).await else { continue };
                if let Ok(done) = steps.chunk(&job, chunk, 0).await {
                    assert!(done.done);
                    break;
                }
                kills += 1;
            }
        }
        for operations in 1.. {
            let Some(steps) = dying(operations).await else { continue };
            if steps.finalize(&job).await.is_ok() {
                break;
            }
            kills += 1;
            // nothing half done is listed
            all_whole(&fixture.open().await).await;
        }
        let manifests = all_whole(&fixture.open().await).await;
        assert!(manifests.len() == 2 && kills > 50, "{kind:?}: {kills} kills");
        let manifest = manifests.iter().find(|manifest| manifest.id == job).unwrap();
        kind.is_made(manifest, &base);
        is_right(&fixture.open().await, &fixture, manifest).await;
    }
}

#[tokio::test]
async fn segments_that_are_merged_dropped_and_added_meanwhile_change_nothing() {
    for kind in [Kind::Captured, Kind::Merged] {
        let (fixture, repository, base) = changed(kind, 60).await;
        change(&fixture, &repository, 5..16, true).await;
        let job = job(&fixture);
        let chunks = kind.steps(&repository, &fixture).plan(&job).await.unwrap().chunks;
        change(&fixture, &repository, 16..18, true).await;
        assert!(compaction(&repository, &fixture).run().await.unwrap().merged > 0);
        let policy = PrunePolicy { keep_moments_days: 0, ..PrunePolicy::default() };
        assert!(prune(&repository, &policy).await.unwrap().segments_dropped > 0);
        let manifest = go_on(&fixture, kind, &job, chunks).await.unwrap();
        kind.is_made(&manifest, &base);
        is_right(&repository, &fixture, &manifest).await;
        all_moments_are_right(&repository, &fixture.database).await;
    }
}

#[tokio::test]
async fn what_a_job_builds_on_is_pinned_until_it_has_ended() {
    for kind in KINDS {
        let (fixture, repository, base) = changed(kind, 60).await;
        let job = job(&fixture);
        let chunks = kind.steps(&repository, &fixture).plan(&job).await.unwrap().chunks;
        backup(&repository, &fixture.database).build().run().await.unwrap();
        fixture.clock.pass_hours(2);
        let named = PrunePolicy { drop: vec![base.id.clone()], ..PrunePolicy::default() };
        assert!(matches!(prune(&repository, &named).await, Err(EngineError::Refused(_))), "{kind:?}");
        let last = PrunePolicy { keep_last: Some(1), keep_moments_days: 0, ..PrunePolicy::default() };
        assert_eq!(prune(&repository, &last).await.unwrap().dropped, []);
        let manifest = go_on(&fixture, kind, &job, chunks).await.unwrap();
        is_right(&repository, &fixture, &manifest).await;
        all_whole(&repository).await;
    }
}

#[tokio::test]
async fn what_a_dead_job_builds_on_is_given_up_when_it_is_too_old_to_commit_or_no_job_runs() {
    for (hours, exclusive) in [(13, false), (0, true)] {
        let (fixture, repository, base) = changed(Kind::Scanned, 60).await;
        Kind::Scanned.steps(&repository, &fixture).plan(&job(&fixture)).await.unwrap();
        backup(&repository, &fixture.database).build().run().await.unwrap();
        let named = PrunePolicy { drop: vec![base.id.clone()], ..PrunePolicy::default() };
        assert!(matches!(prune(&repository, &named).await, Err(EngineError::Refused(_))));
        fixture.clock.pass_hours(hours);
        let report = prune(&repository, &PrunePolicy { exclusive, ..named }).await.unwrap();
        assert_eq!(report.dropped, [base.id]);
    }
}

#[tokio::test]
async fn what_a_try_has_pinned_that_may_have_died_stays_so_for_the_next_that_builds_on_another() {
    for kind in KINDS {
        let (fixture, repository, base) = changed(kind, 60).await;
        let job = job(&fixture);
        // the plan is the third put: key, intent, plan
        let intents = async || {
            let objects = fixture.objects().await;
            objects.iter().filter(|object| object.starts_with("intents/")).count()
        };
        let mut operations = 1;
        while intents().await == 0 {
            let store = Arc::new(DyingStore::new(fixture.store.clone(), Fuse::new(operations), true));
            if let Ok(dying) = fixture.open_on(store).await {
                assert!(kind.steps(&dying, &fixture).plan(&job).await.is_err());
            }
            operations += 1;
        }
        let newer = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
        change(&fixture, &repository, 6..8, kind != Kind::Scanned).await;
        let chunks = kind.steps(&repository, &fixture).plan(&job).await.unwrap().chunks;
        // of the one that may still put its plan as of this one
        for pinned in [&base, &newer] {
            let named = PrunePolicy { drop: vec![pinned.id.clone()], ..PrunePolicy::default() };
            assert!(matches!(prune(&repository, &named).await, Err(EngineError::Refused(_))), "{kind:?}");
        }
        let manifest = go_on(&fixture, kind, &job, chunks).await.unwrap();
        kind.is_made(&manifest, &newer);
        is_right(&repository, &fixture, &manifest).await;
    }
}

#[tokio::test]
async fn a_job_that_builds_on_what_is_gone_commits_nothing() {
    for kind in KINDS {
        let (fixture, repository, base) = changed(kind, 60).await;
        let job = job(&fixture);
        let chunks = kind.steps(&repository, &fixture).plan(&job).await.unwrap().chunks;
        let manifest = fixture.objects().await.into_iter().find(|object| object.contains(base.id.as_str())).unwrap();
        object_store::ObjectStoreExt::delete(&*fixture.store, &manifest.into()).await.unwrap();
        assert!(go_on(&fixture, kind, &job, chunks).await.is_err(), "{kind:?}");
        assert_eq!(BackupSteps::give_up(&repository, &job).await.unwrap(), None);
        assert!(all_whole(&repository).await.is_empty());
    }
}

#[tokio::test]
async fn why_a_backup_is_full_is_said_again_whatever_is_there_meanwhile() {
    let (fixture, repository) = Fixture::new(60).await;
    let steps = || backup(&repository, &fixture.database).incremental().chunk_documents(10).steps();
    let job = job(&fixture);
    let planned = steps().plan(&job).await.unwrap();
    assert!(planned.full_because.as_ref().unwrap().contains("there is no backup of"), "{planned:?}");
    let another = backup(&repository, &fixture.database).resume(Resume::Never).build();
    another.run().await.unwrap();
    assert_eq!(steps().plan(&job).await.unwrap(), planned);
    for chunk in 0..planned.chunks {
        steps().chunk(&job, chunk, 0).await.unwrap();
    }
    let manifest = steps().finalize(&job).await.unwrap();
    assert_eq!((manifest.kind, manifest.parent, manifest.totals.documents), (SnapshotKind::Full, None, 60));
}

#[tokio::test]
async fn what_was_captured_long_ago_is_no_backup_of_now() {
    let (fixture, repository, base) = changed(Kind::Captured, 24).await;
    // the database is ahead of the clock by what the changes took
    fixture.clock.pass_hours(4);
    fixture.database.set("users/late", 1);
    let job = job(&fixture);
    let chunks = Kind::Scanned.steps(&repository, &fixture).plan(&job).await.unwrap().chunks;
    let manifest = go_on(&fixture, Kind::Scanned, &job, chunks).await.unwrap();
    Kind::Scanned.is_made(&manifest, &base);
    is_right(&repository, &fixture, &manifest).await;
}

#[tokio::test]
async fn a_backup_alone_is_merged_as_long_as_nothing_can_have_changed() {
    let (fixture, repository, base) = begun(60).await;
    assert_eq!(captured_since(&repository, &name(&fixture)).await.unwrap(), None);
    let job = job(&fixture);
    let chunks = Kind::Merged.steps(&repository, &fixture).plan(&job).await.unwrap().chunks;
    let manifest = go_on(&fixture, Kind::Merged, &job, chunks).await.unwrap();
    assert_eq!((manifest.kind, manifest.read_time(), manifest.reads), (SnapshotKind::Synthetic, base.read_time(), 0));
    prune(&repository, &PrunePolicy { drop: vec![base.id], exclusive: true, ..PrunePolicy::default() }).await.unwrap();
    is_right(&repository, &fixture, &manifest).await;
    fixture.clock.pass_hours(2);
    let later = self::job(&fixture);
    let refused = Kind::Merged.steps(&repository, &fixture).plan(&later).await.unwrap_err();
    assert!(refused.to_string().contains("there is nothing to merge"), "{refused}");
}

#[tokio::test]
async fn a_chain_grows_from_the_backup_that_the_newest_moment_stands_on() {
    let (fixture, repository, base) = changed(Kind::Merged, 24).await;
    assert_eq!(captured_since(&repository, &name(&fixture)).await.unwrap(), base.read_time());
    let job = job(&fixture);
    let chunks = Kind::Merged.steps(&repository, &fixture).plan(&job).await.unwrap().chunks;
    let merged = go_on(&fixture, Kind::Merged, &job, chunks).await.unwrap();
    assert_eq!(captured_since(&repository, &name(&fixture)).await.unwrap(), None);
    change(&fixture, &repository, 6..7, true).await;
    assert_eq!(captured_since(&repository, &name(&fixture)).await.unwrap(), merged.read_time());
}

#[tokio::test]
async fn an_increment_of_a_selection_in_which_nothing_changed_or_is_left_is_one() {
    let (fixture, repository) = Fixture::new(24).await;
    let users = Selection { include: vec!["users".to_owned()], subcollections: false, ..Selection::default() };
    backup(&repository, &fixture.database).selection(users.clone()).build().run().await.unwrap();
    for emptied in [false, true] {
        if emptied {
            (0..24).step_by(4).for_each(|n| fixture.database.remove(&format!("users/u{n:05}")));
        }
        let steps = || backup(&repository, &fixture.database).selection(users.clone()).incremental().steps();
        let job = job(&fixture);
        for chunk in 0..steps().plan(&job).await.unwrap().chunks {
            steps().chunk(&job, chunk, 0).await.unwrap();
        }
        let manifest = steps().finalize(&job).await.unwrap();
        assert_eq!(manifest.kind, SnapshotKind::Incremental);
        assert_eq!((manifest.totals.documents, manifest.totals.deletions), (0, if emptied { 6 } else { 0 }));
    }
}

#[tokio::test]
async fn a_moment_that_is_not_chosen_is_no_database() {
    let (fixture, repository, _) = begun(12).await;
    assert!(merged(&repository, &fixture).build().run().await.is_err());
    assert_eq!(all_whole(&repository).await.len(), 1);
    assert!(fixture.objects().await.iter().all(|object| !object.starts_with("intents/")));
}
