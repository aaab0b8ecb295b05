//! The steps of a restore, and of its dry run.

use std::sync::Arc;

use firebackup_control::{Credentials, Job, JobEnd, JobResult, RestoreJob, Work, Worker};
use firebackup_engine::{
    DryRun, EngineError, Meter, Restore, RestoreOptions, RestoreOutcome, RestoreReport, RestoreSteps, RestoredUsers,
    Stop, UserReport, UserRestoreOptions,
};
use firebackup_model::id::JobId;
use firebackup_model::job::RestoreMode;
use firebackup_model::port::{StepError, StepErrorKind};
use firebackup_model::reported::AsReported;
use firebackup_model::selection::Selection;

use super::progress::Counted;
use super::{AppSteps, ChunkDone, ChunkInput, Failed, FinalizeInput, Finalized, JobInput, Planned, span};
use crate::failure::{of_control, of_engine, of_port};

/// How many documents that differ a dry run names.
const SAMPLES: usize = 20;
/// How many problems are told to the user.
const MAX_WARNINGS: usize = 20;

impl AppSteps {
    /// Plans a restore.
    ///
    /// # Errors
    /// As the state machine matches them: retryable, fatal or cancelled.
    pub async fn restore_plan(&self, input: JobInput) -> Result<Planned, StepError> {
        self.step("restore-plan", (input.organization, input.job.clone()), self.plan_restore(input)).await
    }

    async fn plan_restore(&self, input: JobInput) -> Result<Planned, StepError> {
        let worker = self.control.worker(&input.organization);
        let steps = self.restore_steps(&worker, &input.job, Stop::default()).await?;
        let parts = steps.plan(&input.job).await.map_err(of_engine)?;
        self.planned(&worker, input, parts).await
    }

    /// Does one step of a part of a restore.
    ///
    /// # Errors
    /// As the state machine matches them: retryable, fatal or cancelled.
    pub async fn restore_chunk(&self, input: ChunkInput) -> Result<ChunkDone, StepError> {
        self.step("restore-chunk", (input.organization, input.job.clone()), self.part_of_restore(input)).await
    }

    async fn part_of_restore(&self, input: ChunkInput) -> Result<ChunkDone, StepError> {
        let ChunkInput { job, organization, chunk, sequence } = input;
        let worker = self.control.worker(&organization);
        let (stop, _watching) = self.watch(&worker, &job);
        let steps = self.restore_steps(&worker, &job, stop).await?;
        let meter = Arc::clone(&steps.restore.meter);
        let step = Box::pin(steps.part(&job, chunk, sequence));
        let (done, noted) = self.watched(&worker, &job, &meter, step).await;
        let came_to = done.as_ref().ok().filter(|done| done.is_first).map(|done| {
            let tally = &done.tally;
            let writes = tally.written + tally.deleted;
            let documents = writes + tally.same + tally.skipped + tally.conflicts + tally.failed + done.compared;
            // of the rest nothing else is told but what the meter has counted
            Counted { documents, writes, chunks_done: u64::from(done.done), ..noted }
        });
        self.note_end(&worker, &job, came_to, noted).await;
        let done = done.map_err(of_engine)?;
        Ok(ChunkDone { job, organization, chunk, sequence: done.sequence, done: done.done })
    }

    /// Ends a restore, or one that failed: what it replaced becomes an undo.
    ///
    /// # Errors
    /// As the state machine matches them: retryable, fatal or cancelled.
    pub async fn restore_finalize(&self, input: FinalizeInput) -> Result<Finalized, StepError> {
        let span = span::of_step("restore-finalize", &input.job);
        span::within(span, self.end_of_restore(input)).await
    }

    async fn end_of_restore(&self, input: FinalizeInput) -> Result<Finalized, StepError> {
        let worker = self.control.worker(&input.organization);
        let Some(failed) = &input.failed else {
            let named = (input.organization, input.job.clone());
            return self.noting(named, self.finalize_restore(&worker, &input.job)).await;
        };
        self.end_failed_restore(&worker, input.job, failed).await
    }

    pub(super) async fn end_failed_restore(
        &self,
        worker: &Worker,
        job: JobId,
        failed: &Failed,
    ) -> Result<Finalized, StepError> {
        self.note_consent(worker, &job).await;
        match self.give_restore_up(worker, &job).await {
            Ok(()) => {}
            Err(error) if error.kind == StepErrorKind::Retryable => return Err(error),
            Err(error) => {
                tracing::warn!(job = %job, error = %error, "what a failed restore replaced could not be made an undo");
            }
        }
        self.end(worker, job, failed.end()).await
    }

    async fn finalize_restore(&self, worker: &Worker, job: &JobId) -> Result<Finalized, StepError> {
        let steps = self.restore_steps(worker, job, Stop::default()).await?;
        let outcome = match steps.finalize(job).await {
            Ok(outcome) => outcome,
            // it was ended and cleared before, and its end put on record before that
            Err(EngineError::Incomplete { .. }) if self.has_ended(worker, job).await? => {
                return self.end(worker, job.clone(), JobEnd::Cancelled).await;
            }
            Err(error) => return Err(of_engine(error)),
        };
        let finalized = self.end(worker, job.clone(), completed(outcome, steps.restore.options.mode)).await?;
        // what is left behind is a prune's to remove
        if let Err(error) = steps.clear(job).await {
            tracing::warn!(job = %job, error = %error, "the traces of a restore could not be removed");
        }
        Ok(finalized)
    }

    async fn has_ended(&self, worker: &Worker, job: &JobId) -> Result<bool, StepError> {
        let work = self.control.work_to_end(worker, job).await.map_err(of_control)?;
        Ok(work.job.status().has_ended())
    }

    async fn give_restore_up(&self, worker: &Worker, job: &JobId) -> Result<(), StepError> {
        let work = self.control.work_to_end(worker, job).await.map_err(of_control)?;
        let repository = self.places.open(&work.place).await.map_err(of_engine)?;
        RestoreSteps::give_up(&repository, job).await.map(drop).map_err(of_engine)
    }

    async fn restore_steps(&self, worker: &Worker, job: &JobId, stop: Stop) -> Result<RestoreSteps, StepError> {
        let work = self.control.work(worker, job).await.map_err(of_control)?;
        let restore = restore_of(&work)?;
        let repository = self.places.open(&work.place).await.map_err(of_engine)?;
        let target = self.projects.target(&work.project_access, &work.database).await.map_err(of_port)?;
        let users = match restore.include_auth {
            false => None,
            true => {
                let sink = self.projects.user_sink(&work.project_access).await.map_err(of_port)?;
                let overwrite = RestoreMode::from(restore.mode) != RestoreMode::SkipExisting;
                Some(RestoredUsers { sink, options: UserRestoreOptions { overwrite, allow_redacted: false } })
            }
        };
        Ok(RestoreSteps {
            restore: Restore {
                repository,
                snapshot: restore.backup_id.clone(),
                at: restore.moment.and_then(|moment| moment.captured()),
                target,
                options: RestoreOptions {
                    // an emulator needs no ramp
                    ramp: !matches!(work.project_access.credentials, Credentials::Emulator { .. }),
                    writers: u32::try_from(self.settings.parallel).unwrap_or(u32::MAX),
                    ..options(&restore)
                },
                meter: Arc::new(Meter::default()),
                stop,
            },
            users,
            dry_run: restore.dry_run,
            part_documents: self.settings.part_documents,
            step_time: self.settings.step_time,
            samples: SAMPLES,
        })
    }
}

fn restore_of(work: &Work) -> Result<RestoreJob, StepError> {
    match &work.job {
        Job::Restore(restore) => Ok((**restore).clone()),
        Job::Backup(_) => Err(StepError::new(StepErrorKind::Fatal, format!("{} is no restore", work.job.id()))),
    }
}

fn options(restore: &RestoreJob) -> RestoreOptions {
    let reported = restore.reported.clone();
    let reported = reported.map(|reported| AsReported { path: reported.document, at: reported.point_in_time });
    RestoreOptions {
        selection: match &reported {
            Some(reported) => Selection::of_document(&reported.path),
            None => selection(restore),
        },
        reported,
        renames: restore.renames.iter().map(|rename| (rename.from.clone(), rename.to.clone())).collect(),
        mode: restore.mode.into(),
        undo: restore.undo,
        guard: restore.guard,
        ..RestoreOptions::default()
    }
}

fn selection(restore: &RestoreJob) -> Selection {
    Selection {
        include: restore.collections.clone(),
        exclude: restore.exclude.clone(),
        paths: restore.paths.clone(),
        subcollections: true,
    }
}

fn completed(outcome: RestoreOutcome, mode: RestoreMode) -> JobEnd {
    let result = match outcome {
        RestoreOutcome::Restored { report, users } => restored(report, users),
        RestoreOutcome::DryRun(dry_run) => compared(dry_run, mode),
    };
    JobEnd::Completed(Box::new(result))
}

fn restored(report: RestoreReport, users: Option<UserReport>) -> JobResult {
    let tally = report.tally;
    let mut warnings: Vec<String> =
        tally.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.reason)).collect();
    let failures = users.iter().flat_map(|users| &users.failures);
    warnings.extend(failures.map(|failure| format!("user {}: {}", failure.user, failure.reason)));
    warnings.truncate(MAX_WARNINGS);
    JobResult {
        documents: tally.written + tally.deleted + tally.same + tally.skipped + tally.conflicts + tally.failed,
        users: users.as_ref().map_or(0, |users| users.restored),
        written: tally.written,
        deleted: tally.deleted,
        same: tally.same,
        skipped: tally.skipped,
        conflicts: tally.conflicts,
        failed: tally.failed + users.map_or(0, |users| users.failed),
        undo: report.undo,
        warnings,
        ..JobResult::default()
    }
}

fn compared(dry_run: DryRun, mode: RestoreMode) -> JobResult {
    let totals = dry_run.difference.totals;
    let problems = dry_run.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.reason));
    JobResult {
        documents: totals.created + totals.updated + totals.deleted + totals.same,
        written: totals.created + totals.updated,
        deleted: totals.deleted,
        same: totals.same,
        failed: dry_run.problems.len() as u64,
        warnings: problems.take(MAX_WARNINGS).collect(),
        preview: serde_json::to_value(PreviewView {
            guard: dry_run.guard,
            bill: dry_run.bill(mode),
            difference: dry_run.difference,
        })
        .ok(),
        ..JobResult::default()
    }
}

/// What a dry run found, as the user sees it.
#[derive(serde::Serialize)]
struct PreviewView {
    guard: firebackup_model::Timestamp,
    /// What the restore costs at Firestore that is given this guard, in what Firestore bills.
    bill: firebackup_engine::RestoreBill,
    #[serde(flatten)]
    difference: firebackup_engine::Difference,
}
