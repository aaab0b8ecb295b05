//! Verbs on restores.

use async_trait::async_trait;
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::port::ItemWrite;
use firebackup_model::selection::literal;
use firebackup_model::{DatabaseName, DocumentPath, Selection, Timestamp};
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::database::Ability;
use crate::error::{Code, ControlError, Result};
use crate::id::{DestinationId, ProjectId};
use crate::idempotency::Once;
use crate::job::{Job, JobStatus, Rename, RestoreJob, RestoreModeName, RestoredMoment, RestoredReport};
use crate::job_records::{new_facts, wrong_state};
use crate::limit;
use crate::page::{Page, Paged};
use crate::permission::Purpose;
use crate::record::{MAX_ATTEMPTS, Written};
use crate::role::Right;
use crate::tenant::{Caller, OrganizationScope};
use crate::work::OpenedPlace;

/// A restore that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRestore {
    /// The backup; or a restore that kept what it replaced, to take that restore back. Or name a `pointInTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = r"^(bkp|restore)_[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    pub backup_id: Option<JobId>,
    /// A time to go back to: the newest consistent point at or before it is put back, in place of a backup. A time of which
    /// nothing is known is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub point_in_time: Option<Timestamp>,
    /// With `pointInTime`: whether that itself must be a consistent point.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(default = false)]
    pub exact: bool,
    /// With `pointInTime`: whether the one document whose path stands in `paths` (no glob) is put back as it was at that time as far
    /// as anybody told, events between two consistent points included. No moment of the database is looked for then.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(default = false)]
    pub reported: bool,
    /// With `pointInTime`: the project whose changes are captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    /// With `pointInTime`: the database whose changes are captured; `(default)`, or the only one, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_database: Option<String>,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Finds the moment of a time among the captured changes of a database.
#[async_trait]
pub trait FindMoment: Send + Sync {
    /// The newest moment at or before a time; with `exact`, that time itself.
    ///
    /// A time of which nothing is known is [`MomentUnavailable`](Code::MomentUnavailable), and says what there is beside it.
    async fn find(&self, place: &OpenedPlace, database: &DatabaseName, asked: AskedMoment) -> Result<FoundMoment>;

    /// The backup that names the database of a document of which is known how it was at a time.
    ///
    /// A time at which nothing is known of it is [`MomentUnavailable`](Code::MomentUnavailable).
    async fn find_reported(
        &self,
        place: &OpenedPlace,
        database: &DatabaseName,
        reported: &RestoredReport,
    ) -> Result<JobId>;
}

/// A time that is to be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedMoment {
    /// The time.
    pub at: Timestamp,
    /// Whether nothing else will do.
    pub exact: bool,
}

/// A moment that can be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMoment {
    /// The moment.
    pub point: Timestamp,
    /// The backup that it builds on.
    pub base: JobId,
    /// Whether it is that backup itself.
    pub is_base: bool,
}

/// What is put back: a backup, what a restore replaced, or a moment.
struct Source {
    /// Under which id it lies in its repository.
    id: JobId,
    moment: Option<RestoredMoment>,
    reported: Option<RestoredReport>,
    project: ProjectId,
    database: String,
    destination: DestinationId,
    repository: (ProjectId, bool),
    has_auth: bool,
    /// What must stay as it is until the restore is stored.
    check: Option<ItemWrite>,
}

impl Control {
    /// Starts a restore, or a dry run of one. A moment is looked for by `moments`.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the backup, the recovery to a point in time or the target;
    /// [`Unprocessable`](crate::Kind::Unprocessable) where a field may not be so, or the moment cannot be put back;
    /// [`TooMany`](crate::Kind::TooMany); [`Conflict`](crate::Kind::Conflict) where the backup is not completed, the
    /// idempotency key was used for another request, or the target is disconnected or known not to take the Auth users that
    /// are meant.
    pub async fn create_restore(
        &self,
        caller: &Caller,
        new: NewRestore,
        moments: &dyn FindMoment,
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
            let source = self.source_of(caller, &new, moments).await?;
            if let Some(restore) = self.try_restore(caller, &new, source, once.as_ref()).await? {
                return Ok(restore);
            }
        }
        Err(ControlError::concurrent_change())
    }

    async fn source_of(&self, caller: &Caller, new: &NewRestore, moments: &dyn FindMoment) -> Result<Source> {
        match (&new.backup_id, new.point_in_time) {
            (Some(backup), None) => self.restorable(caller.scope(), backup).await,
            (None, Some(at)) if new.reported => self.reported_of(caller, new, at, moments).await,
            (None, Some(at)) => self.moment_of(caller, new, AskedMoment { at, exact: new.exact }, moments).await,
            _ => Err(ControlError::field("pointInTime", "name either a backup or a time")),
        }
    }

    async fn try_restore(
        &self,
        caller: &Caller,
        new: &NewRestore,
        source: Source,
        once: Option<&Once>,
    ) -> Result<Option<RestoreJob>> {
        let scope = caller.scope();
        if new.include_auth && !source.has_auth {
            let is_captured = source.moment.is_some() || source.reported.is_some();
            let message = if is_captured { "Auth users are not captured" } else { "the backup has no Auth users" };
            return Err(ControlError::field("includeAuth", message));
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
        let mut checks = vec![project.check(), destination.check()];
        checks.extend(source.check);
        let restore = RestoreJob {
            job: new_facts(self, caller.author(), JobKind::Restore, caller.actor().to_string()),
            backup_id: source.id,
            moment: source.moment,
            reported: source.reported,
            project_id: source.project,
            target_project_id: target,
            google_project: project.value.project.google_project.clone(),
            database,
            storage_destination_id: source.destination,
            repository_project_id: source.repository.0,
            encrypted: source.repository.1,
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
        Ok(Source {
            id: id.clone(),
            moment: None,
            reported: None,
            project,
            database: stored.value.database().to_owned(),
            destination: stored.value.destination(),
            repository: stored.value.repository(),
            has_auth,
            check: Some(stored.check()),
        })
    }

    /// What a moment is made of. The backup that it builds on need not be one that the catalog knows. One that is about to be
    /// deleted is kept for as long as moments build on it.
    async fn moment_of(
        &self,
        caller: &Caller,
        new: &NewRestore,
        asked: AskedMoment,
        moments: &dyn FindMoment,
    ) -> Result<Source> {
        let project = captured_project(new)?;
        let (place, database) = self.open_moments(caller, &project, new.source_database.as_deref()).await?;
        let found = moments.find(&place, &database, asked).await?;
        let moment =
            RestoredMoment { point_in_time: asked.at, consistent_point: found.point, is_backup: found.is_base };
        let source = self.captured_source(caller, project, (place, database), found.base).await?;
        Ok(Source { moment: Some(moment), ..source })
    }

    /// One document as it was reported. The backup is looked for in the repository, and need not be one that the catalog knows.
    async fn reported_of(
        &self,
        caller: &Caller,
        new: &NewRestore,
        at: Timestamp,
        moments: &dyn FindMoment,
    ) -> Result<Source> {
        let reported = RestoredReport { document: reported_document(new)?, point_in_time: at };
        let project = captured_project(new)?;
        let (place, database) = self.open_moments(caller, &project, new.source_database.as_deref()).await?;
        let id = moments.find_reported(&place, &database, &reported).await;
        let id = id.map_err(|error| unknown_document(&reported.document, error))?;
        let source = self.captured_source(caller, project, (place, database), id).await?;
        Ok(Source { reported: Some(reported), ..source })
    }

    /// What is captured of a database, on top of a backup.
    async fn captured_source(
        &self,
        caller: &Caller,
        project: ProjectId,
        (place, database): (OpenedPlace, DatabaseName),
        base: JobId,
    ) -> Result<Source> {
        let known = self.load::<Job>(&caller.scope().job_key(&base)).await?;
        Ok(Source {
            id: base,
            moment: None,
            reported: None,
            project,
            database: database.database,
            destination: place.destination.id,
            repository: (place.project, place.encrypted),
            has_auth: false,
            check: known.map(|known| known.check()),
        })
    }

    /// Restores, newest first; without their progress.
    ///
    /// # Errors
    /// When the page cannot be, or the store fails.
    pub async fn restores(&self, caller: &Caller, page: &Page) -> Result<Paged<RestoreJob>> {
        caller.may(Right::Read)?;
        self.list(caller.scope().restores(), page, |restore: RestoreJob| Some(restore)).await
    }

    /// The restores of moments of a project, newest first; without their progress.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the project, where nothing is listed of it either; when the page cannot be, or
    /// the store fails.
    pub async fn moment_restores(
        &self,
        caller: &Caller,
        project: &ProjectId,
        page: &Page,
    ) -> Result<Paged<RestoreJob>> {
        caller.may(Right::Read)?;
        let pick = |restore: RestoreJob| restore.is_of_moment(project).then_some(restore);
        let paged = self.list(caller.scope().restores(), page, pick).await?;
        self.check_listed(caller.scope(), Some(project), page, &paged).await?;
        Ok(paged)
    }

    /// A restore of a moment of a project, with its progress.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn moment_restore(&self, caller: &Caller, project: &ProjectId, id: &JobId) -> Result<RestoreJob> {
        let restore = self.restore(caller, id).await?;
        if restore.is_of_moment(project) { Ok(restore) } else { Err(ControlError::not_found("restore")) }
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

impl RestoreJob {
    fn is_of_moment(&self, project: &ProjectId) -> bool {
        (self.moment.is_some() || self.reported.is_some()) && self.project_id == *project
    }
}

fn check(new: &NewRestore) -> Result<()> {
    limit::database(new.database.as_deref())?;
    let of_moments = [
        ("exact", new.exact),
        ("reported", new.reported),
        ("projectId", new.project_id.is_some()),
        ("sourceDatabase", new.source_database.is_some()),
    ];
    if let Some((field, _)) = of_moments.iter().find(|(_, is_given)| *is_given && new.point_in_time.is_none()) {
        return Err(ControlError::field(field, "it goes with `pointInTime`"));
    }
    if new.reported {
        reported_document(new)?;
    }
    // the path of one document is no glob
    let no_paths = Vec::new();
    limit::patterns(&[
        ("collections", &new.collections, false),
        ("paths", if new.reported { &no_paths } else { &new.paths }, true),
        ("exclude", &new.exclude, false),
    ])?;
    limit::renames(&new.renames)
}

fn captured_project(new: &NewRestore) -> Result<ProjectId> {
    new.project_id.ok_or_else(|| {
        ControlError::field("projectId", "expected the project whose changes are captured, with `pointInTime`")
    })
}

/// The one document that is put back as it was reported.
fn reported_document(new: &NewRestore) -> Result<DocumentPath> {
    if new.exact {
        return Err(ControlError::field("exact", "what is reported is no consistent point"));
    }
    for (field, is_given) in [("collections", !new.collections.is_empty()), ("exclude", !new.exclude.is_empty())] {
        if is_given {
            return Err(ControlError::field(field, "with `reported` one document is put back: name it in `paths`"));
        }
    }
    let [document] = new.paths.as_slice() else {
        return Err(ControlError::field("paths", "expected the path of one document, with `reported`"));
    };
    DocumentPath::new(document.as_str()).map_err(|error| ControlError::field("paths", &error).with_source(error))
}

/// Why a document cannot be put back. Its name may hold `*`: only where nothing is known of such a one a glob was meant.
fn unknown_document(document: &DocumentPath, error: ControlError) -> ControlError {
    let path = document.as_str();
    let glob = Selection { paths: vec![path.to_owned()], ..Selection::default() };
    if error.code != Code::MomentUnavailable || literal(path) == path || glob.filter().is_err() {
        return error;
    }
    let message = "with `reported` it is the path of one document, no glob, and nothing is known of such a one";
    ControlError::field("paths", message).with_source(error)
}

fn keeps_undo(restore: &RestoreJob) -> bool {
    let is_completed = restore.job.status == JobStatus::Completed;
    let kept = restore.job.result.as_ref().map_or(!is_completed && restore.undo, |result| result.undo);
    !restore.dry_run && kept
}
