//! Due times with which the scheduler did not come.

use firebackup_model::Timestamp;
use firebackup_model::port::{ItemWrite, NewItem};
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::error::Result;
use crate::id::ScheduleId;
use crate::job_records::in_days;
use crate::record::new_item;
use crate::schedule::Schedule;
use crate::schedule_due::KNOWN_DAYS;
use crate::tenant::Worker;

/// How late a scheduler may be.
const PATIENCE_SECONDS: i64 = 10 * 60;
/// What is older was looked for by the sweeps before this one.
const LOOK_BACK_SECONDS: i64 = 60 * 60;

/// That a due time was missed, and that its backup cannot be made.
#[derive(Serialize, Deserialize)]
struct GivenUp {}

impl Control {
    /// Makes the backup of a due time with which the scheduler did not come: of each schedule the last one in the past hour,
    /// from ten minutes after it was due, unless it has come with a later one since. Says how many there were. One that can
    /// never be made is tried once.
    ///
    /// # Errors
    /// When the store fails. What keeps one backup from being made does not keep the others, and was told by
    /// [`schedule_due`](Self::schedule_due).
    pub async fn make_up_for_missed(&self, worker: &Worker) -> Result<u64> {
        let mut missed = 0;
        for schedule in self.schedules_of(worker).await? {
            let Some(due) = self.missed_time(worker, &schedule).await? else { continue };
            missed += 1;
            if let Err(error) = self.schedule_due(worker, &schedule.id, due).await {
                tracing::warn!(schedule = %schedule.id, due = %due, error = %error, "a missed backup could not be made");
                if !error.can_be_retried() {
                    self.give_up(worker, &schedule.id, due).await?;
                }
            }
        }
        Ok(missed)
    }

    async fn missed_time(&self, worker: &Worker, schedule: &Schedule) -> Result<Option<Timestamp>> {
        let times = schedule.late_times(self.now());
        // the newest first: it is the likeliest that was served
        for due in times.iter().rev() {
            if self.was_dealt_with(worker, &schedule.id, *due).await? {
                return Ok(None);
            }
        }
        Ok(times.first().copied())
    }

    async fn was_dealt_with(&self, worker: &Worker, id: &ScheduleId, due: Timestamp) -> Result<bool> {
        let items = &self.ports().items;
        for key in [worker.scope().schedule_run_key(id, due), worker.scope().schedule_given_up_key(id, due)] {
            if items.get(&key).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn give_up(&self, worker: &Worker, id: &ScheduleId, due: Timestamp) -> Result<()> {
        let item = new_item(worker.scope().schedule_given_up_key(id, due), &GivenUp {}, None)?;
        let item = NewItem { expires: Some(in_days(self.now(), KNOWN_DAYS)), ..item };
        // of two sweeps at one time one writes it, which is enough
        self.write_unrecorded(vec![ItemWrite::Create(item)]).await.map(drop)
    }
}

impl Schedule {
    /// The last time at which it was due, as it is now, of those that a scheduler should have come with by now; and those
    /// after it. None where it should not have come yet.
    fn late_times(&self, now: Timestamp) -> Vec<Timestamp> {
        let since = self.updated_at.max(now.plus_seconds(-LOOK_BACK_SECONDS));
        let Some(cron) = self.cron().ok().filter(|_| self.enabled) else { return Vec::new() };
        let due = std::iter::successors(cron.next_after(since), |due| cron.next_after(*due));
        let due: Vec<_> = due.take_while(|due| *due <= now).collect();
        let late = due.partition_point(|due| *due <= now.plus_seconds(-PATIENCE_SECONDS));
        late.checked_sub(1).map_or_else(Vec::new, |last| due[last..].to_vec())
    }
}
