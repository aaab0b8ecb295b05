//! What the product relies on in what keeps its schedules, as one suite that every adapter passes.
//!
//! When they fire is tested where the time can be moved.

use std::sync::Arc;

use async_trait::async_trait;
use firebackup_model::ErrorKind;
use firebackup_model::cron::Cron;
use firebackup_model::port::{ScheduleRule, Scheduler};
use serde_json::{Value, json};

/// Sees what the scheduler keeps.
#[async_trait]
pub trait KeptSchedules: Send + Sync {
    /// The time zone in which the schedule `name` fires, and the `payload` that it sends; nothing when there is none.
    async fn kept(&self, name: &str) -> Option<(String, Value)>;
}

/// Runs the suite. The scheduler should have no schedule.
///
/// # Panics
/// When the scheduler does not do what the product relies on.
pub async fn conforms(scheduler: Arc<dyn Scheduler>, schedules: &dyn KeptSchedules) {
    let test = SchedulerUnderTest { scheduler: scheduler.as_ref(), schedules };
    unknown_schedules(&test).await;
    schedules_are_kept(&test).await;
    schedules_are_replaced(&test).await;
    schedules_are_removed(&test).await;
    names(&test).await;
}

struct SchedulerUnderTest<'a> {
    scheduler: &'a dyn Scheduler,
    schedules: &'a dyn KeptSchedules,
}

fn rule(name: &str, expression: &str, timezone: &str, payload: Value, enabled: bool) -> ScheduleRule {
    let cron = Cron::new(expression, timezone).unwrap_or_else(|error| panic!("{expression} in {timezone}: {error}"));
    ScheduleRule { name: name.to_owned(), cron, payload, enabled }
}

impl SchedulerUnderTest<'_> {
    async fn put(&self, rule: &ScheduleRule) {
        self.scheduler.put(rule).await.unwrap_or_else(|error| panic!("put {}: {error:?}", rule.name));
    }

    async fn remove(&self, name: &str) {
        self.scheduler.remove(name).await.unwrap_or_else(|error| panic!("remove {name}: {error:?}"));
    }

    async fn fires_as(&self, rule: &ScheduleRule) -> bool {
        self.scheduler.fires_as(rule).await.unwrap_or_else(|error| panic!("how {} fires: {error:?}", rule.name))
    }

    async fn kept(&self, name: &str) -> Option<(String, Value)> {
        self.schedules.kept(name).await
    }
}

async fn unknown_schedules(test: &SchedulerUnderTest<'_>) {
    assert!(!test.fires_as(&rule("nobody", "0 0 * * *", "UTC", json!({}), true)).await);
    test.remove("nobody").await;
    assert_eq!(test.kept("nobody").await, None);
}

async fn schedules_are_kept(test: &SchedulerUnderTest<'_>) {
    let payload = json!({
        "schedule": "sch_01ARZ3NDEKTSV4RRFFQ69G5FAV", "text": "ü \"quoted\" <aws> \\ 😀\n", "number": 9_007_199_254_740_993_i64,
        "nested": {"list": [1, null, true, {}], "empty": ""},
    });
    for (name, expression, timezone) in [
        ("nightly", "30 2 * * *", "Europe/Berlin"),
        ("often", "*/15 * * * *", "UTC"),
        ("weekly", "0 0 * * 0", "America/New_York"),
        ("monthly_1", "5 4 1 * *", "Asia/Kolkata"),
        ("workdays-2", "0 9-17 * * 1-5", "Australia/Lord_Howe"),
    ] {
        let rule = rule(name, expression, timezone, payload.clone(), true);
        test.put(&rule).await;
        assert!(test.fires_as(&rule).await, "{name}");
        assert_eq!(test.kept(name).await, Some((timezone.to_owned(), payload.clone())), "{name}");
    }
    let off = rule("off", "0 0 * * *", "UTC", json!({}), false);
    test.put(&off).await;
    assert!(test.fires_as(&off).await);
    for other in [
        ScheduleRule { enabled: true, ..off.clone() },
        rule("off", "1 0 * * *", "UTC", json!({}), false),
        rule("off", "0 0 * * *", "Europe/Berlin", json!({}), false),
    ] {
        assert!(!test.fires_as(&other).await, "{other:?}");
    }
    assert_eq!(test.kept("off").await, Some(("UTC".to_owned(), json!({}))));
}

async fn schedules_are_replaced(test: &SchedulerUnderTest<'_>) {
    let first = rule("replaced", "0 1 * * *", "UTC", json!({"version": 1, "only": "first"}), true);
    test.put(&first).await;
    test.put(&first).await;
    let second = rule("replaced", "0 2 * * *", "Europe/Berlin", json!({"version": 2}), false);
    test.put(&second).await;
    assert!(test.fires_as(&second).await && !test.fires_as(&first).await);
    assert_eq!(test.kept("replaced").await, Some(("Europe/Berlin".to_owned(), json!({"version": 2}))));
    let third = ScheduleRule { enabled: true, ..second };
    test.put(&third).await;
    assert!(test.fires_as(&third).await);
    assert!(test.kept("nightly").await.is_some(), "others stay as they are");
}

async fn schedules_are_removed(test: &SchedulerUnderTest<'_>) {
    let rules = ["gone", "gone-too"].map(|name| rule(name, "0 0 * * *", "UTC", json!({"is": name}), true));
    for rule in &rules {
        test.put(rule).await;
    }
    test.remove("gone").await;
    test.remove("gone").await;
    assert_eq!((test.fires_as(&rules[0]).await, test.kept("gone").await), (false, None));
    assert!(test.fires_as(&rules[1]).await, "only the one is removed");
    test.put(&rules[0]).await;
    assert!(test.fires_as(&rules[0]).await, "what was removed can be put again");
}

async fn names(test: &SchedulerUnderTest<'_>) {
    let longest = "n".repeat(64);
    let longest = rule(&longest, "0 0 * * *", "UTC", json!({}), true);
    test.put(&longest).await;
    assert!(test.fires_as(&longest).await);
    let too_long = "n".repeat(65);
    for name in ["", " ", "a b", "a/b", "a:b", "ü", "a\n", "a.b", too_long.as_str()] {
        match test.scheduler.put(&rule(name, "0 0 * * *", "UTC", json!({}), true)).await {
            Ok(()) => panic!("the name `{name}` was taken"),
            Err(error) => assert_eq!(error.kind, ErrorKind::InvalidArgument, "`{name}`: {error:?}"),
        }
    }
}
