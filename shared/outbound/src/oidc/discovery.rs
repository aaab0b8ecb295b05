//! What an issuer publishes of itself: where it is asked what.

use std::sync::{Arc, Mutex, PoisonError};

use firebackup_model::{PortError, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::failure::{unavailable, unavailable_by};
use crate::client::OutboundClient;
use crate::request::OutboundRequest;

/// Seconds for which what an issuer publishes is taken as it was read.
const FRESH: f64 = 3600.0;
/// Such a document has a few kilobytes.
const DOCUMENT_BYTES: usize = 256 * 1024;

/// What OpenID Connect Discovery 1.0 says, as far as it matters here.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    revocation_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// How we say to the token endpoint who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientLogin {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
}

/// Where an issuer is asked what.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub authorization: Url,
    pub token: Url,
    pub keys: Url,
    /// Where tokens are given back (RFC 7009), where the issuer has a place for it.
    pub revocation: Option<Url>,
    pub login: ClientLogin,
}

/// The endpoints as they were last read, and when.
#[derive(Default)]
pub(super) struct Discovery {
    read: Mutex<Option<(Timestamp, Arc<Endpoints>)>>,
}

impl Discovery {
    /// The endpoints of `issuer`, which are read when none younger than an hour are known. Two who ask at once may both
    /// read: nobody waits behind somebody else's slow answer.
    pub async fn endpoints(
        &self,
        issuer: &str,
        client: &OutboundClient,
        now: Timestamp,
    ) -> Result<Arc<Endpoints>, PortError> {
        if let Some((_, endpoints)) = self.read().as_ref().filter(|(read, _)| is_fresh(*read, now)) {
            return Ok(Arc::clone(endpoints));
        }
        let endpoints = Arc::new(read(issuer, client).await?);
        *self.read() = Some((now, Arc::clone(&endpoints)));
        Ok(endpoints)
    }

    fn read(&self) -> std::sync::MutexGuard<'_, Option<(Timestamp, Arc<Endpoints>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what was read at `read` still counts. A clock that went back makes it old.
pub(super) fn is_fresh(read: Timestamp, now: Timestamp) -> bool {
    (0.0..FRESH).contains(&now.seconds_since(read))
}

async fn read(issuer: &str, client: &OutboundClient) -> Result<Endpoints, PortError> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let url = Url::parse(&url).map_err(|source| unavailable_by("the issuer is no URL", source))?;
    let document: Document = published(url, client).await?;
    // else one issuer could speak for another
    if document.issuer != issuer {
        return Err(unavailable("the issuer calls itself by another name than it has here"));
    }
    endpoints(&document, client)
}

fn endpoints(document: &Document, client: &OutboundClient) -> Result<Endpoints, PortError> {
    let endpoint = |text: &str| {
        let url = Url::parse(text).map_err(|source| unavailable_by("an endpoint of the issuer is no URL", source))?;
        client.check(&url).map_err(|source| unavailable_by("an endpoint of the issuer may not be called", source))?;
        Ok(url)
    };
    Ok(Endpoints {
        authorization: endpoint(&document.authorization_endpoint)?,
        token: endpoint(&document.token_endpoint)?,
        keys: endpoint(&document.jwks_uri)?,
        revocation: document.revocation_endpoint.as_deref().map(endpoint).transpose()?,
        login: client_login(document.token_endpoint_auth_methods_supported.as_deref())?,
    })
}

/// An issuer that does not say takes the first.
fn client_login(methods: Option<&[String]>) -> Result<ClientLogin, PortError> {
    let takes = |name: &str| methods.is_none_or(|methods| methods.iter().any(|method| method == name));
    if takes("client_secret_basic") {
        Ok(ClientLogin::Basic)
    } else if takes("client_secret_post") {
        Ok(ClientLogin::Post)
    } else {
        Err(unavailable("the issuer takes no client secret"))
    }
}

/// A document that anybody may read.
pub(super) async fn published<T: DeserializeOwned>(url: Url, client: &OutboundClient) -> Result<T, PortError> {
    let request = OutboundRequest::get(url).reading(DOCUMENT_BYTES);
    let answer = client.send(request).await.map_err(|source| unavailable_by("the issuer cannot be asked", source))?;
    if !answer.status.is_success() || answer.is_cut {
        return Err(unavailable(format!("the issuer answers {} instead of its configuration", answer.status)));
    }
    serde_json::from_slice(&answer.body).map_err(|source| unavailable_by("the issuer's configuration is none", source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::AddressGuard;

    fn document(change: &str, value: &str) -> Document {
        let mut document = serde_json::json!({
            "issuer": "https://issuer.example",
            "authorization_endpoint": "https://issuer.example/authorize?tenant=a",
            "token_endpoint": "https://issuer.example/token",
            "jwks_uri": "https://keys.example/keys",
        });
        document[change] = value.into();
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn endpoints_lie_outside_and_behind_tls() {
        let client = OutboundClient::new(AddressGuard::new(false)).unwrap();
        let check = |change: &str, value: &str| endpoints(&document(change, value), &client).is_ok();
        assert!(check("issuer", "https://issuer.example"));
        for endpoint in ["authorization_endpoint", "token_endpoint", "jwks_uri", "revocation_endpoint"] {
            for url in [
                "http://issuer.example/",
                "https://169.254.169.254/",
                "https://a:b@issuer.example/",
                "javascript:1",
                "",
            ] {
                assert!(!check(endpoint, url), "{endpoint} {url}");
            }
        }
    }

    #[test]
    fn the_secret_is_sent_as_the_issuer_takes_it() {
        let check = |methods: &[&str]| {
            let methods: Vec<_> = methods.iter().map(ToString::to_string).collect();
            client_login(Some(&methods)).ok()
        };
        assert_eq!(client_login(None).unwrap(), ClientLogin::Basic);
        assert_eq!(check(&["client_secret_post", "client_secret_basic"]), Some(ClientLogin::Basic));
        assert_eq!(check(&["private_key_jwt", "client_secret_post"]), Some(ClientLogin::Post));
        assert_eq!(check(&["private_key_jwt", "none"]), None);
        assert_eq!(check(&[]), None);
    }

    #[test]
    fn what_was_read_counts_for_an_hour() {
        let read = Timestamp::new(1_000_000, 0);
        assert!(is_fresh(read, read) && is_fresh(read, read.plus_seconds(3599)));
        assert!(!is_fresh(read, read.plus_seconds(3600)) && !is_fresh(read, read.plus_seconds(-1)));
    }
}
