//! An item store in memory, for tests of what stands on one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use firebackup_model::port::{
    Clock, Item, ItemBody, ItemKey, ItemPage, ItemQuery, ItemStore, ItemWrite, MAX_PAGE_ITEMS, MAX_TRANSACTION_WRITES,
    NewItem, SortRange,
};
use firebackup_model::{ErrorKind, PortError, Timestamp};
use serde_json::Value;

use crate::memory_ports::splitmix;

/// The most bytes an item may have, as JSON.
const MAX_ITEM_BYTES: usize = 400 * 1024;
/// A call takes fewer steps than this before it does something.
const MOST_STEPS: u64 = 8;

/// Items in memory. Clones share them.
#[derive(Clone)]
pub struct MemoryItems {
    clock: Arc<dyn Clock>,
    table: Arc<Mutex<Table>>,
    calls: Arc<AtomicU64>,
    read: Arc<Mutex<ReadItems>>,
}

/// What queries have read: what a store like DynamoDB is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadItems {
    /// Queries.
    pub queries: u64,
    /// Items that they found, up to their limits.
    pub items: u64,
}

#[derive(Default)]
struct Table {
    rows: BTreeMap<ItemKey, Row>,
    /// Refuses so many of the writes to come, as another transaction in the way does.
    refusals: u32,
    /// Fails every transaction that writes into a partition whose name contains this.
    broken: Option<String>,
    /// How many transactions are still done, where not all are.
    left: Option<u32>,
}

#[derive(Clone)]
struct Row {
    body: ItemBody,
    index: Option<ItemKey>,
    expires: Option<Timestamp>,
    version: u64,
    are_counters: bool,
}

impl MemoryItems {
    /// No items yet; the clock says what has expired.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, table: Arc::default(), calls: Arc::default(), read: Arc::default() }
    }

    /// All items as they are stored, expired ones included, for tests that look for what must not stand there.
    #[must_use]
    pub fn all(&self) -> Vec<Item> {
        let table = self.table();
        table.rows.iter().map(|(key, row)| row.item(key)).collect()
    }

    /// Has the next `writes` transactions fail as if another one were in the way.
    pub fn refuse(&self, writes: u32) {
        self.table().refusals = writes;
    }

    /// Has every transaction fail that writes into a partition whose name contains `part`.
    pub fn break_partitions(&self, part: &str) {
        self.table().broken = Some(part.to_owned());
    }

    /// Has every transaction after the next `writes` fail, as those of somebody who died; nothing lets all be done again.
    pub fn stop_after(&self, writes: Option<u32>) {
        self.table().left = writes;
    }

    /// What queries have read since this was asked last.
    #[must_use]
    pub fn take_read(&self) -> ReadItems {
        std::mem::take(&mut *self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Has calls take other times from now on: another `seed` is another order of things.
    pub fn vary(&self, seed: u64) {
        self.calls.store(seed, Ordering::Relaxed);
    }

    /// Lets others go on for a while, as a call over a network does: now longer, now shorter, so that of two who go the
    /// same way at one time either may come first. Without it nothing would ever come in between two calls.
    async fn let_others(&self) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        for _ in 0..splitmix(call) % MOST_STEPS {
            tokio::task::yield_now().await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Row {
    fn item(&self, key: &ItemKey) -> Item {
        Item { key: key.clone(), body: self.body.clone(), version: self.version }
    }

    fn is_there(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Table {
    fn find(&self, key: &ItemKey, now: Timestamp) -> Option<&Row> {
        self.rows.get(key).filter(|row| row.is_there(now))
    }

    fn version(&self, key: &ItemKey, now: Timestamp) -> Option<u64> {
        self.find(key, now).map(|row| row.version)
    }

    fn check(&self, write: &ItemWrite, now: Timestamp) -> Result<(), PortError> {
        let wanted = match write {
            ItemWrite::Create(_) | ItemWrite::CheckAbsent(_) => None,
            ItemWrite::Replace(_, version) | ItemWrite::Delete(_, version) | ItemWrite::Check(_, version) => {
                Some(*version)
            }
        };
        match self.version(write.key(), now) == wanted {
            true => Ok(()),
            false => Err(PortError::new(ErrorKind::FailedPrecondition, "write items", "a condition does not hold")),
        }
    }

    fn apply(&mut self, write: ItemWrite) {
        match write {
            ItemWrite::Create(item) => self.store(item, 1),
            ItemWrite::Replace(item, version) => self.store(item, version + 1),
            ItemWrite::Delete(key, _) => {
                self.rows.remove(&key);
            }
            ItemWrite::Check(..) | ItemWrite::CheckAbsent(_) => {}
        }
    }

    fn store(&mut self, item: NewItem, version: u64) {
        let NewItem { key, body, index, expires } = item;
        self.rows.insert(key, Row { body, index, expires, version, are_counters: false });
    }
}

fn invalid(operation: &str, message: &str) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, operation, message)
}

fn check_write(write: &ItemWrite) -> Result<(), PortError> {
    let key = write.key();
    let item = match write {
        ItemWrite::Create(item) | ItemWrite::Replace(item, _) => Some(item),
        ItemWrite::Delete(..) | ItemWrite::Check(..) | ItemWrite::CheckAbsent(_) => None,
    };
    let index = item.and_then(|item| item.index.as_ref());
    if [Some(key), index].into_iter().flatten().any(|key| key.partition.is_empty() || key.sort.is_empty()) {
        return Err(invalid("write items", "a key is empty"));
    }
    let Some(item) = item else { return Ok(()) };
    let bytes = Value::Object(item.body.clone()).to_string().len() + key.partition.len() + key.sort.len();
    if bytes > MAX_ITEM_BYTES { Err(invalid("write items", "an item is too large")) } else { Ok(()) }
}

fn check_writes(writes: &[ItemWrite]) -> Result<(), PortError> {
    if writes.len() > MAX_TRANSACTION_WRITES {
        return Err(invalid("write items", "too many writes"));
    }
    for (index, write) in writes.iter().enumerate() {
        check_write(write)?;
        if writes[..index].iter().any(|before| before.key() == write.key()) {
            return Err(invalid("write items", "two writes to one item"));
        }
    }
    Ok(())
}

/// Where a row stands in the order of a query: its place, then its key, which tells two of one place apart.
type Place = (ItemKey, ItemKey);

/// A cursor: the query that gave it, and the place of the last item.
fn cursor(query: &ItemQuery, last: &Place) -> String {
    let (place, key) = last;
    serde_json::json!([fingerprint(query), place.partition, place.sort, key.partition, key.sort]).to_string()
}

fn fingerprint(query: &ItemQuery) -> String {
    format!("{} {:?} {:?} {}", query.by_index, query.partition, query.range, query.descending)
}

fn read_cursor(query: &ItemQuery) -> Result<Option<Place>, PortError> {
    let Some(text) = &query.after else { return Ok(None) };
    let read: Option<[String; 5]> = serde_json::from_str(text).ok();
    match read {
        Some([given, a, b, c, d]) if given == fingerprint(query) => Ok(Some((ItemKey::new(a, b), ItemKey::new(c, d)))),
        _ => Err(invalid("query items", "the cursor is of another query")),
    }
}

fn is_in(range: &SortRange, sort: &str) -> bool {
    match range {
        SortRange::All => true,
        SortRange::Prefix(prefix) => sort.starts_with(prefix.as_str()),
        SortRange::Between(low, high) => (low.as_str()..=high.as_str()).contains(&sort),
    }
}

#[async_trait]
impl ItemStore for MemoryItems {
    async fn get(&self, key: &ItemKey) -> Result<Option<Item>, PortError> {
        self.let_others().await;
        let now = self.clock.now();
        Ok(self.table().find(key, now).map(|row| row.item(key)))
    }

    async fn query(&self, query: &ItemQuery) -> Result<ItemPage, PortError> {
        self.let_others().await;
        let after = read_cursor(query)?;
        let limit = query.limit.min(MAX_PAGE_ITEMS) as usize;
        if limit == 0 {
            return Err(invalid("query items", "a page of nothing"));
        }
        let (now, table) = (self.clock.now(), self.table());
        let mut found: Vec<(Place, Item)> = Vec::new();
        for (key, row) in table.rows.iter().filter(|(_, row)| row.is_there(now)) {
            let place = if query.by_index { row.index.as_ref() } else { Some(key) };
            let Some(place) = place.filter(|place| place.partition == query.partition) else { continue };
            if is_in(&query.range, &place.sort) {
                found.push(((place.clone(), key.clone()), row.item(key)));
            }
        }
        found.sort_by(|(a, _), (b, _)| if query.descending { b.cmp(a) } else { a.cmp(b) });
        if let Some(after) = after {
            found.retain(|(place, _)| if query.descending { *place < after } else { *place > after });
        }
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).map(|(place, _)| cursor(query, place));
        let mut read = self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        read.queries += 1;
        read.items += found.len() as u64;
        Ok(ItemPage { items: found.into_iter().map(|(_, item)| item).collect(), next })
    }

    async fn write(&self, writes: Vec<ItemWrite>) -> Result<(), PortError> {
        check_writes(&writes)?;
        self.let_others().await;
        let (now, mut table) = (self.clock.now(), self.table());
        if table.refusals > 0 {
            table.refusals -= 1;
            return Err(PortError::new(ErrorKind::Aborted, "write items", "another transaction is in the way"));
        }
        if table.left == Some(0) {
            return Err(PortError::new(ErrorKind::Unavailable, "write items", "no more is written"));
        }
        table.left = table.left.map(|left| left - 1);
        let is_broken = |write: &ItemWrite| {
            table.broken.as_ref().is_some_and(|broken| write.key().partition.contains(broken.as_str()))
        };
        if writes.iter().any(is_broken) {
            return Err(PortError::new(ErrorKind::Unavailable, "write items", "the partition is broken"));
        }
        for write in &writes {
            table.check(write, now)?;
        }
        for write in writes {
            table.apply(write);
        }
        Ok(())
    }

    async fn add(
        &self,
        key: &ItemKey,
        amounts: &[(&str, i64)],
        expires: Option<Timestamp>,
    ) -> Result<ItemBody, PortError> {
        self.let_others().await;
        let (now, mut table) = (self.clock.now(), self.table());
        let row = table.find(key, now).cloned();
        if row.as_ref().is_some_and(|row| !row.are_counters) {
            return Err(invalid("add to counters", "the item holds no counters"));
        }
        let fresh = Row { body: ItemBody::new(), index: None, expires, version: 0, are_counters: true };
        let mut row = row.unwrap_or(fresh);
        for (name, amount) in amounts {
            let before = row.body.get(*name).and_then(Value::as_i64).unwrap_or(0);
            row.body.insert((*name).to_owned(), before.wrapping_add(*amount).into());
        }
        row.version += 1;
        row.expires = expires.or(row.expires);
        let body = row.body.clone();
        table.rows.insert(key.clone(), row);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_clock::HandClock;
    use crate::item_store_suite;

    #[tokio::test]
    async fn conforms() {
        let clock = Arc::new(HandClock::default());
        let items = MemoryItems::new(clock.clone());
        item_store_suite::conforms(Arc::new(items), &clock).await;
    }
}
