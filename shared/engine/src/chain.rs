//! The segments of a database, read as what they are: links of a chain.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use firebackup_codec::object::ObjectType;
use firebackup_model::id::{CaptureId, RepositoryId};
use firebackup_model::manifest::FORMAT_VERSION;
use firebackup_model::segment::{SegmentKind, SegmentManifest};
use firebackup_model::{DatabaseName, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use sha2::{Digest, Sha256};

use crate::error::{EngineError, Result};
use crate::layout;
use crate::repository::Repository;

/// Manifests read at one time.
pub(crate) const PARALLEL_READS: usize = 32;
/// Listings that are tried while segments go in between.
pub(crate) const MAX_LISTINGS: usize = 8;

/// Names what is captured of a database. The name says nothing of the database to whoever sees the bucket only.
#[must_use]
pub fn capture_id(repository: RepositoryId, database: &DatabaseName) -> CaptureId {
    let mut hash = Sha256::new();
    hash.update(b"firebackup/v1/segments\0");
    hash.update(repository.0);
    hash.update(database.resource());
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    CaptureId(id)
}

/// Segments of which each begins where the one before ended; at least one. Nothing is missing in between.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) segments: Vec<SegmentManifest>,
    /// The points that were proven, and which segment (by its place) did it first.
    pub(crate) proven: BTreeMap<Timestamp, usize>,
}

impl Stretch {
    fn new(segments: &[SegmentManifest]) -> Self {
        let points: Vec<Timestamp> = segments.iter().flat_map(|segment| segment.points.iter().copied()).collect();
        let mut proven = BTreeMap::new();
        for (place, segment) in segments.iter().enumerate() {
            for proof in &segment.proofs {
                let first = points.partition_point(|point| *point < proof.from);
                for point in points.iter().skip(first).take_while(|point| **point <= proof.through) {
                    proven.entry(*point).or_insert(place);
                }
            }
        }
        Self { segments: segments.to_vec(), proven }
    }

    /// Follows segments, given by where they begin, from each that follows no other. There are several where one is missing,
    /// or where whoever was held up for long went on beside others.
    pub(crate) fn all(segments: &[SegmentManifest]) -> Vec<Self> {
        let mut open: Vec<Vec<SegmentManifest>> = Vec::new();
        for segment in segments {
            let follows = |one: &&mut Vec<SegmentManifest>| one.last().is_some_and(|last| last.end() == segment.after);
            match open.iter_mut().rfind(follows) {
                Some(stretch) => stretch.push(segment.clone()),
                None => open.push(vec![segment.clone()]),
            }
        }
        open.iter().map(|segments| Self::new(segments)).collect()
    }

    pub(crate) fn start(&self) -> Timestamp {
        self.segments.first().map(|segment| segment.after).unwrap_or_default()
    }

    pub(crate) fn end(&self) -> Timestamp {
        self.segments.last().map(SegmentManifest::end).unwrap_or_default()
    }

    /// Whether nothing is missing between `a` and `b`: no scan took the place of changes, and no point lies there that was
    /// never proven.
    pub(crate) fn is_unbroken(&self, a: Timestamp, b: Timestamp) -> bool {
        // a merged segment may have a million points
        let within = |segment: &SegmentManifest| {
            let first = segment.points.partition_point(|point| *point <= a);
            let mut points = segment.points.iter().skip(first).take_while(|point| **point < b);
            points.all(|point| self.proven.contains_key(point))
        };
        !self.has_gap(a, b) && self.touched(a, b).all(within)
    }

    /// Whether a scan took the place of changes somewhere between `a` and `b`.
    pub(crate) fn has_gap(&self, a: Timestamp, b: Timestamp) -> bool {
        self.touched(a, b).flat_map(|segment| &segment.gaps).any(|gap| gap.after < b && gap.until > a)
    }

    /// The segments that say something of the time between `a` and `b`.
    fn touched(&self, a: Timestamp, b: Timestamp) -> impl Iterator<Item = &SegmentManifest> {
        let first = self.segments.partition_point(|segment| segment.end() <= a);
        self.segments.iter().skip(first).take_while(move |segment| segment.after < b)
    }

    /// The newest point at or before `moment`, or where the stretch begins.
    pub(crate) fn point_before(&self, moment: Timestamp) -> Timestamp {
        let behind = self.segments.partition_point(|segment| segment.after <= moment);
        let within = behind.checked_sub(1).and_then(|place| self.segments.get(place));
        let points = within.map(|segment| segment.points.as_slice()).unwrap_or_default();
        let last = points.partition_point(|point| *point <= moment).checked_sub(1).and_then(|place| points.get(place));
        last.copied().or(within.map(|segment| segment.after)).unwrap_or(self.start())
    }

    /// Whether the changes from `from` on are known: it is a proven point itself, or nothing is missing up to the next
    /// one. What was scanned later is a difference to what was known then: of a snapshot taken in a gap it says nothing.
    pub(crate) fn leads_on(&self, from: Timestamp) -> bool {
        if from < self.start() || from > self.end() {
            return false;
        }
        let next = self.proven.range(from..).next();
        from == self.start() || next.is_some_and(|(next, _)| *next == from || self.is_unbroken(from, *next))
    }
}

/// Whether every time between `a` and `b` is known to be as a moment is.
pub(crate) fn are_joined(stretches: &[Stretch], a: Timestamp, b: Timestamp) -> bool {
    let joins = |stretch: &Stretch| stretch.start() <= a && b <= stretch.end() && stretch.is_unbroken(a, b);
    stretches.iter().any(joins)
}

/// The name of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    after: Timestamp,
    /// Where a compacted one ends.
    end: Option<Timestamp>,
}

impl Name {
    fn path(&self, capture: CaptureId) -> Option<Path> {
        match self.end {
            None => layout::segment(capture, self.after),
            Some(end) => layout::compacted(capture, self.after, end),
        }
    }

    /// What becomes of its moments where its manifest is removed.
    const fn without_it(&self) -> &'static str {
        match self.end {
            None => ", which gives up the moments from there to the next full backup",
            Some(_) => {
                ": the segments that it was merged from are read instead, and nothing is lost, unless a prune has dropped them; \
                 else the moments from there to the next full backup are given up"
            }
        }
    }
}

/// Parts names into those that are read, of which none lies in another, and those that lie in one of them. A compacted one that
/// reaches beyond another is read too: it alone may hold what lies there.
fn tiled(mut names: Vec<Name>) -> (Vec<Name>, Vec<Name>) {
    // of those that begin together, the one that reaches farthest first
    names.sort_unstable_by_key(|name| (name.after, Reverse(name.end)));
    let mut until: Option<Timestamp> = None;
    names.into_iter().partition(|name| {
        let is_covered = until.is_some_and(|until| name.end.map_or(name.after < until, |end| end <= until));
        if !is_covered {
            until = name.end.max(until);
        }
        !is_covered
    })
}

/// The segments of a database.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    /// Those that are read, by where they begin.
    pub(crate) segments: Vec<SegmentManifest>,
    /// What says where the chain began, and began anew.
    pub(crate) beginnings: Vec<SegmentManifest>,
    /// Those in whose place a compacted one is read.
    pub(crate) covered: Vec<Path>,
}

impl Captured {
    /// That the chain goes on at a backup, where that is the last that was put.
    pub(crate) fn last_begun(&self) -> Option<&SegmentManifest> {
        let newest = self.segments.last().map(|segment| segment.after);
        self.beginnings.last().filter(|begun| newest <= Some(begun.after))
    }
}

/// Where a segment's manifest stands.
pub(crate) fn path_of(repository: &Repository, segment: &SegmentManifest) -> Result<Path> {
    let capture = capture_id(repository.id(), &segment.source);
    path_in(capture, segment).ok_or_else(|| no_moment(segment.after))
}

/// Where a segment's manifest stands among those of what is captured.
pub(crate) fn path_in(capture: CaptureId, segment: &SegmentManifest) -> Option<Path> {
    let end = (segment.kind == SegmentKind::Compacted).then(|| segment.end());
    Name { after: segment.after, end }.path(capture)
}

impl Repository {
    async fn segment(&self, capture: CaptureId, name: Name) -> Result<Option<SegmentManifest>> {
        let path = name.path(capture).ok_or_else(|| no_moment(name.after))?;
        let found: Result<Option<(SegmentManifest, _)>> = self.get_sealed(ObjectType::Manifest, &path).await;
        let found = found.map_err(|error| {
            error.explained(format!(
                "`{path}` cannot be read, so that it is not known what was captured there: put the object back from a copy or an \
                 older version, or remove it{}",
                name.without_it()
            ))
        })?;
        let Some((segment, _)) = found else { return Ok(None) };
        let is_right = segment.after == name.after
            && segment.format == FORMAT_VERSION
            && name.end.is_none_or(|end| end == segment.end())
            && capture_id(self.id(), &segment.source) == capture;
        let ascends = segment.points.is_sorted() && segment.points.first().is_some_and(|first| *first > name.after);
        if is_right && ascends {
            return Ok(Some(segment));
        }
        Err(EngineError::Refused(format!("`{path}` is the manifest of another segment or format")))
    }

    /// The segments of these names; nothing where one is gone since they were listed.
    async fn captured(&self, capture: CaptureId, names: Vec<Name>) -> Result<Option<Captured>> {
        let (read, covered) = tiled(names);
        let reads = stream::iter(read).map(|name| self.segment(capture, name)).buffered(PARALLEL_READS);
        let segments: Vec<Option<SegmentManifest>> = reads.try_collect().await?;
        let covered = covered.iter().filter_map(|name| name.path(capture)).collect();
        let segments: Option<Vec<_>> = segments.into_iter().collect();
        Ok(segments.map(|segments| {
            let (beginnings, segments) = segments.into_iter().partition(|one| one.kind == SegmentKind::Begun);
            Captured { segments, beginnings, covered }
        }))
    }

    /// The names of the segments of all databases, and what is named like none.
    async fn segment_names(&self) -> Result<(BTreeMap<CaptureId, Vec<Name>>, Vec<Path>)> {
        let (mut captures, mut strangers): (BTreeMap<CaptureId, Vec<Name>>, _) = (BTreeMap::new(), Vec::new());
        for meta in self.list("segments").await? {
            match layout::segment_of(&meta.location) {
                Some((capture, after, end)) => captures.entry(capture).or_default().push(Name { after, end }),
                None => strangers.push(meta.location),
            }
        }
        Ok((captures, strangers))
    }

    /// The segments that are read, of all databases, one after the other, with those that cannot be.
    pub(crate) async fn each_segment(&self) -> Result<Vec<(Path, Result<Option<SegmentManifest>>)>> {
        let (captures, strangers) = self.segment_names().await?;
        let mut each: Vec<_> = strangers.into_iter().map(|path| (path.clone(), Err(stranger(&path)))).collect();
        for (capture, names) in captures {
            for name in tiled(names).0 {
                let path = name.path(capture).ok_or_else(|| no_moment(name.after))?;
                each.push((path, self.segment(capture, name).await));
            }
        }
        Ok(each)
    }

    /// Reads the segments of all databases.
    ///
    /// # Errors
    /// When one cannot be read: it is not known then what it needs.
    pub(crate) async fn all_captures(&self) -> Result<BTreeMap<CaptureId, Captured>> {
        let (captures, strangers) = self.segment_names().await?;
        if let Some(path) = strangers.first() {
            return Err(stranger(path));
        }
        let mut all = BTreeMap::new();
        for capture in captures.into_keys() {
            all.insert(capture, self.capture_of(capture).await?);
        }
        Ok(all)
    }

    /// The names of the segments of what is captured.
    async fn names_of(&self, capture: CaptureId) -> Result<Vec<Name>> {
        let metas = self.list(layout::segments(capture).as_ref()).await?;
        let names = metas.iter().filter_map(|meta| layout::segment_of(&meta.location));
        Ok(names.map(|(_, after, end)| Name { after, end }).collect())
    }

    /// Lists and reads, and again where segments were merged and dropped in between: what is gone must not look like a cut.
    async fn capture_of(&self, capture: CaptureId) -> Result<Captured> {
        for _ in 0..MAX_LISTINGS {
            if let Some(captured) = self.captured(capture, self.names_of(capture).await?).await? {
                return Ok(captured);
            }
        }
        Err(EngineError::Refused(
            "segments go faster than they can be read: is a prune running again and again?".to_owned(),
        ))
    }

    /// Reads what is captured of a database.
    pub(crate) async fn all_captured(&self, database: &DatabaseName) -> Result<Captured> {
        self.capture_of(capture_id(self.id(), database)).await
    }

    /// Reads the segments of a database, by where they begin.
    pub(crate) async fn all_segments(&self, database: &DatabaseName) -> Result<Vec<SegmentManifest>> {
        Ok(self.all_captured(database).await?.segments)
    }

    /// Whether the chain ends at `end`, as far as names say: nothing begins behind it or reaches beyond it.
    pub(crate) async fn ends_at(&self, database: &DatabaseName, end: Timestamp) -> Result<bool> {
        let names = self.names_of(capture_id(self.id(), database)).await?;
        Ok(names.iter().all(|name| name.after < end && name.end.is_none_or(|until| until <= end)))
    }

    /// Whether a segment that was put just now is the last one, as far as names say.
    pub(crate) async fn ends_with(&self, segment: &SegmentManifest) -> Result<bool> {
        let names = self.names_of(capture_id(self.id(), &segment.source)).await?;
        let after = segment.after;
        Ok(names.iter().all(|name| name.after <= after && name.end.is_none_or(|until| until <= after)))
    }
}

fn stranger(path: &Path) -> EngineError {
    EngineError::Refused(format!(
        "`{path}` is no segment's name, so that it is not known what it needs: give it the name that it had, or remove it"
    ))
}

pub(crate) fn no_moment(moment: Timestamp) -> EngineError {
    EngineError::Refused(format!("{moment} is no moment that a document of Firestore can have"))
}

#[cfg(test)]
mod tests {
    use firebackup_model::segment::Proof;

    use super::*;
    use crate::moments::Moments;

    fn name(after: i64, end: Option<i64>) -> Name {
        Name { after: Timestamp::new(after, 0), end: end.map(|end| Timestamp::new(end, 0)) }
    }

    #[test]
    fn what_a_compacted_segment_covers_is_not_read_and_what_is_behind_it_is() {
        let names = vec![
            name(1, None),
            name(2, None),
            name(3, None),
            name(5, None),
            name(1, Some(3)),
            name(1, Some(5)),
            name(3, Some(5)),
            name(6, Some(8)),
            name(7, None),
            name(7, Some(10)),
            name(9, None),
            name(10, None),
        ];
        let (read, covered) = tiled(names);
        let expected = [(1, Some(5)), (5, None), (6, Some(8)), (7, Some(10)), (10, None)];
        assert_eq!(read, expected.map(|(after, end)| name(after, end)));
        assert_eq!(covered.len(), 7);
    }

    /// Of so many points that walking from one end to the other for each would take hours.
    #[test]
    fn long_segments_are_looked_through_once() {
        const POINTS: i64 = 400_000;
        let at = |second: i64| Timestamp::new(second, 0);
        let points: Vec<Timestamp> = (1..=POINTS).map(at).collect();
        let proofs = vec![Proof { from: at(1), through: at(POINTS) }];
        let segment =
            SegmentManifest { points: points.clone(), proofs, ..crate::compact::tests::segment(0, POINTS, 0) };
        let stretches = [Stretch::new(&[segment])];
        assert!(points.windows(2).all(|pair| are_joined(&stretches, pair[0], pair[1])));
        let moments = Moments::of(DatabaseName::new("p", "d"), Vec::new(), &stretches[0].segments);
        assert_eq!(moments.newest_joined(at(0)).map(|joined| joined.point), Some(at(POINTS)));
    }
}
