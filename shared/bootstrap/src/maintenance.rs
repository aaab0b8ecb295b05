//! What is looked after from time to time: jobs that were forgotten, retention, what nothing refers to any more.

use firebackup_control::{Care, Control, FirstOwner, Job, JobStatus, Worker};
use firebackup_engine::{PrunePolicy, prune};
use firebackup_model::id::JobId;
use firebackup_model::port::{StepError, Steps, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::{of_control, of_engine};
use crate::steps::AppSteps;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case")]
pub enum MaintenanceTask {
    /// Look after jobs that have not ended.
    Sweep,
    /// Apply the retention of schedules, delete what was marked, prune.
    Retention,
    /// Make the first organization and its owner's key, unless there is one.
    OwnerKey {
        /// The organization's name.
        #[serde(default = "first_name")]
        name: String,
    },
}

fn first_name() -> String {
    "My organization".to_owned()
}

/// Does what is to be done from time to time.
#[derive(Clone)]
pub struct Maintenance {
    steps: AppSteps,
}

/// What a sweep did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Swept {
    jobs: u64,
    sent_again: u64,
    started_again: u64,
    finalized: u64,
    failed: u64,
}

/// What retention did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Retained {
    dropped: u64,
    deleted: u64,
    objects_deleted: u64,
    failed: u64,
}

impl Maintenance {
    /// Maintenance over these steps.
    #[must_use]
    pub const fn new(steps: AppSteps) -> Self {
        Self { steps }
    }

    fn control(&self) -> &Control {
        &self.steps.control
    }

    /// Does a task; says what it did.
    ///
    /// # Errors
    /// When a service fails. What one organization's trouble is does not keep the others from their turn.
    pub async fn run(&self, task: &MaintenanceTask) -> Result<Value, StepError> {
        match task {
            MaintenanceTask::Sweep => self.sweep().await,
            MaintenanceTask::Retention => self.retention().await,
            MaintenanceTask::OwnerKey { name } => {
                let owner = self.control().first_owner(name).await.map_err(of_control)?;
                Ok(owner.map_or(Value::Null, |owner| owner_json(&owner)))
            }
        }
    }

    async fn sweep(&self) -> Result<Value, StepError> {
        let mut swept = Swept::default();
        for worker in self.workers().await? {
            if let Err(error) = self.control().repair_schedules(&worker).await {
                tracing::warn!(organization = %worker.organization(), error = %error, "schedules could not be repaired");
            }
            for job in self.control().running_jobs(&worker).await.map_err(of_control)? {
                swept.jobs += 1;
                match self.look_after(&worker, &job).await {
                    Ok(Care::None) => {}
                    Ok(Care::SentAgain) => swept.sent_again += 1,
                    Ok(Care::StartedAgain) => swept.started_again += 1,
                    Ok(Care::Finalize) => swept.finalized += 1,
                    Err(error) => {
                        swept.failed += 1;
                        tracing::warn!(job = %job.id(), error = %error, "a job could not be looked after");
                    }
                }
            }
        }
        written(&swept)
    }

    /// A job whose workflow ended without it (somebody stopped it, or its last step could not be done) gets its last step.
    async fn look_after(&self, worker: &Worker, job: &Job) -> Result<Care, StepError> {
        let care = self.control().look_after(worker, job.id()).await.map_err(of_control)?;
        if care == Care::Finalize {
            let workflow = match job {
                Job::Backup(_) => Workflow::Backup,
                Job::Restore(_) => Workflow::Restore,
            };
            let error = if job.status() == JobStatus::Cancelling { "Cancelled" } else { "Stopped" };
            let failed = json!({"Error": error, "Cause": "the workflow was stopped before it had ended the job"});
            let input = json!({"job": job.id(), "organization": worker.organization(), "failed": failed});
            self.steps.run(&format!("{}-finalize", workflow.name()), input).await?;
        }
        Ok(care)
    }

    async fn retention(&self) -> Result<Value, StepError> {
        let mut retained = Retained::default();
        for worker in self.workers().await? {
            for schedule in self.control().schedules_of(&worker).await.map_err(of_control)? {
                let now = self.steps.places.world().now();
                let outcome = self.control().kept_by_schedule(&worker, &schedule.id, now).await.map_err(of_control)?;
                for backup in outcome.dropped {
                    self.control().drop_backup(&worker, &backup).await.map_err(of_control)?;
                    retained.dropped += 1;
                }
            }
            for backup in self.control().deleted_backups(&worker).await.map_err(of_control)? {
                match self.delete(&worker, &backup).await {
                    Ok(objects) => {
                        retained.deleted += 1;
                        retained.objects_deleted += objects;
                    }
                    Err(error) => {
                        retained.failed += 1;
                        tracing::warn!(job = %backup, error = %error, "a backup could not be deleted yet");
                    }
                }
            }
        }
        written(&retained)
    }

    /// Drops a snapshot and sweeps its repository. What was only its own is marked now, and deleted when a later task
    /// finds it ripe.
    async fn delete(&self, worker: &Worker, backup: &JobId) -> Result<u64, StepError> {
        let work = self.control().work_to_end(worker, backup).await.map_err(of_control)?;
        let repository = self.steps.places.open(&work.place).await.map_err(of_engine)?;
        let is_gone = repository.is_dropped(backup).await.map_err(of_engine)?;
        let drop = if is_gone { Vec::new() } else { vec![backup.clone()] };
        let policy = PrunePolicy { drop, ..PrunePolicy::default() };
        let report = prune(&repository, &policy).await.map_err(of_engine)?;
        self.control().backup_gone(worker, backup).await.map_err(of_control)?;
        Ok(report.deleted)
    }

    /// A proof for each organization there is.
    async fn workers(&self) -> Result<Vec<Worker>, StepError> {
        let (mut workers, mut cursor) = (Vec::new(), None);
        loop {
            let (organizations, next) =
                self.control().organizations_page(cursor.as_deref()).await.map_err(of_control)?;
            workers.extend(organizations.iter().map(|organization| self.control().worker(organization)));
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(workers),
            }
        }
    }
}

fn owner_json(owner: &FirstOwner) -> Value {
    json!({ "organization": owner.organization.id, "apiKey": owner.api_key.as_str() })
}

fn written(report: &impl Serialize) -> Result<Value, StepError> {
    serde_json::to_value(report).map_err(crate::failure::unreadable)
}
