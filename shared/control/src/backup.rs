//! Verbs on backups.

use serde::{Deserialize, Serialize};

use crate::id::{DestinationId, ProjectId};

/// What kind of backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackupType {
    /// Everything that is selected.
    #[default]
    Full,
}

/// What is backed up, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupConfig {
    /// What kind of backup.
    #[serde(rename = "type")]
    pub kind: BackupType,
    /// The database; `(default)` where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Collection patterns; none means all.
    #[schema(max_items = 100)]
    pub collections: Vec<String>,
    /// Collection patterns that are left out.
    #[schema(max_items = 100)]
    pub exclude_collections: Vec<String>,
    /// Whether collections bring what lies below their documents.
    pub include_subcollections: bool,
    /// Whether Auth users are backed up too.
    pub include_auth: bool,
    /// `brotli`, `zstd`, `gzip` or `none`, with a level if you like (`zstd:3`).
    #[schema(example = "brotli")]
    pub compression: String,
    /// Whether it is encrypted.
    pub encrypt: bool,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self {
            kind: BackupType::Full,
            database: None,
            collections: Vec::new(),
            exclude_collections: Vec::new(),
            include_subcollections: true,
            include_auth: false,
            compression: brotli(),
            encrypt: true,
        }
    }
}

/// A backup that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewBackup {
    /// Of which project.
    pub project_id: ProjectId,
    /// Where it is kept; the default destination where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_destination_id: Option<DestinationId>,
    /// What kind of backup.
    #[serde(rename = "type", default)]
    pub kind: BackupType,
    /// The database; `(default)` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Collection patterns; none means all.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub collections: Vec<String>,
    /// Collection patterns that are left out.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub exclude_collections: Vec<String>,
    /// Whether collections bring what lies below their documents.
    #[serde(default = "yes")]
    pub include_subcollections: bool,
    /// Whether Auth users are backed up too.
    #[serde(default)]
    pub include_auth: bool,
    /// `brotli`, `zstd`, `gzip` or `none`, with a level if you like (`zstd:3`).
    #[serde(default = "brotli")]
    #[schema(example = "brotli")]
    pub compression: String,
    /// Whether it is encrypted.
    #[serde(default = "yes")]
    pub encrypt: bool,
}

const fn yes() -> bool {
    true
}

fn brotli() -> String {
    "brotli".to_owned()
}

impl NewBackup {
    fn config(&self) -> BackupConfig {
        BackupConfig {
            kind: self.kind,
            database: self.database.clone(),
            collections: self.collections.clone(),
            exclude_collections: self.exclude_collections.clone(),
            include_subcollections: self.include_subcollections,
            include_auth: self.include_auth,
            compression: self.compression.clone(),
            encrypt: self.encrypt,
        }
    }
}
