//! The organization of the caller.

use axum::extract::State;
use firebackup_control::{
    DeletedOrganization, NewOrganization, Organization, OrganizationChange, OrganizationDeletion, Quotas,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Handled, HandledList};
use crate::authentication::{Authenticated, SignedIn};
use crate::body::JsonBody;
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::parameter::{Asked, PageParameters};
use crate::state::HttpState;

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(organizations, create_organization))
        .routes(routes!(organization, update_organization))
        .routes(routes!(delete_organization))
        .routes(routes!(quotas))
}

/// Lists the organizations of whoever is signed in
#[utoipa::path(
    get,
    path = "/organizations",
    tag = "organizations",
    params(PageParameters),
    responses((status = 200, description = "A page of organizations.", body = ListEnvelope<Organization>))
)]
async fn organizations(
    State(state): State<HttpState>,
    SignedIn(person): SignedIn,
    Asked(page): Asked<PageParameters>,
) -> HandledList<Organization> {
    Ok(Listed(state.control.organizations(&person, &page.into()).await?))
}

/// Makes an organization
///
/// Whoever is signed in becomes its owner. For people, not for API keys.
#[utoipa::path(
    post,
    path = "/organizations",
    tag = "organizations",
    request_body = NewOrganization,
    responses((status = 201, description = "The organization.", body = Envelope<Organization>))
)]
async fn create_organization(
    State(state): State<HttpState>,
    SignedIn(person): SignedIn,
    JsonBody(new): JsonBody<NewOrganization>,
) -> Handled<Organization> {
    Ok(Answer::created(state.control.create_organization(&person, new).await?))
}

/// Shows the organization
#[utoipa::path(
    get,
    path = "/organizations/current",
    tag = "organizations",
    responses((status = 200, description = "The organization.", body = Envelope<Organization>))
)]
async fn organization(State(state): State<HttpState>, Authenticated(caller): Authenticated) -> Handled<Organization> {
    Ok(Answer::of(state.control.organization(&caller).await?))
}

/// Changes the organization
///
/// Role: owner.
#[utoipa::path(
    put,
    path = "/organizations/current",
    tag = "organizations",
    request_body = OrganizationChange,
    responses((status = 200, description = "The organization as it is now.", body = Envelope<Organization>))
)]
async fn update_organization(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(change): JsonBody<OrganizationChange>,
) -> Handled<Organization> {
    Ok(Answer::of(state.control.update_organization(&caller, change).await?))
}

/// Deletes the organization
///
/// Role: owner. Its name confirms it. Refused while it has schedules or jobs that have not ended, and always of the
/// installation's first. From then on its keys and members are refused, and all of its records go but the audit log. What
/// lies in its destinations stays there, and no server reads it any more: first note what opens it.
#[utoipa::path(
    post,
    path = "/organizations/current/delete",
    tag = "organizations",
    request_body = OrganizationDeletion,
    responses((status = 202, description = "What is being deleted, and what is left.", body = Envelope<DeletedOrganization>))
)]
async fn delete_organization(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(deletion): JsonBody<OrganizationDeletion>,
) -> Handled<DeletedOrganization> {
    Ok(Answer::accepted(state.control.delete_organization(&caller, &deletion).await?))
}

/// Shows what the organization may have, and has
///
/// `changeableTo` says what an owner can change, and how far: `runningJobs`, by `maxRunningJobs` of the organization.
#[utoipa::path(
    get,
    path = "/organizations/current/quotas",
    tag = "organizations",
    responses((status = 200, description = "Limits and use.", body = Envelope<Quotas>))
)]
async fn quotas(State(state): State<HttpState>, Authenticated(caller): Authenticated) -> Handled<Quotas> {
    Ok(Answer::of(state.control.quotas(&caller).await?))
}
