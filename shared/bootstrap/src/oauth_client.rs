//! The installation's OAuth client, by whose consents projects are let in: where it is Google's, or where an emulator stands in
//! Google's place.

use std::sync::Arc;

use firebackup_google::UserConsent;
use firebackup_http::CONSENT_CALLBACK_PATH;
use firebackup_model::PortError;
use firebackup_outbound::{OidcSettings, Url};
use futures::future::BoxFuture;
use zeroize::Zeroizing;

use crate::sealed_issuer::SealedClient;
use crate::sign_in::GOOGLE;

/// The client, and what its consents open.
#[derive(Clone)]
pub(crate) struct OauthClient {
    source: Source,
    /// An emulator of Firestore in Google's place, whose tokens the client's issuer gives.
    emulator: Option<String>,
}

/// Where the client's secret comes from.
#[derive(Clone)]
enum Source {
    Open(Arc<OidcSettings>),
    Sealed(Arc<SealedClient>),
}

impl OauthClient {
    /// A client whose secret is at hand; nothing if its consents open no project.
    pub(crate) fn open(settings: &OidcSettings, emulator: Option<String>) -> Option<Self> {
        opens_projects(&settings.issuer, emulator.as_deref())
            .then(|| Self { source: Source::Open(Arc::new(settings.clone())), emulator })
    }

    /// A client whose secret is opened when it is needed first; nothing if its consents open no project.
    pub(crate) fn sealed(client: SealedClient, emulator: Option<String>) -> Option<Self> {
        opens_projects(client.issuer(), emulator.as_deref())
            .then(|| Self { source: Source::Sealed(Arc::new(client)), emulator })
    }

    /// Whether an emulator stands in Google's place.
    pub(crate) const fn is_emulated(&self) -> bool {
        self.emulator.is_some()
    }

    /// A consent to this client.
    ///
    /// # Errors
    /// When the client's secret does not open.
    // boxed: the layout of all steps in one future is more than the compiler computes
    pub(crate) fn consent<'a>(&'a self, refresh_token: &'a str) -> BoxFuture<'a, Result<UserConsent, PortError>> {
        Box::pin(self.opened(refresh_token))
    }

    async fn opened(&self, refresh_token: &str) -> Result<UserConsent, PortError> {
        let settings = match &self.source {
            Source::Open(settings) => (**settings).clone(),
            Source::Sealed(client) => client.settings().await?,
        };
        let refresh_token = Zeroizing::new(refresh_token.to_owned());
        let consent = UserConsent::new(settings.client_id, settings.client_secret, refresh_token);
        Ok(match &self.emulator {
            // as Google's own token server has it
            Some(emulator) => consent.at(&format!("{}/token", settings.issuer.trim_end_matches('/')), emulator),
            None => consent,
        })
    }
}

/// Whether tokens of an issuer open Firestore.
pub(crate) fn opens_projects(issuer: &str, emulator: Option<&str>) -> bool {
    issuer == GOOGLE || emulator.is_some()
}

/// The settings of the same client for consents: browsers come back elsewhere.
pub(crate) fn for_consents(settings: &OidcSettings) -> OidcSettings {
    let mut settings = settings.clone();
    if let Ok(mut url) = Url::parse(&settings.redirect_uri) {
        url.set_path(CONSENT_CALLBACK_PATH);
        settings.redirect_uri = url.into();
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(issuer: &str) -> OidcSettings {
        OidcSettings {
            issuer: issuer.to_owned(),
            client_id: "id".to_owned(),
            client_secret: "planted-secret".to_owned().into(),
            redirect_uri: "https://b.example:8443/api/v1/auth/google/callback".to_owned(),
        }
    }

    #[tokio::test]
    async fn projects_are_let_in_by_google_alone_or_what_stands_in_its_place() {
        let other = "https://issuer.example";
        assert!(OauthClient::open(&settings(other), None).is_none());
        assert!(OauthClient::open(&settings("https://accounts.google.com.evil.example"), None).is_none());
        let google = OauthClient::open(&settings(GOOGLE), None).unwrap();
        let emulated = OauthClient::open(&settings(other), Some("localhost:1".to_owned())).unwrap();
        assert!(!google.is_emulated() && emulated.is_emulated());
        let expected = |secret: &str| UserConsent::new("id".into(), secret.to_owned().into(), "r".to_owned().into());
        assert_eq!(google.consent("r").await.unwrap(), expected("planted-secret"));
        let at = expected("planted-secret").at("https://issuer.example/token", "localhost:1");
        assert_eq!(emulated.consent("r").await.unwrap(), at);
    }

    #[test]
    fn a_consent_comes_back_to_a_place_of_its_own() {
        let redirect = for_consents(&settings(GOOGLE)).redirect_uri;
        assert_eq!(redirect, "https://b.example:8443/api/v1/projects/oauth/callback");
    }
}
