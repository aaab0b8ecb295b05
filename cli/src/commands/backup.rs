//! `firebackup backup`: all documents of a database at one instant.

mod estimate;
mod way;

use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use firebackup_engine::{
    Backup, BackupBuilder, BackupOutcome, Meter, Repository, Resume, UnfinishedJob, unfinished_jobs,
};
use firebackup_model::id::JobId;
use firebackup_model::job::Plan;
use firebackup_model::manifest::{Compression, Consistency, Manifest, SnapshotKind};
use firebackup_model::port::UserSource;
use firebackup_model::{DatabaseName, Timestamp};
use serde::Serialize;

use crate::commands::show::compression;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::progress::{Activity, Progress};
use crate::selection_args::CollectionArgs;
use crate::table::{indented, pairs};
use crate::units::{bytes, count, parse_count, rate, seconds, smaller};

pub(crate) use estimate::PlanArgs;
use way::{Way, WayArgs};

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup backup --repo file:///srv/backups --project my-app --master-key-file master.key
  firebackup backup --plan --project my-app
  firebackup backup --collection users --collection '**/orders' --compression zstd:3 --repo s3://bucket/prod --project my-app
  firebackup backup --include-auth --max-reads 2M --repo gs://bucket/prod --project my-app --credentials sa.json";

/// What an unfinished backup has settled.
const RESUMED_CONFLICTS: [&str; 7] =
    ["collections", "exclude", "no_subcollections", "include_auth", "read_time", "compression", "plan"];

/// Streams at one time: one reads an emulator as fast as several do.
const EMULATOR_STREAMS: usize = 1;
const STREAMS: usize = 4;

/// What is backed up, and how.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    collections: CollectionArgs,
    /// Auth users too, with password hashes and their parameters
    #[arg(long)]
    include_auth: bool,
    /// Take Auth users although the credential may not read their password hashes
    #[arg(long, requires = "include_auth")]
    allow_redacted_hashes: bool,
    /// brotli, zstd, gzip or none, with a level if you like: zstd:3, brotli:auto
    #[arg(long, value_name = "ALGORITHM", default_value = "brotli:auto")]
    compression: Compression,
    /// Streams at one time [default: 4, with an emulator 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: Option<u16>,
    /// A moment in the past, up to an hour ago, with point-in-time recovery seven days: 2026-01-31T14:03:00Z
    #[arg(long, value_name = "TIME")]
    read_time: Option<Timestamp>,
    /// Stop before more documents than this are read, in a state that can go on
    #[arg(long, value_name = "N", value_parser = parse_count)]
    max_reads: Option<u64>,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    way: WayArgs,
    /// Commit a backup even if no document fits --collection and --exclude
    #[arg(long)]
    allow_empty: bool,
    /// Begin anew, even if a backup of the same was begun and has not ended
    #[arg(long, conflicts_with = "resume")]
    fresh: bool,
    /// Go on with this unfinished backup, whatever its age; see `firebackup jobs`
    #[arg(long, value_name = "JOB", conflicts_with_all = RESUMED_CONFLICTS)]
    resume: Option<JobId>,
    /// Fail rather than read the rest at a newer time when the read time has become too old
    #[arg(long)]
    require_snapshot: bool,
    /// Do not open each block again before it is uploaded
    #[arg(long)]
    no_verify_blocks: bool,
}

#[derive(Serialize)]
struct BackedUp<'m> {
    #[serde(flatten)]
    manifest: &'m Manifest,
    resumed: bool,
    passed_over: &'m [String],
    unmatched: &'m [String],
    origin_proven: bool,
    seconds: f64,
}

/// Backs up, or with `--plan` says what it would cost.
///
/// # Errors
/// When a port fails for good, or the job was stopped.
pub(crate) async fn run(context: &Context, args: BackupArgs) -> Result<Exit> {
    let selection = args.collections.selection()?;
    if args.plan.plan {
        let planned = estimate::run(context, &args.plan, &selection, args.streams(context), args.max_reads);
        return context.interrupt.race(planned).await;
    }
    let repository = context.repository().await?;
    let resumed = match &args.resume {
        Some(job) => Some(unfinished(&repository, job).await?),
        None => None,
    };
    let database = resumed.as_ref().map_or_else(|| context.settings.database(), |plan| Ok(plan.source.clone()))?;
    let started = Instant::now();
    let meter = Arc::new(Meter::default());
    let way = way::find(context, &repository, &database, selection, &args.way).await?;
    let progress = Progress::show(&context.output, Activity::Backup, &meter);
    let outcome = match way {
        Way::Read(builder) => {
            let backup = prepare(context, &args, *builder, &database, resumed.as_ref(), &meter).await?;
            backup.run().await
        }
        Way::Merge(builder) => {
            let builder = builder.compression(args.compression).parallel(args.streams(context));
            builder.meter(Arc::clone(&meter)).stop(context.interrupt.graceful()).build().run().await
        }
    };
    drop(progress);
    let outcome = outcome?;
    tell(context, &repository, &outcome, started.elapsed().as_secs_f64())
}

impl BackupArgs {
    fn streams(&self, context: &Context) -> usize {
        let usual = if context.settings.is_emulator() { EMULATOR_STREAMS } else { STREAMS };
        self.parallel.map_or(usual, usize::from)
    }
}

async fn unfinished(repository: &Repository, job: &JobId) -> Result<Plan> {
    let jobs = unfinished_jobs(repository).await?;
    match jobs.into_iter().find(|unfinished| unfinished.job() == job) {
        Some(UnfinishedJob::Backup(plan)) => Ok(plan),
        Some(UnfinishedJob::Unreadable { error, .. }) => {
            Err(CliError::Refused(format!("{job} cannot be gone on with ({error}): begin a new backup with --fresh")))
        }
        _ => Err(CliError::NotFound(format!("there is no unfinished backup {job}: see `firebackup jobs`"))),
    }
}

async fn prepare(
    context: &Context,
    args: &BackupArgs,
    builder: BackupBuilder,
    database: &DatabaseName,
    resumed: Option<&Plan>,
    meter: &Arc<Meter>,
) -> Result<Backup> {
    let shows_progress = context.output.progress_style() == crate::output::ProgressStyle::Bar;
    let mut builder = builder
        .compression(args.compression)
        .parallel(args.streams(context))
        .read_time(args.read_time)
        .max_reads(args.max_reads)
        // a budget is for the backup alone: nothing is counted besides
        .count_first(shows_progress && args.max_reads.is_none())
        .allow_empty(args.allow_empty)
        .may_reanchor(!args.require_snapshot && !args.way.incremental)
        .verify_blocks(!args.no_verify_blocks)
        .resume(match (&args.resume, args.fresh) {
            (Some(job), _) => Resume::Job(job.clone()),
            (None, true) => Resume::Never,
            (None, false) => Resume::Auto,
        })
        .meter(Arc::clone(meter))
        .stop(context.interrupt.graceful());
    if args.include_auth || resumed.is_some_and(|plan| plan.include_auth) {
        let users: Arc<dyn UserSource> = context.users(&database.project).await?;
        builder = builder.users(users).allow_redacted_hashes(args.allow_redacted_hashes);
    }
    Ok(builder.build())
}

fn tell(context: &Context, repository: &Repository, outcome: &BackupOutcome, took: f64) -> Result<Exit> {
    let manifest = &outcome.manifest;
    let proven = matches!(repository.trust(), firebackup_engine::Trust::Only(_));
    let mut text = format!(
        "{} {}{}\n",
        context.output.good("✓"),
        context.output.bold(manifest.id.as_str()),
        if outcome.resumed { " (an unfinished backup was gone on with)" } else { "" }
    );
    text.push_str(&indented(&summary(manifest, took, proven)));
    if manifest.consistency == Consistency::Ranged {
        let warning = "the read time became too old on the way: parts are at newer times (see `firebackup show`); give \
                       --require-snapshot to fail instead, or --parallel to be faster";
        context.output.warn(warning);
    }
    for problem in &outcome.passed_over {
        context.output.warn(problem);
    }
    context.warn_unmatched(&outcome.unmatched);
    if manifest.key.is_none() {
        context.output.warn("the repository is not encrypted");
    }
    let backed_up = BackedUp {
        manifest,
        resumed: outcome.resumed,
        passed_over: &outcome.passed_over,
        unmatched: &outcome.unmatched,
        origin_proven: proven,
        seconds: took,
    };
    context.output.result(&backed_up, &text)?;
    Ok(Exit::Done)
}

/// What an incremental backup says is gone.
fn deleted(manifest: &Manifest) -> String {
    match manifest.totals.deletions {
        0 => String::new(),
        deletions => format!(" changed and {} deleted", count(deletions)),
    }
}

/// What a backup came to, for people.
pub(crate) fn summary(manifest: &Manifest, took: f64, proven: bool) -> String {
    let totals = manifest.totals;
    let read_time = manifest.read_time().map_or_else(|| "–".to_owned(), |time| time.to_string());
    let consistency = match manifest.consistency {
        Consistency::Snapshot => format!("all documents as of {read_time}"),
        Consistency::Ranged => format!("ranged: between {} and {read_time}", manifest.read_times[0]),
    };
    let speed = match totals.documents {
        0 => String::new(),
        documents => format!(", {}", rate(documents as f64 / took.max(0.001))),
    };
    let smaller = smaller(totals.bytes, manifest.stored_bytes).map(|text| format!(", {text}")).unwrap_or_default();
    let mut lines = vec![
        ("database", manifest.source.to_string()),
        ("documents", format!("{}{}, {}", count(totals.documents), deleted(manifest), bytes(totals.bytes))),
        ("stored", format!("{}{smaller}", bytes(manifest.stored_bytes))),
        ("compression", compression(manifest)),
        ("consistency", consistency),
        ("reads billed", count(manifest.reads)),
        ("origin", if proven { "proven: signed with the repository's key" } else { "not proven" }.to_owned()),
        ("took", format!("{}{speed}", seconds(took))),
    ];
    match (manifest.kind, &manifest.parent) {
        (SnapshotKind::Incremental, Some(parent)) => lines.insert(1, ("builds on", parent.to_string())),
        (SnapshotKind::Synthetic, _) => lines.insert(1, ("kind", "merged from captured changes".to_owned())),
        _ => {}
    }
    if let Some(auth) = &manifest.auth {
        let redacted = match auth.redacted {
            0 => String::new(),
            redacted => format!(", {} without a password hash", count(redacted)),
        };
        lines.insert(2, ("Auth users", format!("{}{redacted}", count(auth.users))));
    }
    pairs(lines)
}
