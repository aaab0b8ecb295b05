//! Copies the objects of a repository to another place, byte for byte, under the same names.
//!
//! Nothing is opened for it: neither the names nor what objects are sealed with say where a repository lies, so that a copy
//! opens with the same keys. What comes and goes with jobs (`receipts/`, `intents/`, `probes/`, `prunes/`) stays behind.
//!
//! An object is hashed while it is read and put, if there is none of its name, and is then read back from where it was put
//! and hashed again. A checksum that the store has compared would save that reading, but not every store has one, and none
//! says what the store will give back; this does. What is there already is read and compared the same way.

use std::sync::Arc;

use bytes::Bytes;
use firebackup_model::Timestamp;
use firebackup_model::id::SnapshotId;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

use crate::error::{EngineError, Result};
use crate::layout;
use crate::objects::read_small;
use crate::upload::{PART_BYTES, Upload};
use crate::world::Meter;

/// The most bytes a repository's description is read with.
const MAX_DESCRIPTION: u64 = 64 * 1024;

/// A kind of object, in the order in which they are copied: whoever opens the copy at any moment finds what they look for, and
/// a snapshot is there once all that it needs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Wraps of keys.
    Keys,
    /// The repository's description: from then on it is one.
    Description,
    /// Runs.
    Runs,
    /// Reports of drills, and manifests of captured changes, and of versions that events told of.
    Segments,
    /// Manifests.
    Snapshots,
}

/// An object as a store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundObject {
    /// Its name below the store.
    pub path: Path,
    /// Its bytes.
    pub size: u64,
    /// When it was put, by the store's clock.
    pub modified: Timestamp,
}

/// What came of copying an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// It was put, and reads as it should.
    Put,
    /// It was there already, with the same bytes.
    There,
    /// It is not in the source any more: somebody deleted it since it was listed.
    Gone,
}

impl Layer {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Keys, Self::Description, Self::Runs, Self::Segments, Self::Snapshots];

    /// Its objects in a store, in order of name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn found(self, store: &dyn ObjectStore) -> Result<Vec<FoundObject>> {
        match self {
            Self::Keys => found_below(store, "keys").await,
            Self::Runs => found_below(store, "runs").await,
            Self::Segments => {
                let mut found = found_below(store, "reported").await?;
                found.extend(found_below(store, "segments").await?);
                // that a drill has begun says something of its database only
                let is_report = |object: &FoundObject| object.path.filename() == Some("report");
                found.extend(found_below(store, "drills").await?.into_iter().filter(is_report));
                Ok(found)
            }
            Self::Snapshots => found_below(store, "snapshots").await,
            Self::Description => match store.head(&layout::config()).await {
                Ok(meta) => Ok(vec![FoundObject::of(&meta)]),
                Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
                Err(source) => Err(EngineError::store("look for", layout::config())(source)),
            },
        }
    }
}

impl FoundObject {
    fn of(meta: &ObjectMeta) -> Self {
        let modified = Timestamp::new(meta.last_modified.timestamp(), meta.last_modified.timestamp_subsec_nanos());
        Self { path: meta.location.clone(), size: meta.size, modified }
    }

    /// Whose manifest it is, where it is one.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotId> {
        layout::snapshot_of(&self.path)
    }
}

/// Whether the target holds a repository under this name that is another one: nothing can be copied into it, for it has keys of
/// its own.
///
/// # Errors
/// When a store fails.
pub async fn holds_another(from: &dyn ObjectStore, to: &dyn ObjectStore) -> Result<bool> {
    let (ours, there) = (description(from).await?, description(to).await?);
    Ok(ours.zip(there).is_some_and(|(ours, there)| ours != there))
}

async fn description(store: &dyn ObjectStore) -> Result<Option<Bytes>> {
    read_small(store, &layout::config(), MAX_DESCRIPTION).await
}

/// The objects below a folder of a store, in order of name.
///
/// # Errors
/// When the store fails.
pub async fn found_below(store: &dyn ObjectStore, folder: &str) -> Result<Vec<FoundObject>> {
    let listed = store.list(Some(&Path::from(folder))).map_ok(|meta| FoundObject::of(&meta));
    let mut found: Vec<_> = listed.try_collect().await.map_err(EngineError::store("list", folder))?;
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Copies an object, and proves that what lies in the target is what lies in the source; `there` is the size of what the target
/// was found to hold under its name. Takes no more memory than a few parts, whatever the size.
///
/// # Errors
/// [`EngineError::Refused`] where the target holds, or gives back, something else under this name; nothing is replaced. When a
/// store fails.
pub async fn copy_object(
    from: &Arc<dyn ObjectStore>,
    to: &Arc<dyn ObjectStore>,
    object: &FoundObject,
    there: Option<u64>,
) -> Result<Copied> {
    if there.is_some_and(|size| size != object.size) {
        return Err(differs(object));
    }
    let mut upload = there.is_none().then(|| Upload::new(Arc::clone(to), object.path.clone(), Arc::<Meter>::default()));
    let read = match read_through(from, object, upload.as_mut()).await {
        Err(EngineError::Store { source: object_store::Error::NotFound { .. }, .. }) => return Ok(Copied::Gone),
        Ok(None) => return Err(EngineError::Refused(format!("`{}` in the source has changed", object.path))),
        read => read?,
    };
    let copied = if upload.is_some() { Copied::Put } else { Copied::There };
    if let Some(mut upload) = upload {
        match upload.finish().await {
            // put by somebody else meanwhile: what it holds decides
            Ok(()) | Err(EngineError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    match read_through(to, object, None).await? == read {
        true => Ok(copied),
        false => Err(differs(object)),
    }
}

fn differs(object: &FoundObject) -> EngineError {
    EngineError::Refused(format!("`{}` in the target is not what it is in the source", object.path))
}

/// Reads an object by parts, and hands each on to `upload`; the digest of its bytes. Nothing where it has another size.
async fn read_through(
    store: &Arc<dyn ObjectStore>,
    object: &FoundObject,
    mut upload: Option<&mut Upload>,
) -> Result<Option<[u8; 32]>> {
    let (mut digest, mut start) = (Sha256::new(), 0);
    loop {
        let Some(part) = read_part(store, object, start).await? else { return Ok(None) };
        digest.update(&part);
        start += part.len() as u64;
        if let Some(upload) = upload.as_mut() {
            upload.write(part).await?;
        }
        if start >= object.size {
            return Ok(Some(digest.finalize().into()));
        }
    }
}

/// Ranges, for a request for the whole of a large object may end by its time before it has passed.
async fn read_part(store: &Arc<dyn ObjectStore>, object: &FoundObject, start: u64) -> Result<Option<Bytes>> {
    let end = object.size.min(start + PART_BYTES as u64);
    let range = (end > start).then_some(GetRange::Bounded(start..end));
    let options = GetOptions { range, ..GetOptions::default() };
    let failed = || EngineError::store("read", &object.path);
    let found = store.get_opts(&object.path, options).await.map_err(failed())?;
    if found.meta.size != object.size {
        return Ok(None);
    }
    let bytes = found.bytes().await.map_err(failed())?;
    if bytes.len() as u64 != end - start {
        let text = format!("the answer was cut short: {} of {} bytes", bytes.len(), end - start);
        return Err(failed()(object_store::Error::Generic { store: "read", source: text.into() }));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn layers_hold_what_a_repository_keeps_and_nothing_that_comes_and_goes() {
        let store = InMemory::new();
        for name in [
            "firebackup.json",
            "keys/k/w.json",
            "runs/ab/a.run",
            "snapshots/s.manifest",
            "segments/c/p.manifest",
            "reported/c/p.manifest",
            "receipts/j/0/0",
            "intents/j",
            "prunes/p",
            "probes/p",
        ] {
            store.put(&Path::from(name), "x".into()).await.unwrap();
        }
        let mut names = Vec::new();
        for layer in Layer::ALL {
            names.extend(layer.found(&store).await.unwrap().into_iter().map(|found| found.path.to_string()));
        }
        let kept = [
            "keys/k/w.json",
            "firebackup.json",
            "runs/ab/a.run",
            "reported/c/p.manifest",
            "segments/c/p.manifest",
            "snapshots/s.manifest",
        ];
        assert_eq!(names, kept);
        assert!(Layer::Description.found(&InMemory::new()).await.unwrap().is_empty());
    }
}
