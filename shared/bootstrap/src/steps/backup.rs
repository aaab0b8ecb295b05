//! The steps of a backup.

use std::sync::Arc;

use firebackup_control::{BackupConfig, BackupJob, BackupType, Job, JobEnd, JobResult, Work, Worker};
use firebackup_engine::{Backup, BackupBuilder, BackupSteps, Meter, Repository, Stop, merging};
use firebackup_model::id::JobId;
use firebackup_model::manifest::Manifest;
use firebackup_model::port::{StepError, StepErrorKind};
use firebackup_model::selection::Selection;
use firebackup_model::{DatabaseName, PortError};

use super::progress::Counted;
use super::{AppSteps, ChunkDone, ChunkInput, Failed, FinalizeInput, Finalized, JobInput, Planned, span};
use crate::failure::{of_control, of_engine, of_port};

impl AppSteps {
    /// Plans a backup, making its repository where there is none yet.
    ///
    /// # Errors
    /// As the state machine matches them: retryable, fatal or cancelled.
    pub async fn backup_plan(&self, input: JobInput) -> Result<Planned, StepError> {
        self.step("backup-plan", (input.organization, input.job.clone()), self.plan_backup(input)).await
    }

    async fn plan_backup(&self, input: JobInput) -> Result<Planned, StepError> {
        let worker = self.control.worker(&input.organization);
        let (work, backup) = self.backup_work(&worker, &input).await?;
        let repository = self.places.open_or_make(&work.place).await.map_err(of_engine)?;
        let builder = self.backup(&work, &backup.config, repository).await?;
        let planned = builder.steps().plan(&input.job).await.map_err(of_engine)?;
        if let Some(reason) = &planned.full_because {
            self.control.note_full(&worker, &input.job, reason).await.map_err(of_control)?;
        }
        self.planned(&worker, input, planned.chunks).await
    }

    /// Does one step of a chunk of a backup.
    ///
    /// # Errors
    /// As the state machine matches them: retryable, fatal or cancelled.
    pub async fn backup_chunk(&self, input: ChunkInput) -> Result<ChunkDone, StepError> {
        self.step("backup-chunk", (input.organization, input.job.clone()), self.chunk_of_backup(input)).await
    }

    async fn chunk_of_backup(&self, input: ChunkInput) -> Result<ChunkDone, StepError> {
        let ChunkInput { job, organization, chunk, sequence } = input;
        let worker = self.control.worker(&organization);
        let named = JobInput { job: job.clone(), organization };
        let (work, backup) = self.backup_work(&worker, &named).await?;
        let repository = self.places.open(&work.place).await.map_err(of_engine)?;
        let (stop, _watching) = self.watch(&worker, &job);
        let meter = Arc::new(Meter::default());
        let builder = self.backup(&work, &backup.config, repository).await?.stop(stop).meter(Arc::clone(&meter));
        let steps = builder.steps();
        let step = Box::pin(steps.chunk(&job, chunk, sequence));
        let (done, noted) = self.watched(&worker, &job, &meter, step).await;
        let came_to = done.as_ref().ok().filter(|done| done.is_first).map(|done| Counted {
            documents: done.documents,
            bytes: done.bytes,
            stored: done.stored,
            reads: done.reads,
            chunks_done: u64::from(done.done),
            ..Counted::default()
        });
        self.note_end(&worker, &job, came_to, noted).await;
        let done = done.map_err(of_engine)?;
        Ok(ChunkDone { job, organization, chunk, sequence: done.sequence, done: done.done })
    }

    /// Commits a backup, or ends one that failed.
    ///
    /// # Errors
    /// As the state machine matches them: retryable, fatal or cancelled.
    pub async fn backup_finalize(&self, input: FinalizeInput) -> Result<Finalized, StepError> {
        let span = span::of_step("backup-finalize", &input.job);
        span::within(span, self.end_of_backup(input)).await
    }

    async fn end_of_backup(&self, input: FinalizeInput) -> Result<Finalized, StepError> {
        let worker = self.control.worker(&input.organization);
        if let Some(failed) = &input.failed {
            return self.end_failed_backup(&worker, input.job, failed).await;
        }
        let named = (input.organization, input.job.clone());
        let end = self.noting(named, self.finalize_backup(&worker, &input)).await?;
        self.end(&worker, input.job, end).await
    }

    pub(super) async fn end_failed_backup(
        &self,
        worker: &Worker,
        job: JobId,
        failed: &Failed,
    ) -> Result<Finalized, StepError> {
        self.note_consent(worker, &job).await;
        let end = match self.give_backup_up(worker, &job).await {
            // it was committed before it failed
            Ok(Some(manifest)) => completed(&manifest),
            Ok(None) => failed.end(),
            Err(error) if error.kind == StepErrorKind::Retryable => return Err(error),
            Err(error) => {
                tracing::warn!(job = %job, error = %error, "what a failed backup left could not be cleared away");
                failed.end()
            }
        };
        self.end(worker, job, end).await
    }

    async fn finalize_backup(&self, worker: &Worker, input: &FinalizeInput) -> Result<JobEnd, StepError> {
        let named = JobInput { job: input.job.clone(), organization: input.organization };
        let (work, backup) = self.backup_work(worker, &named).await?;
        let repository = self.places.open(&work.place).await.map_err(of_engine)?;
        let builder = self.backup(&work, &backup.config, repository).await?;
        builder.steps().finalize(&input.job).await.map(|manifest| completed(&manifest)).map_err(of_engine)
    }

    async fn give_backup_up(&self, worker: &Worker, job: &JobId) -> Result<Option<Manifest>, StepError> {
        let work = self.control.work_to_end(worker, job).await.map_err(of_control)?;
        let repository = self.places.open(&work.place).await.map_err(of_engine)?;
        BackupSteps::give_up(&repository, job).await.map_err(of_engine)
    }

    async fn backup_work(&self, worker: &Worker, input: &JobInput) -> Result<(Work, BackupJob), StepError> {
        let work = self.control.work(worker, &input.job).await.map_err(of_control)?;
        let backup = backup_of(&work)?;
        Ok((work, backup))
    }

    async fn backup(
        &self,
        work: &Work,
        config: &BackupConfig,
        repository: Repository,
    ) -> Result<BackupBuilder, StepError> {
        let builder = self.backup_of_type(work, config.kind, repository).await.map_err(of_port)?;
        let compression = config
            .compression
            .parse()
            .map_err(|error| StepError::new(StepErrorKind::Fatal, format!("the compression is not one: {error}")))?;
        let builder = builder
            .selection(selection(config))
            .compression(compression)
            .chunk_documents(self.settings.chunk_documents)
            .step_time(self.settings.step_time)
            .stop(Stop::default());
        if !config.include_auth {
            return Ok(builder);
        }
        let users = self.projects.users(&work.project_access).await.map_err(of_port)?;
        Ok(builder.users(users))
    }

    /// What is merged opens no database.
    async fn backup_of_type(
        &self,
        work: &Work,
        kind: BackupType,
        repository: Repository,
    ) -> Result<BackupBuilder, PortError> {
        if kind == BackupType::Synthetic {
            let database = DatabaseName::new(&work.project.google_project, &work.database);
            return Ok(merging(&repository, &database));
        }
        let source = self.projects.source(&work.project_access, &work.database).await?;
        let builder = Backup::builder(repository, source);
        Ok(if kind == BackupType::Incremental { builder.incremental() } else { builder })
    }
}

fn backup_of(work: &Work) -> Result<BackupJob, StepError> {
    match &work.job {
        Job::Backup(backup) => Ok((**backup).clone()),
        Job::Restore(_) => Err(StepError::new(StepErrorKind::Fatal, format!("{} is no backup", work.job.id()))),
    }
}

fn selection(config: &BackupConfig) -> Selection {
    Selection {
        include: config.collections.clone(),
        exclude: config.exclude_collections.clone(),
        paths: Vec::new(),
        subcollections: config.include_subcollections,
    }
}

fn completed(manifest: &Manifest) -> JobEnd {
    JobEnd::Completed(Box::new(JobResult::of(manifest)))
}
