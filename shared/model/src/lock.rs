//! Locks of objects: until when nobody can delete what was written.

use std::str::FromStr;

use crate::error::{ErrorKind, PortError};
use crate::timestamp::Timestamp;

const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;
/// From this many days on locks end at the ends of weeks.
const WEEKLY_FROM: u32 = 28;

/// How hard a lock is; the harder is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LockMode {
    /// Who has a right of its own may end it early. It is the default, for a number of days that was mistyped can be put
    /// right; the policy of the stack's bucket takes the right from everybody, until somebody changes that policy.
    #[default]
    Governance,
    /// Nobody can, the owner of the account included.
    Compliance,
}

impl LockMode {
    /// As S3 says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

impl FromStr for LockMode {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let modes = [Self::Governance, Self::Compliance];
        let mode = modes.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(text));
        mode.ok_or_else(|| {
            let message = "expected GOVERNANCE or COMPLIANCE";
            PortError::new(ErrorKind::InvalidArgument, "read how hard objects are locked", message)
        })
    }
}

/// How objects are locked when they are put, and again as long as they are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRule {
    /// How hard.
    pub mode: LockMode,
    /// For at least how many days.
    pub days: u32,
}

impl LockRule {
    /// Until when what is locked now stays locked: a midnight of UTC, and that of a Thursday where it is four weeks and
    /// more. So everything that is locked within a day or a week ends at the same moment, and a lock that is looked at
    /// daily is written anew once in that time.
    #[must_use]
    pub fn until(self, now: Timestamp) -> Timestamp {
        let step = if self.days < WEEKLY_FROM { DAY } else { WEEK };
        let least = now.seconds.saturating_add(i64::from(self.days) * DAY);
        // a moment within a second is behind its beginning
        let steps = least.saturating_add(i64::from(now.nanos > 0)).saturating_add(step - 1).div_euclid(step);
        Timestamp::new(steps.saturating_mul(step), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(days: u32, now: &str) -> String {
        LockRule { mode: LockMode::Governance, days }.until(now.parse().unwrap()).to_string()
    }

    #[test]
    fn a_lock_lasts_at_least_its_days_and_ends_with_its_neighbours() {
        assert_eq!(until(1, "2026-01-31T00:00:00Z"), "2026-02-01T00:00:00Z");
        assert_eq!(until(1, "2026-01-31T00:00:00.5Z"), "2026-02-02T00:00:00Z");
        assert_eq!(until(27, "2026-01-01T12:00:00Z"), "2026-01-29T00:00:00Z");
        // a Thursday, as the first day of the epoch was
        assert_eq!(until(28, "2026-01-01T00:00:00Z"), "2026-01-29T00:00:00Z");
        assert_eq!(until(28, "2026-01-01T00:00:01Z"), "2026-02-05T00:00:00Z");
        assert_eq!(until(28, "2026-01-07T23:59:59Z"), "2026-02-05T00:00:00Z");
    }

    #[test]
    fn modes_are_read_as_s3_says_them() {
        for mode in [LockMode::Governance, LockMode::Compliance] {
            assert_eq!(mode.name().parse::<LockMode>().unwrap(), mode);
        }
        assert_eq!("compliance".parse::<LockMode>().unwrap(), LockMode::Compliance);
        assert!("HARDER".parse::<LockMode>().is_err());
    }
}
