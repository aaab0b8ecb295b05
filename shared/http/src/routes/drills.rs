//! Drills: backups that are restored into a scratch database and compared, to know that it can be done.

use axum::extract::State;
use firebackup_control::{Drills, NewDrills, ProjectId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Handled, Removed};
use crate::authentication::Authenticated;
use crate::body::JsonBody;
use crate::drill_reports::{DrillReports, ReportParameters, reports};
use crate::envelope::{Answer, Envelope};
use crate::parameter::{Asked, IdempotencyKey, IdempotencyParameters, Ids};
use crate::state::HttpState;

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(drill_config, put_drill_config, remove_drill_config))
        .routes(routes!(run_drill))
        .routes(routes!(drill_reports))
}

/// Shows the drills of a project, and how the last one went
#[utoipa::path(
    get,
    path = "/drills/{projectId}/config",
    tag = "drills",
    params(("projectId" = ProjectId, Path, description = "The project whose backups are restored.")),
    responses((status = 200, description = "What is restored, when, and into what.", body = Envelope<Drills>))
)]
async fn drill_config(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
) -> Handled<Drills> {
    Ok(Answer::of(state.control.drills(&caller, &project).await?))
}

/// Sets up the drills of a project, or sets them up anew
///
/// Role: admin. The scratch database must be empty, and one that nothing backs up or captures: a drill deletes all that it finds
/// there when it ends. Disabling them has a drill that runs stop, with the database empty again.
#[utoipa::path(
    put,
    path = "/drills/{projectId}/config",
    tag = "drills",
    params(("projectId" = ProjectId, Path, description = "The project whose backups are restored.")),
    request_body = NewDrills,
    responses((status = 200, description = "The drills, as they are from now on.", body = Envelope<Drills>))
)]
async fn put_drill_config(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    JsonBody(new): JsonBody<NewDrills>,
) -> Handled<Drills> {
    Ok(Answer::of(state.control.put_drills(&caller, &project, new).await?))
}

/// Removes the drills of a project
///
/// Role: admin. Not while one runs. Reports stay in the repository.
#[utoipa::path(
    delete,
    path = "/drills/{projectId}/config",
    tag = "drills",
    params(("projectId" = ProjectId, Path, description = "The project whose backups are restored.")),
    responses((status = 200, description = "There are no drills any more.", body = Envelope<Removed>))
)]
async fn remove_drill_config(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
) -> Handled<Removed> {
    state.control.remove_drills(&caller, &project).await?;
    Ok(Removed::answer(project))
}

/// Asks for a drill now
///
/// Role: admin. Whether they are enabled or not. It begins within seconds on one machine, and with the next sweep, within five
/// minutes, on AWS. Asking while one was asked for or runs asks for nothing more.
#[utoipa::path(
    post,
    path = "/drills/{projectId}/run",
    tag = "drills",
    params(("projectId" = ProjectId, Path, description = "The project whose backups are restored."), IdempotencyParameters),
    responses((status = 202, description = "One was asked for.", body = Envelope<Drills>))
)]
async fn run_drill(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    IdempotencyKey(key): IdempotencyKey,
) -> Handled<Drills> {
    Ok(Answer::accepted(state.control.ask_for_drill(&caller, &project, key.as_deref()).await?))
}

/// Lists what drills have found, newest first
///
/// Read in the repository that holds the newest backup: drills of the command line in it are listed too. A difference names a
/// document.
#[utoipa::path(
    get,
    path = "/drills/{projectId}",
    tag = "drills",
    params(("projectId" = ProjectId, Path, description = "The project whose backups were restored."), ReportParameters),
    responses((status = 200, description = "The newest reports.", body = Envelope<DrillReports>))
)]
async fn drill_reports(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<ReportParameters>,
) -> Handled<DrillReports> {
    let place = state.control.open_drills(&caller, &project).await?;
    Ok(Answer::of(reports(&state, place, &asked).await?))
}
