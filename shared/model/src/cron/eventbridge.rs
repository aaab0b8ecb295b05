//! The same times in the dialect of EventBridge Scheduler.
//!
//! Its six fields are minute, hour, day of month, month, day of week and year. Days of the week are 1 (Sunday) to 7,
//! and exactly one of the two day fields is `?`. What is written here comes from the values a field stands for, not
//! from its text, so nothing rests on both dialects reading a step, a name or a range alike.

use croner::{CronComponent, CronPattern};

use super::CronError;

/// The expression, `cron(…)`, within the 256 characters that `CreateSchedule` takes.
pub(super) fn expression(pattern: &CronPattern) -> Result<String, CronError> {
    let (day, weekday) = days(pattern)?;
    let minute = values_or_star(&pattern.minutes);
    let hour = values_or_star(&pattern.hours);
    let month = values_or_star(&pattern.months);
    Ok(format!("cron({minute} {hour} {day} {month} {weekday} *)"))
}

/// The day of month and the day of week.
fn days(pattern: &CronPattern) -> Result<(String, String), CronError> {
    let weekdays: Vec<u16> = pattern.days_of_week.values().into_iter().map(|day| day + 1).collect();
    let (any_day, any_weekday) = (is_full(&pattern.days), weekdays.len() == 7);
    // Cron takes a day that fits either field, unless one is `*`; then the other decides.
    match (pattern.is_dom_wildcard(), pattern.is_dow_wildcard()) {
        (true, _) if !any_weekday => Ok(("?".to_owned(), list(&weekdays))),
        (_, true) if !any_day => Ok((values_or_star(&pattern.days), "?".to_owned())),
        (false, false) if !any_day && !any_weekday => Err(CronError::BothDays),
        _ => Ok(("*".to_owned(), "?".to_owned())),
    }
}

fn values_or_star(field: &CronComponent) -> String {
    if is_full(field) {
        return "*".to_owned();
    }
    let values = field.values();
    steps_to_the_end(&values, field.max).unwrap_or_else(|| list(&values))
}

fn is_full(field: &CronComponent) -> bool {
    field.values().len() == usize::from(field.max - field.min) + 1
}

/// `5/15`: every fifteenth from 5 to the end of the field. Not for days of the week, which have no `/`.
fn steps_to_the_end(values: &[u16], max: u16) -> Option<String> {
    let [first, second, .., last] = values else { return None };
    let step = second - first;
    let is_even = values.windows(2).all(|pair| pair[1] - pair[0] == step);
    (step > 1 && is_even && last + step > max).then(|| format!("{first}/{step}"))
}

/// `1,2,5-9`, of ascending values.
fn list(values: &[u16]) -> String {
    let runs = values.chunk_by(|left, right| left + 1 == *right);
    runs.map(run).collect::<Vec<_>>().join(",")
}

fn run(values: &[u16]) -> String {
    match values {
        [first, _, .., last] if values.len() > 2 => format!("{first}-{last}"),
        _ => values.iter().map(u16::to_string).collect::<Vec<_>>().join(","),
    }
}
