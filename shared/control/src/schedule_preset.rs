//! Expressions to begin with, and when an expression is due.

use firebackup_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::error::Result;
use crate::page::Paged;
use crate::role::Right;
use crate::schedule::{SHOWN_RUNS, cron, utc};
use crate::tenant::Caller;

/// An expression to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchedulePreset {
    /// Names it.
    pub name: &'static str,
    /// Five fields, as a schedule takes them.
    pub cron_expression: &'static str,
    /// When it is due, in a sentence.
    pub description: &'static str,
}

/// An expression that is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSchedulePreview {
    /// Five fields: minute, hour, day of month, month, day of week (0 is Sunday).
    #[schema(example = "0 3 * * *")]
    pub cron_expression: String,
    /// An IANA time zone.
    #[serde(default = "utc")]
    #[schema(example = "Europe/Berlin")]
    pub timezone: String,
}

/// When an expression is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchedulePreview {
    /// The expression, with single spaces.
    pub cron_expression: String,
    /// The time zone.
    pub timezone: String,
    /// The next five times.
    #[schema(value_type = Vec<String>)]
    pub next_runs: Vec<Timestamp>,
}

const fn preset(name: &'static str, cron_expression: &'static str, description: &'static str) -> SchedulePreset {
    SchedulePreset { name, cron_expression, description }
}

/// The denser first. At three in the morning few write; the first minute of an hour is everybody's, which is no matter to
/// a backup.
const PRESETS: [SchedulePreset; 9] = [
    preset("hourly", "0 * * * *", "Every hour, on the hour."),
    preset("every-6-hours", "0 */6 * * *", "Every six hours: at 0:00, 6:00, 12:00 and 18:00."),
    preset("twice-daily", "0 3,15 * * *", "Every day at 3:00 and at 15:00."),
    preset("daily", "0 3 * * *", "Every day at 3:00."),
    preset("weekdays", "0 3 * * 1-5", "From Monday to Friday at 3:00."),
    preset("weekly", "0 3 * * 0", "Every Sunday at 3:00."),
    preset("monthly", "0 3 1 * *", "On the first day of every month at 3:00."),
    preset("quarterly", "0 3 1 */3 *", "On the first day of January, April, July and October at 3:00."),
    preset("yearly", "0 3 1 1 *", "On the first of January at 3:00."),
];

impl Control {
    /// Expressions to begin with, the denser first, on one page.
    ///
    /// # Errors
    /// [`Forbidden`](crate::Kind::Forbidden).
    pub fn schedule_presets(&self, caller: &Caller) -> Result<Paged<SchedulePreset>> {
        caller.may(Right::Read)?;
        let (items, count) = (PRESETS.to_vec(), PRESETS.len() as u32);
        Ok(Paged { items, next: None, page: 1, limit: count, total: Some(u64::from(count)) })
    }

    /// Says when an expression is due; nothing is stored.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where the expression or the time zone is none.
    pub fn preview_schedule(&self, caller: &Caller, asked: &NewSchedulePreview) -> Result<SchedulePreview> {
        caller.may(Right::Read)?;
        let cron = cron(&asked.cron_expression, &asked.timezone)?;
        Ok(SchedulePreview {
            cron_expression: cron.expression().to_owned(),
            timezone: cron.timezone().to_owned(),
            next_runs: cron.next(self.now(), SHOWN_RUNS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_due_on_aws_too_and_less_often_than_the_one_before() {
        let mut before = 0.0;
        for preset in PRESETS {
            let cron = cron(preset.cron_expression, "Europe/Berlin").unwrap();
            assert!(cron.eventbridge().is_ok(), "{preset:?}");
            let runs = cron.next(Timestamp::new(1_700_000_000, 0), 40);
            let between = runs[39].seconds_since(runs[0]);
            assert!(between > before, "{preset:?}");
            before = between;
        }
    }
}
