//! Keeping one backup of each of the last days, weeks, months and years: grandfather, father, son.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::error::{ControlError, Result};
use crate::limit;
use crate::retention::MAX_VALUE;

/// Of how many of the last days, weeks, months and years one backup is kept, the newest of each. Only those count in which
/// there is one, so that a schedule that stopped working costs no backup. The newest of all is always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gfs {
    /// Days, in the time zone of the schedule.
    #[schema(maximum = 36500)]
    pub daily: u32,
    /// Weeks of ISO 8601, which begin on Monday.
    #[schema(maximum = 36500)]
    pub weekly: u32,
    /// Months.
    #[schema(maximum = 36500)]
    pub monthly: u32,
    /// Years.
    #[schema(maximum = 36500)]
    pub yearly: u32,
}

impl Gfs {
    pub(crate) fn check(&self) -> Result<()> {
        let named =
            [("daily", self.daily), ("weekly", self.weekly), ("monthly", self.monthly), ("yearly", self.yearly)];
        for (name, number) in named {
            limit::between(&format!("gfs.{name}"), number, 0, MAX_VALUE)?;
        }
        match named.iter().all(|(_, number)| *number == 0) {
            true => Err(ControlError::field("gfs", "expected at least one that is not 0")),
            false => Ok(()),
        }
    }

    /// Which backups are kept, by the days that they are of, the newest first. What is of no day is kept.
    pub(crate) fn keeps(&self, days: &[Option<NaiveDate>]) -> Vec<bool> {
        let mut kept: Vec<bool> = days.iter().map(Option::is_none).collect();
        keep_first_of_each(&mut kept, days, self.daily, |day| day);
        keep_first_of_each(&mut kept, days, self.weekly, |day| day.iso_week());
        keep_first_of_each(&mut kept, days, self.monthly, |day| (day.year(), day.month()));
        keep_first_of_each(&mut kept, days, self.yearly, |day| day.year());
        kept
    }
}

/// Marks the first of each of the first `most` periods.
fn keep_first_of_each<P: Ord>(
    kept: &mut [bool],
    days: &[Option<NaiveDate>],
    most: u32,
    period: impl Fn(NaiveDate) -> P,
) {
    let mut seen = BTreeSet::new();
    for (kept, day) in kept.iter_mut().zip(days) {
        let Some(day) = day else { continue };
        *kept |= (seen.len() as u32) < most && seen.insert(period(*day));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(gfs: Gfs, days: &[&str], expected: &[&str]) {
        let read: Vec<_> = days.iter().map(|day| Some(day.parse().unwrap())).collect();
        let kept = gfs.keeps(&read).into_iter().zip(days).filter(|(kept, _)| *kept);
        assert_eq!(kept.map(|(_, day)| *day).collect::<Vec<_>>(), expected, "{gfs:?}");
    }

    #[test]
    fn the_newest_of_each_period_is_kept() {
        let days = [
            "2026-01-05",
            "2026-01-05",
            "2026-01-04",
            "2026-01-01",
            "2025-12-31",
            "2025-12-29",
            "2025-12-28",
            "2025-11-30",
            "2024-06-01",
        ];
        let none = Gfs::default();
        check(Gfs { daily: 2, ..none }, &days, &["2026-01-05", "2026-01-04"]);
        // the week of the new year began on 29 December
        check(Gfs { weekly: 3, ..none }, &days, &["2026-01-05", "2026-01-04", "2025-12-28"]);
        check(Gfs { monthly: 3, ..none }, &days, &["2026-01-05", "2025-12-31", "2025-11-30"]);
        check(Gfs { yearly: 9, ..none }, &days, &["2026-01-05", "2025-12-31", "2024-06-01"]);
        let both = Gfs { daily: 1, yearly: 2, ..none };
        check(both, &days, &["2026-01-05", "2025-12-31"]);
    }

    #[test]
    fn something_must_be_kept() {
        assert!(Gfs { monthly: 1, ..Gfs::default() }.check().is_ok());
        assert!(Gfs::default().check().is_err());
        assert!(Gfs { daily: MAX_VALUE + 1, ..Gfs::default() }.check().is_err());
    }
}
