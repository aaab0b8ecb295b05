//! Whether objects that somebody names may go: those that a prune would take, and no other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::error::{EngineError, Result};
use crate::prune::{PrunePolicy, Pruning, View};
use crate::prune_marks::Marks;
use crate::repository::Repository;

/// What may become of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing refers to it: a prune of these names marks it, and deletes it a grace period later. Its bytes.
    Orphan(u64),
    /// A kept snapshot or an unfinished job needs it.
    Needed,
    /// It is a snapshot's manifest, which goes when the snapshot is dropped.
    Snapshot,
    /// It belongs to the repository itself: its description, or the mark of a prune.
    Kept,
    /// There is no such object.
    Missing,
}

/// What nothing refers to any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Orphans {
    /// How many objects a prune would mark, has marked, or would delete.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them whose grace period is over: the next prune deletes them, where they are not locked.
    pub due: u64,
    /// Bytes of these.
    pub due_bytes: u64,
    /// What restores replaced, and is too old to be kept by this policy: the prune drops it first.
    pub undos: u64,
}

/// What a prune by `policy` would find that nothing refers to. Changes nothing.
///
/// # Errors
/// As [`prune`](crate::prune).
pub async fn orphans(repository: &Repository, policy: &PrunePolicy) -> Result<Orphans> {
    check_readable(repository)?;
    let view = View::read(&Pruning { repository, policy, versions: None }).await?;
    let marks = Marks::read(repository).await?;
    let mut orphans = Orphans { undos: view.dropped.len() as u64, ..Orphans::default() };
    for (path, size) in view.garbage(repository).await? {
        orphans.objects += 1;
        orphans.bytes += size;
        if marks.ripe.contains(path.as_ref()) {
            orphans.due += 1;
            orphans.due_bytes += size;
        }
    }
    Ok(orphans)
}

/// That it can be known what is needed.
pub(crate) fn check_readable(repository: &Repository) -> Result<()> {
    match repository.can_read() {
        true => Ok(()),
        false => Err(EngineError::Refused(
            "a prune must read all manifests: give a key that opens the repository".to_owned(),
        )),
    }
}

/// What may become of the objects of these names, as things stand. Changes nothing.
///
/// # Errors
/// As [`prune`](crate::prune): when it is not known what is needed.
pub async fn fates(repository: &Repository, names: &BTreeSet<String>) -> Result<BTreeMap<String, Fate>> {
    if !repository.can_read() {
        return Err(EngineError::Refused(
            "all manifests must be read: give a key that opens the repository".to_owned(),
        ));
    }
    let policy = PrunePolicy { only: Some(names.clone()), dry_run: true, ..PrunePolicy::default() };
    let view = View::read(&Pruning { repository, policy: &policy, versions: None }).await?;
    let garbage = view.garbage(repository).await?;
    let garbage: HashMap<String, u64> = garbage.into_iter().map(|(path, size)| (path.to_string(), size)).collect();
    let mut fates = BTreeMap::new();
    for name in names {
        let fate = match garbage.get(name) {
            Some(size) => Fate::Orphan(*size),
            None => other_fate(repository, name).await?,
        };
        fates.insert(name.clone(), fate);
    }
    Ok(fates)
}

async fn other_fate(repository: &Repository, name: &str) -> Result<Fate> {
    let Ok(path) = Path::parse(name) else { return Ok(Fate::Missing) };
    match repository.store().head(&path).await {
        Err(object_store::Error::NotFound { .. }) => return Ok(Fate::Missing),
        found => found.map_err(EngineError::store("look for", path.clone()))?,
    };
    let folder = path.parts().next().map(|folder| folder.as_ref().to_owned());
    Ok(match folder.as_deref() {
        Some("snapshots") => Fate::Snapshot,
        Some("runs" | "keys" | "receipts" | "intents" | "probes") => Fate::Needed,
        _ => Fate::Kept,
    })
}
