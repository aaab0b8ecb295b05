//! What steps say of a job: that it begins, how far it is, how it ended.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::port::{ItemBody, ItemWrite, Started, Workflow};

use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::job::{
    Job, JobEnd, JobError, JobErrorCode, JobFacts, JobMessage, JobResult, JobStatus, QueuedJobs, StartOutcome,
};
use crate::job_records::{ActiveJob, RunningJobs, in_days, job_act, progress_of, replace_job};
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::tenant::{Author, OrganizationScope, Worker};

/// For how long counters are kept behind their last change.
pub(crate) const COUNTERS_DAYS: i64 = 90;
/// The most characters an error of a job may have.
const MAX_ERROR: usize = 2000;
/// The most bytes of a dry run's preview; a record has at most 400 KB.
const MAX_PREVIEW: usize = 128 * 1024;
/// The most warnings of a result, and the most characters of one.
const MAX_WARNINGS: usize = 100;
const MAX_WARNING: usize = 500;

/// What counts, as [`Control::note_progress`] takes it.
const CHUNKS_DONE: &str = "chunksDone";
const COUNTERS: [&str; 7] = ["documents", "bytes", "stored", "reads", "writes", "chunks", CHUNKS_DONE];

impl Control {
    /// Starts a job, if its organization has a place for one more.
    ///
    /// A job is given its place in one transaction, and its workflow, named by its id, is started behind that: dying in
    /// between is mended by doing it again.
    ///
    /// # Errors
    /// When a service fails: the message is to come again.
    pub async fn start_job(&self, worker: &Worker, id: &JobId) -> Result<StartOutcome> {
        let scope = worker.scope();
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut job) = self.load::<Job>(&scope.job_key(id)).await? else { return Ok(StartOutcome::Ended) };
            job.value.name_request();
            match job.value.status() {
                JobStatus::Running | JobStatus::Cancelling => return self.start_workflow(scope, &job.value).await,
                status if status.has_ended() => return Ok(StartOutcome::Ended),
                _ => {}
            }
            let Some(place) = self.take_place(scope, id).await? else { return Ok(StartOutcome::Busy) };
            let facts = job.value.facts_mut();
            facts.status = JobStatus::Running;
            facts.started_at = Some(self.now());
            let writes = vec![replace_job(scope, &job)?, place];
            if self.commit(&worker.author(), job_act(&job.value, "started"), writes).await? == Written::Yes {
                return self.start_workflow(scope, &job.value).await;
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Puts the job among those that run; nothing if there are as many as may be.
    async fn take_place(&self, scope: &OrganizationScope, id: &JobId) -> Result<Option<ItemWrite>> {
        let most = self.organization_record(scope).await?.value.organization.max_running_jobs;
        let Some(mut running) = self.running(scope).await? else {
            let first = RunningJobs { jobs: [id.clone()].into() };
            return Ok(Some(ItemWrite::Create(new_item(scope.running_key(), &first, None)?)));
        };
        if running.value.jobs.len() >= most as usize && !running.value.jobs.contains(id) {
            return Ok(None);
        }
        running.value.jobs.insert(id.clone());
        Ok(Some(running.replace(None)?))
    }

    pub(crate) async fn start_workflow(&self, scope: &OrganizationScope, job: &Job) -> Result<StartOutcome> {
        let message = JobMessage { job: job.id().clone(), organization: scope.organization() };
        let input = serde_json::to_value(&message).map_err(ControlError::internal)?;
        match self.ports().workflows.start(workflow(job), job.id().as_str(), &input).await? {
            Started::Before => Ok(StartOutcome::AlreadyStarted),
            Started::New => {
                // nobody waits for this one: it is not worth a job that does not start
                if let Err(error) = self.publish_started(scope, job).await {
                    tracing::warn!(job = %job.id(), error = %error, "nobody is told that a job has begun");
                }
                Ok(StartOutcome::Started)
            }
        }
    }

    /// Whether somebody has asked for the job's end, or it has ended: either way there is nothing more to do.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_cancelled(&self, worker: &Worker, id: &JobId) -> Result<bool> {
        let job = self.load::<Job>(&worker.scope().job_key(id)).await?;
        Ok(job.is_none_or(|job| !matches!(job.value.status(), JobStatus::Pending | JobStatus::Running)))
    }

    /// Notes how many chunks the plan has. Saying it twice is saying it once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_chunks(&self, worker: &Worker, id: &JobId, chunks: u64) -> Result<()> {
        let scope = worker.scope();
        for _ in 0..MAX_ATTEMPTS {
            let mut job = self.job(scope, id).await?;
            if job.value.facts().chunks == Some(chunks) {
                return Ok(());
            }
            job.value.facts_mut().chunks = Some(chunks);
            if self.write_unrecorded(vec![replace_job(scope, &job)?]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Notes why a step of a job failed; the last one noted wins. It is shown only if the job fails and nobody knows the
    /// reason ([`JobEnd::Unexplained`]), and is forgotten with the job's end. A job that has ended takes none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_failure(&self, worker: &Worker, id: &JobId, code: JobErrorCode, message: &str) -> Result<()> {
        let failure = Some(job_error(code, message));
        for _ in 0..MAX_ATTEMPTS {
            let active = self.load::<ActiveJob>(&worker.scope().active_key(id)).await?;
            let Some(mut active) = active.filter(|active| active.value.failure != failure) else { return Ok(()) };
            active.value.failure.clone_from(&failure);
            if self.write_unrecorded(vec![active.replace(None)?]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Notes why a backup is full although it was to be incremental, as its plan says: its result will.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_full(&self, worker: &Worker, id: &JobId, reason: &str) -> Result<()> {
        let reason: String = reason.chars().take(MAX_WARNING).collect();
        for _ in 0..MAX_ATTEMPTS {
            let active = self.load::<ActiveJob>(&worker.scope().active_key(id)).await?;
            let Some(mut active) = active.filter(|active| active.value.full_because.as_ref() != Some(&reason)) else {
                return Ok(());
            };
            active.value.full_because = Some(reason.clone());
            if self.write_unrecorded(vec![active.replace(None)?]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Adds to the job's counters: `documents`, `bytes`, `stored`, `reads`, `writes`, `chunks`, `chunksDone`.
    ///
    /// # Errors
    /// When the store fails, or there is no such counter.
    pub async fn note_progress(&self, worker: &Worker, id: &JobId, amounts: &[(&str, i64)]) -> Result<()> {
        if let Some((unknown, _)) = amounts.iter().find(|(name, _)| !COUNTERS.contains(name)) {
            return Err(ControlError::internal(format!("there is no counter {unknown}")));
        }
        let key = worker.scope().progress_key(id);
        let counters = self.items().add(&key, amounts, Some(in_days(self.now(), COUNTERS_DAYS))).await?;
        match amounts.iter().find(|(name, _)| *name == CHUNKS_DONE) {
            Some((_, amount)) if *amount > 0 => self.tell_progress(worker, id, &counters, *amount).await,
            _ => self.tell_live_progress(worker, id, &counters).await,
        }
    }

    /// Tells how far a job is where another tenth of its chunks is done now. Counters are added to one after the other, so
    /// that each tenth is told by whoever completed it.
    async fn tell_progress(&self, worker: &Worker, id: &JobId, counters: &ItemBody, amount: i64) -> Result<()> {
        let Some(job) = self.load::<Job>(&worker.scope().job_key(id)).await? else { return Ok(()) };
        let facts = job.value.facts();
        let progress = progress_of(facts, counters);
        let amount = u64::try_from(amount).unwrap_or_default();
        let tenth = |done: u64| done.saturating_mul(10) / progress.chunks.max(1);
        let reached = tenth(progress.chunks_done);
        let is_under_way = progress.chunks > 0 && reached < 10 && !facts.status.has_ended();
        if is_under_way && reached > tenth(progress.chunks_done.saturating_sub(amount)) {
            self.publish_progress(worker.scope(), &job.value, reached, &progress).await;
        }
        Ok(())
    }

    /// Ends a job, frees its place, and tells whoever wants to know. Gives the job as it is for ever now: one that has ended
    /// before stays as it is, and it is told again. One that was asked to end is cancelled, however it failed.
    ///
    /// # Errors
    /// When a service fails: it is to be done again.
    pub async fn finish_job(&self, worker: &Worker, id: &JobId, end: JobEnd) -> Result<Job> {
        let scope = worker.scope();
        for _ in 0..MAX_ATTEMPTS {
            let job = self.job(scope, id).await?;
            job.value.name_request();
            if job.value.status().has_ended() {
                self.note_trouble_of(worker, &job.value).await;
                self.wake_capture(worker, &job.value).await;
                self.publish_ended(scope, &job.value).await?;
                self.wake_waiting(scope).await?;
                return Ok(job.value);
            }
            if self.end_if_unchanged(&worker.author(), job, end.clone()).await? == Written::Yes {
                let job = self.job(scope, id).await?.value;
                self.note_trouble_of(worker, &job).await;
                self.wake_capture(worker, &job).await;
                self.publish_ended(scope, &job).await?;
                self.wake_waiting(scope).await?;
                return Ok(job);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Ends a job if nobody has changed it since it was read.
    pub(crate) async fn end_if_unchanged(&self, author: &Author, mut job: Stored<Job>, end: JobEnd) -> Result<Written> {
        let scope = author.scope();
        let id = job.value.id().clone();
        let active = self.load::<ActiveJob>(&scope.active_key(&id)).await?;
        let marks = active.as_ref().map(|active| &active.value);
        let noted = marks.and_then(|active| active.failure.clone());
        end_facts(job.value.facts_mut(), end, noted, self.now());
        if let Some(result) = &mut job.value.facts_mut().result {
            result.reason = marks.and_then(|active| active.full_because.clone());
        }
        let mut writes = vec![replace_job(scope, &job)?];
        writes.extend(active.map(|active| active.delete()));
        if let Some(mut running) = self.running(scope).await?.filter(|running| running.value.jobs.contains(&id)) {
            running.value.jobs.remove(&id);
            writes.push(running.replace(None)?);
        }
        self.commit(author, job_act(&job.value, job.value.status().name()), writes).await
    }

    /// Asks for the start of jobs that wait, as many as there are places for them.
    async fn wake_waiting(&self, scope: &OrganizationScope) -> Result<()> {
        let most = self.organization_record(scope).await?.value.organization.max_running_jobs as usize;
        let running = self.running(scope).await?.map(|running| running.value.jobs).unwrap_or_default();
        let waiting = self.active_jobs(scope).await?.into_iter().filter(|job| !running.contains(&job.job));
        for job in waiting.take(most.saturating_sub(running.len())) {
            self.ask_to_start(scope, &job.job).await;
        }
        Ok(())
    }

    /// How many jobs of an organization have not ended. Asks for their marks: two reads, and no job is read.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn queued_jobs(&self, worker: &Worker) -> Result<QueuedJobs> {
        let running = self.running(worker.scope()).await?.map(|running| running.value.jobs).unwrap_or_default();
        let mut queued = QueuedJobs::default();
        for job in self.active_jobs(worker.scope()).await? {
            match running.contains(&job.job) {
                true => queued.active += 1,
                false => queued.waiting += 1,
            }
        }
        Ok(queued)
    }

    /// All jobs of an organization that have not ended, those that wait included; those that asked first first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn running_jobs(&self, worker: &Worker) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        for active in self.active_jobs(worker.scope()).await? {
            let job = self.load::<Job>(&worker.scope().job_key(&active.job)).await?;
            jobs.extend(job.map(|job| job.value).filter(|job| !job.status().has_ended()));
        }
        Ok(jobs)
    }
}

/// Puts its end into what a job says of itself.
fn end_facts(facts: &mut JobFacts, end: JobEnd, noted: Option<JobError>, now: Timestamp) {
    let was_asked_to_end = facts.status == JobStatus::Cancelling;
    facts.ended_at = Some(now);
    facts.progress = None;
    let error = match end {
        JobEnd::Completed(result) => {
            facts.status = JobStatus::Completed;
            facts.result = Some(bounded(*result));
            return;
        }
        JobEnd::Failed { code, message } if !was_asked_to_end => {
            let error = job_error(code, &message);
            // a state machine hands on what a step said, and not what it was
            noted.filter(|noted| noted.message == error.message).unwrap_or(error)
        }
        JobEnd::Unexplained { message } if !was_asked_to_end => {
            noted.unwrap_or_else(|| job_error(JobErrorCode::JobFailed, &message))
        }
        // a step that is in the way of an end that was asked for is no failure
        JobEnd::Failed { .. } | JobEnd::Unexplained { .. } | JobEnd::Cancelled => {
            facts.status = JobStatus::Cancelled;
            return;
        }
    };
    facts.status = JobStatus::Failed;
    facts.error = Some(error);
}

/// An error that fits into a record.
fn job_error(code: JobErrorCode, message: &str) -> JobError {
    JobError { code, message: message.chars().take(MAX_ERROR).collect() }
}

/// A result that fits into a record, whatever a dry run found.
fn bounded(mut result: JobResult) -> JobResult {
    if result.preview.as_ref().is_some_and(|preview| preview.to_string().len() > MAX_PREVIEW) {
        result.preview = None;
        result.warnings.insert(0, "the preview is too large to be kept: the counts are complete".to_owned());
    }
    result.warnings.truncate(MAX_WARNINGS);
    for warning in &mut result.warnings {
        if let Some((end, _)) = warning.char_indices().nth(MAX_WARNING) {
            warning.truncate(end);
        }
    }
    result
}

/// What runs a job.
pub(crate) const fn workflow(job: &Job) -> Workflow {
    match job {
        Job::Backup(_) => Workflow::Backup,
        Job::Restore(_) => Workflow::Restore,
    }
}
