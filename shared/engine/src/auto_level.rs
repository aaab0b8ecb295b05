//! Chooses the compression level of each block: the highest that does not hold the source up.
//!
//! Two signals. Back-pressure: when a full block has to wait because all workers are compressing, the level is too high
//! *now*, and drops at once. Throughput: a source on the same machine slows down when compression takes its cores, and
//! no queue shows that; so from time to time an epoch is run without compression as a yardstick, and a level is kept
//! only while the source comes within a few per cent of it. Probes that fail are repeated ever more rarely.

use std::sync::Mutex;
use std::time::Duration;

use firebackup_model::manifest::{Algorithm, Compression, Level};
use tokio::time::Instant;

/// An epoch is at least so many blocks and so long, so that one slow block does not decide.
const EPOCH_BLOCKS: u32 = 8;
const EPOCH_TIME: Duration = Duration::from_millis(150);
/// So many blocks that wait say that the compressors hold the source up: at the beginning, and later.
const FIRST_WAITING: usize = 1;
const WAITING: usize = 2;
/// A level must reach this share of the yardstick to be taken, and this much to be kept.
const TAKE: f64 = 0.97;
const KEEP: f64 = 0.95;
/// After a failed probe, so many epochs pass before the next; doubled each time up to the last.
const FIRST_HOLD: u32 = 4;
const LAST_HOLD: u32 = 128;

/// Chooses levels; shared by all chunks of a backup.
#[derive(Debug)]
pub(crate) struct LevelChoice {
    ladder: Vec<(Algorithm, u8)>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rung: usize,
    phase: Phase,
    /// Epochs left before the next probe.
    hold: u32,
    backoff: u32,
    /// Source rate at the kept rung and at rung 0, bytes a second.
    kept_rate: Option<f64>,
    bare_rate: Option<f64>,
    epoch: Option<Epoch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Keep,
    Bare,
    Probe,
}

#[derive(Debug)]
struct Epoch {
    started: Instant,
    bytes: u64,
    blocks: u32,
}

impl LevelChoice {
    pub(crate) fn new(compression: Compression) -> Self {
        let ladder = match compression.level {
            Level::Fixed(level) => vec![(compression.algorithm, level)],
            Level::Auto => ladder(compression.algorithm),
        };
        // begin with the lowest level that compresses: a small database ends before much can be learnt
        let rung = usize::from(ladder.len() > 1);
        let state = State {
            rung,
            phase: Phase::Keep,
            hold: 1,
            backoff: FIRST_HOLD,
            kept_rate: None,
            bare_rate: None,
            epoch: None,
        };
        Self { ladder, state: Mutex::new(state) }
    }

    /// The level for the next block.
    pub(crate) fn next(&self) -> (Algorithm, u8) {
        if self.ladder.len() == 1 {
            return self.ladder[0];
        }
        let rung = self.state.lock().map_or(0, |state| state.active_rung());
        self.ladder[rung.min(self.ladder.len() - 1)]
    }

    /// Learns that `bytes` came from the source, and how many blocks waited for the compressors then.
    pub(crate) fn observe(&self, now: Instant, bytes: u64, waiting: usize) {
        if self.ladder.len() == 1 {
            return;
        }
        if let Ok(mut state) = self.state.lock() {
            state.observe(now, bytes, waiting, self.ladder.len() - 1);
        }
    }
}

fn ladder(algorithm: Algorithm) -> Vec<(Algorithm, u8)> {
    let levels: &[u8] = match algorithm {
        Algorithm::None => return vec![(Algorithm::None, 0)],
        // 4 is slower than 3 and no smaller; above 9 a block takes seconds
        Algorithm::Brotli => &[1, 3, 5, 6, 9],
        Algorithm::Zstd => &[1, 3, 6, 9, 12],
        Algorithm::Gzip => &[1, 6, 9],
    };
    std::iter::once((Algorithm::None, 0)).chain(levels.iter().map(|level| (algorithm, *level))).collect()
}

impl State {
    fn active_rung(&self) -> usize {
        match self.phase {
            Phase::Keep => self.rung,
            Phase::Bare => 0,
            Phase::Probe => self.rung + 1,
        }
    }

    fn observe(&mut self, now: Instant, bytes: u64, waiting: usize, top: usize) {
        // a level that nobody has seen keep up is not given the benefit of the doubt
        let too_many = if self.is_new() { FIRST_WAITING } else { WAITING };
        if waiting >= too_many && self.active_rung() > 0 {
            self.step_back(now);
            return;
        }
        let epoch = self.epoch.get_or_insert(Epoch { started: now, bytes: 0, blocks: 0 });
        epoch.bytes += bytes;
        epoch.blocks += 1;
        let elapsed = now.duration_since(epoch.started);
        if epoch.blocks >= EPOCH_BLOCKS && elapsed >= EPOCH_TIME {
            let rate = epoch.bytes as f64 / elapsed.as_secs_f64();
            self.epoch = Some(Epoch { started: now, bytes: 0, blocks: 0 });
            self.end_epoch(rate, top);
        }
    }

    /// Whether nothing is known of the source yet.
    const fn is_new(&self) -> bool {
        self.kept_rate.is_none() && self.backoff == FIRST_HOLD
    }

    fn step_back(&mut self, now: Instant) {
        if self.phase == Phase::Keep {
            self.rung -= 1;
            self.kept_rate = None;
        }
        self.phase = Phase::Keep;
        self.fail_probe();
        self.epoch = Some(Epoch { started: now, bytes: 0, blocks: 0 });
    }

    fn fail_probe(&mut self) {
        self.hold = self.backoff;
        self.backoff = (self.backoff * 2).min(LAST_HOLD);
    }

    fn end_epoch(&mut self, rate: f64, top: usize) {
        match self.phase {
            Phase::Keep => {
                self.kept_rate = Some(self.kept_rate.map_or(rate, |old| old.mul_add(0.5, rate * 0.5)));
                self.hold = self.hold.saturating_sub(1);
                if self.hold == 0 {
                    self.phase = if self.rung == 0 { Phase::Probe } else { Phase::Bare };
                    if self.rung == 0 {
                        self.bare_rate = self.kept_rate;
                    }
                }
            }
            Phase::Bare => {
                self.bare_rate = Some(rate);
                let kept = self.kept_rate.unwrap_or(rate);
                if kept < rate * KEEP {
                    self.rung -= 1;
                    self.kept_rate = None;
                    self.phase = Phase::Keep;
                    self.fail_probe();
                } else if self.rung < top {
                    self.phase = Phase::Probe;
                } else {
                    self.phase = Phase::Keep;
                    self.fail_probe();
                }
            }
            Phase::Probe => {
                self.phase = Phase::Keep;
                if rate >= self.bare_rate.unwrap_or(rate) * TAKE {
                    self.rung += 1;
                    self.kept_rate = Some(rate);
                    self.hold = 2;
                    self.backoff = FIRST_HOLD;
                } else {
                    self.fail_probe();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a source that takes `seconds_a_block` plus what the level costs it, and returns the levels taken.
    fn simulate(algorithm: Algorithm, blocks: u32, cost: impl Fn(u8) -> f64) -> (Vec<(Algorithm, u8)>, f64) {
        let choice = LevelChoice::new(Compression { algorithm, level: Level::Auto });
        let mut now = Instant::now();
        let start = now;
        let mut taken = Vec::new();
        for _ in 0..blocks {
            let level = choice.next();
            taken.push(level);
            let seconds = if level.0 == Algorithm::None { 0.03 } else { 0.03 + cost(level.1) };
            now += Duration::from_secs_f64(seconds);
            choice.observe(now, 1 << 20, 0);
        }
        (taken, (now - start).as_secs_f64() / (f64::from(blocks) * 0.03))
    }

    #[test]
    fn a_source_that_is_not_slowed_gets_the_highest_level() {
        let (taken, _) = simulate(Algorithm::Brotli, 400, |_| 0.0);
        assert_eq!(taken.last(), Some(&(Algorithm::Brotli, 9)));
    }

    #[test]
    fn a_source_that_any_level_slows_is_left_alone() {
        let (taken, slowdown) = simulate(Algorithm::Zstd, 4000, |_| 0.03);
        let stored = taken.iter().filter(|(algorithm, _)| *algorithm == Algorithm::None).count();
        assert!(stored * 20 > taken.len() * 19, "{stored} of {}", taken.len());
        assert!(slowdown < 1.05, "{slowdown}");
    }

    #[test]
    fn stops_at_the_level_that_costs_nothing() {
        let (taken, slowdown) = simulate(Algorithm::Brotli, 2000, |level| if level > 3 { 0.02 } else { 0.0 });
        let at_three = taken.iter().filter(|(_, level)| *level == 3).count();
        assert!(at_three * 10 > taken.len() * 7, "{at_three} of {}", taken.len());
        assert!(slowdown < 1.05, "{slowdown}");
    }

    #[test]
    fn drops_at_once_when_held_up() {
        let choice = LevelChoice::new(Compression { algorithm: Algorithm::Brotli, level: Level::Auto });
        assert_eq!(choice.next(), (Algorithm::Brotli, 1));
        choice.observe(Instant::now(), 1 << 20, 1);
        assert_eq!(choice.next(), (Algorithm::None, 0));
        choice.observe(Instant::now(), 1 << 20, 2);
        assert_eq!(choice.next(), (Algorithm::None, 0));
    }

    #[test]
    fn a_level_that_kept_up_is_not_given_up_for_one_block_that_waits() {
        let choice = LevelChoice::new(Compression { algorithm: Algorithm::Brotli, level: Level::Auto });
        let mut now = Instant::now();
        for _ in 0..=EPOCH_BLOCKS {
            now += EPOCH_TIME;
            choice.observe(now, 1 << 20, 0);
        }
        let level = choice.next();
        choice.observe(now, 1 << 20, 1);
        assert_eq!(choice.next(), level);
    }

    #[test]
    fn a_fixed_level_stays() {
        let choice = LevelChoice::new(Compression { algorithm: Algorithm::Gzip, level: Level::Fixed(6) });
        choice.observe(Instant::now(), 1 << 20, 2);
        assert_eq!(choice.next(), (Algorithm::Gzip, 6));
    }
}
