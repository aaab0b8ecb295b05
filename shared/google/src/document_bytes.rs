//! Documents as bytes, built in the order that is written down: prost's maps would shuffle their keys on every run.

use bytes::Bytes;
use firebackup_model::document::{FIELDS_FIELD, NAME_FIELD};
use firebackup_model::wire::put_bytes_field;
use gcloud_sdk::google::firestore::v1::Value;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::r#type::LatLng;
use prost::Message;
use prost_types::{NullValue, Timestamp};

const MAP_VALUE: u32 = 6;
const ARRAY_VALUE: u32 = 9;
const ONLY_FIELD: u32 = 1;
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;

/// An encoded `google.firestore.v1.Value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded(Vec<u8>);

fn value(value_type: ValueType) -> Encoded {
    Encoded(Value { value_type: Some(value_type) }.encode_to_vec())
}

pub(crate) fn null() -> Encoded {
    value(ValueType::NullValue(NullValue::NullValue as i32))
}

pub(crate) fn boolean(it: bool) -> Encoded {
    value(ValueType::BooleanValue(it))
}

pub(crate) fn integer(it: i64) -> Encoded {
    value(ValueType::IntegerValue(it))
}

pub(crate) fn double(it: f64) -> Encoded {
    value(ValueType::DoubleValue(it))
}

pub(crate) fn string(it: impl Into<String>) -> Encoded {
    value(ValueType::StringValue(it.into()))
}

pub(crate) fn bytes(it: impl Into<Vec<u8>>) -> Encoded {
    value(ValueType::BytesValue(it.into()))
}

/// A reference, given by its full resource name.
pub(crate) fn reference(name: impl Into<String>) -> Encoded {
    value(ValueType::ReferenceValue(name.into()))
}

pub(crate) fn timestamp(seconds: i64, nanos: i32) -> Encoded {
    value(ValueType::TimestampValue(Timestamp { seconds, nanos }))
}

pub(crate) fn geo_point(latitude: f64, longitude: f64) -> Encoded {
    value(ValueType::GeoPointValue(LatLng { latitude, longitude }))
}

pub(crate) fn array(items: impl IntoIterator<Item = Encoded>) -> Encoded {
    let mut list = Vec::new();
    for item in items {
        put_bytes_field(&mut list, ONLY_FIELD, &item.0);
    }
    let mut out = Vec::new();
    put_bytes_field(&mut out, ARRAY_VALUE, &list);
    Encoded(out)
}

pub(crate) fn map<'k>(entries: impl IntoIterator<Item = (&'k str, Encoded)>) -> Encoded {
    let mut fields = Vec::new();
    put_entries(&mut fields, ONLY_FIELD, entries);
    let mut out = Vec::new();
    put_bytes_field(&mut out, MAP_VALUE, &fields);
    Encoded(out)
}

/// A vector is a map of a reserved shape on the wire.
pub(crate) fn vector(numbers: &[f64]) -> Encoded {
    map([("__type__", string("__vector__")), ("value", array(numbers.iter().copied().map(double)))])
}

/// A `google.firestore.v1.Document` of a full name and fields.
pub(crate) fn document<'k>(name: &str, fields: impl IntoIterator<Item = (&'k str, Encoded)>) -> Bytes {
    let mut out = Vec::new();
    put_bytes_field(&mut out, NAME_FIELD, name.as_bytes());
    put_entries(&mut out, FIELDS_FIELD, fields);
    out.into()
}

fn put_entries<'k>(out: &mut Vec<u8>, number: u32, entries: impl IntoIterator<Item = (&'k str, Encoded)>) {
    for (key, value) in entries {
        let mut entry = Vec::with_capacity(key.len() + value.0.len() + 8);
        put_bytes_field(&mut entry, ENTRY_KEY, key.as_bytes());
        put_bytes_field(&mut entry, ENTRY_VALUE, &value.0);
        put_bytes_field(out, number, &entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gcloud_sdk::google::firestore::v1::Document;

    #[test]
    fn google_reads_what_is_built() {
        let bytes = document(
            "n",
            [("a", array([integer(1), map([("k", null())])])), ("v", vector(&[1.5])), ("e", map([])), ("", array([]))],
        );
        let document = Document::decode(bytes).unwrap();
        assert_eq!(document.name, "n");
        let value = |key: &str| document.fields[key].value_type.clone().unwrap();
        let ValueType::ArrayValue(array) = value("a") else { panic!("no array") };
        assert_eq!(array.values[0].value_type, Some(ValueType::IntegerValue(1)));
        let ValueType::MapValue(inner) = array.values[1].value_type.clone().unwrap() else { panic!("no map") };
        assert_eq!(inner.fields["k"].value_type, Some(ValueType::NullValue(0)));
        let ValueType::MapValue(vector) = value("v") else { panic!("no map") };
        assert_eq!(vector.fields["__type__"].value_type, Some(ValueType::StringValue("__vector__".into())));
        assert!(matches!(value("e"), ValueType::MapValue(map) if map.fields.is_empty()));
        assert!(matches!(value(""), ValueType::ArrayValue(array) if array.values.is_empty()));
    }
}
