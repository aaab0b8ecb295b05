//! What hostile addresses, receivers and issuers are met with, against real servers.

mod addresses;
mod answers;
mod oidc;
mod webhooks;
