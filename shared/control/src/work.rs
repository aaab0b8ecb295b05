//! What a step needs to do its part of a job.

use std::collections::BTreeSet;

use firebackup_model::id::JobId;

use crate::access::{DestinationAccess, ProjectAccess};
use crate::control::Control;
use crate::destination::{Destination, DestinationRecord};
use crate::error::{Code, ControlError, Result};
use crate::id::{DestinationId, ProjectId};
use crate::job::{BackupJob, Job, JobStatus};
use crate::organization::{Organization, OrganizationRecord};
use crate::pitr_record::PitrRecord;
use crate::project::Project;
use crate::record::{Stored, decode};
use crate::role::Right;
use crate::tenant::{Caller, OrganizationScope, Worker};

/// A job with everything that its steps need, secrets opened. Neither `Debug` nor anything stored shows them.
#[derive(Debug, Clone)]
pub struct Work {
    /// The job.
    pub job: Job,
    /// The project that is read or written.
    pub project: Project,
    /// What opens it.
    pub project_access: ProjectAccess,
    /// Which of its databases.
    pub database: String,
    /// Where the repository is.
    pub place: OpenedPlace,
}

/// Where a repository is, secrets opened.
#[derive(Debug, Clone)]
pub struct OpenedPlace {
    /// The destination.
    pub destination: Destination,
    /// What opens it.
    pub access: DestinationAccess,
    /// Whose repository in it.
    pub project: ProjectId,
    /// Whether that repository is encrypted.
    pub encrypted: bool,
    /// Whether everything there is being moved to another destination, or that of another to it: nothing is deleted then.
    pub is_moving: bool,
    /// Whose: its name, recovery public key and master key go into the repository.
    pub organization: Organization,
}

impl Control {
    /// A job with everything that its steps need.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Kind::Cancelled) once somebody has asked for the job's end;
    /// [`Conflict`](crate::Kind::Conflict) where it has ended, or its project or destination is gone.
    pub async fn work(&self, worker: &Worker, job: &JobId) -> Result<Work> {
        let work = self.work_to_end(worker, job).await?;
        match work.job.status() {
            JobStatus::Pending | JobStatus::Running => Ok(work),
            JobStatus::Cancelling | JobStatus::Cancelled => Err(ControlError::cancelled()),
            _ => Err(ControlError::conflict(Code::JobState, "the job has ended")),
        }
    }

    /// The same for the step that ends it: also of a job that was asked to end, or has ended already.
    ///
    /// # Errors
    /// As [`Self::work`], but never because of the job's status.
    pub async fn work_to_end(&self, worker: &Worker, job: &JobId) -> Result<Work> {
        let scope = worker.scope();
        let job = self.job(scope, job).await?.value;
        job.name_request();
        let organization = self.organization_record(scope).await?;
        let (project, project_access) = self.opened_project(scope, &organization, job.project()).await?;
        let place = self.opened_place(scope, organization, &job).await?;
        Ok(Work { database: job.database().to_owned(), job, project, project_access, place })
    }

    /// Where the repository of a completed backup is, to read in it.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`Conflict`](crate::Kind::Conflict) while it is not completed.
    pub async fn open_backup(&self, caller: &Caller, project: &ProjectId, id: &JobId) -> Result<OpenedPlace> {
        caller.may(Right::Read)?;
        let (_, backup) = self.backup_of(caller.scope(), Some(project), id).await?;
        if backup.job.status != JobStatus::Completed {
            let message = format!("the backup is {}", backup.job.status.name());
            return Err(ControlError::conflict(Code::JobState, message));
        }
        let organization = self.organization_record(caller.scope()).await?;
        self.opened_place(caller.scope(), organization, &Job::Backup(Box::new(backup))).await
    }

    /// Where the repository of a project is in a destination, to look at it: where one of the organization's backups lies in
    /// it. Destinations of two organizations may lie in one bucket, so that the names alone prove nothing.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the destination, or of such a repository.
    pub async fn open_repository(
        &self,
        caller: &Caller,
        id: &DestinationId,
        project: &ProjectId,
        encrypted: bool,
    ) -> Result<OpenedPlace> {
        caller.may(Right::Read)?;
        let scope = caller.scope();
        self.destination_record(scope, id).await?;
        let backups = self.all::<BackupJob>(scope.backups_of_project(project)).await?.into_iter();
        let mut backups = backups.map(|backup| backup.value).filter(|backup| backup.job.result.is_some());
        let is_there = |backup: BackupJob| backup.storage_destination_id == *id && backup.config.encrypt == encrypted;
        if !backups.any(|backup| backup.repository() == *project && is_there(backup)) {
            return Err(ControlError::not_found("repository"));
        }
        let organization = self.organization_record(scope).await?;
        self.place_at(scope, organization, *id, (*project, encrypted)).await
    }

    /// Every repository that a job of the organization may have made, in order and each once, for whoever looks after them.
    /// Those in destinations that were removed are out of reach and left out. One that cannot be opened right now (its master
    /// key is disabled, its options do not open) is an error of its own, and keeps nobody from the others.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn repositories(&self, worker: &Worker) -> Result<Vec<Result<OpenedPlace>>> {
        let scope = worker.scope();
        let mut places = Vec::new();
        for (destination, repository) in self.named_repositories(scope).await? {
            let organization = self.organization_record(scope).await?;
            match self.place_at(scope, organization, destination, repository).await {
                Err(error) if error.code == Code::Conflict => {}
                place => places.push(place),
            }
        }
        Ok(places)
    }

    /// The destinations and repositories that jobs and recoveries to a point in time name.
    pub(crate) async fn named_repositories(
        &self,
        scope: &OrganizationScope,
    ) -> Result<BTreeSet<(DestinationId, (ProjectId, bool))>> {
        let mut named = BTreeSet::new();
        for mut query in [scope.backups(), scope.restores()] {
            loop {
                let page = self.items().query(&query).await?;
                for item in page.items {
                    let job = decode::<Job>(item)?.value;
                    named.insert((job.destination(), job.repository()));
                }
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
        }
        for pitr in self.all::<PitrRecord>(scope.pitrs()).await?.into_iter().map(|record| record.value) {
            named.insert((pitr.storage_destination_id, pitr.repository()));
        }
        Ok(named)
    }

    pub(crate) async fn opened_project(
        &self,
        scope: &OrganizationScope,
        organization: &Stored<OrganizationRecord>,
        id: ProjectId,
    ) -> Result<(Project, ProjectAccess)> {
        let record = self.project_record(scope, &id).await.map_err(|error| gone(error, "project"))?.value;
        let access = self.project_access(organization, &record).await?;
        Ok((record.project, access))
    }

    async fn opened_place(
        &self,
        scope: &OrganizationScope,
        organization: Stored<OrganizationRecord>,
        job: &Job,
    ) -> Result<OpenedPlace> {
        self.place_at(scope, organization, job.destination(), job.repository()).await
    }

    pub(crate) async fn place_at(
        &self,
        scope: &OrganizationScope,
        organization: Stored<OrganizationRecord>,
        id: DestinationId,
        (project, encrypted): (ProjectId, bool),
    ) -> Result<OpenedPlace> {
        let record = self.destination_record(scope, &id).await.map_err(|error| gone(error, "destination"))?.value;
        let access = self.destination_access(&organization, &record).await?;
        let is_moving = record.moving.is_some();
        let destination = DestinationRecord::shown(record, &organization.value);
        let organization = organization.value.with_all_keys();
        Ok(OpenedPlace { destination, access, project, encrypted, is_moving, organization })
    }
}

/// What a job names was there once.
fn gone(error: ControlError, what: &str) -> ControlError {
    match error.code {
        Code::NotFound => ControlError::conflict(Code::Conflict, format!("the {what} was removed")),
        _ => error,
    }
}
