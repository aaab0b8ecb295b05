//! What of the captured changes is kept: everything that the moments of the last days need, and what capturing goes on from.

use std::collections::{BTreeMap, BTreeSet};

use firebackup_model::Timestamp;
use firebackup_model::id::{CaptureId, SnapshotId};
use firebackup_model::manifest::Manifest;
use firebackup_model::segment::SegmentManifest;
use object_store::path::Path;

use crate::chain::{Captured, Stretch, path_in};
use crate::moments::is_base_in;

/// Segments of all databases, parted by whether they are kept.
#[derive(Debug, Default)]
pub(crate) struct SegmentsKept {
    /// Snapshots that kept moments build on.
    pub(crate) bases: BTreeSet<SnapshotId>,
    pub(crate) kept: Vec<SegmentManifest>,
    /// The manifests to drop, of each database those that another one is read in place of, then the oldest first.
    pub(crate) dropped: Vec<Path>,
}

impl SegmentsKept {
    /// Decides for all databases; moments at or behind `since` are kept.
    pub(crate) fn decide<'m>(
        captures: BTreeMap<CaptureId, Captured>,
        manifests: impl Iterator<Item = &'m Manifest>,
        since: Timestamp,
    ) -> Self {
        let mut all = Self::default();
        let whole: Vec<&Manifest> = manifests.filter(|manifest| manifest.is_whole()).collect();
        for (capture, Captured { segments, covered }) in captures {
            all.dropped.extend(covered);
            let is_of_it = |one: &&&Manifest| segments.first().is_some_and(|first| first.source == one.source);
            let mut bases: Vec<&Manifest> = whole.iter().filter(is_of_it).copied().collect();
            bases.sort_by_key(|manifest| manifest.read_time());
            let stretches = Stretch::all(&segments);
            let last = stretches.len().saturating_sub(1);
            for (place, stretch) in stretches.into_iter().enumerate() {
                all.decide_stretch(capture, stretch, &bases, since, place == last);
            }
        }
        all
    }

    fn decide_stretch(
        &mut self,
        capture: CaptureId,
        stretch: Stretch,
        bases: &[&Manifest],
        since: Timestamp,
        is_last: bool,
    ) {
        let mut from = stretch.end();
        if is_last || stretch.end() >= since {
            let mut fit = bases.iter().filter(|manifest| is_base_in(&stretch, manifest)).copied().peekable();
            let oldest = fit.peek().copied();
            let base = fit.rfind(|manifest| manifest.read_time() <= Some(since)).or(oldest);
            if let Some(base) = base {
                self.bases.insert(base.id.clone());
                from = base.read_times.first().copied().unwrap_or_default();
            }
        }
        let first = stretch.segments.partition_point(|segment| segment.end() <= from);
        let first = if is_last { first.min(goes_on_from(&stretch)) } else { first };
        let mut segments = stretch.segments;
        self.kept.extend(segments.split_off(first));
        self.dropped.extend(segments.iter().filter_map(|segment| path_in(capture, segment)));
    }
}

/// The segment that capturing counts from: the last that proves something, or the first of all.
fn goes_on_from(stretch: &Stretch) -> usize {
    let proven = stretch.segments.iter().rposition(|segment| !segment.proofs.is_empty());
    proven.unwrap_or(0)
}
