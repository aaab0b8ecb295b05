//! Backups that are made by the clock.

use axum::extract::State;
use firebackup_control::{BackupJob, NewSchedule, ProjectId, Schedule, ScheduleChange, ScheduleId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Handled, HandledList, Removed};
use crate::authentication::Authenticated;
use crate::body::JsonBody;
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::parameter::{Asked, IdempotencyKey, IdempotencyParameters, Ids, PageParameters};
use crate::state::HttpState;

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(schedules, create_schedule))
        .routes(routes!(schedules_of_project))
        .routes(routes!(schedule, update_schedule, remove_schedule))
        .routes(routes!(toggle_schedule))
        .routes(routes!(trigger_schedule))
}

/// Lists the schedules
#[utoipa::path(
    get,
    path = "/schedules",
    tag = "schedules",
    params(PageParameters),
    responses((status = 200, description = "A page of schedules.", body = ListEnvelope<Schedule>))
)]
async fn schedules(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(page): Asked<PageParameters>,
) -> HandledList<Schedule> {
    Ok(Listed(state.control.schedules(&caller, None, &page.into()).await?))
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
    Ok(Listed(state.control.schedules(&caller, Some(&project), &page.into()).await?))
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
