//! What a restore was asked for, kept in the repository so that a killed one can go on and its undo be found.

use std::sync::Arc;

use firebackup_codec::object::ObjectType;
use firebackup_codec::sealing::Sealing;
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::job::{Intent, RestorePlan};

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
/// killed before it could clean up: another attempt of it could keep nothing any more.
///
/// # Errors
/// When the store fails.
pub async fn unfinished_restores(repository: &Repository) -> Result<Vec<RestorePlan>> {
    let mut jobs: Vec<_> =
        repository.list("intents").await?.iter().filter_map(|meta| layout::job_of(&meta.location)).collect();
    jobs.retain(|job| job.kind() == JobKind::Restore);
    jobs.sort_by(|a, b| b.cmp(a));
    let mut plans = Vec::new();
    for job in jobs {
        if !repository.is_dropped(&job).await? {
            continue;
        }
        match read_restore_plan(repository, &job).await {
            Ok(plan) => plans.extend(plan),
            Err(error) => {
                tracing::warn!(job = %job, error = %error, "an unfinished restore cannot be read: passed over")
            }
        }
    }
    Ok(plans)
}

/// What a restore works under.
pub(crate) struct Begun {
    pub(crate) plan: RestorePlan,
    pub(crate) sealing: Sealing,
    pub(crate) resumed: bool,
}

/// The unfinished restore that was asked for the same, if there is one to go on with.
pub(crate) async fn go_on(repository: &Repository, wanted: &RestorePlan) -> Result<Option<Begun>> {
    for plan in unfinished_restores(repository).await? {
        let same = RestorePlan { job: wanted.job.clone(), key: wanted.key, created: wanted.created, ..plan.clone() }
            == *wanted;
        if !same {
            continue;
        }
        if repository.world().now().seconds_since(plan.created) < MAX_JOB_SECONDS as f64 {
            let sealing = repository.sealing(plan.key).await?;
            return Ok(Some(Begun { plan, sealing, resumed: true }));
        }
        // what was edited since is no part of an attempt of that age: it gets an undo of its own
        close(repository, plan).await?;
    }
    Ok(None)
}

/// Begins a restore.
pub(crate) async fn begin(repository: &Repository, wanted: RestorePlan) -> Result<Begun> {
    let undo = wanted.undo;
    match begin_new(repository, wanted.clone()).await {
        // a full or read-only repository must not keep anybody from his data
        Err(error @ EngineError::Store { .. }) if !undo => {
            tracing::warn!(error = %error, "the repository cannot be written: the restore is neither pinned nor resumable");
            Ok(Begun { plan: wanted, sealing: Sealing::Plain, resumed: false })
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
        runs: Vec::new(),
        keys: sealing.key_id().into_iter().collect(),
    };
    put_intent(repository, &intent, &sealing).await?;
    repository.put_sealed(ObjectType::Plan, &layout::plan(&plan.job), &sealing, &plan).await?;
    Ok(Begun { plan, sealing, resumed: false })
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
