//! Versions and locks of the objects of a repository in a bucket.

use async_trait::async_trait;
use firebackup_model::port::{ObjectVersions, Removal};
use firebackup_model::{ErrorKind, LockMode, PortError, Timestamp};

use crate::bucket::{Bucket, ObjectVersion, Retention};

/// A prefix in a bucket.
#[derive(Debug, Clone)]
pub struct BucketFolder {
    bucket: Bucket,
    /// Without slashes around it; empty for the whole bucket.
    prefix: String,
    mode: LockMode,
}

impl BucketFolder {
    /// What is below `prefix`. Locks that are made longer are at least as hard as `mode` says.
    #[must_use]
    pub fn new(bucket: Bucket, prefix: &str, mode: LockMode) -> Self {
        Self { bucket, prefix: prefix.trim_matches('/').to_owned(), mode }
    }

    fn key(&self, path: &str) -> String {
        if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) }
    }

    /// The longest lock of versions that is not over.
    async fn longest_lock(
        &self,
        key: &str,
        versions: &[ObjectVersion],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, PortError> {
        let mut longest = None;
        for version in versions.iter().filter(|version| !version.is_mark) {
            let retention = match self.bucket.retention(key, Some(&version.id)).await {
                // another prune removed it since it was listed
                Err(error) if error.kind == ErrorKind::NotFound => None,
                retention => retention?,
            };
            longest = longest.max(retention.map(|retention| retention.until).filter(|until| *until > now));
        }
        Ok(longest)
    }
}

#[async_trait]
impl ObjectVersions for BucketFolder {
    async fn locked_until(&self, path: &str, now: Timestamp) -> Result<Option<Timestamp>, PortError> {
        let key = self.key(path);
        self.longest_lock(&key, &self.bucket.versions(&key).await?, now).await
    }

    async fn remove(&self, path: &str, now: Timestamp) -> Result<Removal, PortError> {
        let key = self.key(path);
        let versions = self.bucket.versions(&key).await?;
        if let Some(until) = self.longest_lock(&key, &versions, now).await? {
            return Ok(Removal::Locked(until));
        }
        // the oldest first, so that the name goes last: what a kill leaves is listed, and removed by the next prune
        let (marks, mut kept): (Vec<_>, Vec<_>) = versions.into_iter().partition(|version| version.is_mark);
        kept.reverse();
        for version in marks.into_iter().chain(kept) {
            self.bucket.remove_version(&key, &version.id).await?;
        }
        Ok(Removal::Removed)
    }

    async fn extend_lock(&self, path: &str, until: Timestamp) -> Result<bool, PortError> {
        let key = self.key(path);
        let wanted = Retention { mode: self.mode, until };
        self.bucket.extend_if_needed(&key, wanted).await
    }
}
