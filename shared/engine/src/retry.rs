//! Waiting between tries: exponential, with full jitter, bounded.

use std::time::Duration;

use crate::world::World;

/// Tries in a row without progress before a verb gives up.
pub(crate) const MAX_TRIES: u32 = 8;

/// How long to wait before the try after `failures` failures: up to 100 ms, 200 ms, … 20 s.
pub(crate) fn delay(world: &World, failures: u32) -> Duration {
    let upper = Duration::from_millis(100).saturating_mul(1 << failures.saturating_sub(1).min(10));
    world.jitter(upper.min(Duration::from_secs(20)))
}
