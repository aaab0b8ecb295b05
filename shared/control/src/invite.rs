//! Verbs on invites. An invite is for one address and good once; its token is shown to whoever invites, and kept as a hash.

use firebackup_model::Timestamp;
use firebackup_model::port::{ItemKey, ItemWrite, NewItem};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::audit::Act;
use crate::control::Control;
use crate::error::{Code, ControlError, Kind, Result};
use crate::id::{InviteId, OrganizationId};
use crate::item_keys;
use crate::member::{Member, check_above};
use crate::organization::Organization;
use crate::page::{Page, Paged};
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::{Right, Role};
use crate::room::Kept;
use crate::tenant::{Caller, OrganizationScope, Person};
use crate::token::{self, Presented};
use crate::user;

/// How long an invite is good.
const INVITE_SECONDS: i64 = 7 * 24 * 60 * 60;
/// What its token begins with.
const TOKEN: &str = "fbi_";
/// The longest address that mail knows.
const MAX_ADDRESS: usize = 254;

/// Somebody who is to be invited.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewInvite {
    /// The address with which they must sign in.
    #[schema(min_length = 3, max_length = 254, example = "ada@example.com")]
    pub email: String,
    /// What they may do; no more than whoever invites.
    pub role: Role,
}

/// An invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invite {
    /// Names it.
    pub id: InviteId,
    /// The address with which they must sign in.
    pub email: String,
    /// What they may do.
    pub role: Role,
    /// Who invited: the id of a user or of an API key.
    pub invited_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// From when on it is no good.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// An invite, as it is stored. It is gone when it was used, taken back or is too old.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InviteRecord {
    #[serde(flatten)]
    invite: Invite,
    token_hash: String,
}

/// Which organization an invite leads to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InviteOwner {
    pub(crate) organization: OrganizationId,
}

impl Control {
    /// Invites an address; the token is given this once. Whoever it is for signs in with that address and presents it.
    ///
    /// # Errors
    /// [`Forbidden`](crate::Kind::Forbidden) where the role is more than the caller's.
    pub async fn invite(&self, caller: &Caller, new: NewInvite) -> Result<(Invite, Zeroizing<String>)> {
        caller.may(Right::ManageMembers)?;
        check_above(caller, new.role)?;
        let email = checked_address(&new.email)?;
        let now = self.now();
        let invite = Invite {
            id: InviteId::new(now, self.ports().random.as_ref()),
            email,
            role: new.role,
            invited_by: caller.actor().to_string(),
            created_at: now,
            expires_at: now.plus_seconds(INVITE_SECONDS),
        };
        let (record, token) = self.with_token(invite);
        let act = Act::new("invite.created", record.invite.id)
            .with(json!({ "email": record.invite.email, "role": record.invite.role }));
        let writes = record.writes(caller.scope())?.map(ItemWrite::Create);
        self.store_one_more(caller.author(), Kept::Invites, &act, &writes).await?;
        Ok((record.invite, token))
    }

    /// Invites that are open, the oldest first.
    ///
    /// # Errors
    /// When the page cannot be, or the store fails.
    pub async fn invites(&self, caller: &Caller, page: &Page) -> Result<Paged<Invite>> {
        caller.may(Right::ManageMembers)?;
        self.list(caller.scope().invites(), page, |record: InviteRecord| Some(record.invite)).await
    }

    /// Gives an invite another token and more time; the token before is no good any more.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); as [`Self::invite`].
    pub async fn resend_invite(&self, caller: &Caller, id: &InviteId) -> Result<(Invite, Zeroizing<String>)> {
        caller.may(Right::ManageMembers)?;
        for _ in 0..MAX_ATTEMPTS {
            let before = self.invite_items(caller.scope(), id).await?;
            check_above(caller, before.invite.value.invite.role)?;
            let mut invite = before.invite.value.invite.clone();
            invite.expires_at = self.now().plus_seconds(INVITE_SECONDS);
            let (record, token) = self.with_token(invite);
            let writes = before.replaced_by(record.writes(caller.scope())?);
            if self.commit(caller.author(), Act::new("invite.resent", id), writes).await? == Written::Yes {
                return Ok((record.invite, token));
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Takes an invite back.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn revoke_invite(&self, caller: &Caller, id: &InviteId) -> Result<()> {
        caller.may(Right::ManageMembers)?;
        for _ in 0..MAX_ATTEMPTS {
            let writes = self.invite_items(caller.scope(), id).await?.deleted();
            if self.commit(caller.author(), Act::new("invite.revoked", id), writes).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Makes whoever is signed in a member of the organization that has invited their address.
    ///
    /// # Errors
    /// [`InviteInvalid`](Code::InviteInvalid): unknown, used, taken back, too old, or for another address.
    pub async fn accept_invite(&self, person: &Person, text: &str) -> Result<Organization> {
        let presented = Presented::parse(TOKEN, text).ok_or_else(invalid_invite)?;
        let id = InviteId::from(presented.id);
        let user = self.user(&person.user()).await?.value;
        for _ in 0..MAX_ATTEMPTS {
            let author = self.invited_by(person, &id).await?.ok_or_else(invalid_invite)?;
            let scope = author.scope();
            let items = self.invite_items(scope, &id).await.map_err(gone_is_invalid)?;
            let invite = &items.invite.value;
            if !presented.has(&invite.token_hash) || user.email.as_deref() != Some(&invite.invite.email) {
                return Err(invalid_invite());
            }
            if self.load::<Member>(&scope.member_key(&user.id)).await?.is_some() {
                return Err(ControlError::conflict(Code::Conflict, "you are a member of this organization already"));
            }
            let organization = self.organization_record(scope).await.map_err(gone_is_invalid)?;
            let room = self.room_for(scope, Kept::Members).await?;
            let act = Act::new("member.added", user.id).with(json!({ "invite": id, "role": invite.invite.role }));
            let member = Member::new(&user, invite.invite.role, self.now());
            let mut writes = items.deleted();
            writes.extend(member.writes(scope)?);
            writes.extend([room, organization.check()]);
            if self.commit(&author, act, writes).await? == Written::Yes {
                return Ok(organization.value.organization);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Whether there is an open invite for an address.
    pub(crate) async fn is_invited(&self, email: &str) -> Result<bool> {
        Ok(!self.items().query(&item_keys::invites_of(&token::hash(email.as_bytes()))).await?.items.is_empty())
    }

    fn with_token(&self, invite: Invite) -> (InviteRecord, Zeroizing<String>) {
        let (token, token_hash) = token::named(TOKEN, invite.id.ulid(), self.ports().random.as_ref());
        (InviteRecord { invite, token_hash }, token)
    }

    async fn invite_items(&self, scope: &OrganizationScope, id: &InviteId) -> Result<InviteItems> {
        let invite = self.found::<InviteRecord>(&scope.invite_key(id), "invite").await?;
        let mut ways = Vec::new();
        for way in invite.value.invite.ways() {
            ways.extend(self.load(&way).await?);
        }
        Ok(InviteItems { invite, ways })
    }
}

/// An invite and the two items that lead to it.
struct InviteItems {
    invite: Stored<InviteRecord>,
    ways: Vec<Stored<InviteOwner>>,
}

impl InviteItems {
    fn deleted(&self) -> Vec<ItemWrite> {
        let ways = self.ways.iter().map(Stored::delete);
        ways.chain([self.invite.delete()]).collect()
    }

    fn replaced_by(&self, items: [NewItem; 3]) -> Vec<ItemWrite> {
        let version = |item: &NewItem| {
            let way = self.ways.iter().find(|way| way.key == item.key).map(|way| way.version);
            way.or_else(|| (self.invite.key == item.key).then_some(self.invite.version))
        };
        let write = |item: NewItem| match version(&item) {
            Some(version) => ItemWrite::Replace(item, version),
            None => ItemWrite::Create(item),
        };
        items.map(write).into()
    }
}

impl Invite {
    /// The keys of the two items that lead to it.
    pub(crate) fn ways(&self) -> [ItemKey; 2] {
        let hash = token::hash(self.email.as_bytes());
        [item_keys::invite_owner(&self.id), item_keys::invited(&hash, &self.id)]
    }
}

impl InviteRecord {
    /// The items that hold it and lead to it; gone when it is no good any more.
    fn writes(&self, scope: &OrganizationScope) -> Result<[NewItem; 3]> {
        let (id, expires) = (&self.invite.id, Some(self.invite.expires_at));
        let owner = InviteOwner { organization: scope.organization() };
        let [way, invited] = self.invite.ways();
        Ok([
            NewItem { expires, ..new_item(scope.invite_key(id), self, None)? },
            NewItem { expires, ..new_item(way, &owner, None)? },
            NewItem { expires, ..new_item(invited, &owner, None)? },
        ])
    }
}

/// An address in its one spelling. Whether it exists is found out by whoever signs in with it.
fn checked_address(text: &str) -> Result<String> {
    let email = user::address(text);
    let is_address = email
        .split_once('@')
        .is_some_and(|(name, domain)| !name.is_empty() && !domain.is_empty() && !domain.contains('@'));
    let is_plain = !email.chars().any(|char| char.is_control() || char.is_whitespace());
    match is_address && is_plain && email.len() <= MAX_ADDRESS {
        true => Ok(email),
        false => Err(ControlError::field("email", "expected an address such as ada@example.com")),
    }
}

/// What the invite leads to is gone, or about to be.
fn gone_is_invalid(error: ControlError) -> ControlError {
    match error.kind {
        Kind::NotFound => invalid_invite(),
        _ => error,
    }
}

fn invalid_invite() -> ControlError {
    let message = "the invite is not valid: used, taken back, too old, or for another address than yours";
    ControlError::new(Kind::NotFound, Code::InviteInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_spelling() {
        assert_eq!(checked_address(" Ada@Example.COM ").unwrap(), "ada@example.com");
        for bad in
            ["", "ada", "@example.com", "ada@", "a@b@c", "a b@c.d", "a@b\u{0}", &format!("{}@b.c", "a".repeat(260))]
        {
            assert!(checked_address(bad).is_err(), "{bad}");
        }
    }
}
