//! The audit log as it is read: newest first, through the months, whether they lie in the table or are sealed in a
//! destination.
//!
//! A cursor is the id behind which to go on: it stays good when a month is sealed meanwhile. While one is being sealed
//! entries may be in both places; they are told once.

use std::collections::{BTreeMap, VecDeque};

use firebackup_model::Timestamp;
use firebackup_model::port::{ItemQuery, SortRange};

use crate::audit::{AuditEntry, AuditFilter, Outcome, minute};
use crate::audit_part::SealedPart;
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::id::AuditId;
use crate::month::Month;
use crate::page::{MAX_ROUNDS, Page, Paged, wrong_cursor};
use crate::record::{MAX_ATTEMPTS, decode};
use crate::role::Right;
use crate::tenant::{Caller, OrganizationScope};

/// How many rounds reading a part counts for: it is an object to fetch, and not a page of the table.
const ROUNDS_OF_PART: u32 = 8;
/// The most entries that are asked of the table at one time.
const MOST_AT_ONCE: u32 = 200;

/// Where a walk through the log stands.
struct AuditWalk<'a> {
    control: &'a Control,
    scope: &'a OrganizationScope,
    /// Newest first; those that are left.
    months: VecDeque<Month>,
    /// All that is told from now on has ids below.
    before: Option<AuditId>,
    /// Nothing before that id is asked for.
    floor: AuditId,
    /// The last one told of a batch that was not told to its end.
    stopped_at: Option<AuditId>,
    rounds: u32,
}

/// Entries that follow one another.
struct Batch {
    /// Newest first.
    entries: Vec<AuditEntry>,
    /// Behind them.
    before: Option<AuditId>,
    /// Whether the month has no more.
    ends_month: bool,
}

impl Control {
    /// Entries of the audit log, newest first.
    ///
    /// # Errors
    /// When the page cannot be, the store fails, or a destination that holds a month cannot be reached.
    pub async fn audit(&self, caller: &Caller, filter: &AuditFilter, page: &Page) -> Result<Paged<AuditEntry>> {
        caller.may(Right::ReadAudit)?;
        page.check()?;
        let mut walk = self.audit_walk(caller.scope(), filter, page.cursor.as_deref()).await?;
        let skipped = page.skipped();
        let wanted = (skipped + page.limit) as usize;
        let mut found = Vec::new();
        while found.len() < wanted && walk.goes_on() {
            let mut batch = walk.next_batch((wanted - found.len()) as u32).await?.into_iter();
            while found.len() < wanted
                && let Some(entry) = batch.next()
            {
                walk.stopped_at = Some(entry.id);
                found.extend(filter.takes(&entry).then_some(entry));
            }
            if batch.len() == 0 {
                walk.stopped_at = None;
            }
        }
        let total = (page.cursor.is_none() && walk.cursor().is_none()).then_some(found.len() as u64);
        let mut items: Vec<_> = found.into_iter().skip(skipped as usize).collect();
        self.count_refused_of(caller.scope(), &mut items).await?;
        Ok(Paged { items, next: walk.cursor(), page: page.page, limit: page.limit, total })
    }

    /// A walk through the months of a filter.
    async fn audit_walk<'a>(
        &'a self,
        scope: &'a OrganizationScope,
        filter: &AuditFilter,
        cursor: Option<&str>,
    ) -> Result<AuditWalk<'a>> {
        let cursor = cursor.map(str::parse).transpose().map_err(|_| wrong_cursor())?;
        let made = self.organization_record(scope).await?.value.organization.created_at;
        let first = filter.from.map_or(made, |from| from.max(made));
        let last = filter.to.map_or_else(|| self.now(), |to| to.min(self.now()));
        let mut months: VecDeque<_> = Month::of(first).until(Month::of(last)).into_iter().rev().collect();
        let above = filter.to.map(|to| AuditId::first(Timestamp::from_millis(to.millis().saturating_add(1))));
        let before = cursor.into_iter().chain(above).min();
        if let Some(before) = before {
            months.retain(|month| month.first_id() < before);
        }
        // what is told once a minute has the id of its minute
        let floor = AuditId::first(minute(first));
        Ok(AuditWalk { control: self, scope, months, before, floor, stopped_at: None, rounds: 0 })
    }

    /// Of entries in the table how often it came stands beside them; sealed ones hold it.
    async fn count_refused_of(&self, scope: &OrganizationScope, entries: &mut [AuditEntry]) -> Result<()> {
        for entry in entries.iter_mut().filter(|entry| entry.outcome == Outcome::Refused && entry.count.is_none()) {
            entry.count = Some(self.counted(&scope.refused_key(&entry.id)).await?);
        }
        Ok(())
    }
}

impl AuditWalk<'_> {
    fn goes_on(&self) -> bool {
        !self.has_ended() && self.rounds < MAX_ROUNDS
    }

    fn has_ended(&self) -> bool {
        self.months.is_empty()
    }

    /// Where to go on; nothing at the end.
    fn cursor(&self) -> Option<String> {
        // nothing of a month was told yet: from its end on
        let in_month = |month: &Month| self.before.unwrap_or_else(|| month.after().first_id());
        self.stopped_at.or_else(|| self.months.front().map(in_month)).map(|id| id.to_string())
    }

    /// Entries that come next, newest first; none where a month has none.
    async fn next_batch(&mut self, wanted: u32) -> Result<Vec<AuditEntry>> {
        let Some(month) = self.months.front().copied() else { return Ok(Vec::new()) };
        let mut parts = self.parts_of(month).await?;
        for _ in 0..MAX_ATTEMPTS {
            self.rounds += 1;
            let batch = self.batch_with(month, parts.clone(), wanted).await?;
            // an entry leaves the table only once its part is on record: where that has happened meanwhile, look again
            let since = self.parts_of(month).await?;
            if since == parts {
                self.go_behind(&batch);
                return Ok(batch.entries);
            }
            parts = since;
        }
        Err(ControlError::concurrent_change())
    }

    async fn batch_with(&mut self, month: Month, parts: Vec<SealedPart>, wanted: u32) -> Result<Batch> {
        let is_asked_for = |part: &SealedPart| self.is_before(part.first) && part.last >= self.floor;
        let mut parts: Vec<_> = parts.into_iter().filter(is_asked_for).collect();
        parts.sort_by_key(|part| part.last);
        let newest = parts.last().cloned();
        let behind = newest.as_ref().map_or(self.floor, |part| part.last).to_string();
        let (entries, more) = self.in_table(month, &behind, wanted).await?;
        match newest {
            Some(part) if entries.is_empty() => {
                let entries = self.in_part(month, &part, &parts).await?;
                Ok(Batch { entries, before: Some(part.first), ends_month: false })
            }
            newest => {
                let before = entries.last().map(|entry| entry.id).or(self.before);
                Ok(Batch { entries, before, ends_month: newest.is_none() && !more })
            }
        }
    }

    /// Goes on behind what was found.
    fn go_behind(&mut self, batch: &Batch) {
        self.before = batch.before;
        if batch.ends_month {
            self.next_month();
        }
    }

    fn next_month(&mut self) {
        self.months.pop_front();
        self.before = None;
    }

    fn is_before(&self, id: AuditId) -> bool {
        self.before.is_none_or(|before| id < before)
    }

    /// The parts of a month; of one that nobody can have begun to seal none is looked for.
    async fn parts_of(&self, month: Month) -> Result<Vec<SealedPart>> {
        if !self.control.may_be_sealed(month) {
            return Ok(Vec::new());
        }
        self.control.sealed_parts(self.scope, month).await
    }

    /// Entries of the table behind that key and before where the walk stands, and whether there are more.
    async fn in_table(&self, month: Month, behind: &str, wanted: u32) -> Result<(Vec<AuditEntry>, bool)> {
        // both ends are included, and were told before or lie in a part
        let limit = wanted.min(MOST_AT_ONCE) + 2;
        let mut query = ItemQuery { limit, ..self.scope.audit(month) };
        let high = self.before.map_or_else(|| format!("{}~", AuditId::PREFIX), |before| before.to_string());
        query.range = SortRange::Between(behind.to_owned(), high);
        loop {
            let page = self.control.items().query(&query).await?;
            let mut entries = Vec::new();
            for item in page.items {
                let entry = decode::<AuditEntry>(item)?.value;
                if self.is_before(entry.id) && entry.id.to_string() != behind {
                    entries.push(entry);
                }
            }
            query.after = page.next;
            if !entries.is_empty() || query.after.is_none() {
                return Ok((entries, query.after.is_some()));
            }
        }
    }

    /// All entries of the stretch that the part covers, wherever they are.
    async fn in_part(&mut self, month: Month, part: &SealedPart, parts: &[SealedPart]) -> Result<Vec<AuditEntry>> {
        let mut all = BTreeMap::new();
        let mut query = self.scope.audit(month);
        query.range = SortRange::Between(part.first.to_string(), part.last.to_string());
        for entry in self.control.all::<AuditEntry>(query).await? {
            all.insert(entry.value.id, entry.value);
        }
        // what is sealed knows how often it came, so it is put over what the table has
        for part in parts.iter().filter(|other| other.last >= part.first) {
            self.rounds += ROUNDS_OF_PART;
            let entries = self.control.entries_of(self.scope, month, part).await?;
            all.extend(entries.into_iter().map(|entry| (entry.id, entry)));
        }
        let told = all.into_iter().rev().filter(|(id, _)| *id >= part.first && self.is_before(*id));
        Ok(told.map(|(_, entry)| entry).collect())
    }
}

impl Month {
    /// The least id of what happens in it.
    fn first_id(self) -> AuditId {
        AuditId::first(self.start())
    }
}
