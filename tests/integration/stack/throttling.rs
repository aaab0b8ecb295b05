//! AWS says that it is asked too often.

use firebackup_testkit::{AwsCall, AwsFault};
use serde_json::json;

use super::api::path_of;
use super::deployed::{BOUND, Connected, Deployed};
use crate::stage::{assert_same, delete_all, read_all};

/// Every so many calls of a service are throttled.
fn every(interval: u64, service: &'static str) -> impl FnMut(&AwsCall) -> Option<AwsFault> + Send + 'static {
    let mut seen = 0u64;
    move |call| {
        seen += u64::from(call.service == service);
        (call.service == service && seen.is_multiple_of(interval)).then_some(AwsFault::Throttle)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_table_and_a_throttled_bucket_only_take_time() {
    let stack = Deployed::with("ChunkDocuments=50 PartDocuments=100").await;
    stack.api.add_destination(&stack.bucket_url()).await;
    let project = stack.project("demo-throttling", 400).await;
    let (stack, project) = (&stack, &project);
    stack.explaining("both throttled", there_and_back(stack, project)).await;
}

async fn there_and_back(stack: &Deployed, project: &Connected) {
    let before = read_all(&project.source).await;
    let faults = stack.aws_proxy.faults();
    faults.strike(every(3, "dynamodb"));
    faults.strike(every(5, "s3"));
    let path = stack.api.backup(&project.id).await;
    let backup = stack.api.reaches(&path, &["completed"], 2 * BOUND).await;
    assert_throttled(faults.struck().iter().map(|(call, _)| call.service.as_str()));
    delete_all(&project.source).await;
    let restore = stack.api.post("/backups/restore", json!({"backupId": backup["id"], "undo": false})).await;
    let restore = stack.api.reaches(&path_of(&restore), &["completed"], 2 * BOUND).await;
    let throttled = faults.clear();
    assert_throttled(throttled.iter().map(|(call, _)| call.service.as_str()));
    assert_eq!(restore["result"]["failed"], 0, "{restore:#}");
    assert_same(&read_all(&project.source).await, &before);
    stack.assert_whole(&backup, project).await;
}

fn assert_throttled<'s>(services: impl Iterator<Item = &'s str>) {
    let (mut table, mut bucket) = (0, 0);
    for service in services {
        table += u32::from(service == "dynamodb");
        bucket += u32::from(service == "s3");
    }
    assert!(table > 10 && bucket > 5, "the table was throttled {table} times, the bucket {bucket} times");
}
