//! Counts what there should be: documents of each collection group at a proven point, and what came and went since.
//!
//! A stream of changes does not say whether a document is new. One that was created at or before the point was there; one
//! created later is taken for new, and one that is gone for one that was there. Both may be wrong where a document came and
//! went between two points: then the count does not come out, and [`Ledger::assumed`] says which to look up.

use std::collections::BTreeMap;

use bytes::Bytes;
use firebackup_model::{DocumentPath, Timestamp, document};

/// What is known of documents since a proven point.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    /// The proven point.
    pub(crate) anchor: Timestamp,
    /// Documents of each collection group at that point.
    counts: BTreeMap<String, u64>,
    changed: BTreeMap<DocumentPath, Existence>,
}

#[derive(Debug, Clone, Copy)]
struct Existence {
    before: bool,
    is_assumed: bool,
    now: bool,
}

impl Ledger {
    pub(crate) const fn new(anchor: Timestamp, counts: BTreeMap<String, u64>) -> Self {
        Self { anchor, counts, changed: BTreeMap::new() }
    }

    /// Takes a change; nothing for a document that is gone.
    pub(crate) fn apply(&mut self, path: &DocumentPath, body: Option<&Bytes>) {
        let now = body.is_some();
        if let Some(existence) = self.changed.get_mut(path) {
            existence.now = now;
            return;
        }
        let created = body.and_then(|body| document::head(body).ok()).and_then(|head| head.create_time);
        let was_there = created.is_some_and(|created| created <= self.anchor);
        let existence = Existence { before: was_there || !now, is_assumed: !was_there, now };
        self.changed.insert(path.clone(), existence);
    }

    /// A document of which it is known that it was not there before.
    pub(crate) fn apply_new(&mut self, path: &DocumentPath, now: bool) {
        self.changed.insert(path.clone(), Existence { before: false, is_assumed: false, now });
    }

    /// The documents of some groups of which it is assumed whether they were there.
    pub(crate) fn assumed(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<DocumentPath> {
        let assumed =
            self.changed.iter().filter(|(path, existence)| existence.is_assumed && is_wanted(path.collection_group()));
        assumed.map(|(path, _)| path.clone()).collect()
    }

    /// Says whether a document was there at the point.
    pub(crate) fn resolve(&mut self, path: &DocumentPath, before: bool) {
        if let Some(existence) = self.changed.get_mut(path) {
            (existence.before, existence.is_assumed) = (before, false);
        }
    }

    /// A group of which nothing was known.
    pub(crate) fn add_group(&mut self, group: &str) {
        self.counts.entry(group.to_owned()).or_default();
    }

    /// The groups that are known, with and without documents.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.counts.keys().map(String::as_str)
    }

    /// How many documents each group should have now. A group that would have less than none has none.
    pub(crate) fn expected(&self) -> BTreeMap<String, u64> {
        let mut expected: BTreeMap<&str, i128> =
            self.counts.iter().map(|(group, count)| (group.as_str(), i128::from(*count))).collect();
        for (path, existence) in &self.changed {
            let change = i128::from(existence.now) - i128::from(existence.before);
            *expected.entry(path.collection_group()).or_default() += change;
        }
        let count = |count: i128| u64::try_from(count.max(0)).unwrap_or(u64::MAX);
        expected.into_iter().map(|(group, documents)| (group.to_owned(), count(documents))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_model::document::{CREATE_TIME_FIELD, NAME_FIELD};
    use firebackup_model::wire::put_bytes_field;

    fn path(text: &str) -> DocumentPath {
        DocumentPath::new(text).unwrap()
    }

    fn created(second: u8) -> Bytes {
        let mut bytes = Vec::new();
        put_bytes_field(&mut bytes, NAME_FIELD, b"projects/p/databases/d/documents/a/b");
        put_bytes_field(&mut bytes, CREATE_TIME_FIELD, &[0x08, second]);
        bytes.into()
    }

    fn ledger() -> Ledger {
        Ledger::new(Timestamp::new(10, 0), [("a".to_owned(), 5), ("empty".to_owned(), 0)].into())
    }

    #[test]
    fn creations_count_up_deletions_down_and_updates_not_at_all() {
        let mut ledger = ledger();
        ledger.apply(&path("a/new"), Some(&created(11)));
        ledger.apply(&path("a/old"), Some(&created(9)));
        ledger.apply(&path("a/gone"), None);
        ledger.apply(&path("b/x/c/1"), Some(&created(12)));
        let expected = ledger.expected();
        assert_eq!(expected, [("a".into(), 5), ("c".into(), 1), ("empty".into(), 0)].into());
        ledger.apply(&path("a/new"), None);
        ledger.apply(&path("a/gone"), Some(&created(13)));
        assert_eq!(ledger.expected()["a"], 5);
        assert_eq!(ledger.assumed(|group| group == "a"), [path("a/gone"), path("a/new")]);
    }

    #[test]
    fn what_was_assumed_can_be_put_right() {
        let mut ledger = ledger();
        // created again between two points, and created and deleted between two points
        ledger.apply(&path("a/again"), Some(&created(11)));
        ledger.apply(&path("a/never"), None);
        ledger.apply(&path("empty/never"), None);
        assert_eq!((ledger.expected()["a"], ledger.expected()["empty"]), (5, 0));
        ledger.resolve(&path("a/again"), true);
        ledger.resolve(&path("a/never"), false);
        assert_eq!(ledger.expected()["a"], 5);
        assert_eq!(ledger.assumed(|_| true), [path("empty/never")]);
        ledger.apply_new(&path("late/1"), true);
        assert_eq!(ledger.expected()["late"], 1);
    }
}
