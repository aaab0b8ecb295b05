//! Jobs that are ended from outside, jobs that wait for one another, and jobs that are asked for twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use firebackup_google::sample::sample;
use firebackup_model::DatabaseName;
use firebackup_testkit::{Method, eventually};
use serde_json::{Value, json};

use super::api::{id_of, path_of};
use super::deployed::{BOUND, Connected, Deployed};
use crate::stage::{Documents, assert_same, read_all, write_all};

const SLOW: Duration = Duration::from_secs(3);
const CHUNKS_AT_ONCE: usize = 2;
/// Each edit is another one.
static SEEDS: AtomicU64 = AtomicU64::new(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_as_it_was_told_to_and_leaves_nothing_half_done() {
    let stack = Deployed::with(&format!("ChunkDocuments=60 PartDocuments=60 MapConcurrency={CHUNKS_AT_ONCE}")).await;
    stack.api.add_destination(&stack.bucket_url()).await;
    let project = stack.project("demo-endings", 400).await;
    let (stack, project) = (&stack, &project);
    stack.explaining("cancelled", cancelled(stack, project)).await;
    stack.explaining("stopped", stopped(stack, project)).await;
    stack.explaining("one after the other", one_after_the_other(stack, project)).await;
    stack.explaining("asked for twice", asked_for_twice(stack, project)).await;
    // last, for they change the documents
    stack.explaining("a restore is stopped", stopped_restore(stack, project)).await;
    stack.explaining("a restore is cancelled", cancelled_restore(stack, project)).await;
}

/// A backup whose chunks are at work, slowly.
async fn at_work(stack: &Deployed, project: &Connected) -> String {
    let path = stack.api.backup(&project.id).await;
    eventually("chunks are at work", BOUND, async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let has_plan = stack.api.get(&path).await["chunks"].as_u64().is_some();
        has_plan.then_some(())
    })
    .await;
    stack.google_proxy.control().delay(Method::RunQuery, SLOW);
    let before = stack.google_proxy.control().counts().requests_of(Method::RunQuery);
    eventually("a chunk is read", BOUND, async || {
        let now = stack.google_proxy.control().counts().requests_of(Method::RunQuery);
        (now > before).then_some(())
    })
    .await;
    path
}

async fn assert_not_listed(stack: &Deployed, project: &Connected, path: &str) {
    let listed = stack.listed(&project.id).await;
    assert!(!listed.iter().any(|listed| listed == id_of(path)), "{listed:?}");
}

/// Nothing of it is listed, and nothing of it is left.
async fn assert_nothing_left(stack: &Deployed, project: &Connected, path: &str) {
    assert_not_listed(stack, project, path).await;
    assert_eq!(stack.traces(&project.id, id_of(path)).await, [""; 0]);
}

async fn cancelled(stack: &Deployed, project: &Connected) {
    let path = at_work(stack, project).await;
    let asked = stack.api.post(&format!("{path}/cancel"), Value::Null).await;
    assert_eq!(asked["status"], "cancelling", "{asked:#}");
    let job = stack.api.reaches(&path, &["cancelled"], BOUND).await;
    assert_eq!(job["error"], Value::Null, "a cancelled job has not failed: {job:#}");
    // for the machine that is no failure: nobody is to be woken
    stack.execution_ends(id_of(&path), "SUCCEEDED").await;
    stack.google_proxy.control().clear_faults();
    assert_nothing_left(stack, project, &path).await;
}

/// Whoever stops the execution in the console ends the job; the sweep says so.
async fn stopped(stack: &Deployed, project: &Connected) {
    let path = at_work(stack, project).await;
    let executions = stack.aws.executions(stack.output("BackupStateMachineArn"), id_of(&path)).await;
    stack.aws.stop(executions[0]["executionArn"].as_str().unwrap()).await;
    stack.execution_ends(id_of(&path), "ABORTED").await;
    stack.google_proxy.control().clear_faults();
    assert_eq!(stack.api.get(&path).await["status"], "running", "nobody has ended the job yet");
    let swept = stack.aws.invoke(stack.output("MaintenanceFunctionName"), json!({"task": "sweep"})).await;
    assert_eq!((&swept["finalized"], &swept["failed"]), (&json!(1), &json!(0)), "{swept:#}");
    let job = stack.api.reaches(&path, &["failed"], BOUND).await;
    assert!(job["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{job:#}");
    assert_not_listed(stack, project, &path).await;
    // each of the functions that were still at work may put a receipt yet, which is then for a prune to remove
    let left = stack.traces(&project.id, id_of(&path)).await;
    assert!(left.len() <= CHUNKS_AT_ONCE && left.iter().all(|path| path.contains("/receipts/")), "{left:?}");
}

/// A backup of before, other documents in its place, and a restore that has written some of them back, slowly.
async fn restoring(stack: &Deployed, project: &Connected) -> (Documents, String) {
    let path = stack.api.backup(&project.id).await;
    stack.api.reaches(&path, &["completed"], BOUND).await;
    let database = DatabaseName::new("demo-endings", "(default)");
    write_all(&project.source, sample(&database, 400, SEEDS.fetch_add(1, Ordering::SeqCst))).await;
    let edited = read_all(&project.source).await;
    stack.google_proxy.control().delay(Method::BatchWrite, SLOW);
    let wanted = json!({"backupId": id_of(&path), "mode": "mirror"});
    let restore = path_of(&stack.api.post("/backups/restore", wanted).await);
    eventually("a document is written back", BOUND, async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (read_all(&project.source).await != edited).then_some(())
    })
    .await;
    (edited, restore)
}

/// What a restore that ended in the middle had replaced can be put back.
async fn assert_taken_back(stack: &Deployed, project: &Connected, restore: &str, edited: &Documents) {
    stack.google_proxy.control().clear_faults();
    assert_ne!(read_all(&project.source).await, *edited, "it ended in the middle");
    let undo = path_of(&stack.api.post("/backups/restore", json!({"backupId": id_of(restore)})).await);
    stack.api.reaches(&undo, &["completed"], BOUND).await;
    assert_same(&read_all(&project.source).await, edited);
}

/// Whoever stops the execution of a restore ends it; the sweep makes an undo of what it had replaced.
async fn stopped_restore(stack: &Deployed, project: &Connected) {
    let (edited, restore) = restoring(stack, project).await;
    let executions = stack.aws.executions(stack.output("RestoreStateMachineArn"), id_of(&restore)).await;
    stack.aws.stop(executions[0]["executionArn"].as_str().unwrap()).await;
    stack.execution_ends(id_of(&restore), "ABORTED").await;
    let swept = stack.aws.invoke(stack.output("MaintenanceFunctionName"), json!({"task": "sweep"})).await;
    assert_eq!((&swept["finalized"], &swept["failed"]), (&json!(1), &json!(0)), "{swept:#}");
    stack.api.reaches(&restore, &["failed"], BOUND).await;
    // a function that was at work then may have a batch under way, and finds after it that the undo is closed
    nobody_writes(stack).await;
    assert_taken_back(stack, project, &restore, &edited).await;
}

/// Waits until no batch was asked for in longer than the proxy holds one up.
async fn nobody_writes(stack: &Deployed) {
    let written = || stack.google_proxy.control().counts().requests_of(Method::BatchWrite);
    eventually("nobody writes", BOUND, async || {
        let before = written();
        tokio::time::sleep(SLOW + Duration::from_secs(1)).await;
        (written() == before).then_some(())
    })
    .await;
}

async fn cancelled_restore(stack: &Deployed, project: &Connected) {
    let (edited, restore) = restoring(stack, project).await;
    stack.api.post(&format!("{restore}/cancel"), Value::Null).await;
    stack.api.reaches(&restore, &["cancelled"], BOUND).await;
    stack.execution_ends(id_of(&restore), "SUCCEEDED").await;
    assert_taken_back(stack, project, &restore, &edited).await;
}

async fn one_after_the_other(stack: &Deployed, project: &Connected) {
    let api = &stack.api;
    api.ask("PUT", "/organizations/current", &json!({"maxRunningJobs": 1})).await;
    let first = at_work(stack, project).await;
    let second = api.backup(&project.id).await;
    // its message has come, and has found no place
    stack.says("job-start", id_of(&second), "Busy").await;
    let statuses = [api.get(&first).await["status"].clone(), api.get(&second).await["status"].clone()];
    assert_eq!(statuses, ["running", "pending"]);
    stack.google_proxy.control().clear_faults();
    let first = api.reaches(&first, &["completed"], BOUND).await;
    let second = api.reaches(&second, &["completed"], BOUND).await;
    let time = |job: &Value, name: &str| job[name].as_str().unwrap().parse::<firebackup_model::Timestamp>().unwrap();
    assert!(time(&second, "startedAt") >= time(&first, "endedAt"), "{first:#} {second:#}");
    for job in [&first, &second] {
        stack.assert_whole(job, project).await;
    }
    api.ask("PUT", "/organizations/current", &json!({"maxRunningJobs": 5})).await;
}

async fn asked_for_twice(stack: &Deployed, project: &Connected) {
    let api = &stack.api;
    let before = stack.listed(&project.id).await.len();
    let (new, once) = (json!({"projectId": project.id}), Some("the-very-same"));
    let (first, second) =
        tokio::join!(api.ask_once("POST", "/backups", &new, once), api.ask_once("POST", "/backups", &new, once));
    assert_eq!(first["id"], second["id"]);
    let job = api.reaches(&path_of(&first), &["completed"], BOUND).await;
    stack.assert_whole(&job, project).await;
    let again = api.ask_once("POST", "/backups", &new, once).await;
    assert_eq!(again["id"], first["id"]);
    let another = api.ask_once("POST", "/backups", &new, Some("another")).await;
    assert_ne!(another["id"], first["id"], "a key of its own is a job of its own");
    let another = api.reaches(&path_of(&another), &["completed"], BOUND).await;
    stack.assert_whole(&another, project).await;
    assert_eq!(stack.listed(&project.id).await.len(), before + 2);
}
