//! Recovery to a point in time: whether changes are captured, and how that goes.

use axum::extract::State;
use firebackup_control::{
    ControlError, NewPitr, NewRestore, Pitr, PitrChange, PitrHealth, PitrStatistics, ProjectId, RestoreJob,
};
use firebackup_model::id::JobId;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Handled, HandledList};
use crate::authentication::Authenticated;
use crate::body::JsonBody;
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::moments::{PitrWindows, WindowParameters, windows};
use crate::parameter::{Asked, IdempotencyKey, IdempotencyParameters, Ids, PageParameters};
use crate::state::HttpState;

/// Of which database.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DatabaseParameters {
    /// The database; `(default)`, or the only one, where none is named.
    pub(crate) database: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(enable_pitr))
        .routes(routes!(disable_pitr))
        .routes(routes!(pause_pitr))
        .routes(routes!(resume_pitr))
        .routes(routes!(pitr, update_pitr))
        .routes(routes!(pitr_statistics))
        .routes(routes!(pitr_health))
        .routes(routes!(pitr_windows))
        .routes(routes!(restore_moment))
        .routes(routes!(moment_restores))
        .routes(routes!(moment_restore))
}

/// Has the changes of a database captured
///
/// Role: admin. Where the destination has no backup of the whole database that was made here, one is begun with it
/// (`initialBackupId`), and the status is `initializing` until that is complete. Enabling what is enabled in the same way
/// changes nothing. An installation in which nobody captures answers `PITR_UNAVAILABLE`.
#[utoipa::path(
    post,
    path = "/pitr/enable",
    tag = "pitr",
    request_body = NewPitr,
    responses((status = 201, description = "How changes are captured from now on.", body = Envelope<Pitr>))
)]
async fn enable_pitr(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewPitr>,
) -> Handled<Pitr> {
    Ok(Answer::created(state.control.enable_pitr(&caller, new).await?))
}

/// Has changes not captured any more
///
/// Role: admin. What was captured can be put back for as long as it is kept.
#[utoipa::path(
    post,
    path = "/pitr/{projectId}/disable",
    tag = "pitr",
    params(("projectId" = ProjectId, Path, description = "The project."), DatabaseParameters),
    responses((status = 200, description = "It is disabled.", body = Envelope<Pitr>))
)]
async fn disable_pitr(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<DatabaseParameters>,
) -> Handled<Pitr> {
    Ok(Answer::of(state.control.disable_pitr(&caller, &project, asked.database.as_deref()).await?))
}

/// Has changes not captured until it is resumed
///
/// Role: admin.
#[utoipa::path(
    post,
    path = "/pitr/{projectId}/pause",
    tag = "pitr",
    params(("projectId" = ProjectId, Path, description = "The project."), DatabaseParameters),
    responses((status = 200, description = "It is paused.", body = Envelope<Pitr>))
)]
async fn pause_pitr(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<DatabaseParameters>,
) -> Handled<Pitr> {
    Ok(Answer::of(state.control.pause_pitr(&caller, &project, asked.database.as_deref()).await?))
}

/// Has changes captured again
///
/// Role: admin. It goes on from where it was paused. Where the database does not tell any more what changed since, it is read
/// and compared, and the time between is a gap.
#[utoipa::path(
    post,
    path = "/pitr/{projectId}/resume",
    tag = "pitr",
    params(("projectId" = ProjectId, Path, description = "The project."), DatabaseParameters),
    responses((status = 200, description = "It goes on.", body = Envelope<Pitr>))
)]
async fn resume_pitr(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<DatabaseParameters>,
) -> Handled<Pitr> {
    Ok(Answer::of(state.control.resume_pitr(&caller, &project, asked.database.as_deref()).await?))
}

/// Shows how changes are captured, and how that stands
#[utoipa::path(
    get,
    path = "/pitr/{projectId}/config",
    tag = "pitr",
    params(("projectId" = ProjectId, Path, description = "The project."), DatabaseParameters),
    responses((status = 200, description = "How changes are captured.", body = Envelope<Pitr>))
)]
async fn pitr(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<DatabaseParameters>,
) -> Handled<Pitr> {
    Ok(Answer::of(state.control.pitr(&caller, &project, asked.database.as_deref()).await?))
}

/// Changes how changes are captured and kept
///
/// Role: admin. To keep them elsewhere, or otherwise encrypted, disable it and enable it again.
#[utoipa::path(
    patch,
    path = "/pitr/{projectId}/config",
    tag = "pitr",
    params(("projectId" = ProjectId, Path, description = "The project."), DatabaseParameters),
    request_body = PitrChange,
    responses((status = 200, description = "How changes are captured from now on.", body = Envelope<Pitr>))
)]
async fn update_pitr(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<DatabaseParameters>,
    JsonBody(change): JsonBody<PitrChange>,
) -> Handled<Pitr> {
    Ok(Answer::of(state.control.update_pitr(&caller, &project, asked.database.as_deref(), &change).await?))
}

/// Says how much was captured
///
/// As it was seen at `checkedAt`: behind every window that captured something, and every five minutes.
#[utoipa::path(
    get,
    path = "/pitr/{projectId}/statistics",
    tag = "pitr",
    params(("projectId" = ProjectId, Path, description = "The project."), DatabaseParameters),
    responses((status = 200, description = "How much there is.", body = Envelope<PitrStatistics>))
)]
async fn pitr_statistics(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<DatabaseParameters>,
) -> Handled<PitrStatistics> {
    Ok(Answer::of(state.control.pitr_statistics(&caller, &project, asked.database.as_deref()).await?))
}

/// Says whether changes are captured as they should be
#[utoipa::path(
    get,
    path = "/pitr/{projectId}/health",
    tag = "pitr",
    params(("projectId" = ProjectId, Path, description = "The project."), DatabaseParameters),
    responses((status = 200, description = "How it is doing.", body = Envelope<PitrHealth>))
)]
async fn pitr_health(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<DatabaseParameters>,
) -> Handled<PitrHealth> {
    Ok(Answer::of(state.control.pitr_health(&caller, &project, asked.database.as_deref()).await?))
}

/// Says which moments can be put back
///
/// Read in the repository: no document is.
#[utoipa::path(
    get,
    path = "/pitr/{projectId}/windows",
    tag = "pitr",
    params(("projectId" = ProjectId, Path, description = "The project."), WindowParameters),
    responses((status = 200, description = "The stretches of time that are known.", body = Envelope<PitrWindows>))
)]
async fn pitr_windows(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<WindowParameters>,
) -> Handled<PitrWindows> {
    let place = state.control.open_moments(&caller, &project, asked.database.as_deref()).await?;
    Ok(Answer::of(windows(&state, place, &asked).await?))
}

/// Puts a moment back, or says what that would do
///
/// Role: member. As `POST /backups/restore` with a `pointInTime`. The newest consistent point at or before that time is put
/// back: `moment` of the answer says which; with `exact` no other than the time itself is. A time of which nothing is known is
/// refused (`MOMENT_UNAVAILABLE`), with the nearest moments in `details`. With `reported` the one document that `paths` names is put
/// back as it was at that time, as far as anybody told: `reported` of the answer says so.
#[utoipa::path(
    post,
    path = "/pitr/restore",
    tag = "pitr",
    params(IdempotencyParameters),
    request_body = NewRestore,
    responses((status = 202, description = "The restore, which has begun.", body = Envelope<RestoreJob>))
)]
async fn restore_moment(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(new): JsonBody<NewRestore>,
) -> Handled<RestoreJob> {
    if new.point_in_time.is_none() {
        return Err(ControlError::field(
            "pointInTime",
            "expected a time; a backup is restored by `POST /backups/restore`",
        )
        .into());
    }
    Ok(Answer::accepted(state.control.create_restore(&caller, new, &state, key.as_deref()).await?))
}

/// Lists the restores of moments of a project, newest first
#[utoipa::path(
    get,
    path = "/pitr/{projectId}/restore-jobs",
    tag = "pitr",
    params(("projectId" = ProjectId, Path, description = "The project whose changes were captured."), PageParameters),
    responses((status = 200, description = "A page of restores.", body = ListEnvelope<RestoreJob>))
)]
async fn moment_restores(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(page): Asked<PageParameters>,
) -> HandledList<RestoreJob> {
    Ok(Listed(state.control.moment_restores(&caller, &project, &page.into()).await?))
}

/// Shows a restore of a moment, with how far it has come
#[utoipa::path(
    get,
    path = "/pitr/{projectId}/restore-jobs/{jobId}",
    tag = "pitr",
    params(
        ("projectId" = ProjectId, Path, description = "The project whose changes were captured."),
        ("jobId" = String, Path, description = "The restore.")
    ),
    responses((status = 200, description = "The restore.", body = Envelope<RestoreJob>))
)]
async fn moment_restore(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids((project, id)): Ids<(ProjectId, JobId)>,
) -> Handled<RestoreJob> {
    Ok(Answer::of(state.control.moment_restore(&caller, &project, &id).await?))
}
