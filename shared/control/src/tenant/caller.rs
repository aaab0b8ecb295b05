//! Who calls from outside.

use firebackup_model::Timestamp;

use crate::actor::{Actor, Origin};
use crate::api_key::{ApiKey, ApiKeyRecord, KeyOwner, presented};
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::id::{ApiKeyId, OrganizationId, UserId};
use crate::item_keys;
use crate::record::Stored;
use crate::role::{Right, Role};
use crate::tenant::person::is_access_token;
use crate::tenant::{Author, OrganizationScope};

/// Proof of who calls, in which organization, with which role. Only [`Control::authenticate`](crate::Control) makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub(in crate::tenant) author: Author,
    pub(in crate::tenant) role: Role,
}

impl Caller {
    /// The organization.
    #[must_use]
    pub const fn organization(&self) -> OrganizationId {
        self.author.scope.organization()
    }

    /// The role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Who.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        self.author.actor
    }

    /// Who, where it is a person.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        match self.author.actor {
            Actor::User(id) => Some(id),
            Actor::ApiKey(_) | Actor::System => None,
        }
    }

    /// The same, calling from there.
    #[must_use]
    pub fn from(mut self, origin: Origin) -> Self {
        self.author.origin = origin;
        self
    }

    /// Goes on only if the role includes the right.
    ///
    /// # Errors
    /// [`Forbidden`](crate::Kind::Forbidden).
    pub fn may(&self, right: Right) -> Result<()> {
        if self.role.may(right) {
            return Ok(());
        }
        Err(ControlError::forbidden(format!("the role {} does not allow this", self.role.name())))
    }

    pub(crate) const fn scope(&self) -> &OrganizationScope {
        &self.author.scope
    }

    pub(crate) const fn author(&self) -> &Author {
        &self.author
    }
}

/// How often a key's last use is noted at most.
const NOTED_SECONDS: i64 = 60 * 60;

impl Control {
    /// Finds out who calls, by an API key or an access token, and proves it to the verbs.
    ///
    /// # Errors
    /// [`Unauthorized`](crate::Kind::Unauthorized): no such key, a wrong secret, or revoked, and nothing is told of which;
    /// or expired, which only the holder of the secret is told. [`Forbidden`](crate::Kind::Forbidden): the key is of
    /// another organization than the one asked for, or the person is no member of it.
    /// [`OrganizationRequired`](crate::Code::OrganizationRequired): they are a member of several, and none was asked for.
    pub async fn authenticate(&self, bearer: &str, organization: Option<&OrganizationId>) -> Result<Caller> {
        if is_access_token(bearer) {
            let person = self.signed_in(bearer, Origin::default()).await?;
            return self.as_member(person, organization).await;
        }
        self.authenticate_key(bearer, organization).await
    }

    /// Whom a key or an access token proves, in each of their own organizations, whatever else they ask for. Nobody where it
    /// proves nothing.
    ///
    /// # Errors
    /// As [`Self::authenticate`], where it proves nothing.
    pub(crate) async fn proven_by(&self, bearer: &str, origin: &Origin) -> Result<Vec<Caller>> {
        if is_access_token(bearer) {
            return self.as_member_everywhere(self.signed_in(bearer, origin.clone()).await?).await;
        }
        Ok(vec![self.authenticate_key(bearer, None).await?.from(origin.clone())])
    }

    pub(in crate::tenant) async fn authenticate_key(
        &self,
        bearer: &str,
        organization: Option<&OrganizationId>,
    ) -> Result<Caller> {
        let presented = presented(bearer).ok_or_else(ControlError::invalid_token)?;
        let id = ApiKeyId::from(presented.id);
        let owner = self.load::<KeyOwner>(&item_keys::key_owner(&id)).await?;
        let owner = owner.ok_or_else(ControlError::invalid_token)?;
        let scope = OrganizationScope(owner.value.organization);
        let record = self.load::<ApiKeyRecord>(&scope.api_key_key(&id)).await?;
        let record =
            record.filter(|record| record.value.is_opened_by(&presented)).ok_or_else(ControlError::invalid_token)?;
        check_good(&record.value.key, self.now())?;
        self.organization_if_there(&scope).await?.ok_or_else(ControlError::invalid_token)?;
        if organization.is_some_and(|asked| *asked != scope.organization()) {
            return Err(ControlError::forbidden("the api key is of another organization"));
        }
        let author = Author { scope, actor: Actor::ApiKey(id), origin: Origin::default() };
        let caller = Caller { author, role: record.value.key.role };
        self.note_use(record).await;
        Ok(caller)
    }

    /// Notes that a key was used, about once an hour. Whether that succeeds is of no matter to the request.
    async fn note_use(&self, mut record: Stored<ApiKeyRecord>) {
        let now = self.now();
        let noted = record.value.key.last_used_at;
        if noted.is_some_and(|noted| now < noted.plus_seconds(NOTED_SECONDS)) {
            return;
        }
        record.value.key.last_used_at = Some(now);
        let Ok(write) = record.replace(None) else { return };
        if let Err(error) = self.write_unrecorded(vec![write]).await {
            tracing::debug!(error = %error, "it cannot be noted when an api key was used");
        }
    }
}

fn check_good(key: &ApiKey, now: Timestamp) -> Result<()> {
    if key.is_good(now) {
        return Ok(());
    }
    match key.expires_at.filter(|_| key.revoked_at.is_none()) {
        Some(expired) => Err(ControlError::expired(expired)),
        None => Err(ControlError::invalid_token()),
    }
}
