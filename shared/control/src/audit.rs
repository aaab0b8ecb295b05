//! What was done, by whom, from where: entries that are written in the transaction of the change, and never changed.
//!
//! | partition | sort | holds |
//! |---|---|---|
//! | `ORG#<org>#AUDIT#<month>` | `<evt>` | an entry |
//! | `ORG#<org>#REFUSED` | `<evt>` | how often it came in that minute, of a refused attempt |
//! | `ORG#<org>#SEALED#<month>` | `<part>` | where a part of a month that is over lies, sealed ([`audit_seal`](crate::audit_seal)) |
//!
//! A refused attempt is an entry too: one for a caller, what was asked, and a minute, with how often it came. Whoever is not
//! known is one stranger an address and minute, in a list of the installation's own ([`strangers`](crate::stranger)).

use firebackup_model::Timestamp;
use firebackup_model::port::{ItemKey, ItemWrite, NewItem};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::actor::Origin;
use crate::control::Control;
use crate::error::{Code, Result};
use crate::id::{AuditId, ulid_of};
use crate::job_records::in_days;
use crate::month::Month;
use crate::record::{Written, new_item};
use crate::tenant::{Author, Caller, OrganizationScope};

/// What became of what was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not allowed, and nothing was changed.
    Refused,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Names it; ids are in order of time.
    pub id: AuditId,
    /// When. Of a refused attempt: the minute.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// Who: the id of a user or of an API key, or `system`; `stranger` for whoever is not known.
    pub actor: String,
    /// What: such as `project.created`; of a refused attempt method and route, such as `DELETE /projects/{projectId}`.
    pub action: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What it was about: an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// What changed; never a secret, a document or the path of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub details: Option<Value>,
    /// The client's address; of strangers of IPv6 their network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The id of the request; of refused attempts that of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// How often it came in that minute; of refused attempts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// Which entries are asked for; what is left out does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Of this actor.
    pub actor: Option<String>,
    /// Of this action; one that ends with `.` stands for all that begin so.
    pub action: Option<String>,
    /// About this resource.
    pub resource: Option<String>,
    /// Of this outcome.
    pub outcome: Option<Outcome>,
    /// Not before this time.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

/// What somebody does.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    action: String,
    resource: String,
    details: Option<Value>,
}

/// What a caller was refused.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// Such as `DELETE`.
    pub method: &'a str,
    /// The route, not the path.
    pub route: &'a str,
    /// With which code.
    pub code: Code,
}

/// For how long it is counted how often an attempt was refused.
const COUNT_DAYS: i64 = 400;
/// The counter of refused attempts.
const COUNT: &str = "count";
/// The most entries that one export may have.
pub const MAX_EXPORTED: u32 = 2000;

impl Act {
    pub(crate) fn new(action: impl Into<String>, resource: impl ToString) -> Self {
        Self { action: action.into(), resource: resource.to_string(), details: None }
    }

    /// Adds what changed; no secret.
    pub(crate) fn with(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }
}

impl AuditEntry {
    pub(crate) fn create(&self, scope: &OrganizationScope) -> Result<ItemWrite> {
        let key = scope.audit_key(Month::of(self.timestamp), &self.id);
        Ok(ItemWrite::Create(new_item(key, self, None)?))
    }
}

impl Refused<'_> {
    fn action(&self) -> String {
        format!("{} {}", self.method, self.route)
    }

    /// The entry that tells of it.
    pub(crate) fn entry(
        &self,
        id: AuditId,
        timestamp: Timestamp,
        actor: String,
        address: Option<String>,
        origin: &Origin,
    ) -> AuditEntry {
        AuditEntry {
            id,
            timestamp,
            actor,
            action: self.action(),
            outcome: Outcome::Refused,
            resource: None,
            details: Some(json!({ "code": self.code })),
            address,
            request_id: origin.request.clone(),
            count: None,
        }
    }
}

impl AuditFilter {
    pub(crate) fn takes(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.actor, &entry.actor)
            && self.action.as_ref().is_none_or(|wanted| is_action(wanted, &entry.action))
            && is(&self.resource, entry.resource.as_deref().unwrap_or_default())
            && self.outcome.is_none_or(|wanted| wanted == entry.outcome)
            && self.from.is_none_or(|from| from <= entry.timestamp)
            && self.to.is_none_or(|to| entry.timestamp < to)
    }
}

fn is_action(wanted: &str, found: &str) -> bool {
    if wanted.ends_with('.') { found.starts_with(wanted) } else { found == wanted }
}

/// The minute of a time.
pub(crate) const fn minute(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.millis().div_euclid(60_000) * 60_000)
}

/// An id that is made of what happened, so that saying it twice is saying it once.
pub(crate) fn id_of(at: Timestamp, parts: &[&str]) -> AuditId {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    ulid_of(at, &hash.finalize().into()).into()
}

impl Control {
    /// Does a transaction together with the entry that tells of it, and publishes the event that tells others, where there
    /// is one: it has the entry's id.
    pub(crate) async fn commit(&self, author: &Author, act: Act, mut writes: Vec<ItemWrite>) -> Result<Written> {
        let entry = self.new_entry(author, act);
        writes.push(entry.create(author.scope())?);
        let written = self.write_unrecorded(writes).await?;
        if written == Written::Yes {
            self.publish_done(author.scope(), &entry).await;
        }
        Ok(written)
    }

    /// The entry that tells of what is done.
    pub(crate) fn entry(&self, author: &Author, act: Act) -> Result<ItemWrite> {
        self.new_entry(author, act).create(author.scope())
    }

    pub(crate) fn new_entry(&self, author: &Author, act: Act) -> AuditEntry {
        let now = self.now();
        AuditEntry {
            id: AuditId::new(now, self.ports().random.as_ref()),
            timestamp: now,
            actor: author.actor().to_string(),
            action: act.action,
            outcome: Outcome::Done,
            resource: Some(act.resource),
            details: act.details,
            address: address_of(author.origin()),
            request_id: author.origin().request.clone(),
            count: None,
        }
    }

    /// Notes that a caller was refused something. Whether that succeeds is of no matter to the request.
    pub async fn note_refused(&self, caller: &Caller, refused: &Refused<'_>) {
        if let Err(error) = self.try_note_refused(caller, refused).await {
            tracing::warn!(error = %error, "it cannot be noted that a request was refused");
        }
    }

    async fn try_note_refused(&self, caller: &Caller, refused: &Refused<'_>) -> Result<()> {
        let (at, actor) = (minute(self.now()), caller.actor().to_string());
        let id = id_of(at, &[&actor, &refused.action(), refused.code.as_str()]);
        let origin = caller.author().origin();
        let entry = refused.entry(id, at, actor, address_of(origin), origin);
        let scope = caller.scope();
        self.count_refused(scope.audit_key(Month::of(at), &entry.id), scope.refused_key(&entry.id), &entry, None).await
    }

    /// Stores the entry of a refused attempt, where this is the first of its minute, and counts it.
    pub(crate) async fn count_refused(
        &self,
        key: ItemKey,
        counter: ItemKey,
        entry: &AuditEntry,
        kept_days: Option<i64>,
    ) -> Result<()> {
        let expires = kept_days.map(|days| in_days(entry.timestamp, days));
        if !self.was_noted(&key) {
            let item = NewItem { expires, ..new_item(key.clone(), entry, None)? };
            // outrun: it was there, from another process or before a restart
            self.write_unrecorded(vec![ItemWrite::Create(item)]).await?;
            self.remember_noted(key);
        }
        let kept = expires.unwrap_or_else(|| in_days(entry.timestamp, COUNT_DAYS));
        self.items().add(&counter, &[(COUNT, 1)], Some(kept)).await?;
        Ok(())
    }

    /// How often a refused attempt came; once at least.
    pub(crate) async fn counted(&self, key: &ItemKey) -> Result<u64> {
        let counters = self.items().get(key).await?;
        let count = counters.and_then(|item| item.body.get(COUNT).and_then(Value::as_u64));
        Ok(count.unwrap_or(1).max(1))
    }
}

/// An address as entries show it.
fn address_of(origin: &Origin) -> Option<String> {
    origin.address.map(|address| address.to_canonical().to_string())
}
