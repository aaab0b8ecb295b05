//! What a restore replaces, kept so that the restore can be taken back.
//!
//! While the restore runs, each batch's current versions are sealed into a small run with a receipt before anything is
//! written. When it ends, they are merged into one snapshot of kind `undo`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use firebackup_codec::object::ObjectType;
use firebackup_codec::run::writer::RunEnd;
use firebackup_codec::sealing::Sealing;
use firebackup_model::document;
use firebackup_model::job::{RestorePlan, UndoReceipt};
use firebackup_model::manifest::{Algorithm, Level, RunEntry};
use firebackup_model::manifest::{
    Compression, Consistency, Counts, FORMAT_VERSION, GroupCounts, Manifest, RunKind, SnapshotKind,
};
use firebackup_model::{DocumentPath, PathRange};

use crate::contents::{undo_layers, undo_receipts};
use crate::error::{EngineError, Result};
use crate::layout;
use crate::merge::Merge;
use crate::objects::Put;
use crate::read::Record;
use crate::repository::Repository;
use crate::run_upload::{RunSettings, RunUpload};
use crate::world::Meter;

/// Undo runs are written while documents wait for them: quick compression.
const COMPRESSION: Compression = Compression { algorithm: Algorithm::Zstd, level: Level::Fixed(3) };
/// A merged run ends at this many bytes of records.
const MERGED_RUN_BYTES: u64 = 512 * 1024 * 1024;
/// Sequence numbers tried when other processes write undo runs of the same restore.
const MAX_RACES: u32 = 1000;

/// Keeps what one attempt of a restore replaces.
pub(crate) struct UndoLog {
    settings: RunSettings,
    plan: Arc<RestorePlan>,
    attempt: u32,
    next: AtomicU32,
}

/// What is about to be replaced.
pub(crate) struct Replaced {
    pub(crate) path: DocumentPath,
    /// The current document; nothing where there is none.
    pub(crate) document: Option<Bytes>,
}

impl UndoLog {
    /// Opens the log of a restore for another attempt.
    pub(crate) async fn open(repository: &Repository, plan: &Arc<RestorePlan>, sealing: &Sealing) -> Result<Self> {
        let receipts = undo_receipts(repository, &plan.job).await?;
        let attempt = receipts.iter().map(|receipt| receipt.attempt + 1).max().unwrap_or_default();
        let next = receipts.last().map_or(0, |receipt| receipt.sequence + 1);
        // what is written for undo is not what the user watches
        let quiet = Arc::new(Meter::default());
        let settings = RunSettings::new(repository.clone(), sealing.clone(), COMPRESSION, quiet);
        Ok(Self { settings, plan: Arc::clone(plan), attempt, next: AtomicU32::new(next) })
    }

    /// Seals current versions durably. When this returns, they can be brought back.
    pub(crate) async fn seal(&self, mut replaced: Vec<Replaced>) -> Result<()> {
        if replaced.is_empty() {
            return Ok(());
        }
        replaced.sort_by(|a, b| a.path.cmp(&b.path));
        let mut run = RunUpload::start(self.settings.clone(), RunKind::Delta, None)?;
        for item in replaced {
            let update_time = match &item.document {
                None => None,
                Some(bytes) => {
                    let path = item.path.to_string();
                    document::head(bytes)
                        .map_err(|source| EngineError::Document { path: Some(path), source })?
                        .update_time
                }
            };
            let record = Record { path: item.path, body: item.document, update_time };
            run.push(&record.as_ref()).await?;
        }
        self.put_receipt(Some(run.finish().await?.entry), Vec::new()).await
    }

    /// Says of documents that were sealed that they were not written after all: their records do not count.
    pub(crate) async fn not_written(&self, paths: Vec<DocumentPath>) -> Result<()> {
        if paths.is_empty() { Ok(()) } else { self.put_receipt(None, paths).await }
    }

    async fn put_receipt(&self, run: Option<RunEntry>, not_written: Vec<DocumentPath>) -> Result<()> {
        for _ in 0..MAX_RACES {
            let sequence = self.next.fetch_add(1, Ordering::SeqCst);
            let (job, attempt) = (self.plan.job.clone(), self.attempt);
            let receipt = UndoReceipt { job, sequence, attempt, run: run.clone(), not_written: not_written.clone() };
            let path = layout::undo_receipt(&self.plan.job, sequence);
            let put =
                self.settings.repository.put_sealed(ObjectType::UndoReceipt, &path, &self.settings.sealing, &receipt);
            if put.await? == Put::Stored {
                return Ok(());
            }
        }
        Err(EngineError::Refused("too many processes run the same restore at one time".to_owned()))
    }

    /// Merges everything sealed into one snapshot, and clears what is not needed any more.
    pub(crate) async fn finish(&self) -> Result<Manifest> {
        let repository = &self.settings.repository;
        let path = layout::manifest(&self.plan.job);
        let receipts = undo_receipts(repository, &self.plan.job).await?;
        let merged = self.merge(&receipts).await?;
        let manifest = self.manifest(merged);
        repository.put_sealed(ObjectType::Manifest, &path, &self.settings.sealing, &manifest).await?;
        let (manifest, _) = repository.manifest(&self.plan.job).await?;
        repository.clear_job(&self.plan.job).await?;
        repository.delete_all(receipts.iter().flat_map(|receipt| &receipt.run).map(|run| layout::run(run.id))).await?;
        Ok(manifest)
    }

    async fn merge(&self, receipts: &[UndoReceipt]) -> Result<Vec<RunEnd>> {
        let layers = undo_layers(receipts, self.plan.key);
        let meter = Arc::new(Meter::default());
        let mut merge = Merge::new(&self.settings.repository, &layers, &PathRange::everything(), &meter);
        let mut ends = Vec::new();
        let mut next = merge.next().await?;
        while next.is_some() {
            let mut run = RunUpload::start(self.settings.clone(), RunKind::Delta, None)?;
            while let Some(record) = next.take_if(|_| run.raw_bytes() < MERGED_RUN_BYTES) {
                run.push(&record.as_ref()).await?;
                next = merge.next().await?;
            }
            ends.push(run.finish().await?);
        }
        Ok(ends)
    }

    fn manifest(&self, merged: Vec<RunEnd>) -> Manifest {
        let (mut runs, mut collections) = (Vec::new(), GroupCounts::new());
        for end in merged {
            runs.push(end.entry);
            for (group, counts) in end.collections {
                collections.entry(group).or_default().add(counts);
            }
        }
        let mut totals = Counts::default();
        for counts in collections.values() {
            totals.add(*counts);
        }
        Manifest {
            format: FORMAT_VERSION,
            id: self.plan.job.clone(),
            kind: SnapshotKind::Undo,
            parent: Some(self.plan.snapshot.clone()),
            source: self.plan.target.clone(),
            selection: self.plan.selection.clone(),
            consistency: Consistency::Ranged,
            read_times: Vec::new(),
            stored_bytes: runs.iter().map(|run| run.size).sum(),
            runs,
            totals,
            collections,
            auth: None,
            compression: COMPRESSION,
            levels: std::collections::BTreeMap::new(),
            key: self.plan.key,
            reads: 0,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.plan.created,
            finished: self.settings.repository.world().now(),
        }
    }
}
