//! Firestore's own JSON of a document, both ways.
//!
//! The form is the one of Firestore's REST API, in which each value names its type, so that nothing is lost on the way:
//! `{"name": …, "fields": {"age": {"integerValue": "7"}, …}, "createTime": …, "updateTime": …}`. Integers are strings;
//! doubles are numbers in their shortest exact spelling, or `"NaN"`, `"Infinity"`, `"-Infinity"`; bytes are base64; times
//! are RFC 3339 with the decimals that they have. As there, what is empty or absent is left out: an empty map is
//! `{"mapValue": {}}`.
//!
//! Only two things do not survive: which of its many bit patterns a NaN has, and how the protobuf was spelled. What JSON
//! cannot hold (a kind of value that this program does not know, text that is not UTF-8) is an error, never left out.

mod place;
mod read;
mod write;

pub use read::{ReadJsonError, read_json};
pub use write::{WriteJsonError, write_json};

/// Names of a document's members.
mod member {
    pub(super) const NAME: &str = "name";
    pub(super) const FIELDS: &str = "fields";
    pub(super) const CREATE_TIME: &str = "createTime";
    pub(super) const UPDATE_TIME: &str = "updateTime";
    pub(super) const VALUES: &str = "values";
    pub(super) const LATITUDE: &str = "latitude";
    pub(super) const LONGITUDE: &str = "longitude";
}

/// Names of the kinds of values.
mod kind_name {
    pub(super) const NULL: &str = "nullValue";
    pub(super) const BOOLEAN: &str = "booleanValue";
    pub(super) const INTEGER: &str = "integerValue";
    pub(super) const DOUBLE: &str = "doubleValue";
    pub(super) const TIMESTAMP: &str = "timestampValue";
    pub(super) const STRING: &str = "stringValue";
    pub(super) const BYTES: &str = "bytesValue";
    pub(super) const REFERENCE: &str = "referenceValue";
    pub(super) const GEO_POINT: &str = "geoPointValue";
    pub(super) const ARRAY: &str = "arrayValue";
    pub(super) const MAP: &str = "mapValue";
}

const NAN: &str = "NaN";
const INFINITY: &str = "Infinity";
const NEGATIVE_INFINITY: &str = "-Infinity";

/// The first and last second that RFC 3339, and Firestore, can tell: years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const OUT_OF_RANGE: &str = "holds a time outside the years 1 to 9999";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{Names, same_content};
    use crate::document_generator::{Sample, Tree, nested, of_one_field, sample};
    use firebackup_model::wire::put_bytes_field;
    use proptest::prelude::*;

    fn json_of(document: &[u8]) -> String {
        let mut json = b"before ".to_vec();
        write_json(document, &mut json).unwrap();
        String::from_utf8(json).unwrap().split_off(7)
    }

    fn json_of_value(value: Tree) -> String {
        let json = json_of(&Sample { name: String::new(), ..of_one_field(value) }.encode());
        json.strip_prefix(r#"{"fields":{"f":"#).unwrap().strip_suffix("}}").unwrap().to_owned()
    }

    fn read_value(json: &str) -> Result<Vec<u8>, ReadJsonError> {
        read_json(&format!(r#"{{"fields":{{"f":{json}}}}}"#))
    }

    fn check(value: Tree, json: &str) {
        assert_eq!(json_of_value(value.clone()), json);
        let expected = Sample { name: String::new(), ..of_one_field(value) }.encode();
        assert_eq!(same_content(&read_value(json).unwrap(), &expected, Names::Compare), Ok(true), "{json}");
    }

    /// The fixture is a document with its JSON, both written by Google's own protobuf library for Python.
    #[test]
    fn agrees_with_googles_own_library() {
        let document = include_bytes!("../fixtures/documents/every-kind.pb");
        let json = include_str!("../fixtures/documents/every-kind.json").trim_end();
        assert_eq!(json_of(document), json);
        assert_eq!(read_json(json).unwrap(), document);
    }

    #[test]
    fn each_kind_of_value_has_its_json() {
        let double = |double: f64| Tree::Double(double.to_bits());
        check(Tree::Null, r#"{"nullValue":null}"#);
        check(Tree::Boolean(true), r#"{"booleanValue":true}"#);
        check(Tree::Integer(i64::MIN), r#"{"integerValue":"-9223372036854775808"}"#);
        check(double(3.0), r#"{"doubleValue":3.0}"#);
        check(double(-0.0), r#"{"doubleValue":-0.0}"#);
        check(double(0.1), r#"{"doubleValue":0.1}"#);
        check(double(f64::MAX), r#"{"doubleValue":1.7976931348623157e+308}"#);
        check(double(f64::NAN), r#"{"doubleValue":"NaN"}"#);
        check(double(f64::INFINITY), r#"{"doubleValue":"Infinity"}"#);
        check(double(f64::NEG_INFINITY), r#"{"doubleValue":"-Infinity"}"#);
        check(Tree::Timestamp(-1, 120_000_000), r#"{"timestampValue":"1969-12-31T23:59:59.12Z"}"#);
        check(Tree::Timestamp(253_402_300_799, 999_999_999), r#"{"timestampValue":"9999-12-31T23:59:59.999999999Z"}"#);
        check(Tree::Text("\"\u{1F600}\n\0".to_owned()), r#"{"stringValue":"\"😀\n\u0000"}"#);
        check(Tree::Bytes(vec![0xfb, 0xff]), r#"{"bytesValue":"+/8="}"#);
        check(Tree::Reference("a/b".to_owned()), r#"{"referenceValue":"a/b"}"#);
        let point = Tree::GeoPoint(52.5f64.to_bits(), (-0.0f64).to_bits());
        check(point, r#"{"geoPointValue":{"latitude":52.5,"longitude":-0.0}}"#);
        check(Tree::Array(Vec::new()), r#"{"arrayValue":{}}"#);
        check(Tree::Array(vec![Tree::Null; 2]), r#"{"arrayValue":{"values":[{"nullValue":null},{"nullValue":null}]}}"#);
        check(Tree::Map(Vec::new()), r#"{"mapValue":{}}"#);
        let map = Tree::Map(vec![("b".to_owned(), Tree::Null), (String::new(), Tree::Map(Vec::new()))]);
        check(map, r#"{"mapValue":{"fields":{"b":{"nullValue":null},"":{"mapValue":{}}}}}"#);
    }

    #[test]
    fn a_document_has_name_fields_and_times() {
        let sample = Sample { create_time: Some((0, 0)), update_time: Some((1, 1000)), ..of_one_field(Tree::Null) };
        let json = concat!(
            r#"{"name":"projects/p/databases/(default)/documents/users/a","fields":{"f":{"nullValue":null}},"#,
            r#""createTime":"1970-01-01T00:00:00Z","updateTime":"1970-01-01T00:00:01.000001Z"}"#
        );
        assert_eq!(json_of(&sample.encode()), json);
        let shuffled = r#" {"updateTime":"1970-01-01T01:00:01.000001+01:00", "fields":{}, "name":"n"} "#;
        let head = read_json(shuffled).unwrap();
        let head = firebackup_model::document::head(&head).unwrap();
        assert_eq!((head.name, head.create_time), ("n", None));
        assert_eq!(head.update_time, Some(firebackup_model::Timestamp::new(1, 1000)));
        assert_eq!(json_of(&[]), "{}");
        assert!(read_json(r#"{"name":""}"#).unwrap().is_empty());
    }

    #[test]
    fn reads_what_firestore_would() {
        for (spelled, json) in [
            (r#"{"integerValue":7}"#, r#"{"integerValue":"7"}"#),
            (r#"{"nullValue":"NULL_VALUE"}"#, r#"{"nullValue":null}"#),
            (r#" { "doubleValue" : 1E2 } "#, r#"{"doubleValue":100.0}"#),
            (r#"{"doubleValue":3}"#, r#"{"doubleValue":3.0}"#),
            (r#"{"arrayValue":{"values":[]}}"#, r#"{"arrayValue":{}}"#),
            (r#"{"mapValue":{"fields":{}}}"#, r#"{"mapValue":{}}"#),
            (r#"{"geoPointValue":{"longitude":1}}"#, r#"{"geoPointValue":{"latitude":0.0,"longitude":1.0}}"#),
            (r#"{"bytesValue":"+/8"}"#, r#"{"bytesValue":"+/8="}"#),
            (r#"{"bytesValue":"-_8="}"#, r#"{"bytesValue":"+/8="}"#),
            (r#"{"bytesValue":"-_8"}"#, r#"{"bytesValue":"+/8="}"#),
            (r#"{"stringValue":"\u00e9"}"#, r#"{"stringValue":"é"}"#),
        ] {
            let document = read_value(spelled).unwrap();
            assert_eq!(json_of(&document), format!(r#"{{"fields":{{"f":{json}}}}}"#));
        }
        // a number that is easily rounded to its neighbour
        let exact = read_value(r#"{"doubleValue":2.2250738585072011e-308}"#).unwrap();
        let expected = of_one_field(Tree::Double(0x000f_ffff_ffff_ffff)).encode();
        assert_eq!(same_content(&exact, &expected, Names::Ignore), Ok(true));
    }

    #[test]
    fn refuses_json_that_is_no_document_and_says_where() {
        for (json, place) in [
            ("", "the document is no json"),
            ("[]", "the document must hold an object"),
            (r#"{"x":1}"#, r#"the document has an unknown member ("x")"#),
            (r#"{"name":"a","name":"b"}"#, r#"the document has a member twice ("name")"#),
            (r#"{"name":1}"#, "its name must hold text"),
            (r#"{"createTime":"2026-01-31"}"#, "its createTime must hold an RFC 3339 time"),
            (
                r#"{"fields":{"a":{"nullValue":null},"a":{"nullValue":null}}}"#,
                r#"the document has a member twice ("a")"#,
            ),
        ] {
            let error = read_json(json).unwrap_err().to_string();
            assert_eq!(error, format!("could not read a document from json: {place}"));
        }
        for json in [
            "null",
            "{}",
            r#"{"nullValue":null,"booleanValue":true}"#,
            r#"{"functionValue":{}}"#,
            r#"{"nullValue":0}"#,
            r#"{"booleanValue":"true"}"#,
            r#"{"integerValue":"1.0"}"#,
            r#"{"integerValue":9223372036854775808}"#,
            r#"{"doubleValue":"1"}"#,
            r#"{"doubleValue":1e999}"#,
            r#"{"doubleValue":nan}"#,
            r#"{"doubleValue":null}"#,
            r#"{"timestampValue":"2026-01-31T00:00:00"}"#,
            r#"{"timestampValue":"0000-12-31T00:00:00Z"}"#,
            r#"{"timestampValue":"9999-12-31T23:59:59-01:00"}"#,
            r#"{"bytesValue":"+_8="}"#,
            r#"{"bytesValue":"+/9="}"#,
            r#"{"stringValue":"\ud800"}"#,
            r#"{"geoPointValue":{"altitude":1}}"#,
            r#"{"arrayValue":[]}"#,
            r#"{"arrayValue":{"values":{}}}"#,
            r#"{"mapValue":{"fields":[]}}"#,
        ] {
            assert!(read_value(json).is_err(), "{json}");
        }
        let deep = r#"{"mapValue":{"fields":{"x.y":{"arrayValue":{"values":[{"nullValue":1}]}}}}}"#;
        let error = read_value(deep).unwrap_err().to_string();
        assert_eq!(error, "could not read a document from json: field f.`x.y`[0] must hold null");
    }

    #[test]
    fn refuses_what_json_cannot_hold_and_says_where() {
        let message = |fields: &[(u32, &[u8])]| {
            let mut out = Vec::new();
            fields.iter().for_each(|(number, bytes)| put_bytes_field(&mut out, *number, bytes));
            out
        };
        for (value, reason) in [
            (message(&[(20, b"")]), "holds a value of an unknown kind (number 20)"),
            (message(&[(19, b"a"), (17, b"a")]), "holds a value of an unknown kind (number 19)"),
            (Vec::new(), "holds no value"),
            (message(&[(17, b"\xff")]), "holds text that is not UTF-8"),
            (message(&[(5, b"\xff")]), "holds text that is not UTF-8"),
            (message(&[(6, &message(&[(2, b"")]))]), "holds an unknown protobuf field (2)"),
            (message(&[(9, &[0x08, 0])]), "holds an unknown protobuf field (1)"),
            (Tree::Timestamp(253_402_300_800, 0).encode(), OUT_OF_RANGE),
            (Tree::Timestamp(0, -1).encode(), OUT_OF_RANGE),
            (Tree::Timestamp(0, 1_000_000_000).encode(), OUT_OF_RANGE),
            (message(&[(8, &[0x09])]), "is malformed"),
        ] {
            let document = message(&[(2, &message(&[(1, b"a.b"), (2, &value)]))]);
            let mut out = b"kept".to_vec();
            let error = write_json(&document, &mut out).unwrap_err();
            assert_eq!(error.to_string(), format!("could not write a document as json: field `a.b` {reason}"));
            assert_eq!(out, b"kept");
        }
        assert!(write_json(&[0x38, 1], &mut Vec::new()).is_err());
        assert!(write_json(&message(&[(2, &message(&[(1, b"\xff")]))]), &mut Vec::new()).is_err());
    }

    #[test]
    fn goes_down_64_levels_both_ways_on_a_small_stack_and_no_further() {
        let document = |levels| of_one_field(nested(Tree::Null, levels)).encode();
        let (deepest, too_deep) = (document(63), document(64));
        let json = json_of(&deepest);
        let deeper_json = json.replace(r#"{"nullValue":null}"#, r#"{"arrayValue":{"values":[{"nullValue":null}]}}"#);
        let check = move || {
            let json = json_of(&deepest);
            assert_eq!(read_json(&json).unwrap(), deepest);
            assert!(write_json(&too_deep, &mut Vec::new()).is_err());
            assert!(read_json(&deeper_json).is_err());
            assert!(read_json(&"[".repeat(1_000_000)).is_err());
            assert!(read_json(&r#"{"fields":"#.repeat(100_000)).is_err());
        };
        std::thread::Builder::new().stack_size(512 * 1024).spawn(check).unwrap().join().unwrap();
    }

    /// JSON has one NaN.
    fn with_one_nan(sample: &Sample) -> Sample {
        let nan = |bits| if f64::from_bits(bits).is_nan() { f64::NAN.to_bits() } else { bits };
        sample.map(&mut |tree| match tree {
            Tree::Double(bits) => Tree::Double(nan(bits)),
            Tree::GeoPoint(latitude, longitude) => Tree::GeoPoint(nan(latitude), nan(longitude)),
            other => other,
        })
    }

    proptest! {
        #[test]
        fn documents_come_back(sample in sample()) {
            let bytes = with_one_nan(&sample).encode();
            let json = json_of(&sample.encode());
            let back = read_json(&json).unwrap();
            prop_assert_eq!(same_content(&back, &bytes, Names::Compare), Ok(true));
            let times = |document: &[u8]| {
                let document = crate::document_value::read_document(document).unwrap();
                let time = |time: Option<std::borrow::Cow<'_, [u8]>>| {
                    time.map(|time| firebackup_model::document::timestamp(&time).unwrap())
                };
                (time(document.create_time), time(document.update_time))
            };
            prop_assert_eq!(times(&back), times(&bytes));
            prop_assert_eq!(json_of(&back), json);
        }

        #[test]
        fn is_valid_json(sample in sample()) {
            #[derive(serde::Deserialize)]
            struct Document {
                #[serde(default)]
                fields: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
            }
            let document: Document = serde_json::from_str(&json_of(&sample.encode())).unwrap();
            prop_assert!(sample.fields.iter().all(|(key, _)| document.fields.contains_key(key)));
            prop_assert_eq!(document.fields.len(), sample.fields.len());
        }

        #[test]
        fn rubbish_bytes_never_panic(bytes: Vec<u8>, sample in sample(), at: prop::sample::Index, byte: u8) {
            let mut damaged = sample.encode();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            for bytes in [&bytes[..], &damaged, &damaged[..at]] {
                let mut json = Vec::new();
                if write_json(bytes, &mut json).is_ok() {
                    let json = String::from_utf8(json).unwrap();
                    prop_assert_eq!(json_of(&read_json(&json).unwrap()), json);
                }
            }
        }

        #[test]
        fn rubbish_json_never_panics(text: String, sample in sample(), at: prop::sample::Index, byte in " -~") {
            let json = json_of(&sample.encode());
            let (at, _) = json.char_indices().nth(at.index(json.chars().count())).unwrap();
            let damaged = format!("{}{byte}{}", &json[..at], json[at..].chars().skip(1).collect::<String>());
            for json in [&text[..], &damaged, &json[..at]] {
                if let Ok(document) = read_json(json) {
                    prop_assert_eq!(read_json(&json_of(&document)).unwrap(), document);
                }
            }
        }
    }
}
