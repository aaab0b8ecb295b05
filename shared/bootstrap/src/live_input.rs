//! What the function of live clients is called with: a connection that comes, says something or goes, or an event.

use std::net::IpAddr;

use firebackup_control::{Control, Origin};
use firebackup_model::port::{DomainEvent, StepError};
use serde::{Deserialize, Serialize};

use crate::failure::of_control;

/// What API Gateway or the bus sends. Of what API Gateway tells, only what is used is read.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum LiveInput {
    /// A connection.
    #[serde(rename_all = "camelCase")]
    Connection {
        /// Which, and what it does.
        request_context: ConnectionContext,
        /// What it says.
        #[serde(default)]
        body: Option<String>,
    },
    /// An event, as EventBridge hands it on.
    FromBus {
        /// What was published.
        detail: DomainEvent,
    },
}

/// Which connection, and what it does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionContext {
    connection_id: String,
    event_type: ConnectionEvent,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    identity: ConnectionIdentity,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionIdentity {
    #[serde(default)]
    source_ip: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ConnectionEvent {
    Connect,
    Message,
    Disconnect,
}

/// What API Gateway is answered.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveAnswer {
    status_code: u16,
}

const TAKEN: LiveAnswer = LiveAnswer { status_code: 200 };

/// Deals with what a connection does, or tells live clients of an event.
///
/// # Errors
/// Retryable when a service failed.
pub async fn live(control: &Control, input: LiveInput) -> Result<LiveAnswer, StepError> {
    match input {
        LiveInput::Connection { request_context, body } => connection(control, request_context, body).await?,
        LiveInput::FromBus { detail } => {
            let told = control.tell_live(&detail).await.map_err(of_control)?;
            tracing::info!(event = %detail.id, kind = %detail.kind, told, "live clients are told of an event");
        }
    }
    Ok(TAKEN)
}

async fn connection(control: &Control, context: ConnectionContext, body: Option<String>) -> Result<(), StepError> {
    let id = context.connection_id.as_str();
    match context.event_type {
        // whoever comes has not said anything yet, and nothing is kept of them until they have
        ConnectionEvent::Connect => Ok(()),
        ConnectionEvent::Message => {
            let origin = Origin { address: context.identity.source_ip, request: context.request_id.clone() };
            control.live_request(id, &body.unwrap_or_default(), &origin).await.map(drop).map_err(of_control)
        }
        ConnectionEvent::Disconnect => control.live_gone(id).await.map_err(of_control),
    }
}
