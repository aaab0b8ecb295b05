//! Reads a snapshot back and checks all of it: every block opened and decompressed, every record in order, hashes and
//! counts as the manifest says.

use std::sync::Arc;

use firebackup_codec::run::footer::Footer;
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::{Counts, GroupCounts, Manifest, RunEntry, RunKind};
use futures::{StreamExt, TryStreamExt, stream};
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
    let source = RunSource::open(repository, manifest.key, entry, meter).await?;
    let footer = source.footer().clone();
    check_entry(&source, entry)?;
    if hash_object(repository, entry, meter).await? != entry.sha256 {
        return Err(damaged(entry, "its hash is not the one in the manifest"));
    }
    let documents = Arc::clone(meter);
    stream::iter(0..source.blocks())
        .map(Ok)
        .try_for_each_concurrent(PARALLEL_BLOCKS, |index| {
            let (source, meter) = (source.clone(), Arc::clone(&documents));
            async move {
                let raw = source.block(index).await?;
                let mut records = 0;
                for record in source.records(&raw) {
                    record?;
                    records += 1;
                }
                meter.documents.add(records);
                Ok::<_, EngineError>(())
            }
        })
        .await?;
    Ok(footer)
}

async fn hash_object(repository: &Repository, entry: &RunEntry, meter: &Meter) -> Result<String> {
    let path = layout::run(entry.id);
    let found = repository.store().get(&path).await.map_err(EngineError::store("read", &path))?;
    let mut bytes = found.into_stream();
    let (mut size, mut hash) = (0u64, Sha256::new());
    while let Some(part) = bytes.try_next().await.map_err(EngineError::store("read", &path))? {
        hash.update(&part);
        size += part.len() as u64;
        meter.stored.add(part.len() as u64);
    }
    if size == entry.size { Ok(hex::encode(hash.finalize())) } else { Err(damaged(entry, "it came cut short")) }
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
