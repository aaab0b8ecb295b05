//! Functions that die, or run out of time, in the middle of their work.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use firebackup_testkit::{AwsCall, AwsFault, Method, eventually};
use serde_json::json;

use super::api::{id_of, path_of};
use super::deployed::{BOUND, Connected, Deployed};
use crate::stage::{assert_same, delete_all, read_all};

/// A rule that strikes the first call that fits.
fn once(fits: impl Fn(&AwsCall) -> bool + Send + 'static) -> impl FnMut(&AwsCall) -> Option<AwsFault> + Send + 'static {
    let mut has_struck = false;
    move |call| {
        let strikes = !has_struck && fits(call);
        has_struck |= strikes;
        strikes.then_some(AwsFault::KillCaller)
    }
}

fn puts(call: &AwsCall, what: &str) -> bool {
    call.service == "s3" && call.operation == "PUT" && call.path.contains(what)
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_die_or_run_out_of_time_lose_nothing() {
    let stack = Deployed::with("ChunkDocuments=600 PartDocuments=400 StepSeconds=1").await;
    stack.api.add_destination(&stack.bucket_url()).await;
    let project = stack.project("demo-deaths", 1500).await;
    let (stack, project) = (&stack, &project);
    stack.explaining("killed behind a run", killed_behind(stack, project, "/runs/", "backup-chunk")).await;
    stack.explaining("killed behind the plan", killed_behind(stack, project, "/receipts/", "backup-plan")).await;
    stack
        .explaining("killed behind the manifest", killed_behind(stack, project, "/snapshots/", "backup-finalize"))
        .await;
    stack.explaining("no end on record", no_end_on_record(stack, project)).await;
    stack.explaining("killed behind a restored part", killed_while_restoring(stack, project)).await;
    stack.explaining("out of time", out_of_time(stack, project)).await;
}

/// The function that has put such an object is killed before it knows; the job completes all the same, and is listed once.
async fn killed_behind(stack: &Deployed, project: &Connected, what: &'static str, function: &str) {
    let faults = stack.aws_proxy.faults();
    let before = faults.killed().len();
    faults.strike(once(move |call| puts(call, what)));
    let path = stack.api.backup(&project.id).await;
    let backup = stack.api.reaches(&path, &["completed"], BOUND).await;
    assert_eq!((faults.clear().len(), faults.killed().len() - before), (1, 1));
    let said = stack.ministack.output();
    let death = format!("Lambda firebackup-{function}: Runtime exited before returning a response");
    assert!(said.contains(&death), "no {function} has died: {said}");
    stack.assert_whole(&backup, project).await;
}

/// The manifest is put, and then the table takes nothing: no function can say that the backup is complete, and somebody
/// stops the execution that tries and tries. What is committed counts all the same: the sweep finds it.
async fn no_end_on_record(stack: &Deployed, project: &Connected) {
    let mut is_committed = false;
    let faults = stack.aws_proxy.faults();
    faults.strike(move |call| {
        is_committed |= puts(call, "/snapshots/");
        let writes = call.service == "dynamodb" && !["GetItem", "BatchGetItem", "Query"].contains(&&*call.operation);
        (is_committed && writes).then_some(AwsFault::Refuse)
    });
    let path = stack.api.backup(&project.id).await;
    let said = "something failed on our side";
    eventually("finalize has failed twice", BOUND, async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let lines = stack.aws.logs("firebackup-backup-finalize").await;
        let failed = lines.iter().filter(|line| line.contains("Retryable") && line.contains(said)).count();
        (failed >= 2).then_some(())
    })
    .await;
    let executions = stack.aws.executions(stack.output("BackupStateMachineArn"), id_of(&path)).await;
    stack.aws.stop(executions[0]["executionArn"].as_str().unwrap()).await;
    stack.execution_ends(id_of(&path), "ABORTED").await;
    assert!(!faults.clear().is_empty());
    assert_eq!(stack.api.get(&path).await["status"], "running", "nobody could say anything else");
    let listed = stack.listed(&project.id).await;
    assert!(listed.iter().any(|listed| listed == id_of(&path)), "{listed:?}");
    let swept = stack.aws.invoke(stack.output("MaintenanceFunctionName"), json!({"task": "sweep"})).await;
    assert_eq!((&swept["finalized"], &swept["failed"]), (&json!(1), &json!(0)), "{swept:#}");
    let backup = stack.api.reaches(&path, &["completed"], BOUND).await;
    stack.assert_whole(&backup, project).await;
}

/// The function that has put back a part is killed before it can say so; every document is there in the end.
async fn killed_while_restoring(stack: &Deployed, project: &Connected) {
    let before = read_all(&project.source).await;
    let backup = stack.api.backup(&project.id).await;
    stack.api.reaches(&backup, &["completed"], BOUND).await;
    delete_all(&project.source).await;
    let faults = stack.aws_proxy.faults();
    let killed = faults.killed().len();
    faults.strike(once(|call| puts(call, "/parts/")));
    let restore = stack.api.post("/backups/restore", json!({"backupId": id_of(&backup)})).await;
    let restore = stack.api.reaches(&path_of(&restore), &["completed"], BOUND).await;
    assert_eq!((faults.clear().len(), faults.killed().len() - killed), (1, 1));
    assert_eq!(restore["result"]["failed"], 0, "{restore:#}");
    assert_same(&read_all(&project.source).await, &before);
}

/// Each query takes longer than a step may: chunks are done in several steps, none of which does anything twice.
async fn out_of_time(stack: &Deployed, project: &Connected) {
    let (google, receipts) = (stack.google_proxy.control().clone(), Arc::<Mutex<Vec<String>>>::default());
    let seen = Arc::clone(&receipts);
    stack.aws_proxy.faults().strike(move |call| {
        // the plan is made: what is read now is read by chunks
        if puts(call, "/chunks.jsonl") {
            google.delay(Method::RunQuery, Duration::from_millis(1300));
        }
        if puts(call, "/receipts/") {
            seen.lock().unwrap().push(call.path.clone());
        }
        None
    });
    let path = stack.api.backup(&project.id).await;
    let backup = stack.api.reaches(&path, &["completed"], BOUND).await;
    stack.google_proxy.control().clear_faults();
    stack.aws_proxy.faults().clear();
    let prefix = format!("/receipts/{}/", id_of(&path));
    let receipts = receipts.lock().unwrap().clone();
    let steps: Vec<(u32, u32)> = receipts.iter().filter_map(|path| step_of(path, &prefix)).collect();
    let chunks = backup["chunks"].as_u64().unwrap();
    assert!(steps.iter().any(|(_, sequence)| *sequence > 0), "nobody has handed over: {receipts:?}");
    assert!(steps.len() as u64 > chunks, "{steps:?} of {chunks} chunks");
    stack.assert_whole(&backup, project).await;
}

/// Chunk and sequence number of a receipt.
fn step_of(path: &str, prefix: &str) -> Option<(u32, u32)> {
    let (_, step) = path.split_once(prefix)?;
    let (chunk, sequence) = step.split_once('/')?;
    Some((chunk.parse().ok()?, sequence.parse().ok()?))
}
