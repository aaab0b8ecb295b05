//! Members of the organization.

use axum::extract::State;
use firebackup_control::{Member, MemberChange, UserId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Handled, HandledList, Removed};
use crate::authentication::Authenticated;
use crate::body::JsonBody;
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::parameter::{Asked, Ids, PageParameters};
use crate::state::HttpState;

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(members)).routes(routes!(update_member, remove_member))
}

/// Lists the members
#[utoipa::path(
    get,
    path = "/organizations/current/members",
    tag = "members",
    params(PageParameters),
    responses((status = 200, description = "A page of members.", body = ListEnvelope<Member>))
)]
async fn members(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(page): Asked<PageParameters>,
) -> HandledList<Member> {
    Ok(Listed(state.control.members(&caller, &page.into()).await?))
}

/// Changes the role of a member
///
/// Role: admin, and nobody has power over whoever may do more. The last owner stays one.
#[utoipa::path(
    put,
    path = "/organizations/current/members/{userId}",
    tag = "members",
    params(("userId" = UserId, Path, description = "The member.")),
    request_body = MemberChange,
    responses((status = 200, description = "The member as they are now.", body = Envelope<Member>))
)]
async fn update_member(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<UserId>,
    JsonBody(change): JsonBody<MemberChange>,
) -> Handled<Member> {
    Ok(Answer::of(state.control.update_member(&caller, &id, change).await?))
}

/// Takes a member out
///
/// Role: admin; everybody may leave. The last owner cannot.
#[utoipa::path(
    delete,
    path = "/organizations/current/members/{userId}",
    tag = "members",
    params(("userId" = UserId, Path, description = "The member.")),
    responses((status = 200, description = "They are no member any more.", body = Envelope<Removed>))
)]
async fn remove_member(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<UserId>,
) -> Handled<Removed> {
    state.control.remove_member(&caller, &id).await?;
    Ok(Removed::answer(id))
}
