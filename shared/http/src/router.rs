//! All routes, and what surrounds them.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use firebackup_control::{Code, ControlError, Kind};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::body::MAX_BODY_BYTES;
use crate::failure::Failure;
use crate::page;
use crate::realtime::{self, LiveConnections};
use crate::refusal::note_refusals;
use crate::remembered::remembering;
use crate::request::frame;
use crate::routes;
use crate::state::HttpState;

/// Where the API begins.
const BASE: &str = "/api/v1";
/// Where an issuer sends a browser back to.
pub const CALLBACK_PATH: &str = "/api/v1/auth/google/callback";

/// Where Google sends a browser back to that was asked for a consent.
pub const CONSENT_CALLBACK_PATH: &str = "/api/v1/projects/oauth/callback";

/// Where events of a project's changes are posted to.
pub const EVENTS_PATH: &str = "/api/v1/pitr/{projectId}/events";

/// The whole API as one service, but for live clients, which another function has behind API Gateway.
pub fn router(state: HttpState) -> Router {
    surrounded(Router::from(documented()), state)
}

/// The same with live clients.
pub(crate) fn live_router(state: HttpState, connections: Arc<dyn LiveConnections>) -> Router {
    surrounded(Router::from(documented()).merge(realtime::route(connections)), state)
}

fn surrounded(routes: Router<HttpState>, state: HttpState) -> Router {
    routes
        .merge(page::routes())
        .route("/openapi.json", get(document))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(state.clone(), remembering))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(after_panic))
        .layer(from_fn_with_state(state.clone(), note_refusals))
        .layer(from_fn_with_state(state.clone(), frame))
        .with_state(state)
}

/// What the API is, as OpenAPI 3.1.
#[must_use]
pub fn openapi() -> OpenApi {
    crate::openapi::complete(documented().into_openapi())
}

fn documented() -> OpenApiRouter<HttpState> {
    let api = OpenApiRouter::default()
        .merge(routes::auth::routes())
        .merge(routes::organizations::routes())
        .merge(routes::members::routes())
        .merge(routes::invites::routes())
        .merge(routes::audit::routes())
        .merge(routes::api_keys::routes())
        .merge(routes::consents::routes())
        .merge(routes::projects::routes())
        .merge(routes::destinations::routes())
        .merge(routes::backups::routes())
        .merge(routes::restores::routes())
        .merge(routes::pitr::routes())
        .merge(routes::drills::routes())
        .merge(routes::events::routes())
        .merge(routes::schedules::routes())
        .merge(routes::webhooks::routes());
    OpenApiRouter::default().merge(routes::health::routes()).nest(BASE, api)
}

/// Made when it is first asked for: starting must not wait for it.
static DOCUMENT: LazyLock<Result<String, serde_json::Error>> = LazyLock::new(|| openapi().to_json());

async fn document() -> Response {
    match &*DOCUMENT {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json.as_str()).into_response(),
        Err(error) => Failure::from(ControlError::internal(error.to_string())).into_response(),
    }
}

async fn no_route() -> Failure {
    ControlError::new(Kind::NotFound, Code::RouteNotFound, "there is no such route: see /openapi.json").into()
}

async fn no_method() -> Failure {
    ControlError::new(Kind::Invalid, Code::MethodNotAllowed, "the route does not know this method").into()
}

/// What a client is told of a panic. What it said goes into the log, where the hook of the process puts it too.
fn after_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let source = format!("a handler panicked: {}", text.unwrap_or("without a text"));
    Failure::from(ControlError::internal(source)).into_response()
}
