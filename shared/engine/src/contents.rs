//! What a snapshot, an undo or a live database holds, as one stream of documents in path order.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use firebackup_codec::object::ObjectType;
use firebackup_model::id::{JobId, JobKind, KeyId, RunId};
use firebackup_model::job::UndoReceipt;
use firebackup_model::manifest::{Manifest, SnapshotKind};
use firebackup_model::port::{DocumentSource, DocumentStream};
use firebackup_model::reported::AsReported;
use firebackup_model::selection::{Filter, Selection};
use firebackup_model::{DocumentPath, ErrorKind, PathRange, PortError, Timestamp, document};
use futures::StreamExt;

use crate::error::{EngineError, Result};
use crate::history::as_reported;
use crate::incremental::{layers_of, lineage};
use crate::layout;
use crate::merge::{Layer, Merge, OpenRuns};
use crate::moments::{Moment, Moments};
use crate::repository::Repository;
use crate::retry;
use crate::world::{Meter, World};

/// A document, or a tombstone, of a stream.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its path.
    pub path: DocumentPath,
    /// Its bytes; nothing for a tombstone.
    pub document: Option<Bytes>,
    /// When it was last changed.
    pub update_time: Option<Timestamp>,
}

/// The layers of a snapshot or of an undo, and the database they came from.
pub(crate) struct Stored {
    pub(crate) layers: Vec<Layer>,
    pub(crate) source: firebackup_model::DatabaseName,
    /// What was selected when it was made: of anything else it says nothing.
    pub(crate) selection: Selection,
    pub(crate) is_undo: bool,
    pub(crate) records: u64,
}

/// What a snapshot holds, or with `at` what the database held at that consistent point, the snapshot being its base.
pub(crate) async fn stored(repository: &Repository, id: &JobId, at: Option<Timestamp>) -> Result<Stored> {
    match at {
        None => stored_snapshot(repository, id).await,
        Some(point) => stored_moment(repository, id, point).await,
    }
}

async fn stored_moment(repository: &Repository, base: &JobId, point: Timestamp) -> Result<Stored> {
    let (manifest, _) = repository.manifest(base).await?;
    let moments = Moments::read(repository, &manifest.source).await?;
    let moment = Moment { point, base: base.clone(), is_base: false };
    let layers = moments.layers(&moment)?;
    let (source, selection, records) = (manifest.source, manifest.selection, manifest.totals.documents);
    Ok(Stored { layers, source, selection, is_undo: false, records })
}

/// One document as it was reported to be, of the database that a snapshot is of: the one record that says so, if it was there.
pub(crate) async fn stored_as_reported(repository: &Repository, id: &JobId, wanted: &AsReported) -> Result<Stored> {
    let (manifest, _) = repository.manifest(id).await?;
    let version = as_reported(repository, &manifest.source, &wanted.path, wanted.at, &Arc::default()).await?;
    let (source, selection) = (manifest.source, Selection::of_document(&wanted.path));
    Ok(Stored { layers: version.layer().into_iter().collect(), source, selection, is_undo: false, records: 1 })
}

/// The runs that a restore needs besides those of its snapshot: of a consistent point, or of what was reported.
pub(crate) async fn needed_runs(
    repository: &Repository,
    base: &JobId,
    at: Option<Timestamp>,
    reported: Option<&AsReported>,
) -> Result<Vec<RunId>> {
    let layers = match (at, reported) {
        (_, Some(wanted)) => stored_as_reported(repository, base, wanted).await?.layers,
        (Some(point), None) => {
            let mut layers = stored_moment(repository, base, point).await?.layers;
            layers.retain(|layer| layer.span.is_some());
            layers
        }
        (None, None) => Vec::new(),
    };
    Ok(layers.into_iter().map(|layer| layer.entry.id).collect())
}

/// Finds what a snapshot id stands for: a manifest, or the undo of a restore that has not ended.
async fn stored_snapshot(repository: &Repository, id: &JobId) -> Result<Stored> {
    if id.kind() == JobKind::Restore
        && repository.get_sealed::<Manifest>(ObjectType::Manifest, &layout::manifest(id)).await?.is_none()
    {
        return unfinished_undo(repository, id).await;
    }
    let (manifest, _) = repository.manifest(id).await?;
    let lineage = lineage(repository, &manifest).await?;
    let records = lineage.iter().map(|one| one.totals.documents + one.totals.deletions).sum();
    let is_undo = manifest.kind == SnapshotKind::Undo;
    let (layers, source) = (layers_of(&lineage), manifest.source);
    Ok(Stored { layers, source, selection: manifest.selection, is_undo, records })
}

async fn unfinished_undo(repository: &Repository, job: &JobId) -> Result<Stored> {
    let plan = crate::restore_plan::read_restore_plan(repository, job).await?;
    let plan = plan.ok_or_else(|| {
        EngineError::NotFound(format!("there is no undo of {job}: the restore kept none, or is unknown"))
    })?;
    let receipts = undo_receipts(repository, job).await?;
    let records = receipts.iter().flat_map(|receipt| &receipt.run).map(|run| run.records).sum();
    let layers = undo_layers(&receipts, plan.key);
    Ok(Stored { layers, source: plan.target, selection: plan.selection, is_undo: true, records })
}

/// All undo receipts of a restore, by sequence, with none missing in between: what it held would be lost to the undo.
pub(crate) async fn undo_receipts(repository: &Repository, job: &JobId) -> Result<Vec<UndoReceipt>> {
    let mut receipts = Vec::new();
    for meta in repository.list(layout::undo_receipts(job).as_ref()).await? {
        let found: Option<(UndoReceipt, _)> = repository.get_sealed(ObjectType::UndoReceipt, &meta.location).await?;
        receipts.extend(found.map(|(receipt, _)| receipt));
    }
    receipts.sort_by_key(|receipt| receipt.sequence);
    for (expected, receipt) in (0..).zip(&receipts) {
        if receipt.sequence != expected || receipt.job != *job {
            let missing = layout::undo_receipt(job, expected);
            return Err(EngineError::Refused(format!("`{missing}` is gone, and with it a part of the undo of {job}")));
        }
    }
    Ok(receipts)
}

/// Ranks undo runs: the earliest attempt first, and within it the latest record; what an attempt did not write is left out.
pub(crate) fn undo_layers(receipts: &[UndoReceipt], key: Option<KeyId>) -> Vec<Layer> {
    let mut not_written: BTreeMap<u32, HashSet<DocumentPath>> = BTreeMap::new();
    for receipt in receipts {
        not_written.entry(receipt.attempt).or_default().extend(receipt.not_written.iter().cloned());
    }
    let not_written: BTreeMap<_, _> =
        not_written.into_iter().map(|(attempt, paths)| (attempt, Arc::new(paths))).collect();
    let layer = |receipt: &UndoReceipt| {
        let rank = u64::from(u32::MAX - receipt.attempt) << 32 | u64::from(receipt.sequence);
        let except = not_written.get(&receipt.attempt).cloned().unwrap_or_default();
        receipt.run.clone().map(|entry| Layer {
            entry,
            key,
            rank,
            except,
            span: None,
            changed_until: None,
            by_update_time: false,
            only: None,
        })
    };
    receipts.iter().filter_map(layer).collect()
}

/// Documents from wherever, in path order.
pub struct Contents {
    from: From,
    filter: Option<Filter>,
    ranges: VecDeque<PathRange>,
    meter: Arc<Meter>,
}

enum From {
    Stored { repository: Repository, layers: Vec<Layer>, current: Option<Merge>, runs: OpenRuns },
    Live(Live),
}

struct Live {
    source: Arc<dyn DocumentSource>,
    world: World,
    at: Timestamp,
    current: Option<(PathRange, DocumentStream)>,
    failures: u32,
    /// Whether a read time that became too old may be replaced by a newer one.
    may_reanchor: bool,
}

impl Contents {
    /// What a snapshot (or an undo) holds of `selection`.
    ///
    /// # Errors
    /// When there is no such snapshot or a pattern is wrong.
    pub async fn of_snapshot(
        repository: &Repository,
        id: &JobId,
        selection: &Selection,
        meter: &Arc<Meter>,
    ) -> Result<Self> {
        let stored = stored(repository, id, None).await?;
        Self::of_layers(repository, stored.layers, selection, meter)
    }

    /// What a database held of `selection` at a moment.
    ///
    /// # Errors
    /// When the moment cannot be put back, or a pattern is wrong.
    pub fn of_moment(
        repository: &Repository,
        moments: &Moments,
        moment: &Moment,
        selection: &Selection,
        meter: &Arc<Meter>,
    ) -> Result<Self> {
        Self::of_layers(repository, moments.layers(moment)?, selection, meter)
    }

    pub(crate) fn of_layers(
        repository: &Repository,
        layers: Vec<Layer>,
        selection: &Selection,
        meter: &Arc<Meter>,
    ) -> Result<Self> {
        let from = From::Stored { repository: repository.clone(), layers, current: None, runs: OpenRuns::default() };
        Self::new(from, selection, meter)
    }

    /// The same, asking a filter of the same selection that others ask too.
    pub(crate) fn asking(mut self, filter: &Filter) -> Self {
        self.filter = self.filter.map(|_| filter.clone());
        self
    }

    /// The patterns of the selection that have fitted no document so far.
    #[must_use]
    pub fn unmatched(&self) -> Vec<String> {
        self.filter.as_ref().map(Filter::unmatched).unwrap_or_default()
    }

    /// What a live database held of `selection` at `at`.
    ///
    /// # Errors
    /// When a pattern is wrong.
    pub fn of_database(
        source: Arc<dyn DocumentSource>,
        at: Timestamp,
        selection: &Selection,
        world: &World,
        meter: &Arc<Meter>,
    ) -> Result<Self> {
        let live = Live { source, world: world.clone(), at, current: None, failures: 0, may_reanchor: false };
        Self::new(From::Live(live), selection, meter)
    }

    fn new(from: From, selection: &Selection, meter: &Arc<Meter>) -> Result<Self> {
        let filter = if selection.is_everything() { None } else { Some(selection.filter()?) };
        Ok(Self { from, filter, ranges: selection.ranges()?.into(), meter: Arc::clone(meter) })
    }

    /// The same of a live database, going on at a newer time where the read time became too old.
    pub(crate) fn reanchoring(mut self) -> Self {
        if let From::Live(live) = &mut self.from {
            live.may_reanchor = true;
        }
        self
    }

    /// The same, narrowed to some ranges.
    pub(crate) fn within(mut self, ranges: Vec<PathRange>) -> Self {
        self.ranges = ranges.into();
        self
    }

    /// The next document or tombstone; nothing at the end.
    ///
    /// # Errors
    /// When the store or the database fails for good, or a run is damaged.
    pub async fn next(&mut self) -> Result<Option<Item>> {
        loop {
            let item = match &mut self.from {
                From::Stored { repository, layers, current, runs } => {
                    next_stored(repository, layers, current, runs, &mut self.ranges, &self.meter).await?
                }
                From::Live(live) => live.next(&mut self.ranges, &self.meter).await?,
            };
            match item {
                Some(item) if self.filter.as_ref().is_some_and(|filter| !filter.selects(&item.path)) => {}
                item => return Ok(item),
            }
        }
    }
}

async fn next_stored(
    repository: &Repository,
    layers: &[Layer],
    current: &mut Option<Merge>,
    runs: &mut OpenRuns,
    ranges: &mut VecDeque<PathRange>,
    meter: &Arc<Meter>,
) -> Result<Option<Item>> {
    loop {
        let merge = match current {
            Some(merge) => merge,
            None => match ranges.pop_front() {
                None => return Ok(None),
                Some(range) => {
                    let merge = Merge::new(repository, layers, &range, meter);
                    // of a single range there is nobody to keep them for
                    let is_single = ranges.is_empty() && runs.is_empty();
                    current.insert(if is_single { merge } else { merge.with(std::mem::take(runs)) })
                }
            },
        };
        match merge.next().await? {
            Some(record) => {
                return Ok(Some(Item { path: record.path, document: record.body, update_time: record.update_time }));
            }
            None => *runs = current.take().map(Merge::into_runs).unwrap_or_default(),
        }
    }
}

impl Live {
    async fn next(&mut self, ranges: &mut VecDeque<PathRange>, meter: &Meter) -> Result<Option<Item>> {
        loop {
            let Some((range, stream)) = &mut self.current else {
                let Some(range) = ranges.pop_front() else { return Ok(None) };
                self.open(range).await?;
                continue;
            };
            match stream.next().await {
                None => self.current = None,
                Some(Ok(document)) => {
                    let item = item(&self.source, &document.0)?;
                    *range = range.behind(item.path.clone());
                    self.failures = 0;
                    meter.reads.add(1);
                    return Ok(Some(item));
                }
                Some(Err(error)) => {
                    let rest = range.clone();
                    self.recover(error).await?;
                    self.open(rest).await?;
                }
            }
        }
    }

    async fn open(&mut self, range: PathRange) -> Result<()> {
        loop {
            match self.source.stream(&range, self.at, None).await {
                Ok(stream) => {
                    self.current = Some((range, stream));
                    return Ok(());
                }
                Err(error) => self.recover(error).await?,
            }
        }
    }

    async fn recover(&mut self, error: PortError) -> Result<()> {
        self.failures += 1;
        if error.kind == ErrorKind::ReadTimeTooOld && self.may_reanchor && self.failures < retry::MAX_TRIES {
            self.at = self.source.snapshot_time().await?;
            return Ok(());
        }
        if !error.can_be_retried() || self.failures >= retry::MAX_TRIES {
            return Err(error.into());
        }
        tokio::time::sleep(retry::delay(&self.world, self.failures)).await;
        Ok(())
    }
}

fn item(source: &Arc<dyn DocumentSource>, bytes: &[u8]) -> Result<Item> {
    let head = document::head(bytes).map_err(|source| EngineError::Document { path: None, source })?;
    let path = source.database().path_of(head.name);
    let path = path.map_err(|_| {
        PortError::new(ErrorKind::Corrupt, "read documents", "the server sent a document of another database")
    })?;
    // copied: the bytes may pin a receive buffer
    Ok(Item { path, document: Some(Bytes::copy_from_slice(bytes)), update_time: head.update_time })
}
