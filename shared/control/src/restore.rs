//! Verbs on restores.

use firebackup_model::Timestamp;
use firebackup_model::id::{JobId, JobKind};
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::database::Ability;
use crate::error::{Code, ControlError, Result};
use crate::id::{DestinationId, ProjectId};
use crate::idempotency::Once;
use crate::job::{Job, JobStatus, Rename, RestoreJob, RestoreModeName};
use crate::job_records::{new_facts, wrong_state};
use crate::limit;
use crate::page::{Page, Paged};
use crate::permission::Purpose;
use crate::record::{MAX_ATTEMPTS, Stored, Written};
use crate::role::Right;
use crate::tenant::{Caller, OrganizationScope};

/// A restore that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRestore {
    /// The backup; or a restore that kept what it replaced, to take that restore back.
    #[schema(value_type = String, pattern = r"^(bkp|restore)_[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    pub backup_id: JobId,
    /// The project to write; the one that was backed up where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_project_id: Option<ProjectId>,
    /// The database to write; the one that was backed up where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Collection patterns; none means all.
    #[serde(default)]
    #[schema(max_items = 100, default = json!([]))]
    pub collections: Vec<String>,
    /// Globs over document paths; none means all.
    #[serde(default)]
    #[schema(max_items = 100, default = json!([]))]
    pub paths: Vec<String>,
    /// Collection patterns that are left out.
    #[serde(default)]
    #[schema(max_items = 100, default = json!([]))]
    pub exclude: Vec<String>,
    /// Collections that get another path.
    #[serde(default)]
    #[schema(max_items = 100, default = json!([]))]
    pub renames: Vec<Rename>,
    /// What happens to documents in the way.
    #[serde(default)]
    pub mode: RestoreModeName,
    /// Whether Auth users are restored too.
    #[serde(default)]
    #[schema(default = false)]
    pub include_auth: bool,
    /// Whether what is replaced is kept, so that the restore can be taken back.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub undo: bool,
    /// Documents changed after this time are left alone: the time of a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub guard: Option<Timestamp>,
    /// Whether it only says what it would do.
    #[serde(default)]
    #[schema(default = false)]
    pub dry_run: bool,
}

const fn yes() -> bool {
    true
}

/// What is put back: a backup, or what a restore replaced.
struct Source {
    stored: Stored<Job>,
    project: ProjectId,
    database: String,
    destination: DestinationId,
    has_auth: bool,
}

impl Control {
    /// Starts a restore, or a dry run of one.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the backup or the target; [`Unprocessable`](crate::Kind::Unprocessable) where
    /// a field may not be so; [`TooMany`](crate::Kind::TooMany); [`Conflict`](crate::Kind::Conflict) where the backup is
    /// not completed, the idempotency key was used for another request, or the target is disconnected or known not to take
    /// the Auth users that are meant.
    pub async fn create_restore(
        &self,
        caller: &Caller,
        new: NewRestore,
        idempotency: Option<&str>,
    ) -> Result<RestoreJob> {
        caller.may(Right::RunJobs)?;
        let once = Once::new(caller, idempotency, "create_restore", &new)?;
        check(&new)?;
        for _ in 0..MAX_ATTEMPTS {
            if let Some(made) = self.made_before(once.as_ref()).await? {
                let (_, restore) = self.restore_of(caller.scope(), &made).await?;
                self.ask_again(caller.scope(), &restore.job).await;
                return Ok(restore);
            }
            self.check_active(caller.scope()).await?;
            if let Some(restore) = self.try_restore(caller, &new, once.as_ref()).await? {
                return Ok(restore);
            }
        }
        Err(ControlError::concurrent_change())
    }

    async fn try_restore(&self, caller: &Caller, new: &NewRestore, once: Option<&Once>) -> Result<Option<RestoreJob>> {
        let scope = caller.scope();
        let source = self.restorable(scope, &new.backup_id).await?;
        if new.include_auth && !source.has_auth {
            return Err(ControlError::field("includeAuth", "the backup has no Auth users"));
        }
        let target = new.target_project_id.unwrap_or(source.project);
        let project = self.project_record(scope, &target).await?;
        project.value.check_usable()?;
        let named = new.database.as_deref().or_else(|| (target == source.project).then_some(&*source.database));
        let database = project.value.database(named)?;
        project.value.check_able(&database, Ability::Restore)?;
        if new.include_auth && !new.dry_run {
            project.value.project.check_permitted(Purpose::AuthRestore, self.now())?;
        }
        let destination = self.destination_record(scope, &source.destination).await?;
        destination.value.check_usable()?;
        let restore = RestoreJob {
            job: new_facts(self, caller.author(), JobKind::Restore, caller.actor().to_string()),
            backup_id: new.backup_id.clone(),
            project_id: source.project,
            target_project_id: target,
            google_project: project.value.project.google_project.clone(),
            database,
            storage_destination_id: source.destination,
            repository_project_id: source.stored.value.repository().0,
            encrypted: source.stored.value.repository().1,
            collections: new.collections.clone(),
            paths: new.paths.clone(),
            exclude: new.exclude.clone(),
            renames: new.renames.clone(),
            mode: new.mode,
            include_auth: new.include_auth,
            undo: new.undo,
            guard: new.guard,
            dry_run: new.dry_run,
        };
        let checks = vec![source.stored.check(), project.check(), destination.check()];
        if self.store_job(caller.author(), &Job::Restore(Box::new(restore.clone())), checks, once).await?
            == Written::Outrun
        {
            return Ok(None);
        }
        self.ask_to_start(scope, &restore.job.id).await;
        Ok(Some(restore))
    }

    /// What can be put back under this id.
    async fn restorable(&self, scope: &OrganizationScope, id: &JobId) -> Result<Source> {
        let stored = self.load::<Job>(&scope.job_key(id)).await?;
        let stored = stored.ok_or_else(|| ControlError::not_found("backup"))?;
        // of a restore that did not come to its end, what it had replaced until then can be put back too
        let is_half_done_restore = matches!(stored.value, Job::Restore(_))
            && matches!(stored.value.status(), JobStatus::Failed | JobStatus::Cancelled);
        if stored.value.status() != JobStatus::Completed && !is_half_done_restore {
            return Err(wrong_state(&stored.value));
        }
        let (project, has_auth) = match &stored.value {
            Job::Backup(backup) => (backup.project_id, backup.config.include_auth),
            Job::Restore(restore) if keeps_undo(restore) => (restore.target_project_id, false),
            Job::Restore(_) => {
                let message = "the restore kept nothing of what it replaced";
                return Err(ControlError::conflict(Code::JobState, message));
            }
        };
        let (database, destination) = (stored.value.database().to_owned(), stored.value.destination());
        Ok(Source { project, database, destination, has_auth, stored })
    }

    /// Restores, newest first; without their progress.
    ///
    /// # Errors
    /// When the page cannot be, or the store fails.
    pub async fn restores(&self, caller: &Caller, page: &Page) -> Result<Paged<RestoreJob>> {
        caller.may(Right::Read)?;
        self.list(caller.scope().restores(), page, |restore: RestoreJob| Some(restore)).await
    }

    /// A restore, with its progress.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn restore(&self, caller: &Caller, id: &JobId) -> Result<RestoreJob> {
        caller.may(Right::Read)?;
        let (_, mut restore) = self.restore_of(caller.scope(), id).await?;
        restore.job.progress = Some(self.progress(caller.scope(), &restore.job).await?);
        Ok(restore)
    }

    /// Asks for the end of a restore that has not ended. What it has written stays written.
    ///
    /// # Errors
    /// [`JobState`](Code::JobState) where it has ended otherwise.
    pub async fn cancel_restore(&self, caller: &Caller, id: &JobId) -> Result<RestoreJob> {
        caller.may(Right::RunJobs)?;
        for _ in 0..MAX_ATTEMPTS {
            let (stored, _) = self.restore_of(caller.scope(), id).await?;
            if self.cancel(caller.author(), stored).await? == Written::Yes {
                return self.restore(caller, id).await;
            }
        }
        Err(ControlError::concurrent_change())
    }
}

fn check(new: &NewRestore) -> Result<()> {
    limit::database(new.database.as_deref())?;
    limit::patterns(&[
        ("collections", &new.collections, false),
        ("paths", &new.paths, true),
        ("exclude", &new.exclude, false),
    ])?;
    limit::renames(&new.renames)
}

fn keeps_undo(restore: &RestoreJob) -> bool {
    let is_completed = restore.job.status == JobStatus::Completed;
    let kept = restore.job.result.as_ref().map_or(!is_completed && restore.undo, |result| result.undo);
    !restore.dry_run && kept
}
