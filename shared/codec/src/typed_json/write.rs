//! Document bytes to JSON.

use std::error::Error;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_model::Timestamp;
use firebackup_model::wire::WireError;
use serde::Serialize;

use super::place::Place;
use super::{INFINITY, NAN, NEGATIVE_INFINITY, OUT_OF_RANGE, SECONDS, kind_name, member};
use crate::document_value::{
    Entry, Member, Unknown, read_array, read_document, read_map, read_moment, read_point, read_value,
};

/// A document that cannot be written as JSON, and where in it the reason lies.
#[derive(Debug, thiserror::Error)]
#[error("could not write a document as json: {place} {reason}")]
pub struct WriteJsonError {
    place: String,
    reason: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl WriteJsonError {
    fn new(place: &Place<'_>, reason: impl Into<String>) -> Self {
        Self { place: place.to_string(), reason: reason.into(), source: None }
    }

    fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

type Result<T = (), E = WriteJsonError> = std::result::Result<T, E>;

/// Appends the JSON of `document`, a `google.firestore.v1.Document`, to `out`, on one line without spaces.
///
/// Fields stand in the order of the bytes; of several entries of one key, the last counts.
///
/// # Errors
/// When the document is malformed, nests deeper than 64 levels or holds what JSON cannot; `out` is then as it was.
pub fn write_json(document: &[u8], out: &mut Vec<u8>) -> Result<(), WriteJsonError> {
    let before = out.len();
    let written = put_document(document, out);
    if written.is_err() {
        out.truncate(before);
    }
    written
}

fn put_document(message: &[u8], out: &mut Vec<u8>) -> Result {
    let document = read_document(message).map_err(|source| malformed(&Place::DOCUMENT, source))?;
    refuse_unknown(&document.unknown, &Place::DOCUMENT)?;
    let mut object = Object::open(out);
    if !document.name.is_empty() {
        put_text(document.name, &Place::member(member::NAME), object.member(member::NAME))?;
    }
    put_fields(&document.fields, &Place::DOCUMENT, &mut object)?;
    for (name, time) in [(member::CREATE_TIME, document.create_time), (member::UPDATE_TIME, document.update_time)] {
        if let Some(time) = time {
            put_moment(&time, &Place::member(name), object.member(name))?;
        }
    }
    object.close();
    Ok(())
}

/// Writes the member that holds entries, unless there are none.
fn put_fields(entries: &[Entry<'_>], place: &Place<'_>, object: &mut Object<'_>) -> Result {
    if entries.is_empty() {
        return Ok(());
    }
    let mut fields = Object::open(object.member(member::FIELDS));
    for entry in entries {
        let key = std::str::from_utf8(entry.key)
            .map_err(|source| WriteJsonError::new(place, "holds a key that is not UTF-8").with_source(source))?;
        let place = place.field(key);
        refuse_unknown(&entry.unknown, &place)?;
        fields.separate();
        put_json(key, &place, fields.out)?;
        fields.out.push(b':');
        put_value(&entry.value, &place, fields.out)?;
    }
    fields.close();
    Ok(())
}

fn put_value(message: &[u8], place: &Place<'_>, out: &mut Vec<u8>) -> Result {
    if place.is_too_deep() {
        return Err(WriteJsonError::new(place, "lies too deep"));
    }
    let value = read_value(message).map_err(|source| malformed(place, source))?;
    if let Some((number, _)) = value.unknown.first() {
        return Err(WriteJsonError::new(place, format!("holds a value of an unknown kind (number {number})")));
    }
    let member = value.member.ok_or_else(|| WriteJsonError::new(place, "holds no value"))?;
    let mut object = Object::open(out);
    match member {
        Member::Null => put_json(&(), place, object.member(kind_name::NULL))?,
        Member::Boolean(boolean) => put_json(&boolean, place, object.member(kind_name::BOOLEAN))?,
        Member::Integer(integer) => put_json(&integer.to_string(), place, object.member(kind_name::INTEGER))?,
        Member::Double(bits) => put_double(bits, place, object.member(kind_name::DOUBLE))?,
        Member::Timestamp(time) => put_moment(&time, place, object.member(kind_name::TIMESTAMP))?,
        Member::String(text) => put_text(text, place, object.member(kind_name::STRING))?,
        Member::Bytes(bytes) => put_json(&STANDARD.encode(bytes), place, object.member(kind_name::BYTES))?,
        Member::Reference(name) => put_text(name, place, object.member(kind_name::REFERENCE))?,
        Member::GeoPoint(point) => put_point(&point, place, object.member(kind_name::GEO_POINT))?,
        Member::Array(array) => put_array(&array, place, object.member(kind_name::ARRAY))?,
        Member::Map(map) => put_map(&map, place, object.member(kind_name::MAP))?,
    }
    object.close();
    Ok(())
}

fn put_map(message: &[u8], place: &Place<'_>, out: &mut Vec<u8>) -> Result {
    let (entries, unknown) = read_map(message).map_err(|source| malformed(place, source))?;
    refuse_unknown(&unknown, place)?;
    let mut object = Object::open(out);
    put_fields(&entries, place, &mut object)?;
    object.close();
    Ok(())
}

fn put_array(message: &[u8], place: &Place<'_>, out: &mut Vec<u8>) -> Result {
    let (values, unknown) = read_array(message).map_err(|source| malformed(place, source))?;
    refuse_unknown(&unknown, place)?;
    let mut object = Object::open(out);
    if !values.is_empty() {
        let out = object.member(member::VALUES);
        out.push(b'[');
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            put_value(value, &place.element(index), out)?;
        }
        out.push(b']');
    }
    object.close();
    Ok(())
}

fn put_moment(message: &[u8], place: &Place<'_>, out: &mut Vec<u8>) -> Result {
    let moment = read_moment(message).map_err(|source| malformed(place, source))?;
    refuse_unknown(&moment.unknown, place)?;
    let nanos = u32::try_from(moment.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match nanos {
        Some(nanos) if SECONDS.contains(&moment.seconds) => {
            put_json(&Timestamp::new(moment.seconds, nanos), place, out)
        }
        _ => Err(WriteJsonError::new(place, OUT_OF_RANGE)),
    }
}

fn put_point(message: &[u8], place: &Place<'_>, out: &mut Vec<u8>) -> Result {
    let point = read_point(message).map_err(|source| malformed(place, source))?;
    refuse_unknown(&point.unknown, place)?;
    let mut object = Object::open(out);
    put_double(point.latitude, place, object.member(member::LATITUDE))?;
    put_double(point.longitude, place, object.member(member::LONGITUDE))?;
    object.close();
    Ok(())
}

fn put_double(bits: u64, place: &Place<'_>, out: &mut Vec<u8>) -> Result {
    let double = f64::from_bits(bits);
    match double {
        _ if double.is_nan() => put_json(NAN, place, out),
        f64::INFINITY => put_json(INFINITY, place, out),
        f64::NEG_INFINITY => put_json(NEGATIVE_INFINITY, place, out),
        _ => put_json(&double, place, out),
    }
}

fn put_text(text: &[u8], place: &Place<'_>, out: &mut Vec<u8>) -> Result {
    let text = std::str::from_utf8(text)
        .map_err(|source| WriteJsonError::new(place, "holds text that is not UTF-8").with_source(source))?;
    put_json(text, place, out)
}

fn put_json(value: &(impl Serialize + ?Sized), place: &Place<'_>, out: &mut Vec<u8>) -> Result {
    serde_json::to_writer(out, value)
        .map_err(|source| WriteJsonError::new(place, "has no json form").with_source(source))
}

fn malformed(place: &Place<'_>, source: WireError) -> WriteJsonError {
    WriteJsonError::new(place, "is malformed").with_source(source)
}

fn refuse_unknown(unknown: &Unknown<'_>, place: &Place<'_>) -> Result {
    match unknown.first() {
        None => Ok(()),
        Some((number, _)) => Err(WriteJsonError::new(place, format!("holds an unknown protobuf field ({number})"))),
    }
}

/// A JSON object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Begins a member of a name that needs no escaping: where its value goes.
    fn member(&mut self, name: &str) -> &mut Vec<u8> {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
    }

    fn close(self) {
        self.out.push(b'}');
    }
}
