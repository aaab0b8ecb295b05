//! How jobs are stored, listed and changed.

use std::collections::BTreeSet;
use std::time::Duration;

use firebackup_model::Timestamp;
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::port::{ItemBody, ItemKey, ItemWrite};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit::Act;
use crate::control::Control;
use crate::error::{Code, ControlError, Kind, Result};
use crate::id::{DestinationId, ProjectId};
use crate::idempotency::Once;
use crate::job::{BackupJob, Job, JobEnd, JobError, JobFacts, JobMessage, JobStatus, Progress, RestoreJob, is_backup};
use crate::limit::MAX_ACTIVE;
use crate::record::{Stored, Written, new_item};
use crate::tenant::{Author, OrganizationScope};

/// When to ask again where there are too many.
const RETRY_SECONDS: u32 = 60;

/// What a job uses that has not ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ActiveJob {
    pub(crate) job: JobId,
    /// The project that it reads or writes.
    pub(crate) project: ProjectId,
    pub(crate) destination: DestinationId,
    /// The backup that a restore reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reads: Option<JobId>,
    /// Why a step of it failed, the last that did. The job may yet come to a good end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<JobError>,
    /// Why it is a full backup although it was to be incremental.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) full_because: Option<String>,
}

/// The jobs of an organization that have a place to run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RunningJobs {
    pub(crate) jobs: BTreeSet<JobId>,
}

impl ActiveJob {
    fn of(job: &Job) -> Self {
        let reads = match job {
            Job::Backup(_) => None,
            Job::Restore(restore) => Some(restore.backup_id.clone()),
        };
        Self {
            job: job.id().clone(),
            project: job.project(),
            destination: job.destination(),
            reads,
            failure: None,
            full_because: None,
        }
    }
}

/// A backup stands in the index under its project.
pub(crate) fn index(scope: &OrganizationScope, job: &Job) -> Option<ItemKey> {
    match job {
        Job::Backup(backup) => Some(scope.backup_of_project(&backup.project_id, &backup.job.id)),
        Job::Restore(_) => None,
    }
}

/// Replaces a job by its value of now, if nobody else has changed it.
pub(crate) fn replace_job(scope: &OrganizationScope, job: &Stored<Job>) -> Result<ItemWrite> {
    job.replace(index(scope, &job.value))
}

/// Facts of a job that is only now asked for.
pub(crate) fn new_facts(control: &Control, author: &Author, kind: JobKind, created_by: String) -> JobFacts {
    let now = control.now();
    let mut random = [0; 10];
    control.ports().random.fill(&mut random);
    JobFacts {
        id: JobId::new(kind, u64::try_from(now.millis()).unwrap_or(0), random),
        organization_id: author.scope().organization(),
        status: JobStatus::Pending,
        created_at: now,
        started_at: None,
        ended_at: None,
        created_by,
        request_id: author.origin().request.clone(),
        progress: None,
        result: None,
        error: None,
        chunks: None,
    }
}

/// What becomes of a job, for the entry that tells of it.
pub(crate) fn job_act(job: &Job, what: &str) -> Act {
    let mut told = json!({ "projectId": job.project(), "createdBy": job.facts().created_by });
    match job {
        Job::Backup(backup) => told["scheduleId"] = json!(backup.schedule_id),
        Job::Restore(restore) => {
            told["backupId"] = json!(restore.backup_id);
            told["targetProjectId"] = json!(restore.target_project_id);
            told["dryRun"] = json!(restore.dry_run);
            if let Some(moment) = &restore.moment {
                told["moment"] = json!(moment);
            }
            // without the document: an id is often an address
            if let Some(reported) = &restore.reported {
                told["reportedAt"] = json!(reported.point_in_time);
            }
        }
    }
    if let Some(error) = &job.facts().error {
        told["error"] = json!(error.code);
    }
    Act::new(format!("{}.{what}", job.noun()), job.id()).with(told)
}

/// That a backup or restore is in no state for what was asked.
pub(crate) fn wrong_state(job: &Job) -> ControlError {
    ControlError::conflict(Code::JobState, format!("the {} is {}", job.noun(), job.status().name()))
}

impl Control {
    /// Reads a job.
    pub(crate) async fn job(&self, scope: &OrganizationScope, id: &JobId) -> Result<Stored<Job>> {
        self.found(&scope.job_key(id), "job").await
    }

    /// Reads a backup, of the project where one is named; as a job and as what it is.
    pub(crate) async fn backup_of(
        &self,
        scope: &OrganizationScope,
        project: Option<&ProjectId>,
        id: &JobId,
    ) -> Result<(Stored<Job>, BackupJob)> {
        let stored = if is_backup(id) { self.load::<Job>(&scope.job_key(id)).await? } else { None };
        let found = stored.and_then(|stored| match &stored.value {
            Job::Backup(backup) if project.is_none_or(|project| *project == backup.project_id) => {
                let backup = BackupJob::clone(backup);
                Some((stored, backup))
            }
            _ => None,
        });
        found.ok_or_else(|| ControlError::not_found("backup"))
    }

    /// Reads a restore; as a job and as what it is.
    pub(crate) async fn restore_of(&self, scope: &OrganizationScope, id: &JobId) -> Result<(Stored<Job>, RestoreJob)> {
        let stored = self.load::<Job>(&scope.job_key(id)).await?;
        let found = stored.and_then(|stored| match &stored.value {
            Job::Restore(restore) => {
                let restore = RestoreJob::clone(restore);
                Some((stored, restore))
            }
            Job::Backup(_) => None,
        });
        found.ok_or_else(|| ControlError::not_found("restore"))
    }

    /// Stores a new job with whatever must hold or be stored with it, and the idempotency key of its request.
    pub(crate) async fn store_job(
        &self,
        author: &Author,
        job: &Job,
        mut with: Vec<ItemWrite>,
        once: Option<&Once>,
    ) -> Result<Written> {
        let scope = author.scope();
        with.push(self.goes_on(scope).await?);
        with.push(ItemWrite::Create(new_item(scope.job_key(job.id()), job, index(scope, job))?));
        with.push(ItemWrite::Create(new_item(scope.active_key(job.id()), &ActiveJob::of(job), None)?));
        if let Some(once) = once {
            with.push(once.write(job.id(), self.now())?);
        }
        self.commit(author, job_act(job, "requested"), with).await
    }

    /// Goes on only if the organization may have one more unfinished job.
    pub(crate) async fn check_active(&self, scope: &OrganizationScope) -> Result<()> {
        if self.active_jobs(scope).await?.len() < MAX_ACTIVE {
            return Ok(());
        }
        let kind = Kind::TooMany { retry_after: RETRY_SECONDS };
        Err(ControlError::new(kind, Code::TooManyJobs, format!("at most {MAX_ACTIVE} jobs may be unfinished")))
    }

    /// What is used by jobs that have not ended, those that asked first first.
    pub(crate) async fn active_jobs(&self, scope: &OrganizationScope) -> Result<Vec<ActiveJob>> {
        let active = self.all::<ActiveJob>(scope.active_jobs()).await?;
        let mut active: Vec<_> = active.into_iter().map(|active| active.value).collect();
        active.sort_by_key(|active| active.job.millis());
        Ok(active)
    }

    /// The jobs that have a place to run; nothing if none ever had.
    pub(crate) async fn running(&self, scope: &OrganizationScope) -> Result<Option<Stored<RunningJobs>>> {
        self.load(&scope.running_key()).await
    }

    /// Asks for a job to be started. Where that fails the job stays as it is, and the sweep asks again.
    pub(crate) async fn ask_to_start(&self, scope: &OrganizationScope, id: &JobId) {
        if let Err(error) = self.send_message(scope, id).await {
            tracing::warn!(job = %id, error = %error, "a job waits for the sweep: it could not be queued");
        }
    }

    pub(crate) async fn send_message(&self, scope: &OrganizationScope, id: &JobId) -> Result<()> {
        let message = JobMessage { job: id.clone(), organization: scope.organization() };
        let body = serde_json::to_string(&message).map_err(ControlError::internal)?;
        Ok(self.ports().queue.send(&body, Duration::ZERO).await?)
    }

    /// Asks for the end of a job: one that waits ends at once, one that runs is told by its steps.
    ///
    /// Its workflow is not stopped from outside: what a step has begun must be brought to its end by the last step, and
    /// the steps ask often enough.
    pub(crate) async fn cancel(&self, author: &Author, mut job: Stored<Job>) -> Result<Written> {
        let scope = author.scope();
        match job.value.status() {
            JobStatus::Cancelling | JobStatus::Cancelled => Ok(Written::Yes),
            JobStatus::Pending => {
                let id = job.value.id().clone();
                let end = self.end_if_unchanged(author, job, JobEnd::Cancelled).await?;
                if end == Written::Yes {
                    self.tell_cancelled(scope, &id).await;
                }
                Ok(end)
            }
            JobStatus::Running => {
                job.value.facts_mut().status = JobStatus::Cancelling;
                let writes = vec![replace_job(scope, &job)?];
                self.commit(author, job_act(&job.value, "cancelled"), writes).await
            }
            _ => Err(wrong_state(&job.value)),
        }
    }

    /// Nobody waits for a job that has not begun: it is cancelled whether others can be told or not.
    async fn tell_cancelled(&self, scope: &OrganizationScope, id: &JobId) {
        let told = async { self.publish_ended(scope, &self.job(scope, id).await?.value).await };
        if let Err(error) = told.await {
            tracing::warn!(job = %id, error = %error, "nobody is told that a job was cancelled");
        }
    }

    /// How far a job has come.
    pub(crate) async fn progress(&self, scope: &OrganizationScope, job: &JobFacts) -> Result<Progress> {
        let counters = self.items().get(&scope.progress_key(&job.id)).await?.map(|item| item.body).unwrap_or_default();
        Ok(progress_of(job, &counters))
    }
}

/// How far a job with these counters has come.
pub(crate) fn progress_of(job: &JobFacts, counters: &ItemBody) -> Progress {
    let counter = |name: &str| counters.get(name).and_then(serde_json::Value::as_i64).unwrap_or(0);
    let number = |name: &str| u64::try_from(counter(name)).unwrap_or(0);
    let (chunks, chunks_done) = (job.chunks.unwrap_or_else(|| number("chunks")), number("chunksDone"));
    Progress {
        documents: number("documents"),
        bytes: number("bytes"),
        stored: number("stored"),
        reads: number("reads"),
        writes: number("writes"),
        chunks,
        chunks_done,
        percent: percent(job.status, chunks, chunks_done),
    }
}

/// Never a hundred before the end: steps that were run again count twice, and the last step is still to come.
fn percent(status: JobStatus, chunks: u64, done: u64) -> Option<u8> {
    match (status, chunks) {
        (JobStatus::Completed | JobStatus::Deleting, _) => Some(100),
        (_, 0) => None,
        (_, chunks) => Some(u8::try_from(done.saturating_mul(100) / chunks).unwrap_or(99).min(99)),
    }
}

/// A time to come, from now.
pub(crate) const fn in_days(now: Timestamp, days: i64) -> Timestamp {
    now.plus_seconds(days * 24 * 60 * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_is_of_the_chunks_and_ends_with_the_job() {
        for (status, chunks, done, expected) in [
            (JobStatus::Running, 0, 0, None),
            (JobStatus::Running, 8, 0, Some(0)),
            (JobStatus::Running, 8, 2, Some(25)),
            (JobStatus::Running, 8, 8, Some(99)),
            (JobStatus::Running, 8, 900, Some(99)),
            (JobStatus::Running, 1, u64::MAX, Some(99)),
            (JobStatus::Failed, 8, 2, Some(25)),
            (JobStatus::Completed, 8, 2, Some(100)),
        ] {
            assert_eq!(percent(status, chunks, done), expected, "{status:?} {chunks} {done}");
        }
    }
}
