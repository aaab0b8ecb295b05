//! Puts documents back: whole, in part, elsewhere; with a dry run before and an undo after.

use std::sync::{Arc, Mutex};

use firebackup_codec::sealing::Sealing;
use firebackup_model::id::{JobId, JobKind, SnapshotId};
use firebackup_model::job::{RestoreMode, RestorePlan, RestorePosition};
use firebackup_model::path::check;
use firebackup_model::port::{DocumentSink, DocumentSource, MAX_BATCH_BYTES, MAX_BATCH_WRITES};
use firebackup_model::range::{intersect, without};
use firebackup_model::reported::AsReported;
use firebackup_model::selection::Selection;
use firebackup_model::{DatabaseName, DocumentPath, PathRange, Timestamp};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::batch::{Batch, request_bytes};
use crate::contents::{Contents, Item, Stored, stored, stored_as_reported, undo_receipts};
use crate::diff::{Change, Difference, same};
use crate::error::{EngineError, Result};
use crate::ramp::{Ramp, Share};
use crate::repository::Repository;
use crate::restore_plan::{self, Begun, unless_begun_anew};
use crate::restore_progress::RestoreProgress;
use crate::undo::{UndoLog, ended_elsewhere};
use crate::unmatched::nothing_fits;
use crate::wanted::{Wanted, WantedStream, check_renames, collection, in_the_way};
use crate::world::{Meter, Stop};
use crate::write_batch::BatchWriter;

/// A database to restore into: read for dry runs, undo and mirror, and written.
#[derive(Clone)]
pub struct Target {
    /// To read what is there.
    pub source: Arc<dyn DocumentSource>,
    /// To write.
    pub sink: Arc<dyn DocumentSink>,
}

/// What to restore, and how.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Which documents of the snapshot.
    pub selection: Selection,
    /// Collections that get another path: from, to.
    pub renames: Vec<(String, String)>,
    /// What happens to documents in the way.
    pub mode: RestoreMode,
    /// Whether what is replaced is kept.
    pub undo: bool,
    /// The guard of a dry run: documents that were changed since are reported and left alone.
    pub guard: Option<Timestamp>,
    /// Whether to begin anew although the same restore was begun and has not ended.
    pub fresh: bool,
    /// Whether writes ramp up as Firestore asks.
    pub ramp: bool,
    /// One document as it was reported to be, instead of what the snapshot holds, which only names the database then. The selection
    /// is that document ([`Selection::of_document`]).
    pub reported: Option<AsReported>,
    /// How many parts are written at one time, where the restore is done in steps: they share the pace.
    pub writers: u32,
    /// The most writes a batch, up to 500.
    pub batch_writes: usize,
    /// Batches on their way at one time.
    pub parallel: usize,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            renames: Vec::new(),
            mode: RestoreMode::Overwrite,
            undo: true,
            guard: None,
            fresh: false,
            ramp: true,
            reported: None,
            writers: 1,
            batch_writes: MAX_BATCH_WRITES,
            parallel: 4,
        }
    }
}

/// A restore that is ready to run.
pub struct Restore {
    /// The repository.
    pub repository: Repository,
    /// The snapshot, or the restore whose undo is meant.
    pub snapshot: SnapshotId,
    /// The consistent point that is put back, where the snapshot is only its base ([`Moments::resolve`](crate::Moments::resolve)).
    pub at: Option<Timestamp>,
    /// Where to.
    pub target: Target,
    /// What, and how.
    pub options: RestoreOptions,
    /// Where progress is counted.
    pub meter: Arc<Meter>,
    /// What may ask the restore to stop.
    pub stop: Stop,
}

/// What a restore would do.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct DryRun {
    /// What would be created, updated, deleted, and left as it is.
    pub difference: Difference,
    /// The read time of what was compared: give it to `--guard`.
    pub guard: Timestamp,
    /// Documents that cannot be written, with the reason.
    pub problems: Vec<Problem>,
    /// Patterns of the selection that fit no document.
    pub unmatched: Vec<String>,
}

impl DryRun {
    pub(crate) fn at(guard: Timestamp) -> Self {
        Self { difference: Difference::default(), guard, problems: Vec::new(), unmatched: Vec::new() }
    }
}

/// A document that cannot be or was not written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    /// Its path in the target.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What a restore did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RestoreReport {
    /// The job: its undo is found by this id.
    pub job: JobId,
    /// What was put back.
    pub snapshot: SnapshotId,
    /// The consistent point that was put back, where it is not the snapshot itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The document that was put back as it was reported, and of when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<AsReported>,
    /// Where to.
    pub target: DatabaseName,
    /// Whether an unfinished restore was gone on with.
    pub resumed: bool,
    /// Whether what was replaced was kept: then `restore --undo <job>` takes the whole restore back.
    pub undo: bool,
    /// Patterns of the selection that fit no document: nothing was put back for them.
    pub unmatched: Vec<String>,
    /// What happened.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What became of the documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// Documents written.
    pub written: u64,
    /// Documents deleted.
    pub deleted: u64,
    /// Documents that were right already.
    pub same: u64,
    /// Documents that were there and were left alone.
    pub skipped: u64,
    /// Documents that were changed since the dry run, and were left alone.
    pub conflicts: u64,
    /// Documents that could not be written.
    pub failed: u64,
    /// Conflicts and failures with their reasons, the first 10,000.
    pub problems: Vec<Problem>,
}

/// How many problems a tally keeps.
const MAX_PROBLEMS: usize = 10_000;
/// Documents compared in one read of a dry run.
const DRY_RUN_BATCH: usize = 300;

impl Tally {
    /// Adds what became of other documents, with their problems as far as there is room.
    pub(crate) fn add(&mut self, other: Self) {
        self.written += other.written;
        self.deleted += other.deleted;
        self.same += other.same;
        self.skipped += other.skipped;
        self.conflicts += other.conflicts;
        self.failed += other.failed;
        let room = MAX_PROBLEMS.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
    }

    pub(crate) fn problem(&mut self, path: &DocumentPath, reason: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { path: path.to_string(), reason: reason.into() });
        }
    }
}

impl Restore {
    /// Says what the restore would do, without writing: counts, samples, limits, permissions.
    ///
    /// # Errors
    /// When the credentials may not write, a port fails, or the repository is damaged.
    pub async fn dry_run(&self, samples: usize) -> Result<DryRun> {
        check_renames(&self.options.renames)?;
        self.target.sink.can_write().await?;
        let guard = self.target.source.snapshot_time().await?;
        let mut wanted = self.wanted().await?;
        let mut dry_run = DryRun::at(guard);
        self.check_renames_fit().await?;
        let mut is_empty = true;
        while self.compare_batch(&mut wanted, &mut dry_run, samples).await?.is_some() {
            is_empty = false;
        }
        self.check_not_empty(is_empty)?;
        dry_run.unmatched = wanted.unmatched();
        Ok(dry_run)
    }

    /// Compares the next documents that are wanted; returns the last of them, or nothing at the end.
    pub(crate) async fn compare_batch(
        &self,
        wanted: &mut WantedStream,
        dry_run: &mut DryRun,
        samples: usize,
    ) -> Result<Option<Wanted>> {
        let mut batch = Vec::with_capacity(DRY_RUN_BATCH);
        while batch.len() < DRY_RUN_BATCH
            && let Some(wanted) = wanted.next().await?
        {
            batch.push(wanted);
        }
        if !batch.is_empty() {
            self.compare(&batch, dry_run, samples).await?;
        }
        Ok(batch.pop())
    }

    async fn compare(&self, batch: &[Wanted], dry_run: &mut DryRun, samples: usize) -> Result<()> {
        let paths: Vec<_> = batch.iter().map(|wanted| wanted.path.clone()).collect();
        let current = self.target.source.get(&paths, Some(dry_run.guard)).await?;
        self.meter.reads.add(paths.len() as u64);
        for (wanted, current) in batch.iter().zip(current) {
            if let Some(reason) = &wanted.problem {
                dry_run.problems.push(Problem { path: wanted.path.to_string(), reason: reason.clone() });
                self.meter.documents.add(1);
                continue;
            }
            let change = match (current, &wanted.document) {
                (None, None) => Change::Same,
                (None, Some(_)) => Change::Created,
                (Some(_), None) => Change::Deleted,
                (Some(_), Some(_)) if self.options.mode == RestoreMode::SkipExisting => Change::Same,
                (Some(current), Some(document)) => {
                    if same(&wanted.path, &current.0, document).unwrap_or(false) {
                        Change::Same
                    } else {
                        Change::Updated
                    }
                }
            };
            dry_run.difference.count(&wanted.path, change, samples);
            self.meter.documents.add(1);
            if let Some(reason) = over_limit(wanted) {
                dry_run.problems.push(Problem { path: wanted.path.to_string(), reason });
            }
        }
        Ok(())
    }

    /// A selection that fits nothing is an error; a whole snapshot may be empty.
    fn check_not_empty(&self, is_empty: bool) -> Result<()> {
        if is_empty && !self.options.selection.is_everything() {
            return Err(nothing_fits(&self.options.selection, self.snapshot.as_str()));
        }
        Ok(())
    }

    /// Looks, before anything is begun, whether there is anything to put back.
    pub(crate) async fn check_selection(&self) -> Result<()> {
        self.check_renames_fit().await?;
        if self.options.selection.is_everything() {
            return Ok(());
        }
        let is_empty = self.wanted().await?.next().await?.is_none();
        self.check_not_empty(is_empty)
    }

    /// A collection to be renamed that the snapshot does not hold is a mistake in writing, which would have another one
    /// overwritten in place.
    async fn check_renames_fit(&self) -> Result<()> {
        let options = &self.options;
        if options.renames.is_empty() {
            return Ok(());
        }
        let stored = self.stored().await?;
        let selected = options.selection.ranges()?;
        let mut stays = selected.clone();
        for (from, _) in &options.renames {
            stays = without(&stays, &collection(from)?);
        }
        for (from, to) in &options.renames {
            if self.first_in(&stored, &selected, &collection(from)?).await?.is_none() {
                let text =
                    format!("no document of {} is selected in `{from}`, which is to become `{to}`", self.snapshot);
                return Err(EngineError::NotFound(text));
            }
            if let Some(item) = self.first_in(&stored, &stays, &collection(to)?).await? {
                return Err(in_the_way(&item.path, from, to));
            }
        }
        Ok(())
    }

    /// The first document of the snapshot that lies in one of `ranges` and in `collection`.
    async fn first_in(&self, stored: &Stored, ranges: &[PathRange], collection: &PathRange) -> Result<Option<Item>> {
        let ranges = intersect(ranges, std::slice::from_ref(collection));
        let layers = stored.layers.clone();
        let contents = Contents::of_layers(&self.repository, layers, &self.options.selection, &self.meter)?;
        contents.within(ranges).next().await
    }

    /// What is put back.
    pub(crate) async fn stored(&self) -> Result<Stored> {
        match &self.options.reported {
            None => stored(&self.repository, &self.snapshot, self.at).await,
            Some(wanted) if self.at.is_none() && self.options.selection == Selection::of_document(&wanted.path) => {
                stored_as_reported(&self.repository, &self.snapshot, wanted).await
            }
            Some(_) => Err(EngineError::Refused("only one document can be put back as it was reported".to_owned())),
        }
    }

    pub(crate) async fn wanted(&self) -> Result<WantedStream> {
        let stored = self.stored().await?;
        if self.options.selection.is_everything() {
            self.meter.expected.set(stored.records);
        }
        let options = &self.options;
        WantedStream::new(
            &self.repository,
            stored,
            &options.selection,
            &options.renames,
            options.mode,
            &self.target,
            &self.meter,
        )
        .await
    }

    /// Runs the restore, or goes on with an unfinished one that was asked for the same.
    ///
    /// # Errors
    /// When nothing can be written any more, or on request to stop; the same call then goes on. Single documents that
    /// fail are no error: they are in the report.
    pub async fn run(&self) -> Result<RestoreReport> {
        check_renames(&self.options.renames)?;
        self.check_guard().await?;
        let Begun { plan, sealing, resumed, is_kept } = self.begin().await?;
        let plan = Arc::new(plan);
        let kept = match is_kept {
            true => self.open_kept(&plan, &sealing).await.map_err(|error| unless_begun_anew(&plan.job, error))?,
            false => Kept { undo: None, progress: None },
        };
        let writer = self.writer(kept, Share::WHOLE);
        let written = match self.wanted().await {
            Ok(mut wanted) => self.write_all(&plan.job, &writer, &mut wanted, None).await.map(|_| wanted.unmatched()),
            Err(error) => Err(error),
        };
        let unmatched = match written {
            Ok(unmatched) => unmatched,
            Err(error) => {
                self.forget_if_nothing_was_done(&plan, resumed, &error).await;
                return Err(self.unless_ended_elsewhere(&plan.job, error).await);
            }
        };
        match &writer.undo {
            Some(undo) => drop(undo.finish().await?),
            None => self.repository.clear_quietly(&plan.job).await,
        }
        self.close_undone().await?;
        Ok(RestoreReport {
            job: plan.job.clone(),
            snapshot: plan.snapshot.clone(),
            at: plan.at,
            reported: plan.reported.clone(),
            target: plan.target.clone(),
            resumed,
            undo: plan.undo,
            unmatched,
            tally: writer.take_tally(),
        })
    }

    async fn begin(&self) -> Result<Begun> {
        let wanted = self.plan();
        if !self.options.fresh
            && let Some(begun) = restore_plan::go_on(&self.repository, &wanted).await?
        {
            return Ok(begun);
        }
        self.check_selection().await?;
        restore_plan::begin(&self.repository, wanted).await
    }

    /// What an earlier attempt kept: what it replaced, or how far it came.
    async fn open_kept(&self, plan: &Arc<RestorePlan>, sealing: &Sealing) -> Result<Kept> {
        if plan.undo {
            let undo = UndoLog::open(&self.repository, plan, sealing).await?;
            return Ok(Kept { undo: Some(undo), progress: None });
        }
        let progress = RestoreProgress::open(&self.repository, &plan.job, sealing).await?;
        Ok(Kept { undo: None, progress: Some(Arc::new(progress)) })
    }

    /// A guard that no dry run can have printed guards nothing.
    pub(crate) async fn check_guard(&self) -> Result<()> {
        let Some(guard) = self.options.guard else { return Ok(()) };
        let now = self.target.source.snapshot_time().await?;
        if guard <= now {
            return Ok(());
        }
        Err(EngineError::Refused(format!(
            "--guard {guard} has not come yet: give it the time that the dry run printed"
        )))
    }

    /// A restore that was refused before it replaced anything is no unfinished job.
    async fn forget_if_nothing_was_done(&self, plan: &RestorePlan, resumed: bool, error: &EngineError) {
        if resumed || !plan.undo || !error.is_of_the_object() || error.is_resumable_stop() {
            return;
        }
        let kept = undo_receipts(&self.repository, &plan.job).await;
        if kept.is_ok_and(|receipts| receipts.is_empty()) {
            self.repository.clear_quietly(&plan.job).await;
        }
    }

    /// Another process of the same restore that ends first tidies up under our feet: then that is the reason.
    async fn unless_ended_elsewhere(&self, job: &JobId, error: EngineError) -> EngineError {
        match self.repository.is_dropped(job).await {
            Ok(false) => ended_elsewhere(job),
            _ => error,
        }
    }

    /// A restore that was taken back is not gone on with.
    pub(crate) async fn close_undone(&self) -> Result<()> {
        if self.snapshot.kind() != JobKind::Restore || !self.options.selection.is_everything() {
            return Ok(());
        }
        match restore_plan::unfinished_restore(&self.repository, &self.snapshot).await? {
            Some(plan) => restore_plan::close(&self.repository, plan).await,
            None => Ok(()),
        }
    }

    pub(crate) fn plan(&self) -> RestorePlan {
        let world = self.repository.world();
        RestorePlan {
            job: world.job_id(JobKind::Restore),
            snapshot: self.snapshot.clone(),
            at: self.at,
            reported: self.options.reported.clone(),
            target: self.target.sink.database().clone(),
            selection: self.options.selection.clone(),
            renames: self.options.renames.clone(),
            mode: self.options.mode,
            undo: self.options.undo,
            key: None,
            created: world.now(),
            parts: Vec::new(),
            dry_run: false,
        }
    }

    /// What writes batches, keeping what is to be kept.
    pub(crate) fn writer(&self, kept: Kept, share: Share) -> Arc<BatchWriter> {
        Arc::new(BatchWriter {
            target: self.target.clone(),
            world: self.repository.world().clone(),
            mode: self.options.mode,
            guard: self.options.guard,
            undo: kept.undo,
            progress: kept.progress,
            ramp: Ramp::new(self.options.ramp, share, Arc::clone(&self.meter)),
            tally: Mutex::default(),
            meter: Arc::clone(&self.meter),
        })
    }

    /// Writes what is wanted, to the end or until it is `until`; then says behind which document to go on.
    pub(crate) async fn write_all(
        &self,
        job: &JobId,
        writer: &Arc<BatchWriter>,
        wanted: &mut WantedStream,
        until: Option<Instant>,
    ) -> Result<Option<RestorePosition>> {
        let mut last = None;
        let places = Arc::new(Semaphore::new(self.options.parallel.max(1)));
        let mut running: JoinSet<Result<()>> = JoinSet::new();
        let mut batch = Batch::new(self.options.batch_writes);
        loop {
            if self.stop.is_requested() {
                join_all(&mut running).await?;
                return Err(EngineError::Interrupted { job: job.clone() });
            }
            let is_late = last.is_some() && until.is_some_and(|until| Instant::now() >= until);
            let next = if is_late { None } else { wanted.next().await? };
            let flush = next.as_ref().is_none_or(|wanted| !batch.has_room_for(wanted));
            if flush && !batch.items.is_empty() {
                while let Some(done) = running.try_join_next() {
                    done??;
                }
                let place = Arc::clone(&places).acquire_owned().await;
                let (writer, items) = (Arc::clone(writer), batch.take());
                let mark = writer.progress.as_ref().map(|progress| progress.begin(&items));
                running.spawn(async move {
                    let _place = place;
                    writer.write(items).await?;
                    match mark {
                        Some(mark) => mark.done().await,
                        None => Ok(()),
                    }
                });
            }
            match next {
                Some(wanted) => {
                    last = wanted.resumable_position();
                    batch.push(wanted);
                }
                None => {
                    join_all(&mut running).await?;
                    return Ok(last.filter(|_| is_late));
                }
            }
        }
    }
}

/// What an attempt goes on with.
pub(crate) struct Kept {
    pub(crate) undo: Option<UndoLog>,
    pub(crate) progress: Option<Arc<RestoreProgress>>,
}

async fn join_all(running: &mut JoinSet<Result<()>>) -> Result<()> {
    let mut first = Ok(());
    while let Some(done) = running.join_next().await {
        let done = done?;
        if first.is_ok() {
            first = done;
        }
    }
    first
}

/// Why the target cannot take a document, as far as its limits tell.
fn over_limit(wanted: &Wanted) -> Option<String> {
    let longest_id = wanted.path.as_str().split('/').map(str::len).max().unwrap_or_default();
    if longest_id > 1500 {
        return Some(format!("an id of {longest_id} bytes: at most 1,500 are allowed"));
    }
    if let Err(error) = check(wanted.path.as_str()) {
        return Some(error.to_string());
    }
    let bytes = request_bytes(wanted);
    (bytes > MAX_BATCH_BYTES).then(|| format!("{bytes} bytes do not fit into a request"))
}
