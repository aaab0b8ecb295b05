//! Schedules over a clock that the test moves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use firebackup_embedded::{Alarm, Database, Fire, FireIntoQueue, SqliteJobQueue, SqliteScheduler};
use firebackup_model::cron::Cron;
use firebackup_model::port::{Clock, JobQueue, ScheduleRule, Scheduler};
use firebackup_model::{ErrorKind, PortError, Timestamp};
use firebackup_testkit::{HandClock, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

const BOUND: Duration = Duration::from_secs(30);

/// Notes what fires.
#[derive(Default)]
struct Fired {
    messages: Mutex<Vec<(String, Value)>>,
    is_broken: AtomicBool,
    hangs: AtomicBool,
}

impl Fired {
    /// The times of a schedule, in order, and forgets all.
    fn take(&self, name: &str) -> Vec<String> {
        let messages = std::mem::take(&mut *self.messages.lock().unwrap());
        let of_name = messages.into_iter().filter(|(fired, _)| fired == name);
        of_name.map(|(_, message)| message["scheduled"].as_str().unwrap().to_owned()).collect()
    }

    fn count(&self) -> usize {
        self.messages.lock().unwrap().len()
    }
}

#[async_trait]
impl Fire for Fired {
    async fn fire(&self, name: &str, message: &Value) -> Result<(), PortError> {
        if self.is_broken.load(Ordering::SeqCst) && name != "healthy" {
            return Err(PortError::new(ErrorKind::Unavailable, "send a message", ""));
        }
        self.messages.lock().unwrap().push((name.to_owned(), message.clone()));
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

struct World {
    _folder: TempDir,
    clock: Arc<HandClock>,
    database: Database,
    scheduler: SqliteScheduler,
    fired: Arc<Fired>,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn rule(name: &str, expression: &str, timezone: &str) -> ScheduleRule {
    let cron = Cron::new(expression, timezone).unwrap();
    ScheduleRule { name: name.to_owned(), cron, payload: json!({"of": name}), enabled: true }
}

impl World {
    async fn new(now: &str) -> Self {
        let (folder, database) = crate::new_database().await;
        let clock = Arc::new(HandClock::new(at(now)));
        let scheduler = SqliteScheduler::new(database.clone(), clock.clone());
        Self { _folder: folder, clock, database, scheduler, fired: Arc::default() }
    }

    async fn put(&self, name: &str, expression: &str, timezone: &str) {
        self.scheduler.put(&rule(name, expression, timezone)).await.unwrap();
    }

    /// Fires what is due at `now`.
    async fn fire_at(&self, now: &str) -> usize {
        self.clock.set(at(now));
        self.scheduler.fire_due(self.fired.as_ref()).await.unwrap()
    }

    /// Goes through the time in steps of so many minutes, and returns when the schedule fired.
    async fn go_through(&self, until: &str, minutes: i64) -> Vec<String> {
        while self.clock.now() < at(until) {
            self.clock.advance(minutes * 60);
            self.scheduler.fire_due(self.fired.as_ref()).await.unwrap();
        }
        self.fired.take("s")
    }
}

#[tokio::test]
async fn fires_each_time_once_and_says_which_it_was() {
    let world = World::new("2026-01-31T12:00:00Z").await;
    world.put("s", "0 13 * * *", "UTC").await;
    assert_eq!(world.fire_at("2026-01-31T12:59:59.999Z").await, 0);
    assert_eq!(world.fire_at("2026-01-31T13:00:00Z").await, 1);
    let expected = json!({"payload": {"of": "s"}, "scheduled": "2026-01-31T13:00:00Z"});
    assert_eq!(*world.fired.messages.lock().unwrap(), [("s".to_owned(), expected)]);
    assert_eq!(world.fire_at("2026-01-31T13:00:00Z").await, 0, "once");
    assert_eq!(world.fire_at("2026-02-01T12:59:59Z").await, 0);
    assert_eq!(world.fire_at("2026-02-01T13:00:07Z").await, 1);
    assert_eq!(
        world.fired.take("s"),
        ["2026-01-31T13:00:00Z", "2026-02-01T13:00:00Z"],
        "the time that was due, not now"
    );
}

#[tokio::test]
async fn a_time_that_is_now_when_it_is_put_has_gone_by() {
    let world = World::new("2026-01-31T13:00:00Z").await;
    world.put("s", "0 13 * * *", "UTC").await;
    assert_eq!(world.fire_at("2026-01-31T13:00:00Z").await, 0);
    assert_eq!(world.fire_at("2026-02-01T13:00:00Z").await, 1);
}

#[tokio::test]
async fn of_what_was_missed_only_the_latest_fires() {
    for (expression, back, latest, next) in [
        ("* * * * *", "2027-02-03T04:05:30Z", "2027-02-03T04:05:00Z", "2027-02-03T04:06:00Z"),
        ("*/5 * * * *", "2026-02-03T04:04:59Z", "2026-02-03T04:00:00Z", "2026-02-03T04:05:00Z"),
        ("0 13 * * *", "2026-02-10T12:59:59Z", "2026-02-09T13:00:00Z", "2026-02-10T13:00:00Z"),
        ("0 13 * * *", "2026-02-10T13:00:00Z", "2026-02-10T13:00:00Z", "2026-02-11T13:00:00Z"),
        ("0 0 1 * *", "2026-02-20T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("30 3 29 2 *", "2033-01-01T00:00:00Z", "2032-02-29T03:30:00Z", "2036-02-29T03:30:00Z"),
    ] {
        let world = World::new("2026-01-31T12:00:00Z").await;
        world.put("s", expression, "UTC").await;
        assert_eq!(world.fire_at(back).await, 1, "{expression}");
        assert_eq!(world.fire_at(back).await, 0, "{expression}");
        assert_eq!(world.fire_at(next).await, 1, "{expression}");
        assert_eq!(world.fired.take("s"), [latest, next], "{expression}");
    }
}

#[tokio::test]
async fn the_hour_that_a_clock_skips_is_not_due() {
    let world = World::new("2026-03-27T12:00:00Z").await;
    world.put("s", "30 2 * * *", "Europe/Berlin").await;
    let fired = world.go_through("2026-03-31T12:00:00Z", 15).await;
    let expected = ["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"];
    assert_eq!(fired, expected);
}

#[tokio::test]
async fn the_hour_that_a_clock_repeats_is_due_once() {
    let world = World::new("2026-10-24T12:00:00Z").await;
    world.put("s", "30 2 * * *", "Europe/Berlin").await;
    let fired = world.go_through("2026-10-26T12:00:00Z", 15).await;
    assert_eq!(fired, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
}

#[tokio::test]
async fn a_disabled_schedule_keeps_silent_and_makes_up_for_nothing() {
    let world = World::new("2026-01-31T12:00:00Z").await;
    let rule = rule("s", "0 * * * *", "UTC");
    world.scheduler.put(&ScheduleRule { enabled: false, ..rule.clone() }).await.unwrap();
    assert_eq!(world.fire_at("2026-01-31T15:30:00Z").await, 0);
    world.scheduler.put(&rule).await.unwrap();
    assert_eq!(world.fire_at("2026-01-31T15:59:00Z").await, 0);
    assert_eq!(world.fire_at("2026-01-31T16:00:00Z").await, 1);
    world.clock.set(at("2026-01-31T17:30:00Z"));
    world.scheduler.put(&ScheduleRule { enabled: false, ..rule }).await.unwrap();
    assert_eq!(world.fire_at("2026-01-31T18:00:00Z").await, 0);
    world.put("gone", "0 * * * *", "UTC").await;
    world.scheduler.remove("gone").await.unwrap();
    assert_eq!(world.fire_at("2026-01-31T20:00:00Z").await, 0);
}

#[tokio::test]
async fn putting_it_again_forgets_nothing_unless_its_times_change() {
    let world = World::new("2026-01-31T12:00:00Z").await;
    world.put("same", "0 13 * * *", "UTC").await;
    world.put("s", "0 13 * * *", "UTC").await;
    world.clock.set(at("2026-01-31T14:00:00Z"));
    let payload = json!({"of": "another version"});
    let again = ScheduleRule { payload: payload.clone(), ..rule("same", "0 13 * * *", "UTC") };
    world.scheduler.put(&again).await.unwrap();
    world.put("s", "0 13 * * *", "Europe/Berlin").await;
    assert_eq!(world.fire_at("2026-01-31T14:00:00Z").await, 1);
    let expected = json!({"payload": payload, "scheduled": "2026-01-31T13:00:00Z"});
    assert_eq!(*world.fired.messages.lock().unwrap(), [("same".to_owned(), expected)]);
    assert_eq!(world.fire_at("2026-02-01T12:00:00Z").await, 1, "13:00 in Berlin");
}

#[tokio::test]
async fn what_cannot_fire_stays_due_and_holds_up_no_other() {
    let world = World::new("2026-01-31T12:00:00Z").await;
    world.put("s", "0 * * * *", "UTC").await;
    world.put("healthy", "30 * * * *", "UTC").await;
    world.fired.is_broken.store(true, Ordering::SeqCst);
    assert_eq!(world.fire_at("2026-01-31T13:30:00Z").await, 1);
    assert_eq!(world.fired.take("healthy"), ["2026-01-31T13:30:00Z"]);
    world.fired.is_broken.store(false, Ordering::SeqCst);
    assert_eq!(world.fire_at("2026-01-31T13:40:00Z").await, 1);
    assert_eq!(world.fired.take("s"), ["2026-01-31T13:00:00Z"]);
}

#[tokio::test]
async fn who_dies_after_firing_fires_the_same_time_again() {
    let world = World::new("2026-01-31T12:00:00Z").await;
    world.put("s", "0 13 * * *", "UTC").await;
    world.clock.set(at("2026-01-31T13:00:00Z"));
    world.fired.hangs.store(true, Ordering::SeqCst);
    let cut_off = tokio::time::timeout(Duration::from_millis(500), world.scheduler.fire_due(world.fired.as_ref()));
    assert!(cut_off.await.is_err());
    world.fired.hangs.store(false, Ordering::SeqCst);
    let again = SqliteScheduler::new(world.database.clone(), world.clock.clone());
    assert_eq!(again.fire_due(world.fired.as_ref()).await.unwrap(), 1);
    assert_eq!(world.fired.take("s"), ["2026-01-31T13:00:00Z"; 2]);
}

struct HandAlarm(Arc<HandClock>);

#[async_trait]
impl Alarm for HandAlarm {
    async fn at(&self, moment: Timestamp) {
        self.0.reaches(moment).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_wakes_when_a_time_has_come_and_when_a_schedule_is_put() {
    let world = World::new("2026-01-31T12:00:00Z").await;
    let (stop, stopped) = oneshot::channel::<()>();
    let (scheduler, fired) = (world.scheduler.clone(), world.fired.clone());
    let alarm = HandAlarm(world.clock.clone());
    let task = tokio::spawn(async move { scheduler.run(fired, &alarm, async { drop(stopped.await) }).await });
    world.put("s", "0 13 * * *", "UTC").await;
    let fires = async |count| {
        eventually("it fires", BOUND, async || (world.fired.count() == count).then_some(())).await;
    };
    world.clock.set(at("2026-01-31T13:00:00Z"));
    fires(1).await;
    world.put("soon", "1 13 * * *", "UTC").await;
    world.clock.set(at("2026-01-31T13:01:00Z"));
    fires(2).await;
    // what cannot be sent is sent later, without anybody asking
    world.fired.is_broken.store(true, Ordering::SeqCst);
    world.put("later", "2 13 * * *", "UTC").await;
    world.clock.set(at("2026-01-31T13:02:00Z"));
    world.put("healthy", "3 13 * * *", "UTC").await;
    world.clock.set(at("2026-01-31T13:03:00Z"));
    fires(3).await;
    world.fired.is_broken.store(false, Ordering::SeqCst);
    world.clock.advance(30);
    fires(4).await;
    stop.send(()).unwrap();
    tokio::time::timeout(BOUND, task).await.unwrap().unwrap();
    world.clock.advance(24 * 3600);
    assert_eq!(world.fired.count(), 4);
}

#[tokio::test]
async fn fires_into_a_queue() {
    let world = World::new("2026-01-31T12:00:00Z").await;
    let queue = Arc::new(SqliteJobQueue::new(world.database.clone(), world.clock.clone(), "jobs", 3));
    world.put("s", "0 13 * * *", "UTC").await;
    world.clock.advance(3600);
    let fire = FireIntoQueue::new(queue.clone());
    assert_eq!(world.scheduler.fire_due(&fire).await.unwrap(), 1);
    let messages = queue.receive(10, Duration::ZERO, Duration::from_secs(60)).await.unwrap();
    let sent: Vec<Value> = messages.iter().map(|message| serde_json::from_str(&message.body).unwrap()).collect();
    assert_eq!(sent, [json!({"payload": {"of": "s"}, "scheduled": "2026-01-31T13:00:00Z"})]);
}
