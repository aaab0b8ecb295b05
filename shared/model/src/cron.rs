//! When a schedule fires: a cron expression of five fields in a time zone.
//!
//! The fields are minute, hour, day of month, month and day of week (0 and 7 are Sunday), with `*`, values, ranges,
//! steps, lists, and the English names of months and days. A day is due when it fits the day of month *or* the day of
//! week, unless one of them is `*`.
//!
//! # When the clocks change
//!
//! An expression names times on the clock on the wall. Each of them is due once:
//!
//! * Where the clock goes forward, the times it skips are not due. `30 2 * * *` does not fire on that day, and fires
//!   again the next.
//! * Where the clock goes back, the times it shows twice are due the first time only. `*/15 * * * *` is silent in the
//!   second half of such a repeated hour.
//!
//! EventBridge Scheduler documents just this ("Daylight savings time on EventBridge Scheduler" in its user guide).
//! croner, given a time zone, would do otherwise: carry a time of day in the gap to the moment after it, and run an
//! expression with several times a day in both halves of the overlap. We hand it the clock on the wall and place what
//! it finds in the zone ourselves. So a schedule is due at the same times on AWS and embedded, and the next runs we
//! show are those that come. A backup no night may lack is scheduled at a time every night has, or in UTC.

mod error;
mod eventbridge;
mod field;
#[cfg(test)]
mod tests;

use std::fmt;
use std::iter;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use serde::{Deserialize, Serialize};

pub use self::error::CronError;
use self::field::FIELDS;
use crate::timestamp::Timestamp;

/// Five fields (minute, hour, day of month, month, day of week with 0 for Sunday) and an IANA time zone; valid.
///
/// Stored and sent as `{"expression": "30 2 * * 1-5", "timezone": "Europe/Berlin"}`; reading it checks it again.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "CronText", into = "CronText")]
pub struct Cron {
    expression: String,
    timezone: Tz,
    /// Shared, since it is some kilobytes.
    schedule: Arc<croner::Cron>,
}

/// A schedule as it is stored, not checked.
#[derive(Serialize, Deserialize)]
struct CronText {
    expression: String,
    timezone: String,
}

impl Cron {
    /// Reads an expression and the name of a time zone, such as `30 2 * * 1-5` and `Europe/Berlin`.
    ///
    /// # Errors
    ///
    /// Anything but five fields, `@daily` and its like, `L`, `W`, `#` and `?`, values out of range, an unknown time
    /// zone, and an expression that never fires.
    pub fn new(expression: &str, timezone: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = expression.split_whitespace().collect();
        check_fields(&fields)?;
        let expression = fields.join(" ");
        let timezone = timezone.parse().map_err(|_| CronError::UnknownTimeZone { name: timezone.to_owned() })?;
        let schedule = Arc::new(parse(&expression)?);
        Ok(Self { expression, timezone, schedule })
    }

    /// The expression as it was typed, with single spaces.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The IANA name of the time zone.
    #[must_use]
    pub fn timezone(&self) -> &str {
        self.timezone.name()
    }

    /// The first time after `after` (not `after` itself) at which it is due, a whole minute on the zone's clock.
    ///
    /// `None` where calendars are not searched: before the year 1 and from the year 5000.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = DateTime::from_timestamp(after.seconds, after.nanos).filter(is_searched)?;
        let mut wall = after.with_timezone(&self.timezone).naive_local();
        loop {
            wall = self.schedule.find_next_occurrence(&wall, false).ok()?;
            // In the second half of an overlap the walls ahead are those that were due in the first.
            if let Some(due) = self.on_the_wall(wall).filter(|due| *due > after) {
                return Some(Timestamp::new(due.timestamp(), 0));
            }
        }
    }

    /// The next `count` times after `after`, in order; fewer only where `next_after` ends.
    #[must_use]
    pub fn next(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        iter::successors(self.next_after(after), |due| self.next_after(*due)).take(count).collect()
    }

    /// The day that the zone's clock shows at a moment; `None` where calendars are not searched.
    #[must_use]
    pub fn date(&self, at: Timestamp) -> Option<NaiveDate> {
        let at = DateTime::from_timestamp(at.seconds, at.nanos).filter(is_searched)?;
        Some(at.with_timezone(&self.timezone).date_naive())
    }

    /// The same times as an expression of EventBridge Scheduler, such as `cron(30 2 ? * 2-6 *)`; its time zone is
    /// [`timezone`](Self::timezone).
    ///
    /// # Errors
    ///
    /// [`CronError::BothDays`] when both a day of month and a day of week are given: EventBridge cannot say *or*.
    pub fn eventbridge(&self) -> Result<String, CronError> {
        eventbridge::expression(&self.schedule.pattern)
    }

    /// The first moment the zone's clock shows `wall`, if it ever does.
    fn on_the_wall(&self, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
        self.timezone.from_local_datetime(&wall).earliest()
    }
}

fn check_fields(fields: &[&str]) -> Result<(), CronError> {
    match fields {
        [text, ..] if text.starts_with('@') => Err(CronError::Shorthand { text: (*text).to_owned() }),
        _ if fields.len() != FIELDS.len() => Err(CronError::FieldCount { found: fields.len() }),
        _ => FIELDS.iter().zip(fields).try_for_each(|(field, text)| field.check(text)),
    }
}

fn parse(expression: &str) -> Result<croner::Cron, CronError> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let schedule = parser.parse(expression).map_err(|error| CronError::Unreadable {
        expression: expression.to_owned(),
        reason: error.to_string().trim_end_matches('.').to_owned(),
    })?;
    // The search gives up at its last year. Its last ten hold every date there is, 29 February too.
    let start = NaiveDate::from_ymd_opt(croner::YEAR_UPPER_LIMIT - 10, 1, 1).unwrap_or_default();
    let fires = schedule.find_next_occurrence(&start.and_time(NaiveTime::MIN), false).is_ok();
    if fires { Ok(schedule) } else { Err(CronError::NeverFires { expression: expression.to_owned() }) }
}

fn is_searched(moment: &DateTime<Utc>) -> bool {
    (croner::YEAR_LOWER_LIMIT..croner::YEAR_UPPER_LIMIT).contains(&moment.year())
}

impl TryFrom<CronText> for Cron {
    type Error = CronError;

    fn try_from(text: CronText) -> Result<Self, Self::Error> {
        Self::new(&text.expression, &text.timezone)
    }
}

impl From<Cron> for CronText {
    fn from(cron: Cron) -> Self {
        Self { timezone: cron.timezone().to_owned(), expression: cron.expression }
    }
}

/// Equal when they are written alike; two that fire at the same times may still differ.
impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.expression == other.expression && self.timezone == other.timezone
    }
}

impl Eq for Cron {}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cron").field("expression", &self.expression).field("timezone", &self.timezone()).finish()
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.expression, self.timezone())
    }
}
