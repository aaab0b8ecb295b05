//! Events as Pub/Sub pushes them: wrapped in a JSON object with the attributes of the message, or with those as headers.

use std::collections::BTreeMap;

use firebackup_model::reported::ReportedEvent;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::attributes::Envelope;
use super::data::Form;
use super::{EventError, check_size, read};
use crate::lenient_json::any_base64;

/// What Pub/Sub posts of a message that it does not unwrap. Its `message` is read on its own: other events have none.
#[derive(Deserialize)]
struct Wrapper<'b> {
    #[serde(borrow)]
    message: &'b RawValue,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    data: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

/// As [`read_event`](super::read_event), also of an event that Pub/Sub pushes wrapped.
///
/// # Errors
/// As [`read_event`](super::read_event).
pub fn read_posted<'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    body: &[u8],
) -> Result<ReportedEvent, EventError> {
    check_size(body)?;
    let headers: Vec<_> = headers.into_iter().collect();
    let Some(message) = wrapped(&headers, body)? else { return read(Envelope::open(headers, body, true)?) };
    let data = any_base64(&message.data).map_err(|source| EventError::caused("body", "is no base64", source))?;
    let attributes = message.attributes.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    // attributes of messages are text, and encoded in no way
    read(Envelope::open(attributes, &data, false)?)
}

/// The message, where there is one: a JSON object of its own, and no attribute of an event beside it.
fn wrapped(headers: &[(&str, &[u8])], body: &[u8]) -> Result<Option<Message>, EventError> {
    let find =
        |name: &str| headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    let content_type = find("content-type").and_then(|value| std::str::from_utf8(value).ok());
    let is_json = content_type.is_some_and(|content_type| Form::essence(content_type) == "application/json");
    if !is_json || find("ce-id").is_some() {
        return Ok(None);
    }
    let Ok(Wrapper { message }) = serde_json::from_slice(body) else { return Ok(None) };
    let message = serde_json::from_str(message.get());
    message.map(Some).map_err(|source| EventError::caused("body", "is no message of Pub/Sub", source))
}
