//! Messages that come twice, messages that are none, and messages that nobody could act on when they came.

use std::time::Duration;

use firebackup_testkit::{AwsFault, Method, eventually};
use serde_json::json;

use super::api::id_of;
use super::deployed::{BOUND, Connected, Deployed};

#[tokio::test(flavor = "multi_thread")]
async fn messages_may_come_twice_or_be_none_or_come_at_a_bad_time() {
    let stack = Deployed::with("ChunkDocuments=60 PartDocuments=60").await;
    stack.api.add_destination(&stack.bucket_url()).await;
    let project = stack.project("demo-messages", 300).await;
    let (stack, project) = (&stack, &project);
    stack.explaining("twice", twice(stack, project)).await;
    stack.explaining("dead letters", dead_letters(stack, project)).await;
}

fn message(stack: &Deployed, path: &str) -> String {
    json!({"job": id_of(path), "organization": stack.organization}).to_string()
}

/// A job's message comes again while it runs, and again when it has ended: one execution, one backup.
async fn twice(stack: &Deployed, project: &Connected) {
    let queue = stack.output("JobsQueueUrl");
    stack.google_proxy.control().delay(Method::RunQuery, Duration::from_secs(1));
    let path = stack.api.backup(&project.id).await;
    let id = id_of(&path);
    stack.says("job-start", id, "outcome\":\"Started").await;
    for _ in 0..2 {
        stack.aws.send(queue, &message(stack, &path)).await;
    }
    stack.says("job-start", id, "AlreadyStarted").await;
    stack.google_proxy.control().clear_faults();
    let backup = stack.api.reaches(&path, &["completed"], BOUND).await;
    stack.aws.send(queue, &message(stack, &path)).await;
    stack.says("job-start", id, "Ended").await;
    stack.is_empty(queue).await;
    assert_eq!(stack.aws.executions(stack.output("BackupStateMachineArn"), id).await.len(), 1);
    assert_eq!(stack.aws.waiting(stack.output("JobsDeadLettersUrl")).await, 0);
    assert_eq!(stack.api.get(&path).await, backup, "an end is for ever");
    stack.assert_whole(&backup, project).await;
}

/// What is no message, and what came while no job could be started, are dead letters in the end. Moved back, the one is
/// again a dead letter and the other a job that is done.
async fn dead_letters(stack: &Deployed, project: &Connected) {
    let (queue, dead) = (stack.output("JobsQueueUrl"), stack.output("JobsDeadLettersUrl"));
    // a message that failed comes again in a second, and not in six minutes
    stack.aws.hide_messages_for(queue, 1).await;
    stack
        .aws_proxy
        .faults()
        .strike(|call| (call.service == "states" && call.operation == "StartExecution").then_some(AwsFault::Refuse));
    let poison = r#"{"not": "a job"}"#;
    stack.aws.send(queue, poison).await;
    let path = stack.api.backup(&project.id).await;
    let letters = [poison.to_owned(), message(stack, &path)];
    eventually("both are dead letters", BOUND, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        (stack.aws.waiting(dead).await == 2).then_some(())
    })
    .await;
    let is_letter = |body: &String| letters.iter().any(|letter| same_json(letter, body));
    let bodies = stack.aws.peek(dead).await;
    assert!(bodies.iter().all(is_letter) && bodies.len() == 2, "{bodies:?}");
    let refused = stack.aws_proxy.faults().clear().len();
    assert!(refused >= 5, "the state machine was asked {refused} times");
    assert!(stack.aws.executions(stack.output("BackupStateMachineArn"), id_of(&path)).await.is_empty());

    let redriven = stack.aws.invoke(stack.output("MaintenanceFunctionName"), json!({"task": "redrive"})).await;
    assert_eq!(redriven, json!({"moved": 2}));
    let backup = stack.api.reaches(&path, &["completed"], BOUND).await;
    stack.assert_whole(&backup, project).await;
    eventually("the poison is a dead letter again", BOUND, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let bodies = stack.aws.peek(dead).await;
        (bodies.len() == 1 && bodies.iter().all(|body| body == poison)).then_some(())
    })
    .await;
    stack.is_empty(queue).await;
    stack.aws.hide_messages_for(queue, 360).await;
}

fn same_json(one: &str, other: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    read(one) == read(other)
}
