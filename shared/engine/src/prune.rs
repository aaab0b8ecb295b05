//! Retention, and the removal of what nothing refers to; never in the way of a running job.
//!
//! Dropping a snapshot is deleting its manifest. What nothing refers to any more is marked, and deleted by a later prune,
//! a grace period on, if it is still unreferenced: a job that began before the mark has committed by then, or never may.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use firebackup_codec::object::ObjectType;
use firebackup_model::id::{CaptureId, JobId, JobKind, KeyId, RunId, SnapshotId};
use firebackup_model::job::{Intent, Receipt, UndoReceipt, UsersReceipt};
use firebackup_model::manifest::{Manifest, SnapshotKind};
use firebackup_model::port::{ObjectVersions, Removal};
use firebackup_model::{DatabaseName, Generations, Timestamp};
use object_store::path::Path;
use serde::Serialize;

use crate::chain::Captured;
use crate::error::{EngineError, Result};
use crate::jobs::{UnfinishedJob, read_job};
use crate::layout;
use crate::orphans::check_readable;
use crate::plan::{MAX_JOB_SECONDS, joined};
use crate::prune_lineage::{needed, parent_of, without_parents};
use crate::prune_marks::{Marks, PruneMark};
use crate::prune_proof::Left;
use crate::prune_reported::ReportedKept;
use crate::prune_segments::{MomentsKept, SegmentsKept};
use crate::repository::Repository;

/// How long something stays marked before it is deleted.
pub const GRACE_SECONDS: i64 = 2 * MAX_JOB_SECONDS;
const DAY: i64 = 24 * 3600;

/// What a prune keeps.
#[derive(Debug, Clone)]
pub struct PrunePolicy {
    /// Keep so many of the newest backups of each database and selection.
    pub keep_last: Option<usize>,
    /// Keep backups that are younger than so many days.
    pub keep_days: Option<u32>,
    /// Keep the newest backups of so many days, weeks, months and years, in UTC, of each database and selection. What any of
    /// the three keeps is kept; without any of them, all are.
    pub keep_generations: Generations,
    /// Keep what restores replaced for so many days.
    pub keep_undo_days: u32,
    /// Keep every captured moment of so many days.
    pub keep_moments_days: u32,
    /// Drop these, whatever the rest says and even when they cannot be read.
    pub drop: Vec<SnapshotId>,
    /// No other job runs on this repository: nothing needs to be waited for, and unfinished backups are given up.
    pub exclusive: bool,
    /// Say what would happen, and change nothing.
    pub dry_run: bool,
    /// Drop no snapshot but those of `drop`, and of what nothing refers to mark and delete only the objects of these names.
    pub only: Option<BTreeSet<String>>,
}

impl Default for PrunePolicy {
    fn default() -> Self {
        Self {
            keep_last: None,
            keep_days: None,
            keep_generations: Generations::default(),
            keep_undo_days: 7,
            keep_moments_days: 7,
            drop: Vec::new(),
            exclusive: false,
            dry_run: false,
            only: None,
        }
    }
}

/// What a prune did, or with `dry_run` would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// Snapshots dropped.
    pub dropped: Vec<SnapshotId>,
    /// Snapshots kept.
    pub kept: u64,
    /// Unfinished jobs given up.
    pub abandoned: Vec<JobId>,
    /// Objects newly marked, and their bytes.
    pub marked: u64,
    /// Bytes of the objects newly marked.
    pub marked_bytes: u64,
    /// Objects deleted.
    pub deleted: u64,
    /// Bytes of the objects deleted.
    pub deleted_bytes: u64,
    /// Snapshots that were to be dropped and are kept, because they are locked.
    pub locked: Vec<SnapshotId>,
    /// Objects that were to be deleted and are still there, because they are locked.
    pub locked_objects: u64,
    /// Snapshots that were named to be dropped and are kept, because captured moments that are kept build on them.
    pub needed: Vec<SnapshotId>,
    /// Segments of captured changes dropped.
    pub segments_dropped: u64,
    /// Segments of captured changes kept.
    pub segments_kept: u64,
    /// Of each database that has captured moments, the oldest of them, before and after.
    pub moments: Vec<MomentsKept>,
    /// Manifests of reported versions dropped.
    pub reported_dropped: u64,
    /// Manifests of reported versions kept.
    pub reported_kept: u64,
    /// Reports of drills deleted: older than 400 days, and of each database not among the newest hundred.
    pub drills_deleted: u64,
}

/// Applies a policy to a repository.
///
/// # Errors
/// When anything that may refer to something cannot be read, or something that is kept would lose what it needs: then nothing is
/// deleted.
pub async fn prune(repository: &Repository, policy: &PrunePolicy) -> Result<PruneReport> {
    Pruning { repository, policy, versions: None }.run().await
}

/// The same in a bucket that keeps versions: what goes, goes in all its versions, and what is locked stays, a locked
/// snapshot with all that it needs.
///
/// # Errors
/// As [`prune`].
pub async fn prune_versions(
    repository: &Repository,
    policy: &PrunePolicy,
    versions: &dyn ObjectVersions,
) -> Result<PruneReport> {
    Pruning { repository, policy, versions: Some(versions) }.run().await
}

/// The snapshots that captured moments will build on next, once those that they build on now lie far enough before all that are
/// kept for `moments_days`. A policy that would drop one leaves it until then, so that what is kept moves on; `going` are those that
/// are dropped by name.
///
/// # Errors
/// When the store fails, or a manifest cannot be read.
pub async fn next_bases(
    repository: &Repository,
    going: &[SnapshotId],
    moments_days: u32,
) -> Result<BTreeSet<SnapshotId>> {
    let captures = repository.all_captures().await?;
    if captures.is_empty() {
        return Ok(BTreeSet::new());
    }
    let here = repository.snapshot_ids().await?;
    let going: Vec<_> = here.into_iter().filter(|id| going.contains(id)).collect();
    let manifests = manifests(repository, &going).await?;
    let named = readable(repository, &going).await?;
    let policy = PrunePolicy { keep_moments_days: moments_days, ..PrunePolicy::default() };
    let since = moments_since(&policy, repository.world().now());
    Ok(SegmentsKept::decide(&captures, &manifests, &named, since).next_bases)
}

pub(crate) struct Pruning<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) policy: &'a PrunePolicy,
    /// Where the bucket keeps versions.
    pub(crate) versions: Option<&'a dyn ObjectVersions>,
}

impl Pruning<'_> {
    async fn run(&self) -> Result<PruneReport> {
        let Self { repository, policy, .. } = *self;
        check_readable(repository)?;
        let view = View::read(self).await?;
        let marks = Marks::read(repository).await?;
        let mut report = PruneReport {
            dropped: view.dropped.clone(),
            kept: view.kept.len() as u64,
            abandoned: view.abandoned.clone(),
            locked: view.locked.clone(),
            needed: view.needed.clone(),
            segments_dropped: view.segments.dropped.len() as u64,
            segments_kept: view.segments.kept.len() as u64,
            moments: view.moments.clone(),
            reported_dropped: view.reported.dropped.len() as u64,
            reported_kept: view.reported.kept.len() as u64,
            ..PruneReport::default()
        };
        if !policy.dry_run {
            self.drop_segments(&view.segments.dropped, &mut report).await?;
            self.drop_reported(&view.reported.dropped, &mut report).await?;
            self.drop_snapshots(&view.parents, &mut report).await?;
        }
        if policy.only.is_none() {
            self.delete_drills(&mut report).await?;
        }
        if !policy.dry_run {
            let segments_stay = report.segments_dropped < view.segments.dropped.len() as u64
                || report.reported_dropped < view.reported.dropped.len() as u64;
            if segments_stay || report.locked.len() > view.locked.len() {
                // what they need counts as garbage in this view
                return Ok(report);
            }
        }
        let mut garbage = view.garbage(repository).await?;
        garbage.retain(|(path, _)| policy.only.as_ref().is_none_or(|only| only.contains(path.as_ref())));
        if policy.exclusive {
            self.delete(&garbage, |_| true, &mut report).await?;
            if !policy.dry_run && policy.only.is_none() {
                self.remove_marks(marks.all()).await?;
            }
        } else {
            self.mark_and_sweep(&garbage, marks, &mut report).await?;
        }
        Ok(report)
    }

    /// Removes the manifests of segments, of each chain the oldest first: what is left is a chain still. At one that was locked
    /// anew since it was looked at it ends.
    async fn drop_segments(&self, dropped: &[Path], report: &mut PruneReport) -> Result<()> {
        let mut gone = 0;
        for path in dropped {
            if !self.remove(path).await? {
                break;
            }
            gone += 1;
        }
        report.segments_kept += report.segments_dropped - gone;
        report.segments_dropped = gone;
        Ok(())
    }

    /// Removes manifests of reported versions, each for itself; what was locked anew since it was looked at stays.
    async fn drop_reported(&self, dropped: &[Path], report: &mut PruneReport) -> Result<()> {
        for path in dropped {
            if !self.remove(path).await? {
                report.reported_dropped -= 1;
                report.reported_kept += 1;
            }
        }
        Ok(())
    }

    /// Keeps what is locked of the segments that were to be dropped, with all that it needs; with single names all of it.
    async fn keep_locked(&self, segments: &mut SegmentsKept) -> Result<()> {
        for path in std::mem::take(&mut segments.dropped) {
            if self.policy.only.is_none() && !self.is_locked(&path).await? {
                segments.dropped.push(path);
                continue;
            }
            let found = self.repository.get_sealed(ObjectType::Manifest, &path).await?;
            segments.kept.extend(found.map(|(segment, _)| segment));
        }
        Ok(())
    }

    /// The same of reported versions.
    async fn keep_locked_reports(&self, reported: &mut ReportedKept) -> Result<()> {
        for path in std::mem::take(&mut reported.dropped) {
            if self.policy.only.is_none() && !self.is_locked(&path).await? {
                reported.dropped.push(path);
                continue;
            }
            let found = self.repository.get_sealed(ObjectType::Reported, &path).await?;
            reported.kept.extend(found.map(|(manifest, _)| manifest));
        }
        Ok(())
    }

    /// Deletes reports of drills that are kept no longer. Nothing refers to them.
    async fn delete_drills(&self, report: &mut PruneReport) -> Result<()> {
        for path in self.repository.old_drills(self.repository.world().now()).await? {
            let is_gone = if self.policy.dry_run { !self.is_locked(&path).await? } else { self.remove(&path).await? };
            report.drills_deleted += u64::from(is_gone);
        }
        Ok(())
    }

    /// Removes the manifests of what is dropped, the newest first, so that nothing is left that builds on what is gone. One
    /// that was locked anew since it was looked at stays, with what it builds on.
    async fn drop_snapshots(&self, parents: &BTreeMap<SnapshotId, SnapshotId>, report: &mut PruneReport) -> Result<()> {
        let mut needed: HashSet<&SnapshotId> = HashSet::new();
        for id in std::mem::take(&mut report.dropped).into_iter().rev() {
            // what a kill left of its job must not be gone on with
            self.repository.clear_job(&id).await?;
            if !needed.contains(&id) && self.remove(&layout::manifest(&id)).await? {
                report.dropped.push(id);
            } else {
                needed.extend(parents.get(&id));
                report.locked.push(id);
                report.kept += 1;
            }
        }
        report.dropped.reverse();
        Ok(())
    }

    /// What is kept of captured changes: what moments at or behind `since` need, and those behind `read` too, where a job reads a
    /// snapshot of then.
    async fn segments(
        &self,
        captures: &BTreeMap<CaptureId, Captured>,
        manifests: &BTreeMap<SnapshotId, Manifest>,
        named: &BTreeMap<SnapshotId, Manifest>,
        since: Timestamp,
        read: Option<Timestamp>,
    ) -> Result<SegmentsKept> {
        let mut segments = SegmentsKept::decide(captures, manifests, named, since);
        if let Some(read) = read.filter(|read| *read < since) {
            let unread = std::mem::replace(&mut segments, SegmentsKept::decide(captures, manifests, named, read));
            segments.build_next_on(unread);
        }
        self.keep_locked(&mut segments).await?;
        Ok(segments)
    }

    /// What is kept of the versions that events told of.
    async fn reported(&self, now: Timestamp) -> Result<ReportedKept> {
        let all = self.repository.all_reported().await?;
        let mut reported = ReportedKept::decide(all, moments_since(self.policy, now))?;
        self.keep_locked_reports(&mut reported).await?;
        Ok(reported)
    }

    /// Removes an object; says whether it is gone.
    async fn remove(&self, path: &Path) -> Result<bool> {
        let Some(versions) = self.versions else {
            self.repository.delete_all(vec![path.clone()]).await?;
            return Ok(true);
        };
        match versions.remove(path.as_ref(), self.repository.world().now()).await? {
            Removal::Removed => Ok(true),
            Removal::Locked(until) => {
                tracing::info!(object = %path, until = %until, "it is locked and stays");
                Ok(false)
            }
        }
    }

    async fn remove_marks(&self, marks: impl IntoIterator<Item = Path>) -> Result<()> {
        for mark in marks {
            self.remove(&mark).await?;
        }
        Ok(())
    }

    async fn is_locked(&self, path: &Path) -> Result<bool> {
        let Some(versions) = self.versions else { return Ok(false) };
        Ok(versions.locked_until(path.as_ref(), self.repository.world().now()).await?.is_some())
    }

    /// Parts snapshots into those that can be dropped and those that are locked.
    async fn unlocked(&self, snapshots: Vec<SnapshotId>) -> Result<(Vec<SnapshotId>, Vec<SnapshotId>)> {
        let (mut free, mut locked) = (Vec::new(), Vec::new());
        for id in snapshots {
            let is_locked = self.is_locked(&layout::manifest(&id)).await?;
            if is_locked { locked.push(id) } else { free.push(id) }
        }
        Ok((free, locked))
    }

    async fn mark_and_sweep(&self, garbage: &[(Path, u64)], marks: Marks, report: &mut PruneReport) -> Result<()> {
        let repository = self.repository;
        let now = repository.world().now();
        let Marks { ripe, marked, spent, .. } = marks;
        self.delete(garbage, |path| ripe.contains(path.as_ref()), report).await?;
        let is_fresh = |path: &Path| !ripe.contains(path.as_ref()) && !marked.contains(path.as_ref());
        let fresh: Vec<_> = garbage.iter().filter(|(path, _)| is_fresh(path)).collect();
        report.marked = fresh.len() as u64;
        report.marked_bytes = fresh.iter().map(|(_, size)| size).sum();
        if self.policy.dry_run {
            return Ok(());
        }
        if !fresh.is_empty() {
            let mark = PruneMark { created: now, objects: fresh.iter().map(|(path, _)| path.to_string()).collect() };
            let path = layout::prune_mark(&repository.world().job_id(JobKind::Prune));
            repository.put_sealed(ObjectType::PruneMark, &path, &repository.root_sealing(), &mark).await?;
        }
        // what they marked besides is ripe still
        if self.policy.only.is_none() { self.remove_marks(spent).await } else { Ok(()) }
    }

    async fn delete(
        &self,
        garbage: &[(Path, u64)],
        selects: impl Fn(&Path) -> bool,
        report: &mut PruneReport,
    ) -> Result<()> {
        for (path, size) in garbage.iter().filter(|(path, _)| selects(path)) {
            let is_gone = if self.policy.dry_run { !self.is_locked(path).await? } else { self.remove(path).await? };
            if is_gone {
                report.deleted += 1;
                report.deleted_bytes += size;
            } else {
                report.locked_objects += 1;
            }
        }
        Ok(())
    }
}

/// Everything that is referred to.
pub(crate) struct View {
    kept: Vec<SnapshotId>,
    pub(crate) dropped: Vec<SnapshotId>,
    /// Of those kept, the ones that were to be dropped and are locked.
    locked: Vec<SnapshotId>,
    /// Of those kept, the ones that were named and that kept moments build on.
    needed: Vec<SnapshotId>,
    segments: SegmentsKept,
    moments: Vec<MomentsKept>,
    reported: ReportedKept,
    /// What incremental backups build on, those that are dropped included.
    parents: BTreeMap<SnapshotId, SnapshotId>,
    /// Jobs whose intents and receipts stay.
    alive: HashSet<JobId>,
    abandoned: Vec<JobId>,
    runs: HashSet<RunId>,
    keys: HashSet<KeyId>,
}

impl View {
    pub(crate) async fn read(pruning: &Pruning<'_>) -> Result<Self> {
        let Pruning { repository, policy, .. } = *pruning;
        // intents before manifests: a job that commits in between is then seen at least once
        let intents = intents(repository, policy).await?;
        if let Some(stranger) = repository.strangers().await?.first() {
            return Err(EngineError::Refused(format!(
                "`{stranger}` is no snapshot's name, so that it is not known what it needs, and nothing was deleted: give it \
                 the name that it had, or remove it"
            )));
        }
        let (drop, mut locked) = pruning.unlocked(policy.drop.clone()).await?;
        let mut manifests = manifests(repository, &drop).await?;
        let named = readable(repository, &drop).await?;
        let now = repository.world().now();
        // what died long ago, or is given up, pins nothing
        let alive = intents.values().filter(|intent| is_alive(intent, policy, now));
        let pinned: HashSet<&SnapshotId> = alive.flat_map(|intent| &intent.snapshots).collect();
        if let Some(needed) = drop.iter().find(|id| pinned.contains(id)) {
            return Err(EngineError::Refused(format!(
                "{needed} is needed by a job that runs, or was begun in the last 12 hours and died: `firebackup jobs` lists those that \
                 can be gone on with; where no job runs, --exclusive gives the others up"
            )));
        }
        // what was captured since what a job reads is kept as long as it does
        let read = manifests.values().filter(|manifest| pinned.contains(&manifest.id));
        let read = read.filter_map(|manifest| manifest.read_times.first()).min().copied();
        let since = moments_since(policy, now);
        let captures = repository.all_captures().await?;
        let segments = pruning.segments(&captures, &manifests, &named, since, read).await?;
        let reported = pruning.reported(now).await?;
        let (needed, drop) = needed(drop, &manifests, &named, &segments.bases);
        let named_and_needed = named.iter().filter(|(id, _)| needed.contains(id));
        manifests.extend(named_and_needed.map(|(id, manifest)| (id.clone(), manifest.clone())));
        let old = dropped(&manifests, policy, now, &pinned);
        let builds_on = |id: &SnapshotId| segments.bases.contains(id) || segments.next_bases.contains(id);
        let old = old.into_iter().filter(|id| !locked.contains(id) && !builds_on(id)).collect();
        let (old, old_and_locked) = pruning.unlocked(without_parents(old, &manifests)).await?;
        locked.extend(old_and_locked);
        // of those that are locked the parents stay too
        let old = without_parents(old, &manifests);
        let dropped: BTreeSet<_> = old.into_iter().chain(drop).collect();
        let stays: Vec<&Manifest> = manifests.values().filter(|manifest| !dropped.contains(&manifest.id)).collect();
        let moments = segments.moments(&stays);
        let mut view = Self {
            kept: manifests.keys().filter(|id| !dropped.contains(*id)).cloned().collect(),
            alive: HashSet::new(),
            abandoned: Vec::new(),
            runs: HashSet::new(),
            keys: repository.config().key.into_iter().collect(),
            dropped: dropped.into_iter().collect(),
            locked,
            needed,
            segments,
            moments,
            reported,
            parents: manifests.values().filter_map(|one| Some((one.id.clone(), parent_of(one)?))).collect(),
        };
        view.keep(&manifests);
        let there_were: Vec<&Manifest> = manifests.values().chain(named.values()).collect();
        let since = read.map_or(since, |read| read.min(since));
        Left { snapshots: stays, segments: &view.segments, runs: &view.runs, keys: &view.keys }.prove(
            &captures,
            &there_were,
            since,
        )?;
        for (job, intent) in &intents {
            if manifests.contains_key(job) {
                continue;
            }
            if is_alive(intent, policy, now) {
                view.keep_job(repository, intent).await?;
            } else {
                view.abandoned.push(job.clone());
            }
        }
        Ok(view)
    }

    /// What kept snapshots, segments and reported versions consist of.
    fn keep(&mut self, manifests: &BTreeMap<SnapshotId, Manifest>) {
        for segment in &self.segments.kept {
            self.runs.extend(segment.runs.iter().map(|run| run.id));
            self.keys.extend(segment.key);
        }
        for manifest in &self.reported.kept {
            self.runs.extend(manifest.runs.iter().map(|run| run.id));
            self.keys.extend(manifest.key);
        }
        for (id, manifest) in manifests {
            if !self.dropped.contains(id) {
                self.runs.extend(manifest.all_runs().map(|run| run.id));
                self.keys.extend(manifest.key);
            }
        }
    }

    async fn keep_job(&mut self, repository: &Repository, intent: &Intent) -> Result<()> {
        self.alive.insert(intent.job.clone());
        self.keys.extend(&intent.keys);
        self.runs.extend(&intent.runs);
        for meta in repository.list(layout::receipts(&intent.job).as_ref()).await? {
            let runs = runs_of_receipt(repository, &meta.location).await;
            self.runs.extend(runs.map_err(|error| unreadable_job(&intent.job, error))?);
        }
        Ok(())
    }

    /// Every object that nothing refers to, in the order in which it may be deleted: a job's plan and receipts first, so
    /// that nobody goes on with a job whose runs are going.
    pub(crate) async fn garbage(&self, repository: &Repository) -> Result<Vec<(Path, u64)>> {
        let mut garbage = Vec::new();
        for folder in ["receipts", "intents", "runs", "keys", "probes"] {
            for meta in repository.list(folder).await? {
                let path = &meta.location;
                let referenced = match folder {
                    "runs" => layout::run_of(path).is_some_and(|run| self.runs.contains(&run)),
                    "keys" => layout::key_of(path).is_some_and(|key| self.keys.contains(&key)),
                    "probes" => false,
                    _ => layout::job_of(path).is_some_and(|job| self.alive.contains(&job)),
                };
                if !referenced {
                    let rank = u8::from(path.filename() != Some("plan"));
                    garbage.push((folder, rank, path.clone(), meta.size));
                }
            }
        }
        let order =
            |folder: &str| ["receipts", "intents", "runs", "keys", "probes"].iter().position(|name| *name == folder);
        garbage.sort_by(|a, b| (order(a.0), a.1, &a.2).cmp(&(order(b.0), b.1, &b.2)));
        Ok(garbage.into_iter().map(|(_, _, path, size)| (path, size)).collect())
    }
}

async fn intents(repository: &Repository, policy: &PrunePolicy) -> Result<BTreeMap<JobId, Intent>> {
    let mut intents = BTreeMap::new();
    for meta in repository.list("intents").await? {
        let found: Result<Option<(Intent, _)>> = repository.get_sealed(ObjectType::Intent, &meta.location).await;
        let error = match found {
            Ok(found) => {
                intents.extend(found.map(|(intent, _)| (intent.job.clone(), intent)));
                continue;
            }
            Err(error) if error.is_of_the_object() => error,
            Err(error) => return Err(error),
        };
        let Some(job) = layout::job_of(&meta.location) else { continue };
        let age = repository.world().now().millis() - job.millis().cast_signed();
        if let Some(intent) = intent_of_plan(repository, &job).await? {
            intents.insert(job, intent);
        } else if age > GRACE_SECONDS * 1000 || policy.exclusive {
            // of a machine with another key, or damaged: a job of that age may not commit any more
            tracing::warn!(intent = %meta.location, error = %error, "an old intent cannot be read: it pins nothing");
        } else {
            return Err(unreadable_job(&job, error));
        }
    }
    // an intent that was lost, or is that of another try, is no reason to take what the job relies on
    for job in repository.begun_jobs().await? {
        if let Some(planned) = intent_of_plan(repository, &job).await? {
            let created = intents.get(&job).map_or(planned.created, |intent| intent.created.max(planned.created));
            let all = match intents.remove(&job) {
                Some(intent) => joined(intent, planned),
                None => planned,
            };
            intents.insert(job, Intent { created, ..all });
        }
    }
    Ok(intents)
}

/// What a job relies on, as its plan says; nothing when that cannot be read either.
async fn intent_of_plan(repository: &Repository, job: &JobId) -> Result<Option<Intent>> {
    let intent = |created, database, snapshots, key: Option<KeyId>| Intent {
        job: job.clone(),
        created,
        database,
        snapshots,
        runs: Vec::new(),
        keys: key.into_iter().collect(),
    };
    match read_job(repository, job).await {
        Ok(None) => Ok(None),
        Ok(Some(UnfinishedJob::Backup(plan))) => {
            let compared = plan.against.iter().map(|against| &against.base);
            let snapshots = compared.chain(&plan.merged_from).cloned().collect();
            Ok(Some(intent(plan.created, plan.source.clone(), snapshots, plan.key)))
        }
        Ok(Some(UnfinishedJob::Restore(plan))) => {
            Ok(Some(intent(plan.created, plan.target.clone(), vec![plan.snapshot.clone()], plan.key)))
        }
        Ok(Some(UnfinishedJob::Unreadable { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unreadable_job(job: &JobId, error: EngineError) -> EngineError {
    let way = match job.kind() {
        JobKind::Restore => {
            "give what it replaced up with --keep-undo-days 0 and --exclusive, when it does not run any more"
        }
        JobKind::Backup | JobKind::Prune | JobKind::Drill => {
            "give it up with --exclusive, when no other job runs, or wait for a day"
        }
    };
    error.explained(format!("what {job} relies on cannot be read, so that nothing was deleted: {way}"))
}

/// All manifests but those of `except`, which are about to go.
async fn manifests(repository: &Repository, except: &[SnapshotId]) -> Result<BTreeMap<SnapshotId, Manifest>> {
    let ids = repository.snapshot_ids().await?;
    if let Some(missing) = except.iter().find(|id| !ids.contains(id)) {
        return Err(EngineError::NotFound(format!("there is no snapshot {missing}: see `firebackup list`")));
    }
    let mut manifests = BTreeMap::new();
    for id in ids.into_iter().filter(|id| !except.contains(id)) {
        match repository.manifest(&id).await {
            Ok((manifest, _)) => drop(manifests.insert(id, manifest)),
            // another prune dropped it since it was listed
            Err(EngineError::NotFound(_)) if repository.is_dropped(&id).await? => {}
            Err(EngineError::Wrap { source, .. }) if source.is_for_others() => {
                return Err(EngineError::Refused(format!(
                    "{id} was written by a machine that holds only a recovery key: give --recovery-key-file too, so that a prune sees what it needs"
                )));
            }
            Err(error) => {
                return Err(error.explained(format!(
                    "{id} cannot be read, so that it is not known what it needs, and nothing was deleted: put the object \
                     back from a copy or an older version, or give the snapshot up with --drop {id}"
                )));
            }
        }
    }
    Ok(manifests)
}

/// Since when captured moments are kept.
pub(crate) fn moments_since(policy: &PrunePolicy, now: Timestamp) -> Timestamp {
    now.plus_seconds(-i64::from(policy.keep_moments_days).saturating_mul(DAY))
}

/// Those of these snapshots that can be read: one that is damaged is no base of anything. A store that does not answer says
/// nothing of what it holds.
pub(crate) async fn readable(repository: &Repository, ids: &[SnapshotId]) -> Result<BTreeMap<SnapshotId, Manifest>> {
    let mut manifests = BTreeMap::new();
    for id in ids {
        match repository.manifest(id).await {
            Ok((manifest, _)) => drop(manifests.insert(id.clone(), manifest)),
            Err(error) if error.is_of_the_object() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(manifests)
}

fn is_alive(intent: &Intent, policy: &PrunePolicy, now: Timestamp) -> bool {
    let age = now.seconds_since(intent.created);
    match intent.job.kind() {
        // one that runs is not taken away from, whatever the policy: it may have been begun just now
        JobKind::Restore => {
            let least = if policy.exclusive { 0 } else { GRACE_SECONDS };
            age < (f64::from(policy.keep_undo_days) * DAY as f64).max(least as f64)
        }
        JobKind::Backup | JobKind::Prune | JobKind::Drill => !policy.exclusive && age < MAX_JOB_SECONDS as f64,
    }
}

fn dropped(
    manifests: &BTreeMap<SnapshotId, Manifest>,
    policy: &PrunePolicy,
    now: Timestamp,
    pinned: &HashSet<&SnapshotId>,
) -> BTreeSet<SnapshotId> {
    let older_than = |moment: Timestamp, days: u32| now.seconds_since(moment) > f64::from(days) * DAY as f64;
    // a backup is as old as what it holds, whenever it was made
    let moment = |manifest: &Manifest| manifest.read_time().unwrap_or(manifest.finished);
    // a policy is about each thing that is backed up: a database, and what is selected of it
    let mut series: BTreeMap<(&DatabaseName, String), Vec<&Manifest>> = BTreeMap::new();
    for manifest in manifests.values().filter(|manifest| manifest.kind != SnapshotKind::Undo) {
        // a backup without users does not stand in for one with them
        let what = (&manifest.selection, manifest.auth.is_some());
        let what = serde_json::to_string(&what).unwrap_or_default();
        series.entry((&manifest.source, what)).or_default().push(manifest);
    }
    if policy.only.is_some() {
        return BTreeSet::new();
    }
    let generations = policy.keep_generations;
    let has_policy = policy.keep_last.is_some() || policy.keep_days.is_some() || !generations.is_empty();
    let old_backups = series.into_values().flat_map(|mut backups| {
        backups.sort_by_key(|manifest| std::cmp::Reverse((moment(manifest), manifest.finished)));
        let days: Vec<_> = backups.iter().map(|manifest| moment(manifest).date()).collect();
        backups.into_iter().zip(generations.keeps(&days)).enumerate()
    });
    let old_backups = old_backups.filter(|(newer, (manifest, kept_as_generation))| {
        let kept_by_number = policy.keep_last.is_some_and(|number| *newer < number.max(1));
        let kept_by_age = policy.keep_days.is_some_and(|days| !older_than(moment(manifest), days));
        // the newest backup of a series is never dropped, whatever the policy says
        has_policy && *newer > 0 && !kept_by_number && !kept_by_age && !kept_as_generation
    });
    let undos = manifests.values().filter(|manifest| manifest.kind == SnapshotKind::Undo);
    let old_undos = undos.filter(|manifest| older_than(manifest.finished, policy.keep_undo_days));
    let candidates = old_backups.map(|(_, (manifest, _))| manifest).chain(old_undos);
    candidates.map(|manifest| manifest.id.clone()).filter(|id| !pinned.contains(id)).collect()
}

async fn runs_of_receipt(repository: &Repository, path: &Path) -> Result<Vec<RunId>> {
    let parts: Vec<_> = path.parts().map(|part| part.as_ref().to_owned()).collect();
    Ok(match parts.get(2).map(String::as_str) {
        Some("plan" | "progress" | "parts") => Vec::new(),
        Some("users") => {
            let found: Option<(UsersReceipt, _)> = repository.get_sealed(ObjectType::UsersReceipt, path).await?;
            found.map(|(receipt, _)| receipt.auth.runs.iter().map(|run| run.id).collect()).unwrap_or_default()
        }
        Some("undo") => {
            let found: Option<(UndoReceipt, _)> = repository.get_sealed(ObjectType::UndoReceipt, path).await?;
            found.and_then(|(receipt, _)| receipt.run).map(|run| run.id).into_iter().collect()
        }
        _ => {
            let found: Option<(Receipt, _)> = repository.get_sealed(ObjectType::Receipt, path).await?;
            found.and_then(|(receipt, _)| receipt.run).map(|run| run.id).into_iter().collect()
        }
    })
}
