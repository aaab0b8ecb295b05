//! How a command ends: each exit code where it belongs.

use std::fs;

use firebackup_model::document::{FIELDS_FIELD, NAME_FIELD};
use firebackup_model::port::{Precondition, Write};
use firebackup_model::wire::put_bytes_field;

use super::{Place, disk, ends, failure_kind, json_ends, stderr};
use crate::binary::Program;
use crate::stage::{database, read_all, write};

/// 32 bytes of `+`, in base64.
const ANOTHER_KEY: &str = "KysrKysrKysrKysrKysrKysrKysrKysrKysrKysrKys=";

#[test]
fn what_is_refused_changes_nothing() {
    let program = Program::new("127.0.0.1:1");
    let before = disk(&program);
    let twice = json_ends(&program, &["init"], 1);
    assert_eq!(failure_kind(&twice), "refused");
    assert!(twice["error"]["message"].as_str().unwrap().contains("already"), "{twice:#}");
    let other_key = program.command(&["init"]).env("FIREBACKUP_MASTER_KEY", ANOTHER_KEY).output().unwrap();
    assert_eq!(other_key.status.code(), Some(1), "{other_key:?}");
    assert_eq!(disk(&program), before);

    for line in [&["list"][..], &["backup"], &["prune"], &["key", "list"]] {
        let output = program.command(line).env("FIREBACKUP_MASTER_KEY", ANOTHER_KEY).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = stderr(&output);
        assert!(text.contains("master key") && text.contains("fingerprint"), "{text}");
        assert!(!text.contains(ANOTHER_KEY), "{text}");
    }
    let none = program.command(&["list"]).env_remove("FIREBACKUP_MASTER_KEY").output().unwrap();
    assert_eq!(none.status.code(), Some(1), "{none:?}");
    assert!(stderr(&none).contains("--master-key-file"), "what to give is said: {none:?}");
    assert_eq!(disk(&program), before);
}

#[test]
fn what_is_not_there_and_what_makes_no_sense_are_told_apart() {
    let program = Program::new("127.0.0.1:1");
    let missing = ["show", "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV"];
    assert_eq!(failure_kind(&json_ends(&program, &missing, 5)), "not_found");
    for line in [&["show"][..], &["verify"], &["get", "a/b"], &["restore"], &["restore", "--dry-run"]] {
        assert_eq!(failure_kind(&json_ends(&program, line, 5)), "not_found", "{line:?}");
    }
    let undo = ["restore", "--undo", "restore_01ARZ3NDEKTSV4RRFFQ69G5FAV"];
    assert_eq!(failure_kind(&json_ends(&program, &undo, 5)), "not_found");
    for line in [
        &["get", "users"][..],
        &["backup", "--compression", "lzma"],
        &["backup", "--collection", "a/b"],
        &["restore", "--document", "users"],
        &["prune", "--keep-last", "0"],
        &["prune", "--keep-daily", "0"],
        &["restore", "--undo", "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV"],
        &["bench", "--documents", "0"],
        &["export", "--path", "users["],
        &["restore", "--rename", "users=a/b"],
        &["restore", "--rename", "users=x", "--rename", "users=y"],
        &["restore", "--to-project", "a/b"],
        &["restore", "--to-database", ""],
        &["restore", "--undo", "restore_01ARZ3NDEKTSV4RRFFQ69G5FAV", "--to-database", "copy"],
        &["list", "--database", "a b"],
    ] {
        assert_eq!(failure_kind(&json_ends(&program, line, 2)), "usage", "{line:?}");
    }
    // a folder that is there and holds no repository
    fs::remove_dir_all(program.folder.path().join("repository")).unwrap();
    fs::create_dir(program.folder.path().join("repository")).unwrap();
    let text = stderr(&ends(&program, &["list"], 5));
    assert!(text.contains("firebackup init"), "what to do is said: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_budget_ends_with_4_and_the_job_goes_on_to_0() {
    let place = Place::with(90).await;
    let program = &place.program;
    let stopped = json_ends(program, &["backup", "--max-reads", "30"], 4);
    assert_eq!(failure_kind(&stopped), "read_budget");
    assert_eq!(json_ends(program, &["list"], 0)["snapshots"], serde_json::json!([]));
    // as long as the budget is spent it stays at that, and nothing more is read
    assert_eq!(failure_kind(&json_ends(program, &["backup", "--max-reads", "30"], 4)), "read_budget");
    let jobs = json_ends(program, &["jobs"], 0);
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(1), "{jobs:#}");
    let done = json_ends(program, &["backup", "--max-reads", "91"], 0);
    assert_eq!((done["resumed"].as_bool(), done["reads"].as_u64()), (Some(true), Some(90)), "{done:#}");
    assert_eq!(done["totals"]["documents"], 90);
    assert_eq!(done["consistency"], "snapshot");
    assert_eq!(json_ends(program, &["jobs"], 0)["jobs"], serde_json::json!([]));
    ends(program, &["verify"], 0);
    let exact = json_ends(program, &["backup", "--fresh", "--max-reads", "91"], 0);
    assert_eq!((exact["resumed"].as_bool(), exact["reads"].as_u64()), (Some(false), Some(90)), "{exact:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_differences_and_damage_end_with_3() {
    let place = Place::with(60).await;
    let program = &place.program;
    ends(program, &["backup"], 0);
    ends(program, &["diff", "latest", "live", "--exit-code"], 0);
    let documents = read_all(&place.source).await;
    let paths: Vec<_> = documents.keys().take(2).cloned().collect();
    let delete = |n: usize| Write { path: paths[n].clone(), document: None, precondition: Precondition::None };
    // without fields or with one: a write that changes nothing leaves the update time as it is
    let set = |n: usize, fields: &[u8]| {
        let mut bytes = Vec::new();
        put_bytes_field(&mut bytes, NAME_FIELD, database().document_name(paths[n].as_str()).as_bytes());
        bytes.extend_from_slice(fields);
        Write { document: Some(bytes.into()), ..delete(n) }
    };
    write(&place.source, vec![delete(0), set(1, &[])]).await;
    ends(program, &["diff", "latest", "live"], 0);
    let differs = json_ends(program, &["diff", "latest", "live", "--exit-code", "--documents"], 3);
    assert_eq!(differs["documents"].as_array().map(Vec::len), Some(2), "{differs:#}");

    let guard = json_ends(program, &["restore", "--dry-run"], 0)["guard"].as_str().unwrap().to_owned();
    // somebody changes one of them behind the dry run
    let mut field = Vec::new();
    put_bytes_field(&mut field, FIELDS_FIELD, b"\x0a\x01f\x12\x02\x08\x01");
    write(&place.source, vec![set(1, &field)]).await;
    let newest = read_all(&place.source).await;
    let report = json_ends(program, &["restore", "--guard", &guard], 3);
    let tally = &report["documents"];
    assert_eq!((tally["written"].as_u64(), tally["conflicts"].as_u64()), (Some(1), Some(1)), "{report:#}");
    assert_eq!(tally["problems"][0]["path"], paths[1].as_str());
    let after = read_all(&place.source).await;
    assert_eq!(after[&paths[1]], newest[&paths[1]], "what somebody changed is left alone, its update time too");
    assert!(after.contains_key(&paths[0]));

    let run = disk(program).into_keys().find(|path| path.starts_with("runs/")).unwrap();
    let file = program.folder.path().join("repository").join(&run);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let verified = json_ends(program, &["verify", "--all"], 3);
    let damaged = verified["damaged"].as_array().unwrap();
    assert_eq!(damaged.len(), 1, "{verified:#}");
    assert!(damaged[0].to_string().contains(&run), "the damaged object is named: {verified:#}");
    fs::remove_file(&file).unwrap();
    let verified = json_ends(program, &["verify", "--all"], 3);
    assert!(verified["damaged"].to_string().contains(&run), "the missing object is named: {verified:#}");
}
