//! What a snapshot's manifest says. Putting it is the commit point of a backup.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::database::DatabaseName;
use crate::id::{JobId, KeyId, RepositoryId, RunId, SnapshotId};
use crate::path::DocumentPath;
use crate::selection::Selection;
use crate::timestamp::Timestamp;

/// The format version this build writes.
pub const FORMAT_VERSION: u16 = 1;

/// `firebackup.json`, in the clear at the root of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RepositoryConfig {
    /// The format version of the repository.
    pub format: u16,
    /// Its id, which everything sealed in it is bound to.
    pub repository: RepositoryId,
    /// The repository key, under which data keys are wrapped; nothing in a repository that is not encrypted.
    pub key: Option<KeyId>,
    /// When it was made.
    pub created: Timestamp,
}

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// Every selected document at the read time.
    Full,
    /// The changes since its parent.
    Incremental,
    /// A full snapshot merged from others, read from no database.
    Synthetic,
    /// What a restore replaced: never a base of a restore to a time.
    Undo,
}

/// How far the documents of a snapshot belong to one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// All at one read time.
    Snapshot,
    /// Each run at its own read time.
    Ranged,
}

/// How documents are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Not at all.
    None,
    /// Brotli, levels 0 to 11.
    Brotli,
    /// Zstandard, levels 1 to 22.
    Zstd,
    /// Gzip, levels 0 to 9.
    Gzip,
}

/// A level, or as high as the source allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Each block takes the highest level that does not hold the source up.
    Auto,
    /// Always this one.
    Fixed(u8),
}

/// Algorithm and level, as a user chooses them: `brotli`, `zstd:3`, `gzip:auto`, `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Compression {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Its level.
    pub level: Level,
}

impl Default for Compression {
    fn default() -> Self {
        Self { algorithm: Algorithm::Brotli, level: Level::Auto }
    }
}

impl Algorithm {
    /// The algorithm's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The lowest and highest level it takes.
    #[must_use]
    pub const fn levels(self) -> (u8, u8) {
        match self {
            Self::None => (0, 0),
            Self::Brotli => (0, 11),
            Self::Zstd => (1, 22),
            Self::Gzip => (0, 9),
        }
    }
}

/// The text names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no compression: expected brotli, zstd, gzip or none, with a level if you like (zstd:3, brotli:auto)"
)]
pub struct CompressionError {
    text: String,
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CompressionError { text: text.to_owned() };
        let (name, level) = text.split_once(':').unwrap_or((text, "auto"));
        let algorithm = [Algorithm::None, Algorithm::Brotli, Algorithm::Zstd, Algorithm::Gzip];
        let algorithm = algorithm.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(error)?;
        let (low, high) = algorithm.levels();
        let level = match level {
            "auto" => Level::Auto,
            number => Level::Fixed(number.parse().ok().filter(|n| (low..=high).contains(n)).ok_or_else(error)?),
        };
        Ok(Self { algorithm, level })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.algorithm, self.level) {
            (Algorithm::None, _) => f.write_str("none"),
            (algorithm, Level::Auto) => write!(f, "{}:auto", algorithm.name()),
            (algorithm, Level::Fixed(level)) => write!(f, "{}:{level}", algorithm.name()),
        }
    }
}

/// How runs and manifests are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cipher {
    /// In the clear, with a plain hash against accidents only.
    None,
    /// AES-256-GCM.
    Aes256Gcm,
}

/// What kind of records a run holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Every document of a range at one read time.
    Base,
    /// Upserts and deletions.
    Delta,
    /// Auth users.
    Users,
}

/// How much of something there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Counts {
    /// Documents (or users).
    pub documents: u64,
    /// Tombstones.
    pub deletions: u64,
    /// Bytes of the documents' protobuf messages.
    pub bytes: u64,
}

impl Counts {
    /// Adds `other`.
    pub const fn add(&mut self, other: Self) {
        self.documents += other.documents;
        self.deletions += other.deletions;
        self.bytes += other.bytes;
    }

    /// Those of all groups together.
    #[must_use]
    pub fn of(groups: &GroupCounts) -> Self {
        let mut all = Self::default();
        groups.values().for_each(|counts| all.add(*counts));
        all
    }
}

/// Counts for each collection group.
pub type GroupCounts = BTreeMap<String, Counts>;

/// One run that a manifest refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunEntry {
    /// The run's id, which gives its object's name.
    pub id: RunId,
    /// What it holds.
    pub kind: RunKind,
    /// The size of the object in bytes.
    pub size: u64,
    /// SHA-256 of the whole object, hexadecimal.
    pub sha256: String,
    /// Records in it.
    pub records: u64,
    /// Blocks in it.
    pub blocks: u64,
    /// Bytes of its blocks before compression.
    pub raw_bytes: u64,
    /// The first record's path.
    pub first: DocumentPath,
    /// The last record's path.
    pub last: DocumentPath,
    /// The read time of its documents, where there is one.
    pub read_time: Option<Timestamp>,
}

/// What a snapshot says of Firebase Auth users. They have no read time: the listing took an interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AuthUsers {
    /// When listing began.
    pub listed_from: Timestamp,
    /// When listing ended.
    pub listed_until: Timestamp,
    /// Users in all, tenants' included.
    pub users: u64,
    /// Users whose password hash the credential could not read.
    pub redacted: u64,
    /// The tenants listed.
    pub tenants: Vec<String>,
    /// The project's hash parameters as the API gave them; nothing when the credential may not read them.
    pub hash_config: Option<serde_json::Value>,
    /// The runs that hold the users.
    pub runs: Vec<RunEntry>,
}

/// What `snapshots/<id>.manifest` holds, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Manifest {
    /// The format version.
    pub format: u16,
    /// The snapshot's id, which is its job's.
    pub id: SnapshotId,
    /// What it holds.
    pub kind: SnapshotKind,
    /// The snapshot it builds on, for an incremental.
    pub parent: Option<SnapshotId>,
    /// Of an incremental that was captured: documents of its parent that were changed behind this point do not count. Where
    /// they are not in this one, they had come and gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_changed_until: Option<Timestamp>,
    /// The database it was read from.
    pub source: DatabaseName,
    /// What was selected.
    pub selection: Selection,
    /// Whether all documents are of one moment.
    pub consistency: Consistency,
    /// The read times of its runs, ascending, each once.
    pub read_times: Vec<Timestamp>,
    /// Its runs, in path order; those of a base do not overlap.
    pub runs: Vec<RunEntry>,
    /// Everything counted together.
    pub totals: Counts,
    /// Counts for each collection group.
    pub collections: GroupCounts,
    /// Bytes of all its objects in the repository.
    pub stored_bytes: u64,
    /// Auth users, when they were included.
    pub auth: Option<AuthUsers>,
    /// How it was compressed.
    pub compression: Compression,
    /// How many blocks took each algorithm and level (`brotli:5`).
    pub levels: BTreeMap<String, u64>,
    /// The data key it is sealed with.
    pub key: Option<KeyId>,
    /// Document reads that Firestore bills for it.
    pub reads: u64,
    /// The version of FireBackup that wrote it.
    pub tool: String,
    /// When the job started.
    pub started: Timestamp,
    /// When the job finished.
    pub finished: Timestamp,
}

impl Manifest {
    /// The moment the snapshot stands for: its latest read time.
    #[must_use]
    pub fn read_time(&self) -> Option<Timestamp> {
        self.read_times.last().copied()
    }

    /// Every run, Auth users' included.
    pub fn all_runs(&self) -> impl Iterator<Item = &RunEntry> {
        self.runs.iter().chain(self.auth.iter().flat_map(|auth| auth.runs.iter()))
    }

    /// Whether it can be the base of a restore of the whole database.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        matches!(self.kind, SnapshotKind::Full | SnapshotKind::Synthetic) && self.selection.is_everything()
    }

    /// The job that made it.
    #[must_use]
    pub const fn job(&self) -> &JobId {
        &self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_are_read_as_they_are_shown() {
        for text in ["none", "brotli:auto", "brotli:11", "zstd:3", "gzip:9"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        assert_eq!("brotli".parse::<Compression>().unwrap(), Compression::default());
        for bad in ["", "lzma", "zstd:0", "zstd:23", "brotli:12", "gzip:x", "none:1"] {
            assert!(bad.parse::<Compression>().is_err(), "{bad}");
        }
    }
}
