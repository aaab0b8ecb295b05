//! Where backups are kept.

use axum::extract::State;
use firebackup_control::{
    BackupJob, BucketMade, BulkDeletion, BulkOutcomes, Caller, CatalogSync, Destination, DestinationChange,
    DestinationFindings, DestinationId, DestinationLinks, Migration, NewBucket, NewDestination, NewMigration, NewPlace,
    StorageStats,
};
use firebackup_engine::Repository;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Handled, HandledList, Removed};
use crate::authentication::Authenticated;
use crate::body::JsonBody;
use crate::catalog::{CatalogSynced, sync};
use crate::envelope::{Answer, Envelope, ListEnvelope, Listed};
use crate::failure::Failure;
use crate::files::{FileParameters, FileStats, RepositoryParameters, StoredFile, file_stats, files};
use crate::folders::{FolderMade, Folders, make_bucket};
use crate::migration::{MigrationAnswer, migrate};
use crate::orphans::{
    FileDeletion, FileDeletionParameters, FilesDeleted, OrphanCleanup, OrphansCleaned, clean_up, delete_files,
};
use crate::parameter::{Asked, IdempotencyKey, IdempotencyParameters, Ids, PageParameters};
use crate::state::HttpState;

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(destinations, add_destination))
        .routes(routes!(destination, update_destination, remove_destination))
        .routes(routes!(verify_destination))
        .routes(routes!(destination_links))
        .routes(routes!(backups_in_destination))
        .routes(routes!(delete_backups))
        .routes(routes!(storage_stats))
        .routes(routes!(try_destination))
        .routes(routes!(create_bucket))
        .routes(routes!(verify_bucket))
        .routes(routes!(list_folders))
        .routes(routes!(create_folder))
        .routes(routes!(destination_files, delete_file))
        .routes(routes!(destination_file_stats))
        .routes(routes!(sync_catalog))
        .routes(routes!(clean_up_orphans))
        .routes(routes!(bulk_delete_files))
        .routes(routes!(migrate_destination, stop_migration))
}

/// Lists the destinations
#[utoipa::path(
    get,
    path = "/storage/destinations",
    tag = "destinations",
    params(PageParameters),
    responses((status = 200, description = "A page of destinations.", body = ListEnvelope<Destination>))
)]
async fn destinations(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Asked(page): Asked<PageParameters>,
) -> HandledList<Destination> {
    Ok(Listed(state.control.destinations(&caller, &page.into()).await?))
}

/// Adds a destination
///
/// Role: admin. A probe is written, read, listed and deleted first. Options are kept sealed and never shown again.
#[utoipa::path(
    post,
    path = "/storage/destinations",
    tag = "destinations",
    request_body = NewDestination,
    responses((status = 201, description = "The destination.", body = Envelope<Destination>))
)]
async fn add_destination(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewDestination>,
) -> Handled<Destination> {
    Ok(Answer::created(state.control.add_destination(&caller, new).await?))
}

/// Shows a destination
#[utoipa::path(
    get,
    path = "/storage/destinations/{destinationId}",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The destination.")),
    responses((status = 200, description = "The destination.", body = Envelope<Destination>))
)]
async fn destination(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
) -> Handled<Destination> {
    Ok(Answer::of(state.control.destination(&caller, &id).await?))
}

/// Changes a destination
///
/// Role: admin. Its URL stays: backups lie there.
#[utoipa::path(
    put,
    path = "/storage/destinations/{destinationId}",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The destination.")),
    request_body = DestinationChange,
    responses((status = 200, description = "The destination as it is now.", body = Envelope<Destination>))
)]
async fn update_destination(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
    JsonBody(change): JsonBody<DestinationChange>,
) -> Handled<Destination> {
    Ok(Answer::of(state.control.update_destination(&caller, &id, change).await?))
}

/// Removes a destination
///
/// Role: admin. Refused while backups are kept in it, or schedules or unfinished jobs use it.
#[utoipa::path(
    delete,
    path = "/storage/destinations/{destinationId}",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The destination.")),
    responses((status = 200, description = "It was removed.", body = Envelope<Removed>))
)]
async fn remove_destination(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
) -> Handled<Removed> {
    state.control.remove_destination(&caller, &id).await?;
    Ok(Removed::answer(id))
}

/// Verifies a destination
///
/// Role: admin. Writes, reads, lists and deletes a probe and says which right is missing.
#[utoipa::path(
    post,
    path = "/storage/destinations/{destinationId}/verify",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The destination.")),
    responses((status = 200, description = "What was found.", body = Envelope<DestinationFindings>))
)]
async fn verify_destination(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
) -> Handled<DestinationFindings> {
    Ok(Answer::of(state.control.verify_destination(&caller, &id).await?))
}

/// Shows what uses a destination
///
/// Schedules, projects with backups there, and jobs that have not ended.
#[utoipa::path(
    get,
    path = "/storage/destinations/{destinationId}/linked",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The destination.")),
    responses((status = 200, description = "What uses it.", body = Envelope<DestinationLinks>))
)]
async fn destination_links(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
) -> Handled<DestinationLinks> {
    Ok(Answer::of(state.control.destination_links(&caller, &id).await?))
}

/// Lists the backups in a destination, newest first
#[utoipa::path(
    get,
    path = "/storage/destinations/{destinationId}/backups",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The destination."), PageParameters),
    responses((status = 200, description = "A page of backups.", body = ListEnvelope<BackupJob>))
)]
async fn backups_in_destination(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
    Asked(page): Asked<PageParameters>,
) -> HandledList<BackupJob> {
    Ok(Listed(state.control.backups_in_destination(&caller, &id, &page.into()).await?))
}

/// Deletes backups in a destination
///
/// Role: admin. Each by itself, as if it were deleted alone: the answer says what became of each.
#[utoipa::path(
    post,
    path = "/storage/destinations/{destinationId}/backups/bulk-delete",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The destination.")),
    request_body = BulkDeletion,
    responses((status = 202, description = "What became of each.", body = Envelope<BulkOutcomes>))
)]
async fn delete_backups(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
    JsonBody(deletion): JsonBody<BulkDeletion>,
) -> Handled<BulkOutcomes> {
    Ok(Answer::accepted(state.control.delete_backups(&caller, &id, &deletion).await?))
}

/// Shows what is kept in the destinations
///
/// Completed backups, as they were counted when they were made: no destination is looked at.
#[utoipa::path(
    get,
    path = "/storage/stats",
    tag = "destinations",
    responses((status = 200, description = "What is kept, by destination.", body = Envelope<StorageStats>))
)]
async fn storage_stats(State(state): State<HttpState>, Authenticated(caller): Authenticated) -> Handled<StorageStats> {
    Ok(Answer::of(state.control.storage_stats(&caller).await?))
}

/// Looks at a place before it is added
///
/// Role: admin. Writes, reads, lists and deletes a probe there and says which right is missing. Nothing is kept.
#[utoipa::path(
    post,
    path = "/storage/connect",
    tag = "destinations",
    request_body = NewPlace,
    responses((status = 200, description = "What was found.", body = Envelope<DestinationFindings>))
)]
async fn try_destination(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(place): JsonBody<NewPlace>,
) -> Handled<DestinationFindings> {
    Ok(Answer::of(state.control.try_destination(&caller, place).await?))
}

/// Makes a bucket
///
/// Role: admin. With the credentials of the request and no others, closed to the public and, at S3, keeping versions; what of
/// that could not be switched on is told in `problems`. One that is there already is left alone (409, `details.owner` is `you`
/// or `other`). It is no destination yet, and nothing of it is kept but entries in the audit log.
#[utoipa::path(
    post,
    path = "/storage/buckets/create",
    tag = "destinations",
    request_body = NewBucket,
    responses((status = 201, description = "The bucket was made.", body = Envelope<BucketMade>))
)]
async fn create_bucket(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewBucket>,
) -> Handled<BucketMade> {
    Ok(Answer::created(make_bucket(&state, &caller, new).await?))
}

/// Verifies a bucket that is no destination yet
///
/// Role: admin. The same as `POST /storage/connect`.
#[utoipa::path(
    post,
    path = "/storage/buckets/verify",
    tag = "destinations",
    request_body = NewPlace,
    responses((status = 200, description = "What was found.", body = Envelope<DestinationFindings>))
)]
async fn verify_bucket(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(place): JsonBody<NewPlace>,
) -> Handled<DestinationFindings> {
    Ok(Answer::of(state.control.try_destination(&caller, place).await?))
}

/// Lists the folders of a bucket that is no destination yet
///
/// Role: admin. Those right below the URL, in order of name, at most 1,000. Nothing is kept.
#[utoipa::path(
    post,
    path = "/storage/buckets/folders",
    tag = "destinations",
    request_body = NewPlace,
    responses((status = 200, description = "The folders.", body = Envelope<Folders>))
)]
async fn list_folders(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(place): JsonBody<NewPlace>,
) -> Handled<Folders> {
    Ok(Answer::of(Folders::of(&state, &caller, place).await?))
}

/// Makes a folder
///
/// Role: admin. On one machine the folder that the URL names, with those above it. In a bucket nothing needs to be made, and
/// nothing is: a folder is there once something lies in it.
#[utoipa::path(
    post,
    path = "/storage/buckets/folders/create",
    tag = "destinations",
    request_body = NewPlace,
    responses((status = 201, description = "It is there, or needs not be.", body = Envelope<FolderMade>))
)]
async fn create_folder(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(place): JsonBody<NewPlace>,
) -> Handled<FolderMade> {
    Ok(Answer::created(FolderMade::of(&state, &caller, place).await?))
}

/// Lists the objects of a project's repository
///
/// In order of name, with bytes and time. By cursor only. Not found where the organization has no completed backup in it.
#[utoipa::path(
    get,
    path = "/storage/destinations/{destinationId}/files",
    tag = "destinations",
    params(
        ("destinationId" = DestinationId, Path, description = "The destination."),
        RepositoryParameters,
        FileParameters
    ),
    responses((status = 200, description = "A page of objects.", body = ListEnvelope<StoredFile>))
)]
async fn destination_files(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
    Asked(of): Asked<RepositoryParameters>,
    Asked(asked): Asked<FileParameters>,
) -> HandledList<StoredFile> {
    let (repository, lists_in_order) = open(&state, &caller, &id, &of).await?;
    Ok(Listed(files(&repository, lists_in_order, &asked).await?))
}

/// Counts the objects of a project's repository
///
/// By folder, with their bytes: what the bucket is billed for, but older versions. At most 100,000 objects are counted.
#[utoipa::path(
    get,
    path = "/storage/destinations/{destinationId}/files/stats",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The destination."), RepositoryParameters),
    responses((status = 200, description = "What they come to.", body = Envelope<FileStats>))
)]
async fn destination_file_stats(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
    Asked(of): Asked<RepositoryParameters>,
) -> Handled<FileStats> {
    let (repository, _) = open(&state, &caller, &id, &of).await?;
    Ok(Answer::of(file_stats(&repository).await?))
}

/// Deletes a file that nothing refers to
///
/// Role: admin. As several at once.
#[utoipa::path(
    delete,
    path = "/storage/destinations/{destinationId}/files",
    tag = "destinations",
    params(
        ("destinationId" = DestinationId, Path, description = "The destination."),
        RepositoryParameters,
        FileDeletionParameters
    ),
    responses(
        (status = 200, description = "What would become of it.", body = Envelope<FilesDeleted>),
        (status = 202, description = "What becomes of it.", body = Envelope<FilesDeleted>)
    )
)]
async fn delete_file(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
    Asked(of): Asked<RepositoryParameters>,
    Asked(asked): Asked<FileDeletionParameters>,
) -> Handled<FilesDeleted> {
    let deletion = FileDeletion::of(&of, asked);
    Ok(handed_over(deletion.dry_run, delete_files(&state, &caller, &id, &deletion).await?))
}

/// Deletes files that nothing refers to
///
/// Role: admin. Each by itself: what a kept backup or a job that has not ended needs stays, and the answer says so. The others
/// are marked within minutes, and deleted a day later, if nothing refers to them then.
#[utoipa::path(
    post,
    path = "/storage/destinations/{destinationId}/files/bulk-delete",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The destination.")),
    request_body = FileDeletion,
    responses(
        (status = 200, description = "What would become of each.", body = Envelope<FilesDeleted>),
        (status = 202, description = "What becomes of each.", body = Envelope<FilesDeleted>)
    )
)]
async fn bulk_delete_files(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
    JsonBody(deletion): JsonBody<FileDeletion>,
) -> Handled<FilesDeleted> {
    Ok(handed_over(deletion.dry_run, delete_files(&state, &caller, &id, &deletion).await?))
}

/// Deletes what nothing refers to
///
/// Role: admin. As every round of retention does, in one destination and within minutes: what nothing refers to is marked, and
/// deleted a day after that if nothing refers to it then. It is only counted unless `dryRun` is false. What became of it stands
/// in the audit log as `storage.cleaned`.
#[utoipa::path(
    post,
    path = "/storage/destinations/{destinationId}/cleanup-orphans",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The destination.")),
    request_body = OrphanCleanup,
    responses(
        (status = 200, description = "What nothing refers to.", body = Envelope<OrphansCleaned>),
        (status = 202, description = "It is about to be deleted.", body = Envelope<OrphansCleaned>)
    )
)]
async fn clean_up_orphans(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
    JsonBody(asked): JsonBody<OrphanCleanup>,
) -> Handled<OrphansCleaned> {
    Ok(handed_over(asked.dry_run, clean_up(&state, &caller, &id, asked.dry_run).await?))
}

/// Moves everything in a destination to another
///
/// Role: admin. All backups, what restores keep to be taken back, and sealed months of the audit log: objects are copied and
/// compared, then backups, restores, schedules and the default name the target. It is only said what would be moved, and what
/// is in the way, unless `dryRun` is false. Ask for the source until its `migration` says how it ended. Meanwhile nothing is
/// deleted in either; at the end the objects in the source stay where they are, and nothing needs them. Asking again while it
/// goes on is asking once; one that failed or was stopped goes on where it was.
#[utoipa::path(
    post,
    path = "/storage/destinations/{destinationId}/migrate",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The source."), IdempotencyParameters),
    request_body = NewMigration,
    responses(
        (status = 200, description = "What would be moved, and what is in the way.", body = Envelope<MigrationAnswer>),
        (status = 202, description = "The migration, which has begun.", body = Envelope<MigrationAnswer>)
    )
)]
async fn migrate_destination(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(new): JsonBody<NewMigration>,
) -> Handled<MigrationAnswer> {
    Ok(handed_over(new.dry_run, migrate(&state, &caller, &id, &new, key.as_deref()).await?))
}

/// Stops a migration
///
/// Role: admin. Only while it copies: the source is as it was. What was copied stays in the target, and asking for the same
/// migration again goes on from there.
#[utoipa::path(
    delete,
    path = "/storage/destinations/{destinationId}/migrate",
    tag = "destinations",
    params(("destinationId" = DestinationId, Path, description = "The source.")),
    responses((status = 200, description = "The migration, which has ended.", body = Envelope<Migration>))
)]
async fn stop_migration(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Ids(id): Ids<DestinationId>,
) -> Handled<Migration> {
    Ok(Answer::of(state.control.cancel_migration(&caller, &id).await?))
}

/// What was only looked at is answered; what was asked for is about to be done.
fn handed_over<T>(dry_run: bool, done: T) -> Answer<T> {
    if dry_run { Answer::of(done) } else { Answer::accepted(done) }
}

/// Rebuilds the catalog from the repositories
///
/// Role: admin. Every backup in the destinations that the catalog lacks is a backup again, after a lost database say. Sending
/// it twice adds nothing twice. Repositories of projects that the organization does not have are named, and nothing is added
/// of them unless they are attached. Goes on for 15 seconds or `limit` backups: where the answer has a `cursor`, send it again
/// with that.
#[utoipa::path(
    post,
    path = "/storage/sync",
    tag = "destinations",
    request_body = CatalogSync,
    responses((status = 200, description = "What was found, by destination.", body = Envelope<CatalogSynced>))
)]
async fn sync_catalog(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    JsonBody(asked): JsonBody<CatalogSync>,
) -> Handled<CatalogSynced> {
    Ok(Answer::of(sync(&state, &caller, &asked).await?))
}

/// Opens a repository; says too whether its store lists in order of name, as buckets do and folders do not.
async fn open(
    state: &HttpState,
    caller: &Caller,
    id: &DestinationId,
    of: &RepositoryParameters,
) -> Result<(Repository, bool), Failure> {
    let place = state.control.open_repository(caller, id, &of.project_id, of.encrypted).await?;
    Ok((state.repositories.open(&place).await?, place.destination.kind != "folder"))
}
