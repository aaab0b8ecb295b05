//! Google by a person's consent: their refresh token against access tokens, with the OAuth client that they consented to.
//!
//! Google's library exchanges, keeps the token and gets the next one before the end; here stands what it is told, and what
//! its failures mean. One of them is nobody's mistake: the person has taken the consent back.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use firebackup_model::error::{ErrorKind, PortError};
use gcloud_sdk::GoogleAuthHeaders;
use gcloud_sdk::google_cloud_auth::credentials::user_account::Builder;
use serde_json::json;
use zeroize::Zeroizing;

use crate::access::sdk_error_kind;
use crate::channel::FIRESTORE_URL;
use crate::permissions::RESOURCE_MANAGER_URL;

const OPERATION: &str = "get a Google token by consent";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// The exchange takes well below a second, and the library has no limit of its own.
const FIRST_TOKEN_LIMIT: Duration = Duration::from_secs(30);
/// What a token server says of a refresh token that it does not take any more (RFC 6749, 5.2).
const TAKEN_BACK: &str = "invalid_grant";

/// What a person has consented to, and to whom. Debug shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct UserConsent {
    client_id: String,
    client_secret: Zeroizing<String>,
    refresh_token: Zeroizing<String>,
    servers: Servers,
}

/// Where tokens are had, and what they open. No request leads elsewhere: only whoever runs the installation does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Servers {
    tokens: String,
    firestore: String,
    resource_manager: String,
}

impl UserConsent {
    /// A consent to a client.
    #[must_use]
    pub fn new(client_id: String, client_secret: Zeroizing<String>, refresh_token: Zeroizing<String>) -> Self {
        let servers = Servers {
            tokens: TOKEN_URL.to_owned(),
            firestore: FIRESTORE_URL.to_owned(),
            resource_manager: RESOURCE_MANAGER_URL.to_owned(),
        };
        Self { client_id, client_secret, refresh_token, servers }
    }

    /// Others in Google's place: the URL where tokens are had, and `host:port` of an emulator of Firestore. Who gives the tokens
    /// may know what they permit, too.
    #[must_use]
    pub fn at(mut self, tokens: &str, emulator: &str) -> Self {
        self.servers = Servers {
            tokens: tokens.to_owned(),
            firestore: format!("http://{emulator}"),
            resource_manager: tokens.trim_end_matches("/token").to_owned(),
        };
        self
    }

    /// Where Firestore is.
    pub(crate) fn firestore_url(&self) -> &str {
        &self.servers.firestore
    }

    /// Where permissions are asked for.
    pub(crate) fn resource_manager_url(&self) -> &str {
        &self.servers.resource_manager
    }

    /// Finds out whether the consent still holds.
    ///
    /// # Errors
    /// [`Unauthenticated`](ErrorKind::Unauthenticated) where it was taken back, and for no other reason.
    pub async fn check(&self) -> Result<(), PortError> {
        self.auth_headers().await.map(drop)
    }

    /// The headers of requests. The first token is fetched here, so that whoever connects is told that the consent is gone.
    pub(crate) async fn auth_headers(&self) -> Result<GoogleAuthHeaders, PortError> {
        let user = json!({
            "type": "authorized_user",
            "client_id": self.client_id,
            "client_secret": self.client_secret.as_str(),
            "refresh_token": self.refresh_token.as_str(),
        });
        // the library's message may quote what it was given
        let credentials = Builder::new(user).with_token_uri(&self.servers.tokens).build();
        let credentials = credentials.map_err(|_| failed(ErrorKind::Internal, "the consent is not usable"))?;
        let headers = GoogleAuthHeaders::from(credentials);
        match tokio::time::timeout(FIRST_TOKEN_LIMIT, headers.headers()).await {
            Ok(Ok(_)) => Ok(headers),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_) => Err(silent()),
        }
    }
}

impl fmt::Debug for UserConsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserConsent").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

fn failed(kind: ErrorKind, message: &str) -> PortError {
    PortError::new(kind, OPERATION, message)
}

fn silent() -> PortError {
    failed(ErrorKind::Unavailable, "Google's token server does not answer")
}

/// What a refusal means. What the server wrote is not kept: it may repeat what it was sent.
fn refused(error: &gcloud_sdk::error::Error) -> PortError {
    if sdk_error_kind(error).can_be_retried() {
        return silent();
    }
    match says(error, TAKEN_BACK) {
        true => failed(
            ErrorKind::Unauthenticated,
            "the Google account that let us in has taken its consent back, or the consent has ended: connect the project again",
        ),
        false => failed(
            ErrorKind::PermissionDenied,
            "Google's token server does not take the OAuth client of this installation: check its id and secret",
        ),
    }
}

/// Whether an error or one of its causes says this. The SDK's own error does not tell its source.
fn says(error: &gcloud_sdk::error::Error, text: &str) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = match error.kind() {
        gcloud_sdk::error::ErrorKind::Credentials(credentials) => Some(credentials),
        _ => None,
    };
    while let Some(error) = cause {
        if error.to_string().contains(text) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use firebackup_embedded::emulator::Emulator;
    use firebackup_model::DatabaseName;
    use firebackup_model::port::DocumentSource;
    use firebackup_testkit::OAuthServer;
    use http::header::AUTHORIZATION;

    use super::*;
    use crate::{Access, Firestore, FirestoreOptions};

    const TOKEN: &str = "planted-refresh-token";
    const SECRET: &str = "planted-client-secret";

    async fn issuer() -> OAuthServer {
        let server = OAuthServer::start("client", SECRET).await;
        server.tell(json!({ "consent": TOKEN })).await;
        server
    }

    fn consent(server: &OAuthServer, secret: &str, emulator: &str) -> UserConsent {
        let consent = UserConsent::new("client".to_owned(), secret.to_owned().into(), TOKEN.to_owned().into());
        consent.at(&format!("{}/token", server.issuer()), emulator)
    }

    async fn refusal(consent: &UserConsent) -> PortError {
        let error = consent.check().await.unwrap_err();
        let told = format!("{error} {error:?} {:?} {consent:?}", Error::source(&error));
        assert!(!told.contains("planted"), "{told}");
        error
    }

    #[tokio::test]
    async fn a_consent_opens_firestore_until_it_is_taken_back() {
        let (server, emulator) = (issuer().await, Emulator::start().await.unwrap());
        let consent = consent(&server, SECRET, emulator.host());
        let headers = consent.auth_headers().await.unwrap();
        for _ in 0..3 {
            assert_eq!(headers.headers().await.unwrap()[AUTHORIZATION], "Bearer access-token-1", "it is kept");
        }
        // the one token that an emulator takes
        server.tell(json!({ "accessToken": "owner" })).await;
        let access = Access::Consented(consent.clone());
        let options = FirestoreOptions { database: DatabaseName::new("p", "named"), access: access.clone() };
        let firestore = Firestore::connect(options.clone()).await.unwrap();
        assert!(firestore.snapshot_time().await.unwrap().seconds > 1_700_000_000);
        server.tell(json!({ "forgetConsents": true })).await;
        let error = refusal(&consent).await;
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
        assert!(error.message().contains("connect the project again"), "{error}");
        assert_eq!(Firestore::connect(options).await.err().unwrap().kind, ErrorKind::Unauthenticated);
        assert!(!format!("{access} {access:?}").contains("planted"), "{access}");
    }

    #[tokio::test]
    async fn a_consent_is_gone_only_where_the_server_says_so() {
        let server = issuer().await;
        let other_secret = consent(&server, "planted-other-secret", "localhost:1");
        assert_eq!(refusal(&other_secret).await.kind, ErrorKind::PermissionDenied);
        let consent = consent(&server, SECRET, "localhost:1");
        for status in [429, 500, 503] {
            server.tell(json!({ "status": status })).await;
            let error = refusal(&consent).await;
            assert_eq!((error.kind, error.can_be_retried()), (ErrorKind::Unavailable, true), "{status} {error:?}");
        }
        server.tell(json!({ "status": 404 })).await;
        assert_eq!(refusal(&consent).await.kind, ErrorKind::PermissionDenied);
    }

    #[test]
    fn tokens_are_had_of_google() {
        let consent = UserConsent::new(String::new(), Zeroizing::default(), Zeroizing::default());
        assert_eq!(consent.servers.tokens, "https://oauth2.googleapis.com/token");
        assert_eq!(consent.firestore_url(), "https://firestore.googleapis.com");
        assert_eq!(consent.resource_manager_url(), "https://cloudresourcemanager.googleapis.com");
        let elsewhere = consent.at("http://localhost:1/tenant/token", "localhost:2");
        assert_eq!(elsewhere.resource_manager_url(), "http://localhost:1/tenant");
    }
}
