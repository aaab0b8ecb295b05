//! The first organization of an installation and the key of its owner.

use std::fmt;

use firebackup_model::port::{Identity, ItemWrite};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::actor::{Actor, Origin};
use crate::audit::Act;
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::id::OrganizationId;
use crate::item_keys;
use crate::limit;
use crate::member::Member;
use crate::organization::{Organization, OrganizationRecord};
use crate::record::{MAX_ATTEMPTS, Written, new_item};
use crate::role::Role;
use crate::tenant::new_organization::organization_writes;
use crate::tenant::{Author, OrganizationScope};

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

/// How long the owner's code is good.
const OWNER_CODE_SECONDS: i64 = 15 * 60;

/// Whoever sits at the machine, as somebody who signs in.
fn local_owner() -> Identity {
    let text = |text: &str| text.to_owned();
    let (issuer, subject, name) = (text("local"), text("owner"), Some(text("Owner")));
    Identity { issuer, subject, email: None, email_verified: false, name }
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
        let record = self.new_organization_record(name).await?;
        let scope = OrganizationScope(record.organization.id);
        let key = self.mint_key("Owner".to_owned(), Role::Owner, None, None);
        let author = installer(scope);
        let act = Act::new("organization.created", record.organization.id);
        let mut writes = organization_writes(&scope, &record)?;
        let installation = Installation { organization: scope.organization() };
        writes.push(ItemWrite::Create(new_item(item_keys::first_owner(), &installation, None)?));
        writes.extend(key.writes(&scope)?);
        match self.commit(&author, act, writes).await? {
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
        let act = Act::new("api_key.created", key.record.key.id).with(json!({ "role": Role::Owner }));
        match self.commit(&installer(scope), act, key.writes(&scope)?.into()).await? {
            Written::Yes => Ok(Some(FirstOwner { organization: record.organization, api_key: key.secret })),
            Written::Outrun => Err(ControlError::concurrent_change()),
        }
    }

    /// The installation's first organization.
    pub(crate) async fn installation(&self) -> Result<Option<OrganizationId>> {
        let installation = self.load::<Installation>(&item_keys::first_owner()).await?;
        Ok(installation.map(|installation| installation.value.organization))
    }

    /// A code with which whoever runs the installation signs in as an owner of its first organization, once and within
    /// a quarter of an hour. Nothing where there is no organization yet, or where the others have taken this owner out.
    ///
    /// Only for `bootstrap`: whoever can call it becomes the owner.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn owner_code(&self) -> Result<Option<Zeroizing<String>>> {
        let Some((scope, _)) = self.first_organization().await? else { return Ok(None) };
        for _ in 0..MAX_ATTEMPTS {
            let known = self.user_of(&local_owner()).await?;
            let (user, mut writes) = match known {
                Some(known) if self.load::<Member>(&scope.member_key(&known.value.id)).await?.is_none() => {
                    return Ok(None);
                }
                Some(known) => (known.value, Vec::new()),
                None => {
                    let (user, new) = self.new_user(&local_owner())?;
                    let mut writes = Vec::from(new);
                    writes.extend(Member::new(&user, Role::Owner, self.now()).writes(&scope)?);
                    writes.push(self.entry(&installer(scope), Act::new("member.added", user.id))?);
                    (user, writes)
                }
            };
            let (code, write) = self.mint_code(&user, OWNER_CODE_SECONDS)?;
            writes.push(write);
            if self.write_unrecorded(writes).await? == Written::Yes {
                return Ok(Some(code));
            }
        }
        Err(ControlError::concurrent_change())
    }

    async fn first_organization(&self) -> Result<Option<(OrganizationScope, OrganizationRecord)>> {
        let Some(installation) = self.load::<Installation>(&item_keys::first_owner()).await? else { return Ok(None) };
        let scope = OrganizationScope(installation.value.organization);
        let record = self.organization_record(&scope).await?.value;
        Ok(Some((scope, record)))
    }
}

/// Whoever runs the installation.
fn installer(scope: OrganizationScope) -> Author {
    Author { scope, actor: Actor::System, origin: Origin::default() }
}
