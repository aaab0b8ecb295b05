//! Live clients: they keep a connection open, say who they are, and are told what happens in their organization.
//!
//! A client sends `{"type":"subscribe","token":…}` and is answered `{"type":"subscribed",…}`; from then on it gets events as
//! webhooks do: `{"id","type","timestamp","data"}`. A subscription is good for a quarter of an hour, so that a key that was
//! revoked, or a member who was taken out, soon hears nothing more: whoever wants to go on subscribes again.

use firebackup_model::Timestamp;
use firebackup_model::port::{DomainEvent, ItemQuery, ItemWrite, NewItem, Pushed};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actor::Origin;
use crate::audit::Refused;
use crate::control::Control;
use crate::error::{Code, ControlError, Kind, Result};
use crate::id::OrganizationId;
use crate::item_keys;
use crate::record::{MAX_ATTEMPTS, Written, decode, new_item};
use crate::role::Right;
use crate::tenant::{Caller, OrganizationScope};
use crate::webhook_event::EventName;

/// For how many seconds a subscription is good.
pub const SUBSCRIPTION_SECONDS: i64 = 15 * 60;
/// The most bytes of a message of a client.
pub const MAX_LIVE_REQUEST: usize = 4096;
/// The most connections that one organization may have subscribed.
const MAX_CONNECTIONS: u32 = 100;
/// The most topics of a subscription.
const MAX_TOPICS: usize = 50;
/// To how many connections one event is sent at a time.
const AT_ONCE: usize = 16;
/// What a refused subscription is noted as.
const ROUTE: &str = "/realtime";

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum LiveRequest {
    Subscribe {
        token: String,
        #[serde(default)]
        organization_id: Option<OrganizationId>,
        /// Such as `backup` or `backup.completed`; none for all.
        #[serde(default)]
        topics: Vec<String>,
    },
    Unsubscribe {},
    Ping {},
}

/// What a live client has become by what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveStanding {
    /// Subscribed, so that it is known who it is.
    Subscribed,
    /// Subscribed no more.
    Unsubscribed,
    /// What it was before.
    Unchanged,
}

/// A connection that is subscribed. It stands in the index of its organization.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Subscription {
    connection: String,
    organization: OrganizationId,
    topics: Vec<String>,
    until: Timestamp,
}

impl Subscription {
    fn takes(&self, kind: &str, now: Timestamp) -> bool {
        let is_topic = |topic: &String| kind == topic || family(kind) == topic;
        now < self.until && (self.topics.is_empty() || self.topics.iter().any(is_topic))
    }
}

/// What stands before the point: `backup` of `backup.completed`.
fn family(kind: &str) -> &str {
    kind.split_once('.').map_or(kind, |(family, _)| family)
}

impl Control {
    /// Deals with what a live client says, and answers it over its connection. What it has become by that.
    ///
    /// # Errors
    /// When the store fails, or the answer cannot be sent.
    pub async fn live_request(&self, connection: &str, text: &str, origin: &Origin) -> Result<LiveStanding> {
        let (standing, answer) = match self.answer_live(connection, text, origin).await {
            Ok(answer) => answer,
            Err(error) if matches!(error.kind, Kind::Internal | Kind::Unavailable) => return Err(error),
            Err(error) => {
                let told = json!({ "type": "error", "error": { "code": error.code, "message": error.message } });
                (LiveStanding::Unchanged, told)
            }
        };
        if self.ports().push.push(connection, &answer.to_string()).await? == Pushed::Gone {
            self.live_gone(connection).await?;
        }
        Ok(standing)
    }

    async fn answer_live(&self, connection: &str, text: &str, origin: &Origin) -> Result<(LiveStanding, Value)> {
        match read(text)? {
            LiveRequest::Ping {} => Ok((LiveStanding::Unchanged, json!({ "type": "pong" }))),
            LiveRequest::Unsubscribe {} => {
                self.live_gone(connection).await?;
                Ok((LiveStanding::Unsubscribed, json!({ "type": "unsubscribed" })))
            }
            LiveRequest::Subscribe { token, organization_id, topics } => {
                check_topics(&topics)?;
                let caller = self.live_caller(&token, organization_id.as_ref(), origin).await?;
                Ok((LiveStanding::Subscribed, self.subscribe(&caller, connection, topics).await?))
            }
        }
    }

    /// Proves who subscribes. Who may not is noted, as one who asks by HTTP is.
    async fn live_caller(&self, token: &str, organization: Option<&OrganizationId>, origin: &Origin) -> Result<Caller> {
        let proven = self.authenticate(token, organization).await;
        if let Err(error) = &proven
            && matches!(error.kind, Kind::Unauthorized | Kind::Forbidden)
        {
            // whoever is not authorized has proven nothing
            let holds = Some(token).filter(|_| error.kind == Kind::Forbidden);
            self.note_holder(holds, origin, &Refused { method: "SUBSCRIBE", route: ROUTE, code: error.code }).await;
        }
        let caller = proven?.from(origin.clone());
        caller.may(Right::Read)?;
        Ok(caller)
    }

    async fn subscribe(&self, caller: &Caller, connection: &str, topics: Vec<String>) -> Result<Value> {
        let until = self.now().plus_seconds(SUBSCRIPTION_SECONDS);
        let organization = caller.organization();
        let answer = json!({
            "type": "subscribed", "organizationId": organization, "topics": topics, "until": until,
        });
        let subscription = Subscription { connection: connection.to_owned(), organization, topics, until };
        for _ in 0..MAX_ATTEMPTS {
            if self.put_subscription(caller.scope(), &subscription).await? == Written::Yes {
                return Ok(answer);
            }
        }
        Err(ControlError::concurrent_change())
    }

    async fn put_subscription(&self, scope: &OrganizationScope, subscription: &Subscription) -> Result<Written> {
        let key = item_keys::live_connection(&subscription.connection);
        let place = Some(scope.live_place(&subscription.connection));
        let known = self.load::<Subscription>(&key).await?;
        let item = NewItem { expires: Some(subscription.until), ..new_item(key, subscription, place)? };
        let write = match known {
            Some(known) => ItemWrite::Replace(item, known.version),
            None => {
                self.check_connections(scope).await?;
                ItemWrite::Create(item)
            }
        };
        self.write_unrecorded(vec![write]).await
    }

    async fn check_connections(&self, scope: &OrganizationScope) -> Result<()> {
        let query = ItemQuery { limit: MAX_CONNECTIONS, ..scope.live_connections() };
        if self.items().query(&query).await?.items.len() < MAX_CONNECTIONS as usize {
            return Ok(());
        }
        let message = format!("an organization may have {MAX_CONNECTIONS} live connections");
        Err(ControlError::conflict(Code::LimitReached, message))
    }

    /// Whether any live client is told of such events.
    pub(crate) async fn is_heard(&self, scope: &OrganizationScope, kind: &str) -> Result<bool> {
        let query = ItemQuery { limit: MAX_CONNECTIONS, ..scope.live_connections() };
        let now = self.now();
        for item in self.items().query(&query).await?.items {
            // a store may show what has expired for a while
            if decode::<Subscription>(item)?.value.takes(kind, now) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Forgets a connection that is closed. One that nobody knows is no error.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn live_gone(&self, connection: &str) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let known = self.load::<Subscription>(&item_keys::live_connection(connection)).await?;
            let Some(known) = known else { return Ok(()) };
            if self.write_unrecorded(vec![known.delete()]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Tells live clients of an event; how many were told. One that cannot be told keeps the others from nothing.
    ///
    /// # Errors
    /// When the store fails, or the event is of no organization.
    pub async fn tell_live(&self, event: &DomainEvent) -> Result<usize> {
        let organization = event.organization.parse::<OrganizationId>().map_err(ControlError::internal)?;
        let worker = self.worker(&organization);
        let mut query = worker.scope().live_connections();
        let (message, mut told) = (event.payload().to_string(), 0);
        loop {
            let page = self.items().query(&query).await?;
            let subscriptions = page.items.into_iter().map(decode::<Subscription>).collect::<Result<Vec<_>>>()?;
            let now = self.now();
            let wanted = subscriptions.into_iter().filter(|stored| stored.value.takes(&event.kind, now));
            let sending = stream::iter(wanted.map(|stored| self.tell(stored.value.connection, &message)));
            told += sending.buffer_unordered(AT_ONCE).filter(|told| std::future::ready(*told)).count().await;
            query.after = page.next;
            if query.after.is_none() {
                return Ok(told);
            }
        }
    }

    /// Sends a message to a connection, and forgets one that is gone. Whether it was sent.
    async fn tell(&self, connection: String, message: &str) -> bool {
        let told = match self.ports().push.push(&connection, message).await {
            Ok(Pushed::Sent) => return true,
            Ok(Pushed::Gone) => self.live_gone(&connection).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = told {
            tracing::warn!(connection, error = %error, "a live client was not told");
        }
        false
    }
}

fn read(text: &str) -> Result<LiveRequest> {
    let unreadable = |message: String| ControlError::new(Kind::Invalid, Code::InvalidRequest, message);
    if text.len() > MAX_LIVE_REQUEST {
        return Err(unreadable(format!("a message has at most {MAX_LIVE_REQUEST} bytes")));
    }
    // what the parser says may repeat a token
    let expected = "expected {\"type\":\"subscribe\",\"token\":…}, with organizationId and topics where wanted, or \
                    {\"type\":\"unsubscribe\"}, {\"type\":\"ping\"}";
    serde_json::from_str(text).map_err(|_| unreadable(expected.to_owned()))
}

fn check_topics(topics: &[String]) -> Result<()> {
    if topics.len() > MAX_TOPICS {
        return Err(ControlError::field("topics", format!("at most {MAX_TOPICS}")));
    }
    let is_known = |topic: &String| {
        let names = EventName::ALL.iter().map(|name| name.as_str());
        names.into_iter().any(|name| name == topic || family(name) == topic)
    };
    match topics.iter().find(|topic| !is_known(topic)) {
        None => Ok(()),
        Some(_) => Err(ControlError::field("topics", "expected names of events, or what stands before their point")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_an_event_or_a_family_of_events() {
        let until = Timestamp::new(100, 0);
        let subscription = |topics: &[&str]| Subscription {
            connection: "c".to_owned(),
            organization: ulid::Ulid::nil().into(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            until,
        };
        let now = Timestamp::new(99, 0);
        for (topics, kind, expect) in [
            (&[][..], "backup.started", true),
            (&["backup"], "backup.started", true),
            (&["backup.started"], "backup.started", true),
            (&["backup.failed", "restore"], "backup.started", false),
            (&["back"], "backup.started", false),
        ] {
            assert_eq!(subscription(topics).takes(kind, now), expect, "{topics:?} {kind}");
            assert!(!subscription(topics).takes(kind, until), "it has ended");
        }
        assert!(check_topics(&["backup".to_owned(), "project.created".to_owned()]).is_ok());
        assert!(check_topics(&["nonsense".to_owned()]).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        for text in ["", "planted", "{\"type\":\"subscribe\",\"token\":\"planted\",\"x\":1}", &"x".repeat(5000)] {
            let error = read(text).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("planted"), "{text}");
        }
    }
}
