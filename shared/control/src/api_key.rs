//! Verbs on API keys.

use firebackup_model::Timestamp;
use firebackup_model::port::ItemWrite;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::audit::Act;
use crate::control::Control;
use crate::error::{Code, ControlError, Result};
use crate::id::{ApiKeyId, OrganizationId};
use crate::item_keys;
use crate::limit;
use crate::member::Member;
use crate::page::{Page, Paged};
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::{Right, Role};
use crate::room::Kept;
use crate::tenant::{Caller, OrganizationScope};
use crate::token::{self, Presented};

/// An API key that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewApiKey {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// What it may do; no more than whoever asks for it.
    pub role: Role,
    /// From when on it is no good; never where nothing is said.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// An API key, without its secret: that was shown once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Names it.
    pub id: ApiKeyId,
    /// For people.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Who made it: the id of a user or of an API key; nothing for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// From when on it is no good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Since when it is no good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
}

/// What every key begins with.
const PREFIX: &str = "fb_";

/// An API key, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApiKeyRecord {
    #[serde(flatten)]
    pub(crate) key: ApiKey,
    secret_hash: String,
}

/// Whose an API key is; the way from a key's id to its organization.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyOwner {
    pub(crate) organization: OrganizationId,
}

/// A new API key with its secret.
pub(crate) struct MintedKey {
    pub(crate) record: ApiKeyRecord,
    pub(crate) secret: Zeroizing<String>,
}

impl MintedKey {
    /// What stores it.
    pub(crate) fn writes(&self, scope: &OrganizationScope) -> Result<[ItemWrite; 2]> {
        let id = &self.record.key.id;
        let owner = KeyOwner { organization: scope.organization() };
        Ok([
            ItemWrite::Create(new_item(scope.api_key_key(id), &self.record, None)?),
            ItemWrite::Create(new_item(item_keys::key_owner(id), &owner, None)?),
        ])
    }
}

/// Reads an API key, `fb_<ULID>_<43 characters>`; nothing if the text cannot be one.
pub(crate) fn presented(bearer: &str) -> Option<Presented> {
    Presented::parse(PREFIX, bearer)
}

impl ApiKeyRecord {
    /// Whether this is the secret of the key.
    pub(crate) fn is_opened_by(&self, presented: &Presented) -> bool {
        presented.has(&self.secret_hash)
    }
}

impl ApiKey {
    /// Whether it is good now.
    pub(crate) fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires| now < expires)
    }

    /// Whether it keeps the organization from being locked out: an owner's, good, and for ever.
    fn keeps_ownership(&self) -> bool {
        self.role == Role::Owner && self.revoked_at.is_none() && self.expires_at.is_none()
    }
}

impl Control {
    /// A new key and its secret; not stored yet.
    pub(crate) fn mint_key(
        &self,
        name: String,
        role: Role,
        created_by: Option<String>,
        expires_at: Option<Timestamp>,
    ) -> MintedKey {
        let (now, random) = (self.now(), self.ports().random.as_ref());
        let id = ApiKeyId::new(now, random);
        let (secret, secret_hash) = token::named(PREFIX, id.ulid(), random);
        let created_at = now;
        let key = ApiKey { id, name, role, created_by, created_at, expires_at, revoked_at: None, last_used_at: None };
        MintedKey { record: ApiKeyRecord { key, secret_hash }, secret }
    }

    /// Makes an API key. Its text is given this once; what is stored is a hash.
    ///
    /// # Errors
    /// [`Forbidden`](crate::Kind::Forbidden) where the role is more than the caller's.
    pub async fn create_api_key(&self, caller: &Caller, new: NewApiKey) -> Result<(ApiKey, Zeroizing<String>)> {
        caller.may(Right::ManageKeys)?;
        if new.role > caller.role() {
            return Err(ControlError::forbidden("nobody can grant more than his own role"));
        }
        let name = limit::name("name", &new.name)?;
        if new.expires_at.is_some_and(|expires| expires <= self.now()) {
            return Err(ControlError::field("expiresAt", "expected a time to come"));
        }
        let minted = self.mint_key(name, new.role, Some(caller.actor().to_string()), new.expires_at);
        let key = &minted.record.key;
        let act = Act::new("api_key.created", key.id).with(json!({ "name": key.name, "role": key.role }));
        let writes = minted.writes(caller.scope())?;
        self.store_one_more(caller.author(), Kept::ApiKeys, &act, &writes).await?;
        Ok((minted.record.key, minted.secret))
    }

    /// The organization's API keys, revoked ones included, oldest first.
    ///
    /// # Errors
    /// When the page cannot be, or the store fails.
    pub async fn api_keys(&self, caller: &Caller, page: &Page) -> Result<Paged<ApiKey>> {
        caller.may(Right::Read)?;
        self.list(caller.scope().api_keys(), page, |record: ApiKeyRecord| Some(record.key)).await
    }

    /// Revokes an API key, for ever. Doing it twice is doing it once.
    ///
    /// # Errors
    /// [`LastOwner`](Code::LastOwner) where no owner key would be left that does not expire;
    /// [`Forbidden`](crate::Kind::Forbidden) where the key's role is more than the caller's.
    pub async fn revoke_api_key(&self, caller: &Caller, id: &ApiKeyId) -> Result<ApiKey> {
        caller.may(Right::ManageKeys)?;
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.found::<ApiKeyRecord>(&caller.scope().api_key_key(id), "api key").await?;
            if record.value.key.role > caller.role() {
                return Err(ControlError::forbidden("the key's role is more than your own"));
            }
            if record.value.key.revoked_at.is_some() {
                return Ok(record.value.key);
            }
            let mut writes = Vec::new();
            if record.value.key.keeps_ownership() {
                // two owners who revoke each other's key at one time: one of them fails at this check
                writes.push(self.another_owner(caller.scope(), id).await?);
            }
            record.value.key.revoked_at = Some(self.now());
            writes.push(record.replace(None)?);
            if self.commit(caller.author(), Act::new("api_key.revoked", id), writes).await? == Written::Yes {
                return Ok(record.value.key);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Holds only while there is another owner than this key: a person, or a key that does not expire.
    async fn another_owner(&self, scope: &OrganizationScope, id: &ApiKeyId) -> Result<ItemWrite> {
        let members = self.all::<Member>(scope.members()).await?;
        if let Some(owner) = members.iter().find(|member| member.value.role == Role::Owner) {
            return Ok(owner.check());
        }
        let keys = self.all::<ApiKeyRecord>(scope.api_keys()).await?;
        let other = keys.iter().find(|key| key.value.key.id != *id && key.value.key.keeps_ownership());
        other.map(Stored::check).ok_or_else(|| {
            let message = "it is the last owner key that does not expire: make another one first";
            ControlError::conflict(Code::LastOwner, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn what_is_no_key_is_not_looked_up() {
        let good = format!("fb_01ARZ3NDEKTSV4RRFFQ69G5FAV_{}", URL_SAFE_NO_PAD.encode([0xff; 32]));
        assert_eq!(good.len(), 3 + 26 + 1 + 43);
        assert!(presented(&good).is_some());
        for bad in [
            "",
            "fb_",
            "fb_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "fb_01ARZ3NDEKTSV4RRFFQ69G5FAV_",
            "fb_01ARZ3NDEKTSV4RRFFQ69G5FA\u{00e4}_x",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}A"),
            &good.to_lowercase(),
            &good.replace("V_", "V-"),
        ] {
            assert!(presented(bad).is_none(), "{bad}");
        }
    }
}
