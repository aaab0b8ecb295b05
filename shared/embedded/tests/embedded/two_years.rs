//! Two years of five time zones with summer time: what fires is what a clock on the wall of each zone says.
//!
//! The wall is walked minute by minute with the time zone database alone, knowing nothing of cron or of the scheduler: a
//! time that the clock skips never comes, and one that it shows twice counts the first time.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, Datelike, Timelike};
use chrono_tz::Tz;
use firebackup_embedded::{Database, Fire, SqliteScheduler};
use firebackup_model::cron::Cron;
use firebackup_model::port::{ScheduleRule, Scheduler};
use firebackup_model::{PortError, Timestamp};
use firebackup_testkit::HandClock;
use serde_json::{Value, json};

const FIRST: &str = "2026-01-01T00:00:00Z";
const LAST: &str = "2028-01-01T00:00:00Z";
/// Summer time of an hour and of half an hour, on both sides of the equator, beginning at two and at midnight.
const ZONES: [&str; 5] =
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo"];
/// An expression, and whether a moment on the wall is one of its times.
type Expression = (&'static str, fn(&Wall) -> bool);
const EXPRESSIONS: [Expression; 4] = [
    ("30 2 * * *", |wall| (wall.hour, wall.minute) == (2, 30)),
    ("0 0 * * *", |wall| (wall.hour, wall.minute) == (0, 0)),
    ("30 1-3 * * 0", |wall| wall.weekday == 0 && (1..=3).contains(&wall.hour) && wall.minute == 30),
    ("15 23 31 3,10 *", |wall| {
        (wall.hour, wall.minute, wall.day) == (23, 15, 31) && (wall.month == 3 || wall.month == 10)
    }),
];

/// What a clock on the wall shows.
struct Wall {
    month: u32,
    day: u32,
    weekday: u32,
    hour: u32,
    minute: u32,
}

/// Due times of each schedule, in seconds, in order.
type Times = BTreeMap<String, Vec<i64>>;

fn seconds(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().seconds
}

fn name(zone: usize, expression: usize) -> String {
    format!("{zone}-{expression}")
}

/// What the walls of all zones say.
fn walked() -> Times {
    let mut due = Times::new();
    for (number, zone) in ZONES.into_iter().enumerate() {
        let zone: Tz = zone.parse().unwrap();
        let mut shown = HashSet::new();
        // every time above is of a quarter of an hour, in zones whose offsets are too
        for now in (seconds(FIRST) + 900..=seconds(LAST)).step_by(900) {
            let local = DateTime::from_timestamp(now, 0).unwrap().with_timezone(&zone);
            if !shown.insert(local.naive_local()) {
                continue;
            }
            let wall = Wall {
                month: local.month(),
                day: local.day(),
                weekday: local.weekday().num_days_from_sunday(),
                hour: local.hour(),
                minute: local.minute(),
            };
            for (expression, (_, is_due)) in EXPRESSIONS.iter().enumerate() {
                if is_due(&wall) {
                    due.entry(name(number, expression)).or_default().push(now);
                }
            }
        }
    }
    due
}

/// Those that a server makes up for which looked at these times: of what came between two looks, the last.
fn collapsed(due: &Times, looks: &[i64]) -> Times {
    let latest_of = |times: &Vec<i64>| {
        let mut kept: BTreeMap<usize, i64> = BTreeMap::new();
        for time in times {
            kept.insert(looks.partition_point(|look| look < time), *time);
        }
        kept.into_iter().filter(|(look, _)| *look < looks.len()).map(|(_, time)| time).collect()
    };
    due.iter().map(|(name, times)| (name.clone(), latest_of(times))).collect()
}

#[derive(Default)]
struct Fired(Mutex<Times>);

#[async_trait]
impl Fire for Fired {
    async fn fire(&self, name: &str, message: &Value) -> Result<(), PortError> {
        let scheduled = seconds(message["scheduled"].as_str().unwrap());
        self.0.lock().unwrap().entry(name.to_owned()).or_default().push(scheduled);
        Ok(())
    }
}

/// When a server looks: every few minutes, and now and then it is down for days.
fn looks() -> Vec<i64> {
    let (mut now, mut state, mut looks) = (seconds(FIRST), 7_u64, Vec::new());
    while now < seconds(LAST) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = i64::try_from(state >> 40).unwrap();
        let is_down = random % 1500 == 0;
        now += if is_down { 24 * 3600 + random % (5 * 24 * 3600) } else { 61 + random % 1400 };
        looks.push(now);
    }
    looks
}

#[tokio::test(flavor = "multi_thread")]
async fn each_due_time_of_two_years_fires_once_and_what_was_missed_once() {
    let (folder, database) = crate::new_database().await;
    let clock = Arc::new(HandClock::new(FIRST.parse().unwrap()));
    let mut scheduler = SqliteScheduler::new(database, clock.clone());
    for (number, zone) in ZONES.into_iter().enumerate() {
        for (expression, (text, _)) in EXPRESSIONS.iter().enumerate() {
            let cron = Cron::new(text, zone).unwrap();
            let rule = ScheduleRule { name: name(number, expression), cron, payload: json!({}), enabled: true };
            scheduler.put(&rule).await.unwrap();
        }
    }
    let (fired, looks) = (Fired::default(), looks());
    let mut before = seconds(FIRST);
    for look in &looks {
        if look - before > 24 * 3600 {
            // it was down: another process goes on with the file
            let file = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
            let file = file.into_iter().find(|file| file.extension().is_some_and(|end| end == "db")).unwrap();
            scheduler = SqliteScheduler::new(Database::open(file).await.unwrap(), clock.clone());
        }
        before = *look;
        clock.set(Timestamp::new(*look, 0));
        scheduler.fire_due(&fired).await.unwrap();
    }
    let expected = collapsed(&walked(), &looks);
    let found = fired.0.into_inner().unwrap();
    for (schedule, times) in &expected {
        let found = found.get(schedule).cloned().unwrap_or_default();
        let first = times.iter().zip(&found).find(|(expected, found)| expected != found);
        let shown = |time: &i64| Timestamp::new(*time, 0).to_string();
        let differs = first.map(|(expected, found)| format!("{} and not {}", shown(expected), shown(found)));
        assert_eq!((differs, times.len()), (None, found.len()), "{schedule}");
    }
    let all: usize = expected.values().map(Vec::len).sum();
    assert!(all > 5 * 2 * 700, "{all}");
    let downs = looks.windows(2).filter(|pair| pair[1] - pair[0] > 24 * 3600).count();
    assert!(downs > 10, "{downs}");
}
