//! What the dashboard shows: every function, every queue and every metric that the stack writes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{FUNCTIONS, Template, assert_finds, assert_none};

/// The names under which metrics are written, on AWS and on one machine.
const METRICS: &[&str] = &[
    "queue_jobs_waiting",
    "queue_jobs_active",
    "captures_degraded",
    "backup_duration_seconds",
    "backup_success_total",
    "backup_failure_total",
    "api_request_duration_seconds",
];

/// What widgets show: name and last dimension of each metric.
fn shown(template: &Template) -> BTreeSet<(String, String)> {
    let body = template.resource("Dashboard")["Properties"]["DashboardBody"]["Fn::Sub"].as_str().unwrap();
    let body: Value = serde_json::from_str(body).expect("a dashboard is JSON once its names are filled in");
    let widgets = body["widgets"].as_array().unwrap().iter();
    let metrics = widgets.flat_map(|widget| widget["properties"]["metrics"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    metrics.map(|metric| (text(&metric[1]), text(&metric[3]))).collect()
}

fn violations(template: &Template) -> Vec<String> {
    let shown = shown(template);
    let mut wanted = Vec::new();
    for function in FUNCTIONS {
        wanted.extend(["Errors", "Throttles"].map(|metric| (metric.to_owned(), format!("${{Name}}-{function}"))));
    }
    for (_, queue) in template.resources("AWS::SQS::Queue") {
        let name = queue["Properties"]["QueueName"]["Fn::Sub"].as_str().unwrap_or_default().to_owned();
        wanted.push(("ApproximateNumberOfMessagesVisible".to_owned(), name));
    }
    wanted.extend(METRICS.iter().map(|metric| ((*metric).to_owned(), "${Name}".to_owned())));
    wanted
        .into_iter()
        .filter(|metric| !shown.contains(metric))
        .map(|metric| format!("{metric:?} is not shown"))
        .collect()
}

#[test]
fn every_function_every_queue_and_every_metric_is_shown() {
    let template = Template::read();
    assert_none(&violations(&template));
    let body = template.resource("Dashboard")["Properties"]["DashboardBody"]["Fn::Sub"].as_str().unwrap();
    let pointer = "/Resources/Dashboard/Properties/DashboardBody/Fn::Sub";
    for (shown, gone) in [("${Name}-realtime", "${Name}-other"), ("queue_jobs_waiting", "jobs"), ("notify\"", "n\"")] {
        assert_finds(violations, &template.with(pointer, body.replace(shown, gone).into()), "is not shown");
    }
}
