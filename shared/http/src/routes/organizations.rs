//! The organization of the caller.

use axum::extract::State;
use firebackup_control::{NewOrganization, Organization, OrganizationChange};
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
