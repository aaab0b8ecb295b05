//! Who calls from outside.

use firebackup_model::Timestamp;
use serde_json::json;

use crate::api_key::{ApiKey, ApiKeyRecord, KeyOwner, PresentedKey};
use crate::control::Control;
use crate::error::{Code, ControlError, Kind, Result};
use crate::id::{ApiKeyId, OrganizationId};
use crate::item_keys;
use crate::record::Stored;
use crate::role::{Right, Role};
use crate::tenant::OrganizationScope;

/// Proof of who calls, in which organization, with which role. Only [`Control::authenticate`](crate::Control) makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    scope: OrganizationScope,
    role: Role,
    actor: ApiKeyId,
}

impl Caller {
    /// The organization.
    #[must_use]
    pub const fn organization(&self) -> OrganizationId {
        self.scope.organization()
    }

    /// The role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The API key.
    #[must_use]
    pub const fn actor(&self) -> ApiKeyId {
        self.actor
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
        &self.scope
    }
}

/// How often a key's last use is noted at most.
const NOTED_SECONDS: i64 = 60 * 60;

impl Control {
    /// Finds out who calls, by an API key, and proves it to the verbs.
    ///
    /// # Errors
    /// [`Unauthorized`](crate::Kind::Unauthorized): no such key, a wrong secret, or revoked, and nothing is told of which;
    /// or expired, which only the holder of the secret is told. [`Forbidden`](crate::Kind::Forbidden): the key is of
    /// another organization than the one asked for.
    pub async fn authenticate(&self, bearer: &str, organization: Option<&OrganizationId>) -> Result<Caller> {
        let presented = PresentedKey::parse(bearer).ok_or_else(ControlError::invalid_token)?;
        let owner = self.load::<KeyOwner>(&item_keys::key_owner(&presented.id)).await?;
        let owner = owner.ok_or_else(ControlError::invalid_token)?;
        let scope = OrganizationScope(owner.value.organization);
        let record = self.load::<ApiKeyRecord>(&scope.api_key_key(&presented.id)).await?;
        let record = record.filter(|record| presented.opens(&record.value)).ok_or_else(ControlError::invalid_token)?;
        check_good(&record.value.key, self.now())?;
        if organization.is_some_and(|asked| *asked != scope.organization()) {
            return Err(ControlError::forbidden("the api key is of another organization"));
        }
        let caller = Caller { scope, role: record.value.key.role, actor: presented.id };
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
        if let Err(error) = self.write(vec![write]).await {
            tracing::debug!(error = %error, "it cannot be noted when an api key was used");
        }
    }
}

fn check_good(key: &ApiKey, now: Timestamp) -> Result<()> {
    if key.is_good(now) {
        return Ok(());
    }
    match key.expires_at.filter(|_| key.revoked_at.is_none()) {
        Some(expired) => Err(ControlError::new(Kind::Unauthorized, Code::TokenExpired, "the api key has expired")
            .with_details(json!({ "expiredAt": expired }))),
        None => Err(ControlError::invalid_token()),
    }
}
