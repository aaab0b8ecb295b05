//! The end of a migration: records that name the source come to name the target, some in each transaction, and the last one
//! lets both go. What was switched before is not found again, so that doing it twice is doing it once.

use firebackup_model::port::{ItemKey, ItemQuery, ItemWrite};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::audit::Act;
use crate::audit_part::SealedPart;
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::id::DestinationId;
use crate::job::Job;
use crate::job_records::index;
use crate::migration::{MigrationStatus, MigrationUses};
use crate::migration_run::BegunMigration;
use crate::month::Month;
use crate::pitr_record::PitrRecord;
use crate::record::{MAX_ATTEMPTS, Stored, Written, decode};
use crate::schedule::Schedule;
use crate::tenant::{Author, OrganizationScope, Worker};

/// How many records are switched in one transaction: a restore may keep a preview of 128 KB, and a transaction has 4 MB.
const AT_ONCE: usize = 20;

/// A record that may name a destination.
trait Names: Serialize + DeserializeOwned + Send + Sync {
    /// What it is, as the audit log tells it.
    const NOUN: &'static str;

    /// Its name there.
    fn id(&self) -> String;

    /// The destination that it names.
    fn destination(&self) -> Option<DestinationId>;

    fn rename(&mut self, to: DestinationId);

    /// Its place in the index.
    fn index(&self, _: &OrganizationScope) -> Option<ItemKey> {
        None
    }
}

impl Names for Job {
    const NOUN: &'static str = "jobs";

    fn id(&self) -> String {
        Self::id(self).to_string()
    }

    fn destination(&self) -> Option<DestinationId> {
        Some(Self::destination(self))
    }

    fn rename(&mut self, to: DestinationId) {
        self.move_to(to);
    }

    fn index(&self, scope: &OrganizationScope) -> Option<ItemKey> {
        index(scope, self)
    }
}

impl Names for Schedule {
    const NOUN: &'static str = "schedules";

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn destination(&self) -> Option<DestinationId> {
        self.storage_destination_id
    }

    fn rename(&mut self, to: DestinationId) {
        self.storage_destination_id = Some(to);
    }
}

impl Names for PitrRecord {
    const NOUN: &'static str = "pitr";

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn destination(&self) -> Option<DestinationId> {
        Some(self.storage_destination_id)
    }

    fn rename(&mut self, to: DestinationId) {
        self.storage_destination_id = to;
    }

    fn index(&self, scope: &OrganizationScope) -> Option<ItemKey> {
        self.index(scope)
    }
}

impl Names for SealedPart {
    const NOUN: &'static str = "auditParts";

    fn id(&self) -> String {
        self.name.clone()
    }

    fn destination(&self) -> Option<DestinationId> {
        Some(self.destination)
    }

    fn rename(&mut self, to: DestinationId) {
        self.destination = to;
    }
}

/// From which destination to which.
#[derive(Clone, Copy)]
struct Way {
    from: DestinationId,
    to: DestinationId,
}

impl Control {
    /// Lets everything that names the source name the target, and ends the migration. All that is there must have been copied.
    ///
    /// # Errors
    /// When the store fails: it is to be done again.
    pub async fn complete_migration(&self, worker: &Worker, begun: &mut BegunMigration) -> Result<()> {
        let (scope, author) = (worker.scope(), worker.author());
        let way = Way { from: begun.source(), to: begun.0.value.shown.target_destination_id };
        for query in [scope.backups(), scope.restores()] {
            self.switch::<Job>(&author, way, &query).await?;
        }
        self.switch::<Schedule>(&author, way, &scope.schedules()).await?;
        self.switch::<PitrRecord>(&author, way, &scope.pitrs()).await?;
        for query in self.parts_of_all_months(scope).await? {
            self.switch::<SealedPart>(&author, way, &query).await?;
        }
        for _ in 0..MAX_ATTEMPTS {
            if !self.is_ours(worker, begun).await? {
                return Ok(());
            }
            if self.let_go(&author, way, begun).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// The last transaction: the source is one destination among others again, that nothing uses.
    async fn let_go(&self, author: &Author, way: Way, begun: &BegunMigration) -> Result<Written> {
        let mut organization = self.organization_record(author.scope()).await?;
        let mut two = self.two(author.scope(), &way.from, &way.to).await?;
        let mut record = begun.0.clone();
        record.value.end(MigrationStatus::Completed, None, self.now());
        (two.source.value.moving, two.target.value.moving) = (None, None);
        two.target.value.holds_audit |= std::mem::take(&mut two.source.value.holds_audit);
        let mut writes = vec![two.source.replace(None)?, two.target.replace(None)?, record.replace(None)?];
        writes.push(match organization.value.default_destination == Some(way.from) {
            true => {
                organization.value.default_destination = Some(way.to);
                organization.replace(None)?
            }
            false => organization.check(),
        });
        let shown = &record.value.shown;
        let act = Act::new("storage.migration_completed", way.from).with(json!({
            "targetDestinationId": way.to, "objects": shown.objects_done, "bytes": shown.bytes_done,
        }));
        self.commit(author, act, writes).await
    }

    async fn switch<T: Names>(&self, author: &Author, way: Way, query: &ItemQuery) -> Result<()> {
        let (mut query, mut outrun) = (query.clone(), 0);
        loop {
            let page = self.items().query(&query).await?;
            let found = page.items.into_iter().map(decode::<T>).collect::<Result<Vec<_>>>()?;
            let mut found: Vec<_> = found.into_iter().filter(|one| one.value.destination() == Some(way.from)).collect();
            for some in found.chunks_mut(AT_ONCE) {
                if self.switch_some(author, way, some).await? == Written::Outrun {
                    outrun += 1;
                    if outrun > MAX_ATTEMPTS {
                        return Err(ControlError::concurrent_change());
                    }
                }
            }
            // what was outrun is looked at again, as all of the page is
            if found.is_empty() {
                query.after = page.next;
                if query.after.is_none() {
                    return Ok(());
                }
            }
        }
    }

    async fn switch_some<T: Names>(&self, author: &Author, way: Way, some: &mut [Stored<T>]) -> Result<Written> {
        let mut writes: Vec<ItemWrite> = Vec::with_capacity(some.len() + 1);
        for one in some.iter_mut() {
            one.value.rename(way.to);
            writes.push(one.replace(one.value.index(author.scope()))?);
        }
        let ids: Vec<Value> = some.iter().map(|one| Value::from(one.value.id())).collect();
        let act = Act::new("storage.migration_switched", way.from)
            .with(json!({ "targetDestinationId": way.to, T::NOUN: ids }));
        self.commit(author, act, writes).await
    }

    /// What names a destination.
    pub(crate) async fn migration_uses(&self, scope: &OrganizationScope, id: &DestinationId) -> Result<MigrationUses> {
        let mut audit_parts = 0;
        for query in self.parts_of_all_months(scope).await? {
            audit_parts += self.count_naming::<SealedPart>(query, id).await?;
        }
        Ok(MigrationUses {
            backups: self.count_naming::<Job>(scope.backups(), id).await?,
            restores: self.count_naming::<Job>(scope.restores(), id).await?,
            schedules: self.count_naming::<Schedule>(scope.schedules(), id).await?,
            pitr: self.count_naming::<PitrRecord>(scope.pitrs(), id).await?,
            audit_parts,
            is_default: self.organization_record(scope).await?.value.default_destination == Some(*id),
        })
    }

    async fn count_naming<T: Names>(&self, query: ItemQuery, id: &DestinationId) -> Result<u64> {
        let all = self.all::<T>(query).await?;
        Ok(all.iter().filter(|one| one.value.destination() == Some(*id)).count() as u64)
    }

    async fn parts_of_all_months(&self, scope: &OrganizationScope) -> Result<Vec<ItemQuery>> {
        let organization = self.organization_record(scope).await?.value.organization;
        let months = Month::of(organization.created_at).until(Month::of(self.now()));
        Ok(months.into_iter().map(|month| scope.sealed_parts(month)).collect())
    }
}
