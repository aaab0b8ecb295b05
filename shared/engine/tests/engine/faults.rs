//! A store that dies, and a database that breaks off.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use firebackup_model::document::RawDocument;
use firebackup_model::port::{DocumentSink, DocumentSource, DocumentStream, Write, WriteOutcome};
use firebackup_model::{DatabaseName, DocumentPath, ErrorKind, PathRange, PortError, Timestamp};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

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

    fn dead() -> object_store::Error {
        object_store::Error::Generic { store: "dying", source: "the process is dead".into() }
    }

    fn pass(&self) -> Result<()> {
        if self.fuse.pass() { Ok(()) } else { Err(Self::dead()) }
    }

    /// Whether this is the operation that is done although nobody hears of it.
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
        if let Err(dead) = self.pass() {
            if self.is_lost() {
                let _ = self.inner.put_opts(location, payload, options).await;
            }
            return Err(dead);
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
        match self.pass() {
            Ok(()) => self.inner.delete_stream(locations),
            Err(dead) => stream::iter([Err(dead)]).boxed(),
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
}

/// A database with troubles.
#[derive(Debug)]
pub struct Troubled<D> {
    pub inner: D,
    pub troubles: Vec<Trouble>,
    pub calls: AtomicU64,
    pub largest_batch: AtomicU64,
}

impl<D> Troubled<D> {
    pub fn new(inner: D, troubles: &[Trouble]) -> Self {
        Self { inner, troubles: troubles.to_vec(), calls: AtomicU64::new(0), largest_batch: AtomicU64::new(0) }
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
        self.inner.count(range, at).await
    }

    async fn get(&self, paths: &[DocumentPath], at: Option<Timestamp>) -> Result<Vec<Option<RawDocument>>, PortError> {
        self.inner.get(paths, at).await
    }
}

#[async_trait]
impl<D: DocumentSink> DocumentSink for Troubled<D> {
    fn database(&self) -> &DatabaseName {
        self.inner.database()
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteOutcome>, PortError> {
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
