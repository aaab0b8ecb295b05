//! How one document was at one moment, as a snapshot, a captured change or an event says it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::{Consistency, Manifest, SnapshotKind};
use firebackup_model::reported::ReportedManifest;
use firebackup_model::segment::SegmentManifest;
use firebackup_model::{DocumentPath, Timestamp, document};
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{EngineError, Result};
use crate::history::{Origin, Version};
use crate::lookup::Lookup;
use crate::merge::{Layer, Span, layers};
use crate::moments::segment_layers;
use crate::read::Record;
use crate::reported::reported_layers;

/// Runs read at one time.
const PARALLEL_READS: usize = 16;
/// Records of any time.
const ALWAYS: Span = Span { after: Timestamp::new(i64::MIN, 0), until: Timestamp::new(i64::MAX, 0) };

/// How the document was at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    pub(crate) at: Timestamp,
    /// Of two segments' records of one moment, that of the later run counts.
    pub(crate) rank: u64,
    pub(crate) origin: Origin,
    pub(crate) snapshot: Option<SnapshotId>,
    /// Nothing where it was not there.
    pub(crate) document: Option<Bytes>,
    pub(crate) update_time: Option<Timestamp>,
    pub(crate) create_time: Option<Timestamp>,
    /// Of what was reported: the moment that says how it was then.
    pub(crate) until: Option<Timestamp>,
    /// Where it stands, with all else left out.
    pub(crate) layer: Option<Arc<Layer>>,
}

impl Sighting {
    fn of(record: Record, at: Timestamp, origin: Origin, layer: &Layer, snapshot: Option<&SnapshotId>) -> Result<Self> {
        let create_time = match &record.body {
            Some(body) => {
                document::head(body)
                    .map_err(|source| EngineError::Document { path: Some(record.path.to_string()), source })?
                    .create_time
            }
            None => None,
        };
        let only = Some((record.update_time, record.point));
        Ok(Self {
            at,
            rank: if snapshot.is_some() { 0 } else { layer.rank },
            origin,
            snapshot: snapshot.cloned(),
            document: record.body,
            update_time: record.update_time,
            create_time,
            until: None,
            layer: Some(Arc::new(Layer { only, ..layer.clone() })),
        })
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
            until: None,
            layer: None,
        }
    }

    /// Whether it is a version that is known already.
    pub(crate) fn is_what(&self, version: &Version) -> bool {
        version.update_time == self.update_time
            && (self.update_time.is_some() || version.document == self.document)
            && version.document.is_some()
    }
}

/// What a snapshot says of a document.
pub(crate) async fn in_snapshot(
    lookup: &Lookup<'_>,
    manifest: &Manifest,
    path: &DocumentPath,
) -> Result<Vec<Sighting>> {
    let mut seen = Vec::new();
    for layer in layers(manifest) {
        for record in lookup.records_of(&layer, path).await? {
            if let Some(at) = record.point {
                seen.push(Sighting::of(record, at, Origin::Snapshot, &layer, Some(&manifest.id))?);
            }
        }
    }
    // of several read times it is not known which one a missing document has, and one that is not among changes is as it was
    let says_all = manifest.kind != SnapshotKind::Incremental && manifest.consistency == Consistency::Snapshot;
    if let (true, true, Some(at)) = (seen.is_empty(), says_all, manifest.read_time()) {
        seen.push(Sighting::absent(at, manifest.id.clone()));
    }
    Ok(seen)
}

/// What captured changes say of a document.
pub(crate) async fn in_segments(
    lookup: &Lookup<'_>,
    segments: &[SegmentManifest],
    path: &DocumentPath,
) -> Result<Vec<Sighting>> {
    let read = read(lookup, segment_layers(segments, ALWAYS).collect(), path).await?;
    let of_runs = segments.iter().flat_map(|segment| segment.runs.iter().map(move |_| segment));
    let mut seen = Vec::new();
    for ((layer, records), segment) in read.iter().zip(of_runs) {
        for record in records {
            if let Some(point) = record.point {
                seen.push(Sighting::of(record.clone(), point, origin(segment, point), layer, None)?);
            }
        }
    }
    Ok(seen)
}

/// The records of a path in each of several layers.
async fn read(
    lookup: &Lookup<'_>,
    // owned: futures over borrowed items could not be sent between threads
    layers: Vec<Layer>,
    path: &DocumentPath,
) -> Result<Vec<(Layer, Vec<Record>)>> {
    let reads = stream::iter(layers).map(|layer| async move {
        let records = lookup.records_of(&layer, path).await?;
        Ok::<_, EngineError>((layer, records))
    });
    reads.buffered(PARALLEL_READS).try_collect().await
}

/// What ends a gap was found by a scan.
fn origin(segment: &SegmentManifest, point: Timestamp) -> Origin {
    let is_scanned = segment.gaps.iter().any(|gap| gap.until == point);
    if is_scanned { Origin::Compared } else { Origin::Captured }
}

/// What events told of a document, each time once.
pub(crate) async fn in_reports(
    lookup: &Lookup<'_>,
    manifests: &[ReportedManifest],
    path: &DocumentPath,
) -> Result<Vec<Sighting>> {
    let mut by_time: BTreeMap<Timestamp, Sighting> = BTreeMap::new();
    for (layer, records) in read(lookup, reported_layers(manifests), path).await? {
        for record in records {
            let Some(time) = record.update_time else { continue };
            // whichever event came first, the same one is left
            let is_outdone = by_time.get(&time).is_some_and(|other| other.document >= record.body);
            if !is_outdone {
                by_time.insert(time, Sighting::of(record, time, Origin::Reported, &layer, None)?);
            }
        }
    }
    Ok(by_time.into_values().collect())
}
