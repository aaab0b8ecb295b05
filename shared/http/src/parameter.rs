//! What stands in the path, the query and the headers of a request.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use firebackup_control::{ControlError, Page};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use crate::authentication::one;
use crate::failure::Failure;
use crate::state::HttpState;

/// Makes a request that is sent twice one request.
pub(crate) const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// The longest idempotency key.
const MAX_IDEMPOTENCY_KEY: usize = 255;

/// The ids in the path. A text that is no id names nothing, like the id of something that is not there.
#[derive(Debug)]
pub(crate) struct Ids<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<HttpState> for Ids<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Failure> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(ids)) => Ok(Self(ids)),
            Err(_) => Err(ControlError::not_found("thing: the path holds something that is not an id").into()),
        }
    }
}

/// The parameters of the query that `T` knows.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<HttpState> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Failure> {
        let Query(asked) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Failure::unreadable(said(&rejection.body_text())))?;
        Ok(Self(asked))
    }
}

/// What is wrong with a query, without the words of whoever reads it for us.
fn said(text: &str) -> String {
    text.strip_prefix("Failed to deserialize query string: ")
        .map_or_else(|| text.to_owned(), |why| format!("the query: {why}"))
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParameters {
    /// The number of the page, from 1. Reaches 10,000 entries far; beyond that a cursor does.
    #[param(minimum = 1, default = 1)]
    page: Option<u32>,
    /// How many entries.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// Where to go on: `meta.cursor` of the page before, for the same list.
    cursor: Option<String>,
}

impl From<PageParameters> for Page {
    fn from(asked: PageParameters) -> Self {
        let whole = Self::default();
        Self {
            page: asked.page.unwrap_or(whole.page),
            limit: asked.limit.unwrap_or(whole.limit),
            cursor: asked.cursor.filter(|cursor| !cursor.is_empty()),
        }
    }
}

/// How a client says it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct IdempotencyParameters {
    /// Sent again with the same key within 24 hours, the request is answered as it was the first time and starts
    /// nothing more.
    #[param(rename = "Idempotency-Key", required = false, value_type = String, pattern = "^[!-~]{1,255}$")]
    _idempotency_key: Option<String>,
}

/// The key under which a request is carried out once, where there is one.
#[derive(Debug)]
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

impl FromRequestParts<HttpState> for IdempotencyKey {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &HttpState) -> Result<Self, Failure> {
        let Some(key) = one(&parts.headers, IDEMPOTENCY_HEADER)? else { return Ok(Self(None)) };
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len()) {
            return Ok(Self(Some(key.to_owned())));
        }
        let expected = format!("{IDEMPOTENCY_HEADER}: expected 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters");
        Err(Failure::unreadable(expected))
    }
}
