//! What the stack's template and state machines must say, read from the files themselves. A local AWS checks no policy:
//! a role that may do too much, or a queue with nowhere to put what it cannot deliver, shows here or nowhere.

mod dashboard;
mod events;
mod guards;
mod machines;
mod queues;
mod roles;
mod senders;
mod tools;
mod trust;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Every function, by its name in `functions/`, in `events/` and behind the stack's own name.
pub const FUNCTIONS: &[&str] = &[
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
    "notify",
    "realtime",
    "pitr-ingest",
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

    /// The template with one more field of an object.
    fn with_field(&self, parent: &str, name: &str, value: Value) -> Self {
        let mut changed = self.clone();
        let object = changed.0.pointer_mut(parent).and_then(Value::as_object_mut);
        let before = object.unwrap_or_else(|| panic!("{parent} is no object")).insert(name.to_owned(), value);
        assert!(before.is_none(), "there is a {name} in {parent}");
        changed
    }

    /// The template with one more item of a list.
    fn with_item(&self, list: &str, value: Value) -> Self {
        let mut changed = self.clone();
        let items = changed.0.pointer_mut(list).and_then(Value::as_array_mut);
        items.unwrap_or_else(|| panic!("{list} is no list")).push(value);
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

/// An ARN in this account and region, without these and the partition. Any other text is left as it stands, so that `*` in
/// the place of an account is not taken for ours.
fn short(text: &str) -> String {
    let rest = text.strip_prefix("arn:${AWS::Partition}:").unwrap_or_default().replace("AWS::", "AWS.");
    match rest.splitn(4, ':').collect::<Vec<_>>()[..] {
        [service, region, account, name] if (region, account) == ours(service) => format!("{service}:{name}"),
        _ => text.to_owned(),
    }
}

/// What stands for this region and account in the ARNs of a service.
fn ours(service: &str) -> (&str, &str) {
    match service {
        "s3" => ("", ""),
        "iam" => ("", "${AWS.AccountId}"),
        _ => ("${AWS.Region}", "${AWS.AccountId}"),
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

/// Each value that stands here, alone or in lists; what is there only under a condition counts as if it were, in either
/// case of the condition.
fn every(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().flat_map(every).collect(),
        Value::Object(one) if one.contains_key("Fn::If") => {
            list(&one["Fn::If"]).into_iter().skip(1).flat_map(every).collect()
        }
        Value::Object(one) if one.get("Ref").is_some_and(|name| name == "AWS::NoValue") => Vec::new(),
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
fn only_an_arn_of_this_account_and_region_is_shortened() {
    let check = |text: &str, expect: &str| assert_eq!(short(text), expect);
    check("arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${Name}", "dynamodb:table/${Name}");
    check("arn:${AWS::Partition}:s3:::${Name}-${AWS::Region}/*", "s3:${Name}-${AWS.Region}/*");
    check("arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Name}", "iam:role/${Name}");
    for elsewhere in [
        "arn:${AWS::Partition}:dynamodb:*:${AWS::AccountId}:table/${Name}",
        "arn:${AWS::Partition}:dynamodb:${AWS::Region}:*:table/${Name}",
        "arn:${AWS::Partition}:dynamodb:::table/${Name}",
        "arn:${AWS::Partition}:iam::*:role/${Name}",
        "arn:${AWS::Partition}:iam::aws:policy/AdministratorAccess",
        "arn:*:s3:::${Name}",
        "arn:${AWS::Partition}:*",
        "${Bucket.Arn}/*",
    ] {
        check(elsewhere, elsewhere);
    }
}
