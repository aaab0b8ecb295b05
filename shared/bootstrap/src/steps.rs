//! The steps of jobs: JSON in, one verb of the engine, JSON out.

mod backup;
mod capture;
mod drill;
mod fold;
mod progress;
mod restore;
pub(crate) mod span;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use firebackup_aws::WorkBucket;
use firebackup_control::{Control, Job, JobEnd, JobErrorCode, JobStatus, OrganizationId, Project, Worker};
use firebackup_engine::Stop;
use firebackup_model::ErrorKind;
use firebackup_model::id::JobId;
use firebackup_model::port::{StepError, StepErrorKind, Steps};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{of_control, unreadable};
use crate::metrics::Metrics;
use crate::places::Places;
use crate::projects::Projects;
pub use capture::{WindowDone, WindowOutcome};
pub(crate) use drill::{DrillBounds, ScratchEmulators, StartedEmulator};
pub use fold::FoldDone;
pub(crate) use fold::LIMIT as FOLD_LIMIT;
#[cfg(test)]
pub(crate) use progress::Counted;

/// How large steps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepSettings {
    /// About how many documents a chunk of a backup has.
    pub chunk_documents: u64,
    /// About how many documents a part of a restore has.
    pub part_documents: u64,
    /// After how much time a step hands over to the next.
    pub step_time: Duration,
    /// How many chunks of a job are done at one time: the parts of a restore share the pace that Firestore asks for.
    pub parallel: u64,
}

impl Default for StepSettings {
    fn default() -> Self {
        Self { chunk_documents: 250_000, part_documents: 50_000, step_time: Duration::from_secs(600), parallel: 4 }
    }
}

/// The error of a workflow that ended without its job's end.
pub(crate) const STOPPED: &str = "Stopped";

/// How often a running step asks whether its job was cancelled.
const CANCEL_CHECK: Duration = Duration::from_secs(2);

/// Does the steps of jobs. Cheap to clone.
#[derive(Clone)]
pub struct AppSteps {
    pub(crate) control: Control,
    pub(crate) places: Places,
    pub(crate) projects: Projects,
    pub(crate) settings: StepSettings,
    /// Where the list of chunks is put for the state machine; nothing on one machine.
    pub(crate) work_bucket: Option<Arc<WorkBucket>>,
    pub(crate) metrics: Arc<dyn Metrics>,
}

/// What every step is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobInput {
    job: JobId,
    organization: OrganizationId,
}

/// What a step of a chunk is told besides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChunkInput {
    job: JobId,
    organization: OrganizationId,
    chunk: u32,
    sequence: u32,
}

/// What the last step is told besides.
#[derive(Debug, Clone, Deserialize)]
pub struct FinalizeInput {
    job: JobId,
    organization: OrganizationId,
    #[serde(default)]
    failed: Option<Failed>,
}

/// What a state machine says of an error that it caught.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Failed {
    #[serde(rename = "Error", default)]
    pub(crate) error: String,
    #[serde(rename = "Cause", default)]
    pub(crate) cause: String,
}

/// What a plan came to.
#[derive(Debug, Serialize)]
pub struct Planned {
    job: JobId,
    organization: OrganizationId,
    chunks: u32,
    /// Where the list of chunks is.
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Items>,
}

/// Where the list of chunks lies: what the map of the state machine reads.
#[derive(Debug, Serialize)]
pub struct Items {
    bucket: String,
    key: String,
}

/// What a step of a chunk came to.
#[derive(Debug, Serialize)]
pub struct ChunkDone {
    job: JobId,
    organization: OrganizationId,
    chunk: u32,
    sequence: u32,
    done: bool,
}

/// How a job ended.
#[derive(Debug, Serialize)]
pub struct Finalized {
    job: JobId,
    organization: OrganizationId,
    status: JobStatus,
}

impl AppSteps {
    /// Steps over these.
    #[must_use]
    pub(crate) const fn new(
        control: Control,
        places: Places,
        projects: Projects,
        settings: StepSettings,
        work_bucket: Option<Arc<WorkBucket>>,
        metrics: Arc<dyn Metrics>,
    ) -> Self {
        Self { control, places, projects, settings, work_bucket, metrics }
    }

    /// The same, with another bound of time for a step.
    #[must_use]
    pub fn within(&self, step_time: Duration) -> Self {
        Self { settings: StepSettings { step_time, ..self.settings }, ..self.clone() }
    }

    /// Writes down how many chunks there are, for whoever watches and for the state machine.
    async fn planned(&self, worker: &Worker, input: JobInput, chunks: u32) -> Result<Planned, StepError> {
        self.control.note_chunks(worker, &input.job, u64::from(chunks)).await.map_err(of_control)?;
        let items = match &self.work_bucket {
            None => None,
            Some(bucket) => {
                let (job, organization) = (input.job.to_string(), input.organization.to_string());
                let list = bucket.put_chunks(&job, &organization, chunks).await.map_err(crate::failure::of_port)?;
                Some(Items { bucket: list.bucket, key: list.key })
            }
        };
        Ok(Planned { job: input.job, organization: input.organization, chunks, items })
    }

    /// Does a step in a span of its job, and notes why it failed.
    async fn step<T>(
        &self,
        step: &'static str,
        (organization, job): (OrganizationId, JobId),
        work: impl Future<Output = Result<T, StepError>>,
    ) -> Result<T, StepError> {
        let span = span::of_step(step, &job);
        span::within(span, self.noting((organization, job), work)).await
    }

    /// Gives what a step came to, and notes why it failed, for whoever ends the job: the map of a state machine tells only
    /// that chunks failed. That it cannot be noted changes nothing.
    async fn noting<T>(
        &self,
        (organization, job): (OrganizationId, JobId),
        step: impl Future<Output = Result<T, StepError>>,
    ) -> Result<T, StepError> {
        let error = match step.await {
            Ok(done) => return Ok(done),
            Err(error) => self.explained((organization, &job), error).await,
        };
        if error.kind != StepErrorKind::Cancelled {
            let worker = self.control.worker(&organization);
            let code = JobErrorCode::of_step(error.code);
            if let Err(unnoted) = self.control.note_failure(&worker, &job, code, &error.message).await {
                tracing::warn!(job = %job, error = %unnoted, "why a step failed could not be noted");
            }
        }
        Err(error)
    }

    /// Why a step failed: where the consent is gone that its project stands on, that is why.
    async fn explained(&self, (organization, job): (OrganizationId, &JobId), error: StepError) -> StepError {
        if error.kind == StepErrorKind::Cancelled {
            return error;
        }
        match self.gone_consent(&self.control.worker(&organization), job).await {
            Some((_, message)) => StepError::new(StepErrorKind::Fatal, message),
            None => error,
        }
    }

    /// Has the project of a job that failed say that its consent is gone, where it is. For the step that ends a job: it may
    /// tell others.
    async fn note_consent(&self, worker: &Worker, job: &JobId) {
        let Some((project, _)) = self.gone_consent(worker, job).await else { return };
        if let Err(error) = self.control.consent_is_gone(worker, &project.id, project.updated_at).await {
            tracing::warn!(job = %job, error = %error, "it cannot be noted that a consent is gone");
        }
    }

    /// The project of a job whose consent was taken back, and what is said of it; nothing where it holds, or nobody can say.
    async fn gone_consent(&self, worker: &Worker, job: &JobId) -> Option<(Project, String)> {
        let work = self.control.work_to_end(worker, job).await.ok()?;
        // boxed: the layout of all steps in one future is more than the compiler computes
        let consent: BoxFuture<'_, _> = Box::pin(self.projects.check_consent(&work.project_access));
        let gone = consent.await.err().filter(|error| error.kind == ErrorKind::Unauthenticated)?;
        Some((work.project, gone.message().to_owned()))
    }

    /// Ends a job on record, and removes the list of its chunks.
    async fn end(&self, worker: &Worker, job: JobId, end: JobEnd) -> Result<Finalized, StepError> {
        if let Some(bucket) = &self.work_bucket
            && let Err(error) = bucket.delete_chunks(job.as_str()).await
        {
            // it expires by itself
            tracing::warn!(job = %job, error = %error, "the list of chunks could not be removed");
        }
        let ended = self.control.finish_job(worker, &job, end).await.map_err(of_control)?;
        self.metrics.job_ended(&ended);
        let status = ended.status();
        tracing::info!(status = status.name(), "a job has ended");
        Ok(Finalized { job, organization: worker.organization(), status })
    }

    /// Ends a job whose workflow has ended without it: as its finalize step does after a failure, which speaks to the
    /// repository and not to Google.
    pub(crate) async fn end_failed(&self, worker: &Worker, job: &Job, failed: &Failed) -> Result<Finalized, StepError> {
        let id = job.id().clone();
        match job {
            Job::Backup(_) => self.end_failed_backup(worker, id, failed).await,
            Job::Restore(_) => self.end_failed_restore(worker, id, failed).await,
        }
    }

    /// Asks a step to stop once somebody has asked for the job's end. Ends with the guard.
    fn watch(&self, worker: &Worker, job: &JobId) -> (Stop, WatchGuard) {
        let (stop, control, worker, job) = (Stop::default(), self.control.clone(), *worker, job.clone());
        let asks = stop.clone();
        let watching = tokio::spawn(async move {
            loop {
                tokio::time::sleep(CANCEL_CHECK).await;
                if control.is_cancelled(&worker, &job).await.unwrap_or(false) {
                    asks.request();
                    return;
                }
            }
        });
        (stop, WatchGuard(watching))
    }
}

/// A task that ends with whoever holds this.
pub(crate) struct WatchGuard(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Failed {
    /// How a job ends that failed so.
    fn end(&self) -> JobEnd {
        if self.error == StepErrorKind::Cancelled.name() {
            return JobEnd::Cancelled;
        }
        let message = self.message();
        let is_silent = message.is_empty();
        let message = if is_silent { "a step failed and did not say why".to_owned() } else { message };
        if is_silent || self.is_generic() {
            return JobEnd::Unexplained { message };
        }
        JobEnd::Failed { code: JobErrorCode::JobFailed, message }
    }

    /// Whether the error is the state machine's own: it counts failed chunks and does not say what they failed with.
    fn is_generic(&self) -> bool {
        self.error.starts_with("States.") || self.error == STOPPED
    }

    /// Lambda reports an error as JSON; others as text.
    fn message(&self) -> String {
        let reported: Option<Value> = serde_json::from_str(&self.cause).ok();
        let message = reported.as_ref().and_then(|value| value.get("errorMessage")).and_then(Value::as_str);
        message.map_or_else(|| self.cause.clone(), str::to_owned)
    }
}

fn read<T: serde::de::DeserializeOwned>(input: Value) -> Result<T, StepError> {
    serde_json::from_value(input).map_err(unreadable)
}

fn written<T: Serialize>(output: T) -> Result<Value, StepError> {
    serde_json::to_value(output).map_err(unreadable)
}

#[async_trait]
impl Steps for AppSteps {
    async fn run(&self, step: &str, input: Value) -> Result<Value, StepError> {
        match step {
            "backup-plan" => written(self.backup_plan(read(input)?).await?),
            "backup-chunk" => written(self.backup_chunk(read(input)?).await?),
            "backup-finalize" => written(self.backup_finalize(read(input)?).await?),
            "restore-plan" => written(self.restore_plan(read(input)?).await?),
            "restore-chunk" => written(self.restore_chunk(read(input)?).await?),
            "restore-finalize" => written(self.restore_finalize(read(input)?).await?),
            _ => Err(StepError::new(StepErrorKind::Fatal, format!("there is no step `{step}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_state_machine_caught_becomes_the_end_of_the_job() {
        let end = |json: &str| serde_json::from_str::<Failed>(json).unwrap().end();
        let lambda =
            r#"{"Error":"Fatal","Cause":"{\"errorType\":\"Fatal\",\"errorMessage\":\"there is no repository\"}"}"#;
        let failed = |message: &str| JobEnd::Failed { code: JobErrorCode::JobFailed, message: message.to_owned() };
        assert_eq!(end(lambda), failed("there is no repository"));
        let unexplained = |message: &str| JobEnd::Unexplained { message: message.to_owned() };
        assert_eq!(end(r#"{"Error":"Sandbox.Timedout","Cause":"timed out"}"#), failed("timed out"));
        assert_eq!(end(r#"{"Error":"States.Timeout","Cause":"timed out"}"#), unexplained("timed out"));
        assert_eq!(end(r#"{"Error":"Stopped","Cause":"it was stopped"}"#), unexplained("it was stopped"));
        assert_eq!(end(r#"{"Error":"Fatal"}"#), unexplained("a step failed and did not say why"));
        assert_eq!(end(r#"{"Error":"Cancelled","Cause":"{}"}"#), JobEnd::Cancelled);
    }
}
