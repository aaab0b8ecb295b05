//! Events of changes, as Google's Eventarc and Pub/Sub post them: no session, and a proof of their own.

use std::fmt;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderMap;
use firebackup_control::{EventProof, EventTaken, ProjectId, Signed};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::Handled;
use super::pitr::DatabaseParameters;
use crate::authentication::{Authenticated, bearer, one};
use crate::body;
use crate::envelope::{Answer, Envelope};
use crate::failure::Failure;
use crate::parameter::{Asked, Ids};
use crate::state::HttpState;

/// The largest event that is read: more than Pub/Sub delivers, wrapped in base64.
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// What events are signed with.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventsSecret {
    /// After the Standard Webhooks specification. It is shown this once.
    #[schema(read_only, example = "whsec_…")]
    secret: String,
}

impl fmt::Debug for EventsSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventsSecret(..)")
    }
}

impl From<Zeroizing<String>> for EventsSecret {
    fn from(secret: Zeroizing<String>) -> Self {
        Self { secret: secret.to_string() }
    }
}

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    let events = OpenApiRouter::default().routes(routes!(take_event)).layer(DefaultBodyLimit::max(MAX_EVENT_BYTES));
    OpenApiRouter::default().routes(routes!(exchange_push_secret)).merge(events)
}

/// Takes an event of a change
///
/// For senders: Firestore's events of documents that were created, updated, deleted or written (`google.cloud.firestore.document.v1.*`),
/// one a request, of at most 16 MiB. It is a CloudEvent in binary mode (`ce-…` headers, the body in protobuf or JSON) or in
/// structured mode (`application/cloudevents+json`), or either of them as Pub/Sub pushes it, wrapped or not. The proof is an id
/// token of the service account that the database's `push` names (`Authorization: Bearer …`), or the headers `webhook-id`,
/// `webhook-timestamp` and `webhook-signature`, not older than five minutes. What can never be taken is answered with 202 and
/// `refused` too, so that nobody sends it again and again; anything but a 2xx may be sent again.
#[utoipa::path(
    post,
    path = "/pitr/{projectId}/events",
    tag = "pitr",
    security(()),
    params(("projectId" = ProjectId, Path, description = "The project."), DatabaseParameters),
    request_body(content = Object, content_type = "application/cloudevents+json", description = "The event."),
    responses((status = 202, description = "What became of it.", body = Envelope<EventTaken>))
)]
async fn take_event(
    State(state): State<HttpState>,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<DatabaseParameters>,
    request: Request,
) -> Handled<EventTaken> {
    let proof = proof(request.headers())?;
    let sender = state.control.event_sender(&project, asked.database.as_deref(), proof).await?;
    let headers = request.headers().clone();
    let body = body::read(request, &state, MAX_EVENT_BYTES).await?;
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    Ok(Answer::accepted(state.control.take_event(sender, &headers, &body).await?))
}

/// What proves who posts it; a signature goes before a token.
fn proof(headers: &HeaderMap) -> Result<Option<EventProof>, Failure> {
    if let Some(signature) = one(headers, "webhook-signature")? {
        let part = |name| Ok::<_, Failure>(one(headers, name)?.unwrap_or_default().to_owned());
        let (id, timestamp) = (part("webhook-id")?, part("webhook-timestamp")?);
        return Ok(Some(EventProof::Signed(Signed { id, timestamp, signature: signature.to_owned() })));
    }
    Ok(bearer(headers).ok().map(|token| EventProof::Token(token.to_owned().into())))
}

/// Makes the secret that events are signed with, or exchanges it
///
/// Role: admin. The secret is shown this once. For 24 hours the one before is good too.
#[utoipa::path(
    post,
    path = "/pitr/{projectId}/events/secret",
    tag = "pitr",
    params(("projectId" = ProjectId, Path, description = "The project."), DatabaseParameters),
    responses((status = 201, description = "The secret.", body = Envelope<EventsSecret>))
)]
async fn exchange_push_secret(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<DatabaseParameters>,
) -> Handled<EventsSecret> {
    let secret = state.control.exchange_push_secret(&caller, &project, asked.database.as_deref()).await?;
    Ok(Answer::created(secret.into()))
}
