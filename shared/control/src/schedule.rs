//! Verbs on schedules.

use firebackup_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backup::BackupConfig;
use crate::id::{DestinationId, OrganizationId, ProjectId, ScheduleId};
use crate::retention::Retention;

/// A schedule that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSchedule {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// Which project is backed up.
    pub project_id: ProjectId,
    /// Five fields: minute, hour, day of month, month, day of week (0 is Sunday).
    #[schema(example = "0 3 * * *")]
    pub cron_expression: String,
    /// An IANA time zone.
    #[serde(default = "utc")]
    #[schema(example = "Europe/Berlin")]
    pub timezone: String,
    /// What is backed up, and how.
    #[serde(default)]
    pub backup_config: BackupConfig,
    /// Where backups are kept; the default destination of the time they are made where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_destination_id: Option<DestinationId>,
    /// How long they are kept; for ever where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Whether it fires.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}

const fn yes() -> bool {
    true
}

/// What is to be changed of a schedule; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleChange {
    /// For people.
    pub name: Option<String>,
    /// Five fields.
    pub cron_expression: Option<String>,
    /// An IANA time zone.
    pub timezone: Option<String>,
    /// What is backed up, and how; replaced as a whole.
    pub backup_config: Option<BackupConfig>,
    /// Where backups are kept; `null` for the default destination.
    #[serde(default, deserialize_with = "crate::record::present")]
    #[schema(value_type = Option<DestinationId>)]
    pub storage_destination_id: Option<Option<DestinationId>>,
    /// How long they are kept; `null` for ever.
    #[serde(default, deserialize_with = "crate::record::present")]
    #[schema(value_type = Option<Retention>)]
    pub retention: Option<Option<Retention>>,
    /// Whether it fires.
    pub enabled: Option<bool>,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Names it.
    pub id: ScheduleId,
    /// For people.
    pub name: String,
    /// Which project is backed up.
    pub project_id: ProjectId,
    /// Five fields: minute, hour, day of month, month, day of week (0 is Sunday).
    pub cron_expression: String,
    /// An IANA time zone.
    pub timezone: String,
    /// What is backed up, and how.
    pub backup_config: BackupConfig,
    /// Where backups are kept; the default destination of the time they are made where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_destination_id: Option<DestinationId>,
    /// How long they are kept; for ever where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Whether it fires.
    pub enabled: bool,
    /// The next five times it fires; none while it is not enabled.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub next_runs: Vec<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// What the scheduler sends when a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleMessage {
    /// Which.
    pub schedule: ScheduleId,
    /// Whose.
    pub organization: OrganizationId,
    /// When it was due; the scheduler adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Timestamp>,
}
