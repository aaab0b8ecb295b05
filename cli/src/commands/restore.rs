//! `firebackup restore`: puts documents and users back, with a dry run before and an undo after.

mod report;
mod what;

use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use firebackup_engine::{
    EngineError, Meter, Repository, Restore, RestoreOptions, RestoreReport, UserReport, UserRestoreOptions,
    check_renames, nothing_fits, restore_users,
};
use firebackup_model::id::JobId;
use firebackup_model::job::RestoreMode;
use firebackup_model::{DatabaseName, Timestamp};

use crate::confirm::confirm;
use crate::context::{Context, LATEST};
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::progress::{Activity, Progress};
use crate::selection_args::{CollectionArgs, PathArgs};
use crate::settings::{database_id, project_id};

use what::{At, What};

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup restore --dry-run --repo file:///srv/backups --master-key-file master.key
  firebackup restore --guard 2026-01-31T14:03:00Z --repo file:///srv/backups --master-key-file master.key
  firebackup restore --at 2026-11-24T10:15:03Z --to-database restored --repo file:///srv/backups --master-key-file master.key
  firebackup restore --document users/alice --at 2026-11-24T10:15:03.5Z --reported --repo s3://bucket/prod
  firebackup restore --document users/alice --yes --repo file:///srv/backups --master-key-file master.key
  firebackup restore --to-project my-app-staging --rename users=users-restored --collection users --repo s3://bucket/prod
  firebackup restore --undo restore_01ARZ3NDEKTSV4RRFFQ69G5FAV --repo file:///srv/backups --master-key-file master.key";

/// What an undo leaves no choice of: it puts back what was there, where it was.
const UNDO_CONFLICTS: [&str; 10] = [
    "snapshot",
    "at",
    "exact",
    "reported",
    "mode",
    "include_auth",
    "auth_only",
    "renames",
    "to_project",
    "to_database",
];

/// What is reported is one document, and no moment of the database.
const REPORTED_CONFLICTS: [&str; 8] =
    ["snapshot", "exact", "collections", "exclude", "no_subcollections", "globs", "include_auth", "auth_only"];

/// Documents of a dry run that are shown.
const SAMPLES: usize = 20;

/// What is put back, where to, and how.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The snapshot: its id, the beginning of it, or `latest`
    #[arg(long, value_name = "SNAPSHOT", default_value = LATEST)]
    snapshot: String,
    /// The database as it was at this time, from captured changes: 2026-11-24T10:15:03Z
    #[arg(long, value_name = "TIME", conflicts_with = "snapshot")]
    at: Option<Timestamp>,
    /// Refuse a time that is no consistent point, rather than take the newest one before it
    #[arg(long, requires = "at", conflicts_with = "snapshot")]
    exact: bool,
    /// One document (--document) as events told that it was at the time of --at, also between two consistent points
    #[arg(long, requires = "at", conflicts_with_all = REPORTED_CONFLICTS)]
    reported: bool,
    /// Take this restore back: put in place again what it replaced
    #[arg(long, value_name = "JOB", conflicts_with_all = UNDO_CONFLICTS)]
    undo: Option<JobId>,
    #[command(flatten)]
    collections: CollectionArgs,
    #[command(flatten)]
    paths: PathArgs,
    /// What happens to documents that are there
    #[arg(long, value_enum, default_value_t = Mode::Overwrite)]
    mode: Mode,
    /// Put a collection under another path (repeatable); references to it follow
    #[arg(long = "rename", value_name = "FROM=TO", value_parser = rename)]
    renames: Vec<(String, String)>,
    /// Another project than the one that was backed up
    #[arg(long, value_name = "ID", value_parser = project_id)]
    to_project: Option<String>,
    /// Another database than the one that was backed up
    #[arg(long, value_name = "ID", value_parser = database_id)]
    to_database: Option<String>,
    /// Say what would be created, updated and deleted, check limits and permissions, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave documents alone that were changed since the dry run that printed this time, and report them
    #[arg(long, value_name = "TIME")]
    guard: Option<Timestamp>,
    /// Begin anew, even if the same restore was begun and has not ended
    #[arg(long)]
    fresh: bool,
    /// Do not keep what is replaced: quicker, for targets that are empty
    #[arg(long)]
    no_undo: bool,
    /// Write at full speed, instead of 500 a second and half as many again each five minutes (an emulator: always)
    #[arg(long)]
    no_ramp: bool,
    /// Auth users too
    #[arg(long)]
    include_auth: bool,
    /// Auth users and no documents
    #[arg(long, conflicts_with_all = ["include_auth", "dry_run", "guard"])]
    auth_only: bool,
    /// Replace Auth users of the same id
    #[arg(long)]
    overwrite_users: bool,
    /// Restore Auth users although they were backed up without their password hashes
    #[arg(long)]
    allow_redacted_hashes: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// What happens to documents that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Replace them
    Overwrite,
    /// Leave them alone
    SkipExisting,
    /// Replace them, and delete what is selected and not in the snapshot
    Mirror,
}

impl From<Mode> for RestoreMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Overwrite => Self::Overwrite,
            Mode::SkipExisting => Self::SkipExisting,
            Mode::Mirror => Self::Mirror,
        }
    }
}

/// Restores, or with `--dry-run` says what it would do.
///
/// # Errors
/// When nothing can be written any more, or on request to stop. Single documents that fail are in the report.
pub(crate) async fn run(context: &Context, args: RestoreArgs) -> Result<Exit> {
    check_renames(&args.renames).map_err(|error| CliError::Usage(error.in_full()))?;
    let repository = context.repository().await?;
    let what = What::find(context, &repository, &args).await?;
    let database = what.target(context, &args)?;
    if args.dry_run {
        let work = dry_run(context, &repository, &args, &what, &database);
        return context.interrupt.race(work).await;
    }
    ask(context, &args, &what, &database).await?;
    let started = Instant::now();
    let documents = match args.auth_only {
        true => None,
        false => Some(restore_documents(context, &repository, &args, &what, &database).await?),
    };
    let users = match args.include_auth || args.auth_only {
        true => Some(restore_auth(context, &repository, &args, &what, &database).await?),
        false => None,
    };
    report::tell(context, &what, documents.as_ref(), users.as_ref(), started.elapsed().as_secs_f64())
}

fn options(context: &Context, args: &RestoreArgs, what: &What) -> RestoreOptions {
    RestoreOptions {
        selection: what.selection.clone(),
        renames: args.renames.clone(),
        mode: args.mode.into(),
        undo: !args.no_undo,
        guard: args.guard,
        fresh: args.fresh,
        reported: what.reported.clone(),
        ramp: !args.no_ramp && !context.settings.is_emulator(),
        ..RestoreOptions::default()
    }
}

async fn prepare(
    context: &Context,
    repository: &Repository,
    args: &RestoreArgs,
    what: &What,
    database: &DatabaseName,
) -> Result<Restore> {
    Ok(Restore {
        repository: repository.clone(),
        snapshot: what.id.clone(),
        at: what.at.and_then(At::on_base),
        target: context.target(database).await?,
        options: options(context, args, what),
        meter: Arc::default(),
        stop: context.interrupt.graceful(),
    })
}

async fn dry_run(
    context: &Context,
    repository: &Repository,
    args: &RestoreArgs,
    what: &What,
    database: &DatabaseName,
) -> Result<Exit> {
    let restore = prepare(context, repository, args, what, database).await?;
    let progress = Progress::show(&context.output, Activity::Restore, &restore.meter);
    let dry_run = restore.dry_run(SAMPLES).await;
    drop(progress);
    report::tell_dry_run(context, what, database, &dry_run.map_err(|error| of_what(error, what))?)
}

async fn ask(context: &Context, args: &RestoreArgs, what: &What, database: &DatabaseName) -> Result<()> {
    // without a terminal only what deletes needs an explicit yes: the rest can be taken back
    let needs_asking = match args.mode {
        Mode::SkipExisting => false,
        Mode::Overwrite => context.output.can_ask() && !args.auth_only,
        Mode::Mirror => !args.auth_only,
    };
    if needs_asking { confirm(context, &report::question(args, what, database), args.yes).await } else { Ok(()) }
}

async fn restore_documents(
    context: &Context,
    repository: &Repository,
    args: &RestoreArgs,
    what: &What,
    database: &DatabaseName,
) -> Result<RestoreReport> {
    let restore = prepare(context, repository, args, what, database).await?;
    let _progress = Progress::show(&context.output, Activity::Restore, &restore.meter);
    Ok(restore.run().await.map_err(|error| of_what(error, what))?)
}

/// What fits nothing of a moment is said of that moment: for the backup that it builds on nobody has asked.
fn of_what(error: EngineError, what: &What) -> EngineError {
    let of_base = nothing_fits(&what.selection, what.id.as_str()).to_string();
    let fits_nothing = matches!(&error, EngineError::NotFound(text) if *text == of_base);
    if fits_nothing { nothing_fits(&what.selection, &what.name()) } else { error }
}

async fn restore_auth(
    context: &Context,
    repository: &Repository,
    args: &RestoreArgs,
    what: &What,
    database: &DatabaseName,
) -> Result<UserReport> {
    let manifest = what.users.as_ref().or(what.manifest.as_ref());
    let manifest = manifest.ok_or_else(|| CliError::Refused("an undo holds no Auth users".to_owned()))?;
    let sink = context.users(&database.project).await?;
    let options = UserRestoreOptions { overwrite: args.overwrite_users, allow_redacted: args.allow_redacted_hashes };
    let meter = Arc::new(Meter::default());
    Ok(restore_users(repository, manifest, &*sink, options, &meter).await?)
}

fn rename(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok((from.to_owned(), to.to_owned())),
        _ => Err("expected FROM=TO, such as users=users-restored".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;

    fn parse(line: &str) -> Result<RestoreArgs, clap::Error> {
        Cli::arguments("restore", line)
    }

    #[test]
    fn renames_name_two_collections() {
        assert_eq!(rename("users=people"), Ok(("users".to_owned(), "people".to_owned())));
        assert_eq!(rename("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        for bad in ["", "users", "=people", "users="] {
            assert!(rename(bad).is_err(), "{bad}");
        }
        let args = parse("--rename users=people --rename a=b").unwrap();
        assert_eq!(args.renames.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        const JOB: &str = "restore_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert!(parse(&format!("--undo {JOB} --yes")).is_ok());
        for bad in [
            format!("--undo {JOB} --snapshot latest"),
            format!("--undo {JOB} --mode mirror"),
            format!("--undo {JOB} --auth-only"),
            format!("--undo {JOB} --to-project p"),
            format!("--undo {JOB} --to-database d"),
            format!("--undo {JOB} --at 2026-11-24T10:15:03Z"),
            "--snapshot latest --at 2026-11-24T10:15:03Z".to_owned(),
            "--at 2026-11-24T10:15:03".to_owned(),
            "--reported --document users/a".to_owned(),
            "--reported --snapshot latest --document users/a".to_owned(),
            "--reported --at 2026-11-24T10:15:03Z --exact --document users/a".to_owned(),
            "--reported --at 2026-11-24T10:15:03Z --collection users".to_owned(),
            "--reported --at 2026-11-24T10:15:03Z --path users/*".to_owned(),
            "--reported --at 2026-11-24T10:15:03Z --document users/a --exclude x".to_owned(),
            "--reported --at 2026-11-24T10:15:03Z --document users/a --include-auth".to_owned(),
            "--exact".to_owned(),
            "--to-project a/b".to_owned(),
            "--to-database a/b".to_owned(),
            "--undo nonsense".to_owned(),
            "--auth-only --include-auth".to_owned(),
            "--auth-only --dry-run".to_owned(),
            "--guard yesterday".to_owned(),
            "--mode destroy".to_owned(),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
