//! Nothing that was asked for gets lost without a trace: dead-letter queues, their alarms, and what calls whom.

use std::fs;

use serde_json::{Value, json};

use super::{Template, assert_finds, assert_none, list, named, root};

/// Queues that others put their dead letters into.
fn dead_letter_queues(template: &Template) -> Vec<String> {
    let redriven = template
        .resources("AWS::SQS::Queue")
        .map(|(_, queue)| named(&queue["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]));
    let invoked = template
        .resources("AWS::Lambda::EventInvokeConfig")
        .map(|(_, config)| named(&config["Properties"]["DestinationConfig"]["OnFailure"]["Destination"]));
    let mut found: Vec<_> = redriven.chain(invoked).filter(|name| name != "null").collect();
    found.sort();
    found.dedup();
    found
}

/// What has no dead-letter queue, and which dead-letter queue has no alarm that is always there.
fn violations(template: &Template) -> Vec<String> {
    let dead_letters = dead_letter_queues(template);
    let mut found = Vec::new();
    for (name, queue) in template.resources("AWS::SQS::Queue") {
        let properties = &queue["Properties"];
        if properties["RedrivePolicy"].is_null() && !dead_letters.iter().any(|dead| dead == name) {
            found.push(format!("{name} has no dead-letter queue"));
        }
        if properties["SqsManagedSseEnabled"] != true {
            found.push(format!("{name} is not encrypted"));
        }
    }
    for dead in &dead_letters {
        if !watched(template, dead) {
            found.push(format!("{dead} has no alarm"));
        }
    }
    for (name, schedule) in template.resources("AWS::Scheduler::Schedule") {
        let target = &schedule["Properties"]["Target"];
        if !dead_letters.contains(&named(&target["DeadLetterConfig"]["Arn"])) {
            found.push(format!("{name} has no dead-letter queue"));
        }
        let arn = named(&target["Arn"]);
        if template.resource(&arn)["Type"] != "AWS::SQS::Queue" {
            found.extend(unless_on_failure(template, &arn));
        }
    }
    found.extend(unless_on_failure(template, "ScheduleTriggerFunction"));
    found.extend(unless_on_failure(template, "RealtimeFunction"));
    found
}

fn watched(template: &Template, queue: &str) -> bool {
    template.resources("AWS::CloudWatch::Alarm").any(|(_, alarm)| {
        alarm["Condition"].is_null()
            && alarm["Properties"]["MetricName"] == "ApproximateNumberOfMessagesVisible"
            && named(&alarm["Properties"]["Dimensions"][0]["Value"]) == queue
            && alarm["Properties"]["Threshold"] == 0
    })
}

/// A function that is invoked without anybody waiting has to put what it failed on somewhere.
fn unless_on_failure(template: &Template, function: &str) -> Option<String> {
    let has = template.resources("AWS::Lambda::EventInvokeConfig").any(|(_, config)| {
        let properties = &config["Properties"];
        named(&properties["FunctionName"]) == function && !properties["DestinationConfig"]["OnFailure"].is_null()
    });
    (!has).then(|| format!("{function} is invoked asynchronously and has nowhere to put what it failed on"))
}

/// What is wrong with how queues are consumed.
fn consumer_violations(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    for (name, mapping) in template.resources("AWS::Lambda::EventSourceMapping") {
        let properties = &mapping["Properties"];
        if properties["FunctionResponseTypes"] != json!(["ReportBatchItemFailures"]) {
            found.push(format!("{name} fails whole batches"));
        }
        let queue = template.resource(&named(&properties["EventSourceArn"]));
        let function = template.resource(&named(&properties["FunctionName"]));
        if queue["Properties"]["FifoQueue"] == true && properties["BatchSize"] != 1 {
            found.push(format!("{name}: what comes behind a message that failed overtakes it"));
        }
        let hidden = queue["Properties"]["VisibilityTimeout"].as_u64().unwrap_or_default();
        let takes = function["Properties"]["Timeout"].as_u64().unwrap_or(u64::MAX / 6);
        if hidden < 6 * takes {
            found.push(format!("{name}: a message is hidden for {hidden} s, the function may take {takes} s"));
        }
    }
    found
}

/// What of a message that comes each minute would be taken for the last one, or come to a queue without a group.
fn tick_violations(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    for (name, schedule) in template.resources("AWS::Scheduler::Schedule") {
        let target = &schedule["Properties"]["Target"];
        let queue = &template.resource(&named(&target["Arn"]))["Properties"];
        if queue["FifoQueue"] != true {
            continue;
        }
        let input = target["Input"].as_str().unwrap_or_default();
        if queue["ContentBasedDeduplication"] != true || !input.contains("<aws.scheduler.scheduled-time>") {
            found.push(format!("{name}: of what it sends the second is not taken"));
        }
        if target["SqsParameters"]["MessageGroupId"].is_null() {
            found.push(format!("{name} sends to no group"));
        }
    }
    found
}

/// Dead letters of a queue that keeps an order are kept in one that does, too: SQS takes no other.
fn order_violations(template: &Template) -> Vec<String> {
    let is_fifo = |name: &str| template.resource(name)["Properties"]["FifoQueue"] == true;
    let mut found = Vec::new();
    for (name, queue) in template.resources("AWS::SQS::Queue") {
        let dead = named(&queue["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]);
        if dead != "null" && is_fifo(name) != is_fifo(&dead) {
            found.push(format!("{name} and {dead} are of two kinds"));
        }
        let ends_so = named(&queue["Properties"]["QueueName"]).ends_with(".fifo");
        if ends_so != is_fifo(name) {
            found.push(format!("{name} is named as a queue of the other kind"));
        }
    }
    found
}

/// What an alarm lacks: somebody who is told, and a page that says what to do.
fn alarm_violations(template: &Template, runbook: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, alarm) in template.resources("AWS::CloudWatch::Alarm") {
        let properties = &alarm["Properties"];
        if properties["AlarmActions"] != json!([{"Ref": "AlarmTopic"}]) {
            found.push(format!("{name} tells nobody"));
        }
        let says = properties["AlarmDescription"].as_str().unwrap_or_default();
        let anchor = says.split_once("docs/operations.md#").map(|(_, anchor)| anchor);
        if !anchor.is_some_and(|anchor| runbook.lines().any(|line| line == format!("### {anchor}"))) {
            found.push(format!("{name} has no runbook: `{says}`"));
        }
    }
    found
}

/// How many metrics the alarms of a kind of monitoring watch: CloudWatch counts these.
fn watched_metrics(template: &Template, full: bool) -> usize {
    let counts = template.resources("AWS::CloudWatch::Alarm").filter(|(_, alarm)| full || alarm["Condition"].is_null());
    counts
        .map(|(_, alarm)| {
            let metrics = list(&alarm["Properties"]["Metrics"]);
            metrics.iter().filter(|metric| !metric["MetricStat"].is_null()).count().max(1)
        })
        .sum()
}

#[test]
fn every_queue_and_every_asynchronous_call_has_a_watched_dead_letter_queue() {
    assert_none(&violations(&Template::read()));
}

#[test]
fn a_queue_without_a_dead_letter_queue_is_found() {
    let template = Template::read();
    let bare = template.without("/Resources/JobsQueue/Properties", "RedrivePolicy");
    assert_finds(violations, &bare, "JobsQueue has no dead-letter queue");
    let unwatched = template.without("/Resources", "JobsDeadLettersAlarm");
    assert_finds(violations, &unwatched, "JobsDeadLetters has no alarm");
    let silent = template.without("/Resources", "MaintenanceInvocations");
    assert_finds(violations, &silent, "MaintenanceFunction is invoked asynchronously");
    let lost = template.without("/Resources/SweepSchedule/Properties/Target", "DeadLetterConfig");
    assert_finds(violations, &lost, "SweepSchedule has no dead-letter queue");
}

#[test]
fn queues_are_consumed_message_by_message() {
    let template = Template::read();
    assert_none(&consumer_violations(&template));
    let short = template.with("/Resources/JobsQueue/Properties/VisibilityTimeout", json!(60));
    assert_finds(consumer_violations, &short, "hidden for 60 s");
    let whole = template.without("/Resources/JobsQueueMapping/Properties", "FunctionResponseTypes");
    assert_finds(consumer_violations, &whole, "fails whole batches");
}

#[test]
fn what_keeps_an_order_keeps_it() {
    let template = Template::read();
    assert_none(&tick_violations(&template));
    assert_none(&order_violations(&template));
    let many = template.with("/Resources/PitrQueueMapping/Properties/BatchSize", json!(10));
    assert_finds(consumer_violations, &many, "overtakes it");
    let target = "/Resources/PitrSchedule/Properties/Target";
    let alike = template.with(&format!("{target}/Input"), json!(r#"{"tick":"now"}"#));
    assert_finds(tick_violations, &alike, "of what it sends the second is not taken");
    assert_finds(tick_violations, &template.without(target, "SqsParameters"), "sends to no group");
    let standard = template.without("/Resources/PitrDeadLetters/Properties", "FifoQueue");
    assert_finds(order_violations, &standard, "PitrQueue and PitrDeadLetters are of two kinds");
    assert_finds(order_violations, &standard, "PitrDeadLetters is named as a queue of the other kind");
}

#[test]
fn every_alarm_tells_somebody_and_has_a_runbook() {
    let template = Template::read();
    let runbook = fs::read_to_string(root().join("docs/operations.md")).expect("docs/operations.md can be read");
    assert_none(&alarm_violations(&template, &runbook));
    assert_finds(|template| alarm_violations(template, ""), &template, "JobsDeadLettersAlarm has no runbook");
    assert!(template.resources("AWS::CloudWatch::Alarm").count() >= 6);
}

#[test]
fn the_cost_model_counts_the_alarms_that_there_are() {
    let template = Template::read();
    let text = fs::read_to_string(root().join("docs/cost-inputs.json")).expect("docs/cost-inputs.json can be read");
    let inputs: Value = serde_json::from_str(&text).expect("docs/cost-inputs.json is JSON");
    let counted = |kind: &str| inputs["monitoring"][kind]["alarm_metrics"].as_u64().expect("a number of metrics");
    assert_eq!(counted("basic"), watched_metrics(&template, false) as u64);
    assert_eq!(counted("full"), watched_metrics(&template, true) as u64);
}
