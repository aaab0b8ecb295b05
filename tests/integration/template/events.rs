//! The sample events: every function has some, what the schedules send is among them, and `events/README.md` says of each
//! where it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{FUNCTIONS, Template, assert_finds, assert_none, root};

/// Every file below the folder, by its path there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("the folder can be listed").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Every sample event, as `events/README.md` names it.
fn events() -> BTreeSet<String> {
    let folder = root().join("events");
    let names = files(&folder).into_iter().map(|file| {
        let name = file.strip_prefix(&folder).expect("the file is below the folder");
        name.to_str().expect("the name is UTF-8").to_owned()
    });
    names.filter(|name| name != "README.md").collect()
}

fn page() -> String {
    fs::read_to_string(root().join("events/README.md")).expect("events/README.md can be read")
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What the page's table says of each event: a row has the names of events first, then where they come from.
fn origins(page: &str) -> BTreeMap<&str, &str> {
    let rows = page.lines().filter_map(|line| line.strip_prefix('|')?.split_once('|'));
    rows.flat_map(|(names, rest)| {
        let origin = rest.split('|').next().unwrap_or_default().trim();
        quoted(names).map(move |name| (name, origin))
    })
    .collect()
}

/// Which event comes from nowhere, and what the page names that there is not.
fn origin_violations(events: &BTreeSet<String>, page: &str) -> Vec<String> {
    let origins = origins(page);
    let homeless = events.iter().filter(|event| origins.get(event.as_str()).is_none_or(|origin| origin.is_empty()));
    let named = origins.keys().copied().chain(quoted(page).filter(|name| name.ends_with(".json")));
    let gone: BTreeSet<_> = named.filter(|name| !events.contains(*name)).collect();
    let homeless = homeless.map(|event| format!("{event} has no origin"));
    homeless.chain(gone.iter().map(|name| format!("{name} is not there"))).collect()
}

/// Which of the template's schedules sends what is no sample event.
fn schedule_violations(template: &Template) -> Vec<String> {
    let mut samples: Vec<_> = files(&root().join("events/maintenance")).iter().map(|file| event(file)).collect();
    samples.extend(files(&root().join("events/pitr-ingest")).iter().flat_map(|file| bodies(&event(file))));
    let mut found = Vec::new();
    for (name, schedule) in template.resources("AWS::Scheduler::Schedule") {
        let input = schedule["Properties"]["Target"]["Input"].as_str().unwrap_or_default();
        let sent: Value = serde_json::from_str(input).unwrap_or_default();
        if !samples.contains(&sent) {
            found.push(format!("{name} sends what is no sample event: {input}"));
        }
    }
    found
}

/// What the messages of a batch say, where that is JSON.
fn bodies(batch: &Value) -> Vec<Value> {
    let records = batch["Records"].as_array().into_iter().flatten();
    records.filter_map(|record| serde_json::from_str(record["body"].as_str()?).ok()).collect()
}

fn event(file: &Path) -> Value {
    let text = fs::read_to_string(file).expect("an event can be read");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn every_function_has_sample_events() {
    for function in FUNCTIONS {
        let found = files(&root().join("events").join(function));
        assert!(found.len() >= 2, "{function} has {} events", found.len());
        for file in &found {
            assert!(event(file).is_object(), "{}", file.display());
        }
    }
}

#[test]
fn every_sample_event_has_an_origin() {
    let (events, page) = (events(), page());
    assert_none(&origin_violations(&events, &page));
    for name in &events {
        assert!(FUNCTIONS.iter().any(|function| name.starts_with(&format!("{function}/"))), "{name} is of no function");
    }
}

#[test]
fn a_sample_event_without_an_origin_is_found() {
    let (events, page) = (events(), page());
    let found = |events: &BTreeSet<String>, page: &str, expect: &str| {
        let found = origin_violations(events, page);
        assert!(found.iter().any(|violation| violation == expect), "`{expect}` is not in {found:?}");
    };
    let mut more = events.clone();
    more.insert("maintenance/new.json".to_owned());
    found(&more, &page, "maintenance/new.json has no origin");
    let mut fewer = events.clone();
    fewer.remove("maintenance/sweep.json");
    found(&fewer, &page, "maintenance/sweep.json is not there");
    found(&events, &format!("{page}| `api/other.json` | nobody |\n"), "api/other.json is not there");
    found(&events, &format!("{page}See `api/other.json`.\n"), "api/other.json is not there");
    found(&events, &page.replace("`api/root.json`", "`api/health.json`"), "api/root.json has no origin");
    let silent = page.replace("| `maintenance/unknown.json` | ", "| `maintenance/unknown.json` | | ");
    assert_ne!(silent, page);
    found(&events, &silent, "maintenance/unknown.json has no origin");
}

#[test]
fn what_the_schedules_send_is_among_the_sample_events() {
    let template = Template::read();
    assert_none(&schedule_violations(&template));
    let other = template.with("/Resources/LocksSchedule/Properties/Target/Input", json!(r#"{"task":"unlock"}"#));
    assert_finds(schedule_violations, &other, "LocksSchedule sends");
    let none = template.without("/Resources/SweepSchedule/Properties/Target", "Input");
    assert_finds(schedule_violations, &none, "SweepSchedule sends");
}
