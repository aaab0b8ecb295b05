//! What a schedule means, in examples. What it means on AWS is compared in `dialects`.

mod dialects;

use super::*;

fn cron(expression: &str, timezone: &str) -> Cron {
    Cron::new(expression, timezone).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The next times in UTC, or what stands in for them.
fn check_next(expression: &str, timezone: &str, after: &str, expect: &[&str]) {
    let next = cron(expression, timezone).next(at(after), expect.len());
    let next: Vec<String> = next.iter().map(Timestamp::to_string).collect();
    assert_eq!(next, expect, "{expression} in {timezone} after {after}");
}

#[test]
fn what_is_not_five_fields_of_values_is_refused_and_said_why() {
    for (expression, reason) in [
        ("", "found 0"),
        (" \t ", "found 0"),
        ("* * * *", "found 4"),
        ("0 30 2 * * *", "found 6"),
        ("0 30 2 * * * 2026", "found 7"),
        ("@daily", "`@daily` stands for a whole expression"),
        ("@every 5m", "`@every` stands for a whole expression"),
        ("60 * * * *", "the minute `60` is wrong: 60 is not in 0-59"),
        ("-1 * * * *", "the minute `-1` is wrong: a value is missing"),
        ("+1 * * * *", "`+1` is not in 0-59"),
        ("99999999 * * * *", "99999999 is not in 0-59"),
        ("* 24 * * *", "the hour `24` is wrong: 24 is not in 0-23"),
        ("* * 0 * *", "the day of month `0` is wrong: 0 is not in 1-31"),
        ("* * * 13 *", "the month `13` is wrong: 13 is not in 1-12"),
        ("* * * * 8", "the day of week `8` is wrong: 8 is not in 0-7"),
        ("* * L * *", "the day of month `L` is wrong: `L` uses `L`, `W`, `#` or `?`"),
        ("* * LW * *", "`LW` uses `L`, `W`, `#` or `?`"),
        ("* * 15W * *", "`15W` uses `L`, `W`, `#` or `?`"),
        ("* * * * 5L", "`5L` uses `L`, `W`, `#` or `?`"),
        ("* * * * MON#2", "`MON#2` uses `L`, `W`, `#` or `?`"),
        ("0 0 ? * MON", "`?` uses `L`, `W`, `#` or `?`"),
        ("* * 1 * +MON", "`+MON` is neither in 0-7 nor one of SUN to SAT"),
        ("* * * * MONDAY", "`MONDAY` is neither in 0-7 nor one of SUN to SAT"),
        ("* * * MON *", "`MON` is neither in 1-12 nor one of JAN to DEC"),
        ("JAN * * * *", "`JAN` is not in 0-59"),
        ("1MON * * * *", "`1MON` is not in 0-59"),
        ("1,,2 * * * *", "a value is missing"),
        (", * * * *", "a value is missing"),
        ("1- * * * *", "a value is missing"),
        ("1-2-3 * * * *", "`2-3` is not in 0-59"),
        ("*,5 * * * *", "`*` cannot stand in a list"),
        ("5/10 * * * *", "`5/10` has a step without `*` or a range before it"),
        ("/10 * * * *", "`/10` has a step without `*` or a range before it"),
        ("*/0 * * * *", "the step `0` is not in 1-59"),
        ("*/ * * * *", "the step `` is not in 1-59"),
        ("*/+5 * * * *", "the step `+5` is not in 1-59"),
        ("*/60 * * * *", "the step `60` is not in 1-59"),
        ("* * * * 5-1", "`5-1` runs backwards: write two ranges"),
        ("* * * * SAT-MON", "`SAT-MON` runs backwards"),
        ("* * * NOV-FEB *", "`NOV-FEB` runs backwards"),
        ("0 0 30 2 *", "`0 0 30 2 *` never fires"),
        ("0 0 31 FEB,APR,JUN,SEP,NOV *", "never fires"),
    ] {
        let error = Cron::new(expression, "UTC").expect_err(expression).to_string();
        assert!(error.contains(reason), "{expression}: {error}");
        assert!(!error.ends_with('.'), "{expression}: {error}");
    }
}

#[test]
fn the_time_zone_is_one_of_the_database() {
    for name in ["", "Berlin", "Europe/Bielefeld", "CEST", "+02:00", " UTC"] {
        assert_eq!(Cron::new("0 0 * * *", name), Err(CronError::UnknownTimeZone { name: name.to_owned() }));
    }
    assert_eq!(cron("0 0 * * *", "Australia/Lord_Howe").timezone(), "Australia/Lord_Howe");
}

#[test]
fn spaces_are_made_single_and_the_rest_stays_as_it_was_typed() {
    let cron = cron("  30\t2  *  jan-Mar   mon ", "UTC");
    assert_eq!(cron.expression(), "30 2 * jan-Mar mon");
    assert_eq!(cron.to_string(), "30 2 * jan-Mar mon (UTC)");
    assert_eq!(format!("{cron:?}"), r#"Cron { expression: "30 2 * jan-Mar mon", timezone: "UTC" }"#);
}

#[test]
fn names_numbers_ranges_and_steps_say_the_same() {
    let after = at("2026-01-01T00:00:00Z");
    for (left, right) in [
        ("0 0 * * sun", "0 0 * * 0"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * */7", "0 0 * * 0"),
        ("0 0 * * Fri-Sun", "0 0 * * 0,5,6"),
        ("0 0 * * SUN-tue", "0 0 * * 0-2"),
        ("0 0 * * 0-7", "0 0 * * *"),
        ("0 0 * * 1-5/2", "0 0 * * MON,WED,FRI"),
        ("0 0 1 feb,Dec *", "0 0 1 2,12 *"),
        ("0 0 1 */5 *", "0 0 1 1,6,11 *"),
        ("05 00 01 * *", "5 0 1 * *"),
        ("10-50/20 * * * *", "10,30,50 * * * *"),
    ] {
        assert_eq!(cron(left, "UTC").next(after, 40), cron(right, "UTC").next(after, 40), "{left}, {right}");
    }
}

#[test]
fn next_is_strictly_after() {
    check_next("0 12 * * *", "UTC", "2026-05-01T11:59:59.999999999Z", &["2026-05-01T12:00:00Z"]);
    check_next("0 12 * * *", "UTC", "2026-05-01T12:00:00Z", &["2026-05-02T12:00:00Z"]);
    check_next("0 12 * * *", "UTC", "2026-05-01T12:00:00.000000001Z", &["2026-05-02T12:00:00Z"]);
}

#[test]
fn a_day_that_fits_either_day_field_is_due() {
    let days = ["2026-05-04T00:00:00Z", "2026-05-11T00:00:00Z", "2026-05-13T00:00:00Z", "2026-05-18T00:00:00Z"];
    check_next("0 0 13 * 1", "UTC", "2026-05-01T00:00:00Z", &days);
}

#[test]
fn rare_days_are_found_and_the_end_of_the_calendar_is_the_end() {
    check_next("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00Z"]);
    let daily = cron("0 0 * * *", "Asia/Kolkata");
    for outside in ["5000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
        assert_eq!(daily.next_after(at(outside)), None);
    }
    assert_eq!(daily.next_after(Timestamp::new(i64::MIN, 0)), None);
    assert_eq!(daily.next_after(Timestamp::new(i64::MAX, 999_999_999)), None);
    assert_eq!(daily.next(at("4999-12-29T18:30:00Z"), 9), [at("4999-12-30T18:30:00Z"), at("4999-12-31T18:30:00Z")]);
    assert!(daily.next_after(at("0001-01-01T00:00:00Z")).is_some());
    assert!(daily.next(at("2026-01-01T00:00:00Z"), 0).is_empty());
}

#[test]
fn a_time_the_clock_skips_is_not_due() {
    // Berlin, 29 March 2026: 02:00 is followed by 03:00.
    check_next(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-27T12:00:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"],
    );
    check_next(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-03-29T00:15:00Z",
        &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
    );
    // Lord Howe, 4 October 2026: 02:00 is followed by 02:30.
    check_next(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-02T20:00:00Z",
        &["2026-10-04T15:15:00Z", "2026-10-05T15:15:00Z"],
    );
}

#[test]
fn a_time_the_clock_shows_twice_is_due_the_first_time() {
    // Berlin, 25 October 2026: 03:00 is followed by 02:00.
    let once = ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
    check_next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", &once);
    check_next(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-10-25T00:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z", "2026-10-25T02:30:00Z"],
    );
    // Lord Howe, 5 April 2026: 02:00 is followed by 01:30.
    check_next(
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T12:00:00Z",
        &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
    );
}

#[test]
fn within_the_second_half_of_an_overlap_the_next_time_is_after_it() {
    for after in ["2026-10-25T01:00:00Z", "2026-10-25T01:20:00Z", "2026-10-25T01:59:59Z"] {
        check_next("*/15 * * * *", "Europe/Berlin", after, &["2026-10-25T02:00:00Z"]);
        check_next("30 2 * * *", "Europe/Berlin", after, &["2026-10-26T01:30:00Z"]);
    }
}

#[test]
fn stored_schedules_read_back_and_wrong_ones_do_not() {
    let text = r#"{"expression":"30 2 * * 1-5","timezone":"Europe/Berlin"}"#;
    let read: Cron = serde_json::from_str(text).unwrap();
    assert_eq!(read, cron("30 2 * * 1-5", "Europe/Berlin"));
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    for (text, reason) in [
        (r#"{"expression":"30 2 * * 1-8","timezone":"UTC"}"#, "8 is not in 0-7"),
        (r#"{"expression":"30 2 * * 1-5","timezone":"Mars"}"#, "`Mars` is not a time zone"),
    ] {
        let error = serde_json::from_str::<Cron>(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_moment_is_of_the_day_that_the_zone_shows() {
    let date = |zone: &str, at: &str| {
        let cron = Cron::new("0 3 * * *", zone).unwrap();
        cron.date(at.parse().unwrap()).map(|date| date.to_string())
    };
    assert_eq!(date("UTC", "2026-03-01T23:30:00Z").as_deref(), Some("2026-03-01"));
    assert_eq!(date("Europe/Berlin", "2026-03-01T23:30:00Z").as_deref(), Some("2026-03-02"));
    assert_eq!(date("America/New_York", "2026-03-01T04:30:00Z").as_deref(), Some("2026-02-28"));
    assert_eq!(date("UTC", "9999-01-01T00:00:00Z"), None);
}
