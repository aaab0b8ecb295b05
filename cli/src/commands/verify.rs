//! `firebackup verify`: reads snapshots back, every byte of them.

use std::sync::Arc;

use clap::Args;
use firebackup_engine::{
    Contents, EngineError, Meter, Repository, UnfinishedJob, Verification, VerifiedSegments, unfinished_jobs,
    unfinished_restore, verify, verify_segments,
};
use firebackup_model::Selection;
use firebackup_model::id::{JobId, SnapshotId};
use serde::Serialize;

use crate::commands::list::warn_strangers;
use crate::context::{Context, LATEST};
use crate::error::{CliError, ErrorReport, Result, is_for_others};
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
    /// Every snapshot, undos too, and what unfinished restores have replaced
    #[arg(long, conflicts_with = "snapshot")]
    all: bool,
}

#[derive(Default, Serialize)]
struct Verified {
    whole: Vec<Verification>,
    /// Undos of restores that have not ended.
    undos: Vec<WholeUndo>,
    damaged: Vec<Damage>,
    /// Captured changes, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    segments: Option<WholeSegments>,
    /// Manifests of captured changes of which something is damaged.
    damaged_segments: Vec<SegmentDamage>,
    /// Reports of drills that can be read.
    drill_reports: u64,
    /// Reports of drills that cannot.
    damaged_drill_reports: Vec<DrillDamage>,
    /// Objects among the snapshots that are none by their names.
    strangers: Vec<String>,
}

#[derive(Serialize)]
struct WholeUndo {
    job: JobId,
    records: u64,
}

#[derive(Serialize)]
struct WholeSegments {
    segments: u64,
    /// Manifests of versions that events told of.
    reported: u64,
    runs: u64,
    records: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct SegmentDamage {
    segment: String,
    error: ErrorReport,
}

#[derive(Serialize)]
struct DrillDamage {
    report: String,
    error: ErrorReport,
}

#[derive(Serialize)]
struct Damage {
    /// The snapshot, or a job that has not ended.
    snapshot: SnapshotId,
    error: ErrorReport,
}

/// Verifies, and goes on behind a damaged snapshot.
///
/// # Errors
/// When the repository or the store cannot be read at all; damage is a result.
pub(crate) async fn run(context: &Context, args: VerifyArgs) -> Result<Exit> {
    let repository = context.repository().await?;
    let mut verified = Verified::default();
    if args.all {
        for id in repository.snapshot_ids().await? {
            verify_snapshot(context, &repository, &id, &mut verified).await?;
        }
        for job in unfinished_jobs(&repository).await? {
            verify_job(context, &repository, &job, &mut verified).await?;
        }
        verified.strangers = repository.strangers().await?;
        warn_strangers(context, &verified.strangers);
        verify_captured(context, &repository, &mut verified).await?;
        verify_drills(context, &repository, &mut verified).await?;
    } else {
        let id = context.snapshot(&repository, &args.snapshot).await?;
        match repository.lineage(&id).await {
            Ok(lineage) => {
                for id in lineage {
                    verify_snapshot(context, &repository, &id, &mut verified).await?;
                }
            }
            // it says itself what is wrong with it
            Err(_) => verify_snapshot(context, &repository, &id, &mut verified).await?,
        }
        if verified.is_empty() {
            return Err(CliError::NotFound(format!("{id} was dropped while it was read")));
        }
    }
    if context.output.is_json() {
        context.output.result(&verified, "")?;
    } else if verified.is_empty() {
        context.output.say("There is no snapshot to verify.")?;
    }
    Ok(if verified.is_whole() { Exit::Done } else { Exit::Partial })
}

impl Verified {
    const fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.undos.is_empty() && self.damaged.is_empty() && self.segments.is_none()
    }

    const fn is_whole(&self) -> bool {
        self.damaged.is_empty()
            && self.damaged_segments.is_empty()
            && self.damaged_drill_reports.is_empty()
            && self.strangers.is_empty()
    }

    fn add_damage(&mut self, context: &Context, id: &SnapshotId, what: &str, error: ErrorReport) -> Result<()> {
        context.output.say(&damaged(context, id, what, &error))?;
        self.damaged.push(Damage { snapshot: id.clone(), error });
        Ok(())
    }
}

async fn verify_snapshot(
    context: &Context,
    repository: &Repository,
    id: &SnapshotId,
    verified: &mut Verified,
) -> Result<()> {
    match verify_one(context, repository, id).await {
        Ok(verification) => {
            context.output.say(&whole(context, &verification))?;
            verified.whole.push(verification);
        }
        // a prune dropped it since it was listed
        Err(error) if is_damage(&error) && repository.is_dropped(id).await? => {}
        Err(error) if is_damage(&error) => {
            let what = damage(&error);
            verified.add_damage(context, id, what, CliError::Engine(error).report())?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn verify_captured(context: &Context, repository: &Repository, verified: &mut Verified) -> Result<()> {
    let meter = Arc::new(Meter::default());
    let progress = Progress::show(&context.output, Activity::Read, &meter);
    let captured = verify_segments(repository, &meter).await;
    drop(progress);
    let VerifiedSegments { segments, reported, runs, records, bytes: read, damaged } = captured?;
    if segments + reported > 0 {
        let good = context.output.good("✓");
        let (what, of_runs) = (of(segments, "segment"), of(runs, "run"));
        let events = match reported {
            0 => String::new(),
            reported => format!(" and {} of reported versions", of(reported, "manifest")),
        };
        context.output.say(&format!(
            "{good} {what} of captured changes{events}: {} in {of_runs}; {} read back and compared",
            of(records, "record"),
            bytes(read)
        ))?;
    }
    if segments + reported > 0 || !damaged.is_empty() {
        verified.segments = Some(WholeSegments { segments, reported, runs, records, bytes: read });
    }
    for (segment, error) in damaged {
        let error = CliError::Engine(error).report();
        context.output.say(&format!("{} {segment} is damaged: {}", context.output.bad("✗"), error.message))?;
        verified.damaged_segments.push(SegmentDamage { segment, error });
    }
    Ok(())
}

/// A drill that failed is told by its report alone.
async fn verify_drills(context: &Context, repository: &Repository, verified: &mut Verified) -> Result<()> {
    let drills = repository.drills(usize::MAX).await?;
    verified.drill_reports = drills.reports.len() as u64;
    if verified.drill_reports > 0 {
        let (good, reports) = (context.output.good("✓"), of(verified.drill_reports, "report"));
        context.output.say(&format!("{good} {reports} of drills read"))?;
    }
    for drill in drills.unreadable {
        let (report, what) = (drill.path, damage(&drill.error));
        let error = CliError::Engine(drill.error).report();
        context.output.say(&format!("{} {report} {what}: {}", context.output.bad("✗"), error.message))?;
        verified.damaged_drill_reports.push(DrillDamage { report, error });
    }
    Ok(())
}

/// An undo that is still being written is all that there is of what a restore has replaced.
async fn verify_job(
    context: &Context,
    repository: &Repository,
    job: &UnfinishedJob,
    verified: &mut Verified,
) -> Result<()> {
    match job {
        UnfinishedJob::Restore(plan) if plan.undo => match read_undo(context, repository, &plan.job).await {
            Ok(records) => {
                context.output.say(&whole_undo(context, &plan.job, records))?;
                verified.undos.push(WholeUndo { job: plan.job.clone(), records });
            }
            Err(error) if is_damage(&error) && has_ended(repository, &plan.job).await? => {}
            Err(error) if is_damage(&error) => {
                let what = damage(&error);
                verified.add_damage(context, &plan.job, what, CliError::Engine(error).report())?;
            }
            Err(error) => return Err(error.into()),
        },
        UnfinishedJob::Unreadable { job, error } => {
            let text = EngineError::Refused(error.clone());
            let error = ErrorReport { kind: "damaged", ..CliError::Engine(text).report() };
            verified.add_damage(context, job, "has not ended, and cannot be read", error)?;
        }
        UnfinishedJob::Backup(_) | UnfinishedJob::Restore(_) => {}
    }
    Ok(())
}

async fn read_undo(context: &Context, repository: &Repository, job: &JobId) -> Result<u64, EngineError> {
    let meter = Arc::new(Meter::default());
    let _progress = Progress::show(&context.output, Activity::Read, &meter);
    let mut contents = Contents::of_snapshot(repository, job, &Selection::default(), &meter).await?;
    let mut records = 0;
    while contents.next().await?.is_some() {
        records += 1;
    }
    Ok(records)
}

/// Whether a restore has ended since it was listed: its undo is a snapshot now, or it was given up.
async fn has_ended(repository: &Repository, job: &JobId) -> Result<bool> {
    if !repository.is_dropped(job).await? {
        return Ok(true);
    }
    // a plan that cannot be read is damage, and no end
    Ok(matches!(unfinished_restore(repository, job).await, Ok(None)))
}

async fn verify_one(context: &Context, repository: &Repository, id: &SnapshotId) -> Result<Verification, EngineError> {
    let meter = Arc::new(Meter::default());
    let _progress = Progress::show(&context.output, Activity::Read, &meter);
    verify(repository, id, &meter).await
}

/// Whether a failure says something of the snapshot, and not of the way to it.
pub(crate) const fn is_damage(error: &EngineError) -> bool {
    match error {
        EngineError::Store { source, .. } => matches!(source, object_store::Error::NotFound { .. }),
        EngineError::Port(_) | EngineError::Task(_) | EngineError::Worker | EngineError::Interrupted { .. } => false,
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

fn whole_undo(context: &Context, job: &JobId, records: u64) -> String {
    let good = context.output.good("✓");
    format!("{good} {job}, which has not ended: {} of its undo read back", of(records, "record"))
}

fn damage(error: &EngineError) -> &'static str {
    if is_for_others(error) { "cannot be opened with the keys given" } else { "is damaged" }
}

fn damaged(context: &Context, id: &SnapshotId, what: &str, error: &ErrorReport) -> String {
    let mut text = format!("{} {id} {what}: {}", context.output.bad("✗"), error.message);
    for cause in &error.causes {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    if let Some(hint) = &error.hint {
        text.push_str(&format!("\n  what to do: {hint}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_codec::wrap::KeyError;

    #[test]
    fn a_run_that_is_gone_is_damage_and_a_store_that_is_down_is_not() {
        let store = |source| EngineError::Store { operation: "read", path: "runs/x".to_owned(), source };
        let gone = object_store::Error::NotFound { path: "runs/x".to_owned(), source: "gone".into() };
        let down = object_store::Error::Generic { store: "S3", source: "down".into() };
        assert!(is_damage(&store(gone)));
        assert!(!is_damage(&store(down)));
        assert!(is_damage(&EngineError::Refused("`runs/x` is damaged".to_owned())));
    }

    #[test]
    fn what_is_sealed_for_others_is_not_called_damaged() {
        let wrap = |source| EngineError::Wrap { object: "keys/a/b".to_owned(), source };
        assert_eq!(damage(&wrap(KeyError::NoSecret)), "cannot be opened with the keys given");
        assert_eq!(damage(&wrap(KeyError::Damaged)), "is damaged");
        assert!(is_damage(&wrap(KeyError::NoSecret)), "it is not verified, and the exit code says so");
    }
}
