//! The audit log.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use firebackup_control::{AuditEntry, AuditFilter, ControlError, MAX_PAGE_LIMIT, Outcome, Page};
use firebackup_model::Timestamp;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::HandledList;
use crate::authentication::Authenticated;
use crate::envelope::{ListEnvelope, Listed};
use crate::failure::Failure;
use crate::parameter::{Asked, PageParameters};
use crate::state::HttpState;

/// Which entries are asked for.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct AuditParameters {
    /// Only those of this actor: the id of a user or of an API key, or `system`.
    actor: Option<String>,
    /// Only those of this action; one that ends with `.`, such as `project.`, stands for all that begin so.
    action: Option<String>,
    /// Only those about this id.
    resource: Option<String>,
    /// Only those of this outcome.
    outcome: Option<Outcome>,
    /// Not before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

/// Where an export goes on.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ExportParameters {
    /// What `x-next-cursor` said of the export before, with the same filters.
    cursor: Option<String>,
}

impl From<AuditParameters> for AuditFilter {
    fn from(asked: AuditParameters) -> Self {
        let AuditParameters { actor, action, resource, outcome, from, to } = asked;
        Self { actor, action, resource, outcome, from, to }
    }
}

/// Where an export that was too long for one answer goes on.
const NEXT_CURSOR: &str = "x-next-cursor";

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(audit)).routes(routes!(export_audit)).routes(routes!(strangers))
}

/// Lists what was done, and what was refused
///
/// Role: member. Newest first. Every change is an entry, written in one transaction with it; entries cannot be changed. An
/// attempt that is refused again and again is one entry a minute, with a count.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "audit",
    params(PageParameters, AuditParameters),
    responses((status = 200, description = "A page of entries.", body = ListEnvelope<AuditEntry>))
)]
async fn audit(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(page): Asked<PageParameters>,
    Asked(filter): Asked<AuditParameters>,
) -> HandledList<AuditEntry> {
    Ok(Listed(state.control.audit(&caller, &filter.into(), &page.into()).await?))
}

/// Exports entries as lines of JSON
///
/// Role: member. At most 2,000 entries an answer, newest first; where there are more, the header `x-next-cursor` says where
/// to go on.
#[utoipa::path(
    get,
    path = "/audit/export",
    tag = "audit",
    params(AuditParameters, ExportParameters),
    responses((status = 200, description = "An entry a line.", body = String, content_type = "application/x-ndjson"))
)]
async fn export_audit(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(filter): Asked<AuditParameters>,
    Asked(from): Asked<ExportParameters>,
) -> Result<Response, Failure> {
    let filter = filter.into();
    let (mut lines, mut count) = (String::new(), 0);
    let mut cursor = from.cursor.filter(|cursor| !cursor.is_empty());
    loop {
        let page = Page { page: 1, limit: MAX_PAGE_LIMIT, cursor };
        let page = state.control.audit(&caller, &filter, &page).await?;
        for entry in &page.items {
            lines.push_str(&serde_json::to_string(entry).map_err(ControlError::internal)?);
            lines.push('\n');
        }
        count += page.items.len() as u32;
        cursor = page.next;
        if cursor.is_none() || count + MAX_PAGE_LIMIT > firebackup_control::MAX_EXPORTED {
            break;
        }
    }
    let mut response = ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response();
    if let Some(cursor) = cursor.and_then(|cursor| cursor.parse().ok()) {
        response.headers_mut().insert(NEXT_CURSOR, cursor);
    }
    Ok(response)
}

/// Lists strangers who were refused
///
/// Role: owner of the installation's first organization. Whoever came without credentials that are good, in the last 90 days:
/// one entry an address and minute.
#[utoipa::path(
    get,
    path = "/audit/strangers",
    tag = "audit",
    params(PageParameters),
    responses((status = 200, description = "A page of entries.", body = ListEnvelope<AuditEntry>))
)]
async fn strangers(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(page): Asked<PageParameters>,
) -> HandledList<AuditEntry> {
    Ok(Listed(state.control.strangers(&caller, &page.into()).await?))
}
