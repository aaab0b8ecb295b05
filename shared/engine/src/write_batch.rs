//! Writes one batch of a restore: read, keep, write, and again for what did not go through.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use firebackup_model::document;
use firebackup_model::job::RestoreMode;
use firebackup_model::port::{Precondition, Write, WriteOutcome};
use firebackup_model::{DocumentPath, ErrorKind, PortError, Timestamp};

use crate::diff::same;
use crate::error::{EngineError, Result};
use crate::ramp::Ramp;
use crate::restore::{Tally, Target};
use crate::restore_progress::RestoreProgress;
use crate::retry;
use crate::undo::{Replaced, UndoLog};
use crate::wanted::Wanted;
use crate::world::{Meter, World};

/// About how many bytes of current documents a batch holds at one time.
const READ_BYTES: usize = 3 * 1024 * 1024;
/// Documents read before anything is known of their size, and at most at once.
const FIRST_READ: usize = 16;
const MOST_READ: usize = 300;

/// Writes batches; shared by all that are on their way.
pub(crate) struct BatchWriter {
    pub(crate) target: Target,
    pub(crate) world: World,
    pub(crate) mode: RestoreMode,
    pub(crate) guard: Option<Timestamp>,
    pub(crate) undo: Option<UndoLog>,
    /// How far earlier attempts came, where nothing is kept for undo.
    pub(crate) progress: Option<Arc<RestoreProgress>>,
    pub(crate) ramp: Ramp,
    pub(crate) tally: Mutex<Tally>,
    pub(crate) meter: Arc<Meter>,
}

/// A document that is not done yet.
struct Pending {
    wanted: Wanted,
    /// How often it failed.
    failures: u32,
    /// Whether a write was sent whose outcome is not known.
    unknown: bool,
    /// The version that undo keeps: its update time, or nothing for "absent".
    kept: Option<Option<Timestamp>>,
    /// Whether a write was ever sent whose outcome was not known: then undo keeps the record, whatever comes of it.
    may_be_written: bool,
    /// Whether an earlier attempt has written it, so that it is most likely right already.
    was_written: bool,
    /// Whether its write was conditional on what was read.
    is_conditional: bool,
}

/// Paths that were sealed for undo and then not written.
type NotWritten = Vec<DocumentPath>;
/// A document that may be written, on a condition.
type Ready = (Precondition, Pending);

impl Pending {
    fn note_not_written(&self, not_written: &mut NotWritten) {
        if self.kept.is_some() && !self.may_be_written {
            not_written.push(self.wanted.path.clone());
        }
    }
}

/// What the target holds of a path.
struct Current {
    document: Option<Bytes>,
    update_time: Option<Timestamp>,
}

/// What becomes of a pending document after a try.
enum Next {
    Done,
    Again(Pending),
}

impl BatchWriter {
    /// Writes `batch` until every document is done, skipped, in conflict or has failed for good.
    pub(crate) async fn write(&self, batch: Vec<Wanted>) -> Result<()> {
        let (batch, hopeless): (Vec<_>, Vec<_>) = batch.into_iter().partition(|wanted| wanted.problem.is_none());
        hopeless.iter().for_each(|wanted| self.refuse(wanted));
        let mut parts = vec![batch.into_iter().map(|wanted| self.fresh(wanted)).collect::<Vec<_>>()];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let mut not_written = Vec::new();
            let again = self.attempt(part, &mut not_written).await?;
            if let Some(undo) = &self.undo {
                undo.not_written(not_written).await?;
            }
            let failures = again.iter().flatten().map(|item| item.failures).max().unwrap_or_default();
            parts.extend(again);
            if failures > 0 {
                self.meter.retries.add(1);
                tokio::time::sleep(retry::delay(&self.world, failures)).await;
            }
        }
        Ok(())
    }

    fn fresh(&self, wanted: Wanted) -> Pending {
        let was_written = self.progress.as_ref().is_some_and(|progress| progress.was_written(&wanted));
        Pending {
            wanted,
            failures: 0,
            unknown: false,
            kept: None,
            may_be_written: false,
            was_written,
            is_conditional: false,
        }
    }

    /// Counts a document that cannot be put into the target at all.
    fn refuse(&self, wanted: &Wanted) {
        self.meter.failed.add(1);
        self.meter.documents.add(1);
        self.tally(|tally| {
            tally.failed += 1;
            tally.problem(&wanted.path, wanted.problem.as_deref().unwrap_or_default());
        });
    }

    /// What was tallied.
    pub(crate) fn take_tally(&self) -> Tally {
        self.tally.lock().map(|mut tally| std::mem::take(&mut *tally)).unwrap_or_default()
    }

    fn tally(&self, change: impl FnOnce(&mut Tally)) {
        if let Ok(mut tally) = self.tally.lock() {
            change(&mut tally);
        }
    }

    /// Tries once; returns what is to be tried again, in the requests in which to try it.
    async fn attempt(&self, pending: Vec<Pending>, not_written: &mut NotWritten) -> Result<Vec<Vec<Pending>>> {
        // an unconditional write can simply be sent again; one that must find nothing may find itself
        let finds_itself = self.mode == RestoreMode::SkipExisting && pending.iter().any(|item| item.unknown);
        let was_written = pending.iter().any(|item| item.was_written);
        let (ready, rest) = if self.undo.is_some() || self.guard.is_some() || finds_itself || was_written {
            self.prepare(pending, not_written).await?
        } else {
            let blind = |item| (self.blind_precondition(), Pending { is_conditional: false, ..item });
            (pending.into_iter().map(blind).collect(), Vec::new())
        };
        if ready.is_empty() {
            return Ok(vec![rest]);
        }
        self.ramp.admit(ready.len()).await;
        let (writes, items): (Vec<Write>, Vec<Pending>) = ready.into_iter().map(into_write).unzip();
        let mut again = match self.target.sink.write(writes).await {
            Ok(outcomes) => vec![self.settle(items, outcomes, not_written)],
            Err(error) => self.whole_request_failed(items, error, not_written)?,
        };
        again.push(rest);
        Ok(again)
    }

    const fn blind_precondition(&self) -> Precondition {
        match self.mode {
            RestoreMode::SkipExisting => Precondition::Absent,
            RestoreMode::Overwrite | RestoreMode::Mirror => Precondition::None,
        }
    }

    /// Reads what is there, drops what needs no write, keeps the rest for undo, and conditions each write on what was
    /// read. What would take too much memory to read at once is returned for later.
    async fn prepare(
        &self,
        mut pending: Vec<Pending>,
        not_written: &mut NotWritten,
    ) -> Result<(Vec<Ready>, Vec<Pending>)> {
        let current = self.read_current(&pending).await?;
        let rest = pending.split_off(current.len());
        let deleted = self.deleted_since_guard(&pending, &current).await?;
        let mut ready = Vec::with_capacity(pending.len());
        let mut keep = Vec::new();
        for (mut item, current) in pending.into_iter().zip(current) {
            if self.needs_no_write(&item, &current, &deleted, not_written) {
                continue;
            }
            // what is there now is not ours: it was compared with what we want to write
            item.unknown = false;
            item.is_conditional = true;
            if self.undo.is_some() && item.kept != Some(current.update_time) {
                item.kept = Some(current.update_time);
                keep.push(Replaced { path: item.wanted.path.clone(), document: current.document });
            }
            let precondition = current.update_time.map_or(Precondition::Absent, Precondition::UpdatedAt);
            ready.push((precondition, item));
        }
        if let Some(undo) = &self.undo {
            undo.seal(keep).await?;
        }
        Ok((ready, rest))
    }

    /// Reads the first documents of `pending`: as many as fit into [`READ_BYTES`], by growing steps.
    async fn read_current(&self, pending: &[Pending]) -> Result<Vec<Current>> {
        let paths: Vec<DocumentPath> = pending.iter().map(|item| item.wanted.path.clone()).collect();
        let (mut current, mut bytes, mut step): (Vec<Current>, usize, usize) = (Vec::new(), 0, FIRST_READ);
        while current.len() < paths.len() && bytes < READ_BYTES {
            let next = &paths[current.len()..(current.len() + step).min(paths.len())];
            let documents = self.target.source.get(next, None).await?;
            self.meter.reads.add(next.len() as u64);
            for (document, path) in documents.into_iter().zip(next) {
                bytes += document.as_ref().map_or(0, |document| document.0.len());
                current.push(read(document, path)?);
            }
            let mean = bytes / current.len().max(1);
            step = ((READ_BYTES - bytes.min(READ_BYTES)) / mean.max(1)).clamp(FIRST_READ, MOST_READ);
        }
        Ok(current)
    }

    /// With a guard: which of the absent documents were there at the dry run.
    async fn deleted_since_guard(&self, pending: &[Pending], current: &[Current]) -> Result<HashSet<DocumentPath>> {
        let Some(guard) = self.guard else { return Ok(HashSet::new()) };
        let absent = pending.iter().zip(current).filter(|(_, current)| current.document.is_none());
        let absent: Vec<DocumentPath> = absent.map(|(item, _)| item.wanted.path.clone()).collect();
        if absent.is_empty() {
            return Ok(HashSet::new());
        }
        self.meter.reads.add(absent.len() as u64);
        let then = match self.target.source.get(&absent, Some(guard)).await {
            Ok(then) => then,
            Err(error) if error.kind == ErrorKind::ReadTimeTooOld => {
                let text = "the dry run is too old to tell what was deleted since: make a new one, and give its guard";
                return Err(EngineError::Refused(text.to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(absent.into_iter().zip(then).filter(|(_, then)| then.is_some()).map(|(path, _)| path).collect())
    }

    fn needs_no_write(
        &self,
        item: &Pending,
        current: &Current,
        deleted: &HashSet<DocumentPath>,
        not_written: &mut NotWritten,
    ) -> bool {
        let path = &item.wanted.path;
        let is_same = match (&current.document, &item.wanted.document) {
            (None, None) => true,
            // what cannot be compared is written
            (Some(a), Some(b)) => same(path, a, b).unwrap_or(false),
            _ => false,
        };
        let is_newer = self.guard.is_some_and(|guard| current.update_time.is_some_and(|time| time > guard));
        if is_same {
            self.tally(|tally| if item.may_be_written { tally.written += 1 } else { tally.same += 1 });
        } else if self.mode == RestoreMode::SkipExisting && current.document.is_some() {
            self.tally(|tally| tally.skipped += 1);
            item.note_not_written(not_written);
        } else if is_newer || deleted.contains(path) {
            self.conflict(path);
            item.note_not_written(not_written);
        } else {
            return false;
        }
        self.meter.documents.add(1);
        true
    }

    fn conflict(&self, path: &DocumentPath) {
        self.tally(|tally| {
            tally.conflicts += 1;
            tally.problem(path, "changed since the dry run");
        });
    }

    fn settle(&self, items: Vec<Pending>, outcomes: Vec<WriteOutcome>, not_written: &mut NotWritten) -> Vec<Pending> {
        let mut again = Vec::new();
        for (item, outcome) in items.into_iter().zip(outcomes) {
            match self.settle_one(item, outcome, not_written) {
                Next::Again(item) => again.push(item),
                Next::Done => self.meter.documents.add(1),
            }
        }
        again
    }

    fn settle_one(&self, mut item: Pending, outcome: WriteOutcome, not_written: &mut NotWritten) -> Next {
        let error = match outcome {
            Ok(_) => {
                self.meter.writes.add(1);
                let deletes = item.wanted.document.is_none();
                self.meter.bytes.add(item.wanted.document.as_ref().map_or(0, |document| document.len() as u64));
                self.tally(|tally| if deletes { tally.deleted += 1 } else { tally.written += 1 });
                return Next::Done;
            }
            Err(error) => error,
        };
        if error.kind == ErrorKind::ResourceExhausted {
            self.ramp.throttle();
        }
        item.failures += 1;
        if is_mismatch(error.kind) && (item.is_conditional || self.mode == RestoreMode::SkipExisting) {
            return self.mismatch(item, not_written);
        }
        if error.can_be_retried() && item.failures < retry::MAX_TRIES {
            // the server says of this very write that it was not done, except where it does not know itself
            let unknown =
                matches!(error.kind, ErrorKind::DeadlineExceeded | ErrorKind::Internal | ErrorKind::Unavailable);
            item.unknown |= unknown;
            item.may_be_written |= unknown;
            return Next::Again(item);
        }
        self.failed(&item, &error, not_written);
        Next::Done
    }

    /// Somebody changed the document between our read and our write; with a guard or `skip-existing` and nothing read
    /// before, that is the answer.
    fn mismatch(&self, item: Pending, not_written: &mut NotWritten) -> Next {
        if self.mode == RestoreMode::SkipExisting && !item.unknown {
            self.tally(|tally| tally.skipped += 1);
            item.note_not_written(not_written);
            return Next::Done;
        }
        if item.failures >= retry::MAX_TRIES * 4 {
            let error = PortError::new(ErrorKind::Aborted, "write", "somebody keeps changing the document");
            self.failed(&item, &error, not_written);
            return Next::Done;
        }
        Next::Again(item)
    }

    fn failed(&self, item: &Pending, error: &PortError, not_written: &mut NotWritten) {
        item.note_not_written(not_written);
        self.meter.failed.add(1);
        self.tally(|tally| {
            tally.failed += 1;
            tally.problem(&item.wanted.path, error.message());
        });
    }

    /// The request as a whole failed.
    fn whole_request_failed(
        &self,
        mut items: Vec<Pending>,
        error: PortError,
        not_written: &mut NotWritten,
    ) -> Result<Vec<Vec<Pending>>> {
        match error.kind {
            // one document that the server finds invalid spoils the request: halve it until that one is alone
            ErrorKind::InvalidArgument if items.len() > 1 => {
                let second = items.split_off(items.len() / 2);
                return Ok(vec![second, items]);
            }
            ErrorKind::InvalidArgument => {
                items.iter().for_each(|item| self.failed(item, &error, not_written));
                self.meter.documents.add(items.len() as u64);
                return Ok(Vec::new());
            }
            ErrorKind::ResourceExhausted => self.ramp.throttle(),
            _ => {}
        }
        let gives_up = items.iter().any(|item| item.failures + 1 >= retry::MAX_TRIES);
        if !error.can_be_retried() || gives_up {
            return Err(EngineError::Port(error));
        }
        // nothing is known of its writes
        let again =
            |item: Pending| Pending { failures: item.failures + 1, unknown: true, may_be_written: true, ..item };
        Ok(vec![items.into_iter().map(again).collect()])
    }
}

fn into_write((precondition, item): (Precondition, Pending)) -> (Write, Pending) {
    let write = Write { path: item.wanted.path.clone(), document: item.wanted.document.clone(), precondition };
    (write, item)
}

fn read(document: Option<document::RawDocument>, path: &DocumentPath) -> Result<Current> {
    let Some(document) = document else { return Ok(Current { document: None, update_time: None }) };
    let head = document.head().map_err(|source| EngineError::Document { path: Some(path.to_string()), source })?;
    let update_time = head.update_time;
    Ok(Current { document: Some(document.0), update_time })
}

const fn is_mismatch(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::FailedPrecondition | ErrorKind::AlreadyExists | ErrorKind::NotFound)
}
