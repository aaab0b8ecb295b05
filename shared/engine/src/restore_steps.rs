//! A restore, or its dry run, in steps that many processes do: what a state machine calls.
//!
//! As with [`BackupSteps`](crate::BackupSteps), what the steps know of each other stands sealed in the repository, and
//! every step can be killed and done again. A step that is done again compares what it wrote before and finds it right.

use std::sync::Arc;
use std::time::Duration;

use firebackup_codec::object::ObjectType;
use firebackup_codec::sealing::Sealing;
use firebackup_model::id::JobId;
use firebackup_model::job::{Intent, RestorePart, RestorePlan, RestorePosition};
use firebackup_model::port::UserSink;
use firebackup_model::{DocumentPath, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::contents::needed_runs;
use crate::error::{EngineError, Result};
use crate::layout;
use crate::merge::Layer;
use crate::objects::Put;
use crate::plan::{MAX_CHUNKS, gone, put_intent};
use crate::ramp::Share;
use crate::read::RunSource;
use crate::repository::Repository;
use crate::restore::{DryRun, Kept, Restore, RestoreReport, Tally};
use crate::restore_plan::read_restore_plan;
use crate::undo::UndoLog;
use crate::users::{UserReport, UserRestoreOptions, restore_users};
use crate::wanted::{WantedStream, check_renames, parts};
use crate::world::Meter;

/// Receipts read at one time.
const PARALLEL_READS: usize = 16;
/// How long a restore may take. Firestore's pace decides: a billion documents are a day of writes. What it reads and what
/// it replaced is kept for a day longer.
const MAX_RESTORE_SECONDS: i64 = 6 * 24 * 3600;
/// Problems that one receipt keeps: there may be thousands of receipts.
const PROBLEMS: usize = 100;

/// A restore to be done in steps.
pub struct RestoreSteps {
    /// What to restore, and how. `fresh` plays no part: a job's name says which restore is gone on with.
    pub restore: Restore,
    /// Where the snapshot's Auth users are put, as a part of their own; nothing where they are not restored.
    pub users: Option<RestoredUsers>,
    /// Whether only to say what the restore would do; nothing is said of Auth users then.
    pub dry_run: bool,
    /// About how many documents a part has.
    pub part_documents: u64,
    /// After how much time a step of a part ends with a receipt.
    pub step_time: Duration,
    /// How many documents that differ a dry run names.
    pub samples: usize,
}

/// Where Auth users are put, and how.
#[derive(Clone)]
pub struct RestoredUsers {
    /// Where.
    pub sink: Arc<dyn UserSink>,
    /// How.
    pub options: UserRestoreOptions,
}

/// What a step of a part came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartDone {
    /// The number of the step that follows.
    pub sequence: u32,
    /// Whether the part is done, so that none follows.
    pub done: bool,
    /// Whether this call did the step; otherwise another one had, and it has been counted.
    pub is_first: bool,
    /// What became of its documents; nothing of a dry run.
    pub tally: Tally,
    /// Documents that a dry run compared.
    pub compared: u64,
}

/// What a restore in steps came to.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RestoreOutcome {
    /// It was done.
    Restored {
        /// What became of the documents.
        report: RestoreReport,
        /// What became of the Auth users, where they were restored.
        users: Option<UserReport>,
    },
    /// It would do this.
    DryRun(DryRun),
}

/// `receipts/<job>/parts/<part>/<sequence>`: what one step of a part did. Put once: the loser of a race adopts it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PartReceipt {
    job: JobId,
    part: u32,
    sequence: u32,
    /// The last position it covered; nothing when the part is done.
    through: Option<RestorePosition>,
    tally: Tally,
    dry_run: Option<DryRun>,
    #[serde(default)]
    users: Option<UserReport>,
}

impl RestoreSteps {
    /// Plans the job, or adopts the plan that it has. Returns how many parts there are to do.
    ///
    /// # Errors
    /// When the restore is refused (renames, selection, guard, permissions), a port fails, or the job was named more than
    /// six days ago.
    pub async fn plan(&self, job: &JobId) -> Result<u32> {
        let repository = &self.restore.repository;
        check_age(repository, job, Timestamp::from_millis(job.millis().cast_signed()))?;
        if let Some(plan) = read_restore_plan(repository, job).await? {
            return Ok(self.parts_of(&plan));
        }
        check_renames(&self.restore.options.renames)?;
        self.restore.check_guard().await?;
        self.restore.target.sink.can_write().await?;
        self.restore.check_selection().await?;
        let sealing = self.begin_or_adopt(job).await?;
        let plan = RestorePlan {
            job: job.clone(),
            key: sealing.key_id(),
            parts: self.parts().await?,
            dry_run: self.dry_run,
            undo: self.restore.options.undo && !self.dry_run,
            ..self.restore.plan()
        };
        let planned = self.parts_of(&plan);
        match repository.put_sealed(ObjectType::Plan, &layout::plan(job), &sealing, &plan).await? {
            Put::Stored => Ok(planned),
            Put::Existed => Ok(self.parts_of(&self.read(job).await?.0)),
        }
    }

    /// The parts of a plan, and one for its Auth users.
    fn parts_of(&self, plan: &RestorePlan) -> u32 {
        plan.parts.len() as u32 + u32::from(self.users.is_some() && !plan.dry_run)
    }

    async fn begin_or_adopt(&self, job: &JobId) -> Result<Sealing> {
        let repository = &self.restore.repository;
        let path = layout::intent(job);
        let found: Option<(Intent, _)> = repository.get_sealed(ObjectType::Intent, &path).await?;
        if let Some((intent, _)) = found {
            return repository.sealing(intent.keys.first().copied()).await;
        }
        let (sealing, options) = (repository.new_data_key().await?, &self.restore.options);
        let intent = Intent {
            job: job.clone(),
            created: repository.world().now(),
            database: self.restore.target.sink.database().clone(),
            snapshots: vec![self.restore.snapshot.clone()],
            runs: needed_runs(repository, &self.restore.snapshot, self.restore.at, options.reported.as_ref()).await?,
            keys: sealing.key_id().into_iter().collect(),
        };
        put_intent(repository, &intent, &sealing).await?;
        Ok(sealing)
    }

    /// Cuts where runs, or their blocks, begin: nothing but footers is read for it.
    async fn parts(&self) -> Result<Vec<RestorePart>> {
        let Restore { repository, options, meter, .. } = &self.restore;
        let stored = self.restore.stored().await?;
        let documents = self.part_documents.max(1).max(stored.records / (MAX_CHUNKS as u64 / 2));
        // owned: futures over borrowed items could not be sent between threads
        let starts = stream::iter(stored.layers)
            .map(|layer| starts_of(repository.clone(), layer, Arc::clone(meter), documents))
            .collect::<Vec<_>>()
            .await;
        let starts = stream::iter(starts);
        let mut starts: Vec<(DocumentPath, u64)> =
            starts.buffered(PARALLEL_READS).try_collect::<Vec<_>>().await?.concat();
        starts.sort();
        parts(&options.selection, &options.renames, &cut_points(starts, documents))
    }

    /// Does step `sequence` of a part, within the time that was set.
    ///
    /// # Errors
    /// When a port fails, the job was stopped ([`EngineError::Interrupted`]) or given up, or no step leads to this one.
    pub async fn part(&self, job: &JobId, part: u32, sequence: u32) -> Result<PartDone> {
        let repository = &self.restore.repository;
        let (plan, sealing) = self.read(job).await?;
        check_age(repository, job, plan.created)?;
        if let Some(receipt) = self.receipt(job, part, sequence).await? {
            return Ok(receipt.done(false));
        }
        let mut receipt = PartReceipt::new(job, part, sequence);
        let until = Instant::now() + self.step_time;
        if part + 1 == self.parts_of(&plan) && part as usize == plan.parts.len() {
            receipt.users = self.restore_users(&plan).await?;
        } else if plan.dry_run {
            let wanted = self.wanted(&plan, part, sequence).await?;
            let (through, dry_run) = self.compare(job, wanted, until).await?;
            (receipt.through, receipt.dry_run) = (through, Some(dry_run));
        } else {
            let wanted = self.wanted(&plan, part, sequence).await?;
            (receipt.through, receipt.tally) = self.write(&Arc::new(plan), &sealing, wanted, until).await?;
        }
        let path = layout::part_receipt(job, part, sequence);
        match repository.put_sealed(ObjectType::RestoreReceipt, &path, &sealing, &receipt).await? {
            Put::Stored => Ok(receipt.done(true)),
            Put::Existed => {
                let there = self.receipt(job, part, sequence).await?.ok_or_else(|| gone(job))?;
                Ok(there.done(false))
            }
        }
    }

    /// What is left to do of a part.
    async fn wanted(&self, plan: &RestorePlan, part: u32, sequence: u32) -> Result<WantedStream> {
        let range = plan.parts.get(part as usize);
        let range = range.ok_or_else(|| EngineError::Refused(format!("the plan has no part {part}")))?;
        let after = self.after(&plan.job, part, sequence).await?;
        self.restore.wanted().await?.of_part(range, after.as_ref())
    }

    async fn restore_users(&self, plan: &RestorePlan) -> Result<Option<UserReport>> {
        let Some(users) = &self.users else { return Ok(None) };
        let (manifest, _) = self.restore.repository.manifest(&plan.snapshot).await?;
        let Restore { repository, meter, .. } = &self.restore;
        restore_users(repository, &manifest, &*users.sink, users.options, meter).await.map(Some)
    }

    async fn write(
        &self,
        plan: &Arc<RestorePlan>,
        sealing: &Sealing,
        mut wanted: WantedStream,
        until: Instant,
    ) -> Result<(Option<RestorePosition>, Tally)> {
        let undo = match plan.undo {
            true => Some(UndoLog::join(&self.restore.repository, plan, sealing).await?),
            false => None,
        };
        let writing = self.restore.repository.world().now().seconds_since(plan.created).max(0.0);
        let share = Share {
            writers: self.restore.options.writers.min(plan.parts.len() as u32),
            before: Duration::from_secs_f64(writing),
        };
        let writer = self.restore.writer(Kept { undo, progress: None }, share);
        let through = self.restore.write_all(&plan.job, &writer, &mut wanted, Some(until)).await?;
        let mut tally = writer.take_tally();
        tally.problems.truncate(PROBLEMS);
        Ok((through, tally))
    }

    async fn compare(
        &self,
        job: &JobId,
        mut wanted: WantedStream,
        until: Instant,
    ) -> Result<(Option<RestorePosition>, DryRun)> {
        let mut dry_run = DryRun::at(self.restore.target.source.snapshot_time().await?);
        let mut through = None;
        while let Some(last) = self.restore.compare_batch(&mut wanted, &mut dry_run, self.samples).await? {
            if self.restore.stop.is_requested() {
                return Err(EngineError::Interrupted { job: job.clone() });
            }
            if Instant::now() >= until
                && let Some(position) = last.resumable_position()
            {
                through = Some(position);
                break;
            }
        }
        dry_run.problems.truncate(PROBLEMS);
        Ok((through, dry_run))
    }

    /// Behind which position the step of this number begins; nothing for the first.
    async fn after(&self, job: &JobId, part: u32, sequence: u32) -> Result<Option<RestorePosition>> {
        let Some(before) = sequence.checked_sub(1) else { return Ok(None) };
        let through = self.receipt(job, part, before).await?.and_then(|receipt| receipt.through);
        through.map(Some).ok_or_else(|| {
            let reason = format!("step {part}/{sequence} was asked for, and step {before} does not lead to it");
            EngineError::Incomplete { job: job.clone(), reason }
        })
    }

    async fn receipt(&self, job: &JobId, part: u32, sequence: u32) -> Result<Option<PartReceipt>> {
        let path = layout::part_receipt(job, part, sequence);
        let found = self.restore.repository.get_sealed(ObjectType::RestoreReceipt, &path).await?;
        Ok(found.map(|(receipt, _)| receipt))
    }

    /// Proves that every part was done to its end, and makes the undo a snapshot. Can be done again until [`Self::clear`].
    ///
    /// # Errors
    /// When a part is missing, or a port fails.
    pub async fn finalize(&self, job: &JobId) -> Result<RestoreOutcome> {
        let (plan, sealing) = self.read(job).await?;
        let receipts = stream::iter(0..self.parts_of(&plan)).map(|part| self.receipts_of(job, part));
        let receipts = receipts.buffered(PARALLEL_READS).try_collect::<Vec<_>>().await?.concat();
        if plan.dry_run {
            return self.sum_dry_run(receipts).map(RestoreOutcome::DryRun);
        }
        let (mut tally, mut users) = (Tally::default(), None);
        for receipt in receipts {
            tally.add(receipt.tally);
            users = receipt.users.or(users);
        }
        if plan.undo {
            UndoLog::open(&self.restore.repository, &Arc::new(plan.clone()), &sealing).await?.commit().await?;
        }
        self.restore.close_undone().await?;
        let report = RestoreReport {
            job: plan.job,
            snapshot: plan.snapshot,
            at: plan.at,
            reported: plan.reported.clone(),
            target: plan.target,
            resumed: false,
            undo: plan.undo,
            unmatched: Vec::new(),
            tally,
        };
        Ok(RestoreOutcome::Restored { report, users })
    }

    fn sum_dry_run(&self, receipts: Vec<PartReceipt>) -> Result<DryRun> {
        let mut parts = receipts.into_iter().filter_map(|receipt| receipt.dry_run);
        // what was changed after the first part was compared may have been compared before it was
        let mut sum = parts.next().ok_or_else(|| EngineError::Refused("the dry run has no parts".to_owned()))?;
        for part in parts {
            sum.guard = sum.guard.min(part.guard);
            sum.difference.add(part.difference, self.samples);
            sum.problems.extend(part.problems);
        }
        Ok(sum)
    }

    async fn receipts_of(&self, job: &JobId, part: u32) -> Result<Vec<PartReceipt>> {
        let mut receipts: Vec<PartReceipt> = Vec::new();
        while receipts.last().is_none_or(|receipt| receipt.through.is_some()) {
            let receipt = self.receipt(job, part, receipts.len() as u32).await?;
            receipts.push(receipt.ok_or_else(|| EngineError::Incomplete {
                job: job.clone(),
                reason: format!("part {part} was not done to its end"),
            })?);
        }
        Ok(receipts)
    }

    /// Removes what the steps left, once what [`Self::finalize`] said is on record. The undo's own small runs, which it
    /// was merged from, are left for a prune.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clear(&self, job: &JobId) -> Result<()> {
        self.restore.repository.clear_job(job).await
    }

    /// Ends a job that failed or was cancelled: what it replaced so far becomes an undo. Says whether there is one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn give_up(repository: &Repository, job: &JobId) -> Result<bool> {
        let Some(plan) = read_restore_plan(repository, job).await? else {
            repository.clear_job(job).await?;
            return Ok(!repository.is_dropped(job).await?);
        };
        let undo = plan.undo;
        if undo {
            let sealing = repository.sealing(plan.key).await?;
            UndoLog::open(repository, &Arc::new(plan), &sealing).await?.commit().await?;
        }
        repository.clear_job(job).await?;
        Ok(undo)
    }

    async fn read(&self, job: &JobId) -> Result<(RestorePlan, Sealing)> {
        let repository = &self.restore.repository;
        let plan = read_restore_plan(repository, job).await?.ok_or_else(|| gone(job))?;
        if plan.snapshot != self.restore.snapshot
            || plan.at != self.restore.at
            || plan.target != *self.restore.target.sink.database()
        {
            let text = format!("{job} puts {} back into {}, not what was asked for", plan.snapshot, plan.target);
            return Err(EngineError::Refused(text));
        }
        let sealing = repository.sealing(plan.key).await?;
        Ok((plan, sealing))
    }
}

/// A restore that began too long ago may not go on: a prune may remove what it replaced.
fn check_age(repository: &Repository, job: &JobId, created: Timestamp) -> Result<()> {
    if repository.world().now().seconds_since(created) < MAX_RESTORE_SECONDS as f64 {
        return Ok(());
    }
    let reason =
        "it began more than six days ago, and a prune may remove what it needs; start it again as a new restore";
    Err(EngineError::Incomplete { job: job.clone(), reason: reason.to_owned() })
}

/// Where the records of a run begin, and how many there are: of a large run by its blocks.
async fn starts_of(
    repository: Repository,
    layer: Layer,
    meter: Arc<Meter>,
    documents: u64,
) -> Result<Vec<(DocumentPath, u64)>> {
    if layer.entry.records <= documents {
        return Ok(vec![(layer.entry.first, layer.entry.records)]);
    }
    let source = RunSource::open(&repository, layer.key, &layer.entry, &meter).await?;
    let blocks = source.footer().blocks.iter();
    Ok(blocks.map(|block| (block.first.clone(), u64::from(block.records))).collect())
}

impl PartReceipt {
    fn new(job: &JobId, part: u32, sequence: u32) -> Self {
        let job = job.clone();
        Self { job, part, sequence, through: None, tally: Tally::default(), dry_run: None, users: None }
    }

    fn done(self, is_first: bool) -> PartDone {
        let compared = self.dry_run.as_ref().map_or(0, |dry_run| {
            let totals = &dry_run.difference.totals;
            totals.created + totals.updated + totals.deleted + totals.same
        });
        let (sequence, done) = (self.sequence + 1, self.through.is_none());
        PartDone { sequence, done, is_first, tally: self.tally, compared }
    }
}

/// Paths that cut sorted starts of known counts into parts of about `documents`.
fn cut_points(starts: Vec<(DocumentPath, u64)>, documents: u64) -> Vec<DocumentPath> {
    let (mut points, mut counted) = (Vec::new(), 0);
    for (first, records) in starts {
        if counted > 0 && counted + records > documents {
            points.push(first);
            counted = 0;
        }
        counted += records;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> DocumentPath {
        DocumentPath::new(text).unwrap()
    }

    #[test]
    fn parts_are_cut_where_they_would_grow_too_large() {
        let starts = ["a/1", "a/2", "a/3", "a/4"].map(|first| (path(first), 10)).to_vec();
        assert_eq!(cut_points(starts.clone(), 20), [path("a/3")]);
        assert_eq!(cut_points(starts.clone(), 1), [path("a/2"), path("a/3"), path("a/4")]);
        assert!(cut_points(starts, 40).is_empty());
        assert!(cut_points(Vec::new(), 1).is_empty());
    }
}
