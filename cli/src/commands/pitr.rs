//! `firebackup pitr`: captures the changes of a database, and tells which moments can be put back.

mod pace;
mod running;
mod start;
mod status;
mod stop;
mod telling;
mod windows;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::error::Result;
use crate::exit::Exit;

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup pitr start --project my-app --repo file:///srv/backups --master-key-file master.key
  firebackup pitr start --follow --project my-app --repo s3://bucket/prod --master-key-file master.key
  firebackup pitr status --repo file:///srv/backups --master-key-file master.key
  firebackup pitr windows --moments --limit 20 --repo file:///srv/backups --master-key-file master.key
  firebackup pitr stop --project my-app --repo file:///srv/backups --master-key-file master.key";

/// What to do with captured changes.
#[derive(Debug, Args)]
pub(crate) struct PitrArgs {
    #[command(subcommand)]
    command: PitrCommand,
}

#[derive(Debug, Subcommand)]
enum PitrCommand {
    /// Capture changes until Ctrl-C: a segment a window, or within seconds with --follow
    Start(start::StartArgs),
    /// Say how far changes are captured and proven, and what that takes
    Status(status::StatusArgs),
    /// List the stretches of time of which every moment can be put back
    Windows(windows::WindowsArgs),
    /// Stop the capture that runs on this machine
    Stop,
}

/// Carries it out. A capture stops at a safe point; the others simply end on Ctrl-C.
///
/// # Errors
/// When it fails.
pub(crate) async fn run(context: &Context, args: PitrArgs) -> Result<Exit> {
    match args.command {
        PitrCommand::Start(args) => start::run(context, args).await,
        PitrCommand::Status(args) => context.interrupt.race(status::run(context, args)).await,
        PitrCommand::Windows(args) => context.interrupt.race(windows::run(context, args)).await,
        PitrCommand::Stop => context.interrupt.race(stop::run(context)).await,
    }
}
