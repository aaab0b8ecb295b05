//! What is kept in a destination and uses it.

use std::collections::BTreeMap;

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::destination::DestinationRecord;
use crate::error::{Code, ControlError, Result};
use crate::id::{DestinationId, PitrId, ProjectId, ScheduleId};
use crate::job::{BackupJob, JobStatus};
use crate::job_records::ActiveJob;
use crate::page::{Page, Paged};
use crate::pitr_record::PitrRecord;
use crate::project::ProjectRecord;
use crate::record::decode;
use crate::role::Right;
use crate::schedule::Schedule;
use crate::tenant::{Caller, OrganizationScope};

/// What uses a destination.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationLinks {
    /// Schedules whose backups are kept there; those that name none use the default destination.
    pub schedules: Vec<LinkedSchedule>,
    /// Projects that have backups there, or a schedule that will make some. A project that was removed has no name.
    pub projects: Vec<LinkedProject>,
    /// Recoveries to a point in time that are enabled and keep there what they capture.
    pub pitr: Vec<PitrId>,
    /// Jobs that have not ended and write or read there.
    #[schema(value_type = Vec<String>)]
    pub jobs: Vec<JobId>,
    /// Whether older backups than were looked at may be of other projects too: there are more than 10,000.
    pub partial: bool,
}

/// A schedule whose backups are kept somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkedSchedule {
    /// Which.
    pub id: ScheduleId,
    /// Its name.
    pub name: String,
    /// Whether it says so itself; otherwise because the destination is the default.
    pub named: bool,
}

/// A project that has backups somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkedProject {
    /// Which.
    pub id: ProjectId,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many completed backups it has there.
    pub backups: u64,
}

/// What is kept in the destinations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStats {
    /// By destination, in the order in which they were added.
    pub destinations: Vec<DestinationStats>,
    /// Completed backups.
    pub backups: u64,
    /// The bytes that they take.
    pub stored_bytes: u64,
    /// Whether there are more backups than were looked at, which are the newest 10,000.
    pub partial: bool,
}

/// What is kept in one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationStats {
    /// Which.
    pub id: DestinationId,
    /// Its name.
    pub name: String,
    /// Completed backups.
    pub backups: u64,
    /// The bytes that they take, as counted when they were made.
    pub stored_bytes: u64,
    /// When the newest was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub newest: Option<Timestamp>,
}

/// Backups that are to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BulkDeletion {
    /// Which, 1 to 100.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100)]
    pub backup_ids: Vec<JobId>,
}

/// What became of one of several backups that were to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkOutcome {
    /// Which.
    #[schema(value_type = String)]
    pub id: JobId,
    /// Whether it is about to be deleted.
    pub deleting: bool,
    /// Why not, as a code such as `IN_USE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub code: Option<Code>,
    /// Why not, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What became of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkOutcomes {
    /// In the order in which they were named.
    pub backups: Vec<BulkOutcome>,
}

/// The most backups that are looked at.
const MOST: usize = 10_000;
/// The most backups that are deleted by one request.
const MAX_DELETED: usize = 100;

impl Control {
    /// What uses a destination.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn destination_links(&self, caller: &Caller, id: &DestinationId) -> Result<DestinationLinks> {
        caller.may(Right::Read)?;
        let scope = caller.scope();
        self.destination_record(scope, id).await?;
        let default = self.organization_record(scope).await?.value.default_destination;
        let mut backups: BTreeMap<ProjectId, u64> = BTreeMap::new();
        let mut links = DestinationLinks::default();
        for schedule in self.all::<Schedule>(scope.schedules()).await? {
            let Schedule { id: schedule, name, project_id, storage_destination_id, .. } = schedule.value;
            if storage_destination_id.or(default) == Some(*id) {
                let named = storage_destination_id.is_some();
                links.schedules.push(LinkedSchedule { id: schedule, name, named });
                backups.entry(project_id).or_default();
            }
        }
        for pitr in self.all::<PitrRecord>(scope.pitrs()).await?.into_iter().map(|record| record.value) {
            if pitr.enabled && pitr.storage_destination_id == *id {
                links.pitr.push(pitr.id);
                backups.entry(pitr.project_id).or_default();
            }
        }
        let is_here = |job: &ActiveJob| job.destination == *id;
        links.jobs = self.active_jobs(scope).await?.into_iter().filter(is_here).map(|job| job.job).collect();
        let (completed, partial) = self.completed_backups(scope).await?;
        for backup in completed.into_iter().filter(|backup| backup.storage_destination_id == *id) {
            *backups.entry(backup.project_id).or_default() += 1;
        }
        links.partial = partial;
        for (id, backups) in backups {
            let record = self.load::<ProjectRecord>(&scope.project_key(&id)).await?;
            let name = record.map(|record| record.value.project.name);
            links.projects.push(LinkedProject { id, name, backups });
        }
        Ok(links)
    }

    /// The backups that are kept in a destination or are to be, newest first; without their progress.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn backups_in_destination(
        &self,
        caller: &Caller,
        id: &DestinationId,
        page: &Page,
    ) -> Result<Paged<BackupJob>> {
        caller.may(Right::Read)?;
        self.destination_record(caller.scope(), id).await?;
        let pick = |backup: BackupJob| (backup.storage_destination_id == *id).then_some(backup);
        self.list(caller.scope().backups(), page, pick).await
    }

    /// Asks for several backups of a destination to be deleted, each by itself: what keeps one keeps no other.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the destination; [`Unprocessable`](crate::Kind::Unprocessable) where too many
    /// are named, or none.
    pub async fn delete_backups(
        &self,
        caller: &Caller,
        id: &DestinationId,
        deletion: &BulkDeletion,
    ) -> Result<BulkOutcomes> {
        caller.may(Right::Manage)?;
        self.destination_record(caller.scope(), id).await?;
        if !(1..=MAX_DELETED).contains(&deletion.backup_ids.len()) {
            return Err(ControlError::field("backupIds", format!("expected 1 to {MAX_DELETED}")));
        }
        // what builds on others goes before them
        let mut newest_first: Vec<_> = deletion.backup_ids.iter().enumerate().collect();
        newest_first.sort_by(|(_, a), (_, b)| b.cmp(a));
        let mut backups = Vec::new();
        for (place, backup) in newest_first {
            let error = self.delete_backup_in(caller, id, backup).await.err();
            let (code, message) = error.map(|error| (error.code, error.message)).unzip();
            backups.push((place, BulkOutcome { id: backup.clone(), deleting: code.is_none(), code, message }));
        }
        backups.sort_by_key(|(place, _)| *place);
        Ok(BulkOutcomes { backups: backups.into_iter().map(|(_, outcome)| outcome).collect() })
    }

    async fn delete_backup_in(&self, caller: &Caller, id: &DestinationId, backup: &JobId) -> Result<()> {
        let (_, found) = self.backup_of(caller.scope(), None, backup).await?;
        if found.storage_destination_id != *id {
            return Err(ControlError::not_found("backup"));
        }
        self.delete_backup(caller, &found.project_id, backup).await.map(drop)
    }

    /// What is kept in each destination.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn storage_stats(&self, caller: &Caller) -> Result<StorageStats> {
        caller.may(Right::Read)?;
        let destinations = self.all::<DestinationRecord>(caller.scope().destinations()).await?.into_iter();
        let (completed, partial) = self.completed_backups(caller.scope()).await?;
        let destinations: Vec<_> = destinations.map(|record| DestinationStats::of(record.value, &completed)).collect();
        Ok(StorageStats {
            backups: destinations.iter().map(|destination| destination.backups).sum(),
            stored_bytes: destinations.iter().map(|destination| destination.stored_bytes).sum(),
            destinations,
            partial,
        })
    }

    /// The completed ones of the newest backups, newest first, and whether there are older ones than were looked at.
    async fn completed_backups(&self, scope: &OrganizationScope) -> Result<(Vec<BackupJob>, bool)> {
        let (mut completed, mut count, mut query) = (Vec::new(), 0, scope.backups());
        loop {
            let page = self.items().query(&query).await?;
            count += page.items.len();
            for item in page.items {
                let backup = decode::<BackupJob>(item)?.value;
                completed.extend((backup.job.status == JobStatus::Completed).then_some(backup));
            }
            query.after = page.next;
            if query.after.is_none() || count >= MOST {
                return Ok((completed, query.after.is_some()));
            }
        }
    }
}

impl DestinationStats {
    /// Of backups, the newest first.
    fn of(record: DestinationRecord, completed: &[BackupJob]) -> Self {
        let id = record.destination.id;
        let here = || completed.iter().filter(|backup| backup.storage_destination_id == id);
        let stored = |backup: &BackupJob| backup.job.result.as_ref().map_or(0, |result| result.stored);
        Self {
            id,
            name: record.destination.name,
            backups: here().count() as u64,
            stored_bytes: here().map(stored).sum(),
            newest: here().next().map(|newest| newest.job.created_at),
        }
    }
}
