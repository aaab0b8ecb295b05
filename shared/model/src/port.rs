//! What the verbs need from the world. Each port has a conformance suite in `testkit` that all its adapters pass.

mod account_tokens;
mod changes;
mod consent;
mod event_buffer;
mod events;
mod identity;
mod items;
mod keys;
mod push;
mod queue;
mod scheduler;
mod versions;
mod webhook;
mod workflows;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::database::DatabaseName;
use crate::document::RawDocument;
use crate::error::PortError;
use crate::path::DocumentPath;
use crate::range::PathRange;
use crate::timestamp::Timestamp;

pub use account_tokens::AccountTokens;
pub use changes::{Change, ChangeSource, ChangeStream, ListenFrom};
pub use consent::{Consent, ConsentIssuer};
pub use event_buffer::{
    BufferBounds, BufferState, Buffered, BufferedEvent, EventBuffer, MAX_BUFFER_NAME, Settled, WaitingBuffer,
};
pub use events::{DomainEvent, EventBus};
pub use identity::{Identity, IdentityProvider, SignIn};
pub use items::{
    Item, ItemBody, ItemKey, ItemPage, ItemQuery, ItemStore, ItemWrite, MAX_PAGE_ITEMS, MAX_TRANSACTION_WRITES,
    NewItem, SortRange,
};
pub use keys::{EncryptionContext, KeyBytes, KeyService, WrappedKey};
pub use push::{MAX_PUSH_BYTES, Push, Pushed};
pub use queue::{JobQueue, MAX_DELAY, MAX_MESSAGE_BYTES, MAX_MESSAGES, Message, Turn};
pub use scheduler::{ScheduleRule, Scheduler};
pub use versions::{ObjectVersions, Removal};
pub use webhook::{WebhookAnswer, WebhookFailure, WebhookPost, WebhookSender};
pub use workflows::{JOB_FAILED, Started, StepError, StepErrorKind, Steps, Workflow, WorkflowState, Workflows};

/// Documents in path order, as they come.
pub type DocumentStream = BoxStream<'static, Result<RawDocument, PortError>>;

/// A Firestore database that can be read.
#[async_trait]
pub trait DocumentSource: Send + Sync {
    /// Which database it is.
    fn database(&self) -> &DatabaseName;

    /// The server's current time, good as a read time.
    async fn snapshot_time(&self) -> Result<Timestamp, PortError>;

    /// Since when the database keeps versions that can be read at whole minutes, further back than the hour that every
    /// database keeps (point-in-time recovery). Nothing where it does not, or where that cannot be found out.
    async fn versions_since(&self) -> Result<Option<Timestamp>, PortError>;

    /// Up to `wanted` paths that cut `range` into parts of about equal size; fewer, or none, when the server cannot say.
    async fn split_points(
        &self,
        range: &PathRange,
        wanted: usize,
        at: Timestamp,
    ) -> Result<Vec<DocumentPath>, PortError>;

    /// Streams the documents of `range` as they were at `at`, in path order; at most `limit` of them, a bound that the
    /// server is told, so that it bills no more. The stream ends with an error when it breaks: the caller resumes
    /// behind the last document.
    async fn stream(&self, range: &PathRange, at: Timestamp, limit: Option<u32>) -> Result<DocumentStream, PortError>;

    /// Counts the documents of `range` at `at` by aggregation (one billed read a thousand).
    async fn count(&self, range: &PathRange, at: Timestamp) -> Result<u64, PortError>;

    /// As [`count`](Self::count); where the server refuses to count documents of all collections together, their names are
    /// read, which is a billed read each.
    async fn count_surely(&self, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.count(range, at).await
    }

    /// Whether [`count_surely`](Self::count_surely) reads names. The first count tells: before that it is not known.
    fn counts_by_reading(&self) -> bool {
        false
    }

    /// Reads documents by path, in the order asked; nothing where there is none. Without a time: now.
    async fn get(&self, paths: &[DocumentPath], at: Option<Timestamp>) -> Result<Vec<Option<RawDocument>>, PortError>;
}

/// What must hold for a write to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    None,
    /// The document does not exist.
    Absent,
    /// The document was last changed at this time.
    UpdatedAt(Timestamp),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The document to write, in the sink's database.
    pub path: DocumentPath,
    /// Its bytes, whose name is the sink's full name of `path`; nothing to delete it.
    pub document: Option<Bytes>,
    /// What must hold.
    pub precondition: Precondition,
}

/// What became of one write: the new update time, or why not.
pub type WriteOutcome = Result<Timestamp, PortError>;

/// The most writes a batch may hold.
pub const MAX_BATCH_WRITES: usize = 500;
/// The most bytes a request may have: 10 MiB, with room for framing.
pub const MAX_BATCH_BYTES: usize = 10 * 1024 * 1024 - 64 * 1024;

/// A Firestore database that can be written.
#[async_trait]
pub trait DocumentSink: Send + Sync {
    /// Which database it is.
    fn database(&self) -> &DatabaseName;

    /// Does the writes, each on its own: one outcome a write, in order. At most [`MAX_BATCH_WRITES`] writes to
    /// different documents and [`MAX_BATCH_BYTES`]; the caller keeps to both.
    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteOutcome>, PortError>;

    /// Whether the credentials may write, found out without changing anything.
    async fn can_write(&self) -> Result<(), PortError>;
}

/// One Auth user, as the API's JSON. Debug leaves the JSON out: it holds the password hash.
#[derive(Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// `localId`.
    pub id: String,
    /// The tenant; nothing for the project's own users.
    pub tenant: Option<String>,
    /// The JSON object as it came.
    pub json: Bytes,
    /// Whether the API redacted the password hash.
    pub redacted: bool,
}

impl std::fmt::Debug for UserRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRecord").field("id", &self.id).field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// A page of users and where the next begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPage {
    /// The users.
    pub users: Vec<UserRecord>,
    /// The token of the next page; nothing at the end.
    pub next: Option<String>,
}

/// A project's Auth users, to read.
#[async_trait]
pub trait UserSource: Send + Sync {
    /// The project's password hash parameters; nothing when the credential may not read them.
    async fn hash_config(&self) -> Result<Option<serde_json::Value>, PortError>;

    /// The ids of the project's tenants.
    async fn tenants(&self) -> Result<Vec<String>, PortError>;

    /// A page of at most 1,000 users.
    async fn page(&self, tenant: Option<&str>, token: Option<&str>) -> Result<UserPage, PortError>;
}

/// A user that could not be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFailure {
    /// Which of the users given.
    pub index: usize,
    /// What the API said.
    pub message: String,
}

/// The most users one call may create.
pub const MAX_USERS_PER_CALL: usize = 1000;

/// A project's Auth users, to write.
#[async_trait]
pub trait UserSink: Send + Sync {
    /// Creates users of one tenant (at most [`MAX_USERS_PER_CALL`]), hashes included; says which failed.
    /// `overwrite` lets it replace users of the same id.
    async fn create(
        &self,
        tenant: Option<&str>,
        users: &[UserRecord],
        hash_config: Option<&serde_json::Value>,
        overwrite: bool,
    ) -> Result<Vec<UserFailure>, PortError>;
}

/// The wall clock.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Where random bytes come from; a cryptographic generator outside tests.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}
