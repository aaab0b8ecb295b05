//! Tokens of accounts that no browser stands behind: a program shows who it is by an id token of its issuer.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use firebackup_model::PortError;
use firebackup_model::port::{AccountTokens, Clock};

use super::discovery::Discovery;
use super::id_token;
use super::keys::KeyCache;
use crate::client::OutboundClient;

/// One issuer whose tokens of accounts are taken. What it publishes of itself is kept for an hour.
pub struct OidcAccounts {
    issuer: String,
    client: OutboundClient,
    clock: Arc<dyn Clock>,
    discovery: Discovery,
    keys: KeyCache,
}

impl OidcAccounts {
    /// Nothing is asked of the issuer yet. Tokens are held against `clock`.
    #[must_use]
    pub fn new(issuer: String, client: OutboundClient, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, client, clock, discovery: Discovery::default(), keys: KeyCache::default() }
    }
}

impl fmt::Debug for OidcAccounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcAccounts").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[async_trait]
impl AccountTokens for OidcAccounts {
    async fn account(&self, token: &str, audience: &str) -> Result<String, PortError> {
        let now = self.clock.now();
        // what cannot be a token of anybody asks nothing of the issuer
        let header = id_token::header(token)?;
        let endpoints = self.discovery.endpoints(&self.issuer, &self.client, now).await?;
        let key = self.keys.key(&header, &endpoints.keys, &self.client, now).await?;
        let claims = id_token::claims(token, header.alg, &key)?;
        id_token::account(claims, &self.issuer, audience, now)
    }
}
