//! Backups, and restores as far as they begin at one.

use axum::extract::State;
use firebackup_control::{BackupJob, Caller, NewBackup, NewRestore, ProjectId, RestoreJob};
use firebackup_engine::Repository;
use firebackup_model::id::JobId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Handled, HandledList};
use crate::authentication::Authenticated;
use crate::body::JsonBody;
use crate::comparison::{BackupComparison, ComparisonParameters, comparison};
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::failure::Failure;
use crate::parameter::{Asked, IdempotencyKey, IdempotencyParameters, Ids, PageParameters};
use crate::preview::{BackupPreview, preview};
use crate::state::HttpState;
use crate::verification::{BackupVerification, VerificationParameters, verification};

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(create_backup))
        .routes(routes!(create_restore))
        .routes(routes!(backups_of_project))
        .routes(routes!(backup, delete_backup))
        .routes(routes!(cancel_backup))
        .routes(routes!(verify_backup))
        .routes(routes!(preview_backup))
        .routes(routes!(compare_backups))
}

/// Starts a backup
///
/// Role: member. The answer comes before the work is done: ask for the backup until its status says how it ended.
#[utoipa::path(
    post,
    path = "/backups",
    tag = "backups",
    params(IdempotencyParameters),
    request_body = NewBackup,
    responses((status = 202, description = "The backup, which has begun.", body = Envelope<BackupJob>))
)]
async fn create_backup(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(new): JsonBody<NewBackup>,
) -> Handled<BackupJob> {
    Ok(Answer::accepted(state.control.create_backup(&caller, new, key.as_deref()).await?))
}

/// Starts a restore, or a dry run of one
///
/// Role: member. Of a backup (`backupId`), or of a moment between two (`pointInTime` and `projectId`): then `moment` says which
/// consistent point is put back. The answer comes before the work is done: ask for the restore until its status says how it
/// ended.
#[utoipa::path(
    post,
    path = "/backups/restore",
    tag = "restores",
    params(IdempotencyParameters),
    request_body = NewRestore,
    responses((status = 202, description = "The restore, which has begun.", body = Envelope<RestoreJob>))
)]
async fn create_restore(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(new): JsonBody<NewRestore>,
) -> Handled<RestoreJob> {
    Ok(Answer::accepted(state.control.create_restore(&caller, new, &state, key.as_deref()).await?))
}

/// Lists the backups of a project, newest first
#[utoipa::path(
    get,
    path = "/backups/project/{projectId}",
    tag = "backups",
    params(("projectId" = ProjectId, Path, description = "The project."), PageParameters),
    responses((status = 200, description = "A page of backups.", body = ListEnvelope<BackupJob>))
)]
async fn backups_of_project(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(page): Asked<PageParameters>,
) -> HandledList<BackupJob> {
    Ok(Listed(state.control.backups(&caller, Some(&project), &page.into()).await?))
}

/// Shows a backup, with how far it has come
#[utoipa::path(
    get,
    path = "/backups/{projectId}/{backupId}",
    tag = "backups",
    params(
        ("projectId" = ProjectId, Path, description = "Its project."),
        ("backupId" = String, Path, description = "The backup.")
    ),
    responses((status = 200, description = "The backup.", body = Envelope<BackupJob>))
)]
async fn backup(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids((project, id)): Ids<(ProjectId, JobId)>,
) -> Handled<BackupJob> {
    Ok(Answer::of(state.control.backup(&caller, &project, &id).await?))
}

/// Deletes a backup
///
/// Role: admin. The backup is marked, and removed by the next round of maintenance; objects under a lock stay until the
/// lock ends. Refused while it is being made.
#[utoipa::path(
    delete,
    path = "/backups/{projectId}/{backupId}",
    tag = "backups",
    params(
        ("projectId" = ProjectId, Path, description = "Its project."),
        ("backupId" = String, Path, description = "The backup.")
    ),
    responses((status = 202, description = "The backup, which is about to be deleted.", body = Envelope<BackupJob>))
)]
async fn delete_backup(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids((project, id)): Ids<(ProjectId, JobId)>,
) -> Handled<BackupJob> {
    Ok(Answer::accepted(state.control.delete_backup(&caller, &project, &id).await?))
}

/// Cancels a backup that has not ended
///
/// Role: member.
#[utoipa::path(
    post,
    path = "/backups/{projectId}/{backupId}/cancel",
    tag = "backups",
    params(
        ("projectId" = ProjectId, Path, description = "Its project."),
        ("backupId" = String, Path, description = "The backup.")
    ),
    responses((status = 202, description = "The backup, which is about to end.", body = Envelope<BackupJob>))
)]
async fn cancel_backup(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids((project, id)): Ids<(ProjectId, JobId)>,
) -> Handled<BackupJob> {
    Ok(Answer::accepted(state.control.cancel_backup(&caller, &project, &id).await?))
}

/// Verifies a backup
///
/// Reads all of a backup of up to 64 MiB back and compares every hash and count: `depth` is `full`. Of a larger one it looks
/// at the `structure`: every run is there with its size, and its index says what the manifest says. Up to 1 GiB are read in
/// full when that is asked for; more than that `firebackup verify` does. Damage is an answer: `verified` is false. What was
/// found is an entry in the audit log, one a minute for who asks, and an event for webhooks.
#[utoipa::path(
    get,
    path = "/backups/{projectId}/{backupId}/verify",
    tag = "backups",
    params(
        ("projectId" = ProjectId, Path, description = "Its project."),
        ("backupId" = String, Path, description = "The backup."),
        VerificationParameters
    ),
    responses((status = 200, description = "What was found.", body = Envelope<BackupVerification>))
)]
async fn verify_backup(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids((project, id)): Ids<(ProjectId, JobId)>,
    Asked(asked): Asked<VerificationParameters>,
) -> Handled<BackupVerification> {
    let repository = open(&state, &caller, &project, &id).await?;
    let found = verification(&repository, &id, &asked).await?;
    // what was found is told to whoever asked, whether it can be noted or not
    if let Err(error) = state.control.note_verified(&caller, found.to_note(&project)).await {
        tracing::warn!(job = %id, error = %error, "what a verification found cannot be noted");
    }
    Ok(Answer::of(found))
}

/// Shows what a backup holds
///
/// Documents by collection, times and sizes, from its manifest: no document is read.
#[utoipa::path(
    get,
    path = "/backups/{projectId}/{backupId}/preview",
    tag = "backups",
    params(
        ("projectId" = ProjectId, Path, description = "Its project."),
        ("backupId" = String, Path, description = "The backup.")
    ),
    responses((status = 200, description = "What it holds.", body = Envelope<BackupPreview>))
)]
async fn preview_backup(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids((project, id)): Ids<(ProjectId, JobId)>,
) -> Handled<BackupPreview> {
    let repository = open(&state, &caller, &project, &id).await?;
    Ok(Answer::of(preview(&repository, &id).await?))
}

/// Compares two backups of a project
///
/// Counts by collection what was created, updated and deleted from one to the other, and names the first documents that
/// differ. Reads both; up to 64 MiB together and 25 seconds, with `full` up to 1 GiB. More than that `firebackup diff` does.
/// Of two backups of different databases, or of different collections, there is nothing to say.
#[utoipa::path(
    get,
    path = "/backups/{projectId}/diff",
    tag = "backups",
    params(("projectId" = ProjectId, Path, description = "Their project."), ComparisonParameters),
    responses((status = 200, description = "What changed.", body = Envelope<BackupComparison>))
)]
async fn compare_backups(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(project): Ids<ProjectId>,
    Asked(asked): Asked<ComparisonParameters>,
) -> Handled<BackupComparison> {
    let before = open(&state, &caller, &project, &asked.from).await?;
    let after = open(&state, &caller, &project, &asked.to).await?;
    Ok(Answer::of(comparison(&before, &after, &asked).await?))
}

async fn open(state: &HttpState, caller: &Caller, project: &ProjectId, backup: &JobId) -> Result<Repository, Failure> {
    let place = state.control.open_backup(caller, project, backup).await?;
    Ok(state.repositories.open(&place).await?)
}
