//! Backups that hold only what changed, and backups that are merged, as users make them.

use firebackup_google::sample::sample;
use firebackup_model::DocumentPath;
use firebackup_model::port::{Precondition, Write};

use super::{ends, json_ends, stderr, stdout};
use crate::binary::Program;
use crate::stage::{assert_same, database, delete_all, emulator, firestore, read_all, write, write_all};

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_backup_stores_what_changed_and_is_restored_whole() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    write_all(&source, sample(&database(), 300, 1)).await;
    let program = Program::new(emulator.host());

    let first = ends(&program, &["backup", "--incremental"], 0);
    assert!(stderr(&first).contains("a full backup is made, not an incremental one"), "{}", stderr(&first));
    assert!(!stderr(&first).contains("of the same selection"), "{}", stderr(&first));
    let text = stdout(&ends(&program, &["backup", "--incremental"], 0));
    assert!(text.contains("0 B") && !text.contains("smaller") && !text.contains("/s"), "{text}");
    let nothing = json_ends(&program, &["backup", "--incremental"], 0);
    assert_eq!((&nothing["kind"], &nothing["totals"]["documents"]), (&"incremental".into(), &0.into()), "{nothing:#}");

    let documents = read_all(&source).await;
    let gone: Vec<DocumentPath> = documents.keys().take(7).cloned().collect();
    let delete = |path: &DocumentPath| Write { path: path.clone(), document: None, precondition: Precondition::None };
    write(&source, gone.iter().map(delete).collect()).await;
    let others = sample(&database(), 300, 2).filter(|(path, _)| !gone.contains(path));
    write_all(&source, others.take(5)).await;
    let expected = read_all(&source).await;
    let increment = json_ends(&program, &["backup", "--incremental"], 0);
    assert_eq!(increment["parent"], nothing["id"]);
    let text = stdout(&ends(&program, &["show", nothing["id"].as_str().unwrap()], 0));
    assert!(!text.contains("smaller"), "{text}");
    assert_eq!(increment["totals"]["deletions"], 7);
    assert_eq!(increment["totals"]["documents"], 5);
    let text = stdout(&ends(&program, &["show", increment["id"].as_str().unwrap()], 0));
    assert!(text.contains("incremental"), "{text}");

    ends(&program, &["verify", "--all"], 0);
    delete_all(&source).await;
    ends(&program, &["restore", "--snapshot", increment["id"].as_str().unwrap()], 0);
    assert_same(&read_all(&source).await, &expected);
    // what it builds on stays as long as it does
    let pruned = json_ends(&program, &["prune", "--keep-last", "1", "--exclusive"], 0);
    assert_eq!(pruned["dropped"], serde_json::json!([]), "{pruned:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_captured_cannot_be_merged_and_that_is_said() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    write_all(&source, sample(&database(), 20, 1)).await;
    let program = Program::new(emulator.host());
    let missing = ends(&program, &["backup", "--synthetic"], 5);
    assert!(stderr(&missing).contains("there is no backup of the whole"), "{}", stderr(&missing));
    ends(&program, &["backup"], 0);
    let merged = ends(&program, &["backup", "--synthetic"], 1);
    assert!(stderr(&merged).contains("there is nothing to merge"), "{}", stderr(&merged));
    ends(&program, &["backup", "--synthetic", "--incremental"], 2);
    // the backup that there is holds other documents
    let other = stderr(&ends(&program, &["backup", "--incremental", "--collection", "users"], 0));
    assert!(other.contains("a full backup is made") && other.contains("of the same selection"), "{other}");
}
