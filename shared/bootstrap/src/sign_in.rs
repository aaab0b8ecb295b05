//! How people sign in: with which issuer, where browsers go, and who may become a user.

use std::str::FromStr;
use std::sync::Arc;

use firebackup_control::SignUp;
use firebackup_http::{CALLBACK_PATH, EVENTS_PATH, SignInPages};
use firebackup_model::port::{AccountTokens, Clock, ConsentIssuer, IdentityProvider};
use firebackup_model::{ErrorKind, PortError};
use firebackup_outbound::{AddressGuard, OidcAccounts, OidcProvider, OidcSettings, OutboundClient, Url};

use crate::oauth_client::{for_consents, opens_projects};

/// The issuer where none is named.
pub const GOOGLE: &str = "https://accounts.google.com";

/// How people sign in.
#[derive(Debug, Clone, Default)]
pub struct SignInSettings {
    /// The issuer that people sign in with. Without one there are API keys, and the code of whoever runs the server.
    pub issuer: Option<OidcSettings>,
    /// How a browser is sent back.
    pub pages: SignInPages,
    /// Who may become a user without an invite.
    pub sign_up: SignUp,
}

/// Where browsers reach the server: scheme and host. In the clear only on the loopback interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(Url);

impl PublicUrl {
    /// Where an issuer sends browsers back to. It must be told of it.
    #[must_use]
    pub fn callback(&self) -> String {
        let mut url = self.0.clone();
        url.set_path(CALLBACK_PATH);
        url.into()
    }

    /// Where events of a project are posted to, with `{projectId}` in the place of its id.
    #[must_use]
    pub fn events(&self) -> String {
        // as a path of a URL the braces would be encoded
        format!("{}{EVENTS_PATH}", self.0.as_str().trim_end_matches('/'))
    }

    /// Whether browsers come by TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = page(text)?;
        match url.path() == "/" && url.query().is_none() {
            true => Ok(Self(url)),
            false => Err("expected scheme and host only, such as https://backup.example.com".to_owned()),
        }
    }
}

/// Reads the URL of a page that browsers are sent to.
///
/// # Errors
/// When it is none, or would show a code to whoever listens on the way.
pub fn page(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| "it is not a url".to_owned())?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("expected a url without credentials and `#`".to_owned());
    }
    let is_local = ["localhost", "127.0.0.1", "[::1]"].into_iter().any(|host| url.host_str() == Some(host));
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local => Ok(url),
        "http" => Err("codes would travel in the clear: use https, except on the loopback interface".to_owned()),
        _ => Err("expected https://host".to_owned()),
    }
}

/// The issuer, called only where that is allowed.
///
/// # Errors
/// When it may not be called, or TLS cannot be set up on this machine.
pub(crate) fn provider(
    settings: OidcSettings,
    allow_private_addresses: bool,
    clock: Arc<dyn Clock>,
) -> Result<OidcProvider, PortError> {
    let client = client_of(&settings.issuer, "set up the sign-in", allow_private_addresses)?;
    Ok(OidcProvider::new(settings, client, clock))
}

/// What calls an issuer that may be called.
fn client_of(issuer: &str, operation: &str, allow_private_addresses: bool) -> Result<OutboundClient, PortError> {
    let failed = |why: &str| PortError::new(ErrorKind::InvalidArgument, operation, why);
    let client = OutboundClient::new(AddressGuard::new(allow_private_addresses));
    let client = client.map_err(|error| failed("TLS cannot be used on this machine").with_source(error))?;
    let issuer = Url::parse(issuer).map_err(|error| failed("the issuer is not a url").with_source(error))?;
    client.check(&issuer).map_err(|error| failed("the issuer may not be called").with_source(error))?;
    Ok(client)
}

/// Who proves the tokens that an issuer makes for accounts, called only where that is allowed.
///
/// # Errors
/// As [`provider`].
pub(crate) fn accounts_of(
    issuer: String,
    allow_private_addresses: bool,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn AccountTokens>, PortError> {
    let client = client_of(&issuer, "set up who posts events", allow_private_addresses)?;
    Ok(Arc::new(OidcAccounts::new(issuer, client, Arc::clone(clock))))
}

/// As [`provider`], where there is one.
pub(crate) fn provider_of(
    issuer: Option<OidcSettings>,
    allow_private_addresses: bool,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<dyn IdentityProvider>>, PortError> {
    let Some(settings) = issuer else { return Ok(None) };
    Ok(Some(Arc::new(provider(settings, allow_private_addresses, Arc::clone(clock))?)))
}

/// Who asks people whether we may into their projects, where the client's consents open any.
pub(crate) fn consents_of(
    issuer: Option<&OidcSettings>,
    emulator: Option<&str>,
    allow_private_addresses: bool,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<dyn ConsentIssuer>>, PortError> {
    let Some(settings) = issuer.filter(|settings| opens_projects(&settings.issuer, emulator)) else { return Ok(None) };
    Ok(Some(Arc::new(provider(for_consents(settings), allow_private_addresses, Arc::clone(clock))?)))
}

#[cfg(test)]
mod tests {
    use firebackup_testkit::HandClock;

    use super::*;

    #[test]
    fn browsers_come_by_tls_or_from_this_machine() {
        for (text, callback) in [
            ("https://backup.example.com", "https://backup.example.com/api/v1/auth/google/callback"),
            ("https://backup.example.com:8443/", "https://backup.example.com:8443/api/v1/auth/google/callback"),
            ("http://127.0.0.1:8642", "http://127.0.0.1:8642/api/v1/auth/google/callback"),
            ("http://[::1]:1", "http://[::1]:1/api/v1/auth/google/callback"),
        ] {
            let url: PublicUrl = text.parse().unwrap();
            assert_eq!((url.callback().as_str(), url.is_secure()), (callback, text.starts_with("https")), "{text}");
        }
        for bad in [
            "http://backup.example.com",
            "http://localhost.example.com",
            "https://backup.example.com/path",
            "https://backup.example.com/?x",
            "https://key:secret@backup.example.com",
            "https://backup.example.com/#x",
            "ftp://backup.example.com",
            "backup.example.com",
            "",
        ] {
            let error = bad.parse::<PublicUrl>().unwrap_err();
            assert!(!error.contains("secret"), "{bad}: {error}");
        }
        assert!(page("https://app.example.com/sign-in?from=backup").is_ok());
    }

    #[test]
    fn an_issuer_inside_is_for_those_who_allow_it() {
        let clock: Arc<dyn Clock> = Arc::new(HandClock::default());
        let (client_secret, client_id) = ("planted-secret".to_owned().into(), "id".to_owned());
        let issuer = "https://10.0.0.1".to_owned();
        let redirect_uri = "https://b.example/cb".to_owned();
        let settings = OidcSettings { issuer, client_id, client_secret, redirect_uri };
        let error = provider(settings.clone(), false, Arc::clone(&clock)).unwrap_err();
        assert!(error.to_string().contains("may not be called"), "{error}");
        assert!(!format!("{error:?}").contains("planted"), "{error:?}");
        assert!(provider_of(Some(settings), true, &clock).unwrap().is_some());
        assert!(provider_of(None, false, &clock).unwrap().is_none());
    }
}
