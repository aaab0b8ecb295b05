//! What was begun and has not ended.

use firebackup_codec::object::ObjectType;
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::job::{Plan, RestorePlan};
use serde::Serialize;

use crate::error::Result;
use crate::layout;
use crate::repository::Repository;
use crate::restore_plan::read_restore_plan;

/// Jobs that were begun and neither committed nor given up.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum UnfinishedJob {
    /// A backup, with its plan.
    Backup(Plan),
    /// A restore, with its plan.
    Restore(RestorePlan),
    /// One whose plan cannot be read.
    Unreadable {
        /// The job.
        job: JobId,
        /// Why.
        error: String,
    },
}

impl UnfinishedJob {
    /// The job's id.
    #[must_use]
    pub const fn job(&self) -> &JobId {
        match self {
            Self::Backup(plan) => &plan.job,
            Self::Restore(plan) => &plan.job,
            Self::Unreadable { job, .. } => job,
        }
    }
}

/// Lists unfinished jobs, newest first.
///
/// # Errors
/// When the store fails.
pub async fn unfinished_jobs(repository: &Repository) -> Result<Vec<UnfinishedJob>> {
    let mut jobs = Vec::new();
    for job in repository.begun_jobs().await? {
        jobs.extend(read_job(repository, &job).await?);
    }
    Ok(jobs)
}

/// Reads the plan of a job; nothing when it has none.
pub(crate) async fn read_job(repository: &Repository, job: &JobId) -> Result<Option<UnfinishedJob>> {
    let read = match job.kind() {
        JobKind::Restore => read_restore_plan(repository, job).await.map(|plan| plan.map(UnfinishedJob::Restore)),
        JobKind::Backup | JobKind::Prune | JobKind::Drill => {
            let found: Result<Option<(Plan, _)>> = repository.get_sealed(ObjectType::Plan, &layout::plan(job)).await;
            found.map(|found| found.map(|(plan, _)| UnfinishedJob::Backup(plan)))
        }
    };
    match read {
        Err(error) if error.is_of_the_object() => {
            Ok(Some(UnfinishedJob::Unreadable { job: job.clone(), error: error.in_full() }))
        }
        read => read,
    }
}
