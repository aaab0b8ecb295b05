//! The state machines: every state can be reached and goes somewhere, every task is retried and caught, and nothing
//! that is handed on grows with the database.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Map, Value, json};

use super::{Template, assert_none, list, logical, named, root};

const MACHINES: &[&str] = &["backup", "restore"];
/// The errors that a step reports itself, and whether the same step may succeed later.
const GIVEN_UP: &[&str] = &["Fatal", "Cancelled"];

fn read(machine: &str) -> Value {
    let file = root().join(format!("infra/statemachines/{machine}.asl.json"));
    let text = fs::read_to_string(&file).expect("the state machine can be read");
    serde_json::from_str(&text).expect("the state machine is JSON")
}

fn states(machine: &Value) -> &Map<String, Value> {
    machine["States"].as_object().expect("a machine has states")
}

/// Where a state may go on to.
fn nexts(state: &Value) -> Vec<&str> {
    let choices = list(&state["Choices"]).into_iter().map(|choice| &choice["Next"]);
    let catches = list(&state["Catch"]).into_iter().map(|catch| &catch["Next"]);
    choices.chain(catches).chain([&state["Next"], &state["Default"]]).filter_map(Value::as_str).collect()
}

/// What is wrong with how the states of a machine (or of a map's inner one) hang together.
fn graph_violations(machine: &Value) -> Vec<String> {
    let all = states(machine);
    let mut found = Vec::new();
    let mut reached = BTreeSet::new();
    let mut open = vec![machine["StartAt"].as_str().unwrap_or_default()];
    while let Some(name) = open.pop() {
        match all.get(name) {
            None => found.push(format!("there is no state {name}")),
            Some(state) if reached.insert(name) => open.extend(nexts(state)),
            Some(_) => {}
        }
    }
    for (name, state) in all {
        if !reached.contains(name.as_str()) {
            found.push(format!("{name} is never reached"));
        }
        let kind = state["Type"].as_str().unwrap_or_default();
        let ends = state["End"] == true || matches!(kind, "Succeed" | "Fail");
        let goes_on = if kind == "Choice" { state["Default"].is_string() } else { state["Next"].is_string() };
        if ends == goes_on {
            found.push(format!("{name} neither ends nor goes on, or both"));
        }
        if kind == "Map" {
            found.extend(graph_violations(&state["ItemProcessor"]));
        }
    }
    found
}

/// What could end a task's machine before its time.
fn task_violations(machine: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (name, state) in states(machine) {
        match state["Type"].as_str() {
            Some("Task") => found.extend(one_task_violations(name, state)),
            Some("Map") => {
                found.extend(catch_violations(name, state));
                found.extend(task_violations(&state["ItemProcessor"]));
            }
            _ => {}
        }
    }
    found
}

fn one_task_violations(name: &str, state: &Value) -> Vec<String> {
    let mut found = catch_violations(name, state);
    if state["Resource"] != "arn:aws:states:::lambda:invoke" {
        found.push(format!("{name} invokes no function"));
    }
    if !state["TimeoutSeconds"].as_u64().is_some_and(|seconds| (901..=1000).contains(&seconds)) {
        found.push(format!("{name} waits for an answer that cannot come any more, or not for one that can"));
    }
    let retries = list(&state["Retry"]);
    for error in GIVEN_UP {
        let first = retries.iter().find(|retry| matches(retry, error));
        if first.is_none_or(|retry| retry["MaxAttempts"] != 0) {
            found.push(format!("{name} tries again after {error}"));
        }
    }
    for error in ["Retryable", "Lambda.TooManyRequestsException", "Lambda.ServiceException", "Runtime.ExitError"] {
        let first = retries.iter().find(|retry| matches(retry, error));
        if !first.is_some_and(|retry| is_patient(retry)) {
            found.push(format!("{name} does not try again, with growing and random delays, after {error}"));
        }
    }
    found
}

fn matches(entry: &Value, error: &str) -> bool {
    list(&entry["ErrorEquals"]).iter().any(|name| *name == error || *name == "States.ALL")
}

fn is_patient(retry: &Value) -> bool {
    retry["MaxAttempts"].as_u64().is_some_and(|attempts| attempts >= 3)
        && retry["BackoffRate"].as_f64().is_some_and(|rate| rate > 1.0)
        && retry["JitterStrategy"] == "FULL"
        && retry["MaxDelaySeconds"].is_u64()
}

fn catch_violations(name: &str, state: &Value) -> Vec<String> {
    let catches = list(&state["Catch"]);
    let all =
        catches.iter().any(|catch| catch["ErrorEquals"] == json!(["States.ALL"]) && catch["ResultPath"] == "$.failed");
    if all { Vec::new() } else { vec![format!("{name} does not catch everything into $.failed")] }
}

/// What of a map could grow with the database, or go on without a chunk.
fn map_violations(machine: &Value) -> Vec<String> {
    let map = &states(machine)["Chunks"];
    let inner = &map["ItemProcessor"];
    let mut found = Vec::new();
    let mut demand = |holds: bool, says: &str| {
        if !holds {
            found.push(says.to_owned());
        }
    };
    demand(
        inner["ProcessorConfig"] == json!({"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}),
        "a chunk runs in the history of its job, or for five minutes only",
    );
    demand(map["ToleratedFailurePercentage"] == 0, "a chunk may fail");
    demand(map["ToleratedFailureCount"].is_null(), "a chunk may fail");
    demand(map["ItemReader"]["ReaderConfig"]["InputType"] == "JSONL", "chunks are not read from S3");
    demand(map["ItemBatcher"].is_null() && map["ResultWriter"].is_null(), "a local AWS leaves batches and results out");
    demand(
        map["ResultPath"] == Value::Null && map.get("ResultPath").is_some(),
        "the answers of all chunks are handed on",
    );
    let ends: Vec<_> = states(inner).values().filter(|state| state["End"] == true).collect();
    demand(ends.len() == 1 && ends[0]["Parameters"] == json!({}), "a chunk hands something on");
    let again = &states(inner)["ChunkDone"];
    demand(again["Default"] == "Chunk" && again["Choices"][0]["Variable"] == "$.done", "a chunk is not gone on with");
    found
}

/// What each function of a machine is given.
fn payloads(machine: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for (name, state) in states(machine) {
        if let Some(payload) = state["Parameters"]["Payload"].as_object() {
            found.insert(name.clone(), payload.keys().map(|key| key.trim_end_matches(".$").to_owned()).collect());
        }
        if state["Type"] == "Map" {
            found.extend(payloads(&state["ItemProcessor"]));
        }
    }
    found
}

/// The names of what is put into a definition when it is deployed.
fn placeholders(text: &str) -> BTreeSet<String> {
    text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_state_is_reached_and_leads_somewhere() {
    for name in MACHINES {
        let machine = read(name);
        assert_none(&graph_violations(&machine));
        let mut broken = machine.clone();
        broken["States"]["Plan"]["Next"] = json!("Nowhere");
        let found = graph_violations(&broken);
        assert!(found.iter().any(|one| one.contains("no state Nowhere")), "{found:?}");
        assert!(found.iter().any(|one| one.contains("AnyChunks is never reached")), "{found:?}");
    }
}

#[test]
fn every_task_is_retried_and_caught() {
    for name in MACHINES {
        let machine = read(name);
        assert_none(&task_violations(&machine));
        for (state, field) in [("Plan", "Retry"), ("Finalize", "Catch"), ("Chunks", "Catch")] {
            let mut broken = machine.clone();
            broken["States"][state][field] = Value::Null;
            assert!(task_violations(&broken).iter().any(|one| one.contains(state)), "{state} without {field}");
        }
    }
}

#[test]
fn a_failure_ends_in_finalize_and_then_in_failure() {
    for name in MACHINES {
        let machine = read(name);
        for state in ["Plan", "Chunks", "Finalize"] {
            assert_eq!(states(&machine)[state]["Catch"][0]["Next"], "FinalizeFailed", "{name} {state}");
        }
        assert_eq!(states(&machine)["FinalizeFailed"]["Catch"][0]["Next"], "Failed");
        assert_eq!(states(&machine)["EndedAllTheSame"]["Default"], "Failed");
        assert_eq!(states(&machine)["Failed"]["Type"], "Fail");
    }
}

#[test]
fn nothing_that_is_handed_on_grows_with_the_database() {
    for name in MACHINES {
        let machine = read(name);
        assert_none(&map_violations(&machine));
        let mut broken = machine.clone();
        broken["States"]["Chunks"]["ToleratedFailurePercentage"] = json!(1);
        assert!(!map_violations(&broken).is_empty());
    }
}

#[test]
fn steps_are_given_what_they_take_and_nothing_else() {
    let of = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect::<BTreeSet<_>>();
    for name in MACHINES {
        let expected = BTreeMap::from([
            ("Plan".to_owned(), of(&["job", "organization"])),
            ("Chunk".to_owned(), of(&["job", "organization", "chunk", "sequence"])),
            ("Finalize".to_owned(), of(&["job", "organization"])),
            ("FinalizeFailed".to_owned(), of(&["job", "organization", "failed"])),
        ]);
        assert_eq!(payloads(&read(name)), expected, "{name}");
    }
}

#[test]
fn the_template_fills_in_every_placeholder() {
    let template = Template::read();
    for name in MACHINES {
        let machine = template.resource(&format!("{}StateMachine", logical(name)));
        let properties = &machine["Properties"];
        let file = properties["DefinitionUri"].as_str().expect("the machine is a file");
        let text = fs::read_to_string(root().join("infra").join(file)).expect("the machine can be read");
        let given: BTreeSet<_> = properties["DefinitionSubstitutions"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        assert_eq!(placeholders(&text), given, "{name}");
        for step in ["Plan", "Chunk", "Finalize"] {
            let function = named(&properties["DefinitionSubstitutions"][format!("{step}FunctionArn")]);
            assert_eq!(function, format!("{}{step}Function", logical(name)));
        }
    }
}

/// A job older than half of a prune's grace period may not commit, so a backup need not run for longer.
#[test]
fn a_backup_ends_before_it_may_not_commit_any_more() {
    assert_eq!(read("backup")["TimeoutSeconds"], 12 * 60 * 60);
    assert!(read("restore")["TimeoutSeconds"].is_u64());
}
