//! Gives a document another name and its references other targets, and leaves every other byte as it is.
//!
//! A restore into another database must point references at the copies. The document is walked as protobuf's wire
//! format, never decoded: tags, unknown fields and the order of everything are copied, a message that encloses no
//! change is copied raw, and only the lengths around a change are computed again. A document in which nothing changes
//! is handed back as it came, without a copy.

use std::borrow::Cow;

use firebackup_model::document::{FIELDS_FIELD, NAME_FIELD};
use firebackup_model::path::{DocumentPath, PathError};
use firebackup_model::wire::{self, Field, Fields, Value as Wire, WireError};
use firebackup_model::{DatabaseName, PathRange};

use crate::document_value::{ARRAY_VALUES, ENTRY_VALUE, MAP_FIELDS, MAX_DEPTH, kind};

/// Why a document could not be rewritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// The protobuf is malformed.
    #[error("could not rewrite a document: its bytes are malformed")]
    Wire(#[from] WireError),
    /// A new name was given, but there is none to replace.
    #[error("could not rewrite a document: it holds no name")]
    Name,
    /// More levels of maps and arrays than Firestore could have stored.
    #[error("could not rewrite a document: its values nest deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Replaces the name of `document` by `name`, where one is given, and each reference in it, at any depth, by what
/// `reference` says for it; nothing keeps the reference.
///
/// `document` is a `google.firestore.v1.Document`; names and references are full resource names. The result borrows
/// `document` when nothing changes. A reference that is not UTF-8 is kept without asking.
///
/// ```
/// # use firebackup_codec::rewrite::{ReferenceMap, RewriteError, rewrite};
/// # use firebackup_model::DatabaseName;
/// # let document = firebackup_model::wire::put_bytes_field;
/// # let mut bytes = Vec::new();
/// # document(&mut bytes, 1, b"projects/p/databases/(default)/documents/users/a");
/// let map = ReferenceMap {
///     from: DatabaseName::new("p", "(default)"),
///     to: DatabaseName::new("copy", "(default)"),
///     renames: Vec::new(),
/// };
/// let name = "projects/copy/databases/(default)/documents/users/a";
/// let rewritten = rewrite(&bytes, Some(name), &mut |reference| map.target(reference))?;
/// assert_eq!(firebackup_model::document::head(&rewritten).unwrap().name, name);
/// # Ok::<(), RewriteError>(())
/// ```
///
/// # Errors
/// When the bytes are malformed, hold no name although one is given, or nest too deep.
pub fn rewrite<'d>(
    document: &'d [u8],
    name: Option<&str>,
    reference: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<Cow<'d, [u8]>, RewriteError> {
    let mut walk = Walk { name, named: false, reference };
    let changed = walk.message(document, Message::Document, 0)?;
    if name.is_some() && !walk.named {
        return Err(RewriteError::Name);
    }
    Ok(changed.map_or(Cow::Borrowed(document), Cow::Owned))
}

/// The messages in which a reference can lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Document,
    Entry,
    Value,
    Array,
    Map,
}

impl Message {
    /// Which of them the field `number` of this one holds.
    const fn child(self, number: u32) -> Option<Self> {
        match (self, number) {
            (Self::Document, FIELDS_FIELD) | (Self::Map, MAP_FIELDS) => Some(Self::Entry),
            (Self::Entry, ENTRY_VALUE) | (Self::Array, ARRAY_VALUES) => Some(Self::Value),
            (Self::Value, kind::MAP) => Some(Self::Map),
            (Self::Value, kind::ARRAY) => Some(Self::Array),
            _ => None,
        }
    }
}

struct Walk<'c> {
    name: Option<&'c str>,
    named: bool,
    reference: &'c mut dyn FnMut(&str) -> Option<String>,
}

impl<'c> Walk<'c> {
    /// The message with its changes; nothing when it has none, so that what holds no reference costs no memory.
    fn message(&mut self, message: &[u8], what: Message, depth: usize) -> Result<Option<Vec<u8>>, RewriteError> {
        let depth = depth + usize::from(what == Message::Value);
        if depth > MAX_DEPTH {
            return Err(RewriteError::TooDeep);
        }
        let mut out: Option<Vec<u8>> = None;
        let mut position = 0;
        let mut fields = Fields::of(message);
        while let Some(field) = fields.next()? {
            let changed = self.field(&field, what, depth)?;
            if changed.is_some() && out.is_none() {
                out = Some(message[..position].to_vec());
            }
            if let Some(out) = &mut out {
                match changed {
                    Some(changed) => put_changed(out, &field, &changed),
                    None => out.extend_from_slice(field.raw),
                }
            }
            position += field.raw.len();
        }
        Ok(out)
    }

    /// What a field holds from now on; nothing when it stays.
    fn field<'f>(&mut self, field: &Field<'f>, what: Message, depth: usize) -> Result<Change<'c>, RewriteError> {
        let Wire::Bytes(bytes) = field.value else { return Ok(None) };
        Ok(match (what, field.number) {
            (Message::Document, NAME_FIELD) => {
                self.named = true;
                self.name.filter(|name| name.as_bytes() != bytes).map(|name| Cow::Borrowed(name.as_bytes()))
            }
            (Message::Value, kind::REFERENCE) => self.target(bytes),
            _ => match what.child(field.number) {
                Some(child) => self.message(bytes, child, depth)?.map(Cow::Owned),
                None => None,
            },
        })
    }

    fn target(&mut self, reference: &[u8]) -> Change<'c> {
        let name = std::str::from_utf8(reference).ok()?;
        let target = (self.reference)(name)?;
        (target != name).then(|| Cow::Owned(target.into_bytes()))
    }
}

type Change<'c> = Option<Cow<'c, [u8]>>;

/// Writes a length-delimited field with its tag as it was spelled and other bytes.
fn put_changed(out: &mut Vec<u8>, field: &Field<'_>, bytes: &[u8]) {
    let tag = wire::varint(field.raw).map_or(0, |(_, length)| length);
    out.extend_from_slice(&field.raw[..tag]);
    wire::put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Where documents and references of one database belong in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceMap {
    /// The database they come from.
    pub from: DatabaseName,
    /// The database they go to.
    pub to: DatabaseName,
    /// Collection paths and the collection paths that take their place; the longest that matches counts.
    pub renames: Vec<(String, String)>,
}

/// A pair of collection paths that cannot be a rename.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenameError {
    /// One of them names no collection.
    #[error(
        "cannot rename `{from}` to `{to}`: each must be a collection path, such as `users` or `users/alice/orders`"
    )]
    Path {
        /// The collection that was to be renamed.
        from: String,
        /// Its new path.
        to: String,
    },
    /// The collection is renamed twice.
    #[error("cannot rename `{from}` to two collections")]
    Twice {
        /// The collection.
        from: String,
    },
}

impl ReferenceMap {
    /// A map from one database to another that renames collections, each pair checked.
    ///
    /// # Errors
    /// When a rename is not from one collection path to another, or a collection is renamed twice.
    pub fn new(from: DatabaseName, to: DatabaseName, renames: Vec<(String, String)>) -> Result<Self, RenameError> {
        for (index, (old, new)) in renames.iter().enumerate() {
            // only a collection path makes a range of its documents
            if PathRange::collection(old).is_err() || PathRange::collection(new).is_err() {
                return Err(RenameError::Path { from: old.clone(), to: new.clone() });
            }
            if renames[..index].iter().any(|(before, _)| before == old) {
                return Err(RenameError::Twice { from: old.clone() });
            }
        }
        Ok(Self { from, to, renames })
    }

    /// Whether it leaves every name as it is.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.from == self.to && self.renames.iter().all(|(old, new)| old == new)
    }

    /// What the full name `name` becomes; nothing when it does not lie under the documents root of `from`.
    ///
    /// `name` need not be a document's: a collection's name, or the documents root itself, moves the same way.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<String> {
        match self.from.relative(name) {
            Some(path) => Some(self.to.document_name(&self.renamed(path))),
            None => (name == self.from.documents_root()).then(|| self.to.documents_root()),
        }
    }

    /// The path that the document at `path` has in `to`.
    ///
    /// # Errors
    /// When the renamed path is too long or too deep.
    pub fn path(&self, path: &DocumentPath) -> Result<DocumentPath, PathError> {
        match self.renamed(path.as_str()) {
            Cow::Borrowed(_) => Ok(path.clone()),
            Cow::Owned(renamed) => DocumentPath::new(renamed),
        }
    }

    /// As [`Self::path`], as the full name of the document in `to`: what [`rewrite`] takes.
    ///
    /// # Errors
    /// As [`Self::path`].
    pub fn name(&self, path: &DocumentPath) -> Result<String, PathError> {
        self.path(path).map(|path| self.to.document_name(path.as_str()))
    }

    fn renamed<'p>(&self, path: &'p str) -> Cow<'p, str> {
        let matching = self.renames.iter().filter_map(|(old, new)| Some((old.len(), below(path, old)?, new)));
        match matching.max_by_key(|(length, ..)| *length) {
            Some((_, rest, new)) => Cow::Owned(format!("{new}{rest}")),
            None => Cow::Borrowed(path),
        }
    }
}

/// What follows `collection` in `path`: nothing, or a slash and the rest.
fn below<'p>(path: &'p str, collection: &str) -> Option<&'p str> {
    path.strip_prefix(collection).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document_generator::{Sample, Tree, nested, of_one_field, sample};
    use firebackup_model::wire::put_bytes_field;
    use proptest::prelude::*;

    fn keep(_: &str) -> Option<String> {
        None
    }

    fn reference(name: &str) -> Tree {
        Tree::Reference(name.to_owned())
    }

    #[test]
    fn every_byte_around_a_change_stays_as_it_was_spelled() {
        // unknown fields of all wire types, a tag of two bytes where one would do, and an entry with an overlong length
        let around: &[&[u8]] = &[
            &[0x78, 0x81, 0x00],
            &[0x79, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x7b, 0x08, 1, 0x7c],
            &[0x12, 0x87, 0x00, 0x0a, 1, b'k', 0x12, 2, 0x58, 0],
        ];
        let value = Tree::Reference("old/target".to_owned()).encode();
        let document = |name: &[u8], value: &[u8]| {
            let mut entry = vec![0x78, 1];
            put_bytes_field(&mut entry, 2, value);
            put_bytes_field(&mut entry, 1, b"key behind its value");
            let mut out = around[..2].concat();
            out.extend_from_slice(&[0x8a, 0x00, name.len() as u8]); // field 1, spelled long
            out.extend_from_slice(name);
            out.extend_from_slice(&around[2..].concat());
            put_bytes_field(&mut out, 2, &entry);
            out.extend_from_slice(&[0x22, 2, 0x08, 5]);
            out
        };
        let before = document(b"old", &value);
        let after = rewrite(&before, Some("a longer name"), &mut |name| Some(name.replace("old", "another"))).unwrap();
        assert_eq!(*after, document(b"a longer name", &reference("another/target").encode()));
    }

    #[test]
    fn a_document_without_change_is_not_copied() {
        let document = of_one_field(Tree::Array(vec![reference("x/y"), Tree::Null])).encode();
        let name = of_one_field(Tree::Null).name;
        for name in [None, Some(name.as_str())] {
            assert!(matches!(rewrite(&document, name, &mut keep), Ok(Cow::Borrowed(_))));
            assert!(matches!(rewrite(&document, name, &mut |same| Some(same.to_owned())), Ok(Cow::Borrowed(_))));
        }
    }

    #[test]
    fn what_only_looks_like_a_reference_stays() {
        let mut document = of_one_field(Tree::Map(vec![("x/y".to_owned(), Tree::Text("x/y".to_owned()))])).encode();
        let mut function = Vec::new(); // a value of a kind that no stored document has
        put_bytes_field(&mut function, 20, &reference("x/y").encode());
        let mut not_utf8 = Vec::new();
        put_bytes_field(&mut not_utf8, 5, b"x/\xff");
        for value in [function, not_utf8] {
            put_bytes_field(&mut document, 2, &crate::document_value::entry_message(b"k", &value));
        }
        assert!(matches!(rewrite(&document, None, &mut |_| Some("z".to_owned())), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn a_name_must_be_there_to_be_replaced() {
        let document = [0x22, 2, 0x08, 5];
        assert_eq!(rewrite(&document, Some("n"), &mut keep), Err(RewriteError::Name));
        assert_eq!(rewrite(&document, None, &mut keep).as_deref(), Ok(&document[..]));
        assert!(matches!(rewrite(&[0x0a, 9], None, &mut keep), Err(RewriteError::Wire(_))));
    }

    #[test]
    fn goes_down_64_levels_on_a_small_stack_and_no_further() {
        let document = |name: &str, levels| of_one_field(nested(reference(name), levels)).encode();
        let (deepest, expected) = (document("x/y", 63), document("a longer name/z", 63));
        let too_deep = [document("x/y", 64), document("x/y", 400)];
        let check = move || {
            let change = &mut |_: &str| Some("a longer name/z".to_owned());
            assert_eq!(*rewrite(&deepest, None, change).unwrap(), expected);
            for document in too_deep {
                assert_eq!(rewrite(&document, None, change), Err(RewriteError::TooDeep));
            }
        };
        std::thread::Builder::new().stack_size(256 * 1024).spawn(check).unwrap().join().unwrap();
    }

    fn map(renames: &[(&str, &str)]) -> ReferenceMap {
        let renames = renames.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        let (from, to) = (DatabaseName::new("p", "(default)"), DatabaseName::new("q", "copy"));
        ReferenceMap::new(from, to, renames).unwrap()
    }

    #[test]
    fn references_move_with_their_collection() {
        let map = map(&[("users", "people"), ("users/a/orders", "archive/2026/orders"), ("users/a/orders/1/x", "y")]);
        for (from, to) in [
            ("/documents/users/a", "/documents/people/a"),
            ("/documents/users/b/orders/1", "/documents/people/b/orders/1"),
            ("/documents/users/a/orders/1", "/documents/archive/2026/orders/1"),
            ("/documents/users/a/orders/1/x/2", "/documents/y/2"),
            ("/documents/users/a/orders2/1", "/documents/people/a/orders2/1"),
            ("/documents/users2/a", "/documents/users2/a"),
            ("/documents/x/users/users/a", "/documents/x/users/users/a"),
            // not a document's name, but in the database all the same
            ("/documents/users", "/documents/people"),
            ("/documents/users/", "/documents/people/"),
            ("/documents/", "/documents/"),
            ("/documents", "/documents"),
            ("/documents//users", "/documents//users"),
        ] {
            let target = map.target(&format!("projects/p/databases/(default){from}"));
            assert_eq!(target.as_deref(), Some(format!("projects/q/databases/copy{to}").as_str()), "{from}");
        }
    }

    #[test]
    fn references_elsewhere_stay() {
        let map = map(&[("users", "people")]);
        for name in [
            "projects/p/databases/(default)",
            "projects/p/databases/(default)/documentsx",
            "projects/p/databases/(default)/indexes/users/a",
            "projects/p/databases/(default)2/documents/users/a",
            "projects/p2/databases/(default)/documents/users/a",
            "users/a",
            "/",
            "",
        ] {
            assert_eq!(map.target(name), None, "{name}");
        }
    }

    #[test]
    fn a_document_moves_as_references_to_it_do() {
        let map = map(&[("users", "people")]);
        let path = DocumentPath::new("users/a/orders/1").unwrap();
        assert_eq!(map.path(&path).unwrap().as_str(), "people/a/orders/1");
        assert_eq!(Some(map.name(&path).unwrap()), map.target(&map.from.document_name(path.as_str())));
        let long = DocumentPath::new(format!("users/{}", "x".repeat(6_100))).unwrap();
        let longer = ReferenceMap { renames: vec![("users".to_owned(), "y".repeat(100))], ..map };
        assert!(longer.path(&long).is_err());
    }

    #[test]
    fn refuses_renames_that_name_no_collection_or_twice() {
        let of = |renames: &[(&str, &str)]| {
            let renames = renames.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
            ReferenceMap::new(DatabaseName::new("p", "d"), DatabaseName::new("p", "d"), renames)
        };
        for (from, to) in [("", "a"), ("a", ""), ("a/b", "c"), ("a", "b/c"), ("a/", "b"), ("a", "/b"), ("a//b", "c")] {
            assert!(matches!(of(&[(from, to)]), Err(RenameError::Path { .. })), "{from} {to}");
        }
        assert!(matches!(of(&[("a", "b"), ("a", "c")]), Err(RenameError::Twice { .. })));
        assert!(of(&[]).unwrap().is_identity() && of(&[("a", "a")]).unwrap().is_identity());
        assert!(!of(&[("a", "b")]).unwrap().is_identity() && !map(&[]).is_identity());
    }

    fn with_references(sample: &Sample, change: &dyn Fn(&str) -> Option<String>) -> Sample {
        sample.map(&mut |tree| match tree {
            Tree::Reference(name) => Tree::Reference(change(&name).unwrap_or(name)),
            other => other,
        })
    }

    proptest! {
        #[test]
        fn changes_name_and_references_and_nothing_else(sample in sample(), renamed: bool) {
            let map = map(&[("users", "orders"), ("orders", "a"), ("a/orders/users", "users")]);
            let target = |name: &str| map.target(name);
            let mut expected = with_references(&sample, &target);
            if renamed {
                expected.name = "another".to_owned();
            }
            let bytes = sample.encode();
            let rewritten = rewrite(&bytes, renamed.then_some("another"), &mut |name| target(name)).unwrap();
            prop_assert_eq!(&*rewritten, &expected.encode());
            prop_assert_eq!(matches!(rewritten, Cow::Borrowed(_)), expected == sample);
        }

        #[test]
        fn there_and_back_gives_the_same_bytes(sample in sample()) {
            let there = map(&[("users", "people"), ("a", "users"), ("people", "a")]);
            let back = ReferenceMap {
                from: there.to.clone(),
                to: there.from.clone(),
                renames: there.renames.iter().map(|(from, to)| (to.clone(), from.clone())).collect(),
            };
            let bytes = sample.encode();
            let moved = rewrite(&bytes, Some("moved"), &mut |name| there.target(name)).unwrap();
            let returned = rewrite(&moved, Some(&sample.name), &mut |name| back.target(name)).unwrap();
            prop_assert_eq!(&*returned, &bytes);
        }

        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>, sample in sample(), at: prop::sample::Index, byte: u8) {
            let mut damaged = sample.encode();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            for bytes in [&bytes[..], &damaged, &damaged[..at]] {
                if let Ok(rewritten) = rewrite(bytes, None, &mut |name| Some(format!("{name}!"))) {
                    prop_assert!(matches!(rewrite(&rewritten, None, &mut keep), Ok(Cow::Borrowed(_))));
                }
            }
        }
    }
}
