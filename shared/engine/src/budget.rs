//! A bound on document reads, counted before they are billed.

use std::sync::atomic::{AtomicU64, Ordering};

use firebackup_model::id::JobId;

use crate::error::EngineError;

/// How many document reads a job may still do.
#[derive(Debug)]
pub(crate) struct ReadBudget {
    max: Option<u64>,
    done: AtomicU64,
}

impl ReadBudget {
    /// A budget of `max` reads, of which `done` are spent.
    pub(crate) const fn new(max: Option<u64>, done: u64) -> Self {
        Self { max, done: AtomicU64::new(done) }
    }

    /// The most documents that the next request may return; nothing when there is no bound.
    pub(crate) fn limit(&self) -> Option<u32> {
        let left = self.max?.saturating_sub(self.done.load(Ordering::SeqCst));
        Some(u32::try_from(left).unwrap_or(i32::MAX as u32).min(i32::MAX as u32))
    }

    pub(crate) fn count(&self, reads: u64) {
        self.done.fetch_add(reads, Ordering::SeqCst);
    }

    pub(crate) const fn is_bounded(&self) -> bool {
        self.max.is_some()
    }

    pub(crate) fn spent(&self, job: &JobId) -> EngineError {
        let reads = self.done.load(Ordering::SeqCst);
        EngineError::ReadBudget { job: job.clone(), reads, max: self.max.unwrap_or_default() }
    }
}
