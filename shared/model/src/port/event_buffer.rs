//! Where events that were posted wait until they are folded into a repository.

use async_trait::async_trait;

use crate::error::PortError;
use crate::timestamp::Timestamp;

/// The most characters that the name of a buffer, or of an event in it, may have.
pub const MAX_BUFFER_NAME: usize = 256;

/// An event as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct BufferedEvent {
    /// Names it: what has the same name is the same event.
    pub key: String,
    /// What is kept of it.
    pub body: Vec<u8>,
}

/// What it holds is nobody's business.
impl std::fmt::Debug for BufferedEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BufferedEvent").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// How much may wait in a buffer, or be taken from it at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferBounds {
    /// Events.
    pub events: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What became of an event that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffered {
    /// It waits.
    Taken,
    /// It waits already, or was dealt with lately.
    Repeated,
    /// Too much waits: nothing was kept.
    Full,
    /// It is larger than one may be here, however little waits: nothing was kept.
    TooLarge,
}

/// What came of events that were dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// They stand in the repository.
    Folded,
    /// Nothing could be made of them.
    Refused,
}

/// What was counted of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BufferState {
    /// Events that were taken, each once.
    pub received: u64,
    /// Events that came again.
    pub repeated: u64,
    /// Events of which nothing could be made.
    pub refused: u64,
    /// Events that stand in the repository.
    pub folded: u64,
    /// Events that wait.
    pub waiting: u64,
    /// Bytes of those.
    pub waiting_bytes: u64,
    /// When the last one was taken.
    pub last: Option<Timestamp>,
}

/// A buffer in which something waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingBuffer {
    /// Which.
    pub buffer: String,
    /// How many events.
    pub events: u64,
    /// Since when the first of them waits.
    pub since: Timestamp,
}

/// Buffers of events, each with a name of its own. What was put is durable when the call returns.
#[async_trait]
pub trait EventBuffer: Send + Sync {
    /// Keeps an event, unless one of that name is known or the buffer would hold more than it may. The names of events that were
    /// dealt with are known for an hour.
    async fn put(&self, buffer: &str, event: BufferedEvent, bounds: BufferBounds) -> Result<Buffered, PortError>;

    /// Counts an event of which nothing could be made.
    async fn refuse(&self, buffer: &str) -> Result<(), PortError>;

    /// Up to `most` buffers in which something waits, those that wait longest first.
    async fn waiting(&self, most: u32) -> Result<Vec<WaitingBuffer>, PortError>;

    /// The next events, in the order in which they came; at least one where any waits, and else within the bounds. Until they are
    /// settled the same ones are given again, whatever came since.
    async fn batch(&self, buffer: &str, bounds: BufferBounds) -> Result<Vec<BufferedEvent>, PortError>;

    /// Drops events that were dealt with. Those that are gone already are not counted again.
    async fn settle(&self, buffer: &str, keys: &[String], settled: Settled) -> Result<(), PortError>;

    /// What was counted; nothing of a buffer that never was.
    async fn state(&self, buffer: &str) -> Result<BufferState, PortError>;

    /// Drops a buffer with all that waits in it and all that was counted.
    async fn forget(&self, buffer: &str) -> Result<(), PortError>;
}
