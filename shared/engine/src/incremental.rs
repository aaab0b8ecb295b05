//! Backups that hold only what changed since another one, their parent.
//!
//! What was captured since tells it without a read, where nothing is missing in between; otherwise the database is read and
//! compared with the parent, and only what differs is stored. A parent may be incremental itself, up to [`MAX_DEPTH`] of
//! them: then the next backup is whole again.

use std::collections::BTreeMap;
use std::sync::Arc;

use firebackup_codec::object::ObjectType;
use firebackup_model::id::{JobKind, RunId, SnapshotId};
use firebackup_model::job::{Against, Intent};
use firebackup_model::manifest::{
    Compression, Consistency, Counts, FORMAT_VERSION, GroupCounts, Manifest, RunKind, SnapshotKind,
};
use firebackup_model::port::DocumentSource;
use firebackup_model::{DatabaseName, PathRange, Selection, Timestamp};

use crate::backup::{Backup, BackupBuilder};
use crate::error::{EngineError, Result};
use crate::layout;
use crate::merge::{Heads, Layer, Span, layers};
use crate::moments::{Joined, Moments, segment_layers, settled};
use crate::objects::Put;
use crate::plan::{check_age, put_intent};
use crate::repository::Repository;
use crate::run_upload::{RunSettings, RunUpload};
use crate::world::{Meter, Stop};

/// Incremental backups that follow one another at most: what a restore opens is bounded by it.
pub const MAX_DEPTH: usize = 30;
/// Bytes of records after which a run ends.
const RUN_BYTES: u64 = 512 * 1024 * 1024;

/// How an incremental backup can be made.
pub enum Increment {
    /// From what was captured since: nothing is read.
    Captured(Box<CapturedIncrement>),
    /// By a scan that keeps what differs.
    Scanned(Box<BackupBuilder>),
    /// Not at all: this is why, and a full backup is what is needed.
    Full(String),
}

/// An incremental backup of what was captured since its parent.
pub struct CapturedIncrement {
    repository: Repository,
    parent: Manifest,
    point: Timestamp,
    /// Documents of the parent that were changed later are in the layers, or are gone.
    changed_until: Timestamp,
    layers: Vec<Layer>,
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
    let database = source.database().clone();
    let is_parent = |manifest: &Manifest| {
        manifest.kind != SnapshotKind::Undo && manifest.source == database && manifest.selection == *selection
    };
    let Some(parent) = repository.latest(is_parent).await? else {
        return Ok(Increment::Full(format!("there is no backup of {database} that it could build on")));
    };
    let (parent, _) = repository.manifest(&parent).await?;
    let ancestors = match lineage(repository, &parent).await {
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
    if selection.is_everything()
        && let Some(captured) = captured(repository, &parent, &database).await?
    {
        return Ok(Increment::Captured(Box::new(captured)));
    }
    let against = Against { base: parent.id.clone(), through: parent.read_time() };
    let known = layers_of(&ancestors);
    let backup = Backup::builder(repository.clone(), Arc::clone(source)).selection(selection.clone());
    Ok(Increment::Scanned(Box::new(backup.against(against, known).may_reanchor(false))))
}

/// What was captured since the parent, if nothing is missing since then and there is a newer moment.
async fn captured(
    repository: &Repository,
    parent: &Manifest,
    database: &DatabaseName,
) -> Result<Option<CapturedIncrement>> {
    let moments = Moments::read(repository, database).await?;
    let Some(from) = parent.read_time() else { return Ok(None) };
    let Some(Joined { point, segments, changed_until }) = moments.newest_joined(from) else { return Ok(None) };
    let layers = segment_layers(segments, Span { after: from, until: point }).collect();
    let (repository, parent) = (repository.clone(), parent.clone());
    Ok(Some(CapturedIncrement { repository, parent, point, changed_until, layers }))
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

impl CapturedIncrement {
    /// The consistent point that the backup will be of.
    #[must_use]
    pub const fn point(&self) -> Timestamp {
        self.point
    }

    /// Merges what was captured into one backup. Killed, it leaves nothing that is listed.
    ///
    /// # Errors
    /// When the store fails, or a segment is damaged.
    pub async fn run(&self, compression: Compression, meter: &Arc<Meter>, stop: &Stop) -> Result<Manifest> {
        let repository = &self.repository;
        let started = repository.world().now();
        let job = repository.world().job_id_after(JobKind::Backup, self.point);
        let sealing = repository.new_data_key().await?;
        let runs: Vec<RunId> = self.layers.iter().map(|layer| layer.entry.id).collect();
        let intent = Intent {
            job: job.clone(),
            created: started,
            database: self.parent.source.clone(),
            snapshots: vec![self.parent.id.clone()],
            runs,
            keys: sealing.key_id().into_iter().collect(),
        };
        put_intent(repository, &intent, &sealing).await?;
        let settings = RunSettings::new(repository.clone(), sealing.clone(), compression, Arc::clone(meter));
        let manifest = self.manifest(&job, started, compression, sealing.key_id());
        let manifest = self.merge(&settings, manifest, stop).await?;
        if repository.is_dropped(&self.parent.id).await? {
            let reason = format!("{}, which it builds on, is gone", self.parent.id);
            return Err(EngineError::Incomplete { job, reason });
        }
        check_age(repository, &job, started)?;
        let path = layout::manifest(&job);
        match repository.put_sealed(ObjectType::Manifest, &path, &sealing, &manifest).await? {
            Put::Stored | Put::Existed => repository.clear_quietly(&job).await,
        }
        Ok(manifest)
    }

    /// Writes what each document has become at the point.
    async fn merge(&self, settings: &RunSettings, mut manifest: Manifest, stop: &Stop) -> Result<Manifest> {
        let mut heads = Heads::new(&self.repository, &self.layers, &PathRange::everything(), &settings.meter);
        let mut next = heads.next().await?;
        while next.is_some() {
            let mut run = RunUpload::start(settings.clone(), RunKind::Delta, Some(self.point))?;
            while let Some((record, _)) = next.take_if(|_| run.raw_bytes() < RUN_BYTES) {
                if stop.is_requested() {
                    return Err(EngineError::Interrupted { job: manifest.id });
                }
                next = heads.next().await?;
                // the last of a path is what it has become
                if next.as_ref().is_none_or(|(later, _)| later.path != record.path) {
                    run.push(&record.as_ref()).await?;
                    settings.meter.documents.add(1);
                }
            }
            let end = run.finish().await?;
            manifest.stored_bytes += end.entry.size;
            manifest.runs.push(end.entry);
            for (group, counts) in end.collections {
                manifest.totals.add(counts);
                manifest.collections.entry(group).or_default().add(counts);
            }
            for (level, blocks) in end.levels {
                *manifest.levels.entry(level).or_default() += blocks;
            }
        }
        manifest.finished = self.repository.world().now();
        Ok(manifest)
    }

    fn manifest(
        &self,
        job: &SnapshotId,
        started: Timestamp,
        compression: Compression,
        key: Option<firebackup_model::id::KeyId>,
    ) -> Manifest {
        Manifest {
            format: FORMAT_VERSION,
            id: job.clone(),
            kind: SnapshotKind::Incremental,
            parent: Some(self.parent.id.clone()),
            parent_changed_until: Some(self.changed_until),
            source: self.parent.source.clone(),
            selection: self.parent.selection.clone(),
            consistency: Consistency::Snapshot,
            read_times: vec![self.point],
            runs: Vec::new(),
            totals: Counts::default(),
            collections: GroupCounts::new(),
            stored_bytes: 0,
            auth: None,
            compression,
            levels: BTreeMap::new(),
            key,
            reads: 0,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            started,
            finished: started,
        }
    }
}
