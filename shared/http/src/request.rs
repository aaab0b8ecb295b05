//! What every request is framed by: an id, a span, a line in the log, headers.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use firebackup_model::port::Random;
use tracing::{Instrument, info, info_span};

use crate::observer::{Answered, name_of};
use crate::state::HttpState;

/// Names a request in answers and in the log.
pub(crate) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a client.
const MAX_REQUEST_ID: usize = 64;

/// The id of a request.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// Frames a request. The span names the route and not the path, and neither query nor body.
pub(crate) async fn frame(State(state): State<HttpState>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers(), &*state.random);
    request.extensions_mut().insert(RequestId(id.clone()));
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("none", MatchedPath::as_str);
    let method = name_of(request.method());
    let span = info_span!(
        "request",
        request_id = id,
        method = %request.method(),
        route,
        organization = tracing::field::Empty,
        actor = tracing::field::Empty,
    );
    async move {
        let began = Instant::now();
        let mut response = next.run(request).await;
        let (took, status) = (began.elapsed(), response.status().as_u16());
        info!(status, millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "answered");
        state.observer.answered(&Answered { method, route, status, took });
        add_headers(response.headers_mut(), &id);
        response
    }
    .instrument(span)
    .await
}

/// The client's own id where it is one that can stand in a log, else a new one.
fn request_id(headers: &HeaderMap, random: &dyn Random) -> String {
    let sent = headers.get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
    sent.filter(|id| is_sane(id)).map_or_else(|| new_id(random), str::to_owned)
}

fn is_sane(id: &str) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// An id that nobody guesses.
pub(crate) fn new_id(random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}

fn add_headers(headers: &mut HeaderMap, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID_HEADER, value);
    }
    // answers hold keys that are shown once: nobody in between may keep them
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sevens;

    impl Random for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0x77);
        }
    }

    #[test]
    fn an_id_is_taken_over_only_if_it_is_sane() {
        let made = "7".repeat(32);
        for (sent, expect) in [
            ("abc-1.2_3", "abc-1.2_3"),
            ("", made.as_str()),
            ("with space", &made),
            ("quote\"", &made),
            (&"a".repeat(65), &made),
        ] {
            let headers = HeaderMap::from_iter([(REQUEST_ID_HEADER, HeaderValue::from_str(sent).unwrap())]);
            assert_eq!(request_id(&headers, &Sevens), expect, "{sent}");
        }
        assert_eq!(request_id(&HeaderMap::new(), &Sevens), made);
    }
}
