//! What nothing refers to in a destination: counted here, deleted by maintenance, for whoever answers requests may delete
//! nothing there.

use std::collections::BTreeSet;
use std::time::Duration;

use firebackup_control::{Caller, Code, ControlError, DestinationId, OpenedPlace, ProjectId};
use firebackup_engine::{EngineError, Fate, PrunePolicy, fates, orphans};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use utoipa::{IntoParams, ToSchema};

use crate::failure::Failure;
use crate::files::RepositoryParameters;
use crate::state::HttpState;
use crate::unreadable::{problem, unreachable_place};

/// How long repositories are looked at: gateways wait for half a minute.
const MAX_TIME: Duration = Duration::from_secs(20);
/// The most files that are named in one request, and the most bytes a name may have.
const MAX_FILES: usize = 100;
const MAX_NAME: usize = 1024;

/// How a destination is to be cleaned.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OrphanCleanup {
    /// Whether it is only counted what nothing refers to.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub(crate) dry_run: bool,
}

const fn yes() -> bool {
    true
}

/// What was found, or asked for.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrphansCleaned {
    /// Whether it was only counted.
    dry_run: bool,
    /// What nothing refers to, of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<OrphansFound>,
}

/// What nothing refers to in a destination.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrphansFound {
    /// Objects in all repositories.
    objects: u64,
    /// Their bytes.
    bytes: u64,
    /// By repository.
    repositories: Vec<RepositoryOrphans>,
    /// Whether there was no time to look at all of them.
    partial: bool,
}

/// What nothing refers to in a repository.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RepositoryOrphans {
    /// Of which project.
    project_id: ProjectId,
    /// Whether the encrypted one.
    encrypted: bool,
    /// Objects that a cleanup marks, or that are marked already: they are deleted a day after that.
    objects: u64,
    /// Their bytes.
    bytes: u64,
    /// Those of them that are due: a cleanup deletes them at once, where they are not locked.
    due: u64,
    /// Bytes of these.
    due_bytes: u64,
    /// What restores replaced more than seven days ago, which a cleanup drops first.
    undos: u64,
    /// Why it could not be looked at; a cleanup deletes nothing there.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Files that are to be deleted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FileDeletion {
    /// In whose repository they lie.
    project_id: ProjectId,
    /// Whether in the encrypted one; what is not encrypted has another.
    #[serde(default = "yes")]
    #[schema(default = true)]
    encrypted: bool,
    /// Their names there, 1 to 100.
    #[schema(min_items = 1, max_items = 100)]
    names: Vec<String>,
    /// Whether it is only said what would become of each.
    #[serde(default)]
    #[schema(default = false)]
    pub(crate) dry_run: bool,
}

/// Which file is to be deleted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct FileDeletionParameters {
    /// Its name in the repository.
    #[param(min_length = 1, max_length = 1024)]
    name: String,
    /// Whether it is only said what would become of it.
    #[serde(default)]
    #[param(default = false)]
    dry_run: bool,
}

/// What becomes of each file.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FilesDeleted {
    /// Whether it was only looked at.
    dry_run: bool,
    /// In the order in which they were named.
    files: Vec<FileDeleted>,
}

/// What becomes of a file.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileDeleted {
    /// Its name.
    name: String,
    /// Whether it is about to be deleted: marked by the next sweep, deleted a day later if nothing refers to it then.
    deleting: bool,
    /// Its bytes, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// Why not, as a code such as `IN_USE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    code: Option<Code>,
    /// Why not, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl FileDeletion {
    /// Of one file.
    pub(crate) fn of(repository: &RepositoryParameters, asked: FileDeletionParameters) -> Self {
        Self {
            project_id: repository.project_id,
            encrypted: repository.encrypted,
            names: vec![asked.name],
            dry_run: asked.dry_run,
        }
    }

    fn checked_names(&self) -> Result<BTreeSet<String>, ControlError> {
        if !(1..=MAX_FILES).contains(&self.names.len()) {
            return Err(ControlError::field("names", format!("expected 1 to {MAX_FILES}")));
        }
        if self.names.iter().any(|name| name.is_empty() || name.len() > MAX_NAME) {
            return Err(ControlError::field("names", format!("expected 1 to {MAX_NAME} bytes each")));
        }
        Ok(self.names.iter().cloned().collect())
    }
}

/// Counts what nothing refers to in a destination, or asks for its deletion.
pub(crate) async fn clean_up(
    state: &HttpState,
    caller: &Caller,
    id: &DestinationId,
    dry_run: bool,
) -> Result<OrphansCleaned, Failure> {
    if !dry_run {
        state.control.request_cleanup(caller, id).await?;
        return Ok(OrphansCleaned::default());
    }
    let until = Instant::now() + MAX_TIME;
    let mut found = OrphansFound::default();
    for place in state.control.repositories_in(caller, id).await? {
        let place = place?;
        match timeout_at(until, RepositoryOrphans::of(state, &place)).await {
            Ok(Ok(of)) => found.add(of),
            Ok(Err(failure)) => return Err(failure),
            Err(_) => {
                found.partial = true;
                break;
            }
        }
    }
    Ok(OrphansCleaned { dry_run, found: Some(found) })
}

/// Says what may become of each of several files, and asks for the deletion of those that nothing refers to.
pub(crate) async fn delete_files(
    state: &HttpState,
    caller: &Caller,
    id: &DestinationId,
    asked: &FileDeletion,
) -> Result<FilesDeleted, Failure> {
    let names = asked.checked_names()?;
    let place = state.control.open_repository_to_clean(caller, id, &asked.project_id, asked.encrypted).await?;
    let repository = state.repositories.open(&place).await?;
    let fates = timeout_at(Instant::now() + MAX_TIME, fates(&repository, &names)).await;
    let fates = fates.map_err(|_| too_slow())?.map_err(unknown)?;
    let orphans: BTreeSet<String> =
        names.into_iter().filter(|name| matches!(fates.get(name), Some(Fate::Orphan(_)))).collect();
    if !asked.dry_run && !orphans.is_empty() {
        state.control.request_file_deletion(caller, &place, &orphans).await?;
    }
    let files = asked.names.iter().map(|name| FileDeleted::of(name, fates.get(name).copied())).collect();
    Ok(FilesDeleted { dry_run: asked.dry_run, files })
}

fn too_slow() -> Failure {
    let message = "the repository has too much in it to be looked at within one request: `firebackup prune` does it";
    ControlError::conflict(Code::Conflict, message).into()
}

/// Where it is not known what is needed, nothing is deleted.
fn unknown(error: EngineError) -> Failure {
    match error.is_of_the_backup() {
        true => ControlError::conflict(Code::Conflict, problem(&error)).with_source(error).into(),
        false => unreachable_place(error),
    }
}

impl OrphansFound {
    fn add(&mut self, of: RepositoryOrphans) {
        self.objects += of.objects;
        self.bytes += of.bytes;
        self.repositories.push(of);
    }
}

impl RepositoryOrphans {
    async fn of(state: &HttpState, place: &OpenedPlace) -> Result<Self, Failure> {
        let repository = match state.repositories.open(place).await {
            Ok(repository) => repository,
            Err(error) => return Ok(Self::unknown(place, error.to_string())),
        };
        match orphans(&repository, &PrunePolicy::default()).await {
            Ok(found) => Ok(Self {
                objects: found.objects,
                bytes: found.bytes,
                due: found.due,
                due_bytes: found.due_bytes,
                undos: found.undos,
                ..Self::none(place)
            }),
            Err(error) if error.is_of_the_backup() => Ok(Self::unknown(place, problem(&error))),
            Err(error) => Err(unreachable_place(error)),
        }
    }

    fn unknown(place: &OpenedPlace, problem: String) -> Self {
        Self { problem: Some(problem), ..Self::none(place) }
    }

    const fn none(place: &OpenedPlace) -> Self {
        Self {
            project_id: place.project,
            encrypted: place.encrypted,
            objects: 0,
            bytes: 0,
            due: 0,
            due_bytes: 0,
            undos: 0,
            problem: None,
        }
    }
}

impl FileDeleted {
    fn of(name: &str, fate: Option<Fate>) -> Self {
        let (code, message) = match fate {
            Some(Fate::Orphan(bytes)) => {
                return Self { name: name.to_owned(), deleting: true, bytes: Some(bytes), code: None, message: None };
            }
            Some(Fate::Needed) => (Code::InUse, "a kept backup or a job that has not ended needs it"),
            Some(Fate::Snapshot) => (Code::InUse, "it is a backup, or what a restore replaced: delete the backup"),
            Some(Fate::Kept) => (Code::InUse, "it belongs to the repository itself"),
            Some(Fate::Missing) | None => (Code::NotFound, "there is no such file"),
        };
        let (code, message) = (Some(code), Some(message.to_owned()));
        Self { name: name.to_owned(), deleting: false, bytes: None, code, message }
    }
}
