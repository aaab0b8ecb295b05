//! The commands, a file each.

pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod drill;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod jobs;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod pitr;
pub(crate) mod prune;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod verify;

use crate::args::Command;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit::Exit;

/// Carries a command out. Backup, restore and captures stop at safe points on Ctrl-C; the others simply end.
///
/// # Errors
/// When it fails.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit> {
    match command {
        Command::Backup(args) => backup::run(context, args).await,
        Command::Restore(args) => restore::run(context, args).await,
        Command::Serve(args) => serve::run(context, args).await,
        Command::Drill(args) => Box::pin(drill::run(context, args)).await.map_err(CliError::of_drill),
        Command::Pitr(args) => Box::pin(pitr::run(context, args)).await,
        command => context.interrupt.race(run_without_safe_points(context, command)).await,
    }
}

async fn run_without_safe_points(context: &Context, command: Command) -> Result<Exit> {
    match command {
        Command::Demo(args) => demo::run(context, args).await,
        Command::Bench(args) => bench::run(context, &args).await,
        Command::Init(args) => init::run(context, args).await,
        Command::Backup(args) => backup::run(context, args).await,
        Command::Restore(args) => restore::run(context, args).await,
        Command::Serve(args) => serve::run(context, args).await,
        Command::List => list::run(context).await,
        Command::Show(args) => show::run(context, args).await,
        Command::Verify(args) => verify::run(context, args).await,
        Command::Diff(args) => diff::run(context, args).await,
        Command::Get(args) => get::run(context, args).await,
        Command::History(args) => history::run(context, args).await,
        Command::Drill(args) => Box::pin(drill::run(context, args)).await,
        Command::Pitr(args) => Box::pin(pitr::run(context, args)).await,
        Command::Export(args) => export::run(context, args).await,
        Command::Prune(args) => prune::run(context, args).await,
        Command::Jobs => jobs::run(context).await,
        Command::Key(args) => key::run(context, args).await,
        Command::Completions(args) => completions::run(context, &args),
    }
}
