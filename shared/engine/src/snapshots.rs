//! The snapshots of a repository: listing them is all that is needed to know them.

use firebackup_codec::object::ObjectType;
use firebackup_model::Timestamp;
use firebackup_model::id::{JobKind, SnapshotId};
use firebackup_model::manifest::{FORMAT_VERSION, Manifest};
use object_store::ObjectStoreExt;

use crate::error::{EngineError, Result};
use crate::layout;
use crate::plan::MAX_JOB_SECONDS;
use crate::repository::{ProvenOrigin, Repository};

/// How long after its beginning a backup may still read: as long as a job may take, and what clocks differ by.
const LATEST_READ_MILLIS: i64 = (MAX_JOB_SECONDS + 600) * 1000;

impl Repository {
    /// The names of all snapshots, oldest first. Listing them is all that is needed to know them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn snapshot_ids(&self) -> Result<Vec<SnapshotId>> {
        let metas = self.list("snapshots").await?;
        let mut ids: Vec<_> = metas.iter().filter_map(|meta| layout::snapshot_of(&meta.location)).collect();
        ids.sort_by(|a, b| ulid(a).cmp(ulid(b)));
        Ok(ids)
    }

    /// Objects among the snapshots whose name is no snapshot's. Nobody knows what they need.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn strangers(&self) -> Result<Vec<String>> {
        let metas = self.list("snapshots").await?;
        let strangers = metas.into_iter().filter(|meta| layout::snapshot_of(&meta.location).is_none());
        Ok(strangers.map(|meta| meta.location.to_string()).collect())
    }

    /// Reads a snapshot's manifest and says whether its origin is proven.
    ///
    /// # Errors
    /// When it is not there, damaged, of another repository, or by a writer that is not believed.
    pub async fn manifest(&self, snapshot: &SnapshotId) -> Result<(Manifest, ProvenOrigin)> {
        let path = layout::manifest(snapshot);
        let found: Option<(Manifest, _)> = self.get_sealed(ObjectType::Manifest, &path).await?;
        let (manifest, origin) =
            found.ok_or_else(|| EngineError::NotFound(format!("there is no snapshot {snapshot}")))?;
        if manifest.id != *snapshot || manifest.format != FORMAT_VERSION {
            return Err(EngineError::Refused(format!("`{path}` is the manifest of another snapshot or format")));
        }
        Ok((manifest, origin))
    }

    /// The manifests of all snapshots that `accepts` takes, oldest first.
    ///
    /// # Errors
    /// When the store fails, or one cannot be read: what it is of is then not known.
    pub async fn all_manifests(&self, accepts: impl Fn(&Manifest) -> bool + Send) -> Result<Vec<Manifest>> {
        let mut manifests = Vec::new();
        for id in self.snapshot_ids().await? {
            match self.manifest(&id).await {
                Ok((manifest, _)) if accepts(&manifest) => manifests.push(manifest),
                Ok(_) => {}
                // a prune dropped it since it was listed
                Err(EngineError::NotFound(_)) if self.is_dropped(&id).await? => {}
                Err(error) => return Err(error),
            }
        }
        Ok(manifests)
    }

    /// A snapshot and all that it builds on, the whole one first.
    ///
    /// # Errors
    /// When one of them is not there, or cannot be read.
    pub async fn lineage(&self, snapshot: &SnapshotId) -> Result<Vec<SnapshotId>> {
        let (manifest, _) = self.manifest(snapshot).await?;
        let lineage = crate::incremental::lineage(self, &manifest).await?;
        Ok(lineage.into_iter().map(|manifest| manifest.id).collect())
    }

    /// Whether a snapshot that was listed has been dropped since.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_dropped(&self, snapshot: &SnapshotId) -> Result<bool> {
        let path = layout::manifest(snapshot);
        match self.0.store.head(&path).await {
            Ok(_) => Ok(false),
            Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(source) => Err(EngineError::store("look for", path)(source)),
        }
    }

    /// Of the backups that `accepts` takes, the one of the newest moment: by read time, not by when it was made. An undo is
    /// a snapshot of what a restore replaced, and never the newest backup.
    ///
    /// # Errors
    /// When the store fails, or one that may be the newest cannot be read: an older one is never taken for it.
    pub async fn latest(&self, accepts: impl Fn(&Manifest) -> bool + Send) -> Result<Option<SnapshotId>> {
        let mut newest: Option<(Timestamp, SnapshotId)> = None;
        for id in self.snapshot_ids().await?.into_iter().rev().filter(|id| id.kind() == JobKind::Backup) {
            // no backup reads at a time much behind that at which it began: the rest is older
            let end = Timestamp::from_millis(id.millis().cast_signed() + LATEST_READ_MILLIS);
            if newest.as_ref().is_some_and(|(read_time, _)| *read_time > end) {
                break;
            }
            match self.manifest(&id).await {
                Ok((manifest, _)) if accepts(&manifest) => {
                    let moment = manifest.read_time().unwrap_or(manifest.started);
                    if newest.as_ref().is_none_or(|(read_time, _)| moment > *read_time) {
                        newest = Some((moment, id));
                    }
                }
                Ok(_) => {}
                // a prune dropped it since it was listed
                Err(EngineError::NotFound(_)) if self.is_dropped(&id).await? => {}
                Err(source) => return Err(EngineError::Latest { id, source: Box::new(source) }),
            }
        }
        Ok(newest.map(|(_, id)| id))
    }

    /// The snapshot that a user means: an id, the unique beginning of one, or `latest`.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub async fn resolve(&self, text: &str) -> Result<SnapshotId> {
        if text == "latest" {
            let newest = self.latest(|_| true).await?;
            return newest.ok_or_else(|| EngineError::NotFound("there is no snapshot yet".to_owned()));
        }
        let ids = self.snapshot_ids().await?;
        let mut matching =
            ids.into_iter().filter(|id| id.as_str() == text || text.len() >= 4 && id.as_str().starts_with(text));
        match (matching.next(), matching.next()) {
            (Some(id), None) => Ok(id),
            (None, _) => Err(EngineError::NotFound(format!("there is no snapshot `{text}`: see `firebackup list`"))),
            (Some(a), Some(b)) => Err(EngineError::Refused(format!("`{text}` may be {a} or {b}: give more of the id"))),
        }
    }
}

fn ulid(id: &SnapshotId) -> &str {
    id.as_str().split_once('_').map_or("", |(_, ulid)| ulid)
}
