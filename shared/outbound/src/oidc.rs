//! Signing people in with an OpenID Connect issuer: authorization code flow with PKCE.
//!
//! What the issuer says comes straight from it over TLS, and is proven all the same: signature, issuer, audience, time
//! and nonce. No code, token or secret stands in an error.

mod account;
mod consent;
mod discovery;
mod exchange;
mod failure;
mod id_token;
mod keys;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use firebackup_model::PortError;
use firebackup_model::port::{Clock, Identity, IdentityProvider, SignIn};
use sha2::{Digest, Sha256};
use url::Url;
use zeroize::Zeroizing;

pub use self::account::OidcAccounts;
use self::discovery::{Discovery, Endpoints};
use self::keys::KeyCache;
use crate::client::OutboundClient;

const SCOPES: &str = "openid email profile";

/// What this installation is to an issuer. Debug leaves the secret out.
#[derive(Clone)]
pub struct OidcSettings {
    /// The issuer's identifier, to the letter, such as `https://accounts.google.com`.
    pub issuer: String,
    /// As the issuer gave it.
    pub client_id: String,
    /// As the issuer gave it.
    pub client_secret: Zeroizing<String>,
    /// Where a browser comes back to with the code; the issuer knows it.
    pub redirect_uri: String,
}

impl fmt::Debug for OidcSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcSettings")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("redirect_uri", &self.redirect_uri)
            .finish_non_exhaustive()
    }
}

/// One issuer that people sign in with. What it publishes of itself is kept for an hour.
pub struct OidcProvider {
    settings: OidcSettings,
    client: OutboundClient,
    clock: Arc<dyn Clock>,
    discovery: Discovery,
    keys: KeyCache,
}

impl OidcProvider {
    /// Nothing is asked of the issuer yet. Tokens are held against `clock`.
    #[must_use]
    pub fn new(settings: OidcSettings, client: OutboundClient, clock: Arc<dyn Clock>) -> Self {
        Self { settings, client, clock, discovery: Discovery::default(), keys: KeyCache::default() }
    }

    async fn endpoints(&self) -> Result<Arc<Endpoints>, PortError> {
        self.discovery.endpoints(&self.settings.issuer, &self.client, self.clock.now()).await
    }

    /// The URL of an authorization request that also says what is in `asked`.
    fn request_at(&self, endpoints: &Endpoints, sign_in: &SignIn, asked: &[(&str, &str)]) -> Url {
        let mut url = endpoints.authorization.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &self.settings.redirect_uri)
            .append_pair("state", &sign_in.state)
            .append_pair("nonce", &sign_in.nonce)
            .append_pair("code_challenge", &challenge(&sign_in.verifier))
            .append_pair("code_challenge_method", "S256")
            .extend_pairs(asked);
        url
    }

    /// Who an id token is of, proven.
    async fn proven(&self, endpoints: &Endpoints, id_token: &str, sign_in: &SignIn) -> Result<Identity, PortError> {
        let header = id_token::header(id_token)?;
        let key = self.keys.key(&header, &endpoints.keys, &self.client, self.clock.now()).await?;
        let claims = id_token::claims(id_token, header.alg, &key)?;
        id_token::identity(claims, &self.settings, &sign_in.nonce, self.clock.now())
    }
}

impl fmt::Debug for OidcProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcProvider").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[async_trait]
impl IdentityProvider for OidcProvider {
    async fn authorization_url(&self, sign_in: &SignIn) -> Result<String, PortError> {
        let endpoints = self.endpoints().await?;
        // else whoever is signed in with one account only cannot choose another
        let asked = [("scope", SCOPES), ("prompt", "select_account")];
        Ok(self.request_at(&endpoints, sign_in, &asked).into())
    }

    async fn identify(&self, code: &str, sign_in: &SignIn) -> Result<Identity, PortError> {
        let endpoints = self.endpoints().await?;
        let tokens = exchange::tokens(&self.settings, &endpoints, &self.client, code, &sign_in.verifier).await?;
        self.proven(&endpoints, &tokens.id_token, sign_in).await
    }
}

/// What the issuer is shown of a verifier (`S256`).
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636, appendix B
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
