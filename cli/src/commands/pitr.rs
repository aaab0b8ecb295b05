//! `firebackup pitr`: captures the changes of a database, and tells which moments can be put back.

mod pace;
mod running;
mod start;
mod status;
mod stop;
mod telling;
mod windows;

use clap::{Args, Subcommand};
use firebackup_engine::Repository;
use firebackup_model::DatabaseName;
use firebackup_model::manifest::Manifest;

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::settings::new_project_id;

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

/// Where nothing is known of a project but its name, that must be one that a project can have: else a slip of the pen would
/// pass for a project of which nothing is captured.
async fn check_project(context: &Context, repository: &Repository, database: &DatabaseName) -> Result<()> {
    let project = &database.project;
    let Err(wrong) = new_project_id(project).and_then(|_| long_enough(project, context.settings.is_emulator())) else {
        return Ok(());
    };
    match repository.all_manifests(|manifest: &Manifest| manifest.source == *database).await?.is_empty() {
        true => Err(CliError::Usage(wrong)),
        false => Ok(()),
    }
}

/// An emulator takes projects of any name; at Google an id has six letters at least, and thirty behind a domain at most.
fn long_enough(project: &str, is_emulator: bool) -> Result<(), String> {
    let own = project.rsplit(':').next().unwrap_or(project);
    if is_emulator || (project.len() >= 6 && own.len() <= 30) {
        return Ok(());
    }
    Err(format!("`{project}` is no project id: one has 6 to 30 letters, and the repository has no backup of it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_id_of_google_has_six_to_thirty_letters() {
        let (longest, longer) = ("a".repeat(30), "a".repeat(31));
        for good in ["my-app", "example.com:a", longest.as_str()] {
            assert_eq!(long_enough(good, false), Ok(()), "{good}");
        }
        for bad in ["nope", "my-ap", longer.as_str()] {
            assert!(long_enough(bad, false).unwrap_err().contains(&format!("`{bad}` is no project id")));
            assert_eq!(long_enough(bad, true), Ok(()), "{bad}");
        }
    }
}
