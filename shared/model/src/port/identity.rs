//! Who somebody is, as an OpenID Connect issuer says.

use async_trait::async_trait;

use crate::error::PortError;

/// What ties one sign-in together. Each part is a secret of one browser and good for one sign-in. Debug shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SignIn {
    /// Comes back in the redirect.
    pub state: String,
    /// Comes back in the id token.
    pub nonce: String,
    /// Proves at the exchange who began (PKCE); 43 to 128 characters. The issuer is shown its SHA-256 at the beginning.
    pub verifier: String,
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignIn(..)")
    }
}

/// Somebody, as an issuer knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The issuer's identifier.
    pub issuer: String,
    /// Who it is, for ever and for this issuer only.
    pub subject: String,
    /// The address, where the issuer says one.
    pub email: Option<String>,
    /// Whether the issuer vouches for the address.
    pub email_verified: bool,
    /// For people.
    pub name: Option<String>,
}

/// An issuer that people sign in with.
#[async_trait]
pub trait IdentityProvider: Send + Sync {
    /// Where a browser is sent to sign in.
    async fn authorization_url(&self, sign_in: &SignIn) -> Result<String, PortError>;

    /// Exchanges the code that a browser came back with, and proves what is said: signature, issuer, audience, time and nonce.
    ///
    /// What is not proven, and a code that the issuer does not take, is
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied); an issuer that does not answer, or not as one,
    /// [`Unavailable`](crate::ErrorKind::Unavailable). No error holds a token or a code.
    async fn identify(&self, code: &str, sign_in: &SignIn) -> Result<Identity, PortError>;
}
