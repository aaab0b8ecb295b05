//! Writes one batch of a restore: read, keep, write, and again for what did not go through.

use std::sync::Mutex;

use bytes::Bytes;
use firebackup_model::document;
use firebackup_model::job::RestoreMode;
use firebackup_model::port::{Precondition, Write, WriteOutcome};
use firebackup_model::{DocumentPath, ErrorKind, PortError, Timestamp};

use crate::diff::same;
use crate::error::{EngineError, Result};
use crate::ramp::Ramp;
use crate::restore::{Tally, Target};
use crate::retry;
use crate::undo::{Replaced, UndoLog};
use crate::wanted::Wanted;
use crate::world::{Meter, World};

/// Writes batches; shared by all that are on their way.
pub(crate) struct BatchWriter {
    pub(crate) target: Target,
    pub(crate) world: World,
    pub(crate) mode: RestoreMode,
    pub(crate) guard: Option<Timestamp>,
    pub(crate) undo: Option<UndoLog>,
    pub(crate) ramp: Ramp,
    pub(crate) tally: Mutex<Tally>,
    pub(crate) meter: std::sync::Arc<Meter>,
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
        let fresh = |wanted| Pending { wanted, failures: 0, unknown: false, kept: None };
        let mut parts = vec![batch.into_iter().map(fresh).collect::<Vec<_>>()];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let again = self.attempt(part).await?;
            let failures = again.iter().flatten().map(|item| item.failures).max().unwrap_or_default();
            parts.extend(again);
            if failures > 0 {
                self.meter.retries.add(1);
                tokio::time::sleep(retry::delay(&self.world, failures)).await;
            }
        }
        Ok(())
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
    async fn attempt(&self, pending: Vec<Pending>) -> Result<Vec<Vec<Pending>>> {
        // an unconditional write can simply be sent again; one that must find nothing may find itself
        let finds_itself = self.mode == RestoreMode::SkipExisting && pending.iter().any(|item| item.unknown);
        let ready = if self.undo.is_some() || self.guard.is_some() || finds_itself {
            self.prepare(pending).await?
        } else {
            pending.into_iter().map(|item| (self.blind_precondition(), item)).collect()
        };
        if ready.is_empty() {
            return Ok(Vec::new());
        }
        self.ramp.admit(ready.len()).await;
        let (writes, items): (Vec<Write>, Vec<Pending>) = ready.into_iter().map(into_write).unzip();
        match self.target.sink.write(writes).await {
            Ok(outcomes) => self.settle(items, outcomes).map(|again| vec![again]),
            Err(error) => self.whole_request_failed(items, error),
        }
    }

    const fn blind_precondition(&self) -> Precondition {
        match self.mode {
            RestoreMode::SkipExisting => Precondition::Absent,
            RestoreMode::Overwrite | RestoreMode::Mirror => Precondition::None,
        }
    }

    /// Reads what is there, drops what needs no write, keeps the rest for undo, and conditions each write on what was read.
    async fn prepare(&self, pending: Vec<Pending>) -> Result<Vec<(Precondition, Pending)>> {
        let current = self.read_current(&pending).await?;
        let mut ready = Vec::with_capacity(pending.len());
        let mut keep = Vec::new();
        for (mut item, current) in pending.into_iter().zip(current) {
            if self.needs_no_write(&item, &current)? {
                continue;
            }
            // an unknown outcome may be our own write: then the version kept before is the one to bring back
            let keeps = item.kept.is_none() || item.kept != Some(current.update_time) && !item.unknown;
            if self.undo.is_some() && keeps {
                item.kept = Some(current.update_time);
                keep.push(Replaced { path: item.wanted.path.clone(), document: current.document.clone() });
            }
            let precondition = current.update_time.map_or(Precondition::Absent, Precondition::UpdatedAt);
            ready.push((precondition, item));
        }
        if let Some(undo) = &self.undo {
            undo.seal(keep).await?;
        }
        Ok(ready)
    }

    async fn read_current(&self, pending: &[Pending]) -> Result<Vec<Current>> {
        let paths: Vec<DocumentPath> = pending.iter().map(|item| item.wanted.path.clone()).collect();
        // after an unknown outcome what counts is what is there now, not what was there at the dry run
        let at = self.guard.filter(|_| !pending.iter().any(|item| item.unknown));
        let documents = self.target.source.get(&paths, at).await?;
        self.meter.reads.add(paths.len() as u64);
        documents.into_iter().zip(&paths).map(|(document, path)| read(document, path)).collect()
    }

    fn needs_no_write(&self, item: &Pending, current: &Current) -> Result<bool> {
        let path = &item.wanted.path;
        let is_same = match (&current.document, &item.wanted.document) {
            (None, None) => true,
            (Some(a), Some(b)) => same(path, a, b)?,
            _ => false,
        };
        if is_same {
            let written = item.unknown;
            self.tally(|tally| if written { tally.written += 1 } else { tally.same += 1 });
        } else if self.mode == RestoreMode::SkipExisting && current.document.is_some() {
            self.tally(|tally| tally.skipped += 1);
        } else if self.guard.is_some() && item.unknown {
            self.conflict(path);
        } else {
            return Ok(false);
        }
        self.meter.documents.add(1);
        Ok(true)
    }

    fn conflict(&self, path: &DocumentPath) {
        self.tally(|tally| {
            tally.conflicts += 1;
            tally.problem(path, "changed since the dry run");
        });
    }

    fn settle(&self, items: Vec<Pending>, outcomes: Vec<WriteOutcome>) -> Result<Vec<Pending>> {
        let mut again = Vec::new();
        for (item, outcome) in items.into_iter().zip(outcomes) {
            match self.settle_one(item, outcome)? {
                Next::Again(item) => again.push(item),
                Next::Done => self.meter.documents.add(1),
            }
        }
        Ok(again)
    }

    fn settle_one(&self, mut item: Pending, outcome: WriteOutcome) -> Result<Next> {
        let error = match outcome {
            Ok(_) => {
                self.meter.writes.add(1);
                let deletes = item.wanted.document.is_none();
                self.meter.bytes.add(item.wanted.document.as_ref().map_or(0, |document| document.len() as u64));
                self.tally(|tally| if deletes { tally.deleted += 1 } else { tally.written += 1 });
                return Ok(Next::Done);
            }
            Err(error) => error,
        };
        if error.kind == ErrorKind::ResourceExhausted {
            self.ramp.throttle();
        }
        item.failures += 1;
        if is_mismatch(error.kind) && self.is_conditional() {
            return Ok(self.mismatch(item));
        }
        if error.can_be_retried() && item.failures < retry::MAX_TRIES {
            // the server says of this very write that it was not done, except where it does not know itself
            item.unknown |=
                matches!(error.kind, ErrorKind::DeadlineExceeded | ErrorKind::Internal | ErrorKind::Unavailable);
            return Ok(Next::Again(item));
        }
        self.failed(&item, &error);
        Ok(Next::Done)
    }

    fn is_conditional(&self) -> bool {
        self.undo.is_some() || self.guard.is_some() || self.mode == RestoreMode::SkipExisting
    }

    /// Somebody changed the document between our read and our write.
    fn mismatch(&self, item: Pending) -> Next {
        if self.guard.is_some() && !item.unknown {
            self.conflict(&item.wanted.path);
            return Next::Done;
        }
        if self.mode == RestoreMode::SkipExisting && !item.unknown {
            self.tally(|tally| tally.skipped += 1);
            return Next::Done;
        }
        if item.failures >= retry::MAX_TRIES * 4 {
            let error = PortError::new(ErrorKind::Aborted, "write", "somebody keeps changing the document");
            self.failed(&item, &error);
            return Next::Done;
        }
        Next::Again(item)
    }

    fn failed(&self, item: &Pending, error: &PortError) {
        self.meter.failed.add(1);
        self.tally(|tally| {
            tally.failed += 1;
            tally.problem(&item.wanted.path, error.message());
        });
    }

    /// The request as a whole failed.
    fn whole_request_failed(&self, mut items: Vec<Pending>, error: PortError) -> Result<Vec<Vec<Pending>>> {
        match error.kind {
            // one document that the server finds invalid spoils the request: halve it until that one is alone
            ErrorKind::InvalidArgument if items.len() > 1 => {
                let second = items.split_off(items.len() / 2);
                return Ok(vec![second, items]);
            }
            ErrorKind::InvalidArgument => {
                items.iter().for_each(|item| self.failed(item, &error));
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
        let again = |item: Pending| Pending { failures: item.failures + 1, unknown: true, ..item };
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
