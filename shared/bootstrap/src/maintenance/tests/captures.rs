//! What the queue of captures brings, with the queue in memory.

use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use firebackup_control::{
    CapturedWindow, EventOutcome, EventProof, JobEnd, PitrChange, PitrHealth, PushConfig, PushStatistics, WindowEnd,
};
use firebackup_model::port::JobQueue;
use firebackup_testkit::memory_issuer::account_token;

use super::*;
use crate::ingest::Ingest;
use crate::sqs::each_message;

/// For how long a window may take.
const TIME: Duration = Duration::from_secs(60);
/// For how long messages are hidden from others.
const HIDDEN: Duration = Duration::from_secs(600);

/// An installation whose project is captured, by nobody yet. No key opens the project: what is tried is noted as a failure.
struct Capturing {
    home: Home,
    queue: Arc<MemoryQueue>,
    ingest: Ingest,
    sweeps: Maintenance,
}

impl Capturing {
    async fn new() -> Self {
        let home = Home::new().await;
        let backup = home.started_backup().await;
        home.repository(&backup).await;
        home.control.finish_job(&home.worker, &backup.job.id, JobEnd::Completed(Box::default())).await.unwrap();
        let new = json!({ "projectId": home.project.id });
        home.control.enable_pitr(&home.owner, serde_json::from_value(new).unwrap()).await.unwrap();
        let queue = home.captures.clone();
        let ingest = Ingest::new(home.maintenance.steps.clone(), queue.clone(), TIME);
        let sweeps = Maintenance::new(home.maintenance.steps.clone()).with_captures(queue.clone());
        Self { home, queue, ingest, sweeps }
    }

    async fn tick(&self) {
        self.ingest.message(&message(r#"{"tick":"2026-03-10T02:00:00Z"}"#, None)).await.unwrap();
    }

    /// Does all messages that wait, each as the function is handed it; says how many there were.
    async fn work(&self) -> usize {
        let messages = self.queue.receive(10, Duration::ZERO, HIDDEN).await.unwrap();
        for taken in &messages {
            self.ingest.message(&message(&taken.body, Some(&taken.receipt))).await.unwrap();
            self.queue.delete(&taken.receipt).await.unwrap();
        }
        messages.len()
    }

    async fn health(&self) -> PitrHealth {
        self.home.control.pitr_health(&self.home.owner, &self.home.project.id, None).await.unwrap()
    }
}

fn message(body: &str, receipt: Option<&str>) -> SqsMessage {
    serde_json::from_value(json!({ "messageId": "m", "body": body, "receiptHandle": receipt })).unwrap()
}

#[tokio::test]
async fn a_tick_asks_for_what_is_due_and_each_message_is_one_window() {
    let all = Capturing::new().await;
    for _ in 0..3 {
        // a tick that comes twice, or the sweep beside it, asks for nothing more
        all.tick().await;
    }
    all.sweeps.run(&MaintenanceTask::Sweep).await.unwrap();
    assert_eq!(all.work().await, 1);
    let once = all.health().await;
    assert_eq!(once.failures, 1, "{once:?}");
    all.tick().await;
    assert_eq!(all.work().await, 0, "it is not due");
    all.home.clock.advance(60);
    all.tick().await;
    assert_eq!((all.work().await, all.health().await.failures), (1, 2));
}

#[tokio::test]
async fn a_message_that_comes_twice_or_at_once_in_two_places_is_one_window() {
    let all = Capturing::new().await;
    all.tick().await;
    let body = all.queue.drain().remove(0);
    let (one, other) = (message(&body, None), message(&body, None));
    let (first, second) = tokio::join!(all.ingest.message(&one), all.ingest.message(&other));
    assert!(first.is_ok() && second.is_ok());
    all.ingest.message(&one).await.unwrap();
    assert_eq!(all.health().await.failures, 1);
}

#[tokio::test]
async fn who_dies_with_a_window_is_followed_at_the_next_tick() {
    let all = Capturing::new().await;
    all.tick().await;
    let due = all.home.control.due_captures(1).await.unwrap().remove(0);
    // the function has claimed the window, and is gone: its message lies hidden
    all.home.control.claim_window(&all.home.worker, &due, 30).await.unwrap().unwrap();
    assert_eq!(all.queue.receive(10, Duration::ZERO, HIDDEN).await.unwrap().len(), 1);
    all.home.clock.advance(60);
    all.tick().await;
    assert_eq!((all.work().await, all.health().await.failures), (1, 1));
}

#[tokio::test]
async fn what_is_no_message_comes_again_and_the_others_do_not() {
    let all = Capturing::new().await;
    all.tick().await;
    let good = all.queue.drain().remove(0);
    let record = |id: &str, body: &str| json!({ "messageId": id, "body": body });
    let records = json!({ "Records": [record("bad", r#"{"job":null}"#), record("good", &good)] });
    let event: SqsEvent = serde_json::from_value(records).unwrap();
    let response = each_message(event, async |message| all.ingest.message(message).await).await;
    let failed: Vec<_> = response.batch_item_failures.iter().map(|item| item.item_identifier.as_str()).collect();
    assert_eq!((failed, all.health().await.failures), (vec!["bad"], 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_is_a_dead_letter_soon_but_not_before_others_are_moved_back() {
    let all = Capturing::new().await;
    all.queue.send("no message", Duration::ZERO).await.unwrap();
    let mut tries = 0;
    while let Some(taken) = all.queue.receive(1, Duration::from_secs(6), HIDDEN).await.unwrap().pop() {
        let failed = all.ingest.message(&message(&taken.body, Some(&taken.receipt))).await.unwrap_err();
        assert_eq!(failed.kind, StepErrorKind::Fatal);
        assert!(all.queue.receive(1, Duration::from_secs(4), HIDDEN).await.unwrap().is_empty());
        tries += 1;
    }
    assert_eq!((tries, all.queue.dead_letters().await.unwrap()), (5, 1));
}

#[tokio::test]
async fn a_queue_that_takes_nothing_brings_the_tick_back_and_does_not_end_a_sweep() {
    let all = Capturing::new().await;
    all.queue.fail(Some(ErrorKind::Unavailable));
    let tick = message(r#"{"tick":"2026-03-10T02:00:00Z"}"#, None);
    assert_eq!(all.ingest.message(&tick).await.unwrap_err().kind, StepErrorKind::Retryable);
    let swept = all.sweeps.run(&MaintenanceTask::Sweep).await.unwrap();
    assert_eq!(swept["failed"], 1, "{swept}");
    all.queue.fail(None);
    all.sweeps.run(&MaintenanceTask::Sweep).await.unwrap();
    assert_eq!(all.work().await, 1);
}

#[tokio::test]
async fn a_capture_that_nobody_goes_on_with_is_counted_by_each_sweep_and_told_by_one() {
    let all = Capturing::new().await;
    let (control, worker) = (&all.home.control, &all.home.worker);
    let due = control.due_captures(1).await.unwrap().remove(0);
    let claimed = control.claim_window(worker, &due, 30).await.unwrap().unwrap();
    let through = Some(all.home.maintenance.steps.places.world().now());
    let window = CapturedWindow { through, ..CapturedWindow::default() };
    control.end_window(worker, &claimed, &WindowEnd::Captured(Box::new(window))).await.unwrap();
    let sweep = async || all.sweeps.run(&MaintenanceTask::Sweep).await.unwrap()["capturesDegraded"].clone();
    assert_eq!((sweep().await, all.queue.drain().len()), (json!(0), 0));
    all.home.clock.advance(601);
    assert_eq!((sweep().await, sweep().await), (json!(1), json!(1)));
    let filter = AuditFilter { action: Some("pitr.degraded".to_owned()), ..AuditFilter::default() };
    assert_eq!(control.audit(&all.home.owner, &filter, &Page::default()).await.unwrap().items.len(), 1);
    assert_eq!(all.queue.drain().len(), 1, "the window that is due is asked for");
}

#[tokio::test]
async fn dead_letters_of_captures_are_moved_back_with_the_others() {
    let all = Capturing::new().await;
    all.queue.send("{}", Duration::ZERO).await.unwrap();
    while all.queue.dead_letters().await.unwrap() == 0 {
        all.queue.receive(1, Duration::ZERO, Duration::ZERO).await.unwrap();
    }
    assert_eq!(all.sweeps.run(&MaintenanceTask::Redrive).await.unwrap(), json!({ "moved": 1 }));
    assert_eq!(all.queue.drain(), ["{}"]);
}

const ACCOUNT: &str = "events@shop-1.iam.gserviceaccount.com";
const AUDIENCE: &str = "https://backup.example/events";

impl Capturing {
    /// The same, taking events.
    async fn taking() -> Self {
        let all = Self::new().await;
        let push =
            PushConfig { service_account: Some(ACCOUNT.to_owned()), audience: Some(AUDIENCE.to_owned()), hmac: false };
        let change = PitrChange { push: Some(Some(push)), ..PitrChange::default() };
        all.home.control.update_pitr(&all.home.owner, &all.home.project.id, None, &change).await.unwrap();
        all
    }

    async fn post(&self, id: &str) {
        let event = json!({
            "specversion": "1.0", "id": id, "type": "google.cloud.firestore.document.v1.written",
            "source": "//firestore.googleapis.com/projects/shop-1/databases/(default)", "document": "users/a",
            "time": "2023-11-14T22:13:20Z",
            "data": { "value": {
                "name": "projects/shop-1/databases/(default)/documents/users/a", "fields": { "id": { "stringValue": id } },
                "createTime": "2023-11-14T22:13:20Z", "updateTime": format!("2023-11-14T22:13:20.{id}Z"),
            } },
        });
        let (control, project) = (&self.home.control, &self.home.project.id);
        let proof = EventProof::Token(account_token(ACCOUNT, AUDIENCE).into());
        let sender = control.event_sender(project, None, Some(proof)).await.unwrap();
        let headers = [("content-type", "application/cloudevents+json".as_bytes())];
        let taken = control.take_event(sender, &headers, event.to_string().as_bytes()).await.unwrap();
        assert_eq!(taken.outcome, EventOutcome::Buffered);
    }

    async fn push(&self) -> PushStatistics {
        let told = self.home.control.pitr_statistics(&self.home.owner, &self.home.project.id, None).await.unwrap();
        told.push.unwrap()
    }
}

#[tokio::test]
async fn the_first_event_has_all_folded_and_a_tick_what_came_since() {
    let all = Capturing::taking().await;
    all.post("1").await;
    all.post("2").await;
    assert_eq!(all.work().await, 1, "one message for both");
    assert_eq!((all.push().await.folded, all.push().await.backlog), (2, 0));
    all.post("3").await;
    let wake = all.queue.drain();
    assert_eq!(wake.len(), 1, "nothing waited: whoever comes first wakes again");
    // that message is lost; the tick asks for it, a sweep beside it does not once more
    all.tick().await;
    all.sweeps.run(&MaintenanceTask::Sweep).await.unwrap();
    let asked: Vec<_> = all.queue.drain().into_iter().filter(|body| body.contains("fold")).collect();
    assert_eq!(asked, wake);
    let fold = message(&asked[0], None);
    let (one, other) = tokio::join!(all.ingest.message(&fold), all.ingest.message(&fold));
    assert!(one.is_ok() && other.is_ok());
    all.ingest.message(&fold).await.unwrap();
    let push = all.push().await;
    assert_eq!((push.received, push.folded, push.backlog), (3, 3, 0));
}

#[tokio::test]
async fn events_that_cannot_be_folded_wait_and_call_nobody() {
    let all = Capturing::taking().await;
    all.post("1").await;
    let repository = all.home.folder.path().join(all.home.project.id.to_string());
    let away = repository.with_extension("away");
    std::fs::rename(&repository, &away).unwrap();
    assert_eq!(all.work().await, 1);
    assert_eq!((all.push().await.folded, all.push().await.backlog), (0, 1));
    std::fs::rename(&away, &repository).unwrap();
    all.home.clock.advance(60);
    all.tick().await;
    assert!(all.work().await >= 1);
    assert_eq!((all.push().await.folded, all.push().await.backlog), (1, 0));
}
