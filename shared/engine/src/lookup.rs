//! One document out of a snapshot, or as it was at a moment: the footer of each run that may hold it, then one block of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use firebackup_model::id::RunId;
use firebackup_model::manifest::Manifest;
use firebackup_model::{DocumentPath, Timestamp};
use tokio::sync::{Mutex, OnceCell};

use crate::error::Result;
use crate::incremental::{layers_of, lineage};
use crate::merge::{Layer, Precedence};
use crate::moments::{Moment, Moments};
use crate::read::{Record, RunSource};
use crate::repository::Repository;
use crate::world::Meter;

/// A document as a snapshot holds it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The protobuf bytes as they came from the server.
    pub document: Bytes,
    /// When it was last changed before the snapshot.
    pub update_time: Option<Timestamp>,
    /// The read time, or the consistent point, that it is of.
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
    let layers = layers_of(&lineage(repository, manifest).await?);
    Lookup::new(repository, &layers, meter).find(path).await
}

/// Looks a document up as it was at a moment; nothing when it was not there.
///
/// # Errors
/// When the store fails, a run is damaged, or the moment cannot be put back any more.
pub async fn lookup_at(
    repository: &Repository,
    moments: &Moments,
    moment: &Moment,
    path: &DocumentPath,
    meter: &Arc<Meter>,
) -> Result<Option<Found>> {
    Lookup::new(repository, &moments.layers(moment)?, meter).find(path).await
}

/// Looks documents up in the same runs, each of which is opened once and only when a path may stand in it.
pub(crate) struct Lookup<'l> {
    repository: &'l Repository,
    layers: &'l [Layer],
    open: Mutex<HashMap<RunId, Arc<OnceCell<RunSource>>>>,
    meter: &'l Arc<Meter>,
}

impl<'l> Lookup<'l> {
    pub(crate) fn new(repository: &'l Repository, layers: &'l [Layer], meter: &'l Arc<Meter>) -> Self {
        Self { repository, layers, open: Mutex::default(), meter }
    }

    /// The document that counts; nothing where there is none.
    pub(crate) async fn find(&self, path: &DocumentPath) -> Result<Option<Found>> {
        let mut newest: Option<(Precedence, Record)> = None;
        for layer in self.layers {
            for record in self.records_of(layer, path).await? {
                let precedence = layer.precedence(&record);
                if newest.as_ref().is_none_or(|(before, _)| precedence >= *before) {
                    newest = Some((precedence, record));
                }
            }
        }
        Ok(newest.and_then(|(_, record)| {
            let (update_time, read_time) = (record.update_time, record.point);
            record.body.map(|document| Found { document, update_time, read_time })
        }))
    }

    /// Those of some paths, ascending, of which there is a document. Each block is read once, however many paths it may hold.
    pub(crate) async fn present(&self, paths: &[DocumentPath]) -> Result<HashSet<DocumentPath>> {
        let mut newest: HashMap<DocumentPath, (Precedence, bool)> = HashMap::new();
        for layer in self.layers {
            let within = |path: &&DocumentPath| layer.entry.first <= **path && **path <= layer.entry.last;
            let paths: Vec<&DocumentPath> = paths.iter().filter(within).collect();
            if paths.is_empty() {
                continue;
            }
            let seen = |record: Record| {
                layer.counts(&record).then(|| (layer.precedence(&record), record.body.is_some(), record.path))
            };
            for (precedence, is_there, path) in self.run(layer).await?.find_each(&paths, seen).await? {
                let before = newest.entry(path).or_insert((precedence, is_there));
                if precedence >= before.0 {
                    *before = (precedence, is_there);
                }
            }
        }
        Ok(newest.into_iter().filter(|(_, (_, is_there))| *is_there).map(|(path, _)| path).collect())
    }

    /// The records of a path in one layer that count, in their order.
    pub(crate) async fn records_of(&self, layer: &Layer, path: &DocumentPath) -> Result<Vec<Record>> {
        if *path < layer.entry.first || layer.entry.last < *path {
            return Ok(Vec::new());
        }
        let run = self.run(layer).await?;
        let mut records = run.find_all(path).await?;
        records.retain(|record| layer.counts(record));
        Ok(records)
    }

    /// How many runs were opened so far.
    pub(crate) async fn opened(&self) -> u64 {
        self.open.lock().await.len() as u64
    }

    async fn run(&self, layer: &Layer) -> Result<RunSource> {
        let cell = Arc::clone(self.open.lock().await.entry(layer.entry.id).or_default());
        let open = || RunSource::open(self.repository, layer.key, &layer.entry, self.meter);
        Ok(cell.get_or_try_init(open).await?.clone())
    }
}
