//! Waiting for a moment of the wall clock.

use std::time::Duration;

use async_trait::async_trait;
use firebackup_model::Timestamp;
use firebackup_model::port::Clock;

use crate::system::SystemClock;

/// How long the system's alarm sleeps at once: a machine may be suspended, or its clock be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// Waits until a clock shows a moment.
#[async_trait]
pub trait Alarm: Send + Sync {
    /// Returns when it is `moment` or later.
    async fn at(&self, moment: Timestamp);
}

/// Waits for the wall clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemAlarm;

#[async_trait]
impl Alarm for SystemAlarm {
    async fn at(&self, moment: Timestamp) {
        loop {
            let left = moment.seconds_since(SystemClock.now());
            if left <= 0.0 {
                return;
            }
            let sleep = Duration::try_from_secs_f64(left).unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
            // a timer of the runtime is good to a millisecond
            tokio::time::sleep(sleep + Duration::from_millis(1)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_at_the_moment_and_not_before() {
        let moment = Timestamp::from_millis(SystemClock.now().millis() + 60);
        SystemAlarm.at(moment).await;
        assert!(SystemClock.now() >= moment);
        SystemAlarm.at(Timestamp::new(0, 0)).await;
    }
}
