//! Whether we are there.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::envelope::{Answer, Envelope};
use crate::state::HttpState;

/// That we are there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
    /// The version that answers.
    version: &'static str,
}

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(health))
}

/// Says that we are there
///
/// Nothing that we stand on is asked.
#[utoipa::path(
    get,
    path = "/health",
    tag = "health",
    security(()),
    responses((status = 200, description = "We are there.", body = Envelope<Health>))
)]
async fn health(State(state): State<HttpState>) -> Answer<Health> {
    Answer::of(Health { status: "ok", version: state.version })
}
