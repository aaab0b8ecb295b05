//! How the schedules of an organization are doing, at a glance.

use std::collections::BTreeMap;

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use serde::Serialize;

use crate::control::Control;
use crate::error::Result;
use crate::id::ScheduleId;
use crate::job::{BackupJob, JobErrorCode, JobStatus};
use crate::job_records::in_days;
use crate::record::decode;
use crate::role::Right;
use crate::schedule::Schedule;
use crate::tenant::{Caller, OrganizationScope};

/// How the schedules of an organization are doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleOverview {
    /// How many there are.
    pub total: u64,
    /// How many of them fire.
    pub enabled: u64,
    /// How many do not.
    pub disabled: u64,
    /// How many there are by the status of their last backup, such as `completed`; `none` where they made none.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub by_status: BTreeMap<&'static str, u64>,
    /// The next one that fires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run: Option<NextRun>,
    /// The last backup of each schedule, the newest first; of at most 100.
    pub last_outcomes: Vec<ScheduleOutcome>,
    /// Backups of schedules that were asked for in the last 7 days and are completed.
    pub completed_in_7_days: u64,
    /// Those that failed.
    pub failed_in_7_days: u64,
    /// Due times of the last 7 days that were missed and whose backup can never be made.
    pub missed_in_7_days: u64,
    /// Whether older backups than were looked at may be the last ones of some schedule: there are more than 10,000.
    pub partial: bool,
}

/// The next time that a schedule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextRun {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Which.
    pub schedule_id: ScheduleId,
}

/// What became of the last backup of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleOutcome {
    /// Which schedule.
    pub schedule_id: ScheduleId,
    /// Its name.
    pub name: String,
    /// The backup.
    #[schema(value_type = String)]
    pub backup_id: JobId,
    /// How it stands.
    pub status: JobStatus,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Why it failed, as a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobErrorCode>,
}

/// How many days are counted.
const DAYS: i64 = 7;
/// The most backups that are looked at.
const MOST: usize = 10_000;
/// The most outcomes that are shown.
const MAX_OUTCOMES: usize = 100;
/// The status of a schedule that has made nothing.
const NONE: &str = "none";

/// What is found out about backups of schedules, from the newest on.
#[derive(Default)]
struct Looked {
    last: BTreeMap<ScheduleId, BackupJob>,
    completed: u64,
    failed: u64,
    partial: bool,
}

impl Looked {
    fn take(&mut self, backup: BackupJob, since: Timestamp) {
        let Some(schedule) = backup.schedule_id else { return };
        if backup.job.created_at >= since {
            self.completed += u64::from(backup.job.status == JobStatus::Completed);
            self.failed += u64::from(backup.job.status == JobStatus::Failed);
        }
        self.last.entry(schedule).or_insert(backup);
    }
}

impl Control {
    /// How the schedules are doing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn schedule_overview(&self, caller: &Caller) -> Result<ScheduleOverview> {
        caller.may(Right::Read)?;
        let (scope, now) = (caller.scope(), self.now());
        let schedules = self.all::<Schedule>(scope.schedules()).await?.into_iter();
        let schedules: Vec<_> = schedules.map(|schedule| schedule.value).collect();
        let looked = self.look_at_backups(scope, &schedules, in_days(now, -DAYS)).await?;
        let enabled = schedules.iter().filter(|schedule| schedule.enabled).count() as u64;
        let mut overview = ScheduleOverview {
            total: schedules.len() as u64,
            enabled,
            disabled: schedules.len() as u64 - enabled,
            next_run: schedules.iter().filter_map(|schedule| schedule.next_run(now)).min(),
            completed_in_7_days: looked.completed,
            failed_in_7_days: looked.failed,
            missed_in_7_days: self.count_up_to(scope.schedules_given_up(), MOST as u64).await?.0,
            partial: looked.partial,
            ..ScheduleOverview::default()
        };
        for schedule in &schedules {
            let last = looked.last.get(&schedule.id);
            *overview.by_status.entry(last.map_or(NONE, |last| last.job.status.name())).or_default() += 1;
            overview.last_outcomes.extend(last.map(|last| schedule.outcome(last)));
        }
        overview.last_outcomes.sort_by_key(|outcome| std::cmp::Reverse(outcome.created_at));
        overview.last_outcomes.truncate(MAX_OUTCOMES);
        Ok(overview)
    }

    /// Looks at backups, the newest first, until all that is asked about schedules is known.
    async fn look_at_backups(
        &self,
        scope: &OrganizationScope,
        schedules: &[Schedule],
        since: Timestamp,
    ) -> Result<Looked> {
        let (mut looked, mut count, mut query) = (Looked::default(), 0, scope.backups());
        loop {
            let page = self.items().query(&query).await?;
            for item in page.items {
                let backup = decode::<BackupJob>(item)?.value;
                let is_old = backup.job.created_at < since;
                if is_old && schedules.iter().all(|schedule| looked.last.contains_key(&schedule.id)) {
                    return Ok(looked);
                }
                looked.take(backup, since);
                count += 1;
            }
            query.after = page.next;
            looked.partial = query.after.is_some() && count >= MOST;
            if query.after.is_none() || looked.partial {
                return Ok(looked);
            }
        }
    }
}

impl Schedule {
    fn next_run(&self, now: Timestamp) -> Option<NextRun> {
        let cron = self.cron().ok().filter(|_| self.enabled)?;
        Some(NextRun { at: cron.next_after(now)?, schedule_id: self.id })
    }

    fn outcome(&self, last: &BackupJob) -> ScheduleOutcome {
        ScheduleOutcome {
            schedule_id: self.id,
            name: self.name.clone(),
            backup_id: last.job.id.clone(),
            status: last.job.status,
            created_at: last.job.created_at,
            ended_at: last.job.ended_at,
            error: last.job.error.as_ref().map(|error| error.code),
        }
    }
}
