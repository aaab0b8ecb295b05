//! Invites into the organization.

use std::fmt;

use axum::extract::State;
use firebackup_control::{Invite, InviteId, NewInvite, Organization, Right};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::{Handled, HandledList, Removed};
use crate::authentication::{Authenticated, SignedIn};
use crate::body::JsonBody;
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::needs::Body;
use crate::parameter::{Asked, Ids, PageParameters};
use crate::state::HttpState;

/// An invite with its token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SentInvite {
    /// What is kept of it.
    #[serde(flatten)]
    facts: Invite,
    /// For whoever is invited, who presents it at `POST /organizations/invites/accept`. It is shown this once.
    #[schema(read_only, example = "fbi_…")]
    token: String,
}

impl fmt::Debug for SentInvite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentInvite").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl From<(Invite, Zeroizing<String>)> for SentInvite {
    fn from((facts, token): (Invite, Zeroizing<String>)) -> Self {
        Self { facts, token: token.to_string() }
    }
}

/// An invite that is taken.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Acceptance {
    /// The token of the invite.
    #[schema(write_only, example = "fbi_…")]
    token: String,
}

impl Body for Acceptance {
    const NEEDS: Option<Right> = None;
}

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(invites, invite))
        .routes(routes!(revoke_invite))
        .routes(routes!(resend_invite))
        .routes(routes!(accept_invite))
}

/// Lists the open invites
///
/// Role: admin.
#[utoipa::path(
    get,
    path = "/organizations/current/invites",
    tag = "members",
    params(PageParameters),
    responses((status = 200, description = "A page of invites.", body = ListEnvelope<Invite>))
)]
async fn invites(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(page): Asked<PageParameters>,
) -> HandledList<Invite> {
    Ok(Listed(state.control.invites(&caller, &page.into()).await?))
}

/// Invites somebody
///
/// Role: admin, and nobody grants more than their own role. Hand the token to whoever is invited: it is good once, for seven
/// days, and for whoever signs in with that address.
#[utoipa::path(
    post,
    path = "/organizations/current/invites",
    tag = "members",
    request_body = NewInvite,
    responses((status = 201, description = "The invite, with its token.", body = Envelope<SentInvite>))
)]
async fn invite(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewInvite>,
) -> Handled<SentInvite> {
    Ok(Answer::created(state.control.invite(&caller, new).await?.into()))
}

/// Takes an invite back
///
/// Role: admin.
#[utoipa::path(
    delete,
    path = "/organizations/current/invites/{inviteId}",
    tag = "members",
    params(("inviteId" = InviteId, Path, description = "The invite.")),
    responses((status = 200, description = "It is no good any more.", body = Envelope<Removed>))
)]
async fn revoke_invite(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<InviteId>,
) -> Handled<Removed> {
    state.control.revoke_invite(&caller, &id).await?;
    Ok(Removed::answer(id))
}

/// Gives an invite another token
///
/// Role: admin. It is good for another seven days; the token before is not any more.
#[utoipa::path(
    post,
    path = "/organizations/current/invites/{inviteId}/resend",
    tag = "members",
    params(("inviteId" = InviteId, Path, description = "The invite.")),
    responses((status = 200, description = "The invite, with its token.", body = Envelope<SentInvite>))
)]
async fn resend_invite(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<InviteId>,
) -> Handled<SentInvite> {
    Ok(Answer::of(state.control.resend_invite(&caller, &id).await?.into()))
}

/// Takes an invite
///
/// Whoever is signed in with the address that was invited becomes a member.
#[utoipa::path(
    post,
    path = "/organizations/invites/accept",
    tag = "members",
    request_body = Acceptance,
    responses((status = 200, description = "The organization that was joined.", body = Envelope<Organization>))
)]
async fn accept_invite(
    State(state): State<HttpState>,
    SignedIn(person): SignedIn,
    JsonBody(acceptance): JsonBody<Acceptance>,
) -> Handled<Organization> {
    Ok(Answer::of(state.control.accept_invite(&person, &acceptance.token).await?))
}
