//! An object store that fails as it is told to, and counts what it is asked.
//!
//! Without a fault it is the store that it wraps. Clones share their script and their counters.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Future, FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What a store is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Put an object in one piece; its bytes are counted when it was put.
    Put,
    /// Begin an upload in parts.
    Multipart,
    /// Put a part.
    PutPart,
    /// Complete an upload in parts.
    Complete,
    /// Abort an upload in parts.
    Abort,
    /// Read an object or a range of it; bytes are counted as they are read.
    Get,
    /// Ask for an object's size.
    Head,
    /// List, with or without a delimiter: one operation a listing.
    List,
    /// Delete: one operation an object.
    Delete,
    /// Copy or rename.
    Copy,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The store answers 503 and does nothing.
    Unavailable,
    /// The store says that there is no such object.
    NotFound,
    /// The disk is full.
    DiskFull,
    /// The credentials do not allow it.
    Denied,
    /// The client does not support it.
    Unsupported,
    /// `AlreadyExists`, as for a 409 while another write is in flight, whether the object is there or not.
    Conflict,
    /// It is done, and the answer is lost.
    LostAcknowledgement,
    /// It takes so long (in tokio's time), and is then done.
    Slow(Duration),
    /// The body of a get ends without an error after so many bytes.
    Truncated {
        /// Bytes that arrive.
        keep: u64,
    },
    /// The body of a get ends with an error after so many bytes.
    Broken {
        /// Bytes that arrive.
        after: u64,
    },
    /// One bit of the byte at this offset of a get's body is wrong.
    Flipped {
        /// The offset in the body.
        at: u64,
    },
    /// A put does not look at its condition, as services do that do not know it.
    ConditionIgnored,
}

/// How often something was asked, and how many bytes passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Operations, failed ones included.
    pub operations: u64,
    /// Bytes of bodies that passed.
    pub bytes: u64,
}

struct Rule {
    operation: Operation,
    first: u64,
    last: u64,
    fault: Fault,
}

#[derive(Default)]
struct Script {
    rules: Vec<Rule>,
    chaos: Option<(StdRng, u32)>,
    crash_after: Option<u64>,
    tallies: BTreeMap<Operation, Tally>,
}

impl Script {
    fn operations(&self) -> u64 {
        self.tallies.values().map(|tally| tally.operations).sum()
    }

    fn is_crashed(&self) -> bool {
        self.crash_after.is_some_and(|limit| self.operations() >= limit)
    }

    fn fault(&mut self, operation: Operation, count: u64) -> Option<Fault> {
        let ruled = self
            .rules
            .iter()
            .find(|rule| rule.operation == operation && (rule.first..=rule.last).contains(&count))
            .map(|rule| rule.fault);
        ruled.or_else(|| {
            let (random, one_in) = self.chaos.as_mut()?;
            let writes = matches!(operation, Operation::Put | Operation::PutPart | Operation::Complete);
            let lost = random.random_range(0..2) == 0;
            let hit = random.random_range(0..*one_in) == 0;
            let after = random.random_range(0..4096);
            hit.then_some(match operation {
                _ if writes && lost => Fault::LostAcknowledgement,
                Operation::Get if lost => Fault::Broken { after },
                _ => Fault::Unavailable,
            })
        })
    }
}

/// See the module.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    script: Arc<Mutex<Script>>,
}

impl FaultyStore {
    /// Wraps `inner`; nothing fails yet.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, script: Arc::default() }
    }

    /// The `nth` operation of a kind from now on, counted from 1, fails.
    pub fn fail(&self, operation: Operation, nth: u64, fault: Fault) {
        self.rule(operation, nth, Some(nth), fault);
    }

    /// Every operation of a kind from the `nth` from now on, counted from 1, fails.
    pub fn fail_from(&self, operation: Operation, nth: u64, fault: Fault) {
        self.rule(operation, nth, None, fault);
    }

    /// Each operation fails with a chance of one in `one_in`: it is not done, or its answer is lost, or its body breaks.
    pub fn chaos(&self, seed: u64, one_in: u32) {
        self.script().chaos = Some((StdRng::seed_from_u64(seed), one_in.max(1)));
    }

    /// After so many further operations of any kind each one fails and nothing is cleaned up, as when the process was
    /// killed. What waits in a reader's hands can still be read.
    pub fn crash_after(&self, operations: u64) {
        let mut script = self.script();
        script.crash_after = Some(script.operations() + operations);
    }

    /// Whether [`Self::crash_after`] has come true.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.script().is_crashed()
    }

    /// Takes every fault back; counters stay.
    pub fn heal(&self) {
        let mut script = self.script();
        (script.rules, script.chaos, script.crash_after) = (Vec::new(), None, None);
    }

    /// What was asked of a kind, since the start or the last reset.
    #[must_use]
    pub fn tally(&self, operation: Operation) -> Tally {
        self.script().tallies.get(&operation).copied().unwrap_or_default()
    }

    /// Operations of all kinds.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.script().operations()
    }

    /// Bytes of bodies that were read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.tally(Operation::Get).bytes
    }

    /// Bytes of objects and parts that were written.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.tally(Operation::Put).bytes + self.tally(Operation::PutPart).bytes
    }

    /// Sets all counters to zero and takes every fault back (faults are placed by counters).
    pub fn reset(&self) {
        *self.script() = Script::default();
    }

    fn rule(&self, operation: Operation, nth: u64, last: Option<u64>, fault: Fault) {
        let mut script = self.script();
        let done = script.tallies.get(&operation).copied().unwrap_or_default().operations;
        let last = last.map_or(u64::MAX, |last| done + last);
        script.rules.push(Rule { operation, first: done + nth, last, fault });
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passed(&self, operation: Operation, bytes: u64) {
        self.script().tallies.entry(operation).or_default().bytes += bytes;
    }

    /// Counts an operation and says what is to happen to it; fails at once after a crash.
    fn admit(&self, operation: Operation) -> Result<Option<Fault>> {
        let mut script = self.script();
        let crashed = script.is_crashed();
        let tally = script.tallies.entry(operation).or_default();
        tally.operations += 1;
        let count = tally.operations;
        if crashed {
            return Err(generic("the process is dead"));
        }
        Ok(script.fault(operation, count))
    }

    /// Does `work`, unless the script has something else in mind.
    async fn run<T>(&self, operation: Operation, path: &Path, work: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = self.admit(operation)?;
        under(fault, path, work).await
    }

    fn altered(&self, result: GetResult, fault: Option<Fault>) -> GetResult {
        let GetResult { meta, range, attributes, extensions, .. } = &result;
        let (meta, range) = (meta.clone(), range.clone());
        let (attributes, extensions) = (attributes.clone(), extensions.clone());
        let store = self.clone();
        let body = alter(result.into_stream(), fault).inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                store.passed(Operation::Get, chunk.len() as u64);
            }
        });
        GetResult { payload: GetResultPayload::Stream(body.boxed()), meta, range, attributes, extensions }
    }
}

/// Does `work` under `fault`; faults of a body are left to who reads it.
async fn under<T>(fault: Option<Fault>, path: &Path, work: impl Future<Output = Result<T>>) -> Result<T> {
    match fault {
        None
        | Some(Fault::Truncated { .. } | Fault::Broken { .. } | Fault::Flipped { .. } | Fault::ConditionIgnored) => {
            work.await
        }
        Some(Fault::Slow(time)) => {
            tokio::time::sleep(time).await;
            work.await
        }
        Some(Fault::LostAcknowledgement) => {
            work.await?;
            Err(generic("the connection broke before the answer came"))
        }
        Some(fault) => Err(fault.error(path)),
    }
}

impl Fault {
    fn error(self, path: &Path) -> Error {
        let path = path.to_string();
        let source = "injected".into();
        match self {
            Self::NotFound => Error::NotFound { path, source },
            Self::Denied => Error::PermissionDenied { path, source },
            Self::Conflict => Error::AlreadyExists { path, source },
            Self::Unsupported => Error::NotSupported { source },
            Self::DiskFull => generic(io::Error::from(io::ErrorKind::StorageFull)),
            _ => generic("Server returned non-2xx status code: 503 Service Unavailable: injected"),
        }
    }
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "FaultyStore", source: source.into() }
}

type Body = BoxStream<'static, Result<Bytes>>;

fn alter(body: Body, fault: Option<Fault>) -> Body {
    match fault {
        Some(Fault::Truncated { keep }) => cut(body, keep),
        Some(Fault::Broken { after }) => {
            cut(body, after).chain(stream::once(async { Err(generic("the connection broke")) })).boxed()
        }
        Some(Fault::Flipped { at }) => flip(body, at),
        _ => body,
    }
}

fn cut(body: Body, keep: u64) -> Body {
    body.scan(keep, |left, chunk| {
        let chunk = chunk.map(|mut chunk| {
            chunk.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= chunk.len() as u64;
            chunk
        });
        let over = matches!(&chunk, Ok(chunk) if chunk.is_empty());
        futures::future::ready((!over).then_some(chunk))
    })
    .boxed()
}

fn flip(body: Body, at: u64) -> Body {
    body.scan(0u64, move |offset, chunk| {
        let chunk = chunk.map(|chunk| {
            let start = *offset;
            *offset += chunk.len() as u64;
            if !(start..*offset).contains(&at) {
                return chunk;
            }
            let mut bytes = chunk.to_vec();
            bytes[(at - start) as usize] ^= 1;
            bytes.into()
        });
        futures::future::ready(Some(chunk))
    })
    .boxed()
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let fault = self.admit(Operation::Put)?;
        if fault == Some(Fault::ConditionIgnored) {
            options.mode = PutMode::Overwrite;
        }
        let size = payload.content_length() as u64;
        let work = async {
            let result = self.inner.put_opts(location, payload, options).await?;
            self.passed(Operation::Put, size);
            Ok(result)
        };
        under(fault, location, work).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let work = self.inner.put_multipart_opts(location, options);
        let inner = self.run(Operation::Multipart, location, work).await?;
        Ok(Box::new(FaultyUpload { inner: Some(inner), store: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { Operation::Head } else { Operation::Get };
        let fault = self.admit(operation)?;
        let result = under(fault, location, self.inner.get_opts(location, options)).await?;
        Ok(if operation == Operation::Head { result } else { self.altered(result, fault) })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                store.run(Operation::Delete, &location, store.inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            let inner = Arc::clone(&store.inner);
            let path = prefix.clone().unwrap_or_default();
            let list = async { Ok(inner.list(prefix.as_ref())) };
            store.run(Operation::List, &path, list).await.unwrap_or_else(|error| stream::iter([Err(error)]).boxed())
        };
        listing.flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        self.run(Operation::List, &path, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.run(Operation::Copy, from, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.run(Operation::Copy, from, self.inner.rename_opts(from, to, options)).await
    }
}

struct FaultyUpload {
    /// Nothing only while it is dropped.
    inner: Option<Box<dyn MultipartUpload>>,
    store: FaultyStore,
    location: Path,
}

impl FaultyUpload {
    fn inner(&mut self) -> Result<&mut Box<dyn MultipartUpload>> {
        self.inner.as_mut().ok_or_else(|| generic("the upload is over"))
    }
}

impl fmt::Debug for FaultyUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyUpload({})", self.location)
    }
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let size = data.content_length() as u64;
        let (store, location) = (self.store.clone(), self.location.clone());
        // parts are counted in the order in which they are handed over, not as they happen to finish
        let fault = match store.admit(Operation::PutPart) {
            Ok(fault) => fault,
            Err(error) => return async { Err(error) }.boxed(),
        };
        let part = match self.inner() {
            Ok(inner) => inner.put_part(data),
            Err(error) => return async { Err(error) }.boxed(),
        };
        async move {
            let work = async {
                part.await?;
                store.passed(Operation::PutPart, size);
                Ok(())
            };
            under(fault, &location, work).await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (store, location) = (self.store.clone(), self.location.clone());
        let inner = self.inner()?;
        store.run(Operation::Complete, &location, inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        let (store, location) = (self.store.clone(), self.location.clone());
        let inner = self.inner()?;
        store.run(Operation::Abort, &location, inner.abort()).await
    }
}

impl Drop for FaultyUpload {
    /// A dead process does not run destructors: what a folder's upload would tidy away stays.
    fn drop(&mut self) {
        if self.store.is_crashed() {
            mem::forget(self.inner.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::store_suite;

    fn path() -> Path {
        Path::from("a/b")
    }

    fn store() -> FaultyStore {
        FaultyStore::new(Arc::new(InMemory::new()))
    }

    async fn read(store: &FaultyStore) -> Result<Bytes> {
        store.get(&path()).await?.bytes().await
    }

    #[tokio::test]
    async fn without_a_fault_it_is_the_store_that_it_wraps() {
        let store = store();
        store_suite::conforms(Arc::new(store.clone())).await;
        assert!(store.tally(Operation::PutPart).operations > 3 && store.bytes_written() > 17 << 20);
    }

    #[tokio::test]
    async fn the_nth_of_a_kind_fails_and_only_it() {
        let store = store();
        store.put(&path(), "x".into()).await.unwrap();
        store.fail(Operation::Put, 2, Fault::DiskFull);
        store.put(&path(), "y".into()).await.unwrap();
        let full = store.put(&path(), "z".into()).await.unwrap_err();
        assert!(matches!(full, Error::Generic { source, .. } if source.is::<io::Error>()));
        store.put(&path(), "w".into()).await.unwrap();
        store.fail_from(Operation::Head, 1, Fault::NotFound);
        assert!(matches!(store.head(&path()).await, Err(Error::NotFound { .. })));
        assert!(store.head(&path()).await.is_err());
        assert_eq!(read(&store).await.unwrap(), "w");
        store.heal();
        assert!(store.head(&path()).await.is_ok());
    }

    #[tokio::test]
    async fn bodies_are_cut_broken_and_flipped() {
        let store = store();
        store.put(&path(), "0123456789".into()).await.unwrap();
        store.fail(Operation::Get, 1, Fault::Truncated { keep: 4 });
        store.fail(Operation::Get, 2, Fault::Broken { after: 4 });
        store.fail(Operation::Get, 3, Fault::Flipped { at: 4 });
        let result = store.get(&path()).await.unwrap();
        assert_eq!(result.meta.size, 10);
        assert_eq!(result.bytes().await.unwrap(), "0123");
        assert!(read(&store).await.is_err());
        assert_eq!(read(&store).await.unwrap(), "0123556789");
        assert_eq!(read(&store).await.unwrap(), "0123456789");
        assert_eq!(store.bytes_read(), 4 + 4 + 10 + 10);
    }

    #[tokio::test]
    async fn a_lost_acknowledgement_leaves_the_object() {
        let store = store();
        store.fail(Operation::Put, 1, Fault::LostAcknowledgement);
        assert!(store.put(&path(), "x".into()).await.is_err());
        assert_eq!(read(&store).await.unwrap(), "x");
        let again = store.put_opts(&path(), "y".into(), PutMode::Create.into()).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })));
        store.fail(Operation::Put, 1, Fault::ConditionIgnored);
        store.put_opts(&path(), "z".into(), PutMode::Create.into()).await.unwrap();
        assert_eq!(read(&store).await.unwrap(), "z");
    }

    #[tokio::test]
    async fn after_a_crash_everything_fails() {
        let store = store();
        store.crash_after(2);
        store.put(&path(), "x".into()).await.unwrap();
        let mut upload = store.put_multipart(&Path::from("c")).await.unwrap();
        assert!(store.is_crashed());
        assert!(upload.put_part("y".into()).await.is_err());
        assert!(upload.complete().await.is_err() && upload.abort().await.is_err());
        assert!(read(&store).await.is_err() && store.delete(&path()).await.is_err());
        assert!(store.list(None).collect::<Vec<_>>().await[0].is_err());
        store.heal();
        assert_eq!(read(&store).await.unwrap(), "x");
    }

    #[tokio::test]
    async fn a_slow_answer_comes_in_the_end() {
        let store = store();
        store.fail(Operation::Put, 1, Fault::Slow(Duration::from_millis(50)));
        let start = std::time::Instant::now();
        store.put(&path(), "x".into()).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn chaos_is_the_same_for_a_seed() {
        async fn outcomes(seed: u64) -> Vec<bool> {
            let store = store();
            store.chaos(seed, 3);
            let mut outcomes = Vec::new();
            for _ in 0..64 {
                outcomes.push(store.put(&path(), "x".into()).await.is_ok());
            }
            outcomes
        }
        let first = outcomes(7).await;
        assert_eq!(first, outcomes(7).await);
        assert!(first.contains(&true) && first.contains(&false));
    }
}
