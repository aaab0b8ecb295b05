//! Which documents a job is about.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

use crate::path::DocumentPath;
use crate::range::{PathRange, RangeStart, intersect, without};

/// What is in and what is out, as the user wrote it.
///
/// A collection pattern is a collection path (`users`, `users/alice/orders`) in which `*` stands for any one segment and
/// `**` for any number of them: `**/orders` is the collection group. Everything below a selected document is selected
/// with it, unless `subcollections` is off. A backslash takes the meaning from a special character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Selection {
    /// Collection patterns to take; none means all.
    #[serde(default)]
    pub include: Vec<String>,
    /// Collection patterns to leave out, with everything below them.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Globs over whole document paths that a document must match one of; none means all.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Whether included collections bring what lies below their documents.
    #[serde(default = "yes")]
    pub subcollections: bool,
}

const fn yes() -> bool {
    true
}

impl Default for Selection {
    fn default() -> Self {
        Self { include: Vec::new(), exclude: Vec::new(), paths: Vec::new(), subcollections: true }
    }
}

/// A pattern that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` is not {expected}")]
pub struct SelectionError {
    pattern: String,
    expected: &'static str,
    #[source]
    source: Option<globset::Error>,
}

/// A selection, ready to be asked. Clones share what they know of patterns that fitted nothing so far.
#[derive(Debug, Clone)]
pub struct Filter {
    include: Arc<[Pattern]>,
    exclude: Vec<GlobMatcher>,
    paths: Arc<[Pattern]>,
    /// Which of the paths are documents rather than globs, by their text: there may be very many.
    documents: Arc<HashMap<String, Vec<usize>>>,
    subcollections: bool,
}

/// A pattern that should fit something: one that fits nothing is most likely a mistake in writing.
#[derive(Debug)]
struct Pattern {
    text: String,
    /// Nothing of a document, which is looked up by its path.
    glob: Option<GlobMatcher>,
    has_fitted: AtomicBool,
}

impl Selection {
    /// One document, and nothing below it.
    #[must_use]
    pub fn of_document(path: &DocumentPath) -> Self {
        Self { paths: vec![literal(path.as_str())], ..Self::default() }
    }

    /// Whether it selects every document.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty() && self.paths.is_empty()
    }

    /// Compiles the patterns.
    ///
    /// # Errors
    /// When a pattern is malformed or cannot match what it is for.
    pub fn filter(&self) -> Result<Filter, SelectionError> {
        Ok(Filter {
            include: patterns(&self.include, |pattern| collection_glob(pattern).map(Some))?,
            exclude: self.exclude.iter().map(|pattern| collection_glob(pattern)).collect::<Result<_, _>>()?,
            paths: patterns(&self.paths, path_glob)?,
            documents: Arc::new(documents(&self.paths)),
            subcollections: self.subcollections,
        })
    }

    /// The ranges that hold all selected documents, in order and without overlap; a [`Filter`] may still be needed.
    ///
    /// Only plain patterns narrow the ranges; the others are left to the filter.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn ranges(&self) -> Result<Vec<PathRange>, SelectionError> {
        let mut ranges = included_ranges(&self.include)?;
        if let Some(narrowed) = path_ranges(&self.paths)? {
            ranges = intersect(&ranges, &narrowed);
        }
        for hole in self.exclude.iter().filter(|pattern| is_plain(pattern)) {
            let hole = plain_range(hole)?;
            ranges = without(&ranges, &hole);
        }
        Ok(ranges)
    }
}

/// A glob that fits this text and nothing else.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut glob = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
            glob.push('\\');
        }
        glob.push(character);
    }
    glob
}

/// The ranges of documents, and of the literal beginnings of path globs, where every glob has one.
fn path_ranges(globs: &[String]) -> Result<Option<Vec<PathRange>>, SelectionError> {
    let mut ranges = Vec::new();
    for glob in globs {
        match path_range(glob)? {
            Some(range) => ranges.push(range),
            None => return Ok(None),
        }
    }
    Ok(if ranges.is_empty() { None } else { Some(disjoint(ranges)) })
}

fn path_range(glob: &str) -> Result<Option<PathRange>, SelectionError> {
    let literal: Vec<&str> = glob.split('/').take_while(|segment| is_plain(segment)).collect();
    let document = document_of(glob).and_then(|path| PathRange::document(&path).ok());
    if let Some(range) = document {
        return Ok(Some(range));
    }
    // the odd number of segments that name the collection in which the glob begins to vary
    let length = if literal.len().is_multiple_of(2) { literal.len().saturating_sub(1) } else { literal.len() };
    if length == 0 { Ok(None) } else { plain_range(&literal[..length].join("/")).map(Some) }
}

fn included_ranges(include: &[String]) -> Result<Vec<PathRange>, SelectionError> {
    if include.is_empty() || !include.iter().all(|pattern| is_plain(pattern)) {
        return Ok(vec![PathRange::everything()]);
    }
    let ranges = include.iter().map(|collection| plain_range(collection)).collect::<Result<_, _>>()?;
    Ok(disjoint(ranges))
}

/// In order, without those that lie in others. They are of collections and documents, which never overlap otherwise.
fn disjoint(mut ranges: Vec<PathRange>) -> Vec<PathRange> {
    let start = |range: &PathRange| match &range.start {
        RangeStart::Beginning => None,
        RangeStart::At(path) | RangeStart::After(path) => Some(path.clone()),
    };
    ranges.sort_by_cached_key(|range| (start(range), std::cmp::Reverse(range.end.clone())));
    let mut disjoint: Vec<PathRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        let is_nested = |last: &PathRange| start(&range).is_some_and(|start| last.covers(&start));
        if !disjoint.last().is_some_and(is_nested) {
            disjoint.push(range);
        }
    }
    disjoint
}

/// The documents among path globs, and where each stands.
fn documents(globs: &[String]) -> HashMap<String, Vec<usize>> {
    let mut documents: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, glob) in globs.iter().enumerate() {
        if let Some(path) = document_of(glob) {
            documents.entry(path.to_string()).or_default().push(place);
        }
    }
    documents
}

/// The one document that a path glob fits, where it varies nowhere: the inverse of [`literal`].
fn document_of(glob: &str) -> Option<DocumentPath> {
    let mut path = String::with_capacity(glob.len());
    let mut characters = glob.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => path.push(characters.next()?),
            '*' | '?' | '[' | ']' | '{' | '}' => return None,
            plain => path.push(plain),
        }
    }
    DocumentPath::new(path).ok()
}

fn is_plain(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

fn plain_range(collection: &str) -> Result<PathRange, SelectionError> {
    PathRange::collection(collection).map_err(|_| SelectionError {
        pattern: collection.to_owned(),
        expected: COLLECTION,
        source: None,
    })
}

const COLLECTION: &str = "a collection (an odd number of segments, such as `users` or `users/alice/orders`)";
const PATH: &str = "a path or path glob (such as `users/alice`, `users/*` or `users/**`)";

fn collection_glob(pattern: &str) -> Result<GlobMatcher, SelectionError> {
    let has_double_star = pattern.split('/').any(|segment| segment == "**");
    if !has_double_star && pattern.split('/').count().is_multiple_of(2) {
        return Err(SelectionError { pattern: pattern.to_owned(), expected: COLLECTION, source: None });
    }
    glob(pattern, COLLECTION)
}

fn path_glob(pattern: &str) -> Result<Option<GlobMatcher>, SelectionError> {
    if document_of(pattern).is_some() { Ok(None) } else { glob(pattern, PATH).map(Some) }
}

fn glob(pattern: &str, expected: &'static str) -> Result<GlobMatcher, SelectionError> {
    let error = |source| SelectionError { pattern: pattern.to_owned(), expected, source };
    if pattern.is_empty() || pattern.split('/').any(str::is_empty) {
        return Err(error(None));
    }
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|source| error(Some(source)))
}

fn patterns(
    texts: &[String],
    glob: impl Fn(&str) -> Result<Option<GlobMatcher>, SelectionError>,
) -> Result<Arc<[Pattern]>, SelectionError> {
    let pattern =
        |text: &String| Ok(Pattern { text: text.clone(), glob: glob(text)?, has_fitted: AtomicBool::new(false) });
    texts.iter().map(pattern).collect()
}

impl Filter {
    /// Whether the document at `path` is selected.
    #[must_use]
    pub fn selects(&self, path: &DocumentPath) -> bool {
        let collection = path.collection();
        let is_included =
            |glob: &GlobMatcher| glob.is_match(collection) || self.subcollections && fits_above(glob, collection);
        (self.include.is_empty() || any(&self.include, is_included))
            && !self.exclude.iter().any(|glob| glob.is_match(collection) || fits_above(glob, collection))
            && (self.paths.is_empty() || self.fits_path(path.as_str()))
    }

    fn fits_path(&self, path: &str) -> bool {
        let named = self.documents.get(path).into_iter().flatten().filter_map(|place| self.paths.get(*place));
        let is_named = named.fold(false, |_, pattern| pattern.fits());
        // both are asked: what has fitted is told
        any(&self.paths, |glob| glob.is_match(path)) || is_named
    }

    /// The patterns to take that have fitted none of the documents asked about so far, as the user wrote them.
    #[must_use]
    pub fn unmatched(&self) -> Vec<String> {
        let patterns = self.include.iter().chain(self.paths.iter());
        let unmatched = patterns.filter(|pattern| !pattern.has_fitted.load(Ordering::Relaxed));
        unmatched.map(|pattern| pattern.text.clone()).collect()
    }
}

/// Whether a pattern fits. Those that have never done so are asked even when another one fits already.
fn any(patterns: &[Pattern], fits: impl Fn(&GlobMatcher) -> bool) -> bool {
    let mut found = false;
    for pattern in patterns {
        let Some(glob) = &pattern.glob else { continue };
        if !(found && pattern.has_fitted.load(Ordering::Relaxed)) && fits(glob) {
            found = pattern.fits();
        }
    }
    found
}

impl Pattern {
    /// Notes that it fits.
    fn fits(&self) -> bool {
        if !self.has_fitted.load(Ordering::Relaxed) {
            self.has_fitted.store(true, Ordering::Relaxed);
        }
        true
    }
}

/// Whether a glob matches a collection that this one lies below.
fn fits_above(glob: &GlobMatcher, collection: &str) -> bool {
    let mut ends = collection.match_indices('/').map(|(index, _)| index).step_by(2);
    ends.any(|end| glob.is_match(&collection[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selection(include: &[&str], exclude: &[&str], paths: &[&str]) -> Selection {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Selection { include: own(include), exclude: own(exclude), paths: own(paths), subcollections: true }
    }

    fn check(selection: &Selection, path: &str, expected: bool) {
        let path = DocumentPath::new(path).unwrap();
        assert_eq!(selection.filter().unwrap().selects(&path), expected, "{selection:?} {path}");
        if expected {
            assert_eq!(
                selection.ranges().unwrap().iter().filter(|range| range.covers(&path)).count(),
                1,
                "{selection:?} {path}"
            );
        }
    }

    #[test]
    fn collections_bring_what_is_below_them() {
        let users = selection(&["users"], &[], &[]);
        check(&users, "users/a", true);
        check(&users, "users/a/orders/1", true);
        check(&users, "users2/a", false);
        let flat = Selection { subcollections: false, ..users };
        check(&flat, "users/a", true);
        check(&flat, "users/a/orders/1", false);
    }

    #[test]
    fn groups_nested_collections_and_exclusions() {
        let orders = selection(&["**/orders"], &[], &[]);
        check(&orders, "users/a/orders/1", true);
        check(&orders, "orders/1", true);
        check(&orders, "users/a", false);
        let nested = selection(&["users", "users/a/orders"], &["users/a/orders/1/lines", "logs"], &[]);
        check(&nested, "users/a/orders/1", true);
        check(&nested, "users/a/orders/1/lines/x", false);
        check(&selection(&[], &["logs"], &[]), "logs/1", false);
        check(&selection(&[], &["logs"], &[]), "log/1", true);
        check(&selection(&[], &["logs"], &[]), "logt/1", true);
    }

    #[test]
    fn path_globs_stop_at_a_segment() {
        let one = selection(&[], &[], &["users/*"]);
        check(&one, "users/a", true);
        check(&one, "users/a/orders/1", false);
        check(&selection(&[], &[], &["users/**"]), "users/a/orders/1", true);
        check(&selection(&[], &[], &["users/a"]), "users/a", true);
        check(&selection(&[], &[], &["users/a"]), "users/b", false);
        check(&selection(&[], &[], &["users/..*"]), "users/...", true);
        check(&selection(&[], &[], &["users/\\*"]), "users/*", true);
        check(&selection(&[], &[], &["users/\\*"]), "users/a", false);
    }

    #[test]
    fn a_document_is_a_range_of_its_own() {
        let ranges = selection(&[], &[], &["users/b", "users/a", "users/a"]).ranges().unwrap();
        let range = |path: &str| PathRange::document(&DocumentPath::new(path).unwrap()).unwrap();
        assert_eq!(ranges, [range("users/a"), range("users/b")]);
        let all = selection(&[], &[], &["users/b", "users/*"]).ranges().unwrap();
        assert_eq!(all, [PathRange::collection("users").unwrap()]);
        assert_eq!(selection(&["logs"], &[], &["users/a"]).ranges().unwrap(), []);
    }

    #[test]
    fn patterns_that_fit_nothing_are_told() {
        let filter = selection(&["users", "ordrs", "**/lines"], &[], &["users/**", "users/zoe"]).filter().unwrap();
        let clone = filter.clone();
        assert_eq!(filter.unmatched(), ["users", "ordrs", "**/lines", "users/**", "users/zoe"]);
        assert!(clone.selects(&DocumentPath::new("users/a").unwrap()));
        assert_eq!(filter.unmatched(), ["ordrs", "**/lines", "users/zoe"]);
        assert!(filter.selects(&DocumentPath::new("users/a/lines/1").unwrap()));
        assert!(!filter.selects(&DocumentPath::new("zoo/a").unwrap()));
        assert_eq!(filter.unmatched(), ["ordrs", "users/zoe"]);
        let documents = selection(&[], &[], &["users/a", "users/a", "users/b", "users/\\*", "us*/a"]).filter().unwrap();
        assert!(documents.selects(&DocumentPath::new("users/a").unwrap()));
        assert!(!documents.selects(&DocumentPath::new("users/a/orders/1").unwrap()));
        assert_eq!(documents.unmatched(), ["users/b", "users/\\*"]);
    }

    #[test]
    fn refuses_patterns_that_name_nothing() {
        for bad in ["users/a", "", "/users", "users//x", "["] {
            assert!(selection(&[bad], &[], &[]).filter().is_err(), "{bad}");
        }
        assert!(selection(&[], &[], &["users/"]).filter().is_err());
    }

    proptest! {
        #[test]
        fn a_document_is_the_only_one_that_its_glob_fits(path in "[a*?\\[\\]{}\\\\]{1,4}/[ab*?{}\\\\]{1,4}", other in "a/[ab]{1,3}") {
            prop_assume!(DocumentPath::new(path.as_str()).is_ok());
            let (path, other) = (DocumentPath::new(path).unwrap(), DocumentPath::new(other).unwrap());
            let of_it = selection(&[], &[], &[&literal(path.as_str())]);
            check(&of_it, path.as_str(), true);
            check(&of_it, other.as_str(), path == other);
            prop_assert_eq!(of_it.ranges().unwrap(), [PathRange::document(&path).unwrap()]);
        }

        #[test]
        fn what_is_selected_lies_in_exactly_one_range(
            include in proptest::collection::vec("[ab](/[xy]/[cd])?", 0..3),
            exclude in proptest::collection::vec("[ab](/[xy]/[cd])?", 0..3),
            paths in proptest::collection::vec("[ab]/([xy](/[cd]/([xy]|\\*))?|\\*|\\*\\*)", 0..4),
            path in "[ab]/[xy](/[cd]/[xy])?",
        ) {
            let selection = Selection { include, exclude, paths, subcollections: true };
            let path = DocumentPath::new(path).unwrap();
            let hits = selection.ranges().unwrap().iter().filter(|range| range.covers(&path)).count();
            prop_assert!(hits <= 1);
            if selection.filter().unwrap().selects(&path) {
                prop_assert_eq!(hits, 1);
            }
        }
    }
}
