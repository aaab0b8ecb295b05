//! Which account of an issuer somebody is that no browser stands behind.

use async_trait::async_trait;

use crate::error::PortError;

/// Proves tokens that an issuer makes for accounts of programs.
#[async_trait]
pub trait AccountTokens: Send + Sync {
    /// The address of the account that an id token for `audience` is of, once signature, issuer, audience and times hold and the
    /// issuer vouches for the address.
    ///
    /// What is not proven is [`PermissionDenied`](crate::ErrorKind::PermissionDenied); an issuer that does not answer, or not as
    /// one, [`Unavailable`](crate::ErrorKind::Unavailable). No error holds a token.
    async fn account(&self, token: &str, audience: &str) -> Result<String, PortError>;
}
