//! The system's clock and random source.

use std::time::{SystemTime, UNIX_EPOCH};

use firebackup_model::Timestamp;
use firebackup_model::port::{Clock, Random};
use rand::TryRng;
use rand::rngs::SysRng;

/// The wall clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp::new(since.as_secs().cast_signed(), since.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                let whole = Timestamp::new(-before.as_secs().cast_signed(), 0);
                if before.subsec_nanos() == 0 {
                    whole
                } else {
                    Timestamp::new(whole.seconds - 1, 1_000_000_000 - before.subsec_nanos())
                }
            }
        }
    }
}

/// The operating system's cryptographic generator.
///
/// # Panics
/// [`Random::fill`] panics when the system has no random bytes to give: nothing that needs a key may go on then.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = SysRng.try_fill_bytes(bytes) {
            panic!("the operating system gave no random bytes: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_and_stands_in_our_time() {
        let first = SystemClock.now();
        let second = SystemClock.now();
        assert!(second >= first);
        assert!(first > "2024-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn random_bytes_differ() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        SystemRandom.fill(&mut a);
        SystemRandom.fill(&mut b);
        assert_ne!(a, b);
        assert_ne!(a, [0; 32]);
    }
}
