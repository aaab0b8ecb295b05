//! What a server of ours was asked, to look at headers that it does not care about.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;

/// A request, without its body.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
}

impl SeenRequest {
    /// The text of a header, where there is such a one.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether it begins an object: a put that is no part of an upload, the beginning of an upload, or a copy.
    #[must_use]
    pub fn begins_an_object(&self) -> bool {
        match self.method.as_str() {
            "PUT" => !self.target.contains("partNumber="),
            "POST" => self.target.contains("?uploads"),
            _ => false,
        }
    }
}

/// The requests of a server, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenRequests(Arc<Mutex<Vec<SeenRequest>>>);

impl SeenRequests {
    pub(crate) fn all(&self) -> Vec<SeenRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A layer that notes every request.
pub(crate) async fn note(State(seen): State<SeenRequests>, request: Request, next: Next) -> Response {
    let target = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let noted = SeenRequest { method: request.method().clone(), target, headers: request.headers().clone() };
    seen.0.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
    next.run(request).await
}
