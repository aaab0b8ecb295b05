//! How a backup comes by its documents: all of them read, only what changed, or none read at all.

use std::sync::Arc;

use clap::Args;
use firebackup_engine::{Backup, BackupBuilder, Increment, Moments, Repository, increment, synthesize};
use firebackup_model::{DatabaseName, Selection, Timestamp};

use crate::context::Context;
use crate::error::{CliError, Result};

/// What a merge leaves no choice of: it reads no database, and holds the whole of one. What goes only with one of these is
/// among them, for clap asks for no option that another one forbids.
const MERGED_CONFLICTS: [&str; 9] = [
    "plan",
    "read_time",
    "resume",
    "include_auth",
    "allow_redacted_hashes",
    "collections",
    "exclude",
    "no_subcollections",
    "max_reads",
];

/// What an incremental backup leaves no choice of.
const INCREMENTAL_CONFLICTS: [&str; 7] =
    ["plan", "read_time", "resume", "include_auth", "allow_redacted_hashes", "synthetic", "at"];

/// Where documents come from.
#[derive(Debug, Args)]
pub(crate) struct WayArgs {
    /// Only what changed since the newest backup: from captured changes, else by reading everything and storing what differs
    #[arg(long, conflicts_with_all = INCREMENTAL_CONFLICTS)]
    pub(super) incremental: bool,
    /// A full backup merged from an earlier one and captured changes: nothing is read from the database
    #[arg(long, conflicts_with_all = MERGED_CONFLICTS)]
    pub(super) synthetic: bool,
    /// With --synthetic: as of the newest consistent point at or before this time [default: the newest]
    #[arg(long, value_name = "TIME", requires = "synthetic", conflicts_with_all = MERGED_CONFLICTS)]
    pub(super) at: Option<Timestamp>,
}

/// How a backup is made.
pub(super) enum Way {
    /// By reading the database.
    Read(Box<BackupBuilder>),
    /// By merging what a moment is made of, or what was captured since the newest backup.
    Merge(Box<BackupBuilder>),
}

/// Finds how the backup that was asked for is made.
///
/// # Errors
/// When nothing was captured that could be merged, or the store fails.
pub(super) async fn find(
    context: &Context,
    repository: &Repository,
    database: &DatabaseName,
    selection: Selection,
    args: &WayArgs,
) -> Result<Way> {
    if args.synthetic {
        return merged(repository, database, args.at).await;
    }
    let source = context.source(database).await?;
    let full = |selection| Backup::builder(repository.clone(), Arc::clone(&source)).selection(selection);
    if !args.incremental {
        return Ok(Way::Read(Box::new(full(selection))));
    }
    Ok(match increment(repository, &source, &selection).await? {
        Increment::Captured(builder) => Way::Merge(builder),
        Increment::Scanned(builder) => Way::Read(builder),
        Increment::Full(reason) => {
            let only = if selection.is_everything() { "" } else { "; it builds on one of the same selection only" };
            context.output.warn(&format!("a full backup is made, not an incremental one: {reason}{only}"));
            Way::Read(Box::new(full(selection)))
        }
    })
}

async fn merged(repository: &Repository, database: &DatabaseName, at: Option<Timestamp>) -> Result<Way> {
    let moments = Moments::read(repository, database).await?;
    let at = at.or_else(|| moments.points().last());
    let at = at.ok_or_else(|| CliError::NotFound(format!("there is no backup of the whole of {database}")))?;
    let moment = moments.resolve(at, false)?;
    Ok(Way::Merge(Box::new(synthesize(repository, &moments, &moment)?)))
}
