//! Versions of objects and their locks: what a bucket that keeps versions can do with an object, and an object store
//! cannot.

use async_trait::async_trait;

use crate::error::PortError;
use crate::timestamp::Timestamp;

/// What came of the removal of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// No version of it is there any more.
    Removed,
    /// A version of it is locked until then; all of them are still there.
    Locked(Timestamp),
}

/// The versions of the objects of one repository. Paths are those of the repository: `runs/ab/<id>.run`.
#[async_trait]
pub trait ObjectVersions: Send + Sync {
    /// Until when a version of the object is locked, the longest lock of all; nothing when none is at `now`, or there is
    /// no such object.
    async fn locked_until(&self, path: &str, now: Timestamp) -> Result<Option<Timestamp>, PortError>;

    /// Removes every version of an object and every mark of a deletion, unless one is locked at `now`: then nothing. What
    /// is gone already counts as removed.
    async fn remove(&self, path: &str, now: Timestamp) -> Result<Removal, PortError>;

    /// Locks the newest version of an object at least until `until`. A lock that is longer or harder stays. Says whether
    /// anything had to be changed.
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such object;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when the bucket cannot lock objects.
    async fn extend_lock(&self, path: &str, until: Timestamp) -> Result<bool, PortError>;
}
