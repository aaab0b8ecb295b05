//! The control plane's records in SQLite, with the limits that DynamoDB has: what is taken here is taken there.

mod cursor;
mod page;
mod size;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use firebackup_model::port::{
    Clock, Item, ItemBody, ItemKey, ItemPage, ItemQuery, ItemStore, ItemWrite, MAX_TRANSACTION_WRITES, NewItem,
};
use firebackup_model::{ErrorKind, PortError, Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

use crate::database::{Database, Outcome, millis};

const READ: &str = "read an item";
const QUERY: &str = "query items";
const WRITE: &str = "write items";
const ADD: &str = "add to counters";
/// How many expired items a write removes by the way.
const REMOVED_AT_ONCE: i64 = 100;
/// The version of items that [`ItemStore::add`] makes; no condition ever asks for it.
const COUNTERS: u64 = 0;

/// A table of records in a database file.
#[derive(Clone)]
pub struct SqliteItemStore {
    database: Database,
    clock: Arc<dyn Clock>,
}

impl SqliteItemStore {
    /// The records in `database`; `clock` says what has expired.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }

    fn now(&self) -> i64 {
        millis(self.clock.now())
    }
}

#[async_trait]
impl ItemStore for SqliteItemStore {
    async fn get(&self, key: &ItemKey) -> Result<Option<Item>, PortError> {
        let (key, now) = (key.clone(), self.now());
        self.database.read(READ, move |transaction| Ok(find(transaction, &key, now)?.map(|found| found.item))).await
    }

    async fn query(&self, query: &ItemQuery) -> Result<ItemPage, PortError> {
        let (query, now) = (query.clone(), self.now());
        self.database.read(QUERY, move |transaction| page::read(transaction, &query, now)).await
    }

    async fn write(&self, writes: Vec<ItemWrite>) -> Result<(), PortError> {
        check(&writes)?;
        let now = self.now();
        let work = move |transaction: &Transaction<'_>| {
            for (index, write) in writes.iter().enumerate() {
                if !apply(transaction, write, now)? {
                    let message = format!("the condition of write {} of {} does not hold", index + 1, writes.len());
                    return Err(PortError::new(ErrorKind::FailedPrecondition, WRITE, message).into());
                }
            }
            remove_expired(transaction, now)
        };
        self.database.write(WRITE, work).await
    }

    async fn add(
        &self,
        key: &ItemKey,
        amounts: &[(&str, i64)],
        expires: Option<Timestamp>,
    ) -> Result<ItemBody, PortError> {
        check_counters(key, amounts)?;
        let amounts: Vec<(String, i64)> = amounts.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect();
        let (key, now) = (key.clone(), self.now());
        let work = move |transaction: &Transaction<'_>| {
            let (mut counters, kept) = match find(transaction, &key, now)? {
                None => (ItemBody::new(), None),
                Some(found) if found.item.version == COUNTERS => (found.item.body, found.expires),
                Some(_) => {
                    return Err(PortError::new(ErrorKind::FailedPrecondition, ADD, "it holds no counters").into());
                }
            };
            for (name, amount) in amounts {
                let sum = sum(counters.get(&name), amount)?;
                counters.insert(name, sum.into());
            }
            let item = NewItem { key, body: counters, index: None, expires: None };
            put(transaction, &item, COUNTERS, expires.map(millis).or(kept))?;
            remove_expired(transaction, now)?;
            Ok(item.body)
        };
        self.database.write(ADD, work).await
    }
}

fn invalid(operation: &str, message: impl Into<String>) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, operation, message)
}

fn check(writes: &[ItemWrite]) -> Result<(), PortError> {
    if writes.len() > MAX_TRANSACTION_WRITES {
        return Err(invalid(WRITE, format!("{} writes are more than {MAX_TRANSACTION_WRITES}", writes.len())));
    }
    let keys: BTreeSet<&ItemKey> = writes.iter().map(ItemWrite::key).collect();
    if keys.len() < writes.len() {
        return Err(invalid(WRITE, "two writes are about one item"));
    }
    keys.into_iter().try_for_each(|key| size::check_key(key, WRITE))?;
    let stored = writes.iter().filter_map(|write| match write {
        ItemWrite::Create(item) | ItemWrite::Replace(item, _) => Some(item),
        ItemWrite::Delete(..) | ItemWrite::Check(..) | ItemWrite::CheckAbsent(_) => None,
    });
    size::check_items(stored, WRITE)
}

fn check_counters(key: &ItemKey, amounts: &[(&str, i64)]) -> Result<(), PortError> {
    size::check_key(key, ADD)?;
    let names: BTreeSet<&str> = amounts.iter().map(|(name, _)| *name).collect();
    if names.len() < amounts.len() || names.contains("") {
        return Err(invalid(ADD, "every counter has a name, and is added to once"));
    }
    Ok(())
}

fn sum(before: Option<&Value>, amount: i64) -> Result<i64, PortError> {
    let before = match before {
        None => 0,
        Some(value) => {
            value.as_i64().ok_or_else(|| PortError::new(ErrorKind::Corrupt, ADD, "a counter is no number"))?
        }
    };
    before.checked_add(amount).ok_or_else(|| invalid(ADD, "a counter would run over"))
}

/// An item and when it is gone.
struct Found {
    item: Item,
    expires: Option<i64>,
}

/// Reads what has not expired.
fn find(transaction: &Transaction<'_>, key: &ItemKey, now: i64) -> Outcome<Option<Found>> {
    const SQL: &str = "SELECT body, version, expires FROM items
        WHERE partition_key = ?1 AND sort_key = ?2 AND (expires IS NULL OR expires > ?3)";
    let row = transaction
        .query_row(SQL, params![key.partition, key.sort, now], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((body, version, expires)) = row else { return Ok(None) };
    let item = Item { key: key.clone(), body: serde_json::from_str(&body)?, version: version.cast_unsigned() };
    Ok(Some(Found { item, expires }))
}

/// The version of what has not expired.
fn version(transaction: &Transaction<'_>, key: &ItemKey, now: i64) -> Outcome<Option<u64>> {
    const SQL: &str = "SELECT version FROM items
        WHERE partition_key = ?1 AND sort_key = ?2 AND (expires IS NULL OR expires > ?3)";
    let version = transaction.query_row(SQL, params![key.partition, key.sort, now], |row| row.get::<_, i64>(0));
    Ok(version.optional()?.map(i64::cast_unsigned))
}

/// Does one write; returns whether its condition held.
fn apply(transaction: &Transaction<'_>, write: &ItemWrite, now: i64) -> Outcome<bool> {
    let found = version(transaction, write.key(), now)?;
    let is_still = |version: &u64| *version != COUNTERS && found == Some(*version);
    match write {
        ItemWrite::Create(item) if found.is_none() => put(transaction, item, 1, item.expires.map(millis))?,
        ItemWrite::Replace(item, version) if is_still(version) => {
            put(transaction, item, version + 1, item.expires.map(millis))?;
        }
        ItemWrite::Delete(key, version) if is_still(version) => {
            const SQL: &str = "DELETE FROM items WHERE partition_key = ?1 AND sort_key = ?2";
            transaction.execute(SQL, params![key.partition, key.sort])?;
        }
        ItemWrite::Check(_, version) => return Ok(is_still(version)),
        ItemWrite::CheckAbsent(_) => return Ok(found.is_none()),
        ItemWrite::Create(_) | ItemWrite::Replace(..) | ItemWrite::Delete(..) => return Ok(false),
    }
    Ok(true)
}

/// Stores an item, in the place of what may stand or have expired there.
fn put(transaction: &Transaction<'_>, item: &NewItem, version: u64, expires: Option<i64>) -> Outcome<()> {
    const SQL: &str = "INSERT OR REPLACE INTO items
        (partition_key, sort_key, body, version, index_partition, index_sort, expires)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let body = serde_json::to_string(&item.body)?;
    let index = item.index.as_ref();
    let (index_partition, index_sort) = (index.map(|index| &index.partition), index.map(|index| &index.sort));
    let (key, version) = (&item.key, version.cast_signed());
    transaction.execute(SQL, params![key.partition, key.sort, body, version, index_partition, index_sort, expires])?;
    Ok(())
}

/// A few at a time: no write waits long for what others left.
fn remove_expired(transaction: &Transaction<'_>, now: i64) -> Outcome<()> {
    const SQL: &str = "DELETE FROM items WHERE rowid IN (SELECT rowid FROM items WHERE expires <= ?1 LIMIT ?2)";
    transaction.execute(SQL, params![now, REMOVED_AT_ONCE])?;
    Ok(())
}
