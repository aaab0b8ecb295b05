//! What is looked after from time to time: jobs that were forgotten, retention, what nothing refers to any more, locks,
//! keys.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use firebackup_control::{
    CapturedChain, Care, CleanupOutcome, Control, DestinationId, FirstOwner, Job, JobStatus, LONGEST_RETENTION_DAYS,
    OpenedPlace, PlaceToClean, ProjectId, QueuedJobs, Worker,
};
use firebackup_engine::{
    EngineError, LockReport, PrunePolicy, PruneReport, captured_since, extend_locks, next_bases, prune, prune_versions,
};
use firebackup_model::id::JobId;
use firebackup_model::port::{JobQueue, StepError, StepErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::Instrument;

use self::migrate::Round;
use crate::failure::{of_control, of_engine, of_port};
use crate::ingest::send_all;
use crate::stack_bucket::StackBucket;
use crate::steps::{AppSteps, DrillBounds, Failed, STOPPED, span};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case")]
pub enum MaintenanceTask {
    /// Look after jobs that have not ended.
    Sweep,
    /// Go on with moving destinations; on AWS a part of every sweep.
    Migrate,
    /// Have captured changes merged, apply the retention of schedules, delete what was marked, prune.
    Retention,
    /// Lock anew what kept backups need.
    Locks,
    /// Wrap the keys of repositories and of secrets for the master keys and recovery keys of now.
    Keys,
    /// Seal months of the audit log that are over into the bucket.
    Audit,
    /// Make the first organization and its owner's key, unless there is one.
    OwnerKey {
        /// The organization's name.
        #[serde(default = "first_name")]
        name: String,
    },
    /// Move the dead letters of the queues of jobs, of webhooks and of captures back.
    Redrive,
    /// Make another owner's key for the first organization: the first one is lost.
    AnotherOwnerKey,
}

fn first_name() -> String {
    "My organization".to_owned()
}

/// The backups that captured moments of a repository will build on next, by its project and destination, and whether it is encrypted.
type NextBases = HashMap<(ProjectId, DestinationId, bool), BTreeSet<JobId>>;

/// Does what is to be done from time to time.
#[derive(Clone)]
pub struct Maintenance {
    steps: AppSteps,
    /// The first destination of the first organization.
    bucket: Option<StackBucket>,
    /// Where captures wait; nothing where a worker asks what is due.
    captures: Option<Arc<dyn JobQueue>>,
    /// Whether the scheduler may miss a time without knowing it.
    makes_up: bool,
    /// Until when migrations are gone on with in a sweep, and drills run; not at all, where those are tasks of their own.
    migrates_until: Option<Instant>,
}

/// For how long migrations are gone on with where nothing else says so; then records are read anew.
const MIGRATION_ROUND: Duration = Duration::from_secs(3600);

/// How many drills are looked at in one sweep.
const MOST_DRILLS: u32 = 10;
/// With less time none is begun: a third of it is kept to empty the scratch database.
const LEAST_DRILL: Duration = Duration::from_secs(300);

/// What a sweep did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Swept {
    jobs: u64,
    waiting: u64,
    sent_again: u64,
    started_again: u64,
    finalized: u64,
    schedules_missed: u64,
    deliveries: u64,
    organizations_deleted: u64,
    cleanups: u64,
    migrations: u64,
    drills: u64,
    captures_degraded: u64,
    failed: u64,
}

/// What retention did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Retained {
    /// Synthetic backups that were begun.
    merges: u64,
    dropped: u64,
    deleted: u64,
    objects_deleted: u64,
    /// Backups that were to be deleted, and objects that nothing needs, under locks that have not ended.
    locked: u64,
    objects_locked: u64,
    failed: u64,
}

/// What became of locks.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Locked {
    repositories: u64,
    backups: u64,
    extended: u64,
    failed: u64,
}

/// What became of months of the audit log.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sealed {
    organizations: u64,
    parts: u64,
    entries: u64,
    failed: u64,
}

/// What became of keys.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wrapped {
    organizations: u64,
    repositories: u64,
    added: u64,
    failed: u64,
}

impl Maintenance {
    /// Maintenance over these steps.
    #[must_use]
    pub const fn new(steps: AppSteps) -> Self {
        Self { steps, bucket: None, captures: None, makes_up: false, migrates_until: None }
    }

    /// The same, where a scheduler is not ours: its due times that did not come are made up for. One of our own does so
    /// itself.
    #[must_use]
    pub const fn making_up_for_missed(mut self) -> Self {
        self.makes_up = true;
        self
    }

    /// The same, going on with migrations at the end of a sweep and running drills, as long as its time is not up.
    #[must_use]
    pub fn migrating_in_sweeps(mut self, time: Duration) -> Self {
        self.migrates_until = Some(Instant::now() + time);
        self
    }

    /// The same, where a deployment has made a bucket for backups.
    #[must_use]
    pub fn with_bucket(mut self, bucket: Option<StackBucket>) -> Self {
        self.bucket = bucket;
        self
    }

    /// The same, where captures wait in a queue.
    #[must_use]
    pub fn with_captures(mut self, captures: Arc<dyn JobQueue>) -> Self {
        self.captures = Some(captures);
        self
    }

    fn control(&self) -> &Control {
        &self.steps.control
    }

    /// Does a task; says what it did.
    ///
    /// # Errors
    /// When a service fails. What one organization's trouble is does not keep the others from their turn.
    pub async fn run(&self, task: &MaintenanceTask) -> Result<Value, StepError> {
        match task {
            MaintenanceTask::Sweep => self.sweep().await,
            MaintenanceTask::Migrate => self.migrations().await,
            MaintenanceTask::Retention => self.retention().await,
            MaintenanceTask::Locks => self.locks().await,
            MaintenanceTask::Keys => self.keys().await,
            MaintenanceTask::Audit => self.audit().await,
            MaintenanceTask::OwnerKey { name } => {
                let Some(owner) = self.control().first_owner(name).await.map_err(of_control)? else {
                    return Ok(Value::Null);
                };
                // the key is shown this once, whatever becomes of the rest
                if let Err(error) = self.add_bucket(&owner).await {
                    tracing::warn!(error = %error, "the stack's bucket could not be made a destination: add it by hand");
                }
                Ok(owner_json(&owner))
            }
            MaintenanceTask::Redrive => {
                let jobs = self.control().redrive_jobs().await.map_err(of_control)?;
                let notices = self.control().redrive_notices().await.map_err(of_control)?;
                Ok(json!({ "moved": jobs + notices + self.redrive_captures().await? }))
            }
            MaintenanceTask::AnotherOwnerKey => {
                let owner = self.control().another_owner_key().await.map_err(of_control)?;
                Ok(owner.as_ref().map_or(Value::Null, owner_json))
            }
        }
    }

    /// Makes the bucket of the deployment the default destination.
    async fn add_bucket(&self, owner: &FirstOwner) -> Result<(), StepError> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let caller = self.control().authenticate(&owner.api_key, None).await.map_err(of_control)?;
        // its lock is the deployment's: a record of its own would outlive a change of that
        let new = json!({
            "name": "The bucket of this installation",
            "url": bucket.url,
            "isDefault": true,
        });
        let new = serde_json::from_value(new).map_err(crate::failure::unreadable)?;
        let added = self.control().add_destination(&caller, new).await.map_err(of_control)?;
        if !added.findings.missing.is_empty() {
            tracing::warn!(missing = ?added.findings.missing, "the stack's bucket does not allow all that backups need");
        }
        Ok(())
    }

    async fn redrive_captures(&self) -> Result<u64, StepError> {
        match &self.captures {
            Some(captures) => captures.redrive().await.map_err(of_port),
            None => Ok(0),
        }
    }

    /// Tells of captures that nobody goes on with, and asks for those that are due, should ticks not come: what is asked for
    /// already is not taken again.
    async fn look_after_captures(&self, swept: &mut Swept) {
        let seen = match self.control().look_after_captures().await {
            Ok(seen) => seen,
            Err(error) => {
                swept.failed += 1;
                return tracing::warn!(error = %error, "it cannot be looked how captures stand");
            }
        };
        swept.captures_degraded = seen.degraded;
        swept.failed += seen.untold;
        self.steps.metrics.captures_degraded(seen.degraded);
        let Some(captures) = &self.captures else { return };
        if let Err(error) = send_all(self.control(), captures.as_ref(), seen.due).await {
            swept.failed += 1;
            tracing::warn!(error = %error, "captures that are due could not be asked for");
        }
    }

    async fn sweep(&self) -> Result<Value, StepError> {
        let mut swept = Swept::default();
        self.go_on_deleting(&mut swept).await;
        self.look_after_captures(&mut swept).await;
        let workers = self.workers().await?;
        for worker in &workers {
            if let Err(error) = self.sweep_jobs(worker, &mut swept).await {
                swept.failed += 1;
                in_trouble(worker, &error);
            }
        }
        // behind all jobs: it may take long
        for worker in &workers {
            if let Err(error) = self.clean_up(worker, &mut swept).await {
                swept.failed += 1;
                in_trouble(worker, &error);
            }
        }
        if let Some(until) = self.migrates_until {
            self.go_on_migrating(&workers, until, &mut swept).await;
            self.drill(until, &mut swept).await;
        }
        if swept.schedules_missed > 0 {
            self.steps.metrics.schedules_missed(swept.schedules_missed);
        }
        // where nothing waits and nothing runs, nothing is written: an idle stack pays for no metric
        if swept.jobs > 0 {
            let active = swept.jobs - swept.waiting;
            self.steps.metrics.jobs_queued(QueuedJobs { waiting: swept.waiting, active });
        }
        written(&swept)
    }

    /// Organizations that are marked as deleted, and whose records are not all gone.
    async fn go_on_deleting(&self, swept: &mut Swept) {
        match self.control().go_on_deleting().await {
            Ok(deleted) => swept.organizations_deleted = deleted,
            Err(error) => {
                swept.failed += 1;
                tracing::warn!(error = %error, "no looking for organizations that are deleted");
            }
        }
    }

    async fn sweep_jobs(&self, worker: &Worker, swept: &mut Swept) -> Result<(), StepError> {
        if let Err(error) = self.control().repair_schedules(worker).await {
            tracing::warn!(organization = %worker.organization(), error = %error, "schedules could not be repaired");
        }
        if self.makes_up {
            match self.control().make_up_for_missed(worker).await {
                Ok(missed) => swept.schedules_missed += missed,
                Err(error) => {
                    swept.failed += 1;
                    tracing::warn!(organization = %worker.organization(), error = %error, "no looking for missed schedules");
                }
            }
        }
        let deliveries = async {
            let untold = self.control().tell_untold(worker).await?;
            Ok(untold + self.control().queue_overdue_deliveries(worker).await?)
        };
        match deliveries.await.map_err(of_control) {
            Ok(queued) => swept.deliveries += queued,
            Err(error) => {
                swept.failed += 1;
                tracing::warn!(organization = %worker.organization(), error = %error, "no looking for lost deliveries");
            }
        }
        for job in self.control().running_jobs(worker).await.map_err(of_control)? {
            swept.jobs += 1;
            swept.waiting += u64::from(job.status() == JobStatus::Pending);
            match self.look_after(worker, &job).instrument(span::of_care(&job)).await {
                Ok(Care::None) => {}
                Ok(Care::SentAgain) => swept.sent_again += 1,
                Ok(Care::StartedAgain) => swept.started_again += 1,
                Ok(Care::Finalize) => swept.finalized += 1,
                Err(error) => {
                    swept.failed += 1;
                    tracing::warn!(job = %job.id(), error = %error, "a job could not be looked after");
                }
            }
        }
        Ok(())
    }

    async fn migrations(&self) -> Result<Value, StepError> {
        let mut swept = Swept::default();
        let until = self.migrates_until.unwrap_or_else(|| Instant::now() + MIGRATION_ROUND);
        self.go_on_migrating(&self.workers().await?, until, &mut swept).await;
        Ok(json!({ "migrations": swept.migrations, "failed": swept.failed }))
    }

    async fn go_on_migrating(&self, workers: &[Worker], until: Instant, swept: &mut Swept) {
        let round = Round::within(until.saturating_duration_since(Instant::now()));
        for worker in workers {
            match self.migrate(worker, round).await {
                Ok(begun) => swept.migrations += begun,
                Err(error) => {
                    swept.failed += 1;
                    in_trouble(worker, &error);
                }
            }
        }
    }

    /// Runs drills that are due, as long as there is time for one. What does not fit ends as out of time.
    async fn drill(&self, until: Instant, swept: &mut Swept) {
        let due = match self.control().due_drills(MOST_DRILLS).await {
            Ok(due) => due,
            Err(error) => {
                swept.failed += 1;
                return tracing::warn!(error = %error, "it cannot be looked which drills are due");
            }
        };
        for due in due {
            let left = until.saturating_duration_since(Instant::now());
            // the next sweep has more
            if left < LEAST_DRILL {
                return;
            }
            match self.steps.drill(&due, None, &DrillBounds::within(left)).await {
                Ok(has_run) => swept.drills += u64::from(has_run),
                Err(error) => {
                    swept.failed += 1;
                    tracing::warn!(project = %due.project, error = %error, "what came of a drill could not be noted");
                }
            }
        }
    }

    /// What somebody asked to be deleted, if nothing refers to it.
    async fn clean_up(&self, worker: &Worker, swept: &mut Swept) -> Result<(), StepError> {
        for destination in self.control().cleanups(worker).await.map_err(of_control)? {
            let begun = self.control().begin_cleanup(worker, &destination).await.map_err(of_control)?;
            let Some(begun) = begun else { continue };
            let mut outcome = CleanupOutcome::default();
            for place in self.control().places_to_clean(worker, &begun).await.map_err(of_control)? {
                if let Err(error) = self.clean(place, &mut outcome).await {
                    outcome.failed += 1;
                    in_trouble(worker, &error);
                }
            }
            self.control().end_cleanup(worker, &begun, &outcome).await.map_err(of_control)?;
            swept.cleanups += 1;
        }
        Ok(())
    }

    async fn clean(
        &self,
        place: firebackup_control::Result<PlaceToClean>,
        outcome: &mut CleanupOutcome,
    ) -> Result<(), StepError> {
        let PlaceToClean { place, only } = place.map_err(of_control)?;
        let policy = PrunePolicy { only, ..PrunePolicy::default() };
        let report = self.prune(&place, policy).await?.unwrap_or_default();
        outcome.marked += report.marked;
        outcome.marked_bytes += report.marked_bytes;
        outcome.deleted += report.deleted;
        outcome.deleted_bytes += report.deleted_bytes;
        outcome.locked += report.locked_objects;
        Ok(())
    }

    /// A job whose workflow ended without it (somebody stopped it, or its last step could not be done) gets its last step.
    async fn look_after(&self, worker: &Worker, job: &Job) -> Result<Care, StepError> {
        let care = self.control().look_after(worker, job.id()).await.map_err(of_control)?;
        if care == Care::Finalize {
            let was_cancelled = job.status() == JobStatus::Cancelling;
            let error = if was_cancelled { StepErrorKind::Cancelled.name() } else { STOPPED };
            let cause = "the workflow was stopped before it had ended the job".to_owned();
            self.steps.end_failed(worker, job, &Failed { error: error.to_owned(), cause }).await?;
        }
        Ok(care)
    }

    async fn retention(&self) -> Result<Value, StepError> {
        let mut retained = Retained::default();
        for worker in self.workers().await? {
            let done = async {
                self.merge_chains(&worker, &mut retained).await?;
                self.drop_by_schedule(&worker, &mut retained).await?;
                self.drop_merges(&worker, &mut retained).await?;
                self.delete_marked(&worker, &mut retained).await?;
                self.sweep_repositories(&worker, &mut retained).await
            };
            if let Err(error) = done.await {
                retained.failed += 1;
                in_trouble(&worker, &error);
            }
        }
        written(&retained)
    }

    /// Has captured changes merged with what they build on, where that has become old.
    async fn merge_chains(&self, worker: &Worker, retained: &mut Retained) -> Result<(), StepError> {
        for chain in self.control().captured_chains(worker).await.map_err(of_control)? {
            match self.merge_chain(worker, &chain).await {
                Ok(merged) => retained.merges += u64::from(merged),
                Err(error) => {
                    retained.failed += 1;
                    tracing::warn!(database = %chain.database, error = %error, "captured changes could not be merged");
                }
            }
        }
        Ok(())
    }

    /// Nothing where there is no backup any more on top of which they could be read, or while its destination is moved.
    async fn merge_chain(&self, worker: &Worker, chain: &CapturedChain) -> Result<bool, StepError> {
        let place = self.control().open_chain(worker, chain).await.map_err(of_control)?;
        if place.is_moving {
            return Ok(false);
        }
        let since = async {
            let repository = self.steps.places.open(&place).await?;
            captured_since(&repository, &chain.database).await
        };
        let since = match since.await {
            Err(EngineError::NotFound(_)) => None,
            since => since.map_err(of_engine)?,
        };
        if since.is_none_or(|since| !chain.is_due(since, self.steps.places.world().now())) {
            return Ok(false);
        }
        Ok(self.control().merge_chain(worker, chain).await.map_err(of_control)?.is_some())
    }

    async fn drop_by_schedule(&self, worker: &Worker, retained: &mut Retained) -> Result<(), StepError> {
        let going = self.control().deleted_backups(worker).await.map_err(of_control)?;
        let mut next = NextBases::new();
        for schedule in self.control().schedules_of(worker).await.map_err(of_control)? {
            let now = self.steps.places.world().now();
            let outcome = self.control().kept_by_schedule(worker, &schedule.id, now).await.map_err(of_control)?;
            for backup in outcome.dropped {
                let known = outcome.places.get(&backup).and_then(|place| next.get(place));
                let is_next = match known {
                    Some(known) => Ok(known.contains(&backup)),
                    None => self.is_built_on_next(worker, &backup, &going, &mut next).await,
                };
                match is_next {
                    Ok(true) => {}
                    Ok(false) => self.drop_backups(worker, vec![backup], retained).await?,
                    Err(error) => {
                        retained.failed += 1;
                        tracing::warn!(job = %backup, error = %error, "a backup is not dropped yet: what builds on it is not known");
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether captured moments will build on a backup next. A schedule leaves it until then, else the first one would stay for
    /// ever, with every change since; whoever names it has it deleted. What a repository answers is kept in `known`.
    async fn is_built_on_next(
        &self,
        worker: &Worker,
        backup: &JobId,
        going: &[JobId],
        known: &mut NextBases,
    ) -> Result<bool, StepError> {
        let place = self.control().work_to_end(worker, backup).await.map_err(of_control)?.place;
        let next = match self.steps.places.open(&place).await {
            Err(EngineError::NotFound(_)) => BTreeSet::new(),
            opened => {
                let days = self.moments_kept(&place).await?;
                next_bases(&opened.map_err(of_engine)?, going, days).await.map_err(of_engine)?
            }
        };
        let is_next = next.contains(backup);
        known.insert((place.project, place.destination.id, place.encrypted), next);
        Ok(is_next)
    }

    /// Merges that were made by themselves go with the moments that build on them.
    async fn drop_merges(&self, worker: &Worker, retained: &mut Retained) -> Result<(), StepError> {
        let now = self.steps.places.world().now();
        let merges = self.control().outlived_merges(worker, now).await.map_err(of_control)?;
        self.drop_backups(worker, merges, retained).await
    }

    async fn drop_backups(
        &self,
        worker: &Worker,
        backups: Vec<JobId>,
        retained: &mut Retained,
    ) -> Result<(), StepError> {
        for backup in backups {
            self.control().drop_backup(worker, &backup).await.map_err(of_control)?;
            retained.dropped += 1;
        }
        Ok(())
    }

    async fn delete_marked(&self, worker: &Worker, retained: &mut Retained) -> Result<(), StepError> {
        for backup in self.control().deleted_backups(worker).await.map_err(of_control)? {
            match self.delete(worker, &backup).await {
                // its destination is being moved: it waits
                Ok(None) => {}
                Ok(Some(report)) => {
                    let is_locked = report.locked.contains(&backup) || report.needed.contains(&backup);
                    retained.locked += u64::from(is_locked);
                    retained.deleted += u64::from(!is_locked);
                    retained.objects_deleted += report.deleted;
                    retained.objects_locked += report.locked_objects;
                }
                Err(error) => {
                    retained.failed += 1;
                    tracing::warn!(job = %backup, error = %error, "a backup could not be deleted yet");
                }
            }
        }
        Ok(())
    }

    /// What was marked becomes ripe whether or not anything is deleted that day, and failed jobs leave something too.
    async fn sweep_repositories(&self, worker: &Worker, retained: &mut Retained) -> Result<(), StepError> {
        for place in self.repositories(worker, &mut retained.failed).await? {
            match self.prune(&place, PrunePolicy::default()).await {
                Ok(None) => {}
                Ok(Some(report)) => {
                    retained.objects_deleted += report.deleted;
                    retained.objects_locked += report.locked_objects;
                }
                Err(error) => {
                    retained.failed += 1;
                    tracing::warn!(project = %place.project, error = %error, "a repository could not be swept");
                }
            }
        }
        Ok(())
    }

    /// The repositories of an organization that can be opened; the others are counted.
    async fn repositories(&self, worker: &Worker, failed: &mut u64) -> Result<Vec<OpenedPlace>, StepError> {
        let mut places = Vec::new();
        for place in self.control().repositories(worker).await.map_err(of_control)? {
            match place.map_err(of_control) {
                Ok(place) => places.push(place),
                Err(error) => {
                    *failed += 1;
                    in_trouble(worker, &error);
                }
            }
        }
        Ok(places)
    }

    /// Nothing where no job came so far as to make the repository, or while it is moved to another destination.
    async fn prune(&self, place: &OpenedPlace, policy: PrunePolicy) -> Result<Option<PruneReport>, StepError> {
        if place.is_moving {
            return Ok(None);
        }
        let repository = match self.steps.places.open(place).await {
            Err(EngineError::NotFound(_)) => return Ok(None),
            opened => opened.map_err(of_engine)?,
        };
        let mut there = Vec::with_capacity(policy.drop.len());
        for snapshot in policy.drop {
            if !repository.is_dropped(&snapshot).await.map_err(of_engine)? {
                there.push(snapshot);
            }
        }
        let policy = PrunePolicy { drop: there, keep_moments_days: self.moments_kept(place).await?, ..policy };
        let report = match self.steps.places.versions(place).await.map_err(of_port)? {
            Some((versions, _)) => prune_versions(&repository, &policy, &versions).await,
            None => prune(&repository, &policy).await,
        };
        report.map(Some).map_err(of_engine)
    }

    /// Drops a snapshot and sweeps its repository. What was only its own is marked now, and deleted when a later task
    /// finds it ripe. One that is locked is left for a later task, and not locked anew. Nothing while its destination is moved.
    async fn delete(&self, worker: &Worker, backup: &JobId) -> Result<Option<PruneReport>, StepError> {
        let work = self.control().work_to_end(worker, backup).await.map_err(of_control)?;
        if work.place.is_moving {
            return Ok(None);
        }
        let policy = PrunePolicy { drop: vec![backup.clone()], ..PrunePolicy::default() };
        let report = self.prune(&work.place, policy).await?.unwrap_or_default();
        if !report.locked.contains(backup) && !report.needed.contains(backup) {
            self.control().backup_gone(worker, backup).await.map_err(of_control)?;
        }
        Ok(Some(report))
    }

    /// Locks anew what kept backups need, in every repository whose objects are locked when they are put. Fails in the end
    /// where that was not possible everywhere: what is not locked in time can be deleted, and somebody must be told.
    async fn locks(&self) -> Result<Value, StepError> {
        let mut locked = Locked::default();
        for worker in self.workers().await? {
            if let Err(error) = self.lock_repositories(&worker, &mut locked).await {
                locked.failed += 1;
                in_trouble(&worker, &error);
            }
        }
        if locked.failed > 0 {
            let message =
                format!("{} could not be kept locked, the log says why; {} were", locked.failed, locked.backups);
            return Err(StepError::new(StepErrorKind::Retryable, message));
        }
        written(&locked)
    }

    async fn lock_repositories(&self, worker: &Worker, locked: &mut Locked) -> Result<(), StepError> {
        let going = self.control().deleted_backups(worker).await.map_err(of_control)?;
        for place in self.repositories(worker, &mut locked.failed).await? {
            match self.lock(&place, &going).await {
                Ok(None) => {}
                Ok(Some(report)) => {
                    locked.repositories += 1;
                    locked.backups += report.snapshots;
                    locked.extended += report.extended;
                    locked.failed += report.failed.len() as u64 + report.failed_segments;
                }
                Err(error) => {
                    locked.failed += 1;
                    tracing::warn!(project = %place.project, error = %error, "a repository could not be kept locked");
                }
            }
        }
        Ok(())
    }

    /// Nothing where objects are not locked, or no job came so far as to make the repository.
    async fn lock(&self, place: &OpenedPlace, going: &[JobId]) -> Result<Option<LockReport>, StepError> {
        let versions = self.steps.places.versions(place).await.map_err(of_port)?;
        let Some((versions, Some(rule))) = versions else { return Ok(None) };
        let repository = match self.steps.places.open(place).await {
            Err(EngineError::NotFound(_)) => return Ok(None),
            opened => opened.map_err(of_engine)?,
        };
        let moments = self.moments_kept(place).await?;
        extend_locks(&repository, &versions, rule, going, moments).await.map(Some).map_err(of_engine)
    }

    /// For how many days every captured moment of a repository is kept: as long as recovery to a point in time says.
    async fn moments_kept(&self, place: &OpenedPlace) -> Result<u32, StepError> {
        let worker = self.control().worker(&place.organization.id);
        let said = self.control().moments_kept(&worker, place).await.map_err(of_control)?;
        Ok(said.unwrap_or(LONGEST_RETENTION_DAYS))
    }

    /// Wraps what an organization's new keys do not open yet. Wraps under former keys stay: whoever wants one gone removes
    /// it with `firebackup key remove`, and must know what else opens the repository.
    async fn keys(&self) -> Result<Value, StepError> {
        let mut wrapped = Wrapped::default();
        for worker in self.workers().await? {
            wrapped.organizations += 1;
            if let Err(error) = self.keys_of(&worker, &mut wrapped).await {
                wrapped.failed += 1;
                tracing::warn!(organization = %worker.organization(), error = %error, "keys could not be wrapped anew");
            }
        }
        written(&wrapped)
    }

    async fn keys_of(&self, worker: &Worker, wrapped: &mut Wrapped) -> Result<(), StepError> {
        // repositories first: under which keys they may be is known by that of the secrets
        let places = self.repositories(worker, &mut wrapped.failed).await?;
        for place in places.into_iter().filter(|place| place.encrypted) {
            match self.steps.places.add_missing_holders(&place).await {
                Ok(added) => {
                    wrapped.repositories += 1;
                    wrapped.added += added;
                }
                // no job came so far as to make it
                Err(EngineError::NotFound(_)) => {}
                Err(error) => {
                    wrapped.failed += 1;
                    let error = of_engine(error);
                    tracing::warn!(project = %place.project, error = %error, "a repository's key could not be wrapped anew");
                }
            }
        }
        self.control().rewrap_secrets(worker).await.map_err(of_control)
    }

    async fn audit(&self) -> Result<Value, StepError> {
        let mut sealed = Sealed::default();
        for worker in self.workers().await? {
            match self.control().seal_audit(&worker).await.map_err(of_control) {
                Ok(done) => {
                    sealed.organizations += u64::from(done.parts > 0);
                    sealed.parts += done.parts;
                    sealed.entries += done.entries;
                }
                Err(error) => {
                    sealed.failed += 1;
                    in_trouble(&worker, &error);
                }
            }
        }
        written(&sealed)
    }

    /// How many jobs of all organizations have not ended.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn queued_jobs(&self) -> Result<QueuedJobs, StepError> {
        let mut queued = QueuedJobs::default();
        for worker in self.workers().await? {
            queued += self.control().queued_jobs(&worker).await.map_err(of_control)?;
        }
        Ok(queued)
    }

    /// A proof for each organization there is.
    async fn workers(&self) -> Result<Vec<Worker>, StepError> {
        let (mut workers, mut cursor) = (Vec::new(), None);
        loop {
            let (organizations, next) =
                self.control().organizations_page(cursor.as_deref()).await.map_err(of_control)?;
            workers.extend(organizations.iter().map(|organization| self.control().worker(organization)));
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(workers),
            }
        }
    }
}

/// What keeps one organization's turn from being done; the others have theirs.
fn in_trouble(worker: &Worker, error: &StepError) {
    tracing::warn!(organization = %worker.organization(), error = %error, "not all that was to be done could be done");
}

fn owner_json(owner: &FirstOwner) -> Value {
    json!({ "organization": owner.organization.id, "apiKey": owner.api_key.as_str() })
}

fn written(report: &impl Serialize) -> Result<Value, StepError> {
    serde_json::to_value(report).map_err(crate::failure::unreadable)
}

mod migrate;
#[cfg(test)]
mod tests;
