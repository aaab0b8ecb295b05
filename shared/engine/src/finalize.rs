//! Proves that a backup is whole, and commits it.

use std::collections::{BTreeMap, BTreeSet};

use firebackup_codec::object::ObjectType;
use firebackup_codec::sealing::Sealing;
use firebackup_model::job::{Plan, Receipt, UsersReceipt};
use firebackup_model::manifest::{AuthUsers, Consistency, Counts, FORMAT_VERSION, GroupCounts, Manifest, RunEntry};
use firebackup_model::{PathRange, RangeStart, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;

use crate::error::{EngineError, Result};
use crate::layout;
use crate::objects::Put;
use crate::plan::check_age;
use crate::repository::Repository;

/// Requests for the existence of runs at one time.
const HEADS: usize = 16;
/// Chunks whose receipts are read at one time.
const PARALLEL_READS: usize = 16;

/// What a backup may turn out to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// Without a single document, although it selects some.
    pub(crate) empty: bool,
    /// Of several read times.
    pub(crate) ranged: bool,
}

/// Commits the backup of `plan`, or says what is missing. Safe to run twice and by two at once.
///
/// Nothing is committed, and nothing returned, when the selection fits no document, unless that is allowed.
pub(crate) async fn finalize(
    repository: &Repository,
    plan: &Plan,
    sealing: &Sealing,
    allow: Allowed,
) -> Result<Option<Manifest>> {
    let path = layout::manifest(&plan.job);
    if let Some((manifest, _)) = repository.get_sealed(ObjectType::Manifest, &path).await? {
        return Ok(Some(manifest));
    }
    let Some(Whole { manifest, .. }) = prove_whole(repository, plan, allow).await? else { return Ok(None) };
    match repository.put_sealed(ObjectType::Manifest, &path, sealing, &manifest).await? {
        Put::Stored => Ok(Some(manifest)),
        // the id is the job's: what is there is this very backup, committed by a process that was faster
        Put::Existed => Ok(Some(repository.manifest(&plan.job).await?.0)),
    }
}

/// A backup of which it is proven that nothing is missing.
pub(crate) struct Whole {
    pub(crate) manifest: Manifest,
    /// How many documents there were of each collection group, where only differences are kept.
    pub(crate) seen: BTreeMap<String, u64>,
}

/// Proves that everything was read to its end, and that it is there; nothing when the selection fits no document.
pub(crate) async fn prove_whole(repository: &Repository, plan: &Plan, allow: Allowed) -> Result<Option<Whole>> {
    let receipts = receipts(repository, plan).await?;
    prove_selection_is_tiled(plan)?;
    prove_ranges_tile(plan, &receipts)?;
    let auth = users(repository, plan).await?;
    let manifest = manifest(repository, plan, &receipts, auth);
    // what fits no document has no parent, and one in which nothing changed holds none
    let may_fit_nothing = allow.empty || plan.selection.is_everything() || plan.against.is_some();
    if manifest.totals.documents == 0 && !may_fit_nothing {
        return Ok(None);
    }
    if manifest.consistency == Consistency::Ranged && !allow.ranged {
        let text = "parts of it were read at a newer time before --require-snapshot was given: begin anew with --fresh";
        return Err(incomplete(plan, text.to_owned()));
    }
    prove_runs_exist(repository, plan, &manifest).await?;
    if let Some(against) = &plan.against
        && repository.is_dropped(&against.base).await?
    {
        return Err(incomplete(plan, format!("{}, which it builds on, is gone", against.base)));
    }
    if !repository.prove_key(plan.key).await? {
        return Err(incomplete(
            plan,
            "its data key is gone from the repository: a prune has given the job up".to_owned(),
        ));
    }
    check_age(repository, &plan.job, plan.created)?;
    let mut seen = BTreeMap::new();
    for (group, documents) in receipts.iter().flatten().flat_map(|receipt| &receipt.seen) {
        *seen.entry(group.clone()).or_default() += documents;
    }
    Ok(Some(Whole { manifest, seen }))
}

/// All receipts of the plan's chunks, by chunk and sequence.
async fn receipts(repository: &Repository, plan: &Plan) -> Result<Vec<Vec<Receipt>>> {
    let chunks = stream::iter(0..plan.chunks.len() as u32);
    chunks.map(|chunk| receipts_of(repository, plan, chunk)).buffered(PARALLEL_READS).try_collect().await
}

async fn receipts_of(repository: &Repository, plan: &Plan, chunk: u32) -> Result<Vec<Receipt>> {
    let mut steps: Vec<Receipt> = Vec::new();
    while steps.last().is_none_or(|receipt| receipt.through.is_some()) {
        let path = layout::receipt(&plan.job, chunk, steps.len() as u32);
        let found: Option<(Receipt, _)> = repository.get_sealed(ObjectType::Receipt, &path).await?;
        let Some((receipt, _)) = found else { break };
        steps.push(receipt);
    }
    Ok(steps)
}

/// The chunks must be the ranges of the selection, cut: recomputed here, whatever planned them.
fn prove_selection_is_tiled(plan: &Plan) -> Result<()> {
    let mut chunks = plan.chunks.iter();
    for range in plan.selection.ranges()? {
        let mut start = range.start.clone();
        loop {
            let chunk =
                chunks.next().ok_or_else(|| incomplete(plan, format!("no chunk covers {range} from {start:?} on")))?;
            if chunk.start != start {
                return Err(incomplete(plan, format!("chunk {chunk} does not begin where the one before ended")));
            }
            if chunk.end == range.end {
                break;
            }
            match &chunk.end {
                Some(end) if range.covers(end) => start = RangeStart::At(end.clone()),
                _ => return Err(incomplete(plan, format!("chunk {chunk} reaches out of {range}"))),
            }
        }
    }
    match chunks.next() {
        None => Ok(()),
        Some(chunk) => Err(incomplete(plan, format!("chunk {chunk} lies outside the selection"))),
    }
}

fn prove_ranges_tile(plan: &Plan, receipts: &[Vec<Receipt>]) -> Result<()> {
    for (index, (chunk, steps)) in plan.chunks.iter().zip(receipts).enumerate() {
        let mut rest = chunk.clone();
        let mut done = false;
        for (sequence, receipt) in steps.iter().enumerate() {
            if receipt.job != plan.job || receipt.chunk as usize != index || receipt.sequence as usize != sequence {
                return Err(incomplete(plan, format!("receipt {index}/{sequence} is that of another step")));
            }
            if done || receipt.start != rest.start {
                return Err(incomplete(
                    plan,
                    format!("step {index}/{sequence} does not begin where the one before ended"),
                ));
            }
            prove_run_lies_inside(plan, &rest, receipt)?;
            match &receipt.through {
                Some(last) if rest.covers(last) => rest = rest.behind(last.clone()),
                Some(last) => {
                    return Err(incomplete(
                        plan,
                        format!("step {index}/{sequence} ended at {last}, outside its range"),
                    ));
                }
                None => done = true,
            }
        }
        if !done {
            return Err(incomplete(plan, format!("chunk {index} was not read to its end")));
        }
    }
    Ok(())
}

fn prove_run_lies_inside(plan: &Plan, rest: &PathRange, receipt: &Receipt) -> Result<()> {
    let Some(run) = &receipt.run else { return Ok(()) };
    let inside = rest.covers(&run.first)
        && rest.covers(&run.last)
        && run.first <= run.last
        && receipt.through.as_ref().is_none_or(|through| run.last <= *through)
        && run.read_time == Some(receipt.read_time);
    if inside {
        Ok(())
    } else {
        Err(incomplete(plan, format!("run {} does not lie in the range of its receipt", run.id)))
    }
}

async fn prove_runs_exist(repository: &Repository, plan: &Plan, manifest: &Manifest) -> Result<()> {
    let checks = stream::iter(manifest.all_runs().cloned().collect::<Vec<_>>());
    checks
        .map(Ok)
        .try_for_each_concurrent(HEADS, |run| async move {
            let path = layout::run(run.id);
            match repository.store().head(&path).await {
                Ok(meta) if meta.size == run.size => Ok(()),
                Ok(meta) => Err(incomplete(plan, format!("`{path}` has {} bytes, not {}", meta.size, run.size))),
                Err(object_store::Error::NotFound { .. }) => Err(incomplete(plan, format!("`{path}` is gone"))),
                Err(source) => Err(EngineError::store("head", path)(source)),
            }
        })
        .await
}

async fn users(repository: &Repository, plan: &Plan) -> Result<Option<AuthUsers>> {
    if !plan.include_auth {
        return Ok(None);
    }
    let path = layout::users_receipt(&plan.job);
    let found: Option<(UsersReceipt, _)> = repository.get_sealed(ObjectType::UsersReceipt, &path).await?;
    found
        .map(|(receipt, _)| Some(receipt.auth))
        .ok_or_else(|| incomplete(plan, "the Auth users were not listed to the end".to_owned()))
}

fn manifest(repository: &Repository, plan: &Plan, receipts: &[Vec<Receipt>], auth: Option<AuthUsers>) -> Manifest {
    let steps = || receipts.iter().flatten();
    let runs: Vec<RunEntry> = steps().filter_map(|receipt| receipt.run.clone()).collect();
    // a range that was read and found empty was read at a moment too
    let times: BTreeSet<Timestamp> = steps().map(|receipt| receipt.read_time).collect();
    let read_times: Vec<_> = if times.is_empty() { vec![plan.read_time] } else { times.into_iter().collect() };
    let (totals, collections) = totals(steps().map(|receipt| &receipt.collections));
    let mut levels = BTreeMap::new();
    for (level, blocks) in steps().flat_map(|receipt| &receipt.levels) {
        *levels.entry(level.clone()).or_default() += blocks;
    }
    let user_bytes: u64 = auth.iter().flat_map(|auth| &auth.runs).map(|run| run.size).sum();
    Manifest {
        format: FORMAT_VERSION,
        id: plan.job.clone(),
        kind: plan.kind,
        parent: plan.against.as_ref().map(|against| against.base.clone()),
        parent_changed_until: plan.parent_changed_until,
        source: plan.source.clone(),
        selection: plan.selection.clone(),
        consistency: if read_times.len() == 1 { Consistency::Snapshot } else { Consistency::Ranged },
        read_times,
        stored_bytes: runs.iter().map(|run| run.size).sum::<u64>() + user_bytes,
        runs,
        totals,
        collections,
        auth,
        compression: plan.compression,
        levels,
        key: plan.key,
        reads: steps().map(|receipt| receipt.reads).sum(),
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        started: plan.created,
        finished: repository.world().now(),
    }
}

fn totals<'c>(groups: impl Iterator<Item = &'c GroupCounts>) -> (Counts, GroupCounts) {
    let (mut totals, mut collections) = (Counts::default(), GroupCounts::new());
    for (group, counts) in groups.flatten() {
        totals.add(*counts);
        collections.entry(group.clone()).or_default().add(*counts);
    }
    (totals, collections)
}

fn incomplete(plan: &Plan, reason: String) -> EngineError {
    EngineError::Incomplete { job: plan.job.clone(), reason }
}
