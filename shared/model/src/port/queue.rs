//! A queue of small messages, each delivered at least once.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::PortError;

/// The most bytes a message may have: what Step Functions and EventBridge carry too.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// The most messages one call takes or gives.
pub const MAX_MESSAGES: usize = 10;
/// The longest a message may be held back when it is sent.
pub const MAX_DELAY: Duration = Duration::from_secs(15 * 60);

/// A message that was received and not yet deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What was sent.
    pub body: String,
    /// Names this delivery, for [`JobQueue::delete`] and [`JobQueue::release`].
    pub receipt: String,
    /// How often it was delivered, this time included.
    pub deliveries: u32,
}

/// When a message comes, where a queue knows of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn<'a> {
    /// Of the messages of a group one comes after the other: the next one when that before it is deleted or dead.
    pub group: &'a str,
    /// A second message of the same id is not taken within five minutes.
    pub id: &'a str,
}

/// A queue with a dead-letter queue: a message that was delivered too often is moved there by the adapter.
#[async_trait]
pub trait JobQueue: Send + Sync {
    /// Sends a message, to be delivered after `delay` at the earliest.
    async fn send(&self, body: &str, delay: Duration) -> Result<(), PortError>;

    /// Sends a message that comes when it is its turn. A queue that knows of no groups takes it as any other: whoever sends in
    /// turn saves work by it, and relies on nothing.
    async fn send_in_turn(&self, body: &str, _turn: Turn<'_>) -> Result<(), PortError> {
        self.send(body, Duration::ZERO).await
    }

    /// Receives up to `most` messages, waiting up to `wait` for the first. They are hidden from others for `hidden`, and
    /// delivered again if not deleted by then.
    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Message>, PortError>;

    /// Deletes a message that was dealt with. One that is gone already is no error.
    async fn delete(&self, receipt: &str) -> Result<(), PortError>;

    /// Gives a message back, to be delivered again after `delay`.
    async fn release(&self, receipt: &str, delay: Duration) -> Result<(), PortError>;

    /// How many messages wait in the dead-letter queue, about.
    async fn dead_letters(&self) -> Result<u64, PortError>;

    /// Moves what is in the dead-letter queue back; returns how many.
    async fn redrive(&self) -> Result<u64, PortError>;
}
