//! Backups that hold only what changed since another one, their parent.
//!
//! What was captured since tells it without a read, where nothing is missing in between; otherwise the database is read and
//! compared with the parent, and only what differs is stored. A parent may be incremental itself, up to [`MAX_DEPTH`] of
//! them: then the next backup is whole again.

use std::sync::Arc;

use firebackup_model::job::{Against, Plan};
use firebackup_model::manifest::{Consistency, Manifest, SnapshotKind};
use firebackup_model::port::DocumentSource;
use firebackup_model::{DatabaseName, Selection, Timestamp};

use crate::backup::{Backup, BackupBuilder};
use crate::error::{EngineError, Result};
use crate::merge::{Layer, Span, layers};
use crate::moments::{Joined, Moments, QUIET_SECONDS, segment_layers, settled};
use crate::repository::Repository;
use crate::synthesize::MomentSource;

/// Incremental backups that follow one another at most: what a restore opens is bounded by it.
pub const MAX_DEPTH: usize = 30;

/// How an incremental backup can be made.
pub enum Increment {
    /// From what was captured since: nothing is read.
    Captured(Box<BackupBuilder>),
    /// By a scan that keeps what differs.
    Scanned(Box<BackupBuilder>),
    /// Not at all: this is why, and a full backup is what is needed.
    Full(String),
}

/// Finds how the next backup of `selection` can hold only what changed since the newest one.
///
/// # Errors
/// When the store fails, or the newest backup cannot be read.
pub async fn increment(
    repository: &Repository,
    source: &Arc<dyn DocumentSource>,
    selection: &Selection,
) -> Result<Increment> {
    let backup = Backup::builder(repository.clone(), Arc::clone(source)).selection(selection.clone());
    increment_of(backup).await
}

/// The same of a backup that is set up otherwise.
pub(crate) async fn increment_of(backup: BackupBuilder) -> Result<Increment> {
    let (repository, database) = (backup.repository.clone(), backup.source.database().clone());
    let is_parent = |manifest: &Manifest| {
        manifest.kind != SnapshotKind::Undo && manifest.source == database && manifest.selection == backup.selection
    };
    let Some(parent) = repository.latest(is_parent).await? else {
        return Ok(Increment::Full(format!("there is no backup of {database} that it could build on")));
    };
    let (parent, _) = repository.manifest(&parent).await?;
    let ancestors = match lineage(&repository, &parent).await {
        Ok(ancestors) => ancestors,
        Err(EngineError::NotFound(reason)) => return Ok(Increment::Full(reason)),
        Err(error) => return Err(error),
    };
    if ancestors.len() > MAX_DEPTH {
        return Ok(Increment::Full(format!("{MAX_DEPTH} incremental backups follow one another already")));
    }
    if parent.consistency == Consistency::Ranged {
        return Ok(Increment::Full(format!("{} was read at several times", parent.id)));
    }
    let against = Against { base: parent.id.clone(), through: parent.read_time() };
    if backup.selection.is_everything()
        && let Some(from) = parent.read_time()
    {
        let moments = Moments::read(&repository, &database).await?;
        let now = repository.world().now();
        // where nobody captures any more the database is read: what was captured last is not what it is
        let is_fresh = |joined: &Joined<'_>| now.seconds_since(joined.point) <= QUIET_SECONDS;
        if let Some(joined) = moments.newest_joined(from).filter(is_fresh) {
            return Ok(Increment::Captured(Box::new(from_captured(backup, against, from, &joined))));
        }
    }
    Ok(Increment::Scanned(Box::new(backup.against(against, layers_of(&ancestors)))))
}

/// Keeps what was captured between a parent's read time and a newer moment.
fn from_captured(backup: BackupBuilder, against: Against, from: Timestamp, joined: &Joined<'_>) -> BackupBuilder {
    let span = Span { after: from, until: joined.point };
    let layers: Vec<Layer> = segment_layers(joined.segments, span).collect();
    // it says where to cut: what changed is no document that could be read
    let source = MomentSource::new(&backup.repository, backup.source.database(), joined.point, layers.clone());
    backup.changes(against, joined.changed_until, layers).reading(Arc::new(source), joined.point)
}

/// What the steps behind a plan keep, as the one that made it had found. Segments may have been merged since, and new ones put:
/// what is known of the point is the same.
pub(crate) async fn increment_as_planned(
    backup: BackupBuilder,
    plan: &Plan,
    against: &Against,
) -> Result<BackupBuilder> {
    let (parent, _) = backup.repository.manifest(&against.base).await?;
    if plan.parent_changed_until.is_none() {
        let ancestors = lineage(&backup.repository, &parent).await?;
        return Ok(backup.against(against.clone(), layers_of(&ancestors)));
    }
    let moments = captured_moments(&backup.repository, &plan.source, Vec::new()).await?;
    let from = parent.read_time().unwrap_or_default();
    let joined = moments.joined_at(from, plan.read_time).ok_or_else(|| {
        let reason = format!("what was captured between {from} and {} is kept no more", plan.read_time);
        EngineError::Incomplete { job: plan.job.clone(), reason }
    })?;
    Ok(from_captured(backup, against.clone(), from, &joined))
}

/// What is captured of a database, on top of these snapshots only.
pub(crate) async fn captured_moments(
    repository: &Repository,
    database: &DatabaseName,
    snapshots: Vec<Manifest>,
) -> Result<Moments> {
    let segments = repository.all_segments(database).await?;
    Ok(Moments::of(database.clone(), snapshots, &segments))
}

/// A snapshot with all that it builds on, the whole one first.
pub(crate) async fn lineage(repository: &Repository, snapshot: &Manifest) -> Result<Vec<Manifest>> {
    let mut lineage = vec![snapshot.clone()];
    while let Some(youngest) = lineage.last()
        && youngest.kind == SnapshotKind::Incremental
    {
        let parent = youngest.parent.clone().filter(|parent| lineage.iter().all(|one| one.id != *parent));
        let parent = parent.ok_or_else(|| EngineError::Refused(format!("{} names no parent", youngest.id)))?;
        lineage.push(repository.manifest(&parent).await?.0);
    }
    lineage.reverse();
    Ok(lineage)
}

/// The layers whose merge is the last of a lineage.
pub(crate) fn layers_of(lineage: &[Manifest]) -> Vec<Layer> {
    let Some((whole, increments)) = lineage.split_first() else { return Vec::new() };
    let after = whole.read_times.first().copied().unwrap_or_default();
    let until = lineage.last().and_then(Manifest::read_time).unwrap_or_default();
    let mut all = layers(whole);
    for (increment, rank) in increments.iter().zip(1..) {
        if let Some(until) = increment.parent_changed_until {
            all = settled(all, until);
        }
        let span = Some(Span { after, until });
        all.extend(layers(increment).into_iter().map(|layer| Layer { rank, span, ..layer }));
    }
    all
}
