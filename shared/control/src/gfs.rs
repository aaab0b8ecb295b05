//! Keeping one backup of each of the last days, weeks, months and years: grandfather, father, son.

use chrono::NaiveDate;
use firebackup_model::Generations;
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
        let Self { daily, weekly, monthly, yearly } = *self;
        Generations { daily, weekly, monthly, yearly }.keeps(days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_counts_periods_of_its_own() {
        // each begins a period that is longer than the one that the day before it begins
        let days = ["2026-02-20", "2026-02-19", "2026-02-02", "2026-01-05", "2025-12-05"];
        let days = days.map(|day| Some(day.parse::<NaiveDate>().unwrap()));
        let none = Gfs::default();
        for (gfs, expected) in [
            (Gfs { daily: 2, ..none }, [true, true, false, false, false]),
            (Gfs { weekly: 2, ..none }, [true, false, true, false, false]),
            (Gfs { monthly: 2, ..none }, [true, false, false, true, false]),
            (Gfs { yearly: 2, ..none }, [true, false, false, false, true]),
        ] {
            assert_eq!(gfs.keeps(&days), expected, "{gfs:?}");
        }
    }

    #[test]
    fn something_must_be_kept() {
        assert!(Gfs { monthly: 1, ..Gfs::default() }.check().is_ok());
        assert!(Gfs::default().check().is_err());
        assert!(Gfs { daily: MAX_VALUE + 1, ..Gfs::default() }.check().is_err());
    }
}
