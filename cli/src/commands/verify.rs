//! `firebackup verify`: reads snapshots back, every byte of them.

use std::sync::Arc;

use clap::Args;
use firebackup_engine::{EngineError, Meter, Repository, Verification, verify};
use firebackup_model::id::SnapshotId;
use serde::Serialize;

use crate::context::{Context, LATEST};
use crate::error::{CliError, ErrorReport, Result};
use crate::exit::Exit;
use crate::progress::{Activity, Progress};
use crate::units::{bytes, of};

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup verify --repo file:///srv/backups --master-key-file master.key
  firebackup verify --all --repo s3://bucket/prod --master-key-file master.key";

/// Which snapshots.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The snapshot: its id, the beginning of it, or `latest`
    #[arg(value_name = "SNAPSHOT", default_value = LATEST)]
    snapshot: String,
    /// Every snapshot, undos too
    #[arg(long, conflicts_with = "snapshot")]
    all: bool,
}

#[derive(Serialize)]
struct Verified {
    whole: Vec<Verification>,
    damaged: Vec<Damage>,
}

#[derive(Serialize)]
struct Damage {
    snapshot: SnapshotId,
    error: ErrorReport,
}

/// Verifies, and goes on behind a damaged snapshot.
///
/// # Errors
/// When the repository or the store cannot be read at all; damage is a result.
pub(crate) async fn run(context: &Context, args: VerifyArgs) -> Result<Exit> {
    let repository = context.repository().await?;
    let ids = if args.all {
        repository.snapshot_ids().await?
    } else {
        vec![context.snapshot(&repository, &args.snapshot).await?]
    };
    let mut verified = Verified { whole: Vec::new(), damaged: Vec::new() };
    for id in ids {
        match verify_one(context, &repository, &id).await {
            Ok(verification) => {
                context.output.say(&whole(context, &verification))?;
                verified.whole.push(verification);
            }
            Err(error) if is_damage(&error) => {
                let error = CliError::Engine(error).report();
                context.output.say(&damaged(context, &id, &error))?;
                verified.damaged.push(Damage { snapshot: id, error });
            }
            Err(error) => return Err(error.into()),
        }
    }
    if context.output.is_json() {
        context.output.result(&verified, "")?;
    } else if verified.whole.is_empty() && verified.damaged.is_empty() {
        context.output.say("There is no snapshot to verify.")?;
    }
    Ok(if verified.damaged.is_empty() { Exit::Done } else { Exit::Partial })
}

async fn verify_one(context: &Context, repository: &Repository, id: &SnapshotId) -> Result<Verification, EngineError> {
    let meter = Arc::new(Meter::default());
    let _progress = Progress::show(&context.output, Activity::Read, &meter);
    verify(repository, id, &meter).await
}

/// Whether a failure says something of the snapshot, and not of the way to it.
const fn is_damage(error: &EngineError) -> bool {
    match error {
        EngineError::Store { source, .. } => matches!(source, object_store::Error::NotFound { .. }),
        EngineError::Port(_) | EngineError::Task(_) | EngineError::Interrupted { .. } => false,
        _ => true,
    }
}

fn whole(context: &Context, verification: &Verification) -> String {
    let origin = if verification.origin_proven { "origin proven" } else { "origin not proven" };
    format!(
        "{} {}: {} in {}, {}; {} read back and compared; {origin}",
        context.output.good("✓"),
        verification.snapshot,
        of(verification.records, "record"),
        of(verification.runs, "run"),
        of(verification.blocks, "block"),
        bytes(verification.bytes),
    )
}

fn damaged(context: &Context, id: &SnapshotId, error: &ErrorReport) -> String {
    let mut text = format!("{} {id} is damaged: {}", context.output.bad("✗"), error.message);
    for cause in &error.causes {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_gone_is_damage_and_a_store_that_is_down_is_not() {
        let store = |source| EngineError::Store { operation: "read", path: "runs/x".to_owned(), source };
        let gone = object_store::Error::NotFound { path: "runs/x".to_owned(), source: "gone".into() };
        let down = object_store::Error::Generic { store: "S3", source: "down".into() };
        assert!(is_damage(&store(gone)));
        assert!(!is_damage(&store(down)));
        assert!(is_damage(&EngineError::Refused("`runs/x` is damaged".to_owned())));
    }
}
