//! A Firestore-like database in memory, with versions: for tests and examples.

mod changes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use firebackup_model::document::{CREATE_TIME_FIELD, FIELDS_FIELD, NAME_FIELD, RawDocument, UPDATE_TIME_FIELD};
use firebackup_model::port::{DocumentSink, DocumentSource, DocumentStream, Precondition, Write, WriteOutcome};
use firebackup_model::wire::{Fields, put_bytes_field, put_varint};
use firebackup_model::{DatabaseName, DocumentPath, ErrorKind, PathRange, PortError, Timestamp};
use futures::{StreamExt, stream};
use tokio::sync::watch;

pub use changes::{CountFault, ListenFaults};

/// A database in memory. Clones share it. Its clock ticks a microsecond a write.
#[derive(Debug, Clone)]
pub struct MemoryDatabase {
    name: DatabaseName,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    /// Whether time passes by itself.
    flows: bool,
    faults: ListenFaults,
    /// Until when listeners were told.
    told: watch::Sender<Timestamp>,
    keeps_versions_since: Option<Timestamp>,
    documents: BTreeMap<DocumentPath, Vec<Version>>,
}

#[derive(Debug)]
struct Version {
    at: Timestamp,
    /// When the document that is there now, or was until now, came into being.
    created: Timestamp,
    document: Option<Bytes>,
}

impl MemoryDatabase {
    /// An empty database.
    #[must_use]
    pub fn new(name: DatabaseName) -> Self {
        let now = Timestamp::new(1_700_000_000, 0);
        let (faults, told) = (ListenFaults::default(), watch::Sender::new(now));
        let state = State { now, flows: false, faults, told, keeps_versions_since: None, documents: BTreeMap::new() };
        Self { name, state: Arc::new(Mutex::new(state)) }
    }

    /// Sets a document with one integer field `n`. A path that is none is ignored.
    pub fn set(&self, path: &str, n: i64) {
        if let Ok(path) = DocumentPath::new(path) {
            let mut value = Vec::new();
            put_varint(&mut value, 2 << 3);
            put_varint(&mut value, n as u64);
            let mut entry = Vec::new();
            put_bytes_field(&mut entry, 1, b"n");
            put_bytes_field(&mut entry, 2, &value);
            let mut document = Vec::new();
            put_bytes_field(&mut document, NAME_FIELD, self.name.document_name(path.as_str()).as_bytes());
            put_bytes_field(&mut document, FIELDS_FIELD, &entry);
            self.put(&path, Some(&document));
        }
    }

    /// Says that the database has had point-in-time recovery since `since`.
    pub fn keep_versions_since(&self, since: Timestamp) {
        self.lock().keeps_versions_since = Some(since);
    }

    /// Lets time pass in which nothing is written.
    pub fn pass_seconds(&self, seconds: i64) {
        let mut state = self.lock();
        state.now = Timestamp::new(state.now.seconds + seconds, state.now.nanos);
    }

    /// The time of the database.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.lock().now
    }

    /// Lets time pass by itself: no two snapshot times are the same then.
    pub fn flow(&self) {
        self.lock().flows = true;
    }

    /// Deletes a document.
    pub fn remove(&self, path: &str) {
        if let Ok(path) = DocumentPath::new(path) {
            self.put(&path, None);
        }
    }

    /// Every document as it is now: its path and its bytes.
    #[must_use]
    pub fn documents(&self) -> BTreeMap<DocumentPath, Bytes> {
        let now = self.lock().now;
        self.documents_at(now)
    }

    /// Every document as it was at `time`.
    #[must_use]
    pub fn documents_at(&self, time: Timestamp) -> BTreeMap<DocumentPath, Bytes> {
        let state = self.lock();
        state.documents.iter().filter_map(|(path, versions)| Some((path.clone(), at(versions, time)?))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn put(&self, path: &DocumentPath, document: Option<&[u8]>) -> Timestamp {
        let mut state = self.lock();
        put(&mut state, path, document)
    }
}

fn put(state: &mut State, path: &DocumentPath, document: Option<&[u8]>) -> Timestamp {
    state.now = tick(state.now);
    let now = state.now;
    let versions = state.documents.entry(path.clone()).or_default();
    let created = versions.last().filter(|version| version.document.is_some()).map_or(now, |version| version.created);
    let document = document.map(|bytes| stamped(bytes, created, now));
    versions.push(Version { at: now, created, document });
    now
}

fn tick(now: Timestamp) -> Timestamp {
    if now.nanos + 1000 < 1_000_000_000 {
        Timestamp::new(now.seconds, now.nanos + 1000)
    } else {
        Timestamp::new(now.seconds + 1, 0)
    }
}

/// The document with the server's times in place of whatever it had.
fn stamped(document: &[u8], created: Timestamp, now: Timestamp) -> Bytes {
    let mut out = Vec::with_capacity(document.len() + 40);
    let mut fields = Fields::of(document);
    while let Ok(Some(field)) = fields.next() {
        if field.number != CREATE_TIME_FIELD && field.number != UPDATE_TIME_FIELD {
            out.extend_from_slice(field.raw);
        }
    }
    put_bytes_field(&mut out, CREATE_TIME_FIELD, &time(created));
    put_bytes_field(&mut out, UPDATE_TIME_FIELD, &time(now));
    out.into()
}

/// A `google.protobuf.Timestamp`.
fn time(moment: Timestamp) -> Vec<u8> {
    let mut time = Vec::new();
    put_varint(&mut time, 1 << 3);
    put_varint(&mut time, moment.seconds as u64);
    put_varint(&mut time, 2 << 3);
    put_varint(&mut time, u64::from(moment.nanos));
    time
}

fn at(versions: &[Version], time: Timestamp) -> Option<Bytes> {
    versions.iter().rfind(|version| version.at <= time)?.document.clone()
}

#[async_trait]
impl DocumentSource for MemoryDatabase {
    fn database(&self) -> &DatabaseName {
        &self.name
    }

    async fn snapshot_time(&self) -> Result<Timestamp, PortError> {
        let mut state = self.lock();
        if state.flows {
            state.now = tick(state.now);
        }
        Ok(state.now)
    }

    async fn versions_since(&self) -> Result<Option<Timestamp>, PortError> {
        Ok(self.lock().keeps_versions_since)
    }

    async fn split_points(
        &self,
        range: &PathRange,
        wanted: usize,
        _: Timestamp,
    ) -> Result<Vec<DocumentPath>, PortError> {
        let paths: Vec<_> = self.lock().documents.keys().filter(|path| range.covers(path)).cloned().collect();
        let step = (paths.len() / (wanted + 1)).max(1);
        Ok(paths.into_iter().step_by(step).skip(1).take(wanted).collect())
    }

    async fn stream(
        &self,
        range: &PathRange,
        time: Timestamp,
        limit: Option<u32>,
    ) -> Result<DocumentStream, PortError> {
        let state = self.lock();
        let inside = state.documents.iter().filter(|(path, _)| range.covers(path));
        let documents = inside.filter_map(|(_, versions)| at(versions, time)).map(|bytes| Ok(RawDocument(bytes)));
        let documents: Vec<_> = documents.take(limit.map_or(usize::MAX, |limit| limit as usize)).collect();
        Ok(stream::iter(documents).boxed())
    }

    async fn count(&self, range: &PathRange, time: Timestamp) -> Result<u64, PortError> {
        let state = self.lock();
        Ok(state.documents.iter().filter(|(path, versions)| range.covers(path) && at(versions, time).is_some()).count()
            as u64)
    }

    async fn get(
        &self,
        paths: &[DocumentPath],
        time: Option<Timestamp>,
    ) -> Result<Vec<Option<RawDocument>>, PortError> {
        let state = self.lock();
        let time = time.unwrap_or(state.now);
        let find = |path| state.documents.get(path).and_then(|versions| at(versions, time)).map(RawDocument);
        Ok(paths.iter().map(find).collect())
    }
}

#[async_trait]
impl DocumentSink for MemoryDatabase {
    fn database(&self) -> &DatabaseName {
        &self.name
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteOutcome>, PortError> {
        let mut state = self.lock();
        Ok(writes.iter().map(|write| apply(&mut state, write)).collect())
    }

    async fn can_write(&self) -> Result<(), PortError> {
        Ok(())
    }
}

fn apply(state: &mut State, write: &Write) -> WriteOutcome {
    let now = state.now;
    let current = state.documents.get(&write.path).and_then(|versions| {
        let version = versions.iter().rfind(|version| version.at <= now)?;
        version.document.as_ref().map(|_| version.at)
    });
    let refused = |kind, text: &str| Err(PortError::new(kind, "write", text));
    match (write.precondition, current) {
        (Precondition::Absent, Some(_)) => return refused(ErrorKind::AlreadyExists, "the document exists"),
        (Precondition::UpdatedAt(_), None) => return refused(ErrorKind::NotFound, "the document does not exist"),
        (Precondition::UpdatedAt(wanted), Some(at)) if wanted != at => {
            return refused(ErrorKind::FailedPrecondition, "the document was changed");
        }
        _ => {}
    }
    Ok(put(state, &write.path, write.document.as_deref()))
}
