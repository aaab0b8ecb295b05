//! The end of an organization: marked first, in one transaction with the entry that tells of it, so that nothing new can
//! begin; then all of its records go, a few a transaction, and its sealed data key last. Whoever dies in between leaves a
//! mark, and the sweep goes on from there.
//!
//! The audit log stays: it is the installation's evidence of what was done, also by whoever had everything else deleted.
//! Counters expire by themselves.

use firebackup_model::port::{Item, ItemKey, ItemQuery, ItemWrite};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::api_key::ApiKeyRecord;
use crate::audit::Act;
use crate::control::Control;
use crate::destination::DestinationRecord;
use crate::error::{Code, ControlError, Result};
use crate::id::OrganizationId;
use crate::invite::Invite;
use crate::item_keys;
use crate::member::Member;
use crate::organization::{ListedOrganization, OrganizationRecord};
use crate::project::ProjectRecord;
use crate::project::in_use;
use crate::record::{MAX_ATTEMPTS, Stored, Written, decode};
use crate::role::Right;
use crate::schedule::Schedule;
use crate::tenant::{Caller, OrganizationScope, Worker};

/// What confirms that an organization is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrganizationDeletion {
    /// The organization's name, as it is now.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
}

/// An organization that is being deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedOrganization {
    /// Its id, which soon names nothing any more.
    pub id: OrganizationId,
    /// The name that it had.
    pub name: String,
    /// Its destinations, as URLs. What lies there is not touched: whoever wants it gone deletes it there, and whoever wants
    /// to read it needs the master key or the recovery key that it is under.
    pub left: Vec<String>,
}

/// How many records go in one transaction, each with at most two items that lead to it.
const AT_ONCE: u32 = 25;

impl Control {
    /// Deletes the caller's organization, after which nobody gets in: keys and members are refused from the first moment
    /// on, and all records but the audit log go. What lies in its destinations stays.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where the name is another; [`Conflict`](Code::Conflict): it is the
    /// installation's first; [`InUse`](Code::InUse) while it has schedules or jobs that have not ended.
    pub async fn delete_organization(
        &self,
        caller: &Caller,
        deletion: &OrganizationDeletion,
    ) -> Result<DeletedOrganization> {
        caller.may(Right::ManageOrganization)?;
        let scope = caller.scope();
        self.check_not_first(scope).await?;
        for _ in 0..MAX_ATTEMPTS {
            // first whatever begins must leave a trace, then nothing may have begun: see `goes_on`
            let mut record = self.organization_record(scope).await?;
            check_name(&record.value, &deletion.name)?;
            record.value.closing = true;
            if self.write_unrecorded(vec![record.replace(None)?]).await? == Written::Outrun {
                continue;
            }
            let record = self.organization_record(scope).await?;
            if !record.value.closing {
                continue;
            }
            let users = self.unfinished(scope).await?;
            if !users.is_empty() {
                return Err(in_use("organization", &users));
            }
            let deleted = self.deleted(scope, &record.value).await?;
            if self.mark_deleted(caller, record).await? == Written::Yes {
                self.begin_removing(scope).await;
                return Ok(deleted);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Goes on with organizations that are marked as deleted; says how many came to their end. One that cannot be removed
    /// now keeps nobody from the others, and its turn comes again.
    ///
    /// # Errors
    /// When the list of them cannot be read.
    pub async fn go_on_deleting(&self) -> Result<u64> {
        let listed = self.all::<ListedOrganization>(item_keys::all_organizations()).await?;
        let mut removed = 0;
        for listed in listed.into_iter().filter(|listed| listed.value.deleting) {
            let worker = self.worker(&listed.value.id);
            match self.remove_organization(&worker).await {
                Ok(()) => removed += 1,
                Err(error) => {
                    let organization = worker.organization();
                    tracing::warn!(organization = %organization, error = %error, "it is not deleted whole yet");
                }
            }
        }
        Ok(removed)
    }

    /// What a transaction holds that begins something in an organization: it is there, and not deleted. Where somebody is
    /// looking whether it can be, they have to look again.
    pub(crate) async fn goes_on(&self, scope: &OrganizationScope) -> Result<ItemWrite> {
        let mut record = self.organization_record(scope).await?;
        if !record.value.closing {
            return Ok(record.check());
        }
        record.value.closing = false;
        record.replace(None)
    }

    async fn check_not_first(&self, scope: &OrganizationScope) -> Result<()> {
        if self.installation().await? != Some(scope.organization()) {
            return Ok(());
        }
        let message = "the installation's first organization stays: whoever runs the installation signs in there";
        Err(ControlError::conflict(Code::Conflict, message))
    }

    /// The schedules, the recoveries to a point in time and drills that are enabled, and the jobs that have not ended, as ids.
    async fn unfinished(&self, scope: &OrganizationScope) -> Result<Vec<String>> {
        let schedules = self.all::<Schedule>(scope.schedules()).await?.into_iter();
        let jobs = self.active_jobs(scope).await?.into_iter().map(|job| job.job.to_string());
        let pitrs = self.pitrs_on(scope, |_| true).await?;
        let drills = self.drills_using(scope, None).await?;
        Ok(schedules.map(|schedule| schedule.value.id.to_string()).chain(pitrs).chain(drills).chain(jobs).collect())
    }

    async fn deleted(&self, scope: &OrganizationScope, record: &OrganizationRecord) -> Result<DeletedOrganization> {
        let destinations = self.all::<DestinationRecord>(scope.destinations()).await?.into_iter();
        Ok(DeletedOrganization {
            id: scope.organization(),
            name: record.organization.name.clone(),
            left: destinations.map(|record| record.value.destination.url).collect(),
        })
    }

    async fn mark_deleted(&self, caller: &Caller, mut record: Stored<OrganizationRecord>) -> Result<Written> {
        let key = item_keys::listed_organization(&caller.organization());
        let mut listed = self.found::<ListedOrganization>(&key, "organization").await?;
        listed.value.deleting = true;
        record.value.deleting = true;
        let act = Act::new("organization.deleted", caller.organization())
            .with(json!({ "name": record.value.organization.name }));
        self.commit(caller.author(), act, vec![record.replace(None)?, listed.replace(None)?]).await
    }

    /// Whoever asked need not wait for the sweep before they can begin anew; what cannot be done now it does.
    async fn begin_removing(&self, scope: &OrganizationScope) {
        for query in ways_in(scope) {
            if let Err(error) = self.remove_all(scope, &query).await {
                tracing::warn!(error = %error, "an organization that is deleted waits for the sweep");
                return;
            }
        }
    }

    async fn remove_organization(&self, worker: &Worker) -> Result<()> {
        let scope = worker.scope();
        for query in ways_in(scope) {
            self.remove_all(scope, &query).await?;
        }
        self.remove_all(scope, &scope.everything()).await?;
        self.remove_record(worker).await
    }

    /// Removes what a query finds, but the organization's own record, and with each record the items that lead to it.
    async fn remove_all(&self, scope: &OrganizationScope, query: &ItemQuery) -> Result<()> {
        let (mut query, mut outrun) = (query.clone(), 0);
        while outrun < MAX_ATTEMPTS {
            let page = self.items().query(&query).await?;
            let own = scope.organization_key();
            let mut writes = Vec::new();
            for item in page.items.into_iter().filter(|item| item.key != own) {
                writes.extend(self.ways_to(scope, &item).await?);
                writes.push(ItemWrite::Delete(item.key, item.version));
            }
            if writes.is_empty() {
                query.after = page.next;
                if query.after.is_none() {
                    return Ok(());
                }
            } else if self.write_unrecorded(writes).await? == Written::Outrun {
                outrun += 1;
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// What removes the items of other partitions that lead to a record.
    async fn ways_to(&self, scope: &OrganizationScope, item: &Item) -> Result<Vec<ItemWrite>> {
        let mut writes = Vec::new();
        for key in scope.leading_to(item)? {
            writes.extend(self.items().get(&key).await?.map(|way| ItemWrite::Delete(way.key, way.version)));
        }
        Ok(writes)
    }

    /// The last step: without the data key nothing that was sealed with it opens any more, wherever a copy lies.
    async fn remove_record(&self, worker: &Worker) -> Result<()> {
        let (scope, id) = (worker.scope(), worker.organization());
        for _ in 0..MAX_ATTEMPTS {
            let Some(listed) = self.items().get(&item_keys::listed_organization(&id)).await? else { return Ok(()) };
            let mut writes = vec![ItemWrite::Delete(listed.key, listed.version)];
            if let Some(record) = self.items().get(&scope.organization_key()).await? {
                writes.push(decode::<OrganizationRecord>(record)?.delete());
            }
            if self.commit(&worker.author(), Act::new("organization.gone", id), writes).await? == Written::Yes {
                self.data_keys().forget(id);
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }
}

/// What lets people and programs in goes first.
fn ways_in(scope: &OrganizationScope) -> [ItemQuery; 3] {
    let queries = [scope.api_keys(), scope.members(), scope.invites()];
    queries.map(|query| ItemQuery { limit: AT_ONCE, ..query })
}

fn check_name(record: &OrganizationRecord, name: &str) -> Result<()> {
    match record.organization.name == name.trim() {
        true => Ok(()),
        false => Err(ControlError::field("name", "expected the organization's name, as it is now")),
    }
}

impl OrganizationScope {
    fn everything(&self) -> ItemQuery {
        ItemQuery { limit: AT_ONCE, ..self.all_items() }
    }

    /// The keys of what leads to a record from outside of the organization.
    fn leading_to(&self, item: &Item) -> Result<Vec<ItemKey>> {
        let item = item.clone();
        match item.key.sort.split('#').next() {
            Some("KEY") => Ok(vec![item_keys::key_owner(&decode::<ApiKeyRecord>(item)?.value.key.id)]),
            Some("MEMBER") => {
                let user = decode::<Member>(item)?.value.user_id;
                Ok(vec![item_keys::membership(&user, &self.organization())])
            }
            Some("PROJECT") => Ok(vec![item_keys::push_owner(&decode::<ProjectRecord>(item)?.value.project.id)]),
            Some("INVITE") => Ok(decode::<Invite>(item)?.value.ways().into()),
            _ => Ok(Vec::new()),
        }
    }
}
