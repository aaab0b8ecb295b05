//! Document paths, and Firestore's order of them.
//!
//! A path is relative to the documents root: `users/alice/orders/7`. The order is Firestore's `__name__` order and
//! every run, range and merge relies on it: segment by segment, a shorter path before the paths below it; ids of the
//! form `__id<n>__` (numeric ids of Datastore) first and by number, all others by their UTF-8 bytes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// The longest path that is accepted, in bytes: Firestore's own limit for a whole document name.
pub const MAX_PATH_BYTES: usize = 6 * 1024;
/// The deepest nesting that is accepted, in segments: sub-collections to depth 100.
pub const MAX_SEGMENTS: usize = 200;
/// The lowest document id there is, for cursors that begin a collection.
pub const LOWEST_ID: &str = "__id-9223372036854775808__";
/// A collection that nobody has, or hardly anybody: what is asked of it tells of the server and costs next to nothing.
pub const PROBE_COLLECTION: &str = "firebackup-probe";

/// A validated document path relative to the documents root; ordered as Firestore orders `__name__`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct DocumentPath(String);

/// Why a text is not a document path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a document path: {reason}")]
pub struct PathError {
    reason: &'static str,
}

impl DocumentPath {
    /// Checks `text` and keeps it.
    ///
    /// # Errors
    /// When it is longer than 6 KiB, deeper than 100 collections, has an empty segment, or names a collection.
    pub fn new(text: impl Into<String>) -> Result<Self, PathError> {
        let text = text.into();
        check(&text)?;
        Ok(Self(text))
    }

    /// The path as text, without a leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of the collection that holds the document: `users/alice/orders` for `users/alice/orders/7`.
    #[must_use]
    pub fn collection(&self) -> &str {
        collection_of(&self.0)
    }

    /// The id of the collection that holds the document: `orders` for `users/alice/orders/7`.
    #[must_use]
    pub fn collection_group(&self) -> &str {
        collection_group_of(&self.0)
    }

    /// The document's own id, the last segment.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

/// The collection path of a document path given as text.
#[must_use]
pub fn collection_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(collection, _)| collection)
}

/// The collection id of a document path given as text.
#[must_use]
pub fn collection_group_of(path: &str) -> &str {
    let collection = collection_of(path);
    collection.rsplit('/').next().unwrap_or(collection)
}

const EMPTY_SEGMENT: PathError = PathError { reason: "empty, or with an empty segment" };

/// Checks that `text` is a document path, without keeping it.
///
/// # Errors
/// As [`DocumentPath::new`].
pub fn check(text: &str) -> Result<(), PathError> {
    if text.len() > MAX_PATH_BYTES {
        return Err(PathError { reason: "longer than 6 KiB" });
    }
    let (mut segments, mut before) = (1, b'/');
    for byte in text.bytes() {
        if byte == b'/' {
            if before == b'/' {
                return Err(EMPTY_SEGMENT);
            }
            segments += 1;
        }
        before = byte;
    }
    if before == b'/' {
        return Err(EMPTY_SEGMENT);
    }
    if segments % 2 != 0 {
        return Err(PathError { reason: "an odd number of segments names a collection, not a document" });
    }
    if segments > MAX_SEGMENTS {
        return Err(PathError { reason: "deeper than 100 collections" });
    }
    Ok(())
}

/// Compares two paths (of documents or collections) in Firestore's `__name__` order.
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    // neighbours mostly differ in their last segment only: skip what they share
    let shared = left.bytes().zip(right.bytes()).take_while(|(a, b)| a == b).count();
    let segment = left.as_bytes()[..shared].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let mut left = left[segment..].split('/');
    let mut right = right[segment..].split('/');
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match compare_segments(a, b) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
        }
    }
}

fn compare_segments(left: &str, right: &str) -> Ordering {
    match (numeric_id(left), numeric_id(right)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => left.as_bytes().cmp(right.as_bytes()),
    }
}

/// The number in `__id<n>__`, when it is spelled as Firestore spells it.
fn numeric_id(segment: &str) -> Option<i64> {
    let digits = segment.strip_prefix("__id")?.strip_suffix("__")?;
    let number: i64 = digits.parse().ok()?;
    let canonical = match digits.strip_prefix('-') {
        Some(magnitude) => !magnitude.starts_with('0'),
        None => digits == "0" || !digits.starts_with(['0', '+']),
    };
    canonical.then_some(number)
}

impl Ord for DocumentPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for DocumentPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for DocumentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for DocumentPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for DocumentPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for DocumentPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for DocumentPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_documents_and_refuses_collections_and_holes() {
        for good in ["a/b", "users/alice/orders/7", "a/.b", "ü/\u{1F600}", "a/__id7__"] {
            assert!(DocumentPath::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "a/b/c", "/a/b", "a//b/c", "a/b/"] {
            assert!(DocumentPath::new(bad).is_err(), "{bad}");
        }
        assert!(DocumentPath::new(vec!["a"; 200].join("/")).is_ok());
        assert!(DocumentPath::new(vec!["a"; 202].join("/")).is_err());
        assert!(DocumentPath::new(format!("a/{}", "x".repeat(MAX_PATH_BYTES))).is_err());
    }

    #[test]
    fn orders_as_firestore_does() {
        let sorted = [
            "a/__id-9223372036854775808__",
            "a/__id-7__",
            "a/__id0__",
            "a/__id7__",
            "a/__id7__/b/c",
            "a/__id10__",
            "a/ ",
            "a/!",
            "a/-",
            "a/0",
            "a/A",
            "a/__id07__",
            "a/a",
            "a/a/b/c",
            "a/a!",
            "a/é",
            "a/\u{FFFF}",
            "a/\u{1F600}",
            "a\0/x",
            "a!/x",
            "b/a",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{:?} < {:?}", pair[0], pair[1]);
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater);
        }
    }

    #[test]
    fn names_its_collection_and_group() {
        let path = DocumentPath::new("users/alice/orders/7").unwrap();
        assert_eq!((path.collection(), path.collection_group(), path.id()), ("users/alice/orders", "orders", "7"));
        let root = DocumentPath::new("users/alice").unwrap();
        assert_eq!((root.collection(), root.collection_group(), root.id()), ("users", "users", "alice"));
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-c!-]{1,3}",
            (-20i64..20).prop_map(|n| format!("__id{n}__")),
            "\\PC{1,3}".prop_map(|s| s.replace('/', "_"))
        ]
    }

    fn path() -> impl Strategy<Value = String> {
        proptest::collection::vec(segment(), 1..6).prop_map(|segments| segments.join("/"))
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in path(), b in path(), c in path()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &b) == Ordering::Equal, a == b);
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
