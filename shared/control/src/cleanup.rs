//! Objects that nothing refers to, deleted on request: a verb asks for it, maintenance does it, by the way of every prune. Who
//! answers requests may delete nothing.

use std::collections::BTreeSet;

use firebackup_model::Timestamp;
use firebackup_model::port::ItemWrite;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit::Act;
use crate::control::Control;
use crate::destination::DestinationRecord;
use crate::error::{Code, ControlError, Result};
use crate::id::{DestinationId, ProjectId};
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::Right;
use crate::tenant::{Caller, OrganizationScope, Worker};
use crate::work::OpenedPlace;

/// What is to be cleaned in a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cleanup {
    /// Which destination.
    destination: DestinationId,
    /// Whether all that nothing refers to goes, in every repository there.
    all: bool,
    /// What goes besides, if nothing refers to it.
    named: Vec<NamedObjects>,
    /// Since when it is asked for.
    requested_at: Timestamp,
    /// How often it was begun, and when last.
    #[serde(default)]
    attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun_at: Option<Timestamp>,
}

/// Objects of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NamedObjects {
    project: ProjectId,
    encrypted: bool,
    names: BTreeSet<String>,
}

/// A cleanup that was begun, so that nobody else does it meanwhile.
#[derive(Debug, Clone)]
pub struct BegunCleanup(Stored<Cleanup>);

/// A repository that is to be cleaned.
#[derive(Debug, Clone)]
pub struct PlaceToClean {
    /// Where it is.
    pub place: OpenedPlace,
    /// The objects that may go; nothing where all may.
    pub only: Option<BTreeSet<String>>,
}

/// What became of a cleanup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupOutcome {
    /// Objects newly marked: they are deleted a day later, if nothing refers to them then.
    pub marked: u64,
    /// Their bytes.
    pub marked_bytes: u64,
    /// Objects deleted.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Objects that stay because they are locked.
    pub locked: u64,
    /// Repositories that could not be cleaned.
    pub failed: u64,
}

/// How long one that was begun is left to whoever began it: longer than a function may take.
const LEASE_SECONDS: i64 = 20 * 60;
/// How often one is begun that comes to no good end.
const MAX_BEGUN: u32 = 3;
/// The most objects that wait to be deleted in a destination: a record holds them.
const MAX_WAITING: usize = 1000;

impl Cleanup {
    const fn new(destination: DestinationId, now: Timestamp) -> Self {
        Self { destination, all: false, named: Vec::new(), requested_at: now, attempts: 0, begun_at: None }
    }

    fn add(&mut self, project: ProjectId, encrypted: bool, names: BTreeSet<String>) -> Result<()> {
        let is_same = |one: &&mut NamedObjects| (one.project, one.encrypted) == (project, encrypted);
        match self.named.iter_mut().find(is_same) {
            Some(named) => named.names.extend(names),
            None => self.named.push(NamedObjects { project, encrypted, names }),
        }
        let waiting: usize = self.named.iter().map(|named| named.names.len()).sum();
        if waiting <= MAX_WAITING {
            return Ok(());
        }
        let message = format!("{MAX_WAITING} objects wait to be deleted already: try again in some minutes");
        Err(ControlError::conflict(Code::LimitReached, message))
    }

    fn is_begun(&self, now: Timestamp) -> bool {
        self.begun_at.is_some_and(|begun| now < begun.plus_seconds(LEASE_SECONDS))
    }
}

impl Control {
    /// The repositories in a destination that jobs of the organization have made, to look at what nothing refers to in them.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound). One that cannot be opened is an error of its own.
    pub async fn repositories_in(&self, caller: &Caller, id: &DestinationId) -> Result<Vec<Result<OpenedPlace>>> {
        caller.may(Right::Manage)?;
        self.destination_record(caller.scope(), id).await?;
        self.places_in(caller.scope(), id).await
    }

    /// Where the repository of a project is in a destination, to delete in it what nothing refers to.
    ///
    /// # Errors
    /// As [`Self::open_repository`].
    pub async fn open_repository_to_clean(
        &self,
        caller: &Caller,
        id: &DestinationId,
        project: &ProjectId,
        encrypted: bool,
    ) -> Result<OpenedPlace> {
        caller.may(Right::Manage)?;
        self.open_repository(caller, id, project, encrypted).await
    }

    /// Asks for the deletion of all that nothing refers to in a destination. Doing it twice is doing it once.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn request_cleanup(&self, caller: &Caller, id: &DestinationId) -> Result<()> {
        let act = || Act::new("storage.cleanup_requested", id);
        let change = |cleanup: &mut Cleanup| {
            cleanup.all = true;
            Ok(())
        };
        self.request(caller, id, act, change).await
    }

    /// Asks for the deletion of objects of a repository, if nothing refers to them then.
    ///
    /// # Errors
    /// [`LimitReached`](Code::LimitReached) where too many wait for it.
    pub async fn request_file_deletion(
        &self,
        caller: &Caller,
        place: &OpenedPlace,
        names: &BTreeSet<String>,
    ) -> Result<()> {
        let id = place.destination.id;
        let told = json!({ "projectId": place.project, "encrypted": place.encrypted, "files": names });
        let act = || Act::new("storage.files_deletion_requested", id).with(told.clone());
        let change = |cleanup: &mut Cleanup| cleanup.add(place.project, place.encrypted, names.clone());
        self.request(caller, &id, act, change).await
    }

    /// What waits already is added to; whoever is at it begins anew with the whole.
    async fn request(
        &self,
        caller: &Caller,
        id: &DestinationId,
        act: impl Fn() -> Act,
        change: impl Fn(&mut Cleanup) -> Result<()>,
    ) -> Result<()> {
        caller.may(Right::Manage)?;
        let scope = caller.scope();
        for _ in 0..MAX_ATTEMPTS {
            let destination = self.destination_record(scope, id).await?;
            destination.value.check_usable()?;
            destination.value.check_settled()?;
            let key = scope.cleanup_key(id);
            let write = match self.load::<Cleanup>(&key).await? {
                Some(mut waiting) => {
                    change(&mut waiting.value)?;
                    (waiting.value.attempts, waiting.value.begun_at) = (0, None);
                    waiting.replace(None)?
                }
                None => {
                    let mut cleanup = Cleanup::new(*id, self.now());
                    change(&mut cleanup)?;
                    ItemWrite::Create(new_item(key, &cleanup, None)?)
                }
            };
            let writes = vec![destination.check(), write, self.goes_on(scope).await?];
            if self.commit(caller.author(), act(), writes).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// The cleanups that wait for somebody to do them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn cleanups(&self, worker: &Worker) -> Result<Vec<DestinationId>> {
        let waiting = self.all::<Cleanup>(worker.scope().cleanups()).await?.into_iter();
        let now = self.now();
        let mut ready = Vec::new();
        for one in waiting.filter(|one| !one.value.is_begun(now)) {
            // nothing is deleted while everything is moved
            if !self.is_moving(worker.scope(), &one.value.destination).await? {
                ready.push(one.value.destination);
            }
        }
        Ok(ready)
    }

    /// Begins a cleanup; nothing where somebody else is at it, or it is done.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin_cleanup(&self, worker: &Worker, id: &DestinationId) -> Result<Option<BegunCleanup>> {
        let key = worker.scope().cleanup_key(id);
        let Some(mut cleanup) = self.load::<Cleanup>(&key).await? else { return Ok(None) };
        if cleanup.value.is_begun(self.now()) {
            return Ok(None);
        }
        cleanup.value.attempts += 1;
        cleanup.value.begun_at = Some(self.now());
        if self.write_unrecorded(vec![cleanup.replace(None)?]).await? == Written::Outrun {
            return Ok(None);
        }
        Ok(self.load(&key).await?.filter(|now: &Stored<Cleanup>| now.value == cleanup.value).map(BegunCleanup))
    }

    /// The repositories that a cleanup is about. One that cannot be opened is an error of its own.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn places_to_clean(&self, worker: &Worker, begun: &BegunCleanup) -> Result<Vec<Result<PlaceToClean>>> {
        let (scope, cleanup) = (worker.scope(), &begun.0.value);
        if self.load::<DestinationRecord>(&scope.destination_key(&cleanup.destination)).await?.is_none() {
            return Ok(Vec::new());
        }
        if cleanup.all {
            let places = self.places_in(scope, &cleanup.destination).await?.into_iter();
            return Ok(places.map(|place| place.map(|place| PlaceToClean { place, only: None })).collect());
        }
        let mut places = Vec::new();
        for named in &cleanup.named {
            let organization = self.organization_record(scope).await?;
            let repository = (named.project, named.encrypted);
            let place = self.place_at(scope, organization, cleanup.destination, repository).await;
            places.push(place.map(|place| PlaceToClean { place, only: Some(named.names.clone()) }));
        }
        Ok(places)
    }

    /// Ends a cleanup, and tells what became of it. One that failed is begun again later, some times; one to which more was
    /// added meanwhile stays.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_cleanup(&self, worker: &Worker, begun: &BegunCleanup, outcome: &CleanupOutcome) -> Result<()> {
        let cleanup = &begun.0.value;
        if outcome.failed > 0 && cleanup.attempts < MAX_BEGUN {
            return Ok(());
        }
        let act = Act::new("storage.cleaned", cleanup.destination).with(json!(outcome));
        self.commit(&worker.author(), act, vec![begun.0.delete()]).await.map(drop)
    }

    async fn places_in(&self, scope: &OrganizationScope, id: &DestinationId) -> Result<Vec<Result<OpenedPlace>>> {
        let mut places = Vec::new();
        for (destination, repository) in self.named_repositories(scope).await? {
            if destination == *id {
                let organization = self.organization_record(scope).await?;
                places.push(self.place_at(scope, organization, destination, repository).await);
            }
        }
        Ok(places)
    }
}
