//! What every answer is wrapped in.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use firebackup_control::{Code, Paged};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};

use crate::openapi::describe_codes;

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Envelope<T> {
    /// Always true.
    #[schema(schema_with = only_true)]
    success: bool,
    /// What was asked for.
    data: T,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListEnvelope<T> {
    /// Always true.
    #[schema(schema_with = only_true)]
    success: bool,
    /// The entries; may be fewer than `meta.limit`, even none, where more follow.
    data: Vec<T>,
    /// Where in the list they stand.
    meta: Meta,
}

/// Where in a list a page stands.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta {
    /// The number of the page, as asked for.
    page: u32,
    /// How many entries were asked for.
    limit: u32,
    /// How many entries there are; null where they were not counted (more than 100, or a cursor was given).
    #[schema(required)]
    total: Option<u64>,
    /// How many pages there are; null where `total` is.
    #[schema(required)]
    total_pages: Option<u64>,
    /// Give it as `cursor` to go on; null at the end.
    #[schema(required)]
    cursor: Option<String>,
}

/// A failure.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorEnvelope {
    /// Always false.
    #[schema(schema_with = only_false)]
    success: bool,
    /// What went wrong.
    error: ErrorBody,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// For programs.
    #[schema(value_type = ErrorCode)]
    pub(crate) code: Code,
    /// For people.
    pub(crate) message: String,
    /// More, by code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub(crate) details: Option<Value>,
}

/// What programs tell failures apart by, as the document lists it.
pub(crate) struct ErrorCode;

impl utoipa::PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(describe_codes()))
            .enum_values(Some(Code::ALL.iter().map(|code| code.as_str())))
            .into()
    }
}

impl ToSchema for ErrorCode {}

impl ErrorEnvelope {
    pub(crate) const fn new(error: ErrorBody) -> Self {
        Self { success: false, error }
    }
}

fn only_true() -> Object {
    ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([true])).build()
}

fn only_false() -> Object {
    ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([false])).build()
}

/// What a handler answers with.
#[derive(Debug)]
pub(crate) struct Answer<T>(StatusCode, T);

impl<T> Answer<T> {
    /// 200: here it is.
    pub(crate) const fn of(data: T) -> Self {
        Self(StatusCode::OK, data)
    }

    /// 201: it was made.
    pub(crate) const fn created(data: T) -> Self {
        Self(StatusCode::CREATED, data)
    }

    /// 202: the work has begun, and is not done.
    pub(crate) const fn accepted(data: T) -> Self {
        Self(StatusCode::ACCEPTED, data)
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        (self.0, Json(Envelope { success: true, data: self.1 })).into_response()
    }
}

/// A page that a handler answers with.
#[derive(Debug)]
pub(crate) struct Listed<T>(pub(crate) Paged<T>);

impl<T: Serialize> IntoResponse for Listed<T> {
    fn into_response(self) -> Response {
        let (data, meta) = split(self.0);
        Json(ListEnvelope { success: true, data, meta }).into_response()
    }
}

fn split<T>(paged: Paged<T>) -> (Vec<T>, Meta) {
    let Paged { items, next, page, limit, total } = paged;
    let total_pages = total.map(|total| total.div_ceil(u64::from(limit.max(1))));
    (items, Meta { page, limit, total, total_pages, cursor: next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_where_entries_are() {
        for (total, pages) in [(None, None), (Some(0), Some(0)), (Some(20), Some(1)), (Some(21), Some(2))] {
            let (_, meta) = split(Paged::<u8> { items: vec![], next: None, page: 1, limit: 20, total });
            assert_eq!((meta.total, meta.total_pages), (total, pages));
        }
    }
}
