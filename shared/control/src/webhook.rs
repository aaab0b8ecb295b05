//! Verbs on webhooks: who is told, of what, and where. Addresses are secrets (whoever has one of Slack's may post there), so
//! they are sealed, as are the secrets that deliveries are signed with.

use std::collections::BTreeSet;

use firebackup_model::Timestamp;
use firebackup_model::port::{ItemWrite, WebhookFailure, WebhookSender};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use crate::audit::Act;
use crate::control::Control;
use crate::error::{Code, ControlError, Kind, Result};
use crate::id::WebhookId;
use crate::limit;
use crate::page::{Page, Paged};
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::Right;
use crate::room::Kept;
use crate::secrets::{SealedSecret, SecretText};
use crate::signature::FormerSecret;
use crate::tenant::{Caller, OrganizationScope, Worker};
use crate::webhook_event::EventName;
use crate::{signature, slack};

/// What is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookType {
    /// The event as JSON, signed.
    Webhook,
    /// A message as Slack's incoming webhooks take it.
    Slack,
}

/// A webhook that is asked for.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewWebhook {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// What is posted.
    #[serde(rename = "type", default = "signed")]
    pub kind: WebhookType,
    /// Where to; `https`. It is never shown again, but for its host.
    #[schema(write_only, value_type = String, example = "https://receiver.example/firebackup")]
    pub url: SecretText,
    /// Of what it is told; of everything, whatever is yet to come included, where none is named. Twice is once.
    #[serde(default)]
    #[schema(value_type = Vec<EventName>, default = json!([]))]
    pub events: BTreeSet<EventName>,
    /// Whether it is told.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub enabled: bool,
}

const fn signed() -> WebhookType {
    WebhookType::Webhook
}

const fn yes() -> bool {
    true
}

/// What is to be changed of a webhook; what is left out stays. Its type stays for ever.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookChange {
    /// For people.
    pub name: Option<String>,
    /// Where to; what waits to be delivered goes there too.
    #[schema(write_only, value_type = Option<String>)]
    pub url: Option<SecretText>,
    /// Of what it is told; replaced as a whole, empty for everything.
    #[schema(value_type = Option<Vec<EventName>>)]
    pub events: Option<BTreeSet<EventName>>,
    /// Whether it is told.
    pub enabled: Option<bool>,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Names it.
    pub id: WebhookId,
    /// For people.
    pub name: String,
    /// What is posted.
    #[serde(rename = "type")]
    pub kind: WebhookType,
    /// The host of the address; the rest may be a secret and is not shown.
    pub host: String,
    /// Of what it is told; of everything where none is named.
    pub events: BTreeSet<EventName>,
    /// Whether it is told.
    pub enabled: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A webhook, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookRecord {
    #[serde(flatten)]
    pub(crate) webhook: Webhook,
    sealed_url: SealedSecret,
    /// What deliveries are signed with; Slack asks for no signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_secret: Option<SealedSecret>,
    /// Those before, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former_secrets: Vec<FormerSecret>,
}

/// A webhook's address and secret, opened.
pub(crate) struct OpenedWebhook {
    pub(crate) url: Zeroizing<String>,
    /// What deliveries are signed with, the newest first; Slack's have none.
    pub(crate) secrets: Vec<Zeroizing<String>>,
}

/// What an address is sealed for.
const URL: &str = "webhook-url";
/// What a secret is sealed for.
const SECRET: &str = "webhook-secret";
/// The most bytes an address may have.
const MAX_URL: usize = 2048;
impl Webhook {
    /// Whether it is to be told of what happened.
    pub(crate) fn wants(&self, kind: &str) -> bool {
        self.enabled && (self.events.is_empty() || self.events.iter().any(|event| event.as_str() == kind))
    }

    /// What it is, as the audit log tells it.
    fn told(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "host": self.host, "events": self.events, "enabled": self.enabled,
        })
    }
}

impl Control {
    /// Makes a webhook. The secret that its deliveries are signed with is given this once; Slack's have none.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where a field may not be so, the address one that may not be called
    /// included; [`LimitReached`](Code::LimitReached).
    pub async fn create_webhook(
        &self,
        caller: &Caller,
        new: NewWebhook,
    ) -> Result<(Webhook, Option<Zeroizing<String>>)> {
        caller.may(Right::Manage)?;
        let name = limit::name("name", &new.name)?;
        let host = self.checked_host(new.kind, &new.url)?;
        let now = self.now();
        let id = WebhookId::new(now, self.ports().random.as_ref());
        let webhook = Webhook {
            id,
            name,
            kind: new.kind,
            host,
            events: new.events,
            enabled: new.enabled,
            created_at: now,
            updated_at: now,
        };
        let secret = (new.kind == WebhookType::Webhook).then(|| signature::new_secret(self.ports().random.as_ref()));
        let sealed_url = self.seal_for(caller.scope(), &id, URL, new.url.expose()).await?;
        let sealed_secret = match &secret {
            Some(secret) => Some(self.seal_for(caller.scope(), &id, SECRET, secret).await?),
            None => None,
        };
        let record = WebhookRecord { webhook, sealed_url, sealed_secret, former_secrets: Vec::new() };
        let item = new_item(caller.scope().webhook_key(&id), &record, None)?;
        let act = Act::new("webhook.created", id).with(record.webhook.told());
        self.store_one_more(caller.author(), Kept::Webhooks, &act, &[ItemWrite::Create(item)]).await?;
        Ok((record.webhook, secret))
    }

    /// The organization's webhooks, oldest first.
    ///
    /// # Errors
    /// When the page cannot be, or the store fails.
    pub async fn webhooks(&self, caller: &Caller, page: &Page) -> Result<Paged<Webhook>> {
        caller.may(Right::Read)?;
        self.list(caller.scope().webhooks(), page, |record: WebhookRecord| Some(record.webhook)).await
    }

    /// A webhook.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn webhook(&self, caller: &Caller, id: &WebhookId) -> Result<Webhook> {
        caller.may(Right::Read)?;
        Ok(self.webhook_record(caller.scope(), id).await?.value.webhook)
    }

    /// Changes a webhook.
    ///
    /// # Errors
    /// As [`Self::create_webhook`], and [`NotFound`](crate::Kind::NotFound).
    pub async fn update_webhook(&self, caller: &Caller, id: &WebhookId, change: WebhookChange) -> Result<Webhook> {
        caller.may(Right::Manage)?;
        let name = change.name.map(|name| limit::name("name", &name)).transpose()?;
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.webhook_record(caller.scope(), id).await?;
            if let Some(url) = &change.url {
                record.value.webhook.host = self.checked_host(record.value.webhook.kind, url)?;
                record.value.sealed_url = self.seal_for(caller.scope(), id, URL, url.expose()).await?;
            }
            let webhook = &mut record.value.webhook;
            if let Some(name) = &name {
                webhook.name.clone_from(name);
            }
            if let Some(events) = &change.events {
                webhook.events.clone_from(events);
            }
            webhook.enabled = change.enabled.unwrap_or(webhook.enabled);
            if self.store_changed(caller, &mut record).await? == Written::Yes {
                return Ok(record.value.webhook);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Enables a webhook that is disabled, and disables one that is enabled. What waits to be delivered to one that is
    /// disabled is given up when it is due.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn toggle_webhook(&self, caller: &Caller, id: &WebhookId) -> Result<Webhook> {
        caller.may(Right::Manage)?;
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.webhook_record(caller.scope(), id).await?;
            record.value.webhook.enabled = !record.value.webhook.enabled;
            if self.store_changed(caller, &mut record).await? == Written::Yes {
                return Ok(record.value.webhook);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Removes a webhook. Nothing more is sent to it, and its deliveries cannot be seen any more.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn remove_webhook(&self, caller: &Caller, id: &WebhookId) -> Result<()> {
        caller.may(Right::Manage)?;
        for _ in 0..MAX_ATTEMPTS {
            let record = self.webhook_record(caller.scope(), id).await?;
            let act = Act::new("webhook.deleted", id).with(record.value.webhook.told());
            if self.commit(caller.author(), act, vec![record.delete()]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Exchanges the secret that deliveries are signed with. For a day they are signed with the one before too, so that a
    /// receiver can be told of the new one meanwhile.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`Unprocessable`](crate::Kind::Unprocessable) of Slack's, which have none.
    pub async fn exchange_webhook_secret(
        &self,
        caller: &Caller,
        id: &WebhookId,
    ) -> Result<(Webhook, Zeroizing<String>)> {
        caller.may(Right::Manage)?;
        let secret = signature::new_secret(self.ports().random.as_ref());
        let sealed = self.seal_for(caller.scope(), id, SECRET, &secret).await?;
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.webhook_record(caller.scope(), id).await?;
            let Some(former) = record.value.sealed_secret.replace(sealed.clone()) else {
                return Err(ControlError::field("type", "deliveries to Slack are not signed: there is no secret"));
            };
            let until = FormerSecret::add(&mut record.value.former_secrets, former, self.now());
            record.value.webhook.updated_at = self.now();
            let act = Act::new("webhook.secret_exchanged", id).with(json!({ "formerUntil": until }));
            if self.commit(caller.author(), act, vec![record.replace(None)?]).await? == Written::Yes {
                return Ok((record.value.webhook, secret));
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Disables a webhook whose receiver wants to be told nothing more.
    pub(crate) async fn disable_unwanted(&self, worker: &Worker, id: &WebhookId) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let found = self.load::<WebhookRecord>(&worker.scope().webhook_key(id)).await?;
            let Some(mut record) = found.filter(|record| record.value.webhook.enabled) else { return Ok(()) };
            record.value.webhook.enabled = false;
            record.value.webhook.updated_at = self.now();
            let act = Act::new("webhook.updated", id).with(record.value.webhook.told());
            if self.commit(&worker.author(), act, vec![record.replace(None)?]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    pub(crate) async fn webhook_record(
        &self,
        scope: &OrganizationScope,
        id: &WebhookId,
    ) -> Result<Stored<WebhookRecord>> {
        self.found(&scope.webhook_key(id), "webhook").await
    }

    /// What posts.
    pub(crate) fn sender(&self) -> Result<&dyn WebhookSender> {
        self.ports().webhooks.as_deref().ok_or_else(|| {
            ControlError::new(Kind::Unavailable, Code::Unavailable, "this installation calls no webhooks")
        })
    }

    /// Opens a webhook's address and secret.
    pub(crate) async fn opened_webhook(
        &self,
        scope: &OrganizationScope,
        record: &WebhookRecord,
    ) -> Result<OpenedWebhook> {
        let organization = self.organization_record(scope).await?.value;
        let secrets = self.secret_box(scope.organization(), &organization.data_key).await?;
        let id = record.webhook.id.to_string();
        let url = secrets.open(&id, URL, &record.sealed_url)?;
        let former = FormerSecret::good(&record.former_secrets, self.now());
        let sealed = record.sealed_secret.iter().chain(former);
        let secrets = sealed.map(|sealed| secrets.open(&id, SECRET, sealed)).collect::<Result<_>>()?;
        Ok(OpenedWebhook { url, secrets })
    }

    async fn store_changed(&self, caller: &Caller, record: &mut Stored<WebhookRecord>) -> Result<Written> {
        let webhook = &mut record.value.webhook;
        webhook.updated_at = self.now();
        let act = Act::new("webhook.updated", webhook.id).with(webhook.told());
        self.commit(caller.author(), act, vec![record.replace(None)?]).await
    }

    async fn seal_for(
        &self,
        scope: &OrganizationScope,
        id: &WebhookId,
        usage: &str,
        secret: &str,
    ) -> Result<SealedSecret> {
        let organization = self.organization_record(scope).await?.value;
        let secrets = self.secret_box(scope.organization(), &organization.data_key).await?;
        Ok(secrets.seal(self, &id.to_string(), usage, secret))
    }

    /// The host of an address that may be called.
    fn checked_host(&self, kind: WebhookType, url: &SecretText) -> Result<String> {
        let sender = self.sender()?;
        limit::ascii("url", url.expose(), MAX_URL)?;
        sender.check(url.expose()).map_err(|failure| refused(&failure))?;
        // the parser's own words could repeat the address
        let parsed = Url::parse(url.expose()).ok();
        let host =
            parsed.as_ref().and_then(Url::host_str).ok_or_else(|| ControlError::field("url", "expected a URL"))?;
        if kind == WebhookType::Slack && !slack::HOSTS.contains(&host) && !sender.allows_inside() {
            return Err(ControlError::field("url", format!("Slack's incoming webhooks are at {}", slack::HOSTS[0])));
        }
        Ok(host.to_owned())
    }
}

fn refused(failure: &WebhookFailure) -> ControlError {
    ControlError::field("url", failure)
}
