//! Production's limits, which the emulator lacks and the proxy has.

use std::sync::Arc;

use bytes::Bytes;
use firebackup_engine::{Backup, EngineError, RestoreOptions, verify};
use firebackup_google::Retrying;
use firebackup_google::sample::sample;
use firebackup_model::manifest::Consistency;
use firebackup_model::port::{DocumentSource, Precondition, Write};
use firebackup_model::{DocumentPath, ErrorKind, Timestamp};
use firebackup_testkit::{Method, Proxy, ProxyOptions};
use gcloud_sdk::google::firestore::v1::{Document, Value, value::ValueType};
use prost::Message;
use tonic::Code;

use crate::stage::{
    assert_same, database, delete_all, emulator, firestore, read_all, repository, restore, target, write, write_all,
};

/// Documents of about 700 KB: few fit into a request.
fn large(count: usize) -> Vec<(DocumentPath, Bytes)> {
    let value = Value { value_type: Some(ValueType::BytesValue(vec![7; 700_000])) };
    let document = |n: usize| {
        let path = DocumentPath::new(format!("large/{n:03}")).unwrap();
        let fields = [("data".to_owned(), value.clone())].into();
        let document = Document { name: database().document_name(path.as_str()), fields, ..Document::default() };
        (path, document.encode_to_vec().into())
    };
    (0..count).map(document).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_batch_passes_500_writes_or_10_mib_and_partitions_come_from_the_server() {
    let emulator = emulator().await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    let source = firestore(&proxy.host(), &database()).await.with_split_threshold(100);
    write_all(&source, sample(&database(), 1600, 1)).await;
    write_all(&source, large(24)).await;
    let before = read_all(&source).await;
    let (_folder, repository) = repository().await;
    proxy.control().reset_counts();
    let manifest =
        Backup::builder(repository.clone(), Arc::new(source.clone())).parallel(3).build().run().await.unwrap().manifest;
    assert!(proxy.control().counts().requests_of(Method::PartitionQuery) > 0);
    assert!(manifest.runs.len() > 3, "{}", manifest.runs.len());
    delete_all(&source).await;
    proxy.control().reset_counts();
    let report = restore(&repository, &manifest.id, target(&source), RestoreOptions::default()).run().await.unwrap();
    let counts = proxy.control().counts();
    assert_eq!((report.tally.failed, counts.violations), (0, 0), "{:?}", counts.last_violation);
    assert!(counts.max_writes > 300 && counts.max_writes <= 500, "{}", counts.max_writes);
    assert!(counts.max_bytes > 2_000_000 && counts.max_bytes <= 10 * 1024 * 1024, "{}", counts.max_bytes);
    assert_same(&read_all(&source).await, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_retried_is_and_what_cannot_is_reported() {
    let emulator = emulator().await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    let source = firestore(&proxy.host(), &database()).await;
    write_all(&source, sample(&database(), 900, 1)).await;
    let before = read_all(&source).await;
    let (_folder, repository) = repository().await;
    proxy.control().fail_next(Method::RunQuery, Code::Unavailable, 2);
    proxy.control().fail_next(Method::BatchGetDocuments, Code::DeadlineExceeded, 1);
    let retrying = Arc::new(Retrying::new(source.clone()));
    let manifest = Backup::builder(repository.clone(), retrying).build().run().await.unwrap().manifest;
    assert_eq!(manifest.totals.documents, before.len() as u64);
    delete_all(&source).await;
    // requests that fail, writes that are refused for a moment, and one document that can never be written
    proxy.control().fail_every(Method::BatchWrite, 4, Code::ResourceExhausted);
    proxy.control().fail_write_fraction(Code::Aborted, 0.1, 7);
    let poisoned = before.keys().nth(100).unwrap().clone();
    let name = database().document_name(poisoned.as_str());
    proxy.control().fail_writes(Code::InvalidArgument, move |path| path == name || name.ends_with(path));
    let report = restore(&repository, &manifest.id, target(&source), RestoreOptions::default()).run().await.unwrap();
    proxy.control().clear_faults();
    assert_eq!(report.tally.failed, 1, "{:?}", report.tally.problems);
    assert_eq!(report.tally.problems[0].path, poisoned.as_str());
    let mut expected = before.clone();
    expected.remove(&poisoned);
    assert_same(&read_all(&source).await, &expected);
    // run again without the trouble, only the one is written
    let again = restore(&repository, &manifest.id, target(&source), RestoreOptions::default()).run().await.unwrap();
    assert_eq!((again.tally.written, again.tally.same), (1, before.len() as u64 - 1));
    assert_same(&read_all(&source).await, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_time_that_grew_too_old_is_never_hidden() {
    let emulator = emulator().await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    let source = firestore(&proxy.host(), &database()).await;
    write_all(&source, sample(&database(), 600, 1)).await;
    let (_folder, repository) = repository().await;
    // stops in the middle, and the server forgets the read time meanwhile
    let stopped = Backup::builder(repository.clone(), Arc::new(source.clone()))
        .max_reads(Some(200))
        .build()
        .run()
        .await
        .unwrap_err();
    let EngineError::ReadBudget { job, reads: 200, .. } = stopped else { panic!("{stopped:?}") };
    let now = source.snapshot_time().await.unwrap();
    proxy.control().set_oldest_read_time(Some(Timestamp::new(now.seconds, now.nanos)));
    let strict = Backup::builder(repository.clone(), Arc::new(source.clone()))
        .may_reanchor(false)
        .build()
        .run()
        .await
        .unwrap_err();
    assert_eq!(strict.port_kind(), Some(ErrorKind::ReadTimeTooOld), "{strict:?}");
    assert!(repository.snapshot_ids().await.unwrap().is_empty());
    proxy.control().set_oldest_read_time(None);
    let outcome = Backup::builder(repository.clone(), Arc::new(source)).build().run().await.unwrap();
    assert!(outcome.resumed && outcome.manifest.id == job);
    assert_eq!((outcome.manifest.consistency, outcome.manifest.reads), (Consistency::Snapshot, 600));
    verify(&repository, &job, &Arc::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_no_longer_be_read_at_one_time_is_read_at_two_and_the_manifest_says_so() {
    let emulator = emulator().await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    let source = firestore(&proxy.host(), &database()).await;
    write_all(&source, sample(&database(), 600, 1)).await;
    let mut expected = read_all(&source).await;
    let (_folder, repository) = repository().await;
    let backup = || Backup::builder(repository.clone(), Arc::new(source.clone()));
    let stopped = backup().max_reads(Some(200)).build().run().await.unwrap_err();
    let EngineError::ReadBudget { job, reads: 200, .. } = stopped else { panic!("{stopped:?}") };
    // what is still to be read changes, and the server forgets how it was
    let (last, _) = expected.pop_last().unwrap();
    write(&source, vec![Write { path: last, document: None, precondition: Precondition::None }]).await;
    let oldest = source.snapshot_time().await.unwrap();
    proxy.control().set_oldest_read_time(Some(oldest));
    let outcome = backup().build().run().await.unwrap();
    proxy.control().set_oldest_read_time(None);
    let manifest = outcome.manifest;
    assert!(outcome.resumed && manifest.id == job);
    assert_eq!((manifest.consistency, manifest.read_times.len()), (Consistency::Ranged, 2));
    assert!(manifest.read_times[0] < oldest && manifest.read_times[1] >= oldest, "{:?}", manifest.read_times);
    assert_eq!(manifest.totals.documents, expected.len() as u64);
    verify(&repository, &job, &Arc::default()).await.unwrap();
    delete_all(&source).await;
    restore(&repository, &job, target(&source), RestoreOptions::default()).run().await.unwrap();
    assert_same(&read_all(&source).await, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_point_in_time_recovery_is_read_at_a_whole_minute() {
    let emulator = emulator().await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    let source = firestore(&proxy.host(), &database()).await;
    assert_eq!(source.versions_since().await.unwrap(), None, "the emulator does not say");
    let now = source.snapshot_time().await.unwrap();
    let since = Timestamp::new(now.seconds - 3 * 3600, 0);
    proxy.control().set_oldest_read_time(Some(since));
    assert_eq!(source.versions_since().await.unwrap(), Some(since));
    let (_folder, repository) = repository().await;
    let manifest = Backup::builder(repository, Arc::new(source)).build().run().await.unwrap().manifest;
    let read_time = manifest.read_time().unwrap();
    assert_eq!((read_time.seconds % 60, read_time.nanos), (0, 0));
    assert!(read_time <= manifest.finished && manifest.finished.seconds_since(read_time) < 180.0, "{read_time}");
}
