//! An issuer in memory that people sign in with.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use firebackup_model::port::{AccountTokens, Consent, ConsentIssuer, Identity, IdentityProvider, SignIn};
use firebackup_model::{ErrorKind, PortError};

/// Gives a code to whoever is told to come, and takes it once, from whoever began.
#[derive(Debug, Default)]
pub struct MemoryIssuer {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// State to nonce and verifier, of those who began.
    begun: BTreeMap<String, (String, String)>,
    /// Code to state and whom it stands for.
    codes: BTreeMap<String, (String, Identity)>,
    /// Whether whoever comes leaves out what is needed.
    is_half_hearted: bool,
    /// Refresh tokens that were given back.
    given_back: Vec<String>,
    is_down: bool,
}

/// Somebody whose address the issuer vouches for.
#[must_use]
pub fn identity(subject: &str, email: &str) -> Identity {
    Identity {
        issuer: "https://issuer.example".to_owned(),
        subject: subject.to_owned(),
        email: Some(email.to_owned()),
        email_verified: true,
        name: Some(subject.to_owned()),
    }
}

/// A token of an account for an audience, which a [`MemoryIssuer`] takes.
#[must_use]
pub fn account_token(account: &str, audience: &str) -> String {
    format!("account {account} {audience}")
}

#[async_trait]
impl AccountTokens for MemoryIssuer {
    async fn account(&self, token: &str, audience: &str) -> Result<String, PortError> {
        if self.inside().is_down {
            return Err(PortError::new(ErrorKind::Unavailable, "prove an account", "down"));
        }
        let mut parts = token.split(' ');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("account"), Some(account), Some(to)) if to == audience => Ok(account.to_owned()),
            _ => Err(PortError::new(ErrorKind::PermissionDenied, "prove an account", "no token for this")),
        }
    }
}

impl MemoryIssuer {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody signs in there whose browser was sent to `url`: the state and the code with which it comes back.
    pub fn sign_in(&self, url: &str, who: Identity) -> (String, String) {
        let state = url.rsplit_once("state=").map(|(_, state)| state.to_owned()).unwrap_or_default();
        let mut inside = self.inside();
        let code = format!("code-{}", inside.codes.len());
        inside.codes.insert(code.clone(), (state.clone(), who));
        (state, code)
    }

    /// Whether whoever consents from now on leaves out what is needed.
    pub fn set_half_hearted(&self, is_half_hearted: bool) {
        self.inside().is_half_hearted = is_half_hearted;
    }

    /// The refresh tokens that were given back.
    pub fn given_back(&self) -> Vec<String> {
        self.inside().given_back.clone()
    }

    /// Whether it answers.
    pub fn set_down(&self, is_down: bool) {
        self.inside().is_down = is_down;
    }
}

#[async_trait]
impl IdentityProvider for MemoryIssuer {
    async fn authorization_url(&self, sign_in: &SignIn) -> Result<String, PortError> {
        self.begin("authorize", sign_in)
    }

    async fn identify(&self, code: &str, sign_in: &SignIn) -> Result<Identity, PortError> {
        self.exchange(code, sign_in)
    }
}

/// The refresh token of a consent of somebody; a test looks for it where none may be.
#[must_use]
pub fn refresh_token(who: &Identity) -> String {
    format!("planted-refresh-token-of-{}", who.subject)
}

#[async_trait]
impl ConsentIssuer for MemoryIssuer {
    async fn consent_url(&self, sign_in: &SignIn) -> Result<String, PortError> {
        self.begin("consent", sign_in)
    }

    async fn take_consent(&self, code: &str, sign_in: &SignIn) -> Result<Consent, PortError> {
        let who = self.exchange(code, sign_in)?;
        if self.inside().is_half_hearted {
            return Err(PortError::new(ErrorKind::FailedPrecondition, "exchange a code", "it is not enough"));
        }
        Ok(Consent { refresh_token: refresh_token(&who).into(), account: who.email })
    }

    async fn give_back(&self, refresh_token: &str) -> Result<(), PortError> {
        let mut inside = self.inside();
        if inside.is_down {
            return Err(PortError::new(ErrorKind::Unavailable, "give a consent back", "no answer"));
        }
        inside.given_back.push(refresh_token.to_owned());
        Ok(())
    }
}

impl MemoryIssuer {
    fn begin(&self, page: &str, sign_in: &SignIn) -> Result<String, PortError> {
        let mut inside = self.inside();
        if inside.is_down {
            return Err(PortError::new(ErrorKind::Unavailable, "discover the issuer", "no answer"));
        }
        inside.begun.insert(sign_in.state.clone(), (sign_in.nonce.clone(), sign_in.verifier.clone()));
        Ok(format!("https://issuer.example/{page}?state={}", sign_in.state))
    }

    fn exchange(&self, code: &str, sign_in: &SignIn) -> Result<Identity, PortError> {
        let mut inside = self.inside();
        if inside.is_down {
            return Err(PortError::new(ErrorKind::Unavailable, "exchange a code", "no answer"));
        }
        let refused = || PortError::new(ErrorKind::PermissionDenied, "exchange a code", "it is not taken");
        let (state, identity) = inside.codes.remove(code).ok_or_else(refused)?;
        let began = inside.begun.get(&state).ok_or_else(refused)?;
        let is_same = *began == (sign_in.nonce.clone(), sign_in.verifier.clone());
        if is_same { Ok(identity) } else { Err(refused()) }
    }
}
