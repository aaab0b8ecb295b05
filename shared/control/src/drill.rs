//! Drills of a project: what is restored on a schedule, into what, and how the last one went.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::port::{ItemKey, ItemWrite};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::audit::Act;
use crate::control::Control;
use crate::database::Ability;
use crate::error::{Code, ControlError, Result};
use crate::id::{DestinationId, OrganizationId, ProjectId};
use crate::idempotency::Once;
use crate::job::{BackupJob, JobStatus};
use crate::limit;
use crate::pitr_record::{PitrRecord, whole_second};
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::Right;
use crate::schedule::{SHOWN_RUNS, Schedule, cron, utc};
use crate::tenant::{Caller, OrganizationScope};
use crate::work::OpenedPlace;

/// Into what a drill restores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum DrillScratch {
    /// An emulator that the server starts for it. On one machine, and for the organization of its operator only.
    Emulator {},
    /// A database of its own, which is empty between drills.
    Database {
        /// Of this connected project.
        #[serde(rename = "projectId")]
        project_id: ProjectId,
        /// Which of its databases.
        database: String,
    },
}

/// What is restored to see whether it can be, when, and into what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDrills {
    /// Five fields: minute, hour, day of month, month, day of week (0 is Sunday).
    #[schema(example = "0 4 * * 0")]
    pub cron_expression: String,
    /// An IANA time zone.
    #[serde(default = "utc")]
    #[schema(example = "Europe/Berlin", default = "UTC")]
    pub timezone: String,
    /// The newest backup of which database is restored; `(default)`, or the only one, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Into what.
    pub scratch: DrillScratch,
    /// About how many documents of each restore, chosen at random; 1000 where neither this nor `all` is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100_000)]
    pub documents: Option<u32>,
    /// Whether all documents are restored, and every byte of what is stored is read; not beside `documents`.
    #[serde(default)]
    #[schema(default = false)]
    pub all: bool,
    /// How many moments are put back too, where there are any: about half of them behind the backup, the others of all that are kept.
    #[serde(default = "one")]
    #[schema(maximum = 10, default = 1)]
    pub moments: u32,
    /// Whether it is done when it is due.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub enabled: bool,
}

const fn one() -> u32 {
    1
}

const fn yes() -> bool {
    true
}

/// How a drill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum DrillOutcome {
    /// All that was restored is as it should be.
    Passed,
    /// The backup cannot be restored, or something of it is other than it should be.
    Failed,
    /// There was not the time for it: a sample that is smaller may fit.
    OutOfTime,
    /// It could not be run, which says nothing of the backup.
    NotRun,
}

impl DrillOutcome {
    /// As records and events spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::OutOfTime => "outOfTime",
            Self::NotRun => "notRun",
        }
    }

    /// What a program tells it by, where it is none to be glad of.
    pub(crate) const fn code(self) -> Option<&'static str> {
        match self {
            Self::Passed => None,
            Self::Failed => Some("DRILL_FAILED"),
            Self::OutOfTime => Some("DRILL_OUT_OF_TIME"),
            Self::NotRun => Some("DRILL_NOT_RUN"),
        }
    }
}

/// How the last drill of a backup went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupDrill {
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How.
    pub outcome: DrillOutcome,
    /// Documents that were compared.
    pub documents: u64,
    /// Moments of its database that were put back too.
    pub moments: u64,
}

/// How the last drill of a project went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillRun {
    /// When it ended, how, and what it compared.
    #[serde(flatten)]
    pub drill: BackupDrill,
    /// The backup, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub backup_id: Option<JobId>,
    /// Names its report, where it made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub report_id: Option<JobId>,
    /// Why it did not pass, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The drills of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drills {
    /// Of which project.
    pub project_id: ProjectId,
    /// What is restored, when, and into what.
    pub config: NewDrills,
    /// Whether one runs just now, or was asked for and has not begun.
    pub running: bool,
    /// The next five times at which one is due; none while they are not enabled.
    #[schema(value_type = Vec<String>)]
    pub next_runs: Vec<Timestamp>,
    /// How the last one went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<DrillRun>,
    /// When its settings were first made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When they were last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// The drills of a project, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DrillRecord {
    pub(crate) organization_id: OrganizationId,
    pub(crate) project_id: ProjectId,
    /// With the database named.
    pub(crate) config: NewDrills,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    /// When the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) due: Option<Timestamp>,
    /// Whether somebody has asked for one.
    #[serde(default)]
    pub(crate) asked: bool,
    /// How often the one that is due could not be run.
    #[serde(default)]
    pub(crate) tries: u32,
    /// Whether the one that runs was told to stop.
    #[serde(default)]
    pub(crate) stopping: bool,
    /// Who drills now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<String>,
    /// From when on that one counts as dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_until: Option<Timestamp>,
    /// Where the repository lies in which it drills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_destination: Option<DestinationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<DrillRun>,
}

impl NewDrills {
    /// About how many documents are restored; nothing for all of them.
    pub(crate) fn sample(&self) -> Option<u32> {
        (!self.all).then(|| self.documents.unwrap_or(DOCUMENTS))
    }
}

/// How much older a backup of everything may be than the newest one to be drilled in its place: a week, and a day more.
const PREFERRED_SECONDS: i64 = 8 * 24 * 3600;
/// The documents of a sample where nothing is said.
const DOCUMENTS: u32 = 1000;
/// The most documents of a sample, and the most moments.
const MAX_DOCUMENTS: u32 = 100_000;
const MAX_MOMENTS: u32 = 10;
const NOUN: &str = "configuration of drills for this project: set one up first";

impl DrillRecord {
    /// Whether one is to be run when it is due.
    pub(crate) const fn is_on(&self) -> bool {
        self.config.enabled || self.asked
    }

    /// Whether somebody drills just now.
    pub(crate) fn is_held(&self, now: Timestamp) -> bool {
        self.holder.is_some() && self.held_until.is_some_and(|until| until > now)
    }

    /// Whether a drill runs that nobody has told to stop.
    fn goes_on(&self, now: Timestamp) -> bool {
        self.is_held(now) && self.is_on() && !self.stopping
    }

    /// Its place among those that are due; while somebody drills, from when on they count as dead.
    pub(crate) fn index(&self, scope: &OrganizationScope) -> Option<ItemKey> {
        let wakes = if self.holder.is_some() { self.held_until } else { self.due.filter(|_| self.is_on()) };
        wakes.map(|at| scope.due_drill(at, &self.project_id))
    }

    /// When the next one is due behind a time.
    pub(crate) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let cron = cron(&self.config.cron_expression, &self.config.timezone).ok()?;
        cron.next_after(now).filter(|_| self.config.enabled)
    }

    pub(crate) fn database(&self) -> &str {
        self.config.database.as_deref().unwrap_or(firebackup_model::database::DEFAULT_DATABASE)
    }

    fn shown(self, now: Timestamp) -> Drills {
        let cron = cron(&self.config.cron_expression, &self.config.timezone).ok();
        let cron = cron.filter(|_| self.config.enabled);
        Drills {
            running: self.asked || self.is_held(now),
            next_runs: cron.map_or_else(Vec::new, |cron| cron.next(now, SHOWN_RUNS)),
            project_id: self.project_id,
            config: self.config,
            last_run: self.last,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }

    /// What it is, as the audit log tells it.
    fn told(&self) -> Value {
        let mut told = json!(self.config);
        told["projectId"] = json!(self.project_id);
        told
    }
}

impl Control {
    /// Sets up the drills of a project, or sets them up anew.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the project; [`Unprocessable`](crate::Kind::Unprocessable) where a field may not be
    /// so, above all where the scratch database is one that is backed up; [`Conflict`](crate::Kind::Conflict) where a project is
    /// disconnected.
    pub async fn put_drills(&self, caller: &Caller, project: &ProjectId, mut new: NewDrills) -> Result<Drills> {
        caller.may(Right::Manage)?;
        let scope = caller.scope();
        let cron = cron(&new.cron_expression, &new.timezone)?;
        (new.cron_expression, new.timezone) = (cron.expression().to_owned(), cron.timezone().to_owned());
        check(&new)?;
        new.documents = new.sample();
        for _ in 0..MAX_ATTEMPTS {
            let now = self.now();
            let mut writes = self.checks_of_drills(scope, project, &mut new).await?;
            let before = self.load::<DrillRecord>(&scope.drills_key(project)).await?;
            let mut record = match &before {
                Some(before) => before.value.clone(),
                None => DrillRecord::new(scope, *project, new.clone(), now),
            };
            (record.config, record.updated_at) = (new.clone(), now);
            // whoever disables them has one stop that runs, too
            record.asked &= new.enabled;
            if !record.asked {
                (record.due, record.tries) = (record.next_due(now), 0);
            }
            let act = Act::new("drills.configured", project).with(record.told());
            let item = new_item(scope.drills_key(project), &record, record.index(scope))?;
            writes.push(match &before {
                None => ItemWrite::Create(item),
                Some(before) => ItemWrite::Replace(item, before.version),
            });
            if self.commit(caller.author(), act, writes).await? == Written::Yes {
                return Ok(record.shown(now));
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// The drills of a project.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) where they were never set up.
    pub async fn drills(&self, caller: &Caller, project: &ProjectId) -> Result<Drills> {
        caller.may(Right::Read)?;
        Ok(self.drill_record(caller.scope(), project).await?.value.shown(self.now()))
    }

    /// Removes the drills of a project. What they have found stays in the repository.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) where they were never set up; [`Conflict`](crate::Kind::Conflict) while one runs.
    pub async fn remove_drills(&self, caller: &Caller, project: &ProjectId) -> Result<()> {
        caller.may(Right::Manage)?;
        for _ in 0..MAX_ATTEMPTS {
            let record = self.drill_record(caller.scope(), project).await?;
            if record.value.is_held(self.now()) {
                let message = "a drill runs: disable them, and remove them once it has stopped";
                return Err(ControlError::conflict(Code::Conflict, message));
            }
            let act = Act::new("drills.removed", project).with(record.value.told());
            if self.commit(caller.author(), act, vec![record.delete()]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Asks for a drill now, whether they are enabled or not. Asking while one was asked for, or runs, asks for nothing more.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) where they were never set up; [`Conflict`](crate::Kind::Conflict) where the idempotency
    /// key was used for another request.
    pub async fn ask_for_drill(
        &self,
        caller: &Caller,
        project: &ProjectId,
        idempotency: Option<&str>,
    ) -> Result<Drills> {
        caller.may(Right::Manage)?;
        let scope = caller.scope();
        let once = Once::new(caller, idempotency, "ask_for_drill", project)?;
        for _ in 0..MAX_ATTEMPTS {
            let now = self.now();
            let is_done = self.thing_made_before(once.as_ref()).await?.is_some();
            let mut record = self.drill_record(scope, project).await?;
            let is_asked = record.value.asked || record.value.goes_on(now);
            if is_done || is_asked && once.is_none() {
                return Ok(record.value.shown(now));
            }
            if !is_asked {
                (record.value.asked, record.value.due, record.value.tries) = (true, Some(whole_second(now)), 0);
            }
            let mut writes = vec![record.replace(record.value.index(scope))?, self.goes_on(scope).await?];
            if let Some(once) = &once {
                writes.push(once.write(project, now)?);
            }
            let act = Act::new("drills.asked", project);
            if self.commit(caller.author(), act, writes).await? == Written::Yes {
                return Ok(record.value.shown(now));
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Where the newest backup of a project lies, to read what drills have found there, of whichever of its databases.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the project, or of a completed backup.
    pub async fn open_drills(&self, caller: &Caller, project: &ProjectId) -> Result<OpenedPlace> {
        caller.may(Right::Read)?;
        let scope = caller.scope();
        self.project_record(scope, project).await?;
        let database = self.load::<DrillRecord>(&scope.drills_key(project)).await?;
        let database = database.as_ref().map(|record| record.value.database());
        let backup = self.drilled_backup(scope, project, database).await?;
        let backup = backup.ok_or_else(|| ControlError::not_found("backup: nothing was drilled yet"))?;
        let organization = self.organization_record(scope).await?;
        let repository = (backup.repository(), backup.config.encrypt);
        self.place_at(scope, organization, backup.storage_destination_id, repository).await
    }

    /// The completed backup that is drilled: that of the newest moment, or one of everything that is not much older.
    pub(crate) async fn drilled_backup(
        &self,
        scope: &OrganizationScope,
        project: &ProjectId,
        database: Option<&str>,
    ) -> Result<Option<BackupJob>> {
        let is_meant = |backup: &BackupJob| {
            backup.job.status == JobStatus::Completed && database.is_none_or(|database| backup.database == database)
        };
        let time = |backup: &BackupJob| {
            let read_time = backup.job.result.as_ref().and_then(|result| result.read_time);
            read_time.unwrap_or(backup.job.created_at)
        };
        let backups = self.all::<BackupJob>(scope.backups_of_project(project)).await?;
        let backups: Vec<_> = backups.into_iter().map(|backup| backup.value).filter(is_meant).collect();
        let since = backups.iter().map(time).max().map(|newest| newest.plus_seconds(-PREFERRED_SECONDS));
        let is_preferred = |backup: &BackupJob| backup.config.is_everything() && Some(time(backup)) >= since;
        Ok(backups.into_iter().max_by_key(|backup| (is_preferred(backup), time(backup), backup.job.created_at)))
    }

    pub(crate) async fn drill_record(
        &self,
        scope: &OrganizationScope,
        project: &ProjectId,
    ) -> Result<Stored<DrillRecord>> {
        self.found(&scope.drills_key(project), NOUN).await
    }

    /// That what drills name is there, may be used so, and stays so until they are stored. Names the database where none is.
    async fn checks_of_drills(
        &self,
        scope: &OrganizationScope,
        id: &ProjectId,
        new: &mut NewDrills,
    ) -> Result<Vec<ItemWrite>> {
        let project = self.project_record(scope, id).await?;
        project.value.check_usable()?;
        new.database = Some(project.value.database(new.database.as_deref())?);
        let source = project.value.project.google_project.clone();
        let mut checks = vec![project.check(), self.goes_on(scope).await?];
        match &new.scratch {
            DrillScratch::Emulator {} => self.check_drill_emulator(scope).await?,
            DrillScratch::Database { project_id, database } => {
                let scratch = match project_id == id {
                    true => project,
                    false => {
                        let scratch = self.project_record(scope, project_id).await?;
                        checks.push(scratch.check());
                        scratch
                    }
                };
                scratch.value.check_usable()?;
                scratch
                    .value
                    .database(Some(database.as_str()))
                    .map_err(|_| no_scratch("the project has no such database"))?;
                scratch.value.check_able(database, Ability::Restore)?;
                let google_project = &scratch.value.project.google_project;
                if *google_project == source && new.database.as_ref() == Some(database) {
                    return Err(no_scratch("it is what is backed up"));
                }
                self.check_scratch(scope, google_project, database).await?;
            }
        }
        Ok(checks)
    }

    /// Goes on only if an organization may have emulators started.
    pub(crate) async fn check_drill_emulator(&self, scope: &OrganizationScope) -> Result<()> {
        let refused = || no_scratch("no emulator is started here for it: name a database");
        if !self.ports().settings.starts_emulators {
            return Err(refused());
        }
        self.check_emulators(scope).await.map_err(|_| refused())
    }

    /// Goes on only if nothing backs a database up, or ever has, or captures its changes: a drill deletes what it finds.
    pub(crate) async fn check_scratch(
        &self,
        scope: &OrganizationScope,
        google_project: &str,
        database: &str,
    ) -> Result<()> {
        for project in self.projects_named(scope, google_project).await? {
            let is_it = |found: Option<&str>| found.unwrap_or(firebackup_model::database::DEFAULT_DATABASE) == database;
            let pitrs = self.all::<PitrRecord>(scope.pitrs_of(&project)).await?;
            if pitrs.iter().any(|pitr| pitr.value.database == database) {
                return Err(no_scratch("its changes are captured, or were"));
            }
            let schedules = self.all::<Schedule>(scope.schedules()).await?.into_iter().map(|schedule| schedule.value);
            let mut schedules = schedules.filter(|schedule| schedule.project_id == project);
            if schedules.any(|schedule| is_it(schedule.backup_config.database.as_deref())) {
                return Err(no_scratch("a schedule backs it up"));
            }
            let backups = self.all::<BackupJob>(scope.backups_of_project(&project)).await?;
            if backups.iter().any(|backup| backup.value.database == database) {
                return Err(no_scratch("there are backups of it"));
            }
            let drills = self.load::<DrillRecord>(&scope.drills_key(&project)).await?;
            if drills.is_some_and(|drills| drills.value.database() == database) {
                return Err(no_scratch("drills restore backups of it"));
            }
        }
        Ok(())
    }

    /// Projects that drills use which are enabled or run, as those whose backups they are or whose database is their scratch.
    pub(crate) async fn drills_using(
        &self,
        scope: &OrganizationScope,
        project: Option<&ProjectId>,
    ) -> Result<Vec<String>> {
        let all = self.all::<DrillRecord>(scope.all_drills()).await?.into_iter().map(|record| record.value);
        let uses = |record: &DrillRecord| {
            let scratch = match &record.config.scratch {
                DrillScratch::Database { project_id, .. } => Some(project_id),
                DrillScratch::Emulator {} => None,
            };
            project.is_none_or(|project| *project == record.project_id || Some(project) == scratch)
        };
        let now = self.now();
        let using = all.filter(|record| (record.is_on() || record.is_held(now)) && uses(record));
        Ok(using.map(|record| format!("drills of {}", record.project_id)).collect())
    }

    /// Forgets the drills of a project that is gone. Whoever dies before leaves what nothing leads to.
    pub(crate) async fn forget_drills(&self, scope: &OrganizationScope, project: &ProjectId) {
        let forgotten = async {
            if let Some(record) = self.load::<DrillRecord>(&scope.drills_key(project)).await? {
                self.write_unrecorded(vec![record.delete()]).await?;
            }
            Ok::<_, ControlError>(())
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(project = %project, error = %error, "the drills of a project that is gone are still stored");
        }
    }
}

impl DrillRecord {
    fn new(scope: &OrganizationScope, project_id: ProjectId, config: NewDrills, now: Timestamp) -> Self {
        Self {
            organization_id: scope.organization(),
            project_id,
            config,
            created_at: now,
            updated_at: now,
            due: None,
            asked: false,
            tries: 0,
            stopping: false,
            holder: None,
            held_until: None,
            held_destination: None,
            last: None,
        }
    }
}

fn check(new: &NewDrills) -> Result<()> {
    limit::database(new.database.as_deref())?;
    if let DrillScratch::Database { database, .. } = &new.scratch {
        limit::database(Some(database.as_str()))?;
    }
    if new.all && new.documents.is_some() {
        return Err(ControlError::field("documents", "expected either `documents` or `all`"));
    }
    if new.documents.is_some_and(|documents| !(1..=MAX_DOCUMENTS).contains(&documents)) {
        return Err(ControlError::field("documents", format!("expected 1 to {MAX_DOCUMENTS}")));
    }
    if new.moments > MAX_MOMENTS {
        return Err(ControlError::field("moments", format!("expected 0 to {MAX_MOMENTS}")));
    }
    Ok(())
}

pub(crate) fn no_scratch(why: &str) -> ControlError {
    ControlError::field("scratch", format!("{why}; a drill needs a database of its own, which it empties"))
}
