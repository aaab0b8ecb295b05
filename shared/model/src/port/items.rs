//! Where the control plane keeps its records: the shape of one DynamoDB table, and no more.

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::error::PortError;
use crate::timestamp::Timestamp;

/// Names an item: a partition, and its place in it. Both are never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// Items of one partition are kept together, in order of `sort`.
    pub partition: String,
    /// The place in the partition; ordered by UTF-8 bytes.
    pub sort: String,
}

impl ItemKey {
    /// A key.
    #[must_use]
    pub fn new(partition: impl Into<String>, sort: impl Into<String>) -> Self {
        Self { partition: partition.into(), sort: sort.into() }
    }
}

/// What an item holds: a JSON object. At most 400 KB with its key.
pub type ItemBody = Map<String, Value>;

/// What is to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewItem {
    /// Its name.
    pub key: ItemKey,
    /// What it holds.
    pub body: ItemBody,
    /// Its place in the one secondary index; nothing when it is not in it.
    pub index: Option<ItemKey>,
    /// From when on it is gone. It is not returned any more then, and removed at some later time.
    pub expires: Option<Timestamp>,
}

impl NewItem {
    /// An item that is in no index and stays.
    #[must_use]
    pub const fn new(key: ItemKey, body: ItemBody) -> Self {
        Self { key, body, index: None, expires: None }
    }
}

/// What is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its name.
    pub key: ItemKey,
    /// What it holds.
    pub body: ItemBody,
    /// Counts its replacements: 1 when it was created.
    pub version: u64,
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemWrite {
    /// Stores an item where there is none (or one that has expired); its version is 1.
    Create(NewItem),
    /// Replaces an item whose version is still this one; its version is one more.
    Replace(NewItem, u64),
    /// Removes an item whose version is still this one.
    Delete(ItemKey, u64),
    /// Changes nothing, but fails the transaction if the item has another version by now.
    Check(ItemKey, u64),
    /// Changes nothing, but fails the transaction if there is an item.
    CheckAbsent(ItemKey),
}

impl ItemWrite {
    /// Which item it is about.
    #[must_use]
    pub const fn key(&self) -> &ItemKey {
        match self {
            Self::Create(item) | Self::Replace(item, _) => &item.key,
            Self::Delete(key, _) | Self::Check(key, _) | Self::CheckAbsent(key) => key,
        }
    }
}

/// The most writes one transaction may hold.
pub const MAX_TRANSACTION_WRITES: usize = 100;
/// The most items one page of a query may hold.
pub const MAX_PAGE_ITEMS: u32 = 1000;

/// Which items of a partition are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SortRange {
    /// All.
    All,
    /// Those whose sort key begins so.
    Prefix(String),
    /// Those whose sort key lies between the two, both included.
    Between(String, String),
}

/// Asks for items of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemQuery {
    /// Whether `partition` and `range` speak of the secondary index instead of the key.
    pub by_index: bool,
    /// The partition.
    pub partition: String,
    /// Which of its items.
    pub range: SortRange,
    /// Last first.
    pub descending: bool,
    /// At most so many, up to [`MAX_PAGE_ITEMS`].
    pub limit: u32,
    /// Where to go on: what [`ItemPage::next`] said of the same query.
    pub after: Option<String>,
}

impl ItemQuery {
    /// All items of a partition whose sort key begins with `prefix`, first first.
    #[must_use]
    pub fn prefix(partition: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            by_index: false,
            partition: partition.into(),
            range: SortRange::Prefix(prefix.into()),
            descending: false,
            limit: MAX_PAGE_ITEMS,
            after: None,
        }
    }
}

/// Some of the items asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemPage {
    /// In the order asked for. May be fewer than asked for, even none, where more follow.
    pub items: Vec<Item>,
    /// Where to go on; nothing when there is no more. Opaque, made of keys only, good for the same query.
    pub next: Option<String>,
}

/// A table of records.
///
/// Reads by key, and queries of the table, see every write that has returned before; queries of the index may be
/// a little behind.
#[async_trait]
pub trait ItemStore: Send + Sync {
    /// Reads an item.
    async fn get(&self, key: &ItemKey) -> Result<Option<Item>, PortError>;

    /// Reads a page of items.
    ///
    /// A cursor that this query did not give is [`InvalidArgument`](crate::ErrorKind::InvalidArgument).
    async fn query(&self, query: &ItemQuery) -> Result<ItemPage, PortError>;

    /// Does all of the writes, or none: at most [`MAX_TRANSACTION_WRITES`], each about another item.
    ///
    /// A condition that does not hold is [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition); another
    /// transaction in the way is [`Aborted`](crate::ErrorKind::Aborted); an item that is too large, or two writes to one
    /// item, [`InvalidArgument`](crate::ErrorKind::InvalidArgument).
    async fn write(&self, writes: Vec<ItemWrite>) -> Result<(), PortError>;

    /// Adds to numbers that stand in the item of counters `key`, and returns all of them. Counters that were not there
    /// begin at 0. Not for items that [`Self::write`] stores; [`Self::get`] shows the counters as the item's body.
    async fn add(
        &self,
        key: &ItemKey,
        amounts: &[(&str, i64)],
        expires: Option<Timestamp>,
    ) -> Result<ItemBody, PortError>;
}
