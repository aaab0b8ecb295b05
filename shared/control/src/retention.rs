//! How long the backups of a schedule are kept.

use std::collections::{BTreeMap, BTreeSet};

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::gfs::Gfs;
use crate::id::{DestinationId, ProjectId, ScheduleId};
use crate::job::{BackupJob, JobStatus};
use crate::job_records::in_days;
use crate::pitr::LONGEST_RETENTION_DAYS;
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
    /// Bytes that the backups take together where they are stored.
    Size,
}

/// How long the completed backups of a schedule are kept. The newest is always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// What is counted.
    #[serde(rename = "type")]
    pub kind: RetentionType,
    /// How many backups or days, 1 to 36,500; or how many bytes, 1 to 2⁵³ - 1: the newest backups that together take no
    /// more.
    #[schema(minimum = 1, maximum = 9007199254740991_u64)]
    pub value: u64,
}

/// What a retention comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionOutcome {
    /// Completed backups that are kept, newest first.
    pub kept: Vec<JobId>,
    /// Completed backups that are to be deleted, newest first.
    pub dropped: Vec<JobId>,
    /// In which repository each of a schedule's lies: the project's in a destination, encrypted or not.
    pub places: BTreeMap<JobId, (ProjectId, DestinationId, bool)>,
}

/// The most that may be kept: a hundred years of days.
pub(crate) const MAX_VALUE: u32 = 36_500;
/// The most bytes: every client reads this number right.
const MAX_BYTES: u64 = (1 << 53) - 1;

/// A completed backup, as far as retention looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Completed {
    id: JobId,
    stored: u64,
}

impl Completed {
    fn of(backup: BackupJob) -> Self {
        Self { stored: backup.job.result.map_or(0, |result| result.stored), id: backup.job.id }
    }

    fn asked_at(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.id.millis()).unwrap_or(i64::MAX))
    }
}

/// That one of the two is said at most, and right.
pub(crate) fn check_kept(retention: Option<Retention>, gfs: Option<Gfs>) -> Result<()> {
    if retention.is_some() && gfs.is_some() {
        return Err(ControlError::field("gfs", "expected either `retention` or `gfs`"));
    }
    retention.map_or(Ok(()), |retention| retention.check())?;
    gfs.map_or(Ok(()), |gfs| gfs.check())
}

impl Retention {
    fn check(self) -> Result<()> {
        let most = match self.kind {
            RetentionType::Count | RetentionType::Days => u64::from(MAX_VALUE),
            RetentionType::Size => MAX_BYTES,
        };
        match (1..=most).contains(&self.value) {
            true => Ok(()),
            false => Err(ControlError::field("retention.value", format!("expected 1 to {most}"))),
        }
    }

    /// Which backups are kept, newest first.
    fn keeps(self, backups: &[Completed], now: Timestamp) -> Vec<bool> {
        let days = i64::try_from(self.value).unwrap_or(i64::MAX).min(i64::from(MAX_VALUE));
        let oldest = in_days(now, -days);
        let mut bytes = 0_u64;
        let is_kept = |(index, backup): (usize, &Completed)| {
            bytes = bytes.saturating_add(backup.stored);
            match self.kind {
                RetentionType::Count => (index as u64) < self.value,
                RetentionType::Days => backup.asked_at() >= oldest,
                RetentionType::Size => bytes <= self.value,
            }
        };
        backups.iter().enumerate().map(is_kept).collect()
    }
}

/// Splits completed backups, newest first, into what is kept and what is not.
fn split(backups: Vec<Completed>, kept: &[bool]) -> RetentionOutcome {
    let mut outcome = RetentionOutcome::default();
    for (index, backup) in backups.into_iter().enumerate() {
        // the newest is kept whatever is said: a schedule that stopped working must not cost the last backup
        let is_kept = index == 0 || kept.get(index).copied().unwrap_or(true);
        if is_kept { outcome.kept.push(backup.id) } else { outcome.dropped.push(backup.id) }
    }
    outcome
}

impl Schedule {
    /// What is kept of its completed backups, newest first, and what not.
    fn keeps(&self, backups: Vec<Completed>, now: Timestamp) -> Result<RetentionOutcome> {
        let kept = match (self.retention, self.gfs) {
            (Some(retention), _) => retention.keeps(&backups, now),
            (None, Some(gfs)) => {
                let cron = self.cron()?;
                gfs.keeps(&backups.iter().map(|backup| cron.date(backup.asked_at())).collect::<Vec<_>>())
            }
            (None, None) => Vec::new(),
        };
        Ok(split(backups, &kept))
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
        let completed: Vec<_> = backups.filter(|backup| backup.job.status == JobStatus::Completed).collect();
        let parents = completed.iter().filter_map(|one| Some((one.job.id.clone(), one.builds_on()?.clone()))).collect();
        let mut own = completed;
        own.retain(|backup| backup.schedule_id == Some(*schedule));
        let places = own.iter().map(|backup| (backup.job.id.clone(), backup.place())).collect();
        let outcome = stored.keeps(own.into_iter().map(Completed::of).collect(), now)?.with_parents(&parents);
        Ok(RetentionOutcome { places, ..outcome })
    }
}

impl Control {
    /// Merges that were made by themselves and on which no moment builds any more that is kept: of each database those behind
    /// which stands a newer one from before all of these. Backups that others build on are left out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn outlived_merges(&self, worker: &Worker, now: Timestamp) -> Result<Vec<JobId>> {
        let scope = worker.scope();
        let backups = self.all::<BackupJob>(scope.backups()).await?.into_iter().map(|backup| backup.value);
        let completed: Vec<_> = backups.filter(|backup| backup.job.status == JobStatus::Completed).collect();
        let parents = completed.iter().filter_map(|one| Some((one.job.id.clone(), one.builds_on()?.clone()))).collect();
        let mut merges: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for backup in completed.into_iter().filter(BackupJob::is_merged_by_itself) {
            // a moment builds on what is in its own repository
            merges.entry((backup.place(), backup.database.clone())).or_default().push(backup);
        }
        let mut outcome = RetentionOutcome::default();
        for ((place, _), merges) in merges {
            let days = self.days_kept(scope, place).await?.unwrap_or(LONGEST_RETENTION_DAYS);
            outcome.dropped.extend(outlived(merges, in_days(now, -i64::from(days))));
        }
        Ok(outcome.with_parents(&parents).dropped)
    }
}

/// Those that are older than the newest from before a time.
fn outlived(merges: Vec<BackupJob>, since: Timestamp) -> impl Iterator<Item = JobId> {
    let read_time = |backup: &BackupJob| backup.job.result.as_ref().and_then(|result| result.read_time);
    let mut merges: Vec<_> = merges.into_iter().map(|merge| (read_time(&merge), merge.job.id)).collect();
    merges.sort_unstable_by(|a, b| b.cmp(a));
    let is_newer = move |(read_time, _): &(Option<Timestamp>, JobId)| *read_time > Some(since);
    merges.into_iter().skip_while(is_newer).skip(1).map(|(_, id)| id)
}

impl RetentionOutcome {
    /// The same, where what a kept incremental backup builds on is kept too: its parent, which may have one itself. `parents`
    /// are those of all backups that can be restored, of whatever schedule.
    fn with_parents(mut self, parents: &BTreeMap<JobId, JobId>) -> Self {
        loop {
            let needed: BTreeSet<_> =
                parents.iter().filter(|(child, _)| !self.dropped.contains(child)).map(|(_, parent)| parent).collect();
            let (more, rest): (Vec<_>, Vec<_>) = self.dropped.into_iter().partition(|id| needed.contains(id));
            self.dropped = rest;
            if more.is_empty() {
                self.kept.sort_by(|a, b| b.cmp(a));
                return self;
            }
            self.kept.extend(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use firebackup_model::id::JobKind;
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1000;
    const NOW: u64 = 1_800_000_000_000;

    /// Backups of so many days ago, newest first, each of so many bytes.
    fn backups(days: &[u64], stored: u64) -> Vec<Completed> {
        days.iter()
            .map(|days| Completed { id: JobId::new(JobKind::Backup, NOW - days * DAY, [0; 10]), stored })
            .collect()
    }

    fn now() -> Timestamp {
        Timestamp::from_millis(i64::try_from(NOW).unwrap())
    }

    fn ids(backups: &[Completed]) -> Vec<JobId> {
        backups.iter().map(|backup| backup.id.clone()).collect()
    }

    fn check(kind: RetentionType, value: u64, days: &[u64], kept: usize) {
        let all = backups(days, 10);
        let outcome = split(all.clone(), &Retention { kind, value }.keeps(&all, now()));
        assert_eq!(outcome.kept, ids(&all[..kept]), "{kind:?} {value} {days:?}");
        assert_eq!(outcome.dropped, ids(&all[kept..]), "{kind:?} {value} {days:?}");
    }

    #[test]
    fn counts_days_and_bytes_are_kept_and_always_the_newest() {
        check(RetentionType::Count, 2, &[0, 1, 2, 3], 2);
        check(RetentionType::Count, 9, &[0, 1], 2);
        check(RetentionType::Days, 2, &[0, 1, 2, 3], 3);
        check(RetentionType::Days, 1, &[100, 200], 1);
        check(RetentionType::Count, 1, &[], 0);
        check(RetentionType::Size, 30, &[0, 1, 2, 3], 3);
        check(RetentionType::Size, 29, &[0, 1, 2, 3], 2);
        check(RetentionType::Size, 1, &[0, 1, 2, 3], 1);
    }

    #[test]
    fn bytes_that_do_not_fit_end_it_though_older_ones_would() {
        let mut all = backups(&[0, 1, 2], 10);
        all[1].stored = 1000;
        let outcome = split(all.clone(), &Retention { kind: RetentionType::Size, value: 100 }.keeps(&all, now()));
        assert_eq!(outcome.kept, ids(&all[..1]));
    }

    #[test]
    fn values_are_bounded_by_what_they_count() {
        let check = |kind, value| Retention { kind, value }.check().is_ok();
        assert!(check(RetentionType::Days, 36_500) && !check(RetentionType::Days, 36_501));
        assert!(check(RetentionType::Size, MAX_BYTES) && !check(RetentionType::Size, MAX_BYTES + 1));
        assert!(!check(RetentionType::Size, 0) && !check(RetentionType::Count, 0));
        let gfs = Gfs { daily: 7, ..Gfs::default() };
        let retention = Retention { kind: RetentionType::Count, value: 1 };
        assert!(check_kept(Some(retention), None).is_ok() && check_kept(None, Some(gfs)).is_ok());
        assert!(check_kept(Some(retention), Some(gfs)).is_err());
    }

    #[test]
    fn what_a_kept_backup_builds_on_is_kept_whatever_schedule_made_it() {
        let all = backups(&[0, 1, 2, 3, 4, 5], 10);
        let ids = ids(&all);
        let keep = |parents: &[(usize, usize)]| {
            let parents = parents.iter().map(|(child, parent)| (ids[*child].clone(), ids[*parent].clone())).collect();
            let outcome = split(all[1..].to_vec(), &[true, false, false, false, false]).with_parents(&parents);
            let number = |id: &JobId| ids.iter().position(|other| other == id).unwrap();
            outcome.kept.iter().map(number).collect::<Vec<_>>()
        };
        assert_eq!(keep(&[]), [1]);
        assert_eq!(keep(&[(3, 4), (4, 5)]), [1], "they go together");
        assert_eq!(keep(&[(1, 3), (3, 4)]), [1, 3, 4]);
        assert_eq!(keep(&[(0, 5)]), [1, 5], "that of another schedule");
    }

    #[test]
    fn what_was_stored_before_is_read() {
        let read: Retention = serde_json::from_str(r#"{"type":"days","value":30}"#).unwrap();
        assert_eq!(read, Retention { kind: RetentionType::Days, value: 30 });
    }

    /// A schedule that keeps so much.
    fn schedule(kind: u8, value: u32) -> Schedule {
        let kept = match kind {
            0 => serde_json::json!({"retention": {"type": "count", "value": value}}),
            1 => serde_json::json!({"retention": {"type": "days", "value": value}}),
            2 => serde_json::json!({"retention": {"type": "size", "value": value * 10}}),
            3 => serde_json::json!({"gfs": {"daily": value}}),
            4 => serde_json::json!({"gfs": {"weekly": value}}),
            5 => serde_json::json!({"gfs": {"monthly": value, "daily": value / 2}}),
            _ => serde_json::json!({"gfs": {"daily": value, "weekly": value, "monthly": value, "yearly": value}}),
        };
        let mut schedule = serde_json::json!({
            "id": "sched_01ARZ3NDEKTSV4RRFFQ69G5FAV", "name": "s", "projectId": "proj_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "cronExpression": "0 3 * * *", "timezone": "Pacific/Auckland", "backupConfig": {}, "enabled": true,
            "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
        });
        schedule.as_object_mut().unwrap().extend(kept.as_object().unwrap().clone());
        serde_json::from_value(schedule).unwrap()
    }

    proptest! {
        #[test]
        fn nothing_is_both_or_neither_and_twice_is_once_and_more_keeps_more(
            kind in 0_u8..7,
            value in 1_u32..20,
            more in 0_u32..5,
            mut made in proptest::collection::vec((0_u64..900, 0_u64..40), 0..60),
        ) {
            made.sort_unstable();
            let all: Vec<_> = made.iter().enumerate().map(|(index, (days, stored))| {
                // several a day have an order too
                let id = JobId::new(JobKind::Backup, NOW - days * DAY - index as u64, [0; 10]);
                Completed { id, stored: *stored }
            }).collect();
            let outcome = schedule(kind, value).keeps(all.clone(), now()).unwrap();
            let both: Vec<_> = outcome.kept.iter().chain(&outcome.dropped).collect();
            prop_assert_eq!(both.len(), all.len());
            prop_assert!(all.iter().all(|one| outcome.kept.contains(&one.id) != outcome.dropped.contains(&one.id)));
            prop_assert_eq!(outcome.kept.first(), all.first().map(|newest| &newest.id));
            let left: Vec<_> = all.iter().filter(|one| outcome.kept.contains(&one.id)).cloned().collect();
            let again = schedule(kind, value).keeps(left, now()).unwrap();
            prop_assert_eq!(&again.kept, &outcome.kept);
            prop_assert!(again.dropped.is_empty());
            let larger = schedule(kind, value + more).keeps(all, now()).unwrap();
            prop_assert!(outcome.kept.iter().all(|id| larger.kept.contains(id)));
        }
    }
}
