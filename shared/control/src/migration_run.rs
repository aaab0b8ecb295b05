//! What whoever does a migration says of it: that it begins, how far it is, what is in its way.
//!
//! It is left to one for as long as that one says so often enough; each word is a write on the version that was read, so that
//! whoever was given up finds out by the next one, and stops.

use std::collections::BTreeSet;

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use serde::{Deserialize, Serialize};

use crate::archive::ArchivePlace;
use crate::audit::Act;
use crate::audit_part::folder_of;
use crate::backup::Marked;
use crate::control::Control;
use crate::error::Result;
use crate::id::DestinationId;
use crate::migration::{MigrationError, MigrationRecord, MigrationStatus};
use crate::moving::Moving;
use crate::pitr_record::PitrRecord;
use crate::record::{MAX_ATTEMPTS, Stored, Written};
use crate::tenant::{OrganizationScope, Worker};
use crate::work::OpenedPlace;

/// A migration that was begun, so that nobody else does it meanwhile.
#[derive(Debug, Clone)]
pub struct BegunMigration(pub(crate) Stored<MigrationRecord>);

/// Up to where objects were dealt with: parts in order, and names in order in each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MigrationPosition {
    /// The part.
    pub part: String,
    /// The last object that was dealt with.
    pub name: String,
}

/// What is copied.
#[derive(Debug, Clone)]
pub struct MigrationPlaces {
    /// Repositories, in order.
    pub repositories: Vec<PlaceToMove>,
    /// Where the sealed months of the audit log lie and will lie, and below which folder there.
    pub audit: (ArchivePlace, ArchivePlace, String),
}

/// A repository in both destinations.
#[derive(Debug, Clone)]
pub struct PlaceToMove {
    /// Where it is.
    pub from: OpenedPlace,
    /// Where it will be.
    pub to: OpenedPlace,
}

/// How long one that was begun is left to whoever began it, behind their last word.
const HELD_SECONDS: i64 = 60;
/// How often one is begun that comes no further.
const MAX_BEGUN: u32 = 10;
/// The most characters that are kept of what is in the way.
const MAX_MESSAGE: usize = 1000;

/// What to do where nothing else is known.
const REMEDY: &str = "see to it that both destinations can be reached, and ask for the same migration again: it goes on where \
                      it was";

impl BegunMigration {
    /// How it stands.
    #[must_use]
    pub const fn status(&self) -> MigrationStatus {
        self.0.value.shown.status
    }

    /// Out of which destination.
    #[must_use]
    pub const fn source(&self) -> DestinationId {
        self.0.value.source
    }

    /// Up to where everything of this phase is dealt with.
    #[must_use]
    pub const fn position(&self) -> Option<&MigrationPosition> {
        self.0.value.position.as_ref()
    }

    /// Since when objects are copied. What was there before was compared by the end of the copying.
    #[must_use]
    pub const fn copied_since(&self) -> Timestamp {
        self.0.value.copied_since
    }

    /// Whether the copying has come to its end.
    #[must_use]
    pub const fn is_copied(&self) -> bool {
        self.0.value.is_copied
    }

    /// Whether it is known how much is to be copied.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        self.0.value.shown.objects > 0
    }

    /// Sets how much is to be copied.
    pub const fn count(&mut self, objects: u64, bytes: u64) {
        (self.0.value.shown.objects, self.0.value.shown.bytes) = (objects, bytes);
    }

    /// Adds an object that was dealt with; `bytes` where it was copied or compared in this phase.
    pub fn done(&mut self, position: MigrationPosition, bytes: Option<u64>) {
        self.0.value.position = Some(position);
        (self.0.value.attempts, self.0.value.shown.error) = (0, None);
        let shown = &mut self.0.value.shown;
        if let Some(bytes) = bytes {
            shown.objects_done += 1;
            shown.bytes_done += bytes;
        }
        shown.objects = shown.objects.max(shown.objects_done);
        shown.bytes = shown.bytes.max(shown.bytes_done);
    }
}

impl Control {
    /// The migrations that wait for somebody to do them, by their source.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn migrations(&self, worker: &Worker) -> Result<Vec<DestinationId>> {
        let all = self.all::<MigrationRecord>(worker.scope().migrations()).await?.into_iter().map(|one| one.value);
        let now = self.now();
        Ok(all.filter(|one| one.waits(now)).map(|one| one.source).collect())
    }

    /// Begins a migration; nothing where somebody else is at it, or it has ended. One that was begun often enough and came no
    /// further fails.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin_migration(&self, worker: &Worker, id: &DestinationId) -> Result<Option<BegunMigration>> {
        let record = self.migration_record(worker.scope(), id).await?;
        let Some(mut record) = record.filter(|record| record.value.waits(self.now())) else { return Ok(None) };
        if record.value.attempts >= MAX_BEGUN {
            let message = "it was begun again and again, and came no further";
            let noted = record.value.shown.error.clone().map_or_else(|| message.to_owned(), |error| error.message);
            self.fail_migration(worker, &mut BegunMigration(record), &noted, None).await?;
            return Ok(None);
        }
        record.value.attempts += 1;
        let mut begun = BegunMigration(record);
        Ok(self.note_migration(worker, &mut begun).await?.then_some(begun))
    }

    /// Stores how far it is, and says whether it is still left to us; where not, nothing was stored, and whoever calls stops.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_migration(&self, worker: &Worker, begun: &mut BegunMigration) -> Result<bool> {
        begun.0.value.held_until = Some(self.now().plus_seconds(HELD_SECONDS));
        self.write_begun(worker, begun).await
    }

    /// Leaves it to whoever comes next. One that only waits has not failed, however often it is looked at.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn leave_migration(&self, worker: &Worker, begun: &mut BegunMigration, waits: bool) -> Result<()> {
        begun.0.value.held_until = None;
        if waits {
            (begun.0.value.attempts, begun.0.value.shown.error) = (0, None);
        }
        self.write_begun(worker, begun).await.map(drop)
    }

    /// Leaves it because of something that may pass: it is begun again by the next round, some times.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_migration_trouble(
        &self,
        worker: &Worker,
        begun: &mut BegunMigration,
        message: &str,
    ) -> Result<()> {
        begun.0.value.shown.error = Some(error(message, Some("nothing yet: it is tried again in some minutes")));
        self.leave_migration(worker, begun, false).await
    }

    /// Ends it because of something that will not pass by itself. The source is as it was.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn fail_migration(
        &self,
        worker: &Worker,
        begun: &mut BegunMigration,
        message: &str,
        remedy: Option<&str>,
    ) -> Result<()> {
        begun.0.value.end(MigrationStatus::Failed, Some(error(message, remedy)), self.now());
        for _ in 0..MAX_ATTEMPTS {
            if self.end_migration(&worker.author(), &begun.0, "storage.migration_failed").await? == Written::Yes {
                return Ok(());
            }
            if !self.is_ours(worker, begun).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lets nothing new begin in the source, once everything there was copied; says whether it is so now. Not as long as
    /// something may be deleted in the target that a try before has copied.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn switch_migration(&self, worker: &Worker, begun: &mut BegunMigration) -> Result<bool> {
        begun.0.value.is_copied = true;
        if self.now() < begun.0.value.not_before {
            return Ok(false);
        }
        let scope = worker.scope();
        let (source, target) = (begun.source(), begun.0.value.shown.target_destination_id);
        let mut next = begun.0.clone();
        (next.value.shown.status, next.value.position) = (MigrationStatus::Switching, None);
        for _ in 0..MAX_ATTEMPTS {
            let mut two = self.two(scope, &source, &target).await?;
            two.source.value.moving = Some(Moving::Out { to: target, switching: true });
            let act = Act::new("storage.migration_switching", source)
                .with(serde_json::json!({ "targetDestinationId": target }));
            let writes = vec![two.source.replace(None)?, next.replace(None)?];
            if self.commit(&worker.author(), act, writes).await? == Written::Yes {
                begun.0.value = next.value;
                return self.is_ours(worker, begun).await;
            }
            if !self.is_ours(worker, begun).await? {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Whether jobs that have not ended use the source, or changes are just being captured into it, or backups in it drilled.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn migration_waits(&self, worker: &Worker, begun: &BegunMigration) -> Result<bool> {
        let jobs = self.active_jobs(worker.scope()).await?;
        let pitrs = self.all::<PitrRecord>(worker.scope().pitrs()).await?;
        let captures = |pitr: &PitrRecord| pitr.storage_destination_id == begun.source() && pitr.is_held(self.now());
        let is_used = jobs.iter().any(|job| job.destination == begun.source());
        Ok(is_used
            || pitrs.iter().any(|one| captures(&one.value))
            || self.is_drilled(worker.scope(), begun.source()).await?)
    }

    /// The backups that are to be deleted: their manifests are not copied. Whoever asks does so before they list any.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn marked_backups(&self, worker: &Worker) -> Result<BTreeSet<JobId>> {
        let marked = self.all::<Marked>(worker.scope().deleting_backups()).await?;
        Ok(marked.into_iter().map(|marked| marked.value.job).collect())
    }

    /// What is copied.
    ///
    /// # Errors
    /// When the store fails, or what opens one of the destinations does not open.
    pub async fn migration_places(&self, worker: &Worker, begun: &BegunMigration) -> Result<MigrationPlaces> {
        let target = begun.0.value.shown.target_destination_id;
        self.migration_places_of(worker.scope(), &begun.source(), &target).await
    }

    pub(crate) async fn migration_places_of(
        &self,
        scope: &OrganizationScope,
        source: &DestinationId,
        target: &DestinationId,
    ) -> Result<MigrationPlaces> {
        let organization = self.organization_record(scope).await?;
        let mut repositories = Vec::new();
        for (destination, repository) in self.named_repositories(scope).await? {
            if destination == *source {
                let place = async |id| self.place_at(scope, organization.clone(), id, repository).await;
                repositories.push(PlaceToMove { from: place(*source).await?, to: place(*target).await? });
            }
        }
        let two = self.two(scope, source, target).await?;
        let from = self.archive_place(scope, &two.source.value).await?;
        let to = self.archive_place(scope, &two.target.value).await?;
        Ok(MigrationPlaces { repositories, audit: (from, to, folder_of(scope.organization())) })
    }

    /// Stores it as it is, if nobody else has since it was read; says whether so.
    async fn write_begun(&self, worker: &Worker, begun: &mut BegunMigration) -> Result<bool> {
        if self.write_unrecorded(vec![begun.0.replace(None)?]).await? == Written::Outrun {
            return Ok(false);
        }
        self.is_ours(worker, begun).await
    }

    /// Whether the record is what we wrote last, or of the version that we read; takes its version if so.
    pub(crate) async fn is_ours(&self, worker: &Worker, begun: &mut BegunMigration) -> Result<bool> {
        let Some(now) = self.migration_record(worker.scope(), &begun.source()).await? else { return Ok(false) };
        let is_ours = now.value == begun.0.value || now.version == begun.0.version;
        if is_ours {
            begun.0.version = now.version;
        }
        Ok(is_ours)
    }
}

impl MigrationRecord {
    fn waits(&self, now: Timestamp) -> bool {
        self.shown.status.is_under_way() && self.held_until.is_none_or(|until| until <= now)
    }
}

fn error(message: &str, remedy: Option<&str>) -> MigrationError {
    let message = message.chars().take(MAX_MESSAGE).collect();
    MigrationError { message, remedy: remedy.unwrap_or(REMEDY).to_owned() }
}
