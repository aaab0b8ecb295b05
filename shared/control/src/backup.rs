//! Verbs on backups.

use firebackup_model::id::{JobId, JobKind};
use firebackup_model::manifest::SnapshotKind;
use firebackup_model::port::ItemWrite;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::control::Control;
use crate::database::Ability;
use crate::error::{ControlError, Result};
use crate::id::{DestinationId, ProjectId, ScheduleId};
use crate::idempotency::Once;
use crate::job::{BackupJob, Job, JobFacts, JobStatus};
use crate::job_records::{job_act, new_facts, replace_job, wrong_state};
use crate::limit;
use crate::page::{Page, Paged};
use crate::permission::Purpose;
use crate::project::in_use;
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::Right;
use crate::tenant::{Author, Caller, OrganizationScope};

/// What kind of backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(default = "full")]
pub enum BackupType {
    /// Everything that is selected.
    #[default]
    Full,
    /// What changed since the newest backup of the same, where there is one that can be built on; else everything. It is
    /// restored whole.
    Incremental,
    /// Everything at the newest captured moment, merged from an earlier backup and captured changes: nothing is read.
    Synthetic,
}

impl BackupType {
    /// What a snapshot is; an undo is no backup.
    pub(crate) const fn of(kind: SnapshotKind) -> Option<Self> {
        match kind {
            SnapshotKind::Full => Some(Self::Full),
            SnapshotKind::Incremental => Some(Self::Incremental),
            SnapshotKind::Synthetic => Some(Self::Synthetic),
            SnapshotKind::Undo => None,
        }
    }
}

/// What is backed up, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupConfig {
    /// What kind of backup.
    #[serde(rename = "type")]
    pub kind: BackupType,
    /// The database; `(default)` where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Collection patterns; none means all.
    #[schema(max_items = 100)]
    pub collections: Vec<String>,
    /// Collection patterns that are left out.
    #[schema(max_items = 100)]
    pub exclude_collections: Vec<String>,
    /// Whether collections bring what lies below their documents.
    pub include_subcollections: bool,
    /// Whether Auth users are backed up too.
    pub include_auth: bool,
    /// `brotli`, `zstd`, `gzip` or `none`, with a level if you like (`zstd:3`).
    #[schema(example = "brotli")]
    pub compression: String,
    /// Whether it is encrypted.
    pub encrypt: bool,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self {
            kind: BackupType::Full,
            database: None,
            collections: Vec::new(),
            exclude_collections: Vec::new(),
            include_subcollections: true,
            include_auth: false,
            compression: brotli(),
            encrypt: true,
        }
    }
}

impl BackupConfig {
    /// Whether nothing is left out.
    pub(crate) const fn is_everything(&self) -> bool {
        self.collections.is_empty() && self.exclude_collections.is_empty() && self.include_subcollections
    }
}

/// A backup that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewBackup {
    /// Of which project.
    pub project_id: ProjectId,
    /// Where it is kept; the default destination where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_destination_id: Option<DestinationId>,
    /// What kind of backup.
    #[serde(rename = "type", default)]
    pub kind: BackupType,
    /// The database; `(default)` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Collection patterns; none means all.
    #[serde(default)]
    #[schema(max_items = 100, default = json!([]))]
    pub collections: Vec<String>,
    /// Collection patterns that are left out.
    #[serde(default)]
    #[schema(max_items = 100, default = json!([]))]
    pub exclude_collections: Vec<String>,
    /// Whether collections bring what lies below their documents.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_subcollections: bool,
    /// Whether Auth users are backed up too.
    #[serde(default)]
    #[schema(default = false)]
    pub include_auth: bool,
    /// `brotli`, `zstd`, `gzip` or `none`, with a level if you like (`zstd:3`).
    #[serde(default = "brotli")]
    #[schema(example = "brotli", default = "brotli")]
    pub compression: String,
    /// Whether it is encrypted.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub encrypt: bool,
}

const fn yes() -> bool {
    true
}

fn brotli() -> String {
    "brotli".to_owned()
}

impl NewBackup {
    fn config(&self) -> BackupConfig {
        BackupConfig {
            kind: self.kind,
            database: self.database.clone(),
            collections: self.collections.clone(),
            exclude_collections: self.exclude_collections.clone(),
            include_subcollections: self.include_subcollections,
            include_auth: self.include_auth,
            compression: self.compression.clone(),
            encrypt: self.encrypt,
        }
    }
}

/// The fields of [`BackupConfig`].
const FIELDS: &[&str] = &[
    "type",
    "database",
    "collections",
    "excludeCollections",
    "includeSubcollections",
    "includeAuth",
    "compression",
    "encrypt",
];

/// Reads what is backed up and how from a request: unlike that of a record, it may hold nothing unknown.
pub(crate) fn strict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BackupConfig, D::Error> {
    let fields = Map::<String, Value>::deserialize(deserializer)?;
    if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(D::Error::unknown_field(unknown, FIELDS));
    }
    serde_json::from_value(Value::Object(fields)).map_err(D::Error::custom)
}

/// The same where it may be left out.
pub(crate) fn strict_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BackupConfig>, D::Error> {
    #[derive(Deserialize)]
    struct Wrapped(#[serde(deserialize_with = "strict")] BackupConfig);
    Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
}

/// A backup that is about to be stored.
pub(crate) struct Wanted<'a> {
    pub(crate) project: ProjectId,
    pub(crate) destination: Option<DestinationId>,
    pub(crate) schedule: Option<ScheduleId>,
    pub(crate) config: &'a BackupConfig,
    /// The id of a user, of an API key or of a schedule; `system` of what merges by itself.
    pub(crate) created_by: String,
}

impl Control {
    /// Starts a backup.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of its project or destination; [`Unprocessable`](crate::Kind::Unprocessable)
    /// where a field may not be so; [`TooMany`](crate::Kind::TooMany); [`Conflict`](crate::Kind::Conflict) where the
    /// idempotency key was used for another request, the project is disconnected, or Auth users are meant that it is known
    /// not to show us; [`PitrUnavailable`](crate::Code::PitrUnavailable) where nothing is captured that could be merged.
    pub async fn create_backup(&self, caller: &Caller, new: NewBackup, idempotency: Option<&str>) -> Result<BackupJob> {
        caller.may(Right::RunJobs)?;
        let once = Once::new(caller, idempotency, "create_backup", &new)?;
        let config = new.config();
        limit::backup(&config)?;
        let wanted = Wanted {
            project: new.project_id,
            destination: new.storage_destination_id,
            schedule: None,
            config: &config,
            created_by: caller.actor().to_string(),
        };
        self.backup_once(caller.author(), &wanted, once.as_ref()).await
    }

    /// Stores a backup and asks for its start; or finds the one that the same request has made.
    pub(crate) async fn backup_once(
        &self,
        author: &Author,
        wanted: &Wanted<'_>,
        once: Option<&Once>,
    ) -> Result<BackupJob> {
        let scope = author.scope();
        for _ in 0..MAX_ATTEMPTS {
            if let Some(made) = self.made_before(once).await? {
                let (_, backup) = self.backup_of(scope, None, &made).await?;
                self.ask_again(scope, &backup.job).await;
                return Ok(backup);
            }
            self.check_active(scope).await?;
            if let Some(backup) = self.try_backup(author, wanted, Vec::new(), once).await? {
                return Ok(backup);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Stores a backup with other writes, and asks for its start; nothing if others were faster.
    pub(crate) async fn try_backup(
        &self,
        author: &Author,
        wanted: &Wanted<'_>,
        mut with: Vec<ItemWrite>,
        once: Option<&Once>,
    ) -> Result<Option<BackupJob>> {
        let (backup, checks) = self.new_backup(author, wanted).await?;
        with.extend(checks);
        let job = Job::Backup(Box::new(backup.clone()));
        if self.store_job(author, &job, with, once).await? == Written::Outrun {
            return Ok(None);
        }
        self.ask_to_start(author.scope(), &backup.job.id).await;
        Ok(Some(backup))
    }

    /// A backup that is about to be stored, and what must hold until then.
    pub(crate) async fn new_backup(&self, author: &Author, wanted: &Wanted<'_>) -> Result<(BackupJob, [ItemWrite; 2])> {
        let scope = author.scope();
        let project = self.project_record(scope, &wanted.project).await?;
        project.value.check_usable()?;
        let database = project.value.database(wanted.config.database.as_deref())?;
        project.value.check_able(&database, Ability::Backup)?;
        if wanted.config.include_auth {
            project.value.project.check_permitted(Purpose::AuthBackup, self.now())?;
        }
        let destination = match wanted.config.kind {
            BackupType::Synthetic => self.destination_of_captures(scope, wanted, &database).await?,
            _ if wanted.schedule.is_some() || wanted.destination.is_none() => {
                self.destination_to_be(scope, wanted.destination, &wanted.project).await?
            }
            _ => self.meant_destination(scope, wanted.destination).await?,
        };
        let backup = BackupJob {
            job: new_facts(self, author, JobKind::Backup, wanted.created_by.clone()),
            project_id: wanted.project,
            google_project: project.value.project.google_project.clone(),
            database,
            storage_destination_id: destination.value.destination.id,
            repository_project_id: None,
            schedule_id: wanted.schedule,
            config: wanted.config.clone(),
            last_drill: None,
        };
        Ok((backup, [project.check(), destination.check()]))
    }

    /// A request that comes again may come because the first one died before it asked for the start.
    pub(crate) async fn ask_again(&self, scope: &OrganizationScope, job: &JobFacts) {
        if job.status == JobStatus::Pending {
            self.ask_to_start(scope, &job.id).await;
        }
    }

    /// Backups, of one project or of all, newest first; without their progress. Those of one project come from an index,
    /// which may be a moment behind. Those of a project that was removed are listed on.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the project, where nothing is listed of it either; when the page cannot be, or
    /// the store fails.
    pub async fn backups(&self, caller: &Caller, project: Option<&ProjectId>, page: &Page) -> Result<Paged<BackupJob>> {
        caller.may(Right::Read)?;
        let query = match project {
            Some(project) => caller.scope().backups_of_project(project),
            None => caller.scope().backups(),
        };
        let paged = self.list(query, page, |backup: BackupJob| Some(backup)).await?;
        self.check_listed(caller.scope(), project, page, &paged).await?;
        Ok(paged)
    }

    /// A list of a project of which there is nothing may be that of a project that is not there.
    pub(crate) async fn check_listed<T>(
        &self,
        scope: &OrganizationScope,
        project: Option<&ProjectId>,
        page: &Page,
        paged: &Paged<T>,
    ) -> Result<()> {
        let is_all = page.page == 1 && page.cursor.is_none() && paged.next.is_none();
        if let Some(project) = project.filter(|_| is_all && paged.items.is_empty()) {
            self.project_record(scope, project).await?;
        }
        Ok(())
    }

    /// A backup, with its progress.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn backup(&self, caller: &Caller, project: &ProjectId, id: &JobId) -> Result<BackupJob> {
        caller.may(Right::Read)?;
        let (_, mut backup) = self.backup_of(caller.scope(), Some(project), id).await?;
        backup.job.progress = Some(self.progress(caller.scope(), &backup.job).await?);
        Ok(backup)
    }

    /// Asks for a backup to be deleted: it is marked so, and maintenance deletes it. Doing it twice is doing it once.
    ///
    /// # Errors
    /// [`Conflict`](crate::Kind::Conflict) while it has not ended, a restore reads it, or a backup builds on it.
    pub async fn delete_backup(&self, caller: &Caller, project: &ProjectId, id: &JobId) -> Result<BackupJob> {
        caller.may(Right::Manage)?;
        for _ in 0..MAX_ATTEMPTS {
            let (stored, _) = self.backup_of(caller.scope(), Some(project), id).await?;
            if stored.value.status() != JobStatus::Deleting {
                let mut users = self.readers_of(caller.scope(), id).await?;
                users.extend(self.increments_of(caller.scope(), project, id).await?);
                if !users.is_empty() {
                    return Err(in_use("backup", &users));
                }
            }
            if self.mark_deleting(caller.author(), stored).await? == Written::Yes {
                return Ok(self.backup_of(caller.scope(), Some(project), id).await?.1);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Asks for the end of a backup that has not ended.
    ///
    /// # Errors
    /// [`JobState`](crate::Code::JobState) where it has ended otherwise.
    pub async fn cancel_backup(&self, caller: &Caller, project: &ProjectId, id: &JobId) -> Result<BackupJob> {
        caller.may(Right::RunJobs)?;
        for _ in 0..MAX_ATTEMPTS {
            let (stored, _) = self.backup_of(caller.scope(), Some(project), id).await?;
            if self.cancel(caller.author(), stored).await? == Written::Yes {
                return self.backup(caller, project, id).await;
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Marks a backup that has ended as to be deleted.
    pub(crate) async fn mark_deleting(&self, author: &Author, mut stored: Stored<Job>) -> Result<Written> {
        let scope = author.scope();
        match stored.value.status() {
            JobStatus::Deleting => Ok(Written::Yes),
            status if !status.has_ended() => Err(wrong_state(&stored.value)),
            _ => {
                let mut writes = self.checks_that_it_may_go(scope, &stored.value).await?;
                stored.value.facts_mut().status = JobStatus::Deleting;
                let mark = Marked { job: stored.value.id().clone() };
                let mark = new_item(scope.deleting_key(stored.value.id()), &mark, None)?;
                writes.extend([replace_job(scope, &stored)?, ItemWrite::Create(mark)]);
                self.commit(author, job_act(&stored.value, "deleted"), writes).await
            }
        }
    }

    /// The unfinished restores that read a backup, as ids.
    pub(crate) async fn readers_of(&self, scope: &OrganizationScope, id: &JobId) -> Result<Vec<String>> {
        let active = self.active_jobs(scope).await?.into_iter();
        Ok(active.filter(|job| job.reads.as_ref() == Some(id)).map(|job| job.job.to_string()).collect())
    }
}

/// That a backup is to be deleted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Marked {
    pub(crate) job: JobId,
}
