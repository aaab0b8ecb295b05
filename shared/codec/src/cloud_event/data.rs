//! An event's data: the document after the change and the one before, as wire bytes.

use std::borrow::Cow;

use bytes::Bytes;
use firebackup_model::wire::{Fields, Value};
use serde_json::value::RawValue;

use super::EventError;
use crate::document_value::merge;
use crate::lenient_json::Members;
use crate::typed_json::read_json;

/// Field number of `DocumentEventData.value`.
const VALUE: u32 = 1;
/// Field number of `DocumentEventData.old_value`.
const OLD_VALUE: u32 = 2;

/// How data is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Protobuf,
    Json,
}

impl Form {
    /// A content type without its parameters, in lower case.
    pub(super) fn essence(content_type: &str) -> String {
        content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    pub(super) fn of(essence: &str) -> Result<Self, EventError> {
        match essence {
            "application/protobuf" | "application/x-protobuf" => Ok(Self::Protobuf),
            "application/json" => Ok(Self::Json),
            other => Err(EventError::UnknownContent(other.chars().take(200).collect())),
        }
    }
}

/// The bytes of an event's data.
pub(super) struct Content<'b> {
    pub(super) form: Form,
    pub(super) bytes: Cow<'b, [u8]>,
}

/// The documents of an event; an empty one is none.
#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) value: Option<Bytes>,
    pub(super) old_value: Option<Bytes>,
}

impl<'b> Content<'b> {
    pub(super) const fn new(form: Form, bytes: &'b [u8]) -> Self {
        Self { form, bytes: Cow::Borrowed(bytes) }
    }

    /// Takes the documents out. What the data holds besides (which fields were changed, what came after this program) is read over.
    pub(super) fn read(&self) -> Result<Data, EventError> {
        let Data { value, old_value } = match self.form {
            Form::Protobuf => from_protobuf(&self.bytes)?,
            Form::Json => from_json(&self.bytes)?,
        };
        let filled = |document: &Bytes| !document.is_empty();
        Ok(Data { value: value.filter(filled), old_value: old_value.filter(filled) })
    }
}

fn from_protobuf(message: &[u8]) -> Result<Data, EventError> {
    let malformed = |source| EventError::caused("data", "is malformed", source);
    let (mut value, mut old_value) = (None, None);
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next().map_err(malformed)? {
        match (field.number, field.value) {
            (VALUE, Value::Bytes(part)) => merge(&mut value, part).map_err(malformed)?,
            (OLD_VALUE, Value::Bytes(part)) => merge(&mut old_value, part).map_err(malformed)?,
            _ => {}
        }
    }
    let bytes = |document: Option<Cow<'_, [u8]>>| document.map(|document| Bytes::from(document.into_owned()));
    Ok(Data { value: bytes(value), old_value: bytes(old_value) })
}

fn from_json(json: &[u8]) -> Result<Data, EventError> {
    let Members(members) =
        serde_json::from_slice(json).map_err(|source| EventError::caused("data", "is no json object", source))?;
    let mut data = Data::default();
    for (name, json) in members {
        let (part, place) = match name.as_str() {
            "value" => ("value", &mut data.value),
            "oldValue" | "old_value" => ("old value", &mut data.old_value),
            _ => continue,
        };
        if place.is_some() {
            return Err(EventError::wrong(part, "stands twice"));
        }
        *place = Some(document(json, part)?);
    }
    Ok(data)
}

fn document(json: &RawValue, part: &'static str) -> Result<Bytes, EventError> {
    if json.get() == "null" {
        return Ok(Bytes::new());
    }
    let document = read_json(json.get()).map_err(|source| EventError::Json { part, source })?;
    Ok(document.into())
}
