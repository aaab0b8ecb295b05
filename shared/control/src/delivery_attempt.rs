//! How webhooks are told, whoever dies in between.
//!
//! An event becomes a delivery for each webhook that wants it, and a message for each delivery. A try begins with a write
//! that holds for one only ([`DeliveryRecord::begin`]): it counts the try and says when somebody else may go on, should
//! whoever began not come back. So two that have the same message do not post at the same time, and:
//!
//! - dying before that write leaves the message, which comes again;
//! - dying behind it leaves a delivery that is overdue after [`BEGUN_SECONDS`], which the sweep queues again: it may have been
//!   posted, and is posted once more (receivers tell by `webhook-id`);
//! - dying between the outcome and the message of the next try leaves one that is overdue, too.
//!
//! A message names its try, and so stands for nothing once that has begun: what the queue or the sweep doubles comes to one.

use firebackup_model::Timestamp;
use firebackup_model::port::{DomainEvent, WebhookAnswer, WebhookFailure, WebhookPost};

use crate::control::Control;
use crate::delivery::{Delivery, DeliveryMessage, DeliveryRecord, DeliveryStatus};
use crate::error::{ControlError, Result};
use crate::id::WebhookId;
use crate::record::{MAX_ATTEMPTS, Stored, Written, decode};
use crate::tenant::{OrganizationScope, Worker};
use crate::webhook::{OpenedWebhook, WebhookRecord, WebhookType};
use crate::{signature, slack};

/// What came of a message that asks for a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It was posted and taken.
    Delivered,
    /// It was tried in vain, and is tried again later.
    Failed,
    /// It is not tried any more.
    Dead,
    /// Its time has not come; the message was sent again.
    Waits,
    /// There was nothing to do: others have done it, or the delivery is gone.
    Settled,
}

/// Seconds until the second try, the third, and so on: a day and an hour and a half in all.
const DELAYS: [i64; 7] = [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 8 * 3600, 10 * 3600];
/// By how much a delay is longer at most, as one part of so many: else all that failed together would come back together.
const JITTER: f64 = 10.0;
/// What a receiver answers that wants to be told nothing more.
const GONE: u16 = 410;
/// For how long a receiver may ask to be left alone at most.
const MOST_PATIENCE_SECONDS: i64 = 12 * 3600;
/// How long a try may take from its beginning to its outcome: much longer than the sender waits for an answer.
const BEGUN_SECONDS: i64 = 60;
/// How long a delivery must be overdue for its message to count as lost.
const PATIENCE_SECONDS: i64 = 2 * 60;
/// The most overdue deliveries that one sweep queues for one organization.
const MOST_SWEPT: u32 = 200;

/// One try, and what came of it.
#[derive(Debug)]
pub(crate) struct Tried {
    began: Timestamp,
    milliseconds: u64,
    answer: Result<WebhookAnswer, WebhookFailure>,
}

impl Tried {
    fn status(&self) -> Option<u16> {
        self.answer.as_ref().ok().map(|answer| answer.status)
    }

    fn was_taken(&self) -> bool {
        matches!(self.status(), Some(200..=299))
    }

    /// Whether the receiver says that it is to be told nothing more, ever.
    fn is_unwanted(&self) -> bool {
        self.status() == Some(GONE)
    }

    /// Until when the receiver asks to be left alone, in bounds: it must not put off what it will never take.
    fn patience(&self, now: Timestamp) -> Option<Timestamp> {
        let answer = self.answer.as_ref().ok().filter(|answer| [429, 503].contains(&answer.status))?;
        Some(now.plus_seconds(i64::from(answer.retry_after?).min(MOST_PATIENCE_SECONDS)))
    }

    fn failure(&self) -> Option<String> {
        match self.answer.as_ref().map(|answer| answer.status) {
            Ok(200..=299) => None,
            Ok(status @ 300..=399) => Some(format!("answered with {status}: a redirect is not followed")),
            Ok(GONE) => Some(format!("answered with {GONE}: it wants to be told nothing more")),
            Ok(status) => Some(format!("answered with {status}")),
            Err(failure) => Some(failure.to_string()),
        }
    }

    /// Puts it into the delivery; one that failed is tried again at `next`, and never where there is none.
    pub(crate) fn note(&self, delivery: &mut Delivery, next: Option<Timestamp>) {
        delivery.last_attempt_at = Some(self.began);
        delivery.last_milliseconds = Some(self.milliseconds);
        delivery.last_status = self.status();
        delivery.last_error = self.failure();
        delivery.next_attempt_at = next.filter(|_| !self.was_taken());
        delivery.status = match (self.was_taken(), next) {
            (true, _) => DeliveryStatus::Delivered,
            (false, Some(_)) => DeliveryStatus::Pending,
            (false, None) => DeliveryStatus::Dead,
        };
    }
}

impl DeliveryRecord {
    /// Counts a try that begins now, and says when others may take it for lost.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.tries += 1;
        self.delivery.attempts += 1;
        self.delivery.next_attempt_at = Some(now.plus_seconds(BEGUN_SECONDS));
    }

    /// Whether a message for this try is still of use.
    fn awaits(&self, attempt: u32) -> bool {
        self.delivery.status == DeliveryStatus::Pending && attempt == self.delivery.attempts + 1
    }

    fn is_early(&self, now: Timestamp) -> bool {
        self.delivery.next_attempt_at.is_some_and(|next| now < next)
    }

    fn has_tries_left(&self) -> bool {
        self.tries as usize <= DELAYS.len()
    }
}

impl Control {
    /// Makes a delivery of an event for each enabled webhook that wants it, and queues its first try. Doing it twice is doing
    /// it once. Says how many want it.
    ///
    /// # Errors
    /// When the store or the queue fails: the event is to come again.
    pub async fn fan_out(&self, worker: &Worker, event: &DomainEvent) -> Result<u32> {
        let scope = worker.scope();
        let mut told = 0;
        for record in self.all::<WebhookRecord>(scope.webhooks()).await? {
            if record.value.webhook.wants(&event.kind) {
                let delivery = DeliveryRecord::new(&record.value.webhook.id, event, self.now());
                self.make_delivery(scope, &delivery).await?;
                self.send_delivery(scope, &delivery).await?;
                told += 1;
            }
        }
        Ok(told)
    }

    /// Does the try that a message asks for, unless it has begun already or its time has not come.
    ///
    /// # Errors
    /// When a service of ours fails before the try has begun: the message is to come again. What the receiver does is no
    /// error.
    pub async fn attempt_delivery(&self, worker: &Worker, message: &DeliveryMessage) -> Result<AttemptOutcome> {
        let scope = worker.scope();
        let key = scope.delivery_key(&message.webhook, &message.delivery);
        for _ in 0..MAX_ATTEMPTS {
            let stored = self.load::<DeliveryRecord>(&key).await?;
            let Some(stored) = stored.filter(|stored| stored.value.awaits(message.attempt)) else {
                return Ok(AttemptOutcome::Settled);
            };
            if let Some(outcome) = self.attempt_as_it_stands(worker, stored).await? {
                return Ok(outcome);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Does the next try of a delivery; nothing where others were faster, and it is to be looked at anew.
    async fn attempt_as_it_stands(
        &self,
        worker: &Worker,
        mut stored: Stored<DeliveryRecord>,
    ) -> Result<Option<AttemptOutcome>> {
        let scope = worker.scope();
        if stored.value.is_early(self.now()) {
            self.send_delivery(scope, &stored.value).await?;
            return Ok(Some(AttemptOutcome::Waits));
        }
        let webhook = match self.webhook_to_tell(scope, &stored.value.delivery.webhook_id).await? {
            Ok(webhook) if stored.value.has_tries_left() => webhook,
            Ok(_) => return self.bury(scope, stored, "nobody has come back from the last try").await,
            Err(reason) => return self.bury(scope, stored, reason).await,
        };
        // before the try begins: a key service that fails is no fault of the receiver
        let opened = self.opened_webhook(scope, &webhook).await?;
        stored.value.begin(self.now());
        if self.write_unrecorded(vec![stored.replace_delivery(scope)?]).await? == Written::Outrun {
            return Ok(None);
        }
        let tried = self.try_once(scope, &webhook, &opened, &stored.value).await?;
        if tried.is_unwanted() {
            self.disable_unwanted(worker, &webhook.webhook.id).await?;
        }
        self.note_outcome(scope, stored, &tried).await.map(Some)
    }

    /// Queues deliveries again that should have been tried long ago, the longest waiting first; says how many. Their messages
    /// were lost, or whoever tried them died.
    ///
    /// # Errors
    /// When the store or the queue fails.
    pub async fn queue_overdue_deliveries(&self, worker: &Worker) -> Result<u64> {
        let scope = worker.scope();
        let overdue = scope.waiting_deliveries(self.now().plus_seconds(-PATIENCE_SECONDS), MOST_SWEPT);
        let page = self.items().query(&overdue).await?;
        let mut queued = 0;
        for item in page.items {
            self.send_delivery(scope, &decode::<DeliveryRecord>(item)?.value).await?;
            queued += 1;
        }
        Ok(queued)
    }

    /// Gives the messages of events and deliveries that were dealt with in vain too often another chance; says how many.
    ///
    /// # Errors
    /// When the queue fails.
    pub async fn redrive_notices(&self) -> Result<u64> {
        Ok(self.ports().notify.redrive().await?)
    }

    /// Stores a new delivery, unless it was made before.
    pub(crate) async fn make_delivery(&self, scope: &OrganizationScope, record: &DeliveryRecord) -> Result<()> {
        let write = record.create(scope)?;
        let key = write.key().clone();
        if self.write_unrecorded(vec![write]).await? == Written::Outrun {
            // whoever made it may have died before they queued it, so it is queued again: one message too many stands for
            // nothing. One that is not there was only in somebody's way, and the event must come again.
            let before = self.load::<DeliveryRecord>(&key).await?;
            return before.map(drop).ok_or_else(ControlError::concurrent_change);
        }
        Ok(())
    }

    /// The webhook, or why nothing is sent to it.
    async fn webhook_to_tell(
        &self,
        scope: &OrganizationScope,
        id: &WebhookId,
    ) -> Result<Result<WebhookRecord, &'static str>> {
        let record = self.load::<WebhookRecord>(&scope.webhook_key(id)).await?.map(|record| record.value);
        Ok(match record {
            Some(record) if record.webhook.enabled => Ok(record),
            Some(_) => Err("the webhook is disabled"),
            None => Err("the webhook was removed"),
        })
    }

    async fn bury(
        &self,
        scope: &OrganizationScope,
        mut stored: Stored<DeliveryRecord>,
        reason: &str,
    ) -> Result<Option<AttemptOutcome>> {
        let delivery = &mut stored.value.delivery;
        delivery.status = DeliveryStatus::Dead;
        delivery.next_attempt_at = None;
        delivery.last_error = Some(reason.to_owned());
        match self.write_unrecorded(vec![stored.replace_delivery(scope)?]).await? {
            Written::Yes => Ok(Some(AttemptOutcome::Dead)),
            Written::Outrun => Ok(None),
        }
    }

    /// Posts a delivery once.
    pub(crate) async fn try_once(
        &self,
        scope: &OrganizationScope,
        webhook: &WebhookRecord,
        opened: &OpenedWebhook,
        record: &DeliveryRecord,
    ) -> Result<Tried> {
        let began = self.now();
        let event = record.event(scope.organization());
        let post = post(webhook.webhook.kind, opened, &event, began)?;
        let answer = self.sender()?.post(post).await;
        let milliseconds = u64::try_from(self.now().millis() - began.millis()).unwrap_or(0);
        Ok(Tried { began, milliseconds, answer })
    }

    /// Stores what came of a try, and queues the next.
    async fn note_outcome(
        &self,
        scope: &OrganizationScope,
        stored: Stored<DeliveryRecord>,
        tried: &Tried,
    ) -> Result<AttemptOutcome> {
        let next = self.next_attempt(stored.value.tries).filter(|_| !tried.is_unwanted());
        let next = next.map(|next| tried.patience(self.now()).map_or(next, |until| until.max(next)));
        let (key, attempt) = (stored.key, stored.value.delivery.attempts);
        for _ in 0..MAX_ATTEMPTS {
            let found = self.load::<DeliveryRecord>(&key).await?;
            // another try has begun since this one counted as lost: what comes of that one counts
            let Some(mut found) = found.filter(|found| found.value.delivery.attempts == attempt) else {
                return Ok(AttemptOutcome::Settled);
            };
            tried.note(&mut found.value.delivery, next);
            if self.write_unrecorded(vec![found.replace_delivery(scope)?]).await? == Written::Yes {
                return Ok(match found.value.delivery.status {
                    DeliveryStatus::Delivered => AttemptOutcome::Delivered,
                    DeliveryStatus::Dead => AttemptOutcome::Dead,
                    DeliveryStatus::Pending => {
                        self.ask_to_deliver(scope, &found.value).await;
                        AttemptOutcome::Failed
                    }
                });
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// When it is tried again after so many tries; nothing when that is enough.
    fn next_attempt(&self, tries: u32) -> Option<Timestamp> {
        let delay = *DELAYS.get(usize::try_from(tries).ok()?.checked_sub(1)?)?;
        let mut random = [0];
        self.ports().random.fill(&mut random);
        let more = delay as f64 / JITTER * f64::from(random[0]) / f64::from(u8::MAX);
        Some(Timestamp::from_millis(self.now().millis() + delay * 1000 + (more * 1000.0) as i64))
    }
}

/// What is posted: the event, signed, or the same in Slack's words.
fn post(kind: WebhookType, opened: &OpenedWebhook, event: &DomainEvent, at: Timestamp) -> Result<WebhookPost> {
    let mut headers = vec![("content-type", "application/json".to_owned())];
    let body = match kind {
        WebhookType::Slack => slack::body(event),
        WebhookType::Webhook => event.payload().to_string(),
    };
    if !opened.secrets.is_empty() {
        headers.extend(signature::headers(&opened.secrets, &event.id, at, &body)?);
    }
    Ok(WebhookPost { url: opened.url.to_string(), headers, body })
}
