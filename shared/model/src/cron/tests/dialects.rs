//! A schedule and its EventBridge Scheduler expression are due at the same times.
//!
//! [`EventBridge`] reads the dialect on its own, from AWS's documentation ("Schedule types in EventBridge Scheduler"),
//! and finds its times day by day. It shares nothing with what is tested but the time zone database.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{Offset, TimeDelta};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::*;

const ZONES: [Tz; 5] = [
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::Asia__Kolkata,
    // Its clock changes by half an hour, and in the other half of the year.
    Tz::Australia__Lord_Howe,
];
/// When their clocks change in 2026.
const CHANGES: [(Tz, &str); 6] = [
    (Tz::Europe__Berlin, "2026-03-29T01:00:00Z"),
    (Tz::Europe__Berlin, "2026-10-25T01:00:00Z"),
    (Tz::America__New_York, "2026-03-08T07:00:00Z"),
    (Tz::America__New_York, "2026-11-01T06:00:00Z"),
    (Tz::Australia__Lord_Howe, "2026-04-04T15:00:00Z"),
    (Tz::Australia__Lord_Howe, "2026-10-03T15:30:00Z"),
];
const TIMES: usize = 50;

/// An expression of EventBridge Scheduler: each field the values it allows, `None` for `?`.
struct EventBridge {
    minutes: Vec<u32>,
    hours: Vec<u32>,
    days: Option<Vec<u32>>,
    months: Vec<u32>,
    weekdays: Option<Vec<u32>>,
}

impl EventBridge {
    fn read(text: &str) -> Self {
        assert!(text.len() <= 256, "{text}");
        let fields = text.strip_prefix("cron(").and_then(|text| text.strip_suffix(')')).expect(text);
        let [minutes, hours, days, months, weekdays, years] = fields.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{text}: not six fields");
        };
        assert_eq!(years, "*");
        assert!((days == "?") != (weekdays == "?"), "{text}: exactly one day field is `?`");
        // The documentation lists `/` for every field but the day of week.
        assert!(!weekdays.contains('/'), "{text}");
        Self {
            minutes: values(minutes, 0, 59),
            hours: values(hours, 0, 23),
            days: (days != "?").then(|| values(days, 1, 31)),
            months: values(months, 1, 12),
            weekdays: (weekdays != "?").then(|| values(weekdays, 1, 7)),
        }
    }

    fn fits(&self, day: NaiveDate) -> bool {
        let weekday = day.weekday().number_from_sunday();
        self.months.contains(&day.month())
            && self.days.as_ref().is_none_or(|days| days.contains(&day.day()))
            && self.weekdays.as_ref().is_none_or(|weekdays| weekdays.contains(&weekday))
    }

    /// What is due on a day of the zone's calendar.
    fn on(&self, day: NaiveDate, zone: Tz) -> Vec<i64> {
        let walls = self.hours.iter().flat_map(|hour| self.minutes.iter().map(move |minute| (*hour, *minute)));
        walls.filter_map(|(hour, minute)| first_shown(day.and_hms_opt(hour, minute, 0).unwrap(), zone)).collect()
    }

    fn next(&self, after: Timestamp, zone: Tz) -> Vec<i64> {
        let first = DateTime::from_timestamp(after.seconds, 0).unwrap().date_naive().pred_opt().unwrap();
        let days = first.iter_days().filter(|day| self.fits(*day));
        days.flat_map(|day| self.on(day, zone)).filter(|due| *due > after.seconds).take(TIMES).collect()
    }
}

/// `*`, or values, ranges and `start/step` between commas.
fn values(field: &str, min: u32, max: u32) -> Vec<u32> {
    let values: BTreeSet<u32> = field.split(',').flat_map(|item| item_values(item, min, max)).collect();
    assert!(values.iter().all(|value| (min..=max).contains(value)), "{field}");
    values.into_iter().collect()
}

fn item_values(item: &str, min: u32, max: u32) -> Vec<u32> {
    if item == "*" {
        return (min..=max).collect();
    }
    if let Some((start, step)) = item.split_once('/') {
        return (start.parse().unwrap()..=max).step_by(step.parse().unwrap()).collect();
    }
    let (start, end) = item.split_once('-').unwrap_or((item, item));
    let (start, end): (u32, u32) = (start.parse().unwrap(), end.parse().unwrap());
    assert!(start <= end, "{item}");
    (start..=end).collect()
}

/// When the zone's clock first shows `wall`, found by trying the offsets of a day before and a day after.
fn first_shown(wall: NaiveDateTime, zone: Tz) -> Option<i64> {
    let offset_at = |moment: NaiveDateTime| zone.offset_from_utc_datetime(&moment).fix();
    let around = [wall - TimeDelta::days(1), wall + TimeDelta::days(1)].map(offset_at);
    let shown = around.into_iter().filter(|offset| offset_at(wall - *offset) == *offset);
    shown.map(|offset| (wall - offset).and_utc().timestamp()).min()
}

/// How a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Star,
    Value,
    List,
    Range,
    Step,
    RangeStep,
    Mixed,
    Name,
    NameRange,
    SundaySeven,
}

const NUMERIC: [Form; 6] = [Form::Value, Form::List, Form::Range, Form::Step, Form::RangeStep, Form::Mixed];
const MONTHS: [&str; 12] = ["JAN", "feb", "Mar", "APR", "May", "jun", "JUL", "aug", "SEP", "Oct", "nov", "DEC"];
const WEEKDAYS: [&str; 7] = ["sun", "MON", "Tue", "WED", "thu", "Fri", "SAT"];

type Written = (Form, String);

fn field(min: u16, max: u16, more: &'static [Form], names: &'static [&'static str]) -> BoxedStrategy<Written> {
    let other = select([&NUMERIC, more].concat()).prop_flat_map(move |form| written(form, min, max, names));
    prop_oneof![Just(star()), other].boxed()
}

fn star() -> Written {
    (Form::Star, "*".to_owned())
}

fn written(form: Form, min: u16, max: u16, names: &'static [&'static str]) -> BoxedStrategy<Written> {
    let value = min..=max;
    let range = (value.clone(), value.clone()).prop_map(|(left, right)| (left.min(right), left.max(right)));
    let step = 1..=max.min(20);
    let name = 0..names.len();
    match form {
        Form::Star => Just("*".to_owned()).boxed(),
        Form::Value => value.prop_map(|value| value.to_string()).boxed(),
        Form::List => prop::collection::vec(value, 2..5)
            .prop_map(|values| values.iter().map(u16::to_string).collect::<Vec<_>>().join(","))
            .boxed(),
        Form::Range => range.prop_map(|(start, end)| format!("{start}-{end}")).boxed(),
        Form::Step => step.prop_map(|step| format!("*/{step}")).boxed(),
        Form::RangeStep => (range, step).prop_map(|((start, end), step)| format!("{start}-{end}/{step}")).boxed(),
        Form::Mixed => (range, value, step)
            .prop_map(|((start, end), value, step)| format!("{value},{start}-{end},{start}-{end}/{step}"))
            .boxed(),
        Form::Name => name.prop_map(|name| names[name].to_owned()).boxed(),
        Form::NameRange => (name.clone(), name)
            .prop_map(|(left, right)| format!("{}-{}", names[left.min(right)], names[left.max(right)]))
            .boxed(),
        Form::SundaySeven => {
            select(vec!["7", "5-7", "0-7", "FRI-SUN", "6-7,2", "1-7/3", "*/7"]).prop_map(str::to_owned).boxed()
        }
    }
    .prop_map(move |text| (form, text))
    .boxed()
}

fn expressions() -> impl Strategy<Value = [Written; 5]> {
    let weekday_forms = &[Form::Name, Form::NameRange, Form::SundaySeven];
    let fields = (
        field(0, 59, &[], &[]),
        field(0, 23, &[], &[]),
        field(1, 31, &[], &[]),
        field(1, 12, &[Form::Name, Form::NameRange], &MONTHS),
        field(0, 7, weekday_forms, &WEEKDAYS),
    );
    fields.prop_map(<[Written; 5]>::from)
}

/// A zone and any moment of eight years.
fn places() -> impl Strategy<Value = (Tz, Timestamp)> {
    let years = at("2024-01-01T00:00:00Z").seconds..at("2032-01-01T00:00:00Z").seconds;
    (select(ZONES.to_vec()), years.prop_map(|seconds| Timestamp::new(seconds, 0)))
}

/// A zone and a moment in the days before its clock changes, or just after.
fn places_near_a_change() -> impl Strategy<Value = (Tz, Timestamp)> {
    let changes: Vec<(Tz, i64)> = CHANGES.map(|(zone, change)| (zone, at(change).seconds)).to_vec();
    let distance = prop_oneof![-200_000i64..0, -6_000i64..6_000];
    (select(changes), distance).prop_map(|((zone, change), distance)| (zone, Timestamp::new(change + distance, 0)))
}

/// Schedules of every day that have times in the hours in which clocks change.
fn nights() -> impl Strategy<Value = [Written; 5]> {
    let hour = select(vec!["*", "1", "2", "1-2", "2,3", "*/2", "1-23/3", "0-23"]);
    (field(0, 59, &[], &[]), hour)
        .prop_map(|(minute, hour)| [minute, (Form::Mixed, hour.to_owned()), star(), star(), star()])
}

/// The times croner gives when it is left alone with the zone.
fn croner_times(cron: &Cron, after: Timestamp) -> Vec<i64> {
    let after = DateTime::from_timestamp(after.seconds, 0).unwrap().with_timezone(&cron.timezone);
    cron.schedule.iter_after(after).take(TIMES).map(|due| due.timestamp()).collect()
}

/// The times up to `last` that are not near a change of the clock.
fn on_plain_days(times: &[i64], zone: Tz, last: i64) -> Vec<i64> {
    let offset_at =
        |seconds: i64| zone.offset_from_utc_datetime(&DateTime::from_timestamp(seconds, 0).unwrap().naive_utc()).fix();
    let is_plain = |due: i64| offset_at(due - 86_400) == offset_at(due + 86_400);
    times.iter().copied().filter(|due| *due <= last && is_plain(*due)).collect()
}

/// What the generated cases were, so that the test cannot pass on the wrong ones.
#[derive(Default)]
struct Seen {
    cases: usize,
    translated: usize,
    both_days: usize,
    /// Cases in which croner, left alone with the zone, gives other times for a change of the clock.
    changed: usize,
    forms: BTreeMap<(usize, Form), usize>,
    zones: BTreeMap<&'static str, usize>,
}

impl Seen {
    fn assert_it_was_enough(&self) {
        let share = |part: usize| part * 100 / self.cases;
        assert!(share(self.translated) >= 55, "{} of {} translated", self.translated, self.cases);
        assert!(share(self.both_days) >= 8, "{} of {} with both days", self.both_days, self.cases);
        assert_eq!(self.zones.len(), ZONES.len(), "{:?}", self.zones);
        let forms = |more: &[Form]| [&[Form::Star], &NUMERIC[..], more].concat();
        let months = forms(&[Form::Name, Form::NameRange]);
        let weekdays = forms(&[Form::Name, Form::NameRange, Form::SundaySeven]);
        for (position, forms) in [forms(&[]), forms(&[]), forms(&[]), months, weekdays].iter().enumerate() {
            for form in forms {
                assert!(self.forms.contains_key(&(position, *form)), "no translated {form:?} in field {position}");
            }
        }
    }
}

fn refused(error: &CronError, fields: &[Written; 5], seen: &mut Seen) {
    match error {
        CronError::BothDays => {
            seen.both_days += 1;
            assert!(fields[2].0 != Form::Star && fields[4].0 != Form::Star, "{fields:?}");
        }
        CronError::NeverFires { .. } => {
            assert!(fields[2].0 != Form::Star && fields[3].0 != Form::Star, "{fields:?}");
        }
        other => panic!("{fields:?}: {other}"),
    }
}

fn compare(fields: &[Written; 5], zone: Tz, after: Timestamp, seen: &mut Seen) {
    seen.cases += 1;
    let expression = fields.each_ref().map(|(_, text)| text.as_str()).join(" ");
    let translated = Cron::new(&expression, zone.name()).and_then(|cron| Ok((cron.eventbridge()?, cron)));
    let (text, cron) = match translated {
        Ok(translated) => translated,
        Err(error) => return refused(&error, fields, seen),
    };
    let ours: Vec<i64> = cron.next(after, TIMES).iter().map(|due| due.seconds).collect();
    assert_eq!(ours.len(), TIMES);
    assert_eq!(EventBridge::read(&text).next(after, zone), ours, "{expression} as {text} in {zone} after {after}");

    let croner = croner_times(&cron, after);
    let last = ours[TIMES - 1].min(croner[TIMES - 1]);
    let plain = [&ours, &croner].map(|times| on_plain_days(times, zone, last));
    assert_eq!(plain[0], plain[1], "{expression} in {zone} after {after}, as croner sees it");

    seen.translated += 1;
    seen.changed += usize::from(ours != croner);
    *seen.zones.entry(zone.name()).or_default() += 1;
    for (position, (form, _)) in fields.iter().enumerate() {
        *seen.forms.entry((position, *form)).or_default() += 1;
    }
}

/// Compares generated cases, and hands back what they were.
fn compare_all(
    cases: u32,
    fields: impl Strategy<Value = [Written; 5]>,
    places: impl Strategy<Value = (Tz, Timestamp)>,
) -> Seen {
    let seen = RefCell::new(Seen::default());
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&(fields, places), |(fields, (zone, after))| {
        compare(&fields, zone, after, &mut seen.borrow_mut());
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    seen.into_inner()
}

#[test]
fn an_expression_is_due_at_the_same_times_on_aws_or_refused() {
    compare_all(1_500, expressions(), places()).assert_it_was_enough();
}

#[test]
fn it_is_when_the_clock_changes_too() {
    let seen = compare_all(600, nights(), places_near_a_change());
    assert_eq!(seen.translated, seen.cases);
    assert!(seen.changed * 10 >= seen.cases, "{} of {} saw the change", seen.changed, seen.cases);
}

#[test]
fn translations_read_like_this() {
    for (expression, expect) in [
        ("* * * * *", "cron(* * * * ? *)"),
        ("30 2 * * *", "cron(30 2 * * ? *)"),
        ("30 2 * * 1-5", "cron(30 2 ? * 2-6 *)"),
        ("0 0 * * SUN", "cron(0 0 ? * 1 *)"),
        ("0 0 * * 7", "cron(0 0 ? * 1 *)"),
        ("0 0 * * */7", "cron(0 0 ? * 1 *)"),
        ("0 0 * * FRI-SUN", "cron(0 0 ? * 1,6,7 *)"),
        ("0 0 * * 0-7", "cron(0 0 * * ? *)"),
        ("0 0 * * */2", "cron(0 0 ? * 1,3,5,7 *)"),
        ("0 0 1,15 * *", "cron(0 0 1,15 * ? *)"),
        ("0 0 1 JAN-mar,12 *", "cron(0 0 1 1-3,12 ? *)"),
        ("*/15 8-18 * * *", "cron(0/15 8-18 * * ? *)"),
        ("*/7 */5 */2 */3 *", "cron(0/7 0/5 1/2 1/3 ? *)"),
        ("10-30/10 * * * *", "cron(10,20,30 * * * ? *)"),
        // Both day fields are given, and one of them is every day.
        ("0 0 1-31 * 1", "cron(0 0 * * ? *)"),
        ("0 0 13 * 0-6", "cron(0 0 * * ? *)"),
    ] {
        assert_eq!(cron(expression, "UTC").eventbridge().as_deref(), Ok(expect), "{expression}");
    }
}

#[test]
fn what_eventbridge_cannot_say_is_refused() {
    for expression in ["0 0 13 * FRI", "0 0 */2 * 1", "0 0 1 1 7"] {
        assert_eq!(cron(expression, "UTC").eventbridge(), Err(CronError::BothDays), "{expression}");
    }
}

#[test]
fn the_longest_translation_is_short_enough() {
    // A run of three is written as a range, so few lists are longer than pairs with a gap of one between them.
    let pairs = |first: u32, max: u32| {
        let values = (first..=max).filter(|value| (value - first) % 3 < 2);
        values.map(|value| value.to_string()).collect::<Vec<_>>().join(",")
    };
    let long = format!("{} {} {} {} *", pairs(0, 59), pairs(0, 23), pairs(1, 31), pairs(2, 12));
    let text = cron(&long, "UTC").eventbridge().unwrap();
    assert!((230..=256).contains(&text.len()), "{} characters", text.len());
}

#[test]
fn the_reader_of_eventbridge_expressions_knows_the_documented_examples() {
    let next = |text: &str, zone: Tz, after: &str| {
        let due = EventBridge::read(text).next(at(after), zone);
        due.into_iter().map(|seconds| Timestamp::new(seconds, 0).to_string()).collect::<Vec<_>>()
    };
    // Every day at 2:30 in Los Angeles: skipped in spring, once and before the shift in autumn.
    let daily = "cron(30 2 * * ? *)";
    let spring = next(daily, Tz::America__Los_Angeles, "2026-03-07T00:00:00Z");
    assert_eq!(spring[..2], ["2026-03-07T10:30:00Z", "2026-03-09T09:30:00Z"]);
    let autumn = next("cron(30 1 * * ? *)", Tz::America__Los_Angeles, "2026-11-01T00:00:00Z");
    assert_eq!(autumn[..2], ["2026-11-01T08:30:00Z", "2026-11-02T09:30:00Z"]);
    // 1/10 in the minutes is the 11th, the 21st and so on; 2 is Monday, and 1 May 2026 is a Friday.
    let steps = next("cron(1/10 0 ? * 2 *)", Tz::UTC, "2026-05-01T00:00:00Z");
    assert_eq!(steps[..2], ["2026-05-04T00:01:00Z", "2026-05-04T00:11:00Z"]);
    assert_eq!(steps[6], "2026-05-11T00:01:00Z");
}
