//! Restores that were started.

use axum::extract::State;
use firebackup_control::RestoreJob;
use firebackup_model::id::JobId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Handled, HandledList};
use crate::authentication::Authenticated;
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::parameter::{Asked, Ids, PageParameters};
use crate::state::HttpState;

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(restores)).routes(routes!(restore)).routes(routes!(cancel_restore))
}

/// Lists the restores, newest first
#[utoipa::path(
    get,
    path = "/restores",
    tag = "restores",
    params(PageParameters),
    responses((status = 200, description = "A page of restores.", body = ListEnvelope<RestoreJob>))
)]
async fn restores(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(page): Asked<PageParameters>,
) -> HandledList<RestoreJob> {
    Ok(Listed(state.control.restores(&caller, &page.into()).await?))
}

/// Shows a restore, with how far it has come
#[utoipa::path(
    get,
    path = "/restores/{restoreId}",
    tag = "restores",
    params(("restoreId" = String, Path, description = "The restore.")),
    responses((status = 200, description = "The restore.", body = Envelope<RestoreJob>))
)]
async fn restore(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<JobId>,
) -> Handled<RestoreJob> {
    Ok(Answer::of(state.control.restore(&caller, &id).await?))
}

/// Cancels a restore that has not ended
///
/// Role: member. What it has written stays; where it keeps an undo, the restore can be taken back.
#[utoipa::path(
    post,
    path = "/restores/{restoreId}/cancel",
    tag = "restores",
    params(("restoreId" = String, Path, description = "The restore.")),
    responses((status = 202, description = "The restore, which is about to end.", body = Envelope<RestoreJob>))
)]
async fn cancel_restore(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<JobId>,
) -> Handled<RestoreJob> {
    Ok(Answer::accepted(state.control.cancel_restore(&caller, &id).await?))
}
