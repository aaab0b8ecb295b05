//! Live clients behind a WebSocket API of API Gateway.

use async_trait::async_trait;
use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use firebackup_model::port::{MAX_PUSH_BYTES, Push, Pushed};
use firebackup_model::{ErrorKind, PortError};

use crate::config::AwsClients;
use crate::error::port_error;

const PUSH: &str = "send to a live client";

/// The connections of one stage of a WebSocket API.
#[derive(Debug, Clone)]
pub struct GatewayPush {
    client: Client,
}

impl GatewayPush {
    /// Those of the stage at `endpoint`, such as `https://<api>.execute-api.<region>.amazonaws.com/<stage>`.
    #[must_use]
    pub fn new(clients: &AwsClients, endpoint: &str) -> Self {
        Self { client: clients.gateway_management(endpoint) }
    }
}

#[async_trait]
impl Push for GatewayPush {
    async fn push(&self, connection: &str, message: &str) -> Result<Pushed, PortError> {
        if message.len() > MAX_PUSH_BYTES {
            let text = format!("a message of {} bytes is larger than {MAX_PUSH_BYTES}", message.len());
            return Err(PortError::new(ErrorKind::InvalidArgument, PUSH, text));
        }
        let request = self.client.post_to_connection().connection_id(connection).data(Blob::new(message.as_bytes()));
        match request.send().await {
            Ok(_) => Ok(Pushed::Sent),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_gone_exception()) => Ok(Pushed::Gone),
            Err(error) => Err(port_error(PUSH, error)),
        }
    }
}
