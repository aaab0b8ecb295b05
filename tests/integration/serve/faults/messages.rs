//! Messages that come twice, messages that are none, and messages that nobody could act on when they came.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use firebackup_bootstrap::StepSettings;
use firebackup_embedded::{Database, SqliteJobQueue, SystemClock};
use firebackup_google::sample::sample;
use firebackup_model::Timestamp;
use firebackup_model::port::{Clock, JobQueue};
use firebackup_testkit::{Method, Proxy, ProxyOptions, eventually};
use serde_json::{Value, json};

use super::within::{self, Within};
use super::{BOUND, cut_power};
use crate::serve::installation::{Api, Installation, Place, has_ended, id};
use crate::stage::{assert_same, database, emulator, firestore, read_all, write_all};

/// As the server has it.
const MOST_DELIVERIES: u32 = 10;
/// When the server looks again at a message that failed, and a little more.
const AGAIN_SECONDS: i64 = 6;
const NO_TIME: Duration = Duration::ZERO;
/// How long a job is held up, so that its message comes again before its end.
const HELD_UP: Duration = Duration::from_secs(2);

/// A queue of a server, in the hands of somebody else.
struct Queue {
    of_now: SqliteJobQueue,
    /// The same with a clock that is ahead: it finds what failed and is to come again.
    ahead: SqliteJobQueue,
}

struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_seconds(AGAIN_SECONDS)
    }
}

impl Queue {
    async fn of(installation: &Installation, name: &str) -> Self {
        let database = Database::open(within::database(installation)).await.unwrap();
        let queue = |clock| SqliteJobQueue::new(database.clone(), clock, name, MOST_DELIVERIES);
        Self { of_now: queue(Arc::new(SystemClock)), ahead: queue(Arc::new(Ahead)) }
    }

    async fn send(&self, body: &Value) {
        self.of_now.send(&body.to_string(), NO_TIME).await.unwrap();
    }

    async fn dead(&self) -> u64 {
        self.of_now.dead_letters().await.unwrap()
    }

    /// Takes what waits or comes again, and gives it back; whether there was something.
    async fn pass_by(&self) -> bool {
        let messages = self.ahead.receive(1, NO_TIME, NO_TIME).await.unwrap();
        for message in &messages {
            self.of_now.release(&message.receipt, NO_TIME).await.unwrap();
        }
        !messages.is_empty()
    }

    /// Delivers the one message in vain until it is a dead letter.
    async fn dies(&self) {
        eventually("the message is a dead letter", BOUND, async || {
            self.pass_by().await;
            (self.dead().await == 1).then_some(())
        })
        .await;
    }

    /// Lets the one message come again at once whenever the server has failed on it, which its log says so, until it is a
    /// dead letter. Gives how often the server has failed.
    async fn dies_of(&self, installation: &Installation, failure: &[&str]) -> usize {
        let before = lines(installation, failure);
        let mut seen = before;
        eventually("the message is a dead letter", BOUND, async || {
            let failed = lines(installation, failure);
            if failed > seen && self.pass_by().await {
                seen = failed;
            }
            (self.dead().await == 1).then_some(())
        })
        .await;
        lines(installation, failure) - before
    }

    /// Nothing waits, nothing comes again, nothing is dead.
    async fn assert_empty(&self) {
        let left = self.ahead.receive(1, NO_TIME, NO_TIME).await.unwrap();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(self.dead().await, 0);
    }
}

/// The message of a job.
fn message(job: &Value) -> Value {
    json!({"job": job["id"], "organization": job["organizationId"]})
}

/// How many lines of the log hold all of this.
fn lines(installation: &Installation, parts: &[&str]) -> usize {
    installation.log().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

/// Waits until the log has so many lines that hold all of this.
async fn says(installation: &Installation, times: usize, parts: &[&str]) {
    eventually(&format!("the server says {parts:?}"), BOUND, async || {
        (lines(installation, parts) >= times).then_some(())
    })
    .await;
    assert_eq!(lines(installation, parts), times, "{parts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_twice_while_its_job_runs_and_behind_its_end_changes_nothing() {
    let google = emulator().await;
    let proxy = Proxy::start(google.host(), ProxyOptions::default()).await.unwrap();
    let place = Place::reached_by(google, &proxy.host(), 300).await;
    let api = place.api();
    let queue = Queue::of(&place.installation, "jobs").await;
    let wanted = read_all(&place.source).await;

    proxy.control().delay(Method::RunQuery, HELD_UP);
    let backup = api.back_up(&place.project).await;
    let done = twice(&place, &api, &queue, &proxy, &place.backup_path(&backup)).await;
    assert_eq!(done["result"]["documents"].as_u64(), Some(300), "{done:#}");
    let listed = place.installation.cli_json(&place.project, &["list"]);
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1), "{listed:#}");
    api.verified(&place.project, &backup, 300).await;
    assert_eq!(api.backups(&place.project).await.len(), 1);

    // of the same name elsewhere, so that what comes back can be compared byte by byte
    let elsewhere = emulator().await;
    let slow = Proxy::start(elsewhere.host(), ProxyOptions::default()).await.unwrap();
    let other = api.connect(&slow.host(), "demo-app").await;
    slow.control().delay(Method::BatchWrite, HELD_UP);
    let restore = id(&api.post("/backups/restore", json!({"backupId": backup, "targetProjectId": other})).await);
    let done = twice(&place, &api, &queue, &slow, &format!("/restores/{restore}")).await;
    assert_eq!(done["result"]["written"].as_u64(), Some(300), "{done:#}");
    let copy = firestore(elsewhere.host(), &database()).await;
    assert_same(&read_all(&copy).await, &wanted);
    queue.assert_empty().await;
}

/// Sends the message of a job again, twice while it runs and once when it has ended; gives its end.
async fn twice(place: &Place, api: &Api, queue: &Queue, slow: &Proxy, path: &str) -> Value {
    let job = api.wait(path, "a beginning", |job| job["status"] != "pending").await;
    let name = job["id"].as_str().unwrap();
    says(&place.installation, 1, &[name, "outcome=Started"]).await;
    for _ in 0..2 {
        queue.send(&message(&job)).await;
    }
    says(&place.installation, 2, &[name, "outcome=AlreadyStarted"]).await;
    let running = api.get(path).await;
    assert!(!has_ended(&running), "it ended before its message came again: {running:#}");
    slow.control().clear_faults();
    let done = api.ends(path, "completed").await;
    // a step that was done twice would have been counted twice
    assert_eq!(done["progress"]["documents"], done["result"]["documents"], "{done:#}");
    queue.send(&message(&job)).await;
    says(&place.installation, 1, &[name, "outcome=Ended"]).await;
    assert_eq!(api.get(path).await, done, "an end is for ever");
    assert_eq!(lines(&place.installation, &[name, "outcome=Started"]), 1);
    done
}

/// How many deliveries are the server's where every other one is ours, and more where we are slow.
const TRIES: RangeInclusive<usize> = MOST_DELIVERIES as usize / 2..=MOST_DELIVERIES as usize;
/// What a server says of a message that is none, and of a schedule that has no destination.
const POISON: [&str; 2] = ["a message failed", "the input of the step cannot be read"];
const NO_DESTINATION: [&str; 2] = ["a message failed", "there is no default destination"];

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_get_another_chance_with_the_next_start_and_those_that_are_none_die_again() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    write_all(&source, sample(&database(), 100, 1)).await;
    let installation = Installation::new();
    let server = installation.start(&[]).await;
    let key = server.owner_key();
    let api = server.api(&key);
    let project = api.connect(emulator.host(), "demo-app").await;
    let [jobs, due] = [Queue::of(&installation, "jobs").await, Queue::of(&installation, "due").await];

    // a schedule that is due while there is nowhere to put its backup, and what is no message of ours
    let new = json!({"name": "yearly", "projectId": project, "cronExpression": "0 0 29 2 *"});
    let schedule = api.post("/schedules", new).await;
    let organization = api.get("/organizations/current").await["id"].clone();
    let payload = json!({"schedule": schedule["id"], "organization": organization});
    due.send(&json!({"payload": payload, "scheduled": "2024-02-29T00:00:00Z"})).await;
    jobs.send(&json!({"not": "a job"})).await;
    let failed = tokio::join!(jobs.dies_of(&installation, &POISON), due.dies_of(&installation, &NO_DESTINATION));
    assert!(TRIES.contains(&failed.0) && TRIES.contains(&failed.1), "the server failed {failed:?} times");
    assert_eq!(api.backups(&project).await.len(), 0);

    // somebody mends the one, and starts the server again
    api.post("/storage/destinations", json!({"name": "folder", "url": installation.url()})).await;
    assert_eq!([jobs.dead().await, due.dead().await], [1, 1], "nobody tries again by himself");
    assert!(server.running.terminate().0.success());
    let server = installation.start(&[]).await;
    let api = server.api(&key);
    says(&installation, 2, &["messages that had failed too often are tried again", "moved=1"]).await;
    let backup = eventually("the backup of the schedule", BOUND, async || api.backups(&project).await.pop()).await;
    assert_eq!(backup["scheduleId"], schedule["id"], "{backup:#}");
    let id = id(&backup);
    // what is no message has failed once more, and was in nobody's way
    api.ends(&format!("/backups/{project}/{id}"), "completed").await;
    api.verified(&project, &id, 100).await;
    assert!(jobs.dies_of(&installation, &POISON).await > 0);
    let again = lines(&installation, &POISON) - failed.0;
    assert!(TRIES.contains(&again), "the server failed {again} times more");
    due.assert_empty().await;
    assert_eq!(api.backups(&project).await.len(), 1);
    let next = api.back_up(&project).await;
    api.ends(&format!("/backups/{project}/{next}"), "completed").await;
    assert_eq!(jobs.dead().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_could_not_be_started_in_ten_times_is_done_with_the_next_start() {
    let mut place = Place::with(100).await;
    cut_power(&mut place);
    let queue = Queue::of(&place.installation, "jobs").await;
    let within = Within::on(&place.installation, StepSettings::default()).await;
    let api = within.api(&place.key);
    let backup = within
        .only_answering(async {
            let backup = api.back_up(&place.project).await;
            // whoever has it in hand dies of it
            queue.dies().await;
            let job = api.get(&place.backup_path(&backup)).await;
            assert_eq!(job["status"], "pending", "{job:#}");
            backup
        })
        .await;
    place.restart().await;
    let api = place.api();
    api.ends(&place.backup_path(&backup), "completed").await;
    api.verified(&place.project, &backup, 100).await;
    says(&place.installation, 1, &["messages that had failed too often are tried again", "moved=1"]).await;
    says(&place.installation, 1, &[&backup, "outcome=Started"]).await;
    queue.assert_empty().await;
}
