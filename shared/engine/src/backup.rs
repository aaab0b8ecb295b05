//! A backup from beginning to end, on one machine: plan, chunks in parallel, users, finalize.

use std::sync::Arc;
use std::time::Duration;

use firebackup_codec::sealing::Sealing;
use firebackup_model::id::{KeyId, RunId, SnapshotId};
use firebackup_model::job::{Against, Plan};
use firebackup_model::manifest::{Compression, Manifest};
use firebackup_model::port::{DocumentSource, UserSource};
use firebackup_model::selection::Selection;
use firebackup_model::{PathRange, Timestamp};
use futures::{StreamExt, stream};

use crate::backup_steps::BackupSteps;
use crate::budget::ReadBudget;
use crate::error::{EngineError, Result};
use crate::export::{Exporter, StepBounds};
use crate::finalize::{Allowed, Whole, finalize, prove_whole};
use crate::merge::Layer;
use crate::plan::{Cut, PlanRequest, Resume, Unfinished, check_age, plan, resumable, try_count};
use crate::repository::Repository;
use crate::run_upload::RunSettings;
use crate::unmatched::nothing_fits;
use crate::users::export_users;
use crate::world::{Meter, Stop};

/// A backup that is ready to run; see [`Backup::builder`].
pub struct Backup {
    pub(crate) repository: Repository,
    pub(crate) source: Arc<dyn DocumentSource>,
    pub(crate) users: Option<Arc<dyn UserSource>>,
    pub(crate) request: PlanRequest,
    parallel: usize,
    resume: Resume,
    /// What is known already, where only what differs from it is kept.
    known: Option<Arc<[Layer]>>,
    /// Captured changes, where what they come to is kept and nothing is read.
    changes: Option<Arc<[Layer]>>,
    pub(crate) options: Options,
    meter: Arc<Meter>,
    pub(crate) stop: Stop,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    max_reads: Option<u64>,
    count_first: bool,
    pub(crate) may_reanchor: bool,
    pub(crate) allow_redacted: bool,
    pub(crate) allow_empty: bool,
    verify_blocks: bool,
    block_bytes: usize,
    pub(crate) bounds: StepBounds,
}

/// What a backup came to.
#[derive(Debug, Clone)]
pub struct BackupOutcome {
    /// The snapshot.
    pub manifest: Manifest,
    /// Whether an unfinished job was gone on with.
    pub resumed: bool,
    /// Unfinished jobs of the same that could not be read, with the reason.
    pub passed_over: Vec<String>,
    /// Patterns of the selection that fitted no document: mistakes in writing, or collections that are empty. Not known
    /// of a backup that was resumed.
    pub unmatched: Vec<String>,
}

/// What a scan came to.
pub(crate) struct Scan {
    pub(crate) whole: Whole,
    pub(crate) sealing: Sealing,
}

/// What the steps of a backup find out before they plan it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis {
    /// Nothing: the source is read as it is.
    Given,
    /// What the newest backup leaves to be kept.
    Parent,
    /// The newest moment.
    Moment,
}

/// Sets up a [`Backup`]. Everything but repository and source has a default.
#[derive(Clone)]
pub struct BackupBuilder {
    pub(crate) repository: Repository,
    pub(crate) source: Arc<dyn DocumentSource>,
    pub(crate) basis: Basis,
    users: Option<Arc<dyn UserSource>>,
    pub(crate) selection: Selection,
    compression: Compression,
    parallel: usize,
    cut: Option<Cut>,
    read_time: Option<Timestamp>,
    resume: Resume,
    against: Option<Against>,
    known: Option<Arc<[Layer]>>,
    changes: Option<Arc<[Layer]>>,
    parent_changed_until: Option<Timestamp>,
    merged_from: Option<SnapshotId>,
    captured: Vec<(RunId, Option<KeyId>)>,
    full_because: Option<String>,
    options: Options,
    meter: Arc<Meter>,
    stop: Stop,
}

impl Backup {
    /// Begins to set up a backup of `source` into `repository`.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use firebackup_embedded::system::{SystemClock, SystemRandom};
    /// use firebackup_engine::memory::MemoryDatabase;
    /// use firebackup_engine::{Backup, Repository, Secrets, World};
    /// # use firebackup_model::DatabaseName;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let database = MemoryDatabase::new(DatabaseName::new("my-app", "(default)"));
    /// database.set("users/alice", 7);
    ///
    /// let store = Arc::new(object_store::memory::InMemory::new());
    /// let secrets = Secrets { masters: vec![firebackup_codec::secret::SecretKey::from_bytes([7; 32])], ..Secrets::default() };
    /// let world = World { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) };
    /// let repository = Repository::init(store, secrets, world).await?;
    ///
    /// let outcome = Backup::builder(repository.clone(), Arc::new(database))
    ///     .compression("zstd:3".parse().unwrap())
    ///     .build()
    ///     .run()
    ///     .await?;
    /// assert_eq!(outcome.manifest.totals.documents, 1);
    /// assert_eq!(repository.snapshot_ids().await?, [outcome.manifest.id]);
    /// # Ok::<(), firebackup_engine::EngineError>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn builder(repository: Repository, source: Arc<dyn DocumentSource>) -> BackupBuilder {
        let options = Options {
            max_reads: None,
            count_first: false,
            may_reanchor: true,
            allow_redacted: false,
            allow_empty: false,
            verify_blocks: true,
            block_bytes: 1024 * 1024,
            bounds: StepBounds::default(),
        };
        BackupBuilder {
            repository,
            source,
            basis: Basis::Given,
            users: None,
            selection: Selection::default(),
            compression: Compression::default(),
            parallel: 1,
            cut: None,
            read_time: None,
            resume: Resume::Auto,
            against: None,
            known: None,
            changes: None,
            parent_changed_until: None,
            merged_from: None,
            captured: Vec::new(),
            full_because: None,
            options,
            meter: Arc::default(),
            stop: Stop::default(),
        }
    }

    /// Runs the backup, or goes on with an unfinished one.
    ///
    /// # Errors
    /// When a port fails for good, the job was stopped ([`EngineError::is_resumable_stop`]), or the receipts do not add
    /// up to a whole backup. Nothing is committed then, and what was read is kept for the next run.
    pub async fn run(&self) -> Result<BackupOutcome> {
        let mut passed_over = Vec::new();
        let unfinished = resumable(&self.repository, &self.request, &self.resume, &mut passed_over).await?;
        let resumed = unfinished.is_some();
        let Unfinished { plan, sealing, reads } = match unfinished {
            Some(unfinished) => unfinished,
            None => {
                let (plan, sealing) = plan(&self.repository, &*self.source, &self.request).await?;
                Unfinished { plan, sealing, reads: 0 }
            }
        };
        self.check_fits(&plan)?;
        let exporter = self.exporter(Arc::new(plan), &sealing, reads)?;
        let manifest = self.carry_out(&exporter).await?;
        self.repository.clear_quietly(&manifest.id).await;
        // what fitted a pattern in an attempt before this one is not known
        let unmatched = exporter.filter.filter(|_| !resumed).map(|filter| filter.unmatched()).unwrap_or_default();
        Ok(BackupOutcome { manifest, resumed, passed_over, unmatched })
    }

    /// Reads everything to its end, and proves that nothing is missing, without committing it.
    pub(crate) async fn scan(&self) -> Result<Scan> {
        let unfinished = resumable(&self.repository, &self.request, &self.resume, &mut Vec::new()).await?;
        let (plan, sealing) = match unfinished {
            Some(Unfinished { plan, sealing, .. }) => (plan, sealing),
            None => plan(&self.repository, &*self.source, &self.request).await?,
        };
        self.check_fits(&plan)?;
        let exporter = self.exporter(Arc::new(plan), &sealing, 0)?;
        self.export_all(&exporter).await?;
        let whole = prove_whole(&self.repository, &exporter.plan, self.allowed()).await?;
        let whole = whole.ok_or_else(|| nothing_fits(&exporter.plan.selection, &exporter.plan.source.to_string()))?;
        Ok(Scan { whole, sealing })
    }

    /// Refuses a plan that is too old, of another database, or needs what this backup was not given.
    pub(crate) fn check_fits(&self, plan: &Plan) -> Result<()> {
        check_age(&self.repository, &plan.job, plan.created)?;
        if plan.source != *self.source.database() {
            let text = format!("{} is a backup of {}, not of {}", plan.job, plan.source, self.source.database());
            return Err(EngineError::Refused(text));
        }
        if plan.include_auth && self.users.is_none() {
            let text = format!("{} includes Auth users: give --include-auth to go on with it", plan.job);
            return Err(EngineError::Refused(text));
        }
        Ok(())
    }

    /// What this backup may turn out to be.
    pub(crate) const fn allowed(&self) -> Allowed {
        Allowed { empty: self.options.allow_empty, ranged: self.options.may_reanchor }
    }

    async fn carry_out(&self, exporter: &Exporter) -> Result<Manifest> {
        let plan = &exporter.plan;
        let counting = self.count(plan);
        let exported = self.export_all(exporter).await;
        if let Some(counting) = counting {
            counting.abort();
        }
        exported?;
        if let (true, Some(users)) = (plan.include_auth, &self.users) {
            let allow_redacted = self.options.allow_redacted;
            export_users(&self.repository, plan, &exporter.settings, &**users, allow_redacted, &self.stop).await?;
        }
        match finalize(&self.repository, plan, &exporter.settings.sealing, self.allowed()).await? {
            Some(manifest) => Ok(manifest),
            None => {
                // another attempt must look again, and not find this one to go on with
                self.repository.clear_job(&plan.job).await?;
                Err(nothing_fits(&plan.selection, &plan.source.to_string()))
            }
        }
    }

    /// Asks for the number of documents while they are being read, for whoever shows progress.
    fn count(&self, plan: &Arc<Plan>) -> Option<tokio::task::JoinHandle<()>> {
        let (source, meter, plan) = (Arc::clone(&self.source), Arc::clone(&self.meter), Arc::clone(plan));
        self.options.count_first.then(|| {
            tokio::spawn(async move {
                for range in plan.selection.ranges().unwrap_or_default() {
                    if let Ok(documents) = source.count(&range, plan.read_time).await {
                        meter.expected.add(documents);
                    }
                }
            })
        })
    }

    pub(crate) fn exporter(&self, plan: Arc<Plan>, sealing: &Sealing, reads: u64) -> Result<Exporter> {
        let mut settings =
            RunSettings::new(self.repository.clone(), sealing.clone(), plan.compression, Arc::clone(&self.meter));
        settings.verify_blocks = self.options.verify_blocks;
        settings.block_bytes = self.options.block_bytes;
        let filter = if plan.selection.is_everything() { None } else { Some(Arc::new(plan.selection.filter()?)) };
        Ok(Exporter {
            source: Arc::clone(&self.source),
            settings,
            filter,
            budget: Arc::new(ReadBudget::new(self.options.max_reads, reads)),
            stop: self.stop.clone(),
            abort: Stop::default(),
            bounds: self.options.bounds,
            may_reanchor: self.options.may_reanchor && !plan.asked_read_time,
            known: self.known.clone(),
            changes: self.changes.clone(),
            plan,
        })
    }

    /// Exports all chunks; when one fails the others stop at a safe point and the first error is the answer.
    async fn export_all(&self, exporter: &Exporter) -> Result<()> {
        // with a budget one after the other: two streams could not share the last reads exactly
        let parallel = if exporter.budget.is_bounded() { 1 } else { self.parallel.max(1) };
        let chunks = stream::iter(0..exporter.plan.chunks.len() as u32);
        let mut running = chunks
            .map(|chunk| {
                let exporter = exporter.clone();
                tokio::spawn(async move { exporter.export_chunk(chunk).await })
            })
            .buffer_unordered(parallel);
        let mut first_error: Option<EngineError> = None;
        while let Some(result) = running.next().await {
            if let Err(error) = result? {
                exporter.abort.request();
                let replace =
                    first_error.as_ref().is_none_or(EngineError::is_resumable_stop) && !error.is_resumable_stop();
                if first_error.is_none() || replace {
                    first_error = Some(error);
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

impl BackupBuilder {
    /// Which documents.
    #[must_use]
    pub fn selection(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// Auth users too.
    #[must_use]
    pub fn users(mut self, users: Arc<dyn UserSource>) -> Self {
        self.users = Some(users);
        self
    }

    /// How blocks are compressed.
    #[must_use]
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How many streams at one time.
    #[must_use]
    pub const fn parallel(mut self, streams: usize) -> Self {
        self.parallel = streams;
        self
    }

    /// Cuts into chunks of about so many documents, for steps on many machines ([`BackupSteps`]), rather than by streams.
    #[must_use]
    pub const fn chunk_documents(mut self, documents: u64) -> Self {
        self.cut = Some(Cut::Documents(documents));
        self
    }

    /// A read time in the past; otherwise the server's current time.
    #[must_use]
    pub const fn read_time(mut self, at: Option<Timestamp>) -> Self {
        self.read_time = at;
        self
    }

    /// Keeps only what changed since the newest backup of the same, where there is one that can be built on: what was captured
    /// since, else what differs. For [`Self::steps`], which find that out; [`increment`](crate::increment) does at once.
    #[must_use]
    pub const fn incremental(mut self) -> Self {
        self.basis = Basis::Parent;
        self
    }

    /// Keeps only what differs from what is known: what `layers` merge to.
    pub(crate) fn against(mut self, against: Against, layers: Vec<Layer>) -> Self {
        (self.against, self.known) = (Some(against), Some(layers.into()));
        self.may_reanchor(false)
    }

    /// Keeps what captured changes come to, on top of a parent of which what was changed behind a point does not count.
    pub(crate) fn changes(mut self, against: Against, parent_changed_until: Timestamp, layers: Vec<Layer>) -> Self {
        (self.against, self.parent_changed_until) = (Some(against), Some(parent_changed_until));
        self.captured = captured(&layers);
        self.changes = Some(layers.into());
        self.may_reanchor(false)
    }

    /// Says that the source is no database but a snapshot and captured changes, which must stay as long as they are read.
    pub(crate) fn merged_from(mut self, base: SnapshotId, layers: &[Layer]) -> Self {
        (self.merged_from, self.captured) = (Some(base), captured(layers));
        self.may_reanchor(false)
    }

    /// Reads from another source, at the one time that is known of it.
    pub(crate) fn reading(mut self, source: Arc<dyn DocumentSource>, at: Timestamp) -> Self {
        (self.source, self.read_time) = (source, Some(at));
        self
    }

    /// Says why everything is read although only what changed was asked for.
    pub(crate) fn full_because(mut self, reason: String) -> Self {
        self.full_because = Some(reason);
        self
    }

    /// Which unfinished job to go on with.
    #[must_use]
    pub fn resume(mut self, resume: Resume) -> Self {
        self.resume = resume;
        self
    }

    /// Stop before so many document reads are passed, in a state that can go on.
    #[must_use]
    pub const fn max_reads(mut self, max: Option<u64>) -> Self {
        self.options.max_reads = max;
        self
    }

    /// Count the documents while reading them, for a progress bar that knows its end; a billed read a thousand.
    #[must_use]
    pub const fn count_first(mut self, count: bool) -> Self {
        self.options.count_first = count;
        self
    }

    /// Whether ranges whose read time became too old may be read at a newer one; the manifest then says `ranged`.
    #[must_use]
    pub const fn may_reanchor(mut self, may: bool) -> Self {
        self.options.may_reanchor = may;
        self
    }

    /// Whether users whose password hash is redacted are taken.
    #[must_use]
    pub const fn allow_redacted_hashes(mut self, allow: bool) -> Self {
        self.options.allow_redacted = allow;
        self
    }

    /// Whether a backup may be committed whose selection fits no document. Without, it is an error: a mistake in writing
    /// must not pass for a backup. A whole database may be empty.
    #[must_use]
    pub const fn allow_empty(mut self, allow: bool) -> Self {
        self.options.allow_empty = allow;
        self
    }

    /// Whether each block is opened again and compared before it is uploaded; on by default, for memory errors are real.
    #[must_use]
    pub const fn verify_blocks(mut self, verify: bool) -> Self {
        self.options.verify_blocks = verify;
        self
    }

    /// Bytes of a block before compression.
    #[must_use]
    pub const fn block_bytes(mut self, bytes: usize) -> Self {
        self.options.block_bytes = bytes;
        self
    }

    /// After how many bytes of documents a step ends with a receipt.
    #[must_use]
    pub const fn step_bytes(mut self, bytes: u64) -> Self {
        self.options.bounds.raw_bytes = bytes;
        self
    }

    /// After how much time a step ends with a receipt.
    #[must_use]
    pub const fn step_time(mut self, time: Duration) -> Self {
        self.options.bounds.time = time;
        self
    }

    /// Where progress is counted.
    #[must_use]
    pub fn meter(mut self, meter: Arc<Meter>) -> Self {
        self.meter = meter;
        self
    }

    /// What may ask the backup to stop.
    #[must_use]
    pub fn stop(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// The backup, to be done step by step under a job's name by whoever is there.
    #[must_use]
    pub const fn steps(self) -> BackupSteps {
        BackupSteps::new(self)
    }

    /// The backup, ready to run.
    #[must_use]
    pub fn build(self) -> Backup {
        let request = PlanRequest {
            source: self.source.database().clone(),
            selection: self.selection,
            compression: self.compression,
            include_auth: self.users.is_some(),
            against: self.against,
            parent_changed_until: self.parent_changed_until,
            merged_from: self.merged_from,
            captured: self.captured,
            full_because: self.full_because,
            cut: self.cut.unwrap_or(Cut::Streams(self.parallel.max(1))),
            read_time: self.read_time,
            spares_reads: self.options.max_reads.is_some(),
        };
        Backup {
            repository: self.repository,
            source: self.source,
            users: self.users,
            request,
            parallel: self.parallel,
            resume: self.resume,
            known: self.known,
            changes: self.changes,
            options: self.options,
            meter: self.meter,
            stop: self.stop,
        }
    }
}

/// The runs of captured changes among layers, with their keys.
fn captured(layers: &[Layer]) -> Vec<(RunId, Option<KeyId>)> {
    layers.iter().filter(|layer| layer.span.is_some()).map(|layer| (layer.entry.id, layer.key)).collect()
}

/// Backs up a whole database with the defaults.
///
/// ```
/// # use std::sync::Arc;
/// # use firebackup_embedded::system::{SystemClock, SystemRandom};
/// # use firebackup_engine::memory::MemoryDatabase;
/// # use firebackup_engine::{Repository, Secrets, World};
/// # use firebackup_model::DatabaseName;
/// use firebackup_engine::{quick_backup, verify};
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// # let database = Arc::new(MemoryDatabase::new(DatabaseName::new("my-app", "(default)")));
/// # database.set("users/alice", 7);
/// # let store = Arc::new(object_store::memory::InMemory::new());
/// # let secrets = Secrets { masters: vec![firebackup_codec::secret::SecretKey::from_bytes([7; 32])], ..Secrets::default() };
/// # let world = World { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) };
/// # let repository = Repository::init(store, secrets, world).await?;
/// let manifest = quick_backup(&repository, database).await?;
/// let verification = verify(&repository, &manifest.id, &Arc::default()).await?;
/// assert_eq!((verification.records, verification.origin_proven), (1, true));
/// # Ok::<(), firebackup_engine::EngineError>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// As [`Backup::run`].
pub async fn quick_backup(repository: &Repository, source: Arc<dyn DocumentSource>) -> Result<Manifest> {
    Ok(Backup::builder(repository.clone(), source).build().run().await?.manifest)
}

/// What a backup would read, before it runs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// When it was counted.
    pub read_time: Timestamp,
    /// Documents in the ranges that would be read: each is a billed read. Nothing where the server does not count them and the
    /// sample is not all of them.
    pub documents: Option<u64>,
    /// Patterns that fit no document, as far as counting tells: whole collections.
    pub unmatched: Vec<String>,
    /// Billed reads of the count itself.
    pub count_reads: u64,
    /// Documents of a sample, and their bytes: the mean size of a document.
    pub sampled_documents: u64,
    /// Bytes of the sample.
    pub sampled_bytes: u64,
}

/// Documents read to learn their mean size.
const SAMPLE: u32 = 100;

/// Counts by aggregation what a backup of `selection` would read, and samples the size of documents. Where the server does not
/// count, no more than the sample and a document a range is read: whoever asks for the bill does not want to pay it.
///
/// # Errors
/// When the source fails.
pub async fn estimate(source: &dyn DocumentSource, selection: &Selection) -> Result<Estimate> {
    let read_time = source.snapshot_time().await?;
    let mut estimate = Estimate {
        read_time,
        documents: Some(0),
        unmatched: Vec::new(),
        count_reads: 0,
        sampled_documents: 0,
        sampled_bytes: 0,
    };
    for range in selection.ranges()? {
        let counted = try_count(source, &range, read_time).await?;
        let left = u64::from(SAMPLE).saturating_sub(estimate.sampled_documents);
        let wanted = match counted {
            Some(0) => 0,
            Some(_) => left,
            // at least whether there is any
            None => left.max(1),
        };
        let sampled = sample(source, &range, &mut estimate, wanted).await?;
        // an answer of nothing is billed as one
        estimate.count_reads += counted.map_or(u64::from(sampled == 0), |documents| documents.div_ceil(1000).max(1));
        // a sample that has less than was wanted has all
        let documents = counted.or((sampled < wanted).then_some(sampled));
        estimate.documents = estimate.documents.zip(documents).map(|(sum, more)| sum + more);
        let is_of_range =
            |pattern: &&String| PathRange::collection(pattern).is_ok_and(|collection| collection == range);
        if documents == Some(0) {
            estimate.unmatched.extend(selection.include.iter().find(is_of_range).cloned());
        }
    }
    Ok(estimate)
}

/// Adds up to `wanted` documents of a range to the sample, and says how many they are.
async fn sample(source: &dyn DocumentSource, range: &PathRange, estimate: &mut Estimate, wanted: u64) -> Result<u64> {
    let before = estimate.sampled_documents;
    let mut documents = source.stream(range, estimate.read_time, Some(wanted as u32)).await?;
    while let Some(document) = documents.next().await {
        estimate.sampled_bytes += document?.0.len() as u64;
        estimate.sampled_documents += 1;
    }
    Ok(estimate.sampled_documents - before)
}
