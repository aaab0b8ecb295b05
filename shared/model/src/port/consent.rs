//! A person lets us into what is theirs at an issuer, for as long as they like.

use std::fmt;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::error::PortError;
use crate::port::SignIn;

/// What somebody has consented to. Debug shows no token.
#[derive(Clone, PartialEq, Eq)]
pub struct Consent {
    /// With it access tokens are had until the person takes the consent back.
    pub refresh_token: Zeroizing<String>,
    /// The address of the account, where the issuer says one and vouches for it.
    pub account: Option<String>,
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consent").field("account", &self.account).finish_non_exhaustive()
    }
}

/// An issuer that asks people whether we may in.
#[async_trait]
pub trait ConsentIssuer: Send + Sync {
    /// Where a browser is sent to be asked. What ties the way there to the way back is as it is at a sign-in.
    async fn consent_url(&self, sign_in: &SignIn) -> Result<String, PortError>;

    /// Exchanges the code that a browser came back with.
    ///
    /// What is not proven, and a code that the issuer does not take, is
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied); a consent that leaves out what is needed
    /// [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition); an issuer that does not answer, or not as one,
    /// [`Unavailable`](crate::ErrorKind::Unavailable). No error holds a token or a code.
    async fn take_consent(&self, code: &str, sign_in: &SignIn) -> Result<Consent, PortError>;

    /// Gives a consent back, so that its tokens open nothing any more; nothing where the issuer has no place for it. One that
    /// the issuer does not know any more is given back.
    async fn give_back(&self, refresh_token: &str) -> Result<(), PortError>;
}
