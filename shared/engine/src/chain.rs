//! The segments of a database, read as what they are: links of a chain.

use std::collections::BTreeMap;

use firebackup_codec::object::ObjectType;
use firebackup_model::id::{CaptureId, RepositoryId};
use firebackup_model::manifest::FORMAT_VERSION;
use firebackup_model::segment::{SegmentKind, SegmentManifest};
use firebackup_model::{DatabaseName, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use crate::error::{EngineError, Result};
use crate::layout;
use crate::repository::Repository;

/// Manifests read at one time.
const PARALLEL_READS: usize = 32;

/// Names what is captured of a database. The name says nothing of the database to whoever sees the bucket only.
#[must_use]
pub(crate) fn capture_id(repository: RepositoryId, database: &DatabaseName) -> CaptureId {
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
            let Some(proof) = segment.proof else { continue };
            let first = points.partition_point(|point| *point < proof.from);
            for point in points.iter().skip(first).take_while(|point| **point <= proof.through) {
                proven.entry(*point).or_insert(place);
            }
        }
        Self { segments: segments.to_vec(), proven }
    }

    /// Cuts segments, in order, where one is missing.
    pub(crate) fn all(segments: &[SegmentManifest]) -> Vec<Self> {
        segments.chunk_by(|a, b| a.end() == b.after).map(Self::new).collect()
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
        let first = self.segments.partition_point(|segment| segment.end() <= a);
        let touched = || self.segments.iter().skip(first).take_while(|segment| segment.after < b);
        let mut points = touched().flat_map(|segment| &segment.points).filter(|point| a < **point && **point < b);
        touched().all(|segment| segment.kind == SegmentKind::Listened)
            && points.all(|point| self.proven.contains_key(point))
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

impl Repository {
    /// The names of all segments of a database in the order of where they begin.
    pub(crate) async fn segment_starts(&self, database: &DatabaseName) -> Result<Vec<Timestamp>> {
        let folder = layout::segments(capture_id(self.id(), database));
        let metas = self.list(folder.as_ref()).await?;
        let mut starts: Vec<_> = metas.iter().filter_map(|meta| Some(layout::segment_of(&meta.location)?.1)).collect();
        starts.sort_unstable();
        Ok(starts)
    }

    /// The segment of a database that begins at `after`; nothing where there is none.
    pub(crate) async fn segment(&self, database: &DatabaseName, after: Timestamp) -> Result<Option<SegmentManifest>> {
        let found = self.segment_of(capture_id(self.id(), database), after).await?;
        match found {
            Some(segment) if segment.source != *database => {
                Err(EngineError::Refused(format!("the segment at {after} is one of {}", segment.source)))
            }
            found => Ok(found),
        }
    }

    async fn segment_of(&self, capture: CaptureId, after: Timestamp) -> Result<Option<SegmentManifest>> {
        let path = layout::segment(capture, after).ok_or_else(|| no_moment(after))?;
        let found: Option<(SegmentManifest, _)> = self.get_sealed(ObjectType::Manifest, &path).await?;
        let Some((segment, _)) = found else { return Ok(None) };
        let is_right = segment.after == after && segment.format == FORMAT_VERSION;
        let ascends = segment.points.is_sorted() && segment.points.first().is_some_and(|first| *first > after);
        if is_right && ascends {
            return Ok(Some(segment));
        }
        Err(EngineError::Refused(format!("`{path}` is the manifest of another segment or format")))
    }

    /// Reads the segments of all databases.
    ///
    /// # Errors
    /// When one cannot be read: it is not known then what it needs.
    pub(crate) async fn all_captures(&self) -> Result<BTreeMap<CaptureId, Vec<SegmentManifest>>> {
        let mut captures: BTreeMap<CaptureId, Vec<Timestamp>> = BTreeMap::new();
        for meta in self.list("segments").await? {
            let (capture, start) = layout::segment_of(&meta.location).ok_or_else(|| {
                EngineError::Refused(format!(
                    "`{}` is no segment's name, so that it is not known what it needs: give it the name that it had, or remove it",
                    meta.location
                ))
            })?;
            captures.entry(capture).or_default().push(start);
        }
        let mut all = BTreeMap::new();
        for (capture, mut starts) in captures {
            starts.sort_unstable();
            let reads = stream::iter(starts).map(|start| self.segment_of(capture, start)).buffered(PARALLEL_READS);
            let segments: Vec<Option<SegmentManifest>> = reads.try_collect().await?;
            all.insert(capture, segments.into_iter().flatten().collect());
        }
        Ok(all)
    }

    /// Reads all segments of a database, by where they begin.
    pub(crate) async fn all_segments(&self, database: &DatabaseName) -> Result<Vec<SegmentManifest>> {
        let starts = self.segment_starts(database).await?;
        let reads = stream::iter(starts).map(|start| self.segment(database, start)).buffered(PARALLEL_READS);
        let segments: Vec<Option<SegmentManifest>> = reads.try_collect().await?;
        Ok(segments.into_iter().flatten().collect())
    }
}

pub(crate) fn no_moment(moment: Timestamp) -> EngineError {
    EngineError::Refused(format!("{moment} is no moment that a document of Firestore can have"))
}
