//! Takes an event in: proven, read, sealed, and kept until it is folded.
//!
//! Whoever sends may be one that sends again what was answered by anything but a 2xx, for days. So what can never be taken is
//! answered as taken, with what is wrong with it.

use firebackup_codec::cloud_event::{EventError, pack, read_posted};
use firebackup_model::DatabaseName;
use firebackup_model::port::{BufferBounds, BufferState, Buffered, BufferedEvent};
use firebackup_model::reported::ReportedEvent;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::control::Control;
use crate::error::{Code, ControlError, Kind, Result};
use crate::pitr_record::PitrRecord;
use crate::pitr_window::DueCapture;
use crate::tenant::{EventSender, Reporter};

/// How much may wait of one database.
const BOUNDS: BufferBounds = BufferBounds { events: 100_000, bytes: 1024 * 1024 * 1024 };
/// What an event is sealed for.
pub(crate) const EVENT: &str = "event";

/// What became of an event that was posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventOutcome {
    /// It is kept, and folded in within seconds; on AWS within a minute or two.
    Buffered,
    /// It came before.
    Duplicate,
    /// It can never be taken: sending it again changes nothing.
    Refused,
}

/// An event that was posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventTaken {
    /// What became of it.
    pub outcome: EventOutcome,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl EventTaken {
    const fn new(outcome: EventOutcome) -> Self {
        Self { outcome, reason: None }
    }
}

/// How many events were posted, and what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PushStatistics {
    /// Events that were taken, each once.
    pub received: u64,
    /// Of those, how many stand in the repository.
    pub folded: u64,
    /// Events that came again.
    pub duplicates: u64,
    /// Events that could not be taken.
    pub refused: u64,
    /// Events that wait to be folded.
    pub backlog: u64,
    /// Bytes that those take.
    pub backlog_bytes: u64,
    /// When the last one came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_event_at: Option<firebackup_model::Timestamp>,
}

impl From<BufferState> for PushStatistics {
    fn from(state: BufferState) -> Self {
        Self {
            received: state.received,
            folded: state.folded,
            duplicates: state.repeated,
            refused: state.refused,
            backlog: state.waiting,
            backlog_bytes: state.waiting_bytes,
            last_event_at: state.last,
        }
    }
}

impl PitrRecord {
    /// The buffer of its events.
    pub(crate) fn buffer(&self) -> String {
        self.named().buffer()
    }

    fn named(&self) -> DueCapture {
        DueCapture { organization: self.organization_id, project: self.project_id, database: self.database.clone() }
    }
}

impl DueCapture {
    /// The buffer of its events.
    pub(crate) fn buffer(&self) -> String {
        format!("{}/{}/{}", self.organization, self.project, self.database)
    }

    /// Whose a buffer is.
    pub(crate) fn of_buffer(name: &str) -> Option<Self> {
        let mut parts = name.splitn(3, '/');
        let (organization, project) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { organization, project, database: parts.next()?.to_owned() })
    }
}

impl Control {
    /// Takes an event, given by its headers and its body, from whoever is about to post it.
    ///
    /// # Errors
    /// [`Unauthorized`](Kind::Unauthorized) where its signature does not hold; [`Conflict`](Kind::Conflict) while changes are
    /// not captured; [`Unavailable`](Kind::Unavailable) where too much waits, or the store fails: it may be sent again.
    pub async fn take_event(&self, sender: EventSender, headers: &[(&str, &[u8])], body: &[u8]) -> Result<EventTaken> {
        let reporter = sender.proven(body)?;
        let record = reporter.record();
        if !record.is_on() {
            return Err(ControlError::conflict(
                Code::Conflict,
                "changes of this database are not captured at the moment",
            ));
        }
        let (buffer, name) = (self.buffer()?, record.buffer());
        let read = read_posted(headers.iter().copied(), body).map_err(|error| reason(&error));
        match read.and_then(|event| of_this_database(record, event)) {
            Ok(event) => self.keep(&reporter, &name, &event).await,
            Err(reason) => {
                tracing::warn!(pitr = %record.id, reason, "an event cannot be taken");
                buffer.refuse(&name).await?;
                Ok(EventTaken { outcome: EventOutcome::Refused, reason: Some(reason) })
            }
        }
    }

    async fn keep(&self, reporter: &Reporter, buffer: &str, event: &ReportedEvent) -> Result<EventTaken> {
        let (scope, record) = (reporter.scope(), reporter.record());
        let organization = self.organization_record(scope).await?.value;
        let secrets = self.secret_box(scope.organization(), &organization.data_key).await?;
        let packed = pack(event).map_err(ControlError::internal)?;
        let body = secrets.seal_bytes(self, &record.id.to_string(), EVENT, &packed);
        let event = BufferedEvent { key: key(event), body };
        match self.buffer()?.put(buffer, event, BOUNDS).await? {
            Buffered::Taken => Ok(EventTaken::new(EventOutcome::Buffered)),
            Buffered::Repeated => Ok(EventTaken::new(EventOutcome::Duplicate)),
            Buffered::TooLarge => {
                tracing::warn!(pitr = %record.id, "an event is too large to be kept");
                self.buffer()?.refuse(buffer).await?;
                let reason = Some("the event is larger than this installation keeps".to_owned());
                Ok(EventTaken { outcome: EventOutcome::Refused, reason })
            }
            Buffered::Full => {
                let message = "too many events wait to be folded: send it again later";
                Err(ControlError::new(Kind::Unavailable, Code::BacklogFull, message))
            }
        }
    }

    /// What became of the events of a database; nothing where none are taken and none ever came.
    pub(crate) async fn push_statistics(&self, record: &PitrRecord) -> Result<Option<PushStatistics>> {
        let Some(buffer) = &self.ports().buffer else { return Ok(None) };
        let state = buffer.state(&record.buffer()).await?;
        let is_told = record.push.is_some() || state != BufferState::default();
        Ok(is_told.then(|| state.into()))
    }
}

/// What is wrong with an event: never a part of a document, nor what its readers said of one.
fn reason(error: &EventError) -> String {
    error.to_string()
}

fn of_this_database(record: &PitrRecord, event: ReportedEvent) -> std::result::Result<ReportedEvent, String> {
    if event.database == DatabaseName::new(&record.google_project, &record.database) {
        return Ok(event);
    }
    Err("the event is of another database than it was posted for".to_owned())
}

/// Names an event, by its source and its id: unique together.
fn key(event: &ReportedEvent) -> String {
    let mut hash = Sha256::new();
    hash.update((event.source.len() as u64).to_le_bytes());
    hash.update(&event.source);
    hash.update(&event.id);
    hex::encode(hash.finalize())
}
