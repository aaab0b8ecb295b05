//! A backup in steps that many processes do, one after the other and side by side: what a state machine calls.
//!
//! What the steps know of each other stands in the repository, sealed; what they are told is a job's name and two numbers.
//! Every step can be killed at any instruction and done again, twice, or late.

use std::sync::Arc;

use firebackup_codec::sealing::Sealing;
use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::job::{Plan, Receipt};
use firebackup_model::manifest::Manifest;

use crate::backup::Backup;
use crate::error::{EngineError, Result};
use crate::export::Exporter;
use crate::finalize::finalize;
use crate::plan::{check_age, gone, plan_of, read_plan};
use crate::repository::Repository;
use crate::unmatched::nothing_fits;
use crate::users::export_users;

/// A backup to be done in steps; see [`BackupBuilder::steps`](crate::BackupBuilder::steps).
pub struct BackupSteps {
    backup: Backup,
}

/// What a step of a chunk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct StepDone {
    /// The number of the step that follows.
    pub sequence: u32,
    /// Whether the chunk is done, so that none follows.
    pub done: bool,
    /// Whether this call did the step; otherwise another one had, and it has been counted.
    pub is_first: bool,
    /// Documents that it took.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that it stored.
    pub stored: u64,
    /// Document reads that Firestore bills for it.
    pub reads: u64,
}

impl BackupSteps {
    pub(crate) const fn new(backup: Backup) -> Self {
        Self { backup }
    }

    /// Plans the job, or adopts the plan that it has. Returns how many chunks there are to do.
    ///
    /// # Errors
    /// When a port fails, or the job was named more than half of prune's grace period ago.
    pub async fn plan(&self, job: &JobId) -> Result<u32> {
        let backup = &self.backup;
        let named = Timestamp::from_millis(job.millis().cast_signed());
        check_age(&backup.repository, job, named)?;
        let (plan, _) = plan_of(&backup.repository, &*backup.source, &backup.request, job).await?;
        backup.check_fits(&plan)?;
        Ok(steps_of(&plan))
    }

    /// Does step `sequence` of a chunk, within the time and the bytes that were set.
    ///
    /// # Errors
    /// When a port fails, the job was stopped ([`EngineError::Interrupted`]) or given up, or no step leads to this one.
    pub async fn chunk(&self, job: &JobId, chunk: u32, sequence: u32) -> Result<StepDone> {
        let (plan, exporter) = self.open(job).await?;
        if chunk as usize == plan.chunks.len() && plan.include_auth {
            return self.users(&plan, &exporter).await;
        }
        let (receipt, is_first) = exporter.export_step(chunk, sequence).await?;
        Ok(StepDone::of(&receipt, is_first, exporter.settings.meter.bytes.get()))
    }

    async fn users(&self, plan: &Plan, exporter: &Exporter) -> Result<StepDone> {
        let Backup { repository, users, options, stop, .. } = &self.backup;
        let users =
            users.as_ref().ok_or_else(|| EngineError::Refused("there is no source of Auth users".to_owned()))?;
        export_users(repository, plan, &exporter.settings, &**users, options.allow_redacted, stop).await?;
        let stored = exporter.settings.meter.stored.get();
        Ok(StepDone { sequence: 1, done: true, is_first: true, documents: 0, bytes: 0, stored, reads: 0 })
    }

    /// Proves that the backup is whole, and commits it. Done again, it returns what was committed.
    ///
    /// # Errors
    /// When anything is missing, the selection fits no document, or a port fails: nothing is committed then.
    pub async fn finalize(&self, job: &JobId) -> Result<Manifest> {
        let repository = &self.backup.repository;
        if let Some(manifest) = Self::committed(repository, job).await? {
            return Ok(manifest);
        }
        let (plan, sealing) = self.read(job).await?;
        match finalize(repository, &plan, &sealing, self.backup.allowed()).await? {
            Some(manifest) => {
                repository.clear_quietly(job).await;
                Ok(manifest)
            }
            None => Err(nothing_fits(&plan.selection, &plan.source.to_string())),
        }
    }

    /// Clears away what a failed or cancelled job has left, unless it was committed: then its snapshot is returned, and it
    /// has not failed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn give_up(repository: &Repository, job: &JobId) -> Result<Option<Manifest>> {
        if let Some(manifest) = Self::committed(repository, job).await? {
            return Ok(Some(manifest));
        }
        repository.clear_job(job).await?;
        // a finalize step that nobody waits for any more may have had everything it needed before it was cleared away
        Self::committed(repository, job).await
    }

    async fn committed(repository: &Repository, job: &JobId) -> Result<Option<Manifest>> {
        if repository.is_dropped(job).await? {
            return Ok(None);
        }
        let manifest = repository.manifest(job).await?.0;
        repository.clear_quietly(job).await;
        Ok(Some(manifest))
    }

    async fn open(&self, job: &JobId) -> Result<(Arc<Plan>, Exporter)> {
        let (plan, sealing) = self.read(job).await?;
        let plan = Arc::new(plan);
        let exporter = self.backup.exporter(Arc::clone(&plan), &sealing, 0)?;
        Ok((plan, exporter))
    }

    async fn read(&self, job: &JobId) -> Result<(Plan, Sealing)> {
        let (plan, sealing) = read_plan(&self.backup.repository, job).await?.ok_or_else(|| gone(job))?;
        self.backup.check_fits(&plan)?;
        Ok((plan, sealing))
    }
}

/// The chunks of a plan, and one for its Auth users.
fn steps_of(plan: &Plan) -> u32 {
    plan.chunks.len() as u32 + u32::from(plan.include_auth)
}

impl StepDone {
    fn of(receipt: &Receipt, is_first: bool, bytes: u64) -> Self {
        Self {
            sequence: receipt.sequence + 1,
            done: receipt.through.is_none(),
            is_first,
            documents: receipt.collections.values().map(|counts| counts.documents).sum(),
            bytes,
            stored: receipt.run.as_ref().map_or(0, |run| run.size),
            reads: receipt.reads,
        }
    }
}
