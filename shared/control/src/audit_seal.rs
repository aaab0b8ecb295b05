//! Months of the audit log that are over leave the table: a part at a time they are sealed into the organization's default
//! destination, read back and compared, remembered, and only then removed here.
//!
//! Whoever dies in between leaves entries in both places, and readers see each once
//! ([`audit_list`](crate::audit_list)); the next round goes on. Two at once put the same part under the same name.

use std::collections::BTreeSet;

use firebackup_model::port::{ItemQuery, ItemWrite};
use serde_json::json;

use crate::archive::ArchivePlace;
use crate::audit::{Act, AuditEntry, Outcome};
use crate::audit_part::{PartOf, SealedPart};
use crate::control::Control;
use crate::error::Result;
use crate::id::{AuditId, DestinationId};
use crate::month::Month;
use crate::organization::OrganizationRecord;
use crate::record::{Stored, Written, decode, new_item};
use crate::tenant::{OrganizationScope, Worker};

/// For how many days a month may still be told of after its end: clocks differ, and so do days.
const QUIET_DAYS: i64 = 7;
/// The most entries of a part.
const PART_ENTRIES: u32 = 1000;
/// The most parts of one round; what is left waits for the next.
const MOST_PARTS: u64 = 50;
/// How many entries are removed in one transaction.
const REMOVED_AT_ONCE: usize = 50;

/// What was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SealedAudit {
    /// Parts.
    pub parts: u64,
    /// Entries in them.
    pub entries: u64,
}

impl Control {
    /// Seals what the table still holds of months that are over. Nothing is done in an organization without a default
    /// destination.
    ///
    /// # Errors
    /// [`Upstream`](crate::Kind::Upstream) where the destination cannot be reached or does not give back what was put: the
    /// entries stay where they are. When the store fails.
    pub async fn seal_audit(&self, worker: &Worker) -> Result<SealedAudit> {
        let (scope, mut sealed) = (worker.scope(), SealedAudit::default());
        let organization = self.organization_record(scope).await?;
        let Some(id) = organization.value.default_destination else { return Ok(sealed) };
        for month in self.months_over(&organization.value) {
            while sealed.parts < MOST_PARTS {
                let entries = self.first_entries(scope, month).await?;
                if entries.is_empty() {
                    break;
                }
                sealed.entries += self.seal_entries(worker, id, month, entries).await?;
                sealed.parts += 1;
            }
        }
        Ok(sealed)
    }

    /// The months of an organization that nobody writes into any more, oldest first.
    fn months_over(&self, organization: &OrganizationRecord) -> Vec<Month> {
        Month::of(organization.organization.created_at).until(self.first_open(QUIET_DAYS).before())
    }

    /// The first month that has not been over for so many days.
    fn first_open(&self, days: i64) -> Month {
        Month::of(self.now().plus_seconds(-days * 86_400))
    }

    /// Whether somebody may have begun to seal a month. Their clock may be up to a day ahead of ours.
    pub(crate) fn may_be_sealed(&self, month: Month) -> bool {
        month < self.first_open(QUIET_DAYS - 1)
    }

    /// The oldest entries of a month that the table holds.
    async fn first_entries(&self, scope: &OrganizationScope, month: Month) -> Result<Vec<Stored<AuditEntry>>> {
        let mut query = ItemQuery { descending: false, limit: PART_ENTRIES, ..scope.audit(month) };
        loop {
            let page = self.items().query(&query).await?;
            query.after = page.next;
            if !page.items.is_empty() || query.after.is_none() {
                return page.items.into_iter().map(decode).collect();
            }
        }
    }

    /// Seals what no part holds yet, and removes all of it from the table. Says how many were sealed.
    async fn seal_entries(
        &self,
        worker: &Worker,
        id: DestinationId,
        month: Month,
        entries: Vec<Stored<AuditEntry>>,
    ) -> Result<u64> {
        // looked for after the entries were read: whoever removes some has remembered the part before
        let there = self.ids_in_parts(worker.scope(), month, &entries).await?;
        let fresh = entries.iter().filter(|entry| !there.contains(&entry.value.id));
        let fresh = self.counted_entries(worker.scope(), fresh.map(|entry| entry.value.clone()).collect()).await?;
        let count = fresh.len() as u64;
        if count > 0 && self.seal_part(worker, id, month, fresh).await? == Written::Outrun {
            return Ok(0);
        }
        self.remove_entries(&entries).await?;
        Ok(count)
    }

    /// The ids of entries that parts hold which may hold some of these.
    async fn ids_in_parts(
        &self,
        scope: &OrganizationScope,
        month: Month,
        entries: &[Stored<AuditEntry>],
    ) -> Result<BTreeSet<AuditId>> {
        let mut ids = BTreeSet::new();
        let Some((first, last)) = entries.first().zip(entries.last()) else { return Ok(ids) };
        for part in self.sealed_parts(scope, month).await? {
            if part.first <= last.value.id && first.value.id <= part.last {
                ids.extend(self.entries_of(scope, month, &part).await?.into_iter().map(|entry| entry.id));
            }
        }
        Ok(ids)
    }

    /// Entries with how often what they tell of was refused: nobody counts on when their month is over.
    async fn counted_entries(
        &self,
        scope: &OrganizationScope,
        mut entries: Vec<AuditEntry>,
    ) -> Result<Vec<AuditEntry>> {
        for entry in entries.iter_mut().filter(|entry| entry.outcome == Outcome::Refused) {
            entry.count = Some(self.counted(&scope.refused_key(&entry.id)).await?);
        }
        Ok(entries)
    }

    async fn seal_part(
        &self,
        worker: &Worker,
        id: DestinationId,
        month: Month,
        entries: Vec<AuditEntry>,
    ) -> Result<Written> {
        let scope = worker.scope();
        let of = PartOf { organization: scope.organization(), month };
        let mut destination = self.destination_record(scope, &id).await?;
        destination.value.check_usable()?;
        let place = self.archive_place(scope, &destination.value).await?;
        let part = self.put_part((&place, id), of, entries).await?;
        // who removes the destination must see that it is needed, or this must see that it is being removed
        destination.value.holds_audit = true;
        let record = new_item(scope.sealed_part_key(month, &part.name), &part, None)?;
        let act = Act::new("audit.sealed", id)
            .with(json!({ "month": month.to_string(), "object": part.name, "entries": part.entries }));
        self.commit(&worker.author(), act, vec![ItemWrite::Create(record), destination.replace(None)?]).await
    }

    async fn remove_entries(&self, entries: &[Stored<AuditEntry>]) -> Result<()> {
        for some in entries.chunks(REMOVED_AT_ONCE) {
            // outrun: somebody else removes the same ones, and what is left comes again
            self.write_unrecorded(some.iter().map(Stored::delete).collect()).await?;
        }
        Ok(())
    }

    /// The parts of a month.
    pub(crate) async fn sealed_parts(&self, scope: &OrganizationScope, month: Month) -> Result<Vec<SealedPart>> {
        let parts = self.all::<SealedPart>(scope.sealed_parts(month)).await?;
        Ok(parts.into_iter().map(|part| part.value).collect())
    }

    /// The entries of a part, oldest first.
    pub(crate) async fn entries_of(
        &self,
        scope: &OrganizationScope,
        month: Month,
        part: &SealedPart,
    ) -> Result<Vec<AuditEntry>> {
        let destination = self.destination_record(scope, &part.destination).await?.value;
        let place = self.archive_place(scope, &destination).await?;
        self.read_part(&place, part, PartOf { organization: scope.organization(), month }).await
    }

    pub(crate) async fn archive_place(
        &self,
        scope: &OrganizationScope,
        record: &crate::destination::DestinationRecord,
    ) -> Result<ArchivePlace> {
        let organization = self.organization_record(scope).await?;
        let access = self.destination_access(&organization, record).await?;
        Ok(ArchivePlace { access, retention_lock_days: record.destination.retention_lock_days })
    }
}
