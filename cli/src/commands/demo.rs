//! `firebackup demo`: the whole of it on a local emulator, told step by step.

mod compare;
mod folder;
pub(super) mod stage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use firebackup_codec::wrap::fingerprint;
use firebackup_embedded::{SystemRandom, key_file};
use firebackup_engine::{
    Backup, KeptDrills, Meter, Repository, Restore, RestoreOptions, RestoreReport, Secrets, verify,
};
use firebackup_model::manifest::Manifest;
use firebackup_storage::{Destination, DestinationSettings};
use serde::Serialize;

use crate::commands::backup::summary;
use crate::commands::list::{entries, entries_table};
use crate::context::{Context, world};
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::keys::secret_key;
use crate::output::Output;
use crate::progress::{Activity, Progress};
use crate::settings::folder_url;
use crate::shell::shell_line;
use crate::units::{bytes, count, of, parse_count, rate, seconds};

use compare::{Comparison, Documents, read_all};
use folder::DemoFolder;
use stage::Stage;

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup demo
  firebackup demo --documents 20,000 --parallel --keep my-demo";

/// How large a demonstration, and where.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Ordinary documents, besides the hard ones
    #[arg(long, value_name = "N", default_value = "2,000", value_parser = parse_count)]
    documents: u64,
    /// The folder for repository and key; it stays. What is in it must be of an earlier demo
    #[arg(long, value_name = "DIR", default_value = "firebackup-demo")]
    keep: PathBuf,
    /// Back up with several streams
    #[arg(long)]
    parallel: bool,
}

#[derive(Serialize)]
struct Demonstrated {
    identical: bool,
    folder: PathBuf,
    snapshot: String,
    #[serde(flatten)]
    comparison: Comparison,
    seconds: f64,
}

/// Numbered steps on standard output.
struct Story<'o> {
    output: &'o Output,
    step: u32,
}

impl Story<'_> {
    fn step(&mut self, title: &str) -> Result<()> {
        self.step += 1;
        self.output.say(&format!("\n{} {}", self.output.bold(&format!("{:>2} ", self.step)), self.output.bold(title)))
    }

    fn tell(&self, text: &str) -> Result<()> {
        let lines: Vec<_> = text.lines().map(|line| format!("    {line}")).collect();
        self.output.say(&lines.join("\n"))
    }
}

/// Runs the demonstration; it ends well only if every document is identical.
///
/// # Errors
/// When there is no emulator, the folder holds something else, or anything fails.
pub(crate) async fn run(context: &Context, args: DemoArgs) -> Result<Exit> {
    let started = Instant::now();
    let output = &context.output;
    output.say(&output.bold("FireBackup: a Firestore database backed up, destroyed, and restored identical"))?;
    let folder = DemoFolder::prepare(&args.keep)?;
    let mut story = Story { output, step: 0 };
    let stage = set_up(context, &mut story, &args).await?;
    let before = read_all(&*stage.target.source).await?;
    story.tell(&format!("{} in {}", of(before.len() as u64, "document"), compare::groups(&before)))?;
    let repository = make_repository(&mut story, &folder).await?;
    let manifest = back_up(context, &mut story, &stage, &repository, args.parallel, before.len() as u64).await?;
    look(&mut story, &repository, &manifest).await?;
    destroy(&mut story, &stage, &before).await?;
    restore(context, &mut story, &stage, &repository, &manifest).await?;
    let comparison = compare_all(&mut story, &stage, &repository, &manifest, &before).await?;
    let took = started.elapsed().as_secs_f64();
    conclude(context, &folder, &comparison, took)?;
    let identical = comparison.is_identical();
    let snapshot = manifest.id.to_string();
    if output.is_json() {
        let told = Demonstrated { identical, folder: folder.root().to_owned(), snapshot, comparison, seconds: took };
        output.result(&told, "")?;
    }
    Ok(if identical { Exit::Done } else { Exit::Partial })
}

async fn set_up(context: &Context, story: &mut Story<'_>, args: &DemoArgs) -> Result<Stage> {
    story.step("Start Google's Firestore emulator")?;
    let started = Instant::now();
    let stage = Stage::open(&context.settings.access, args.documents).await?;
    let whose = if stage.is_ours() { "ready after" } else { "already running; connected in" };
    story.tell(&format!("{}, {whose} {}", stage.host(), seconds(started.elapsed().as_secs_f64())))?;
    story.step(&format!("Fill the database {}", stage.database))?;
    let meter = Arc::new(Meter::default());
    let progress = Progress::show(story.output, Activity::Restore, &meter);
    let seeded = stage.seed(args.documents, &meter).await?;
    drop(progress);
    story.tell(&format!(
        "{} ordinary documents, and {} hard ones: every type of value at its edges, hard ids,\n\
         a hundred levels of sub-collections, parents that do not exist, nearly 1 MiB in one document",
        count(seeded.ordinary),
        count(seeded.hard)
    ))?;
    Ok(stage)
}

async fn make_repository(story: &mut Story<'_>, folder: &DemoFolder) -> Result<Repository> {
    story.step("Make a master key and an encrypted repository")?;
    let key = key_file::generate(&SystemRandom);
    key.write_new(&folder.key())?;
    let master = secret_key(&key_file::read(&folder.key())?);
    story.tell(&format!("key         {} (fingerprint {})", folder.key().display(), fingerprint(&master)))?;
    let url = folder_url(&folder.repository())?;
    let destination = Destination::create(&url, &DestinationSettings::default())?;
    let secrets = Secrets { masters: vec![master], ..Secrets::default() };
    let repository = Repository::init(destination.store(), secrets, world()).await?;
    story.tell(&format!("repository  {url}"))?;
    Ok(repository)
}

async fn back_up(
    context: &Context,
    story: &mut Story<'_>,
    stage: &Stage,
    repository: &Repository,
    parallel: bool,
    documents: u64,
) -> Result<Manifest> {
    story.step("Back it up: all documents at one instant, compressed, encrypted, signed")?;
    let (started, meter) = (Instant::now(), Arc::new(Meter::default()));
    meter.expected.set(documents);
    let backup = Backup::builder(repository.clone(), Arc::clone(&stage.target.source))
        .parallel(if parallel { 4 } else { 1 })
        .meter(Arc::clone(&meter))
        .build();
    let progress = Progress::show(&context.output, Activity::Backup, &meter);
    let manifest = backup.run().await?.manifest;
    drop(progress);
    story.tell(&summary(&manifest, started.elapsed().as_secs_f64(), true))?;
    Ok(manifest)
}

async fn look(story: &mut Story<'_>, repository: &Repository, manifest: &Manifest) -> Result<()> {
    story.step("Look at what is in the repository, and read all of it back")?;
    story.tell(&entries_table(&entries(repository, &KeptDrills::default()).await?))?;
    let verification = verify(repository, &manifest.id, &Arc::default()).await?;
    story.tell(&format!(
        "{} opened, decompressed and checked: {} from the repository",
        of(verification.blocks, "block"),
        bytes(verification.bytes)
    ))
}

async fn destroy(story: &mut Story<'_>, stage: &Stage, before: &Documents) -> Result<()> {
    story.step("Delete everything")?;
    stage.delete(before.keys()).await?;
    let left = read_all(&*stage.target.source).await?.len() as u64;
    story.tell(&format!(
        "{} deleted; the database holds {}",
        of(before.len() as u64, "document"),
        of(left, "document")
    ))?;
    if left > 0 {
        return Err(CliError::Refused("the emulator did not delete everything".to_owned()));
    }
    Ok(())
}

async fn restore(
    context: &Context,
    story: &mut Story<'_>,
    stage: &Stage,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<RestoreReport> {
    story.step("Restore")?;
    let started = Instant::now();
    let restore = Restore {
        repository: repository.clone(),
        snapshot: manifest.id.clone(),
        at: None,
        target: stage.target.clone(),
        // into an empty database there is nothing to keep for an undo, and an emulator needs no ramp
        options: RestoreOptions { undo: false, ramp: false, ..RestoreOptions::default() },
        meter: Arc::default(),
        stop: Default::default(),
    };
    let progress = Progress::show(&context.output, Activity::Restore, &restore.meter);
    let report = restore.run().await?;
    drop(progress);
    let took = started.elapsed().as_secs_f64();
    let speed = rate(report.tally.written as f64 / took.max(0.001));
    story.tell(&format!("{} written in {}, {speed}", of(report.tally.written, "document"), seconds(took)))?;
    for problem in &report.tally.problems {
        story.tell(&format!("{}: {}", problem.path, problem.reason))?;
    }
    Ok(report)
}

async fn compare_all(
    story: &mut Story<'_>,
    stage: &Stage,
    repository: &Repository,
    manifest: &Manifest,
    before: &Documents,
) -> Result<Comparison> {
    story.step("Compare with what was there before, document by document")?;
    let after = read_all(&*stage.target.source).await?;
    let mut comparison = compare::databases(before, &after)?;
    comparison.stored_identical = compare::stored(repository, manifest, before).await?;
    story.tell(&format!(
        "database    {} identical, {} different, {} missing, {} too many",
        count(comparison.same),
        comparison.different.len(),
        comparison.missing.len(),
        comparison.extra.len()
    ))?;
    let stored = count(comparison.stored_identical);
    story.tell(&format!("repository  {stored} records are the very bytes that the server had sent"))?;
    for path in comparison.problems() {
        story.tell(&story.output.bad(&path))?;
    }
    Ok(comparison)
}

fn conclude(context: &Context, folder: &DemoFolder, comparison: &Comparison, took: f64) -> Result<()> {
    let output = &context.output;
    let verdict = if comparison.is_identical() {
        output.good(&format!("✓ All {} documents are identical.", count(comparison.same)))
    } else {
        output.bad(&format!("✗ {} documents came back otherwise.", count(comparison.problems().count() as u64)))
    };
    let program = std::env::args().next().unwrap_or_else(|| "firebackup".to_owned());
    let (repository, key) =
        (folder.root().join("repository").display().to_string(), folder.key().display().to_string());
    let command = |words: &[&str]| {
        let place = ["--repo", &repository, "--master-key-file", &key];
        shell_line(std::iter::once(program.as_str()).chain(words.iter().copied()).chain(place))
    };
    output.say(&format!("\n{verdict} {}", output.dim(&format!("({})", seconds(took)))))?;
    output.say(&format!(
        "\nThe repository stays in {}. Look around in it:\n  {}\n  {}\n  {}",
        folder.root().display(),
        command(&["show"]),
        command(&["get", "users/user-0000001"]),
        command(&["export", "--collection", "products"]),
    ))
}
