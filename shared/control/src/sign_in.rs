//! The sign-in: a browser is sent to the issuer, and comes back with a code.
//!
//! What ties the way there to the way back is derived from one secret that only the browser holds (in a cookie): state,
//! nonce and the verifier of PKCE. Nothing is stored on the way there, so that nobody fills the table by asking; on the way
//! back it is, that this one was used.

use firebackup_model::port::{Identity, IdentityProvider, ItemWrite, NewItem, Random, SignIn};
use firebackup_model::{ErrorKind, PortError, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::actor::Origin;
use crate::control::Control;
use crate::error::{Code, ControlError, Kind, Result};
use crate::item_keys;
use crate::record::{MAX_ATTEMPTS, Written, new_item};
use crate::session::CODE_SECONDS;
use crate::token;
use crate::user::vouched_for;

/// How long somebody may take to sign in with the issuer.
pub const SIGN_IN_SECONDS: i64 = 10 * 60;

/// Who may become a user. Whoever holds an invite always may.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SignUp {
    /// Nobody else.
    #[default]
    Invited,
    /// These addresses, and whoever has an address in one of these domains (`@example.com`).
    Listed(Vec<String>),
    /// Everybody whom the issuer knows.
    Anyone,
}

impl SignUp {
    /// Reads a setting: empty for invited people only, `*` for everybody, else addresses and `@domains` between commas.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let entries: Vec<String> =
            text.split(',').map(crate::user::address).filter(|entry| !entry.is_empty()).collect();
        match entries.as_slice() {
            [] => Self::Invited,
            entries if entries.iter().any(|entry| entry == "*") => Self::Anyone,
            _ => Self::Listed(entries),
        }
    }

    fn takes(&self, email: Option<&str>) -> bool {
        match self {
            Self::Invited => false,
            Self::Anyone => true,
            Self::Listed(entries) => email.is_some_and(|email| entries.iter().any(|entry| is_entry(entry, email))),
        }
    }
}

fn is_entry(entry: &str, email: &str) -> bool {
    match email.rsplit_once('@') {
        Some((_, domain)) if entry.starts_with('@') => entry[1..] == *domain,
        _ => entry == email,
    }
}

/// A sign-in that has begun.
pub struct BegunSignIn {
    /// Where the browser is to go.
    pub url: String,
    /// What the browser must bring back; for a cookie that no script reads.
    pub browser_secret: Zeroizing<String>,
}

/// That somebody has come back; a second one is not let in.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UsedSignIn {}

/// How much the clocks of two processes of ours may differ, in seconds.
pub(crate) const SKEW_SECONDS: i64 = 60;

/// What one browser's secret stands for.
pub(crate) fn derived(browser_secret: &str) -> SignIn {
    let part = |name: &str| token::hash(format!("{name}:{browser_secret}").as_bytes());
    SignIn { state: part("state"), nonce: part("nonce"), verifier: part("verifier") }
}

/// What a browser is given: a secret, and when.
fn browser_secret(random: &dyn Random, now: Timestamp) -> Zeroizing<String> {
    Zeroizing::new(format!("{}.{}", token::secret(random).as_str(), now.seconds))
}

/// Whether a browser was given this, and not too long ago. Whoever changes the time changes what is derived from it.
fn is_under_way(browser_secret: &str, now: Timestamp) -> bool {
    let Some((secret, begun)) = browser_secret.split_once('.') else { return false };
    let age = begun.parse::<i64>().ok().and_then(|begun| now.seconds.checked_sub(begun));
    token::is_secret(secret) && age.is_some_and(|age| (-SKEW_SECONDS..=SIGN_IN_SECONDS).contains(&age))
}

impl Control {
    /// Whether people can sign in.
    #[must_use]
    pub fn has_sign_in(&self) -> bool {
        self.ports().identity.is_some()
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// [`SignInUnavailable`](Code::SignInUnavailable) where no issuer is set up; when the issuer does not answer.
    pub async fn begin_sign_in(&self) -> Result<BegunSignIn> {
        let browser_secret = browser_secret(self.ports().random.as_ref(), self.now());
        let url = self.issuer()?.authorization_url(&derived(&browser_secret)).await.map_err(refused_by_issuer)?;
        Ok(BegunSignIn { url, browser_secret })
    }

    /// Ends a sign-in: proves who came back, makes a user of whoever is new and may become one, and gives a code for
    /// [`begin_session`](Self::begin_session).
    ///
    /// # Errors
    /// [`SignInFailed`](Code::SignInFailed): another browser began it, it comes twice or too late, or the issuer's answer
    /// proves nothing. [`SignUpClosed`](Code::SignUpClosed).
    pub async fn finish_sign_in(
        &self,
        state: &str,
        code: &str,
        browser_secret: Option<&str>,
        origin: &Origin,
    ) -> Result<Zeroizing<String>> {
        let now = self.now();
        let sign_in = derived(browser_secret.filter(|secret| is_under_way(secret, now)).ok_or_else(failed)?);
        if !token::is_same(&sign_in.state, state) {
            return Err(failed());
        }
        let used = new_item(item_keys::sign_in(&token::hash(state.as_bytes())), &UsedSignIn {}, None)?;
        let used = NewItem { expires: Some(now.plus_seconds(SIGN_IN_SECONDS + SKEW_SECONDS)), ..used };
        // before the issuer is asked: of two that come with one code, one asks
        if self.write_unrecorded(vec![ItemWrite::Create(used)]).await? == Written::Outrun {
            return Err(failed());
        }
        let identity = self.issuer()?.identify(code, &sign_in).await.map_err(refused_by_issuer)?;
        self.code_for(&identity, origin).await
    }

    fn issuer(&self) -> Result<&dyn IdentityProvider> {
        self.ports().identity.as_deref().ok_or_else(|| {
            let message = "nobody has set up an issuer to sign in with: use an api key";
            ControlError::new(Kind::NotFound, Code::SignInUnavailable, message)
        })
    }

    /// A code for whoever was proven to be this, who may be new.
    async fn code_for(&self, identity: &Identity, origin: &Origin) -> Result<Zeroizing<String>> {
        for _ in 0..MAX_ATTEMPTS {
            let (code, writes) = match self.user_of(identity).await? {
                Some(mut known) => {
                    known.value.update(identity, self.now());
                    let (code, write) = self.mint_code(&known.value, CODE_SECONDS)?;
                    (code, vec![known.replace(None)?, write])
                }
                None => {
                    self.check_sign_up(identity).await?;
                    let (user, new) = self.new_user(identity)?;
                    let (code, write) = self.mint_code(&user, CODE_SECONDS)?;
                    let name = format!("{}'s organization", user.name);
                    let (_, mut writes) = self.new_organization(&user, &name, origin).await?;
                    writes.extend(new);
                    writes.push(write);
                    (code, writes)
                }
            };
            if self.write_unrecorded(writes).await? == Written::Yes {
                return Ok(code);
            }
        }
        Err(ControlError::concurrent_change())
    }

    async fn check_sign_up(&self, identity: &Identity) -> Result<()> {
        let email = vouched_for(identity);
        if self.ports().settings.sign_up.takes(email.as_deref()) {
            return Ok(());
        }
        if let Some(email) = &email
            && self.is_invited(email).await?
        {
            return Ok(());
        }
        let message = "nobody has invited this address, and it is not among those that may sign up";
        Err(ControlError::new(Kind::Forbidden, Code::SignUpClosed, message))
    }
}

fn failed() -> ControlError {
    let message = "the sign-in could not be finished: begin it again, in one browser and within ten minutes";
    ControlError::new(Kind::Unauthorized, Code::SignInFailed, message)
}

fn refused_by_issuer(error: PortError) -> ControlError {
    match error.kind {
        ErrorKind::PermissionDenied => failed().with_source(error),
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => {
            let message = "the issuer that people sign in with does not answer; try again";
            ControlError::new(Kind::Upstream, Code::IssuerFailed, message).with_source(error)
        }
        _ => ControlError::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use firebackup_testkit::memory_ports::CountedRandom;

    use super::*;

    #[test]
    fn who_may_sign_up_is_said_in_a_line() {
        assert_eq!(SignUp::read(" "), SignUp::Invited);
        assert_eq!(SignUp::read("a@b.example, *"), SignUp::Anyone);
        let listed = SignUp::read("Ada@example.com,@example.org");
        for (email, expect) in [
            (Some("ada@example.com"), true),
            (Some("bob@example.com"), false),
            (Some("bob@example.org"), true),
            (Some("bob@evil-example.org"), false),
            (Some("bob@example.org@evil.example"), false),
            (Some("@example.org"), true),
            (None, false),
        ] {
            assert_eq!(listed.takes(email), expect, "{email:?}");
        }
        assert!(SignUp::Anyone.takes(None) && !SignUp::Invited.takes(Some("ada@example.com")));
    }

    #[test]
    fn a_sign_in_is_under_way_for_ten_minutes() {
        let begun = Timestamp::new(1_000_000, 0);
        let secret = browser_secret(&CountedRandom::default(), begun);
        for (seconds, expect) in [(-61, false), (-60, true), (0, true), (600, true), (601, false)] {
            assert_eq!(is_under_way(&secret, begun.plus_seconds(seconds)), expect, "{seconds}");
        }
        let (alone, _) = secret.split_once('.').unwrap();
        for bad in
            ["", ".", alone, ".1000000", &format!("{alone}."), &format!("{alone}.x"), &format!("{alone}.{}", i64::MIN)]
        {
            assert!(!is_under_way(bad, begun), "{bad}");
        }
        let later = format!("{alone}.{}", begun.seconds + 1);
        assert_ne!(derived(&later).state, derived(&secret).state, "the time is part of it");
    }

    #[test]
    fn what_a_browser_holds_gives_three_secrets_that_do_not_give_one_another() {
        let (one, other) = (derived("a"), derived("b"));
        assert_ne!(one, other);
        assert!(one.state != one.nonce && one.nonce != one.verifier && one.verifier != one.state);
        assert!((43..=128).contains(&one.verifier.len()), "as PKCE wants it");
    }
}
