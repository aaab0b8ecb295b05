//! What a restore was asked for, kept in the repository so that a killed one can go on and its undo be found.

use std::sync::Arc;

use firebackup_codec::object::ObjectType;
use firebackup_codec::sealing::Sealing;
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::job::{Intent, RestorePlan};

use crate::contents::{needed_runs, undo_receipts};
use crate::error::{EngineError, Result};
use crate::layout;
use crate::plan::{MAX_JOB_SECONDS, put_intent};
use crate::repository::Repository;
use crate::undo::UndoLog;

/// Reads the plan of a restore that has not ended.
pub(crate) async fn read_restore_plan(repository: &Repository, job: &JobId) -> Result<Option<RestorePlan>> {
    let found: Option<(RestorePlan, _)> = repository.get_sealed(ObjectType::Plan, &layout::plan(job)).await?;
    Ok(found.map(|(plan, _)| plan))
}

/// Restores that were begun and have not ended, newest first. One that has its undo committed has ended, even if it was
/// killed before it could clean up: another attempt of it could keep nothing any more. One that cannot be read is passed
/// over: [`unfinished_jobs`](crate::unfinished_jobs) lists it.
///
/// # Errors
/// When the store fails.
pub async fn unfinished_restores(repository: &Repository) -> Result<Vec<RestorePlan>> {
    let mut plans = Vec::new();
    for job in begun_restores(repository).await? {
        match read_restore_plan(repository, &job).await {
            Ok(plan) => plans.extend(plan),
            Err(error) if error.is_of_the_object() => {
                tracing::warn!(job = %job, error = %error, "an unfinished restore cannot be read: passed over")
            }
            Err(error) => return Err(error),
        }
    }
    Ok(plans)
}

/// One restore that was begun and has not ended.
///
/// # Errors
/// When the store fails, or its plan cannot be read.
pub async fn unfinished_restore(repository: &Repository, job: &JobId) -> Result<Option<RestorePlan>> {
    if !repository.is_dropped(job).await? {
        return Ok(None);
    }
    read_restore_plan(repository, job).await
}

async fn begun_restores(repository: &Repository) -> Result<Vec<JobId>> {
    let mut jobs = repository.begun_jobs().await?;
    jobs.retain(|job| job.kind() == JobKind::Restore);
    Ok(jobs)
}

/// What a restore works under.
pub(crate) struct Begun {
    pub(crate) plan: RestorePlan,
    pub(crate) sealing: Sealing,
    pub(crate) resumed: bool,
    /// Whether the repository holds it: otherwise it is neither pinned nor can it go on.
    pub(crate) is_kept: bool,
}

/// The unfinished restore that was asked for the same, if there is one to go on with.
pub(crate) async fn go_on(repository: &Repository, wanted: &RestorePlan) -> Result<Option<Begun>> {
    for job in begun_restores(repository).await? {
        let plan = match read_restore_plan(repository, &job).await {
            Ok(Some(plan)) => plan,
            Ok(None) => continue,
            Err(error) if error.is_of_the_object() => {
                if may_be_the_same(repository, &job, wanted).await? {
                    return Err(unless_begun_anew(&job, error));
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        let same = RestorePlan { job: wanted.job.clone(), key: wanted.key, created: wanted.created, ..plan.clone() }
            == *wanted;
        if !same {
            continue;
        }
        let can_go_on = can_go_on(repository, &plan).await.map_err(|error| unless_begun_anew(&job, error))?;
        if can_go_on {
            let sealing = repository.sealing(plan.key).await?;
            return Ok(Some(Begun { plan, sealing, resumed: true, is_kept: true }));
        }
        // what was edited since is no part of an attempt that has ended or is of that age: it gets an undo of its own
        close(repository, plan).await.map_err(|error| unless_begun_anew(&job, error))?;
    }
    Ok(None)
}

/// A restore that has grown too old is not gone on with, nor one that was killed while it ended.
async fn can_go_on(repository: &Repository, plan: &RestorePlan) -> Result<bool> {
    if repository.world().now().seconds_since(plan.created) >= MAX_JOB_SECONDS as f64 {
        return Ok(false);
    }
    Ok(!plan.undo || !undo_receipts(repository, &plan.job).await?.iter().any(|receipt| receipt.closes))
}

/// Whether a restore whose plan cannot be read may be the one that is wanted, as far as its intent says.
async fn may_be_the_same(repository: &Repository, job: &JobId, wanted: &RestorePlan) -> Result<bool> {
    let age = repository.world().now().millis() - job.millis().cast_signed();
    if age >= MAX_JOB_SECONDS * 1000 {
        return Ok(false);
    }
    let found: Result<Option<(Intent, _)>> = repository.get_sealed(ObjectType::Intent, &layout::intent(job)).await;
    match found {
        Ok(Some((intent, _))) => Ok(intent.database == wanted.target && intent.snapshots.contains(&wanted.snapshot)),
        Ok(None) => Ok(true),
        Err(error) if error.is_of_the_object() => Ok(true),
        Err(error) => Err(error),
    }
}

/// What to do about a restore that cannot be gone on with.
pub(crate) fn unless_begun_anew(job: &JobId, error: EngineError) -> EngineError {
    error.explained(format!(
        "{job} cannot be gone on with: begin anew with --fresh; what this one has replaced so far cannot be taken back as \
         a whole then"
    ))
}

/// Begins a restore.
pub(crate) async fn begin(repository: &Repository, wanted: RestorePlan) -> Result<Begun> {
    let undo = wanted.undo;
    match begin_new(repository, wanted.clone()).await {
        // a full or read-only repository must not keep anybody from his data
        Err(error @ EngineError::Store { .. }) if !undo => {
            tracing::warn!(error = %error, "the repository cannot be written: the restore is neither pinned nor resumable");
            Ok(Begun { plan: wanted, sealing: Sealing::Plain, resumed: false, is_kept: false })
        }
        begun => begun,
    }
}

async fn begin_new(repository: &Repository, wanted: RestorePlan) -> Result<Begun> {
    let sealing = repository.new_data_key().await?;
    let plan = RestorePlan { key: sealing.key_id(), ..wanted };
    let intent = Intent {
        job: plan.job.clone(),
        created: plan.created,
        database: plan.target.clone(),
        snapshots: vec![plan.snapshot.clone()],
        runs: needed_runs(repository, &plan.snapshot, plan.at, plan.reported.as_ref()).await?,
        keys: sealing.key_id().into_iter().collect(),
    };
    put_intent(repository, &intent, &sealing).await?;
    repository.put_sealed(ObjectType::Plan, &layout::plan(&plan.job), &sealing, &plan).await?;
    Ok(Begun { plan, sealing, resumed: false, is_kept: true })
}

/// Ends a restore that nobody goes on with: its undo becomes a snapshot.
pub(crate) async fn close(repository: &Repository, plan: RestorePlan) -> Result<()> {
    if !plan.undo {
        return repository.clear_job(&plan.job).await;
    }
    let sealing = repository.sealing(plan.key).await?;
    UndoLog::open(repository, &Arc::new(plan), &sealing).await?.finish().await?;
    Ok(())
}
