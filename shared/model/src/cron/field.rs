//! What may stand in a field.
//!
//! The parser takes more than five-field cron knows (`L`, `W`, `#`, `?`, `+`, names in any field) and says little of
//! what is wrong. So the text is checked first; what it means is the parser's alone.

use super::CronError;

/// One of the five fields.
pub(super) struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    names: &'static [&'static str],
    /// The value of the first name.
    first_name: u16,
}

/// In the order of the expression.
pub(super) const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[], first_name: 0 },
    Field { name: "hour", min: 0, max: 23, names: &[], first_name: 0 },
    Field { name: "day of month", min: 1, max: 31, names: &[], first_name: 0 },
    Field {
        name: "month",
        min: 1,
        max: 12,
        names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
        first_name: 1,
    },
    Field {
        name: "day of week",
        min: 0,
        max: 7,
        names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        first_name: 0,
    },
];

impl Field {
    /// Checks a field: `*`, or values, ranges and steps between commas.
    pub(super) fn check(&self, text: &str) -> Result<(), CronError> {
        if text == "*" {
            return Ok(());
        }
        text.split(',').try_for_each(|item| self.check_item(item)).map_err(|reason| CronError::Field {
            field: self.name,
            text: text.to_owned(),
            reason,
        })
    }

    fn check_item(&self, item: &str) -> Result<(), String> {
        let (values, step) = match item.split_once('/') {
            Some((values, step)) => (values, Some(step)),
            None => (item, None),
        };
        step.map_or(Ok(()), |step| self.check_step(step))?;
        match (values, values.split_once('-'), step) {
            ("*", _, Some(_)) => Ok(()),
            ("*", _, None) => Err("`*` cannot stand in a list".to_owned()),
            (_, Some((start, end)), _) => self.check_range(values, start, end),
            (_, None, None) => self.value(values).map(drop),
            (_, None, Some(_)) => Err(format!("`{item}` has a step without `*` or a range before it")),
        }
    }

    fn check_range(&self, range: &str, start: &str, end: &str) -> Result<(), String> {
        // As the end of a range Sunday is the last day of the week: FRI-SUN.
        let ends_on_sunday = self.max == 7 && end.eq_ignore_ascii_case("SUN");
        let end = if ends_on_sunday { 7 } else { self.value(end)? };
        if self.value(start)? <= end { Ok(()) } else { Err(format!("`{range}` runs backwards: write two ranges")) }
    }

    fn check_step(&self, step: &str) -> Result<(), String> {
        match number(step) {
            Some(step) if (1..=self.max).contains(&step) => Ok(()),
            _ => Err(format!("the step `{step}` is not in 1-{}", self.max)),
        }
    }

    fn value(&self, text: &str) -> Result<u16, String> {
        if let Some(position) = self.names.iter().position(|name| text.eq_ignore_ascii_case(name)) {
            return Ok(self.first_name + position as u16);
        }
        if text.is_empty() {
            return Err("a value is missing".to_owned());
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.not_a_value(text));
        }
        number(text)
            .filter(|value| (self.min..=self.max).contains(value))
            .ok_or_else(|| format!("{text} is not in {}-{}", self.min, self.max))
    }

    fn not_a_value(&self, text: &str) -> String {
        if text.contains(['?', '#']) || ["L", "W"].iter().any(|sign| text.to_ascii_uppercase().ends_with(sign)) {
            return format!("`{text}` uses `L`, `W`, `#` or `?`, which five fields do not have");
        }
        match self.names {
            [first, .., last] => {
                format!("`{text}` is neither in {}-{} nor one of {first} to {last}", self.min, self.max)
            }
            _ => format!("`{text}` is not in {}-{}", self.min, self.max),
        }
    }
}

/// Digits and nothing else: the standard parser also takes a sign.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
