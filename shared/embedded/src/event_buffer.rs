//! Events that wait, in SQLite. What is counted stands in a row a buffer, and is changed with what it counts.

use std::sync::Arc;

use async_trait::async_trait;
use firebackup_model::port::{
    BufferBounds, BufferState, Buffered, BufferedEvent, Clock, EventBuffer, MAX_BUFFER_NAME, Settled, WaitingBuffer,
};
use firebackup_model::{ErrorKind, PortError, Timestamp};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::database::{Database, Outcome, millis};

const PUT: &str = "put an event";
const REFUSE: &str = "count a refused event";
const LOOK: &str = "look for events that wait";
const BATCH: &str = "take events";
const SETTLE: &str = "settle events";
const COUNT: &str = "count events";
const FORGET: &str = "forget events";
/// For how long the names of events are known that were dealt with, in milliseconds.
const KNOWN: i64 = 3600 * 1000;
/// How many names that are known no more a write removes by the way.
const REMOVED_AT_ONCE: i64 = 100;

/// The buffers in a database file.
#[derive(Clone)]
pub struct SqliteEventBuffer {
    database: Database,
    clock: Arc<dyn Clock>,
}

impl SqliteEventBuffer {
    /// The buffers in `database`; `clock` says what has been known for long enough.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }

    fn now(&self) -> i64 {
        millis(self.clock.now())
    }
}

#[async_trait]
impl EventBuffer for SqliteEventBuffer {
    async fn put(&self, buffer: &str, event: BufferedEvent, bounds: BufferBounds) -> Result<Buffered, PortError> {
        for name in [buffer, &event.key] {
            check_name(name)?;
        }
        let (buffer, now) = (buffer.to_owned(), self.now());
        self.database.write(PUT, move |transaction| put(transaction, &buffer, &event, bounds, now)).await
    }

    async fn refuse(&self, buffer: &str) -> Result<(), PortError> {
        const SQL: &str = "UPDATE event_buffers SET refused = refused + 1 WHERE buffer = ?1";
        check_name(buffer)?;
        let buffer = buffer.to_owned();
        let work = move |transaction: &Transaction<'_>| {
            begin(transaction, &buffer)?;
            transaction.execute(SQL, [&buffer])?;
            Ok(())
        };
        self.database.write(REFUSE, work).await
    }

    async fn waiting(&self, most: u32) -> Result<Vec<WaitingBuffer>, PortError> {
        const SQL: &str = "SELECT buffer, waiting,
            (SELECT min(received) FROM events WHERE events.buffer = event_buffers.buffer AND body IS NOT NULL) AS since
            FROM event_buffers WHERE waiting > 0 ORDER BY since LIMIT ?1";
        let work = move |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare(SQL)?;
            let rows = statement.query_map([most], |row| {
                let since = row.get::<_, Option<i64>>(2)?.unwrap_or_default();
                Ok(WaitingBuffer { buffer: row.get(0)?, events: number(row, 1)?, since: Timestamp::from_millis(since) })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.database.read(LOOK, work).await
    }

    async fn batch(&self, buffer: &str, bounds: BufferBounds) -> Result<Vec<BufferedEvent>, PortError> {
        let buffer = buffer.to_owned();
        self.database.write(BATCH, move |transaction| batch(transaction, &buffer, bounds)).await
    }

    async fn settle(&self, buffer: &str, keys: &[String], settled: Settled) -> Result<(), PortError> {
        let (buffer, keys, now) = (buffer.to_owned(), keys.to_vec(), self.now());
        self.database.write(SETTLE, move |transaction| settle(transaction, &buffer, &keys, settled, now)).await
    }

    async fn state(&self, buffer: &str) -> Result<BufferState, PortError> {
        const SQL: &str = "SELECT received, repeated, refused, folded, waiting, bytes, last FROM event_buffers
            WHERE buffer = ?1";
        let buffer = buffer.to_owned();
        let work = move |transaction: &Transaction<'_>| {
            Ok(transaction.query_row(SQL, [buffer], state).optional()?.unwrap_or_default())
        };
        self.database.read(COUNT, work).await
    }

    async fn forget(&self, buffer: &str) -> Result<(), PortError> {
        let buffer = buffer.to_owned();
        let work = move |transaction: &Transaction<'_>| {
            transaction.execute("DELETE FROM events WHERE buffer = ?1", [&buffer])?;
            transaction.execute("DELETE FROM event_buffers WHERE buffer = ?1", [&buffer])?;
            Ok(())
        };
        self.database.write(FORGET, work).await
    }
}

fn check_name(name: &str) -> Result<(), PortError> {
    match (1..=MAX_BUFFER_NAME).contains(&name.chars().count()) {
        true => Ok(()),
        false => {
            let message = format!("a name has 1 to {MAX_BUFFER_NAME} characters");
            Err(PortError::new(ErrorKind::InvalidArgument, PUT, message))
        }
    }
}

fn number(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(i64::cast_unsigned)
}

fn state(row: &Row<'_>) -> rusqlite::Result<BufferState> {
    Ok(BufferState {
        received: number(row, 0)?,
        repeated: number(row, 1)?,
        refused: number(row, 2)?,
        folded: number(row, 3)?,
        waiting: number(row, 4)?,
        waiting_bytes: number(row, 5)?,
        last: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
    })
}

fn begin(transaction: &Transaction<'_>, buffer: &str) -> Outcome<()> {
    transaction.execute("INSERT OR IGNORE INTO event_buffers (buffer) VALUES (?1)", [buffer])?;
    Ok(())
}

fn put(
    transaction: &Transaction<'_>,
    buffer: &str,
    event: &BufferedEvent,
    bounds: BufferBounds,
    now: i64,
) -> Outcome<Buffered> {
    begin(transaction, buffer)?;
    remove_known(transaction, now)?;
    const KNOWN: &str = "SELECT 1 FROM events WHERE buffer = ?1 AND key = ?2";
    if transaction.query_row(KNOWN, params![buffer, event.key], |_| Ok(())).optional()?.is_some() {
        const SQL: &str = "UPDATE event_buffers SET repeated = repeated + 1, last = ?2 WHERE buffer = ?1";
        transaction.execute(SQL, params![buffer, now])?;
        return Ok(Buffered::Repeated);
    }
    const FITS: &str = "SELECT waiting < ?2 AND bytes + ?3 <= ?4 FROM event_buffers WHERE buffer = ?1";
    let bytes = event.body.len() as i64;
    let (events, most) = (bounds.events.min(i64::MAX as u64) as i64, bounds.bytes.min(i64::MAX as u64) as i64);
    if !transaction.query_row(FITS, params![buffer, events, bytes, most], |row| row.get::<_, bool>(0))? {
        return Ok(Buffered::Full);
    }
    const PUT: &str = "INSERT INTO events (buffer, key, body, received) VALUES (?1, ?2, ?3, ?4)";
    transaction.execute(PUT, params![buffer, event.key, event.body, now])?;
    const COUNT: &str = "UPDATE event_buffers SET received = received + 1, waiting = waiting + 1, bytes = bytes + ?2,
        last = ?3 WHERE buffer = ?1";
    transaction.execute(COUNT, params![buffer, bytes, now])?;
    Ok(Buffered::Taken)
}

/// Forgets names that were known for long enough.
fn remove_known(transaction: &Transaction<'_>, now: i64) -> Outcome<()> {
    const SQL: &str = "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE forgotten <= ?1 LIMIT ?2)";
    transaction.execute(SQL, params![now, REMOVED_AT_ONCE])?;
    Ok(())
}

/// Those that are held, else the next ones, which are held from now on.
fn batch(transaction: &Transaction<'_>, buffer: &str, bounds: BufferBounds) -> Outcome<Vec<BufferedEvent>> {
    let held = read(transaction, buffer, true, BufferBounds { events: u64::MAX, bytes: u64::MAX })?;
    if !held.is_empty() {
        return Ok(held.into_iter().map(|(_, event)| event).collect());
    }
    let next = read(transaction, buffer, false, bounds)?;
    let mut hold = transaction.prepare("UPDATE events SET held = 1 WHERE id = ?1")?;
    for (id, _) in &next {
        hold.execute([id])?;
    }
    Ok(next.into_iter().map(|(_, event)| event).collect())
}

fn read(
    transaction: &Transaction<'_>,
    buffer: &str,
    held: bool,
    bounds: BufferBounds,
) -> Outcome<Vec<(i64, BufferedEvent)>> {
    const SQL: &str =
        "SELECT id, key, body FROM events WHERE buffer = ?1 AND held = ?2 AND body IS NOT NULL ORDER BY id";
    let mut statement = transaction.prepare(SQL)?;
    let rows = statement.query_map(params![buffer, held], |row| {
        Ok((row.get(0)?, BufferedEvent { key: row.get(1)?, body: row.get(2)? }))
    })?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let (id, event): (i64, BufferedEvent) = row?;
        bytes += event.body.len() as u64;
        if !events.is_empty() && (events.len() as u64 >= bounds.events || bytes > bounds.bytes) {
            break;
        }
        events.push((id, event));
    }
    Ok(events)
}

fn settle(transaction: &Transaction<'_>, buffer: &str, keys: &[String], settled: Settled, now: i64) -> Outcome<()> {
    const SIZE: &str = "SELECT length(body) FROM events WHERE buffer = ?1 AND key = ?2 AND body IS NOT NULL";
    const DROP: &str = "UPDATE events SET body = NULL, held = 0, forgotten = ?3 WHERE buffer = ?1 AND key = ?2";
    let (mut events, mut bytes) = (0, 0);
    for key in keys {
        if let Some(size) = transaction.query_row(SIZE, params![buffer, key], |row| row.get::<_, i64>(0)).optional()? {
            transaction.execute(DROP, params![buffer, key, now.saturating_add(KNOWN)])?;
            events += 1;
            bytes += size;
        }
    }
    const COUNT: &str = "UPDATE event_buffers SET waiting = waiting - ?2, bytes = bytes - ?3,
        folded = folded + ?4, refused = refused + ?5 WHERE buffer = ?1";
    let (folded, refused) = if settled == Settled::Folded { (events, 0) } else { (0, events) };
    transaction.execute(COUNT, params![buffer, events, bytes, folded, refused])?;
    Ok(())
}
