//! Changes that the stack captures: a tick of its scheduler, windows, moments that are put back; messages that come twice, die or are
//! none.

use std::time::Duration;

use bytes::Bytes;
use firebackup_codec::typed_json::read_json;
use firebackup_google::Firestore;
use firebackup_model::port::{Precondition, Write};
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use firebackup_testkit::{AwsCall, AwsFault, eventually};
use serde_json::{Value, json};

use super::api::path_of;
use super::captured_history;
use super::deployed::{BOUND, Deployed};
use crate::stage::{Documents, assert_same, firestore, read_all, write};

pub const GOOGLE: &str = "demo-captures";
/// Until a tick finds the first backup complete, which it looks for once a minute.
const UNTIL_CAPTURED: Duration = Duration::from_secs(240);
/// For how long the template's queue hides a message.
const HIDDEN_SECONDS: u32 = 5400;

/// A project whose changes are captured, and who writes them.
pub struct Captured {
    pub stack: Deployed,
    pub project: String,
    pub source: Firestore,
}

impl Captured {
    fn route(&self, what: &str) -> String {
        format!("/pitr/{}/{what}", self.project)
    }

    /// What a tick sends for the database.
    fn message(&self) -> String {
        let organization = &self.stack.organization;
        json!({"organization": organization, "project": self.project, "database": "(default)"}).to_string()
    }

    /// A window is due now: nobody waits a minute for it. Who captures is told by hand.
    pub async fn is_due(&self) {
        self.stack.api.post(&self.route("pause"), json!({})).await;
        self.stack.api.post(&self.route("resume"), json!({})).await;
    }

    pub async fn send(&self, id: &str) {
        let queue = self.stack.output("PitrQueueUrl");
        self.stack.aws.send_in_turn(queue, &self.message(), (&self.project, id)).await;
    }

    /// Two functions are given the same message, past the queue that keeps them apart.
    pub async fn twice_at_once(&self) {
        let event = || json!({"Records": [{"messageId": "one", "body": self.message()}]});
        let invoke = || self.stack.aws.invoke("firebackup-pitr-ingest", event());
        let (one, other) = tokio::join!(invoke(), invoke());
        assert_eq!((&one["batchItemFailures"], &other["batchItemFailures"]), (&json!([]), &json!([])), "{one} {other}");
    }

    async fn put(&self, path: &str, n: i64) {
        let name = DatabaseName::new(GOOGLE, "(default)").document_name(path);
        let json = format!(r#"{{"name": "{name}", "fields": {{"n": {{"integerValue": "{n}"}}}}}}"#);
        let (path, document) = (DocumentPath::new(path).unwrap(), Some(Bytes::from(read_json(&json).unwrap())));
        write(&self.source, vec![Write { path, document, precondition: Precondition::None }]).await;
    }

    /// What the database holds, and when the last document was put.
    async fn now(&self) -> (Documents, Timestamp) {
        let documents = read_all(&self.source).await;
        let put = documents.values().filter_map(|bytes| firebackup_model::document::head(bytes).unwrap().update_time);
        let last = put.max().unwrap();
        (documents, last)
    }

    /// Waits until everything up to a time is proven: the moment that is. Windows that follow at once are not, the next one
    /// by the clock is.
    pub async fn proven(&self, after: Timestamp) -> Timestamp {
        self.comes_through(("health", "provenThrough"), after).await
    }

    /// Waits until everything up to a time stands in segments, proven or not: up to where.
    pub async fn captured(&self, after: Timestamp) -> Timestamp {
        self.comes_through(("statistics", "capturedThrough"), after).await
    }

    async fn comes_through(&self, (route, what): (&str, &str), after: Timestamp) -> Timestamp {
        eventually(what, UNTIL_CAPTURED, async || {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let shown = self.stack.api.get(&self.route(route)).await;
            let through: Timestamp = shown[what].as_str()?.parse().unwrap();
            (through >= after).then_some(through)
        })
        .await
    }

    pub async fn assert_no_gap(&self) {
        let windows = self.stack.api.get(&self.route("windows")).await;
        assert_eq!((&windows["total"], &windows["gaps"]), (&json!(1), &json!([])), "{windows:#}");
    }

    /// The last moment before the gap and the first one behind it, of which there is one.
    pub async fn only_gap(&self) -> (Timestamp, Timestamp) {
        let windows = self.stack.api.get(&self.route("windows")).await;
        let gaps = windows["gaps"].as_array().unwrap();
        assert_eq!((&windows["total"], gaps.len()), (&json!(2), 1), "{windows:#}");
        let edge = |which: &str| gaps[0][which].as_str().unwrap().parse::<Timestamp>().unwrap();
        (edge("after"), edge("until"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_captured_and_any_moment_is_put_back() {
    let stack = Deployed::listening("ChunkDocuments=60 PartDocuments=60").await;
    stack.api.add_destination(&stack.bucket_url()).await;
    let project = stack.project(GOOGLE, 100).await.id;
    let source = firestore(&stack.google_proxy.host(), &DatabaseName::new(GOOGLE, "(default)")).await;
    let all = Captured { stack, project, source };
    let explained = &all.stack;
    explained.explaining("by the scheduler", by_the_scheduler(&all)).await;
    explained.explaining("put back", put_back(&all)).await;
    explained.explaining("built upon and merged", built_upon_and_merged(&all)).await;
    explained.explaining("twice", twice(&all)).await;
    explained.explaining("two at once", two_at_once(&all)).await;
    explained.explaining("killed", killed(&all)).await;
    explained.explaining("random history", captured_history::happens(&all)).await;
    explained.explaining("poison", poison(&all)).await;
}

/// Enabled, a backup is made to begin from, and the scheduler's tick has it captured: nobody does anything by hand.
async fn by_the_scheduler(all: &Captured) {
    let api = &all.stack.api;
    let pitr = api.post("/pitr/enable", json!({"projectId": all.project})).await;
    assert_eq!(pitr["status"], "initializing", "{pitr:#}");
    let backup = format!("/backups/{}/{}", all.project, pitr["initialBackupId"].as_str().unwrap());
    api.reaches(&backup, &["completed"], BOUND).await;
    eventually("a first window", UNTIL_CAPTURED, async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (api.get(&all.route("config")).await["status"] == "active").then_some(())
    })
    .await;
    let lines = all.stack.aws.logs("firebackup-pitr-ingest").await;
    assert!(lines.iter().any(|line| line.contains("databases are to be captured")), "no tick has come: {lines:#?}");
}

async fn put_back(all: &Captured) {
    all.put("users/first", 1).await;
    let (first, put_at) = all.now().await;
    all.is_due().await;
    all.send("first").await;
    let at = all.proven(put_at).await;
    all.put("users/first", 2).await;
    all.put("orders/second", 2).await;
    let (_, put_at) = all.now().await;
    all.is_due().await;
    all.send("second").await;
    all.proven(put_at).await;
    all.assert_no_gap().await;
    let asked = json!({"projectId": all.project, "pointInTime": at, "exact": true, "mode": "mirror"});
    let restore = all.stack.api.post("/pitr/restore", asked).await;
    assert_eq!(restore["moment"]["consistentPoint"], json!(at), "{restore:#}");
    let done = all.stack.api.reaches(&path_of(&restore), &["completed"], BOUND).await;
    assert_eq!((&done["result"]["failed"], &done["result"]["deleted"]), (&json!(0), &json!(1)), "{done:#}");
    assert_same(&read_all(&all.source).await, &first);
}

/// The deployed state machine makes an incremental backup of what was captured, and a synthetic one, of which neither reads.
async fn built_upon_and_merged(all: &Captured) {
    all.put("users/merged", 1).await;
    let (documents, put_at) = all.now().await;
    all.is_due().await;
    all.send("merged").await;
    all.proven(put_at).await;
    for kind in ["incremental", "synthetic"] {
        let asked = all.stack.api.post("/backups", json!({"projectId": all.project, "type": kind})).await;
        let backup = all.stack.api.reaches(&path_of(&asked), &["completed"], BOUND).await;
        let result = &backup["result"];
        assert_eq!((&result["kind"], &result["reads"]), (&json!(kind), &json!(0)), "{backup:#}");
        assert_eq!(result.get("parent").is_some(), kind == "incremental", "{backup:#}");
        let asked = json!({"backupId": backup["id"], "mode": "mirror", "dryRun": true});
        let restore = all.stack.api.post("/backups/restore", asked).await;
        let same = all.stack.api.reaches(&path_of(&restore), &["completed"], BOUND).await;
        let changes = ["written", "deleted", "same"].map(|count| same["result"][count].as_u64().unwrap());
        assert_eq!(changes, [0, 0, documents.len() as u64], "{same:#}");
    }
}

/// A window's message comes again when it is done: nothing is captured twice, and nothing fails.
async fn twice(all: &Captured) {
    all.put("users/twice", 1).await;
    let (_, put_at) = all.now().await;
    all.is_due().await;
    for id in ["once", "once", "again"] {
        all.send(id).await;
    }
    all.captured(put_at).await;
    all.stack.is_empty(all.stack.output("PitrQueueUrl")).await;
    all.assert_no_gap().await;
    assert_eq!(all.stack.aws.waiting(all.stack.output("PitrDeadLettersUrl")).await, 0);
    let health: Value = all.stack.api.get(&all.route("health")).await;
    assert_eq!((&health["status"], &health["failures"]), (&json!("active"), &json!(0)), "{health:#}");
}

/// Two functions at one time: one captures, and the chain is one.
async fn two_at_once(all: &Captured) {
    all.put("users/two", 1).await;
    let (_, put_at) = all.now().await;
    all.is_due().await;
    all.twice_at_once().await;
    all.captured(put_at).await;
    all.assert_no_gap().await;
}

/// The function dies behind the segment that it has put. Its claim ends, its message comes again or the next tick does, and
/// whoever follows goes on behind that segment.
async fn killed(all: &Captured) {
    let faults = all.stack.aws_proxy.faults();
    let (before, mut has_struck) = (faults.killed().len(), false);
    faults.strike(move |call| {
        let strikes =
            !has_struck && call.service == "s3" && call.operation == "PUT" && call.path.contains("/segments/");
        has_struck |= strikes;
        strikes.then_some(AwsFault::KillCaller)
    });
    all.put("users/killed", 1).await;
    let (_, put_at) = all.now().await;
    all.is_due().await;
    all.send("killed").await;
    eventually("it is killed", BOUND, async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (faults.killed().len() > before).then_some(())
    })
    .await;
    faults.clear();
    all.proven(put_at).await;
    all.assert_no_gap().await;
}

/// What is no message is a dead letter soon, and so is a window's message while the table cannot be read. Moved back, the one is a
/// dead letter again and the other is done.
async fn poison(all: &Captured) {
    let (queue, dead) = (all.stack.output("PitrQueueUrl"), all.stack.output("PitrDeadLettersUrl"));
    let poison = r#"{"not": "a window"}"#;
    let are_dead = async |letters: u64| {
        eventually("they are dead letters", BOUND, async || {
            tokio::time::sleep(Duration::from_millis(500)).await;
            (all.stack.aws.waiting(dead).await == letters).then_some(())
        })
        .await;
    };
    // of what is paused no tick sends a message
    all.stack.api.post(&all.route("pause"), json!({})).await;
    all.stack.is_empty(queue).await;
    fail_sooner(all).await;
    all.stack.aws.send_in_turn(queue, poison, ("poison", "poison")).await;
    all.send("mended").await;
    are_dead(2).await;
    let refused = all.stack.aws_proxy.faults().clear();
    assert!(refused.iter().filter(|(call, _)| is_read(call)).count() >= 5, "{refused:?}");
    all.stack.aws.hide_messages_for(queue, HIDDEN_SECONDS).await;

    all.put("users/beside", 1).await;
    let (_, put_at) = all.now().await;
    all.stack.api.post(&all.route("resume"), json!({})).await;
    let redriven = all.stack.aws.invoke(all.stack.output("MaintenanceFunctionName"), json!({"task": "redrive"})).await;
    assert_eq!(redriven, json!({"moved": 2}));
    all.captured(put_at).await;
    are_dead(1).await;
    // the other one does not wait to be tried again, and is no dead letter: it is done
    all.stack.is_empty(queue).await;
    assert_eq!(all.stack.aws.waiting(dead).await, 1);
    assert_eq!(all.stack.aws.peek(dead).await.into_iter().collect::<Vec<_>>(), [poison]);
    let disabled = all.stack.api.post(&all.route("disable"), json!({})).await;
    assert_eq!(disabled["status"], "disabled");
}

/// Who captures can read no record, and cannot say for how long a message is theirs: it comes again when the queue says so, which
/// is in five seconds.
async fn fail_sooner(all: &Captured) {
    all.stack.aws.hide_messages_for(all.stack.output("PitrQueueUrl"), 5).await;
    all.stack.aws_proxy.faults().strike(|call| {
        let is_hold = call.service == "sqs" && call.operation == "ChangeMessageVisibility";
        (is_hold || is_read(call)).then_some(AwsFault::Refuse)
    });
}

fn is_read(call: &AwsCall) -> bool {
    call.service == "dynamodb" && call.operation == "GetItem"
}
