//! Everything that is kept in a destination, moved to another: a verb asks for it, maintenance does it, in two phases.
//!
//! | phase | what is done | the source meanwhile |
//! |---|---|---|
//! | `copying` | keys, descriptions, sealed months of the audit log and runs are copied and compared | as ever, but nothing is deleted in it, nor in the target |
//! | `switching` | jobs that use it are waited for, what came since is copied, then manifests; then records name the target | nothing new begins in it ([`moving`](crate::moving)) |
//!
//! Until the last manifest of a repository is in the target no record names it, so that each backup is at any moment where its
//! record says. Whatever ends it before leaves the source as it was, and what was copied where it is: the next try compares
//! it, and goes on.
//!
//! A backup that was to be deleted before is not copied: its record goes to the target, where the next round of retention finds
//! it deleted. Whoever was deleting it when the migration began marked it first, so that it cannot come back.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::port::ItemWrite;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use crate::audit::Act;
use crate::control::Control;
use crate::destination::{Destination, DestinationRecord};
use crate::error::{Code, ControlError, Result};
use crate::id::DestinationId;
use crate::idempotency::Once;
use crate::migration_run::{MigrationPlaces, MigrationPosition};
use crate::moving::Moving;
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::Right;
use crate::tenant::{Author, Caller, OrganizationScope};

/// Where everything in a destination is to be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMigration {
    /// To which destination of the organization.
    pub target_destination_id: DestinationId,
    /// Whether it is only said what would be moved.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub dry_run: bool,
}

const fn yes() -> bool {
    true
}

/// How a migration stands. Its end is for ever; another one may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MigrationStatus {
    /// Objects are copied.
    Copying,
    /// Jobs are waited for, what came since is copied, records are switched.
    Switching,
    /// Everything is in the target.
    Completed,
    /// It has ended without; the source is as it was.
    Failed,
    /// It was ended on request; the source is as it was.
    Cancelled,
}

impl MigrationStatus {
    /// Whether it goes on.
    #[must_use]
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Copying | Self::Switching)
    }
}

/// How everything in a destination is moved to another, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    /// To which.
    pub target_destination_id: DestinationId,
    /// How it stands.
    pub status: MigrationStatus,
    /// Objects that are to be copied; 0 until they were counted. Jobs that go on add to them.
    pub objects: u64,
    /// Those that are in the target, and were compared.
    pub objects_done: u64,
    /// Bytes that are to be copied.
    pub bytes: u64,
    /// Those that are in the target, and were compared.
    pub bytes_done: u64,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// What keeps it from going on, or kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<MigrationError>,
}

/// What is in the way of a migration, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationError {
    /// What, for people.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// What a migration would do.
#[derive(Debug, Clone)]
pub struct MigrationPlan {
    /// What would name the target.
    pub uses: MigrationUses,
    /// Jobs that have not ended, for which it would wait.
    pub waits_for: Vec<JobId>,
    /// What is in its way.
    pub obstacles: Vec<MigrationObstacle>,
    /// What would be copied.
    pub places: MigrationPlaces,
}

/// What uses a destination, and would name another after a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationUses {
    /// Backups, however they ended.
    pub backups: u64,
    /// Restores, which can be taken back as long as what they replaced is kept.
    pub restores: u64,
    /// Schedules that name it.
    pub schedules: u64,
    /// Recoveries to a point in time, enabled or not.
    #[serde(default)]
    pub pitr: u64,
    /// Sealed parts of the audit log.
    pub audit_parts: u64,
    /// Whether it is the default.
    pub is_default: bool,
}

/// What a migration would be refused for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationObstacle {
    /// A code such as `CONFLICT`.
    #[schema(value_type = String)]
    pub code: Code,
    /// What, for people.
    pub message: String,
}

/// A migration, as it is stored under the id of its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MigrationRecord {
    pub(crate) source: DestinationId,
    pub(crate) shown: Migration,
    /// Up to where everything of this phase was copied and compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<MigrationPosition>,
    /// Since when objects are copied: of those that were there before, each was compared by the end of the copying.
    pub(crate) copied_since: Timestamp,
    /// Whether that end was come to.
    #[serde(default)]
    pub(crate) is_copied: bool,
    /// Before this nothing is switched.
    pub(crate) not_before: Timestamp,
    /// How often it was begun without coming further, and until when it is left to whoever began it.
    #[serde(default)]
    pub(crate) attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_until: Option<Timestamp>,
}

/// How long whatever deletes may go on that began before the migration did: longer than a function may take. Only what a try
/// before has copied can be deleted by it.
const DELETION_SECONDS: i64 = 20 * 60;

/// The two destinations of a migration.
pub(crate) struct Two {
    pub(crate) source: Stored<DestinationRecord>,
    pub(crate) target: Stored<DestinationRecord>,
}

impl MigrationRecord {
    /// One that was not asked for before, or goes on where the one before came to.
    fn new(source: DestinationId, target: DestinationId, before: Option<Self>, now: Timestamp) -> Self {
        let fresh = Migration {
            target_destination_id: target,
            status: MigrationStatus::Copying,
            objects: 0,
            objects_done: 0,
            bytes: 0,
            bytes_done: 0,
            started_at: now,
            ended_at: None,
            error: None,
        };
        match before {
            Some(before) if before.goes_on_to(target) => Self {
                shown: Migration { started_at: now, status: fresh.status, ended_at: None, error: None, ..before.shown },
                not_before: now.plus_seconds(DELETION_SECONDS),
                attempts: 0,
                held_until: None,
                ..before
            },
            _ => Self {
                source,
                shown: fresh,
                position: None,
                copied_since: now,
                is_copied: false,
                not_before: now,
                attempts: 0,
                held_until: None,
            },
        }
    }

    fn goes_on_to(&self, target: DestinationId) -> bool {
        self.shown.target_destination_id == target && self.shown.status != MigrationStatus::Completed
    }
}

impl Control {
    /// Asks for everything in a destination to be moved to another. Asking for the same while it goes on is asking once; one
    /// that failed or was ended goes on where it was.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of either; [`Unprocessable`](crate::Kind::Unprocessable) where both are one place;
    /// [`Conflict`](crate::Kind::Conflict) where either takes part in a migration, or is being removed, or the target does not
    /// allow what is needed; [`Upstream`](crate::Kind::Upstream) where that cannot be reached.
    pub async fn request_migration(
        &self,
        caller: &Caller,
        id: &DestinationId,
        new: &NewMigration,
        idempotency: Option<&str>,
    ) -> Result<Migration> {
        caller.may(Right::Manage)?;
        let (scope, target) = (caller.scope(), new.target_destination_id);
        let once = Once::new(caller, idempotency, "migrate_destination", &(id, new))?;
        if self.is_asked_for(scope, id, target, once.as_ref()).await?.is_none() {
            self.check_target(scope, id, &target).await?;
        }
        for _ in 0..MAX_ATTEMPTS {
            if let Some(before) = self.is_asked_for(scope, id, target, once.as_ref()).await? {
                return Ok(before.shown);
            }
            let before = self.migration_record(scope, id).await?;
            let two = self.two(scope, id, &target).await?;
            two.check()?;
            let record = MigrationRecord::new(*id, target, before.as_ref().map(|one| one.value.clone()), self.now());
            let mut writes = two.begin()?;
            writes.push(match before {
                Some(before) => Stored { value: record.clone(), ..before }.replace(None)?,
                None => ItemWrite::Create(new_item(scope.migration_key(id), &record, None)?),
            });
            writes.push(self.goes_on(scope).await?);
            if let Some(once) = &once {
                writes.push(once.write(id, self.now())?);
            }
            let act = Act::new("storage.migration_started", id).with(json!({ "targetDestinationId": target }));
            if self.commit(caller.author(), act, writes).await? == Written::Yes {
                return Ok(record.shown);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// What a migration would do, and what is in its way. Nothing is stored.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of either; [`Unprocessable`](crate::Kind::Unprocessable) where both are one place.
    pub async fn plan_migration(
        &self,
        caller: &Caller,
        id: &DestinationId,
        new: &NewMigration,
    ) -> Result<MigrationPlan> {
        caller.may(Right::Manage)?;
        let (scope, target) = (caller.scope(), &new.target_destination_id);
        let two = self.two(scope, id, target).await?;
        two.check_places()?;
        let found = [two.check(), self.check_target(scope, id, target).await];
        let obstacle = |error: ControlError| MigrationObstacle { code: error.code, message: error.message };
        let jobs = self.active_jobs(scope).await?.into_iter().filter(|job| job.destination == *id);
        Ok(MigrationPlan {
            uses: self.migration_uses(scope, id).await?,
            waits_for: jobs.map(|job| job.job).collect(),
            obstacles: found.into_iter().filter_map(Result::err).map(obstacle).collect(),
            places: self.migration_places_of(scope, id, target).await?,
        })
    }

    /// Ends a migration while objects are copied. Doing it twice is doing it once.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the source; [`JobState`](Code::JobState) where it is switching, has ended
    /// otherwise, or there never was one.
    pub async fn cancel_migration(&self, caller: &Caller, id: &DestinationId) -> Result<Migration> {
        caller.may(Right::Manage)?;
        self.destination_record(caller.scope(), id).await?;
        for _ in 0..MAX_ATTEMPTS {
            let record = self.migration_record(caller.scope(), id).await?;
            let nothing =
                || ControlError::conflict(Code::JobState, "the destination was never moved: there is nothing to stop");
            let mut record = record.ok_or_else(nothing)?;
            match record.value.shown.status {
                MigrationStatus::Cancelled => return Ok(record.value.shown),
                MigrationStatus::Copying => {}
                status => return Err(wrong_state(status)),
            }
            record.value.end(MigrationStatus::Cancelled, None, self.now());
            if self.end_migration(caller.author(), &record, "storage.migration_cancelled").await? == Written::Yes {
                return Ok(record.value.shown);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// The migration that the same request has asked for, or one that does the same and goes on.
    async fn is_asked_for(
        &self,
        scope: &OrganizationScope,
        id: &DestinationId,
        target: DestinationId,
        once: Option<&Once>,
    ) -> Result<Option<MigrationRecord>> {
        let is_repeated = self.thing_made_before(once).await?.is_some();
        let record = self.migration_record(scope, id).await?.map(|record| record.value);
        Ok(record.filter(|record| is_repeated || record.is_on_its_way(target)))
    }

    pub(crate) async fn migration_record(
        &self,
        scope: &OrganizationScope,
        id: &DestinationId,
    ) -> Result<Option<Stored<MigrationRecord>>> {
        self.load(&scope.migration_key(id)).await
    }

    /// Stores the end of a migration, and lets both destinations be what they were before.
    pub(crate) async fn end_migration(
        &self,
        author: &Author,
        record: &Stored<MigrationRecord>,
        act: &str,
    ) -> Result<Written> {
        let migration = &record.value.shown;
        let mut two = self.two(author.scope(), &record.value.source, &migration.target_destination_id).await?;
        (two.source.value.moving, two.target.value.moving) = (None, None);
        let act = Act::new(act, record.value.source).with(json!({
            "targetDestinationId": migration.target_destination_id,
            "objects": migration.objects_done, "bytes": migration.bytes_done,
            "error": migration.error.as_ref().map(|error| &error.message),
        }));
        let writes = vec![two.source.replace(None)?, two.target.replace(None)?, record.replace(None)?];
        self.commit(author, act, writes).await
    }

    pub(crate) async fn two(
        &self,
        scope: &OrganizationScope,
        source: &DestinationId,
        target: &DestinationId,
    ) -> Result<Two> {
        let (source, target) =
            (self.destination_record(scope, source).await?, self.destination_record(scope, target).await?);
        Ok(Two { source, target })
    }

    /// That the target is another place, and allows what is needed.
    async fn check_target(&self, scope: &OrganizationScope, id: &DestinationId, target: &DestinationId) -> Result<()> {
        let two = self.two(scope, id, target).await?;
        two.check_places()?;
        let organization = self.organization_record(scope).await?;
        let access = self.destination_access(&organization, &two.target.value).await?;
        let missing = self.ports().probes.destination(&access).await?.missing;
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!("the target does not allow to {}", missing.join(", "));
        Err(ControlError::conflict(Code::Conflict, message).with_details(json!({ "missing": missing })))
    }
}

fn wrong_state(status: MigrationStatus) -> ControlError {
    let message = match status {
        MigrationStatus::Switching => "the migration is switching, and comes to its end by itself",
        _ => "the migration has ended",
    };
    ControlError::conflict(Code::JobState, message)
}

impl MigrationRecord {
    fn is_on_its_way(&self, target: DestinationId) -> bool {
        self.shown.status.is_under_way() && self.shown.target_destination_id == target
    }

    pub(crate) fn end(&mut self, status: MigrationStatus, error: Option<MigrationError>, now: Timestamp) {
        self.shown.status = status;
        self.shown.ended_at = Some(now);
        self.shown.error = error;
        self.held_until = None;
    }
}

impl Two {
    /// That they are not one place: whoever removed what is left in the source would remove what was moved.
    fn check_places(&self) -> Result<()> {
        let (source, target) = (&self.source.value.destination, &self.target.value.destination);
        match source.id == target.id || lies_in(source, target) || lies_in(target, source) {
            true => Err(ControlError::field(
                "targetDestinationId",
                "expected another place, not below the source nor above",
            )),
            false => Ok(()),
        }
    }

    /// That something new may begin in both, and that neither takes part in a migration.
    fn check(&self) -> Result<()> {
        for record in [&self.source.value, &self.target.value] {
            record.check_usable()?;
            record.check_settled()?;
        }
        Ok(())
    }

    fn begin(mut self) -> Result<Vec<ItemWrite>> {
        let [source, target] = [&self.source, &self.target].map(|record| record.value.destination.id);
        self.source.value.moving = Some(Moving::Out { to: target, switching: false });
        self.target.value.moving = Some(Moving::In { from: source });
        Ok(vec![self.source.replace(None)?, self.target.replace(None)?])
    }
}

/// Whether a destination is another, or a folder in it, by their names.
fn lies_in(inner: &Destination, outer: &Destination) -> bool {
    let [Ok(inner_url), Ok(outer_url)] = [&inner.url, &outer.url].map(|url| Url::parse(url)) else { return false };
    let parts =
        |url: &Url| url.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    inner.endpoint.as_deref().map(bare) == outer.endpoint.as_deref().map(bare)
        && (inner_url.scheme(), inner_url.host_str()) == (outer_url.scheme(), outer_url.host_str())
        && parts(&inner_url).starts_with(&parts(&outer_url))
}

fn bare(endpoint: &str) -> String {
    endpoint.trim_end_matches('/').to_ascii_lowercase()
}
