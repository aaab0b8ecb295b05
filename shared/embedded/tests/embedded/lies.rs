//! Adapters that lie do not pass: what a suite would not notice, it does not test.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use firebackup_embedded::{SqliteItemStore, SqliteJobQueue, SystemClock};
use firebackup_model::port::{
    Item, ItemBody, ItemKey, ItemPage, ItemQuery, ItemStore, ItemWrite, JobQueue, Message, SortRange,
};
use firebackup_model::{ErrorKind, PortError, Timestamp};
use firebackup_testkit::job_queue_suite::{self, QueueUnderTest};
use firebackup_testkit::{HandClock, item_store_suite};
use futures::FutureExt;
use futures::future::join_all;

use crate::new_database;

/// What the suite says.
async fn verdict(suite: impl Future<Output = ()>) -> String {
    match AssertUnwindSafe(suite).catch_unwind().await {
        Ok(()) => "conforms".to_owned(),
        Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (None, text) => (*text.unwrap_or(&"")).to_owned(),
        },
    }
}

#[derive(Clone, Copy, PartialEq)]
enum ItemLie {
    /// Reads the version and writes then, in two steps.
    Racy,
    /// Does the writes one after the other.
    OneByOne,
    NoExpiry,
    PagesEndEarly,
    AnyCursor,
    LastBorderIsPrefix,
    StaleSum,
}

struct LyingItems {
    inner: SqliteItemStore,
    lie: ItemLie,
}

impl LyingItems {
    /// Looks first and writes later, when it may not be true any more.
    async fn write_late(&self, mut writes: Vec<ItemWrite>) -> Result<(), PortError> {
        for write in &mut writes {
            if let ItemWrite::Replace(item, version) = write {
                let found = self.inner.get(&item.key).await?.map_or(0, |item| item.version);
                if found == *version {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    *version = self.inner.get(&item.key).await?.map_or(0, |item| item.version);
                }
            }
        }
        self.inner.write(writes).await
    }

    async fn write_each(&self, writes: Vec<ItemWrite>) -> Result<(), PortError> {
        for write in writes {
            self.inner.write(vec![write]).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl ItemStore for LyingItems {
    async fn get(&self, key: &ItemKey) -> Result<Option<Item>, PortError> {
        self.inner.get(key).await
    }

    async fn query(&self, query: &ItemQuery) -> Result<ItemPage, PortError> {
        let mut query = query.clone();
        if let (ItemLie::LastBorderIsPrefix, SortRange::Between(first, last)) = (self.lie, &query.range) {
            query.range = SortRange::Between(first.clone(), format!("{last}\u{10ffff}"));
        }
        let result = self.inner.query(&query).await;
        match (self.lie, result) {
            (ItemLie::AnyCursor, Err(error)) if error.kind == ErrorKind::InvalidArgument && query.limit > 0 => {
                self.inner.query(&ItemQuery { after: None, ..query }).await
            }
            (ItemLie::PagesEndEarly, Ok(page)) if page.items.len() == 7 => Ok(ItemPage { next: None, ..page }),
            (_, result) => result,
        }
    }

    async fn write(&self, mut writes: Vec<ItemWrite>) -> Result<(), PortError> {
        if self.lie == ItemLie::NoExpiry {
            for write in &mut writes {
                if let ItemWrite::Create(item) | ItemWrite::Replace(item, _) = write {
                    item.expires = None;
                }
            }
        }
        match self.lie {
            ItemLie::Racy => self.write_late(writes).await,
            ItemLie::OneByOne if writes.len() <= 10 => self.write_each(writes).await,
            _ => self.inner.write(writes).await,
        }
    }

    async fn add(
        &self,
        key: &ItemKey,
        amounts: &[(&str, i64)],
        expires: Option<Timestamp>,
    ) -> Result<ItemBody, PortError> {
        if self.lie != ItemLie::StaleSum {
            return self.inner.add(key, amounts, expires).await;
        }
        // what it tells was true before others added
        let mut told = self.inner.get(key).await?.map(|item| item.body).unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.inner.add(key, amounts, expires).await?;
        for (name, amount) in amounts {
            let before = told.get(*name).and_then(serde_json::Value::as_i64).unwrap_or(0);
            told.insert((*name).to_owned(), (before + amount).into());
        }
        Ok(told)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_stores_that_lie_do_not_conform() {
    for (lie, says) in [
        // it depends on the moment which of them is seen first
        (ItemLie::Racy, "exactly one of 16 wins|what the winner wrote|won|no update is lost"),
        (ItemLie::OneByOne, "nothing was written"),
        (ItemLie::NoExpiry, "at its moment it is gone"),
        (ItemLie::PagesEndEarly, "each item once"),
        (ItemLie::AnyCursor, "a cursor of"),
        (ItemLie::LastBorderIsPrefix, "finds"),
        (ItemLie::StaleSum, "each addition returns its own sum"),
    ] {
        let (_folder, database) = new_database().await;
        let clock = Arc::new(HandClock::default());
        let inner = SqliteItemStore::new(database, clock.clone());
        let text = verdict(item_store_suite::conforms(Arc::new(LyingItems { inner, lie }), &clock)).await;
        assert!(says.split('|').any(|says| text.contains(says)), "`{text}` does not say `{says}`");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum QueueLie {
    NeverHidden,
    DelayIgnored,
    SleepsThrough,
    NothingDies,
}

struct LyingQueue {
    inner: SqliteJobQueue,
    lie: QueueLie,
}

#[async_trait]
impl JobQueue for LyingQueue {
    async fn send(&self, body: &str, delay: Duration) -> Result<(), PortError> {
        let is_kept = self.lie != QueueLie::DelayIgnored || delay > firebackup_model::port::MAX_DELAY;
        self.inner.send(body, if is_kept { delay } else { Duration::ZERO }).await
    }

    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Message>, PortError> {
        let hidden = if self.lie == QueueLie::NeverHidden { Duration::ZERO } else { hidden };
        if self.lie == QueueLie::SleepsThrough {
            tokio::time::sleep(wait).await;
        }
        self.inner.receive(most, wait, hidden).await
    }

    async fn delete(&self, receipt: &str) -> Result<(), PortError> {
        self.inner.delete(receipt).await
    }

    async fn release(&self, receipt: &str, delay: Duration) -> Result<(), PortError> {
        self.inner.release(receipt, delay).await
    }

    async fn dead_letters(&self) -> Result<u64, PortError> {
        self.inner.dead_letters().await
    }

    async fn redrive(&self) -> Result<u64, PortError> {
        self.inner.redrive().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_lie_do_not_conform() {
    let verdicts = [
        (QueueLie::NeverHidden, "it was to be hidden"),
        (QueueLie::DelayIgnored, "what is not delayed"),
        (QueueLie::SleepsThrough, "with a message there"),
        (QueueLie::NothingDies, "delivered once too often"),
    ]
    .map(async |(lie, says)| {
        let (_folder, database) = new_database().await;
        let most = if lie == QueueLie::NothingDies { u32::MAX } else { 3 };
        let inner = SqliteJobQueue::new(database, Arc::new(SystemClock), "jobs", most);
        let queue = Arc::new(LyingQueue { inner, lie });
        let test = QueueUnderTest { queue, unit: Duration::from_millis(100), most_deliveries: 3 };
        (verdict(job_queue_suite::conforms(&test)).await, says)
    });
    for (text, says) in join_all(verdicts).await {
        assert!(text.contains(says), "`{text}` does not say `{says}`");
    }
}
