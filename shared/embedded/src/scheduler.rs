//! Schedules in SQLite, and what fires them.
//!
//! A schedule keeps its next time. It fires first and moves on then, so that a crash between the two makes it fire the
//! same time again, and never not at all: who receives knows a time by the schedule and `scheduled`. Times that were missed
//! while nothing ran are made up for by one, the latest.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use firebackup_model::cron::Cron;
use firebackup_model::port::{Clock, JobQueue, ScheduleRule, Scheduler};
use firebackup_model::{ErrorKind, PortError, Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::alarm::Alarm;
use crate::database::{Database, Outcome, millis};
use crate::names;
use crate::sole_worker::SoleWorker;

const PUT: &str = "store a schedule";
const REMOVE: &str = "remove a schedule";
const READ: &str = "read schedules";
const FIRE: &str = "fire a schedule";
const ADVANCE: &str = "note that a schedule fired";
const MAX_NAME: usize = 64;
/// How long, in seconds, until a schedule that could not fire is tried again.
const RETRY_SECONDS: i64 = 5;
/// How often, in seconds, to look for what other processes changed.
const LOOK_SECONDS: i64 = 30;
/// The first span, in seconds, that is searched for the latest time that was missed.
const FIRST_SPAN: i64 = 60;

/// What a schedule sets off.
#[async_trait]
pub trait Fire: Send + Sync {
    /// Takes the message of the schedule `name`: `{payload, scheduled}`. One that was taken is kept, or comes again; the
    /// same message can come twice.
    async fn fire(&self, name: &str, message: &Value) -> Result<(), PortError>;
}

/// Sends what fires to a queue.
#[derive(Clone)]
pub struct FireIntoQueue(Arc<dyn JobQueue>);

impl FireIntoQueue {
    /// Into `queue`.
    #[must_use]
    pub fn new(queue: Arc<dyn JobQueue>) -> Self {
        Self(queue)
    }
}

#[async_trait]
impl Fire for FireIntoQueue {
    async fn fire(&self, _: &str, message: &Value) -> Result<(), PortError> {
        self.0.send(&message.to_string(), Duration::ZERO).await
    }
}

/// The schedules of a database file. Clones wake each other.
#[derive(Clone)]
pub struct SqliteScheduler {
    database: Database,
    clock: Arc<dyn Clock>,
    changes: watch::Sender<()>,
}

/// A schedule whose time has come.
struct Due {
    name: String,
    cron: Cron,
    payload: Value,
    due: i64,
}

/// What became of the schedules that were due.
struct Round {
    fired: usize,
    failed: usize,
}

impl SqliteScheduler {
    /// The schedules in `database`; `clock` says what is due.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock, changes: watch::Sender::new(()) }
    }

    /// The schedule of this name as it was put; nothing when there is none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn get(&self, name: &str) -> Result<Option<ScheduleRule>, PortError> {
        let name = name.to_owned();
        self.database.read(READ, move |transaction| read_rule(transaction, &name)).await
    }

    /// Fires schedules when their time has come, until `stop` is ready. While another process does so for the same file, it
    /// waits.
    pub async fn run(&self, fire: Arc<dyn Fire>, alarm: &dyn Alarm, stop: impl Future<Output = ()>) {
        let work = async {
            let _sole = SoleWorker::wait(self.database.path(), "schedules").await;
            self.fire_for_ever(fire.as_ref(), alarm).await;
        };
        tokio::select! {
            () = work => {}
            () = stop => {}
        }
    }

    async fn fire_for_ever(&self, fire: &dyn Fire, alarm: &dyn Alarm) {
        let mut changes = self.changes.subscribe();
        loop {
            // seen before the look: what changes after it is not missed
            changes.borrow_and_update();
            let next_look = self.look(fire).await;
            tokio::select! {
                () = alarm.at(next_look) => {}
                // it cannot fail: the sender lives as long as `self`
                _ = changes.changed() => {}
            }
        }
    }

    /// Fires what is due, and returns when to look again.
    async fn look(&self, fire: &dyn Fire) -> Timestamp {
        let now = self.clock.now();
        let (soon, latest) = (now.plus_seconds(RETRY_SECONDS), now.plus_seconds(LOOK_SECONDS));
        match self.fire_and_find_next(fire, now).await {
            Ok((round, next)) => {
                let next = next.map_or(latest, |next| next.min(latest));
                if round.failed > 0 { next.max(soon) } else { next }
            }
            Err(error) => {
                tracing::warn!(error = %error, "schedules could not be looked through");
                soon
            }
        }
    }

    async fn fire_and_find_next(
        &self,
        fire: &dyn Fire,
        now: Timestamp,
    ) -> Result<(Round, Option<Timestamp>), PortError> {
        let round = self.fire_all(fire, now).await?;
        let next = self.database.read(READ, next_due).await?;
        Ok((round, next.map(Timestamp::from_millis)))
    }

    /// Fires what is due now, each schedule once; returns how many fired. One that cannot fire is told in the log and
    /// stays due.
    ///
    /// # Errors
    /// When the database cannot be read or written; what had not fired is still due.
    pub async fn fire_due(&self, fire: &dyn Fire) -> Result<usize, PortError> {
        Ok(self.fire_all(fire, self.clock.now()).await?.fired)
    }

    async fn fire_all(&self, fire: &dyn Fire, now: Timestamp) -> Result<Round, PortError> {
        let (due, unreadable) = self.database.read(READ, move |transaction| read_due(transaction, millis(now))).await?;
        let mut round = Round { fired: 0, failed: unreadable };
        for rule in due {
            let scheduled = latest(&rule.cron, Timestamp::from_millis(rule.due), now);
            let message = json!({"payload": rule.payload, "scheduled": scheduled});
            if let Err(error) = fire.fire(&rule.name, &message).await {
                tracing::warn!(schedule = %rule.name, error = %error, "a schedule could not fire; it is tried again");
                round.failed += 1;
                continue;
            }
            self.advance(&rule, scheduled).await?;
            round.fired += 1;
        }
        Ok(round)
    }

    /// A schedule that was changed meanwhile has been given its next time by that change.
    async fn advance(&self, rule: &Due, fired: Timestamp) -> Result<(), PortError> {
        let (name, due, next) = (rule.name.clone(), rule.due, rule.cron.next_after(fired).map(millis));
        let work = move |transaction: &Transaction<'_>| {
            const SQL: &str = "UPDATE schedules SET due = ?3 WHERE name = ?1 AND due = ?2";
            transaction.execute(SQL, params![name, due, next])?;
            Ok(())
        };
        self.database.write(ADVANCE, work).await
    }
}

#[async_trait]
impl Scheduler for SqliteScheduler {
    async fn put(&self, rule: &ScheduleRule) -> Result<(), PortError> {
        names::check(&rule.name, MAX_NAME, PUT)?;
        let (rule, now) = (rule.clone(), self.clock.now());
        self.database.write(PUT, move |transaction| put_rule(transaction, &rule, now)).await?;
        self.changes.send_replace(());
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), PortError> {
        let name = name.to_owned();
        let work = move |transaction: &Transaction<'_>| {
            transaction.execute("DELETE FROM schedules WHERE name = ?1", [name])?;
            Ok(())
        };
        self.database.write(REMOVE, work).await
    }

    async fn fires_as(&self, rule: &ScheduleRule) -> Result<bool, PortError> {
        Ok(self.get(&rule.name).await?.is_some_and(|known| known.cron == rule.cron && known.enabled == rule.enabled))
    }
}

fn read_rule(transaction: &Transaction<'_>, name: &str) -> Outcome<Option<ScheduleRule>> {
    const SQL: &str = "SELECT cron, payload, enabled FROM schedules WHERE name = ?1";
    let row = transaction
        .query_row(SQL, [name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?)))
        .optional()?;
    let Some((cron, payload, enabled)) = row else { return Ok(None) };
    let (cron, payload) = (serde_json::from_str(&cron)?, serde_json::from_str(&payload)?);
    Ok(Some(ScheduleRule { name: name.to_owned(), cron, payload, enabled }))
}

fn put_rule(transaction: &Transaction<'_>, rule: &ScheduleRule, now: Timestamp) -> Outcome<()> {
    const SQL: &str =
        "INSERT OR REPLACE INTO schedules (name, cron, payload, enabled, due) VALUES (?1, ?2, ?3, ?4, ?5)";
    let cron = serde_json::to_string(&rule.cron)?;
    let due = if rule.enabled {
        // all schedules may be put again at each start: that must not make one forget what it missed
        let kept = transaction
            .query_row("SELECT due FROM schedules WHERE name = ?1 AND cron = ?2", [&rule.name, &cron], |row| row.get(0))
            .optional()?;
        kept.flatten().or_else(|| rule.cron.next_after(now).map(millis))
    } else {
        None
    };
    transaction.execute(SQL, params![rule.name, cron, rule.payload.to_string(), rule.enabled, due])?;
    Ok(())
}

/// What is due, longest due first, and how many schedules cannot be read: those keep no other from firing.
fn read_due(transaction: &Transaction<'_>, now: i64) -> Outcome<(Vec<Due>, usize)> {
    const SQL: &str = "SELECT name, cron, payload, due FROM schedules WHERE due <= ?1 ORDER BY due, name";
    let mut statement = transaction.prepare(SQL)?;
    let rows = statement.query_map([now], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get(3)?))
    })?;
    let (mut all, mut unreadable) = (Vec::new(), 0);
    for row in rows {
        let (name, cron, payload, due) = row?;
        match (serde_json::from_str(&cron), serde_json::from_str(&payload)) {
            (Ok(cron), Ok(payload)) => all.push(Due { name, cron, payload, due }),
            (Err(error), _) | (_, Err(error)) => {
                let error = PortError::new(ErrorKind::Corrupt, FIRE, "").with_source(error);
                tracing::error!(schedule = %name, error = ?error, "a schedule cannot be read and does not fire");
                unreadable += 1;
            }
        }
    }
    Ok((all, unreadable))
}

fn next_due(transaction: &Transaction<'_>) -> Outcome<Option<i64>> {
    Ok(transaction.query_row("SELECT min(due) FROM schedules", [], |row| row.get(0))?)
}

/// The latest time up to `now` at which it was due, `due` being one of them. Looks backwards in growing spans: a schedule
/// may have missed a minute, or a year of minutes.
fn latest(cron: &Cron, due: Timestamp, now: Timestamp) -> Timestamp {
    let first_in = |span: i64| cron.next_after(now.plus_seconds(-span)).filter(|time| *time <= now);
    let spans = std::iter::successors(Some(FIRST_SPAN), |span| span.checked_mul(2));
    let found = spans.take_while(|span| now.plus_seconds(-span) > due).find_map(first_in);
    let times = std::iter::successors(Some(found.unwrap_or(due)), |time| cron.next_after(*time));
    times.take_while(|time| *time <= now).last().unwrap_or(due)
}
