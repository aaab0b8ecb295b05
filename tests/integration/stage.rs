//! What every end-to-end test stands on: Google's emulator, a repository, and documents as they are on the wire.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use firebackup_codec::canonical::canonical;
use firebackup_codec::secret::SecretKey;
use firebackup_embedded::emulator::{Emulator, EmulatorOptions};
use firebackup_embedded::system::{SystemClock, SystemRandom};
use firebackup_engine::{Meter, Repository, Restore, RestoreOptions, Secrets, Stop, Target, World};
use firebackup_google::{Access, Firestore, FirestoreOptions, Retrying};
use firebackup_model::id::SnapshotId;
use firebackup_model::port::{DocumentSink, DocumentSource, Precondition, Write};
use firebackup_model::{DatabaseName, DocumentPath, PathRange};
use firebackup_storage::{Destination, DestinationSettings};
use futures::TryStreamExt;
use object_store::ObjectStore;
use tempfile::TempDir;

pub type Documents = BTreeMap<DocumentPath, Bytes>;

/// An emulator with little memory: several tests may run at once.
pub async fn emulator() -> Emulator {
    let options = EmulatorOptions { heap_mib: 1024, ..EmulatorOptions::default() };
    Emulator::start_with(&options).await.expect("the Firestore emulator is needed")
}

pub fn database() -> DatabaseName {
    DatabaseName::new("demo-app", "(default)")
}

pub async fn firestore(host: &str, database: &DatabaseName) -> Firestore {
    let access = Access::Emulator { host: host.to_owned() };
    Firestore::connect(FirestoreOptions { database: database.clone(), access }).await.unwrap()
}

pub fn target(firestore: &Firestore) -> Target {
    Target { source: Arc::new(Retrying::new(firestore.clone())), sink: Arc::new(firestore.clone()) }
}

pub fn world() -> World {
    World { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
}

pub fn secrets() -> Secrets {
    Secrets { masters: vec![SecretKey::from_bytes([42; 32])], ..Secrets::default() }
}

/// A new repository in a folder.
pub async fn repository() -> (TempDir, Repository) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().join("repository").display());
    let destination = Destination::create(&url, &DestinationSettings::default()).unwrap();
    (folder, init(destination.store()).await)
}

pub async fn init(store: Arc<dyn ObjectStore>) -> Repository {
    Repository::init(store, secrets(), world()).await.unwrap()
}

/// Every document, as a raw read returns it.
pub async fn read_all(firestore: &Firestore) -> Documents {
    let at = firestore.snapshot_time().await.unwrap();
    let stream = firestore.stream(&PathRange::everything(), at, None).await.unwrap();
    let documents: Vec<_> = stream.try_collect().await.unwrap();
    let path = |bytes: &Bytes| {
        let head = firebackup_model::document::head(bytes).unwrap();
        DocumentSource::database(firestore).path_of(head.name).unwrap()
    };
    documents.into_iter().map(|document| (path(&document.0), document.0)).collect()
}

/// Documents with times set aside and map entries ordered.
pub fn contents(documents: &Documents) -> BTreeMap<DocumentPath, Vec<u8>> {
    documents.iter().map(|(path, bytes)| (path.clone(), canonical(bytes).unwrap())).collect()
}

/// Compares contents and says which paths differ, without printing documents.
#[track_caller]
pub fn assert_same(actual: &Documents, expected: &Documents) {
    let (actual, expected) = (contents(actual), contents(expected));
    let differing: Vec<_> =
        expected.iter().filter(|(path, content)| actual.get(*path) != Some(*content)).map(|(path, _)| path).collect();
    let added: Vec<_> = actual.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(
        differing.is_empty() && added.is_empty(),
        "differ or are missing: {differing:?}; were not there: {added:?}"
    );
}

/// Writes documents, each of which must succeed.
pub async fn write_all(firestore: &Firestore, documents: impl IntoIterator<Item = (DocumentPath, Bytes)>) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    for (path, document) in documents {
        if batch.len() == 400 || bytes + document.len() > 3_000_000 {
            write(firestore, std::mem::take(&mut batch)).await;
            bytes = 0;
        }
        bytes += document.len();
        batch.push(Write { path, document: Some(document), precondition: Precondition::None });
    }
    write(firestore, batch).await;
}

pub async fn write(firestore: &Firestore, writes: Vec<Write>) {
    let paths: Vec<_> = writes.iter().map(|write| write.path.clone()).collect();
    for (outcome, path) in firestore.write(writes).await.unwrap().into_iter().zip(paths) {
        outcome.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

/// Deletes every document.
pub async fn delete_all(firestore: &Firestore) {
    for chunk in read_all(firestore).await.into_keys().collect::<Vec<_>>().chunks(400) {
        let delete =
            |path: &DocumentPath| Write { path: path.clone(), document: None, precondition: Precondition::None };
        write(firestore, chunk.iter().map(delete).collect()).await;
    }
    assert!(read_all(firestore).await.is_empty());
}

pub fn restore(repository: &Repository, snapshot: &SnapshotId, target: Target, options: RestoreOptions) -> Restore {
    Restore {
        repository: repository.clone(),
        snapshot: snapshot.clone(),
        at: None,
        target,
        options: RestoreOptions { ramp: false, ..options },
        meter: Arc::new(Meter::default()),
        stop: Stop::default(),
    }
}
