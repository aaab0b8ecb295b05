//! A store at which processes meet, one that dies, and a database that breaks off.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firebackup_model::document::RawDocument;
use firebackup_model::port::{DocumentSink, DocumentSource, DocumentStream, Write, WriteOutcome};
use firebackup_model::{DatabaseName, DocumentPath, ErrorKind, PathRange, PortError, Timestamp};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Notify;
use tokio::task::yield_now;

/// A store in memory that lets everybody else go first before each operation, as a network does: a store that is ready
/// at once would let one process run from beginning to end before another one gets a turn.
#[derive(Debug, Default)]
pub struct SharedStore {
    inner: Arc<InMemory>,
    late: Mutex<Vec<Path>>,
    gets: Mutex<BTreeMap<Path, usize>>,
    held: Mutex<Option<(&'static str, Arc<Held>)>>,
    held_get: Mutex<Option<(Path, Arc<Held>)>>,
}

/// A put or a read that waits before it is done.
#[derive(Debug, Default)]
pub struct Held {
    came: Notify,
    goes: Notify,
}

impl Held {
    /// Waits until it comes.
    pub async fn came(&self) {
        self.came.notified().await;
    }

    /// Lets it go on.
    pub fn goes(&self) {
        self.goes.notify_one();
    }

    async fn wait(&self) {
        self.came.notify_one();
        self.goes.notified().await;
    }
}

impl SharedStore {
    /// How often each object was read since this was asked last.
    pub fn take_gets(&self) -> BTreeMap<Path, usize> {
        std::mem::take(&mut self.gets.lock().unwrap())
    }

    /// Holds the next put into a folder, and no other.
    pub fn hold_put(&self, folder: &'static str) -> Arc<Held> {
        let held = Arc::<Held>::default();
        *self.held.lock().unwrap() = Some((folder, held.clone()));
        held
    }

    /// Holds the next read of an object, and no other.
    pub fn hold_get(&self, path: &str) -> Arc<Held> {
        let held = Arc::<Held>::default();
        *self.held_get.lock().unwrap() = Some((path.into(), held.clone()));
        held
    }

    /// How many puts into a folder found that somebody else had been faster.
    pub fn late_puts(&self, folder: &str) -> usize {
        self.late.lock().unwrap().iter().filter(|path| path.prefix_matches(&folder.into())).count()
    }
}

impl fmt::Display for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedStore")
    }
}

#[async_trait]
impl ObjectStore for SharedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        yield_now().await;
        let held = self.held.lock().unwrap().take_if(|(folder, _)| location.prefix_matches(&(*folder).into()));
        if let Some((_, held)) = held {
            held.wait().await;
        }
        let result = self.inner.put_opts(location, payload, options).await;
        if let Err(Error::AlreadyExists { .. }) = &result {
            self.late.lock().unwrap().push(location.clone());
        }
        result
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        yield_now().await;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        yield_now().await;
        *self.gets.lock().unwrap().entry(location.clone()).or_default() += 1;
        let held = self.held_get.lock().unwrap().take_if(|(path, _)| *path == *location);
        if let Some((_, held)) = held {
            held.wait().await;
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let inner = Arc::clone(&self.inner);
        let delete = move |location: Result<Path>| {
            let inner = Arc::clone(&inner);
            async move {
                let location = location?;
                yield_now().await;
                inner.delete(&location).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.cloned());
        let listing = async move {
            yield_now().await;
            inner.list(prefix.as_ref())
        };
        stream::once(listing).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        yield_now().await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        yield_now().await;
        self.inner.copy_opts(from, to, options).await
    }
}

/// Counts operations down; at zero everything fails for ever, as for a process that is gone.
#[derive(Debug)]
pub struct Fuse {
    left: AtomicU64,
}

impl Fuse {
    pub fn new(operations: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(operations) })
    }

    pub fn blew(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn pass(&self) -> bool {
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

/// A store whose process dies when the fuse blows. With `lost_answers`, the operation at which it blows is still done.
#[derive(Debug)]
pub struct DyingStore {
    pub inner: Arc<dyn ObjectStore>,
    pub fuse: Arc<Fuse>,
    pub lost_answers: bool,
    lost: AtomicBool,
}

impl DyingStore {
    pub fn new(inner: Arc<dyn ObjectStore>, fuse: Arc<Fuse>, lost_answers: bool) -> Self {
        Self { inner, fuse, lost_answers, lost: AtomicBool::new(false) }
    }

    fn dead() -> Error {
        Error::Generic { store: "dying", source: "the process is dead".into() }
    }

    /// For what changes nothing: nobody can tell whether it was done when its answer is lost.
    fn pass(&self) -> Result<()> {
        self.pass_or_be_lost().map_err(|_| Self::dead())
    }

    /// Otherwise says whether this is the operation that is done although nobody hears of it.
    fn pass_or_be_lost(&self) -> Result<(), bool> {
        if self.fuse.pass() { Ok(()) } else { Err(self.is_lost()) }
    }

    fn is_lost(&self) -> bool {
        self.lost_answers && self.fuse.blew() && !self.lost.swap(true, Ordering::SeqCst)
    }
}

impl fmt::Display for DyingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DyingStore")
    }
}

#[async_trait]
impl ObjectStore for DyingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if let Err(is_lost) = self.pass_or_be_lost() {
            if is_lost {
                let _ = self.inner.put_opts(location, payload, options).await;
            }
            return Err(Self::dead());
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.pass()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.pass()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.pass_or_be_lost() {
            Ok(()) => self.inner.delete_stream(locations),
            Err(true) => self.inner.delete_stream(locations).map(|_| Err(Self::dead())).boxed(),
            Err(false) => stream::iter([Err(Self::dead())]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.pass() {
            Ok(()) => self.inner.list(prefix),
            Err(dead) => stream::iter([Err(dead)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.pass()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.pass()?;
        self.inner.copy_opts(from, to, options).await
    }
}

/// What a database does wrong.
#[derive(Debug, Clone, Copy)]
pub enum Trouble {
    /// Each stream breaks after so many documents.
    CutStreams(usize),
    /// Reads at a time before this one are refused as too old.
    TooOld(Timestamp),
    /// Every n-th write of a batch is refused for a moment.
    RefuseWrites(u64),
    /// Each n-th write request is carried out, and its answer lost.
    LoseAnswers(u64),
    /// Writes to this one path fail for good.
    Poison(&'static str),
    /// A request that holds this one path fails as a whole, as the emulator does it.
    PoisonRequest(&'static str),
    /// Counts of all collections are refused, and made by reading names: that is known once one was asked for.
    CountsByName,
}

/// A database with troubles.
#[derive(Debug)]
pub struct Troubled<D> {
    pub inner: D,
    pub troubles: Vec<Trouble>,
    pub calls: AtomicU64,
    pub largest_batch: AtomicU64,
    pub gate: Option<Gate>,
    was_counted: AtomicBool,
}

impl<D> Troubled<D> {
    pub fn new(inner: D, troubles: &[Trouble]) -> Self {
        let (calls, largest_batch) = (AtomicU64::new(0), AtomicU64::new(0));
        let was_counted = AtomicBool::new(false);
        Self { inner, troubles: troubles.to_vec(), calls, largest_batch, gate: None, was_counted }
    }

    /// Without troubles, but its `nth` read of documents by path stands at a gate.
    pub fn gated(inner: D, nth: u64) -> Self {
        let gate = Gate { nth, reads: AtomicU64::new(0), reached: Notify::new(), open: Notify::new() };
        Self { gate: Some(gate), ..Self::new(inner, &[]) }
    }

    fn counts_by_name(&self) -> bool {
        self.troubles.iter().any(|trouble| matches!(trouble, Trouble::CountsByName))
    }
}

/// Where one read waits until it is told to go on.
#[derive(Debug)]
pub struct Gate {
    nth: u64,
    reads: AtomicU64,
    pub reached: Notify,
    pub open: Notify,
}

impl Gate {
    async fn pass(&self) {
        if self.reads.fetch_add(1, Ordering::SeqCst) + 1 == self.nth {
            self.reached.notify_one();
            self.open.notified().await;
        }
    }
}

fn unavailable() -> PortError {
    PortError::new(ErrorKind::Unavailable, "read documents", "cut for the test")
}

#[async_trait]
impl<D: DocumentSource> DocumentSource for Troubled<D> {
    fn database(&self) -> &DatabaseName {
        self.inner.database()
    }

    async fn snapshot_time(&self) -> Result<Timestamp, PortError> {
        self.inner.snapshot_time().await
    }

    async fn versions_since(&self) -> Result<Option<Timestamp>, PortError> {
        self.inner.versions_since().await
    }

    async fn split_points(
        &self,
        range: &PathRange,
        wanted: usize,
        at: Timestamp,
    ) -> Result<Vec<DocumentPath>, PortError> {
        self.inner.split_points(range, wanted, at).await
    }

    async fn stream(&self, range: &PathRange, at: Timestamp, limit: Option<u32>) -> Result<DocumentStream, PortError> {
        for trouble in &self.troubles {
            match trouble {
                Trouble::TooOld(oldest) if at < *oldest => {
                    return Err(PortError::new(ErrorKind::ReadTimeTooOld, "read documents", "too old"));
                }
                Trouble::CutStreams(after) => {
                    let head = self.inner.stream(range, at, limit).await?.take(*after);
                    let whole = head.collect::<Vec<_>>().await;
                    let cut = whole.len() == *after;
                    let tail = stream::iter(cut.then(|| Err(unavailable())));
                    return Ok(stream::iter(whole).chain(tail).boxed());
                }
                _ => {}
            }
        }
        self.inner.stream(range, at, limit).await
    }

    async fn count(&self, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        if self.counts_by_name() {
            return Err(PortError::new(ErrorKind::InvalidArgument, "count documents", "not of all collections"));
        }
        self.inner.count(range, at).await
    }

    async fn count_surely(&self, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.was_counted.store(true, Ordering::SeqCst);
        self.inner.count(range, at).await
    }

    fn counts_by_reading(&self) -> bool {
        self.counts_by_name() && self.was_counted.load(Ordering::SeqCst)
    }

    async fn get(&self, paths: &[DocumentPath], at: Option<Timestamp>) -> Result<Vec<Option<RawDocument>>, PortError> {
        yield_now().await;
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        self.inner.get(paths, at).await
    }
}

#[async_trait]
impl<D: DocumentSink> DocumentSink for Troubled<D> {
    fn database(&self) -> &DatabaseName {
        self.inner.database()
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteOutcome>, PortError> {
        // between what was read and what is written others may write
        yield_now().await;
        self.largest_batch.fetch_max(writes.len() as u64, Ordering::SeqCst);
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let mut refused = vec![None; writes.len()];
        let spoils = |path: &str| writes.iter().any(|write| write.path.as_str() == path);
        if self.troubles.iter().any(|trouble| matches!(trouble, Trouble::PoisonRequest(path) if spoils(path))) {
            return Err(PortError::new(ErrorKind::InvalidArgument, "write", "one of the documents is invalid"));
        }
        for trouble in &self.troubles {
            for (index, write) in writes.iter().enumerate() {
                match trouble {
                    Trouble::RefuseWrites(every) if (call + index as u64).is_multiple_of(*every) => {
                        refused[index] = Some(ErrorKind::ResourceExhausted);
                    }
                    Trouble::Poison(path) if write.path.as_str() == *path => {
                        refused[index] = Some(ErrorKind::InvalidArgument);
                    }
                    _ => {}
                }
            }
        }
        let passed: Vec<Write> =
            writes.into_iter().zip(&refused).filter(|(_, kind)| kind.is_none()).map(|(write, _)| write).collect();
        let mut outcomes = self.inner.write(passed).await?.into_iter();
        let loses = self
            .troubles
            .iter()
            .any(|trouble| matches!(trouble, Trouble::LoseAnswers(every) if call.is_multiple_of(*every)));
        if loses {
            return Err(PortError::new(ErrorKind::Unavailable, "write", "the answer was lost"));
        }
        let outcome = |kind: Option<ErrorKind>| match kind {
            Some(kind) => Some(Err(PortError::new(kind, "write", "refused for the test"))),
            None => outcomes.next(),
        };
        Ok(refused.into_iter().filter_map(outcome).collect())
    }

    async fn can_write(&self) -> Result<(), PortError> {
        self.inner.can_write().await
    }
}
