//! Who is told of what happens.

use std::fmt;

use axum::extract::State;
use firebackup_control::{Delivery, DeliveryId, NewWebhook, Webhook, WebhookChange, WebhookId};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::{Handled, HandledList, Removed};
use crate::authentication::Authenticated;
use crate::body::JsonBody;
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::parameter::{Asked, Ids, PageParameters};
use crate::state::HttpState;

/// A webhook with its secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MadeWebhook {
    /// What is kept of it.
    #[serde(flatten)]
    facts: Webhook,
    /// What deliveries are signed with, after the Standard Webhooks specification; Slack's have none. It is shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only, nullable = false, example = "whsec_…")]
    secret: Option<String>,
}

impl fmt::Debug for MadeWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeWebhook").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl From<(Webhook, Option<Zeroizing<String>>)> for MadeWebhook {
    fn from((facts, secret): (Webhook, Option<Zeroizing<String>>)) -> Self {
        Self { facts, secret: secret.map(|secret| secret.to_string()) }
    }
}

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(webhooks, create_webhook))
        .routes(routes!(webhook, update_webhook, remove_webhook))
        .routes(routes!(toggle_webhook))
        .routes(routes!(test_webhook))
        .routes(routes!(exchange_webhook_secret))
        .routes(routes!(deliveries))
        .routes(routes!(redeliver))
}

/// Lists the webhooks
#[utoipa::path(
    get,
    path = "/webhooks",
    tag = "webhooks",
    params(PageParameters),
    responses((status = 200, description = "A page of webhooks.", body = ListEnvelope<Webhook>))
)]
async fn webhooks(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(page): Asked<PageParameters>,
) -> HandledList<Webhook> {
    Ok(Listed(state.control.webhooks(&caller, &page.into()).await?))
}

/// Makes a webhook
///
/// Role: admin. Keep the secret: with it a receiver proves that what it is told comes from here. Address and secret are not shown
/// again. An address on this machine or in its network is refused, unless the installation allows it.
#[utoipa::path(
    post,
    path = "/webhooks",
    tag = "webhooks",
    request_body = NewWebhook,
    responses((status = 201, description = "The webhook, with its secret.", body = Envelope<MadeWebhook>))
)]
async fn create_webhook(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewWebhook>,
) -> Handled<MadeWebhook> {
    Ok(Answer::created(state.control.create_webhook(&caller, new).await?.into()))
}

/// Shows a webhook
#[utoipa::path(
    get,
    path = "/webhooks/{webhookId}",
    tag = "webhooks",
    params(("webhookId" = WebhookId, Path, description = "The webhook.")),
    responses((status = 200, description = "The webhook.", body = Envelope<Webhook>))
)]
async fn webhook(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<WebhookId>,
) -> Handled<Webhook> {
    Ok(Answer::of(state.control.webhook(&caller, &id).await?))
}

/// Changes a webhook
///
/// Role: admin. Its type stays, and so does its secret.
#[utoipa::path(
    put,
    path = "/webhooks/{webhookId}",
    tag = "webhooks",
    params(("webhookId" = WebhookId, Path, description = "The webhook.")),
    request_body = WebhookChange,
    responses((status = 200, description = "The webhook as it is now.", body = Envelope<Webhook>))
)]
async fn update_webhook(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<WebhookId>,
    JsonBody(change): JsonBody<WebhookChange>,
) -> Handled<Webhook> {
    Ok(Answer::of(state.control.update_webhook(&caller, &id, change).await?))
}

/// Exchanges the secret of a webhook
///
/// Role: admin. The new secret is shown this once. For 24 hours deliveries are signed with the one before, too:
/// `webhook-signature` holds both signatures, as the Standard Webhooks specification says. Slack's have no secret.
#[utoipa::path(
    post,
    path = "/webhooks/{webhookId}/secret",
    tag = "webhooks",
    params(("webhookId" = WebhookId, Path, description = "The webhook.")),
    responses((status = 200, description = "The webhook, with its new secret.", body = Envelope<MadeWebhook>))
)]
async fn exchange_webhook_secret(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<WebhookId>,
) -> Handled<MadeWebhook> {
    let (webhook, secret) = state.control.exchange_webhook_secret(&caller, &id).await?;
    Ok(Answer::of((webhook, Some(secret)).into()))
}

/// Removes a webhook
///
/// Role: admin. What waits to be delivered to it is not, and its deliveries are shown no more.
#[utoipa::path(
    delete,
    path = "/webhooks/{webhookId}",
    tag = "webhooks",
    params(("webhookId" = WebhookId, Path, description = "The webhook.")),
    responses((status = 200, description = "It was removed.", body = Envelope<Removed>))
)]
async fn remove_webhook(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<WebhookId>,
) -> Handled<Removed> {
    state.control.remove_webhook(&caller, &id).await?;
    Ok(Removed::answer(id))
}

/// Enables a webhook that is disabled, and the other way round
///
/// Role: admin. What comes due while it is disabled is given up, and can be delivered on request later. To set it to one of the
/// two, send `enabled` to the webhook itself.
#[utoipa::path(
    patch,
    path = "/webhooks/{webhookId}/toggle",
    tag = "webhooks",
    params(("webhookId" = WebhookId, Path, description = "The webhook.")),
    responses((status = 200, description = "The webhook as it is now.", body = Envelope<Webhook>))
)]
async fn toggle_webhook(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<WebhookId>,
) -> Handled<Webhook> {
    Ok(Answer::of(state.control.toggle_webhook(&caller, &id).await?))
}

/// Tries a webhook
///
/// Role: admin. An event of type `webhook.test` is posted once and at once, whether the webhook is enabled or not; what came back
/// stands in the delivery.
#[utoipa::path(
    post,
    path = "/webhooks/{webhookId}/test",
    tag = "webhooks",
    params(("webhookId" = WebhookId, Path, description = "The webhook.")),
    responses((status = 200, description = "What came back.", body = Envelope<Delivery>))
)]
async fn test_webhook(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<WebhookId>,
) -> Handled<Delivery> {
    Ok(Answer::of(state.control.test_webhook(&caller, &id).await?))
}

/// Lists the deliveries to a webhook, the newest event first
///
/// They are kept for 30 days.
#[utoipa::path(
    get,
    path = "/webhooks/{webhookId}/deliveries",
    tag = "webhooks",
    params(("webhookId" = WebhookId, Path, description = "The webhook."), PageParameters),
    responses((status = 200, description = "A page of deliveries.", body = ListEnvelope<Delivery>))
)]
async fn deliveries(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<WebhookId>,
    Asked(page): Asked<PageParameters>,
) -> HandledList<Delivery> {
    Ok(Listed(state.control.deliveries(&caller, &id, &page.into()).await?))
}

/// Delivers an event once more
///
/// Role: admin. It is tried at once and then as often as a new one, whatever came of it before.
#[utoipa::path(
    post,
    path = "/webhooks/{webhookId}/deliveries/{deliveryId}/redeliver",
    tag = "webhooks",
    params(
        ("webhookId" = WebhookId, Path, description = "The webhook."),
        ("deliveryId" = DeliveryId, Path, description = "The delivery.")
    ),
    responses((status = 202, description = "The delivery, which waits to be tried.", body = Envelope<Delivery>))
)]
async fn redeliver(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids((webhook, delivery)): Ids<(WebhookId, DeliveryId)>,
) -> Handled<Delivery> {
    Ok(Answer::accepted(state.control.redeliver(&caller, &webhook, &delivery).await?))
}
