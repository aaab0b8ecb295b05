//! Selections that fit nothing, and snapshots that are named: what is asked for and is not there is told.

use std::fs;

use super::{Place, beside, disk, ends, failure_kind, json_ends, stderr, stdout};
use crate::stage::delete_all;

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_nothing_ends_with_5_in_every_command_and_does_nothing() {
    let place = Place::with(40).await;
    let program = &place.program;
    json_ends(program, &["backup"], 0);
    let before = disk(program);
    let output = beside(program, "users.ndjson");
    fs::write(&output, "as it was").unwrap();
    for line in [
        &["backup", "--plan", "--collection", "usres"][..],
        &["restore", "--document", "users/nobody"],
        &["restore", "--dry-run", "--collection", "**/usres"],
        &["restore", "--mode", "mirror", "--yes", "--collection", "usres"],
        &["export", "--collection", "usres", "--output", &output],
        &["diff", "latest", "live", "--collection", "usres"],
    ] {
        let failure = json_ends(program, line, 5);
        assert_eq!(failure_kind(&failure), "not_found");
        let text = failure["error"]["message"].as_str().unwrap();
        assert!(text.contains("usres`") || text.contains("users/nobody`"), "{line:?}: {text}");
    }
    assert_eq!(disk(program), before);
    assert_eq!(fs::read_to_string(&output).unwrap(), "as it was");
    assert!(!fs::exists(format!("{output}.partial")).unwrap(), "nothing in the clear stays behind");

    let text = stderr(&ends(program, &["backup", "--collection", "usres"], 5));
    assert!(text.contains("no document of demo-app/(default) fits `usres`"), "{text}");
    assert_eq!(json_ends(program, &["jobs"], 0)["jobs"], serde_json::json!([]));
    let empty = json_ends(program, &["backup", "--collection", "usres", "--allow-empty"], 0);
    assert_eq!(empty["totals"]["documents"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pattern_of_several_that_fits_nothing_is_told() {
    let place = Place::with(40).await;
    let program = &place.program;
    let both = ["--collection", "users", "--collection", "usres"];
    let backup = ends(program, &[&["backup"][..], &both].concat(), 0);
    assert!(stderr(&backup).contains("no document fits `usres`"), "{backup:?}");
    let planned = json_ends(program, &[&["backup", "--plan"][..], &both].concat(), 0);
    assert_eq!(planned["unmatched"], serde_json::json!(["usres"]), "{planned:#}");
    let planned = ends(program, &[&["backup", "--plan"][..], &both].concat(), 0);
    assert!(stderr(&planned).contains("no document fits `usres`"), "{planned:?}");
    json_ends(program, &["backup"], 0);
    for (line, code) in [(&["restore"][..], 3), (&["restore", "--dry-run"], 3), (&["diff", "latest", "live"], 0)] {
        let value = json_ends(program, &[line, &both].concat(), code);
        let unmatched = value.get("unmatched").or_else(|| value["documents"].get("unmatched"));
        assert_eq!(unmatched, Some(&serde_json::json!(["usres"])), "{value:#}");
    }
    let output = beside(program, "users.ndjson");
    let line = [&["export", "--output", &output][..], &both].concat();
    assert_eq!(json_ends(program, &line, 3)["unmatched"], serde_json::json!(["usres"]));
    assert!(!fs::read_to_string(&output).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_dropped_by_name_and_staging_files_go_with_a_prune() {
    let place = Place::with(40).await;
    let program = &place.program;
    let old = json_ends(program, &["backup"], 0);
    let id = old["id"].as_str().unwrap();
    let kept = json_ends(program, &["backup"], 0);
    let root = program.folder.path().join("repository");
    let manifest = root.join(format!("snapshots/{id}.manifest"));
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[150] ^= 1;
    fs::write(&manifest, bytes).unwrap();
    let staging = root.join("runs/staging.run#1");
    fs::write(&staging, "left by a killed writer").unwrap();

    let text = stderr(&ends(program, &["prune", "--exclusive"], 1));
    assert!(text.contains(&format!("--drop {id}")) && text.contains("is damaged"), "{text}");
    let unasked = stderr(&ends(program, &["prune", "--drop", id], 1));
    assert!(unasked.contains("--yes"), "{unasked}");
    assert!(manifest.exists() && staging.exists());
    let pruned = json_ends(program, &["prune", "--drop", id, "--yes"], 0);
    assert_eq!((&pruned["dropped"][0], &pruned["staging_files"]), (&old["id"], &0.into()), "{pruned:#}");
    assert!(staging.exists(), "somebody may still write it");
    let pruned = json_ends(program, &["prune", "--exclusive"], 0);
    assert_eq!(pruned["staging_files"], 1, "{pruned:#}");
    assert!(!staging.exists());
    let list = json_ends(program, &["list"], 0);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(list["snapshots"][0]["id"], kept["id"]);
    let verified = stdout(&ends(program, &["verify", "--all"], 0));
    assert!(verified.contains(kept["id"].as_str().unwrap()), "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_read_is_listed_and_the_next_backup_begins_anew() {
    let place = Place::with(40).await;
    let program = &place.program;
    ends(program, &["backup", "--max-reads", "10"], 4);
    let jobs = json_ends(program, &["jobs"], 0);
    let job = jobs["jobs"][0]["job"].as_str().unwrap().to_owned();
    let plan = program.folder.path().join(format!("repository/receipts/{job}/plan"));
    fs::write(&plan, "rubbish").unwrap();

    let jobs = json_ends(program, &["jobs"], 3);
    assert_eq!((&jobs["jobs"][0]["type"], &jobs["jobs"][0]["job"]), (&"unreadable".into(), &job.clone().into()));
    assert!(stdout(&ends(program, &["jobs"], 3)).contains("--fresh"));
    let asked = stderr(&ends(program, &["backup", "--resume", &job], 1));
    assert!(asked.contains("--fresh") && asked.contains(&job), "{asked}");
    let output = ends(program, &["backup"], 0);
    assert!(stderr(&output).contains(&format!("{job} was not gone on with")), "{output:?}");
    delete_all(&place.source).await;
    assert_eq!(json_ends(program, &["restore"], 0)["documents"]["written"], 40);
}
