//! Events that wait, in the table of records ([ADR 15](../../../docs/adr/0015-events-wait-in-the-table.md)).
//!
//! What an event is kept by is one transaction, in which no item stands that another event needs too: many that are posted at one
//! time are not in each other's way. What they share is counted beside it, by additions. Whoever dies between the two leaves a
//! place that nobody has, and that counts against the bounds until everything before it was settled; what is told of a buffer is
//! read from the events themselves.

mod arrival;
mod departure;
mod mark;

use std::sync::Arc;

use async_trait::async_trait;
use firebackup_model::port::{
    BufferBounds, BufferState, Buffered, BufferedEvent, Clock, EventBuffer, Item, ItemBody, ItemKey, ItemQuery,
    ItemStore, ItemWrite, JobQueue, MAX_BUFFER_NAME, MAX_PAGE_ITEMS, NewItem, Settled, WaitingBuffer,
};
use firebackup_model::{ErrorKind, PortError, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::item_keys;
use crate::record::{MAX_ATTEMPTS, Stored, Written, decode, new_item};

const OPERATION: &str = "buffer events";
/// A transaction has at most 4 MB, and with it an event. In base64 this much is less, its item and its name included.
const MOST_PARTS: usize = 11;
/// A part fits an item, in base64 and with its key.
const PART_BYTES: usize = 256 * 1024;
/// What is larger stands in parts, so that little is read of events that are only looked at.
const INLINE_BYTES: usize = 4 * 1024;
/// For how many seconds the names of events are known that were settled.
const KNOWN_SECONDS: i64 = 3600;

/// Buffers of events in a table of records.
#[derive(Clone)]
pub struct ItemEventBuffer {
    items: Arc<dyn ItemStore>,
    clock: Arc<dyn Clock>,
    /// Who is told that something waits where nothing did.
    folders: Option<Arc<dyn JobQueue>>,
}

/// That an event of this name is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Name {
    place: u64,
    parts: u32,
    bytes: u64,
    received: Timestamp,
    /// Whether it is settled: it is known, and not there any more.
    settled: bool,
}

/// An event that waits.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    name: String,
    place: u64,
    bytes: u64,
    received: Timestamp,
    /// What had come before it.
    before: Sums,
    /// How many parts it stands in; none where it stands here.
    parts: u32,
    body: String,
}

/// A part of an event.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    body: String,
}

/// Events, and bytes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Sums {
    events: u64,
    bytes: u64,
}

impl Sums {
    const fn since(self, before: Self) -> Self {
        Self { events: self.events.saturating_sub(before.events), bytes: self.bytes.saturating_sub(before.bytes) }
    }
}

/// What was counted by additions.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    places: u64,
    /// What has come so far, as far as nobody died over it.
    come: Sums,
    repeated: u64,
    refused: u64,
}

const PLACES: &str = "places";
const EVENTS: &str = "events";
const BYTES: &str = "bytes";
const REPEATED: &str = "repeated";
const REFUSED: &str = "refused";

impl Counts {
    fn of(body: &ItemBody) -> Self {
        // whoever takes back what they had added may come behind somebody who forgets all of it
        let count = |name| body.get(name).and_then(serde_json::Value::as_i64).unwrap_or(0).max(0).cast_unsigned();
        let come = Sums { events: count(EVENTS), bytes: count(BYTES) };
        Self { places: count(PLACES), come, repeated: count(REPEATED), refused: count(REFUSED) }
    }
}

/// What became of those that were settled.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Settlements {
    folded: u64,
    refused: u64,
    /// When the last of them had come.
    last: Option<Timestamp>,
}

/// What waits.
#[derive(Debug, Clone, Copy, Default)]
struct Backlog {
    sums: Sums,
    since: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl ItemEventBuffer {
    /// Buffers in this table; `clock` says what has been known for long enough.
    #[must_use]
    pub fn new(items: Arc<dyn ItemStore>, clock: Arc<dyn Clock>) -> Self {
        Self { items, clock, folders: None }
    }

    /// The same, saying so in a queue where something waits in a buffer in which nothing did.
    #[must_use]
    pub fn waking(self, folders: Arc<dyn JobQueue>) -> Self {
        Self { folders: Some(folders), ..self }
    }

    async fn load<T: DeserializeOwned>(&self, key: &ItemKey) -> Result<Option<Stored<T>>, PortError> {
        self.items.get(key).await?.map(read).transpose()
    }

    async fn write(&self, writes: Vec<ItemWrite>) -> Result<Written, PortError> {
        match self.items.write(writes).await {
            Ok(()) => Ok(Written::Yes),
            Err(error) if matches!(error.kind, ErrorKind::FailedPrecondition | ErrorKind::Aborted) => {
                Ok(Written::Outrun)
            }
            Err(error) => Err(error),
        }
    }

    async fn count(&self, buffer: &str, amounts: &[(&str, i64)]) -> Result<Counts, PortError> {
        self.items.add(&item_keys::buffer_counts(buffer), amounts, None).await.map(|body| Counts::of(&body))
    }

    async fn counts(&self, buffer: &str) -> Result<Counts, PortError> {
        let counts = self.items.get(&item_keys::buffer_counts(buffer)).await?;
        Ok(counts.map(|item| Counts::of(&item.body)).unwrap_or_default())
    }

    /// The first event that a query finds.
    async fn first(&self, mut query: ItemQuery) -> Result<Option<Waiting>, PortError> {
        query.limit = 1;
        loop {
            let page = self.items.query(&query).await?;
            if let Some(item) = page.items.into_iter().next() {
                return Ok(Some(read(item)?.value));
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(None),
            }
        }
    }

    async fn oldest(&self, buffer: &str) -> Result<Option<Waiting>, PortError> {
        self.first(item_keys::buffered_events(buffer, 1)).await
    }

    /// What waits: counted where it is one page, and else estimated from what had come before the first of them.
    async fn backlog(&self, buffer: &str, counts: &Counts) -> Result<Backlog, PortError> {
        let query = item_keys::buffered_events(buffer, MAX_PAGE_ITEMS);
        let page = self.items.query(&query).await?;
        let has_more = page.next.is_some();
        let waiting = page.items.into_iter().map(|item| Ok(read::<Waiting>(item)?.value));
        let waiting: Vec<_> = waiting.collect::<Result<_, PortError>>()?;
        let (Some(first), Some(last)) = (waiting.first(), waiting.last()) else { return Ok(Backlog::default()) };
        let (since, mut last) = (Some(first.received), Some(last.received));
        let mut sums = Sums { events: waiting.len() as u64, bytes: waiting.iter().map(|waiting| waiting.bytes).sum() };
        if has_more {
            let estimate = counts.come.since(first.before);
            sums = Sums { events: sums.events.max(estimate.events), bytes: sums.bytes.max(estimate.bytes) };
            let newest = self.first(ItemQuery { descending: true, ..query }).await?;
            last = newest.map(|newest| newest.received).or(last);
        }
        Ok(Backlog { sums, since, last })
    }
}

#[async_trait]
impl EventBuffer for ItemEventBuffer {
    async fn put(&self, buffer: &str, event: BufferedEvent, bounds: BufferBounds) -> Result<Buffered, PortError> {
        for name in [buffer, &event.key] {
            check_name(name)?;
        }
        self.take(buffer, &event, bounds).await
    }

    async fn refuse(&self, buffer: &str) -> Result<(), PortError> {
        check_name(buffer)?;
        self.count(buffer, &[(REFUSED, 1)]).await.map(drop)
    }

    async fn waiting(&self, most: u32) -> Result<Vec<WaitingBuffer>, PortError> {
        self.marked(most).await
    }

    async fn batch(&self, buffer: &str, bounds: BufferBounds) -> Result<Vec<BufferedEvent>, PortError> {
        self.hand_out(buffer, bounds).await
    }

    async fn settle(&self, buffer: &str, keys: &[String], settled: Settled) -> Result<(), PortError> {
        self.drop_settled(buffer, keys, settled).await
    }

    async fn state(&self, buffer: &str) -> Result<BufferState, PortError> {
        let counts = self.counts(buffer).await?;
        let settled = self.load::<Settlements>(&item_keys::buffered_settled(buffer)).await?;
        let settled = settled.map(|settled| settled.value).unwrap_or_default();
        let Backlog { sums, last, .. } = self.backlog(buffer, &counts).await?;
        Ok(BufferState {
            received: settled.folded + settled.refused + sums.events,
            repeated: counts.repeated,
            refused: counts.refused + settled.refused,
            folded: settled.folded,
            waiting: sums.events,
            waiting_bytes: sums.bytes,
            last: last.or(settled.last),
        })
    }

    async fn forget(&self, buffer: &str) -> Result<(), PortError> {
        self.drop_all(buffer).await
    }
}

fn check_name(name: &str) -> Result<(), PortError> {
    match (1..=MAX_BUFFER_NAME).contains(&name.chars().count()) {
        true => Ok(()),
        false => {
            let message = format!("a name has 1 to {MAX_BUFFER_NAME} characters");
            Err(PortError::new(ErrorKind::InvalidArgument, OPERATION, message))
        }
    }
}

fn read<T: DeserializeOwned>(item: Item) -> Result<Stored<T>, PortError> {
    decode(item)
        .map_err(|error| PortError::new(ErrorKind::Corrupt, OPERATION, "an item cannot be read").with_source(error))
}

fn item<T: Serialize>(key: ItemKey, value: &T) -> Result<NewItem, PortError> {
    new_item(key, value, None)
        .map_err(|error| PortError::new(ErrorKind::Internal, OPERATION, "an item cannot be written").with_source(error))
}

fn outrun() -> PortError {
    let message = format!("others were faster {MAX_ATTEMPTS} times");
    PortError::new(ErrorKind::Aborted, OPERATION, message)
}
