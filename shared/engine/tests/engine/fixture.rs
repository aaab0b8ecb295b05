//! A database with documents, a repository, and what the tests ask of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use firebackup_codec::secret::SecretKey;
use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{Backup, Meter, Repository, Restore, RestoreOptions, Secrets, Stop, Target, World, verify};
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::Manifest;
use firebackup_model::port::{Clock, DocumentSink, DocumentSource, Random};
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::faults::SharedStore;

/// A clock that the test sets, and that ticks a millisecond a look.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn pass_hours(&self, hours: i64) {
        self.0.fetch_add(hours * 3_600_000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// Random bytes that are the same in every run: a counter, mixed.
#[derive(Debug)]
struct TestRandom(AtomicU64);

impl Random for TestRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let mut x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            part.copy_from_slice(&(x ^ (x >> 31)).to_le_bytes()[..part.len()]);
        }
    }
}

pub struct Fixture {
    pub store: Arc<dyn ObjectStore>,
    /// The same store, for what it knows of races.
    pub shared: Arc<SharedStore>,
    pub clock: Arc<TestClock>,
    pub world: World,
    pub database: MemoryDatabase,
}

pub fn master(byte: u8) -> Secrets {
    Secrets { masters: vec![SecretKey::from_bytes([byte; 32])], ..Secrets::default() }
}

impl Fixture {
    pub async fn new(documents: usize) -> (Self, Repository) {
        let shared = Arc::new(SharedStore::default());
        let store: Arc<dyn ObjectStore> = shared.clone();
        // the memory database counts from 2023-11-14T22:13:20Z on
        let clock = Arc::new(TestClock(AtomicI64::new(1_700_000_060_000)));
        let world = World { clock: clock.clone(), random: Arc::new(TestRandom(AtomicU64::new(documents as u64))) };
        let database = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
        fill(&database, documents);
        let repository = Repository::init(store.clone(), master(7), world.clone()).await.unwrap();
        (Self { store, shared, clock, world, database }, repository)
    }

    pub async fn open(&self) -> Repository {
        self.open_on(self.store.clone()).await.unwrap()
    }

    pub async fn open_on(&self, store: Arc<dyn ObjectStore>) -> firebackup_engine::Result<Repository> {
        Repository::open(store, master(7), self.world.clone()).await
    }

    pub async fn objects(&self) -> BTreeSet<String> {
        let metas: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        metas.into_iter().map(|meta| meta.location.to_string()).collect()
    }

    /// The bytes of an object.
    pub async fn read(&self, path: &str) -> Bytes {
        self.store.get(&path.into()).await.unwrap().bytes().await.unwrap()
    }

    pub fn target(&self) -> Target {
        target(&self.database)
    }
}

pub fn target(database: &MemoryDatabase) -> Target {
    Target { source: Arc::new(database.clone()), sink: Arc::new(database.clone()) }
}

pub fn target_of<D: DocumentSource + DocumentSink + 'static>(database: Arc<D>) -> Target {
    Target { source: database.clone(), sink: database }
}

/// Users with orders below some of them, below phantoms too.
pub fn fill(database: &MemoryDatabase, documents: usize) {
    for n in 0..documents as i64 {
        match n % 4 {
            0 => database.set(&format!("users/u{n:05}"), n),
            1 => database.set(&format!("users/phantom{n:05}/orders/{n}"), n),
            2 => database.set(&format!("orders/__id{n}__"), n),
            _ => database.set(&format!("zoo/ü{n}"), n),
        }
    }
}

/// A small backup: several steps, several blocks.
pub fn backup(repository: &Repository, database: &MemoryDatabase) -> firebackup_engine::BackupBuilder {
    backup_of(repository, Arc::new(database.clone()))
}

pub fn backup_of(repository: &Repository, source: Arc<dyn DocumentSource>) -> firebackup_engine::BackupBuilder {
    Backup::builder(repository.clone(), source).compression("zstd:1".parse().unwrap()).block_bytes(2048).parallel(2)
}

pub fn restore(repository: &Repository, snapshot: &SnapshotId, target: Target, options: RestoreOptions) -> Restore {
    Restore {
        repository: repository.clone(),
        snapshot: snapshot.clone(),
        at: None,
        target,
        options: RestoreOptions { ramp: false, batch_writes: 20, ..options },
        meter: Arc::new(Meter::default()),
        stop: Stop::default(),
    }
}

/// Documents without the times that the server sets.
pub fn contents(database: &MemoryDatabase) -> BTreeMap<DocumentPath, Vec<u8>> {
    contents_at(database, database.now())
}

/// The same as they were at a moment.
pub fn contents_at(database: &MemoryDatabase, at: Timestamp) -> BTreeMap<DocumentPath, Vec<u8>> {
    let canonical = |bytes: Bytes| firebackup_codec::canonical::canonical(&bytes).unwrap();
    database.documents_at(at).into_iter().map(|(path, bytes)| (path, canonical(bytes))).collect()
}

/// Every snapshot that is listed must be whole.
pub async fn all_whole(repository: &Repository) -> Vec<Manifest> {
    let mut manifests = Vec::new();
    for id in repository.snapshot_ids().await.unwrap() {
        verify(repository, &id, &Arc::default()).await.unwrap();
        manifests.push(repository.manifest(&id).await.unwrap().0);
    }
    manifests
}
