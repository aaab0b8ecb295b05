//! Looking through destinations for backups that the catalog lacks, so much a request and where to go on.

use std::time::Duration;

use firebackup_control::{Caller, CatalogSync, Code, ControlError, DestinationId, Kind, PlaceToSync, ProjectId};
use firebackup_engine::{EngineError, Repository};
use firebackup_model::id::{JobKind, SnapshotId};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::failure::Failure;
use crate::state::HttpState;
use crate::unreadable::problem;

/// How long a request goes on taking up backups: gateways wait for half a minute.
const MAX_TIME: Duration = Duration::from_secs(15);
/// How many problems and unknown repositories are named of each destination.
const MAX_NAMED: usize = 100;

/// What was found in the destinations.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CatalogSynced {
    /// Those that were looked through, or on in, by this request.
    destinations: Vec<DestinationSynced>,
    /// Where to go on; nothing where all was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// What was found in one destination, by this request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DestinationSynced {
    /// Which.
    id: DestinationId,
    /// Repositories that were looked into.
    repositories: u64,
    /// Backups that lie in them.
    found: u64,
    /// Those that the catalog lacked and has now.
    added: u64,
    /// Those that the catalog had, however they stand there: one that is about to be deleted is not brought back.
    known: u64,
    /// Repositories and backups that could not be read, or not be added.
    unreadable: u64,
    /// The first of them, and why.
    problems: Vec<SyncProblem>,
    /// Projects that the organization does not have and whose repositories lie there: nothing was added of them. Those of one
    /// that was lost can be attached to another.
    unknown_projects: Vec<ProjectId>,
    /// Why the destination could not be looked through.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What could not be read or added, and why.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SyncProblem {
    /// Of which project the repository is.
    project_id: ProjectId,
    /// Whether that is the encrypted one.
    encrypted: bool,
    /// The backup; nothing where it is the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    backup_id: Option<SnapshotId>,
    /// What is wrong, for people.
    problem: String,
}

/// Where a request went on to: behind this backup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    destination: DestinationId,
    project: ProjectId,
    encrypted: bool,
    /// Nothing at the beginning of the repository.
    backup: Option<SnapshotId>,
}

/// A request that goes on.
struct Sync<'a> {
    state: &'a HttpState,
    caller: &'a Caller,
    asked: &'a CatalogSync,
    from: Option<Position>,
    left: usize,
    until: Instant,
}

/// Looks through destinations.
pub(crate) async fn sync(state: &HttpState, caller: &Caller, asked: &CatalogSync) -> Result<CatalogSynced, Failure> {
    let from = asked.cursor.as_deref().map(Position::read).transpose()?;
    let left = asked.most()?;
    let mut ids = state.control.destinations_to_sync(caller, asked).await?;
    ids.retain(|id| from.as_ref().is_none_or(|from| *id >= from.destination));
    let mut sync = Sync { state, caller, asked, from, left, until: Instant::now() + MAX_TIME };
    let mut synced = CatalogSynced::default();
    for id in ids {
        let mut found = DestinationSynced::new(id);
        let stopped = sync.destination(&mut found).await?;
        synced.destinations.push(found);
        if let Some(position) = stopped {
            synced.cursor = Some(position.to_string());
            break;
        }
    }
    Ok(synced)
}

impl Sync<'_> {
    /// Looks through a destination; says where it stopped before the end.
    async fn destination(&mut self, found: &mut DestinationSynced) -> Result<Option<Position>, Failure> {
        let repositories = match self.repositories(found.id).await {
            Ok(repositories) => repositories,
            Err(error) if matches!(error.kind, Kind::Upstream | Kind::Conflict) => {
                found.error = Some(error.to_string());
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        for of in repositories {
            let start = Position { destination: found.id, project: of.0, encrypted: of.1, backup: None };
            let from = self.from.as_ref().filter(|from| from.destination == found.id);
            if from.is_some_and(|from| (from.project, from.encrypted) > of) {
                continue;
            }
            if let Some(position) = self.repository(start, found).await? {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    async fn repositories(&self, id: DestinationId) -> Result<Vec<(ProjectId, bool)>, ControlError> {
        let access = self.state.control.destination_to_sync(self.caller, &id).await?;
        self.state.repositories.found(&access).await
    }

    /// Looks through a repository; says where it stopped before the end.
    async fn repository(&mut self, at: Position, found: &mut DestinationSynced) -> Result<Option<Position>, Failure> {
        let control = &self.state.control;
        let of = (at.project, at.encrypted);
        let Some(place) = control.place_to_sync(self.caller, at.destination, of, &self.asked.attach).await? else {
            found.unknown(at.project);
            return Ok(None);
        };
        let behind = self.from.as_ref().filter(|from| from.is_of(&at)).and_then(|from| from.backup.clone());
        found.repositories += 1;
        let (repository, backups) = match self.open(&place).await {
            Ok(opened) => opened,
            Err(why) => {
                found.problem(&at, why);
                return Ok(None);
            }
        };
        let mut last = Position { backup: behind.clone(), ..at };
        for backup in backups.into_iter().filter(|id| behind.as_ref().is_none_or(|behind| id > behind)) {
            if self.left == 0 || Instant::now() >= self.until {
                return Ok(Some(last));
            }
            self.left -= 1;
            last.backup = Some(backup);
            self.backup(&repository, &place, &last, found).await?;
        }
        Ok(None)
    }

    /// A repository and its backups, in order of their ids. What a restore replaced is none.
    async fn open(&self, place: &PlaceToSync) -> Result<(Repository, Vec<SnapshotId>), String> {
        let repository = self.state.repositories.open(&place.place).await.map_err(|error| error.to_string())?;
        let mut backups = repository.snapshot_ids().await.map_err(unreached)?;
        backups.retain(|id| id.kind() == JobKind::Backup);
        backups.sort_unstable();
        Ok((repository, backups))
    }

    /// First the catalog, then the manifest: in this order what was deleted is not brought back.
    async fn backup(
        &self,
        repository: &Repository,
        place: &PlaceToSync,
        at: &Position,
        found: &mut DestinationSynced,
    ) -> Result<(), Failure> {
        let Some(id) = &at.backup else { return Ok(()) };
        found.found += 1;
        if self.state.control.knows_backup(self.caller, id).await? {
            found.known += 1;
            return Ok(());
        }
        let manifest = match repository.manifest(id).await {
            Ok((manifest, _)) => manifest,
            // it was deleted since it was listed
            Err(EngineError::NotFound(_)) => {
                found.found -= 1;
                return Ok(());
            }
            Err(error) if error.is_of_the_backup() => {
                found.problem(at, problem(&error));
                return Ok(());
            }
            Err(error) => {
                found.problem(at, unreached(error));
                return Ok(());
            }
        };
        match self.state.control.recover_backup(self.caller, place, &manifest).await {
            Ok(true) => found.added += 1,
            Ok(false) => found.known += 1,
            Err(error) if error.kind == Kind::Unprocessable => found.problem(at, error.to_string()),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// What a store said stays in the log.
fn unreached(error: EngineError) -> String {
    tracing::warn!(error = %error.in_full(), "a repository could not be looked through");
    "the destination could not be read; try again, or verify the destination".to_owned()
}

impl DestinationSynced {
    const fn new(id: DestinationId) -> Self {
        Self {
            id,
            repositories: 0,
            found: 0,
            added: 0,
            known: 0,
            unreadable: 0,
            problems: Vec::new(),
            unknown_projects: Vec::new(),
            error: None,
        }
    }

    fn problem(&mut self, at: &Position, problem: String) {
        self.unreadable += 1;
        if self.problems.len() < MAX_NAMED {
            let (project_id, encrypted, backup_id) = (at.project, at.encrypted, at.backup.clone());
            self.problems.push(SyncProblem { project_id, encrypted, backup_id, problem });
        }
    }

    fn unknown(&mut self, project: ProjectId) {
        if self.unknown_projects.len() < MAX_NAMED && !self.unknown_projects.contains(&project) {
            self.unknown_projects.push(project);
        }
    }
}

impl Position {
    fn is_of(&self, repository: &Self) -> bool {
        (self.destination, self.project, self.encrypted)
            == (repository.destination, repository.project, repository.encrypted)
    }

    /// Reads what [`Display`](std::fmt::Display) wrote.
    fn read(cursor: &str) -> Result<Self, Failure> {
        let wrong = || ControlError::new(Kind::Invalid, Code::InvalidCursor, "the cursor is not one of a sync");
        let parts: Vec<&str> = cursor.split('/').collect();
        let [destination, project, encrypted, backup] = parts[..] else { return Err(wrong().into()) };
        let position = Self {
            destination: destination.parse().map_err(|_| wrong())?,
            project: project.parse().map_err(|_| wrong())?,
            encrypted: encrypted.parse().map_err(|_| wrong())?,
            backup: if backup.is_empty() { None } else { Some(backup.parse().map_err(|_| wrong())?) },
        };
        let is_backup = |id: &SnapshotId| id.kind() == JobKind::Backup;
        if position.backup.as_ref().is_none_or(is_backup) { Ok(position) } else { Err(wrong().into()) }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let backup = self.backup.as_ref().map_or("", |backup| backup.as_str());
        write!(f, "{}/{}/{}/{backup}", self.destination, self.project, self.encrypted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_shown_and_nothing_else_is() {
        const ULID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        for backup in [String::new(), format!("bkp_{ULID}")] {
            let text = format!("storage_{ULID}/proj_{ULID}/true/{backup}");
            assert_eq!(Position::read(&text).unwrap().to_string(), text);
        }
        for bad in
            ["x", "///", &format!("storage_{ULID}/proj_{ULID}/yes/"), &format!("storage_{ULID}/proj_{ULID}/true/x")]
        {
            assert_eq!(Position::read(bad).unwrap_err().code(), Code::InvalidCursor, "{bad}");
        }
    }
}
