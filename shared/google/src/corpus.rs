//! A fixed set of hard documents: every type of value at its edges, hard ids, deep nesting, phantom parents.
//!
//! For tests and demonstrations: a backup that brings all of these back has lost nothing. Left out, because Firestore
//! refuses them: the ids `.` and `..`, ids of the form `__…__` other than `__id<n>__` with a number that is not zero, field
//! names of that form or empty, arrays directly in arrays, maps deeper than 20, ids above 1,500 bytes, and latitudes beyond
//! 90 or longitudes beyond 180 degrees. Nanoseconds are left out because Firestore cuts them to microseconds.

use bytes::Bytes;
use firebackup_model::database::DatabaseName;
use firebackup_model::path::DocumentPath;

use crate::document_bytes::{
    Encoded, array, boolean, bytes, document, double, geo_point, integer, map, null, reference, string, timestamp,
    vector,
};

/// 0001-01-01T00:00:00Z, the first moment that Firestore holds.
const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z; with 999,999 microseconds the last moment that it holds.
const LAST_SECOND: i64 = 253_402_300_799;
/// Close to 1 MiB a document, name and field included.
const LARGE: usize = 1_048_000;
/// The deepest sub-collection.
const DEEPEST: usize = 100;
/// The deepest map.
const DEEPEST_MAP: usize = 20;
/// The longest id, in bytes.
const LONGEST_ID: usize = 1500;

type Fields = Vec<(&'static str, Encoded)>;

/// The documents, with their full names in `database`, in no particular order. The same bytes at every call.
#[must_use]
pub fn corpus(database: &DatabaseName) -> Vec<(DocumentPath, Bytes)> {
    let mut documents = values(database);
    documents.extend(hard_ids());
    documents.extend(shapes());
    let built = documents.into_iter().filter_map(|(path, fields)| {
        let bytes = document(&database.document_name(&path), fields);
        DocumentPath::new(path).ok().map(|path| (path, bytes))
    });
    built.collect()
}

fn values(database: &DatabaseName) -> Vec<(String, Fields)> {
    let named = [
        ("integers", integers()),
        ("doubles", doubles()),
        ("timestamps", timestamps()),
        ("strings", strings()),
        ("bytes", blobs()),
        ("references", references(database)),
        ("geo-points", geo_points()),
        ("arrays", arrays()),
        ("maps", maps()),
        ("look-alikes", look_alikes()),
        ("vectors", vectors()),
        ("keys", keys()),
        ("simple", vec![("no", boolean(false)), ("nothing", null()), ("yes", boolean(true))]),
        ("large-string", vec![("it", string("ü".repeat(LARGE / 2)))]),
        ("large-bytes", vec![("it", bytes((0..LARGE).map(|n| n as u8).collect::<Vec<_>>()))]),
        ("many-fields", vec![("it", many_fields())]),
    ];
    named.into_iter().map(|(id, fields)| (format!("values/{id}"), fields)).collect()
}

fn integers() -> Fields {
    vec![
        ("beyond-double", integer((1 << 53) + 1)),
        ("max", integer(i64::MAX)),
        ("min", integer(i64::MIN)),
        ("minus-one", integer(-1)),
        ("zero", integer(0)),
    ]
}

fn doubles() -> Fields {
    vec![
        ("infinity", double(f64::INFINITY)),
        ("max", double(f64::MAX)),
        ("min-positive", double(f64::MIN_POSITIVE)),
        ("minus-infinity", double(f64::NEG_INFINITY)),
        ("minus-zero", double(-0.0)),
        ("nan", double(f64::NAN)),
        ("subnormal", double(5e-324)),
        ("third", double(1.0 / 3.0)),
        ("whole", double(3.0)),
        ("zero", double(0.0)),
    ]
}

fn timestamps() -> Fields {
    vec![
        ("before-epoch", timestamp(-1, 999_999_000)),
        ("epoch", timestamp(0, 0)),
        ("first", timestamp(FIRST_SECOND, 0)),
        ("last", timestamp(LAST_SECOND, 999_999_000)),
        ("microsecond", timestamp(1_700_000_000, 1000)),
    ]
}

fn strings() -> Fields {
    vec![
        ("control", string("\0\u{1}\t\r\n\u{7f}")),
        ("empty", string("")),
        ("longer-than-its-index", string("x".repeat(1501))),
        ("looks-like-a-date", string("2026-01-31T14:03:00Z")),
        ("looks-like-a-number", string("0123")),
        ("unicode", string("e\u{301} é 中文 עברית \u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467} \u{FFFF} \u{10FFFF}")),
    ]
}

fn blobs() -> Fields {
    vec![
        ("every-byte", bytes((0..=255).collect::<Vec<u8>>())),
        ("empty", bytes(Vec::new())),
        ("not-utf-8", bytes([0xff, 0xfe, 0xc0])),
    ]
}

fn references(database: &DatabaseName) -> Fields {
    let elsewhere = DatabaseName::new(database.project.clone(), "another-database");
    let abroad = DatabaseName::new("another-project", database.database.clone());
    vec![
        ("here", reference(database.document_name("values/integers"))),
        ("nested", reference(database.document_name("phantoms/ghost/children/one"))),
        ("nowhere", reference(database.document_name("never/written"))),
        ("numeric", reference(database.document_name("ids/__id7__"))),
        ("other-database", reference(elsewhere.document_name("values/integers"))),
        ("other-project", reference(abroad.document_name("values/integers"))),
        ("within", array([map([("deep", reference(database.document_name("values/maps")))])])),
    ]
}

fn geo_points() -> Fields {
    vec![
        ("minus-zero", geo_point(-0.0, -0.0)),
        ("north-east", geo_point(90.0, 180.0)),
        ("origin", geo_point(0.0, 0.0)),
        ("south-west", geo_point(-90.0, -180.0)),
        ("tiny", geo_point(f64::MIN_POSITIVE, -1e-15)),
    ]
}

fn arrays() -> Fields {
    let mixed = [null(), boolean(true), integer(3), double(3.0), string("3"), bytes([3]), timestamp(3, 0)];
    vec![
        ("empty", array([])),
        ("mixed", array(mixed)),
        ("repeated", array([integer(1), integer(1), integer(1)])),
        ("within-maps", array([map([("inner", array([map([("inner", array([]))])]))]), map([])])),
    ]
}

fn maps() -> Fields {
    let deep = (1..DEEPEST_MAP).fold(map([("bottom", integer(1))]), |inner, _| map([("below", inner)]));
    vec![("deep", deep), ("empty", map([])), ("of-empty", map([("array", array([])), ("map", map([]))]))]
}

/// What tools that go through JSON take for something else.
fn look_alikes() -> Fields {
    vec![
        ("bytes", map([("_byteString", string("AA==")), ("type", string("Buffer"))])),
        ("geo-point", map([("latitude", double(1.0)), ("longitude", double(2.0))])),
        ("geo-point-2", map([("_latitude", double(1.0)), ("_longitude", double(2.0))])),
        ("reference", map([("_path", map([("segments", array([string("a"), string("b")]))]))])),
        ("reference-2", string("projects/p/databases/(default)/documents/a/b")),
        ("timestamp", map([("_nanoseconds", integer(0)), ("_seconds", integer(1))])),
        ("timestamp-2", map([("nanos", integer(0)), ("seconds", integer(1))])),
        ("value", map([("integerValue", string("1"))])),
    ]
}

fn vectors() -> Fields {
    let longest: Vec<f64> = (0..2048).map(f64::from).collect();
    vec![("longest", vector(&longest)), ("one", vector(&[0.0])), ("three", vector(&[1.0, -0.0, 0.1]))]
}

fn keys() -> Fields {
    let nested = map([("a.b", integer(1)), ("a`b", integer(2)), ("a/b", integer(3)), (" ", integer(4)), ("ü", null())]);
    vec![
        (" ", integer(0)),
        ("$key", integer(1)),
        ("0", integer(2)),
        ("a.b.c", integer(3)),
        ("a/b", integer(4)),
        ("constructor", integer(5)),
        ("nested", nested),
        ("new\nline", integer(6)),
        ("quote\"'", integer(7)),
        ("tick`\\", integer(8)),
        ("中文\u{1F600}", integer(9)),
    ]
}

fn many_fields() -> Encoded {
    let names: Vec<String> = (0..2000).map(|n| format!("field-{n:04}")).collect();
    map(names.iter().map(|name| (name.as_str(), integer(name.len() as i64))))
}

fn hard_ids() -> Vec<(String, Fields)> {
    let mut ids: Vec<String> = [
        "__id7__",
        "__id-3__",
        "__id10__",
        "__id9223372036854775807__",
        "__id-9223372036854775808__",
        "...",
        ".x",
        " ",
        " padded ",
        "%2F",
        "%",
        "+",
        "a b",
        "a:b",
        "a@b.example",
        "quote\"'`",
        "back\\slash",
        "(default)",
        "*",
        "**",
        "?",
        "#",
        "[x]",
        "{x}",
        "~",
        "_",
        "__",
        "__x",
        "x__",
        "0",
        "00",
        "-1",
        "é",
        "e\u{301}",
        "中文",
        "\u{1F600}",
        "\u{FFFF}",
        "\u{10FFFF}",
        "\u{202E}rtl",
        "new\nline",
        "CON",
        "null",
        "nul\0",
    ]
    .map(str::to_owned)
    .into();
    ids.push("x".repeat(LONGEST_ID));
    ids.push("é".repeat(LONGEST_ID / 2));
    let in_ids = ids.iter().map(|id| (format!("ids/{id}"), id_fields()));
    let collections = ["a b", "ünïcode", "%2F", "\u{1F4A9}", "(x)", "orders!"];
    in_ids.chain(collections.iter().map(|id| (format!("{id}/document"), id_fields()))).collect()
}

fn id_fields() -> Fields {
    vec![("note", string("a hard id"))]
}

/// Nesting: the deepest chain, parents that do not exist, one id in many collections, a document without fields.
fn shapes() -> Vec<(String, Fields)> {
    let level = |depth: usize| (vec!["chain/link"; depth].join("/"), vec![("depth", integer(depth as i64))]);
    let mut documents: Vec<_> = (1..=DEEPEST).map(level).collect();
    let mut add = |path: &str| documents.push((path.to_owned(), vec![("path", string(path))]));
    add("phantoms/ghost/children/one");
    add("phantoms/ghost/children/two");
    add("phantoms/ghost/children/two/toys/ball");
    add("phantoms/__id5__/children/one");
    add("phantoms/real");
    add("phantoms/real/ghosts/ghost/children/one");
    for collection in ["same", "other", "same/id/same", "same/id/other", "other/id/same", "sam", "same!", "same\0"] {
        add(&format!("{collection}/id"));
    }
    documents.push(("empty/document".to_owned(), Vec::new()));
    documents
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_document_has_its_own_valid_name_in_the_database() {
        let database = DatabaseName::new("p", "named");
        let documents = corpus(&database);
        assert!(documents.len() > 150, "{}", documents.len());
        for (path, bytes) in &documents {
            let head = firebackup_model::document::head(bytes).unwrap();
            assert_eq!(database.relative(head.name), Some(path.as_str()));
        }
        let paths: BTreeSet<_> = documents.iter().map(|(path, _)| path).collect();
        assert_eq!(paths.len(), documents.len());
        let built = values(&database).len() + hard_ids().len() + shapes().len();
        assert_eq!(built, documents.len());
    }

    #[test]
    fn it_is_the_same_at_every_call() {
        let database = DatabaseName::new("p", "(default)");
        assert_eq!(corpus(&database), corpus(&database));
    }
}
