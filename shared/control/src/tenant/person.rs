//! Who is signed in, before an organization is spoken of.

use firebackup_model::port::{ItemQuery, ItemWrite};

use crate::actor::{Actor, Origin};
use crate::api_key::{ApiKey, ApiKeyRecord};
use crate::audit::Act;
use crate::control::Control;
use crate::error::{Code, ControlError, Kind, Result};
use crate::id::{InviteId, OrganizationId, SessionId, UserId};
use crate::invite::InviteOwner;
use crate::item_keys;
use crate::member::{Member, Membership};
use crate::session::{ACCESS, SessionRecord};
use crate::tenant::{Author, Caller, OrganizationScope};
use crate::token::Presented;
use crate::user::User;

/// Proof of who is signed in. Only [`Control::signed_in`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    user: UserId,
    session: SessionId,
    origin: Origin,
}

impl Person {
    /// Who.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    pub(crate) const fn session(&self) -> SessionId {
        self.session
    }

    pub(crate) const fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// The most organizations that are told of a sign-in.
const MOST_TOLD: u32 = 20;

/// Whether a text is an access token, and no API key.
pub(in crate::tenant) fn is_access_token(bearer: &str) -> bool {
    bearer.starts_with(ACCESS)
}

impl Control {
    /// Finds out who is signed in, by an access token.
    ///
    /// # Errors
    /// [`Unauthorized`](crate::Kind::Unauthorized): no such session, a wrong secret, or expired, which only its holder is
    /// told. [`Forbidden`](crate::Kind::Forbidden): it is an API key, which is nobody's.
    pub async fn signed_in(&self, bearer: &str, origin: Origin) -> Result<Person> {
        if !is_access_token(bearer) {
            // whether that key is good is found out first: a stranger is told nothing
            self.authenticate_key(bearer, None).await?;
            return Err(ControlError::forbidden("this is for people who are signed in, not for api keys"));
        }
        let presented = Presented::parse(ACCESS, bearer).ok_or_else(ControlError::invalid_token)?;
        let session = self.load::<SessionRecord>(&item_keys::session(&presented.id.into())).await?;
        let session = session.ok_or_else(ControlError::invalid_token)?.value;
        session.check(&presented, self.now())?;
        Ok(Person { user: session.user, session: session.id, origin })
    }

    /// The caller that somebody who is signed in is in an organization: the one named, else their only one.
    pub(in crate::tenant) async fn as_member(
        &self,
        person: Person,
        organization: Option<&OrganizationId>,
    ) -> Result<Caller> {
        let scope = match organization {
            Some(id) => OrganizationScope(*id),
            None => self.only_organization(&person).await?,
        };
        let member = self.load::<Member>(&scope.member_key(&person.user)).await?;
        let is_there = self.organization_if_there(&scope).await?.is_some();
        let member = member
            .filter(|_| is_there)
            .ok_or_else(|| ControlError::forbidden("you are not a member of this organization"))?;
        let author = Author { scope, actor: Actor::User(person.user), origin: person.origin };
        Ok(Caller { author, role: member.value.role })
    }

    /// The callers that somebody who is signed in is, one an organization.
    pub(in crate::tenant) async fn as_member_everywhere(&self, person: Person) -> Result<Vec<Caller>> {
        let mut found = Vec::new();
        for scope in self.scopes_of(person.user, MOST_TOLD).await? {
            match self.as_member(person.clone(), Some(&scope.organization())).await {
                Ok(caller) => found.push(caller),
                // one that is being deleted
                Err(error) if error.kind == Kind::Forbidden => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn only_organization(&self, person: &Person) -> Result<OrganizationScope> {
        let mut found = Vec::new();
        for scope in self.scopes_of(person.user, MOST_TOLD).await? {
            if self.organization_if_there(&scope).await?.is_some() {
                found.push(scope);
            }
        }
        match found.as_slice() {
            [only] => Ok(*only),
            _ => {
                let message = "say which organization: send its id as X-Organization-Id";
                Err(ControlError::new(Kind::Invalid, Code::OrganizationRequired, message))
            }
        }
    }

    /// The organizations of which somebody is a member, at most so many.
    async fn scopes_of(&self, user: UserId, most: u32) -> Result<Vec<OrganizationScope>> {
        let page = self.items().query(&ItemQuery { limit: most, ..item_keys::memberships(&user) }).await?;
        let found = page.items.into_iter().map(crate::record::decode::<Membership>);
        found.map(|found| Ok(OrganizationScope(found?.value.organization))).collect()
    }

    /// The entries that tell the organizations of a user what they did that belongs to none of them.
    pub(crate) async fn tell_everywhere(&self, user: UserId, origin: &Origin, act: &Act) -> Result<Vec<ItemWrite>> {
        let scopes = self.scopes_of(user, MOST_TOLD).await?;
        let author = |scope| Author { scope, actor: Actor::User(user), origin: origin.clone() };
        scopes.into_iter().map(|scope| self.entry(&author(scope), act.clone())).collect()
    }

    /// Where an invite leads: somebody holds its id, which proves nothing yet. Nothing where there is none.
    pub(crate) async fn invited_by(&self, person: &Person, id: &InviteId) -> Result<Option<Author>> {
        let owner = self.load::<InviteOwner>(&item_keys::invite_owner(id)).await?;
        let author = |owner: InviteOwner| Author {
            scope: OrganizationScope(owner.organization),
            actor: Actor::User(person.user),
            origin: person.origin.clone(),
        };
        Ok(owner.map(|owner| author(owner.value)))
    }

    /// The scope of an organization of which a user was found to be a member.
    pub(crate) const fn scope_of_membership(&self, membership: &Membership) -> OrganizationScope {
        OrganizationScope(membership.organization)
    }
}

/// Who calls, whatever it is that they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Me {
    /// A person who is signed in.
    User(User),
    /// The holder of an API key, and the organization that it belongs to.
    ApiKey(ApiKey, OrganizationId),
}

impl Control {
    /// Says who calls.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub async fn me(&self, bearer: &str, origin: Origin) -> Result<Me> {
        if is_access_token(bearer) {
            let person = self.signed_in(bearer, origin).await?;
            return Ok(Me::User(self.user(&person.user).await?.value));
        }
        let caller = self.authenticate_key(bearer, None).await?;
        let Actor::ApiKey(id) = caller.actor() else { return Err(ControlError::invalid_token()) };
        let key = self.found::<ApiKeyRecord>(&caller.scope().api_key_key(&id), "api key").await?.value.key;
        Ok(Me::ApiKey(key, caller.organization()))
    }
}
