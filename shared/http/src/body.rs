//! JSON bodies, and what is said of those that are none.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use firebackup_control::{Code, ControlError, Kind};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::json;

use crate::failure::Failure;
use crate::needs::Body;
use crate::refusal::KnownCaller;
use crate::state::HttpState;

/// The largest body that is read.
pub(crate) const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How long a body may take to come.
const BODY_LIMIT: Duration = Duration::from_secs(30);

/// A body that was read as a `T`.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: Body> FromRequest<HttpState> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &HttpState) -> Result<Self, Failure> {
        check_right::<T>(&request)?;
        if !is_json(request.headers()) {
            let message = "the body must be JSON: `Content-Type: application/json`";
            return Err(ControlError::new(Kind::Invalid, Code::UnsupportedMediaType, message).into());
        }
        parse(&read(request, state, MAX_BODY_BYTES).await?).map(Self)
    }
}

/// A body, of which the route takes `most` bytes.
pub(crate) async fn read(request: Request, state: &HttpState, most: usize) -> Result<Bytes, Failure> {
    let reading = tokio::time::timeout(BODY_LIMIT, Bytes::from_request(request, state)).await;
    let read = reading.map_err(|_| Failure::unreadable("the body did not come within half a minute"))?;
    read.map_err(|rejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(most),
        _ => Failure::unreadable("the body broke off"),
    })
}

/// Who was found to call stands first among a handler's arguments.
fn check_right<T: Body>(request: &Request) -> Result<(), ControlError> {
    let known = request.extensions().get::<KnownCaller>();
    match (T::NEEDS, known.and_then(KnownCaller::caller)) {
        (Some(right), Some(caller)) => caller.may(right),
        _ => Ok(()),
    }
}

fn too_large(most: usize) -> Failure {
    let message = format!("the body has more than {most} bytes");
    ControlError::new(Kind::Invalid, Code::PayloadTooLarge, message).into()
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        // the decoder takes what is no name, where it expects one, for an error of syntax
        match error.inner().is_syntax() && serde_json::from_slice::<serde_json::Value>(bytes).is_ok() {
            true => invalid(&path, "expected a name, in quotes".to_owned()),
            false => explain(&path, error.inner()),
        }
    })?;
    reader.end().map_err(|error| explain(".", &error))?;
    // the decoder takes a list of a request's fields for the request
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        let message = "expected an object, in braces";
        return Err(ControlError::new(Kind::Unprocessable, Code::ValidationFailed, message).into());
    }
    Ok(value)
}

/// What is wrong with a body: where, and what is expected. What was sent there is not repeated: it may be a secret that
/// stands in the wrong place.
fn explain(path: &str, error: &serde_json::Error) -> Failure {
    let (line, column) = (error.line(), error.column());
    if error.classify() != Category::Data {
        return Failure::unreadable(format!("the body is not JSON, from line {line}, column {column} on"));
    }
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let text = match text.split_once(", expected ") {
        Some((what, expected)) if !what.starts_with("unknown field") && !expected.starts_with("struct ") => {
            format!("expected {expected}")
        }
        // what our types are called says nothing to whoever asks
        _ if text.contains("expected struct ") => "expected an object, in braces".to_owned(),
        _ => text.to_owned(),
    };
    invalid(path, text)
}

fn invalid(path: &str, text: String) -> Failure {
    let message = if path == "." { text } else { format!("{path}: {text}") };
    let details = if path == "." { json!({}) } else { json!({ "field": path }) };
    ControlError::new(Kind::Unprocessable, Code::ValidationFailed, message).with_details(details).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::http::HeaderValue;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "name")]
        _name: String,
        #[serde(default, rename = "options")]
        _options: BTreeMap<String, u8>,
        #[serde(default, rename = "kind")]
        _kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Full,
    }

    #[test]
    fn says_where_and_what_is_expected_and_never_what_was_sent() {
        for (body, status, expect) in [
            (r#"{"name":"#, 400, "not JSON"),
            (r#"{"name":"a"} planted"#, 400, "not JSON"),
            (r#"{"name":1}"#, 422, "name: expected a string"),
            (r#" ["a", {"b": 1}]"#, 422, "expected an object"),
            (r#"{"name":"a","options":"planted"}"#, 422, "options: expected a map"),
            (r#"{"name":"a","options":{"b":"planted"}}"#, 422, "options.b: expected u8"),
            (r#"{"name":"a","nam":1}"#, 422, "unknown field `nam`, expected one of `name`, `options`, `kind`"),
            (r#"{"name":"a","kind":3}"#, 422, "kind: expected a name, in quotes"),
            (r#"{"name":"a","kind":["planted"]}"#, 422, "kind: expected a name, in quotes"),
            (r#"{"name":"a","kind":"planted"}"#, 422, "kind: expected `full`"),
            (r#"{"name":"a","kind":3"#, 400, "not JSON"),
            (r#"{"name":"a","name":"b"}"#, 422, "duplicate field `name`"),
            ("{}", 422, "missing field `name`"),
            (r#""planted""#, 422, "expected an object"),
            ("", 400, "not JSON"),
        ] {
            let failure = parse::<Sample>(body.as_bytes()).unwrap_err();
            let text = format!("{failure:?}");
            assert_eq!(failure.status(), status, "{body}");
            assert!(text.contains(expect), "{body}: {text}");
            assert!(!text.contains("planted"), "{body}: {text}");
        }
        assert!(parse::<Sample>(br#" {"name":"a","kind":"full"} "#).is_ok());
    }

    #[test]
    fn a_body_that_is_nested_too_deep_is_refused() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(parse::<serde_json::Value>(deep.as_bytes()).unwrap_err().status(), 400);
    }

    #[test]
    fn knows_json_by_its_content_type() {
        for (value, expect) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/merge-patch+json", true),
            ("text/json", false),
            ("text/plain", false),
            ("application/jsonx", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_json(&headers), expect, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
