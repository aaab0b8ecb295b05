//! Verbs on restores.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use serde::{Deserialize, Serialize};

use crate::id::ProjectId;
use crate::job::{Rename, RestoreModeName};

/// A restore that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRestore {
    /// The backup; or a restore that kept what it replaced, to take that restore back.
    #[schema(value_type = String)]
    pub backup_id: JobId,
    /// The project to write; the one that was backed up where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_project_id: Option<ProjectId>,
    /// The database to write; the one that was backed up where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Collection patterns; none means all.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub collections: Vec<String>,
    /// Globs over document paths; none means all.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub paths: Vec<String>,
    /// Collection patterns that are left out.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub exclude: Vec<String>,
    /// Collections that get another path.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub renames: Vec<Rename>,
    /// What happens to documents in the way.
    #[serde(default)]
    pub mode: RestoreModeName,
    /// Whether Auth users are restored too.
    #[serde(default)]
    pub include_auth: bool,
    /// Whether what is replaced is kept, so that the restore can be taken back.
    #[serde(default = "yes")]
    pub undo: bool,
    /// Documents changed after this time are left alone: the time of a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub guard: Option<Timestamp>,
    /// Whether it only says what it would do.
    #[serde(default)]
    pub dry_run: bool,
}

const fn yes() -> bool {
    true
}
