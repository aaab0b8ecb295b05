//! Moves everything in a destination to another: objects by parts and in order of name, so that whoever comes next goes on
//! behind the last one that was compared; then records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firebackup_control::{
    ArchivePlace, BegunMigration, DestinationId, MigrationPlaces, MigrationPosition, MigrationStatus, OpenedPlace,
    PlaceToMove, Worker,
};
use firebackup_engine::{Copied, FoundObject, Layer, copy_object, found_below};
use firebackup_model::Timestamp;
use firebackup_model::port::{StepError, StepErrorKind};
use futures::future::ready;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Maintenance;
use crate::failure::{of_control, of_engine, of_port};
use crate::places::repository_name;

/// Objects that are copied at one time. Each has a few parts in memory.
const PARALLEL: usize = 4;
/// How often it is said how far it is: far within the time for which it is left to us.
const BEAT: Duration = Duration::from_secs(10);
/// How far the clocks of a store and of ours may be apart.
const CLOCKS_SECONDS: i64 = 3600;
/// What a look is asked for by that finds out whether two destinations are one.
const PROBE: &str = "probes/migration";

/// What to do where the target holds something else.
const OTHER_CONTENT: &str = "choose a target that holds nothing under these names, such as another prefix; or, where what is \
                             there is of no use, remove it there, and ask for the same migration again";
const ONE_PLACE: &str = "choose a target that is another place";

/// How long a round may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// From then on no object is begun.
    begins_until: Instant,
    /// Then all that is under way is dropped, to be begun again.
    ends: Instant,
}

/// Why it does not go on now.
enum Halt {
    /// Somebody else was given it, or it was ended.
    Lost,
    /// It waits for something.
    Waits,
    /// There is no more time in this round.
    OutOfTime,
    /// Something failed.
    Failed(StepError),
    /// The same, and this is to be done about it.
    Remedied(StepError, &'static str),
}

impl From<StepError> for Halt {
    fn from(error: StepError) -> Self {
        Self::Failed(error)
    }
}

/// Objects that are copied in order of name.
struct Part {
    /// In whose order parts are dealt with: the number of its layer, and where it lies.
    id: String,
    layer: Option<Layer>,
    /// For people: a repository's name, or that of the folder of the audit log.
    name: String,
    from: Arc<dyn ObjectStore>,
    to: Arc<dyn ObjectStore>,
}

struct Migrating<'a> {
    maintenance: &'a Maintenance,
    worker: &'a Worker,
    begun: BegunMigration,
    round: Round,
    next_beat: Instant,
}

impl Round {
    /// One that has so much time. A half is kept for objects that are large.
    pub(super) fn within(time: Duration) -> Self {
        let now = Instant::now();
        Self { begins_until: now + time / 2, ends: now + time }
    }
}

impl Maintenance {
    /// Goes on with the migrations of an organization that nobody is at; says with how many.
    pub(super) async fn migrate(&self, worker: &Worker, round: Round) -> Result<u64, StepError> {
        let mut begun = 0;
        for source in self.control().migrations(worker).await.map_err(of_control)? {
            if Instant::now() < round.begins_until {
                begun += u64::from(self.migrate_one(worker, &source, round).await?);
            }
        }
        Ok(begun)
    }

    async fn migrate_one(&self, worker: &Worker, source: &DestinationId, round: Round) -> Result<bool, StepError> {
        let begun = self.control().begin_migration(worker, source).await.map_err(of_control)?;
        let Some(begun) = begun else { return Ok(false) };
        let next_beat = Instant::now() + BEAT;
        let mut migrating = Migrating { maintenance: self, worker, begun, round, next_beat };
        let halt = migrating.go_on().await.err();
        migrating.leave(halt).await?;
        Ok(true)
    }
}

impl Migrating<'_> {
    /// Goes on from where it is to its end, or until something halts it.
    async fn go_on(&mut self) -> Result<(), Halt> {
        let control = self.maintenance.control().clone();
        let places = control.migration_places(self.worker, &self.begun).await.map_err(of_control)?;
        if self.begun.status() == MigrationStatus::Copying {
            self.copy(&places).await?;
            let is_switching = control.switch_migration(self.worker, &mut self.begun).await.map_err(of_control)?;
            if !is_switching {
                return Err(Halt::Waits);
            }
        }
        // behind the switch: a job that began before it may have made a repository
        let places = control.migration_places(self.worker, &self.begun).await.map_err(of_control)?;
        if control.migration_waits(self.worker, &self.begun).await.map_err(of_control)? {
            return Err(Halt::Waits);
        }
        for part in self.parts(&places, &Layer::ALL)? {
            self.copy_part(&part).await?;
        }
        Ok(control.complete_migration(self.worker, &mut self.begun).await.map_err(of_control)?)
    }

    /// Everything but manifests: those are behind all that they need.
    async fn copy(&mut self, places: &MigrationPlaces) -> Result<(), Halt> {
        if self.begun.is_copied() {
            return Ok(());
        }
        if !self.begun.is_counted() {
            self.check_apart(places).await?;
            self.count(places).await?;
        }
        for part in self.parts(places, &[Layer::Keys, Layer::Description, Layer::Runs])? {
            self.copy_part(&part).await?;
        }
        Ok(())
    }

    /// That the two are not one place by two names: whoever removed what is left in the source would remove what was moved.
    async fn check_apart(&self, places: &MigrationPlaces) -> Result<(), Halt> {
        let (from, to, _) = &places.audit;
        let (from, to) = (self.root(from)?, self.root(to)?);
        let probe = Path::from(format!("{PROBE}-{}", self.begun.source()));
        to.put(&probe, "".into()).await.map_err(|error| failed("write", &probe, error))?;
        let found = from.head(&probe).await;
        to.delete(&probe).await.map_err(|error| failed("delete", &probe, error))?;
        match found {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("look for", &probe, error).into()),
            Ok(_) => {
                let message = "both destinations are one place by two names";
                Err(Halt::Remedied(StepError::new(StepErrorKind::Fatal, message), ONE_PLACE))
            }
        }
    }

    async fn count(&mut self, places: &MigrationPlaces) -> Result<(), Halt> {
        let (mut objects, mut bytes) = (0, 0);
        for part in self.parts(places, &Layer::ALL)? {
            let found = part.found(&part.from).await?;
            objects += found.len() as u64;
            bytes += found.iter().map(|object| object.size).sum::<u64>();
            self.say().await?;
        }
        self.begun.count(objects, bytes);
        Ok(())
    }

    /// The parts of some layers, and the sealed months of the audit log, in order.
    fn parts(&self, places: &MigrationPlaces, layers: &[Layer]) -> Result<Vec<Part>, StepError> {
        let mut parts = Vec::new();
        for layer in layers {
            for PlaceToMove { from, to } in &places.repositories {
                let name = repository_name(from);
                let id = format!("{}/{name}", layer_number(Some(*layer)));
                parts.push(Part { id, layer: Some(*layer), name, from: self.store(from)?, to: self.store(to)? });
            }
        }
        let (from, to, folder) = &places.audit;
        let id = format!("{}/{folder}", layer_number(None));
        parts.push(Part { id, layer: None, name: folder.clone(), from: self.root(from)?, to: self.root(to)? });
        parts.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(parts)
    }

    fn store(&self, place: &OpenedPlace) -> Result<Arc<dyn ObjectStore>, StepError> {
        self.maintenance.steps.places.store(place).map_err(of_port)
    }

    fn root(&self, place: &ArchivePlace) -> Result<Arc<dyn ObjectStore>, StepError> {
        let (access, days) = (&place.access, place.retention_lock_days);
        let destination = self.maintenance.steps.places.locked_destination(&access.url, access, days);
        Ok(destination.map_err(of_port)?.store())
    }

    async fn copy_part(&mut self, part: &Part) -> Result<(), Halt> {
        let position = self.begun.position().cloned();
        if position.as_ref().is_some_and(|position| position.part > part.id) {
            return Ok(());
        }
        self.say().await?;
        let objects = self.wanted(part, position.as_ref()).await?;
        let there: BTreeMap<Path, u64> =
            part.found(&part.to).await?.into_iter().map(|found| (found.path, found.size)).collect();
        let (mut left, round) = (objects.len(), self.round);
        let (is_switching, known) = (self.begun.status() == MigrationStatus::Switching, self.known_before(part));
        let copies = stream::iter(objects).take_while(|_| ready(Instant::now() < round.begins_until)).map(|object| {
            let there = there.get(&object.path).copied();
            async move {
                // compared while it was copied: nothing changes since
                let is_known = there == Some(object.size) && object.modified < known;
                let copied = match is_known {
                    true => Copied::There,
                    false => {
                        copy_object(&part.from, &part.to, &object, there).await.map_err(|error| part.halt(error))?
                    }
                };
                Ok::<_, Halt>((object, copied))
            }
        });
        let mut copies = std::pin::pin!(copies.buffered(PARALLEL));
        loop {
            tokio::select! {
                copied = copies.next() => {
                    let Some(copied) = copied else { break };
                    let (object, copied) = copied?;
                    let is_counted = copied == Copied::Put || copied == Copied::There && (!is_switching || part.is_last());
                    self.begun.done(part.position(&object), is_counted.then_some(object.size));
                    left -= 1;
                }
                () = sleep_until(self.next_beat) => self.say().await?,
                () = sleep_until(round.ends) => return Err(Halt::OutOfTime),
            }
        }
        if left == 0 { Ok(()) } else { Err(Halt::OutOfTime) }
    }

    /// The objects of a part that are still to be dealt with, but the manifests of backups that are to be deleted.
    async fn wanted(&self, part: &Part, position: Option<&MigrationPosition>) -> Result<Vec<FoundObject>, Halt> {
        // before anything is listed: whoever deletes a manifest has marked it before, and is done when the mark is gone
        let marked = match part.is_last() {
            true => self.maintenance.control().marked_backups(self.worker).await.map_err(of_control)?,
            false => Default::default(),
        };
        let is_behind = |object: &FoundObject| position.is_none_or(|position| part.position(object) > *position);
        let mut objects = part.found(&part.from).await?;
        objects.retain(|object| is_behind(object) && object.snapshot().is_none_or(|id| !marked.contains(&id)));
        Ok(objects)
    }

    /// What was there before then was compared while it was copied; of manifests none was copied yet.
    fn known_before(&self, part: &Part) -> Timestamp {
        match self.begun.status() == MigrationStatus::Switching && !part.is_last() {
            true => self.begun.copied_since().plus_seconds(-CLOCKS_SECONDS),
            false => Timestamp::default(),
        }
    }

    /// Says how far it is, where it is time to; halts where the round's time is up.
    async fn say(&mut self) -> Result<(), Halt> {
        if Instant::now() >= self.round.ends {
            return Err(Halt::OutOfTime);
        }
        if Instant::now() < self.next_beat {
            return Ok(());
        }
        self.next_beat = Instant::now() + BEAT;
        let noted = self.maintenance.control().note_migration(self.worker, &mut self.begun);
        // whoever cannot say so is given up
        let noted = timeout_at(self.next_beat + BEAT, noted).await.map_err(|_| Halt::Lost)?;
        if noted.map_err(of_control)? { Ok(()) } else { Err(Halt::Lost) }
    }

    /// Leaves it to the next round, or ends it.
    async fn leave(&mut self, halt: Option<Halt>) -> Result<(), StepError> {
        let (control, begun) = (self.maintenance.control(), &mut self.begun);
        let left = match halt {
            None | Some(Halt::Lost) => Ok(()),
            Some(Halt::Waits) => control.leave_migration(self.worker, begun, true).await,
            Some(Halt::OutOfTime) => control.leave_migration(self.worker, begun, false).await,
            Some(Halt::Remedied(error, remedy)) => {
                control.fail_migration(self.worker, begun, &error.message, Some(remedy)).await
            }
            Some(Halt::Failed(error)) if error.kind == StepErrorKind::Retryable => {
                control.note_migration_trouble(self.worker, begun, &error.message).await
            }
            Some(Halt::Failed(error)) => control.fail_migration(self.worker, begun, &error.message, None).await,
        };
        left.map_err(of_control)
    }
}

/// The audit log is copied behind what makes a repository, and before what takes long.
const fn layer_number(layer: Option<Layer>) -> u8 {
    match layer {
        Some(Layer::Keys) => 0,
        Some(Layer::Description) => 1,
        None => 2,
        Some(Layer::Runs) => 3,
        Some(Layer::Segments) => 4,
        Some(Layer::Snapshots) => 5,
    }
}

impl Part {
    async fn found(&self, store: &Arc<dyn ObjectStore>) -> Result<Vec<FoundObject>, StepError> {
        let found = match self.layer {
            Some(layer) => layer.found(store.as_ref()).await,
            None => found_below(store.as_ref(), &self.name).await,
        };
        found.map_err(of_engine)
    }

    const fn is_last(&self) -> bool {
        matches!(self.layer, Some(Layer::Snapshots))
    }

    fn position(&self, object: &FoundObject) -> MigrationPosition {
        MigrationPosition { part: self.id.clone(), name: object.path.to_string() }
    }

    /// What a failure of copying an object of this part comes to.
    fn halt(&self, error: firebackup_engine::EngineError) -> Halt {
        let is_other = matches!(error, firebackup_engine::EngineError::Refused(_));
        let mut error = of_engine(error);
        error.message = format!("in {}: {}", self.name, error.message);
        if is_other { Halt::Remedied(error, OTHER_CONTENT) } else { Halt::Failed(error) }
    }
}

fn failed(operation: &'static str, path: &Path, source: object_store::Error) -> StepError {
    of_engine(firebackup_engine::EngineError::Store { operation, path: path.to_string(), source })
}
