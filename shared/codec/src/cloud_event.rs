//! Firestore's events of changed documents, as Eventarc posts them: CloudEvents 1.0 over HTTP, one a request.
//!
//! In *binary* mode the attributes are headers (`ce-id`, …) and the body is the data; in *structured* mode the body is a JSON object
//! that holds both. The data is a `google.events.cloud.firestore.v1.DocumentEventData`, in protobuf or in protobuf's JSON. Its
//! documents have the field numbers of `google.firestore.v1.Document`, so that those in protobuf are taken as they are; of JSON the
//! same bytes are made by [`typed_json`](crate::typed_json).
//!
//! No crate for CloudEvents is used: what they offer is the envelope, a dozen attributes, and they read JSON data into values that
//! round large numbers and forget members that stand twice.
//!
//! What says who made the change (`authtype`, `authid`) is read over: it is neither kept nor repeated in an error.

mod attributes;
mod data;
mod packed;
mod posted;

use std::error::Error;

use bytes::Bytes;
use firebackup_model::document::{DocumentError, head};
use firebackup_model::reported::{ReportedChange, ReportedDocument, ReportedEvent};
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};

use crate::limit::{MAX_BODY, MAX_EVENT};
use crate::typed_json::ReadJsonError;
use attributes::{Attributes, Envelope, name};
use data::Data;

pub use packed::{pack, unpack};
pub use posted::read_posted;

/// Why what was posted is no event that can be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// More bytes than an event may have.
    #[error("the event's {part} has {bytes} bytes: at most {limit} are read")]
    TooLarge {
        /// Which part of it.
        part: &'static str,
        /// Its bytes.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// It tells of something else. Whoever posts it does so in vain however often.
    #[error(
        "events of type {0:?} are not taken: only those of documents that were created, updated, deleted or written"
    )]
    UnknownType(String),
    /// Its data is in a form that is not known.
    #[error("data of type {0:?} is not read: only protobuf and json are, of one event at a time")]
    UnknownContent(String),
    /// An attribute that every event has is not there.
    #[error("the event has no {0}")]
    Missing(&'static str),
    /// Something is there that cannot be.
    #[error("the event's {part} {reason}")]
    Wrong {
        /// Which part of it.
        part: &'static str,
        /// What is wrong with it.
        reason: &'static str,
        /// What the reader of that part said.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A document in JSON cannot be read.
    #[error("the event's {part} cannot be read")]
    Json {
        /// Which of the two documents.
        part: &'static str,
        /// Why.
        #[source]
        source: ReadJsonError,
    },
    /// A document in protobuf cannot be read.
    #[error("the event's {part} cannot be read")]
    Document {
        /// Which of the two documents.
        part: &'static str,
        /// Why.
        #[source]
        source: DocumentError,
    },
}

impl EventError {
    const fn wrong(part: &'static str, reason: &'static str) -> Self {
        Self::Wrong { part, reason, source: None }
    }

    fn caused(part: &'static str, reason: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Wrong { part, reason, source: Some(Box::new(source)) }
    }
}

/// The kinds of events, by the end of their type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Created,
    Updated,
    Deleted,
    /// One of the three.
    Written,
}

impl Told {
    fn of(kind: &str) -> Result<Self, EventError> {
        let told = kind.strip_prefix("google.cloud.firestore.document.v1.").unwrap_or_default();
        match told.strip_suffix(".withAuthContext").unwrap_or(told) {
            "created" => Ok(Self::Created),
            "updated" => Ok(Self::Updated),
            "deleted" => Ok(Self::Deleted),
            "written" => Ok(Self::Written),
            _ => Err(EventError::UnknownType(kind.chars().take(200).collect())),
        }
    }
}

/// Reads the event that a request holds, given by its headers (names in any case) and its body.
///
/// # Errors
/// When it is no event of a changed document, is cut, contradicts itself about which document it tells of, or passes a limit.
pub fn read_event<'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    body: &[u8],
) -> Result<ReportedEvent, EventError> {
    check_size(body)?;
    read(Envelope::open(headers, body, true)?)
}

fn check_size(body: &[u8]) -> Result<(), EventError> {
    match body.len() {
        bytes if bytes > MAX_EVENT => Err(EventError::TooLarge { part: "body", bytes, limit: MAX_EVENT }),
        _ => Ok(()),
    }
}

fn read(Envelope { attributes, content }: Envelope<'_>) -> Result<ReportedEvent, EventError> {
    match attributes.required(name::SPEC_VERSION)?.as_ref() {
        "1.0" => {}
        _ => return Err(EventError::wrong(name::SPEC_VERSION, "is not 1.0")),
    }
    let told = Told::of(&attributes.required(name::TYPE)?)?;
    let source = attributes.required(name::SOURCE)?.into_owned();
    let database = database(&attributes, &source)?;
    let time = time(&attributes.required(name::TIME)?)?;
    let Data { value, old_value } = content.read()?;
    let value = value.map(|bytes| document(&database, bytes, "value")).transpose()?;
    let old_value = old_value.map(|bytes| document(&database, bytes, "old value")).transpose()?;
    let path = path(&attributes, value.as_ref(), old_value.as_ref())?;
    let change = change(told, value)?;
    let since = if let ReportedChange::Put(document) = &change { document.update_time } else { time };
    // of a document that was no older, or of which it is not known, nothing is learned
    let before = old_value.and_then(Named::dated).filter(|before| before.update_time < since);
    let id = attributes.required(name::ID)?.into_owned();
    Ok(ReportedEvent { id, source, database, path, time, change, before })
}

fn database(attributes: &Attributes, source: &str) -> Result<DatabaseName, EventError> {
    let named =
        source.strip_prefix("//firestore.googleapis.com/projects/").and_then(|rest| rest.split_once("/databases/"));
    let named = named.filter(|(project, database)| {
        !project.is_empty() && !database.is_empty() && !project.contains('/') && !database.contains('/')
    });
    let (project, database) = named.ok_or_else(|| EventError::wrong(name::SOURCE, "names no database of Firestore"))?;
    for (attribute, expected) in [(name::PROJECT, project), (name::DATABASE, database)] {
        if attributes.get(attribute).is_some_and(|said| said != expected) {
            return Err(EventError::wrong(attribute, "is not the one of its source"));
        }
    }
    Ok(DatabaseName::new(project, database))
}

fn time(text: &str) -> Result<Timestamp, EventError> {
    text.parse().map_err(|source| EventError::caused(name::TIME, "is no RFC 3339 time", source))
}

/// A document with the path that its name says.
struct Named {
    path: DocumentPath,
    bytes: Bytes,
    update_time: Option<Timestamp>,
}

impl Named {
    fn dated(self) -> Option<ReportedDocument> {
        self.update_time.map(|update_time| ReportedDocument { document: self.bytes, update_time })
    }
}

fn document(database: &DatabaseName, bytes: Bytes, part: &'static str) -> Result<Named, EventError> {
    if bytes.len() > MAX_BODY {
        return Err(EventError::TooLarge { part, bytes: bytes.len(), limit: MAX_BODY });
    }
    let head = head(&bytes).map_err(|source| EventError::Document { part, source })?;
    let path = database
        .path_of(head.name)
        .map_err(|source| EventError::caused(part, "is no document of the event's database", source))?;
    let update_time = head.update_time;
    Ok(Named { path, bytes, update_time })
}

/// The path that everything in the event agrees on.
fn path(attributes: &Attributes, value: Option<&Named>, old: Option<&Named>) -> Result<DocumentPath, EventError> {
    let mut names = [value, old].into_iter().flatten().map(|named| &named.path);
    let path = match names.next() {
        Some(path) if names.any(|other| other != path) => {
            return Err(EventError::wrong("old value", "is another document than its value"));
        }
        Some(path) => path.clone(),
        None => attributes.document()?,
    };
    attributes.agree_on(&path)?;
    Ok(path)
}

fn change(told: Told, value: Option<Named>) -> Result<ReportedChange, EventError> {
    match (told, value) {
        (Told::Deleted | Told::Written, None) => Ok(ReportedChange::Gone),
        (Told::Deleted, Some(_)) => Err(EventError::wrong("value", "is there, though the document was deleted")),
        (Told::Created | Told::Updated, None) => Err(EventError::Missing("value")),
        (_, Some(value)) => match value.dated() {
            Some(document) => Ok(ReportedChange::Put(document)),
            None => Err(EventError::wrong("value", "does not say when it was written")),
        },
    }
}

#[cfg(test)]
mod tests;
