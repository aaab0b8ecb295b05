//! What drills have found, read in a repository.

use firebackup_control::{ControlError, OpenedPlace};
use firebackup_engine::{ProvenOrigin, UnreadableDrill};
use firebackup_model::Timestamp;
use firebackup_model::drill::{DrillReport, Exercise};
use firebackup_model::id::JobId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::failure::Failure;
use crate::state::HttpState;
use crate::unreadable::unreachable_place;

/// The most reports that are told, and how many where nothing is said.
const MAX_REPORTS: u32 = 100;
const REPORTS: u32 = 20;

/// How many reports are told.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReportParameters {
    /// How many reports at most, the newest.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
}

/// What drills have found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DrillReports {
    /// The newest reports, newest first.
    reports: Vec<DrillReportView>,
    /// Of the newest, those that cannot be read, newest first: what they say of which backup is not known.
    unreadable: Vec<UnreadableDrillReport>,
}

/// A report that is damaged, or by a writer that is not believed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnreadableDrillReport {
    /// Names the drill.
    #[schema(value_type = String, example = "drill_01JZ8Q6V7C9X2M4T5B8K1N3R6W")]
    id: JobId,
    /// Why it cannot be read.
    error: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
}

/// What a drill has found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DrillReportView {
    /// Names the drill.
    #[schema(value_type = String, example = "drill_01JZ8Q6V7C9X2M4T5B8K1N3R6W")]
    id: JobId,
    /// The backup that was restored.
    #[schema(value_type = String, example = "bkp_01JZ8Q6V7C9X2M4T5B8K1N3R6W")]
    backup_id: JobId,
    /// Whether all that was restored is as it should be.
    passed: bool,
    /// Whether it is proven who wrote the report.
    origin_proven: bool,
    /// Whose backup it is: `<project>/<database>`.
    source: String,
    /// Into what it was restored: `<project>/<database>`.
    scratch: String,
    /// Whether everything was restored, or a sample.
    whole: bool,
    /// How many moments were to be put back too, behind the backup or before it; fewer are there where fewer are kept.
    moments_wanted: u32,
    /// What was restored, and how it compared: the backup itself, then moments of its database.
    restores: Vec<DrillRestore>,
    /// Auth users of the backup that were opened and decoded; none is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    users_read: Option<u64>,
    /// Why it went no further.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// Bytes that were read of the repository.
    bytes: u64,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    ended_at: Timestamp,
}

/// One restore of a drill.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DrillRestore {
    /// The moment that was put back.
    #[schema(value_type = String, format = DateTime)]
    point: Timestamp,
    /// Whether it is the backup itself, and not one put together from captured changes.
    is_backup: bool,
    /// Documents that there should be, of those that were looked at.
    documents: u64,
    /// Documents that were found as they should be.
    same: u64,
    /// What was found otherwise, the first hundred.
    differences: Vec<String>,
}

/// Reads the newest reports of a repository.
pub(crate) async fn reports(
    state: &HttpState,
    place: OpenedPlace,
    asked: &ReportParameters,
) -> Result<DrillReports, Failure> {
    let most = asked.limit.unwrap_or(REPORTS);
    if !(1..=MAX_REPORTS).contains(&most) {
        return Err(ControlError::field("limit", format!("expected 1 to {MAX_REPORTS}")).into());
    }
    let repository = state.repositories.open(&place).await?;
    let found = repository.drills(most as usize).await.map_err(unreachable_place)?;
    Ok(DrillReports {
        reports: found.reports.into_iter().rev().map(|(report, origin)| view(report, &origin)).collect(),
        unreadable: found.unreadable.into_iter().map(unreadable).collect(),
    })
}

fn unreadable(drill: UnreadableDrill) -> UnreadableDrillReport {
    UnreadableDrillReport { started_at: drill.begun(), error: drill.error.in_full(), id: drill.id }
}

fn view(report: DrillReport, origin: &ProvenOrigin) -> DrillReportView {
    DrillReportView {
        passed: report.has_passed(),
        origin_proven: matches!(origin, ProvenOrigin::Proven(_)),
        id: report.id,
        backup_id: report.snapshot,
        source: report.source.to_string(),
        scratch: report.scratch.to_string(),
        whole: report.is_whole,
        moments_wanted: report.moments_wanted,
        restores: report.exercises.into_iter().map(restore).collect(),
        users_read: report.users.map(|users| users.read),
        failure: report.failure,
        bytes: report.bytes,
        started_at: report.started,
        ended_at: report.finished,
    }
}

fn restore(exercise: Exercise) -> DrillRestore {
    let Exercise { point, is_backup, documents, same, differences } = exercise;
    DrillRestore { point, is_backup, documents, same, differences }
}
