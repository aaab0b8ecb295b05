//! Generates documents for tests: as trees, which a test can look into, and as the wire bytes of these.
//!
//! The field numbers are written out here once more, so that a wrong one in the code cannot hide.

use firebackup_model::wire::{put_bytes_field, put_varint};
use proptest::prelude::*;

/// A document whose every part is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) fields: Vec<(String, Tree)>,
    pub(crate) create_time: Option<(i64, i32)>,
    pub(crate) update_time: Option<(i64, i32)>,
}

/// A value; doubles are their bits, so that equality is that of bits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(u64),
    Timestamp(i64, i32),
    Text(String),
    Bytes(Vec<u8>),
    Reference(String),
    GeoPoint(u64, u64),
    Array(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Sample {
    /// As `google.firestore.v1.Document`, all lengths in their shortest spelling.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes_field(&mut out, 1, self.name.as_bytes());
        put_fields(&mut out, 2, &self.fields);
        for (number, time) in [(3, self.create_time), (4, self.update_time)] {
            if let Some((seconds, nanos)) = time {
                put_bytes_field(&mut out, number, &timestamp(seconds, nanos));
            }
        }
        out
    }

    /// The same with every value replaced by what `change` makes of it, from the innermost out.
    pub(crate) fn map(&self, change: &mut dyn FnMut(Tree) -> Tree) -> Self {
        let fields = self.fields.iter().map(|(key, value)| (key.clone(), value.map(change))).collect();
        Self { fields, ..self.clone() }
    }

    /// The same with the entries of all maps the other way round.
    pub(crate) fn turned(&self) -> Self {
        let mut turned = self.map(&mut |tree| match tree {
            Tree::Map(entries) => Tree::Map(entries.into_iter().rev().collect()),
            other => other,
        });
        turned.fields.reverse();
        turned
    }

    /// The same with the entries of all maps in order of their keys.
    pub(crate) fn sorted(&self) -> Self {
        let by_key = |entries: &mut Vec<(String, Tree)>| entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut sorted = self.map(&mut |tree| match tree {
            Tree::Map(mut entries) => {
                by_key(&mut entries);
                Tree::Map(entries)
            }
            other => other,
        });
        by_key(&mut sorted.fields);
        sorted
    }
}

impl Tree {
    fn map(&self, change: &mut dyn FnMut(Self) -> Self) -> Self {
        let inner = match self {
            Self::Array(values) => Self::Array(values.iter().map(|value| value.map(change)).collect()),
            Self::Map(entries) => {
                Self::Map(entries.iter().map(|(key, value)| (key.clone(), value.map(change))).collect())
            }
            leaf => leaf.clone(),
        };
        change(inner)
    }

    /// As `google.firestore.v1.Value`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Null => put_scalar(&mut out, 11, 0),
            Self::Boolean(boolean) => put_scalar(&mut out, 1, u64::from(*boolean)),
            Self::Integer(integer) => put_scalar(&mut out, 2, *integer as u64),
            Self::Double(bits) => put_double(&mut out, 3, *bits),
            Self::Timestamp(seconds, nanos) => put_bytes_field(&mut out, 10, &timestamp(*seconds, *nanos)),
            Self::Text(text) => put_bytes_field(&mut out, 17, text.as_bytes()),
            Self::Bytes(bytes) => put_bytes_field(&mut out, 18, bytes),
            Self::Reference(name) => put_bytes_field(&mut out, 5, name.as_bytes()),
            Self::GeoPoint(latitude, longitude) => {
                let mut point = Vec::new();
                put_double(&mut point, 1, *latitude);
                put_double(&mut point, 2, *longitude);
                put_bytes_field(&mut out, 8, &point);
            }
            Self::Array(values) => {
                let mut array = Vec::new();
                values.iter().for_each(|value| put_bytes_field(&mut array, 1, &value.encode()));
                put_bytes_field(&mut out, 9, &array);
            }
            Self::Map(entries) => {
                let mut map = Vec::new();
                put_fields(&mut map, 1, entries);
                put_bytes_field(&mut out, 6, &map);
            }
        }
        out
    }
}

/// `innermost` in `levels` maps and arrays by turns: itself the value at depth `levels + 1`.
pub(crate) fn nested(innermost: Tree, levels: usize) -> Tree {
    (0..levels).fold(innermost, |inner, level| match level % 2 {
        0 => Tree::Map(vec![("k".to_owned(), inner)]),
        _ => Tree::Array(vec![inner]),
    })
}

/// A document with one field.
pub(crate) fn of_one_field(value: Tree) -> Sample {
    let name = "projects/p/databases/(default)/documents/users/a".to_owned();
    Sample { name, fields: vec![("f".to_owned(), value)], create_time: None, update_time: None }
}

fn put_fields(out: &mut Vec<u8>, number: u32, fields: &[(String, Tree)]) {
    for (key, value) in fields {
        let mut entry = Vec::new();
        put_bytes_field(&mut entry, 1, key.as_bytes());
        put_bytes_field(&mut entry, 2, &value.encode());
        put_bytes_field(out, number, &entry);
    }
}

fn put_scalar(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

fn put_double(out: &mut Vec<u8>, number: u64, bits: u64) {
    put_varint(out, number << 3 | 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

fn timestamp(seconds: i64, nanos: i32) -> Vec<u8> {
    let mut message = Vec::new();
    put_scalar(&mut message, 1, seconds as u64);
    put_scalar(&mut message, 2, nanos as u64);
    message
}

/// Documents of every kind of value, some levels deep, with keys and names that nobody would choose.
pub(crate) fn sample() -> impl Strategy<Value = Sample> {
    let time = || proptest::option::of(moment());
    (reference(), entries(value(), 6), time(), time()).prop_map(|(name, fields, create_time, update_time)| Sample {
        name,
        fields,
        create_time,
        update_time,
    })
}

fn value() -> impl Strategy<Value = Tree> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Tree::Array),
            entries(inner, 4).prop_map(Tree::Map),
        ]
    })
}

fn leaf() -> impl Strategy<Value = Tree> {
    prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Boolean),
        prop_oneof![any::<i64>(), -2i64..3, Just(i64::MIN), Just(i64::MAX)].prop_map(Tree::Integer),
        double().prop_map(Tree::Double),
        moment().prop_map(|(seconds, nanos)| Tree::Timestamp(seconds, nanos)),
        any::<String>().prop_map(Tree::Text),
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(Tree::Bytes),
        reference().prop_map(Tree::Reference),
        (double(), double()).prop_map(|(latitude, longitude)| Tree::GeoPoint(latitude, longitude)),
    ]
}

/// Any bits, with those that are easily lost among them: zeros, NaNs with a payload, infinities, whole numbers.
fn double() -> impl Strategy<Value = u64> {
    let special = [0.0, -0.0, 1.0, 3.0, 0.1, 5e-324, 1e300, f64::MAX, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    prop_oneof![
        any::<u64>(),
        proptest::sample::select(special.map(f64::to_bits).to_vec()),
        Just(0x7ff8_0000_dead_beef),
        Just(0xfff0_0000_0000_0001),
    ]
}

fn moment() -> impl Strategy<Value = (i64, i32)> {
    let seconds = prop_oneof![
        -62_135_596_800i64..=253_402_300_799,
        Just(-62_135_596_800),
        Just(253_402_300_799),
        Just(0),
        Just(-1)
    ];
    let nanos = prop_oneof![0..1_000_000_000i32, Just(0), Just(999_999_999), Just(120_000_000)];
    (seconds, nanos)
}

/// Names below `projects/p/databases/(default)` and elsewhere, of documents, collections and nothing at all.
pub(crate) fn reference() -> impl Strategy<Value = String> {
    let root = proptest::sample::select(vec![
        "projects/p/databases/(default)/documents",
        "projects/p/databases/(default)",
        "projects/p2/databases/(default)/documents",
        "projects/p/databases/(default)2/documents",
        "",
    ]);
    let segment = prop_oneof!["users|users2|orders|a|", "\\PC{0,3}"];
    (root, proptest::collection::vec(segment, 0..6))
        .prop_map(|(root, segments)| std::iter::once(root.to_owned()).chain(segments).collect::<Vec<_>>().join("/"))
}

fn entries(value: impl Strategy<Value = Tree>, most: usize) -> impl Strategy<Value = Vec<(String, Tree)>> {
    let odd = ["", "a.b", "`", "\\", "__x__", "\0", "\u{1F600}", "é", "\"", "$serde_json::private::RawValue"];
    let odd = odd.map(str::to_owned).to_vec();
    let key = prop_oneof!["[a-e]", any::<String>(), proptest::sample::select(odd)];
    proptest::collection::vec((key, value), 0..most).prop_map(|mut entries| {
        let mut seen = std::collections::BTreeSet::new();
        entries.retain(|(key, _)| seen.insert(key.clone()));
        entries
    })
}
