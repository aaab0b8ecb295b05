//! What the stack's template and state machines must say, read from the files themselves. A local AWS checks no policy:
//! a role that may do too much, or a queue with nowhere to put what it cannot deliver, shows here or nowhere.

mod guards;
mod machines;
mod queues;
mod roles;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Every function, by its name in `functions/`, in `events/` and behind the stack's own name.
const FUNCTIONS: &[&str] = &[
    "api",
    "schedule-trigger",
    "job-start",
    "backup-plan",
    "backup-chunk",
    "backup-finalize",
    "restore-plan",
    "restore-chunk",
    "restore-finalize",
    "maintenance",
];

/// The template, as any YAML parser reads it.
#[derive(Clone)]
struct Template(Value);

impl Template {
    fn read() -> Self {
        let text = fs::read_to_string(root().join("infra/template.yaml")).expect("the template can be read");
        Self(serde_saphyr::from_str(&text).expect("the template is YAML without tags"))
    }

    /// All resources of a type, by their logical names.
    fn resources<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.all().iter().filter(move |(_, resource)| resource["Type"] == kind).map(|(name, one)| (name.as_str(), one))
    }

    fn all(&self) -> &Map<String, Value> {
        self.0["Resources"].as_object().expect("the template has resources")
    }

    fn resource(&self, name: &str) -> &Value {
        self.all().get(name).unwrap_or_else(|| panic!("the template has no {name}"))
    }

    /// The template with something at a place changed, to see that a check finds it.
    fn with(&self, pointer: &str, value: Value) -> Self {
        let mut changed = self.clone();
        *changed.0.pointer_mut(pointer).unwrap_or_else(|| panic!("there is nothing at {pointer}")) = value;
        changed
    }

    /// The template without something at a place.
    fn without(&self, parent: &str, name: &str) -> Self {
        let mut changed = self.clone();
        let object = changed.0.pointer_mut(parent).and_then(Value::as_object_mut);
        assert!(object.is_some_and(|object| object.remove(name).is_some()), "there is no {name} in {parent}");
        changed
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace").to_owned()
}

/// `schedule-trigger` as the template's logical names write it: `ScheduleTrigger`.
fn logical(function: &str) -> String {
    function.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// What an expression names: the logical name that it refers to, or the text that it makes (of an ARN, the end of it).
fn named(expression: &Value) -> String {
    let Some((function, argument)) = expression.as_object().and_then(|object| object.iter().next()) else {
        return expression.as_str().map_or_else(|| expression.to_string(), str::to_owned);
    };
    match function.as_str() {
        "Ref" => argument.as_str().unwrap_or_default().to_owned(),
        "Fn::GetAtt" => argument[0].as_str().unwrap_or_default().to_owned(),
        "Fn::Sub" => short(argument.as_str().unwrap_or_default()),
        "Fn::If" => format!("{} or {}", named(&argument[1]), named(&argument[2])),
        _ => expression.to_string(),
    }
}

/// An ARN without partition, region and account.
fn short(text: &str) -> String {
    match text.strip_prefix("arn:${AWS::Partition}:") {
        Some(rest) => {
            let parts: Vec<_> = rest.replace("AWS::", "AWS.").splitn(4, ':').map(str::to_owned).collect();
            format!("{}:{}", parts[0], parts[3])
        }
        None => text.to_owned(),
    }
}

/// A value that may stand alone or in a list.
fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

fn is_kept(resource: &Value) -> bool {
    resource["DeletionPolicy"] == "Retain" && resource["UpdateReplacePolicy"] == "Retain"
}

#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n  {}\n", violations.join("\n  "));
}

/// A check that says nothing of the template as it is, and something of it once it is changed.
#[track_caller]
fn assert_finds(check: impl Fn(&Template) -> Vec<String>, changed: &Template, expect: &str) {
    let found = check(changed);
    assert!(found.iter().any(|violation| violation.contains(expect)), "`{expect}` is not in {found:?}");
}

#[test]
fn the_functions_are_those_of_the_architecture() {
    let template = Template::read();
    let mut found: Vec<_> = template
        .resources("AWS::Serverless::Function")
        .map(|(_, function)| function["Properties"]["Handler"].as_str().unwrap_or_default())
        .collect();
    let mut expected = FUNCTIONS.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for function in FUNCTIONS {
        let name = logical(function);
        let properties = &template.resource(&format!("{name}Function"))["Properties"];
        assert_eq!(properties["CodeUri"], format!("../target/lambda/{function}/bootstrap.zip"));
        assert_eq!(named(&properties["FunctionName"]), format!("${{Name}}-{function}"));
    }
}

#[test]
fn every_function_has_sample_events() {
    for function in FUNCTIONS {
        let folder = root().join("events").join(function);
        let files: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("the folder can be listed").path())
            .collect();
        assert!(files.len() >= 2, "{} has {} events", folder.display(), files.len());
        for file in files {
            let text = fs::read_to_string(&file).expect("an event can be read");
            serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
}
