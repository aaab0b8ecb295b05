//! Functions that die, or run out of time, in the middle of their work.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use firebackup_testkit::{AwsCall, AwsFault, Method};

use super::api::id_of;
use super::deployed::{BOUND, Connected, Deployed};

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
    stack.explaining("killed behind the manifest", killed_behind(stack, project, "/snapshots/", "backup-finalize")).await;
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
    let death = format!("execution error for firebackup-{function}");
    assert!(said.contains(&death), "no {function} has died: {said}");
    stack.assert_whole(&backup, project).await;
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
