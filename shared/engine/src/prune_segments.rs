//! What of the captured changes is kept: everything that the moments of the last days need, and what capturing goes on from.

use std::collections::{BTreeMap, BTreeSet};

use firebackup_model::id::{CaptureId, SnapshotId};
use firebackup_model::manifest::Manifest;
use firebackup_model::segment::{SegmentKind, SegmentManifest};
use firebackup_model::{DatabaseName, Timestamp};
use object_store::path::Path;
use serde::Serialize;

use crate::chain::{Captured, Stretch, path_in};
use crate::compact::DAY_SECONDS;
use crate::moments::is_base_in;

/// What a prune keeps of the captured moments of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MomentsKept {
    /// Whose moments.
    pub database: DatabaseName,
    /// The oldest captured moment that there was.
    pub from_before: Timestamp,
    /// The oldest one that stays; nothing where all go.
    pub from_after: Option<Timestamp>,
}

/// Segments of all databases, parted by whether they are kept.
#[derive(Debug, Default)]
pub(crate) struct SegmentsKept {
    /// Snapshots that kept moments build on.
    pub(crate) bases: BTreeSet<SnapshotId>,
    /// Those that they will build on next: no policy drops them, and whoever names them does.
    pub(crate) next_bases: BTreeSet<SnapshotId>,
    /// The oldest captured moment of each database, as long as nothing is dropped.
    oldest: BTreeMap<DatabaseName, Timestamp>,
    pub(crate) kept: Vec<SegmentManifest>,
    /// The manifests to drop, of each database what says where it began, those that another one is read in place of, then the oldest
    /// first.
    pub(crate) dropped: Vec<Path>,
}

impl SegmentsKept {
    /// Decides for all databases; moments at or behind `since` are kept. Snapshots that are `named` to be dropped stay where such
    /// a moment may build on them, and not for what comes.
    pub(crate) fn decide(
        captures: &BTreeMap<CaptureId, Captured>,
        manifests: &BTreeMap<SnapshotId, Manifest>,
        named: &BTreeMap<SnapshotId, Manifest>,
        since: Timestamp,
    ) -> Self {
        let mut all = Self::default();
        let every = manifests.values().chain(named.values());
        let whole: Vec<&Manifest> = every.filter(|manifest| manifest.is_whole()).collect();
        for (capture, captured) in captures {
            all.part_beginnings(*capture, captured, since);
            let Captured { segments, covered, .. } = captured;
            all.dropped.extend(covered.iter().cloned());
            let is_of_it = |one: &&&Manifest| segments.first().is_some_and(|first| first.source == one.source);
            let mut bases: Vec<&Manifest> = whole.iter().filter(is_of_it).copied().collect();
            bases.sort_by(|a, b| (a.read_time(), &a.id).cmp(&(b.read_time(), &b.id)));
            let stretches = Stretch::all(segments);
            if let (Some(first), Some(oldest)) = (segments.first(), oldest_moment(&stretches, &bases)) {
                all.oldest.insert(first.source.clone(), oldest);
            }
            let last = stretches.len().saturating_sub(1);
            for (place, stretch) in stretches.into_iter().enumerate() {
                let (is_last, is_old) = (place == last, stretch.end() < since);
                // where no moment is kept, a base stays for what capturing goes on from, unless somebody wants it to go
                let is_wanted = |one: &Manifest| !is_old || is_last && !named.contains_key(&one.id);
                let fit = bases.iter().filter(|manifest| is_wanted(manifest) && is_base_in(&stretch, manifest));
                let from = all.choose_base(&fit.copied().collect::<Vec<_>>(), named, since);
                all.part(*capture, stretch, from, is_old, is_last);
            }
        }
        all
    }

    /// Parts what says where the chain began: it stays where nothing is behind it, and long after anybody could still go on from
    /// before it.
    fn part_beginnings(&mut self, capture: CaptureId, captured: &Captured, since: Timestamp) {
        let last = captured.last_begun().map(|begun| begun.after);
        // somebody listens from there, or will
        self.next_bases.extend(captured.last_begun().map(|begun| begun.base.clone()));
        let stays =
            |begun: &&SegmentManifest| begun.finished.plus_seconds(DAY_SECONDS) >= since || last == Some(begun.after);
        let (kept, dropped): (Vec<_>, Vec<_>) = captured.beginnings.iter().partition(stays);
        self.kept.extend(kept.into_iter().cloned());
        self.dropped.extend(dropped.into_iter().filter_map(|begun| path_in(capture, begun)));
    }

    /// What is kept for a job that reads what is old gives way, once the job has ended, to what is kept without it (`unread`): no
    /// policy drops that in the meantime.
    pub(crate) fn build_next_on(&mut self, unread: Self) {
        self.next_bases = unread.next_bases;
        self.next_bases.extend(unread.bases);
    }

    /// Chooses what the moments of a stretch build on, of the snapshots that fit, oldest first; says from when on its changes are
    /// needed then. Where that one lies before all moments that are kept, the next one stays too, named ones aside: once it lies
    /// before them it takes its place, also where snapshots are kept for a shorter time than moments. Without it the first base
    /// would stay for ever, and every change since.
    fn choose_base(
        &mut self,
        fit: &[&Manifest],
        named: &BTreeMap<SnapshotId, Manifest>,
        since: Timestamp,
    ) -> Option<Timestamp> {
        let before = fit.partition_point(|manifest| manifest.read_time() <= Some(since));
        let base = fit.get(before.saturating_sub(1))?;
        self.bases.insert(base.id.clone());
        if before > 0 {
            let next = fit.iter().skip(before).find(|manifest| !named.contains_key(&manifest.id));
            self.next_bases.extend(next.map(|manifest| manifest.id.clone()));
        }
        // behind `since` it leads to some of the moments that are kept only
        base.read_times.first().copied().filter(|_| before > 0)
    }

    /// Parts the segments of a stretch. Where no base lies before all moments that are kept, all of it stays until these have passed it:
    /// once what is missing is put back, it leads to moments again. Behind that only those stay that capturing goes on from.
    fn part(&mut self, capture: CaptureId, stretch: Stretch, from: Option<Timestamp>, is_old: bool, is_last: bool) {
        let from = from.unwrap_or(if is_old { stretch.end() } else { stretch.start() });
        let first = stretch.segments.partition_point(|segment| segment.end() <= from);
        let first = if is_last { first.min(goes_on_from(&stretch)) } else { first };
        let mut segments = stretch.segments;
        self.kept.extend(segments.split_off(first));
        self.dropped.extend(segments.iter().filter_map(|segment| path_in(capture, segment)));
    }

    /// What stays of the captured moments of each database that has any, with these snapshots.
    pub(crate) fn moments(&self, kept: &[&Manifest]) -> Vec<MomentsKept> {
        let moments = self.oldest.iter().map(|(database, before)| {
            let is_whole = |one: &&&Manifest| one.is_whole() && one.source == *database;
            let bases: Vec<&Manifest> = kept.iter().filter(is_whole).copied().collect();
            let is_captured = |one: &&SegmentManifest| one.kind != SegmentKind::Begun && one.source == *database;
            let segments = self.kept.iter().filter(is_captured);
            let mut segments: Vec<SegmentManifest> = segments.cloned().collect();
            segments.sort_by_key(|segment| segment.after);
            let from_after = oldest_moment(&Stretch::all(&segments), &bases);
            MomentsKept { database: database.clone(), from_before: *before, from_after }
        });
        moments.collect()
    }
}

/// The oldest moment of captured changes: the first that was proven behind a snapshot which they can be put on top of.
fn oldest_moment(stretches: &[Stretch], snapshots: &[&Manifest]) -> Option<Timestamp> {
    let oldest = stretches.iter().filter_map(|stretch| {
        let bases = snapshots.iter().filter(|manifest| is_base_in(stretch, manifest));
        let first = bases.filter_map(|manifest| manifest.read_time()).min()?;
        stretch.proven.range(first..).next().map(|(point, _)| *point)
    });
    oldest.min()
}

/// The segment that capturing counts from: the last that proves something, or the first of all.
fn goes_on_from(stretch: &Stretch) -> usize {
    let proven = stretch.segments.iter().rposition(|segment| !segment.proofs.is_empty());
    proven.unwrap_or(0)
}
