//! The same through real store protocols, and through stores that fail and lie.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{
    Backup, BackupBuilder, EngineError, PrunePolicy, Repository, RestoreOptions, Target, prune, verify,
};
use firebackup_model::document::{FIELDS_FIELD, NAME_FIELD};
use firebackup_model::id::{JobKind, SnapshotId};
use firebackup_model::job::RestoreMode;
use firebackup_model::manifest::Manifest;
use firebackup_model::port::{DocumentSink, Precondition, Write};
use firebackup_model::wire::put_bytes_field;
use firebackup_model::{DatabaseName, DocumentPath};
use firebackup_storage::{Destination, DestinationSettings};
use firebackup_testkit::faulty_store::{Fault, FaultyStore, Operation};
use firebackup_testkit::gcs_server::GcsServer;
use firebackup_testkit::s3_server::S3Server;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::stage::{contents, init, restore, secrets, world};

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

fn uncompressed(repository: &Repository, database: &MemoryDatabase) -> BackupBuilder {
    Backup::builder(repository.clone(), Arc::new(database.clone()))
        .compression("none".parse().unwrap())
        .block_bytes(16 * 1024)
}

/// Backs up, verifies, and restores over what `over` holds; returns the repository and the backup.
async fn there_and_back(
    store: Arc<dyn ObjectStore>,
    database: &MemoryDatabase,
    over: &MemoryDatabase,
) -> (Repository, Manifest) {
    let repository = init(store.clone()).await;
    let manifest = uncompressed(&repository, database).build().run().await.unwrap().manifest;
    let reopened = Repository::open(store, secrets(), world()).await.unwrap();
    verify(&reopened, &manifest.id, &Arc::default()).await.unwrap();
    let report = restore(&reopened, &manifest.id, target(over), RestoreOptions::default()).run().await.unwrap();
    let documents = database.documents().len();
    assert_eq!((report.tally.written, over.documents().len()), (documents as u64, documents));
    (reopened, manifest)
}

async fn round_trip(store: Arc<dyn ObjectStore>) {
    let database = filled(3000);
    let (repository, manifest) = there_and_back(store, &database, &filled(0)).await;
    let policy = PrunePolicy { keep_last: Some(1), exclusive: true, ..Default::default() };
    uncompressed(&repository, &database).build().run().await.unwrap();
    assert_eq!(prune(&repository, &policy).await.unwrap().dropped, [manifest.id]);
    assert_eq!(repository.snapshot_ids().await.unwrap().len(), 2, "the newest backup and the undo");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_lives_in_s3_and_in_google_cloud_storage() {
    let s3 = S3Server::start().await;
    let settings =
        DestinationSettings { endpoint: Some(s3.endpoint().to_owned()), options: s3.options(), public_only: false };
    round_trip(Destination::open(&format!("s3://{}/backups", s3.bucket()), &settings).unwrap().store()).await;
    let gcs = GcsServer::start().await;
    let settings =
        DestinationSettings { endpoint: Some(gcs.endpoint().to_owned()), options: gcs.options(), public_only: false };
    round_trip(Destination::open(&format!("gs://{}/backups", gcs.bucket()), &settings).unwrap().store()).await;
}

/// A folder of a bucket, with options of its own.
fn s3_folder(server: &S3Server, folder: &str, options: &[(&str, &str)]) -> Destination {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options = server.options().into_iter().chain(options).collect();
    let settings = DestinationSettings { endpoint: Some(server.endpoint().to_owned()), options, public_only: false };
    Destination::open(&format!("s3://{}{folder}", server.bucket()), &settings).unwrap()
}

/// Whether one of its runs is larger than a part.
fn is_in_parts(manifest: &Manifest) -> bool {
    manifest.runs.iter().any(|run| run.size > 8 * 1024 * 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_a_restore_do_nothing_that_the_policy_of_the_bucket_refuses() {
    let server = S3Server::start_policed().await;
    let report = s3_folder(&server, "", &[]).probe().await.unwrap();
    assert!(report.is_complete() && report.conditional_multipart, "{report:?}");
    let small = ("", filled(3000), filled(0));
    let large = ("/large/backups", large(45, 0).await, large(45, 1).await);
    for ((folder, database, over), goes_in_parts) in [(small, false), (large, true)] {
        let store = s3_folder(&server, folder, &[]).store();
        let (repository, _) = there_and_back(store, &database, &over).await;
        let snapshots = all_whole(&repository).await;
        assert_eq!(snapshots.len(), 2, "the backup and the undo");
        for id in snapshots {
            let (manifest, _) = repository.manifest(&id).await.unwrap();
            assert_eq!(is_in_parts(&manifest), goes_in_parts, "{:?}", manifest.kind);
        }
    }
}

/// The control: the police of the test before this one is awake.
#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_the_bucket_refuses_what_is_put_without_a_condition_and_deletions() {
    let server = S3Server::start_policed().await;
    let store = s3_folder(&server, "/a", &[]).store();
    let is_refused = |result: Result<(), Error>| matches!(result, Err(Error::PermissionDenied { .. }));
    assert!(is_refused(store.put(&"runs/a".into(), "x".into()).await.map(drop)));
    store.put_opts(&"runs/a".into(), "x".into(), PutMode::Create.into()).await.unwrap();
    assert!(store.delete(&"runs/a".into()).await.unwrap_err().to_string().contains("AccessDenied"));
    for _ in 0..2 {
        store.put(&"receipts/a".into(), "x".into()).await.unwrap();
    }
    store.delete(&"receipts/a".into()).await.unwrap();
    let left: Vec<_> = store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    assert_eq!(left, ["runs/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_the_bucket_refuses_a_run_that_goes_up_in_parts_without_a_condition() {
    let server = S3Server::start_policed().await;
    let store = s3_folder(&server, "/b", &[("AWS_CONDITIONAL_COMPLETE", "none")]).store();
    let repository = init(store).await;
    let error = uncompressed(&repository, &large(45, 0).await).build().run().await.unwrap_err();
    let EngineError::Store { path, source: Error::PermissionDenied { .. }, .. } = &error else { panic!("{error:?}") };
    assert!(path.starts_with("runs/"), "{path}");
    assert!(repository.snapshot_ids().await.unwrap().is_empty());
    // what is put whole carries the condition all the same
    uncompressed(&repository, &filled(10)).build().run().await.unwrap();
    assert_eq!(all_whole(&repository).await.len(), 1);
}

/// A backup on a store with a fault must fail and commit nothing, or be whole; without the fault it completes. Says
/// whether the backup came as far as the fault.
async fn survives(fault: Fault, operation: Operation, nth: u64) -> bool {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
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
    let mut reached = BTreeMap::from([(Operation::Put, 0), (Operation::Get, 0)]);
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

/// Says for each fault at each place whether `survives` came as far as the fault, and counts those that were reached.
async fn reached_faults<F: Future<Output = bool>>(
    survives: impl Fn(Fault, Operation, u64) -> F,
) -> BTreeMap<Operation, usize> {
    let puts = [
        Fault::Unavailable,
        Fault::DiskFull,
        Fault::LostAcknowledgement,
        Fault::Denied,
        Fault::Slow(Duration::from_millis(5)),
    ];
    let gets = [Fault::Unavailable, Fault::Truncated { keep: 20 }, Fault::Broken { after: 20 }];
    let puts = puts.map(|fault| (Operation::Put, fault)).into_iter();
    let gets = gets.map(|fault| (Operation::Get, fault)).into_iter();
    let others = [Operation::List, Operation::Delete].map(|operation| (operation, Fault::Unavailable));
    let mut reached = BTreeMap::new();
    for (operation, fault) in puts.chain(gets).chain(others) {
        for nth in [1, 2, 4, 7] {
            let came = survives(fault, operation, nth).await;
            *reached.entry(operation).or_insert(0) += usize::from(came);
        }
    }
    reached
}

fn assert_reached(reached: &BTreeMap<Operation, usize>, least: [(Operation, usize); 4]) {
    for (operation, least) in least {
        assert!(reached[&operation] >= least, "{operation:?}: only {} faults were reached", reached[&operation]);
    }
}

async fn all_whole(repository: &Repository) -> Vec<SnapshotId> {
    let ids = repository.snapshot_ids().await.unwrap();
    for id in &ids {
        verify(repository, id, &Arc::default()).await.unwrap();
    }
    ids
}

/// A restore on a store with a fault goes on without it, and can be taken back to what was there before the first try.
async fn restore_survives(fault: Fault, operation: Operation, nth: u64) -> bool {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let clean = init(inner.clone()).await;
    let database = filled(300);
    let wanted = contents(&database.documents());
    let backup = Backup::builder(clean.clone(), Arc::new(database.clone())).block_bytes(4096).build();
    let snapshot = backup.run().await.unwrap().manifest.id;
    for n in 0..60 {
        database.set(&format!("users/user-{:06}", n * 5), -n - 1);
        database.set(&format!("users/was-added-{n}"), n);
    }
    database.remove("users/user-000007");
    let before = contents(&database.documents());
    let options = RestoreOptions { mode: RestoreMode::Mirror, batch_writes: 20, ..RestoreOptions::default() };

    let faulty = FaultyStore::new(inner);
    let repository = Repository::open(Arc::new(faulty.clone()), secrets(), world()).await.unwrap();
    let opened = faulty.tally(operation).operations;
    faulty.fail(operation, nth, fault);
    let _ = restore(&repository, &snapshot, target(&database), options.clone()).run().await;
    let reached = faulty.tally(operation).operations >= opened + nth;
    all_whole(&clean).await;

    let report = restore(&clean, &snapshot, target(&database), options).run().await.unwrap();
    assert_eq!(report.tally.failed, 0);
    assert!(contents(&database.documents()) == wanted, "{fault:?} {operation:?} {nth}");
    // a restore that failed behind its commit was whole, and has an undo of its own
    let mut undos = all_whole(&clean).await;
    undos.retain(|id| id.kind() == JobKind::Restore);
    assert!(undos.contains(&report.job));
    for job in undos.iter().rev() {
        let undo = restore(&clean, job, target(&database), RestoreOptions::default()).run().await.unwrap();
        assert_eq!(undo.tally.failed, 0);
    }
    assert!(contents(&database.documents()) == before, "{fault:?} {operation:?} {nth}");
    reached
}

// on one thread: what a failed restore had under way must end with it, as it does with its process
#[tokio::test]
async fn a_restore_on_a_store_that_fails_completes_and_can_be_taken_back() {
    let reached = reached_faults(restore_survives).await;
    let least = [(Operation::Put, 20), (Operation::Get, 12), (Operation::List, 3), (Operation::Delete, 4)];
    assert_reached(&reached, least);
}

/// A prune on a store with a fault takes nothing that is needed, and completes without it.
async fn prune_survives(fault: Fault, operation: Operation, nth: u64) -> bool {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let clean = init(inner.clone()).await;
    let database = filled(100);
    let mut newest = None;
    for n in 0..3 {
        database.set("users/user-000000", n);
        let backup = Backup::builder(clean.clone(), Arc::new(database.clone())).block_bytes(4096).build();
        newest = Some(backup.run().await.unwrap().manifest);
    }
    let newest = newest.unwrap();

    let faulty = FaultyStore::new(inner.clone());
    let repository = Repository::open(Arc::new(faulty.clone()), secrets(), world()).await.unwrap();
    let opened = faulty.tally(operation).operations;
    faulty.fail(operation, nth, fault);
    // an exclusive prune deletes at once, any other puts a mark
    let exclusive = operation != Operation::Put;
    let policy = PrunePolicy { keep_last: Some(1), exclusive, ..PrunePolicy::default() };
    let _ = prune(&repository, &policy).await;
    let reached = faulty.tally(operation).operations >= opened + nth;
    assert!(all_whole(&clean).await.contains(&newest.id), "{fault:?} {operation:?} {nth}");

    prune(&clean, &policy).await.unwrap();
    assert_eq!(all_whole(&clean).await, std::slice::from_ref(&newest.id));
    prune(&clean, &PrunePolicy { exclusive: true, ..policy }).await.unwrap();
    assert_eq!(all_whole(&clean).await, std::slice::from_ref(&newest.id));
    let runs: Vec<_> = inner.list(Some(&"runs".into())).try_collect().await.unwrap();
    assert_eq!(runs.len(), newest.all_runs().count(), "{fault:?} {operation:?} {nth}");
    reached
}

#[tokio::test]
async fn a_prune_on_a_store_that_fails_takes_nothing_that_is_needed() {
    let reached = reached_faults(prune_survives).await;
    // a prune puts one object, and deletes two manifests with their runs and keys
    let least = [(Operation::Put, 5), (Operation::Get, 9), (Operation::List, 4), (Operation::Delete, 3)];
    assert_reached(&reached, least);
}

/// Documents of 200 kB that cannot be compressed: 90 are 18 MB in one run, two whole parts and a rest.
async fn large(documents: usize, seed: u64) -> MemoryDatabase {
    let database = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
    let mut random = StdRng::seed_from_u64(seed);
    let mut content = vec![0; 200_000];
    let writes = (0..documents).map(|n| {
        let path = DocumentPath::new(format!("large/{n:03}")).unwrap();
        let (mut value, mut entry, mut document) = (Vec::new(), Vec::new(), Vec::new());
        // a value that is bytes
        random.fill_bytes(&mut content);
        put_bytes_field(&mut value, 18, &content);
        put_bytes_field(&mut entry, 1, b"data");
        put_bytes_field(&mut entry, 2, &value);
        let name = DocumentSink::database(&database).document_name(path.as_str());
        put_bytes_field(&mut document, NAME_FIELD, name.as_bytes());
        put_bytes_field(&mut document, FIELDS_FIELD, &entry);
        Write { path, document: Some(document.into()), precondition: Precondition::None }
    });
    for outcome in database.write(writes.collect()).await.unwrap() {
        outcome.unwrap();
    }
    database
}

/// A backup whose run goes up in parts, on a store with a fault at one of them, is whole or not there.
async fn parts_survive(database: &MemoryDatabase, fault: Fault, operation: Operation, nth: u64) {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let clean = init(inner.clone()).await;
    let faulty = FaultyStore::new(inner);
    let repository = Repository::open(Arc::new(faulty.clone()), secrets(), world()).await.unwrap();
    faulty.fail(operation, nth, fault);
    let backup = |repository: Repository| {
        Backup::builder(repository, Arc::new(database.clone())).compression("none".parse().unwrap()).build()
    };
    let result = backup(repository).run().await;
    assert!(faulty.tally(operation).operations >= nth, "{operation:?} {nth} was not reached");
    assert!(result.is_ok() || !matches!(fault, Fault::Slow(_)), "{result:?}");
    assert!(result.is_err() || !matches!(fault, Fault::DiskFull), "{operation:?} {nth} failed for good");
    assert_eq!(all_whole(&clean).await.len(), usize::from(result.is_ok()));
    let manifest = backup(clean.clone()).run().await.unwrap().manifest;
    assert_eq!(manifest.totals.documents, database.documents().len() as u64);
    assert!(all_whole(&clean).await.contains(&manifest.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_up_in_parts_is_whole_or_not_there() {
    let database = large(90, 0).await;
    let faults =
        [Fault::Unavailable, Fault::LostAcknowledgement, Fault::DiskFull, Fault::Slow(Duration::from_millis(30))];
    for fault in faults {
        for (operation, nth) in [(Operation::PutPart, 1), (Operation::PutPart, 3), (Operation::Complete, 1)] {
            parts_survive(&database, fault, operation, nth).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lying_store_returns_is_never_restored() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
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
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let database = filled(20_000);
    let repository = init(inner.clone()).await;
    let manifest =
        Backup::builder(repository, Arc::new(database)).block_bytes(64 * 1024).build().run().await.unwrap().manifest;
    let faulty = FaultyStore::new(inner);
    let repository = Repository::open(Arc::new(faulty.clone()), secrets(), world()).await.unwrap();
    let (manifest, _) = repository.manifest(&manifest.id).await.unwrap();
    faulty.reset();
    let path = DocumentPath::new("users/user-012345").unwrap();
    let found = firebackup_engine::lookup(&repository, &manifest, &path, &Arc::default()).await.unwrap();
    assert!(found.is_some());
    // header, end of the run with its footer, one block
    assert_eq!(faulty.tally(Operation::Get).operations, 3);
    assert!(faulty.bytes_read() < 32 * 1024 + 64 * 1024 + 1024, "{}", faulty.bytes_read());
}
