//! Workflows with steps made up for them: every way they can end, and goes on after every way they can be cut off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use firebackup_embedded::{Database, SqliteWorkflows, SystemRandom, WorkflowOptions};
use firebackup_model::port::{Started, StepError, StepErrorKind, Steps, Workflow, WorkflowState, Workflows};
use firebackup_testkit::eventually;
use firebackup_testkit::workflows_suite::{self, WorkflowsUnderTest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

const BOUND: Duration = Duration::from_secs(30);

/// What a step does when it is called.
enum Does {
    Gives(Value),
    Fails(StepErrorKind, &'static str),
    Panics,
    /// Goes on until the gate is opened, then what is usual.
    Waits,
}

type Script = dyn Fn(&str, &Value, usize) -> Option<Does> + Send + Sync;

/// Steps that note their calls.
struct FakeSteps {
    calls: Mutex<Vec<(String, Value)>>,
    /// What a step does, given how often the same was asked before; nothing for the usual.
    script: Box<Script>,
    gate: watch::Sender<bool>,
    at_work: watch::Sender<usize>,
    most_at_work: Mutex<usize>,
}

/// Three chunks of two sequences each.
fn usual(step: &str, input: &Value) -> Value {
    let (job, organization) = (&input["job"], &input["organization"]);
    let sequence = input["sequence"].as_u64().unwrap_or_default();
    match step.rsplit_once('-').map(|(_, verb)| verb) {
        Some("plan") => json!({"job": job, "organization": organization, "chunks": 3}),
        Some("chunk") => json!({
            "job": job, "organization": organization, "chunk": input["chunk"], "sequence": sequence + 1,
            "done": sequence == 1,
        }),
        _ => json!({"job": job, "organization": organization, "status": "completed"}),
    }
}

impl FakeSteps {
    fn new(script: impl Fn(&str, &Value, usize) -> Option<Does> + Send + Sync + 'static) -> Arc<Self> {
        let (gate, at_work) = (watch::Sender::new(false), watch::Sender::new(0));
        let (calls, most_at_work) = (Mutex::default(), Mutex::default());
        Arc::new(Self { calls, script: Box::new(script), gate, at_work, most_at_work })
    }

    fn calls(&self) -> Vec<(String, Value)> {
        self.calls.lock().unwrap().clone()
    }

    fn names(&self) -> Vec<String> {
        self.calls().into_iter().map(|(step, _)| step).collect()
    }

    fn count(&self, step: &str) -> usize {
        self.names().iter().filter(|name| *name == step).count()
    }

    /// What the last finalize was told of a failure.
    fn failed(&self) -> Value {
        let calls = self.calls();
        let last = calls.iter().rfind(|(step, _)| step.ends_with("finalize")).unwrap();
        last.1["failed"].clone()
    }

    fn note(&self, step: &str, input: &Value) -> usize {
        let mut calls = self.calls.lock().unwrap();
        let before = calls.iter().filter(|call| call.0 == step && call.1 == *input).count();
        calls.push((step.to_owned(), input.clone()));
        before
    }

    async fn waits(&self, at_work: usize) {
        eventually("steps are at work", BOUND, async || (*self.at_work.borrow() == at_work).then_some(())).await;
    }
}

/// Counts a step among those at work, even when it is dropped.
struct AtWork<'a>(&'a FakeSteps);

impl<'a> AtWork<'a> {
    fn new(steps: &'a FakeSteps) -> Self {
        steps.at_work.send_modify(|count| *count += 1);
        let now = *steps.at_work.borrow();
        let mut most = steps.most_at_work.lock().unwrap();
        *most = now.max(*most);
        Self(steps)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.send_modify(|count| *count -= 1);
    }
}

#[async_trait]
impl Steps for FakeSteps {
    async fn run(&self, step: &str, input: Value) -> Result<Value, StepError> {
        let _at_work = AtWork::new(self);
        let before = self.note(step, &input);
        match (self.script)(step, &input, before) {
            None => Ok(usual(step, &input)),
            Some(Does::Gives(value)) => Ok(value),
            Some(Does::Fails(kind, message)) => Err(StepError::new(kind, message.to_owned())),
            Some(Does::Panics) => panic!("the secret is hunter2"),
            Some(Does::Waits) => {
                let mut gate = self.gate.subscribe();
                gate.wait_for(|is_open| *is_open).await.unwrap();
                Ok(usual(step, &input))
            }
        }
    }
}

/// A database with its workflows, run by one worker at a time.
struct World {
    folder: TempDir,
    workflows: SqliteWorkflows,
    steps: Arc<FakeSteps>,
    options: WorkflowOptions,
    worker: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

fn options() -> WorkflowOptions {
    let (first_delay, most_delay) = (Duration::from_millis(1), Duration::from_millis(4));
    WorkflowOptions { parallel_chunks: 2, tries: 3, first_delay, most_delay }
}

async fn open(folder: &TempDir, options: &WorkflowOptions) -> SqliteWorkflows {
    let database = Database::open(folder.path().join("state.db")).await.unwrap();
    SqliteWorkflows::new(database, Arc::new(SystemRandom), options.clone())
}

fn work(workflows: &SqliteWorkflows, steps: &Arc<FakeSteps>) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let (workflows, steps) = (workflows.clone(), Arc::clone(steps));
    let task = tokio::spawn(async move { workflows.run(steps, async { drop(stopped.await) }).await });
    (stop, task)
}

impl World {
    /// With a worker at work.
    async fn new(steps: Arc<FakeSteps>) -> Self {
        let mut world = Self::idle(steps, options()).await;
        world.begin_work();
        world
    }

    async fn idle(steps: Arc<FakeSteps>, options: WorkflowOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workflows = open(&folder, &options).await;
        Self { folder, workflows, steps, options, worker: None }
    }

    fn begin_work(&mut self) {
        self.worker = Some(work(&self.workflows, &self.steps));
    }

    /// Ends the worker where it stands, and all handles with it, and opens the file again.
    async fn cut_off(&mut self) {
        let (stop, task) = self.worker.take().unwrap();
        stop.send(()).unwrap();
        task.await.unwrap();
        // dropped steps end when their tasks are woken for the last time
        self.steps.waits(0).await;
        self.workflows = open(&self.folder, &self.options).await;
    }

    async fn start(&self) {
        let started = self.workflows.start(Workflow::Backup, "bkp_1", &input()).await.unwrap();
        assert_eq!(started, Started::New);
    }

    async fn state(&self) -> Option<WorkflowState> {
        self.workflows.state(Workflow::Backup, "bkp_1").await.unwrap()
    }

    async fn becomes(&self, expected: WorkflowState) {
        let ended = eventually("the execution ends", BOUND, async || {
            self.state().await.filter(|state| *state != WorkflowState::Running)
        });
        assert_eq!(ended.await, expected, "{:?}", self.steps.calls());
    }

    /// Waits until the execution has nothing left to do.
    async fn rests(&self) {
        let path = self.folder.path().join("state.db");
        eventually("the execution rests", BOUND, async || {
            let connection = rusqlite::Connection::open(&path).unwrap();
            connection.busy_timeout(BOUND).unwrap();
            let sql = "SELECT count(*) FROM executions WHERE ended IS NULL";
            let left: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
            (left == 0).then_some(())
        })
        .await;
    }

    async fn stop(&self) {
        self.workflows.stop(Workflow::Backup, "bkp_1", "the user asked").await.unwrap();
    }
}

fn input() -> Value {
    json!({"job": "bkp_1", "organization": "org_1"})
}

fn failed(error: &str, cause: &str) -> Value {
    json!({"Error": error, "Cause": cause})
}

/// Runs one execution to its end.
async fn run(
    script: impl Fn(&str, &Value, usize) -> Option<Does> + Send + Sync + 'static,
    expected: WorkflowState,
) -> Arc<FakeSteps> {
    let world = World::new(FakeSteps::new(script)).await;
    world.start().await;
    world.becomes(expected).await;
    world.rests().await;
    world.steps
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_conform() {
    let steps = FakeSteps::new(|step, input, _| match input["job"].as_str() {
        Some("fails") if !step.ends_with("finalize") => Some(Does::Fails(StepErrorKind::Fatal, "it was to fail")),
        Some("goes on") if step.ends_with("chunk") => {
            std::thread::sleep(Duration::from_millis(1));
            let sequence = input["sequence"].as_u64().unwrap() + 1;
            Some(Does::Gives(json!({"sequence": sequence, "done": false})))
        }
        _ => None,
    });
    let world = World::new(steps).await;
    let job = |job: &str| json!({"job": job, "organization": "org_1"});
    workflows_suite::conforms(&WorkflowsUnderTest {
        workflows: Arc::new(world.workflows.clone()),
        endless: job("goes on"),
        succeeding: job("succeeds"),
        failing: job("fails"),
    })
    .await;
}

#[tokio::test]
async fn steps_are_done_in_order_with_the_json_of_the_state_machine() {
    for (workflow, name) in [(Workflow::Backup, "backup"), (Workflow::Restore, "restore")] {
        let mut world = World::idle(FakeSteps::new(|_, _, _| None), options()).await;
        world.begin_work();
        world.workflows.start(workflow, "job_1", &input()).await.unwrap();
        eventually("it ends", BOUND, async || {
            (world.workflows.state(workflow, "job_1").await.unwrap() == Some(WorkflowState::Succeeded)).then_some(())
        })
        .await;
        let calls = world.steps.calls();
        assert_eq!(calls.len(), 1 + 3 * 2 + 1);
        assert_eq!(calls[0], (format!("{name}-plan"), input()));
        assert_eq!(calls[7], (format!("{name}-finalize"), input()));
        let mut sequences: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (step, input) in &calls[1..7] {
            let (chunk, sequence) = (input["chunk"].as_u64().unwrap(), input["sequence"].as_u64().unwrap());
            assert_eq!(*step, format!("{name}-chunk"));
            let expected = json!({"job": "bkp_1", "organization": "org_1", "chunk": chunk, "sequence": sequence});
            assert_eq!(*input, expected);
            sequences.entry(chunk).or_default().push(sequence);
        }
        assert_eq!(sequences, BTreeMap::from([(0, vec![0, 1]), (1, vec![0, 1]), (2, vec![0, 1])]));
    }
}

#[tokio::test]
async fn a_plan_without_chunks_is_finalized() {
    let steps =
        run(|step, _, _| step.ends_with("plan").then(|| Does::Gives(json!({"chunks": 0}))), WorkflowState::Succeeded)
            .await;
    assert_eq!(steps.calls(), [("backup-plan".to_owned(), input()), ("backup-finalize".to_owned(), input())]);
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for verb in ["plan", "chunk", "finalize"] {
        let fails = move |step: &str, _: &Value, before| {
            (step.ends_with(verb) && before < 2).then_some(Does::Fails(StepErrorKind::Retryable, "not now"))
        };
        let steps = run(fails, WorkflowState::Succeeded).await;
        let usual = if verb == "chunk" { 6 } else { 1 };
        assert_eq!(steps.count(&format!("backup-{verb}")), usual * 3, "{verb}");
        assert_eq!(steps.failed(), Value::Null);
    }
}

#[tokio::test]
async fn tries_are_bounded() {
    for verb in ["plan", "chunk"] {
        let fails = move |step: &str, _: &Value, _| {
            step.ends_with(verb).then_some(Does::Fails(StepErrorKind::Retryable, "not now"))
        };
        let steps = run(fails, WorkflowState::Failed).await;
        assert_eq!(steps.failed(), failed("Retryable", "not now"), "{verb}");
        let calls = steps.calls();
        let tries = |call| calls.iter().filter(|other| *other == call).count();
        // of two chunks side by side the one that fails first ends the other
        let most = calls.iter().filter(|(step, _)| step.ends_with(verb)).map(tries).max();
        assert_eq!(most, Some(3), "{verb}");
    }
}

#[tokio::test]
async fn what_never_passes_is_not_tried_again() {
    for verb in ["plan", "chunk", "finalize"] {
        let fails = move |step: &str, input: &Value, _| {
            (step.ends_with(verb) && input["failed"].is_null()).then_some(Does::Fails(StepErrorKind::Fatal, "broken"))
        };
        let steps = run(fails, WorkflowState::Failed).await;
        let calls = steps.calls();
        let expected =
            json!({"job": "bkp_1", "organization": "org_1", "failed": {"Error": "Fatal", "Cause": "broken"}});
        assert_eq!(calls.last(), Some(&("backup-finalize".to_owned(), expected)), "{verb}");
        let first = calls.iter().find(|(step, _)| step.ends_with(verb)).unwrap();
        assert_eq!(calls.iter().filter(|call| *call == first).count(), 1, "{verb}");
    }
}

#[tokio::test]
async fn a_step_may_find_that_the_job_was_cancelled() {
    let fails =
        |step: &str, _: &Value, _| step.ends_with("chunk").then_some(Does::Fails(StepErrorKind::Cancelled, "enough"));
    let steps = run(fails, WorkflowState::Stopped).await;
    assert_eq!(steps.failed(), failed("Cancelled", "enough"));
}

#[tokio::test]
async fn a_panic_fails_one_try_and_tells_nothing() {
    let once = |step: &str, _: &Value, before| (step.ends_with("chunk") && before == 0).then_some(Does::Panics);
    let steps = run(once, WorkflowState::Succeeded).await;
    assert_eq!(steps.count("backup-chunk"), 12);
    let always = |step: &str, _: &Value, _| step.ends_with("plan").then_some(Does::Panics);
    let steps = run(always, WorkflowState::Failed).await;
    assert_eq!(steps.count("backup-plan"), 3);
    assert_eq!(steps.failed(), failed("Retryable", "the step ended unexpectedly"));
}

#[tokio::test]
async fn steps_that_break_the_contract_fail_the_execution() {
    for (verb, given, cause) in [
        ("plan", json!({"job": "bkp_1"}), "the plan does not say how many chunks it has"),
        ("plan", json!({"chunks": "3"}), "the plan does not say how many chunks it has"),
        ("chunk", json!({"sequence": 0, "done": false}), "a chunk neither ended nor went on"),
        ("chunk", json!({"done": "yes"}), "a chunk neither ended nor went on"),
        ("chunk", json!(null), "a chunk neither ended nor went on"),
    ] {
        let script = move |step: &str, _: &Value, _| step.ends_with(verb).then(|| Does::Gives(given.clone()));
        let steps = run(script, WorkflowState::Failed).await;
        assert_eq!(steps.failed(), failed("Fatal", cause));
    }
}

#[tokio::test]
async fn an_execution_ends_even_when_it_cannot_be_cleaned_up() {
    let fails = |step: &str, _: &Value, _| match step {
        "backup-chunk" => Some(Does::Fails(StepErrorKind::Fatal, "broken")),
        "backup-finalize" => Some(Does::Fails(StepErrorKind::Retryable, "broken too")),
        _ => None,
    };
    let steps = run(fails, WorkflowState::Failed).await;
    assert_eq!(steps.count("backup-finalize"), 3);
    assert_eq!(steps.failed(), failed("Fatal", "broken"), "the first failure is what counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_done_side_by_side_up_to_a_number() {
    let script = |step: &str, input: &Value, _| match step {
        "backup-plan" => Some(Does::Gives(json!({"chunks": 7}))),
        "backup-chunk" if input["sequence"] == 0 => Some(Does::Waits),
        _ => None,
    };
    let world = World::new(FakeSteps::new(script)).await;
    world.start().await;
    world.steps.waits(2).await;
    world.steps.gate.send_replace(true);
    world.becomes(WorkflowState::Succeeded).await;
    assert_eq!(*world.steps.most_at_work.lock().unwrap(), 2);
    assert_eq!(world.steps.count("backup-chunk"), 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_fails_ends_the_others() {
    let script = |step: &str, input: &Value, _| match (step, input["chunk"].as_u64()) {
        ("backup-plan", _) => Some(Does::Gives(json!({"chunks": 50}))),
        ("backup-chunk", Some(0)) => Some(Does::Waits),
        ("backup-chunk", Some(1)) => Some(Does::Fails(StepErrorKind::Fatal, "broken")),
        _ => None,
    };
    let world = World::new(FakeSteps::new(script)).await;
    world.start().await;
    world.becomes(WorkflowState::Failed).await;
    world.steps.waits(0).await;
    assert!(world.steps.count("backup-chunk") <= 3, "{:?}", world.steps.names());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_that_is_cut_off_goes_on() {
    // cut off in the plan, in a chunk, in finalize, and in cleaning up
    for (cut, again) in [
        ("plan", vec!["backup-plan", "backup-plan", "backup-chunk"]),
        ("chunk", vec!["backup-plan", "backup-chunk"]),
        ("finalize", vec!["backup-plan", "backup-chunk"]),
    ] {
        let script = move |step: &str, input: &Value, before| {
            let is_cut = step.ends_with(cut) && before == 0 && input["sequence"].as_u64().is_none_or(|n| n == 1);
            is_cut.then_some(Does::Waits)
        };
        let mut world = World::new(FakeSteps::new(script)).await;
        world.start().await;
        eventually("it comes to the cut", BOUND, async || {
            let is_there = world.steps.calls().iter().any(|(step, input)| {
                step.ends_with(cut) && input["sequence"].as_u64().is_none_or(|sequence| sequence == 1)
            });
            is_there.then_some(())
        })
        .await;
        world.cut_off().await;
        let before = world.steps.calls().len();
        assert_eq!(world.state().await, Some(WorkflowState::Running));
        world.steps.gate.send_replace(true);
        world.begin_work();
        world.becomes(WorkflowState::Succeeded).await;
        let mut names = world.steps.names();
        assert_eq!(names.last().map(String::as_str), Some("backup-finalize"));
        let chunks: Vec<Value> = world.steps.calls().into_iter().skip(before).map(|(_, input)| input).collect();
        for chunk in 0..3 {
            let first = chunks.iter().find(|input| input["chunk"] == chunk).unwrap();
            assert_eq!(first["sequence"], 0, "{cut}: a chunk begins with its first sequence again");
        }
        names.dedup();
        assert_eq!(names.iter().filter(|name| *name == "backup-plan").count(), 1);
        let plans = again.iter().filter(|name| **name == "backup-plan").count();
        assert_eq!(world.steps.count("backup-plan"), plans, "{cut}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaning_up_that_is_cut_off_is_all_that_is_left() {
    let script = |step: &str, input: &Value, before| match step {
        "backup-chunk" => Some(Does::Fails(StepErrorKind::Fatal, "broken")),
        "backup-finalize" if !input["failed"].is_null() && before == 0 => Some(Does::Waits),
        _ => None,
    };
    let mut world = World::new(FakeSteps::new(script)).await;
    world.start().await;
    eventually("it cleans up", BOUND, async || (world.steps.count("backup-finalize") == 1).then_some(())).await;
    world.cut_off().await;
    let before = world.steps.calls().len();
    world.begin_work();
    world.becomes(WorkflowState::Failed).await;
    let rest = world.steps.calls().split_off(before);
    let expected = json!({"job": "bkp_1", "organization": "org_1", "failed": {"Error": "Fatal", "Cause": "broken"}});
    assert_eq!(rest, [("backup-finalize".to_owned(), expected)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_the_step_end_and_begins_no_other() {
    let script = |step: &str, input: &Value, _| (step.ends_with("chunk") && input["chunk"] == 0).then_some(Does::Waits);
    let mut one = options();
    one.parallel_chunks = 1;
    let mut world = World::idle(FakeSteps::new(script), one).await;
    world.begin_work();
    world.start().await;
    world.steps.waits(1).await;
    eventually("a chunk is at work", BOUND, async || (world.steps.count("backup-chunk") == 1).then_some(())).await;
    world.stop().await;
    world.workflows.stop(Workflow::Backup, "bkp_1", "another reason").await.unwrap();
    assert_eq!(world.state().await, Some(WorkflowState::Stopped), "it is as good as stopped");
    assert_eq!(*world.steps.at_work.borrow(), 1, "the step goes on");
    world.steps.gate.send_replace(true);
    world.rests().await;
    assert_eq!(world.steps.names(), ["backup-plan", "backup-chunk", "backup-finalize"]);
    assert_eq!(world.steps.failed(), failed("Cancelled", "the user asked"));
    assert_eq!(world.state().await, Some(WorkflowState::Stopped));
}

#[tokio::test]
async fn what_is_stopped_before_it_was_run_is_only_cleaned_up() {
    let mut world = World::idle(FakeSteps::new(|_, _, _| None), options()).await;
    world.start().await;
    world.stop().await;
    world.begin_work();
    world.rests().await;
    assert_eq!(world.steps.names(), ["backup-finalize"]);
    assert_eq!(world.steps.failed(), failed("Cancelled", "the user asked"));
    assert_eq!(world.state().await, Some(WorkflowState::Stopped));
}

#[tokio::test]
async fn stopping_ends_the_wait_for_another_try() {
    let script =
        |step: &str, _: &Value, _| step.ends_with("plan").then_some(Does::Fails(StepErrorKind::Retryable, "not now"));
    let (first_delay, most_delay) = (Duration::from_secs(3600), Duration::from_secs(3600));
    let slow = WorkflowOptions { first_delay, most_delay, ..options() };
    let mut world = World::idle(FakeSteps::new(script), slow).await;
    world.begin_work();
    world.start().await;
    eventually("the plan was tried", BOUND, async || (world.steps.count("backup-plan") == 1).then_some(())).await;
    world.stop().await;
    world.rests().await;
    assert_eq!(world.steps.names(), ["backup-plan", "backup-finalize"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_waits_for_the_first_to_end() {
    let script = |step: &str, _: &Value, before| (step.ends_with("plan") && before == 0).then_some(Does::Waits);
    let mut world = World::new(FakeSteps::new(script)).await;
    world.start().await;
    world.steps.waits(1).await;
    // another process would have a handle of its own
    let other_steps = FakeSteps::new(|_, _, _| None);
    let other = open(&world.folder, &world.options).await;
    let (_stop, _task) = work(&other, &other_steps);
    other.start(Workflow::Backup, "bkp_2", &input()).await.unwrap();
    eventually("the first takes what the second started", BOUND, async || {
        let state = other.state(Workflow::Backup, "bkp_2").await.unwrap();
        (state == Some(WorkflowState::Succeeded)).then_some(())
    })
    .await;
    assert_eq!(other_steps.names(), [""; 0], "the second does nothing");
    world.cut_off().await;
    world.becomes(WorkflowState::Succeeded).await;
    assert_eq!(other_steps.count("backup-plan"), 1, "the second goes on when the first is gone");
}
