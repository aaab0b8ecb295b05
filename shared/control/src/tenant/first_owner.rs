//! The first organization of an installation and the key of its owner.

use std::fmt;

use firebackup_model::port::ItemWrite;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::api_key::MintedKey;
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::id::OrganizationId;
use crate::item_keys;
use crate::limit;
use crate::organization::{ListedOrganization, Organization, OrganizationRecord};
use crate::record::{Written, new_item};
use crate::role::Role;
use crate::tenant::OrganizationScope;

/// The first organization and its owner's key, which is shown this once.
#[derive(Clone)]
pub struct FirstOwner {
    /// The organization.
    pub organization: Organization,
    /// The API key: whoever holds it may do everything.
    pub api_key: Zeroizing<String>,
}

impl fmt::Debug for FirstOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstOwner").field("organization", &self.organization).finish_non_exhaustive()
    }
}

/// That there is an owner.
#[derive(Debug, Serialize, Deserialize)]
struct Installation {
    organization: OrganizationId,
}

impl Control {
    /// Makes the first organization and its owner's key; nothing if that was done before, by whomever.
    ///
    /// Only for `bootstrap`: whoever can call it becomes the owner.
    ///
    /// # Errors
    /// When the name may not be so, or the store or the key service fails.
    pub async fn first_owner(&self, name: &str) -> Result<Option<FirstOwner>> {
        let name = limit::name("name", name)?;
        if self.items().get(&item_keys::first_owner()).await?.is_some() {
            return Ok(None);
        }
        let now = self.now();
        let id = OrganizationId::new(now, self.ports().random.as_ref());
        let settings = &self.ports().settings;
        let organization = Organization {
            id,
            name,
            max_running_jobs: settings.max_running_jobs,
            recovery_public_key: None,
            kms_key: None,
            former_kms_keys: Vec::new(),
            created_at: now,
        };
        let data_key = self.new_data_key(id, settings.master_key.as_deref()).await?;
        let record = OrganizationRecord { organization, data_key, default_destination: None };
        let scope = OrganizationScope(id);
        let key = self.mint_key("Owner".to_owned(), Role::Owner, None, None);
        match self.write(first_writes(&scope, &record, &key)?).await? {
            Written::Yes => Ok(Some(FirstOwner { organization: record.organization, api_key: key.secret })),
            // an answer that was lost may stand behind this; the organization is then there, and its key is not known
            Written::Outrun if self.items().get(&item_keys::first_owner()).await?.is_some() => Ok(None),
            Written::Outrun => Err(ControlError::concurrent_change()),
        }
    }

    /// That the installation's master key opens what is kept here: the secrets of the first organization, where there is one.
    ///
    /// # Errors
    /// What the key service says, when it does not.
    pub async fn check_master_key(&self) -> Result<()> {
        let Some((scope, record)) = self.first_organization().await? else { return Ok(()) };
        self.secret_box(scope.organization(), &record.data_key).await.map(drop)
    }

    /// Makes another owner's key of the first organization: nobody can be shown the first one again, and whoever made it may
    /// have died before it was shown. Nothing where there is no organization yet. The keys there are stay good.
    ///
    /// Only for `bootstrap`: whoever can call it becomes the owner.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn another_owner_key(&self) -> Result<Option<FirstOwner>> {
        let Some((scope, record)) = self.first_organization().await? else { return Ok(None) };
        let key = self.mint_key("Owner".to_owned(), Role::Owner, None, None);
        match self.write(key.writes(&scope)?.into()).await? {
            Written::Yes => Ok(Some(FirstOwner { organization: record.organization, api_key: key.secret })),
            Written::Outrun => Err(ControlError::concurrent_change()),
        }
    }

    async fn first_organization(&self) -> Result<Option<(OrganizationScope, OrganizationRecord)>> {
        let Some(installation) = self.load::<Installation>(&item_keys::first_owner()).await? else { return Ok(None) };
        let scope = OrganizationScope(installation.value.organization);
        let record = self.organization_record(&scope).await?.value;
        Ok(Some((scope, record)))
    }
}

fn first_writes(scope: &OrganizationScope, record: &OrganizationRecord, key: &MintedKey) -> Result<Vec<ItemWrite>> {
    let organization = scope.organization();
    let listed = ListedOrganization { id: organization };
    let mut writes = vec![
        ItemWrite::Create(new_item(item_keys::first_owner(), &Installation { organization }, None)?),
        ItemWrite::Create(new_item(item_keys::listed_organization(&organization), &listed, None)?),
        ItemWrite::Create(new_item(scope.organization_key(), record, None)?),
    ];
    writes.extend(key.writes(scope)?);
    Ok(writes)
}
