//! A contiguous range of document paths: what one chunk exports or restores.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::path::{DocumentPath, LOWEST_ID};

/// Where a range begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RangeStart {
    /// Before every document.
    Beginning,
    /// At this path, if there is a document.
    At(DocumentPath),
    /// Right behind this path: where a broken stream goes on.
    After(DocumentPath),
}

/// The paths from `start` up to and without `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PathRange {
    /// Where it begins.
    pub start: RangeStart,
    /// The first path behind it; nothing when it goes on to the last document.
    pub end: Option<DocumentPath>,
}

impl RangeStart {
    /// What starts are ordered by.
    const fn key(&self) -> Option<(&DocumentPath, bool)> {
        match self {
            Self::Beginning => None,
            Self::At(path) => Some((path, false)),
            Self::After(path) => Some((path, true)),
        }
    }
}

impl PathRange {
    /// Every path.
    #[must_use]
    pub const fn everything() -> Self {
        Self { start: RangeStart::Beginning, end: None }
    }

    /// Every document of a collection, given by its path, and all below them.
    ///
    /// # Errors
    /// When `collection` is no collection path.
    pub fn collection(collection: &str) -> Result<Self, crate::path::PathError> {
        let start = DocumentPath::new(format!("{collection}/{LOWEST_ID}"))?;
        let end = DocumentPath::new(format!("{collection}\0/{LOWEST_ID}"))?;
        Ok(Self { start: RangeStart::At(start), end: Some(end) })
    }

    /// The document at `path`, and nothing below it.
    ///
    /// # Errors
    /// When the path is so long that nothing fits below it.
    pub fn document(path: &DocumentPath) -> Result<Self, crate::path::PathError> {
        // the lowest id of a document is none that a collection may have
        let end = DocumentPath::new(format!("{path}/\0/{LOWEST_ID}"))?;
        Ok(Self { start: RangeStart::At(path.clone()), end: Some(end) })
    }

    /// Whether the path lies in the range.
    #[must_use]
    pub fn covers(&self, path: &DocumentPath) -> bool {
        self.covers_text(path.as_str())
    }

    /// Whether the path lies in the range, of a path as text.
    #[must_use]
    pub fn covers_text(&self, path: &str) -> bool {
        let compared = |to: &DocumentPath| crate::path::compare(path, to.as_str());
        let behind_start = match &self.start {
            RangeStart::Beginning => true,
            RangeStart::At(start) => compared(start).is_ge(),
            RangeStart::After(start) => compared(start).is_gt(),
        };
        behind_start && self.end.as_ref().is_none_or(|end| compared(end).is_lt())
    }

    /// Whether the range begins behind `path`.
    #[must_use]
    pub fn behind_all_of(&self, path: &DocumentPath) -> bool {
        match &self.start {
            RangeStart::Beginning => false,
            RangeStart::At(start) => path < start,
            RangeStart::After(start) => path <= start,
        }
    }

    /// Whether no path can lie in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (RangeStart::Beginning, _) | (_, None) => false,
            (RangeStart::At(start) | RangeStart::After(start), Some(end)) => start >= end,
        }
    }

    /// The part that is left once everything up to and with `last` is done.
    #[must_use]
    pub fn behind(&self, last: DocumentPath) -> Self {
        Self { start: RangeStart::After(last), end: self.end.clone() }
    }

    /// Cuts at those of `points` that lie inside; the parts tile the range.
    #[must_use]
    pub fn cut(&self, points: &[DocumentPath]) -> Vec<Self> {
        let mut points: Vec<_> = points.iter().filter(|point| self.covers(point)).cloned().collect();
        points.sort();
        points.dedup();
        if let (RangeStart::At(start), Some(first)) = (&self.start, points.first())
            && start == first
        {
            points.remove(0);
        }
        let mut parts = Vec::with_capacity(points.len() + 1);
        let mut start = self.start.clone();
        for point in points {
            parts.push(Self { start, end: Some(point.clone()) });
            start = RangeStart::At(point);
        }
        parts.push(Self { start, end: self.end.clone() });
        parts
    }

    fn begins_at_or_behind(&self, path: &DocumentPath) -> bool {
        matches!(&self.start, RangeStart::At(start) | RangeStart::After(start) if start >= path)
    }

    /// Whether all of it lies before where the other begins.
    fn ends_before(&self, other: &Self) -> bool {
        self.end.as_ref().is_some_and(|end| other.begins_at_or_behind(end))
    }

    /// The paths that lie in both; empty where none do.
    fn intersection(&self, other: &Self) -> Self {
        let start = if self.start.key() < other.start.key() { &other.start } else { &self.start };
        let end = match (&self.end, &other.end) {
            (Some(one), Some(another)) => Some(one.min(another)),
            (one, another) => one.as_ref().or(another.as_ref()),
        };
        Self { start: start.clone(), end: end.cloned() }
    }

    /// What of the range lies outside `hole`, in order; at most two parts.
    #[must_use]
    pub fn without(&self, hole: &Self) -> Vec<Self> {
        let mut parts = Vec::with_capacity(2);
        let hole_start = match &hole.start {
            RangeStart::Beginning => None,
            RangeStart::At(path) | RangeStart::After(path) => Some(path.clone()),
        };
        if let Some(hole_start) = hole_start {
            let end = match &self.end {
                Some(end) if *end < hole_start => Some(end.clone()),
                _ => Some(hole_start),
            };
            parts.push(Self { start: self.start.clone(), end });
        }
        if let Some(hole_end) = &hole.end {
            let start = match &self.start {
                RangeStart::At(path) | RangeStart::After(path) if path >= hole_end => self.start.clone(),
                _ => RangeStart::At(hole_end.clone()),
            };
            parts.push(Self { start, end: self.end.clone() });
        }
        parts.retain(|part| !part.is_empty());
        parts
    }
}

/// What of `ranges` lies outside `hole`, in order.
#[must_use]
pub fn without(ranges: &[PathRange], hole: &PathRange) -> Vec<PathRange> {
    ranges.iter().flat_map(|range| range.without(hole)).collect()
}

/// What of `left` lies in one of `right`, in order of both. Costs what it comes to, however many there are of either: a selection may
/// name each of a hundred thousand documents.
#[must_use]
pub fn intersect(left: &[PathRange], right: &[PathRange]) -> Vec<PathRange> {
    let right = united(right);
    let within = |range: &PathRange| {
        let first = right.partition_point(|one| one.end.as_ref().is_some_and(|end| range.begins_at_or_behind(end)));
        let reached = right.iter().skip(first).take_while(|one| !range.ends_before(one));
        reached.map(|one| range.intersection(one)).filter(|part| !part.is_empty()).collect::<Vec<_>>()
    };
    left.iter().flat_map(within).collect()
}

/// The same paths as ranges that ascend and do not overlap.
fn united(ranges: &[PathRange]) -> Vec<PathRange> {
    let mut ascending: Vec<&PathRange> = ranges.iter().filter(|range| !range.is_empty()).collect();
    ascending.sort_by(|a, b| a.start.key().cmp(&b.start.key()));
    let mut united: Vec<PathRange> = Vec::with_capacity(ascending.len());
    for range in ascending {
        match united.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| !range.begins_at_or_behind(end)) => {
                let longer = last.end.as_ref().zip(range.end.as_ref()).is_none_or(|(last, end)| last < end);
                if last.end.is_some() && longer {
                    last.end.clone_from(&range.end);
                }
            }
            _ => united.push(range.clone()),
        }
    }
    united
}

impl fmt::Display for PathRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            RangeStart::Beginning => f.write_str("[beginning")?,
            RangeStart::At(path) => write!(f, "[{path:?}")?,
            RangeStart::After(path) => write!(f, "({path:?}")?,
        }
        match &self.end {
            None => f.write_str(", end]"),
            Some(path) => write!(f, ", {path:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> DocumentPath {
        DocumentPath::new(text).unwrap()
    }

    #[test]
    fn a_collection_covers_all_below_it_and_no_sibling() {
        let users = PathRange::collection("users").unwrap();
        for inside in ["users/a", "users/__id-9223372036854775808__", "users/\u{10FFFF}", "users/a/b/c"] {
            assert!(users.covers(&path(inside)), "{inside}");
        }
        for outside in ["user/a", "users2/a", "users!/a", "a/users"] {
            assert!(!users.covers(&path(outside)), "{outside}");
        }
        let orders = PathRange::collection("users/a/orders").unwrap();
        assert!(orders.covers(&path("users/a/orders/1")));
        assert!(!orders.covers(&path("users/a")) && !orders.covers(&path("users/a/orderz/1")));
    }

    /// A drill of a large sample spent its time here: each document's range was taken away from all that was left.
    #[test]
    fn a_selection_of_a_hundred_thousand_documents_is_intersected_as_fast_as_it_is_read() {
        let documents: Vec<_> =
            (0..100_000).map(|n| PathRange::document(&path(&format!("users/{n:06}"))).unwrap()).collect();
        assert_eq!(intersect(&[PathRange::everything()], &documents), documents);
        assert_eq!(intersect(&documents, &documents), documents);
    }

    fn any_path() -> impl Strategy<Value = DocumentPath> {
        ("[a-c]", "[a-e]", proptest::option::of(("[ab]", "[ab]"))).prop_map(|(a, b, below)| match below {
            None => path(&format!("{a}/{b}")),
            Some((c, d)) => path(&format!("{a}/{b}/{c}/{d}")),
        })
    }

    fn any_range() -> impl Strategy<Value = PathRange> {
        let start = prop_oneof![
            Just(RangeStart::Beginning),
            any_path().prop_map(RangeStart::At),
            any_path().prop_map(RangeStart::After)
        ];
        (start, proptest::option::of(any_path())).prop_map(|(start, end)| PathRange { start, end })
    }

    proptest! {
        #[test]
        fn cut_parts_tile(range in any_range(), points in proptest::collection::vec(any_path(), 0..6), probe in any_path()) {
            let parts = range.cut(&points);
            let hits = parts.iter().filter(|part| part.covers(&probe)).count();
            prop_assert_eq!(hits, usize::from(range.covers(&probe)));
        }

        #[test]
        fn an_intersection_is_what_lies_in_both(left in any_range(), right in any_path(), probe in any_path()) {
            let right = PathRange::collection(right.collection()).unwrap();
            let both = intersect(std::slice::from_ref(&left), std::slice::from_ref(&right));
            let hits = both.iter().filter(|part| part.covers(&probe)).count();
            prop_assert_eq!(hits, usize::from(left.covers(&probe) && right.covers(&probe)));
        }

        #[test]
        fn an_intersection_of_many_is_what_lies_in_one_of_each(
            left in proptest::collection::vec(any_range(), 1..2),
            right in proptest::collection::vec(any_range(), 0..6),
            probe in any_path(),
        ) {
            let both = intersect(&left, &right);
            let hits = both.iter().filter(|part| part.covers(&probe)).count();
            let covers = |ranges: &[PathRange]| ranges.iter().any(|range| range.covers(&probe));
            prop_assert_eq!(hits, usize::from(covers(&left) && covers(&right)));
            prop_assert!(both.windows(2).all(|pair| pair[0].ends_before(&pair[1])));
        }

        #[test]
        fn without_takes_out_just_the_hole(range in any_range(), hole in any_path(), probe in any_path()) {
            let hole = PathRange::collection(hole.collection()).unwrap();
            let parts = range.without(&hole);
            let hits = parts.iter().filter(|part| part.covers(&probe)).count();
            prop_assert_eq!(hits, usize::from(range.covers(&probe) && !hole.covers(&probe)));
        }
    }
}
