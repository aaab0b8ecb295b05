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

use crate::backup::{Backup, BackupBuilder, Basis};
use crate::error::{EngineError, Result};
use crate::export::Exporter;
use crate::finalize::finalize;
use crate::incremental::{Increment, increment_as_planned, increment_of};
use crate::plan::{check_age, gone, plan_of, read_plan};
use crate::repository::Repository;
use crate::synthesize::{merged_as_planned, merged_from_newest};
use crate::unmatched::nothing_fits;
use crate::users::export_users;

/// A backup to be done in steps; see [`BackupBuilder::steps`](crate::BackupBuilder::steps).
pub struct BackupSteps {
    backup: BackupBuilder,
}

/// What planning a backup came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBackup {
    /// How many chunks there are to do.
    pub chunks: u32,
    /// Why everything is read although only what changed was asked for.
    pub full_because: Option<String>,
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
    pub(crate) const fn new(backup: BackupBuilder) -> Self {
        Self { backup }
    }

    /// Plans the job, or adopts the plan that it has: what it builds on is found once.
    ///
    /// # Errors
    /// When a port fails, there is nothing to merge, or the job was named more than half of prune's grace period ago.
    pub async fn plan(&self, job: &JobId) -> Result<PlannedBackup> {
        let repository = &self.backup.repository;
        let named = Timestamp::from_millis(job.millis().cast_signed());
        check_age(repository, job, named)?;
        let plan = match read_plan(repository, job).await? {
            Some((plan, _)) => plan,
            None => {
                let Backup { source, request, .. } = self.chosen().await?.build();
                plan_of(repository, &*source, &request, job).await?.0
            }
        };
        self.backup.clone().build().check_fits(&plan)?;
        Ok(PlannedBackup { chunks: steps_of(&plan), full_because: plan.full_because })
    }

    /// The backup on top of what there is now.
    async fn chosen(&self) -> Result<BackupBuilder> {
        let backup = self.backup.clone();
        match backup.basis {
            Basis::Given => Ok(backup),
            Basis::Moment => merged_from_newest(backup).await,
            Basis::Parent => Ok(match increment_of(backup.clone()).await? {
                Increment::Captured(increment) | Increment::Scanned(increment) => *increment,
                Increment::Full(reason) => backup.full_because(reason),
            }),
        }
    }

    /// The backup on top of what its plan says.
    async fn as_planned(&self, plan: &Plan) -> Result<Backup> {
        let backup = self.backup.clone();
        let backup = match (&plan.against, &plan.merged_from) {
            (Some(against), _) => increment_as_planned(backup, plan, against).await?,
            (None, Some(base)) => merged_as_planned(backup, plan, base).await?,
            (None, None) => backup,
        };
        Ok(backup.build())
    }

    /// Does step `sequence` of a chunk, within the time and the bytes that were set.
    ///
    /// # Errors
    /// When a port fails, the job was stopped ([`EngineError::Interrupted`]) or given up, or no step leads to this one.
    pub async fn chunk(&self, job: &JobId, chunk: u32, sequence: u32) -> Result<StepDone> {
        let (plan, sealing) = self.read(job).await?;
        let backup = self.as_planned(&plan).await?;
        let plan = Arc::new(plan);
        let exporter = backup.exporter(Arc::clone(&plan), &sealing, 0)?;
        if chunk as usize == plan.chunks.len() && plan.include_auth {
            return users(&backup, &exporter).await;
        }
        let (receipt, is_first) = exporter.export_step(chunk, sequence).await?;
        Ok(StepDone::of(&receipt, is_first, exporter.settings.meter.bytes.get()))
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
        match finalize(repository, &plan, &sealing, self.backup.clone().build().allowed()).await? {
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

    async fn read(&self, job: &JobId) -> Result<(Plan, Sealing)> {
        let (plan, sealing) = read_plan(&self.backup.repository, job).await?.ok_or_else(|| gone(job))?;
        self.backup.clone().build().check_fits(&plan)?;
        Ok((plan, sealing))
    }
}

async fn users(backup: &Backup, exporter: &Exporter) -> Result<StepDone> {
    let Backup { repository, users, options, stop, .. } = backup;
    let users = users.as_ref().ok_or_else(|| EngineError::Refused("there is no source of Auth users".to_owned()))?;
    export_users(repository, &exporter.plan, &exporter.settings, &**users, options.allow_redacted, stop).await?;
    let stored = exporter.settings.meter.stored.get();
    Ok(StepDone { sequence: 1, done: true, is_first: true, documents: 0, bytes: 0, stored, reads: 0 })
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
