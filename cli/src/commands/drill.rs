//! `firebackup drill`: restores a backup into a scratch database and compares every document, to know that it can be done.

use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args};
use firebackup_engine::{
    Drill, DrillOptions, EngineError, MOST_DRILLS, Meter, ProvenOrigin, Repository, Target, check_drillable,
};
use firebackup_model::DatabaseName;
use firebackup_model::cron::Cron;
use firebackup_model::database::DEFAULT_DATABASE;
use firebackup_model::drill::{DrillReport, Exercise};
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::Manifest;
use serde::Serialize;

use crate::commands::demo::stage::Stage;
use crate::commands::list::UnreadableReport;
use crate::commands::verify::is_damage;
use crate::context::{ANYBODY, Context, LATEST, world};
use crate::error::{CliError, ErrorReport, Result, is_for_others};
use crate::exit::Exit;
use crate::progress::{Activity, Progress};
use crate::settings::{database_id, new_project_id};
use crate::table::{printable, table};
use crate::units::{bytes, count, of, parse_count};

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup drill --scratch-emulator --repo file:///srv/backups --master-key-file master.key
  firebackup drill --all --scratch-database drills --repo s3://bucket/prod --master-key-file master.key
  firebackup drill --reports --repo s3://bucket/prod --master-key-file master.key";

/// The project of a drill in an emulator: never that of a demonstration, which may have been backed up.
const PROJECT: &str = "demo-firebackup-drill";
/// How often it is looked whether a drill is due.
const TICK: Duration = Duration::from_millis(500);
/// Differences that are shown.
const SHOWN: usize = 20;

/// What only a drill itself has, which a list of reports knows nothing of.
const REPORTS_CONFLICTS: [&str; 12] = [
    "snapshot",
    "scratch_emulator",
    "scratch_project",
    "scratch_database",
    "sample",
    "all",
    "moments",
    "seed",
    "take_over",
    "no_ramp",
    "cron",
    "timezone",
];

/// Which backup, into which database, and how much of it.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").required(true).args(["scratch_emulator", "scratch_project", "scratch_database", "reports"]).multiple(true)))]
pub(crate) struct DrillArgs {
    /// The snapshot: its id, the beginning of it, or `latest`
    #[arg(value_name = "SNAPSHOT", default_value = LATEST)]
    snapshot: String,
    /// Restore into an emulator that is started for it (or the one of `FIRESTORE_EMULATOR_HOST`, into a project of its own)
    #[arg(long, conflicts_with_all = ["scratch_project", "scratch_database"])]
    scratch_emulator: bool,
    /// Restore into an empty database of this project
    #[arg(long, value_name = "ID", value_parser = new_project_id)]
    scratch_project: Option<String>,
    /// Restore into this empty database
    #[arg(long, value_name = "ID", value_parser = database_id)]
    scratch_database: Option<String>,
    /// About how many documents of each restore, chosen at random
    #[arg(long, value_name = "N", default_value = "1,000", value_parser = parse_count)]
    sample: u64,
    /// All documents, and every byte of what is stored
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    /// How many moments are put back too, from captured changes: half of them behind the backup, the others of all that are kept,
    /// chosen at random
    #[arg(long, value_name = "N", default_value_t = 1)]
    moments: u32,
    /// Choose the same again as the drill whose report shows this number
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Delete what a drill that died has left in the scratch database
    #[arg(long)]
    take_over: bool,
    /// Write at full speed, instead of 500 a second and half as many again each five minutes (an emulator: always)
    #[arg(long)]
    no_ramp: bool,
    /// Run a drill whenever it is due, until Ctrl-C: five cron fields
    #[arg(long, value_name = "CRON")]
    cron: Option<String>,
    /// In which time zone --cron is meant
    #[arg(long, value_name = "ZONE", default_value = "UTC", requires = "cron")]
    timezone: String,
    /// List what the drills so far have found
    #[arg(long, conflicts_with_all = REPORTS_CONFLICTS)]
    reports: bool,
}

#[derive(Serialize)]
struct Told {
    passed: bool,
    /// Whether the report is signed by a writer that is believed.
    origin_proven: bool,
    #[serde(flatten)]
    report: DrillReport,
}

/// A report in a list.
#[derive(Serialize)]
#[serde(untagged)]
enum Listed {
    Told(Box<Told>),
    Unreadable(UnreadableReport),
}

impl Listed {
    /// When the drill began.
    fn millis(&self) -> u64 {
        match self {
            Self::Told(told) => told.report.id.millis(),
            Self::Unreadable(report) => report.id.millis(),
        }
    }
}

/// Runs a drill, or lists what they have found.
///
/// # Errors
/// When the scratch database cannot be used or the repository not be read. That a backup does not pass is a result.
pub(crate) async fn run(context: &Context, args: DrillArgs) -> Result<Exit> {
    let repository = context.repository().await?;
    if args.reports {
        return list(context, &repository).await;
    }
    if args.sample == 0 {
        return Err(CliError::Usage("--sample 0 would show nothing: give a number of documents, or --all".to_owned()));
    }
    if let Some(cron) = &args.cron {
        let cron = Cron::new(cron, &args.timezone).map_err(|error| CliError::Usage(error.to_string()))?;
        return on_schedule(context, &repository, &args, &cron).await;
    }
    let told = once(context, &repository, &args).await?;
    context.output.result(&told, &text(context, &told.report))?;
    Ok(if told.passed { Exit::Done } else { Exit::Partial })
}

async fn once(context: &Context, repository: &Repository, args: &DrillArgs) -> Result<Told> {
    let (snapshot, manifest) = chosen(context, repository, &args.snapshot).await?;
    let scratch = Scratch::open(context, args, &manifest).await?;
    let report = exercise(context, repository, args, snapshot, scratch.target.clone(), scratch.is_emulator).await?;
    Ok(Told { passed: report.has_passed(), origin_proven: repository.writer_key().is_some(), report })
}

async fn chosen(context: &Context, repository: &Repository, text: &str) -> Result<(SnapshotId, Manifest)> {
    let snapshot = context.snapshot_to_use(repository, text).await.map_err(|error| match error {
        CliError::Engine(error @ EngineError::Latest { .. }) => of_the_backup(error),
        other => other,
    })?;
    // before an emulator is started for it
    check_drillable(&snapshot)?;
    let (manifest, _) = repository.manifest(&snapshot).await.map_err(of_the_backup)?;
    Ok((snapshot, manifest))
}

/// A backup of which not even the manifest can be read cannot be restored, which is what a drill is to find out.
fn of_the_backup(error: EngineError) -> CliError {
    let damage = if let EngineError::Latest { source, .. } = &error { source } else { &error };
    let is_gone = matches!(damage, EngineError::NotFound(_));
    match is_damage(damage) && !is_gone && !is_for_others(damage) {
        true => CliError::Unrestorable(error),
        false => error.into(),
    }
}

/// Runs drills until it is asked to stop. One that could not be run is told, and the next one is due all the same.
async fn on_schedule(context: &Context, repository: &Repository, args: &DrillArgs, cron: &Cron) -> Result<Exit> {
    let stop = context.interrupt.graceful();
    loop {
        let due = cron.next_after(world().now());
        let due = due.ok_or_else(|| CliError::Usage(format!("`{}` is never due", cron.expression())))?;
        context.output.note(&format!("the next drill is due at {due}"));
        while world().now() < due && !stop.is_requested() {
            tokio::time::sleep(TICK).await;
        }
        if stop.is_requested() {
            return Ok(Exit::Done);
        }
        match once(context, repository, args).await {
            Ok(told) => context.output.event(&told, &text(context, &told.report))?,
            Err(_) if stop.is_requested() => return Ok(Exit::Done),
            Err(error) => {
                let failed = Failed { error: error.report() };
                context.output.event(&failed, &format!("the drill could not be run: {}", failed.error.message))?;
            }
        }
    }
}

/// That a drill could not be run: of the backup that says nothing.
#[derive(Serialize)]
struct Failed {
    error: ErrorReport,
}

/// The database into which is restored.
struct Scratch {
    target: Target,
    is_emulator: bool,
    /// Ours ends with this.
    _stage: Option<Stage>,
}

impl Scratch {
    async fn open(context: &Context, args: &DrillArgs, manifest: &Manifest) -> Result<Self> {
        if args.scratch_emulator {
            let stage = Stage::open_unused(PROJECT, &context.settings.access, manifest.totals.documents).await?;
            return Ok(Self { target: stage.target.clone(), is_emulator: true, _stage: Some(stage) });
        }
        let project = args.scratch_project.clone().unwrap_or_else(|| manifest.source.project.clone());
        let database = args.scratch_database.clone().unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
        let database = DatabaseName::new(project, database);
        if database == manifest.source {
            return Err(CliError::Usage(format!("{database} is what was backed up: a drill needs another database")));
        }
        let target = context.target(&database).await?;
        Ok(Self { target, is_emulator: context.settings.is_emulator(), _stage: None })
    }
}

async fn exercise(
    context: &Context,
    repository: &Repository,
    args: &DrillArgs,
    snapshot: SnapshotId,
    scratch: Target,
    is_emulator: bool,
) -> Result<DrillReport> {
    let options = DrillOptions {
        sample: (!args.all).then_some(args.sample),
        moments: args.moments,
        seed: args.seed.unwrap_or_else(random_seed),
        ramp: !args.no_ramp && !is_emulator,
        take_over: args.take_over,
    };
    let (meter, stop) = (Arc::new(Meter::default()), context.interrupt.graceful());
    let drill = Drill { repository: repository.clone(), snapshot, scratch, options, by: None, meter, stop };
    let _progress = Progress::show(&context.output, Activity::Restore, &drill.meter);
    Ok(drill.run().await?)
}

/// Small enough for a number in any JSON reader.
fn random_seed() -> u64 {
    u64::from(u32::from_le_bytes(world().bytes()))
}

async fn list(context: &Context, repository: &Repository) -> Result<Exit> {
    let drills = repository.drills(MOST_DRILLS).await?;
    let damaged = !drills.unreadable.is_empty();
    let told = drills.reports.into_iter().map(|(report, origin)| {
        let origin_proven = matches!(origin, ProvenOrigin::Proven(_));
        Listed::Told(Box::new(Told { passed: report.has_passed(), origin_proven, report }))
    });
    let unreadable = drills.unreadable.into_iter().map(|drill| Listed::Unreadable(UnreadableReport::new(drill)));
    let mut listed: Vec<Listed> = told.chain(unreadable).collect();
    listed.sort_by_key(Listed::millis);
    context.output.result(&listed, &listed_text(&listed))?;
    Ok(if damaged && repository.can_read() { Exit::Partial } else { Exit::Done })
}

/// Reports as a table, and below it what cannot be read.
fn listed_text(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "There was no drill yet: run one with `firebackup drill --scratch-emulator`.".to_owned();
    }
    let (mut told, mut lines) = (Vec::new(), Vec::new());
    for one in listed {
        match one {
            Listed::Told(report) => told.push(&**report),
            Listed::Unreadable(report) => lines.push(report.line()),
        }
    }
    if !told.is_empty() {
        lines.insert(0, reports_table(&told));
    }
    lines.join("\n")
}

fn reports_table(told: &[&Told]) -> String {
    let row = |one: &&Told| {
        let report = &one.report;
        vec![
            crate::units::moment(report.finished),
            report.snapshot.to_string(),
            if one.origin_proven {
                verdict(report).to_owned()
            } else {
                format!("{}, origin not proven", verdict(report))
            },
            if report.is_whole { "everything" } else { "a sample" }.to_owned(),
            count(report.documents()),
            count(report.exercises.len() as u64),
        ]
    };
    let header = ["FINISHED", "SNAPSHOT", "RESULT", "WHAT", "DOCUMENTS", "RESTORES"];
    let rows: Vec<_> = told.iter().map(row).collect();
    let table = table(&header, &["DOCUMENTS", "RESTORES"], rows);
    match told.iter().all(|one| one.origin_proven) {
        true => table,
        false => format!("{table}\n\nOrigin not proven: {ANYBODY}"),
    }
}

fn verdict(report: &DrillReport) -> &'static str {
    if report.has_passed() { "passed" } else { "failed" }
}

fn text(context: &Context, report: &DrillReport) -> String {
    let mut lines: Vec<String> = report.exercises.iter().map(|exercise| exercise_text(report, exercise)).collect();
    lines.extend(report.users.iter().map(|users| {
        format!("  its Auth users: {} of {} opened and decoded, none restored", count(users.read), count(users.users))
    }));
    let (wanted, moments) = (report.moments_wanted as usize, report.moments());
    if report.failure.is_none() && moments < wanted {
        let there =
            if moments == 0 { "no moment".to_owned() } else { format!("only {}", of(moments as u64, "moment")) };
        lines.push(format!("  {there} of its database can be put back from captured changes"));
    }
    lines.extend(report.failure.iter().map(|failure| format!("It went no further: {}", printable(failure))));
    let head = match report.has_passed() {
        true => format!(
            "{} can be restored: {} compared, all as they should be",
            report.snapshot,
            of(report.documents(), "document")
        ),
        false if is_itself_good(report) => {
            format!("{} can be restored, but NOT every moment of its database as it should", report.snapshot)
        }
        false => format!("{} does NOT restore as it should", report.snapshot),
    };
    let foot = format!(
        "read {} of the repository; the scratch database {} is empty again; report {} is kept (`firebackup drill --reports`), seed {}",
        bytes(report.bytes),
        report.scratch,
        report.id,
        report.seed
    );
    format!("{}\n{}\n{foot}", context.output.bold(&head), lines.join("\n"))
}

/// Whether it is moments that do not pass, and not the backup.
fn is_itself_good(report: &DrillReport) -> bool {
    let has_users = report.users.is_none_or(|users| users.read == users.users);
    has_users && report.exercises.first().is_some_and(Exercise::has_passed)
}

fn exercise_text(report: &DrillReport, exercise: &Exercise) -> String {
    let what = if exercise.is_backup { "the backup" } else { "the moment" };
    let much = if report.is_whole { "all of " } else { "a sample of " };
    let mut text = format!(
        "  {much}{what} {}: {} of {} as they should be",
        exercise.point,
        count(exercise.same),
        of(exercise.documents, "document")
    );
    for difference in exercise.differences.iter().take(SHOWN) {
        text.push_str(&format!("\n    {}", printable(difference)));
    }
    if let Some(more) = exercise.differences.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("\n    … and {more} more (with --json)"));
    }
    text
}
