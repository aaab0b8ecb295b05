//! Back up, look, take out, put back, take that back: each command with the next one's output to prove it.

use std::collections::BTreeMap;

use bytes::Bytes;
use firebackup_codec::canonical::{Names, same_content};
use firebackup_codec::typed_json::read_json;
use firebackup_google::corpus::corpus;
use firebackup_google::sample::sample;
use firebackup_model::document::head;
use firebackup_model::{DatabaseName, DocumentPath};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Place, beside, disk, ends, json_ends, shell, stderr, stdout};
use crate::binary::Program;
use crate::stage::{Documents, assert_same, database, firestore, read_all, write_all};

/// Of the hard documents those that a line of output can hold with ease.
fn hard() -> impl Iterator<Item = (DocumentPath, Bytes)> {
    corpus(&database()).into_iter().filter(|(_, bytes)| bytes.len() < 10_000)
}

/// The exported lines by the path of their document; each must read back as the document it was.
fn exported(program: &Program, documents: &Documents) -> BTreeMap<DocumentPath, String> {
    let file = beside(program, "all.ndjson");
    let told = json_ends(program, &["export", "--output", &file], 0);
    assert_eq!((told["documents"].as_u64(), told["failed"].as_u64()), (Some(documents.len() as u64), Some(0)));
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, stdout(&ends(program, &["export"], 0)), "file and standard output get the same");
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        let bytes = read_json(line).unwrap();
        let path = database().path_of(head(&bytes).unwrap().name).unwrap();
        assert!(same_content(&bytes, &documents[&path], Names::Compare).unwrap(), "{path}: {line}");
        assert!(lines.insert(path, line.to_owned()).is_none(), "{line} stands there twice");
    }
    assert!(lines.keys().eq(documents.keys()));
    lines
}

#[derive(Deserialize)]
struct Got {
    document: Box<RawValue>,
    run_bytes_read: u64,
    bytes_read: u64,
}

/// `get` prints the exported line of the same document, and how much it read for it.
fn assert_got(program: &Program, path: &DocumentPath, line: &str) {
    let output = ends(program, &["get", path.as_str(), "--json"], 0);
    let got: Got = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(got.document.get(), line);
    assert!(got.run_bytes_read > 0 && got.bytes_read > got.run_bytes_read, "{path}");
    let output = ends(program, &["get", path.as_str()], 0);
    let without_blanks = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(without_blanks(&stdout(&output)), without_blanks(line));
    let told = stderr(&output);
    assert!(told.contains(" of its runs") && told.contains("in all") && told.contains("request"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_backed_up_can_be_looked_at_in_every_way() {
    let place = Place::with(80).await;
    let program = &place.program;
    write_all(&place.source, hard()).await;
    let documents = read_all(&place.source).await;
    let backup = json_ends(program, &["backup", "--compression", "zstd:3"], 0);
    let id = backup["id"].as_str().unwrap();
    assert_eq!(backup["totals"]["documents"].as_u64(), Some(documents.len() as u64));
    let listed = json_ends(program, &["list"], 0);
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1));
    let listed = &listed["snapshots"][0];
    let shown = json_ends(program, &["show", &id[..14]], 0);
    assert_eq!((listed["id"].as_str(), shown["id"].as_str()), (Some(id), Some(id)));
    for (listed, shown) in
        [("documents", "/totals/documents"), ("bytes", "/totals/bytes"), ("stored_bytes", "/stored_bytes")]
            .map(|(a, b)| (&listed[a], shown.pointer(b).unwrap()))
    {
        assert_eq!(listed, shown);
    }
    assert_eq!((&shown["runs"], &shown["origin_proven"]), (&backup["runs"], &serde_json::Value::Bool(true)));
    let verified = json_ends(program, &["verify"], 0);
    assert_eq!(verified["whole"][0]["records"].as_u64(), Some(documents.len() as u64));
    let diff = json_ends(program, &["diff", "latest", "live", "--exit-code"], 0);
    assert_eq!(diff["totals"]["same"].as_u64(), Some(documents.len() as u64));

    let lines = exported(program, &documents);
    for path in documents.keys().filter(|path| path.as_str().is_ascii()).step_by(documents.len() / 6) {
        assert_got(program, path, &lines[path]);
    }
    let some = stdout(&ends(program, &["export", "--document", "users/user-0000000"], 0));
    assert_eq!(some.trim_end(), lines[&DocumentPath::new("users/user-0000000").unwrap()]);
    assert_eq!(read_all(&place.source).await, documents, "nothing of this writes into the database");
}

/// The command below the line that says what it is for.
fn printed_undo(output: &str) -> String {
    let line = output.lines().skip_while(|line| *line != "Take it back with:").nth(1);
    line.unwrap_or_else(|| panic!("no undo is printed: {output}")).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_right_and_the_printed_undo_gives_the_state_back() {
    let place = Place::with(80).await;
    let (program, source) = (&place.program, &place.source);
    let wanted = read_all(source).await;
    ends(program, &["backup"], 0);
    // some are changed, some are gone, some are new
    write_all(source, sample(&database(), 30, 2)).await;
    crate::stage::write(source, deletions(wanted.keys().rev().take(9))).await;
    write_all(source, hard().take(12)).await;
    let before = read_all(source).await;

    let on_disk = disk(program);
    let dry = json_ends(program, &["restore", "--mode", "mirror", "--dry-run"], 0);
    assert_eq!(read_all(source).await, before, "a dry run writes nothing");
    assert_eq!(disk(program), on_disk, "and leaves nothing in the repository");
    let expected = ["created", "updated", "deleted", "same"].map(|name| dry["difference"]["totals"][name].as_u64());
    let [Some(created), Some(updated), Some(deleted), Some(same)] = expected else { panic!("{dry:#}") };
    assert!(created >= 9 && updated > 0 && deleted >= 12 && same > 0, "{dry:#}");

    let refused = json_ends(program, &["restore", "--mode", "mirror"], 1);
    assert!(refused["error"]["message"].as_str().unwrap().contains("--yes"), "{refused:#}");
    assert_eq!(read_all(source).await, before);
    let report = json_ends(program, &["restore", "--mode", "mirror", "--yes"], 0);
    let done = ["written", "deleted", "same", "failed"].map(|name| report["documents"][name].as_u64());
    assert_eq!(done, [created + updated, deleted, same, 0].map(Some), "{report:#}");
    assert_same(&read_all(source).await, &wanted);
    let undone = shell(program, report["undo_command"].as_str().unwrap());
    assert_eq!(undone.status.code(), Some(0), "{undone:?}");
    assert_same(&read_all(source).await, &before);

    // once more, as it is printed for people
    let output = ends(program, &["restore", "--mode", "mirror", "--yes"], 0);
    assert_same(&read_all(source).await, &wanted);
    let undone = shell(program, &printed_undo(&stdout(&output)));
    assert_eq!(undone.status.code(), Some(0), "{undone:?}");
    assert_same(&read_all(source).await, &before);
}

fn deletions<'p>(paths: impl Iterator<Item = &'p DocumentPath>) -> Vec<firebackup_model::port::Write> {
    let precondition = firebackup_model::port::Precondition::None;
    paths.map(|path| firebackup_model::port::Write { path: path.clone(), document: None, precondition }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_goes_elsewhere_under_another_name() {
    let place = Place::with(64).await;
    let program = &place.program;
    let before = read_all(&place.source).await;
    ends(program, &["backup"], 0);
    let elsewhere = ["restore", "--to-project", "demo-other", "--to-database", "copy"];
    let some = ["--collection", "users", "--rename", "users=people/of/old"];
    let report = json_ends(program, &[&elsewhere[..], &some].concat(), 0);
    let users: Documents = before
        .iter()
        .filter(|(path, _)| path.as_str().starts_with("users/"))
        .map(|(a, b)| (a.clone(), b.clone()))
        .collect();
    assert_eq!(report["documents"]["written"].as_u64(), Some(users.len() as u64), "{report:#}");
    let target = DatabaseName::new("demo-other", "copy");
    assert_eq!(report["documents"]["target"], serde_json::json!({"project": "demo-other", "database": "copy"}));
    let copy = firestore(place.emulator.host(), &target).await;
    let copied = read_all(&copy).await;
    assert_eq!(copied.len(), users.len());
    let mut with_references = 0;
    for (path, document) in &users {
        let renamed = DocumentPath::new(path.as_str().replacen("users", "people/of/old", 1)).unwrap();
        let copied = &copied[&renamed];
        // orders refer to products: in the copy to those of its own database
        let refers = text_stands_in(&database().document_name("products/"), document);
        assert_eq!(refers, text_stands_in(&target.document_name("products/"), copied), "{path}");
        assert_eq!(same_content(document, copied, Names::Ignore).unwrap(), !refers, "{path}");
        with_references += usize::from(refers);
    }
    assert!(with_references > 10 && with_references < users.len(), "{with_references}");
    assert_eq!(read_all(&place.source).await, before, "the database that was backed up is not touched");
    // the undo knows where it belongs
    let undone = shell(program, report["undo_command"].as_str().unwrap());
    assert_eq!(undone.status.code(), Some(0), "{undone:?}");
    assert!(read_all(&copy).await.is_empty());
    assert_eq!(read_all(&place.source).await, before);
}

fn text_stands_in(text: &str, bytes: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
