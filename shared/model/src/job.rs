//! What running jobs leave in the repository: intents, plans and receipts.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use crate::database::DatabaseName;
use crate::id::{JobId, KeyId, RunId, SnapshotId};
use crate::manifest::{AuthUsers, Compression, GroupCounts, RunEntry, SnapshotKind};
use crate::path::DocumentPath;
use crate::range::{PathRange, RangeStart};
use crate::reported::AsReported;
use crate::selection::Selection;
use crate::timestamp::Timestamp;

/// `intents/<job>`: which snapshots, runs and keys a running job relies on. Prune keeps all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Intent {
    /// The job.
    pub job: JobId,
    /// When it was created; a job older than half the grace period may not commit.
    pub created: Timestamp,
    /// The database it reads or writes.
    pub database: DatabaseName,
    /// Snapshots that it reads.
    pub snapshots: Vec<SnapshotId>,
    /// Runs that it reads besides.
    pub runs: Vec<RunId>,
    /// Key objects that it needs, its own included.
    pub keys: Vec<KeyId>,
}

/// `receipts/<job>/plan`: what a backup is going to read. Put once: a second plan of the same job adopts the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Plan {
    /// The job.
    pub job: JobId,
    /// What kind of snapshot it makes.
    pub kind: SnapshotKind,
    /// The database.
    pub source: DatabaseName,
    /// What is selected.
    pub selection: Selection,
    /// The one read time of every read.
    pub read_time: Timestamp,
    /// Whether the user asked for this very read time: then no other may take its place.
    #[serde(default)]
    pub asked_read_time: bool,
    /// Whether the database has point-in-time recovery, so that the read time can be read at for longer than an hour.
    #[serde(default)]
    pub keeps_versions: bool,
    /// The chunks, in path order; together they tile the selection's ranges.
    pub chunks: Vec<PathRange>,
    /// How blocks are compressed.
    pub compression: Compression,
    /// The data key.
    pub key: Option<KeyId>,
    /// Whether Auth users are included.
    pub include_auth: bool,
    /// When the plan was made.
    pub created: Timestamp,
    /// What only the differences from are kept of what is read; nothing keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// Of an incremental backup that is made from what was captured, so that nothing is read: documents of its parent that were
    /// changed behind this point are in the captured changes, or are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_changed_until: Option<Timestamp>,
    /// The snapshot that a synthetic backup is merged from, with what was captured since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_from: Option<SnapshotId>,
    /// Why everything is read although only what changed was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_because: Option<String>,
}

/// What a scan is compared with: a snapshot, and what was captured since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Against {
    /// The snapshot.
    pub base: SnapshotId,
    /// The last point of the captured changes that count, where any do.
    pub through: Option<Timestamp>,
}

/// `receipts/<job>/<chunk>/<sequence>`: what one step of a chunk finished. Put once: the loser of a race adopts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Receipt {
    /// The job.
    pub job: JobId,
    /// Which chunk of the plan, from 0.
    pub chunk: u32,
    /// Which step of the chunk, from 0.
    pub sequence: u32,
    /// Where this step began: where the chunk begins, or behind what the step before covered.
    pub start: RangeStart,
    /// The last path this step covered; nothing when it covered all the rest of the chunk, which is then done.
    pub through: Option<DocumentPath>,
    /// The run it wrote; nothing when the range held no selected document.
    pub run: Option<RunEntry>,
    /// Its documents, by collection group.
    pub collections: GroupCounts,
    /// How many blocks took each algorithm and level.
    pub levels: BTreeMap<String, u64>,
    /// Document reads that Firestore bills for it.
    pub reads: u64,
    /// The read time it read at.
    pub read_time: Timestamp,
    /// How many documents it saw of each collection group, where only differences are kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, u64>,
}

/// `receipts/<job>/users/0`: the Auth users of a backup, listed to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UsersReceipt {
    /// The job.
    pub job: JobId,
    /// What was listed.
    pub auth: AuthUsers,
}

/// What a restore does with documents that are in its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreMode {
    /// Replaces them.
    Overwrite,
    /// Leaves them alone.
    SkipExisting,
    /// Replaces them, and deletes what is selected and not in the snapshot.
    Mirror,
}

/// `receipts/<job>/plan` of a restore: what it was asked for, so that it can go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RestorePlan {
    /// The job.
    pub job: JobId,
    /// The snapshot (or the restore whose undo) that is put back.
    pub snapshot: SnapshotId,
    /// The consistent point that is put back, where it is not the snapshot itself: the snapshot is its base then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The one document that is put back as it was reported: the snapshot only stands for its database then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<AsReported>,
    /// The database that is written.
    pub target: DatabaseName,
    /// What of the snapshot is put back.
    pub selection: Selection,
    /// Collections that get another path: from, to.
    pub renames: Vec<(String, String)>,
    /// What happens to documents in the way.
    pub mode: RestoreMode,
    /// Whether what is replaced is kept.
    pub undo: bool,
    /// The data key that undo runs are sealed with.
    pub key: Option<KeyId>,
    /// When the restore began.
    pub created: Timestamp,
    /// Parts that are put back each on its own, by many processes; none where one process does it all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<RestorePart>,
    /// Whether it only says what it would do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// One of the parts that a restore is cut into; together they tile what is put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RestorePart {
    /// Which part of the selection it is cut from: one for each renamed collection, and one for the rest; from 0.
    pub segment: u32,
    /// Its ranges, in the paths of the snapshot.
    pub ranges: Vec<PathRange>,
}

/// `receipts/<job>/undo/<sequence>`: a run that holds what a restore was about to replace.
///
/// Where a path stands in several, that of the earliest attempt counts, and within an attempt the latest: it was read
/// again because the server had refused the write conditional on the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UndoReceipt {
    /// The restore.
    pub job: JobId,
    /// Its order within the restore.
    pub sequence: u32,
    /// Which attempt of the restore wrote it: the sequence of that attempt's first receipt. A restore that was killed and
    /// run again makes another attempt, and so does each of two that run at once.
    pub attempt: u32,
    /// The run; nothing when the receipt only says what was not written.
    pub run: Option<RunEntry>,
    /// Documents that this attempt sealed and then did not write: skipped, in conflict, or failed. Its records of them
    /// do not count.
    #[serde(default)]
    pub not_written: Vec<DocumentPath>,
    /// Whether the restore ends here: nothing is replaced any more once this is there.
    #[serde(default)]
    pub closes: bool,
}

/// `receipts/<job>/progress/<sequence>`: everything up to here was written once by a restore that keeps no undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RestoreMark {
    /// The restore.
    pub job: JobId,
    /// Its order within the restore.
    pub sequence: u32,
    /// How far it came.
    pub through: RestorePosition,
}

/// A place in the order in which a restore writes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RestorePosition {
    /// Which part of the selection: one for each renamed collection, and one for the rest; from 0.
    pub segment: u32,
    /// The document's path in the target.
    pub path: DocumentPath,
}
