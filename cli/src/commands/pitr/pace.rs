//! When the next window is due: on the beat of the first one, whatever the windows before took.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause after failures, unless a window is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The beat of a capture in windows.
pub(super) struct Pace {
    window: Duration,
    begun: Instant,
    /// Windows that failed one after the other.
    failures: u32,
}

impl Pace {
    pub(super) const fn new(window: Duration, begun: Instant) -> Self {
        Self { window, begun, failures: 0 }
    }

    /// When to go on, a window having ended at `now`: at the next beat, and after failures later and later.
    pub(super) fn next(&mut self, now: Instant, has_failed: bool) -> Instant {
        self.failures = if has_failed { self.failures.saturating_add(1) } else { 0 };
        let windows = self.windows_to_wait();
        let passed = now.duration_since(self.begun).as_nanos() / self.window.as_nanos().max(1);
        let beats = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(windows);
        self.begun.checked_add(self.window.saturating_mul(beats)).unwrap_or(now + self.window)
    }

    fn windows_to_wait(&self) -> u32 {
        let doubled = 1_u32 << self.failures.saturating_sub(1).min(16);
        let most = LONGEST_PAUSE.as_secs() / self.window.as_secs().max(1);
        doubled.min(u32::try_from(most).unwrap_or(u32::MAX)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(begun: Instant, at: Instant) -> f64 {
        at.duration_since(begun).as_secs_f64()
    }

    #[test]
    fn windows_keep_the_beat_and_skip_what_was_missed() {
        let begun = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(60), begun);
        let mut next = |after: f64| seconds(begun, pace.next(begun + Duration::from_secs_f64(after), false));
        assert_eq!([next(0.5), next(61.2), next(179.9), next(180.0), next(421.0)], [60.0, 120.0, 180.0, 240.0, 480.0]);
    }

    #[test]
    fn failures_wait_longer_within_bounds_and_a_success_ends_that() {
        let begun = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(60), begun);
        let waits: Vec<f64> = (0..7).map(|_| seconds(begun, pace.next(begun, true))).collect();
        assert_eq!(waits, [60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0]);
        assert_eq!(seconds(begun, pace.next(begun, false)), 60.0);
        let mut slow = Pace::new(Duration::from_secs(3600), begun);
        assert_eq!((0..3).map(|_| seconds(begun, slow.next(begun, true))).last(), Some(3600.0));
    }
}
