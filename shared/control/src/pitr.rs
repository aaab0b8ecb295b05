//! Verbs on recovery to a point in time: whether and how changes of a database are captured.

use firebackup_model::port::ItemWrite;
use serde::{Deserialize, Serialize};

use crate::audit::Act;
use crate::backup::{BackupConfig, Wanted};
use crate::control::Control;
use crate::database::Ability;
use crate::destination::DestinationRecord;
use crate::error::{Code, ControlError, Result};
use crate::event_push::{PushConfig, PushOwner, PushRecord};
use crate::id::{DestinationId, PitrId, ProjectId};
use crate::item_keys;
use crate::job::{BackupJob, Job, JobStatus};
use crate::limit;
use crate::pitr_record::{Course, Pitr, PitrRecord, whole_second};
use crate::project::ProjectRecord;
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item, present};
use crate::role::Right;
use crate::tenant::{Author, Caller, OrganizationScope};

/// The longest for which moments may be kept.
pub const LONGEST_RETENTION_DAYS: u32 = 90;

/// How changes are captured and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PitrConfig {
    /// For how many days every captured moment is kept.
    #[schema(minimum = 1, maximum = 90, default = 7)]
    pub retention_days: u32,
    /// How often changes are captured.
    #[schema(minimum = 1, maximum = 60, default = 1)]
    pub change_window_minutes: u32,
    /// Once the backup on top of which changes are captured is so many days old, they are merged with it into a new one by
    /// themselves; 0 for never.
    #[schema(maximum = 365, default = 7)]
    pub merge_after_days: u32,
    /// Where they are kept; the default destination of the time it is enabled where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_destination_id: Option<DestinationId>,
    /// Whether they are encrypted.
    #[schema(default = true)]
    pub encrypt: bool,
    /// Who may post events of changes; nobody where that is not said. What events tell fills the time between two moments.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub push: Option<PushConfig>,
}

impl Default for PitrConfig {
    fn default() -> Self {
        Self {
            retention_days: 7,
            change_window_minutes: 1,
            merge_after_days: MERGE_AFTER_DAYS,
            storage_destination_id: None,
            encrypt: true,
            push: None,
        }
    }
}

/// Recovery to a point in time that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewPitr {
    /// Of which project.
    pub project_id: ProjectId,
    /// The database; `(default)` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// How changes are captured and kept.
    #[serde(default)]
    pub config: PitrConfig,
}

/// What is to be changed; what is left out stays. To keep changes elsewhere, disable it and enable it again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PitrChange {
    /// For how many days every captured moment is kept.
    #[schema(minimum = 1, maximum = 90)]
    pub retention_days: Option<u32>,
    /// How often changes are captured.
    #[schema(minimum = 1, maximum = 60)]
    pub change_window_minutes: Option<u32>,
    /// How old the backup may be on top of which they are captured, before both are merged; 0 for any age.
    #[schema(maximum = 365)]
    pub merge_after_days: Option<u32>,
    /// Who may post events of changes, replaced as a whole; `null` for nobody.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<PushConfig>)]
    pub push: Option<Option<PushConfig>>,
}

/// After how many days captured changes are merged where nothing is said, and after how many at most.
pub(crate) const MERGE_AFTER_DAYS: u32 = 7;
const LONGEST_MERGE_DAYS: u32 = 365;

fn check(retention_days: Option<u32>, change_window_minutes: Option<u32>, merge_after_days: Option<u32>) -> Result<()> {
    retention_days.map_or(Ok(()), |days| limit::between("retentionDays", days, 1, LONGEST_RETENTION_DAYS))?;
    change_window_minutes.map_or(Ok(()), |minutes| limit::between("changeWindowMinutes", minutes, 1, 60))?;
    merge_after_days.map_or(Ok(()), |days| limit::between("mergeAfterDays", days, 0, LONGEST_MERGE_DAYS))
}

/// What captures stand on, as it was read.
struct Ground {
    project: Stored<ProjectRecord>,
    database: String,
    destination: Stored<DestinationRecord>,
    before: Option<Stored<PitrRecord>>,
}

impl Control {
    /// Has the changes of a database captured from now on. Where its repository has no backup of the whole database that this
    /// installation made, one is begun with it. Enabling it again as it is changes nothing.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the project or destination; [`Unprocessable`](crate::Kind::Unprocessable) where
    /// a field may not be so; [`PitrUnavailable`](Code::PitrUnavailable) where nobody captures here;
    /// [`Conflict`](crate::Kind::Conflict) where it is enabled in another way, the project is disconnected, or the database
    /// tells of no changes; [`TooMany`](crate::Kind::TooMany).
    pub async fn enable_pitr(&self, caller: &Caller, mut new: NewPitr) -> Result<Pitr> {
        caller.may(Right::Manage)?;
        self.check_captures()?;
        limit::database(new.database.as_deref())?;
        let PitrConfig { retention_days, change_window_minutes, merge_after_days, .. } = new.config;
        check(Some(retention_days), Some(change_window_minutes), Some(merge_after_days))?;
        new.config.push = new.config.push.map(|push| self.checked_push(&new.project_id, push)).transpose()?;
        for _ in 0..MAX_ATTEMPTS {
            let ground = self.ground(caller.scope(), &new).await?;
            if let Some(before) = ground.before.as_ref().filter(|before| before.value.enabled) {
                return self.as_it_is(&before.value, &new, &ground);
            }
            let record = self.enabled(caller.scope(), &new, &ground);
            if let Some(pitr) = self.try_enable(caller.author(), record, ground).await? {
                return Ok(pitr);
            }
        }
        Err(ControlError::concurrent_change())
    }

    fn check_captures(&self) -> Result<()> {
        if self.ports().settings.captures_changes {
            return Ok(());
        }
        let message = "this installation captures no changes: `firebackup pitr start` does, into the same repository";
        Err(ControlError::conflict(Code::PitrUnavailable, message))
    }

    async fn ground(&self, scope: &OrganizationScope, new: &NewPitr) -> Result<Ground> {
        let project = self.project_record(scope, &new.project_id).await?;
        project.value.check_usable()?;
        let database = project.value.database(new.database.as_deref())?;
        project.value.check_able(&database, Ability::Backup)?;
        project.value.check_able(&database, Ability::Capture)?;
        let destination = self.meant_destination(scope, new.config.storage_destination_id).await?;
        let before = self.load(&scope.pitr_key(&new.project_id, &database)).await?;
        Ok(Ground { project, database, destination, before })
    }

    fn as_it_is(&self, before: &PitrRecord, new: &NewPitr, ground: &Ground) -> Result<Pitr> {
        let wanted =
            PitrConfig { storage_destination_id: Some(ground.destination.value.destination.id), ..new.config.clone() };
        let shown = before.shown(self.now());
        if shown.config == wanted {
            return Ok(shown);
        }
        let message = "it is enabled already, in another way: change its config, or disable it first";
        Err(ControlError::conflict(Code::Conflict, message))
    }

    fn enabled(&self, scope: &OrganizationScope, new: &NewPitr, ground: &Ground) -> PitrRecord {
        let now = self.now();
        let destination = ground.destination.value.destination.id;
        let before = ground.before.as_ref().map(|before| &before.value);
        // elsewhere nothing is known of what was captured
        let goes_on = before
            .filter(|before| before.storage_destination_id == destination && before.encrypt == new.config.encrypt);
        let course = goes_on.map_or_else(Course::default, |before| before.course.begun_anew());
        PitrRecord {
            id: before.map_or_else(|| PitrId::new(now, self.ports().random.as_ref()), |before| before.id),
            organization_id: scope.organization(),
            project_id: new.project_id,
            google_project: ground.project.value.project.google_project.clone(),
            database: ground.database.clone(),
            storage_destination_id: destination,
            encrypt: new.config.encrypt,
            retention_days: new.config.retention_days,
            change_window_minutes: new.config.change_window_minutes,
            merge_after_days: new.config.merge_after_days,
            enabled: true,
            paused: false,
            initial_backup_id: None,
            enabled_at: now,
            resumed_at: None,
            updated_at: now,
            due: whole_second(now),
            push: new
                .config
                .push
                .clone()
                .map(|push| PushRecord::changed(before.and_then(|before| before.push.as_ref()), push)),
            folds_until: before.and_then(|before| before.folds_until),
            holder: None,
            course,
        }
    }

    /// Stores it, and with it the backup to begin from where there is none; nothing if others were faster.
    async fn try_enable(&self, author: &Author, mut record: PitrRecord, ground: Ground) -> Result<Option<Pitr>> {
        let scope = author.scope();
        let backup = match self.has_whole_backup(scope, &record).await? {
            true => None,
            false => {
                self.check_active(scope).await?;
                Some(self.backup_to_begin_from(author, &record).await?)
            }
        };
        record.initial_backup_id = backup.as_ref().map(|(backup, _)| backup.job.id.clone());
        let item = new_item(scope.pitr_key(&record.project_id, &record.database), &record, record.index(scope))?;
        let write = match &ground.before {
            None => ItemWrite::Create(item),
            Some(before) => ItemWrite::Replace(item, before.version),
        };
        let owner = self.push_owner_write(scope, &record).await?;
        let act = Act::new("pitr.enabled", record.id).with(record.told());
        let written = match backup {
            None => {
                let checks = [ground.project.check(), ground.destination.check(), self.goes_on(scope).await?];
                let writes = [write].into_iter().chain(owner).chain(checks);
                self.commit(author, act, writes.collect()).await?
            }
            Some((backup, checks)) => {
                let entry = self.new_entry(author, act);
                let with = [write, entry.create(scope)?].into_iter().chain(owner).chain(checks).collect();
                let written = self.store_backup(author, backup, with).await?;
                if written == Written::Yes {
                    self.publish_done(scope, &entry).await;
                }
                written
            }
        };
        Ok((written == Written::Yes).then(|| record.shown(self.now())))
    }

    /// A backup of the whole database, which is about to be stored, and what must hold until then.
    pub(crate) async fn backup_to_begin_from(
        &self,
        author: &Author,
        record: &PitrRecord,
    ) -> Result<(BackupJob, [ItemWrite; 2])> {
        let (database, encrypt) = (Some(record.database.clone()), record.encrypt);
        let config = BackupConfig { database, encrypt, ..BackupConfig::default() };
        let wanted = Wanted {
            project: record.project_id,
            destination: Some(record.storage_destination_id),
            schedule: None,
            config: &config,
            created_by: author.actor().to_string(),
        };
        self.new_backup(author, &wanted).await
    }

    /// Stores a backup with other writes, and asks for its start.
    pub(crate) async fn store_backup(
        &self,
        author: &Author,
        backup: BackupJob,
        with: Vec<ItemWrite>,
    ) -> Result<Written> {
        let id = backup.job.id.clone();
        let written = self.store_job(author, &Job::Backup(Box::new(backup)), with, None).await?;
        if written == Written::Yes {
            self.ask_to_start(author.scope(), &id).await;
        }
        Ok(written)
    }

    /// Whether the catalog knows of a backup of the whole database in its repository.
    async fn has_whole_backup(&self, scope: &OrganizationScope, record: &PitrRecord) -> Result<bool> {
        let backups = self.all::<BackupJob>(scope.backups_of_project(&record.project_id)).await?;
        Ok(backups.iter().any(|backup| record.can_begin_from(&backup.value)))
    }

    /// Has changes of a database not captured any more. What was captured is kept for as long as moments are kept.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) where it was never enabled.
    pub async fn disable_pitr(&self, caller: &Caller, project: &ProjectId, database: Option<&str>) -> Result<Pitr> {
        let disable = |pitr: &mut PitrRecord| {
            (pitr.enabled, pitr.paused, pitr.holder) = (false, false, None);
            Ok(())
        };
        self.change_pitr(caller, (project, database), "pitr.disabled", disable).await
    }

    /// Has changes not captured until it is resumed.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) where it was never enabled; [`Conflict`](crate::Kind::Conflict) where it is
    /// disabled.
    pub async fn pause_pitr(&self, caller: &Caller, project: &ProjectId, database: Option<&str>) -> Result<Pitr> {
        let pause = |pitr: &mut PitrRecord| {
            pitr.check_enabled()?;
            (pitr.paused, pitr.holder) = (true, None);
            Ok(())
        };
        self.change_pitr(caller, (project, database), "pitr.paused", pause).await
    }

    /// Has changes captured again, from where it was paused: as far as the database still tells them, nothing is lost.
    ///
    /// # Errors
    /// As [`Self::pause_pitr`], and [`PitrUnavailable`](Code::PitrUnavailable).
    pub async fn resume_pitr(&self, caller: &Caller, project: &ProjectId, database: Option<&str>) -> Result<Pitr> {
        caller.may(Right::Manage)?;
        self.check_captures()?;
        let now = self.now();
        let resume = |pitr: &mut PitrRecord| {
            pitr.check_enabled()?;
            if pitr.paused {
                pitr.paused = false;
                (pitr.resumed_at, pitr.due) = (Some(now), whole_second(now));
                pitr.course = pitr.course.begun_anew();
            }
            Ok(())
        };
        self.change_pitr(caller, (project, database), "pitr.resumed", resume).await
    }

    /// Changes how changes are captured and kept.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) where it was never enabled; [`Unprocessable`](crate::Kind::Unprocessable) where a
    /// field may not be so.
    pub async fn update_pitr(
        &self,
        caller: &Caller,
        project: &ProjectId,
        database: Option<&str>,
        change: &PitrChange,
    ) -> Result<Pitr> {
        caller.may(Right::Manage)?;
        check(change.retention_days, change.change_window_minutes, change.merge_after_days)?;
        let push = match &change.push {
            Some(Some(push)) => Some(Some(self.checked_push(project, push.clone())?)),
            asked => asked.clone(),
        };
        let update = |pitr: &mut PitrRecord| {
            if let Some(push) = &push {
                let before = pitr.push.take();
                pitr.push = push.clone().map(|push| PushRecord::changed(before.as_ref(), push));
            }
            pitr.retention_days = change.retention_days.unwrap_or(pitr.retention_days);
            pitr.change_window_minutes = change.change_window_minutes.unwrap_or(pitr.change_window_minutes);
            pitr.merge_after_days = change.merge_after_days.unwrap_or(pitr.merge_after_days);
            Ok(())
        };
        self.change_pitr(caller, (project, database), "pitr.updated", update).await
    }

    /// How changes of a database are captured, and how that stands.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) where that was never enabled; [`Unprocessable`](crate::Kind::Unprocessable) where
    /// it is of several databases, and none is named.
    pub async fn pitr(&self, caller: &Caller, project: &ProjectId, database: Option<&str>) -> Result<Pitr> {
        caller.may(Right::Read)?;
        Ok(self.pitr_record(caller.scope(), project, database).await?.value.shown(self.now()))
    }

    /// Changes it; what is that way already is left as it is, and no entry tells of it.
    async fn change_pitr(
        &self,
        caller: &Caller,
        (project, database): (&ProjectId, Option<&str>),
        action: &str,
        change: impl Fn(&mut PitrRecord) -> Result<()>,
    ) -> Result<Pitr> {
        caller.may(Right::Manage)?;
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.pitr_record(caller.scope(), project, database).await?;
            let before = record.value.clone();
            change(&mut record.value)?;
            if record.value == before {
                return Ok(before.shown(self.now()));
            }
            record.value.updated_at = self.now();
            let act = Act::new(action, record.value.id).with(record.value.told());
            let mut writes =
                vec![record.replace(record.value.index(caller.scope()))?, self.goes_on(caller.scope()).await?];
            writes.extend(self.push_owner_write(caller.scope(), &record.value).await?);
            if self.commit(caller.author(), act, writes).await? == Written::Yes {
                return Ok(record.value.shown(self.now()));
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// The recovery of a database: the one named, else `(default)`, else the only one that there is.
    pub(crate) async fn pitr_record(
        &self,
        scope: &OrganizationScope,
        project: &ProjectId,
        database: Option<&str>,
    ) -> Result<Stored<PitrRecord>> {
        limit::database(database)?;
        let mut all = self.all::<PitrRecord>(scope.pitrs_of(project)).await?;
        let is_meant = |record: &Stored<PitrRecord>| match database {
            Some(named) => record.value.database == named,
            None => record.value.database == firebackup_model::database::DEFAULT_DATABASE,
        };
        match all.iter().position(is_meant) {
            Some(place) => Ok(all.swap_remove(place)),
            None if database.is_none() && all.len() > 1 => {
                Err(ControlError::field("database", "changes of several databases are captured: name one"))
            }
            None if database.is_none() => all.pop().ok_or_else(|| ControlError::not_found(NOUN)),
            None => Err(ControlError::not_found(NOUN)),
        }
    }

    /// Those that are enabled and fit, as ids.
    pub(crate) async fn pitrs_on(
        &self,
        scope: &OrganizationScope,
        fits: impl Fn(&PitrRecord) -> bool,
    ) -> Result<Vec<String>> {
        let all = self.all::<PitrRecord>(scope.pitrs()).await?.into_iter().map(|record| record.value);
        Ok(all.filter(|pitr| pitr.enabled && fits(pitr)).map(|pitr| pitr.id.to_string()).collect())
    }

    /// Forgets those of a project that is gone. Whoever dies before leaves what nothing leads to.
    pub(crate) async fn forget_pitrs(&self, scope: &OrganizationScope, project: &ProjectId) {
        let forgotten = async {
            if let Some(owner) = self.load::<PushOwner>(&item_keys::push_owner(project)).await? {
                self.write_unrecorded(vec![owner.delete()]).await?;
            }
            for record in self.all::<PitrRecord>(scope.pitrs_of(project)).await? {
                if let Some(buffer) = &self.ports().buffer {
                    buffer.forget(&record.value.buffer()).await?;
                }
                self.write_unrecorded(vec![record.delete()]).await?;
            }
            Ok::<_, ControlError>(())
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(project = %project, error = %error, "what was captured of a project that is gone is still told of");
        }
    }
}

/// What is not there, for people.
const NOUN: &str = "recovery to a point in time: enable it first";

impl PitrRecord {
    fn check_enabled(&self) -> Result<()> {
        match self.enabled {
            true => Ok(()),
            false => Err(ControlError::conflict(Code::Conflict, "it is disabled: enable it again")),
        }
    }

    /// Whether changes could be captured behind this backup.
    pub(crate) fn can_begin_from(&self, backup: &BackupJob) -> bool {
        backup.job.status == JobStatus::Completed
            && backup.builds_on().is_none()
            && backup.database == self.database
            && backup.storage_destination_id == self.storage_destination_id
            && (backup.repository(), backup.config.encrypt) == self.repository()
            && backup.config.is_everything()
    }
}

impl Course {
    /// The same without what has gone wrong: it is tried anew, and told anew.
    fn begun_anew(&self) -> Self {
        Self {
            failures: 0,
            is_fatal: false,
            trouble: None,
            trouble_at: None,
            is_spent: false,
            is_told_ill: false,
            ..self.clone()
        }
    }
}
