//! What a migration of a destination would copy: counted here, done by maintenance.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use firebackup_control::{
    Caller, Code, DestinationId, Migration, MigrationObstacle, MigrationPlan, MigrationUses, NewMigration, PlaceToMove,
    ProjectId,
};
use firebackup_engine::{EngineError, FoundObject, Layer, found_below, holds_another};
use firebackup_model::id::JobId;
use object_store::ObjectStore;
use object_store::path::Path;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use crate::failure::Failure;
use crate::state::HttpState;
use crate::unreadable::unreachable_place;

/// How long destinations are looked at: gateways wait for half a minute.
const MAX_TIME: Duration = Duration::from_secs(20);

/// What was found, or asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MigrationAnswer {
    /// Whether it was only looked at.
    dry_run: bool,
    /// What would be moved, of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<MigrationFound>,
    /// The migration, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    migration: Option<Migration>,
}

/// What a migration would do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MigrationFound {
    /// What would name the target.
    uses: MigrationUses,
    /// Jobs that have not ended, for which it would wait.
    #[schema(value_type = Vec<String>)]
    waits_for: Vec<JobId>,
    /// What is in its way: as long as there is something, it is refused, or fails.
    obstacles: Vec<MigrationObstacle>,
    /// What would be copied, all together.
    total: ObjectsToMove,
    /// By repository.
    repositories: Vec<RepositoryToMove>,
    /// Sealed months of the audit log.
    audit: ObjectsToMove,
    /// Whether there was no time to look at all of them.
    partial: bool,
}

/// What would be copied of a repository.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RepositoryToMove {
    /// Of which project.
    project_id: ProjectId,
    /// Whether the encrypted one.
    encrypted: bool,
    #[serde(flatten)]
    objects: ObjectsToMove,
}

/// What would be copied.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectsToMove {
    /// Objects.
    objects: u64,
    /// Their bytes.
    bytes: u64,
    /// Those of them of whose names and sizes the target has some: they are compared, and not copied.
    already_there: u64,
}

impl ObjectsToMove {
    fn add(&mut self, more: Self) {
        self.objects += more.objects;
        self.bytes += more.bytes;
        self.already_there += more.already_there;
    }

    fn of(from: &[FoundObject], to: &[FoundObject]) -> Self {
        let there: HashMap<&Path, u64> = to.iter().map(|object| (&object.path, object.size)).collect();
        let is_there = |object: &&FoundObject| there.get(&object.path) == Some(&object.size);
        Self {
            objects: from.len() as u64,
            bytes: from.iter().map(|object| object.size).sum(),
            already_there: from.iter().filter(is_there).count() as u64,
        }
    }
}

/// Says what a migration would do, or asks for it.
pub(crate) async fn migrate(
    state: &HttpState,
    caller: &Caller,
    id: &DestinationId,
    new: &NewMigration,
    idempotency: Option<&str>,
) -> Result<MigrationAnswer, Failure> {
    if !new.dry_run {
        let migration = state.control.request_migration(caller, id, new, idempotency).await?;
        return Ok(MigrationAnswer { dry_run: false, found: None, migration: Some(migration) });
    }
    let until = Instant::now() + MAX_TIME;
    let plan = state.control.plan_migration(caller, id, new).await?;
    let found = MigrationFound::of(state, plan, until).await?;
    Ok(MigrationAnswer { dry_run: true, found: Some(found), migration: None })
}

impl MigrationFound {
    async fn of(state: &HttpState, plan: MigrationPlan, until: Instant) -> Result<Self, Failure> {
        let MigrationPlan { uses, waits_for, obstacles, places } = plan;
        let mut found = Self {
            uses,
            waits_for,
            obstacles,
            total: ObjectsToMove::default(),
            repositories: Vec::new(),
            audit: ObjectsToMove::default(),
            partial: false,
        };
        let look = async {
            let (from, to, folder) = &places.audit;
            let from = state.repositories.all_objects(&from.access).await?;
            let to = state.repositories.all_objects(&to.access).await?;
            let (from, to) = (below(&from, folder).await?, below(&to, folder).await?);
            found.audit = ObjectsToMove::of(&from, &to);
            found.total.add(found.audit);
            for place in &places.repositories {
                found.look_at(state, place).await?;
            }
            Ok::<_, Failure>(())
        };
        match timeout_at(until, look).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) if found.obstacles.is_empty() => return Err(failure),
            // what cannot be looked at is among what is in the way
            Ok(Err(_)) | Err(_) => found.partial = true,
        }
        Ok(found)
    }

    async fn look_at(&mut self, state: &HttpState, place: &PlaceToMove) -> Result<(), Failure> {
        let (project_id, encrypted) = (place.from.project, place.from.encrypted);
        let from = state.repositories.objects(&place.from).await?;
        let to = state.repositories.objects(&place.to).await?;
        let mut objects = ObjectsToMove::default();
        for layer in Layer::ALL {
            let (from, to) = (layer.found(from.as_ref()).await, layer.found(to.as_ref()).await);
            objects.add(ObjectsToMove::of(&from.map_err(unreachable_place)?, &to.map_err(unreachable_place)?));
        }
        if holds_another(from.as_ref(), to.as_ref()).await.map_err(unreachable_place)? {
            let which = if encrypted { "" } else { "not encrypted " };
            let message = format!(
                "the target has a {which}repository of {project_id} already, with keys of its own: choose another target, \
                 such as another prefix"
            );
            self.obstacles.push(MigrationObstacle { code: Code::Conflict, message });
        }
        self.total.add(objects);
        self.repositories.push(RepositoryToMove { project_id, encrypted, objects });
        Ok(())
    }
}

async fn below(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<Vec<FoundObject>, Failure> {
    found_below(store.as_ref(), folder).await.map_err(|error: EngineError| unreachable_place(error))
}
