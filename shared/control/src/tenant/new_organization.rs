//! Organizations that people make, and their end.

use firebackup_model::port::ItemWrite;
use serde_json::json;

use crate::actor::{Actor, Origin};
use crate::audit::Act;
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::id::OrganizationId;
use crate::item_keys;
use crate::limit;
use crate::member::{Member, Membership};
use crate::organization::{ListedOrganization, NewOrganization, Organization, OrganizationRecord};
use crate::page::{Page, Paged};
use crate::record::{MAX_ATTEMPTS, Written, new_item};
use crate::role::Role;
use crate::tenant::{Author, OrganizationScope, Person};
use crate::user::User;

impl Control {
    /// Makes an organization, whose owner is whoever makes it.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where the name may not be so;
    /// [`LimitReached`](crate::Code::LimitReached) where they are members of too many.
    pub async fn create_organization(&self, person: &Person, new: NewOrganization) -> Result<Organization> {
        let name = limit::name("name", &new.name)?;
        let user = self.user(&person.user()).await?.value;
        let (organization, writes) = self.new_organization(&user, &name, person.origin()).await?;
        for _ in 0..MAX_ATTEMPTS {
            let mut writes = writes.clone();
            writes.push(self.room_for_organization(person).await?);
            if self.write_unrecorded(writes).await? == Written::Yes {
                return Ok(organization);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// The organizations of which somebody is a member, in the order in which they were made.
    ///
    /// # Errors
    /// When the page cannot be, or the store fails.
    pub async fn organizations(&self, person: &Person, page: &Page) -> Result<Paged<Organization>> {
        let memberships =
            self.list(item_keys::memberships(&person.user()), page, |membership: Membership| Some(membership));
        let Paged { items, next, page, limit, total } = memberships.await?;
        let mut organizations = Vec::new();
        for membership in items {
            let scope = self.scope_of_membership(&membership);
            let record = self.organization_if_there(&scope).await?;
            organizations.extend(record.map(|record| record.value.organization));
        }
        Ok(Paged { items: organizations, next, page, limit, total })
    }

    /// A new organization with its owner and the entry that tells of it; what stores them comes with it.
    pub(crate) async fn new_organization(
        &self,
        owner: &User,
        name: &str,
        origin: &Origin,
    ) -> Result<(Organization, Vec<ItemWrite>)> {
        let record = self.new_organization_record(name.to_owned()).await?;
        let scope = OrganizationScope(record.organization.id);
        let author = Author { scope, actor: Actor::User(owner.id), origin: origin.clone() };
        let act = Act::new("organization.created", record.organization.id).with(json!({ "name": name }));
        let mut writes = organization_writes(&scope, &record)?;
        writes.extend(Member::new(owner, Role::Owner, self.now()).writes(&scope)?);
        writes.push(self.entry(&author, act)?);
        Ok((record.organization, writes))
    }

    /// A new organization, with a data key of its own.
    pub(in crate::tenant) async fn new_organization_record(&self, name: String) -> Result<OrganizationRecord> {
        let now = self.now();
        let id = OrganizationId::new(now, self.ports().random.as_ref());
        let settings = &self.ports().settings;
        let data_key = self.new_data_key(id, settings.master_key.as_deref()).await?;
        let organization = Organization {
            id,
            name,
            max_running_jobs: settings.max_running_jobs,
            recovery_public_key: None,
            kms_key: None,
            former_kms_keys: Vec::new(),
            created_at: now,
        };
        Ok(OrganizationRecord { organization, data_key, default_destination: None, closing: false, deleting: false })
    }
}

/// What stores a new organization.
pub(in crate::tenant) fn organization_writes(
    scope: &OrganizationScope,
    record: &OrganizationRecord,
) -> Result<Vec<ItemWrite>> {
    let id = record.organization.id;
    Ok(vec![
        ItemWrite::Create(new_item(
            item_keys::listed_organization(&id),
            &ListedOrganization { id, deleting: false },
            None,
        )?),
        ItemWrite::Create(new_item(scope.organization_key(), record, None)?),
    ])
}
