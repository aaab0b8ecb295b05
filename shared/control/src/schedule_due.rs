//! What becomes of a due time of a schedule.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;

use crate::control::Control;
use crate::error::Result;
use crate::id::ScheduleId;
use crate::idempotency::Once;
use crate::job::Job;
use crate::schedule::Schedule;
use crate::tenant::{OrganizationScope, Worker};

impl Control {
    /// Makes the backup of a due time, once: that it was made is stored in the transaction that makes it. Nothing where
    /// the schedule is disabled or gone.
    ///
    /// # Errors
    /// What kept the backup from being made; whoever wants to know is told that the schedule failed.
    pub async fn schedule_due(
        &self,
        worker: &Worker,
        schedule: &ScheduleId,
        scheduled: Timestamp,
    ) -> Result<Option<JobId>> {
        let scope = worker.scope();
        let once = Once::of_due_time(scope, schedule, scheduled);
        if let Some(made) = self.made_before(Some(&once)).await? {
            if let Some(job) = self.load::<Job>(&scope.job_key(&made)).await? {
                self.ask_again(scope, job.value.facts()).await;
            }
            // whoever made it may have died before they said so; twice is once
            self.publish_triggered(scope, schedule, &made, scheduled).await;
            return Ok(Some(made));
        }
        let stored = self.load::<Schedule>(&scope.schedule_key(schedule)).await?;
        let Some(stored) = stored.map(|stored| stored.value).filter(|schedule| schedule.enabled) else {
            tracing::info!(schedule = %schedule, "it was due, and is disabled or gone");
            return Ok(None);
        };
        match self.backup_once(&worker.author(), &stored.wanted(schedule.to_string()), Some(&once)).await {
            Ok(backup) => {
                self.publish_triggered(scope, schedule, &backup.job.id, scheduled).await;
                Ok(Some(backup.job.id))
            }
            Err(error) => {
                self.publish_schedule_failed(scope, schedule, scheduled, &error).await?;
                Err(error)
            }
        }
    }
}

impl Once {
    /// A due time of a schedule, as a request that comes once however often it comes.
    fn of_due_time(scope: &OrganizationScope, schedule: &ScheduleId, scheduled: Timestamp) -> Self {
        Self::new_for_days(scope.schedule_run_key(schedule, scheduled), KNOWN_DAYS)
    }
}

/// For how long it is known that a due time was dealt with; messages do not come that late.
pub(crate) const KNOWN_DAYS: i64 = 7;
