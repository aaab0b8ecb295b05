//! What posts to webhooks.

use std::sync::Arc;

use firebackup_model::port::WebhookSender;
use firebackup_model::{ErrorKind, PortError};
use firebackup_outbound::{AddressGuard, OutboundClient, OutboundWebhooks};

/// The sender, which calls only what it may.
///
/// # Errors
/// When TLS cannot be set up on this machine.
pub(crate) fn webhooks(allow_private_addresses: bool) -> Result<Arc<dyn WebhookSender>, PortError> {
    let client = OutboundClient::new(AddressGuard::new(allow_private_addresses)).map_err(|error| {
        PortError::new(ErrorKind::Internal, "set up webhooks", "TLS cannot be used on this machine").with_source(error)
    })?;
    Ok(Arc::new(OutboundWebhooks::new(client)))
}
