//! The one place where a failure becomes a status, a body and a line in the log.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use firebackup_control::{Code, ControlError, Kind};
use tracing::{debug, error, warn};

use crate::envelope::{ErrorBody, ErrorEnvelope};

/// Seconds after which a backlog may have become smaller: a batch is folded within.
const BACKLOG_SECONDS: u32 = 30;

/// The code of a failure, for those whom the answer passes on its way out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefusedWith(pub(crate) Code);

/// A failure on its way to the client.
#[derive(Debug)]
pub struct Failure(ControlError);

impl Failure {
    /// The request cannot be read (400).
    pub(crate) fn unreadable(message: impl Into<String>) -> Self {
        Self(ControlError::new(Kind::Invalid, Code::InvalidRequest, message))
    }

    /// What the client is told apart by.
    pub(crate) const fn code(&self) -> Code {
        self.0.code
    }

    /// What the client is told.
    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The status: the kind's, but for what HTTP has a status of its own.
    pub(crate) const fn status(&self) -> StatusCode {
        match self.0.code {
            Code::MethodNotAllowed => return StatusCode::METHOD_NOT_ALLOWED,
            Code::PayloadTooLarge => return StatusCode::PAYLOAD_TOO_LARGE,
            Code::UnsupportedMediaType => return StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => {}
        }
        match self.0.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict | Kind::Cancelled => StatusCode::CONFLICT,
            Kind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Kind::Upstream => StatusCode::BAD_GATEWAY,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn log(&self) {
        let (code, causes) = (self.code().as_str(), causes(&self.0));
        match self.status() {
            StatusCode::INTERNAL_SERVER_ERROR => error!(code, causes, "a request failed"),
            status if status.is_server_error() => warn!(code, causes, "a request failed"),
            _ => debug!(code, causes, "a request was refused"),
        }
    }
}

/// What stands behind a failure. Its message is left out: it may repeat what a client sent.
fn causes(error: &ControlError) -> String {
    let mut text = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.log();
        let status = self.status();
        let kind = self.0.kind;
        let ControlError { code, message, details, .. } = self.0;
        let body = ErrorEnvelope::new(ErrorBody { code, message, details });
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(RefusedWith(code));
        if let Kind::TooMany { retry_after } = kind {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        if code == Code::BacklogFull {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(BACKLOG_SECONDS));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_status() {
        for (kind, status) in [
            (Kind::Invalid, 400),
            (Kind::Unauthorized, 401),
            (Kind::Forbidden, 403),
            (Kind::NotFound, 404),
            (Kind::Conflict, 409),
            (Kind::Cancelled, 409),
            (Kind::Unprocessable, 422),
            (Kind::TooMany { retry_after: 7 }, 429),
            (Kind::Internal, 500),
            (Kind::Upstream, 502),
            (Kind::Unavailable, 503),
        ] {
            let response = Failure(ControlError::new(kind, Code::Conflict, "no")).into_response();
            assert_eq!(response.status(), status, "{kind:?}");
            let retry_after = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(retry_after, (status == 429).then_some("7"));
            assert_eq!(response.headers().contains_key(header::WWW_AUTHENTICATE), status == 401);
        }
    }

    #[test]
    fn the_log_names_all_causes_and_nothing_of_the_message() {
        let inner = ControlError::new(Kind::Upstream, Code::GoogleFailed, "the inner one").with_source("the cause");
        let outer = ControlError::new(Kind::Internal, Code::Internal, "planted").with_source(inner);
        assert_eq!(causes(&outer), "the inner one: the cause");
    }
}
