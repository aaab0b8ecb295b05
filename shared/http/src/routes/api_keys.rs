//! API keys of the organization.

use std::fmt;

use axum::extract::State;
use firebackup_control::{ApiKey, ApiKeyId, NewApiKey};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Handled, HandledList};
use crate::authentication::Authenticated;
use crate::body::JsonBody;
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::parameter::{Asked, Ids, PageParameters};
use crate::state::HttpState;

/// An API key that was made, with its secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedApiKey {
    /// What is kept of it.
    #[serde(flatten)]
    facts: ApiKey,
    /// The key to send as `Authorization: Bearer …`. It is shown this once.
    #[schema(read_only, example = "fb_…")]
    api_key: String,
}

impl fmt::Debug for CreatedApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedApiKey").field("facts", &self.facts).finish_non_exhaustive()
    }
}

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(api_keys, create_api_key)).routes(routes!(revoke_api_key))
}

/// Lists the API keys
///
/// Their secrets are not shown.
#[utoipa::path(
    get,
    path = "/organizations/current/service-account",
    tag = "api keys",
    params(PageParameters),
    responses((status = 200, description = "A page of API keys.", body = ListEnvelope<ApiKey>))
)]
async fn api_keys(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(page): Asked<PageParameters>,
) -> HandledList<ApiKey> {
    Ok(Listed(state.control.api_keys(&caller, &page.into()).await?))
}

/// Makes an API key
///
/// Role: admin, and nobody grants more than their own role. The key is shown once and kept as a hash.
#[utoipa::path(
    post,
    path = "/organizations/current/service-account",
    tag = "api keys",
    request_body = NewApiKey,
    responses((status = 201, description = "The API key, with its secret.", body = Envelope<CreatedApiKey>))
)]
async fn create_api_key(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewApiKey>,
) -> Handled<CreatedApiKey> {
    let (facts, secret) = state.control.create_api_key(&caller, new).await?;
    Ok(Answer::created(CreatedApiKey { facts, api_key: secret.to_string() }))
}

/// Revokes an API key
///
/// Role: admin. The last owner key cannot be revoked.
#[utoipa::path(
    delete,
    path = "/organizations/current/service-account/{apiKeyId}",
    tag = "api keys",
    params(("apiKeyId" = ApiKeyId, Path, description = "The API key.")),
    responses((status = 200, description = "The API key, which is no good any more.", body = Envelope<ApiKey>))
)]
async fn revoke_api_key(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<ApiKeyId>,
) -> Handled<ApiKey> {
    Ok(Answer::of(state.control.revoke_api_key(&caller, &id).await?))
}
