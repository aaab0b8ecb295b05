//! Keeping one of each of the last days, weeks, months and years: grandfather, father, son.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDate};

/// Of how many of the last days, weeks, months and years one is kept, the newest of each. Only those count in which there is
/// one, so that a time without any costs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Generations {
    /// Days.
    pub daily: u32,
    /// Weeks of ISO 8601, which begin on Monday.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
}

impl Generations {
    /// Whether they keep nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Which are kept, by the days that they are of, the newest first. What is of no day is kept.
    #[must_use]
    pub fn keeps(&self, days: &[Option<NaiveDate>]) -> Vec<bool> {
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

    fn check(generations: Generations, days: &[&str], expected: &[&str]) {
        let read: Vec<_> = days.iter().map(|day| Some(day.parse().unwrap())).collect();
        let kept = generations.keeps(&read).into_iter().zip(days).filter(|(kept, _)| *kept);
        assert_eq!(kept.map(|(_, day)| *day).collect::<Vec<_>>(), expected, "{generations:?}");
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
        let none = Generations::default();
        check(Generations { daily: 2, ..none }, &days, &["2026-01-05", "2026-01-04"]);
        // the week of the new year began on 29 December
        check(Generations { weekly: 3, ..none }, &days, &["2026-01-05", "2026-01-04", "2025-12-28"]);
        check(Generations { monthly: 3, ..none }, &days, &["2026-01-05", "2025-12-31", "2025-11-30"]);
        check(Generations { yearly: 9, ..none }, &days, &["2026-01-05", "2025-12-31", "2024-06-01"]);
        let both = Generations { daily: 1, yearly: 2, ..none };
        check(both, &days, &["2026-01-05", "2025-12-31"]);
        check(none, &days, &[]);
    }

    #[test]
    fn of_two_in_one_period_the_first_is_kept_and_what_is_of_no_day_takes_no_place() {
        let day = |text: &str| Some(text.parse::<NaiveDate>().unwrap());
        let days = [None, day("2026-01-05"), day("2026-01-05"), day("2026-01-04")];
        let daily = |daily| Generations { daily, ..Generations::default() };
        assert_eq!(daily(1).keeps(&days), [true, true, false, false]);
        assert_eq!(daily(2).keeps(&days), [true, true, false, true]);
    }

    #[test]
    fn one_number_is_enough_to_keep_something() {
        let none = Generations::default();
        assert!(none.is_empty());
        for one in [
            Generations { daily: 1, ..none },
            Generations { weekly: 1, ..none },
            Generations { monthly: 1, ..none },
            Generations { yearly: 1, ..none },
        ] {
            assert!(!one.is_empty(), "{one:?}");
        }
    }
}
