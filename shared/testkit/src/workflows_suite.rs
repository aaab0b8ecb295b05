//! What the product relies on in what runs its workflows, as one suite that every adapter passes.
//!
//! What it does not ask for, because servers differ: which of several starts at the same moment is told that it was the
//! first. What the steps themselves do is tested where they are run.

use std::sync::Arc;
use std::time::Duration;

use firebackup_model::ErrorKind;
use firebackup_model::port::{Started, Workflow, WorkflowState, Workflows};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::eventually::eventually;

const BOUND: Duration = Duration::from_secs(60);

/// What the suite is run on: workflows that run steps made for it. Those steps ignore the field `padding`.
#[derive(Clone)]
pub struct WorkflowsUnderTest {
    /// No execution was started before.
    pub workflows: Arc<dyn Workflows>,
    /// The input, an object, of an execution that goes on until it is stopped.
    pub endless: Value,
    /// The input of one that succeeds.
    pub succeeding: Value,
    /// The input of one that fails.
    pub failing: Value,
}

/// Runs the suite.
///
/// # Panics
/// When the workflows do not do what the product relies on.
pub async fn conforms(test: &WorkflowsUnderTest) {
    unknown_names(test).await;
    for workflow in Workflow::ALL {
        executions_end(test, workflow).await;
        starting_twice_is_starting_once(test, workflow).await;
        stopping(test, workflow).await;
    }
    workflows_do_not_share_names(test).await;
    starts_that_race(test).await;
    names(test).await;
    sizes(test).await;
}

impl WorkflowsUnderTest {
    async fn start(&self, workflow: Workflow, name: &str, input: &Value) -> Started {
        let started = self.workflows.start(workflow, name, input).await;
        started.unwrap_or_else(|error| panic!("start {name}: {error:?}"))
    }

    async fn stop(&self, workflow: Workflow, name: &str) {
        let stopped = self.workflows.stop(workflow, name, "somebody asked for it, \"ü\"").await;
        stopped.unwrap_or_else(|error| panic!("stop {name}: {error:?}"));
    }

    async fn state(&self, workflow: Workflow, name: &str) -> Option<WorkflowState> {
        self.workflows.state(workflow, name).await.unwrap_or_else(|error| panic!("state of {name}: {error:?}"))
    }

    async fn becomes(&self, workflow: Workflow, name: &str, expected: WorkflowState) {
        let what = format!("{name} becomes {expected:?}");
        let ended = eventually(&what, BOUND, async || {
            self.state(workflow, name).await.filter(|state| *state != WorkflowState::Running)
        });
        assert_eq!(ended.await, expected, "{name}");
    }
}

async fn unknown_names(test: &WorkflowsUnderTest) {
    for workflow in Workflow::ALL {
        assert_eq!(test.state(workflow, "nobody").await, None);
        test.stop(workflow, "nobody").await;
        assert_eq!(test.state(workflow, "nobody").await, None, "stopping what never was makes nothing");
    }
}

async fn executions_end(test: &WorkflowsUnderTest, workflow: Workflow) {
    for (name, input, expected) in
        [("succeeds", &test.succeeding, WorkflowState::Succeeded), ("fails", &test.failing, WorkflowState::Failed)]
    {
        assert_eq!(test.start(workflow, name, input).await, Started::New);
        test.becomes(workflow, name, expected.clone()).await;
        assert_eq!(
            test.start(workflow, name, input).await,
            Started::Before,
            "{name} has ended, and is not begun again"
        );
        assert_eq!(test.start(workflow, name, &test.endless).await, Started::Before);
        test.stop(workflow, name).await;
        assert_eq!(test.state(workflow, name).await, Some(expected), "what has ended cannot be stopped");
    }
}

async fn starting_twice_is_starting_once(test: &WorkflowsUnderTest, workflow: Workflow) {
    let name = "twice";
    assert_eq!(test.start(workflow, name, &test.endless).await, Started::New);
    assert_eq!(test.state(workflow, name).await, Some(WorkflowState::Running));
    assert_eq!(test.start(workflow, name, &test.endless).await, Started::Before);
    assert_eq!(test.start(workflow, name, &test.failing).await, Started::Before, "the first input counts");
    assert_eq!(test.state(workflow, name).await, Some(WorkflowState::Running));
    test.stop(workflow, name).await;
    test.becomes(workflow, name, WorkflowState::Stopped).await;
}

async fn stopping(test: &WorkflowsUnderTest, workflow: Workflow) {
    for name in ["stopped", "not-stopped"] {
        assert_eq!(test.start(workflow, name, &test.endless).await, Started::New);
    }
    test.stop(workflow, "stopped").await;
    test.becomes(workflow, "stopped", WorkflowState::Stopped).await;
    test.stop(workflow, "stopped").await;
    assert_eq!(test.state(workflow, "stopped").await, Some(WorkflowState::Stopped), "stopping again changes nothing");
    assert_eq!(test.start(workflow, "stopped", &test.endless).await, Started::Before);
    assert_eq!(test.state(workflow, "stopped").await, Some(WorkflowState::Stopped), "and starting again neither");
    assert_eq!(test.state(workflow, "not-stopped").await, Some(WorkflowState::Running), "the other goes on");
    test.stop(workflow, "not-stopped").await;
    test.becomes(workflow, "not-stopped", WorkflowState::Stopped).await;
}

async fn workflows_do_not_share_names(test: &WorkflowsUnderTest) {
    assert_eq!(test.start(Workflow::Backup, "shared", &test.endless).await, Started::New);
    assert_eq!(test.state(Workflow::Restore, "shared").await, None);
    assert_eq!(test.start(Workflow::Restore, "shared", &test.endless).await, Started::New);
    test.stop(Workflow::Backup, "shared").await;
    test.becomes(Workflow::Backup, "shared", WorkflowState::Stopped).await;
    assert_eq!(test.state(Workflow::Restore, "shared").await, Some(WorkflowState::Running));
    test.stop(Workflow::Restore, "shared").await;
    test.becomes(Workflow::Restore, "shared", WorkflowState::Stopped).await;
}

async fn starts_that_race(test: &WorkflowsUnderTest) {
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let test = test.clone();
        tasks.spawn(async move { test.start(Workflow::Backup, "raced", &test.succeeding).await });
    }
    let results = tasks.join_all().await;
    assert!(results.contains(&Started::New), "one of them starts it: {results:?}");
    test.becomes(Workflow::Backup, "raced", WorkflowState::Succeeded).await;
    assert_eq!(test.start(Workflow::Backup, "raced", &test.succeeding).await, Started::Before);
}

async fn names(test: &WorkflowsUnderTest) {
    let longest = "n".repeat(80);
    for name in [longest.as_str(), "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV", "A-b_0"] {
        assert_eq!(test.start(Workflow::Backup, name, &test.succeeding).await, Started::New, "{name}");
        test.becomes(Workflow::Backup, name, WorkflowState::Succeeded).await;
    }
    let too_long = "n".repeat(81);
    for name in ["", " ", "a b", "a/b", "a:b", "ü", "a\n", "a.b", too_long.as_str()] {
        match test.workflows.start(Workflow::Backup, name, &test.succeeding).await {
            Ok(started) => panic!("the name `{name}` was taken: {started:?}"),
            Err(error) => assert_eq!(error.kind, ErrorKind::InvalidArgument, "`{name}`: {error:?}"),
        }
    }
}

fn padded(input: &Value, padding: &str) -> Value {
    let mut input = input.clone();
    input["padding"] = json!(padding);
    input
}

async fn sizes(test: &WorkflowsUnderTest) {
    for (name, padding) in [("large", "x".repeat(255 * 1024)), ("wide", "ü".repeat(127 * 1024))] {
        assert_eq!(test.start(Workflow::Backup, name, &padded(&test.succeeding, &padding)).await, Started::New);
        test.becomes(Workflow::Backup, name, WorkflowState::Succeeded).await;
    }
    let input = padded(&test.succeeding, &"x".repeat(256 * 1024));
    match test.workflows.start(Workflow::Backup, "too-large", &input).await {
        Ok(started) => panic!("an input of more than 256 KiB was taken: {started:?}"),
        Err(error) => assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error:?}"),
    }
    assert_eq!(test.state(Workflow::Backup, "too-large").await, None, "nothing was started");
}
