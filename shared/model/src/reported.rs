//! What Firestore reports of its own accord: events, each of one change of one document.
//!
//! Events come at least once, in no order, late, and some perhaps never. What they say is *reported*: it fills in what lies between
//! two moments that are known, and never changes what is known of a moment.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::database::DatabaseName;
use crate::id::{KeyId, ReportId};
use crate::manifest::{Compression, Counts, GroupCounts, RunEntry};
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

/// One document as it was at a time, as far as anybody told: what a restore of it as reported puts back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AsReported {
    /// The document.
    pub path: DocumentPath,
    /// The time.
    pub at: Timestamp,
}

/// What `reported/<capture>/<first>_<last>_<level>_<report>.manifest` holds, sealed: versions that events told of. No backup and no
/// moment is made of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReportedManifest {
    /// The format version.
    pub format: u16,
    /// The database.
    pub source: DatabaseName,
    /// Its id: a digest of the ids of the events, or of the reports that it was merged from.
    pub id: ReportId,
    /// When its first version was written, or its first document deleted.
    pub first: Timestamp,
    /// The same of the last.
    pub last: Timestamp,
    /// How often it was merged; 0 for what was folded from events itself.
    pub level: u32,
    /// What it is read in the place of: all that it was merged from, and what that was merged from.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub merged: BTreeSet<ReportId>,
    /// Its runs.
    pub runs: Vec<RunEntry>,
    /// Versions and deletions counted together.
    pub totals: Counts,
    /// Versions and deletions of each collection group.
    pub collections: GroupCounts,
    /// How it was compressed.
    pub compression: Compression,
    /// The data key that it and its runs are sealed with.
    pub key: Option<KeyId>,
    /// Bytes of its runs in the repository.
    pub stored_bytes: u64,
    /// The version of FireBackup that wrote it.
    pub tool: String,
    /// When it was put, by the clock of the machine.
    pub finished: Timestamp,
}
