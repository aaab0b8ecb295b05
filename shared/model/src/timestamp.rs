//! A moment as Firestore states it: whole seconds and nanoseconds since the Unix epoch.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment in UTC, ordered by time. Shown and stored as RFC 3339 with as many decimals as it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; negative before it.
    pub seconds: i64,
    /// Nanoseconds within the second, 0 to 999,999,999, always counted forward.
    pub nanos: u32,
}

/// The text was not an RFC 3339 timestamp, or none that can be kept as it is.
#[derive(Debug, thiserror::Error)]
pub enum TimestampError {
    /// It is none.
    #[error("`{text}` is not a timestamp: expected RFC 3339 with a time zone, such as 2026-01-31T14:03:00Z")]
    Malformed {
        /// What it was.
        text: String,
        /// Why it is none.
        #[source]
        source: time::error::Parse,
    },
    /// It is of a leap second, which Firestore does not count.
    #[error("`{0}` is not a timestamp: seconds go from 00 to 59")]
    LeapSecond(String),
    /// It has more decimals than a timestamp has.
    #[error("`{0}` is not a timestamp: a second has at most nine decimals")]
    TooFine(String),
}

impl Timestamp {
    /// The moment `seconds` and `nanos` after the epoch.
    #[must_use]
    pub const fn new(seconds: i64, nanos: u32) -> Self {
        Self { seconds, nanos }
    }

    /// The moment this many milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self { seconds: millis.div_euclid(1000), nanos: (millis.rem_euclid(1000) * 1_000_000) as u32 }
    }

    /// Milliseconds since the epoch, rounded down, saturating.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.seconds.saturating_mul(1000).saturating_add((self.nanos / 1_000_000) as i64)
    }

    /// Seconds from `earlier` to `self`; negative when `earlier` is later.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        (self.seconds.saturating_sub(earlier.seconds)) as f64 + (f64::from(self.nanos) - f64::from(earlier.nanos)) / 1e9
    }

    /// The moment as part of an object's name: names sort as the moments do (`2026-11-24T10-15-03.000000000Z`). Nothing for a
    /// moment outside the years 0 to 9999: Firestore has none.
    #[must_use]
    pub fn as_name(self) -> Option<String> {
        let second = OffsetDateTime::from_unix_timestamp(self.seconds).ok()?.format(&Rfc3339).ok()?;
        Some(format!("{}.{:09}Z", second.strip_suffix('Z')?.replace(':', "-"), self.nanos))
    }

    /// The moment that [`Self::as_name`] gave this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let (date, time) = name.split_once('T')?;
        let moment: Self = format!("{date}T{}", time.replace('-', ":")).parse().ok()?;
        (moment.as_name().as_deref() == Some(name)).then_some(moment)
    }

    /// The day in UTC. Nothing for a moment outside the calendar, some 262,000 years to either side.
    #[must_use]
    pub fn date(self) -> Option<NaiveDate> {
        DateTime::from_timestamp(self.seconds, self.nanos).map(|moment| moment.date_naive())
    }

    /// This moment moved by whole seconds.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self { seconds: self.seconds.saturating_add(seconds), nanos: self.nanos }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos);
        let text =
            OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().and_then(|moment| moment.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "{}s{}ns", self.seconds, self.nanos),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = |source| TimestampError::Malformed { text: text.to_owned(), source };
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(malformed)?;
        // both would be read as another moment: the time before the second's decimals has always as many letters
        let (second, decimals) = (text.get(17..19), text.get(19..).and_then(|rest| rest.strip_prefix('.')));
        if second == Some("60") {
            return Err(TimestampError::LeapSecond(text.to_owned()));
        }
        if decimals.is_some_and(|decimals| decimals.bytes().take_while(u8::is_ascii_digit).count() > 9) {
            return Err(TimestampError::TooFine(text.to_owned()));
        }
        Ok(Self { seconds: moment.unix_timestamp(), nanos: moment.nanosecond() })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shows_and_reads_the_ends_of_what_firestore_holds() {
        for text in ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_time_zone_is_required_and_respected() {
        assert!("2026-01-31T14:03:00".parse::<Timestamp>().is_err());
        let zoned: Timestamp = "2026-01-31T15:03:00+01:00".parse().unwrap();
        assert_eq!(zoned.to_string(), "2026-01-31T14:03:00Z");
    }

    #[test]
    fn what_would_be_read_as_another_moment_is_refused() {
        for (text, says) in [
            ("2026-06-30T23:59:60Z", "from 00 to 59"),
            ("2026-07-01T01:59:60.5+02:00", "from 00 to 59"),
            ("2026-06-30T23:59:59.1234567891Z", "nine decimals"),
            ("2026-06-30T23:59:59.0000000000-01:00", "nine decimals"),
        ] {
            let refused = text.parse::<Timestamp>().unwrap_err().to_string();
            assert!(refused.contains(says) && refused.contains(text), "{refused}");
        }
        let finest: Timestamp = "2026-06-30T23:59:59.123456789+02:00".parse().unwrap();
        assert_eq!(finest.to_string(), "2026-06-30T21:59:59.123456789Z");
    }

    #[test]
    fn a_day_ends_at_midnight_in_utc() {
        let date = |text: &str| text.parse::<Timestamp>().unwrap().date().map(|date| date.to_string());
        for (moment, day) in [
            ("2026-01-31T23:59:59.999999Z", "2026-01-31"),
            ("2026-02-01T00:00:00Z", "2026-02-01"),
            ("2026-02-01T00:30:00+01:00", "2026-01-31"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31"),
        ] {
            assert_eq!(date(moment).as_deref(), Some(day), "{moment}");
        }
        assert_eq!(Timestamp::new(i64::MAX, 0).date(), None);
    }

    proptest! {
        #[test]
        fn text_round_trips(seconds in -62_135_596_800i64..=253_402_207_200, nanos in 0u32..1_000_000_000) {
            let moment = Timestamp::new(seconds, nanos);
            prop_assert_eq!(moment.to_string().parse::<Timestamp>().unwrap(), moment);
        }

        #[test]
        fn names_round_trip_and_sort_as_moments_do(
            a in -62_135_596_800i64..=253_402_207_200, b in -62_135_596_800i64..=253_402_207_200,
            x in 0u32..1_000_000_000, y in 0u32..1_000_000_000
        ) {
            let (left, right) = (Timestamp::new(a, x), Timestamp::new(b, y));
            let (name, other) = (left.as_name().unwrap(), right.as_name().unwrap());
            prop_assert_eq!(Timestamp::from_name(&name), Some(left));
            prop_assert_eq!(name.cmp(&other), left.cmp(&right));
        }

        #[test]
        fn milliseconds_round_trip(millis in -1_000_000_000_000i64..4_000_000_000_000) {
            prop_assert_eq!(Timestamp::from_millis(millis).millis(), millis);
        }
    }
}
