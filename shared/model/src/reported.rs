//! What Firestore reports of its own accord: events, each of one change of one document.
//!
//! Events come at least once, in no order, late, and some perhaps never. What they say is *reported*: it fills in what lies between
//! two moments that are known, and never changes what is known of a moment.

use bytes::Bytes;

use crate::database::DatabaseName;
use crate::path::DocumentPath;
use crate::timestamp::Timestamp;

/// One change of one document, as an event tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedEvent {
    /// The event's id: unique together with its source.
    pub id: String,
    /// Who tells: `//firestore.googleapis.com/projects/…/databases/…`.
    pub source: String,
    /// The database.
    pub database: DatabaseName,
    /// The document.
    pub path: DocumentPath,
    /// When the change was committed.
    pub time: Timestamp,
    /// What the document is since.
    pub change: ReportedChange,
    /// What it was before, where the event tells.
    pub before: Option<ReportedDocument>,
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportedChange {
    /// It was created or updated.
    Put(ReportedDocument),
    /// It was deleted, at the event's time.
    Gone,
}

/// A document that an event holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedDocument {
    /// A `google.firestore.v1.Document`: of an event in protobuf as it came.
    pub document: Bytes,
    /// When it was written, by the server.
    pub update_time: Timestamp,
}
