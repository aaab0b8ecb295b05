//! Backups that are made by the clock.

use axum::extract::State;
use firebackup_control::{
    BackupJob, NewSchedule, NewSchedulePreview, ProjectId, Schedule, ScheduleChange, ScheduleFilter, ScheduleId,
    ScheduleOverview, SchedulePreset, SchedulePreview,
};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Handled, HandledList, Removed};
use crate::authentication::Authenticated;
use crate::body::JsonBody;
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::parameter::{Asked, IdempotencyKey, IdempotencyParameters, Ids, PageParameters};
use crate::state::HttpState;

/// Which schedules are asked for.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ScheduleParameters {
    /// Only those of this project.
    project_id: Option<ProjectId>,
    /// Only those that fire, or that do not.
    enabled: Option<bool>,
    /// Only those whose name contains this, in any case.
    search: Option<String>,
}

impl From<ScheduleParameters> for ScheduleFilter {
    fn from(asked: ScheduleParameters) -> Self {
        let search = asked.search.filter(|text| !text.is_empty());
        Self { project: asked.project_id, enabled: asked.enabled, search }
    }
}

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(schedules, create_schedule))
        .routes(routes!(schedules_of_project))
        .routes(routes!(schedule_overview))
        .routes(routes!(schedule_presets))
        .routes(routes!(preview_schedule))
        .routes(routes!(schedule, update_schedule, remove_schedule))
        .routes(routes!(toggle_schedule))
        .routes(routes!(trigger_schedule))
}

/// Lists the schedules
#[utoipa::path(
    get,
    path = "/schedules",
    tag = "schedules",
    params(PageParameters, ScheduleParameters),
    responses((status = 200, description = "A page of schedules.", body = ListEnvelope<Schedule>))
)]
async fn schedules(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(page): Asked<PageParameters>,
    Asked(filter): Asked<ScheduleParameters>,
) -> HandledList<Schedule> {
    Ok(Listed(state.control.schedules(&caller, &filter.into(), &page.into()).await?))
}

/// Says how the schedules are doing
///
/// Counts, the next run, and the last backup of each.
#[utoipa::path(
    get,
    path = "/schedules/stats/overview",
    tag = "schedules",
    responses((status = 200, description = "How they are doing.", body = Envelope<ScheduleOverview>))
)]
async fn schedule_overview(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
) -> Handled<ScheduleOverview> {
    Ok(Answer::of(state.control.schedule_overview(&caller).await?))
}

/// Lists expressions to begin with
#[utoipa::path(
    get,
    path = "/schedules/presets",
    tag = "schedules",
    responses((status = 200, description = "All of them, the denser first.", body = ListEnvelope<SchedulePreset>))
)]
async fn schedule_presets(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
) -> HandledList<SchedulePreset> {
    Ok(Listed(state.control.schedule_presets(&caller)?))
}

/// Says when an expression is due
///
/// The next five times; nothing is stored. On AWS a day of month and a day of week together are refused when a schedule is
/// made of them.
#[utoipa::path(
    post,
    path = "/schedules/preview",
    tag = "schedules",
    request_body = NewSchedulePreview,
    responses((status = 200, description = "When it is due.", body = Envelope<SchedulePreview>))
)]
async fn preview_schedule(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(asked): JsonBody<NewSchedulePreview>,
) -> Handled<SchedulePreview> {
    Ok(Answer::of(state.control.preview_schedule(&caller, &asked)?))
}

/// Makes a schedule
///
/// Role: admin.
#[utoipa::path(
    post,
    path = "/schedules",
    tag = "schedules",
    request_body = NewSchedule,
    responses((status = 201, description = "The schedule.", body = Envelope<Schedule>))
)]
async fn create_schedule(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewSchedule>,
) -> Handled<Schedule> {
    Ok(Answer::created(state.control.create_schedule(&caller, new).await?))
}

/// Lists the schedules of a project
#[utoipa::path(
    get,
    path = "/schedules/project/{projectId}",
    tag = "schedules",
    params(("projectId" = ProjectId, Path, description = "The project."), PageParameters),
    responses((status = 200, description = "A page of schedules.", body = ListEnvelope<Schedule>))
)]
async fn schedules_of_project(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(page): Asked<PageParameters>,
) -> HandledList<Schedule> {
    Ok(Listed(state.control.schedules_of_project(&caller, &project, &page.into()).await?))
}

/// Shows a schedule, with its next five runs
#[utoipa::path(
    get,
    path = "/schedules/{scheduleId}",
    tag = "schedules",
    params(("scheduleId" = ScheduleId, Path, description = "The schedule.")),
    responses((status = 200, description = "The schedule.", body = Envelope<Schedule>))
)]
async fn schedule(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ScheduleId>,
) -> Handled<Schedule> {
    Ok(Answer::of(state.control.schedule(&caller, &id).await?))
}

/// Changes a schedule
///
/// Role: admin.
#[utoipa::path(
    put,
    path = "/schedules/{scheduleId}",
    tag = "schedules",
    params(("scheduleId" = ScheduleId, Path, description = "The schedule.")),
    request_body = ScheduleChange,
    responses((status = 200, description = "The schedule as it is now.", body = Envelope<Schedule>))
)]
async fn update_schedule(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ScheduleId>,
    JsonBody(change): JsonBody<ScheduleChange>,
) -> Handled<Schedule> {
    Ok(Answer::of(state.control.update_schedule(&caller, &id, change).await?))
}

/// Removes a schedule
///
/// Role: admin. Its backups stay, and are not removed by its retention any more.
#[utoipa::path(
    delete,
    path = "/schedules/{scheduleId}",
    tag = "schedules",
    params(("scheduleId" = ScheduleId, Path, description = "The schedule.")),
    responses((status = 200, description = "It was removed.", body = Envelope<Removed>))
)]
async fn remove_schedule(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ScheduleId>,
) -> Handled<Removed> {
    state.control.remove_schedule(&caller, &id).await?;
    Ok(Removed::answer(id))
}

/// Enables a schedule that is disabled, and the other way round
///
/// Role: admin. To set it to one of the two, send `enabled` to the schedule itself.
#[utoipa::path(
    patch,
    path = "/schedules/{scheduleId}/toggle",
    tag = "schedules",
    params(("scheduleId" = ScheduleId, Path, description = "The schedule.")),
    responses((status = 200, description = "The schedule as it is now.", body = Envelope<Schedule>))
)]
async fn toggle_schedule(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ScheduleId>,
) -> Handled<Schedule> {
    Ok(Answer::of(state.control.toggle_schedule(&caller, &id).await?))
}

/// Starts a backup as the schedule would
///
/// Role: member.
#[utoipa::path(
    post,
    path = "/schedules/{scheduleId}/trigger",
    tag = "schedules",
    params(("scheduleId" = ScheduleId, Path, description = "The schedule."), IdempotencyParameters),
    responses((status = 202, description = "The backup, which has begun.", body = Envelope<BackupJob>))
)]
async fn trigger_schedule(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ScheduleId>,
    IdempotencyKey(key): IdempotencyKey,
) -> Handled<BackupJob> {
    Ok(Answer::accepted(state.control.trigger_schedule(&caller, &id, key.as_deref()).await?))
}
