//! How far jobs are, said to live clients every second.
//!
//! Many steps of one job note every second what they have counted, and every note gives all that was. One of them tells live
//! clients, if there are any: a counter beside the others says when that was last, and whoever moves it to now does it. So a
//! job costs one more write and one event a second while somebody looks, and no write while nobody does.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::port::ItemBody;

use crate::control::Control;
use crate::error::Result;
use crate::job::{Job, is_backup};
use crate::job_records::{in_days, progress_of};
use crate::job_run::COUNTERS_DAYS;
use crate::tenant::Worker;
use crate::webhook_event::EventName;

/// The counter of when live clients were last told, in milliseconds.
const TOLD_AT: &str = "toldAt";
/// How long they are left alone: a second, less what the clocks of steps may differ by.
const PAUSE_MILLIS: i64 = 900;
/// How far ahead the counter may be: farther means that somebody died who was about to take his share back.
const AHEAD_MILLIS: i64 = 5000;

impl Control {
    /// Tells live clients how far a job with these counters is, if nobody has within the second.
    pub(crate) async fn tell_live_progress(&self, worker: &Worker, id: &JobId, counters: &ItemBody) -> Result<()> {
        let now = self.now();
        let Some(wait) = since_told(counters, now) else { return Ok(()) };
        let name = if is_backup(id) { EventName::BackupProgress } else { EventName::RestoreProgress };
        if !self.is_heard(worker.scope(), name.as_str()).await? || !self.is_first_to_tell(worker, id, now, wait).await?
        {
            return Ok(());
        }
        let job = self.load::<Job>(&worker.scope().job_key(id)).await?.map(|job| job.value);
        let Some(job) = job.filter(|job| !job.status().has_ended()) else { return Ok(()) };
        self.publish_live_progress(worker.scope(), &job, now, &progress_of(job.facts(), counters)).await
    }

    /// Moves the counter to now. Of two who do at one moment each sees the other's share in it: who sees more than his own is
    /// too late, and takes it back.
    async fn is_first_to_tell(&self, worker: &Worker, id: &JobId, now: Timestamp, wait: i64) -> Result<bool> {
        let key = worker.scope().progress_key(id);
        let expires = Some(in_days(now, COUNTERS_DAYS));
        let moved = self.items().add(&key, &[(TOLD_AT, wait)], expires).await?;
        if told_at(&moved) == now.millis() {
            return Ok(true);
        }
        self.items().add(&key, &[(TOLD_AT, -wait)], expires).await?;
        Ok(false)
    }
}

fn told_at(counters: &ItemBody) -> i64 {
    counters.get(TOLD_AT).and_then(serde_json::Value::as_i64).unwrap_or(0)
}

/// How many milliseconds ago live clients were told; nothing where that is not long enough.
fn since_told(counters: &ItemBody, now: Timestamp) -> Option<i64> {
    let since = now.millis() - told_at(counters);
    (!(-AHEAD_MILLIS..PAUSE_MILLIS).contains(&since)).then_some(since)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn live_clients_are_told_once_a_second_and_again_where_the_counter_is_far_off() {
        let now = Timestamp::from_millis(1_000_000);
        for (told, expect) in [
            (0, Some(1_000_000)),
            (999_000, Some(1000)),
            (999_100, Some(900)),
            (999_101, None),
            (1_000_000, None),
            (1_005_000, None),
            (1_005_001, Some(-5001)),
        ] {
            let counters = ItemBody::from_iter([(TOLD_AT.to_owned(), json!(told))]);
            assert_eq!(since_told(&counters, now), expect, "{told}");
        }
        assert_eq!(since_told(&ItemBody::new(), now), Some(1_000_000));
    }
}
