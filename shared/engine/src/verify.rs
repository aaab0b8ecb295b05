//! Reads a snapshot back and checks all of it: every block opened and decompressed, every record in order, hashes and
//! counts as the manifest says. Or only its structure, which takes a fraction of the time and finds what is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use firebackup_codec::run::footer::Footer;
use firebackup_codec::run::header::HEADER;
use firebackup_model::id::{CaptureId, KeyId, SnapshotId};
use firebackup_model::manifest::{Counts, GroupCounts, Manifest, RunEntry, RunKind};
use firebackup_model::segment::{SegmentKind, SegmentManifest};
use firebackup_model::{DatabaseName, Timestamp};
use futures::{StreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use sha2::{Digest, Sha256};

use crate::chain::capture_id;
use crate::error::{EngineError, Result};
use crate::incremental::lineage;
use crate::layout;
use crate::read::RunSource;
use crate::repository::{ProvenOrigin, Repository};
use crate::world::Meter;

/// Blocks read at one time.
const PARALLEL_BLOCKS: usize = 4;
/// Runs looked at at one time.
const PARALLEL_RUNS: usize = 32;

/// What a verification saw.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Verification {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Whether its writer is one that is believed.
    pub origin_proven: bool,
    /// Runs read, or looked at.
    pub runs: u64,
    /// Blocks opened, or found in indexes.
    pub blocks: u64,
    /// Records read, or counted by indexes.
    pub records: u64,
    /// Bytes read from the repository.
    pub bytes: u64,
}

/// Verifies a snapshot by reading everything it consists of.
///
/// # Errors
/// The first damage found; the error names the object.
pub async fn verify(repository: &Repository, snapshot: &SnapshotId, meter: &Arc<Meter>) -> Result<Verification> {
    let (manifest, mut seen) = begin(repository, snapshot, meter).await?;
    for entry in manifest.all_runs() {
        let footer = verify_run(repository, manifest.key, entry, meter).await?;
        seen.add(entry, &footer);
    }
    seen.end(&manifest, meter)
}

/// Looks at a snapshot without reading its documents: whether every run is there with its size, its index opens and says
/// what the manifest says, and all of them together hold what the manifest counts. Damage inside a block is not seen.
///
/// Three small requests a run; `blocks` and `records` are those that the indexes name, `bytes` what was read of them.
///
/// # Errors
/// The first damage found; the error names the object.
pub async fn check(repository: &Repository, snapshot: &SnapshotId, meter: &Arc<Meter>) -> Result<Verification> {
    let (manifest, mut seen) = begin(repository, snapshot, meter).await?;
    let (key, entries) = (manifest.key, manifest.all_runs().cloned().collect::<Vec<_>>());
    let mut looks = stream::iter(entries)
        .map(|entry| async move {
            let source = open_run(repository, key, &entry, meter).await?;
            Ok::<_, EngineError>((entry, source))
        })
        .buffer_unordered(PARALLEL_RUNS);
    while let Some(looked) = looks.next().await {
        let (entry, source) = looked?;
        meter.documents.add(entry.records);
        seen.add(&entry, source.footer());
    }
    drop(looks);
    seen.end(&manifest, meter)
}

/// What reading the segments of a repository back came to.
#[derive(Debug, Default)]
pub struct VerifiedSegments {
    /// Segments of which everything is whole.
    pub segments: u64,
    /// Manifests of reported versions of which everything is whole.
    pub reported: u64,
    /// Their runs.
    pub runs: u64,
    /// Their records.
    pub records: u64,
    /// Bytes read from the repository.
    pub bytes: u64,
    /// Manifests of segments and reported versions of which something is not, with the first that is not.
    pub damaged: Vec<(String, EngineError)>,
}

/// Verifies all captured changes and reported versions by reading everything that they consist of, and goes on behind what is damaged.
///
/// # Errors
/// When the store fails in passing.
pub async fn verify_segments(repository: &Repository, meter: &Arc<Meter>) -> Result<VerifiedSegments> {
    verify_captured(repository, None, meter).await
}

/// The same of one database.
pub(crate) async fn verify_segments_of(
    repository: &Repository,
    database: &DatabaseName,
    meter: &Arc<Meter>,
) -> Result<VerifiedSegments> {
    verify_captured(repository, Some(capture_id(repository.id(), database)), meter).await
}

async fn verify_captured(
    repository: &Repository,
    only: Option<CaptureId>,
    meter: &Arc<Meter>,
) -> Result<VerifiedSegments> {
    let (mut verified, before) = (VerifiedSegments::default(), meter.stored.get());
    let listed = captured_of(repository, only).await?;
    let mut missing = missing_in(&listed);
    for (path, segment) in listed {
        let segment = match segment {
            // a prune dropped it since it was listed
            Ok(None) => continue,
            // it is whole, and stands for nothing
            Ok(Some(segment)) if segment.kind == SegmentKind::Begun => continue,
            Ok(Some(segment)) => segment,
            Err(error) => {
                verified.damaged.push((path.to_string(), error));
                continue;
            }
        };
        match verify_runs(repository, &segment.runs, segment.key, meter).await {
            Ok(()) => {
                verified.segments += 1;
                verified.add(&segment.runs);
            }
            Err(error) if error.may_pass() => return Err(error),
            Err(error) => verified.damaged.push((path.to_string(), error)),
        }
    }
    if !missing.is_empty() {
        // they may have been merged and dropped while they were listed: what is missing still is so
        let still = missing_in(&captured_of(repository, only).await?);
        missing.retain(|place, _| still.contains_key(place));
    }
    verified.damaged.extend(missing.into_values());
    verify_reported(repository, only, meter, &mut verified).await?;
    verified.bytes = meter.stored.get() - before;
    Ok(verified)
}

/// The segments that are read, of all databases or one, with those that cannot be.
async fn captured_of(
    repository: &Repository,
    only: Option<CaptureId>,
) -> Result<Vec<(Path, Result<Option<SegmentManifest>>)>> {
    let mut listed = Vec::new();
    for (path, segment) in repository.each_segment().await? {
        let is_meant = only.is_none_or(|only| path.prefix_matches(&layout::segments(only)));
        match segment {
            _ if !is_meant => {}
            Err(error) if error.may_pass() => return Err(error),
            segment => listed.push((path, segment)),
        }
    }
    Ok(listed)
}

async fn verify_reported(
    repository: &Repository,
    only: Option<CaptureId>,
    meter: &Arc<Meter>,
    verified: &mut VerifiedSegments,
) -> Result<()> {
    for (path, manifest) in repository.each_report().await? {
        if only.is_some_and(|only| !path.prefix_matches(&layout::all_reported(only))) {
            continue;
        }
        let whole = match manifest {
            // a prune dropped it since it was listed
            Ok(None) => continue,
            Ok(Some(manifest)) => {
                let read = verify_runs(repository, &manifest.runs, manifest.key, meter).await;
                read.map(|()| verified.add(&manifest.runs))
            }
            Err(error) => Err(error),
        };
        match whole {
            Ok(()) => verified.reported += 1,
            Err(error) if error.may_pass() => return Err(error),
            Err(error) => verified.damaged.push((path.to_string(), error)),
        }
    }
    Ok(())
}

impl VerifiedSegments {
    fn add(&mut self, runs: &[RunEntry]) {
        self.runs += runs.len() as u64;
        self.records += runs.iter().map(|run| run.records).sum::<u64>();
    }
}

/// Where segments are missing, by where the one behind them begins, with its name. What comes behind one that went since it was
/// listed, or cannot be read, is not known to follow another.
fn missing_in(
    listed: &[(Path, Result<Option<SegmentManifest>>)],
) -> BTreeMap<(CaptureId, Timestamp), (String, EngineError)> {
    let mut missing = BTreeMap::new();
    let mut before_it: Option<&SegmentManifest> = None;
    for (path, segment) in listed {
        match segment {
            Ok(Some(segment)) if segment.kind == SegmentKind::Begun => {}
            Ok(Some(segment)) => {
                let found = missing_before(before_it, segment).zip(layout::segment_of(path));
                if let Some((error, (capture, after, _))) = found {
                    missing.insert((capture, after), (path.to_string(), error));
                }
                before_it = Some(segment);
            }
            Ok(None) | Err(_) => before_it = None,
        }
    }
    missing
}

/// Whether segments are missing between two that are there. A chain that began anew counts on, though it has a gap.
fn missing_before(before: Option<&SegmentManifest>, segment: &SegmentManifest) -> Option<EngineError> {
    let before = before.filter(|before| before.source == segment.source)?;
    let missing = segment.first_sequence().checked_sub(before.sequence + 1).filter(|missing| *missing > 0)?;
    let are_missing =
        if missing == 1 { "a segment before it is".to_owned() } else { format!("{missing} segments before it are") };
    Some(EngineError::Refused(format!(
        "{are_missing} missing: nothing can be put back between {} and {}, nor behind it before the next full \
         backup",
        before.end(),
        segment.after
    )))
}

async fn verify_runs(repository: &Repository, runs: &[RunEntry], key: Option<KeyId>, meter: &Arc<Meter>) -> Result<()> {
    for entry in runs {
        verify_run(repository, key, entry, meter).await?;
    }
    Ok(())
}

/// What was seen so far.
struct Seen {
    verification: Verification,
    /// Documents by collection, as the runs count them.
    collections: GroupCounts,
    /// What the meter said before.
    before: u64,
}

async fn begin(repository: &Repository, snapshot: &SnapshotId, meter: &Arc<Meter>) -> Result<(Manifest, Seen)> {
    let (manifest, origin) = repository.manifest(snapshot).await?;
    // without what it builds on it is nothing
    lineage(repository, &manifest).await?;
    meter.expected.set(manifest.totals.documents + manifest.totals.deletions);
    let verification = Verification {
        snapshot: snapshot.clone(),
        origin_proven: matches!(origin, ProvenOrigin::Proven(_)),
        runs: 0,
        blocks: 0,
        records: 0,
        bytes: 0,
    };
    let seen = Seen { verification, collections: GroupCounts::new(), before: meter.stored.get() };
    Ok((manifest, seen))
}

impl Seen {
    fn add(&mut self, entry: &RunEntry, footer: &Footer) {
        self.verification.runs += 1;
        self.verification.blocks += footer.blocks.len() as u64;
        self.verification.records += entry.records;
        if entry.kind != RunKind::Users {
            for (group, counts) in &footer.collections {
                self.collections.entry(group.clone()).or_default().add(*counts);
            }
        }
    }

    fn end(mut self, manifest: &Manifest, meter: &Meter) -> Result<Verification> {
        self.verification.bytes = meter.stored.get() - self.before;
        check_counts(manifest, &self.collections)?;
        check_runs_do_not_overlap(manifest)?;
        Ok(self.verification)
    }
}

/// Opens a run, and compares its size and its index with what the manifest says of it.
async fn open_run(
    repository: &Repository,
    key: Option<KeyId>,
    entry: &RunEntry,
    meter: &Arc<Meter>,
) -> Result<RunSource> {
    check_size(repository, entry).await?;
    let source = RunSource::open(repository, key, entry, meter).await?;
    check_entry(&source, entry)?;
    Ok(source)
}

async fn verify_run(
    repository: &Repository,
    key: Option<KeyId>,
    entry: &RunEntry,
    meter: &Arc<Meter>,
) -> Result<Footer> {
    let source = open_run(repository, key, entry, meter).await?;
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
    if Counts::of(collections) == manifest.totals && *collections == manifest.collections {
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
