//! One document out of a snapshot, by its path: the footer of one run, then one block of it.

use std::sync::Arc;

use bytes::Bytes;
use firebackup_model::manifest::Manifest;
use firebackup_model::{DocumentPath, Timestamp};

use crate::error::Result;
use crate::read::RunSource;
use crate::repository::Repository;
use crate::world::Meter;

/// A document as a snapshot holds it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The protobuf bytes as they came from the server.
    pub document: Bytes,
    /// When it was last changed before the snapshot.
    pub update_time: Option<Timestamp>,
    /// The read time of the snapshot's run that holds it.
    pub read_time: Option<Timestamp>,
}

/// Looks a document up in a snapshot; nothing when it was not there.
///
/// # Errors
/// When the store fails or a run is damaged.
pub async fn lookup(
    repository: &Repository,
    manifest: &Manifest,
    path: &DocumentPath,
    meter: &Arc<Meter>,
) -> Result<Option<Found>> {
    for entry in &manifest.runs {
        if entry.first <= *path && *path <= entry.last {
            let run = RunSource::open(repository, manifest.key, entry, meter).await?;
            if let Some(record) = run.find(path).await? {
                let read_time = entry.read_time;
                return Ok(record.body.map(|document| Found { document, update_time: record.update_time, read_time }));
            }
        }
    }
    Ok(None)
}
