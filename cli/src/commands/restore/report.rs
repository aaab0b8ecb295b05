//! What a restore tells: before, as a question or a dry run, and after.

use firebackup_engine::{DryRun, Problem, RestoreReport, UserReport};
use firebackup_model::DatabaseName;
use firebackup_model::id::SnapshotId;
use serde::Serialize;

use super::what::{At, What};
use super::{Mode, RestoreArgs};
use crate::commands::diff::{counts, samples};
use crate::context::Context;
use crate::error::Result;
use crate::exit::Exit;
use crate::selection_args::describe;
use crate::table::{indented, pairs, printable};
use crate::units::{count, of, rate, seconds};

/// Problems that are shown; the report with `--json` holds more.
const SHOWN_PROBLEMS: usize = 10;

#[derive(Serialize)]
struct Restored<'r> {
    #[serde(flatten)]
    at: Option<At>,
    /// The backup that the Auth users are of, where they are put back with a moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    users_of: Option<&'r SnapshotId>,
    documents: Option<&'r RestoreReport>,
    users: Option<&'r UserReport>,
    undo_command: Option<String>,
    seconds: f64,
}

#[derive(Serialize)]
struct Tried<'r> {
    snapshot: &'r SnapshotId,
    #[serde(flatten)]
    at: Option<At>,
    target: &'r DatabaseName,
    #[serde(flatten)]
    dry_run: &'r DryRun,
}

/// What is asked before anything is written.
pub(super) fn question(args: &RestoreArgs, what: &What, database: &DatabaseName) -> String {
    // how many documents of a snapshot fit a selection is not known before it is read
    let counted = what
        .manifest
        .as_ref()
        .filter(|_| what.at.is_none_or(|at| at.on_base().is_none()))
        .filter(|manifest| what.selection.is_everything() || what.selection == manifest.selection);
    let of_what = match (&args.undo, counted) {
        (Some(job), _) => format!("what {job} replaced"),
        (None, Some(manifest)) => format!("{} of {}", of(manifest.totals.documents, "document"), what.name()),
        (None, None) => format!("documents of {}", what.name()),
    };
    let holds = what.manifest.as_ref().map(|manifest| &manifest.selection);
    let selected = [Some(&what.selection), holds].into_iter().flatten().find(|selection| !selection.is_everything());
    let selected = selected.map(|selection| format!(" ({})", describe(selection))).unwrap_or_default();
    let mode = match args.mode {
        Mode::Overwrite => "documents that are there are overwritten",
        Mode::SkipExisting => "documents that are there stay as they are",
        Mode::Mirror => "documents that are there are overwritten, and those that the snapshot lacks are DELETED",
    };
    let undo = if args.no_undo { "without a way back" } else { "what is replaced is kept for an undo" };
    format!("This restores {of_what}{selected} into {database}: {mode}, {undo}")
}

/// Tells what a restore did.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn tell(
    context: &Context,
    what: &What,
    documents: Option<&RestoreReport>,
    users: Option<&UserReport>,
    took: f64,
) -> Result<Exit> {
    let changed = |report: &&RestoreReport| report.resumed || report.tally.written + report.tally.deleted > 0;
    let undo_command = documents.filter(|report| report.undo).filter(changed).map(|report| {
        let target = &report.target;
        let job = report.job.as_str();
        context.command(&["restore", "--undo", job, "--project", &target.project, "--database", &target.database])
    });
    let mut parts = Vec::new();
    if let Some(report) = documents {
        parts.push(documents_text(context, what.at, report, took));
    }
    if let Some(report) = users {
        parts.push(users_text(context, report));
    }
    if let Some(command) = &undo_command {
        parts.push(format!("Take it back with:\n  {command}"));
    }
    let unmatched = documents.map(|report| report.unmatched.as_slice()).unwrap_or_default();
    context.warn_unmatched(unmatched);
    let is_whole = unmatched.is_empty()
        && documents.is_none_or(|report| report.tally.failed + report.tally.conflicts == 0)
        && users.is_none_or(|report| report.failed == 0);
    let users_of = what.users.as_ref().map(|manifest| &manifest.id);
    let restored = Restored { at: what.at, users_of, documents, users, undo_command, seconds: took };
    context.output.result(&restored, &parts.join("\n\n"))?;
    Ok(if is_whole { Exit::Done } else { Exit::Partial })
}

fn documents_text(context: &Context, at: Option<At>, report: &RestoreReport, took: f64) -> String {
    let tally = &report.tally;
    let sign = if tally.failed + tally.conflicts == 0 { context.output.good("✓") } else { context.output.bad("✗") };
    let resumed = if report.resumed { " (an unfinished restore was gone on with)" } else { "" };
    let title = format!("{sign} {}{resumed}", context.output.bold(report.job.as_str()));
    let done = tally.written + tally.deleted + tally.same + tally.skipped;
    let mut lines = vec![
        ("snapshot", report.snapshot.to_string()),
        ("into", report.target.to_string()),
        ("written", count(tally.written)),
        ("deleted", count(tally.deleted)),
    ];
    if let Some(at) = at {
        lines.insert(0, ("moment", at.lies()));
    }
    if let Some(reported) = &report.reported {
        lines.splice(..1, [("reported", format!("{} at {}", printable(reported.path.as_str()), reported.at))]);
    }
    for (name, number, why) in [
        ("same", tally.same, "were right already"),
        ("skipped", tally.skipped, "were there and left alone"),
        ("conflicts", tally.conflicts, "were changed since the dry run, and left alone"),
        ("failed", tally.failed, "could not be written"),
    ] {
        if number > 0 {
            lines.push((name, format!("{} {why}", count(number))));
        }
    }
    lines.push(("took", format!("{}, {}", seconds(took), rate(done as f64 / took.max(0.001)))));
    let mut text = format!("{title}\n{}", indented(&pairs(lines)));
    text.push_str(&problems_text(&tally.problems));
    text
}

fn problems_text(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(SHOWN_PROBLEMS) {
        text.push_str(&format!("\n  {}: {}", printable(&problem.path), printable(&problem.reason)));
    }
    if problems.len() > SHOWN_PROBLEMS {
        text.push_str(&format!("\n  … and {} more (with --json)", problems.len() - SHOWN_PROBLEMS));
    }
    text
}

fn users_text(context: &Context, report: &UserReport) -> String {
    let sign = if report.failed == 0 { context.output.good("✓") } else { context.output.bad("✗") };
    let mut text = format!("{sign} {} restored", of(report.restored, "Auth user"));
    if report.failed > 0 {
        text.push_str(&format!(", {} failed", count(report.failed)));
    }
    for failure in report.failures.iter().take(SHOWN_PROBLEMS) {
        let tenant = failure.tenant.as_ref().map(|tenant| format!(" of tenant {tenant}")).unwrap_or_default();
        text.push_str(&format!("\n  {}{tenant}: {}", printable(&failure.user), printable(&failure.reason)));
    }
    text
}

/// Tells what a restore would do.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn tell_dry_run(context: &Context, what: &What, target: &DatabaseName, dry_run: &DryRun) -> Result<Exit> {
    let difference = &dry_run.difference;
    let mut text = format!(
        "A restore of {} into {target} as of {} would come to this; nothing was written.\n\n{}",
        what.name(),
        dry_run.guard,
        counts(difference)
    );
    if let Some(at) = what.at {
        text.push_str(&format!("\n\nThe moment is {}.", at.lies()));
    }
    if !difference.samples.is_empty() {
        text.push_str(&format!("\n\n{}", samples(&difference.samples)));
        let totals = difference.totals;
        let left = totals.created + totals.updated + totals.deleted - difference.samples.len() as u64;
        if left > 0 {
            text.push_str(&format!("\n… and {} more", count(left)));
        }
    }
    if !dry_run.problems.is_empty() {
        let number = of(dry_run.problems.len() as u64, "document");
        text.push_str(&format!("\n\n{} {number} could not be written:", context.output.bad("✗")));
        text.push_str(&problems_text(&dry_run.problems));
    }
    text.push_str(&format!(
        "\n\nTo leave documents alone that somebody changes from now on, run the same with --guard {} instead of --dry-run.",
        dry_run.guard
    ));
    context.warn_unmatched(&dry_run.unmatched);
    context.output.result(&Tried { snapshot: &what.id, at: what.at, target, dry_run }, &text)?;
    Ok(if dry_run.problems.is_empty() && dry_run.unmatched.is_empty() { Exit::Done } else { Exit::Partial })
}
