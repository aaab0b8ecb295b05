//! The way to clients that keep a connection open.

use async_trait::async_trait;

use crate::error::PortError;

/// The most bytes that a message to a live client may have: what API Gateway carries in one frame.
pub const MAX_PUSH_BYTES: usize = 32 * 1024;

/// Whether a message was taken for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is on its way.
    Sent,
    /// There is no such connection any more, or its client does not read.
    Gone,
}

/// Open connections, by the names that whoever keeps them has given.
#[async_trait]
pub trait Push: Send + Sync {
    /// Sends a text of at most [`MAX_PUSH_BYTES`] to a connection; a larger one is
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument). Messages of one caller arrive in order.
    async fn push(&self, connection: &str, message: &str) -> Result<Pushed, PortError>;
}
