//! Google projects whose databases are backed up.

use axum::extract::State;
use firebackup_control::{
    Collection, CollectionSync, NewProject, Project, ProjectChange, ProjectDatabase, ProjectFilter, ProjectId,
    ProjectStatus,
};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Handled, HandledList, Removed};
use crate::authentication::Authenticated;
use crate::body::JsonBody;
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::parameter::{Asked, Ids, PageParameters};
use crate::state::HttpState;

/// Which projects are asked for.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ProjectParameters {
    /// Only those of this status.
    status: Option<ProjectStatus>,
    /// Only those whose name or Google project contains this, in any case.
    search: Option<String>,
}

impl From<ProjectParameters> for ProjectFilter {
    fn from(asked: ProjectParameters) -> Self {
        Self { status: asked.status, search: asked.search.filter(|text| !text.is_empty()) }
    }
}

/// Which databases are asked for.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DatabaseParameters {
    /// Only those whose id contains this.
    search: Option<String>,
}

/// Which collections are asked for.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct CollectionParameters {
    /// Of which database; `(default)`, or the only one, where none is named.
    database: Option<String>,
    /// Only those whose id contains this.
    search: Option<String>,
}

/// Which database is meant.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct MeantDatabase {
    /// Its id; `(default)`, or the only one, where none is named.
    database: Option<String>,
}

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(projects, connect_project))
        .routes(routes!(project, update_project, remove_project))
        .routes(routes!(databases))
        .routes(routes!(collections))
        .routes(routes!(sync_collections))
}

/// Lists the projects
#[utoipa::path(
    get,
    path = "/projects",
    tag = "projects",
    params(PageParameters, ProjectParameters),
    responses((status = 200, description = "A page of projects.", body = ListEnvelope<Project>))
)]
async fn projects(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(page): Asked<PageParameters>,
    Asked(filter): Asked<ProjectParameters>,
) -> HandledList<Project> {
    Ok(Listed(state.control.projects(&caller, &filter.into(), &page.into()).await?))
}

/// Connects a project
///
/// Role: admin. IAM is asked what the credentials may, and reading and writing are tried: what they may not do is said in
/// `missing`, with what needs it and how to grant it. Only what a backup of documents needs makes the `status` `error`.
#[utoipa::path(
    post,
    path = "/projects",
    tag = "projects",
    request_body = NewProject,
    responses((status = 201, description = "The project.", body = Envelope<Project>))
)]
async fn connect_project(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewProject>,
) -> Handled<Project> {
    Ok(Answer::created(state.control.connect_project(&caller, new).await?))
}

/// Shows a project
#[utoipa::path(
    get,
    path = "/projects/{projectId}",
    tag = "projects",
    params(("projectId" = ProjectId, Path, description = "The project.")),
    responses((status = 200, description = "The project.", body = Envelope<Project>))
)]
async fn project(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ProjectId>,
) -> Handled<Project> {
    Ok(Answer::of(state.control.project(&caller, &id).await?))
}

/// Changes a project
///
/// Role: admin. New credentials are tried first; `connected: true` looks at the project again.
#[utoipa::path(
    put,
    path = "/projects/{projectId}",
    tag = "projects",
    params(("projectId" = ProjectId, Path, description = "The project.")),
    request_body = ProjectChange,
    responses((status = 200, description = "The project as it is now.", body = Envelope<Project>))
)]
async fn update_project(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ProjectId>,
    JsonBody(change): JsonBody<ProjectChange>,
) -> Handled<Project> {
    Ok(Answer::of(state.control.update_project(&caller, &id, change).await?))
}

/// Removes a project
///
/// Role: admin. Refused while schedules or unfinished jobs use it. Its backups stay in their destinations.
#[utoipa::path(
    delete,
    path = "/projects/{projectId}",
    tag = "projects",
    params(("projectId" = ProjectId, Path, description = "The project.")),
    responses((status = 200, description = "It was removed.", body = Envelope<Removed>))
)]
async fn remove_project(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ProjectId>,
) -> Handled<Removed> {
    state.control.remove_project(&caller, &id).await?;
    Ok(Removed::answer(id))
}

/// Lists the databases of a project
///
/// As they were when the project was looked at last, with what cannot be done with one as it is set up, and how it can.
#[utoipa::path(
    get,
    path = "/projects/{projectId}/databases",
    tag = "projects",
    params(("projectId" = ProjectId, Path, description = "The project."), PageParameters, DatabaseParameters),
    responses((status = 200, description = "A page of databases.", body = ListEnvelope<ProjectDatabase>))
)]
async fn databases(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ProjectId>,
    Asked(page): Asked<PageParameters>,
    Asked(asked): Asked<DatabaseParameters>,
) -> HandledList<ProjectDatabase> {
    Ok(Listed(state.control.databases(&caller, &id, asked.search.as_deref(), &page.into()).await?))
}

/// Lists the collections of a database
///
/// Those at the root, as they were seen last; none before somebody has had them looked at.
#[utoipa::path(
    get,
    path = "/projects/{projectId}/collections",
    tag = "projects",
    params(("projectId" = ProjectId, Path, description = "The project."), PageParameters, CollectionParameters),
    responses((status = 200, description = "A page of collections.", body = ListEnvelope<Collection>))
)]
async fn collections(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ProjectId>,
    Asked(page): Asked<PageParameters>,
    Asked(asked): Asked<CollectionParameters>,
) -> HandledList<Collection> {
    let wanted = (asked.database.as_deref(), asked.search.as_deref());
    Ok(Listed(state.control.collections(&caller, &id, wanted, &page.into()).await?))
}

/// Looks at the collections of a database
///
/// Role: member. Lists those at the root, at most 1,000, and counts their documents for 15 seconds, up to a million each; Google
/// bills a read a thousand documents.
#[utoipa::path(
    post,
    path = "/projects/{projectId}/collections/sync",
    tag = "projects",
    params(("projectId" = ProjectId, Path, description = "The project."), MeantDatabase),
    responses((status = 200, description = "What was seen.", body = Envelope<CollectionSync>))
)]
async fn sync_collections(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ProjectId>,
    Asked(asked): Asked<MeantDatabase>,
) -> Handled<CollectionSync> {
    Ok(Answer::of(state.control.sync_collections(&caller, &id, asked.database.as_deref()).await?))
}
