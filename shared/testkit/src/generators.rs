//! Proptest strategies for what a Firestore database can hold: every value type, odd ids and odd field names, within
//! what the server takes and gives back unchanged.

use std::collections::HashMap;

use bytes::Bytes;
use firebackup_model::{DatabaseName, DocumentPath};
use gcloud_sdk::google::firestore::v1::{ArrayValue, Document, MapValue, Value, value::ValueType};
use gcloud_sdk::google::r#type::LatLng;
use proptest::collection::SizeRange;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::string::{RegexGeneratorStrategy, string_regex};
use prost::Message;

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A document path of one to four levels.
pub fn any_path() -> impl Strategy<Value = DocumentPath> {
    let level = (collection_id(), document_id()).prop_map(|(collection, id)| format!("{collection}/{id}"));
    proptest::collection::vec(level, 1..=4)
        .prop_filter_map("a document path", |levels| DocumentPath::new(levels.join("/")).ok())
}

/// Any value, nested at most `depth` deep.
pub fn any_value(depth: u32) -> impl Strategy<Value = Value> {
    value(DatabaseName::new("demo-generated", "(default)"), depth)
}

/// Any document of `database`, without times: those are the server's.
pub fn any_document(database: &DatabaseName) -> impl Strategy<Value = Document> + use<> {
    let name_of = database.clone();
    (any_path(), fields(value(database.clone(), 3), 0..8)).prop_map(move |(path, fields)| Document {
        name: name_of.document_name(path.as_str()),
        fields,
        ..Document::default()
    })
}

/// Documents of `database` at different paths, in path order: so many (`10`, `0..=50`), or a few less where two of them
/// came to the same path.
pub fn any_documents<C: Into<SizeRange>>(
    database: &DatabaseName,
    count: C,
) -> impl Strategy<Value = Vec<Document>> + use<C> {
    let database = database.clone();
    let count: SizeRange = count.into();
    proptest::collection::vec(any_document(&database), count).prop_map(move |mut documents| {
        let path = |document: &Document| database.path_of(&document.name).ok();
        documents.sort_by_key(path);
        documents.dedup_by_key(|document| path(document));
        documents
    })
}

/// A document as bytes. Entries of maps come in any order, as from a server.
#[must_use]
pub fn bytes_of(document: &Document) -> Bytes {
    document.encode_to_vec().into()
}

/// Whether two documents have the same fields, told apart as Firestore does: 1 is not 1.0, -0.0 is not 0.0, and a NaN
/// is itself.
#[must_use]
pub fn same_fields(left: &HashMap<String, Value>, right: &HashMap<String, Value>) -> bool {
    left.len() == right.len()
        && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| same_value(value, other)))
}

fn same_value(left: &Value, right: &Value) -> bool {
    use ValueType::{ArrayValue, DoubleValue, GeoPointValue, MapValue};
    match (&left.value_type, &right.value_type) {
        (Some(DoubleValue(a)), Some(DoubleValue(b))) => a.to_bits() == b.to_bits(),
        (Some(GeoPointValue(a)), Some(GeoPointValue(b))) => {
            a.latitude.to_bits() == b.latitude.to_bits() && a.longitude.to_bits() == b.longitude.to_bits()
        }
        (Some(ArrayValue(a)), Some(ArrayValue(b))) => {
            a.values.len() == b.values.len() && a.values.iter().zip(&b.values).all(|(a, b)| same_value(a, b))
        }
        (Some(MapValue(a)), Some(MapValue(b))) => same_fields(&a.fields, &b.fields),
        (a, b) => a == b,
    }
}

/// Text of a pattern that is read once: a bare `&str` strategy reads its pattern for every value.
fn pattern(regex: &str) -> RegexGeneratorStrategy<String> {
    string_regex(regex).expect("the patterns of this file are valid")
}

fn collection_id() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(vec!["users", "orders", "a", "logs"]).prop_map(str::to_owned),
        2 => odd_text(),
    ]
}

fn document_id() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => pattern("[A-Za-z0-9]{20}"),
        2 => odd_text(),
        2 => numeric_id().prop_map(|number| format!("__id{number}__")),
        1 => pattern("[a-z]{1,8}@[a-z]{1,8}\\.example"),
        1 => pattern("[0-9]{1,6}"),
        1 => (1400..=1500usize).prop_map(|length| "x".repeat(length)),
    ]
}

/// An id from Datastore; 0 is none.
fn numeric_id() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -12i64..12].prop_filter("reserved", |number| *number != 0)
}

/// Text that is allowed as an id and as a field name, and that something between here and the server might stumble
/// over.
fn odd_text() -> impl Strategy<Value = String> {
    let odd =
        ["...", ".a", "a.b", " ", " a ", "a b", "\\", "`", "'\"", "%2F", "*", "**", "[0]", "{}", "~!@#$^&()+=", "__"];
    let unicode = ["é", "e\u{301}", "日本語", "\u{FFFD}", "\u{1F600}", "\u{10FFFF}", "ﬀ", "\u{200B}", "Ω"];
    prop_oneof![
        2 => select(odd.to_vec()).prop_map(str::to_owned),
        1 => select(unicode.to_vec()).prop_map(str::to_owned),
        2 => pattern("\\PC{1,12}"),
    ]
    .prop_map(|text| text.replace('/', "_"))
    .prop_filter("reserved", |text| is_allowed(text))
}

/// Whether a text may be an id or a field name.
fn is_allowed(text: &str) -> bool {
    let is_reserved = text.len() >= 4 && text.starts_with("__") && text.ends_with("__");
    !text.is_empty() && text != "." && text != ".." && !is_reserved
}

fn fields(
    value: impl Strategy<Value = Value>,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = HashMap<String, Value>> {
    let name = prop_oneof![3 => pattern("[a-zA-Z_][a-zA-Z0-9_]{0,10}").prop_filter("reserved", |text| is_allowed(text)), 1 => odd_text()];
    proptest::collection::hash_map(name, value, count)
}

fn value(database: DatabaseName, depth: u32) -> impl Strategy<Value = Value> {
    scalar(database).prop_recursive(depth, 48, 5, |inner| {
        let element = inner.clone().prop_filter("not allowed in an array", may_stand_in_array);
        prop_oneof![
            proptest::collection::vec(element, 0..5)
                .prop_map(|values| of(ValueType::ArrayValue(ArrayValue { values }))),
            fields(inner, 0..5).prop_map(|fields| of(ValueType::MapValue(MapValue { fields }))),
        ]
    })
}

/// Firestore takes neither an array nor a vector directly in an array.
fn may_stand_in_array(value: &Value) -> bool {
    match &value.value_type {
        Some(ValueType::ArrayValue(_)) => false,
        Some(ValueType::MapValue(map)) => !map.fields.contains_key("__type__"),
        _ => true,
    }
}

fn scalar(database: DatabaseName) -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(ValueType::NullValue(0)),
        any::<bool>().prop_map(ValueType::BooleanValue),
        integer().prop_map(ValueType::IntegerValue),
        double().prop_map(ValueType::DoubleValue),
        moment().prop_map(ValueType::TimestampValue),
        text().prop_map(ValueType::StringValue),
        proptest::collection::vec(any::<u8>(), 0..64).prop_map(ValueType::BytesValue),
        reference(database).prop_map(ValueType::ReferenceValue),
        (-90.0..=90.0, -180.0..=180.0)
            .prop_map(|(latitude, longitude)| ValueType::GeoPointValue(LatLng { latitude, longitude })),
        vector(),
    ]
    .prop_map(of)
}

const fn of(value: ValueType) -> Value {
    Value { value_type: Some(value) }
}

fn integer() -> impl Strategy<Value = i64> {
    let edges = vec![0, -1, i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1];
    prop_oneof![any::<i64>(), select(edges)]
}

/// Every number, and the one NaN that Firestore knows.
fn double() -> impl Strategy<Value = f64> {
    let edges =
        vec![0.0, -0.0, 3.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, 5e-324, 0.1];
    prop_oneof![
        proptest::num::f64::ANY.prop_map(|number| if number.is_nan() { f64::NAN } else { number }),
        select(edges)
    ]
}

/// Firestore keeps microseconds.
fn moment() -> impl Strategy<Value = prost_types::Timestamp> {
    let seconds = prop_oneof![3 => SECONDS, 1 => select(vec![*SECONDS.start(), *SECONDS.end(), -1, 0])];
    (seconds, 0..1_000_000).prop_map(|(seconds, micros)| prost_types::Timestamp { seconds, nanos: micros * 1000 })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => pattern("\\PC{0,40}"),
        1 => (0..2000usize).prop_map(|length| "text ".chars().cycle().take(length).collect::<String>()),
        1 => select(vec!["", "\0", "line\r\nbreak\ttab", "\u{FEFF}bom", "null", "NaN", "__proto__", "=1+1"]).prop_map(str::to_owned),
    ]
}

/// References into the document's own database, into another one, and into another project.
fn reference(database: DatabaseName) -> impl Strategy<Value = String> {
    let own = database.clone();
    let sibling = DatabaseName::new(database.project, "other");
    let foreign = DatabaseName::new("another-project", "(default)");
    prop_oneof![
        4 => any_path().prop_map(move |path| own.document_name(path.as_str())),
        1 => any_path().prop_map(move |path| sibling.document_name(path.as_str())),
        1 => any_path().prop_map(move |path| foreign.document_name(path.as_str())),
    ]
}

/// A vector, which is a map on the wire. NaN is the one number that it cannot hold.
fn vector() -> impl Strategy<Value = ValueType> {
    let number = double().prop_filter("not in a vector", |number| !number.is_nan());
    proptest::collection::vec(number, 1..16).prop_map(|numbers| {
        let values = numbers.into_iter().map(|number| of(ValueType::DoubleValue(number))).collect();
        let fields = HashMap::from([
            ("__type__".to_owned(), of(ValueType::StringValue("__vector__".to_owned()))),
            ("value".to_owned(), of(ValueType::ArrayValue(ArrayValue { values }))),
        ]);
        ValueType::MapValue(MapValue { fields })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_model::document::head;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn documents_lie_in_their_database(document in any_document(&DatabaseName::new("p", "d"))) {
            let bytes = bytes_of(&document);
            let name = head(&bytes).unwrap().name;
            prop_assert!(DatabaseName::new("p", "d").path_of(name).is_ok());
            prop_assert!(document.fields.keys().all(|name| is_allowed(name)));
        }

        #[test]
        fn several_documents_ascend(documents in any_documents(&DatabaseName::new("p", "d"), 0..12)) {
            let database = DatabaseName::new("p", "d");
            let paths: Vec<_> = documents.iter().map(|document| database.path_of(&document.name).unwrap()).collect();
            prop_assert!(paths.is_sorted_by(|a, b| a < b));
        }
    }
}
