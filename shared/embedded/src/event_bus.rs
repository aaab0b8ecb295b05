//! Events within one process: whoever listens gets them, and nothing is kept for who does not.

use async_trait::async_trait;
use firebackup_model::port::{DomainEvent, EventBus};
use firebackup_model::{ErrorKind, PortError};
use tokio::sync::broadcast;

const PUBLISH: &str = "publish an event";
/// As much as EventBridge carries.
const MAX_EVENT_BYTES: usize = 256 * 1024;

/// Hands events to those that listen. Clones are one bus.
#[derive(Debug, Clone)]
pub struct LocalEventBus {
    listeners: broadcast::Sender<DomainEvent>,
}

impl LocalEventBus {
    /// A bus that keeps up to `backlog` events (at least one) for a listener that is slow; who is slower is told how many
    /// it missed.
    #[must_use]
    pub fn new(backlog: usize) -> Self {
        Self { listeners: broadcast::Sender::new(backlog.max(1)) }
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
            match check(event) {
                // it fails when nobody listens, which is nobody's fault
                Ok(()) => drop(self.listeners.send(event.clone())),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

fn check(event: &DomainEvent) -> Result<(), PortError> {
    let invalid = |message: String| PortError::new(ErrorKind::InvalidArgument, PUBLISH, message);
    let bytes = serde_json::to_vec(event).map_err(|error| invalid(String::new()).with_source(error))?;
    if bytes.len() > MAX_EVENT_BYTES {
        return Err(invalid(format!("an event of {} bytes is larger than {MAX_EVENT_BYTES}", bytes.len())));
    }
    Ok(())
}
