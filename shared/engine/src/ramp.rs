//! How fast a restore may write: Firestore asks for 500 writes a second at first and half as many again each five minutes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::world::Meter;

const FIRST_RATE: f64 = 500.0;
const GROWTH: f64 = 1.5;
const GROWTH_EVERY: Duration = Duration::from_secs(300);
const LAST_RATE: f64 = 10_000.0;
/// How long a refusal for exhausted resources keeps the rate down before it may grow again.
const RECOVERY: Duration = Duration::from_secs(10);

/// What part of the pace a writer takes, and since when the job writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    /// Of how many writers this is one. Each takes as much as the others; that some have nothing to do is not seen.
    pub(crate) writers: u32,
    /// For how long the job has been writing before.
    pub(crate) before: Duration,
}

impl Share {
    /// The only writer, which begins now.
    pub(crate) const WHOLE: Self = Self { writers: 1, before: Duration::ZERO };
}

/// Lets writes through at the rate that is allowed right now.
#[derive(Debug)]
pub(crate) struct Ramp {
    state: Mutex<State>,
    meter: Arc<Meter>,
}

#[derive(Debug)]
struct State {
    started: Instant,
    share: Share,
    /// Nothing: as fast as the server takes it, until it refuses.
    ramped: bool,
    /// When the next write may go.
    next: Instant,
    /// A lower bound on the rate that refusals have set, and when it was set.
    throttled: Option<(f64, Instant)>,
    recent_rate: f64,
}

impl Ramp {
    pub(crate) fn new(ramped: bool, share: Share, meter: Arc<Meter>) -> Self {
        let now = Instant::now();
        let state = State { started: now, share, ramped, next: now, throttled: None, recent_rate: FIRST_RATE };
        Self { state: Mutex::new(state), meter }
    }

    /// Waits until `writes` more may be sent.
    pub(crate) async fn admit(&self, writes: usize) {
        let until = match self.state.lock() {
            Ok(mut state) => state.reserve(Instant::now(), writes, &self.meter),
            Err(_) => return,
        };
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Learns that the server refused for exhausted resources: halves the rate.
    pub(crate) fn throttle(&self) {
        if let Ok(mut state) = self.state.lock() {
            let now = Instant::now();
            // one overload answers many requests with a refusal: it counts once
            if state.throttled.is_some_and(|(_, at)| now.duration_since(at) < Duration::from_millis(500)) {
                return;
            }
            let rate = (state.rate(now).unwrap_or(state.recent_rate) / 2.0).max(1.0);
            state.throttled = Some((rate, now));
        }
    }
}

impl State {
    /// Writes a second; nothing when there is no bound.
    fn rate(&self, now: Instant) -> Option<f64> {
        let writing = now.duration_since(self.started) + self.share.before;
        let steps = (writing.as_secs() / GROWTH_EVERY.as_secs()).min(100);
        let whole = (FIRST_RATE * GROWTH.powi(steps as i32)).min(LAST_RATE);
        let ramp = self.ramped.then(|| whole / f64::from(self.share.writers.max(1)));
        let throttled = self.throttled.map(|(rate, at)| {
            let recoveries = now.duration_since(at).as_secs_f64() / RECOVERY.as_secs_f64();
            rate * GROWTH.powf(recoveries)
        });
        match (ramp, throttled) {
            (Some(ramp), Some(throttled)) => Some(ramp.min(throttled)),
            (None, Some(throttled)) => (throttled < LAST_RATE * 2.0).then_some(throttled),
            (ramp, None) => ramp,
        }
    }

    fn reserve(&mut self, now: Instant, writes: usize, meter: &Meter) -> Option<Instant> {
        let rate = self.rate(now);
        meter.rate.set(rate.unwrap_or_default() as u64);
        let rate = rate?;
        self.recent_rate = rate;
        let start = self.next.max(now);
        self.next = start + Duration::from_secs_f64(writes as f64 / rate);
        (start > now).then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn begins_with_500_a_second_and_grows_by_half_each_five_minutes() {
        let ramp = Ramp::new(true, Share::WHOLE, Arc::default());
        let start = Instant::now();
        for _ in 0..11 {
            ramp.admit(100).await;
        }
        assert_eq!(start.elapsed().as_millis(), 2000);
        tokio::time::advance(Duration::from_secs(300)).await;
        let start = Instant::now();
        for _ in 0..11 {
            ramp.admit(75).await;
        }
        assert_eq!(start.elapsed().as_millis(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_halves_the_rate_and_time_gives_it_back() {
        let meter: Arc<Meter> = Arc::default();
        let ramp = Ramp::new(true, Share::WHOLE, Arc::clone(&meter));
        ramp.admit(1).await;
        ramp.throttle();
        ramp.throttle();
        ramp.admit(1).await;
        assert!((240..=260).contains(&meter.rate.get()), "{}", meter.rate.get());
        tokio::time::advance(Duration::from_secs(60)).await;
        ramp.admit(1).await;
        assert_eq!(meter.rate.get(), 500);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_ramp_nothing_waits_until_the_server_refuses() {
        let ramp = Ramp::new(false, Share::WHOLE, Arc::default());
        let start = Instant::now();
        for _ in 0..100 {
            ramp.admit(500).await;
        }
        assert_eq!(start.elapsed().as_millis(), 0);
        ramp.throttle();
        for _ in 0..3 {
            ramp.admit(250).await;
        }
        assert!(start.elapsed().as_millis() > 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn writers_share_the_pace_of_the_job_and_go_on_where_it_was() {
        for (before, share) in [(0, 25.0), (300, 37.5), (24 * 3600, 500.0)] {
            let share_of = Share { writers: 20, before: Duration::from_secs(before) };
            let ramp = Ramp::new(true, share_of, Arc::default());
            let began = Instant::now();
            // what is admitted waits for what was admitted before it
            for _ in 0..=10 {
                ramp.admit(share as usize).await;
            }
            let wanted = (share as usize * 10) as f64 / share;
            assert!((began.elapsed().as_secs_f64() - wanted).abs() < 0.1, "{before}: {:?}", began.elapsed());
        }
    }
}
