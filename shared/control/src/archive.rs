//! Where months of the audit log lie once they are over: objects below a destination of the organization.

use async_trait::async_trait;

use crate::access::DestinationAccess;
use crate::error::Result;

/// A destination that objects are put into, opened.
#[derive(Debug, Clone)]
pub struct ArchivePlace {
    /// What opens it.
    pub access: DestinationAccess,
    /// For how many days what is put is locked.
    pub retention_lock_days: Option<u32>,
}

/// Puts and reads objects below a destination. What goes wrong there is an error of kind
/// [`Upstream`](crate::Kind::Upstream) with a message for the client.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Puts an object where there is none of that name, and says whether it did: what is there is never changed.
    async fn put(&self, place: &ArchivePlace, name: &str, bytes: Vec<u8>) -> Result<bool>;

    /// Reads an object of at most `most` bytes; nothing where there is none.
    async fn get(&self, place: &ArchivePlace, name: &str, most: u64) -> Result<Option<Vec<u8>>>;
}
