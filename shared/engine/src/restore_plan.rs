//! What a restore was asked for, kept in the repository so that a killed one can go on and its undo be found.

use firebackup_codec::object::ObjectType;
use firebackup_codec::sealing::Sealing;
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::job::{Intent, RestorePlan};
use firebackup_model::manifest::Manifest;

use crate::error::Result;
use crate::layout;
use crate::plan::put_intent;
use crate::repository::Repository;

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
        let committed =
            repository.get_sealed::<Manifest>(ObjectType::Manifest, &layout::manifest(&job)).await?.is_some();
        if !committed {
            plans.extend(read_restore_plan(repository, &job).await?);
        }
    }
    Ok(plans)
}

/// Goes on with an unfinished restore that was asked for the same, or begins one.
pub(crate) async fn begin(repository: &Repository, wanted: RestorePlan) -> Result<(RestorePlan, Sealing, bool)> {
    for plan in unfinished_restores(repository).await? {
        let same =
            RestorePlan { job: wanted.job.clone(), key: wanted.key, created: wanted.created, ..plan.clone() } == wanted;
        if same {
            let sealing = repository.sealing(plan.key).await?;
            return Ok((plan, sealing, true));
        }
    }
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
    Ok((plan, sealing, false))
}
