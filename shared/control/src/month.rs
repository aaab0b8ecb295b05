//! Months, by which the audit log is kept.

use std::fmt;
use std::str::FromStr;

use firebackup_model::Timestamp;

/// A month of a year, in UTC; written `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Month(i32);

/// The most months that are looked through at one time.
const MOST: i32 = 1200;

impl Month {
    /// The month of a time.
    pub(crate) fn of(time: Timestamp) -> Self {
        use chrono::Datelike;
        let date = chrono::DateTime::from_timestamp_millis(time.millis()).unwrap_or_default();
        Self(date.year() * 12 + date.month0() as i32)
    }

    /// When it begins.
    pub(crate) fn start(self) -> Timestamp {
        let (year, month) = (self.0.div_euclid(12), self.0.rem_euclid(12) as u32 + 1);
        let first = chrono::NaiveDate::from_ymd_opt(year, month, 1).unwrap_or_default();
        Timestamp::from_millis(first.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis())
    }

    /// The month before.
    pub(crate) const fn before(self) -> Self {
        Self(self.0 - 1)
    }

    /// The month after.
    pub(crate) const fn after(self) -> Self {
        Self(self.0 + 1)
    }

    /// This month and those after it up to and with `last`; none where that comes before.
    pub(crate) fn until(self, last: Self) -> Vec<Self> {
        (self.0.max(last.0 - MOST)..=last.0).map(Self).collect()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

/// The text is not a month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a month, such as 2026-11")]
pub(crate) struct MonthError;

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        let (year, month) = text.split_once('-').ok_or(MonthError)?;
        let number = |text: &str| text.parse::<i32>().map_err(|_| MonthError);
        let (year, month) = (number(year)?, number(month)?);
        let found = Self(year.saturating_mul(12).saturating_add(month - 1));
        if found.to_string() == text { Ok(found) } else { Err(MonthError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_utc() {
        for (time, month) in [
            ("2026-11-30T23:59:59.999Z", "2026-11"),
            ("2026-12-01T00:00:00Z", "2026-12"),
            ("2026-12-31T23:30:00-01:00", "2027-01"),
        ] {
            assert_eq!(Month::of(time.parse().unwrap()).to_string(), month, "{time}");
            assert_eq!(month.parse(), Ok(Month::of(time.parse().unwrap())));
            let (found, start) = (Month::of(time.parse().unwrap()), format!("{month}-01T00:00:00Z"));
            assert_eq!(found.start(), start.parse().unwrap());
            assert_eq!((found.before().after(), found.before() < found), (found, true));
        }
        for bad in ["2026-13", "2026-0", "2026-1", "202611", "", "2026-00", "x-y"] {
            assert!(bad.parse::<Month>().is_err(), "{bad}");
        }
    }

    #[test]
    fn months_follow_one_another_across_years() {
        let months = |first: &str, last: &str| {
            let months = first.parse::<Month>().unwrap().until(last.parse().unwrap());
            months.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(months("2026-11", "2027-02"), ["2026-11", "2026-12", "2027-01", "2027-02"]);
        assert_eq!(months("2027-02", "2026-11"), Vec::<String>::new());
    }
}
