//! What a drill leaves behind: proof that a backup was put back and read again, or why it could not be.

use serde::{Deserialize, Serialize};

use crate::database::DatabaseName;
use crate::id::{JobId, SnapshotId};
use crate::timestamp::Timestamp;

/// What `drills/<id>/begun` holds, sealed, while a drill runs: whatever lies in the scratch database is its.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DrillBegun {
    /// The drill.
    pub id: JobId,
    /// The database into which it restores; it was empty.
    pub scratch: DatabaseName,
    /// When it began.
    pub started: Timestamp,
    /// Whose drills it is one of, where they follow each other in one database: of those, one runs at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What `drills/<id>/report` holds, sealed and, where the writer has a key, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DrillReport {
    /// The format version.
    pub format: u16,
    /// The drill.
    pub id: JobId,
    /// Whose backup it is.
    pub source: DatabaseName,
    /// The backup.
    pub snapshot: SnapshotId,
    /// The database into which it was restored.
    pub scratch: DatabaseName,
    /// Whether everything was restored, or a sample.
    pub is_whole: bool,
    /// What chose the sample and the moments: the same chooses the same again.
    pub seed: u64,
    /// How many moments were to be put back too, behind the backup or before it; fewer are there where fewer are kept.
    #[serde(default)]
    pub moments_wanted: u32,
    /// What was restored, and how it compared: the backup itself, then moments of its database.
    pub exercises: Vec<Exercise>,
    /// What was read of the backup's Auth users; nothing where it has none, or where it went no further before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<UsersRead>,
    /// Why it went no further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Bytes read from the repository.
    pub bytes: u64,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Who made it.
    pub tool: String,
}

/// One restore of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Exercise {
    /// The moment that was put back.
    pub point: Timestamp,
    /// Whether it is the backup itself, and not one put together from captured changes.
    pub is_backup: bool,
    /// Documents that there should be, of those that were looked at.
    pub documents: u64,
    /// Documents that were found as they should be.
    pub same: u64,
    /// What was found otherwise, the first hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

/// Auth users of a backup, which a drill opens and counts, and does not restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UsersRead {
    /// Users that there should be, as the manifest says.
    pub users: u64,
    /// Users that were read.
    pub read: u64,
}

impl Exercise {
    /// Whether everything is as it should be.
    #[must_use]
    pub const fn has_passed(&self) -> bool {
        self.differences.is_empty() && self.same == self.documents
    }
}

impl DrillReport {
    /// Whether everything that was tried was found as it should be.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        let has_users = self.users.is_none_or(|users| users.read == users.users);
        self.failure.is_none()
            && has_users
            && !self.exercises.is_empty()
            && self.exercises.iter().all(Exercise::has_passed)
    }

    /// How many moments were put back, behind the backup or before it.
    #[must_use]
    pub fn moments(&self) -> usize {
        self.exercises.iter().filter(|exercise| !exercise.is_backup).count()
    }

    /// Documents that were compared.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.exercises.iter().map(|exercise| exercise.documents).sum()
    }
}
