//! Synthetic backups: merged from what is captured of a database, where that is, and made by themselves once that has grown.
//!
//! A chain of changes is read from the backup on with which it begins. Merged with it from time to time it stays short, and
//! retention can drop what came before.

use firebackup_model::id::JobId;
use firebackup_model::{DatabaseName, Timestamp};

use crate::actor::Actor;
use crate::backup::{BackupConfig, BackupType, Wanted};
use crate::control::Control;
use crate::destination::DestinationRecord;
use crate::error::{Code, ControlError, Result};
use crate::id::{DestinationId, ProjectId};
use crate::idempotency::Once;
use crate::job::{BackupJob, Job};
use crate::pitr_record::PitrRecord;
use crate::record::Stored;
use crate::tenant::{OrganizationScope, Worker};
use crate::work::OpenedPlace;

/// For how long it is known that a day's merge was made.
const KNOWN_DAYS: i64 = 2;
/// The seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// What is captured of a database on top of a backup, and merged with it from time to time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedChain {
    /// Of which database.
    pub database: DatabaseName,
    project: ProjectId,
    destination: DestinationId,
    encrypt: bool,
    after_days: u32,
}

impl CapturedChain {
    fn of(pitr: PitrRecord) -> Option<Self> {
        let is_merged = pitr.is_on() && pitr.merge_after_days > 0 && pitr.course.through.is_some();
        is_merged.then(|| Self {
            database: DatabaseName::new(&pitr.google_project, &pitr.database),
            project: pitr.project_id,
            destination: pitr.storage_destination_id,
            encrypt: pitr.encrypt,
            after_days: pitr.merge_after_days,
        })
    }

    /// Whether it is time to merge what was captured on top of a backup that was read at `since`.
    #[must_use]
    pub fn is_due(&self, since: Timestamp, now: Timestamp) -> bool {
        since.plus_seconds(i64::from(self.after_days) * DAY) <= now
    }
}

impl Control {
    /// What is captured and merged from time to time.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn captured_chains(&self, worker: &Worker) -> Result<Vec<CapturedChain>> {
        let all = self.all::<PitrRecord>(worker.scope().pitrs()).await?;
        Ok(all.into_iter().filter_map(|record| CapturedChain::of(record.value)).collect())
    }

    /// Where a chain is kept, secrets opened.
    ///
    /// # Errors
    /// [`Conflict`](crate::Kind::Conflict) where its destination is gone.
    pub async fn open_chain(&self, worker: &Worker, chain: &CapturedChain) -> Result<OpenedPlace> {
        let organization = self.organization_record(worker.scope()).await?;
        self.place_at(worker.scope(), organization, chain.destination, (chain.project, chain.encrypt)).await
    }

    /// Has a chain merged into a synthetic backup: once a day at most, and not while a backup of the database has not ended.
    ///
    /// # Errors
    /// As [`Self::create_backup`].
    pub async fn merge_chain(&self, worker: &Worker, chain: &CapturedChain) -> Result<Option<JobId>> {
        let scope = worker.scope();
        let CapturedChain { project, database, .. } = chain;
        let now = self.now().seconds;
        let day = Timestamp::new(now - now.rem_euclid(DAY), 0);
        let once = Once::new_for_days(scope.merge_key(project, &database.database, day), KNOWN_DAYS);
        let is_backed_up = self.is_backed_up_now(scope, project, &database.database).await?;
        if is_backed_up || self.made_before(Some(&once)).await?.is_some() {
            return Ok(None);
        }
        let config = BackupConfig {
            kind: BackupType::Synthetic,
            database: Some(database.database.clone()),
            encrypt: chain.encrypt,
            ..BackupConfig::default()
        };
        let wanted = Wanted {
            project: *project,
            destination: Some(chain.destination),
            schedule: None,
            config: &config,
            created_by: Actor::System.to_string(),
        };
        Ok(Some(self.backup_once(&worker.author(), &wanted, Some(&once)).await?.job.id))
    }

    /// Whether a backup of a database has not ended.
    pub(crate) async fn is_backed_up_now(
        &self,
        scope: &OrganizationScope,
        project: &ProjectId,
        database: &str,
    ) -> Result<bool> {
        for active in self.active_jobs(scope).await?.iter().filter(|active| active.project == *project) {
            let job = self.load::<Job>(&scope.job_key(&active.job)).await?.map(|job| job.value);
            if job.is_some_and(|job| matches!(job, Job::Backup(_)) && job.database() == database) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The destination of what is captured of a database, which is the only one where it can be merged.
    pub(crate) async fn destination_of_captures(
        &self,
        scope: &OrganizationScope,
        wanted: &Wanted<'_>,
        database: &str,
    ) -> Result<Stored<DestinationRecord>> {
        let pitr = self.load::<PitrRecord>(&scope.pitr_key(&wanted.project, database)).await?.map(|pitr| pitr.value);
        let Some(pitr) = pitr.filter(|pitr| pitr.enabled && pitr.course.through.is_some()) else {
            return Err(nothing_captured("no changes of the database are captured that could be merged with a backup"));
        };
        let is_meant = wanted.destination.is_none_or(|named| named == pitr.storage_destination_id);
        if !is_meant || pitr.encrypt != wanted.config.encrypt {
            let place = if pitr.encrypt { "encrypted" } else { "not encrypted" };
            let message = format!("its changes are captured into {}, {place}", pitr.storage_destination_id);
            return Err(nothing_captured(&message));
        }
        self.meant_destination(scope, Some(pitr.storage_destination_id)).await
    }

    /// The backups of a project that build on another one, as ids. They come from an index, which may be a moment behind: what is
    /// needed all the same is not deleted as long as it is.
    pub(crate) async fn increments_of(
        &self,
        scope: &OrganizationScope,
        project: &ProjectId,
        parent: &JobId,
    ) -> Result<Vec<String>> {
        let backups = self.all::<BackupJob>(scope.backups_of_project(project)).await?.into_iter();
        let increments = backups.filter(|backup| backup.value.builds_on() == Some(parent));
        Ok(increments.map(|backup| backup.value.job.id.to_string()).collect())
    }
}

fn nothing_captured(message: &str) -> ControlError {
    ControlError::conflict(Code::PitrUnavailable, message)
}
