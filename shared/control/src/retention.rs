//! How long the backups of a schedule are kept.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::error::Result;
use crate::id::ScheduleId;
use crate::job::{BackupJob, JobStatus};
use crate::job_records::in_days;
use crate::limit;
use crate::schedule::Schedule;
use crate::tenant::Worker;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RetentionType {
    /// Completed backups.
    Count,
    /// Days since a backup was asked for.
    Days,
}

/// How long the completed backups of a schedule are kept. The newest is always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// What is counted.
    #[serde(rename = "type")]
    pub kind: RetentionType,
    /// How many, 1 to 36,500.
    #[schema(minimum = 1, maximum = 36500)]
    pub value: u32,
}

/// What a retention comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionOutcome {
    /// Completed backups that are kept, newest first.
    pub kept: Vec<JobId>,
    /// Completed backups that are to be deleted, newest first.
    pub dropped: Vec<JobId>,
}

/// The most that may be kept: a hundred years of days.
const MAX_VALUE: u32 = 36_500;

impl Retention {
    pub(crate) fn check(&self) -> Result<()> {
        limit::between("retention.value", self.value, 1, MAX_VALUE)
    }

    /// Splits the completed backups of a schedule, newest first, into what is kept and what is not.
    fn split(self, backups: Vec<JobId>, now: Timestamp) -> RetentionOutcome {
        let oldest = in_days(now, -i64::from(self.value)).millis();
        let is_kept = |index: usize, id: &JobId| match self.kind {
            // the newest is kept whatever its age: a schedule that stopped working must not cost the last backup
            _ if index == 0 => true,
            RetentionType::Count => index < self.value as usize,
            RetentionType::Days => i64::try_from(id.millis()).unwrap_or(i64::MAX) >= oldest,
        };
        let mut outcome = RetentionOutcome::default();
        for (index, id) in backups.into_iter().enumerate() {
            if is_kept(index, &id) { outcome.kept.push(id) } else { outcome.dropped.push(id) }
        }
        outcome
    }
}

impl Control {
    /// What a schedule's retention keeps of the backups it made, and what not. Nothing is dropped where there is no
    /// retention, or no such schedule any more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn kept_by_schedule(
        &self,
        worker: &Worker,
        schedule: &ScheduleId,
        now: Timestamp,
    ) -> Result<RetentionOutcome> {
        let scope = worker.scope();
        let stored = self.load::<Schedule>(&scope.schedule_key(schedule)).await?;
        let Some(stored) = stored.map(|stored| stored.value) else { return Ok(RetentionOutcome::default()) };
        let backups = self.all::<BackupJob>(scope.backups()).await?.into_iter().map(|backup| backup.value);
        let completed = backups.filter(|backup| backup.schedule_id == Some(*schedule));
        let completed = completed.filter(|backup| backup.job.status == JobStatus::Completed);
        let completed: Vec<JobId> = completed.map(|backup| backup.job.id).collect();
        match stored.retention {
            Some(retention) => Ok(retention.split(completed, now)),
            None => Ok(RetentionOutcome { kept: completed, dropped: Vec::new() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use firebackup_model::id::JobKind;
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1000;

    /// Backups of so many days ago, newest first.
    fn backups(days: &[u64], now: u64) -> Vec<JobId> {
        days.iter().map(|days| JobId::new(JobKind::Backup, now - days * DAY, [0; 10])).collect()
    }

    fn check(kind: RetentionType, value: u32, days: &[u64], kept: usize) {
        let now = 1_800_000_000_000;
        let outcome =
            Retention { kind, value }.split(backups(days, now), Timestamp::from_millis(i64::try_from(now).unwrap()));
        assert_eq!(outcome.kept, backups(&days[..kept], now), "{kind:?} {value} {days:?}");
        assert_eq!(outcome.dropped, backups(&days[kept..], now), "{kind:?} {value} {days:?}");
    }

    #[test]
    fn counts_and_days_are_kept_and_always_the_newest() {
        check(RetentionType::Count, 2, &[0, 1, 2, 3], 2);
        check(RetentionType::Count, 9, &[0, 1], 2);
        check(RetentionType::Days, 2, &[0, 1, 2, 3], 3);
        check(RetentionType::Days, 1, &[100, 200], 1);
        check(RetentionType::Count, 1, &[], 0);
    }

    proptest! {
        #[test]
        fn nothing_is_both_or_neither(value in 1u32..50, mut days in proptest::collection::vec(0u64..60, 0..40)) {
            days.sort_unstable();
            let now = 1_800_000_000_000;
            for kind in [RetentionType::Count, RetentionType::Days] {
                let all = backups(&days, now);
                let outcome = Retention { kind, value }.split(all.clone(), Timestamp::from_millis(1_800_000_000_000));
                prop_assert_eq!([outcome.kept.clone(), outcome.dropped].concat(), all.clone());
                prop_assert_eq!(outcome.kept.is_empty(), all.is_empty());
            }
        }
    }
}
