//! How long the backups of a schedule are kept.

use firebackup_model::id::JobId;
use serde::{Deserialize, Serialize};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RetentionType {
    /// Completed backups.
    Count,
    /// Days since a backup was asked for.
    Days,
}

/// How long the completed backups of a schedule are kept. The newest is always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// What is counted.
    #[serde(rename = "type")]
    pub kind: RetentionType,
    /// How many, 1 to 36,500.
    #[schema(minimum = 1, maximum = 36500)]
    pub value: u32,
}

/// What a retention comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionOutcome {
    /// Completed backups that are kept, newest first.
    pub kept: Vec<JobId>,
    /// Completed backups that are to be deleted, newest first.
    pub dropped: Vec<JobId>,
}
