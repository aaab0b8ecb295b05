//! What change capture writes: segments, each a link of the chain of one database. Putting a segment's manifest is what
//! moves the watermark, and nothing else does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::database::DatabaseName;
use crate::id::{JobId, KeyId, SnapshotId};
use crate::manifest::{Compression, Counts, GroupCounts, RunEntry};
use crate::timestamp::Timestamp;

/// Where what says where a chain begins stands, where nothing was captured before: before whatever Firestore holds.
pub const BEFORE_ALL: Timestamp = Timestamp::new(0, 0);

/// How a segment came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SegmentKind {
    /// From a stream of changes: every moment from where it begins is one of its points, or equal to the one before.
    Listened,
    /// From a scan at one read time, compared with what was known before: of the moments in between nothing is known.
    Compared,
    /// Merged from segments that followed one another, in whose place it is read.
    Compacted,
    /// That the chain goes on at its base, at whose read time the next segment begins: its only point. It holds nothing, and takes
    /// the place of the segment that could have gone on before the base. What lies in between is not known.
    Begun,
}

/// Moments of which nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Gap {
    /// Behind this one,
    pub after: Timestamp,
    /// and before this one.
    pub until: Timestamp,
}

/// Points that were found to be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Proof {
    /// The first of them.
    pub from: Timestamp,
    /// The last of them.
    pub through: Timestamp,
}

impl Proof {
    /// Whether it speaks of `point`.
    #[must_use]
    pub fn covers(&self, point: Timestamp) -> bool {
        self.from <= point && point <= self.through
    }
}

/// What `segments/<capture>/<after>.manifest` holds, sealed, and where it is compacted `<after>_<end>.manifest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SegmentManifest {
    /// The format version.
    pub format: u16,
    /// The database.
    pub source: DatabaseName,
    /// The snapshot that the chain begins with: all its read times are at or before where the first segment begins.
    pub base: SnapshotId,
    /// Its place in the chain, from 0; of a compacted one that of the last that it was merged from.
    pub sequence: u64,
    /// Of a compacted one the place of the first that it was merged from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_sequence: Option<u64>,
    /// Where it begins: the last point of the segment before, or of the first one the read time of the base. Of what says where a
    /// chain begins that follows none, the first second of 1970.
    pub after: Timestamp,
    /// How it came about.
    pub kind: SegmentKind,
    /// How often it was merged; 0 for what was captured itself.
    #[serde(default)]
    pub level: u32,
    /// Its consistent points, ascending; the next segment begins at the last one.
    pub points: Vec<Timestamp>,
    /// Where nothing is known, ascending.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// Which points it proves, its own and those of segments before, ascending.
    pub proofs: Vec<Proof>,
    /// Its runs. Records of one path and one point stand in one of them only, except for the later run to count.
    pub runs: Vec<RunEntry>,
    /// Changes counted together.
    pub totals: Counts,
    /// Changes of each collection group.
    pub collections: GroupCounts,
    /// How many documents each known collection group has at the last point, those without any included.
    pub documents: BTreeMap<String, u64>,
    /// The same at the last point that it proves, where that is not the last point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_documents: Option<BTreeMap<String, u64>>,
    /// What listening goes on from, in base64; without it, from the last point.
    pub token: Option<String>,
    /// The job that scanned, where it was compared.
    #[serde(default)]
    pub job: Option<JobId>,
    /// How it was compressed.
    pub compression: Compression,
    /// The data key that it and its runs are sealed with.
    pub key: Option<KeyId>,
    /// Bytes of its runs in the repository.
    pub stored_bytes: u64,
    /// Document reads that Firestore bills for it, as far as they were counted.
    pub reads: u64,
    /// The version of FireBackup that wrote it.
    pub tool: String,
    /// When it was put, by the clock of the machine.
    pub finished: Timestamp,
}

impl SegmentManifest {
    /// The last point: where the next segment begins.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.points.last().copied().unwrap_or(self.after)
    }

    /// The place of the first segment that it stands for.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.first_sequence.unwrap_or(self.sequence)
    }

    /// The last point that it proves, and how many documents each collection group had there.
    #[must_use]
    pub fn anchor(&self) -> Option<(Timestamp, &BTreeMap<String, u64>)> {
        let through = self.proofs.last()?.through;
        let documents = if through == self.end() { Some(&self.documents) } else { self.proven_documents.as_ref() };
        documents.map(|documents| (through, documents))
    }
}
