//! What has Google send its events of changes: Terraform, and the workflow that it fills in. Neither was ever run against
//! Google, so what makes them work is read here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use super::{assert_none, root};

const ROUTE: &str = "/api/v1/pitr/{projectId}/events";
const DATABASE_BY_URL: &str = r#""${var.url}?database=${urlencode(each.value.database)}""#;
/// The statuses after which it is tried again; nothing stands for no answer at all.
const MAY_PASS: [Option<u64>; 7] = [None, Some(409), Some(429), Some(500), Some(502), Some(503), Some(504)];
/// Some after which it is not: they would be the same the next time.
const STAYS: [Option<u64>; 6] = [Some(400), Some(401), Some(403), Some(404), Some(413), Some(422)];
/// What must stand in `main.tf`, and what is wrong where it does not.
const NEEDED: [(&str, &str); 9] = [
    (r#"attribute = "type" value = "google.cloud.firestore.document.v1.written""#, "other events start it"),
    (r#"attribute = "database" value = each.value.database"#, "events of other databases start it"),
    (r#"event_data_content_type = "application/json""#, "events come as base64"),
    ("workflow = google_workflows_workflow.post[each.key].id", "no workflow is started"),
    (r#""roles/eventarc.eventReceiver", "roles/workflows.invoker""#, "the account may not start the workflow"),
    (r#"call_log_level = "LOG_NONE""#, "documents are logged"),
    ("audience = coalesce(var.audience, var.url)", "tokens are for nobody who is named"),
    ("value = google_service_account.sender.email", "nobody is told of the account"),
    ("value = local.audience", "nobody is told of the audience"),
];
/// What is a boolean to a parser of YAML 1.1, and so no name.
const BOOLEANS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];

/// The files of the sender, as they stand.
struct Sender {
    main: String,
    variables: String,
    post: String,
}

impl Sender {
    fn read() -> Self {
        let read = |name: &str| {
            let file = root().join("infra/google/events").join(name);
            fs::read_to_string(file).expect("a file of the sender can be read")
        };
        Self { main: read("main.tf"), variables: read("variables.tf"), post: read("post.yaml") }
    }

    /// The files with the first of a text changed in each.
    fn with(&self, from: &str, to: &str) -> Self {
        let change = |text: &str| text.replacen(from, to, 1);
        Self { main: change(&self.main), variables: change(&self.variables), post: change(&self.post) }
    }

    /// What the workflow is filled in with: names, and the expressions of their values.
    fn values(&self) -> BTreeMap<&str, &str> {
        let call = self.main.split_once(r#"templatefile("${path.module}/post.yaml", {"#);
        let values = call.and_then(|(_, rest)| rest.split_once("})")).map_or("", |(values, _)| values);
        let pairs = values.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.trim(), value.trim())).collect()
    }

    /// The workflow, with names in the places of what is filled in, and these names.
    fn workflow(&self) -> (Value, BTreeSet<&str>) {
        let (mut text, mut names, mut rest) = (String::new(), BTreeSet::new(), self.post.as_str());
        while let Some((before, behind)) = rest.split_once("${") {
            // with its sign twice it is the workflow's own
            if let Some(before) = before.strip_suffix('$') {
                text.extend([before, "${"]);
                rest = behind;
                continue;
            }
            let (name, behind) = behind.split_once('}').expect("what is filled in ends");
            text.extend([before, name]);
            names.insert(name);
            rest = behind;
        }
        text.push_str(rest);
        (serde_saphyr::from_str(&text).expect("the workflow is YAML"), names)
    }
}

/// What keeps events from being posted, proven or tried again.
fn violations(sender: &Sender) -> Vec<String> {
    let (values, (workflow, names)) = (sender.values(), sender.workflow());
    let mut found = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            found.push(what.to_owned());
        }
    };
    check(values.keys().eq(names.iter()), "what is filled in is not what the workflow names");
    let step = &workflow["main"]["steps"][0]["post"];
    let (call, asked, retry) = (&step["try"], &step["try"]["args"], &step["retry"]);
    check(call["call"] == "http.post" && asked["url"] == "url", "it does not post to the url");
    check(values.get("url") == Some(&DATABASE_BY_URL), "the url names no database");
    check(sender.variables.contains(r#"/api/v1/pitr/proj_[0-9A-Z]{26}/events$""#), "any url is taken");
    let api = api();
    let route = &api["paths"][ROUTE]["post"];
    check(has_parameter(route, "database"), "the API knows no such url");
    let kind = asked["headers"]["Content-Type"].as_str().unwrap_or_default();
    check(!route["requestBody"]["content"][kind].is_null(), "the API takes no such body");
    let is_event = workflow["main"]["params"] == json!(["event"]) && asked["body"] == "${json.encode(event)}";
    check(is_event, "the body is not the event");
    check(asked["auth"] == json!({"type": "OIDC", "audience": "audience"}), "there is no id token for the audience");
    check(values.get("audience") == Some(&"local.audience"), "the token is for another audience than is told");
    check(retry["predicate"] == "${may_pass}" && waits(retry) >= 2 * 3600, "it is not tried again for hours");
    check(step["except"]["raise"].is_string(), "what is given up is no failure");
    for status in MAY_PASS.into_iter().chain(STAYS) {
        let told = may_pass(&workflow["may_pass"]["steps"], status);
        let is_right = told == Some(MAY_PASS.contains(&status));
        check(is_right, &format!("of {status:?} it is said whether it may pass: {told:?}"));
    }
    check(!step_names(&workflow).any(|name| BOOLEANS.contains(&name)), "a step has a boolean for a name");
    let main = sender.main.split_whitespace().collect::<Vec<_>>().join(" ");
    for (text, what) in NEEDED {
        check(main.contains(text), what);
    }
    let account = "service_account = google_service_account.sender.email";
    check(main.matches(account).count() == 2, "trigger and workflow have other accounts");
    found
}

fn api() -> Value {
    let text = fs::read_to_string(root().join("docs/openapi.json")).expect("the API's document can be read");
    serde_json::from_str(&text).expect("the API's document is JSON")
}

fn has_parameter(route: &Value, name: &str) -> bool {
    route["parameters"].as_array().is_some_and(|all| all.iter().any(|parameter| parameter["name"] == name))
}

/// For how many seconds it is tried again in all.
fn waits(retry: &Value) -> u64 {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let backoff = &retry["backoff"];
    let (mut delay, most) = (number(&backoff["initial_delay"]), number(&backoff["max_delay"]));
    let mut all = 0;
    for _ in 0..number(&retry["max_retries"]) {
        all += delay.min(most);
        delay = most.min(delay * number(&backoff["multiplier"]));
    }
    all
}

/// What the workflow's predicate says of a status; nothing where it would fail, or is another than we understand.
fn may_pass(steps: &Value, status: Option<u64>) -> Option<bool> {
    for step in steps.as_array()? {
        let step = step.as_object()?.values().next()?;
        for case in step["switch"].as_array().into_iter().flatten() {
            if holds(case["condition"].as_str()?, status)? {
                return case["return"].as_bool();
            }
        }
        if let Some(told) = step["return"].as_bool() {
            return Some(told);
        }
    }
    None
}

fn holds(condition: &str, status: Option<u64>) -> Option<bool> {
    let condition = condition.strip_prefix("${")?.strip_suffix('}')?;
    if condition == r#"not("code" in e)"# {
        return Some(status.is_none());
    }
    let mut holds = false;
    for one in condition.split(" or ") {
        let (compared, number) = one.strip_prefix("e.code ")?.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        holds |= match compared {
            "==" => status? == number,
            ">=" => status? >= number,
            _ => return None,
        };
    }
    Some(holds)
}

fn step_names(workflow: &Value) -> impl Iterator<Item = &str> {
    let routines = workflow.as_object().into_iter().flat_map(|routines| routines.values());
    let steps = routines.flat_map(|routine| routine["steps"].as_array().into_iter().flatten());
    steps.filter_map(|step| Some(step.as_object()?.keys().next()?.as_str()))
}

#[test]
fn events_are_posted_proven_and_tried_again() {
    assert_none(&violations(&Sender::read()));
}

#[test]
fn a_sender_that_does_not_work_is_found() {
    let sender = Sender::read();
    for (from, to, expect) in [
        ("${url}", "${address}", "what is filled in is not"),
        ("http.post", "http.put", "does not post"),
        ("?database=", "?named=", "names no database"),
        ("/events$", "/event$", "any url"),
        ("application/cloudevents+json", "text/plain", "no such body"),
        ("json.encode(event)", "event", "not the event"),
        ("type: OIDC", "type: OAuth2", "no id token"),
        ("audience: ${audience}", "audience: ${url}", "no id token"),
        ("= local.audience", "= var.audience", "another audience"),
        ("max_retries: 20", "max_retries: 9", "for hours"),
        ("predicate: $${may_pass}", "predicate: $${http.default_retry}", "for hours"),
        ("raise: ", "return: ", "no failure"),
        ("e.code == 409 or ", "", "of Some(409)"),
        ("e.code == 429", "e.code == 428", "of Some(429)"),
        ("e.code >= 500", "e.code >= 501", "of Some(500)"),
        ("e.code >= 500", "e.code >= 400", "of Some(404)"),
        (r#"not("code" in e)"#, "e.code == 408", "of None"),
        ("v1.written", "v1.created", "other events"),
        ("LOG_NONE", "LOG_ALL_CALLS", "documents are logged"),
        ("service_account = google_service_account.sender.email", "", "other accounts"),
    ] {
        let found = violations(&sender.with(from, to));
        assert!(found.iter().any(|violation| violation.contains(expect)), "`{expect}` is not in {found:?}");
    }
}
