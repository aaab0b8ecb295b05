//! A Firestore document as opaque protobuf bytes (`google.firestore.v1.Document`).

use bytes::Bytes;

use crate::timestamp::Timestamp;
use crate::wire::{Fields, Value, WireError};

/// Field number of `Document.name`.
pub const NAME_FIELD: u32 = 1;
/// Field number of the map `Document.fields`.
pub const FIELDS_FIELD: u32 = 2;
/// Field number of `Document.create_time`.
pub const CREATE_TIME_FIELD: u32 = 3;
/// Field number of `Document.update_time`.
pub const UPDATE_TIME_FIELD: u32 = 4;

/// A document's bytes as they came from the server. They may be a slice of a receive buffer: copy what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawDocument(pub Bytes);

/// The little of a document that FireBackup looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentHead<'a> {
    /// The full resource name.
    pub name: &'a str,
    /// When the server says it was created.
    pub create_time: Option<Timestamp>,
    /// When the server says it was last changed.
    pub update_time: Option<Timestamp>,
}

/// Why bytes are not a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The protobuf is malformed.
    #[error("document bytes are malformed")]
    Wire(#[from] WireError),
    /// There is no name, or it is not UTF-8.
    #[error("document bytes hold no readable name")]
    Name,
}

impl RawDocument {
    /// Reads name and times.
    ///
    /// # Errors
    /// When the bytes are no document.
    pub fn head(&self) -> Result<DocumentHead<'_>, DocumentError> {
        head(&self.0)
    }
}

/// Reads name and times of document bytes; as in protobuf, the last of several values counts.
///
/// # Errors
/// When the bytes are no document.
pub fn head(document: &[u8]) -> Result<DocumentHead<'_>, DocumentError> {
    let (mut name, mut create_time, mut update_time) = (None, None, None);
    let mut fields = Fields::of(document);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (NAME_FIELD, Value::Bytes(bytes)) => name = Some(bytes),
            (CREATE_TIME_FIELD, Value::Bytes(bytes)) => create_time = Some(timestamp(bytes)?),
            (UPDATE_TIME_FIELD, Value::Bytes(bytes)) => update_time = Some(timestamp(bytes)?),
            _ => {}
        }
    }
    let name = name.and_then(|name| std::str::from_utf8(name).ok()).ok_or(DocumentError::Name)?;
    Ok(DocumentHead { name, create_time, update_time })
}

/// Reads a `google.protobuf.Timestamp`.
///
/// # Errors
/// When the bytes are malformed.
pub fn timestamp(message: &[u8]) -> Result<Timestamp, WireError> {
    let mut moment = Timestamp::default();
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, Value::Varint(seconds)) => moment.seconds = seconds as i64,
            (2, Value::Varint(nanos)) => moment.nanos = (nanos as u32).min(999_999_999),
            _ => {}
        }
    }
    Ok(moment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_bytes_field;

    #[test]
    fn reads_name_and_times_whatever_their_order() {
        let mut document = Vec::new();
        put_bytes_field(&mut document, UPDATE_TIME_FIELD, &[0x08, 5, 0x10, 7]);
        put_bytes_field(&mut document, 99, b"unknown");
        put_bytes_field(&mut document, NAME_FIELD, b"projects/p/databases/d/documents/a/b");
        let head = head(&document).unwrap();
        assert_eq!(head.name, "projects/p/databases/d/documents/a/b");
        assert_eq!(head.update_time, Some(Timestamp::new(5, 7)));
        assert_eq!(head.create_time, None);
    }

    #[test]
    fn refuses_bytes_without_a_name() {
        assert_eq!(head(&[]), Err(DocumentError::Name));
        assert_eq!(head(&[0x0a, 1, 0xff]), Err(DocumentError::Name));
        assert!(matches!(head(&[0x0a, 9]), Err(DocumentError::Wire(_))));
    }
}
