//! Backups and restores as users see them, and as they are stored.

use firebackup_model::id::{JobId, JobKind};
use firebackup_model::manifest::{Consistency, Manifest, SnapshotKind};
use firebackup_model::{DocumentPath, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::actor::Actor;
use crate::backup::{BackupConfig, BackupType};
use crate::drill::BackupDrill;
use crate::error::Code;
use crate::id::{DestinationId, OrganizationId, ProjectId, ScheduleId};

/// What spans call the request that a job goes back to: as those of requests do.
const REQUEST_FIELD: &str = "request_id";

/// How a job stands. An end is for ever; only a completed backup can go on to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// It waits for its turn.
    Pending,
    /// It goes on.
    Running,
    /// It was asked to end, and is about to.
    Cancelling,
    /// It has done what it was asked for.
    Completed,
    /// It has ended without.
    Failed,
    /// It has ended on request.
    Cancelled,
    /// A backup that is about to be deleted.
    Deleting,
}

impl JobStatus {
    /// Whether the job has ended, however.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Deleting)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Deleting => "deleting",
        }
    }
}

/// What backups and restores have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobFacts {
    /// Names the job.
    #[schema(value_type = String, example = "bkp_01JZ8Q6V7C9X2M4T5B8K1N3R6W")]
    pub id: JobId,
    /// Whose.
    pub organization_id: OrganizationId,
    /// How it stands.
    pub status: JobStatus,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Who asked for it: the id of an API key, of a user or of a schedule; `system` where captured changes were merged because
    /// it was time to.
    pub created_by: String,
    /// The request that asked for it, as its answer named it in `X-Request-Id`; nothing where none did, as for a due time
    /// of a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// How far it has come; only while one job is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What it came to, once completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// How many chunks the plan has, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<u64>,
}

/// How far a job has come. Steps that died and were run again count twice, so these are for looking at.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Documents dealt with.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that were stored of them.
    pub stored: u64,
    /// Document reads that Google bills.
    pub reads: u64,
    /// Documents written or deleted.
    pub writes: u64,
    /// Chunks of the plan; 0 until there is one.
    pub chunks: u64,
    /// Chunks that are done.
    pub chunks_done: u64,
    /// Percent of the chunks; nothing until there is a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

/// What a job came to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JobResult {
    /// Documents in the backup, or of it that were looked at by the restore.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes stored.
    pub stored: u64,
    /// Auth users in the backup, or created by the restore.
    pub users: u64,
    /// Document reads that Google bills.
    pub reads: u64,
    /// Documents written by a restore; of a dry run, that would be.
    pub written: u64,
    /// Documents deleted by a restore; of a dry run, that would be.
    pub deleted: u64,
    /// Documents that were right already.
    pub same: u64,
    /// Documents that were there and were left alone.
    pub skipped: u64,
    /// Documents that were changed since the dry run and were left alone.
    pub conflicts: u64,
    /// Documents that could not be written.
    pub failed: u64,
    /// The read time of a backup: the latest, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_time: Option<Timestamp>,
    /// What a backup is: one that was to be incremental may be full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<BackupType>,
    /// The backup that an incremental one builds on, which is kept as long as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub parent: Option<JobId>,
    /// Why it is full although it was to be incremental.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `snapshot` where all was read at one time, else `ranged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
    /// Whether what a restore replaced was kept, so that the restore can be taken back.
    pub undo: bool,
    /// What a dry run found, by collection, with samples, and the `bill` of the restore: the document `reads`, `writes` and
    /// `deletes` that Firestore bills.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub preview: Option<Value>,
    /// What the user should know, though the job was done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What a program tells by why a job failed. More may come; all that a job can say today is here, and the message says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobErrorCode {
    /// A step failed and could not be repeated, or was repeated in vain.
    JobFailed,
    /// The same, because the destination could not be reached, or refused.
    DestinationFailed,
}

impl JobErrorCode {
    /// The code of a step's failure.
    #[must_use]
    pub fn of_step(code: &str) -> Self {
        if code == Code::DestinationFailed.as_str() { Self::DestinationFailed } else { Self::JobFailed }
    }
}

/// Why a job failed, for the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobError {
    /// What a program tells it by.
    pub code: JobErrorCode,
    /// Why; holds no secret and no document.
    pub message: String,
}

/// A backup: a job, and once completed what can be restored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupJob {
    /// What it has in common with restores.
    #[serde(flatten)]
    pub job: JobFacts,
    /// Which project.
    pub project_id: ProjectId,
    /// The Google Cloud project.
    pub google_project: String,
    /// Which of its databases.
    pub database: String,
    /// Where it is kept.
    pub storage_destination_id: DestinationId,
    /// In the repository of which project it is kept, where that is another: of one that was lost, or removed and connected
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_project_id: Option<ProjectId>,
    /// The schedule that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_id: Option<ScheduleId>,
    /// What is backed up, and how.
    pub config: BackupConfig,
    /// How the last drill went that the server ran of it: one that was never restored is not known to be good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_drill: Option<BackupDrill>,
}

impl BackupJob {
    /// Whether captured changes were merged because it was time to, and nobody has asked for it, nor a schedule. A backup to begin
    /// from is none.
    pub(crate) fn is_merged_by_itself(&self) -> bool {
        self.config.kind == BackupType::Synthetic
            && self.schedule_id.is_none()
            && self.job.created_by == Actor::System.to_string()
    }

    /// The backup that it builds on, while it can be restored.
    pub(crate) fn builds_on(&self) -> Option<&JobId> {
        let result = self.job.result.as_ref().filter(|_| self.job.status == JobStatus::Completed);
        result.and_then(|result| result.parent.as_ref())
    }

    /// In the repository of which project it is kept.
    #[must_use]
    pub(crate) const fn repository(&self) -> ProjectId {
        match self.repository_project_id {
            Some(repository) => repository,
            None => self.project_id,
        }
    }

    /// In which repository it lies: the project's in a destination, encrypted or not.
    #[must_use]
    pub(crate) const fn place(&self) -> (ProjectId, DestinationId, bool) {
        (self.repository(), self.storage_destination_id, self.config.encrypt)
    }
}

impl JobResult {
    /// What a backup came to, as its manifest says.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        let consistency = match manifest.consistency {
            Consistency::Snapshot => "snapshot",
            Consistency::Ranged => "ranged",
        };
        Self {
            documents: manifest.totals.documents,
            bytes: manifest.totals.bytes,
            stored: manifest.stored_bytes,
            users: manifest.auth.as_ref().map_or(0, |auth| auth.users),
            reads: manifest.reads,
            read_time: manifest.read_times.iter().max().copied(),
            kind: BackupType::of(manifest.kind),
            parent: manifest.parent.clone().filter(|_| manifest.kind == SnapshotKind::Incremental),
            consistency: Some(consistency.to_owned()),
            ..Self::default()
        }
    }
}

/// A collection that gets another path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// Its path in the backup.
    pub from: String,
    /// Its path in the target.
    pub to: String,
}

/// What happens to documents that are in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(default = "overwrite")]
pub enum RestoreModeName {
    /// They are replaced.
    #[default]
    Overwrite,
    /// They are left alone.
    SkipExisting,
    /// They are replaced, and what is selected and not in the backup is deleted.
    Mirror,
}

impl From<RestoreModeName> for firebackup_model::job::RestoreMode {
    fn from(mode: RestoreModeName) -> Self {
        match mode {
            RestoreModeName::Overwrite => Self::Overwrite,
            RestoreModeName::SkipExisting => Self::SkipExisting,
            RestoreModeName::Mirror => Self::Mirror,
        }
    }
}

/// A moment that is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredMoment {
    /// The time that was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub point_in_time: Timestamp,
    /// The moment that is put back: the newest consistent point at or before that time.
    #[schema(value_type = String, format = DateTime)]
    pub consistent_point: Timestamp,
    /// Whether that is the backup itself, without a captured change.
    pub is_backup: bool,
}

impl RestoredMoment {
    /// The consistent point of captured changes that is put back; nothing where the backup is.
    #[must_use]
    pub fn captured(&self) -> Option<Timestamp> {
        (!self.is_backup).then_some(self.consistent_point)
    }
}

/// One document that is put back as it was reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredReport {
    /// The path of the document.
    #[schema(value_type = String, example = "users/alice")]
    pub document: DocumentPath,
    /// As it was at this time.
    #[schema(value_type = String, format = DateTime)]
    pub point_in_time: Timestamp,
}

/// A restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreJob {
    /// What it has in common with backups.
    #[serde(flatten)]
    pub job: JobFacts,
    /// The backup, or the restore whose undo, that is put back.
    #[schema(value_type = String)]
    pub backup_id: JobId,
    /// The moment that is put back, where it is one: the backup is what it builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<RestoredMoment>,
    /// The document that is put back as it was reported, where it is one: the backup only names its database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<RestoredReport>,
    /// The project that it was made of.
    pub project_id: ProjectId,
    /// The project that is written.
    pub target_project_id: ProjectId,
    /// The Google Cloud project that is written.
    pub google_project: String,
    /// Which of its databases.
    pub database: String,
    /// Where the backup is kept.
    pub storage_destination_id: DestinationId,
    /// In the repository of which project it is kept: of an undo another than that which was backed up.
    pub repository_project_id: ProjectId,
    /// Whether that repository is encrypted.
    pub encrypted: bool,
    /// Collection patterns; none means all.
    pub collections: Vec<String>,
    /// Globs over document paths; none means all.
    pub paths: Vec<String>,
    /// Collection patterns that are left out.
    pub exclude: Vec<String>,
    /// Collections that get another path.
    pub renames: Vec<Rename>,
    /// What happens to documents in the way.
    pub mode: RestoreModeName,
    /// Whether Auth users are restored too.
    pub include_auth: bool,
    /// Whether what is replaced is kept, so that the restore can be taken back.
    pub undo: bool,
    /// Documents changed after this time are left alone: the time of a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub guard: Option<Timestamp>,
    /// Whether it only says what it would do.
    pub dry_run: bool,
}

/// Either.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Job {
    /// A backup.
    Backup(Box<BackupJob>),
    /// A restore.
    Restore(Box<RestoreJob>),
}

impl Job {
    /// What both have in common.
    #[must_use]
    pub const fn facts(&self) -> &JobFacts {
        match self {
            Self::Backup(backup) => &backup.job,
            Self::Restore(restore) => &restore.job,
        }
    }

    pub(crate) const fn facts_mut(&mut self) -> &mut JobFacts {
        match self {
            Self::Backup(backup) => &mut backup.job,
            Self::Restore(restore) => &mut restore.job,
        }
    }

    /// Names the job.
    #[must_use]
    pub const fn id(&self) -> &JobId {
        &self.facts().id
    }

    /// How it stands.
    #[must_use]
    pub const fn status(&self) -> JobStatus {
        self.facts().status
    }

    /// The project that it reads or writes.
    #[must_use]
    pub const fn project(&self) -> ProjectId {
        match self {
            Self::Backup(backup) => backup.project_id,
            Self::Restore(restore) => restore.target_project_id,
        }
    }

    /// The database that it reads or writes.
    #[must_use]
    pub fn database(&self) -> &str {
        match self {
            Self::Backup(backup) => &backup.database,
            Self::Restore(restore) => &restore.database,
        }
    }

    /// The destination that it writes or reads.
    #[must_use]
    pub const fn destination(&self) -> DestinationId {
        match self {
            Self::Backup(backup) => backup.storage_destination_id,
            Self::Restore(restore) => restore.storage_destination_id,
        }
    }

    /// Names another destination, that holds the same.
    pub(crate) const fn move_to(&mut self, destination: DestinationId) {
        match self {
            Self::Backup(backup) => backup.storage_destination_id = destination,
            Self::Restore(restore) => restore.storage_destination_id = destination,
        }
    }

    /// In which repository of its destination it is kept: whose, and whether that is encrypted.
    #[must_use]
    pub const fn repository(&self) -> (ProjectId, bool) {
        match self {
            Self::Backup(backup) => (backup.repository(), backup.config.encrypt),
            Self::Restore(restore) => (restore.repository_project_id, restore.encrypted),
        }
    }

    /// Says in the span of whoever works on the job which request asked for it. A span without a field `request_id` stays as
    /// it is.
    pub(crate) fn name_request(&self) {
        if let Some(request) = &self.facts().request_id {
            tracing::Span::current().record(REQUEST_FIELD, request.as_str());
        }
    }

    /// What it is, in a word: `backup` or `restore`.
    #[must_use]
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
        }
    }
}

/// Whether an id can be one of a backup's.
pub(crate) fn is_backup(id: &JobId) -> bool {
    id.kind() == JobKind::Backup
}

/// What waits in the queue: a job that is to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMessage {
    /// Which.
    pub job: JobId,
    /// Whose.
    pub organization: OrganizationId,
}

/// How many jobs there are that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueuedJobs {
    /// Those that wait for their turn.
    pub waiting: u64,
    /// Those that have begun.
    pub active: u64,
}

impl std::ops::AddAssign for QueuedJobs {
    fn add_assign(&mut self, more: Self) {
        self.waiting += more.waiting;
        self.active += more.active;
    }
}

/// What became of a request to start a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    /// It runs now.
    Started,
    /// It ran before.
    AlreadyStarted,
    /// The organization runs as many jobs as it may. The message need not be kept: whichever job ends asks for the start
    /// of the one that waits longest, and the sweep makes up for what is lost.
    Busy,
    /// It has ended, or is gone: there is nothing to start.
    Ended,
}

/// How a job ends.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEnd {
    /// It has done what it was asked for.
    Completed(Box<JobResult>),
    /// It has not.
    Failed {
        /// What a program tells it by.
        code: JobErrorCode,
        /// Why; for the user.
        message: String,
    },
    /// It has not, and whoever ends it knows only that a step failed: the failure that was noted last is the reason.
    Unexplained {
        /// What is said where none was noted.
        message: String,
    },
    /// It was asked to end.
    Cancelled,
}
