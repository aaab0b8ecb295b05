//! Every value and every name survives, on the official emulator.

use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_engine::{Backup, Contents, RestoreOptions, lookup, verify};
use firebackup_google::corpus::corpus;
use firebackup_google::sample::sample;
use firebackup_model::job::RestoreMode;
use firebackup_model::{DatabaseName, Selection};
use firebackup_testkit::generators::{any_documents, bytes_of};
use gcloud_sdk::google::firestore::v1::{Document, Value, value::ValueType};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use prost::Message;

use crate::stage::{
    assert_same, contents, database, delete_all, emulator, firestore, read_all, repository, restore, target, write_all,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_of_hard_documents_comes_back_identical() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    write_all(&source, corpus(&database())).await;
    write_all(&source, sample(&database(), 500, 1)).await;
    let before = read_all(&source).await;
    assert!(before.len() > 560, "{}", before.len());
    let (_folder, repository) = repository().await;
    for (compression, parallel) in [("brotli", 1), ("zstd:3", 3), ("none", 2)] {
        let backup = Backup::builder(repository.clone(), Arc::new(source.clone()))
            .compression(compression.parse().unwrap())
            .parallel(parallel);
        let manifest = backup.build().run().await.unwrap().manifest;
        assert_eq!(manifest.totals.documents, before.len() as u64);
        verify(&repository, &manifest.id, &Arc::default()).await.unwrap();
        // the records are the very bytes that were read
        let mut stored =
            Contents::of_snapshot(&repository, &manifest.id, &Selection::default(), &Arc::default()).await.unwrap();
        for (path, bytes) in &before {
            let item = stored.next().await.unwrap().unwrap();
            assert_eq!((&item.path, item.document.as_ref()), (path, Some(bytes)));
        }
        assert!(stored.next().await.unwrap().is_none());
    }
    let snapshot = repository.resolve("latest").await.unwrap();
    delete_all(&source).await;
    let report = restore(&repository, &snapshot, target(&source), RestoreOptions::default()).run().await.unwrap();
    assert_eq!((report.tally.failed, report.tally.written), (0, before.len() as u64), "{:?}", report.tally.problems);
    assert_same(&read_all(&source).await, &before);
    // a document deep in the tree, by its path alone
    let (manifest, _) = repository.manifest(&snapshot).await.unwrap();
    for (path, bytes) in before.iter().step_by(41) {
        assert_eq!(lookup(&repository, &manifest, path, &Arc::default()).await.unwrap().unwrap().document, *bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_documents_come_back_identical() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    let mut runner = TestRunner::deterministic();
    for round in 0..6 {
        let documents = any_documents(&database(), 60..=80).new_tree(&mut runner).unwrap().current();
        let path = |document: &Document| database().path_of(&document.name).unwrap();
        write_all(&source, documents.iter().map(|document| (path(document), bytes_of(document)))).await;
        let before = read_all(&source).await;
        let (_folder, repository) = repository().await;
        let manifest =
            Backup::builder(repository.clone(), Arc::new(source.clone())).build().run().await.unwrap().manifest;
        delete_all(&source).await;
        let report =
            restore(&repository, &manifest.id, target(&source), RestoreOptions::default()).run().await.unwrap();
        assert_eq!(report.tally.failed, 0, "round {round}: {:?}", report.tally.problems);
        assert_same(&read_all(&source).await, &before);
        delete_all(&source).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_databases_are_told_apart() {
    let emulator = emulator().await;
    let second = DatabaseName::new("demo-app", "second");
    let (a, b) = (firestore(emulator.host(), &database()).await, firestore(emulator.host(), &second).await);
    write_all(&a, sample(&database(), 50, 1)).await;
    write_all(&b, sample(&second, 70, 2)).await;
    let (before_a, before_b) = (read_all(&a).await, read_all(&b).await);
    let (_folder, repository) = repository().await;
    let manifest = Backup::builder(repository.clone(), Arc::new(b.clone())).build().run().await.unwrap().manifest;
    assert_eq!((manifest.totals.documents, &manifest.source), (70, &second));
    delete_all(&b).await;
    restore(&repository, &manifest.id, target(&b), RestoreOptions::default()).run().await.unwrap();
    assert_same(&read_all(&b).await, &before_b);
    assert_same(&read_all(&a).await, &before_a);
}

/// All references in a value.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match &value.value_type {
        Some(ValueType::ReferenceValue(name)) => drop(found.insert(name.clone())),
        Some(ValueType::ArrayValue(array)) => array.values.iter().for_each(|value| references(value, found)),
        Some(ValueType::MapValue(map)) => map.fields.values().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn all_references(documents: &crate::stage::Documents) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for bytes in documents.values() {
        Document::decode(&**bytes).unwrap().fields.values().for_each(|value| references(value, &mut found));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn references_follow_into_another_project_and_others_are_left_alone() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    write_all(&source, corpus(&database())).await;
    write_all(&source, sample(&database(), 100, 1)).await;
    let before = read_all(&source).await;
    let (_folder, repository) = repository().await;
    let manifest = Backup::builder(repository.clone(), Arc::new(source.clone())).build().run().await.unwrap().manifest;
    let other = DatabaseName::new("demo-other", "elsewhere");
    let copy = firestore(emulator.host(), &other).await;
    let report =
        restore(&repository, &manifest.id, target(&copy), RestoreOptions { undo: false, ..RestoreOptions::default() })
            .run()
            .await
            .unwrap();
    assert_eq!(report.tally.failed, 0, "{:?}", report.tally.problems);
    let after = read_all(&copy).await;
    let moved = |name: &String| match database().relative(name) {
        Some(path) => other.document_name(path),
        None => name.clone(),
    };
    let expected: BTreeSet<_> = all_references(&before).iter().map(moved).collect();
    assert_eq!(all_references(&after), expected);
    assert!(
        expected.iter().any(|name| other.relative(name).is_some())
            && expected.iter().any(|name| other.relative(name).is_none())
    );
    // and back again: identical, so nothing but the references was touched
    let (_folder, second) = crate::stage::repository().await;
    let manifest = Backup::builder(second.clone(), Arc::new(copy.clone())).build().run().await.unwrap().manifest;
    delete_all(&source).await;
    restore(&second, &manifest.id, target(&source), RestoreOptions { undo: false, ..RestoreOptions::default() })
        .run()
        .await
        .unwrap();
    assert_same(&read_all(&source).await, &before);
    assert_eq!(contents(&before).len(), contents(&after).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_can_be_taken_back() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    write_all(&source, sample(&database(), 300, 1)).await;
    let (_folder, repository) = repository().await;
    let manifest = Backup::builder(repository.clone(), Arc::new(source.clone())).build().run().await.unwrap().manifest;
    let original = read_all(&source).await;
    write_all(&source, sample(&database(), 200, 9)).await;
    write_all(&source, corpus(&database()).into_iter().take(20)).await;
    let changed = read_all(&source).await;
    let options = RestoreOptions { mode: RestoreMode::Mirror, ..RestoreOptions::default() };
    let job = restore(&repository, &manifest.id, target(&source), options);
    let dry = job.dry_run(5).await.unwrap();
    assert_same(&read_all(&source).await, &changed);
    let report = job.run().await.unwrap();
    assert_eq!(report.tally.written, dry.difference.totals.updated + dry.difference.totals.created);
    assert_eq!(report.tally.deleted, dry.difference.totals.deleted);
    assert!(report.tally.written > 100 && report.tally.deleted >= 20);
    assert_same(&read_all(&source).await, &original);
    restore(&repository, &report.job, target(&source), RestoreOptions::default()).run().await.unwrap();
    assert_same(&read_all(&source).await, &changed);
}
