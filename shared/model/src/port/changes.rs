use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::document::RawDocument;
use crate::error::PortError;
use crate::path::DocumentPath;
use crate::port::DocumentStream;
use crate::range::PathRange;
use crate::timestamp::Timestamp;

/// From where on changes are wanted. Never from nothing: the first answer of such a stream is the whole collection group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenFrom {
    /// Behind the [`Change::Point`] that came with this token.
    Token(Bytes),
    /// Behind a read time at which the listener knows every document.
    ReadTime(Timestamp),
}

/// What a stream of changes says, in the order in which it says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A document as it is now; what it was in between is not said.
    Put(RawDocument),
    /// A document is gone. When it went is not said: it is dated by when that was seen.
    Gone(DocumentPath),
    /// Whatever was committed at or before `read_time`, in any of the groups, has been said.
    Point {
        /// The consistent point; they only grow.
        read_time: Timestamp,
        /// What to go on from; nothing where the server gave none that is good for all groups.
        token: Option<Bytes>,
    },
    /// How many documents of the group there are at the next point, so that whoever missed a deletion finds out.
    Filter {
        /// The collection group.
        group: String,
        /// Documents in it.
        documents: u64,
    },
    /// The server begins a group from nothing: what was known of it no longer counts, and the stream is of no more use.
    Reset {
        /// The collection group.
        group: String,
    },
    /// The stream lives.
    Alive,
}

/// Changes as they come. Ends with an error when it breaks, and by itself never.
pub type ChangeStream = BoxStream<'static, Result<Change, PortError>>;

/// A Firestore database whose changes can be listened to.
#[async_trait]
pub trait ChangeSource: Send + Sync {
    /// Listens to the changes of collection groups, each with all its (sub)collections. A point is said only once all of
    /// them are complete.
    async fn listen(&self, groups: &BTreeSet<String>, from: ListenFrom) -> Result<ChangeStream, PortError>;

    /// Counts the documents of one collection group that lie in `range` at `at` by aggregation (one billed read a
    /// thousand).
    async fn count_group(&self, group: &str, range: &PathRange, at: Timestamp) -> Result<u64, PortError>;

    /// Streams the documents of one collection group as they were at `at`, in path order, all of them.
    async fn stream_group(&self, group: &str, at: Timestamp) -> Result<DocumentStream, PortError>;
}
