//! Events on their way from the buffer into the repository: which wait, a batch of them opened, and that it is there.
//!
//! While a batch is folded its record says so, so that whoever moves the destination waits: what is put there behind their back
//! would stay behind.

use firebackup_codec::cloud_event::unpack;
use firebackup_model::port::{BufferBounds, BufferedEvent, JobQueue, Settled, Turn};
use firebackup_model::reported::ReportedEvent;
use firebackup_model::{DatabaseName, ErrorKind, PortError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::destination::DestinationRecord;
use crate::error::{ControlError, Result};
use crate::event_intake::EVENT;
use crate::pitr_record::PitrRecord;
use crate::pitr_window::DueCapture;
use crate::record::{MAX_ATTEMPTS, Stored, Written};
use crate::tenant::Worker;
use crate::work::OpenedPlace;

/// How much is folded at one time.
const BATCH: BufferBounds = BufferBounds { events: 1000, bytes: 32 * 1024 * 1024 };

/// Events that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingEvents {
    /// Of which database.
    pub of: DueCapture,
    /// How many.
    pub events: u64,
    /// Since when the first of them waits.
    pub since: Timestamp,
}

impl WaitingEvents {
    /// Whether they should be folded: a batch is full, or one waits for so many seconds.
    #[must_use]
    pub fn are_due(&self, now: Timestamp, seconds: i64) -> bool {
        self.events >= BATCH.events || self.since.plus_seconds(seconds) <= now
    }
}

/// Asks for the events of a database to be folded: what travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldMessage {
    /// Of which database.
    pub fold: DueCapture,
}

impl DueCapture {
    /// Asks for its events to be folded. They have a turn of their own, so that a window that is captured does not hold them up;
    /// asked again with the same `which` it is asked once.
    ///
    /// # Errors
    /// When the queue fails.
    pub async fn ask_to_fold(&self, queue: &dyn JobQueue, which: &str) -> Result<(), PortError> {
        let body = serde_json::to_string(&FoldMessage { fold: self.clone() }).map_err(|error| {
            PortError::new(ErrorKind::Internal, "ask for events to be folded", "").with_source(error)
        })?;
        let group = format!("{}/events", self.project);
        let id = format!("fold/{}/{}/{which}", self.project, self.database);
        queue.send_in_turn(&body, Turn { group: &group, id: &id }).await
    }
}

/// A batch of events, and where it is to be folded, secrets opened. Nothing stored shows them.
pub struct FoldWork {
    /// Where the repository is.
    pub place: OpenedPlace,
    /// Of which database.
    pub database: DatabaseName,
    /// The events.
    pub events: Vec<ReportedEvent>,
    /// Whether more waited than these when they were taken.
    pub has_more: bool,
    keys: Vec<String>,
}

/// Documents are nobody's business.
impl std::fmt::Debug for FoldWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FoldWork").field("events", &self.events.len()).finish_non_exhaustive()
    }
}

impl Control {
    /// The databases of which events wait, of all organizations, those that wait longest first, at most so many.
    ///
    /// Only for `bootstrap`, as [`worker`](Self::worker).
    ///
    /// # Errors
    /// When the buffer fails.
    pub async fn waiting_events(&self, most: u32) -> Result<Vec<WaitingEvents>> {
        let Some(buffer) = &self.ports().buffer else { return Ok(Vec::new()) };
        let waiting = buffer.waiting(most).await?.into_iter().filter_map(|waiting| {
            let of = DueCapture::of_buffer(&waiting.buffer)?;
            Some(WaitingEvents { of, events: waiting.events, since: waiting.since })
        });
        Ok(waiting.collect())
    }

    /// Asks for a fold of each database of which events wait, at most so many; says of how many. Of those who ask within a minute
    /// one is heard.
    ///
    /// Only for `bootstrap`, as [`worker`](Self::worker).
    ///
    /// # Errors
    /// When the buffer or the queue fails.
    pub async fn ask_for_folds(&self, queue: &dyn JobQueue, most: u32) -> Result<u64> {
        let waiting = self.waiting_events(most).await?;
        let minute = format!("minute-{}", self.now().seconds.div_euclid(60));
        for waiting in &waiting {
            waiting.of.ask_to_fold(queue, &minute).await?;
        }
        Ok(waiting.len() as u64)
    }

    /// The next batch of events of a database, for whoever folds it within so many seconds; nothing where none waits, its
    /// destination is about to be moved, or the database is captured no more. The same batch again until it is
    /// [folded](Self::folded).
    ///
    /// # Errors
    /// [`Conflict`](crate::Kind::Conflict) where the destination is gone; when what opens it does not open, or the store fails.
    pub async fn fold_work(&self, worker: &Worker, of: &DueCapture, seconds: u32) -> Result<Option<FoldWork>> {
        let buffer = self.buffer()?;
        let Some(record) = self.hold_fold(worker, of, seconds).await? else { return Ok(None) };
        let organization = self.organization_record(worker.scope()).await?;
        let secrets = self.secret_box(worker.organization(), &organization.value.data_key).await?;
        let (mut events, mut keys, mut broken) = (Vec::new(), Vec::new(), Vec::new());
        let waiting = buffer.state(&of.buffer()).await?.waiting;
        for BufferedEvent { key, body } in buffer.batch(&of.buffer(), BATCH).await? {
            let opened = secrets.open_bytes(&record.id.to_string(), EVENT, &body);
            match opened.and_then(|packed| unpack(&packed).map_err(ControlError::internal)) {
                Ok(event) => {
                    events.push(event);
                    keys.push(key);
                }
                Err(_) => broken.push(key),
            }
        }
        if !broken.is_empty() {
            tracing::error!(pitr = %record.id, events = broken.len(), "events do not open any more: they are dropped");
            buffer.settle(&of.buffer(), &broken, Settled::Refused).await?;
        }
        let has_more = waiting > (keys.len() + broken.len()) as u64;
        let place = (record.storage_destination_id, record.repository());
        let place = self.place_at(worker.scope(), organization, place.0, place.1).await?;
        let database = DatabaseName::new(&record.google_project, &record.database);
        Ok((!events.is_empty()).then_some(FoldWork { place, database, events, has_more, keys }))
    }

    /// Notes that a batch stands in the repository, but for the events in these places of it, ascending, of which nothing could
    /// be made. Whoever dies before folds it again, and finds it there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn folded(&self, worker: &Worker, of: &DueCapture, work: &FoldWork, left_out: &[usize]) -> Result<()> {
        let (mut folded, mut refused) = (Vec::new(), Vec::new());
        for (place, key) in work.keys.iter().enumerate() {
            let keys = if left_out.binary_search(&place).is_ok() { &mut refused } else { &mut folded };
            keys.push(key.clone());
        }
        for (keys, settled) in [(folded, Settled::Folded), (refused, Settled::Refused)] {
            if !keys.is_empty() {
                self.buffer()?.settle(&of.buffer(), &keys, settled).await?;
            }
        }
        self.release_fold(worker, of).await
    }

    /// Says that events are folded from now on; nothing where they may not be.
    async fn hold_fold(&self, worker: &Worker, of: &DueCapture, seconds: u32) -> Result<Option<PitrRecord>> {
        let scope = worker.scope();
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut record) = self.fold_record(worker, of).await? else {
                self.buffer()?.forget(&of.buffer()).await?;
                return Ok(None);
            };
            let destination = scope.destination_key(&record.value.storage_destination_id);
            let destination = self.load::<DestinationRecord>(&destination).await?;
            if destination.as_ref().is_some_and(|destination| destination.value.check_usable().is_err()) {
                return Ok(None);
            }
            record.value.folds_until = Some(self.now().plus_seconds(i64::from(seconds)));
            // whoever moves the destination waits for those who fold, and sees this one
            let mut writes = vec![record.replace(record.value.index(scope))?, self.goes_on(scope).await?];
            writes.extend(destination.map(|destination| destination.check()));
            if self.write_unrecorded(writes).await? == Written::Yes {
                return Ok(Some(record.value));
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Says that nothing is folded any more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn release_fold(&self, worker: &Worker, of: &DueCapture) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut record) = self.fold_record(worker, of).await? else { return Ok(()) };
            record.value.folds_until = None;
            let write = record.replace(record.value.index(worker.scope()))?;
            if self.write_unrecorded(vec![write]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    async fn fold_record(&self, worker: &Worker, of: &DueCapture) -> Result<Option<Stored<PitrRecord>>> {
        self.load::<PitrRecord>(&worker.scope().pitr_key(&of.project, &of.database)).await
    }
}
