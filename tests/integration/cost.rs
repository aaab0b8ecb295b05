//! The arithmetic of `scripts/cost-model`, on inputs small enough to reckon by hand, and the target for an idle stack.

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

#[test]
fn the_parts_of_a_backup_are_reckoned_as_by_hand() {
    let mut inputs = inputs();
    inputs["backup"]["documents"] = json!([1_000_000]);
    inputs["measured"]["backup"]["documents_a_second_of_a_chunk"]["value"] = json!(10_000);
    inputs["measured"]["backup"]["documents_a_chunk"]["value"] = json!(100_000);
    inputs["settings"]["chunk_memory_mb"] = json!(1024);
    for (name, price) in [("lambda_gb_second", 0.001), ("lambda_million_requests", 1.0), ("firestore_100k_reads", 0.5)]
    {
        inputs["prices"][name]["value"] = json!(price);
    }
    let backup = &model(&inputs)["backups"][0];
    // Ten chunks of ten seconds with 1 GB, and the two steps around them.
    let around = backup["counts"]["step_gb_seconds"].as_f64().expect("a number");
    assert_dollars(&backup["parts"]["Lambda"], (100.0 + around) * 0.001 + 12.0 * 1.0 / 1e6);
    assert_dollars(&backup["parts"]["Firestore reads"], 5.0);
    let sum: f64 = backup["parts"].as_object().expect("parts").values().filter_map(Value::as_f64).sum();
    assert_dollars(&backup["total"], sum);
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
fn an_idle_stack_with_basic_monitoring_costs_less_than_two_dollars_a_month() {
    let idle = &model(&inputs())["idle"];
    let dollars = |monitoring: &str, tier: &str| idle[monitoring][tier]["total"].as_f64().expect("an amount");
    assert!(dollars("basic", "without_free_tier") < 2.0, "{idle:#}");
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
