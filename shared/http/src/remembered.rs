//! Answers that are the same until something changes: lists that read nothing but the store.
//!
//! Where the store can say at no cost whether anything was changed in it, by whomever, an answer to a caller is kept for as long as
//! nothing was, and at most for a second: what changes with time alone (an expired key, the next run of a schedule) is no
//! later than that. A key that is revoked, a member who is taken out, are changes. `Cache-Control: no-cache` asks for an
//! answer that is made anew.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use firebackup_control::Caller;
use sha2::{Digest, Sha256};

use crate::authentication::{ORGANIZATION_HEADER, record_caller};
use crate::refusal::KnownCaller;
use crate::state::HttpState;

/// Says whether anything has changed in the store.
pub trait Changes: Send + Sync {
    /// Another number after every change, whoever made it; nothing where it cannot be told.
    fn version(&self) -> Option<i64>;
}

/// Routes that read nothing but the store.
const ROUTES: &[&str] = &[
    "/api/v1/projects",
    "/api/v1/backups/project/{projectId}",
    "/api/v1/restores",
    "/api/v1/schedules",
    "/api/v1/schedules/project/{projectId}",
    "/api/v1/storage/destinations",
    "/api/v1/webhooks",
    "/api/v1/organizations/current/members",
    "/api/v1/organizations/current/invites",
    "/api/v1/organizations/current/service-account",
];
/// For how long an answer is kept where nothing changes.
const MOST_AGE: Duration = Duration::from_secs(1);
/// How many answers are kept, and the largest of them.
const MOST_ANSWERS: usize = 256;
const MOST_BYTES: u64 = 256 * 1024;

/// Answers of the last second.
#[derive(Clone)]
pub struct Remembered {
    changes: Arc<dyn Changes>,
    answers: Arc<Mutex<HashMap<[u8; 32], Answer>>>,
}

#[derive(Clone)]
struct Answer {
    version: i64,
    made: Instant,
    content_type: Option<HeaderValue>,
    body: Bytes,
    caller: Caller,
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembered").finish_non_exhaustive()
    }
}

impl Remembered {
    /// Remembers answers for as long as `changes` says that nothing has changed.
    #[must_use]
    pub fn new(changes: Arc<dyn Changes>) -> Self {
        Self { changes, answers: Arc::default() }
    }

    fn find(&self, key: &[u8; 32], version: i64) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(key).filter(|answer| answer.version == version && answer.made.elapsed() < MOST_AGE).cloned()
    }

    fn keep(&self, key: [u8; 32], answer: Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST_ANSWERS {
            answers.clear();
        }
        answers.insert(key, answer);
    }
}

impl Answer {
    fn response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        if let Some(kind) = self.content_type {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    }
}

/// Answers from memory where that is the same.
pub(crate) async fn remembering(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    let Some(remembered) = state.remembered.filter(|_| may_be_kept(&request)) else { return next.run(request).await };
    // before anything is read: what changes meanwhile makes the answer one of a version before
    let Some(version) = remembered.changes.version() else { return next.run(request).await };
    let key = key_of(&request);
    if let Some(answer) = remembered.find(&key, version) {
        record_caller(&answer.caller);
        return answer.response();
    }
    let known = request.extensions().get::<KnownCaller>().cloned();
    let response = next.run(request).await;
    let caller = known.and_then(|known| known.caller().cloned());
    match caller.filter(|_| response.status() == StatusCode::OK) {
        Some(caller) => kept(&remembered, (key, version), caller, response).await,
        None => response,
    }
}

/// Keeps an answer that is not too large.
async fn kept(
    remembered: &Remembered,
    (key, version): ([u8; 32], i64),
    caller: Caller,
    response: Response,
) -> Response {
    if response.body().size_hint().exact().is_none_or(|bytes| bytes > MOST_BYTES) {
        return response;
    }
    let (parts, body) = response.into_parts();
    // a body whose size is known is in memory
    let Ok(body) = to_bytes(body, MOST_BYTES as usize).await else {
        return Response::from_parts(parts, Body::empty());
    };
    let content_type = parts.headers.get(header::CONTENT_TYPE).cloned();
    remembered.keep(key, Answer { version, made: Instant::now(), content_type, body: body.clone(), caller });
    Response::from_parts(parts, Body::from(body))
}

fn may_be_kept(request: &Request) -> bool {
    let is_list = request.extensions().get::<MatchedPath>().is_some_and(|route| ROUTES.contains(&route.as_str()));
    let once = |name: &str| request.headers().get_all(name).iter().count() <= 1;
    request.method() == Method::GET
        && is_list
        && !wants_anew(request.headers())
        && once("authorization")
        && once(ORGANIZATION_HEADER)
}

fn wants_anew(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CACHE_CONTROL) || headers.contains_key(header::PRAGMA)
}

/// Of whom what is asked: nothing of it can be read out of the key.
fn key_of(request: &Request) -> [u8; 32] {
    let mut hash = Sha256::new();
    for name in ["authorization", ORGANIZATION_HEADER] {
        let value = request.headers().get(name).map_or(&b""[..], HeaderValue::as_bytes);
        hash.update((value.len() as u64).to_le_bytes());
        hash.update(value);
    }
    hash.update(request.uri().path_and_query().map_or("", |path| path.as_str()));
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_only_read() {
        let document = serde_json::to_value(crate::openapi()).unwrap();
        for route in ROUTES {
            assert!(document["paths"][route]["get"].is_object(), "{route}");
        }
    }
}
