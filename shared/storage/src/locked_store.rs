//! A store whose objects are locked when they are put.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use firebackup_model::LockRule;
use firebackup_model::port::Clock;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use crate::s3_requests::ObjectLock;

/// What jobs leave behind to be removed again by them, or by a prune within days.
const UNLOCKED: [&str; 4] = ["receipts", "intents", "probes", "prunes"];

/// Locks what is put outside of these folders. A copy would not be locked: there is none.
pub(crate) struct LockedStore {
    inner: Arc<dyn ObjectStore>,
    rule: LockRule,
    clock: Arc<dyn Clock>,
}

impl LockedStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, rule: LockRule, clock: Arc<dyn Clock>) -> Self {
        Self { inner, rule, clock }
    }

    fn lock(&self, location: &Path) -> Option<ObjectLock> {
        let is_kept = !location.parts().next().is_some_and(|folder| UNLOCKED.contains(&folder.as_ref()));
        is_kept.then(|| ObjectLock { mode: self.rule.mode, until: self.rule.until(self.clock.now()) })
    }

    fn no_copy(&self, operation: &str) -> Error {
        Error::NotImplemented { operation: operation.to_owned(), implementer: self.to_string() }
    }
}

impl fmt::Display for LockedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

impl fmt::Debug for LockedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedStore").field("inner", &self.inner).field("rule", &self.rule).finish_non_exhaustive()
    }
}

#[async_trait]
impl ObjectStore for LockedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        if let Some(lock) = self.lock(location) {
            options.extensions.insert(lock);
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        mut options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if let Some(lock) = self.lock(location) {
            options.extensions.insert(lock);
        }
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
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

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(self.no_copy("copy"))
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> Result<()> {
        Err(self.no_copy("rename"))
    }
}
