//! How people sign in with a server.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use firebackup_bootstrap::{GOOGLE, OidcSettings, PublicUrl, SignInPages, SignInSettings, page};
use firebackup_control::SignUp;

use crate::error::{CliError, Result};
use crate::keys::read_line;

/// Whom people sign in with, and where browsers go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sign-in")]
pub(crate) struct SignInArgs {
    /// What an OpenID Connect issuer knows this server by: with it people sign in at /api/v1/auth/google
    #[arg(long, value_name = "ID", requires = "oidc_client_secret_file")]
    oidc_client_id: Option<String>,
    /// The secret that the issuer gave with it
    #[arg(long, value_name = "FILE", requires = "oidc_client_id")]
    oidc_client_secret_file: Option<PathBuf>,
    /// The issuer
    #[arg(long, value_name = "URL", default_value = GOOGLE, requires = "oidc_client_id")]
    oidc_issuer: String,
    /// Who makes the id tokens of accounts that post events of changes
    #[arg(long, value_name = "URL", default_value = GOOGLE)]
    events_issuer: String,
    /// Where browsers reach this server, scheme and host [default: where it listens]
    #[arg(long, value_name = "URL")]
    public_url: Option<PublicUrl>,
    /// The page that a browser is sent to after a sign-in, with its code as `?code=`
    #[arg(long, value_name = "URL", value_parser = page_url)]
    app_url: Option<String>,
    /// Who may sign up without an invite: addresses and @domains, between commas; * is everybody
    #[arg(long, value_name = "WHO", default_value = "", hide_default_value = true)]
    sign_up: String,
}

fn page_url(text: &str) -> Result<String, String> {
    page(text).map(Into::into)
}

impl SignInArgs {
    /// The settings of a server that listens at `address`, by TLS or not.
    ///
    /// # Errors
    /// When the secret cannot be read, or nobody knows where browsers reach the server.
    pub(crate) fn settings(&self, address: SocketAddr, is_tls: bool) -> Result<SignInSettings> {
        let is_secure = self.public_url.as_ref().map_or(is_tls, PublicUrl::is_secure);
        let issuer = match (&self.oidc_client_id, &self.oidc_client_secret_file) {
            (Some(client_id), Some(file)) => Some(OidcSettings {
                issuer: self.oidc_issuer.clone(),
                client_id: client_id.clone(),
                client_secret: read_line(file, "read the secret file", "secret")?,
                redirect_uri: self.reached_at(address, is_tls)?.callback(),
            }),
            _ => None,
        };
        Ok(SignInSettings { issuer, pages: self.pages(is_secure), sign_up: SignUp::read(&self.sign_up) })
    }

    /// Who makes the tokens of those who post events.
    pub(crate) fn events_issuer(&self) -> String {
        self.events_issuer.clone()
    }

    /// Where they post them, where that is known.
    pub(crate) fn events_url(&self, address: SocketAddr, is_tls: bool) -> Option<String> {
        self.reached_at(address, is_tls).ok().map(|url| url.events())
    }

    /// The page that signs the owner in.
    pub(crate) fn link(&self, code: &str) -> Option<String> {
        // what is no address was refused with the arguments
        self.pages(false).with_code(code).ok().flatten()
    }

    fn pages(&self, is_secure: bool) -> SignInPages {
        SignInPages { app_url: self.app_url.clone(), is_secure }
    }

    fn reached_at(&self, address: SocketAddr, is_tls: bool) -> Result<PublicUrl> {
        if let Some(url) = &self.public_url {
            return Ok(url.clone());
        }
        let scheme = if is_tls { "https" } else { "http" };
        let unknown = || {
            let text = "the issuer sends browsers back to this server: say where they reach it with --public-url";
            CliError::Usage(text.to_owned())
        };
        if address.ip().is_unspecified() {
            return Err(unknown());
        }
        format!("{scheme}://{address}").parse().map_err(|_| unknown())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Serve {
        #[command(flatten)]
        sign_in: SignInArgs,
    }

    fn parsed(arguments: &[&str]) -> Result<SignInArgs, String> {
        let arguments = std::iter::once("serve").chain(arguments.iter().copied());
        Serve::try_parse_from(arguments).map(|serve| serve.sign_in).map_err(|error| error.to_string())
    }

    #[test]
    fn an_issuer_needs_a_client_and_a_place_to_come_back_to() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "planted-secret\n").unwrap();
        let client = ["--oidc-client-id", "id", "--oidc-client-secret-file", file.to_str().unwrap()];
        let local: SocketAddr = "127.0.0.1:8642".parse().unwrap();
        let sign_in = parsed(&client).unwrap();
        let settings = sign_in.settings(local, false).unwrap();
        assert!(!format!("{settings:?}").contains("planted"), "{settings:?}");
        let issuer = settings.issuer.unwrap();
        assert_eq!((issuer.issuer.as_str(), issuer.client_secret.as_str()), (GOOGLE, "planted-secret"));
        assert_eq!(issuer.redirect_uri, "http://127.0.0.1:8642/api/v1/auth/google/callback");
        for (address, is_tls) in [("0.0.0.0:1", true), ("[::]:1", true), ("192.0.2.1:1", false)] {
            let error = sign_in.settings(address.parse().unwrap(), is_tls).unwrap_err();
            assert!(error.to_string().contains("--public-url"), "{address}: {error}");
        }
        let public = parsed(&[&client[..], &["--public-url", "https://b.example"]].concat()).unwrap();
        let settings = public.settings("0.0.0.0:1".parse().unwrap(), false).unwrap();
        assert!(settings.pages.is_secure);
        let events =
            parsed(&["--public-url", "https://b.example"]).unwrap().events_url("0.0.0.0:1".parse().unwrap(), false);
        assert_eq!(events.as_deref(), Some("https://b.example/api/v1/pitr/{projectId}/events"));
        assert_eq!(parsed(&[]).unwrap().events_url("0.0.0.0:1".parse().unwrap(), false), None);
        assert_eq!(settings.issuer.unwrap().redirect_uri, "https://b.example/api/v1/auth/google/callback");
        assert!(parsed(&[]).unwrap().settings("0.0.0.0:1".parse().unwrap(), false).unwrap().issuer.is_none());
        for bad in [&client[..2], &client[2..], &["--oidc-issuer", "https://i.example"], &["--public-url", "http://b"]]
        {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_link_of_the_owner_is_the_page_with_a_code() {
        let sign_in = parsed(&["--app-url", "https://app.example/in?x=1"]).unwrap();
        assert_eq!(sign_in.link("fbc_a").as_deref(), Some("https://app.example/in?x=1&code=fbc_a"));
        assert_eq!(parsed(&[]).unwrap().link("fbc_a"), None);
    }
}
