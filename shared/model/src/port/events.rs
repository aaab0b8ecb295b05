//! What happened, for whoever wants to know.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::PortError;
use crate::timestamp::Timestamp;

/// Something that happened: also the payload of webhooks and of live messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainEvent {
    /// `evt_` and a ULID; the same when the event is sent twice.
    pub id: String,
    /// Such as `backup.completed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When.
    pub timestamp: Timestamp,
    /// Whose.
    pub organization: String,
    /// What; never a secret, a document path or a document.
    pub data: Value,
}

impl DomainEvent {
    /// What webhooks and live clients are told of it.
    #[must_use]
    pub fn payload(&self) -> Value {
        json!({ "id": self.id, "type": self.kind, "timestamp": self.timestamp, "data": self.data })
    }
}

/// Where events go; each is delivered at least once.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// Publishes events, each on its own; says so if one was not taken.
    async fn publish(&self, events: &[DomainEvent]) -> Result<(), PortError>;

    /// Publishes an event for live clients alone: it is kept nowhere, and no webhook is told.
    async fn publish_live(&self, event: &DomainEvent) -> Result<(), PortError>;
}
