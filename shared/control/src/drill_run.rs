//! One drill of a project: who drills now, with what, and what came of it.
//!
//! As windows of captures are, a drill is claimed for a time that its holder makes longer while it works: whoever dies is followed
//! by another once that is over, who takes over what was left in the scratch database. So of two that drill at one time each
//! would spoil what the other compares, a holder keeps its claim until it has emptied the database, even where it is to stop.

use firebackup_model::id::JobId;
use firebackup_model::port::ItemWrite;
use firebackup_model::{DatabaseName, Timestamp};
use serde_json::json;

use crate::access::ProjectAccess;
use crate::audit::Act;
use crate::control::Control;
use crate::destination::DestinationRecord;
use crate::drill::{BackupDrill, DrillOutcome, DrillRecord, DrillRun, DrillScratch};
use crate::error::{ControlError, Kind, Result};
use crate::id::{DestinationId, OrganizationId, ProjectId};
use crate::item_keys;
use crate::job::{BackupJob, Job};
use crate::job_records::replace_job;
use crate::pitr_record::whole_second;
use crate::project::ProjectRecord;
use crate::record::{MAX_ATTEMPTS, Stored, Written, decode};
use crate::tenant::{OrganizationScope, Worker};
use crate::work::OpenedPlace;

/// A project whose drill is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDrill {
    /// Whose.
    pub organization: OrganizationId,
    /// Which.
    pub project: ProjectId,
}

/// A drill that nobody else runs.
#[derive(Debug, Clone)]
pub struct ClaimedDrill {
    /// Of which project.
    pub project: ProjectId,
    /// The backup; nothing where there is none.
    pub backup: Option<JobId>,
    holder: String,
    lease_seconds: i64,
}

/// Whether a claim still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldDrill {
    /// It does.
    GoesOn,
    /// It does, and whoever holds it is to stop: the drills were disabled.
    Stops,
    /// Somebody else has taken its holder for dead.
    Lost,
}

/// What a drill needs, secrets opened. Neither `Debug` nor anything stored shows them.
#[derive(Debug, Clone)]
pub struct DrillWork {
    /// Whose drills it is one of: of those one runs at a time.
    pub by: String,
    /// The backup.
    pub backup: JobId,
    /// Where its repository is.
    pub place: OpenedPlace,
    /// Into what it is restored.
    pub scratch: ScratchWork,
    /// About how many documents; nothing for all.
    pub sample: Option<u64>,
    /// How many moments of its database.
    pub moments: u32,
    /// How many documents the backup has.
    pub documents: u64,
    /// Whose it is.
    pub source: DatabaseName,
}

/// Into what is restored.
#[derive(Debug, Clone)]
pub enum ScratchWork {
    /// An emulator that is started for it.
    Emulator,
    /// A database.
    Database {
        /// What opens its project.
        access: ProjectAccess,
        /// Which.
        database: String,
    },
}

/// What came of a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrillEnd {
    /// It was run, or was begun and had not the time.
    Run {
        /// How it ended.
        outcome: DrillOutcome,
        /// Documents that were compared.
        documents: u64,
        /// Moments that were put back.
        moments: u64,
        /// Its report, where it made one.
        report: Option<JobId>,
        /// Why it did not pass, for people.
        message: Option<String>,
    },
    /// It could not be run, which says nothing of the backup.
    NotRun {
        /// Why; for the user.
        message: String,
        /// Whether it may pass by itself.
        may_pass: bool,
    },
    /// It was asked to stop: it is begun anew.
    Stopped,
}

/// When one is tried again that could not be run, and how often.
const AGAIN_SECONDS: i64 = 300;
const MOST_TRIES: u32 = 3;
/// When it is tried again whose destination is just about to be moved, or whose first backup is not done yet.
const WAIT_SECONDS: i64 = 60;
/// The most characters of a message that are kept.
const MAX_MESSAGE: usize = 1000;

impl Control {
    /// The drills that are due now, of all organizations, those that wait longest first, at most so many. The index may be a
    /// moment behind: whether it is still so is seen when one is claimed.
    ///
    /// Only for `bootstrap`, as [`worker`](Self::worker).
    ///
    /// # Errors
    /// When the store fails.
    pub async fn due_drills(&self, most: u32) -> Result<Vec<DueDrill>> {
        let query = item_keys::due_drills(whole_second(self.now()).plus_seconds(1), most);
        let page = self.items().query(&query).await?;
        let due = |record: DrillRecord| DueDrill { organization: record.organization_id, project: record.project_id };
        page.items.into_iter().map(|item| Ok(due(decode::<DrillRecord>(item)?.value))).collect()
    }

    /// Claims a drill for so many seconds; nothing where none is due, somebody else runs it, or the backup's destination is about
    /// to be moved, or the first backup is being made.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claim_drill(
        &self,
        worker: &Worker,
        project: &ProjectId,
        lease_seconds: u32,
    ) -> Result<Option<ClaimedDrill>> {
        let scope = worker.scope();
        for _ in 0..MAX_ATTEMPTS {
            let now = self.now();
            let Some(mut record) = self.load::<DrillRecord>(&scope.drills_key(project)).await? else { return Ok(None) };
            let drills = &mut record.value;
            if drills.is_held(now) || drills.holder.is_none() && !drills.is_due(now) {
                return Ok(None);
            }
            if !drills.is_on() {
                // disabled, and whoever ran one has died: the next one, whenever that is, takes over what it has left
                drills.let_go();
                self.write_unrecorded(vec![record.replace(record.value.index(scope))?]).await?;
                return Ok(None);
            }
            let backup = self.drilled_backup(scope, project, Some(record.value.database())).await?;
            let destination = self.destination_of(scope, backup.as_ref()).await?;
            let is_moving = destination.as_ref().is_some_and(|destination| destination.value.check_usable().is_err());
            // one that was asked for with the first backup is run behind it
            if is_moving || backup.is_none() && self.is_backed_up_now(scope, project, record.value.database()).await? {
                record.value.let_go();
                record.value.due = Some(whole_second(now).plus_seconds(WAIT_SECONDS));
                self.write_unrecorded(vec![record.replace(record.value.index(scope))?]).await?;
                return Ok(None);
            }
            let claimed = self.claimed_drill(project, backup.as_ref(), lease_seconds);
            // what somebody who died was told
            record.value.let_go();
            record.value.hold(&claimed, now);
            record.value.held_destination = backup.map(|backup| backup.storage_destination_id);
            // whoever moves the destination waits for those who drill there, and sees this one
            let mut writes = vec![record.replace(record.value.index(scope))?, self.goes_on(scope).await?];
            writes.extend(destination.map(|destination| destination.check()));
            if self.write_unrecorded(writes).await? == Written::Yes {
                return Ok(Some(claimed));
            }
        }
        Err(ControlError::concurrent_change())
    }

    async fn destination_of(
        &self,
        scope: &OrganizationScope,
        backup: Option<&BackupJob>,
    ) -> Result<Option<Stored<DestinationRecord>>> {
        match backup {
            Some(backup) => self.load(&scope.destination_key(&backup.storage_destination_id)).await,
            None => Ok(None),
        }
    }

    fn claimed_drill(&self, project: &ProjectId, backup: Option<&BackupJob>, lease_seconds: u32) -> ClaimedDrill {
        let mut random = [0; 8];
        self.ports().random.fill(&mut random);
        ClaimedDrill {
            project: *project,
            backup: backup.map(|backup| backup.job.id.clone()),
            holder: hex::encode(random),
            lease_seconds: i64::from(lease_seconds),
        }
    }

    /// What a claimed drill needs; nothing where there is no backup.
    ///
    /// # Errors
    /// [`Conflict`](Kind::Conflict) where a project or the destination is gone or closed; where the scratch database is backed up
    /// by now; when what opens them does not open.
    pub async fn drill_work(&self, worker: &Worker, claimed: &ClaimedDrill) -> Result<Option<DrillWork>> {
        let scope = worker.scope();
        let config = self.drill_record(scope, &claimed.project).await?.value.config;
        let Some(backup) = &claimed.backup else { return Ok(None) };
        let (_, backup) = self.backup_of(scope, Some(&claimed.project), backup).await?;
        let organization = self.organization_record(scope).await?;
        let scratch = match &config.scratch {
            DrillScratch::Emulator {} => {
                self.check_drill_emulator(scope).await?;
                ScratchWork::Emulator
            }
            DrillScratch::Database { project_id, database } => {
                self.project_record(scope, project_id).await?.value.check_usable()?;
                let (project, access) = self.opened_project(scope, &organization, *project_id).await?;
                self.check_scratch(scope, &project.google_project, database).await?;
                ScratchWork::Database { access, database: database.clone() }
            }
        };
        let repository = (backup.repository(), backup.config.encrypt);
        let place = self.place_at(scope, organization, backup.storage_destination_id, repository).await?;
        Ok(Some(DrillWork {
            by: claimed.project.to_string(),
            documents: backup.job.result.as_ref().map_or(0, |result| result.documents),
            source: DatabaseName::new(&backup.google_project, &backup.database),
            backup: backup.job.id,
            place,
            scratch,
            sample: config.sample().map(u64::from),
            moments: config.moments,
        }))
    }

    /// Makes a claim longer; says whether it still holds, and whether its holder is to stop.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn hold_drill(&self, worker: &Worker, claimed: &ClaimedDrill) -> Result<HeldDrill> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut record) = self.held_drill(worker, claimed).await? else { return Ok(HeldDrill::Lost) };
            record.value.hold(claimed, self.now());
            record.value.stopping |= !record.value.is_on();
            let write = record.replace(record.value.index(worker.scope()))?;
            if self.write_unrecorded(vec![write]).await? == Written::Yes {
                return Ok(if record.value.stopping { HeldDrill::Stops } else { HeldDrill::GoesOn });
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// The record, if the claim still holds.
    async fn held_drill(&self, worker: &Worker, claimed: &ClaimedDrill) -> Result<Option<Stored<DrillRecord>>> {
        let record = self.load::<DrillRecord>(&worker.scope().drills_key(&claimed.project)).await?;
        Ok(record.filter(|record| record.value.holder.as_ref() == Some(&claimed.holder)))
    }

    /// Notes what came of a drill, in its project's drills and in the backup, tells others of it, and says when the next one is
    /// due: one transaction. Nothing where the claim does not hold any more: whoever came after drills again. Says whether others
    /// were told.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_drill(&self, worker: &Worker, claimed: &ClaimedDrill, end: &DrillEnd) -> Result<bool> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut record) = self.held_drill(worker, claimed).await? else { return Ok(false) };
            let (destination, now) = (record.value.held_destination, self.now());
            // whoever asked while it was to stop meant another one
            let is_asked = record.value.stopping && record.value.asked;
            record.value.let_go();
            let Some(run) = record.value.take(claimed, end, now) else {
                let write = record.replace(record.value.index(worker.scope()))?;
                match self.write_unrecorded(vec![write]).await? {
                    Written::Yes => return Ok(false),
                    Written::Outrun => continue,
                }
            };
            if is_asked {
                (record.value.asked, record.value.due) = (true, Some(whole_second(now)));
            }
            let mut writes = vec![record.replace(record.value.index(worker.scope()))?];
            if run.drill.outcome != DrillOutcome::NotRun {
                writes.extend(self.note_in_backup(worker.scope(), &run).await?);
            }
            if self.commit(&worker.author(), act(&claimed.project, destination, &run), writes).await? == Written::Yes {
                return Ok(true);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// The last drill in the record of the backup; nothing where that is gone.
    async fn note_in_backup(&self, scope: &OrganizationScope, run: &DrillRun) -> Result<Option<ItemWrite>> {
        let Some(id) = &run.backup_id else { return Ok(None) };
        let Some(mut stored) = self.load::<Job>(&scope.job_key(id)).await? else { return Ok(None) };
        let Job::Backup(backup) = &mut stored.value else { return Ok(None) };
        backup.last_drill = Some(run.drill.clone());
        replace_job(scope, &stored).map(Some)
    }

    /// The projects of an organization that are this one of Google's.
    pub(crate) async fn projects_named(
        &self,
        scope: &OrganizationScope,
        google_project: &str,
    ) -> Result<Vec<ProjectId>> {
        let all = self.all::<ProjectRecord>(scope.projects()).await?.into_iter().map(|record| record.value.project);
        Ok(all.filter(|project| project.google_project == google_project).map(|project| project.id).collect())
    }

    /// Whether somebody drills just now in a destination.
    pub(crate) async fn is_drilled(&self, scope: &OrganizationScope, destination: DestinationId) -> Result<bool> {
        let (all, now) = (self.all::<DrillRecord>(scope.all_drills()).await?, self.now());
        let is_there = |record: &DrillRecord| record.is_held(now) && record.held_destination == Some(destination);
        Ok(all.iter().any(|record| is_there(&record.value)))
    }
}

impl DrillRecord {
    fn is_due(&self, now: Timestamp) -> bool {
        self.is_on() && self.due.is_some_and(|due| due <= now)
    }

    fn hold(&mut self, claimed: &ClaimedDrill, now: Timestamp) {
        self.holder = Some(claimed.holder.clone());
        self.held_until = Some(whole_second(now).plus_seconds(claimed.lease_seconds));
    }

    fn let_go(&mut self) {
        (self.holder, self.held_until, self.held_destination, self.stopping) = (None, None, None, false);
    }

    /// Takes what came of a drill; what there is to tell of it, if it is not tried again.
    fn take(&mut self, claimed: &ClaimedDrill, end: &DrillEnd, now: Timestamp) -> Option<DrillRun> {
        let run = match end {
            // where it was disabled meanwhile, it is not due any more
            DrillEnd::Stopped => return None,
            DrillEnd::NotRun { may_pass: true, .. } if self.tries + 1 < MOST_TRIES => {
                self.tries += 1;
                self.due = Some(whole_second(now).plus_seconds(AGAIN_SECONDS));
                return None;
            }
            DrillEnd::NotRun { message, .. } => {
                let drill = BackupDrill { at: now, outcome: DrillOutcome::NotRun, documents: 0, moments: 0 };
                DrillRun { drill, backup_id: claimed.backup.clone(), report_id: None, message: Some(cut(message)) }
            }
            DrillEnd::Run { outcome, documents, moments, report, message } => DrillRun {
                drill: BackupDrill { at: now, outcome: *outcome, documents: *documents, moments: *moments },
                backup_id: claimed.backup.clone(),
                report_id: report.clone(),
                message: message.as_deref().map(cut),
            },
        };
        (self.asked, self.tries) = (false, 0);
        self.due = self.next_due(now);
        self.last = Some(run.clone());
        Some(run)
    }
}

fn cut(message: &str) -> String {
    message.chars().take(MAX_MESSAGE).collect()
}

/// What is told of a drill: no message, for that may name a document.
fn act(project: &ProjectId, destination: Option<DestinationId>, run: &DrillRun) -> Act {
    let BackupDrill { outcome, documents, moments, .. } = run.drill;
    let mut told = json!({
        "kind": "drill", "projectId": project, "storageDestinationId": destination,
        "verified": outcome == DrillOutcome::Passed, "outcome": outcome.name(), "reportId": run.report_id,
        "result": { "documents": documents, "moments": moments },
    });
    if let Some(code) = outcome.code() {
        told["error"] = json!({ "code": code });
    }
    let action = if outcome == DrillOutcome::Passed { "verification.completed" } else { "verification.failed" };
    match &run.backup_id {
        Some(backup) => Act::new(action, backup).with(told),
        None => Act::new(action, project).with(told),
    }
}

/// For what was refused while a drill was prepared: whether it may pass without somebody doing something.
impl From<&ControlError> for DrillEnd {
    fn from(error: &ControlError) -> Self {
        match error.kind {
            Kind::Cancelled => Self::Stopped,
            _ => Self::NotRun { message: error.to_string(), may_pass: error.can_be_retried() },
        }
    }
}
