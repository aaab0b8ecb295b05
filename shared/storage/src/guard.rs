//! What every remote destination gives on top of its vendor's client.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

const CREATE_ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// Makes `Create` exact, suffix ranges work and `Debug` safe: the clients' own `Debug` shows bearer tokens.
pub(crate) struct GuardedStore<S> {
    inner: Arc<S>,
}

impl<S: ObjectStore> GuardedStore<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Puts the object if there is none. A store may answer 409 while another write of the name is in flight, which
    /// the client takes for `AlreadyExists`, though that other write may yet fail; so the object is looked for.
    async fn create(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..CREATE_ATTEMPTS {
            match self.inner.put_opts(location, payload.clone(), options.clone()).await {
                Err(error @ Error::AlreadyExists { .. }) if !is_certain(&error) => {
                    if !matches!(self.inner.head(location).await, Err(Error::NotFound { .. })) {
                        return Err(error);
                    }
                }
                result => return result,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.last_try(location, payload, options).await
    }

    async fn last_try(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let result = self.inner.put_opts(location, payload, options).await;
        let Err(error @ Error::AlreadyExists { .. }) = result else { return result };
        match self.inner.head(location).await {
            // nobody wrote it, and yet it cannot be written: not a fact about the object, so not `AlreadyExists`
            Err(Error::NotFound { .. }) => Err(Error::Generic { store: "create", source: Box::new(error) }),
            _ => Err(error),
        }
    }
}

/// Whether the answer was 412, the store's word that the object is there: the client nests that one.
fn is_certain(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { source, .. } if source.is::<Error>())
}

impl<S: ObjectStore> fmt::Display for GuardedStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

impl<S: ObjectStore> fmt::Debug for GuardedStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardedStore({})", self.inner)
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for GuardedStore<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match options.mode {
            PutMode::Create => self.create(location, payload, options).await,
            PutMode::Overwrite | PutMode::Update(_) => self.inner.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(GuardedUpload { upload, store: Arc::clone(&self.inner), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(GetRange::Suffix(length)) = options.range else { return self.inner.get_opts(location, options).await };
        match self.inner.get_opts(location, options.clone()).await {
            Err(Error::NotSupported { .. }) => {
                let size = self.inner.head(location).await?.size;
                let range = Some(GetRange::Bounded(size.saturating_sub(length)..size));
                self.inner.get_opts(location, GetOptions { range, ..options }).await
            }
            result => result,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// An upload that says `AlreadyExists` only of an object that is there, and whose `Debug` does not show the client that it
/// runs on.
struct GuardedUpload<S> {
    upload: Box<dyn MultipartUpload>,
    store: Arc<S>,
    location: Path,
}

/// What the failure of a completion means. A condition that did not hold means that there is an object; a conflict with
/// another write may mean nothing.
async fn refused(store: &impl ObjectStore, location: &Path, error: Error) -> Error {
    match error {
        Error::Precondition { .. } => Error::AlreadyExists { path: location.to_string(), source: Box::new(error) },
        Error::AlreadyExists { .. } if !is_certain(&error) => match store.head(location).await {
            // the upload is over: what was sent has to be sent again, as a new one
            Err(Error::NotFound { .. }) => Error::Generic { store: "upload", source: Box::new(error) },
            _ => error,
        },
        error => error,
    }
}

impl<S> fmt::Debug for GuardedUpload<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuardedUpload")
    }
}

#[async_trait]
impl<S: ObjectStore> MultipartUpload for GuardedUpload<S> {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        match self.upload.complete().await {
            Ok(done) => Ok(done),
            Err(error) => Err(refused(&*self.store, &self.location, error).await),
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use firebackup_testkit::faulty_store::{Fault, FaultyStore, Operation};
    use object_store::memory::InMemory;

    use super::*;

    async fn create(store: &GuardedStore<FaultyStore>) -> Result<PutResult> {
        store.put_opts(&Path::from("a"), "new".into(), PutMode::Create.into()).await
    }

    fn faulty() -> (FaultyStore, GuardedStore<FaultyStore>) {
        let faulty = FaultyStore::new(Arc::new(InMemory::new()));
        (faulty.clone(), GuardedStore::new(faulty))
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_with_a_write_that_came_to_nothing_is_tried_again() {
        let (faults, store) = faulty();
        faults.fail(Operation::Put, 1, Fault::Conflict);
        faults.fail(Operation::Put, 2, Fault::Conflict);
        create(&store).await.unwrap();
        assert_eq!(faults.tally(Operation::Put).operations, 3);
        assert_eq!(store.get(&Path::from("a")).await.unwrap().bytes().await.unwrap(), "new");
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_with_a_write_that_won_is_already_exists() {
        let (faults, store) = faulty();
        store.put(&Path::from("a"), "old".into()).await.unwrap();
        faults.fail(Operation::Put, 1, Fault::Conflict);
        assert!(matches!(create(&store).await, Err(Error::AlreadyExists { .. })));
        assert_eq!(faults.tally(Operation::Put).operations, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_for_ever_is_not_called_already_exists() {
        let (faults, store) = faulty();
        faults.fail_from(Operation::Put, 1, Fault::Conflict);
        assert!(matches!(create(&store).await, Err(Error::Generic { .. })));
        assert_eq!(faults.tally(Operation::Put).operations, u64::from(CREATE_ATTEMPTS));
    }

    #[tokio::test]
    async fn a_completion_that_conflicts_with_nothing_is_not_called_already_exists() {
        for is_there in [false, true] {
            let (faults, store) = faulty();
            let mut upload = store.put_multipart(&Path::from("a")).await.unwrap();
            upload.put_part("new".into()).await.unwrap();
            if is_there {
                store.put(&Path::from("a"), "old".into()).await.unwrap();
            }
            faults.fail(Operation::Complete, 1, Fault::Conflict);
            let refused = upload.complete().await;
            assert_eq!(matches!(refused, Err(Error::AlreadyExists { .. })), is_there, "{refused:?}");
            assert!(is_there || matches!(refused, Err(Error::Generic { .. })), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_suffix_is_read_where_the_store_has_none() {
        let (faults, store) = faulty();
        store.put(&Path::from("a"), "0123456789".into()).await.unwrap();
        for (length, expected) in [(3, "789"), (10, "0123456789"), (99, "0123456789")] {
            faults.fail(Operation::Get, 1, Fault::Unsupported);
            let options = GetOptions::new().with_range(Some(GetRange::Suffix(length)));
            let result = store.get_opts(&Path::from("a"), options).await.unwrap();
            assert_eq!(result.bytes().await.unwrap(), expected);
        }
    }
}
