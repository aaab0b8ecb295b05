//! Firestore's `Document` and `Value` messages, taken apart one level at a time and put together again.
//!
//! The readers here do what every protobuf reader does with unusual bytes, without decoding what lies below: the last
//! of several scalars counts, the parts of a message that was sent in pieces are merged, the last map entry of a key
//! wins. What they do not know they hand back raw, so that a caller can keep it or refuse it, but never lose it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use firebackup_model::document::{CREATE_TIME_FIELD, FIELDS_FIELD, NAME_FIELD, UPDATE_TIME_FIELD};
use firebackup_model::wire::{Field, Fields, Value as Wire, WireError, put_bytes_field, put_varint};

/// How many values may lie in one another, the value of a document's field being the first. Firestore stops at 20, and
/// a protobuf reader's usual 100 nested messages at 33 maps: what is deeper was not written by either.
pub(crate) const MAX_DEPTH: usize = 64;

/// Field numbers of `Value`.
pub(crate) mod kind {
    pub(crate) const BOOLEAN: u32 = 1;
    pub(crate) const INTEGER: u32 = 2;
    pub(crate) const DOUBLE: u32 = 3;
    pub(crate) const REFERENCE: u32 = 5;
    pub(crate) const MAP: u32 = 6;
    pub(crate) const GEO_POINT: u32 = 8;
    pub(crate) const ARRAY: u32 = 9;
    pub(crate) const TIMESTAMP: u32 = 10;
    pub(crate) const NULL: u32 = 11;
    pub(crate) const STRING: u32 = 17;
    pub(crate) const BYTES: u32 = 18;
}

/// Field number of `MapValue.fields`.
pub(crate) const MAP_FIELDS: u32 = 1;
/// Field number of `ArrayValue.values`.
pub(crate) const ARRAY_VALUES: u32 = 1;
/// Field number of a map entry's key.
pub(crate) const ENTRY_KEY: u32 = 1;
/// Field number of a map entry's value.
pub(crate) const ENTRY_VALUE: u32 = 2;

/// Fields that a message's reader does not know, raw and in their order, with their numbers.
pub(crate) type Unknown<'a> = Vec<(u32, &'a [u8])>;

/// A `Document`.
#[derive(Debug, Default)]
pub(crate) struct Document<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) fields: Vec<Entry<'a>>,
    pub(crate) create_time: Option<Cow<'a, [u8]>>,
    pub(crate) update_time: Option<Cow<'a, [u8]>>,
    pub(crate) unknown: Unknown<'a>,
}

/// One entry of a map: a key and a `Value`.
#[derive(Debug, Default)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: Cow<'a, [u8]>,
    pub(crate) unknown: Unknown<'a>,
}

/// A `Value`: nothing is known of it where it holds only fields that came after this program.
#[derive(Debug)]
pub(crate) struct Value<'a> {
    pub(crate) member: Option<Member<'a>>,
    pub(crate) unknown: Unknown<'a>,
}

/// What a `Value` holds; messages and doubles as their bytes and bits.
#[derive(Debug)]
pub(crate) enum Member<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(u64),
    Timestamp(Cow<'a, [u8]>),
    String(&'a [u8]),
    Bytes(&'a [u8]),
    Reference(&'a [u8]),
    GeoPoint(Cow<'a, [u8]>),
    Array(Cow<'a, [u8]>),
    Map(Cow<'a, [u8]>),
}

/// A `google.protobuf.Timestamp`, unchecked.
#[derive(Debug, Default)]
pub(crate) struct Moment<'a> {
    pub(crate) seconds: i64,
    pub(crate) nanos: i32,
    pub(crate) unknown: Unknown<'a>,
}

/// A `google.type.LatLng`, as the bits of its doubles.
#[derive(Debug, Default)]
pub(crate) struct Point<'a> {
    pub(crate) latitude: u64,
    pub(crate) longitude: u64,
    pub(crate) unknown: Unknown<'a>,
}

/// Reads a `Document`.
pub(crate) fn read_document(message: &[u8]) -> Result<Document<'_>, WireError> {
    let mut document = Document::default();
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (NAME_FIELD, Wire::Bytes(name)) => document.name = name,
            (FIELDS_FIELD, Wire::Bytes(entry)) => document.fields.push(read_entry(entry)?),
            (CREATE_TIME_FIELD, Wire::Bytes(time)) => merge(&mut document.create_time, time)?,
            (UPDATE_TIME_FIELD, Wire::Bytes(time)) => merge(&mut document.update_time, time)?,
            _ => document.unknown.push((field.number, field.raw)),
        }
    }
    document.fields = last_of_each_key(document.fields);
    Ok(document)
}

/// Reads a `MapValue`: its entries, each key once, and what it does not know.
pub(crate) fn read_map(message: &[u8]) -> Result<(Vec<Entry<'_>>, Unknown<'_>), WireError> {
    let (mut entries, mut unknown) = (Vec::new(), Vec::new());
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (MAP_FIELDS, Wire::Bytes(entry)) => entries.push(read_entry(entry)?),
            _ => unknown.push((field.number, field.raw)),
        }
    }
    Ok((last_of_each_key(entries), unknown))
}

/// Reads an `ArrayValue`: its values, and what it does not know.
pub(crate) fn read_array(message: &[u8]) -> Result<(Vec<&[u8]>, Unknown<'_>), WireError> {
    let (mut values, mut unknown) = (Vec::new(), Vec::new());
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (ARRAY_VALUES, Wire::Bytes(value)) => values.push(value),
            _ => unknown.push((field.number, field.raw)),
        }
    }
    Ok((values, unknown))
}

/// Reads a `Value`.
pub(crate) fn read_value(message: &[u8]) -> Result<Value<'_>, WireError> {
    let mut value = Value { member: None, unknown: Vec::new() };
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        if !value.take(&field)? {
            value.unknown.push((field.number, field.raw));
        }
    }
    Ok(value)
}

/// Reads a `google.protobuf.Timestamp`.
pub(crate) fn read_moment(message: &[u8]) -> Result<Moment<'_>, WireError> {
    let mut moment = Moment::default();
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, Wire::Varint(seconds)) => moment.seconds = seconds as i64,
            (2, Wire::Varint(nanos)) => moment.nanos = nanos as i32,
            _ => moment.unknown.push((field.number, field.raw)),
        }
    }
    Ok(moment)
}

/// Reads a `google.type.LatLng`.
pub(crate) fn read_point(message: &[u8]) -> Result<Point<'_>, WireError> {
    let mut point = Point::default();
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, Wire::Fixed64(latitude)) => point.latitude = latitude,
            (2, Wire::Fixed64(longitude)) => point.longitude = longitude,
            _ => point.unknown.push((field.number, field.raw)),
        }
    }
    Ok(point)
}

fn read_entry(message: &[u8]) -> Result<Entry<'_>, WireError> {
    let mut entry = Entry::default();
    let mut value = None;
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (ENTRY_KEY, Wire::Bytes(key)) => entry.key = key,
            (ENTRY_VALUE, Wire::Bytes(part)) => merge(&mut value, part)?,
            _ => entry.unknown.push((field.number, field.raw)),
        }
    }
    entry.value = value.unwrap_or_default();
    Ok(entry)
}

impl<'a> Value<'a> {
    /// Takes a field in, when it is one that is known, in place of what was there or merged with it.
    fn take(&mut self, field: &Field<'a>) -> Result<bool, WireError> {
        self.member = Some(match (field.number, field.value) {
            (kind::NULL, Wire::Varint(_)) => Member::Null,
            (kind::BOOLEAN, Wire::Varint(boolean)) => Member::Boolean(boolean != 0),
            (kind::INTEGER, Wire::Varint(integer)) => Member::Integer(integer as i64),
            (kind::DOUBLE, Wire::Fixed64(bits)) => Member::Double(bits),
            (kind::STRING, Wire::Bytes(text)) => Member::String(text),
            (kind::BYTES, Wire::Bytes(bytes)) => Member::Bytes(bytes),
            (kind::REFERENCE, Wire::Bytes(name)) => Member::Reference(name),
            (kind::TIMESTAMP | kind::GEO_POINT | kind::ARRAY | kind::MAP, Wire::Bytes(part)) => {
                self.take_message(field.number, part)?
            }
            _ => return Ok(false),
        });
        Ok(true)
    }

    fn take_message(&mut self, number: u32, part: &'a [u8]) -> Result<Member<'a>, WireError> {
        let mut message = match (number, self.member.take()) {
            (kind::TIMESTAMP, Some(Member::Timestamp(before)))
            | (kind::GEO_POINT, Some(Member::GeoPoint(before)))
            | (kind::ARRAY, Some(Member::Array(before)))
            | (kind::MAP, Some(Member::Map(before))) => Some(before),
            _ => None,
        };
        merge(&mut message, part)?;
        let message = message.unwrap_or_default();
        Ok(match number {
            kind::TIMESTAMP => Member::Timestamp(message),
            kind::GEO_POINT => Member::GeoPoint(message),
            kind::ARRAY => Member::Array(message),
            _ => Member::Map(message),
        })
    }
}

/// Adds a part to a message that may have come in pieces. Two messages merge by being joined, but only where each is
/// whole: a field cut in two must stay an error.
pub(crate) fn merge<'a>(message: &mut Option<Cow<'a, [u8]>>, part: &'a [u8]) -> Result<(), WireError> {
    *message = Some(match message.take() {
        None => Cow::Borrowed(part),
        Some(before) => {
            // what is owned was joined, and so checked, before
            if let Cow::Borrowed(first) = &before {
                check_whole(first)?;
            }
            check_whole(part)?;
            let mut joined = before.into_owned();
            joined.extend_from_slice(part);
            Cow::Owned(joined)
        }
    });
    Ok(())
}

fn check_whole(message: &[u8]) -> Result<(), WireError> {
    let mut fields = Fields::of(message);
    while fields.next()?.is_some() {}
    Ok(())
}

fn last_of_each_key(entries: Vec<Entry<'_>>) -> Vec<Entry<'_>> {
    let last: BTreeMap<&[u8], usize> = entries.iter().enumerate().map(|(index, entry)| (entry.key, index)).collect();
    if last.len() == entries.len() {
        return entries;
    }
    let numbered = entries.into_iter().enumerate();
    numbered.filter(|(index, entry)| last.get(entry.key) == Some(index)).map(|(_, entry)| entry).collect()
}

/// Appends a varint field.
pub(crate) fn put_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Appends a double field, given by its bits.
pub(crate) fn put_double_field(out: &mut Vec<u8>, number: u32, bits: u64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// A map entry.
pub(crate) fn entry_message(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(key.len() + value.len() + 8);
    put_bytes_field(&mut entry, ENTRY_KEY, key);
    put_bytes_field(&mut entry, ENTRY_VALUE, value);
    entry
}

/// A `google.protobuf.Timestamp`, its defaults left out.
pub(crate) fn moment_message(seconds: i64, nanos: i32) -> Vec<u8> {
    let mut message = Vec::new();
    if seconds != 0 {
        put_varint_field(&mut message, 1, seconds as u64);
    }
    if nanos != 0 {
        put_varint_field(&mut message, 2, i64::from(nanos) as u64);
    }
    message
}

/// A `google.type.LatLng` from the bits of its doubles, its defaults left out.
pub(crate) fn point_message(latitude: u64, longitude: u64) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, bits) in [(1, latitude), (2, longitude)] {
        // -0.0 has a bit set and is no default
        if bits != 0 {
            put_double_field(&mut message, number, bits);
        }
    }
    message
}
