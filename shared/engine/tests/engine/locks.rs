//! What is locked stays, and everything that a kept snapshot needs is locked with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firebackup_engine::{PrunePolicy, Repository, RestoreOptions, extend_locks, prune, prune_versions};
use firebackup_model::id::SnapshotId;
use firebackup_model::port::{ObjectVersions, Removal};
use firebackup_model::{ErrorKind, LockMode, LockRule, PortError, Timestamp};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::fixture::{Fixture, all_whole, backup, restore};

pub const RULE: LockRule = LockRule { mode: LockMode::Governance, days: 30 };

/// Locks beside a store in memory.
pub struct Locks {
    store: Arc<dyn ObjectStore>,
    until: Mutex<BTreeMap<String, Timestamp>>,
    /// What cannot be locked.
    refuses: Option<String>,
}

impl Locks {
    pub fn new(fixture: &Fixture) -> Self {
        Self { store: Arc::clone(&fixture.store), until: Mutex::default(), refuses: None }
    }

    pub fn locked(&self) -> Vec<String> {
        self.until.lock().unwrap().keys().cloned().collect()
    }
}

#[async_trait]
impl ObjectVersions for Locks {
    async fn locked_until(&self, path: &str, now: Timestamp) -> Result<Option<Timestamp>, PortError> {
        Ok(self.until.lock().unwrap().get(path).copied().filter(|until| *until > now))
    }

    async fn remove(&self, path: &str, now: Timestamp) -> Result<Removal, PortError> {
        if let Some(until) = self.locked_until(path, now).await? {
            return Ok(Removal::Locked(until));
        }
        let _ = self.store.delete(&Path::from(path)).await;
        Ok(Removal::Removed)
    }

    async fn extend_lock(&self, path: &str, until: Timestamp) -> Result<bool, PortError> {
        if self.refuses.as_deref() == Some(path) || self.store.head(&Path::from(path)).await.is_err() {
            return Err(PortError::new(ErrorKind::NotFound, "lock an object", "there is none"));
        }
        let before = self.until.lock().unwrap().insert(path.to_owned(), until);
        Ok(before != Some(until))
    }
}

#[tokio::test]
async fn all_that_kept_snapshots_need_is_locked_until_one_moment() {
    let (fixture, repository) = Fixture::new(60).await;
    let dropped = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let before = fixture.objects().await;
    let kept = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let locks = Locks::new(&fixture);
    let report = extend_locks(&repository, &locks, RULE, std::slice::from_ref(&dropped), 7).await.unwrap();
    assert_eq!((report.snapshots, report.failed.len(), report.unchanged), (1, 0, 0));
    assert_eq!(report.until, RULE.until(fixture.world.now()));
    assert!(locks.until.lock().unwrap().values().all(|until| *until == report.until));
    let all = fixture.objects().await;
    let of_the_dropped = |path: &&String| before.contains(*path) && !is_shared(path, &repository);
    let expected: Vec<String> = all.iter().filter(|path| !of_the_dropped(path)).cloned().collect();
    assert_eq!(locks.locked(), expected);
    assert!(locks.locked().contains(&format!("snapshots/{kept}.manifest")));

    let again = extend_locks(&repository, &locks, RULE, &[], 7).await.unwrap();
    assert_eq!((again.snapshots, again.unchanged), (2, report.extended));
    assert_eq!(locks.locked(), all.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_restore_replaced_is_not_locked_anew() {
    let (fixture, repository) = Fixture::new(20).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    fixture.database.set("users/u00000", 77);
    restore(&repository, &snapshot, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!(repository.snapshot_ids().await.unwrap().len(), 2);
    let locks = Locks::new(&fixture);
    assert_eq!(extend_locks(&repository, &locks, RULE, &[], 7).await.unwrap().snapshots, 1);
    assert_eq!(locks.locked().iter().filter(|path| path.starts_with("snapshots/")).count(), 1);
}

fn is_shared(path: &str, repository: &Repository) -> bool {
    let root = format!("keys/{}/", repository.config().key.unwrap());
    path == "firebackup.json" || path.starts_with(&root)
}

#[tokio::test]
async fn a_manifest_is_not_locked_without_what_it_needs() {
    let (fixture, repository) = Fixture::new(60).await;
    let one = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let other = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let run = one.runs[0].id.to_string();
    let refuses = Some(format!("runs/{}/{run}.run", &run[..2]));
    let locks = Locks { refuses, ..Locks::new(&fixture) };
    let report = extend_locks(&repository, &locks, RULE, &[], 7).await.unwrap();
    assert_eq!((report.snapshots, report.failed), (1, vec![one.id.clone()]));
    assert!(!locks.locked().contains(&format!("snapshots/{}.manifest", one.id)));
    assert!(locks.locked().contains(&format!("snapshots/{}.manifest", other.id)));
}

#[tokio::test]
async fn a_locked_snapshot_is_dropped_when_its_lock_has_ended() {
    let (fixture, repository) = Fixture::new(60).await;
    let old = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    let locks = Locks::new(&fixture);
    extend_locks(&repository, &locks, RULE, &[], 7).await.unwrap();
    for policy in [
        PrunePolicy { keep_last: Some(1), exclusive: true, ..PrunePolicy::default() },
        PrunePolicy { drop: vec![old.clone()], exclusive: true, ..PrunePolicy::default() },
    ] {
        let report = prune_versions(&repository, &policy, &locks).await.unwrap();
        assert_eq!((report.dropped.len(), report.deleted, report.kept), (0, 0, 2));
        assert_eq!(report.locked, std::slice::from_ref(&old));
        assert_eq!(all_whole(&repository).await.len(), 2);
    }
    fixture.clock.pass_hours(24 * 38);
    let policy = PrunePolicy { drop: vec![old.clone()], exclusive: true, ..PrunePolicy::default() };
    let report = prune_versions(&repository, &policy, &locks).await.unwrap();
    assert_eq!((report.dropped, report.locked.len()), (vec![old], 0));
    assert!(report.deleted >= 1);
    assert_eq!(all_whole(&repository).await.len(), 1);
}

#[tokio::test]
async fn a_locked_object_that_nothing_needs_stays_and_is_told() {
    let (fixture, repository) = Fixture::new(60).await;
    let old = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    let locks = Locks::new(&fixture);
    let run = old.runs[0].id.to_string();
    let path = format!("runs/{}/{run}.run", &run[..2]);
    locks.extend_lock(&path, fixture.world.now().plus_seconds(3600)).await.unwrap();
    let policy = PrunePolicy { drop: vec![old.id.clone()], exclusive: true, ..PrunePolicy::default() };
    let report = prune_versions(&repository, &policy, &locks).await.unwrap();
    assert_eq!((report.dropped.len(), report.locked_objects), (1, 1));
    assert!(fixture.objects().await.contains(&path));
    fixture.clock.pass_hours(2);
    let policy = PrunePolicy { exclusive: true, ..PrunePolicy::default() };
    assert_eq!(prune_versions(&repository, &policy, &locks).await.unwrap().deleted, 1);
    assert!(!fixture.objects().await.contains(&path));
}

/// Locks that are put on between a look and a removal.
struct LockedInBetween(Locks);

#[async_trait]
impl ObjectVersions for LockedInBetween {
    async fn locked_until(&self, _: &str, _: Timestamp) -> Result<Option<Timestamp>, PortError> {
        Ok(None)
    }

    async fn remove(&self, path: &str, now: Timestamp) -> Result<Removal, PortError> {
        self.0.remove(path, now).await
    }

    async fn extend_lock(&self, path: &str, until: Timestamp) -> Result<bool, PortError> {
        self.0.extend_lock(path, until).await
    }
}

#[tokio::test]
async fn a_snapshot_that_is_locked_while_it_is_dropped_is_told_as_locked_and_stays_whole() {
    let (fixture, repository) = Fixture::new(60).await;
    let old = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let other = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let locks = LockedInBetween(Locks::new(&fixture));
    let manifest = format!("snapshots/{old}.manifest");
    locks.extend_lock(&manifest, fixture.world.now().plus_seconds(3600)).await.unwrap();
    let policy = PrunePolicy { drop: vec![old.clone(), other.clone()], exclusive: true, ..PrunePolicy::default() };
    let report = prune_versions(&repository, &policy, &locks).await.unwrap();
    assert_eq!((report.dropped, report.locked, report.kept, report.deleted), (vec![other], vec![old], 1, 0));
    assert_eq!(all_whole(&repository).await.len(), 1, "nothing of it was taken away");
    let policy = PrunePolicy { exclusive: true, ..PrunePolicy::default() };
    assert!(prune_versions(&repository, &policy, &locks).await.unwrap().deleted > 0, "the next one goes on");
    assert_eq!(all_whole(&repository).await.len(), 1);
}

/// A repository with segments that are merged, in a bucket that locks.
async fn merged_and_locked() -> (Fixture, Repository, Locks) {
    let (fixture, repository, _) = crate::capture::begun(24).await;
    for round in 0..12 {
        fixture.database.set("users/u00000", round);
        crate::capture::until_now(&crate::capture::capture(&repository, &fixture.database)).await;
    }
    let locks = Locks::new(&fixture);
    extend_locks(&repository, &locks, RULE, &[], 7).await.unwrap();
    assert_eq!(crate::capture::compaction(&repository, &fixture).run().await.unwrap().made, 1);
    (fixture, repository, locks)
}

#[tokio::test]
async fn segments_that_are_locked_stay_with_all_that_they_need_and_keep_nothing_else_from_going() {
    let (fixture, repository, locks) = merged_and_locked().await;
    let before = fixture.objects().await;
    fixture.store.put(&Path::from("runs/ab/orphan.run"), "x".into()).await.unwrap();
    let policy = PrunePolicy { exclusive: true, ..PrunePolicy::default() };
    let report = prune_versions(&repository, &policy, &locks).await.unwrap();
    assert_eq!((report.segments_dropped, report.deleted), (0, 1), "{report:?}");
    assert_eq!(fixture.objects().await, before);
    // once their locks have ended, what was merged goes
    fixture.clock.pass_hours(24 * 400);
    let report = prune_versions(&repository, &policy, &locks).await.unwrap();
    assert_eq!(report.segments_dropped, 9, "what says where the chain begins, too: {report:?}");
    crate::capture::all_moments_are_right(&repository, &fixture.database).await;
}

#[tokio::test]
async fn captured_changes_are_locked_as_long_as_what_builds_on_them() {
    let (fixture, repository, locks) = merged_and_locked().await;
    let report = extend_locks(&repository, &locks, RULE, &[], 7).await.unwrap();
    // where it begins, one that was merged from eight, and four
    assert_eq!((report.segments, report.failed_segments), (6, 0));
    let segments: Vec<String> =
        fixture.objects().await.into_iter().filter(|path| path.starts_with("segments/")).collect();
    assert!(segments.iter().all(|path| locks.locked().contains(path)), "{segments:?}");
}

#[tokio::test]
async fn what_takes_single_names_away_drops_no_segment() {
    let (fixture, repository, _) = merged_and_locked().await;
    let before = fixture.objects().await;
    let only = before.iter().filter(|path| path.starts_with("runs/")).cloned().collect();
    let policy = PrunePolicy { only: Some(only), exclusive: true, ..PrunePolicy::default() };
    let report = prune(&repository, &policy).await.unwrap();
    assert_eq!((report.segments_dropped, report.deleted), (0, 0), "{report:?}");
    assert_eq!(fixture.objects().await, before);
}

#[tokio::test]
async fn what_a_locked_incremental_backup_builds_on_stays_with_it() {
    let (fixture, repository, full) = crate::capture::begun(24).await;
    fixture.database.set("users/u00000", 1);
    let (_, child) = crate::capture::back_up(&repository, &fixture).await.unwrap();
    backup(&repository, &fixture.database).build().run().await.unwrap();
    let policy = PrunePolicy { keep_last: Some(1), exclusive: true, ..PrunePolicy::default() };
    let manifest = format!("snapshots/{}.manifest", child.id);
    // locked before it is looked at, and in between
    let locks = Locks::new(&fixture);
    locks.extend_lock(&manifest, fixture.world.now().plus_seconds(3600)).await.unwrap();
    let report = prune_versions(&repository, &policy, &locks).await.unwrap();
    assert_eq!((report.dropped.len(), &report.locked), (0, &vec![child.id.clone()]), "{report:?}");
    let report = prune_versions(&repository, &policy, &LockedInBetween(locks)).await.unwrap();
    assert_eq!((report.dropped.len(), report.locked.len()), (0, 2), "{report:?}");
    assert!(all_whole(&repository).await.iter().any(|one| one.id == full.id));
}

#[tokio::test]
async fn what_moments_build_on_is_locked_anew_also_when_it_is_to_go() {
    let (fixture, repository, base) = crate::capture::begun(24).await;
    let mut going = vec![base.id.clone()];
    for round in 0..4 {
        fixture.database.set("users/u00000", round);
        crate::capture::until_now(&crate::capture::capture(&repository, &fixture.database)).await;
        if round == 1 {
            going.push(backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id);
        }
    }
    let kept = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let locks = Locks::new(&fixture);
    let report = extend_locks(&repository, &locks, RULE, &going, 7).await.unwrap();
    // four, and what says where they begin
    assert_eq!((report.snapshots, report.failed.len(), report.segments), (2, 0, 5), "{report:?}");
    let locked = locks.locked();
    let is_locked = |id: &SnapshotId| locked.contains(&format!("snapshots/{id}.manifest"));
    assert!(is_locked(&base.id) && is_locked(&kept.id) && !is_locked(&going[1]), "{locked:?}");
    for run in base.all_runs().map(|run| run.id.to_string()) {
        assert!(locked.contains(&format!("runs/{}/{run}.run", &run[..2])), "{run} of {locked:?}");
    }
}

#[tokio::test]
async fn what_a_kept_incremental_backup_builds_on_is_locked_anew_also_when_it_is_to_go() {
    let (fixture, repository, full) = crate::capture::begun(24).await;
    fixture.database.set("users/u00000", 1);
    crate::capture::back_up(&repository, &fixture).await.unwrap();
    let locks = Locks::new(&fixture);
    let report = extend_locks(&repository, &locks, RULE, std::slice::from_ref(&full.id), 7).await.unwrap();
    assert_eq!((report.snapshots, report.failed.len()), (2, 0), "{report:?}");
    assert!(locks.locked().contains(&format!("snapshots/{}.manifest", full.id)));
}
