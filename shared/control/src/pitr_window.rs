//! One window of a capture: who captures now, with what, and what came of it.
//!
//! A window is claimed for a time that its holder makes longer while it works: whoever dies is followed by another once that is
//! over. Two who capture at one time all the same do no harm, for a chain of segments cannot fork; a claim only saves the work.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use serde::{Deserialize, Serialize};

use crate::access::ProjectAccess;
use crate::backup::BackupType;
use crate::control::Control;
use crate::destination::DestinationRecord;
use crate::error::{ControlError, Kind, Result};
use crate::id::{OrganizationId, PitrId, ProjectId};
use crate::item_keys;
use crate::job::{BackupJob, Job, JobFacts, JobStatus};
use crate::pitr_record::{CaptureFacts, CapturedGap, Course, PitrRecord, whole_second};
use crate::project::Project;
use crate::record::{MAX_ATTEMPTS, Stored, Written, decode};
use crate::tenant::Worker;
use crate::work::OpenedPlace;

/// A database whose changes are to be captured now: what travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DueCapture {
    /// Whose.
    pub organization: OrganizationId,
    /// Of which project.
    pub project: ProjectId,
    /// Which of its databases.
    pub database: String,
}

/// A window that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueWindow {
    /// Of which database.
    pub capture: DueCapture,
    /// Since when.
    pub due: Timestamp,
}

impl DueWindow {
    pub(crate) fn of(record: PitrRecord) -> Self {
        let (organization, project) = (record.organization_id, record.project_id);
        Self { due: record.due, capture: DueCapture { organization, project, database: record.database } }
    }

    /// Names it among all windows: a queue takes it once.
    #[must_use]
    pub fn id(&self) -> String {
        let DueCapture { project, database, .. } = &self.capture;
        format!("{project}/{database}/{}", self.due.seconds)
    }
}

/// A window that nobody else captures.
#[derive(Debug, Clone)]
pub struct ClaimedWindow {
    /// Names the recovery that it is of.
    pub id: PitrId,
    project: ProjectId,
    database: String,
    holder: String,
    begun: Timestamp,
    lease_seconds: i64,
    looks: bool,
}

/// What a window needs, secrets opened. Neither `Debug` nor anything stored shows them.
#[derive(Debug, Clone)]
pub struct WindowWork {
    /// The project.
    pub project: Project,
    /// What opens it.
    pub project_access: ProjectAccess,
    /// Which of its databases.
    pub database: String,
    /// Where the repository is.
    pub place: OpenedPlace,
    /// How long a window is.
    pub window_seconds: u32,
    /// Whether something was captured there before: then there must be a repository.
    pub has_begun: bool,
    /// Which segments are to be merged behind it.
    pub merges: Merges,
    /// Whether it is to be looked how the chain stands, even if nothing is captured: for long nobody did, or what the window before
    /// had sealed is not known.
    pub looks: bool,
}

/// Which segments are to be merged behind a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merges {
    /// None: it was done or tried just now, or there was not even the time for what is small.
    Nothing,
    /// Those that are small together: there was not the time for all of them.
    Small,
    /// All.
    All,
}

/// What became of merging segments behind a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Merging {
    /// It was not tried.
    #[default]
    NotTried,
    /// They were merged, or there were none to merge; or it failed, or was stopped, which the next windows need not try at once.
    Tried,
    /// There was not the time for it. The next one would come no further, and what changes meanwhile is captured late.
    TooLong,
    /// The same, though only what is small was merged.
    SmallTooLong,
}

/// What was captured in a window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CapturedWindow {
    /// Up to where.
    pub through: Option<Timestamp>,
    /// Documents put and deleted, of what was sealed.
    pub changes: u64,
    /// Why not all could be captured, where the database would have to be read and may not be.
    pub spent: Option<String>,
    /// How the chain stands, where somebody looked.
    pub facts: Option<CaptureFacts>,
    /// What became of merging segments.
    pub merging: Merging,
    /// Whether gaps are how it goes, and nobody is told of one: an emulator is read anew in each window.
    pub expects_gaps: bool,
}

/// What came of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowEnd {
    /// It was captured.
    Captured(Box<CapturedWindow>),
    /// Its repository has no backup of the whole database to begin from.
    NoBackup,
    /// It was asked to stop: what it had captured stands, and the next one goes on at once.
    Stopped,
    /// The database had to be read, and there was not the time for all of it. The next window would begin anew and come no
    /// further: a backup reads it in parts, and capturing goes on from there.
    TooLong,
    /// It failed.
    Failed {
        /// Why; for the user.
        message: String,
        /// Whether it may pass by itself.
        may_pass: bool,
    },
}

/// How long it waits for a backup before it looks again.
const BACKUP_SECONDS: i64 = 15;
/// When it is tried again whose destination is just about to be moved.
const MOVING_SECONDS: i64 = 60;
/// The longest pause after failures, unless a window is longer.
const LONGEST_PAUSE_SECONDS: i64 = 600;
/// How long after a backup to go on from no other one is begun, though there is again not the time to read a database: what is read is
/// paid for.
const TOO_LONG_SECONDS: i64 = 6 * 3600;
/// The same where nothing was captured behind it: then the next one is as likely to help as that one was.
const IN_VAIN_SECONDS: i64 = 24 * 3600;
/// How long it rests where such a backup cannot be begun just now.
const NOT_BEGUN_SECONDS: i64 = 3600;
const TOO_LONG: &str =
    "the stream of changes cannot be gone on with, and reading the whole database takes longer than a function may";
const GOES_ON_BEHIND: &str = "it goes on behind a backup";
const RESTS: &str = "it is tried again later: have `firebackup serve` or `firebackup pitr start` capture it, or give the function \
    more memory and resume";
/// How often segments are merged.
const MERGE_SECONDS: i64 = 600;
/// How long it is not tried to merge what is large once there was not the time for it, nor anything where there was not the time for
/// what is small either: each try is time in which nothing is captured.
const MERGE_TOO_LONG_SECONDS: i64 = 6 * 3600;
/// How often it is looked how the chain stands where nothing changes and each window ended well.
const LOOK_SECONDS: i64 = 300;
/// How often others are told of captured changes at most.
const TELL_SECONDS: i64 = 60;
/// The most characters of a message that are kept.
const MAX_MESSAGE: usize = 1000;

impl Control {
    /// The databases whose changes are to be captured now, of all organizations, those that wait longest first, at most so
    /// many. The index may be a moment behind: whether it is still so is seen when the window is claimed.
    ///
    /// Only for `bootstrap`, as [`worker`](Self::worker).
    ///
    /// # Errors
    /// When the store fails.
    pub async fn due_captures(&self, most: u32) -> Result<Vec<DueCapture>> {
        Ok(self.due_windows(most).await?.into_iter().map(|window| window.capture).collect())
    }

    /// The same, with since when they are due.
    ///
    /// # Errors
    /// As [`Self::due_captures`].
    pub async fn due_windows(&self, most: u32) -> Result<Vec<DueWindow>> {
        let query = item_keys::due_pitrs(whole_second(self.now()).plus_seconds(1), most);
        let page = self.items().query(&query).await?;
        page.items.into_iter().map(|item| Ok(DueWindow::of(decode::<PitrRecord>(item)?.value))).collect()
    }

    /// Claims the next window of a capture for so many seconds; nothing where none is due, somebody else captures, it waits
    /// for a backup, or its destination is about to be moved.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claim_window(
        &self,
        worker: &Worker,
        due: &DueCapture,
        lease_seconds: u32,
    ) -> Result<Option<ClaimedWindow>> {
        let scope = worker.scope();
        let key = scope.pitr_key(&due.project, &due.database);
        for _ in 0..MAX_ATTEMPTS {
            let now = self.now();
            let Some(mut record) = self.load::<PitrRecord>(&key).await? else { return Ok(None) };
            if !record.value.is_on() || record.value.due > now {
                return Ok(None);
            }
            if let Some(seconds) = self.must_wait(worker, &record.value).await? {
                (record.value.holder, record.value.due) = (None, whole_second(now).plus_seconds(seconds));
                self.write_unrecorded(vec![record.replace(record.value.index(scope))?]).await?;
                return Ok(None);
            }
            let claimed = self.claim(&record.value, lease_seconds);
            record.value.hold(&claimed, now);
            record.value.course.is_unseen = true;
            (record.value.course.rests_since, record.value.course.has_new_backup) = (None, false);
            // whoever moves the destination waits for those who hold a window, and sees this one
            let destination = scope.destination_key(&record.value.storage_destination_id);
            let destination = self.load::<DestinationRecord>(&destination).await?;
            let mut writes = vec![record.replace(record.value.index(scope))?, self.goes_on(scope).await?];
            writes.extend(destination.map(|destination| destination.check()));
            if self.write_unrecorded(writes).await? == Written::Yes {
                return Ok(Some(claimed));
            }
        }
        Err(ControlError::concurrent_change())
    }

    fn claim(&self, record: &PitrRecord, lease_seconds: u32) -> ClaimedWindow {
        let mut random = [0; 8];
        self.ports().random.fill(&mut random);
        ClaimedWindow {
            id: record.id,
            project: record.project_id,
            database: record.database.clone(),
            holder: hex::encode(random),
            begun: self.now(),
            lease_seconds: i64::from(lease_seconds),
            looks: record.course.is_unseen,
        }
    }

    /// For how many seconds nothing can be captured yet.
    async fn must_wait(&self, worker: &Worker, record: &PitrRecord) -> Result<Option<i64>> {
        if let Some(backup) = self.initial_backup(worker, record).await?
            && !backup.status.has_ended()
        {
            return Ok(Some(BACKUP_SECONDS));
        }
        let destination = worker.scope().destination_key(&record.storage_destination_id);
        let destination = self.load::<DestinationRecord>(&destination).await?;
        // one that is gone is a failure, and noted as one
        let is_closed = destination.is_some_and(|destination| destination.value.check_usable().is_err());
        Ok(is_closed.then_some(MOVING_SECONDS))
    }

    async fn initial_backup(&self, worker: &Worker, record: &PitrRecord) -> Result<Option<JobFacts>> {
        let Some(id) = &record.initial_backup_id else { return Ok(None) };
        let job = self.load::<Job>(&worker.scope().job_key(id)).await?;
        Ok(job.map(|job| job.value.facts().clone()))
    }

    /// What a claimed window needs.
    ///
    /// # Errors
    /// [`Conflict`](Kind::Conflict) where the project or the destination is gone or closed; when what opens them does not open.
    pub async fn window_work(&self, worker: &Worker, claimed: &ClaimedWindow) -> Result<WindowWork> {
        let scope = worker.scope();
        let record = self.load::<PitrRecord>(&scope.pitr_key(&claimed.project, &claimed.database)).await?;
        let record = record.ok_or_else(ControlError::cancelled)?.value;
        self.project_record(scope, &record.project_id).await?.value.check_usable()?;
        let organization = self.organization_record(scope).await?;
        let (project, project_access) = self.opened_project(scope, &organization, record.project_id).await?;
        let place = self.place_at(scope, organization, record.storage_destination_id, record.repository()).await?;
        let now = self.now();
        let course = &record.course;
        Ok(WindowWork {
            project,
            project_access,
            place,
            window_seconds: record.change_window_minutes * 60,
            has_begun: course.facts.captured_through.is_some(),
            merges: course.merges(now),
            looks: claimed.looks || is_over(course.looked_at, LOOK_SECONDS, now),
            database: record.database,
        })
    }

    /// Makes a claim longer; says whether it still holds. Where not (it was paused, disabled, or taken for dead), whoever
    /// holds it stops.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn hold_window(&self, worker: &Worker, claimed: &ClaimedWindow) -> Result<bool> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut record) = self.held(worker, claimed).await? else { return Ok(false) };
            record.value.hold(claimed, self.now());
            let index = record.value.index(worker.scope());
            if self.write_unrecorded(vec![record.replace(index)?]).await? == Written::Yes {
                return Ok(true);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// The record, if the claim still holds.
    async fn held(&self, worker: &Worker, claimed: &ClaimedWindow) -> Result<Option<Stored<PitrRecord>>> {
        let key = worker.scope().pitr_key(&claimed.project, &claimed.database);
        let record = self.load::<PitrRecord>(&key).await?;
        let is_ours = |record: &PitrRecord| record.is_on() && record.holder.as_ref() == Some(&claimed.holder);
        Ok(record.filter(|record| is_ours(&record.value)))
    }

    /// Notes what came of a window, and when the next one begins; begins a backup where there is none to begin from. Nothing
    /// where the claim does not hold any more: whoever came after knows better.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_window(&self, worker: &Worker, claimed: &ClaimedWindow, end: &WindowEnd) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut record) = self.held(worker, claimed).await? else { return Ok(()) };
            record.value.holder = None;
            let written = match end {
                WindowEnd::NoBackup => self.end_without_backup(worker, record).await?,
                WindowEnd::TooLong => self.end_too_long(worker, record).await?,
                _ => {
                    let ahead = self.ports().settings.captures_ahead_seconds;
                    let gaps = record.value.take(claimed, end, self.now(), ahead);
                    self.note_window(worker, record, &gaps).await?
                }
            };
            if written == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Stores what came of a window, gaps among it, and tells whom it concerns.
    async fn note_window(
        &self,
        worker: &Worker,
        mut record: Stored<PitrRecord>,
        gaps: &[CapturedGap],
    ) -> Result<Written> {
        let now = self.now();
        let ill = record.value.tell_ill(now);
        let told = record.value.tell_changes(now);
        let acts = ill.into_iter().chain(gaps.iter().map(|gap| record.value.tell_gap(gap))).collect();
        let written = self.store_telling(worker, &record, acts).await?;
        if written == Written::Yes
            && let Some(changes) = told
        {
            self.publish_captured(worker.scope(), &record.value, changes).await;
        }
        Ok(written)
    }

    /// Begins a backup to begin from, unless the last one failed just now.
    async fn end_without_backup(&self, worker: &Worker, mut record: Stored<PitrRecord>) -> Result<Written> {
        let now = self.now();
        let last = self.initial_backup(worker, &record.value).await?;
        let pitr = &mut record.value;
        pitr.due = whole_second(now).plus_seconds(BACKUP_SECONDS);
        if let Some(last) = &last {
            let next = last.ended_at.map_or(now, |ended| ended.plus_seconds(pitr.pause_seconds()));
            if !last.status.has_ended() || next > now {
                pitr.due = pitr.due.max(whole_second(next));
                return self.note_window(worker, record, &[]).await;
            }
            pitr.course.failed(&failure_of(last), false, now);
        }
        match self.begin_backup(worker, record.clone()).await {
            Ok(written) => Ok(written),
            Err(error) => {
                let may_pass = error.can_be_retried();
                record.value.fail(&error.to_string(), may_pass, now);
                self.note_window(worker, record, &[]).await
            }
        }
    }

    /// Begins a backup to go on from, which reads in parts what a window cannot, unless there was one not long ago.
    async fn end_too_long(&self, worker: &Worker, mut record: Stored<PitrRecord>) -> Result<Written> {
        let now = self.now();
        if record.value.course.has_new_backup {
            // the window did not see it yet
            record.value.due = whole_second(now);
            return self.note_window(worker, record, &[]).await;
        }
        let last = self.initial_backup(worker, &record.value).await?;
        let (mut why, mut is_fatal, mut rests) = (String::new(), true, record.value.rests_behind(last.as_ref()));
        if last.and_then(|last| last.ended_at).is_none_or(|ended| ended.plus_seconds(rests) <= now) {
            let mut begun = record.clone();
            begun.value.course.failed(&format!("{TOO_LONG}: {GOES_ON_BEHIND}"), false, now);
            begun.value.course.is_spent = true;
            begun.value.due = whole_second(now).plus_seconds(BACKUP_SECONDS);
            match self.begin_backup(worker, begun).await {
                Err(error) => {
                    why = format!(", and no backup to go on from can be begun ({error})");
                    (is_fatal, rests) = (!error.can_be_retried(), NOT_BEGUN_SECONDS);
                }
                begun => return begun,
            }
        }
        record.value.course.failed(&format!("{TOO_LONG}{why}: {RESTS}"), is_fatal, now);
        record.value.course.rests_since = Some(now);
        record.value.due = whole_second(now).plus_seconds(rests);
        self.note_window(worker, record, &[]).await
    }

    /// Has a capture that rests go on at once where a backup to go on from was made meanwhile, whoever asked for it. Where that
    /// fails, it goes on once it has rested.
    pub(crate) async fn wake_capture(&self, worker: &Worker, job: &Job) {
        let Job::Backup(backup) = job else { return };
        if let Err(error) = self.try_to_wake(worker, backup).await {
            tracing::warn!(backup = %backup.job.id, error = %error, "a capture that could go on behind a backup rests on");
        }
    }

    async fn try_to_wake(&self, worker: &Worker, backup: &BackupJob) -> Result<()> {
        if backup.job.status != JobStatus::Completed {
            return Ok(());
        }
        let scope = worker.scope();
        let key = scope.pitr_key(&backup.project_id, &backup.database);
        for _ in 0..MAX_ATTEMPTS {
            let record = self.load::<PitrRecord>(&key).await?;
            let Some(mut record) = record.filter(|record| record.value.is_woken_by(backup)) else { return Ok(()) };
            if record.value.holder.is_some() {
                record.value.course.has_new_backup = true;
            } else {
                record.value.due = record.value.due.min(whole_second(self.now()));
                record.value.course.rests_since = None;
            }
            let index = record.value.index(scope);
            if self.write_unrecorded(vec![record.replace(index)?]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    async fn begin_backup(&self, worker: &Worker, mut record: Stored<PitrRecord>) -> Result<Written> {
        self.check_active(worker.scope()).await?;
        let author = worker.author();
        let (backup, checks) = self.backup_to_begin_from(&author, &record.value).await?;
        record.value.initial_backup_id = Some(backup.job.id.clone());
        let mut with = vec![record.replace(record.value.index(worker.scope()))?];
        with.extend(checks);
        self.store_backup(&author, backup, with).await
    }
}

/// Whether so many seconds have passed since, or it never was.
fn is_over(last: Option<Timestamp>, seconds: i64, now: Timestamp) -> bool {
    last.is_none_or(|last| last.plus_seconds(seconds) <= now)
}

fn failure_of(backup: &JobFacts) -> String {
    let id: &JobId = &backup.id;
    match &backup.error {
        Some(error) => format!("the backup {id} to begin from failed: {}", error.message),
        None => format!(
            "the backup {id} to begin from, or a change captured since, is gone or damaged: another one is made"
        ),
    }
}

impl PitrRecord {
    fn hold(&mut self, claimed: &ClaimedWindow, now: Timestamp) {
        self.holder = Some(claimed.holder.clone());
        self.due = whole_second(now).plus_seconds(claimed.lease_seconds);
    }

    /// Whether it rests for want of a backup such as this one, which was made since, or may have to when its window ends. One that
    /// was read before the changes end, or merged from them, does not help, nor one that was not read at one time.
    fn is_woken_by(&self, backup: &BackupJob) -> bool {
        let rests = self.course.rests_since.is_some_and(|since| backup.job.ended_at > Some(since));
        let may_rest = self.holder.is_some() && !self.course.has_new_backup;
        let result = backup.job.result.as_ref();
        let read = result.and_then(|result| result.read_time);
        let is_behind = read.is_none_or(|read| Some(read) > self.course.facts.captured_through);
        let is_of_one_time = result.and_then(|result| result.consistency.as_deref()) != Some("ranged");
        let is_read = backup.config.kind != BackupType::Synthetic && is_behind && is_of_one_time;
        self.is_on() && (rests || may_rest) && is_read && self.can_begin_from(backup)
    }

    /// How long it rests after as many failures as there were.
    fn pause_seconds(&self) -> i64 {
        let doubled = 1_i64 << self.course.failures.saturating_sub(1).min(16);
        let window = self.window_seconds();
        window.saturating_mul(doubled).min(LONGEST_PAUSE_SECONDS.max(window))
    }

    /// For how many seconds behind a backup to go on from no other one is begun.
    fn rests_behind(&self, last: Option<&JobFacts>) -> i64 {
        let ended = last.and_then(|last| last.ended_at);
        match ended.is_none() || self.course.captured_at > ended {
            true => TOO_LONG_SECONDS,
            false => IN_VAIN_SECONDS,
        }
    }

    fn fail(&mut self, message: &str, may_pass: bool, now: Timestamp) {
        self.course.failed(message, !may_pass, now);
        self.due = whole_second(now).plus_seconds(self.pause_seconds());
    }

    /// Takes what came of a window, and says which gaps came to be; the next one is due so many seconds before this one is over.
    fn take(
        &mut self,
        claimed: &ClaimedWindow,
        end: &WindowEnd,
        now: Timestamp,
        ahead_seconds: u32,
    ) -> Vec<CapturedGap> {
        let mut gaps = Vec::new();
        match end {
            WindowEnd::Captured(captured) => {
                gaps = self.new_gaps(captured);
                self.course.captured(captured, now);
                let ahead = i64::from(ahead_seconds).min(self.window_seconds() / 2);
                self.due = whole_second(claimed.begun.plus_seconds(self.window_seconds() - ahead).max(now));
            }
            WindowEnd::Failed { message, may_pass } => self.fail(message, *may_pass, now),
            WindowEnd::Stopped | WindowEnd::NoBackup | WindowEnd::TooLong => self.due = whole_second(now),
        }
        gaps
    }

    /// How many changes somebody is to be told of now.
    fn tell_changes(&mut self, now: Timestamp) -> Option<u64> {
        let course = &mut self.course;
        let was_told = course.told_at.is_some_and(|told| told.plus_seconds(TELL_SECONDS) > now);
        if course.untold == 0 || was_told {
            return None;
        }
        course.told_at = Some(now);
        Some(std::mem::take(&mut course.untold))
    }
}

impl Course {
    /// Which segments are to be merged now.
    fn merges(&self, now: Timestamp) -> Merges {
        let may_be_small = is_over(self.compacted_at, MERGE_SECONDS, now)
            && is_over(self.small_merging_took_too_long_at, MERGE_TOO_LONG_SECONDS, now);
        let may_be_large = is_over(self.merging_took_too_long_at, MERGE_TOO_LONG_SECONDS, now);
        match (may_be_small, may_be_large) {
            (false, _) => Merges::Nothing,
            (true, false) => Merges::Small,
            (true, true) => Merges::All,
        }
    }

    fn failed(&mut self, message: &str, is_fatal: bool, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.is_fatal = is_fatal;
        self.trouble = Some(message.chars().take(MAX_MESSAGE).collect());
        self.trouble_at = Some(now);
    }

    fn captured(&mut self, captured: &CapturedWindow, now: Timestamp) {
        (self.failures, self.is_fatal) = (0, false);
        self.captured_at = Some(now);
        self.is_unseen = false;
        self.through = captured.through.max(self.through);
        self.untold = self.untold.saturating_add(captured.changes);
        self.is_spent = captured.spent.is_some();
        if let Some(spent) = &captured.spent {
            (self.trouble, self.trouble_at) = (Some(spent.chars().take(MAX_MESSAGE).collect()), Some(now));
        }
        if let Some(facts) = &captured.facts {
            (self.facts, self.looked_at) = (facts.clone(), Some(now));
        }
        if captured.merging != Merging::NotTried {
            self.compacted_at = Some(now);
        }
        match captured.merging {
            Merging::NotTried | Merging::Tried => {}
            Merging::TooLong => self.merging_took_too_long_at = Some(now),
            Merging::SmallTooLong => self.small_merging_took_too_long_at = Some(now),
        }
    }
}

/// For what was refused while a window was opened: whether it may pass without somebody doing something.
impl From<&ControlError> for WindowEnd {
    fn from(error: &ControlError) -> Self {
        match error.kind {
            Kind::Cancelled => Self::Stopped,
            _ => Self::Failed { message: error.to_string(), may_pass: error.can_be_retried() },
        }
    }
}
