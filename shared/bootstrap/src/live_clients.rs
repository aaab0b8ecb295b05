//! Live clients of one machine.

use firebackup_control::Control;
use firebackup_embedded::LocalPush;
use firebackup_http::LiveConnections;
use firebackup_model::port::DomainEvent;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// The connections of live clients, as the server opens them. Clones are one.
#[derive(Debug, Clone)]
pub struct LiveClients(LocalPush);

impl LiveClients {
    pub(crate) const fn new(push: LocalPush) -> Self {
        Self(push)
    }

    /// Says goodbye to all.
    pub(crate) fn close(&self) {
        self.0.close_all();
    }
}

impl LiveConnections for LiveClients {
    fn open(&self, connection: &str) -> Option<mpsc::Receiver<String>> {
        self.0.open(connection)
    }

    fn admit(&self, connection: &str) -> bool {
        self.0.admit(connection)
    }

    fn close(&self, connection: &str) {
        self.0.close(connection);
    }
}

/// Tells live clients of events as they come, for ever. What is missed is missed: whoever needs all of them has a webhook.
pub(crate) async fn tell_live(control: &Control, mut events: Receiver<DomainEvent>) {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "live clients were not told of events: there were too many at once");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        if let Err(error) = control.tell_live(&event).await {
            tracing::warn!(event = event.id, error = %error, "live clients could not be told of an event");
        }
    }
}
