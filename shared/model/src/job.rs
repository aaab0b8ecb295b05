//! What running jobs leave in the repository: intents, plans and receipts.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use crate::database::DatabaseName;
use crate::id::{JobId, KeyId, RunId, SnapshotId};
use crate::manifest::{AuthUsers, Compression, GroupCounts, RunEntry, SnapshotKind};
use crate::range::PathRange;
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
    /// The chunks, in path order; together they tile the selection's ranges.
    pub chunks: Vec<PathRange>,
    /// How blocks are compressed.
    pub compression: Compression,
    /// The data key.
    pub key: Option<KeyId>,
    /// Whether Auth users are included.
    pub include_auth: bool,
    /// The most document reads the job may bill, when the user set a bound.
    pub max_reads: Option<u64>,
    /// Documents the source counted before, where it could.
    pub estimated_documents: Option<u64>,
    /// When the plan was made.
    pub created: Timestamp,
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
    /// What this step covered: from where the step before ended.
    pub covered: PathRange,
    /// Whether the chunk ends here.
    pub done: bool,
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
}

/// `receipts/<job>/users/0`: the Auth users of a backup, listed to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UsersReceipt {
    /// The job.
    pub job: JobId,
    /// What was listed.
    pub auth: AuthUsers,
}

/// `receipts/<job>/undo/<sequence>`: a run that holds what a restore was about to replace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UndoReceipt {
    /// The restore.
    pub job: JobId,
    /// Its order: where a path stands in several, the lowest sequence tells the state before the first try.
    pub sequence: u32,
    /// The run.
    pub run: RunEntry,
}
