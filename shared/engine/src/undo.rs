//! What a restore replaces, kept so that the restore can be taken back.
//!
//! While the restore runs, each batch's current versions are sealed into a small run with a receipt before anything is
//! written. When it ends, they are merged into one snapshot of kind `undo`.

use std::sync::Arc;

use bytes::Bytes;
use firebackup_codec::object::ObjectType;
use firebackup_codec::record::Origin;
use firebackup_codec::run::writer::RunEnd;
use firebackup_codec::sealing::Sealing;
use firebackup_model::document;
use firebackup_model::id::JobId;
use firebackup_model::job::{RestorePlan, UndoReceipt};
use firebackup_model::manifest::{Algorithm, Level, RunEntry};
use firebackup_model::manifest::{
    Compression, Consistency, Counts, FORMAT_VERSION, GroupCounts, Manifest, RunKind, SnapshotKind,
};
use firebackup_model::{DocumentPath, PathRange, Selection};
use tokio::sync::Mutex;

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
///
/// Receipts are a chain: each is put if absent, and only once the one before is there. So one that is missing shows, and
/// who finds a link taken has read what took it: an attempt never replaces anything behind the link that closes.
pub(crate) struct UndoLog {
    settings: RunSettings,
    plan: Arc<RestorePlan>,
    chain: Mutex<Chain>,
}

struct Chain {
    next: u32,
    /// The sequence of this attempt's first receipt.
    attempt: Option<u32>,
    /// Whether an earlier attempt has closed it.
    is_closed: bool,
}

/// What came of adding a link to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Added,
    /// Another process has closed the chain.
    Closed,
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
        let is_closed = receipts.iter().any(|receipt| receipt.closes);
        Ok(Self::open_at(repository, plan, sealing, receipts.len() as u32, is_closed))
    }

    /// Opens the log of a restore that many processes do in parts, without reading what all of them have kept so far.
    ///
    /// # Errors
    /// When the log is closed: nothing may be replaced any more.
    pub(crate) async fn join(repository: &Repository, plan: &Arc<RestorePlan>, sealing: &Sealing) -> Result<Self> {
        let log = Self::open_at(repository, plan, sealing, 0, false);
        let kept = repository.list(layout::undo_receipts(&plan.job).as_ref()).await?.len() as u32;
        if let Some(last) = kept.checked_sub(1) {
            let path = layout::undo_receipt(&plan.job, last);
            let found: Option<(UndoReceipt, _)> = repository.get_sealed(ObjectType::UndoReceipt, &path).await?;
            if found.is_none_or(|(receipt, _)| receipt.closes) {
                return Err(ended_elsewhere(&plan.job));
            }
        }
        log.chain.lock().await.next = kept;
        Ok(log)
    }

    fn open_at(
        repository: &Repository,
        plan: &Arc<RestorePlan>,
        sealing: &Sealing,
        next: u32,
        is_closed: bool,
    ) -> Self {
        let chain = Mutex::new(Chain { next, attempt: None, is_closed });
        // what is written for undo is not what the user watches
        let quiet = Arc::new(Meter::default());
        let settings = RunSettings::new(repository.clone(), sealing.clone(), COMPRESSION, quiet);
        Self { settings, plan: Arc::clone(plan), chain }
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
            let path = item.path;
            let record =
                Record { path, body: item.document, update_time, point: None, commit_time: None, origin: Origin::Base };
            run.push(&record.as_ref()).await?;
        }
        let run = run.finish().await?.entry;
        let link = self.link(Some(run), Vec::new(), false).await?;
        // a chain that was closed and cleared away shows by what it was cleared for
        if link == Link::Closed || self.committed().await?.is_some() {
            return Err(ended_elsewhere(&self.plan.job));
        }
        Ok(())
    }

    /// Says of documents that were sealed that they were not written after all: their records do not count.
    pub(crate) async fn not_written(&self, paths: Vec<DocumentPath>) -> Result<()> {
        if !paths.is_empty() && self.link(None, paths, false).await? == Link::Closed {
            return Err(ended_elsewhere(&self.plan.job));
        }
        Ok(())
    }

    async fn link(&self, run: Option<RunEntry>, not_written: Vec<DocumentPath>, closes: bool) -> Result<Link> {
        let repository = &self.settings.repository;
        let mut chain = self.chain.lock().await;
        for _ in 0..MAX_RACES {
            let (job, sequence) = (self.plan.job.clone(), chain.next);
            let attempt = chain.attempt.unwrap_or(sequence);
            let (run, not_written) = (run.clone(), not_written.clone());
            let receipt = UndoReceipt { job, sequence, attempt, run, not_written, closes };
            let path = layout::undo_receipt(&self.plan.job, sequence);
            let put = repository.put_sealed(ObjectType::UndoReceipt, &path, &self.settings.sealing, &receipt);
            if put.await? == Put::Stored {
                *chain = Chain { next: sequence + 1, attempt: Some(attempt), is_closed: closes };
                return Ok(Link::Added);
            }
            let there: Option<(UndoReceipt, _)> = repository.get_sealed(ObjectType::UndoReceipt, &path).await?;
            if there.is_none_or(|(there, _)| there.closes) {
                return Ok(Link::Closed);
            }
            chain.next += 1;
        }
        Err(EngineError::Refused("too many processes run the same restore at one time".to_owned()))
    }

    /// The snapshot that the log has become, if it has.
    async fn committed(&self) -> Result<Option<Manifest>> {
        let repository = &self.settings.repository;
        if repository.is_dropped(&self.plan.job).await? {
            return Ok(None);
        }
        Ok(Some(repository.manifest(&self.plan.job).await?.0))
    }

    /// Closes the log, merges everything sealed into one snapshot, and clears what is not needed any more. Safe to be
    /// done by two at once: both merge the same.
    pub(crate) async fn finish(&self) -> Result<Manifest> {
        let (manifest, receipts) = self.commit().await?;
        if !receipts.is_empty() {
            self.clear(&receipts).await;
        }
        Ok(manifest)
    }

    /// As [`Self::finish`], leaving everything where it is. Returns too what the snapshot was merged from, if it was now.
    pub(crate) async fn commit(&self) -> Result<(Manifest, Vec<UndoReceipt>)> {
        if let Some(manifest) = self.committed().await? {
            return Ok((manifest, Vec::new()));
        }
        // one that was killed while it ended has closed it: every further link would be one more to read
        if !self.chain.lock().await.is_closed {
            self.link(None, Vec::new(), true).await?;
        }
        let committed = self.merge_and_commit().await;
        match (committed, self.committed().await?) {
            (Ok(receipts), Some(manifest)) => Ok((manifest, receipts)),
            // another process was faster, and has cleared away what this one was reading
            (Err(_), Some(manifest)) => Ok((manifest, Vec::new())),
            (Err(error), None) => Err(error),
            (Ok(_), None) => Err(EngineError::NotFound(format!("the undo of {} cannot be read back", self.plan.job))),
        }
    }

    async fn merge_and_commit(&self) -> Result<Vec<UndoReceipt>> {
        let repository = &self.settings.repository;
        let receipts = undo_receipts(repository, &self.plan.job).await?;
        let merged = self.merge(&receipts).await?;
        if !repository.prove_key(self.plan.key).await? {
            let reason = "the key of its undo is gone from the repository: a prune has given the job up";
            return Err(EngineError::Incomplete { job: self.plan.job.clone(), reason: reason.to_owned() });
        }
        let path = layout::manifest(&self.plan.job);
        let manifest = self.manifest(merged);
        repository.put_sealed(ObjectType::Manifest, &path, &self.settings.sealing, &manifest).await?;
        Ok(receipts)
    }

    /// What cannot be cleared away is a prune's to remove: the undo is there.
    async fn clear(&self, receipts: &[UndoReceipt]) {
        let repository = &self.settings.repository;
        let runs = receipts.iter().flat_map(|receipt| &receipt.run).map(|run| layout::run(run.id)).collect();
        repository.clear_quietly(&self.plan.job).await;
        if let Err(error) = repository.delete_all(runs).await {
            tracing::warn!(job = %self.plan.job, error = %error, "what an undo was merged from could not be removed");
        }
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

    /// What the undo is about, in paths of the target: after a renaming those of the selection mean others.
    fn selection(&self) -> Selection {
        if self.plan.renames.is_empty() { self.plan.selection.clone() } else { Selection::default() }
    }

    fn manifest(&self, merged: Vec<RunEnd>) -> Manifest {
        let (mut runs, mut collections) = (Vec::new(), GroupCounts::new());
        for end in merged {
            runs.push(end.entry);
            for (group, counts) in end.collections {
                collections.entry(group).or_default().add(counts);
            }
        }
        Manifest {
            format: FORMAT_VERSION,
            id: self.plan.job.clone(),
            kind: SnapshotKind::Undo,
            parent: Some(self.plan.snapshot.clone()),
            parent_changed_until: None,
            source: self.plan.target.clone(),
            selection: self.selection(),
            consistency: Consistency::Ranged,
            read_times: Vec::new(),
            stored_bytes: runs.iter().map(|run| run.size).sum(),
            runs,
            totals: Counts::of(&collections),
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

/// Another process of the same restore has ended it.
pub(crate) fn ended_elsewhere(job: &JobId) -> EngineError {
    EngineError::Refused(format!(
        "another process went on with {job} at the same time and has ended it: its undo is complete; run the command again to \
         see that nothing is left to do"
    ))
}
