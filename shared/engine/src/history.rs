//! Every version of one document that is known: of each run that may hold it the footer, then the blocks that do.
//!
//! A snapshot and a captured change both say how the document was at one moment. Put in order of these moments, what is
//! the same as before is no new version, however many snapshots hold it.

use std::sync::Arc;

use bytes::Bytes;
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::{Consistency, Manifest, SnapshotKind};
use firebackup_model::segment::SegmentManifest;
use firebackup_model::{DatabaseName, DocumentPath, Timestamp, document};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::diff::Change;
use crate::error::{EngineError, Result};
use crate::lookup::Lookup;
use crate::merge::{Layer, Span, layers};
use crate::moments::{Moments, segment_layers};
use crate::read::Record;
use crate::repository::Repository;
use crate::world::Meter;

/// Runs read at one time.
const PARALLEL_READS: usize = 16;
/// How much later a segment may still tell of a moment: what is found by a proof is put with that.
const LATE_SECONDS: i64 = 2 * 3600;
/// Records of any time.
const ALWAYS: Span = Span { after: Timestamp::new(i64::MIN, 0), until: Timestamp::new(i64::MAX, 0) };

/// Who saw a version first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A backup.
    Snapshot,
    /// The stream of changes.
    Captured,
    /// A scan that took the place of the stream: there may have been versions before it that nobody saw.
    Compared,
}

/// A version of a document, or that it was gone.
#[derive(Debug, Clone)]
pub struct Version {
    /// What it was to the version before: created, updated or deleted.
    pub change: Change,
    /// The first moment at which it was seen.
    pub point: Timestamp,
    /// When it was written, by the server; nothing of a deletion, which is dated by when it was seen.
    pub update_time: Option<Timestamp>,
    /// When the document was created.
    pub create_time: Option<Timestamp>,
    /// The protobuf bytes as they came from the server; nothing of a deletion.
    pub document: Option<Bytes>,
    /// Who saw it first.
    pub origin: Origin,
    /// The snapshots that hold it, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// The first moment at which the database can be put back with it; nothing where it was never proven, or stands in
    /// backups of some collections only.
    pub moment: Option<Timestamp>,
}

impl Version {
    /// When it came about, as well as that is known.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.update_time.unwrap_or(self.point)
    }
}

/// Which versions: those that came about in between, both ends included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    /// From when on.
    pub from: Option<Timestamp>,
    /// Until when.
    pub to: Option<Timestamp>,
}

impl Period {
    fn covers(self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time <= to)
    }
}

/// The versions of a document, and what it took to find them.
#[derive(Debug, Clone)]
pub struct History {
    /// The versions, newest first.
    pub versions: Vec<Version>,
    /// How many runs were opened.
    pub runs: u64,
}

/// Finds the versions of a document. Only runs whose manifest says that they may hold it are opened, and of a period no
/// more than those from the backup before it to the backup behind it.
///
/// # Errors
/// When the store fails, or a manifest or a run cannot be read.
pub async fn history(
    repository: &Repository,
    database: &DatabaseName,
    path: &DocumentPath,
    period: Period,
    meter: &Arc<Meter>,
) -> Result<History> {
    let manifests = repository.all_manifests(|manifest| manifest.source == *database).await?;
    let segments = repository.all_segments(database).await?;
    let moments = Moments::of(database.clone(), manifests.clone(), &segments);
    let bounds = Bounds::new(&manifests, period);
    let lookup = Lookup::new(repository, &[], meter);
    let mut seen = Vec::new();
    for manifest in manifests.iter().filter(|manifest| bounds.admit_snapshot(manifest)) {
        if admits(manifest, path)? {
            seen.extend(in_snapshot(&lookup, manifest, path).await?);
        }
    }
    seen.extend(in_segments(&lookup, &segments, bounds, path).await?);
    let mut versions = versions(seen, &moments);
    versions.retain(|version| period.covers(version.time()));
    versions.reverse();
    Ok(History { versions, runs: lookup.opened().await })
}

/// The backups of one read time around a period: behind and before them nothing is to be found.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Bounds {
    fn new(manifests: &[Manifest], period: Period) -> Self {
        let is_sure = |manifest: &&Manifest| manifest.is_whole() && manifest.consistency == Consistency::Snapshot;
        let times = || manifests.iter().filter(is_sure).filter_map(Manifest::read_time);
        let first = period.from.and_then(|from| times().filter(|time| *time <= from).max());
        let last = period.to.and_then(|to| times().filter(|time| *time >= to).min());
        Self { first, last }
    }

    fn admit_snapshot(self, manifest: &Manifest) -> bool {
        let newest = manifest.read_time();
        let oldest = manifest.read_times.first();
        self.first.is_none_or(|first| newest >= Some(first)) && self.last.is_none_or(|last| oldest <= Some(&last))
    }

    fn admit_segment(self, segment: &SegmentManifest) -> bool {
        self.first.is_none_or(|first| segment.end() > first)
            && self.last.is_none_or(|last| segment.after < last.plus_seconds(LATE_SECONDS))
    }
}

/// Whether a snapshot can say something of a document. What a restore replaced says nothing of a moment.
fn admits(manifest: &Manifest, path: &DocumentPath) -> Result<bool> {
    let is_of_a_moment = manifest.kind != SnapshotKind::Undo;
    Ok(is_of_a_moment && (manifest.selection.is_everything() || manifest.selection.filter()?.selects(path)))
}

/// How the document was at one moment.
struct Sighting {
    at: Timestamp,
    /// Of two segments' records of one moment, that of the later run counts.
    rank: u64,
    origin: Origin,
    snapshot: Option<SnapshotId>,
    /// Nothing where it was not there.
    document: Option<Bytes>,
    update_time: Option<Timestamp>,
    create_time: Option<Timestamp>,
}

impl Sighting {
    fn of(record: Record, origin: Origin, rank: u64, snapshot: Option<&SnapshotId>) -> Result<Option<Self>> {
        let Some(at) = record.point else { return Ok(None) };
        let create_time = match &record.body {
            Some(body) => {
                document::head(body)
                    .map_err(|source| EngineError::Document { path: Some(record.path.to_string()), source })?
                    .create_time
            }
            None => None,
        };
        let (document, update_time) = (record.body, record.update_time);
        Ok(Some(Self { at, rank, origin, snapshot: snapshot.cloned(), document, update_time, create_time }))
    }

    /// That a snapshot does not hold the document.
    const fn absent(at: Timestamp, snapshot: SnapshotId) -> Self {
        Self {
            at,
            rank: 0,
            origin: Origin::Snapshot,
            snapshot: Some(snapshot),
            document: None,
            update_time: None,
            create_time: None,
        }
    }

    fn is_what(&self, version: &Version) -> bool {
        version.update_time == self.update_time
            && (self.update_time.is_some() || version.document == self.document)
            && version.document.is_some()
    }
}

async fn in_snapshot(lookup: &Lookup<'_>, manifest: &Manifest, path: &DocumentPath) -> Result<Vec<Sighting>> {
    let mut seen = Vec::new();
    for layer in layers(manifest) {
        for record in lookup.records_of(&layer, path).await? {
            seen.extend(Sighting::of(record, Origin::Snapshot, 0, Some(&manifest.id))?);
        }
    }
    // of several read times it is not known which one a missing document has, and one that is not among changes is as it was
    let says_all = manifest.kind != SnapshotKind::Incremental && manifest.consistency == Consistency::Snapshot;
    if let (true, true, Some(at)) = (seen.is_empty(), says_all, manifest.read_time()) {
        seen.push(Sighting::absent(at, manifest.id.clone()));
    }
    Ok(seen)
}

async fn in_segments(
    lookup: &Lookup<'_>,
    segments: &[SegmentManifest],
    bounds: Bounds,
    path: &DocumentPath,
) -> Result<Vec<Sighting>> {
    let segments: Vec<_> = segments.iter().filter(|segment| bounds.admit_segment(segment)).cloned().collect();
    let of_runs = segments.iter().flat_map(|segment| segment.runs.iter().map(move |_| segment));
    let wanted: Vec<(Layer, &SegmentManifest)> = segment_layers(&segments, ALWAYS).zip(of_runs).collect();
    let reads = stream::iter(&wanted).map(async |(layer, segment)| {
        let records = lookup.records_of(layer, path).await?.into_iter();
        let seen = records.map(|record| {
            let origin = origin(segment, record.point);
            Sighting::of(record, origin, layer.rank, None)
        });
        Ok::<_, EngineError>(seen.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect::<Vec<_>>())
    });
    let seen: Vec<Vec<Sighting>> = reads.buffered(PARALLEL_READS).try_collect().await?;
    Ok(seen.into_iter().flatten().collect())
}

/// What ends a gap was found by a scan.
fn origin(segment: &SegmentManifest, point: Option<Timestamp>) -> Origin {
    let is_scanned = segment.gaps.iter().any(|gap| Some(gap.until) == point);
    if is_scanned { Origin::Compared } else { Origin::Captured }
}

/// What was seen, in order, as versions, oldest first.
fn versions(mut seen: Vec<Sighting>, moments: &Moments) -> Vec<Version> {
    seen.sort_by_key(|sighting| (sighting.at, sighting.rank));
    let mut versions: Vec<Version> = Vec::new();
    let mut is_known_absent = false;
    let mut rest = seen.into_iter().peekable();
    while let Some(sighting) = rest.next() {
        let is_replaced = |next: &Sighting| next.at == sighting.at && sighting.snapshot.is_none();
        if rest.peek().is_some_and(is_replaced) {
            continue;
        }
        match versions.last_mut() {
            Some(last) if sighting.is_what(last) => last.snapshots.extend(sighting.snapshot),
            last => {
                let was_there = last.as_ref().is_some_and(|last| last.document.is_some());
                // that it was gone is no news where it was not there; a change of what nobody saw is
                let is_news = sighting.document.is_some()
                    || was_there
                    || last.is_none() && !is_known_absent && sighting.origin != Origin::Snapshot;
                is_known_absent |= sighting.document.is_none();
                let change = change(last.as_deref(), &sighting, is_known_absent);
                if is_news {
                    versions.push(version(sighting, change));
                }
            }
        }
    }
    let ends: Vec<_> = versions.iter().skip(1).map(|next| Some(next.point)).chain([None]).collect();
    for (version, end) in versions.iter_mut().zip(ends) {
        version.moment = moments.first_from(version.point, end);
    }
    versions
}

fn change(before: Option<&Version>, now: &Sighting, is_known_absent: bool) -> Change {
    let is_new = match before {
        Some(before) if before.document.is_some() => before.create_time != now.create_time,
        Some(_) => true,
        None => is_known_absent || now.create_time == now.update_time,
    };
    match (&now.document, is_new) {
        (None, _) => Change::Deleted,
        (Some(_), true) => Change::Created,
        (Some(_), false) => Change::Updated,
    }
}

fn version(sighting: Sighting, change: Change) -> Version {
    let is_there = sighting.document.is_some();
    Version {
        change,
        point: sighting.at,
        update_time: sighting.update_time.filter(|_| is_there),
        create_time: sighting.create_time,
        document: sighting.document,
        origin: sighting.origin,
        snapshots: sighting.snapshot.filter(|_| is_there).into_iter().collect(),
        moment: None,
    }
}
