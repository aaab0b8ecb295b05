//! Chooses which documents of a backup a drill restores: from blocks that lie anywhere in its runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_model::id::SnapshotId;
use firebackup_model::selection::literal;
use firebackup_model::{DocumentPath, Selection, Timestamp};

use crate::contents::stored;
use crate::error::Result;
use crate::merge::Layer;
use crate::read::RunSource;
use crate::repository::Repository;
use crate::world::Meter;

/// Documents that are taken of one block.
const OF_A_BLOCK: usize = 10;

/// A series of numbers that is the same for the same seed (splitmix64): what a report shows can be drilled again.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `upper`, which is more than 0.
    pub(crate) const fn below(&mut self, upper: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % upper
    }
}

/// About `documents` documents of a snapshot, or of a moment on top of it; everything where it holds no more.
///
/// # Errors
/// When the store fails or a run is damaged.
pub(crate) async fn sample(
    repository: &Repository,
    base: &SnapshotId,
    at: Option<Timestamp>,
    documents: u64,
    dice: &mut Dice,
    meter: &Arc<Meter>,
) -> Result<Selection> {
    let layers = stored(repository, base, at).await?.layers;
    let records: u64 = layers.iter().map(|layer| layer.entry.records).sum();
    if records <= documents {
        return Ok(Selection::default());
    }
    let mut paths = BTreeSet::new();
    for _ in 0..documents.div_ceil(OF_A_BLOCK as u64) {
        if let Some(layer) = at_record(&layers, dice.below(records)) {
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
    dice: &mut Dice,
    meter: &Arc<Meter>,
) -> Result<Vec<DocumentPath>> {
    let run = RunSource::open(repository, layer.key, &layer.entry, meter).await?;
    let raw = run.block(dice.below(run.blocks().max(1) as u64) as usize).await?;
    let mut paths = Vec::new();
    for record in run.records(&raw) {
        let record = record?;
        if record.body.is_some() {
            paths.extend(DocumentPath::new(record.path));
        }
    }
    while paths.len() > OF_A_BLOCK {
        paths.swap_remove(dice.below(paths.len() as u64) as usize);
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same() {
        let throw = |seed| {
            let mut dice = Dice::new(seed);
            (0..100).map(|_| dice.below(6)).collect::<Vec<_>>()
        };
        assert_eq!(throw(7), throw(7));
        assert_ne!(throw(7), throw(8));
        assert!((0..6).all(|side| throw(7).contains(&side)));
    }
}
