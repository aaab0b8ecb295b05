//! Decides what a backup reads: one read time, and chunks that tile the selection.

use firebackup_codec::object::ObjectType;
use firebackup_codec::sealing::Sealing;
use firebackup_model::id::{JobId, JobKind, KeyId, RunId, SnapshotId};
use firebackup_model::job::{Against, Intent, Plan};
use firebackup_model::manifest::{Compression, SnapshotKind};
use firebackup_model::port::DocumentSource;
use firebackup_model::selection::Selection;
use firebackup_model::{DatabaseName, DocumentPath, ErrorKind, PathRange, Timestamp};

use futures::StreamExt;

use crate::error::{EngineError, Result};
use crate::layout;
use crate::objects::Put;
use crate::receipt_sum::reads_so_far;
use crate::repository::Repository;

/// Half of prune's grace period: a job that is older may not commit, and is not gone on with.
pub const MAX_JOB_SECONDS: i64 = 12 * 3600;
/// How often an intent is looked for and put: it may be another one's, outdated, and gone.
const MAX_INTENTS: usize = 4;
/// How far back Firestore reads without point-in-time recovery.
const READ_TIME_SECONDS: i64 = 3600;

/// Which unfinished job a backup goes on with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Resume {
    /// One of the same database and settings whose read time can still be read at, if there is one.
    #[default]
    Auto,
    /// None: always a new one.
    Never,
    /// This one, whatever its age; what is left of it may be read at a newer time.
    Job(JobId),
}

/// What a plan is made from.
#[derive(Debug, Clone)]
pub(crate) struct PlanRequest {
    pub(crate) source: DatabaseName,
    pub(crate) selection: Selection,
    pub(crate) compression: Compression,
    pub(crate) include_auth: bool,
    /// How ranges are cut.
    pub(crate) cut: Cut,
    pub(crate) read_time: Option<Timestamp>,
    /// What only the differences from are kept.
    pub(crate) against: Option<Against>,
    /// See [`Plan::parent_changed_until`].
    pub(crate) parent_changed_until: Option<Timestamp>,
    /// What is read instead of a database.
    pub(crate) merged_from: Option<SnapshotId>,
    /// Runs of captured changes that are read while the job runs, with their keys.
    pub(crate) captured: Vec<(RunId, Option<KeyId>)>,
    /// See [`Plan::full_because`].
    pub(crate) full_because: Option<String>,
    /// Whether to go on with a job whose read time may be gone already, rather than to pay for its reads again.
    pub(crate) spares_reads: bool,
}

/// How the ranges of a selection are cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// For so many streams at one time; 1 makes one chunk a range.
    Streams(usize),
    /// Into chunks of about so many documents.
    Documents(u64),
}

/// The most chunks of one plan: what one map of a state machine can run.
pub(crate) const MAX_CHUNKS: usize = 10_000;
/// The most bytes of JSON that the paths between chunks may take. A path has up to 6 KiB, and six times that where it must
/// be escaped; each stands twice in the plan and about as often in the manifest, and both must fit into a sealed object.
/// Every step reads the plan besides.
const MAX_CUT_BYTES: usize = 8 * 1024 * 1024;
/// Into how many chunks ranges are cut that the server cannot count in time: there must be very many documents.
const UNCOUNTED_CHUNKS: usize = 1_000;

impl PlanRequest {
    const fn kind(&self) -> SnapshotKind {
        match (&self.against, &self.merged_from) {
            (Some(_), _) => SnapshotKind::Incremental,
            (None, Some(_)) => SnapshotKind::Synthetic,
            (None, None) => SnapshotKind::Full,
        }
    }

    /// Snapshots that are read while the job runs.
    fn needed_snapshots(&self) -> Vec<SnapshotId> {
        let compared = self.against.iter().map(|against| against.base.clone());
        compared.chain(self.merged_from.clone()).collect()
    }

    /// What is compared must be newer than what it is compared with.
    fn newer_than(&self) -> Option<Timestamp> {
        self.against.as_ref().and_then(|against| against.through)
    }

    fn is_for(&self, plan: &Plan) -> bool {
        self.source == plan.source
            && self.selection == plan.selection
            && self.compression == plan.compression
            && self.include_auth == plan.include_auth
            && self.against == plan.against
            && self.parent_changed_until == plan.parent_changed_until
            && self.merged_from == plan.merged_from
            && self.kind() == plan.kind
            && match self.read_time {
                Some(at) => plan.asked_read_time && at == plan.read_time,
                None => !plan.asked_read_time,
            }
    }
}

/// Makes a plan and puts it, with the intent and the data key it needs.
pub(crate) async fn plan(
    repository: &Repository,
    source: &dyn DocumentSource,
    request: &PlanRequest,
) -> Result<(Plan, Sealing)> {
    if let Some(at) = request.read_time {
        check_read_time(source, at).await?;
    }
    // an id that is never older than what is read: the newest snapshot is looked for among the newest ids
    let server_time = source.snapshot_time().await?;
    let job = repository.world().job_id_after(JobKind::Backup, server_time);
    let sealing = repository.new_data_key().await?;
    put_intent(repository, &intent(repository, &job, request, &sealing), &sealing).await?;
    let plan = new_plan(repository, source, request, job, server_time, &sealing).await?;
    repository.put_sealed(ObjectType::Plan, &layout::plan(&plan.job), &sealing, &plan).await?;
    Ok((plan, sealing))
}

/// Makes the plan of a job that has its name already, or adopts what another process, or this one before it was killed, has
/// made of it.
pub(crate) async fn plan_of(
    repository: &Repository,
    source: &dyn DocumentSource,
    request: &PlanRequest,
    job: &JobId,
) -> Result<(Plan, Sealing)> {
    if let Some(planned) = read_plan(repository, job).await? {
        return Ok(planned);
    }
    let sealing = begin_or_adopt(repository, job, request).await?;
    let server_time = source.snapshot_time().await?;
    let plan = new_plan(repository, source, request, job.clone(), server_time, &sealing).await?;
    match repository.put_sealed(ObjectType::Plan, &layout::plan(job), &sealing, &plan).await? {
        Put::Stored => Ok((plan, sealing)),
        Put::Existed => read_plan(repository, job).await?.ok_or_else(|| gone(job)),
    }
}

/// The plan of a job, and how its objects are sealed; nothing when it has none.
pub(crate) async fn read_plan(repository: &Repository, job: &JobId) -> Result<Option<(Plan, Sealing)>> {
    let found: Option<(Plan, _)> = repository.get_sealed(ObjectType::Plan, &layout::plan(job)).await?;
    let Some((plan, _)) = found else { return Ok(None) };
    let sealing = repository.sealing(plan.key).await?;
    Ok(Some((plan, sealing)))
}

/// A job whose plan was there and is not any more.
pub(crate) fn gone(job: &JobId) -> EngineError {
    EngineError::Incomplete { job: job.clone(), reason: "its plan is gone: the job was given up".to_owned() }
}

/// Puts the intent of a job and its data key, unless that was done before. What another try has pinned, which may have found something
/// else to build on, stays pinned: it may have died, or put its plan just now.
async fn begin_or_adopt(repository: &Repository, job: &JobId, request: &PlanRequest) -> Result<Sealing> {
    let path = layout::intent(job);
    let mut known: Option<Intent> = None;
    for _ in 0..MAX_INTENTS {
        let found: Option<(Intent, _)> = repository.get_sealed(ObjectType::Intent, &path).await?;
        let found = found.map(|(found, _)| found);
        known = match (found.clone(), known) {
            (Some(found), Some(known)) => Some(joined(found, known)),
            (found, known) => found.or(known),
        };
        let sealing = match &known {
            Some(known) => repository.sealing(known.keys.first().copied()).await?,
            None => repository.new_data_key().await?,
        };
        let ours = intent(repository, job, request, &sealing);
        let created = ours.created;
        let mut wanted = match known {
            Some(known) => joined(known, ours),
            None => ours,
        };
        if found.as_ref() == Some(&wanted) {
            return Ok(sealing);
        }
        if found.is_some() {
            repository.delete_all(vec![path.clone()]).await?;
        }
        wanted.created = created;
        let put = repository.put_sealed(ObjectType::Intent, &path, &repository.root_sealing(), &wanted).await?;
        if put == Put::Stored {
            return Ok(sealing);
        }
        known = Some(wanted);
    }
    Err(gone(job))
}

/// An intent that names all that either does; its own key and its time are those of the first.
pub(crate) fn joined(mut intent: Intent, other: Intent) -> Intent {
    fn add<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
        for one in more {
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    add(&mut intent.snapshots, other.snapshots);
    add(&mut intent.runs, other.runs);
    add(&mut intent.keys, other.keys);
    intent
}

fn intent(repository: &Repository, job: &JobId, request: &PlanRequest, sealing: &Sealing) -> Intent {
    let mut keys: Vec<KeyId> = sealing.key_id().into_iter().collect();
    for key in request.captured.iter().filter_map(|(_, key)| *key) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Intent {
        job: job.clone(),
        created: repository.world().now(),
        database: request.source.clone(),
        snapshots: request.needed_snapshots(),
        runs: request.captured.iter().map(|(run, _)| *run).collect(),
        keys,
    }
}

async fn new_plan(
    repository: &Repository,
    source: &dyn DocumentSource,
    request: &PlanRequest,
    job: JobId,
    server_time: Timestamp,
    sealing: &Sealing,
) -> Result<Plan> {
    // good to know, and no reason to fail
    let kept = source.versions_since().await.unwrap_or_else(|error| {
        tracing::warn!(error = %error, "it is not known whether the database keeps versions");
        None
    });
    let read_time = match request.read_time {
        Some(at) => at,
        None => newest_lasting(server_time, kept, request.newer_than()),
    };
    Ok(Plan {
        job,
        kind: request.kind(),
        source: request.source.clone(),
        selection: request.selection.clone(),
        read_time,
        asked_read_time: request.read_time.is_some(),
        keeps_versions: is_kept(read_time, kept),
        chunks: chunks(source, request, read_time).await?,
        compression: request.compression,
        key: sealing.key_id(),
        include_auth: request.include_auth,
        created: repository.world().now(),
        against: request.against.clone(),
        parent_changed_until: request.parent_changed_until,
        merged_from: request.merged_from.clone(),
        full_because: request.full_because.clone(),
    })
}

/// The newest read time that can still be read at when an hour has passed: where versions are kept, only whole minutes
/// are kept for longer than that.
fn newest_lasting(now: Timestamp, kept: Option<Timestamp>, newer_than: Option<Timestamp>) -> Timestamp {
    let minute = Timestamp::new(now.seconds - now.seconds.rem_euclid(60), 0);
    if is_kept(minute, kept) && newer_than < Some(minute) { minute } else { now }
}

/// Whether a read time is one at which versions are kept.
const fn is_kept(at: Timestamp, kept: Option<Timestamp>) -> bool {
    match kept {
        Some(since) => at.seconds % 60 == 0 && at.nanos == 0 && since.seconds < at.seconds,
        None => false,
    }
}

/// Reads something at a time that the user asked for, before anything is written on the strength of it.
async fn check_read_time(source: &dyn DocumentSource, at: Timestamp) -> Result<()> {
    let mut stream = source.stream(&PathRange::everything(), at, Some(1)).await?;
    stream.next().await.transpose()?;
    Ok(())
}

/// Puts an intent, sealed with the repository key, or on a machine without it with the job's own.
pub(crate) async fn put_intent(repository: &Repository, intent: &Intent, own: &Sealing) -> Result<()> {
    let root = repository.root_sealing();
    let sealing = if root.key_id().is_some() { &root } else { own };
    match repository.put_sealed(ObjectType::Intent, &layout::intent(&intent.job), sealing, intent).await? {
        Put::Stored => Ok(()),
        Put::Existed => Err(EngineError::Refused(format!("there is an intent of {} already", intent.job))),
    }
}

async fn chunks(source: &dyn DocumentSource, request: &PlanRequest, at: Timestamp) -> Result<Vec<PathRange>> {
    let ranges = request.selection.ranges()?;
    if request.cut == Cut::Streams(1) {
        return Ok(ranges);
    }
    let mut cuts = Vec::with_capacity(ranges.len());
    let share = (MAX_CHUNKS / ranges.len().max(1)).max(1);
    for range in &ranges {
        let wanted = match request.cut {
            // four chunks a stream even out what the cuts got wrong
            Cut::Streams(streams) => (streams * 4).div_ceil(ranges.len()),
            Cut::Documents(documents) => chunks_of(source, range, at, documents).await?,
        };
        let wanted = wanted.min(share);
        // one chunk needs no cut
        let points = if wanted < 2 { Vec::new() } else { source.split_points(range, wanted, at).await? };
        cuts.push(thinned(points, wanted - 1));
    }
    fit(&mut cuts);
    Ok(ranges.iter().zip(&cuts).flat_map(|(range, points)| range.cut(points)).collect())
}

/// Leaves out every other cut until the paths are few or short enough: chunks are larger then, and take more steps.
fn fit(cuts: &mut [Vec<DocumentPath>]) {
    let bytes = |cuts: &[Vec<DocumentPath>]| cuts.iter().flatten().map(json_bytes).sum::<usize>();
    while bytes(cuts) > MAX_CUT_BYTES {
        for points in cuts.iter_mut() {
            let most = points.len() / 2;
            *points = thinned(std::mem::take(points), most);
        }
    }
}

/// How many bytes a path takes as JSON, its quotes included.
fn json_bytes(path: &DocumentPath) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        // `\n` and the like take two; six are never too few
        0..0x20 => 6,
        _ => 1,
    };
    2 + path.as_str().bytes().map(escaped).sum::<usize>()
}

/// Into how many chunks a range is cut; one that cannot be counted as if it were large.
async fn chunks_of(source: &dyn DocumentSource, range: &PathRange, at: Timestamp, documents: u64) -> Result<usize> {
    let chunks = |count: u64| usize::try_from(count.div_ceil(documents.max(1))).unwrap_or(MAX_CHUNKS).max(1);
    Ok(try_count(source, range, at).await?.map_or(UNCOUNTED_CHUNKS, chunks))
}

/// How many documents a range has; nothing where the server refuses to count them, or cannot in time. No name is read for it.
pub(crate) async fn try_count(source: &dyn DocumentSource, range: &PathRange, at: Timestamp) -> Result<Option<u64>> {
    match source.count(range, at).await {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind.is_refusal_of_query() || error.kind == ErrorKind::DeadlineExceeded => {
            // on some servers always so, and whoever asks does without
            tracing::info!(error = %error, "the server cannot count a range");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// At most `most` of the points, evenly spread.
fn thinned(points: Vec<DocumentPath>, most: usize) -> Vec<DocumentPath> {
    if points.len() <= most {
        return points;
    }
    let total = points.len();
    (0..most).map(|index| points[(index + 1) * total / (most + 1)].clone()).collect()
}

/// A job to go on with.
pub(crate) struct Unfinished {
    pub(crate) plan: Plan,
    pub(crate) sealing: Sealing,
    /// Billed document reads of its receipts.
    pub(crate) reads: u64,
}

/// Finds the job to go on with, as `resume` says; `passed_over` is told of those that cannot be read.
pub(crate) async fn resumable(
    repository: &Repository,
    request: &PlanRequest,
    resume: &Resume,
    passed_over: &mut Vec<String>,
) -> Result<Option<Unfinished>> {
    match resume {
        Resume::Never => Ok(None),
        Resume::Job(job) => {
            let explained = |error: EngineError| {
                error.explained(format!("{job} cannot be gone on with: begin a new backup with --fresh"))
            };
            let unfinished = read_unfinished(repository, job, |_| true).await.map_err(explained)?;
            unfinished.map(Some).ok_or_else(|| EngineError::NotFound(format!("there is no unfinished backup {job}")))
        }
        Resume::Auto if !repository.can_read() => Ok(None),
        Resume::Auto => newest_matching(repository, request, passed_over).await,
    }
}

async fn newest_matching(
    repository: &Repository,
    request: &PlanRequest,
    passed_over: &mut Vec<String>,
) -> Result<Option<Unfinished>> {
    let now = repository.world().now();
    let mut jobs: Vec<_> =
        repository.list("intents").await?.iter().filter_map(|meta| layout::job_of(&meta.location)).collect();
    jobs.retain(|job| job.kind() == JobKind::Backup);
    jobs.sort_by(|a, b| b.cmp(a));
    for job in jobs {
        if !repository.is_dropped(&job).await? {
            // committed, and killed before it could clean up
            repository.clear_job(&job).await?;
            continue;
        }
        let is_fit = |plan: &Plan| {
            let oldest = if request.spares_reads || plan.keeps_versions { MAX_JOB_SECONDS } else { READ_TIME_SECONDS };
            request.is_for(plan) && now.seconds_since(plan.read_time) < oldest as f64
        };
        match read_unfinished(repository, &job, is_fit).await {
            Ok(Some(unfinished)) => return Ok(Some(unfinished)),
            Ok(None) => {}
            Err(error) if error.is_of_the_object() => {
                passed_over.push(format!("{job} was not gone on with, for it cannot be read: {}", error.in_full()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Reads all that a job has left if its plan is fit, so that what is damaged is found before anything rests on it.
async fn read_unfinished(
    repository: &Repository,
    job: &JobId,
    is_fit: impl Fn(&Plan) -> bool + Send,
) -> Result<Option<Unfinished>> {
    let found: Option<(Plan, _)> = repository.get_sealed(ObjectType::Plan, &layout::plan(job)).await?;
    let Some((plan, _)) = found.filter(|(plan, _)| is_fit(plan)) else { return Ok(None) };
    let sealing = repository.sealing(plan.key).await?;
    let reads = reads_so_far(repository, &plan).await?;
    Ok(Some(Unfinished { plan, sealing, reads }))
}

/// Refuses a job that has grown too old to commit safely beside a prune.
pub(crate) fn check_age(repository: &Repository, job: &JobId, created: Timestamp) -> Result<()> {
    if repository.world().now().seconds_since(created) < MAX_JOB_SECONDS as f64 {
        return Ok(());
    }
    let reason =
        "it began more than 12 hours ago, and a prune may have removed what it wrote; start a new backup with --fresh";
    Err(EngineError::Incomplete { job: job.clone(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_at_most_the_bytes_that_are_counted() {
        for text in ["a/b", "a/\"\\", "a/\u{0}\n\u{1f}", "a/ü€𝄞", "a/\u{7f}\u{2028}"] {
            let path = DocumentPath::new(text).unwrap();
            let json = serde_json::to_string(&path).unwrap();
            assert!((json.len()..=json.len() + 4).contains(&json_bytes(&path)), "{json}");
        }
    }

    #[test]
    fn cuts_are_thinned_evenly_until_they_fit() {
        let cut = |number: usize| DocumentPath::new(format!("a/{number:05}{}", "x".repeat(4000))).unwrap();
        let mut cuts = vec![(0..6000).map(cut).collect::<Vec<_>>(), vec![cut(6000)]];
        fit(&mut cuts);
        assert_eq!((cuts[0].len(), cuts[1].len()), (1500, 0));
        let numbers: Vec<usize> = cuts[0].iter().map(|path| path.as_str()[2..7].parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| (1..=4).contains(&(pair[1] - pair[0]))));
        assert!(numbers[0] < 10 && numbers[1499] > 5990, "{} to {}", numbers[0], numbers[1499]);
        let few = vec![vec![cut(1), cut(2)]];
        let mut fitting = few.clone();
        fit(&mut fitting);
        assert_eq!(fitting, few);
    }
}
