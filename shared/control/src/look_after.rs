//! What the sweep does about jobs that may have been forgotten.

use firebackup_model::id::JobId;
use firebackup_model::port::WorkflowState;

use crate::audit::Act;
use crate::backup::Marked;
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::job::{Job, JobStatus};
use crate::job_records::wrong_state;
use crate::job_run::workflow;
use crate::record::{MAX_ATTEMPTS, Written};
use crate::tenant::{OrganizationScope, Worker};

/// How long a job may wait before it is asked for again.
const PATIENCE_SECONDS: i64 = 5 * 60;

/// What a job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// Nothing: it has ended, or goes on.
    None,
    /// It waited for too long, and its message was sent again.
    SentAgain,
    /// It was to run and did not: its workflow was started again.
    StartedAgain,
    /// Its workflow has ended without it: run its finalize step (as after a failure), which either adopts what was
    /// committed or ends the job.
    Finalize,
}

impl Control {
    /// Looks after a job that has not ended: asks again for the start of one that waits, starts the workflow of one that
    /// should run and does not, and says which one needs its last step.
    ///
    /// # Errors
    /// When a service fails.
    pub async fn look_after(&self, worker: &Worker, id: &JobId) -> Result<Care> {
        let scope = worker.scope();
        let Some(job) = self.load::<Job>(&scope.job_key(id)).await? else { return Ok(Care::None) };
        match job.value.status() {
            JobStatus::Pending => {
                if self.now() < job.value.facts().created_at.plus_seconds(PATIENCE_SECONDS) {
                    return Ok(Care::None);
                }
                self.send_message(scope, id).await?;
                Ok(Care::SentAgain)
            }
            JobStatus::Running | JobStatus::Cancelling => self.look_after_workflow(scope, id, &job.value).await,
            _ => Ok(Care::None),
        }
    }

    async fn look_after_workflow(&self, scope: &OrganizationScope, id: &JobId, job: &Job) -> Result<Care> {
        match self.ports().workflows.state(workflow(job), id.as_str()).await? {
            Some(WorkflowState::Running) => return Ok(Care::None),
            Some(WorkflowState::Succeeded | WorkflowState::Failed | WorkflowState::Stopped) => {}
            None => {
                self.start_workflow(scope, job).await?;
                return Ok(Care::StartedAgain);
            }
        }
        // it may have ended between the two looks
        let job = self.load::<Job>(&scope.job_key(id)).await?;
        match job.is_some_and(|job| !job.value.status().has_ended()) {
            true => Ok(Care::Finalize),
            false => Ok(Care::None),
        }
    }

    /// Gives the messages that were dealt with in vain too often, and lie among the dead letters of the jobs' queue, another
    /// chance; says how many. A job that was started meanwhile is not started twice.
    ///
    /// # Errors
    /// When the queue fails.
    pub async fn redrive_jobs(&self) -> Result<u64> {
        Ok(self.ports().queue.redrive().await?)
    }

    /// Backups that are to be deleted and that no unfinished restore reads: their manifests can be dropped. A restore that
    /// is asked for later finds them marked, and is refused.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn deleted_backups(&self, worker: &Worker) -> Result<Vec<JobId>> {
        let marked = self.all::<Marked>(worker.scope().deleting_backups()).await?;
        let active = self.active_jobs(worker.scope()).await?;
        let is_read = |id: &JobId| active.iter().any(|job| job.reads.as_ref() == Some(id));
        Ok(marked.into_iter().map(|marked| marked.value.job).filter(|id| !is_read(id)).collect())
    }

    /// Forgets a backup whose manifest is gone. Doing it twice is doing it once.
    ///
    /// # Errors
    /// [`JobState`](crate::Code::JobState) where it was not marked.
    pub async fn backup_gone(&self, worker: &Worker, id: &JobId) -> Result<()> {
        let scope = worker.scope();
        for _ in 0..MAX_ATTEMPTS {
            let Some(job) = self.load::<Job>(&scope.job_key(id)).await? else { return Ok(()) };
            if job.value.status() != JobStatus::Deleting {
                return Err(wrong_state(&job.value));
            }
            let mut writes = vec![job.delete()];
            if let Some(mark) = self.load::<Marked>(&scope.deleting_key(id)).await? {
                writes.push(mark.delete());
            }
            let act = Act::new("backup.gone", id);
            if self.commit(&worker.author(), act, writes).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Marks a completed backup as to be deleted, as its schedule's retention says. One that a restore reads, or that is being
    /// moved to another destination, is left for the next time.
    ///
    /// # Errors
    /// [`JobState`](crate::Code::JobState) while it has not ended.
    pub async fn drop_backup(&self, worker: &Worker, id: &JobId) -> Result<()> {
        let scope = worker.scope();
        for _ in 0..MAX_ATTEMPTS {
            let (stored, _) = self.backup_of(scope, None, id).await?;
            let is_moving = self.is_moving(scope, &stored.value.destination()).await?;
            if is_moving || !self.readers_of(scope, id).await?.is_empty() {
                return Ok(());
            }
            if self.mark_deleting(&worker.author(), stored).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }
}
