//! The organization of the caller.

use axum::extract::State;
use firebackup_control::{Organization, OrganizationChange};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Handled;
use crate::authentication::Authenticated;
use crate::body::JsonBody;
use crate::envelope::{Answer, Envelope};
use crate::state::HttpState;

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(organization, update_organization))
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
