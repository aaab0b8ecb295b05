//! JSON to document bytes.

use std::collections::BTreeSet;
use std::error::Error;

use firebackup_model::Timestamp;
use firebackup_model::document::{CREATE_TIME_FIELD, FIELDS_FIELD, NAME_FIELD, UPDATE_TIME_FIELD};
use firebackup_model::wire::put_bytes_field;
use serde::de::Deserialize;
use serde_json::value::RawValue;

use super::place::Place;
use super::{INFINITY, NAN, NEGATIVE_INFINITY, OUT_OF_RANGE, SECONDS, kind_name, member};
use crate::document_value::{
    ARRAY_VALUES, MAP_FIELDS, entry_message, kind, moment_message, point_message, put_double_field, put_varint_field,
};
use crate::lenient_json::{Members, any_base64};

/// JSON that is no document, and where in it the reason lies.
#[derive(Debug, thiserror::Error)]
#[error("could not read a document from json: {place} {reason}")]
pub struct ReadJsonError {
    place: String,
    reason: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ReadJsonError {
    fn new(place: &Place<'_>, reason: impl Into<String>) -> Self {
        Self { place: place.to_string(), reason: reason.into(), source: None }
    }

    fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

type Result<T, E = ReadJsonError> = std::result::Result<T, E>;

/// The `google.firestore.v1.Document` that `json` describes, its map entries in the order of the JSON.
///
/// Takes what [`write_json`](super::write_json) writes and, as Firestore does, integers that are numbers, empty members
/// that are spelled out, and bytes in base64 of either alphabet, padded or not.
///
/// # Errors
/// When it is no JSON, has a member that is not known or stands twice, a value that does not fit its kind, or values
/// deeper than 64 levels.
pub fn read_json(json: &str) -> Result<Vec<u8>, ReadJsonError> {
    let json: &RawValue = serde_json::from_str(json)
        .map_err(|source| ReadJsonError::new(&Place::DOCUMENT, "is no json").with_source(source))?;
    let names = [member::NAME, member::FIELDS, member::CREATE_TIME, member::UPDATE_TIME];
    let [name, fields, create_time, update_time] = members(json, names, &Place::DOCUMENT)?;
    let mut out = Vec::with_capacity(json.get().len() / 2);
    if let Some(name) = name {
        let name = text(name, &Place::member(member::NAME))?;
        // protobuf knows no difference between an empty name and none
        if !name.is_empty() {
            put_bytes_field(&mut out, NAME_FIELD, name.as_bytes());
        }
    }
    if let Some(fields) = fields {
        put_entries(&mut out, FIELDS_FIELD, fields, &Place::DOCUMENT)?;
    }
    let times =
        [(CREATE_TIME_FIELD, member::CREATE_TIME, create_time), (UPDATE_TIME_FIELD, member::UPDATE_TIME, update_time)];
    for (number, name, time) in times {
        if let Some(time) = time {
            put_bytes_field(&mut out, number, &moment(time, &Place::member(name))?);
        }
    }
    Ok(out)
}

fn put_entries(out: &mut Vec<u8>, number: u32, json: &RawValue, place: &Place<'_>) -> Result<()> {
    for (key, json) in object(json, place)? {
        let value = value(json, &place.field(&key))?;
        put_bytes_field(out, number, &entry_message(key.as_bytes(), &value));
    }
    Ok(())
}

fn value(json: &RawValue, place: &Place<'_>) -> Result<Vec<u8>> {
    if place.is_too_deep() {
        return Err(ReadJsonError::new(place, "lies too deep"));
    }
    let [(name, json)] = <[_; 1]>::try_from(object(json, place)?)
        .map_err(|members| ReadJsonError::new(place, format!("must name one kind of value, not {}", members.len())))?;
    let mut out = Vec::with_capacity(json.get().len() + 4);
    match name.as_str() {
        kind_name::NULL => put_varint_field(&mut out, kind::NULL, null(json, place)?),
        kind_name::BOOLEAN => {
            put_varint_field(&mut out, kind::BOOLEAN, parse::<bool>(json, place, "a boolean")?.into())
        }
        kind_name::INTEGER => put_varint_field(&mut out, kind::INTEGER, integer(json, place)? as u64),
        kind_name::DOUBLE => put_double_field(&mut out, kind::DOUBLE, double(json, place)?.to_bits()),
        kind_name::TIMESTAMP => put_bytes_field(&mut out, kind::TIMESTAMP, &moment(json, place)?),
        kind_name::STRING => put_bytes_field(&mut out, kind::STRING, text(json, place)?.as_bytes()),
        kind_name::BYTES => put_bytes_field(&mut out, kind::BYTES, &bytes(json, place)?),
        kind_name::REFERENCE => put_bytes_field(&mut out, kind::REFERENCE, text(json, place)?.as_bytes()),
        kind_name::GEO_POINT => put_bytes_field(&mut out, kind::GEO_POINT, &point(json, place)?),
        kind_name::ARRAY => put_bytes_field(&mut out, kind::ARRAY, &array(json, place)?),
        kind_name::MAP => put_bytes_field(&mut out, kind::MAP, &map(json, place)?),
        _ => return Err(ReadJsonError::new(place, format!("holds a value of an unknown kind ({name:?})"))),
    }
    Ok(out)
}

fn map(json: &RawValue, place: &Place<'_>) -> Result<Vec<u8>> {
    let [fields] = members(json, [member::FIELDS], place)?;
    let mut out = Vec::new();
    if let Some(fields) = fields {
        put_entries(&mut out, MAP_FIELDS, fields, place)?;
    }
    Ok(out)
}

fn array(json: &RawValue, place: &Place<'_>) -> Result<Vec<u8>> {
    let [values] = members(json, [member::VALUES], place)?;
    let values: Vec<&RawValue> =
        values.map(|values| parse(values, place, "an array of values")).transpose()?.unwrap_or_default();
    let mut out = Vec::new();
    for (index, json) in values.into_iter().enumerate() {
        put_bytes_field(&mut out, ARRAY_VALUES, &value(json, &place.element(index))?);
    }
    Ok(out)
}

fn point(json: &RawValue, place: &Place<'_>) -> Result<Vec<u8>> {
    let coordinates = members(json, [member::LATITUDE, member::LONGITUDE], place)?;
    let bits = |json: Option<&RawValue>| json.map_or(Ok(0), |json| double(json, place).map(f64::to_bits));
    Ok(point_message(bits(coordinates[0])?, bits(coordinates[1])?))
}

fn moment(json: &RawValue, place: &Place<'_>) -> Result<Vec<u8>> {
    let moment: Timestamp = parse(json, place, "an RFC 3339 time")?;
    match i32::try_from(moment.nanos) {
        Ok(nanos) if SECONDS.contains(&moment.seconds) => Ok(moment_message(moment.seconds, nanos)),
        _ => Err(ReadJsonError::new(place, OUT_OF_RANGE)),
    }
}

fn null(json: &RawValue, place: &Place<'_>) -> Result<u64> {
    match json.get() {
        "null" | r#""NULL_VALUE""# => Ok(0),
        _ => Err(ReadJsonError::new(place, "must hold null")),
    }
}

fn integer(json: &RawValue, place: &Place<'_>) -> Result<i64> {
    let digits = if is_text(json) { text(json, place)? } else { json.get().to_owned() };
    digits.parse().map_err(|source| ReadJsonError::new(place, "must hold a 64-bit integer").with_source(source))
}

/// Reads a double from the number's own text: the parser of `serde_json` may miss the nearest one by a bit.
fn double(json: &RawValue, place: &Place<'_>) -> Result<f64> {
    let error = || ReadJsonError::new(place, "must hold a finite number, \"NaN\", \"Infinity\" or \"-Infinity\"");
    if is_text(json) {
        return match text(json, place)?.as_str() {
            NAN => Ok(f64::NAN),
            INFINITY => Ok(f64::INFINITY),
            NEGATIVE_INFINITY => Ok(f64::NEG_INFINITY),
            _ => Err(error()),
        };
    }
    json.get().parse().ok().filter(|double: &f64| double.is_finite()).ok_or_else(error)
}

fn bytes(json: &RawValue, place: &Place<'_>) -> Result<Vec<u8>> {
    any_base64(&text(json, place)?)
        .map_err(|source| ReadJsonError::new(place, "must hold bytes in base64").with_source(source))
}

fn text(json: &RawValue, place: &Place<'_>) -> Result<String> {
    parse(json, place, "text")
}

fn is_text(json: &RawValue) -> bool {
    json.get().starts_with('"')
}

fn parse<'j, T: Deserialize<'j>>(json: &'j RawValue, place: &Place<'_>, expected: &str) -> Result<T> {
    serde_json::from_str(json.get())
        .map_err(|source| ReadJsonError::new(place, format!("must hold {expected}")).with_source(source))
}

/// The values of the members named; nothing where one is absent. Any other member is an error.
fn members<'j, const N: usize>(
    json: &'j RawValue,
    names: [&str; N],
    place: &Place<'_>,
) -> Result<[Option<&'j RawValue>; N]> {
    let mut values = [None; N];
    for (key, json) in object(json, place)? {
        match names.iter().position(|name| *name == key) {
            Some(index) => values[index] = Some(json),
            None => return Err(ReadJsonError::new(place, format!("has an unknown member ({key:?})"))),
        }
    }
    Ok(values)
}

/// The members of an object in their order, each name once, their values unread.
///
/// Reading one level at a time keeps the depth that is allowed in one place, [`Place`]: a parser that went down by itself
/// would stop at a depth of its own.
fn object<'j>(json: &'j RawValue, place: &Place<'_>) -> Result<Vec<(String, &'j RawValue)>> {
    let Members(members) = parse(json, place, "an object")?;
    let mut names = BTreeSet::new();
    match members.iter().find(|(name, _)| !names.insert(name)) {
        None => Ok(members),
        Some((name, _)) => Err(ReadJsonError::new(place, format!("has a member twice ({name:?})"))),
    }
}
