//! Keeping locked what kept snapshots need.
//!
//! An object is locked when it is put, and a run or a key may be needed by snapshots that come much later. So from time
//! to time everything that a kept snapshot needs is locked anew, until one and the same moment: nothing of it can be
//! deleted before the snapshot itself can.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use firebackup_model::id::{JobKind, KeyId, SnapshotId};
use firebackup_model::manifest::{Manifest, RunEntry};
use firebackup_model::port::ObjectVersions;
use firebackup_model::reported::ReportedManifest;
use firebackup_model::segment::SegmentManifest;
use firebackup_model::{LockRule, PortError, Timestamp};
use futures::{StreamExt, stream};
use object_store::path::Path;
use serde::Serialize;

use crate::chain::path_of;
use crate::error::{EngineError, Result};
use crate::layout;
use crate::prune::{PrunePolicy, moments_since, readable};
use crate::prune_lineage;
use crate::prune_reported::ReportedKept;
use crate::prune_segments::SegmentsKept;
use crate::reported;
use crate::repository::Repository;

/// Objects looked at, at one time: an answer takes some 20 ms, and a repository may have a hundred thousand.
const PARALLEL: usize = 32;

/// What came of keeping a repository locked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LockReport {
    /// Until when everything is locked that could be.
    pub until: Timestamp,
    /// Snapshots of which everything is.
    pub snapshots: u64,
    /// Objects that were locked until then before.
    pub unchanged: u64,
    /// Objects whose lock was made longer.
    pub extended: u64,
    /// Snapshots of which something is not, because it could not be read or locked.
    pub failed: Vec<SnapshotId>,
    /// Segments of captured changes of which everything is.
    pub segments: u64,
    /// Segments of which something is not.
    pub failed_segments: u64,
    /// Manifests of reported versions of which everything is.
    pub reported: u64,
    /// Manifests of reported versions of which something is not.
    pub failed_reported: u64,
}

/// Locks everything that the backups of a repository need, `except` those that are about to go, of which only those are locked
/// that a prune keeps all the same, because captured moments or incremental backups build on them. Locks are made longer,
/// never shorter. A snapshot's manifest is locked after all that it needs, and not when one of these could not be. What a
/// restore replaced is kept for days, and stays under the lock that it was put with: a longer one would keep it for ever.
/// Captured changes are locked with the snapshots as far as a prune keeps them, which keeps moments of `moments_days`.
///
/// # Errors
/// When the snapshots cannot be listed, or what every snapshot needs cannot be locked. What is the trouble of one snapshot
/// does not keep the others from being locked.
pub async fn extend_locks(
    repository: &Repository,
    versions: &dyn ObjectVersions,
    rule: LockRule,
    except: &[SnapshotId],
    moments_days: u32,
) -> Result<LockReport> {
    let mut locks = Locks { versions, until: rule.until(repository.world().now()), done: HashMap::new(), moments_days };
    let mut report = LockReport { until: locks.until, ..LockReport::default() };
    locks.extend(&shared(repository).await?, &mut report).await?;
    let backups = repository.snapshot_ids().await?.into_iter().filter(|id| id.kind() == JobKind::Backup);
    let (going, stays): (Vec<_>, Vec<_>) = backups.partition(|id| except.contains(id));
    let manifests = locks.extend_snapshots(repository, stays, &mut report).await?;
    let named = readable(repository, &going).await?;
    let bases = locks.extend_segments(repository, &manifests, &named, &mut report).await?;
    let (needed, _) = prune_lineage::needed(going, &manifests, &named, &bases);
    locks.extend_snapshots(repository, needed, &mut report).await?;
    locks.extend_reported(repository, &mut report).await?;
    Ok(report)
}

/// What every snapshot needs: the repository's description, and the wraps of its key.
async fn shared(repository: &Repository) -> Result<Vec<Path>> {
    let mut paths = vec![layout::config()];
    if let Some(key) = repository.config().key {
        paths.extend(repository.list(layout::key(key).as_ref()).await?.into_iter().map(|meta| meta.location));
    }
    Ok(paths)
}

/// What a snapshot or a segment needs besides: runs, and the key that they are sealed with.
async fn needed(
    repository: &Repository,
    runs: impl Iterator<Item = &RunEntry>,
    key: Option<KeyId>,
) -> Result<Vec<Path>> {
    let runs: BTreeSet<_> = runs.map(|run| run.id).collect();
    let mut paths: Vec<_> = runs.into_iter().map(layout::run).collect();
    let keys: BTreeSet<_> = key.into_iter().filter(|key| repository.config().key != Some(*key)).collect();
    for key in keys {
        paths.extend(repository.list(layout::key(key).as_ref()).await?.into_iter().map(|meta| meta.location));
    }
    Ok(paths)
}

struct Locks<'a> {
    versions: &'a dyn ObjectVersions,
    until: Timestamp,
    /// Objects that were looked at, and whether they are locked: snapshots share runs and keys.
    done: HashMap<Path, bool>,
    /// For how many days a prune keeps every captured moment.
    moments_days: u32,
}

impl Locks<'_> {
    /// Locks snapshots; returns the manifests of those of which everything is.
    async fn extend_snapshots(
        &mut self,
        repository: &Repository,
        ids: Vec<SnapshotId>,
        report: &mut LockReport,
    ) -> Result<BTreeMap<SnapshotId, Manifest>> {
        let mut manifests = BTreeMap::new();
        for id in ids {
            match self.extend_snapshot(repository, &id, report).await {
                Ok(manifest) => {
                    report.snapshots += 1;
                    manifests.insert(id, manifest);
                }
                // a prune dropped it since it was listed
                Err(EngineError::NotFound(_)) if repository.is_dropped(&id).await? => {}
                Err(error) => {
                    tracing::warn!(snapshot = %id, error = %error.in_full(), "not all that a snapshot needs could be locked");
                    report.failed.push(id);
                }
            }
        }
        Ok(manifests)
    }

    async fn extend_snapshot(
        &mut self,
        repository: &Repository,
        id: &SnapshotId,
        report: &mut LockReport,
    ) -> Result<Manifest> {
        let (manifest, _) = repository.manifest(id).await?;
        self.extend(&needed(repository, manifest.all_runs(), manifest.key).await?, report).await?;
        self.extend(&[layout::manifest(id)], report).await?;
        Ok(manifest)
    }

    /// Locks the captured changes that a prune keeps; those that it would drop must get free in the end. Returns the snapshots
    /// that they build on, which may be `named` to be dropped.
    async fn extend_segments(
        &mut self,
        repository: &Repository,
        manifests: &BTreeMap<SnapshotId, Manifest>,
        named: &BTreeMap<SnapshotId, Manifest>,
        report: &mut LockReport,
    ) -> Result<BTreeSet<SnapshotId>> {
        let policy = PrunePolicy { keep_moments_days: self.moments_days, ..PrunePolicy::default() };
        let since = moments_since(&policy, repository.world().now());
        let segments = SegmentsKept::decide(&repository.all_captures().await?, manifests, named, since);
        for segment in &segments.kept {
            match self.extend_segment(repository, segment, report).await {
                Ok(()) => report.segments += 1,
                Err(error) => {
                    tracing::warn!(point = %segment.after, error = %error.in_full(), "not all that a segment needs could be locked");
                    report.failed_segments += 1;
                }
            }
        }
        Ok(segments.bases)
    }

    async fn extend_segment(
        &mut self,
        repository: &Repository,
        segment: &SegmentManifest,
        report: &mut LockReport,
    ) -> Result<()> {
        self.extend(&needed(repository, segment.runs.iter(), segment.key).await?, report).await?;
        self.extend(&[path_of(repository, segment)?], report).await
    }

    /// Locks the reported versions that a prune keeps.
    async fn extend_reported(&mut self, repository: &Repository, report: &mut LockReport) -> Result<()> {
        let policy = PrunePolicy { keep_moments_days: self.moments_days, ..PrunePolicy::default() };
        let since = moments_since(&policy, repository.world().now());
        for manifest in ReportedKept::decide(repository.all_reported().await?, since)?.kept {
            match self.extend_report(repository, &manifest, report).await {
                Ok(()) => report.reported += 1,
                Err(error) => {
                    tracing::warn!(last = %manifest.last, error = %error.in_full(), "not all that reported versions need could be locked");
                    report.failed_reported += 1;
                }
            }
        }
        Ok(())
    }

    async fn extend_report(
        &mut self,
        repository: &Repository,
        manifest: &ReportedManifest,
        report: &mut LockReport,
    ) -> Result<()> {
        self.extend(&needed(repository, manifest.runs.iter(), manifest.key).await?, report).await?;
        self.extend(&[reported::path_of(repository, manifest)?], report).await
    }

    /// Locks all of `paths` that it can; the error is the first.
    async fn extend(&mut self, paths: &[Path], report: &mut LockReport) -> Result<()> {
        if let Some(path) = paths.iter().find(|path| self.done.get(*path) == Some(&false)) {
            return Err(EngineError::Refused(format!("`{path}` could not be locked for another snapshot")));
        }
        let (versions, until) = (self.versions, self.until);
        let fresh: Vec<_> = paths.iter().filter(|path| !self.done.contains_key(*path)).cloned().collect();
        let locking = stream::iter(fresh).map(|path| async move {
            let outcome = versions.extend_lock(path.as_ref(), until).await;
            (path, outcome)
        });
        let outcomes: Vec<(Path, Result<bool, PortError>)> = locking.buffer_unordered(PARALLEL).collect().await;
        let mut failure = Ok(());
        for (path, outcome) in outcomes {
            match outcome {
                Ok(true) => report.extended += 1,
                Ok(false) => report.unchanged += 1,
                Err(_) => {}
            }
            self.done.insert(path, outcome.is_ok());
            if let (Err(error), Ok(())) = (outcome, &failure) {
                failure = Err(EngineError::Port(error));
            }
        }
        failure
    }
}
