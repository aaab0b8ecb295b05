//! Queues in SQLite: a delivery is a transaction, so that several processes share a queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use firebackup_model::port::{Clock, JobQueue, MAX_DELAY, MAX_MESSAGE_BYTES, MAX_MESSAGES, Message};
use firebackup_model::{ErrorKind, PortError};
use rusqlite::{Transaction, params};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::database::{Database, Outcome, duration_millis, millis};

const SEND: &str = "send a message";
const RECEIVE: &str = "receive messages";
const DELETE: &str = "delete a message";
const RELEASE: &str = "release a message";
const COUNT: &str = "count dead letters";
const REDRIVE: &str = "redrive dead letters";
/// How often who waits looks for what other processes sent.
const POLL: Duration = Duration::from_millis(200);

/// One queue of a database file, with its dead-letter queue. Clones wake each other.
#[derive(Clone)]
pub struct SqliteJobQueue {
    database: Database,
    clock: Arc<dyn Clock>,
    name: Arc<str>,
    most_deliveries: u32,
    /// Changes whenever a message may have become due.
    arrivals: watch::Sender<()>,
}

/// What a look into the queue gave.
enum Claim {
    Messages(Vec<Message>),
    /// Nothing is due; when the next message is, if there is one.
    Nothing(Option<i64>),
}

impl SqliteJobQueue {
    /// The queue `name` in `database`. A message that was delivered `most_deliveries` times and comes up again is moved to
    /// the dead-letter queue.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>, name: &str, most_deliveries: u32) -> Self {
        Self { database, clock, name: name.into(), most_deliveries, arrivals: watch::Sender::new(()) }
    }

    fn now(&self) -> i64 {
        millis(self.clock.now())
    }

    fn due_after(&self, delay: Duration) -> i64 {
        self.now().saturating_add(duration_millis(delay))
    }

    async fn claim(&self, most: usize, hidden: Duration) -> Result<Claim, PortError> {
        let (name, now) = (Arc::clone(&self.name), self.now());
        // looking costs no flush of the disk; who waits looks often
        let next = self.database.read(RECEIVE, move |transaction| next_due(transaction, &name)).await?;
        if next.is_none_or(|next| next > now) {
            return Ok(Claim::Nothing(next));
        }
        let (name, most_deliveries, until) = (Arc::clone(&self.name), self.most_deliveries, self.due_after(hidden));
        let work = move |transaction: &Transaction<'_>| {
            bury(transaction, &name, now, most_deliveries)?;
            take(transaction, &name, now, most, until)
        };
        let messages = self.database.write(RECEIVE, work).await?;
        Ok(if messages.is_empty() { Claim::Nothing(None) } else { Claim::Messages(messages) })
    }

    /// How long to wait until the next look, `left` being the time that the caller has.
    fn pause(&self, next: Option<i64>, left: Duration) -> Duration {
        let due = next.map_or(POLL, |next| Duration::from_millis((next - self.now()).max(1).unsigned_abs()));
        due.min(POLL).min(left)
    }
}

#[async_trait]
impl JobQueue for SqliteJobQueue {
    async fn send(&self, body: &str, delay: Duration) -> Result<(), PortError> {
        check(body, delay)?;
        let (name, body, visible) = (Arc::clone(&self.name), body.to_owned(), self.due_after(delay));
        let work = move |transaction: &Transaction<'_>| {
            const SQL: &str = "INSERT INTO messages (queue, body, visible) VALUES (?1, ?2, ?3)";
            transaction.execute(SQL, params![&*name, body, visible])?;
            Ok(())
        };
        self.database.write(SEND, work).await?;
        self.arrivals.send_replace(());
        Ok(())
    }

    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Message>, PortError> {
        if !(1..=MAX_MESSAGES).contains(&most) {
            let message = format!("one call gives 1 to {MAX_MESSAGES} messages");
            return Err(PortError::new(ErrorKind::InvalidArgument, RECEIVE, message));
        }
        let begun = Instant::now();
        let mut arrivals = self.arrivals.subscribe();
        loop {
            // seen before the look: what arrives after it is not missed
            arrivals.borrow_and_update();
            let next = match self.claim(most, hidden).await? {
                Claim::Messages(messages) => return Ok(messages),
                Claim::Nothing(next) => next,
            };
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            // why the wait ended does not matter: the next look tells
            let _ = timeout(self.pause(next, left), arrivals.changed()).await;
        }
    }

    async fn delete(&self, receipt: &str) -> Result<(), PortError> {
        let (id, claim) = read_receipt(receipt, DELETE)?;
        let work = move |transaction: &Transaction<'_>| {
            const SQL: &str = "DELETE FROM messages WHERE id = ?1 AND claim = ?2 AND dead = 0";
            transaction.execute(SQL, params![id, claim])?;
            Ok(())
        };
        self.database.write(DELETE, work).await
    }

    async fn release(&self, receipt: &str, delay: Duration) -> Result<(), PortError> {
        let (id, claim) = read_receipt(receipt, RELEASE)?;
        let visible = self.due_after(delay);
        let work = move |transaction: &Transaction<'_>| {
            const SQL: &str = "UPDATE messages SET visible = ?3 WHERE id = ?1 AND claim = ?2 AND dead = 0";
            transaction.execute(SQL, params![id, claim, visible])?;
            Ok(())
        };
        self.database.write(RELEASE, work).await?;
        self.arrivals.send_replace(());
        Ok(())
    }

    async fn dead_letters(&self) -> Result<u64, PortError> {
        const SQL: &str = "SELECT count(*) FROM messages WHERE queue = ?1 AND dead = 1";
        let name = Arc::clone(&self.name);
        let work = move |transaction: &Transaction<'_>| {
            Ok(transaction.query_row(SQL, [&*name], |row| row.get::<_, i64>(0))?.cast_unsigned())
        };
        self.database.read(COUNT, work).await
    }

    async fn redrive(&self) -> Result<u64, PortError> {
        let (name, now) = (Arc::clone(&self.name), self.now());
        let work = move |transaction: &Transaction<'_>| {
            const SQL: &str =
                "UPDATE messages SET dead = 0, deliveries = 0, visible = ?2 WHERE queue = ?1 AND dead = 1";
            Ok(transaction.execute(SQL, params![&*name, now])? as u64)
        };
        let moved = self.database.write(REDRIVE, work).await?;
        self.arrivals.send_replace(());
        Ok(moved)
    }
}

fn check(body: &str, delay: Duration) -> Result<(), PortError> {
    let message = if body.is_empty() {
        "a message is empty".to_owned()
    } else if body.len() > MAX_MESSAGE_BYTES {
        format!("a message of {} bytes is larger than {MAX_MESSAGE_BYTES}", body.len())
    } else if delay > MAX_DELAY {
        format!("a message is held back for {} seconds at most", MAX_DELAY.as_secs())
    } else {
        return Ok(());
    };
    Err(PortError::new(ErrorKind::InvalidArgument, SEND, message))
}

/// A receipt names a message and which of its deliveries it was: an earlier one says nothing about a later.
fn read_receipt(receipt: &str, operation: &str) -> Result<(i64, i64), PortError> {
    let parts = receipt.split_once('.').and_then(|(id, claim)| Some((id.parse().ok()?, claim.parse().ok()?)));
    parts.ok_or_else(|| PortError::new(ErrorKind::InvalidArgument, operation, "the receipt is none of this queue"))
}

fn next_due(transaction: &Transaction<'_>, queue: &str) -> Outcome<Option<i64>> {
    const SQL: &str = "SELECT min(visible) FROM messages WHERE queue = ?1 AND dead = 0";
    Ok(transaction.query_row(SQL, [queue], |row| row.get(0))?)
}

/// Moves what was delivered often enough to the dead-letter queue.
fn bury(transaction: &Transaction<'_>, queue: &str, now: i64, most_deliveries: u32) -> Outcome<()> {
    const SQL: &str =
        "UPDATE messages SET dead = 1 WHERE queue = ?1 AND dead = 0 AND visible <= ?2 AND deliveries >= ?3";
    let buried = transaction.execute(SQL, params![queue, now, most_deliveries])?;
    if buried > 0 {
        tracing::warn!(queue, buried, "messages were delivered too often and are dead letters now");
    }
    Ok(())
}

/// Delivers what is due, longest due first.
fn take(transaction: &Transaction<'_>, queue: &str, now: i64, most: usize, until: i64) -> Outcome<Vec<Message>> {
    const SQL: &str = "UPDATE messages SET deliveries = deliveries + 1, claim = claim + 1, visible = ?4
        WHERE id IN (SELECT id FROM messages WHERE queue = ?1 AND dead = 0 AND visible <= ?2 ORDER BY visible, id LIMIT ?3)
        RETURNING id, claim, body, deliveries";
    let mut statement = transaction.prepare(SQL)?;
    let rows = statement.query_map(params![queue, now, most as i64, until], |row| {
        let (id, claim): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok((id, Message { body: row.get(2)?, receipt: format!("{id}.{claim}"), deliveries: row.get(3)? }))
    })?;
    let mut found = rows.collect::<Result<Vec<_>, _>>()?;
    found.sort_by_key(|(id, _)| *id);
    Ok(found.into_iter().map(|(_, message)| message).collect())
}
