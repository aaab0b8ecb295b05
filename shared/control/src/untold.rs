//! Changes of which no webhook was told, because whoever made one died before it was published. The entry in the audit log
//! was written with the change, and the event has its id: the sweep makes the deliveries that are missing.
//!
//! A mark says up to which entry that was done. Live clients are not told any more: nothing is kept for them.

use firebackup_model::Timestamp;
use firebackup_model::port::{DomainEvent, ItemQuery, ItemWrite, SortRange};
use serde::{Deserialize, Serialize};

use crate::audit::AuditEntry;
use crate::control::Control;
use crate::delivery::DeliveryRecord;
use crate::error::Result;
use crate::id::AuditId;
use crate::month::Month;
use crate::record::{Stored, decode, new_item};
use crate::tenant::{OrganizationScope, Worker};
use crate::webhook::{Webhook, WebhookRecord};

/// For how long a change may still be told of by whoever made it. Entries of refused attempts come up to a minute late.
const PATIENCE_SECONDS: i64 = 120;
/// The most entries that one sweep looks at.
const MOST_SWEPT: u32 = 500;
/// Beyond so many days nobody is told any more: deliveries are not kept long enough to know that they were made.
const MOST_DAYS: i64 = 7;

/// Up to which entry webhooks were told.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    through: AuditId,
}

impl Control {
    /// Makes the deliveries of changes that were not told of; says how many. An organization without webhooks costs a look.
    ///
    /// # Errors
    /// When the store or the queue fails.
    pub async fn tell_untold(&self, worker: &Worker) -> Result<u64> {
        let scope = worker.scope();
        let webhooks = self.all::<WebhookRecord>(scope.webhooks()).await?;
        let webhooks: Vec<_> = webhooks.into_iter().map(|record| record.value.webhook).collect();
        if webhooks.is_empty() {
            return Ok(0);
        }
        let until = self.now().plus_seconds(-PATIENCE_SECONDS);
        let mark = self.load::<Told>(&scope.told_key()).await?;
        let oldest = AuditId::first(self.now().plus_seconds(-MOST_DAYS * 86_400));
        // where nobody has begun, what is to be told begins now
        let after = mark.as_ref().map_or_else(|| AuditId::first(until), |mark| mark.value.through.max(oldest));
        let (entries, through) = self.entries_between(scope, after, AuditId::first(until)).await?;
        let mut told = 0;
        for entry in &entries {
            told += self.tell_of(scope, &webhooks, entry).await?;
        }
        // an organization in which nothing happens is not written at every sweep
        if !entries.is_empty() || after < AuditId::first(until.plus_seconds(-86_400)) || mark.is_none() {
            self.mark_told(scope, mark, through).await?;
        }
        Ok(told)
    }

    /// Entries behind one and before another, oldest first and not too many; and up to where that is all.
    async fn entries_between(
        &self,
        scope: &OrganizationScope,
        after: AuditId,
        before: AuditId,
    ) -> Result<(Vec<AuditEntry>, AuditId)> {
        let mut entries = Vec::new();
        for month in Month::of(after.time()).until(Month::of(before.time())) {
            let range = SortRange::Between(after.to_string(), before.to_string());
            let mut query = ItemQuery { range, descending: false, limit: MOST_SWEPT, ..scope.audit(month) };
            loop {
                let page = self.items().query(&query).await?;
                for item in page.items {
                    entries.push(decode::<AuditEntry>(item)?.value);
                }
                if entries.len() >= MOST_SWEPT as usize {
                    let through = entries.last().map_or(before, |entry| entry.id);
                    return Ok((entries, through));
                }
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
        }
        Ok((entries, before))
    }

    async fn tell_of(&self, scope: &OrganizationScope, webhooks: &[Webhook], entry: &AuditEntry) -> Result<u64> {
        let Some(event) = self.event_of(scope, entry) else { return Ok(0) };
        let mut told = 0;
        for webhook in webhooks.iter().filter(|webhook| is_to_be_told(webhook, &event)) {
            let delivery = DeliveryRecord::new(&webhook.id, &event, self.now());
            let key = scope.delivery_key(&webhook.id, &delivery.delivery.id);
            if self.load::<DeliveryRecord>(&key).await?.is_none() {
                self.make_delivery(scope, &delivery).await?;
                self.send_delivery(scope, &delivery).await?;
                told += 1;
            }
        }
        Ok(told)
    }

    /// Moves the mark. Outrun: another sweep has moved it, and looked at the same.
    async fn mark_told(&self, scope: &OrganizationScope, mark: Option<Stored<Told>>, through: AuditId) -> Result<()> {
        let write = match mark {
            None => ItemWrite::Create(new_item(scope.told_key(), &Told { through }, None)?),
            Some(mut mark) => {
                mark.value.through = through;
                mark.replace(None)?
            }
        };
        self.write_unrecorded(vec![write]).await?;
        Ok(())
    }
}

/// Whether a webhook wanted it when it happened; one that was made since is told of what comes.
fn is_to_be_told(webhook: &Webhook, event: &DomainEvent) -> bool {
    webhook.wants(&event.kind) && webhook.created_at <= event.timestamp
}

impl AuditId {
    /// The least id of what happens at a time.
    pub(crate) fn first(time: Timestamp) -> Self {
        ulid::Ulid::from_parts(u64::try_from(time.millis()).unwrap_or(0), 0).into()
    }

    /// When it was made, in whole milliseconds.
    fn time(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.ulid().timestamp_ms()).unwrap_or(i64::MAX))
    }
}
