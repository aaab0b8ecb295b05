//! Who may post events of a database: an account of Google's, or whoever holds a secret.

use firebackup_model::Timestamp;
use firebackup_model::port::{EventBuffer, ItemWrite};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::audit::Act;
use crate::control::Control;
use crate::error::{Code, ControlError, Result};
use crate::id::{OrganizationId, PitrId, ProjectId};
use crate::pitr_record::PitrRecord;
use crate::record::{MAX_ATTEMPTS, Written, new_item};
use crate::role::Right;
use crate::secrets::SealedSecret;
use crate::signature::FormerSecret;
use crate::tenant::{Caller, OrganizationScope};
use crate::{item_keys, limit, signature};

/// What a secret is sealed for.
const SECRET: &str = "events-secret";
/// No mail server takes a longer address.
const MAX_ADDRESS: usize = 254;
const MAX_AUDIENCE: usize = 1024;

/// By what whoever posts events proves who they are; either is enough.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PushConfig {
    /// The address of the Google service account whose id tokens are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "firebackup-events@my-app.iam.gserviceaccount.com")]
    pub service_account: Option<String>,
    /// For whom those tokens must be; the address that events are posted to where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Whether what is signed is taken, after the Standard Webhooks specification. The secret is had from
    /// `POST /pitr/{projectId}/events/secret`.
    #[schema(default = false)]
    pub hmac: bool,
}

/// The same, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PushRecord {
    pub(crate) config: PushConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed_secret: Option<SealedSecret>,
    /// Those before, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    former_secrets: Vec<FormerSecret>,
}

/// Whose a project is that events are posted of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PushOwner {
    pub(crate) organization: OrganizationId,
}

impl PushRecord {
    /// What is wanted from now on, with the secrets that there are.
    pub(crate) fn changed(before: Option<&Self>, config: PushConfig) -> Self {
        let secrets = before.filter(|_| config.hmac).cloned().unwrap_or_default();
        Self { config, ..secrets }
    }

    fn secrets(&self, now: Timestamp) -> impl Iterator<Item = &SealedSecret> {
        self.sealed_secret.iter().chain(FormerSecret::good(&self.former_secrets, now))
    }
}

impl Control {
    /// What waits to be folded, where somebody does that.
    pub(crate) fn buffer(&self) -> Result<&dyn EventBuffer> {
        self.ports().buffer.as_deref().ok_or_else(|| {
            ControlError::conflict(Code::PitrUnavailable, "this installation takes no events of changes yet")
        })
    }

    /// What is asked for, with all that it stands for.
    pub(crate) fn checked_push(&self, project: &ProjectId, config: PushConfig) -> Result<PushConfig> {
        self.buffer()?;
        let PushConfig { service_account, audience, hmac } = config;
        let Some(account) = service_account else {
            return match (audience, hmac) {
                (None, true) => Ok(PushConfig { hmac, ..PushConfig::default() }),
                (None, false) => Err(ControlError::field("push", "name a serviceAccount, or ask for hmac, or both")),
                (Some(_), _) => Err(ControlError::field("push.audience", "it is of tokens: name a serviceAccount")),
            };
        };
        limit::ascii("push.serviceAccount", &account, MAX_ADDRESS)?;
        if !account.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && domain.contains('.')) {
            return Err(ControlError::field("push.serviceAccount", "expected the address of a service account"));
        }
        let audience = match audience {
            Some(audience) => audience,
            None => self.events_url(project)?,
        };
        limit::ascii("push.audience", &audience, MAX_AUDIENCE)?;
        Ok(PushConfig { service_account: Some(account), audience: Some(audience), hmac })
    }

    /// Where events of a project are posted to.
    fn events_url(&self, project: &ProjectId) -> Result<String> {
        let url = self.ports().settings.events_url.as_deref();
        let url = url.map(|url| url.replace("{projectId}", &project.to_string()));
        url.ok_or_else(|| {
            ControlError::field("push.audience", "nobody knows here where this server is reached: name one")
        })
    }

    /// What leads from a project to its organization, where it is not there yet and is needed from now on.
    pub(crate) async fn push_owner_write(
        &self,
        scope: &OrganizationScope,
        record: &PitrRecord,
    ) -> Result<Vec<ItemWrite>> {
        let key = item_keys::push_owner(&record.project_id);
        if record.push.is_none() || self.load::<PushOwner>(&key).await?.is_some() {
            return Ok(Vec::new());
        }
        let owner = PushOwner { organization: scope.organization() };
        Ok(vec![ItemWrite::Create(new_item(key, &owner, None)?)])
    }

    /// Makes the secret that events are signed with, or exchanges it: for a day the one before is good too.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) where changes of the database are not captured;
    /// [`Unprocessable`](crate::Kind::Unprocessable) where nothing that is signed is taken.
    pub async fn exchange_push_secret(
        &self,
        caller: &Caller,
        project: &ProjectId,
        database: Option<&str>,
    ) -> Result<Zeroizing<String>> {
        caller.may(Right::Manage)?;
        let scope = caller.scope();
        let secret = signature::new_secret(self.ports().random.as_ref());
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.pitr_record(scope, project, database).await?;
            let (id, now) = (record.value.id, self.now());
            let push = record.value.push.as_mut().filter(|push| push.config.hmac);
            let push =
                push.ok_or_else(|| ControlError::field("push.hmac", "signed events are not taken: ask for it first"))?;
            let organization = self.organization_record(scope).await?.value;
            let secrets = self.secret_box(scope.organization(), &organization.data_key).await?;
            let sealed = secrets.seal(self, &id.to_string(), SECRET, &secret);
            let former = push.sealed_secret.replace(sealed);
            let until = former.map(|former| FormerSecret::add(&mut push.former_secrets, former, now));
            record.value.updated_at = now;
            let act = Act::new("pitr.secret_exchanged", id).with(json!({ "formerUntil": until }));
            let index = record.value.index(scope);
            if self.commit(caller.author(), act, vec![record.replace(index)?]).await? == Written::Yes {
                return Ok(secret);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// The secrets that events may be signed with, the newest first.
    pub(crate) async fn push_secrets(
        &self,
        scope: &OrganizationScope,
        id: PitrId,
        push: &PushRecord,
    ) -> Result<Vec<Zeroizing<String>>> {
        let organization = self.organization_record(scope).await?.value;
        let secrets = self.secret_box(scope.organization(), &organization.data_key).await?;
        push.secrets(self.now()).map(|sealed| secrets.open(&id.to_string(), SECRET, sealed)).collect()
    }
}
