//! Verbs on schedules.

use firebackup_model::cron::{Cron, CronError};
use firebackup_model::port::{ItemWrite, ScheduleRule};
use firebackup_model::{ErrorKind, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::audit::Act;
use crate::backup::{BackupConfig, Wanted};
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::gfs::Gfs;
use crate::id::{DestinationId, OrganizationId, ProjectId, ScheduleId};
use crate::idempotency::Once;
use crate::job::BackupJob;
use crate::limit;
use crate::page::{Page, Paged};
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::retention::{Retention, check_kept};
use crate::role::Right;
use crate::room::Kept;
use crate::tenant::{Author, Caller, OrganizationScope, Worker};

/// A schedule that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSchedule {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// Which project is backed up.
    pub project_id: ProjectId,
    /// Five fields: minute, hour, day of month, month, day of week (0 is Sunday).
    #[schema(example = "0 3 * * *")]
    pub cron_expression: String,
    /// An IANA time zone.
    #[serde(default = "utc")]
    #[schema(example = "Europe/Berlin", default = "UTC")]
    pub timezone: String,
    /// What is backed up, and how.
    #[serde(default, deserialize_with = "crate::backup::strict")]
    pub backup_config: BackupConfig,
    /// Where backups are kept; the default destination of the time they are made where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_destination_id: Option<DestinationId>,
    /// How long they are kept; for ever where neither this nor `gfs` is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Of which days, weeks, months and years one is kept; in place of `retention`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gfs: Option<Gfs>,
    /// Whether it fires.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub enabled: bool,
}

pub(crate) fn utc() -> String {
    "UTC".to_owned()
}

const fn yes() -> bool {
    true
}

/// What is to be changed of a schedule; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleChange {
    /// For people.
    pub name: Option<String>,
    /// Five fields.
    pub cron_expression: Option<String>,
    /// An IANA time zone.
    pub timezone: Option<String>,
    /// What is backed up, and how; replaced as a whole.
    #[serde(default, deserialize_with = "crate::backup::strict_option")]
    pub backup_config: Option<BackupConfig>,
    /// Where backups are kept; `null` for the default destination.
    #[serde(default, deserialize_with = "crate::record::present")]
    #[schema(value_type = Option<DestinationId>)]
    pub storage_destination_id: Option<Option<DestinationId>>,
    /// How long they are kept, in place of what was said before; `null` takes it away.
    #[serde(default, deserialize_with = "crate::record::present")]
    #[schema(value_type = Option<Retention>)]
    pub retention: Option<Option<Retention>>,
    /// Of which days, weeks, months and years one is kept, in place of what was said before; `null` takes it away.
    #[serde(default, deserialize_with = "crate::record::present")]
    #[schema(value_type = Option<Gfs>)]
    pub gfs: Option<Option<Gfs>>,
    /// Whether it fires.
    pub enabled: Option<bool>,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Names it.
    pub id: ScheduleId,
    /// For people.
    pub name: String,
    /// Which project is backed up.
    pub project_id: ProjectId,
    /// Five fields: minute, hour, day of month, month, day of week (0 is Sunday).
    pub cron_expression: String,
    /// An IANA time zone.
    pub timezone: String,
    /// What is backed up, and how.
    pub backup_config: BackupConfig,
    /// Where backups are kept; the default destination of the time they are made where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_destination_id: Option<DestinationId>,
    /// How long they are kept; for ever where neither this nor `gfs` is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Of which days, weeks, months and years one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gfs: Option<Gfs>,
    /// Whether it fires.
    pub enabled: bool,
    /// The next five times it fires; none while it is not enabled.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub next_runs: Vec<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// Which schedules are asked for; what is left out does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScheduleFilter {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// Only those that fire, or that do not.
    pub enabled: Option<bool>,
    /// Only those whose name contains this, in any case.
    pub search: Option<String>,
}

/// What the scheduler sends when a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleMessage {
    /// Which.
    pub schedule: ScheduleId,
    /// Whose.
    pub organization: OrganizationId,
    /// When it was due; the scheduler adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Timestamp>,
}

/// How many times to come are shown.
pub(crate) const SHOWN_RUNS: usize = 5;
/// The most characters of an expression and a time zone.
const MAX_CRON: usize = 200;

impl Schedule {
    pub(crate) fn cron(&self) -> Result<Cron> {
        cron(&self.cron_expression, &self.timezone)
    }

    /// With the next times that it fires.
    fn shown(mut self, now: Timestamp) -> Self {
        self.next_runs = match self.cron() {
            Ok(cron) if self.enabled => cron.next(now, SHOWN_RUNS),
            _ => Vec::new(),
        };
        self
    }
}

/// An expression in a time zone.
pub(crate) fn cron(expression: &str, timezone: &str) -> Result<Cron> {
    if expression.len() > MAX_CRON || timezone.len() > MAX_CRON {
        return Err(ControlError::field("cronExpression", format!("at most {MAX_CRON} characters")));
    }
    Cron::new(expression, timezone).map_err(|error| {
        let field = if matches!(error, CronError::UnknownTimeZone { .. }) { "timezone" } else { "cronExpression" };
        ControlError::field(field, &error).with_source(error)
    })
}

/// What the scheduler is told.
fn rule_of(scope: &OrganizationScope, schedule: &Schedule) -> Result<ScheduleRule> {
    let message = ScheduleMessage { schedule: schedule.id, organization: scope.organization(), scheduled: None };
    Ok(ScheduleRule {
        name: schedule.id.to_string(),
        cron: schedule.cron()?,
        payload: serde_json::to_value(&message).map_err(ControlError::internal)?,
        enabled: schedule.enabled,
    })
}

impl Control {
    /// Makes a schedule.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of its project or destination; [`Unprocessable`](crate::Kind::Unprocessable)
    /// where a field may not be so.
    pub async fn create_schedule(&self, caller: &Caller, new: NewSchedule) -> Result<Schedule> {
        caller.may(Right::Manage)?;
        let scope = caller.scope();
        let name = limit::name("name", &new.name)?;
        let cron = cron(&new.cron_expression, &new.timezone)?;
        limit::backup(&new.backup_config)?;
        check_kept(new.retention, new.gfs)?;
        let now = self.now();
        let schedule = Schedule {
            id: ScheduleId::new(now, self.ports().random.as_ref()),
            name,
            project_id: new.project_id,
            cron_expression: cron.expression().to_owned(),
            timezone: cron.timezone().to_owned(),
            backup_config: new.backup_config,
            storage_destination_id: new.storage_destination_id,
            retention: new.retention,
            gfs: new.gfs,
            enabled: new.enabled,
            next_runs: Vec::new(),
            created_at: now,
            updated_at: now,
        };
        for _ in 0..MAX_ATTEMPTS {
            let mut writes = self.checks_of(scope, &schedule).await?;
            writes.extend([self.goes_on(scope).await?, self.room_for(scope, Kept::Schedules).await?]);
            writes.push(ItemWrite::Create(new_item(scope.schedule_key(&schedule.id), &schedule, None)?));
            let act = Act::new("schedule.created", schedule.id).with(schedule.told());
            if self.commit(caller.author(), act, writes).await? == Written::Yes {
                return match self.align(scope, &schedule.id).await {
                    Ok(()) => Ok(schedule.shown(now)),
                    Err(error) => Err(self.take_back(caller.author(), &schedule.id, error).await),
                };
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Schedules, oldest first.
    ///
    /// # Errors
    /// When the page cannot be, or the store fails.
    pub async fn schedules(&self, caller: &Caller, filter: &ScheduleFilter, page: &Page) -> Result<Paged<Schedule>> {
        caller.may(Right::Read)?;
        let now = self.now();
        let search = filter.search.as_ref().map(|search| search.to_lowercase());
        let pick = |schedule: Schedule| {
            let takes = filter.project.is_none_or(|project| schedule.project_id == project)
                && filter.enabled.is_none_or(|enabled| schedule.enabled == enabled)
                && search.as_ref().is_none_or(|search| schedule.name.to_lowercase().contains(search));
            takes.then(|| schedule.shown(now))
        };
        self.list(caller.scope().schedules(), page, pick).await
    }

    /// Schedules of one project, oldest first.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of the project; when the page cannot be, or the store fails.
    pub async fn schedules_of_project(
        &self,
        caller: &Caller,
        project: &ProjectId,
        page: &Page,
    ) -> Result<Paged<Schedule>> {
        let filter = ScheduleFilter { project: Some(*project), ..ScheduleFilter::default() };
        let paged = self.schedules(caller, &filter, page).await?;
        self.check_listed(caller.scope(), Some(project), page, &paged).await?;
        Ok(paged)
    }

    /// A schedule.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn schedule(&self, caller: &Caller, id: &ScheduleId) -> Result<Schedule> {
        caller.may(Right::Read)?;
        Ok(self.schedule_record(caller.scope(), id).await?.value.shown(self.now()))
    }

    /// Changes a schedule.
    ///
    /// # Errors
    /// As [`Self::create_schedule`].
    pub async fn update_schedule(&self, caller: &Caller, id: &ScheduleId, change: ScheduleChange) -> Result<Schedule> {
        caller.may(Right::Manage)?;
        self.change_schedule(caller.author(), id, |schedule| change.apply(schedule)).await
    }

    /// Enables a schedule that is disabled, and disables one that is enabled.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn toggle_schedule(&self, caller: &Caller, id: &ScheduleId) -> Result<Schedule> {
        caller.may(Right::Manage)?;
        let toggle = |schedule: &mut Schedule| {
            schedule.enabled = !schedule.enabled;
            Ok(())
        };
        self.change_schedule(caller.author(), id, toggle).await
    }

    /// Removes a schedule. The backups that it made stay, and nothing deletes them any more but people.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn remove_schedule(&self, caller: &Caller, id: &ScheduleId) -> Result<()> {
        caller.may(Right::Manage)?;
        for _ in 0..MAX_ATTEMPTS {
            let record = self.schedule_record(caller.scope(), id).await?;
            let act = Act::new("schedule.deleted", id).with(record.value.told());
            if self.commit(caller.author(), act, vec![record.delete()]).await? == Written::Yes {
                return self.align(caller.scope(), id).await;
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Makes the backup of a schedule now, whether it is enabled or not.
    ///
    /// # Errors
    /// As [`Self::create_backup`].
    pub async fn trigger_schedule(
        &self,
        caller: &Caller,
        id: &ScheduleId,
        idempotency: Option<&str>,
    ) -> Result<BackupJob> {
        caller.may(Right::RunJobs)?;
        let once = Once::new(caller, idempotency, "trigger_schedule", id)?;
        let schedule = self.schedule_record(caller.scope(), id).await?.value;
        let wanted = schedule.wanted(caller.actor().to_string());
        let backup = self.backup_once(caller.author(), &wanted, once.as_ref()).await?;
        self.publish_triggered(caller.scope(), id, &backup.job.id, backup.job.created_at).await;
        Ok(backup)
    }

    /// All schedules of an organization, for the sweep.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn schedules_of(&self, worker: &Worker) -> Result<Vec<Schedule>> {
        let schedules = self.all::<Schedule>(worker.scope().schedules()).await?;
        Ok(schedules.into_iter().map(|schedule| schedule.value).collect())
    }

    /// Tells the scheduler of schedules that it does not know, or knows otherwise: a verb may have died before it did.
    /// Says how many there were.
    ///
    /// # Errors
    /// When a service fails.
    pub async fn repair_schedules(&self, worker: &Worker) -> Result<u32> {
        let mut repaired = 0;
        for schedule in self.schedules_of(worker).await? {
            if !self.ports().scheduler.fires_as(&rule_of(worker.scope(), &schedule)?).await? {
                self.align(worker.scope(), &schedule.id).await?;
                repaired += 1;
            }
        }
        Ok(repaired)
    }

    pub(crate) async fn schedule_record(&self, scope: &OrganizationScope, id: &ScheduleId) -> Result<Stored<Schedule>> {
        self.found(&scope.schedule_key(id), "schedule").await
    }

    async fn change_schedule(
        &self,
        author: &Author,
        id: &ScheduleId,
        change: impl Fn(&mut Schedule) -> Result<()>,
    ) -> Result<Schedule> {
        let scope = author.scope();
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.schedule_record(scope, id).await?;
            let before = record.value.clone();
            change(&mut record.value)?;
            record.value.updated_at = self.now();
            let mut writes = match record.value.storage_destination_id == before.storage_destination_id {
                true => Vec::new(),
                false => self.checks_of(scope, &record.value).await?,
            };
            writes.push(record.replace(None)?);
            let act = Act::new("schedule.updated", id).with(record.value.told());
            if self.commit(author, act, writes).await? == Written::Yes {
                self.align(scope, id).await?;
                return Ok(record.value.shown(self.now()));
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// That what a schedule names is there, and stays so until the schedule is stored.
    async fn checks_of(&self, scope: &OrganizationScope, schedule: &Schedule) -> Result<Vec<ItemWrite>> {
        let project = self.project_record(scope, &schedule.project_id).await?;
        project.value.check_usable()?;
        project.value.database(schedule.backup_config.database.as_deref())?;
        let mut checks = vec![project.check()];
        if schedule.storage_destination_id.is_some() {
            checks.push(self.meant_destination(scope, schedule.storage_destination_id).await?.check());
        }
        Ok(checks)
    }

    /// Tells the scheduler how a schedule stands. Of two changes at one time the scheduler may hear in the other order, so
    /// the record is read again afterwards until it has not changed.
    async fn align(&self, scope: &OrganizationScope, id: &ScheduleId) -> Result<()> {
        let key = scope.schedule_key(id);
        let mut record = self.load::<Schedule>(&key).await?;
        for _ in 0..MAX_ATTEMPTS {
            let told = record.as_ref().map(|record| record.version);
            match record {
                None => self.ports().scheduler.remove(&id.to_string()).await?,
                Some(record) => self.put_rule(scope, &record.value).await?,
            }
            record = self.load(&key).await?;
            if record.as_ref().map(|record| record.version) == told {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    async fn put_rule(&self, scope: &OrganizationScope, schedule: &Schedule) -> Result<()> {
        let rule = rule_of(scope, schedule)?;
        self.ports().scheduler.put(&rule).await.map_err(|error| match error.kind {
            ErrorKind::InvalidArgument => {
                let message = format!("the scheduler cannot do this: {}", error.message());
                ControlError::field("cronExpression", message).with_source(error)
            }
            _ => error.into(),
        })
    }

    /// A schedule that the scheduler did not take is not made.
    async fn take_back(&self, author: &Author, id: &ScheduleId, error: ControlError) -> ControlError {
        let scope = author.scope();
        let taken_back = async {
            if let Some(record) = self.load::<Schedule>(&scope.schedule_key(id)).await? {
                let act = Act::new("schedule.deleted", id).with(record.value.told());
                self.commit(author, act, vec![record.delete()]).await?;
            }
            self.align(scope, id).await
        };
        if let Err(second) = taken_back.await {
            tracing::warn!(schedule = %id, error = %second, "a schedule that could not be made is still there");
        }
        error
    }
}

impl Schedule {
    /// What it is, as the audit log tells it. Not what it selects: patterns may hold names of documents.
    fn told(&self) -> Value {
        json!({
            "name": self.name, "projectId": self.project_id, "cronExpression": self.cron_expression,
            "timezone": self.timezone, "enabled": self.enabled, "retention": self.retention, "gfs": self.gfs,
            "storageDestinationId": self.storage_destination_id,
        })
    }

    /// The backup that it makes.
    pub(crate) fn wanted(&self, created_by: String) -> Wanted<'_> {
        Wanted {
            project: self.project_id,
            destination: self.storage_destination_id,
            schedule: Some(self.id),
            config: &self.backup_config,
            created_by,
        }
    }
}

impl ScheduleChange {
    fn apply(&self, schedule: &mut Schedule) -> Result<()> {
        if let Some(name) = &self.name {
            schedule.name = limit::name("name", name)?;
        }
        if self.cron_expression.is_some() || self.timezone.is_some() {
            let expression = self.cron_expression.as_ref().unwrap_or(&schedule.cron_expression);
            let cron = cron(expression, self.timezone.as_ref().unwrap_or(&schedule.timezone))?;
            schedule.cron_expression = cron.expression().to_owned();
            schedule.timezone = cron.timezone().to_owned();
        }
        if let Some(config) = &self.backup_config {
            limit::backup(config)?;
            schedule.backup_config.clone_from(config);
        }
        if let Some(destination) = self.storage_destination_id {
            schedule.storage_destination_id = destination;
        }
        check_kept(self.retention.flatten(), self.gfs.flatten())?;
        if let Some(retention) = self.retention {
            schedule.retention = retention;
            schedule.gfs = schedule.gfs.filter(|_| retention.is_none());
        }
        if let Some(gfs) = self.gfs {
            schedule.gfs = gfs;
            schedule.retention = schedule.retention.filter(|_| gfs.is_none());
        }
        if let Some(enabled) = self.enabled {
            schedule.enabled = enabled;
        }
        Ok(())
    }
}
