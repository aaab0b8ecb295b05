//! Verbs on the organization itself.

use firebackup_codec::wrap::RecoveryPublicKey;
use firebackup_model::Timestamp;
use firebackup_model::port::ItemQuery;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::audit::Act;
use crate::control::Control;
use crate::error::{ControlError, Kind, Result};
use crate::id::{DestinationId, OrganizationId};
use crate::item_keys;
use crate::limit;
use crate::record::{MAX_ATTEMPTS, Stored, Written, decode};
use crate::role::Right;
use crate::secrets::StoredDataKey;
use crate::tenant::{Caller, OrganizationScope, Worker};

/// An organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Organization {
    /// Names it.
    pub id: OrganizationId,
    /// For people.
    pub name: String,
    /// How many jobs it may run at one time.
    pub max_running_jobs: u32,
    /// The recovery public key: whoever holds its private half opens the repositories without us. Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_public_key: Option<String>,
    /// Its own master key, a KMS ARN; the installation's where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
    /// Master keys that it had before, its own and the installation's. Repositories are wrapped under them until the
    /// maintenance has wrapped them anew, and stay so beside: a key that is given up must be kept until then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_kms_keys: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// An organization that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewOrganization {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
}

/// What is to be changed of an organization; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrganizationChange {
    /// For people.
    pub name: Option<String>,
    /// How many jobs it may run at one time, 1 to 100.
    #[schema(minimum = 1, maximum = 100)]
    pub max_running_jobs: Option<u32>,
    /// The recovery public key, base64; `null` for none.
    #[serde(default, deserialize_with = "crate::record::present")]
    #[schema(value_type = Option<String>)]
    pub recovery_public_key: Option<Option<String>>,
    /// Its own master key, a KMS ARN; `null` for the installation's. Secrets are wrapped anew under it.
    #[serde(default, deserialize_with = "crate::record::present")]
    #[schema(value_type = Option<String>)]
    pub kms_key: Option<Option<String>>,
}

/// The most master keys that are remembered. None is forgotten for another: a repository may still be under it.
const MAX_FORMER_KEYS: usize = 100;

/// An organization, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrganizationRecord {
    #[serde(flatten)]
    pub(crate) organization: Organization,
    /// The data key that its secrets are sealed with, wrapped.
    pub(crate) data_key: StoredDataKey,
    /// The destination that is used where none is named. It stands here so that there is never more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_destination: Option<DestinationId>,
    /// Whether somebody is looking whether it can be deleted; whatever begins takes this away.
    #[serde(default, skip_serializing_if = "is_not")]
    pub(crate) closing: bool,
    /// Whether it is deleted: what is left of it is about to go, and nobody gets in.
    #[serde(default, skip_serializing_if = "is_not")]
    pub(crate) deleting: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
pub(crate) const fn is_not(flag: &bool) -> bool {
    !*flag
}

impl Control {
    /// The caller's organization.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn organization(&self, caller: &Caller) -> Result<Organization> {
        caller.may(Right::Read)?;
        Ok(self.organization_record(caller.scope()).await?.value.organization)
    }

    /// Changes the organization. With another master key its secrets' data key is wrapped anew.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where a field may not be so.
    pub async fn update_organization(&self, caller: &Caller, change: OrganizationChange) -> Result<Organization> {
        caller.may(Right::ManageOrganization)?;
        let change = checked(change)?;
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.organization_record(caller.scope()).await?;
            if let Some(key) = &change.kms_key {
                self.rewrap_under(caller.scope(), &mut record.value, key.clone()).await?;
            }
            apply(&change, &mut record.value.organization);
            let act = Act::new("organization.updated", caller.organization()).with(change.told());
            if self.commit(caller.author(), act, vec![record.replace(None)?]).await? == Written::Yes {
                return Ok(record.value.organization);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Wraps the data key of the organization's secrets anew, under the newest version of its master key. What is sealed
    /// with it stays as it is.
    ///
    /// # Errors
    /// When the key service or the store fails.
    pub async fn rewrap_secrets(&self, worker: &Worker) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.organization_record(worker.scope()).await?;
            let master = record.value.organization.kms_key.clone();
            self.rewrap_under(worker.scope(), &mut record.value, master).await?;
            if self.write_unrecorded(vec![record.replace(None)?]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// A page of all organizations, for sweeps: their ids, and where to go on. Those that are deleted are none any more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn organizations_page(&self, cursor: Option<&str>) -> Result<(Vec<OrganizationId>, Option<String>)> {
        let query = ItemQuery { limit: 100, after: cursor.map(str::to_owned), ..item_keys::all_organizations() };
        let page = self.items().query(&query).await?;
        let mut ids = Vec::new();
        for item in page.items {
            let listed = decode::<ListedOrganization>(item)?.value;
            ids.extend((!listed.deleting).then_some(listed.id));
        }
        Ok((ids, page.next))
    }

    /// The organization, unless it is deleted.
    pub(crate) async fn organization_record(&self, scope: &OrganizationScope) -> Result<Stored<OrganizationRecord>> {
        self.organization_if_there(scope).await?.ok_or_else(|| ControlError::not_found("organization"))
    }

    pub(crate) async fn organization_if_there(
        &self,
        scope: &OrganizationScope,
    ) -> Result<Option<Stored<OrganizationRecord>>> {
        let record = self.load::<OrganizationRecord>(&scope.organization_key()).await?;
        Ok(record.filter(|record| !record.value.deleting))
    }

    async fn rewrap_under(
        &self,
        scope: &OrganizationScope,
        record: &mut OrganizationRecord,
        key: Option<String>,
    ) -> Result<()> {
        let master = key.as_deref().or(self.ports().settings.master_key.as_deref());
        let rewrapped = self.rewrap_data_key(scope.organization(), &record.data_key, master).await;
        let rewrapped = rewrapped.map_err(|error| match &key {
            Some(_) => refused_key(error),
            None => error,
        })?;
        let former = std::mem::replace(&mut record.data_key, rewrapped);
        remember_key(&mut record.organization, former.master(), record.data_key.master())?;
        record.organization.kms_key = key;
        Ok(())
    }
}

impl OrganizationRecord {
    /// The organization with every master key that its repositories may be under: the one of its data key, too, which is
    /// the installation's of before where that was changed and nobody has wrapped anew since.
    pub(crate) fn with_all_keys(self) -> Organization {
        let mut organization = self.organization;
        let master = self.data_key.master().to_owned();
        if !organization.former_kms_keys.contains(&master) {
            organization.former_kms_keys.push(master);
        }
        organization
    }
}

fn remember_key(organization: &mut Organization, former: &str, now: &str) -> Result<()> {
    let keys = &mut organization.former_kms_keys;
    keys.retain(|key| key != now);
    if former == now || keys.iter().any(|key| key == former) {
        return Ok(());
    }
    if keys.len() >= MAX_FORMER_KEYS {
        let message = format!("it was changed more than {MAX_FORMER_KEYS} times");
        return Err(ControlError::field("kmsKey", message));
    }
    keys.push(former.to_owned());
    Ok(())
}

/// An entry in the list of all organizations.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListedOrganization {
    pub(crate) id: OrganizationId,
    /// Whether it is deleted, and the sweep is to go on with that.
    #[serde(default, skip_serializing_if = "is_not")]
    pub(crate) deleting: bool,
}

/// A master key of the client's own that cannot be used is the client's to mend.
fn refused_key(error: ControlError) -> ControlError {
    match error.kind {
        Kind::Unavailable => error,
        _ => ControlError::field("kmsKey", "the key cannot be used: it is not there, or does not allow it")
            .with_source(error),
    }
}

fn checked(change: OrganizationChange) -> Result<OrganizationChange> {
    if let Some(number) = change.max_running_jobs {
        limit::between("maxRunningJobs", number, 1, limit::MAX_RUNNING)?;
    }
    if let Some(Some(key)) = &change.kms_key {
        check_master_key(key)?;
    }
    let recovery_public_key = match change.recovery_public_key {
        Some(Some(text)) => Some(Some(recovery_key(&text)?)),
        other => other,
    };
    let name = change.name.map(|name| limit::name("name", &name)).transpose()?;
    Ok(OrganizationChange { name, recovery_public_key, ..change })
}

/// Its own master key must be named in full: an id or alias would be looked for among our own.
fn check_master_key(key: &str) -> Result<()> {
    limit::ascii("kmsKey", key, 512)?;
    match key.starts_with("arn:") && key.contains(":kms:") && key.contains(":key/") {
        true => Ok(()),
        false => Err(ControlError::field("kmsKey", "expected the arn of a kms key (arn:aws:kms:…:key/…)")),
    }
}

/// A recovery public key in its one spelling.
fn recovery_key(text: &str) -> Result<String> {
    let key = text.parse::<RecoveryPublicKey>();
    let key = key.map_err(|error| ControlError::field("recoveryPublicKey", error).with_source(error))?;
    Ok(key.to_string())
}

impl OrganizationChange {
    /// What is changed, as the audit log tells it: no part of it is a secret.
    fn told(&self) -> Value {
        let mut told = Map::new();
        let mut add = |name: &str, value: Option<Value>| told.extend(value.map(|value| (name.to_owned(), value)));
        add("name", self.name.as_ref().map(|name| json!(name)));
        add("maxRunningJobs", self.max_running_jobs.map(|number| json!(number)));
        add("recoveryPublicKey", self.recovery_public_key.as_ref().map(|key| json!(key)));
        add("kmsKey", self.kms_key.as_ref().map(|key| json!(key)));
        Value::Object(told)
    }
}

fn apply(change: &OrganizationChange, organization: &mut Organization) {
    if let Some(name) = &change.name {
        organization.name.clone_from(name);
    }
    if let Some(number) = change.max_running_jobs {
        organization.max_running_jobs = number;
    }
    if let Some(key) = &change.recovery_public_key {
        organization.recovery_public_key.clone_from(key);
    }
}
