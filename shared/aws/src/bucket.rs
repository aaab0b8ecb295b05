//! What S3 can do with a bucket and `object_store` cannot: locks of objects, and how the bucket is guarded.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use firebackup_model::{ErrorKind, LockMode, PortError, Timestamp};

use crate::bucket_report::{self, BucketReport};
use crate::config::AwsClients;
use crate::error::port_error;

const READ: &str = "read the lock of an object";
const EXTEND: &str = "extend the lock of an object";

const LIST: &str = "list the versions of an object";
const REMOVE: &str = "remove a version of an object";

/// What S3 calls an object without a lock, and a bucket that has none.
const NO_LOCK: [&str; 2] = ["NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"];
/// What it says, with a code that stands for much else too, where objects of the bucket cannot be locked.
const NO_LOCKS_HERE: &str = "missing Object Lock Configuration";

/// Until when a version of an object can be neither deleted nor replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How hard it is.
    pub mode: LockMode,
    /// Until when.
    pub until: Timestamp,
}

impl Retention {
    /// The least lock that holds what both promise.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { mode: self.mode.max(other.mode), until: self.until.max(other.until) }
    }
}

/// A version of an object, or the mark that it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// Names it among the versions of the object.
    pub id: String,
    /// Whether it is such a mark, which cannot be locked.
    pub is_mark: bool,
}

/// A bucket of S3.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: aws_sdk_s3::Client,
    bucket: String,
}

impl Bucket {
    /// The bucket of this name.
    #[must_use]
    pub fn new(clients: &AwsClients, bucket: impl Into<String>) -> Self {
        Self { client: clients.s3(), bucket: bucket.into() }
    }

    /// The lock of an object, in its newest version if none is named; nothing when it has none.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when there is no such object or version; otherwise what S3 says.
    pub async fn retention(&self, key: &str, version: Option<&str>) -> Result<Option<Retention>, PortError> {
        let request = self.client.get_object_retention().bucket(&self.bucket).key(key);
        match request.set_version_id(version.map(ToOwned::to_owned)).send().await {
            Ok(answer) => answer.retention.map_or(Ok(None), |retention| retention_of(&retention)),
            Err(error) if bucket_report::has_code(&error, &NO_LOCK) || cannot_lock(&error) => Ok(None),
            Err(error) => Err(port_error(READ, error)),
        }
    }

    /// All versions of an object, newest first, and then the marks of its deletions.
    ///
    /// # Errors
    /// What S3 says.
    pub async fn versions(&self, key: &str) -> Result<Vec<ObjectVersion>, PortError> {
        let mut found = Vec::new();
        let (mut after_key, mut after_version) = (None, None);
        loop {
            let request = self.client.list_object_versions().bucket(&self.bucket).prefix(key);
            let request = request.set_key_marker(after_key).set_version_id_marker(after_version);
            let page = request.send().await.map_err(|error| port_error(LIST, error))?;
            let versions = page.versions.unwrap_or_default().into_iter();
            let marks = page.delete_markers.unwrap_or_default().into_iter();
            let versions =
                versions.filter(|version| version.key.as_deref() == Some(key)).map(|version| version.version_id);
            let marks = marks.filter(|mark| mark.key.as_deref() == Some(key)).map(|mark| mark.version_id);
            found.extend(versions.flatten().map(|id| ObjectVersion { id, is_mark: false }));
            found.extend(marks.flatten().map(|id| ObjectVersion { id, is_mark: true }));
            // names that begin with this one come behind it
            let is_past = page.next_key_marker.as_deref().is_some_and(|next| next != key);
            if page.is_truncated != Some(true) || page.next_key_marker.is_none() || is_past {
                return Ok(found);
            }
            (after_key, after_version) = (page.next_key_marker, page.next_version_id_marker);
        }
    }

    /// Removes a version of an object, for ever; one that is gone is no error.
    ///
    /// # Errors
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) while it is locked; otherwise what S3 says.
    pub async fn remove_version(&self, key: &str, version: &str) -> Result<(), PortError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key).version_id(version);
        request.send().await.map(drop).map_err(|error| port_error(REMOVE, error))
    }

    /// Locks an object at least as hard and as long as `wanted` says; returns the lock that it has now. A lock that
    /// promises more already stays.
    ///
    /// # Errors
    /// As [`Self::retention`]; [`InvalidArgument`](ErrorKind::InvalidArgument) when the bucket cannot lock objects.
    pub async fn extend_retention(
        &self,
        key: &str,
        version: Option<&str>,
        wanted: Retention,
    ) -> Result<Retention, PortError> {
        self.extend(key, version, wanted).await.map(|(kept, _)| kept)
    }

    /// The same with the newest version; says whether anything had to be changed.
    pub(crate) async fn extend_if_needed(&self, key: &str, wanted: Retention) -> Result<bool, PortError> {
        self.extend(key, None, wanted).await.map(|(_, is_new)| is_new)
    }

    async fn extend(
        &self,
        key: &str,
        version: Option<&str>,
        wanted: Retention,
    ) -> Result<(Retention, bool), PortError> {
        let wanted = Retention { until: whole_second(wanted.until), ..wanted };
        let present = self.retention(key, version).await?;
        let both = present.map_or(wanted, |present| present.and(wanted));
        if present == Some(both) {
            return Ok((both, false));
        }
        let request = self.client.put_object_retention().bucket(&self.bucket).key(key);
        let request = request.set_version_id(version.map(ToOwned::to_owned)).retention(s3_retention(both));
        request.send().await.map_err(|error| port_error(EXTEND, error))?;
        Ok((both, true))
    }

    /// How well the bucket is guarded.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when there is no such bucket, and when nobody answers. A guard that is missing
    /// or may not be looked at is no error but told by the report.
    pub async fn report(&self) -> Result<BucketReport, PortError> {
        bucket_report::of(&self.client, &self.bucket).await
    }
}

fn cannot_lock<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let message = error.as_service_error().and_then(ProvideErrorMetadata::message).unwrap_or_default();
    bucket_report::has_code(error, &["InvalidRequest"]) && message.contains(NO_LOCKS_HERE)
}

/// S3 keeps whole seconds; a part of one counts as one.
const fn whole_second(time: Timestamp) -> Timestamp {
    let seconds = if time.nanos == 0 { time.seconds } else { time.seconds.saturating_add(1) };
    Timestamp::new(seconds, 0)
}

fn s3_retention(retention: Retention) -> ObjectLockRetention {
    let mode = match retention.mode {
        LockMode::Governance => ObjectLockRetentionMode::Governance,
        LockMode::Compliance => ObjectLockRetentionMode::Compliance,
    };
    let until = DateTime::from_secs(retention.until.seconds);
    ObjectLockRetention::builder().mode(mode).retain_until_date(until).build()
}

fn retention_of(retention: &ObjectLockRetention) -> Result<Option<Retention>, PortError> {
    let until = retention.retain_until_date.map(|date| Timestamp::new(date.secs(), date.subsec_nanos()));
    let mode = match &retention.mode {
        None => return Ok(None),
        Some(ObjectLockRetentionMode::Governance) => LockMode::Governance,
        Some(ObjectLockRetentionMode::Compliance) => LockMode::Compliance,
        Some(other) => {
            return Err(PortError::new(ErrorKind::Corrupt, READ, format!("its mode is {}", other.as_str())));
        }
    };
    Ok(until.map(|until| Retention { mode, until }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(mode: LockMode, seconds: i64) -> Retention {
        Retention { mode, until: Timestamp::new(seconds, 0) }
    }

    #[test]
    fn a_lock_is_never_made_shorter_or_softer() {
        use LockMode::{Compliance, Governance};
        for (a, b, both) in [
            (retention(Governance, 10), retention(Governance, 20), retention(Governance, 20)),
            (retention(Compliance, 10), retention(Governance, 20), retention(Compliance, 20)),
            (retention(Governance, 30), retention(Compliance, 20), retention(Compliance, 30)),
        ] {
            assert_eq!((a.and(b), b.and(a)), (both, both));
        }
    }

    #[test]
    fn a_lock_is_said_and_read_alike() {
        for mode in [LockMode::Governance, LockMode::Compliance] {
            let lock = retention(mode, 1_800_000_000);
            assert_eq!(retention_of(&s3_retention(lock)).unwrap(), Some(lock));
        }
        assert_eq!(retention_of(&ObjectLockRetention::builder().build()).unwrap(), None);
        let odd = ObjectLockRetention::builder().mode("HARDER".into()).build();
        assert_eq!(retention_of(&odd).unwrap_err().kind, ErrorKind::Corrupt);
    }

    #[test]
    fn a_part_of_a_second_counts_as_one() {
        assert_eq!(whole_second(Timestamp::new(5, 1)), Timestamp::new(6, 0));
        assert_eq!(whole_second(Timestamp::new(5, 0)), Timestamp::new(5, 0));
    }
}
