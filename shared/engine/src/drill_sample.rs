//! Chooses which documents of a backup a drill restores: from blocks that lie anywhere in its runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_model::id::SnapshotId;
use firebackup_model::selection::literal;
use firebackup_model::{DocumentPath, Selection, Timestamp};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::contents::stored;
use crate::error::Result;
use crate::merge::Layer;
use crate::read::RunSource;
use crate::repository::Repository;
use crate::world::Meter;

/// Documents that are taken of one block.
const OF_A_BLOCK: usize = 10;

/// About `documents` documents of a snapshot, or of a moment on top of it; everything where it holds no more.
///
/// # Errors
/// When the store fails or a run is damaged.
pub(crate) async fn sample(
    repository: &Repository,
    base: &SnapshotId,
    at: Option<Timestamp>,
    documents: u64,
    dice: &mut StdRng,
    meter: &Arc<Meter>,
) -> Result<Selection> {
    let layers = stored(repository, base, at).await?.layers;
    let records: u64 = layers.iter().map(|layer| layer.entry.records).sum();
    if records <= documents {
        return Ok(Selection::default());
    }
    let mut paths = BTreeSet::new();
    for _ in 0..documents.div_ceil(OF_A_BLOCK as u64) {
        if let Some(layer) = at_record(&layers, dice.random_range(..records)) {
            paths.extend(of_a_block(repository, layer, dice, meter).await?);
        }
    }
    let paths = paths.iter().map(|path| literal(path.as_str())).collect();
    Ok(Selection { paths, ..Selection::default() })
}

/// The layer in which the record of this number lies: large runs are chosen more often.
fn at_record(layers: &[Layer], number: u64) -> Option<&Layer> {
    let mut behind = 0;
    layers.iter().find(|layer| {
        behind += layer.entry.records;
        number < behind
    })
}

async fn of_a_block(
    repository: &Repository,
    layer: &Layer,
    dice: &mut StdRng,
    meter: &Arc<Meter>,
) -> Result<Vec<DocumentPath>> {
    let run = RunSource::open(repository, layer.key, &layer.entry, meter).await?;
    let raw = run.block(dice.random_range(..run.blocks().max(1))).await?;
    let mut paths = Vec::new();
    for record in run.records(&raw) {
        paths.extend(DocumentPath::new(record?.path));
    }
    while paths.len() > OF_A_BLOCK {
        paths.swap_remove(dice.random_range(..paths.len()));
    }
    Ok(paths)
}
