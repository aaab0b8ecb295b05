//! An event as it is kept until it is folded: what was understood of it, and nothing else that was posted.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_model::reported::{ReportedChange, ReportedDocument, ReportedEvent};
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use serde::{Deserialize, Serialize};

use super::EventError;

#[derive(Serialize, Deserialize)]
struct Packed<'e> {
    id: Cow<'e, str>,
    source: Cow<'e, str>,
    database: Cow<'e, DatabaseName>,
    path: Cow<'e, DocumentPath>,
    time: Timestamp,
    /// Nothing where the document is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    put: Option<PackedDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<PackedDocument>,
}

#[derive(Serialize, Deserialize)]
struct PackedDocument {
    /// Base64 of its wire bytes.
    document: String,
    update_time: Timestamp,
}

impl PackedDocument {
    fn of(document: &ReportedDocument) -> Self {
        Self { document: STANDARD.encode(&document.document), update_time: document.update_time }
    }

    fn unpacked(&self) -> Result<ReportedDocument, EventError> {
        let document = STANDARD.decode(&self.document).map_err(broken)?.into();
        Ok(ReportedDocument { document, update_time: self.update_time })
    }
}

fn broken(source: impl std::error::Error + Send + Sync + 'static) -> EventError {
    EventError::caused("copy", "cannot be read", source)
}

/// An event as bytes.
///
/// # Errors
/// Never of an event that was read.
pub fn pack(event: &ReportedEvent) -> Result<Vec<u8>, EventError> {
    let packed = Packed {
        id: Cow::Borrowed(&event.id),
        source: Cow::Borrowed(&event.source),
        database: Cow::Borrowed(&event.database),
        path: Cow::Borrowed(&event.path),
        time: event.time,
        put: match &event.change {
            ReportedChange::Put(document) => Some(PackedDocument::of(document)),
            ReportedChange::Gone => None,
        },
        before: event.before.as_ref().map(PackedDocument::of),
    };
    serde_json::to_vec(&packed).map_err(broken)
}

/// The event that was [packed](pack).
///
/// # Errors
/// When it was not.
pub fn unpack(bytes: &[u8]) -> Result<ReportedEvent, EventError> {
    let packed: Packed<'_> = serde_json::from_slice(bytes).map_err(broken)?;
    Ok(ReportedEvent {
        change: match &packed.put {
            Some(document) => ReportedChange::Put(document.unpacked()?),
            None => ReportedChange::Gone,
        },
        before: packed.before.as_ref().map(PackedDocument::unpacked).transpose()?,
        id: packed.id.into_owned(),
        source: packed.source.into_owned(),
        database: packed.database.into_owned(),
        path: packed.path.into_owned(),
        time: packed.time,
    })
}
