//! A clock that only the test moves.

use firebackup_model::Timestamp;
use firebackup_model::port::Clock;
use tokio::sync::watch;

/// Stands still until it is moved.
#[derive(Debug)]
pub struct HandClock {
    now: watch::Sender<Timestamp>,
}

impl Default for HandClock {
    /// Far in the future, where no server that has a clock of its own finds anything expired.
    fn default() -> Self {
        Self::new(Timestamp::new(4_102_444_800, 0))
    }
}

impl HandClock {
    /// Shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { now: watch::Sender::new(now) }
    }

    /// Shows another time from now on, be it earlier or later.
    pub fn set(&self, now: Timestamp) {
        self.now.send_replace(now);
    }

    /// Moves it by whole seconds.
    pub fn advance(&self, seconds: i64) {
        self.now.send_modify(|now| *now = now.plus_seconds(seconds));
    }

    /// Waits until it shows `moment` or later.
    pub async fn reaches(&self, moment: Timestamp) {
        // the sender lives as long as `self`, so that waiting cannot fail
        let _ = self.now.subscribe().wait_for(|now| *now >= moment).await;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_woken_when_the_time_has_come_and_not_before() {
        let clock = Arc::new(HandClock::default());
        let due = clock.now().plus_seconds(2);
        let waiting = tokio::spawn({
            let clock = Arc::clone(&clock);
            async move {
                clock.reaches(due).await;
                clock.now()
            }
        });
        clock.advance(1);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        clock.advance(1);
        assert_eq!(waiting.await.unwrap(), due);
    }
}
