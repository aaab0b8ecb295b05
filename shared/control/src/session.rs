//! Sessions: what follows from a sign-in. An access token for an hour, and a refresh token that is good once.
//!
//! A refresh token that comes a second time was copied by somebody: nobody can say by whom, so the session ends with all
//! its tokens, and whoever is the right one signs in again.

use std::fmt;

use firebackup_model::Timestamp;
use firebackup_model::port::{ItemWrite, NewItem};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::actor::Origin;
use crate::audit::Act;
use crate::control::Control;
use crate::error::{Code, ControlError, Kind, Result};
use crate::id::{SessionId, UserId};
use crate::item_keys;
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::tenant::Person;
use crate::token::{self, Presented};
use crate::user::User;

/// How long an access token is good, in seconds.
pub const ACCESS_SECONDS: i64 = 60 * 60;
/// How long a refresh token is good.
const REFRESH_SECONDS: i64 = 30 * 24 * 60 * 60;
/// How long a session may last, however often it is refreshed.
const SESSION_SECONDS: i64 = 90 * 24 * 60 * 60;
/// What tokens begin with.
pub(crate) const ACCESS: &str = "fba_";
const REFRESH: &str = "fbr_";
const ONE_TIME: &str = "fbc_";
/// How many access tokens of a session are good at one time: those in use while the next one is on its way stay good.
const MOST_ACCESS: usize = 2;
/// How long the code at the end of a sign-in is good.
pub(crate) const CODE_SECONDS: i64 = 2 * 60;

/// What a session is held by. Debug shows nothing of it.
#[derive(Clone)]
pub struct Tokens {
    /// For `Authorization: Bearer …`.
    pub access: Zeroizing<String>,
    /// For the next ones, once.
    pub refresh: Zeroizing<String>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(..)")
    }
}

/// A session, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionRecord {
    pub(crate) id: SessionId,
    pub(crate) user: UserId,
    /// Until when it may be refreshed.
    ends: Timestamp,
    /// The newest last.
    access: Vec<AccessToken>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct AccessToken {
    hash: String,
    expires: Timestamp,
}

/// A refresh token. It stays when it was used, so that a second use is seen.
#[derive(Debug, Serialize, Deserialize)]
struct RefreshRecord {
    session: SessionId,
    used: bool,
}

/// The code at the end of a sign-in.
#[derive(Debug, Serialize, Deserialize)]
struct CodeRecord {
    user: UserId,
}

impl SessionRecord {
    /// Whether the session is held by this token; one that has expired says so to its holder.
    pub(crate) fn check(&self, presented: &Presented, now: Timestamp) -> Result<()> {
        let token = self.access.iter().find(|token| presented.has(&token.hash));
        match token.ok_or_else(ControlError::invalid_token)?.expires {
            expires if now < expires => Ok(()),
            expires => Err(ControlError::expired(expires)),
        }
    }

    fn take_access(&mut self, hash: String, now: Timestamp) {
        self.access.push(AccessToken { hash, expires: now.plus_seconds(ACCESS_SECONDS).min(self.ends) });
        let surplus = self.access.len().saturating_sub(MOST_ACCESS);
        self.access.drain(..surplus);
    }
}

impl Control {
    /// A code that is good once and for `seconds`, for whoever has proven to be this user; what stores it comes with it.
    pub(crate) fn mint_code(&self, user: &User, seconds: i64) -> Result<(Zeroizing<String>, ItemWrite)> {
        let (code, hash) = token::bare(ONE_TIME, self.ports().random.as_ref());
        let item = new_item(item_keys::sign_in_code(&hash), &CodeRecord { user: user.id }, None)?;
        let item = NewItem { expires: Some(self.now().plus_seconds(seconds)), ..item };
        Ok((code, ItemWrite::Create(item)))
    }

    /// Begins a session with the code at the end of a sign-in. The code is good once.
    ///
    /// # Errors
    /// [`InvalidToken`](Code::InvalidToken).
    pub async fn begin_session(&self, code: &str, origin: &Origin) -> Result<Tokens> {
        let hash = token::hash_of(ONE_TIME, code).ok_or_else(invalid_code)?;
        let stored = self.load::<CodeRecord>(&item_keys::sign_in_code(&hash)).await?.ok_or_else(invalid_code)?;
        let (now, random) = (self.now(), self.ports().random.as_ref());
        let user = stored.value.user;
        let id = SessionId::new(now, random);
        let mut session = SessionRecord { id, user, ends: now.plus_seconds(SESSION_SECONDS), access: Vec::new() };
        let (tokens, refresh) = self.next_tokens(&mut session)?;
        let item = NewItem { expires: Some(session.ends), ..new_item(item_keys::session(&id), &session, None)? };
        let mut writes = vec![stored.delete(), ItemWrite::Create(item), refresh];
        writes.extend(self.tell_everywhere(user, origin, &Act::new("session.started", id)).await?);
        match self.write_unrecorded(writes).await? {
            Written::Yes => Ok(tokens),
            Written::Outrun => Err(invalid_code()),
        }
    }

    /// Gives the next tokens of a session for its refresh token.
    ///
    /// # Errors
    /// [`InvalidRefreshToken`](Code::InvalidRefreshToken): unknown, too old, or used before; in the last case the session
    /// ends.
    pub async fn refresh_session(&self, refresh: &str, origin: &Origin) -> Result<Tokens> {
        let hash = token::hash_of(REFRESH, refresh).ok_or_else(invalid_refresh)?;
        let key = item_keys::refresh_token(&hash);
        for _ in 0..MAX_ATTEMPTS {
            let mut stored = self.load::<RefreshRecord>(&key).await?.ok_or_else(invalid_refresh)?;
            let session = self.load::<SessionRecord>(&item_keys::session(&stored.value.session)).await?;
            let mut session = session.filter(|session| self.now() < session.value.ends).ok_or_else(invalid_refresh)?;
            if stored.value.used {
                self.end_session(&session.value.id, origin, "session.reused").await?;
                return Err(invalid_refresh());
            }
            stored.value.used = true;
            let ends = session.value.ends;
            let (tokens, next) = self.next_tokens(&mut session.value)?;
            let used = stored.replace_until(ends)?;
            if self.write_unrecorded(vec![used, session.replace_until(ends)?, next]).await? == Written::Yes {
                return Ok(tokens);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Ends the session of whoever is signed in, with all its tokens. Doing it twice is doing it once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sign_out(&self, person: &Person) -> Result<()> {
        self.end_session(&person.session(), person.origin(), "session.ended").await
    }

    /// Ends a session that has not ended yet.
    async fn end_session(&self, id: &SessionId, origin: &Origin, action: &str) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(session) = self.load::<SessionRecord>(&item_keys::session(id)).await? else { return Ok(()) };
            let user = session.value.user;
            let act = Act::new(action, id).with(json!({ "user": user }));
            let mut writes = vec![session.delete()];
            writes.extend(self.tell_everywhere(user, origin, &act).await?);
            if self.write_unrecorded(writes).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// The next tokens of a session, which takes them over; what stores the refresh token comes with them.
    fn next_tokens(&self, session: &mut SessionRecord) -> Result<(Tokens, ItemWrite)> {
        let (now, random) = (self.now(), self.ports().random.as_ref());
        let (access, hash) = token::named(ACCESS, session.id.ulid(), random);
        session.take_access(hash, now);
        let (refresh, hash) = token::bare(REFRESH, random);
        let record = RefreshRecord { session: session.id, used: false };
        let item = new_item(item_keys::refresh_token(&hash), &record, None)?;
        let expires = now.plus_seconds(REFRESH_SECONDS).min(session.ends);
        let write = ItemWrite::Create(NewItem { expires: Some(expires), ..item });
        Ok((Tokens { access, refresh }, write))
    }
}

impl<T: Serialize> Stored<T> {
    /// Replaces the record by its value of now, kept until a time, if nobody else has changed it.
    fn replace_until(&self, expires: Timestamp) -> Result<ItemWrite> {
        let item = new_item(self.key.clone(), &self.value, None)?;
        Ok(ItemWrite::Replace(NewItem { expires: Some(expires), ..item }, self.version))
    }
}

fn invalid_code() -> ControlError {
    let message = "the code is not valid: it is good once, and for a short time";
    ControlError::new(Kind::Unauthorized, Code::InvalidToken, message)
}

fn invalid_refresh() -> ControlError {
    let message = "the refresh token is not valid: sign in again";
    ControlError::new(Kind::Unauthorized, Code::InvalidRefreshToken, message)
}
