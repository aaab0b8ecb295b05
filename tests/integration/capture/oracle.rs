//! What a database held at any time, as its writer knows it: from what it sent, and the commit times it was answered.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use firebackup_codec::canonical::canonical;
use firebackup_model::{DocumentPath, Timestamp, document};

/// A document, its times among it.
#[derive(Clone, PartialEq, Eq)]
pub struct Known {
    /// In canonical form.
    pub content: Vec<u8>,
    pub created: Timestamp,
    pub updated: Timestamp,
}

impl Known {
    /// A document as a server sent it.
    pub fn of(document: &[u8]) -> Self {
        let head = document::head(document).unwrap();
        let content = canonical(document).unwrap();
        Self { content, created: head.create_time.unwrap(), updated: head.update_time.unwrap() }
    }
}

/// All documents at one moment.
pub type State = BTreeMap<DocumentPath, Known>;

/// What a document was from a commit on; nothing when it was gone.
struct Version {
    from: Timestamp,
    document: Option<Known>,
}

/// What a commit made of a document.
pub struct Commit {
    pub path: DocumentPath,
    pub at: Timestamp,
    /// Nothing when it was gone.
    pub document: Option<Known>,
    /// Whether it changed anything, so that an event tells of it.
    pub is_change: bool,
}

impl Commit {
    pub fn is_gone(&self) -> bool {
        self.document.is_none()
    }
}

/// Everything that was committed.
#[derive(Default)]
pub struct Oracle(Mutex<BTreeMap<DocumentPath, Vec<Version>>>);

impl Oracle {
    fn versions(&self) -> MutexGuard<'_, BTreeMap<DocumentPath, Vec<Version>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a commit: a content and its update time, which is an earlier one where nothing was changed, or nothing for a
    /// deletion. Those of one document are noted in their order.
    pub fn note(&self, path: DocumentPath, written: Option<(Vec<u8>, Timestamp)>, at: Timestamp) {
        let mut versions = self.versions();
        let versions = versions.entry(path).or_default();
        let before = versions.last().and_then(|version| version.document.as_ref());
        let created = before.map_or(at, |before| before.created);
        let document = written.map(|(content, updated)| Known { content, created, updated });
        assert!(versions.last().is_none_or(|version| version.from <= at), "commits are noted in their order");
        versions.push(Version { from: at, document });
    }

    /// What there was at a moment, whatever was committed at it included.
    pub fn at(&self, moment: Timestamp) -> State {
        let versions = self.versions();
        let last = |versions: &Vec<Version>| {
            versions.iter().rfind(|version| version.from <= moment).and_then(|version| version.document.clone())
        };
        versions.iter().filter_map(|(path, versions)| Some((path.clone(), last(versions)?))).collect()
    }

    /// All that was committed, by document.
    pub fn commits(&self) -> Vec<Commit> {
        let versions = self.versions();
        let of = |(path, versions): (&DocumentPath, &Vec<Version>)| {
            let mut was_there = false;
            let commit = |Version { from, document }: &Version| {
                // what is written as it was keeps its update time
                let is_change = document.as_ref().map_or(was_there, |document| document.updated == *from);
                was_there = document.is_some();
                Commit { path: path.clone(), at: *from, document: document.clone(), is_change }
            };
            versions.iter().map(commit).collect::<Vec<_>>()
        };
        versions.iter().flat_map(of).collect()
    }

    /// When something was committed last.
    pub fn last_commit(&self) -> Timestamp {
        self.versions().values().filter_map(|versions| Some(versions.last()?.from)).max().unwrap_or_default()
    }
}

/// In which documents a state differs from what it should be, and how.
pub fn differences(actual: &State, expected: &State) -> Vec<String> {
    let since = |known: Option<&Known>| known.map(|known| known.updated.to_string());
    let paths = actual.keys().chain(expected.keys().filter(|path| !actual.contains_key(*path)));
    let differing = paths.filter(|path| actual.get(*path) != expected.get(*path));
    let told = |path: &DocumentPath| {
        let (actual, expected) = (since(actual.get(path)), since(expected.get(path)));
        format!("{path} of {actual:?} instead of {expected:?}")
    };
    differing.map(told).collect()
}

/// Contents without the times, which a restore cannot set.
pub fn contents(state: &State) -> BTreeMap<DocumentPath, Bytes> {
    state.iter().map(|(path, known)| (path.clone(), known.content.clone().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_made_of_the_last_commits_at_or_before_it() {
        let path = |text: &str| DocumentPath::new(text).unwrap();
        let at = |second| Timestamp::new(second, 0);
        let oracle = Oracle::default();
        oracle.note(path("a/1"), Some((vec![1], at(1))), at(1));
        oracle.note(path("a/1"), Some((vec![2], at(3))), at(3));
        oracle.note(path("a/2"), Some((vec![3], at(3))), at(3));
        oracle.note(path("a/2"), Some((vec![3], at(3))), at(4));
        oracle.note(path("a/1"), None, at(5));
        oracle.note(path("a/1"), Some((vec![4], at(7))), at(7));
        assert!(oracle.at(at(0)).is_empty());
        let known = |content: u8, created, updated| Known { content: vec![content], created, updated };
        assert!(oracle.at(at(2)) == [(path("a/1"), known(1, at(1), at(1)))].into());
        assert!(
            oracle.at(at(3)) == [(path("a/1"), known(2, at(1), at(3))), (path("a/2"), known(3, at(3), at(3)))].into()
        );
        assert!(oracle.at(at(6)) == [(path("a/2"), known(3, at(3), at(3)))].into());
        let differing = ["a/1 of None instead of Some(\"1970-01-01T00:00:07Z\")"];
        assert_eq!(differences(&oracle.at(at(6)), &oracle.at(at(7))), differing);
        assert!(oracle.at(at(7))[&path("a/1")] == known(4, at(7), at(7)));
        assert_eq!(oracle.last_commit(), at(7));
        let told = |commit: &Commit| (commit.at.seconds, commit.is_change, commit.is_gone());
        let commits: Vec<_> = oracle.commits().iter().map(told).collect();
        let of_first = [(1, true, false), (3, true, false), (5, true, true), (7, true, false)];
        assert_eq!(commits, [&of_first[..], &[(3, true, false), (4, false, false)]].concat());
    }
}
