//! The same through real store protocols, and through stores that fail and lie.

use std::sync::Arc;
use std::time::Duration;

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{Backup, Repository, RestoreOptions, Target, verify};
use firebackup_model::DatabaseName;
use firebackup_storage::{Destination, DestinationSettings};
use firebackup_testkit::faulty_store::{Fault, FaultyStore, Operation};
use firebackup_testkit::gcs_server::GcsServer;
use firebackup_testkit::s3_server::S3Server;
use object_store::ObjectStore;

use crate::stage::{init, restore, secrets, world};

fn filled(documents: i64) -> MemoryDatabase {
    let database = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
    for n in 0..documents {
        database.set(&format!("users/user-{n:06}"), n);
    }
    database
}

fn target(database: &MemoryDatabase) -> Target {
    Target { source: Arc::new(database.clone()), sink: Arc::new(database.clone()) }
}

async fn round_trip(store: Arc<dyn ObjectStore>) {
    let repository = init(store.clone()).await;
    let database = filled(3000);
    let before = database.documents();
    let backup = || {
        Backup::builder(repository.clone(), Arc::new(database.clone()))
            .compression("none".parse().unwrap())
            .block_bytes(16 * 1024)
    };
    let manifest = backup().build().run().await.unwrap().manifest;
    let reopened = Repository::open(store, secrets(), world()).await.unwrap();
    verify(&reopened, &manifest.id, &Arc::default()).await.unwrap();
    let copy = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
    let report = restore(&reopened, &manifest.id, target(&copy), RestoreOptions::default()).run().await.unwrap();
    assert_eq!((report.tally.written, copy.documents().len()), (3000, before.len()));
    let policy = firebackup_engine::PrunePolicy { keep_last: Some(1), exclusive: true, ..Default::default() };
    backup().build().run().await.unwrap();
    assert_eq!(firebackup_engine::prune(&reopened, &policy).await.unwrap().dropped, [manifest.id]);
    assert_eq!(reopened.snapshot_ids().await.unwrap().len(), 2, "the newest backup and the undo");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_lives_in_s3_and_in_google_cloud_storage() {
    let s3 = S3Server::start().await;
    let settings = DestinationSettings { endpoint: Some(s3.endpoint().to_owned()), options: s3.options() };
    round_trip(Destination::open(&format!("s3://{}/backups", s3.bucket()), &settings).unwrap().store()).await;
    let gcs = GcsServer::start().await;
    let settings = DestinationSettings { endpoint: Some(gcs.endpoint().to_owned()), options: gcs.options() };
    round_trip(Destination::open(&format!("gs://{}/backups", gcs.bucket()), &settings).unwrap().store()).await;
}

/// A backup on a store with a fault must fail and commit nothing, or be whole; without the fault it completes. Says
/// whether the backup came as far as the fault.
async fn survives(fault: Fault, operation: Operation, nth: u64) -> bool {
    let inner: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    init(inner.clone()).await;
    let faulty = FaultyStore::new(inner.clone());
    let database = filled(400);
    let repository = Repository::open(Arc::new(faulty.clone()), secrets(), world()).await.unwrap();
    let before = faulty.tally(operation).operations;
    faulty.fail(operation, nth, fault);
    let result =
        Backup::builder(repository, Arc::new(database.clone())).block_bytes(4096).step_bytes(8000).build().run().await;
    let reached = faulty.tally(operation).operations >= before + nth;
    let clean = Repository::open(inner, secrets(), world()).await.unwrap();
    for id in clean.snapshot_ids().await.unwrap() {
        verify(&clean, &id, &Arc::default()).await.unwrap();
    }
    if let (Ok(outcome), Fault::Denied | Fault::DiskFull, Operation::Put, true) = (&result, fault, operation, reached) {
        panic!("{} was committed although a put failed for good", outcome.manifest.id);
    }
    let manifest = Backup::builder(clean.clone(), Arc::new(database))
        .block_bytes(4096)
        .step_bytes(8000)
        .build()
        .run()
        .await
        .unwrap()
        .manifest;
    assert_eq!(manifest.totals.documents, 400);
    verify(&clean, &manifest.id, &Arc::default()).await.unwrap();
    reached
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_on_a_store_that_fails_is_whole_or_not_there() {
    let mut reached = std::collections::BTreeMap::from([(Operation::Put, 0), (Operation::Get, 0)]);
    let mut count = |operation, came: bool| *reached.entry(operation).or_insert(0) += i32::from(came);
    for nth in [1, 2, 3, 5, 8] {
        for fault in [
            Fault::Unavailable,
            Fault::DiskFull,
            Fault::LostAcknowledgement,
            Fault::Denied,
            Fault::Slow(Duration::from_millis(30)),
        ] {
            count(Operation::Put, survives(fault, Operation::Put, nth).await);
        }
        for fault in
            [Fault::Unavailable, Fault::Truncated { keep: 20 }, Fault::Broken { after: 20 }, Fault::Flipped { at: 150 }]
        {
            count(Operation::Get, survives(fault, Operation::Get, nth).await);
        }
        for operation in [Operation::List, Operation::Head, Operation::Delete] {
            count(operation, survives(Fault::Unavailable, operation, nth).await);
        }
    }
    let least = [
        (Operation::Put, 25),
        (Operation::Get, 20),
        (Operation::List, 2),
        (Operation::Head, 2),
        (Operation::Delete, 2),
    ];
    for (operation, least) in least {
        assert!(reached[&operation] >= least, "{operation:?}: only {} faults were reached", reached[&operation]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lying_store_returns_is_never_restored() {
    let inner: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let repository = init(inner.clone()).await;
    let database = filled(400);
    let manifest =
        Backup::builder(repository, Arc::new(database)).block_bytes(4096).build().run().await.unwrap().manifest;
    let mut refused = 0;
    for nth in 1..12 {
        for fault in
            [Fault::Flipped { at: 60 }, Fault::Truncated { keep: 50 }, Fault::Broken { after: 50 }, Fault::NotFound]
        {
            let faulty = FaultyStore::new(inner.clone());
            let Ok(repository) = Repository::open(Arc::new(faulty.clone()), secrets(), world()).await else { continue };
            faulty.fail(Operation::Get, nth, fault);
            let copy = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
            let options = RestoreOptions { undo: false, ..RestoreOptions::default() };
            let result = restore(&repository, &manifest.id, target(&copy), options).run().await;
            let content = |bytes: &[u8]| firebackup_codec::canonical::canonical(bytes).unwrap();
            let whole = filled(400).documents();
            for (path, document) in copy.documents() {
                assert_eq!(whole.get(&path).map(|bytes| content(bytes)), Some(content(&document)), "{fault:?} {nth}");
            }
            match result {
                Ok(report) => assert_eq!((report.tally.written, copy.documents().len()), (400, 400)),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 4, "only {refused} lies were told to the restore");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_document_of_many_costs_a_footer_and_a_block() {
    let inner: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let database = filled(20_000);
    let repository = init(inner.clone()).await;
    let manifest =
        Backup::builder(repository, Arc::new(database)).block_bytes(64 * 1024).build().run().await.unwrap().manifest;
    let faulty = FaultyStore::new(inner);
    let repository = Repository::open(Arc::new(faulty.clone()), secrets(), world()).await.unwrap();
    let (manifest, _) = repository.manifest(&manifest.id).await.unwrap();
    faulty.reset();
    let path = firebackup_model::DocumentPath::new("users/user-012345").unwrap();
    let found = firebackup_engine::lookup(&repository, &manifest, &path, &Arc::default()).await.unwrap();
    assert!(found.is_some());
    // header, end of the run with its footer, one block
    assert_eq!(faulty.tally(Operation::Get).operations, 3);
    assert!(faulty.bytes_read() < 32 * 1024 + 64 * 1024 + 200, "{}", faulty.bytes_read());
}
