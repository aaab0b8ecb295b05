//! A person lets us into their Google projects: the authorization code flow with PKCE, for access that outlasts the browser.
//!
//! What is asked for is the least that backups and restores need. `datastore` reads and writes documents, counts them, and
//! lists databases with their settings; there is no scope of Firestore's that only reads. `identitytoolkit` reads and writes
//! Auth users and reads how passwords are hashed. Both are narrower than `firebase` and `cloud-platform`, which would open all
//! of a project. `openid email` says whose consent it is.

use async_trait::async_trait;
use firebackup_model::port::{Consent, ConsentIssuer, SignIn};
use firebackup_model::{ErrorKind, PortError};

use super::{OidcProvider, exchange};

const DATASTORE: &str = "https://www.googleapis.com/auth/datastore";
const IDENTITY_TOOLKIT: &str = "https://www.googleapis.com/auth/identitytoolkit";
const OPERATION: &str = "ask for a consent";

#[async_trait]
impl ConsentIssuer for OidcProvider {
    async fn consent_url(&self, sign_in: &SignIn) -> Result<String, PortError> {
        let endpoints = self.endpoints().await?;
        let scope = format!("openid email {DATASTORE} {IDENTITY_TOOLKIT}");
        // Google gives a refresh token when it has asked, and does not ask again unless it is told to
        let asked = [("scope", &*scope), ("access_type", "offline"), ("prompt", "select_account consent")];
        Ok(self.request_at(&endpoints, sign_in, &asked).into())
    }

    async fn take_consent(&self, code: &str, sign_in: &SignIn) -> Result<Consent, PortError> {
        let endpoints = self.endpoints().await?;
        let tokens = exchange::tokens(&self.settings, &endpoints, &self.client, code, &sign_in.verifier).await?;
        let identity = self.proven(&endpoints, &tokens.id_token, sign_in).await?;
        // people may untick what is asked for: Auth users are missed when they are asked for
        if tokens.scope.is_some_and(|scope| !scope.split(' ').any(|granted| granted == DATASTORE)) {
            return Err(incomplete("documents are not among what was consented to"));
        }
        let refresh_token = tokens.refresh_token.ok_or_else(|| incomplete("the issuer gives no refresh token"))?;
        Ok(Consent { refresh_token: refresh_token.into(), account: identity.email.filter(|_| identity.email_verified) })
    }

    async fn give_back(&self, refresh_token: &str) -> Result<(), PortError> {
        let endpoints = self.endpoints().await?;
        exchange::revoke(&self.settings, &endpoints, &self.client, refresh_token).await
    }
}

fn incomplete(why: &str) -> PortError {
    PortError::new(ErrorKind::FailedPrecondition, OPERATION, why)
}
