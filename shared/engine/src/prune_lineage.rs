//! What incremental backups keep from being dropped: all that they build on.

use std::collections::{BTreeMap, BTreeSet};

use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::{Manifest, SnapshotKind};

/// What an incremental backup builds on.
pub(crate) fn parent_of(manifest: &Manifest) -> Option<SnapshotId> {
    manifest.parent.clone().filter(|_| manifest.kind == SnapshotKind::Incremental)
}

/// Parts the snapshots that were named to be dropped into those that `kept` ones or captured moments (`bases`) need, and the
/// rest. What is needed may be incremental, and need its own parent.
pub(crate) fn needed(
    mut drop: Vec<SnapshotId>,
    kept: &BTreeMap<SnapshotId, Manifest>,
    named: &BTreeMap<SnapshotId, Manifest>,
    bases: &BTreeSet<SnapshotId>,
) -> (Vec<SnapshotId>, Vec<SnapshotId>) {
    let mut needed = Vec::new();
    loop {
        let all_kept = kept.values().chain(needed.iter().filter_map(|id| named.get(id)));
        let parents: BTreeSet<_> = all_kept.filter_map(parent_of).collect();
        let is_needed = |id: &SnapshotId| bases.contains(id) || parents.contains(id);
        let (more, rest): (Vec<_>, Vec<_>) = drop.into_iter().partition(is_needed);
        drop = rest;
        if more.is_empty() {
            return (needed, drop);
        }
        needed.extend(more);
    }
}

/// Those that no kept incremental backup builds on.
pub(crate) fn without_parents(mut old: Vec<SnapshotId>, manifests: &BTreeMap<SnapshotId, Manifest>) -> Vec<SnapshotId> {
    loop {
        let kept = manifests.values().filter(|manifest| !old.contains(&manifest.id));
        let parents: BTreeSet<_> = kept.filter_map(parent_of).collect();
        let before = old.len();
        old.retain(|id| !parents.contains(id));
        if old.len() == before {
            return old;
        }
    }
}
