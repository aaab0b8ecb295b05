//! Deliveries: that a webhook is told of an event, and what came of it.

use std::time::Duration;

use firebackup_model::Timestamp;
use firebackup_model::port::{DomainEvent, ItemKey, ItemWrite, MAX_DELAY, NewItem};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::audit::{Act, id_of};
use crate::control::Control;
use crate::error::{Code, ControlError, Result};
use crate::id::{AuditId, DeliveryId, OrganizationId, WebhookId};
use crate::job_records::in_days;
use crate::page::{Page, Paged};
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::Right;
use crate::tenant::{Caller, OrganizationScope};
use crate::webhook::WebhookRecord;

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// It is being tried, or will be again.
    Pending,
    /// It was answered with a status of 200 to 299.
    Delivered,
    /// It was tried for a day in vain, or the webhook is disabled or gone; it is tried again on request only.
    Dead,
}

/// That a webhook is told of an event. It is kept for 30 days.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Names it.
    pub id: DeliveryId,
    /// Who is told.
    pub webhook_id: WebhookId,
    /// Which event: what `webhook-id` says at every try.
    pub event_id: String,
    /// Such as `backup.completed`.
    pub event_type: String,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// What happened: `data` of the payload.
    #[schema(value_type = Object)]
    pub data: Value,
    /// How it stands.
    pub status: DeliveryStatus,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again at the latest, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// When the last try began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_attempt_at: Option<Timestamp>,
    /// The status that the last try was answered with, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How many milliseconds the last try took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_milliseconds: Option<u64>,
    /// When it was first to be tried.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A delivery, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryRecord {
    #[serde(flatten)]
    pub(crate) delivery: Delivery,
    /// How many tries have begun since it was made or asked for again: where it stands in the series of delays.
    pub(crate) tries: u32,
}

/// Asks for one try of a delivery. Once that try has begun the message stands for nothing, however often it comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryMessage {
    /// Which.
    pub delivery: DeliveryId,
    /// To which webhook.
    pub webhook: WebhookId,
    /// Whose.
    pub organization: OrganizationId,
    /// Which try, from 1.
    pub attempt: u32,
}

/// How long a delivery is kept.
const KEPT_DAYS: i64 = 30;
/// The event that [`Control::test_webhook`] makes up.
const TEST: &str = "webhook.test";

impl DeliveryRecord {
    /// That `webhook` is told of `event`, from `now` on. Its id is made of both, so that an event that comes twice is one
    /// delivery.
    pub(crate) fn new(webhook: &WebhookId, event: &DomainEvent, now: Timestamp) -> Self {
        let id = id_of(event.timestamp, &[&webhook.to_string(), &event.id]).ulid().into();
        let delivery = Delivery {
            id,
            webhook_id: *webhook,
            event_id: event.id.clone(),
            event_type: event.kind.clone(),
            timestamp: event.timestamp,
            data: event.data.clone(),
            status: DeliveryStatus::Pending,
            attempts: 0,
            next_attempt_at: Some(now),
            last_attempt_at: None,
            last_status: None,
            last_error: None,
            last_milliseconds: None,
            created_at: now,
        };
        Self { delivery, tries: 0 }
    }

    /// The event that it tells of.
    pub(crate) fn event(&self, organization: OrganizationId) -> DomainEvent {
        let delivery = &self.delivery;
        DomainEvent {
            id: delivery.event_id.clone(),
            kind: delivery.event_type.clone(),
            timestamp: delivery.timestamp,
            organization: organization.to_string(),
            data: delivery.data.clone(),
        }
    }

    fn item(&self, scope: &OrganizationScope, key: ItemKey) -> Result<NewItem> {
        let delivery = &self.delivery;
        let is_waiting = delivery.status == DeliveryStatus::Pending;
        let until = delivery.next_attempt_at.filter(|_| is_waiting);
        let index = until.map(|until| scope.waiting_delivery(until, &delivery.id));
        let expires = Some(in_days(delivery.created_at, KEPT_DAYS));
        Ok(NewItem { expires, ..new_item(key, self, index)? })
    }

    pub(crate) fn create(&self, scope: &OrganizationScope) -> Result<ItemWrite> {
        let key = scope.delivery_key(&self.delivery.webhook_id, &self.delivery.id);
        Ok(ItemWrite::Create(self.item(scope, key)?))
    }
}

impl Stored<DeliveryRecord> {
    pub(crate) fn replace_delivery(&self, scope: &OrganizationScope) -> Result<ItemWrite> {
        Ok(ItemWrite::Replace(self.value.item(scope, self.key.clone())?, self.version))
    }
}

impl Control {
    /// The deliveries to a webhook, the newest event first.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the webhook.
    pub async fn deliveries(&self, caller: &Caller, id: &WebhookId, page: &Page) -> Result<Paged<Delivery>> {
        caller.may(Right::Read)?;
        self.webhook_record(caller.scope(), id).await?;
        self.list(caller.scope().deliveries(id), page, |record: DeliveryRecord| Some(record.delivery)).await
    }

    /// Tries a delivery again, at once and as often as a new one, whatever came of it before.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`Conflict`](Code::Conflict) while the webhook is disabled.
    pub async fn redeliver(&self, caller: &Caller, webhook: &WebhookId, id: &DeliveryId) -> Result<Delivery> {
        caller.may(Right::Manage)?;
        let scope = caller.scope();
        if !self.webhook_record(scope, webhook).await?.value.webhook.enabled {
            return Err(ControlError::conflict(Code::Conflict, "the webhook is disabled"));
        }
        for _ in 0..MAX_ATTEMPTS {
            let mut stored = self.found::<DeliveryRecord>(&scope.delivery_key(webhook, id), "delivery").await?;
            let record = &mut stored.value;
            record.tries = 0;
            record.delivery.status = DeliveryStatus::Pending;
            record.delivery.next_attempt_at = Some(self.now());
            let act = Act::new("webhook.redelivered", webhook).with(json!({ "delivery": id }));
            if self.commit(caller.author(), act, vec![stored.replace_delivery(scope)?]).await? == Written::Yes {
                // where the queue fails the sweep asks again
                self.ask_to_deliver(scope, &stored.value).await;
                return Ok(stored.value.delivery);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Posts an event that nothing has happened for, once and at once, whether the webhook is enabled or not, and says what
    /// came of it.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound). A receiver that fails is none: the delivery says so.
    pub async fn test_webhook(&self, caller: &Caller, id: &WebhookId) -> Result<Delivery> {
        caller.may(Right::Manage)?;
        let scope = caller.scope();
        let webhook = self.webhook_record(scope, id).await?.value;
        let opened = self.opened_webhook(scope, &webhook).await?;
        let event = self.test_event(scope, &webhook);
        let mut record = DeliveryRecord::new(id, &event, self.now());
        record.begin(self.now());
        let act = Act::new("webhook.tested", id).with(json!({ "delivery": record.delivery.id }));
        if self.commit(caller.author(), act, vec![record.create(scope)?]).await? == Written::Outrun {
            return Err(ControlError::concurrent_change());
        }
        let tried = self.try_once(scope, &webhook, &opened, &record).await?;
        let key = scope.delivery_key(id, &record.delivery.id);
        let mut stored = self.found::<DeliveryRecord>(&key, "delivery").await?;
        tried.note(&mut stored.value.delivery, None);
        // outrun: the sweep took it for forgotten, and knows better by now
        self.write_unrecorded(vec![stored.replace_delivery(scope)?]).await?;
        Ok(stored.value.delivery)
    }

    fn test_event(&self, scope: &OrganizationScope, webhook: &WebhookRecord) -> DomainEvent {
        let (now, organization) = (self.now(), scope.organization().to_string());
        let id = AuditId::new(now, self.ports().random.as_ref()).to_string();
        let data = json!({ "id": webhook.webhook.id, "name": webhook.webhook.name });
        DomainEvent { id, kind: TEST.to_owned(), timestamp: now, organization, data }
    }

    /// Asks for the next try of a delivery. Where that fails it waits for the sweep.
    pub(crate) async fn ask_to_deliver(&self, scope: &OrganizationScope, record: &DeliveryRecord) {
        if let Err(error) = self.send_delivery(scope, record).await {
            tracing::warn!(delivery = %record.delivery.id, error = %error, "a delivery waits for the sweep");
        }
    }

    /// Queues the next try of a delivery for when it is due, or for as late as a queue holds a message back.
    pub(crate) async fn send_delivery(&self, scope: &OrganizationScope, record: &DeliveryRecord) -> Result<()> {
        let delivery = &record.delivery;
        let message = DeliveryMessage {
            delivery: delivery.id,
            webhook: delivery.webhook_id,
            organization: scope.organization(),
            attempt: delivery.attempts + 1,
        };
        let body = serde_json::to_string(&message).map_err(ControlError::internal)?;
        let left = delivery.next_attempt_at.map_or(0.0, |at| at.seconds_since(self.now()));
        let delay = Duration::try_from_secs_f64(left.max(0.0)).unwrap_or(MAX_DELAY).min(MAX_DELAY);
        Ok(self.ports().notify.send(&body, delay).await?)
    }
}
