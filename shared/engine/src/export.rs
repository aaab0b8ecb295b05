//! Exports one chunk: streams its documents at the read time into runs, and leaves a receipt for each.
//!
//! Every step is safe to be killed, to run twice and to lose a race: a step covers from where the receipt before it ended,
//! and whoever puts the receipt first has done the step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firebackup_codec::object::ObjectType;
use firebackup_codec::record::RecordRef;
use firebackup_model::job::{Plan, Receipt};
use firebackup_model::manifest::{GroupCounts, RunKind, SnapshotKind};
use firebackup_model::port::{DocumentSource, DocumentStream};
use firebackup_model::selection::Filter;
use firebackup_model::{DocumentPath, ErrorKind, PathRange, PortError, Timestamp};
use firebackup_model::{document, path};
use futures::StreamExt;
use tokio::time::Instant;

use crate::budget::ReadBudget;
use crate::error::{EngineError, Result};
use crate::layout;
use crate::merge::{Heads, Layer, Merge};
use crate::objects::Put;
use crate::read::Record;
use crate::retry;
use crate::run_upload::{RunSettings, RunUpload};
use crate::world::Stop;

/// Read times tried in one step, one after the other.
const MAX_ANCHORS: u32 = 3;
/// After how many documents it is looked whether a step should end.
const BETWEEN_BOUNDS: u64 = 256;

/// When a step ends although its chunk does not: a kill then loses no more than this.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepBounds {
    pub(crate) raw_bytes: u64,
    pub(crate) time: Duration,
}

impl Default for StepBounds {
    fn default() -> Self {
        Self { raw_bytes: 512 * 1024 * 1024, time: Duration::from_secs(60) }
    }
}

/// Everything the chunks of one backup share.
#[derive(Clone)]
pub(crate) struct Exporter {
    pub(crate) source: Arc<dyn DocumentSource>,
    pub(crate) settings: RunSettings,
    pub(crate) plan: Arc<Plan>,
    pub(crate) filter: Option<Arc<Filter>>,
    pub(crate) budget: Arc<ReadBudget>,
    /// What the user asks with.
    pub(crate) stop: Stop,
    /// What a failed chunk asks the others with.
    pub(crate) abort: Stop,
    pub(crate) bounds: StepBounds,
    /// Whether a read time that became too old may be replaced by a newer one, which the manifest then says.
    pub(crate) may_reanchor: bool,
    /// What is known already, where only what differs from it is kept.
    pub(crate) known: Option<Arc<[Layer]>>,
    /// Captured changes, where what they come to is kept and nothing is read.
    pub(crate) changes: Option<Arc<[Layer]>>,
}

/// Why a step ended.
enum StepEnd {
    ChunkDone,
    BoundReached,
    Stopped,
    BudgetSpent,
    ReadTimeTooOld(PortError),
    /// For good: what was read until then is kept all the same.
    Failed(PortError),
}

/// Where a chunk stands.
struct Cursor {
    sequence: u32,
    rest: PathRange,
    read_time: Timestamp,
}

impl Exporter {
    /// Exports a chunk from wherever its receipts end.
    pub(crate) async fn export_chunk(&self, chunk: u32) -> Result<()> {
        let range = self.plan.chunks.get(chunk as usize);
        let range = range.ok_or_else(|| EngineError::Refused(format!("the plan has no chunk {chunk}")))?;
        let mut cursor = Cursor { sequence: 0, rest: range.clone(), read_time: self.plan.read_time };
        loop {
            if let Some(receipt) = self.receipt(chunk, cursor.sequence).await? {
                match receipt.through {
                    None => return Ok(()),
                    Some(last) => cursor.advance(last, receipt.read_time),
                }
                continue;
            }
            if self.must_stop() {
                return Err(EngineError::Interrupted { job: self.plan.job.clone() });
            }
            match self.step(chunk, &cursor).await?.0 {
                StepEnd::ChunkDone | StepEnd::BoundReached => {}
                StepEnd::Stopped => return Err(EngineError::Interrupted { job: self.plan.job.clone() }),
                StepEnd::BudgetSpent => return Err(self.budget.spent(&self.plan.job)),
                StepEnd::Failed(error) => return Err(error.into()),
                StepEnd::ReadTimeTooOld(error) => {
                    let read_time = self.reanchor(error).await?;
                    if read_time <= cursor.read_time {
                        return Err(EngineError::Refused(
                            "the server calls its own current time too old to read at".to_owned(),
                        ));
                    }
                    cursor.read_time = read_time;
                }
            }
        }
    }

    /// Does one step of a chunk, or adopts what another process has done of it. Says too whether it was this one.
    pub(crate) async fn export_step(&self, chunk: u32, sequence: u32) -> Result<(Receipt, bool)> {
        let mut cursor = self.cursor(chunk, sequence).await?;
        for _ in 0..MAX_ANCHORS {
            if let Some(receipt) = self.receipt(chunk, sequence).await? {
                return Ok((receipt, false));
            }
            if self.must_stop() {
                return Err(EngineError::Interrupted { job: self.plan.job.clone() });
            }
            let (end, receipt) = self.step(chunk, &cursor).await?;
            match (end, receipt) {
                (StepEnd::Stopped, _) => return Err(EngineError::Interrupted { job: self.plan.job.clone() }),
                (_, Some(receipt)) => return Ok((receipt, true)),
                (StepEnd::BudgetSpent, None) => return Err(self.budget.spent(&self.plan.job)),
                (StepEnd::Failed(error), None) => return Err(error.into()),
                (StepEnd::ReadTimeTooOld(error), None) => cursor.read_time = self.reanchor(error).await?,
                // somebody else was faster: his receipt is there now
                (StepEnd::ChunkDone | StepEnd::BoundReached, None) => {}
            }
        }
        Err(EngineError::Refused("the server calls its own current time too old to read at".to_owned()))
    }

    /// Where the step of this number begins: behind what the one before it covered.
    async fn cursor(&self, chunk: u32, sequence: u32) -> Result<Cursor> {
        let range = self.plan.chunks.get(chunk as usize);
        let range = range.ok_or_else(|| EngineError::Refused(format!("the plan has no chunk {chunk}")))?;
        let mut cursor = Cursor { sequence: 0, rest: range.clone(), read_time: self.plan.read_time };
        let Some(before) = sequence.checked_sub(1) else { return Ok(cursor) };
        let receipt = self.receipt(chunk, before).await?;
        let through = receipt.and_then(|receipt| receipt.through.map(|last| (last, receipt.read_time)));
        let (last, read_time) = through.ok_or_else(|| {
            let reason = format!("step {chunk}/{sequence} was asked for, and step {before} does not lead to it");
            EngineError::Incomplete { job: self.plan.job.clone(), reason }
        })?;
        cursor.advance(last, read_time);
        cursor.sequence = sequence;
        Ok(cursor)
    }

    /// Whether a database is read, and not what a moment is made of.
    fn is_read(&self) -> bool {
        self.plan.kind != SnapshotKind::Synthetic
    }

    fn must_stop(&self) -> bool {
        self.stop.is_requested() || self.abort.is_requested()
    }

    async fn receipt(&self, chunk: u32, sequence: u32) -> Result<Option<Receipt>> {
        let path = layout::receipt(&self.plan.job, chunk, sequence);
        let found = self.settings.repository.get_sealed(ObjectType::Receipt, &path).await?;
        Ok(found.map(|(receipt, _)| receipt))
    }

    async fn reanchor(&self, error: PortError) -> Result<Timestamp> {
        if !self.may_reanchor {
            return Err(error.into());
        }
        tracing::warn!(job = %self.plan.job, "the read time became too old: the rest is read at a newer one, and the manifest says so");
        Ok(self.source.snapshot_time().await?)
    }

    /// Reads from the cursor on into one run, and puts the receipt. Returns the receipt if it was the first.
    async fn step(&self, chunk: u32, cursor: &Cursor) -> Result<(StepEnd, Option<Receipt>)> {
        let mut step = Step::new(self, cursor);
        let end = step.read_and_compare().await?;
        let receipt = self.put_receipt(chunk, cursor, step, &end).await?;
        Ok((end, receipt))
    }

    async fn put_receipt(&self, chunk: u32, cursor: &Cursor, step: Step<'_>, end: &StepEnd) -> Result<Option<Receipt>> {
        let through = match (end, step.last()?) {
            (StepEnd::ChunkDone, _) => None,
            (_, Some(last)) => Some(last),
            (_, None) => return Ok(None),
        };
        // what is merged is read from no database
        let reads = if self.is_read() { step.reads } else { 0 };
        let seen = step.seen;
        let (run, collections, levels) = match step.run {
            None => (None, GroupCounts::new(), BTreeMap::new()),
            Some(run) => {
                let end = run.finish().await?;
                (Some(end.entry), end.collections, end.levels)
            }
        };
        let (job, sequence, read_time) = (self.plan.job.clone(), cursor.sequence, cursor.read_time);
        let start = cursor.rest.start.clone();
        let receipt =
            Receipt { job, chunk, sequence, start, through, run, collections, levels, reads, read_time, seen };
        let path = layout::receipt(&self.plan.job, chunk, sequence);
        let put =
            self.settings.repository.put_sealed(ObjectType::Receipt, &path, &self.settings.sealing, &receipt).await?;
        if put == Put::Existed {
            // somebody else did this step: his receipt counts, our run is left for a prune
            tracing::info!(job = %self.plan.job, chunk, sequence, "another process finished this step first");
            return Ok(None);
        }
        Ok(Some(receipt))
    }
}

impl Cursor {
    fn advance(&mut self, last: DocumentPath, read_time: Timestamp) {
        self.sequence += 1;
        self.rest = self.rest.behind(last);
        self.read_time = self.read_time.max(read_time);
    }
}

/// One step on its way.
struct Step<'e> {
    exporter: &'e Exporter,
    cursor: &'e Cursor,
    run: Option<RunUpload>,
    /// The path of the last document seen, selected or not; empty before the first. One buffer for all of them.
    last: String,
    reads: u64,
    /// Documents seen of each collection group, where only differences are kept.
    seen: BTreeMap<String, u64>,
    known: Option<Known>,
    started: Instant,
}

/// What is known of the range that a step reads, in path order.
struct Known {
    merge: Merge,
    next: Option<Record>,
}

impl Known {
    async fn open(exporter: &Exporter, layers: &[Layer], range: &PathRange) -> Result<Self> {
        let RunSettings { repository, meter, .. } = &exporter.settings;
        let mut merge = Merge::new(repository, layers, range, meter);
        let next = merge.next().await?;
        Ok(Self { merge, next })
    }

    /// The next known document, if `is_wanted`.
    async fn take_if(&mut self, is_wanted: impl FnOnce(&Record) -> bool) -> Result<Option<Record>> {
        let taken = self.next.take_if(|record| is_wanted(record));
        if taken.is_some() {
            self.next = self.merge.next().await?;
        }
        Ok(taken)
    }
}

impl<'e> Step<'e> {
    fn new(exporter: &'e Exporter, cursor: &'e Cursor) -> Self {
        let (run, last, seen) = (None, String::new(), BTreeMap::new());
        Self { exporter, cursor, run, last, reads: 0, seen, known: None, started: Instant::now() }
    }

    /// Reads to the step's end; what is known of the rest of a chunk that has ended is gone.
    async fn read_and_compare(&mut self) -> Result<StepEnd> {
        if let Some(changes) = &self.exporter.changes {
            return self.take_changes(changes).await;
        }
        if let Some(layers) = &self.exporter.known {
            self.known = Some(Known::open(self.exporter, layers, &self.cursor.rest).await?);
        }
        let end = self.read().await?;
        if matches!(end, StepEnd::ChunkDone) {
            self.gone_before(None).await?;
        }
        Ok(end)
    }

    /// Takes what each document has become, as captured changes say; nothing is read.
    async fn take_changes(&mut self, changes: &[Layer]) -> Result<StepEnd> {
        let RunSettings { repository, meter, .. } = &self.exporter.settings;
        let mut heads = Heads::new(repository, changes, &self.cursor.rest, meter);
        let mut looked_at = 0u64;
        while let Some((record, _)) = heads.next().await? {
            looked_at += 1;
            // the last of a path is what it has become
            if heads.stands_at(&record.path) {
                continue;
            }
            self.run()?.push(&record.as_ref()).await?;
            self.last.clear();
            self.last.push_str(record.path.as_str());
            meter.documents.add(1);
            meter.bytes.add(record.body.as_ref().map_or(0, |body| body.len() as u64));
            if looked_at >= BETWEEN_BOUNDS
                && let Some(end) = self.bound()
            {
                return Ok(end);
            }
            looked_at %= BETWEEN_BOUNDS;
        }
        Ok(StepEnd::ChunkDone)
    }

    async fn read(&mut self) -> Result<StepEnd> {
        let mut failures = 0;
        loop {
            let seen = self.reads;
            let error = match self.read_stream().await? {
                StreamEnd::Step(end) => return Ok(end),
                StreamEnd::Broken(error) => error,
            };
            failures = if self.reads > seen { 1 } else { failures + 1 };
            match error.kind {
                ErrorKind::ReadTimeTooOld => return Ok(StepEnd::ReadTimeTooOld(error)),
                kind if kind.can_be_retried() && failures < retry::MAX_TRIES => {}
                _ => return Ok(StepEnd::Failed(error)),
            }
            self.exporter.settings.meter.retries.add(1);
            // ordinary where much is read: nothing is lost, and tries are counted
            tracing::info!(error = %error, failures, "a stream broke: it goes on behind its last document");
            tokio::time::sleep(retry::delay(self.exporter.settings.repository.world(), failures)).await;
        }
    }

    async fn read_stream(&mut self) -> Result<StreamEnd> {
        let range = match self.last()? {
            Some(last) => self.cursor.rest.behind(last),
            None => self.cursor.rest.clone(),
        };
        let limit = match self.exporter.budget.limit() {
            Some(0) => return Ok(StreamEnd::Step(StepEnd::BudgetSpent)),
            limit => limit,
        };
        match self.exporter.source.stream(&range, self.cursor.read_time, limit).await {
            Ok(stream) => self.drain(stream, limit).await,
            Err(error) => Ok(StreamEnd::Broken(error)),
        }
    }

    async fn drain(&mut self, mut stream: DocumentStream, limit: Option<u32>) -> Result<StreamEnd> {
        let mut received = 0u32;
        while let Some(item) = stream.next().await {
            match item {
                Ok(document) => self.take(&document.0).await?,
                Err(error) => return Ok(StreamEnd::Broken(error)),
            }
            received += 1;
            if self.reads.is_multiple_of(BETWEEN_BOUNDS)
                && let Some(end) = self.bound()
            {
                return Ok(StreamEnd::Step(end));
            }
        }
        // a stream that ends just where its limit ends does not say that the range ends there
        let cut_by_limit = limit.is_some_and(|limit| received >= limit);
        Ok(StreamEnd::Step(if cut_by_limit { StepEnd::BudgetSpent } else { StepEnd::ChunkDone }))
    }

    fn bound(&self) -> Option<StepEnd> {
        let bounds = self.exporter.bounds;
        if self.exporter.must_stop() {
            return Some(StepEnd::Stopped);
        }
        let raw_bytes = self.run.as_ref().map_or(0, RunUpload::raw_bytes);
        (raw_bytes >= bounds.raw_bytes || self.started.elapsed() >= bounds.time).then_some(StepEnd::BoundReached)
    }

    fn last(&self) -> Result<Option<DocumentPath>> {
        if self.last.is_empty() {
            return Ok(None);
        }
        DocumentPath::new(self.last.clone()).map(Some).map_err(|_| foreign(&self.last))
    }

    async fn take(&mut self, document: &[u8]) -> Result<()> {
        let head = document::head(document).map_err(|source| EngineError::Document { path: None, source })?;
        let path = self.exporter.plan.source.relative(head.name).ok_or_else(|| foreign(head.name))?;
        path::check(path).map_err(|_| foreign(head.name))?;
        if !self.last.is_empty() && path::compare(&self.last, path).is_ge() {
            return Err(out_of_order(path));
        }
        self.last.clear();
        self.last.push_str(path);
        self.reads += 1;
        self.exporter.budget.count(1);
        if self.exporter.is_read() {
            self.exporter.settings.meter.reads.add(1);
        }
        if self.is_selected(path) {
            self.keep(path, &RecordRef::document(path, document, head.update_time)).await?;
            self.exporter.settings.meter.documents.add(1);
            self.exporter.settings.meter.bytes.add(document.len() as u64);
        }
        Ok(())
    }

    /// Puts a document into the run, unless it is known as it is.
    async fn keep(&mut self, path: &str, document: &RecordRef<'_>) -> Result<()> {
        if self.known.is_none() {
            return self.run()?.push(document).await;
        }
        *self.seen.entry(path::collection_group_of(path).to_owned()).or_default() += 1;
        self.gone_before(Some(path)).await?;
        let there = match &mut self.known {
            Some(known) => known.take_if(|record| record.path.as_str() == path).await?,
            None => None,
        };
        if there.is_some_and(|there| there.body.as_deref() == document.body) {
            return Ok(());
        }
        self.run()?.push(document).await
    }

    /// What is known before `path` and was not seen is gone.
    async fn gone_before(&mut self, path: Option<&str>) -> Result<()> {
        let is_before = |record: &Record| path.is_none_or(|path| path::compare(record.path.as_str(), path).is_lt());
        while let Some(known) = &mut self.known
            && let Some(gone) = known.take_if(is_before).await?
        {
            if self.is_selected(gone.path.as_str()) {
                self.run()?.push(&RecordRef::tombstone(gone.path.as_str())).await?;
            }
        }
        Ok(())
    }

    fn is_selected(&self, path: &str) -> bool {
        match &self.exporter.filter {
            None => true,
            Some(filter) => DocumentPath::new(path).is_ok_and(|path| filter.selects(&path)),
        }
    }

    fn run(&mut self) -> Result<&mut RunUpload> {
        let run = match self.run.take() {
            Some(run) => run,
            None => {
                let is_delta = self.known.is_some() || self.exporter.changes.is_some();
                let kind = if is_delta { RunKind::Delta } else { RunKind::Base };
                RunUpload::start(self.exporter.settings.clone(), kind, Some(self.cursor.read_time))?
            }
        };
        Ok(self.run.insert(run))
    }
}

enum StreamEnd {
    Step(StepEnd),
    Broken(PortError),
}

fn foreign(name: &str) -> EngineError {
    PortError::new(
        ErrorKind::Corrupt,
        "read documents",
        format!("the server sent `{name}`, which is not in the database asked for"),
    )
    .into()
}

fn out_of_order(path: &str) -> EngineError {
    PortError::new(ErrorKind::Corrupt, "read documents", format!("the server sent `{path}` out of order")).into()
}
