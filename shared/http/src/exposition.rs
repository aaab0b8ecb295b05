//! `/metrics`, for a listener of its own.
//!
//! It is no route of the API: what is counted is of all organizations, and no key of one may open it. So it stands on
//! another listener than what strangers reach, and nothing of it is in a router that does not ask for it.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{IntoMakeService, get};

/// Where Prometheus looks if nobody tells it where.
pub const METRICS_PATH: &str = "/metrics";
/// Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Says what was counted.
#[async_trait]
pub trait Exposition: Send + Sync {
    /// All of it, in Prometheus' text format, version 0.0.4.
    async fn text(&self) -> String;
}

/// A service of `/metrics` and nothing else.
pub fn metrics_service(exposition: Arc<dyn Exposition>) -> IntoMakeService<Router> {
    Router::new().route(METRICS_PATH, get(move || expose(exposition))).into_make_service()
}

async fn expose(exposition: Arc<dyn Exposition>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], exposition.text().await)
        .into_response()
}
