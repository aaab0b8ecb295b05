//! Reads a snapshot back and checks all of it: every block opened and decompressed, every record in order, hashes and
//! counts as the manifest says.

use std::sync::Arc;

use bytes::Bytes;
use firebackup_codec::run::footer::Footer;
use firebackup_codec::run::header::HEADER;
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::{Counts, GroupCounts, Manifest, RunEntry, RunKind};
use futures::{StreamExt, stream};
use object_store::ObjectStoreExt;
use sha2::{Digest, Sha256};

use crate::error::{EngineError, Result};
use crate::layout;
use crate::read::RunSource;
use crate::repository::{ProvenOrigin, Repository};
use crate::world::Meter;

/// Blocks read at one time.
const PARALLEL_BLOCKS: usize = 4;

/// What a verification saw.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Verification {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Whether its writer is one that is believed.
    pub origin_proven: bool,
    /// Runs read.
    pub runs: u64,
    /// Blocks opened.
    pub blocks: u64,
    /// Records read.
    pub records: u64,
    /// Bytes read from the repository.
    pub bytes: u64,
}

/// Verifies a snapshot by reading everything it consists of.
///
/// # Errors
/// The first damage found; the error names the object.
pub async fn verify(repository: &Repository, snapshot: &SnapshotId, meter: &Arc<Meter>) -> Result<Verification> {
    let (manifest, origin) = repository.manifest(snapshot).await?;
    meter.expected.set(manifest.totals.documents + manifest.totals.deletions);
    let before = meter.stored.get();
    let mut verification = Verification {
        snapshot: snapshot.clone(),
        origin_proven: matches!(origin, ProvenOrigin::Proven(_)),
        runs: 0,
        blocks: 0,
        records: 0,
        bytes: 0,
    };
    let mut collections = GroupCounts::new();
    for entry in manifest.all_runs() {
        let footer = verify_run(repository, &manifest, entry, meter).await?;
        verification.runs += 1;
        verification.blocks += footer.blocks.len() as u64;
        verification.records += entry.records;
        if entry.kind != RunKind::Users {
            for (group, counts) in &footer.collections {
                collections.entry(group.clone()).or_default().add(*counts);
            }
        }
    }
    verification.bytes = meter.stored.get() - before;
    check_counts(&manifest, &collections)?;
    check_runs_do_not_overlap(&manifest)?;
    Ok(verification)
}

async fn verify_run(
    repository: &Repository,
    manifest: &Manifest,
    entry: &RunEntry,
    meter: &Arc<Meter>,
) -> Result<Footer> {
    check_size(repository, entry).await?;
    let source = RunSource::open(repository, manifest.key, entry, meter).await?;
    check_entry(&source, entry)?;
    let mut hash = Sha256::new();
    hash.update(source.bytes(0..HEADER as u64).await?);
    let mut blocks =
        stream::iter(0..source.blocks()).map(|index| check_block(source.clone(), index)).buffered(PARALLEL_BLOCKS);
    while let Some(block) = blocks.next().await {
        let (sealed, records) = block?;
        hash.update(&sealed);
        meter.documents.add(records);
    }
    drop(blocks);
    hash.update(source.bytes(source.footer().offset()..entry.size).await?);
    if hex::encode(hash.finalize()) != entry.sha256 {
        return Err(damaged(entry, "its hash is not the one in the manifest"));
    }
    Ok(source.footer().clone())
}

/// Nothing may be missing behind, nor be appended to, what the manifest knows of a run.
async fn check_size(repository: &Repository, entry: &RunEntry) -> Result<()> {
    let path = layout::run(entry.id);
    match repository.store().head(&path).await {
        Ok(meta) if meta.size == entry.size => Ok(()),
        Ok(meta) => Err(damaged(entry, &format!("it has {} bytes, not {}", meta.size, entry.size))),
        Err(source) => Err(EngineError::store("read", path)(source)),
    }
}

/// Opens a block and walks its records; returns the bytes as they are stored, and how many records they hold.
async fn check_block(source: RunSource, index: usize) -> Result<(Bytes, u64)> {
    let sealed = source.sealed_block(index).await?;
    let raw = source.open_block(index, sealed.clone()).await?;
    let mut records = 0;
    for record in source.records(&raw) {
        record?;
        records += 1;
    }
    Ok((sealed, records))
}

fn check_entry(source: &RunSource, entry: &RunEntry) -> Result<()> {
    let footer = source.footer();
    let (first, last) = (footer.blocks.first(), footer.blocks.last());
    let agrees = footer.records == entry.records
        && footer.blocks.len() as u64 == entry.blocks
        && first.is_some_and(|block| block.first == entry.first)
        && last.is_some_and(|block| block.last == entry.last);
    if agrees { Ok(()) } else { Err(damaged(entry, "its footer says other than the manifest")) }
}

fn check_counts(manifest: &Manifest, collections: &GroupCounts) -> Result<()> {
    let mut totals = Counts::default();
    for counts in collections.values() {
        totals.add(*counts);
    }
    if totals == manifest.totals && *collections == manifest.collections {
        return Ok(());
    }
    Err(EngineError::Incomplete {
        job: manifest.id.clone(),
        reason: "its runs hold other documents than the manifest counts".to_owned(),
    })
}

fn check_runs_do_not_overlap(manifest: &Manifest) -> Result<()> {
    for pair in manifest.runs.windows(2) {
        if pair[0].last >= pair[1].first {
            return Err(damaged(&pair[1], "it overlaps the run before it"));
        }
    }
    Ok(())
}

fn damaged(entry: &RunEntry, reason: &str) -> EngineError {
    EngineError::Refused(format!("`{}` is damaged: {reason}", layout::run(entry.id)))
}
