//! The arithmetic of `scripts/cost-model`, on amounts small enough to reckon by hand at the prices of
//! `docs/cost-inputs.json`, and the target for an idle stack.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace").to_owned()
}

fn inputs() -> Value {
    let text = fs::read_to_string(root().join("docs/cost-inputs.json")).expect("docs/cost-inputs.json can be read");
    serde_json::from_str(&text).expect("docs/cost-inputs.json is JSON")
}

fn model(inputs: &Value) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("inputs.json");
    fs::write(&file, inputs.to_string()).expect("the inputs can be written");
    let output = Command::new("python3")
        .arg(root().join("scripts/cost-model"))
        .args(["--json", "--inputs"])
        .arg(&file)
        .output()
        .expect("Python can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the model prints JSON")
}

#[track_caller]
fn assert_dollars(actual: &Value, expect: f64) {
    let actual = actual.as_f64().unwrap_or_else(|| panic!("{actual} is no amount"));
    assert!((actual - expect).abs() < 1e-9, "{actual} instead of {expect}");
}

/// Amounts in dollars, each by what it is for.
type Bill = BTreeMap<String, f64>;

/// The inputs with amounts to reckon with by hand: a backup of a million documents of 1 KiB in ten chunks, each of ten
/// seconds in two calls, each of which puts 25.6 MB in two parts; and a month of which no part is within the free tier.
fn small() -> Value {
    let mut inputs = inputs();
    inputs["backup"]["documents"] = json!([1_000_000]);
    inputs["settings"] = json!({
        "chunk_memory_mb": 2048, "step_memory_mb": 512, "bytes_a_document": 1024, "kept_daily_backups": 7, "days_a_month": 30,
    });
    inputs["measured"]["backup"] = valued(&json!({
        "documents_a_second_of_a_chunk": 10_000, "documents_a_chunk": 100_000, "most_seconds_of_a_call": 5,
        "plan_seconds": 4, "finalize_seconds": 6, "compressed_share": 0.5, "bytes_a_part": 12_800_000,
        "table_writes_a_chunk": 4, "table_reads_a_chunk": 3, "table_writes_a_job": 40, "table_reads_a_job": 30,
        "puts_a_chunk": 2, "puts_a_job": 8, "gets_a_chunk": 2, "gets_a_job": 8, "key_calls_a_chunk": 1, "key_calls_a_job": 2,
        "seconds_between_cancel_checks": 2, "seconds_between_progress_notes": 1,
    }));
    inputs["measured"]["idle"] = valued(&json!({
        "sweep_seconds": 0.5, "sweep_table_reads": 4, "sweep_table_writes": 2, "sweep_log_bytes": 1000,
        "task_seconds": 10, "queue_polls_a_minute": 10, "tick_seconds": 0.25, "tick_table_reads": 3,
    }));
    inputs["monitoring"] =
        json!({"basic": {"alarm_metrics": 12, "dashboards": 4}, "full": {"alarm_metrics": 40, "dashboards": 5}});
    inputs["free_tier"] = json!({
        "lambda_requests": 730, "lambda_gb_seconds": 610, "sqs_requests": 32_000, "scheduler_invocations": 1730,
        "alarm_metrics": 10, "dashboards": 3, "logs_gb": 0.00073, "xray_traces": 2730,
    });
    inputs
}

/// Each amount as the file writes it, with room for how it was measured.
fn valued(amounts: &Value) -> Value {
    let amounts = amounts.as_object().expect("amounts").iter();
    amounts.map(|(name, amount)| (name.clone(), json!({"value": amount}))).collect()
}

/// What the backup above costs at the prices of the inputs.
fn backup_by_hand(price: impl Fn(&str) -> f64) -> Vec<(&'static str, f64)> {
    // Ten chunks of ten seconds with 2 GB, ten seconds of plan and finalize with half of one; and their 20 + 2 calls.
    let lambda = (10.0 * 10.0 * 2.0 + 10.0 * 0.5) * price("lambda_gb_second");
    let calls = 22.0 / 1e6 * price("lambda_million_requests");
    // Six states of the job; three of a chunk that is done in one call, and two more for its second call.
    let states = (6.0 + 10.0 * 3.0 + 10.0 * 2.0) / 1e3 * price("states_1k_transitions");
    // 20 runs are begun, have two parts and are completed, and 20 receipts and 8 other objects are put: of the two puts a
    // chunk one is the receipt, and the other stands for the parts.
    let puts = (20.0 + 40.0 + 20.0 + 20.0 + 8.0) / 1e3 * price("s3_1k_puts");
    // 20 runs, 20 receipts and 8 other objects are looked at.
    let gets = (20.0 + 20.0 + 8.0) / 1e3 * price("s3_1k_gets");
    // Of the hundred seconds of chunks each says how far it is.
    let writes = (20.0 * 4.0 + 40.0 + 100.0) / 1e6 * price("dynamodb_million_writes");
    // Of the hundred seconds of chunks every second one has a look whether the job was cancelled, and each whether it is
    // watched.
    let reads = (20.0 * 3.0 + 30.0 + 50.0 + 100.0) / 1e6 * price("dynamodb_million_reads");
    vec![
        ("Lambda", lambda + calls),
        ("Step Functions", states),
        ("S3 requests", puts + gets),
        // Half of 1.024 GB.
        ("S3 storage, a month", 0.512 * price("s3_gb_month")),
        ("DynamoDB", writes + reads),
        // Every call unwraps the key of its repository.
        ("KMS", 22.0 / 1e4 * price("kms_10k_requests")),
        ("Firestore reads", 10.0 * price("firestore_100k_reads")),
        ("Google's network", GIB * price("google_egress_gib")),
    ]
}

/// 1.024 GB in GiB: a million documents of 1 KiB as Google counts them.
const GIB: f64 = 1_000_000.0 / (1024.0 * 1024.0);

/// What stands beside: the same by Google's own means, and a month of daily backups of which seven are kept.
fn beside_by_hand(price: impl Fn(&str) -> f64, backup: &[(&str, f64)]) -> Vec<(&'static str, f64)> {
    let stored = 0.512 * price("s3_gb_month");
    let all: f64 = backup.iter().map(|(_, dollars)| dollars).sum();
    // An export reads every document once, and is stored as it is.
    let (export, exported) = (10.0 * price("firestore_100k_reads"), GIB * price("gcs_gib_month"));
    vec![
        ("documents", 1e6),
        ("firebackup_once", all),
        ("firebackup_month", 30.0 * (all - stored) + 7.0 * stored),
        ("export_once", export + exported),
        ("export_month", 30.0 * export + 7.0 * exported),
        ("managed_backups_month", 7.0 * GIB * price("firestore_managed_backup_gib_month")),
    ]
}

/// What of an idle month is paid for.
#[derive(Default)]
struct Paid {
    alarm_metrics: f64,
    dashboards: f64,
    polls: f64,
    gb_seconds: f64,
    calls: f64,
    invocations: f64,
    logs_gb: f64,
    traces: f64,
}

/// Ticks of a month, one a minute.
const TICKS: f64 = 43_200.0;

/// All of the month above: a sweep every five minutes is 12 an hour and 8,640 in 30 days, and with four tasks a night
/// (retention, locks, keys, audit) it is 8,760 calls. Half a second a sweep and ten a task, with half a GB, are 2,760 GB-seconds. A tick a minute is 43,200 calls more, of a
/// quarter of a second with two GB (21,600 GB-seconds), each sent, hidden and deleted.
const ALL: Paid = Paid {
    alarm_metrics: 12.0,
    dashboards: 4.0,
    polls: (10.0 + 3.0) * TICKS,
    gb_seconds: (8640.0 * 0.5 + 120.0 * 10.0) * 0.5 + TICKS * 0.25 * 2.0,
    calls: 8760.0 + TICKS,
    invocations: 8760.0 + TICKS,
    logs_gb: (8760.0 + TICKS) * 1000.0 / 1e9,
    traces: 8760.0 + TICKS,
};

/// What is left of it when the free tier above is taken off.
const BEYOND: Paid = Paid {
    alarm_metrics: 2.0,
    dashboards: 1.0,
    polls: 529_600.0,
    gb_seconds: 23_750.0,
    calls: 51_230.0,
    invocations: 50_230.0,
    logs_gb: 0.051_23,
    traces: 49_230.0,
};

fn idle_by_hand(price: impl Fn(&str) -> f64, paid: &Paid) -> Vec<(&'static str, f64)> {
    let lambda = paid.gb_seconds * price("lambda_gb_second") + paid.calls / 1e6 * price("lambda_million_requests");
    // Four reads and two writes a sweep, three reads a tick.
    let reads = (4.0 * 8640.0 + 3.0 * TICKS) / 1e6 * price("dynamodb_million_reads");
    let writes = 2.0 * 8640.0 / 1e6 * price("dynamodb_million_writes");
    vec![
        ("KMS key", price("kms_key_month")),
        ("Alarms", paid.alarm_metrics * price("alarm_metric_month")),
        ("Dashboard", paid.dashboards * price("dashboard_month")),
        ("SQS polls", paid.polls / 1e6 * price("sqs_million_requests")),
        ("Lambda", lambda),
        ("Scheduler", paid.invocations / 1e6 * price("scheduler_million_invocations")),
        ("DynamoDB", reads + writes),
        ("Logs", paid.logs_gb * price("logs_gb")),
        ("X-Ray", paid.traces / 1e6 * price("xray_million_traces")),
    ]
}

/// All that the model says, reckoned by hand at the prices of the inputs.
fn by_hand(inputs: &Value) -> Bill {
    let price = |name: &str| inputs["prices"][name]["value"].as_f64().unwrap_or_else(|| panic!("{name} has no price"));
    let backup = backup_by_hand(price);
    let mut bill = Bill::new();
    add(&mut bill, "beside", &beside_by_hand(price, &backup));
    add(&mut bill, "backup", &with_total(backup));
    for (monitoring, alarm_metrics, dashboards) in [("basic", 0.0, 0.0), ("full", 28.0, 1.0)] {
        for (tier, paid) in [("without_free_tier", ALL), ("with_free_tier", BEYOND)] {
            let (alarm_metrics, dashboards) = (paid.alarm_metrics + alarm_metrics, paid.dashboards + dashboards);
            let month = idle_by_hand(price, &Paid { alarm_metrics, dashboards, ..paid });
            add(&mut bill, &format!("{monitoring} {tier}"), &with_total(month));
        }
    }
    bill
}

fn with_total(mut parts: Vec<(&'static str, f64)>) -> Vec<(&'static str, f64)> {
    parts.push(("total", parts.iter().map(|(_, dollars)| dollars).sum()));
    parts
}

fn add(bill: &mut Bill, of: &str, parts: &[(&str, f64)]) {
    bill.extend(parts.iter().map(|(name, dollars)| (format!("{of}: {name}"), *dollars)));
}

/// All that the model says, in the same words.
fn by_model(answer: &Value) -> Bill {
    let mut bill = amounts("beside", &answer["beside"][0]);
    let mut month = |of: &str, one: &Value| {
        bill.extend(amounts(of, &one["parts"]));
        bill.extend(amounts(of, &json!({"total": one["total"]})));
    };
    month("backup", &answer["backups"][0]);
    for (monitoring, tiers) in answer["idle"].as_object().expect("months") {
        for (tier, one) in tiers.as_object().expect("months with and without the free tier") {
            month(&format!("{monitoring} {tier}"), one);
        }
    }
    bill
}

fn amounts(of: &str, found: &Value) -> Bill {
    let parts = found.as_object().unwrap_or_else(|| panic!("there is no {of}")).iter();
    parts.map(|(name, dollars)| (format!("{of}: {name}"), dollars.as_f64().expect("an amount"))).collect()
}

/// What two bills do not have in common.
fn differences(actual: &Bill, expect: &Bill) -> Vec<String> {
    let same = |name: &String| match (actual.get(name), expect.get(name)) {
        (Some(one), Some(other)) => (one - other).abs() < 1e-9,
        _ => false,
    };
    let mut names: Vec<_> = actual.keys().chain(expect.keys()).filter(|name| !same(name)).collect();
    names.sort();
    names.dedup();
    names.iter().map(|name| format!("{name}: {:?} instead of {:?}", actual.get(*name), expect.get(*name))).collect()
}

/// Where every amount of the inputs stands.
fn places(inputs: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for part in ["prices", "settings", "free_tier", "monitoring", "measured"] {
        numbers(&inputs[part], &format!("/{part}"), &mut found);
    }
    found
}

fn numbers(value: &Value, at: &str, found: &mut Vec<String>) {
    if value.is_number() {
        found.push(at.to_owned());
    }
    for (name, one) in value.as_object().into_iter().flatten() {
        numbers(one, &format!("{at}/{name}"), found);
    }
}

/// The names of the states on the way to success, when everything is done at once.
fn walked(machine: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    let mut next = machine["StartAt"].as_str();
    while let Some(name) = next {
        found.push(name);
        let state = &machine["States"][name];
        next = state["Next"].as_str().or_else(|| state["Choices"][0]["Next"].as_str());
    }
    found
}

#[test]
fn every_part_is_reckoned_as_by_hand() {
    let inputs = small();
    let found = differences(&by_model(&model(&inputs)), &by_hand(&inputs));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn an_input_that_is_read_wrongly_is_found() {
    let inputs = small();
    let expect = by_hand(&inputs);
    for place in places(&inputs) {
        let mut changed = inputs.clone();
        let amount = changed.pointer_mut(&place).expect("there is an amount");
        *amount = json!(2.0 * amount.as_f64().expect("a number") + 1.0);
        assert!(!differences(&by_model(&model(&changed)), &expect).is_empty(), "nothing depends on {place}");
    }
}

#[test]
fn a_part_that_is_left_out_or_reckoned_twice_is_found() {
    let expect = by_hand(&small());
    for name in expect.keys() {
        let (mut fewer, mut twice) = (expect.clone(), expect.clone());
        fewer.remove(name);
        twice.insert(name.clone(), 2.0 * expect[name]);
        for found in [differences(&fewer, &expect), differences(&twice, &expect), differences(&expect, &fewer)] {
            assert!(found.len() == 1 && found[0].starts_with(name.as_str()), "{name}: {found:?}");
        }
    }
}

#[test]
fn a_chunk_is_at_least_one_call_that_puts_one_part() {
    let mut inputs = small();
    inputs["backup"]["documents"] = json!([1_000_000, 100]);
    inputs["measured"]["backup"]["most_seconds_of_a_call"]["value"] = json!(600);
    inputs["measured"]["backup"]["bytes_a_part"]["value"] = json!(1e12);
    let price = |name: &str| inputs["prices"][name]["value"].as_f64().expect("a price");
    let backups = &model(&inputs)["backups"];
    for (at, chunks) in [(0, 10.0), (1, 1.0)] {
        let parts = &backups[at]["parts"];
        assert_dollars(&parts["Step Functions"], (6.0 + 3.0 * chunks) / 1e3 * price("states_1k_transitions"));
        assert_dollars(&parts["KMS"], (chunks + 2.0) / 1e4 * price("kms_10k_requests"));
        // A run that is begun, has one part and is completed, and a receipt; and 8 other objects.
        let puts = (4.0 * chunks + 8.0) / 1e3 * price("s3_1k_puts");
        let gets = (2.0 * chunks + 8.0) / 1e3 * price("s3_1k_gets");
        assert_dollars(&parts["S3 requests"], puts + gets);
    }
}

/// The hand reckons with six states of a job, three of a chunk, and two for each further call.
#[test]
fn the_states_that_are_paid_for_are_those_of_the_machine() {
    let text = fs::read_to_string(root().join("infra/statemachines/backup.asl.json")).expect("the machine can be read");
    let machine: Value = serde_json::from_str(&text).expect("the machine is JSON");
    assert_eq!(walked(&machine), ["Plan", "AnyChunks", "Chunks", "Finalize", "Ended", "Completed"]);
    let chunk = &machine["States"]["Chunks"]["ItemProcessor"];
    assert_eq!(walked(chunk), ["Chunk", "ChunkDone", "ChunkEnd"]);
    assert_eq!(chunk["States"]["ChunkDone"]["Default"], "Chunk");
}

#[test]
fn a_free_tier_that_has_room_for_all_leaves_nothing_to_pay_and_gives_nothing_back() {
    let mut inputs = small();
    let room: Vec<_> = inputs["free_tier"].as_object().expect("a free tier").keys().cloned().collect();
    for name in room {
        inputs["free_tier"][name] = json!(1e12);
    }
    let price = |name: &str| inputs["prices"][name]["value"].as_f64().expect("a price");
    for monitoring in ["basic", "full"] {
        let month = &model(&inputs)["idle"][monitoring]["with_free_tier"]["parts"];
        let mut expect = Bill::new();
        add(&mut expect, monitoring, &idle_by_hand(price, &Paid::default()));
        assert!(differences(&amounts(monitoring, month), &expect).is_empty(), "{month:#}");
    }
}

#[test]
fn a_dearer_price_shows_in_its_own_part_only() {
    let cheap = model(&inputs());
    let mut inputs = inputs();
    let price = inputs["prices"]["states_1k_transitions"]["value"].as_f64().expect("a price");
    inputs["prices"]["states_1k_transitions"]["value"] = json!(2.0 * price);
    let dear = model(&inputs);
    for (before, after) in [(&cheap["backups"][2], &dear["backups"][2])] {
        for (part, dollars) in before["parts"].as_object().expect("parts") {
            let factor = if part == "Step Functions" { 2.0 } else { 1.0 };
            assert_dollars(&after["parts"][part], factor * dollars.as_f64().expect("an amount"));
        }
    }
}

#[test]
fn an_idle_stack_with_basic_monitoring_costs_less_than_three_and_a_half_dollars_a_month() {
    let idle = &model(&inputs())["idle"];
    let dollars = |monitoring: &str, tier: &str| idle[monitoring][tier]["total"].as_f64().expect("an amount");
    assert!(dollars("basic", "without_free_tier") < 3.5, "{idle:#}");
    assert!(dollars("basic", "with_free_tier") < dollars("basic", "without_free_tier"));
    assert!(dollars("full", "without_free_tier") > dollars("basic", "without_free_tier"));
}

#[test]
fn the_table_in_the_documentation_is_what_the_model_says() {
    let output = Command::new("python3").arg(root().join("scripts/cost-model")).output().expect("Python can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tables = String::from_utf8(output.stdout).expect("the model prints text");
    let page = fs::read_to_string(root().join("docs/operations.md")).expect("docs/operations.md can be read");
    for line in tables.lines().filter(|line| line.starts_with('|')) {
        assert!(page.lines().any(|own| own == line), "docs/operations.md lacks, from `make cost`: {line}");
    }
}
