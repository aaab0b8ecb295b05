//! Events within one process: whoever listens gets them, and a queue keeps them for whoever must not miss one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use firebackup_model::port::{DomainEvent, EventBus, JobQueue};
use firebackup_model::{ErrorKind, PortError};
use tokio::sync::broadcast;

const PUBLISH: &str = "publish an event";
/// As much as EventBridge carries.
const MAX_EVENT_BYTES: usize = 256 * 1024;

/// Hands events to those that listen. Clones are one bus.
#[derive(Clone)]
pub struct LocalEventBus {
    listeners: broadcast::Sender<DomainEvent>,
    kept: Option<Arc<dyn JobQueue>>,
}

impl LocalEventBus {
    /// A bus that keeps up to `backlog` events (at least one) for a listener that is slow; who is slower is told how many
    /// it missed.
    #[must_use]
    pub fn new(backlog: usize) -> Self {
        Self { listeners: broadcast::Sender::new(backlog.max(1)), kept: None }
    }

    /// The same, which sends each event to `queue` as well, as JSON: what was published is there after a restart.
    #[must_use]
    pub fn keeping(mut self, queue: Arc<dyn JobQueue>) -> Self {
        self.kept = Some(queue);
        self
    }

    /// All events from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<DomainEvent> {
        self.listeners.subscribe()
    }
}

#[async_trait]
impl EventBus for LocalEventBus {
    async fn publish(&self, events: &[DomainEvent]) -> Result<(), PortError> {
        let mut refused = None;
        for event in events {
            if let Err(error) = self.publish_one(event).await {
                refused = Some(error);
            }
        }
        refused.map_or(Ok(()), Err)
    }

    async fn publish_live(&self, event: &DomainEvent) -> Result<(), PortError> {
        checked(event)?;
        self.tell(event);
        Ok(())
    }
}

impl LocalEventBus {
    async fn publish_one(&self, event: &DomainEvent) -> Result<(), PortError> {
        let json = checked(event)?;
        if let Some(queue) = &self.kept {
            queue.send(&json, Duration::ZERO).await?;
        }
        self.tell(event);
        Ok(())
    }

    fn tell(&self, event: &DomainEvent) {
        // it fails when nobody listens, which is nobody's fault
        drop(self.listeners.send(event.clone()));
    }
}

impl fmt::Debug for LocalEventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEventBus").field("is_kept", &self.kept.is_some()).finish_non_exhaustive()
    }
}

/// The event as JSON.
fn checked(event: &DomainEvent) -> Result<String, PortError> {
    let invalid = |message: String| PortError::new(ErrorKind::InvalidArgument, PUBLISH, message);
    let json = serde_json::to_string(event).map_err(|error| invalid(String::new()).with_source(error))?;
    if json.len() > MAX_EVENT_BYTES {
        return Err(invalid(format!("an event of {} bytes is larger than {MAX_EVENT_BYTES}", json.len())));
    }
    Ok(json)
}
