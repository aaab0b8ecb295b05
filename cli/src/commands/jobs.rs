//! `firebackup jobs`: what was begun and has not ended.

use firebackup_engine::{UnfinishedJob, unfinished_jobs};
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::job::{Plan, RestorePlan};
use serde::Serialize;

use crate::context::Context;
use crate::error::Result;
use crate::exit::Exit;
use crate::selection_args::describe;
use crate::table::printable;
use crate::units::moment;

#[derive(Serialize)]
struct Jobs<'j> {
    jobs: &'j [UnfinishedJob],
}

/// Lists unfinished jobs, newest first, with the command that goes on with each.
///
/// # Errors
/// When the repository cannot be read; a job that cannot be read is listed as such.
pub(crate) async fn run(context: &Context) -> Result<Exit> {
    let repository = context.repository().await?;
    let jobs = unfinished_jobs(&repository).await?;
    let texts: Vec<String> = jobs.iter().map(|job| text(context, job)).collect();
    let text = if texts.is_empty() { "There is no unfinished job.".to_owned() } else { texts.join("\n\n") };
    context.output.result(&Jobs { jobs: &jobs }, &text)?;
    let unreadable = jobs.iter().any(|job| matches!(job, UnfinishedJob::Unreadable { .. }));
    Ok(if unreadable && repository.can_read() { Exit::Partial } else { Exit::Done })
}

fn text(context: &Context, job: &UnfinishedJob) -> String {
    match job {
        UnfinishedJob::Backup(plan) => backup(context, plan),
        UnfinishedJob::Restore(plan) => restore(context, plan),
        UnfinishedJob::Unreadable { job, error } => unreadable(context, job, error),
    }
}

fn backup(context: &Context, plan: &Plan) -> String {
    let go_on = context.command(&[
        "backup",
        "--resume",
        plan.job.as_str(),
        "--project",
        &plan.source.project,
        "--database",
        &plan.source.database,
    ]);
    format!(
        "{}  backup of {} ({}), begun {}\n  go on: {go_on}",
        context.output.bold(plan.job.as_str()),
        plan.source,
        describe(&plan.selection),
        moment(plan.created),
    )
}

fn unreadable(context: &Context, job: &JobId, error: &str) -> String {
    let (what, rest) = match job.kind() {
        JobKind::Restore => ("restore", "take back what it replaced, or go on with it"),
        JobKind::Backup | JobKind::Prune | JobKind::Drill => ("backup", "go on with it"),
    };
    format!(
        "{}  {what} that cannot be read, so that nobody can {rest}: {}\n  begin anew: the same command with --fresh",
        context.output.bold(job.as_str()),
        printable(error),
    )
}

fn restore(context: &Context, plan: &RestorePlan) -> String {
    let mut text = format!(
        "{}  restore of {}{} into {} ({}), begun {}\n  go on: run the command that began it again",
        context.output.bold(plan.job.as_str()),
        plan.snapshot,
        plan.at.map(|at| format!(" and what was captured until {at}")).unwrap_or_default(),
        plan.target,
        describe(&plan.selection),
        moment(plan.created),
    );
    if plan.undo {
        let undo = context.command(&["restore", "--undo", plan.job.as_str()]);
        text.push_str(&format!("\n  take it back: {undo}"));
    }
    text
}
