//! Proves that a prune loses nothing, between the decision and the first deletion.
//!
//! It asks for moments as whoever restores does, by [`Moments`], and knows nothing of how it was decided what goes: a mistake there
//! must not cost a moment.

use std::collections::{BTreeMap, HashSet};

use firebackup_model::id::{CaptureId, KeyId, RunId, SnapshotId};
use firebackup_model::manifest::Manifest;
use firebackup_model::segment::SegmentManifest;
use firebackup_model::{DatabaseName, Timestamp};
use object_store::path::Path;

use crate::chain::{Captured, path_in};
use crate::error::{EngineError, Result};
use crate::moments::Moments;
use crate::prune_lineage::parent_of;
use crate::prune_segments::SegmentsKept;

/// What a prune leaves.
pub(crate) struct Left<'p> {
    pub(crate) snapshots: Vec<&'p Manifest>,
    pub(crate) segments: &'p SegmentsKept,
    /// The runs and keys that are no garbage.
    pub(crate) runs: &'p HashSet<RunId>,
    pub(crate) keys: &'p HashSet<KeyId>,
}

impl Left<'_> {
    /// Proves that every captured moment at or behind `since` stays one, and that whatever stays has all that it consists of.
    /// `before` are the snapshots that there were.
    ///
    /// # Errors
    /// When something would be lost.
    pub(crate) fn prove(
        &self,
        captures: &BTreeMap<CaptureId, Captured>,
        before: &[&Manifest],
        since: Timestamp,
    ) -> Result<()> {
        self.prove_snapshots(before)?;
        for (capture, Captured { segments, .. }) in captures {
            let Some(database) = segments.first().map(|first| &first.source) else { continue };
            let left = self.segments_of(*capture, database, segments);
            let there_were = moments(database, before, segments);
            let there_were: Vec<Timestamp> = there_were.captured().filter(|point| *point >= since).collect();
            let stay = moments(database, &self.snapshots, &left);
            let lost = there_were.into_iter().find(|point| !stay.holds(*point));
            let lost = lost.or_else(|| stay.outermost().into_iter().find(|point| !self.has_all_of(&stay, *point)));
            let lost = lost.or_else(|| left.iter().find(|one| !self.opens(one.key)).map(SegmentManifest::end));
            if let Some(point) = lost {
                return Err(would_be_lost(&format!("the moment {point} of {database}")));
            }
        }
        Ok(())
    }

    /// A parent that was not there, or could not be read, is not lost now.
    fn prove_snapshots(&self, before: &[&Manifest]) -> Result<()> {
        let there_were: HashSet<&SnapshotId> = before.iter().map(|manifest| &manifest.id).collect();
        let stay: HashSet<&SnapshotId> = self.snapshots.iter().map(|manifest| &manifest.id).collect();
        for manifest in &self.snapshots {
            let goes = |parent: &SnapshotId| there_were.contains(parent) && !stay.contains(parent);
            let has_runs = manifest.all_runs().all(|run| self.runs.contains(&run.id));
            if parent_of(manifest).is_some_and(|parent| goes(&parent)) || !has_runs || !self.opens(manifest.key) {
                return Err(would_be_lost(&format!("the snapshot {} of {}", manifest.id, manifest.source)));
            }
        }
        Ok(())
    }

    /// Of the segments that are read, those whose manifests stay and whose runs were counted.
    fn segments_of(
        &self,
        capture: CaptureId,
        database: &DatabaseName,
        segments: &[SegmentManifest],
    ) -> Vec<SegmentManifest> {
        let kept = self.segments.kept.iter().filter(|segment| segment.source == *database);
        let kept: HashSet<Path> = kept.filter_map(|segment| path_in(capture, segment)).collect();
        let dropped: HashSet<&Path> = self.segments.dropped.iter().collect();
        let stays = |path: Path| kept.contains(&path) && !dropped.contains(&path);
        segments.iter().filter(|segment| path_in(capture, segment).is_some_and(stays)).cloned().collect()
    }

    fn has_all_of(&self, moments: &Moments, point: Timestamp) -> bool {
        let layers = moments.moment(point).and_then(|moment| moments.layers(&moment));
        layers
            .is_ok_and(|layers| layers.iter().all(|layer| self.runs.contains(&layer.entry.id) && self.opens(layer.key)))
    }

    fn opens(&self, key: Option<KeyId>) -> bool {
        key.is_none_or(|key| self.keys.contains(&key))
    }
}

fn moments(database: &DatabaseName, snapshots: &[&Manifest], segments: &[SegmentManifest]) -> Moments {
    let of_it = snapshots.iter().filter(|manifest| manifest.is_whole() && manifest.source == *database);
    Moments::of(database.clone(), of_it.map(|manifest| (*manifest).clone()).collect(), segments)
}

fn would_be_lost(what: &str) -> EngineError {
    EngineError::Refused(format!(
        "nothing was deleted: {what} is kept, and this prune would have taken what it needs; that is a mistake in FireBackup: please \
         report it"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use firebackup_model::Selection;
    use firebackup_model::id::{JobId, JobKind};
    use firebackup_model::manifest::{Consistency, Counts, GroupCounts, RunEntry, RunKind, SnapshotKind};
    use firebackup_model::segment::Proof;

    use super::*;
    use crate::compact::tests as compact;

    const CAPTURE: CaptureId = CaptureId([1; 16]);
    const KEY: KeyId = KeyId([2; 16]);
    const SINCE: i64 = 35;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(seconds, 0)
    }

    /// Of what was read at, or ends at, this second.
    fn run_id(seconds: i64) -> RunId {
        RunId([u8::try_from(seconds).unwrap(); 16])
    }

    fn run(seconds: i64, kind: RunKind) -> RunEntry {
        RunEntry { id: run_id(seconds), kind, ..compact::run(0) }
    }

    fn id(seconds: i64) -> SnapshotId {
        JobId::new(JobKind::Backup, seconds.unsigned_abs(), [0; 10])
    }

    fn snapshot(seconds: i64) -> Manifest {
        Manifest {
            format: 1,
            id: id(seconds),
            kind: SnapshotKind::Full,
            parent: None,
            parent_changed_until: None,
            source: DatabaseName::new("p", "d"),
            selection: Selection::default(),
            consistency: Consistency::Snapshot,
            read_times: vec![at(seconds)],
            runs: vec![run(seconds, RunKind::Base)],
            totals: Counts::default(),
            collections: GroupCounts::new(),
            stored_bytes: 0,
            auth: None,
            compression: "zstd:1".parse().unwrap(),
            levels: BTreeMap::new(),
            key: Some(KEY),
            reads: 0,
            tool: String::new(),
            started: at(seconds),
            finished: at(seconds),
        }
    }

    /// It proves its only point.
    fn segment(after: i64, end: i64) -> SegmentManifest {
        SegmentManifest {
            base: id(10),
            proofs: vec![Proof { from: at(end), through: at(end) }],
            runs: vec![run(end, RunKind::Delta)],
            key: Some(KEY),
            ..compact::segment(after, end, 0)
        }
    }

    /// What is decided to stay.
    struct Decided {
        snapshots: BTreeMap<SnapshotId, Manifest>,
        segments: SegmentsKept,
        runs: HashSet<RunId>,
        keys: HashSet<KeyId>,
    }

    /// Decides rightly, has the decision spoiled, and asks for the proof.
    fn proven(spoil: impl FnOnce(&mut Decided)) -> Result<()> {
        let mut snapshots: BTreeMap<SnapshotId, Manifest> =
            [10, 30, 50].map(|seconds| (id(seconds), snapshot(seconds))).into();
        let child = Manifest { kind: SnapshotKind::Incremental, parent: Some(id(50)), ..snapshot(55) };
        snapshots.insert(child.id.clone(), child);
        let chain = [(10, 20), (20, 30), (30, 40), (40, 47), (47, 60)];
        let segments = chain.map(|(after, end)| segment(after, end)).to_vec();
        let captures = BTreeMap::from([(CAPTURE, Captured { segments, ..Captured::default() })]);
        let segments = SegmentsKept::decide(&captures, &snapshots, &BTreeMap::new(), at(SINCE));
        assert_eq!(segments.bases, BTreeSet::from([id(30)]));
        assert_eq!((segments.kept.len(), segments.dropped.len()), (3, 2));
        let before = snapshots.clone();
        snapshots.remove(&id(10));
        let of_snapshots = snapshots.values().flat_map(|one| &one.runs);
        let runs = of_snapshots.chain(segments.kept.iter().flat_map(|one| &one.runs)).map(|run| run.id).collect();
        let mut decided = Decided { snapshots, segments, runs, keys: HashSet::from([KEY]) };
        spoil(&mut decided);
        let Decided { snapshots, segments, runs, keys } = &decided;
        let left = Left { snapshots: snapshots.values().collect(), segments, runs, keys };
        left.prove(&captures, &before.values().collect::<Vec<_>>(), at(SINCE))
    }

    #[track_caller]
    fn is_refused_for(what: &str, spoil: impl FnOnce(&mut Decided)) {
        let error = proven(spoil).unwrap_err().to_string();
        assert!(error.starts_with("nothing was deleted: ") && error.contains(what), "{error}");
        assert!(error.contains(" of p/d "), "{error}");
    }

    fn moment(seconds: i64) -> String {
        format!("the moment {} of", at(seconds))
    }

    #[test]
    fn what_is_decided_rightly_is_let_pass() {
        proven(|_| {}).unwrap();
        // the moment of a snapshot alone may go with it
        proven(|decided| decided.snapshots.retain(|one, _| *one == id(30))).unwrap();
    }

    #[test]
    fn a_base_that_was_forgotten_is_found_missing() {
        is_refused_for(&moment(40), |decided| drop(decided.snapshots.remove(&id(30))));
    }

    #[test]
    fn a_segment_that_was_forgotten_or_is_to_go_is_found_missing() {
        is_refused_for(&moment(47), |decided| decided.segments.kept.retain(|one| one.after != at(40)));
        is_refused_for(&moment(47), |decided| {
            decided.segments.dropped.extend(path_in(CAPTURE, &segment(40, 47)));
        });
    }

    #[test]
    fn a_run_or_key_that_was_taken_for_garbage_is_found_missing() {
        is_refused_for(&moment(47), |decided| decided.runs.retain(|run| *run != run_id(47)));
        is_refused_for(id(50).as_str(), |decided| decided.runs.retain(|run| *run != run_id(50)));
        is_refused_for(id(30).as_str(), |decided| decided.keys.clear());
    }

    #[test]
    fn a_parent_that_was_forgotten_is_found_missing() {
        is_refused_for(id(55).as_str(), |decided| drop(decided.snapshots.remove(&id(50))));
    }
}
