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
    /// What was restored, and how it compared: the backup itself, then moments behind it.
    pub exercises: Vec<Exercise>,
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
        self.failure.is_none() && !self.exercises.is_empty() && self.exercises.iter().all(Exercise::has_passed)
    }

    /// Documents that were compared.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.exercises.iter().map(|exercise| exercise.documents).sum()
    }
}
