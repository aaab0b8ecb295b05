//! `firebackup history`: every version of a document that is known, and the command that puts each back.

use std::sync::Arc;

use clap::Args;
use firebackup_codec::typed_json::write_json;
use firebackup_engine::{Change, Meter, Origin, Period, Version, history};
use firebackup_model::id::SnapshotId;
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::context::Context;
use crate::counting_store::CountingStore;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::json_indent::indent;
use crate::table::{indented, printable};
use crate::units::{bytes, count, of};

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup history users/alice --repo file:///srv/backups --master-key-file master.key
  firebackup history users/alice --from 2026-11-24T10:00:00Z --to 2026-11-24T11:00:00Z --show --repo s3://bucket/prod";

/// Which document, and which of its versions.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The document: `users/alice`
    #[arg(value_name = "PATH")]
    path: String,
    /// Only versions from this time on: 2026-11-24T10:15:03Z
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only versions until this time
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// How many versions at most, the newest first
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print the documents too
    #[arg(long)]
    show: bool,
}

#[derive(Serialize)]
struct Told {
    database: DatabaseName,
    path: String,
    versions: Vec<ToldVersion>,
    /// Versions that were found and are beyond the limit.
    more: u64,
    runs_opened: u64,
    run_bytes_read: u64,
    bytes_read: u64,
    requests: u64,
}

#[derive(Serialize)]
struct ToldVersion {
    change: Change,
    /// When it came about, as well as that is known.
    time: Timestamp,
    point: Timestamp,
    update_time: Option<Timestamp>,
    create_time: Option<Timestamp>,
    bytes: Option<u64>,
    origin: Origin,
    snapshots: Vec<SnapshotId>,
    moment: Option<Timestamp>,
    /// Of what was reported: until when at the longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    restore_command: Option<String>,
    document: Option<Box<RawValue>>,
}

/// Lists the versions, newest first.
///
/// # Errors
/// When none is known, or the repository cannot be read.
pub(crate) async fn run(context: &Context, args: HistoryArgs) -> Result<Exit> {
    let path = DocumentPath::new(args.path.as_str()).map_err(|error| CliError::Usage(error.to_string()))?;
    let period = period(&args)?;
    let store = Arc::new(CountingStore::new(context.destination()?.store()));
    let repository = context.repository_in(store.clone()).await?;
    let database = context.database_in(&repository).await?;
    let meter = Arc::new(Meter::default());
    let found = history(&repository, &database, &path, period, &meter).await?;
    if found.versions.is_empty() {
        let when = if period == Period::default() { "" } else { " of that time" };
        return Err(CliError::NotFound(format!("no version{when} of `{path}` is known of {database}")));
    }
    let number = found.versions.len();
    let shown = found.versions.iter().take(args.limit);
    let versions = shown.map(|version| told_version(context, &database, &path, version)).collect::<Result<Vec<_>>>()?;
    let told = Told {
        database,
        path: path.to_string(),
        more: (number - versions.len()) as u64,
        versions,
        runs_opened: found.runs,
        run_bytes_read: meter.stored.get(),
        bytes_read: store.bytes(),
        requests: store.requests(),
    };
    context.output.result(&told, &text(context, &told, args.show))?;
    context.output.note(&format!(
        "opened {}, read {} of them, {} in all with keys and manifests, in {}",
        of(told.runs_opened, "run"),
        bytes(told.run_bytes_read),
        bytes(told.bytes_read),
        of(told.requests, "request")
    ));
    Ok(Exit::Done)
}

fn period(args: &HistoryArgs) -> Result<Period> {
    match (args.from, args.to) {
        (Some(from), Some(to)) if from > to => Err(CliError::Usage(format!("--from {from} lies behind --to {to}"))),
        (from, to) => Ok(Period { from, to }),
    }
}

fn told_version(
    context: &Context,
    database: &DatabaseName,
    path: &DocumentPath,
    version: &Version,
) -> Result<ToldVersion> {
    Ok(ToldVersion {
        change: version.change,
        time: version.time(),
        point: version.point,
        update_time: version.update_time,
        create_time: version.create_time,
        bytes: version.document.as_ref().map(|document| document.len() as u64),
        origin: version.origin,
        snapshots: version.snapshots.clone(),
        moment: version.moment,
        until: version.until,
        restore_command: restore_command(context, database, path, version),
        document: version.document.as_ref().map(|document| typed_json(document, path)).transpose()?,
    })
}

fn typed_json(document: &[u8], path: &DocumentPath) -> Result<Box<RawValue>> {
    let mut json = Vec::new();
    write_json(document, &mut json).map_err(|source| CliError::Show { path: path.to_string(), source })?;
    serde_json::from_slice(&json).map_err(|error| CliError::Output(error.into()))
}

/// The command that puts a version back; nothing of a deletion, and of what was never proven.
fn restore_command(
    context: &Context,
    database: &DatabaseName,
    path: &DocumentPath,
    version: &Version,
) -> Option<String> {
    version.document.as_ref()?;
    let reported = (version.origin == Origin::Reported).then_some("--reported");
    let (option, value) = match (version.moment, version.snapshots.first()) {
        (Some(moment), _) => ("--at", moment.to_string()),
        (None, Some(snapshot)) => ("--snapshot", snapshot.to_string()),
        (None, None) if reported.is_some() => ("--at", version.time().to_string()),
        (None, None) => return None,
    };
    let DatabaseName { project, database } = database;
    let named = ["--document", path.as_str(), "--project", project, "--database", database];
    let command = ["restore", option, &value].into_iter().chain(reported).chain(named);
    Some(context.command(&command.collect::<Vec<_>>()))
}

fn text(context: &Context, told: &Told, shows: bool) -> String {
    let mut parts: Vec<String> = told.versions.iter().map(|version| version_text(context, version, shows)).collect();
    if told.more > 0 {
        parts.push(format!("… and {} older (with a higher --limit)", of(told.more, "version")));
    }
    format!("{} in {}\n\n{}", context.output.bold(&printable(&told.path)), told.database, parts.join("\n"))
}

fn version_text(context: &Context, version: &ToldVersion, shows: bool) -> String {
    let size = version.bytes.map(|size| format!(", {}", bytes(size))).unwrap_or_default();
    let mut text = format!(
        "{}  {}{size}, {}",
        context.output.bold(&version.time.to_string()),
        name(version.change),
        from(version)
    );
    if let Some(command) = &version.restore_command {
        text.push_str(&format!("\n  put it back: {command}"));
    } else if version.bytes.is_some() {
        text.push_str("\n  cannot be put back yet: it is not proven that nothing is missing at that moment");
    }
    if let (true, Some(document)) = (shows, &version.document) {
        let shown = String::from_utf8_lossy(&indent(document.get().as_bytes())).into_owned();
        text.push_str(&format!("\n{}", indented(&shown)));
    }
    text
}

fn from(version: &ToldVersion) -> String {
    let seen = match version.origin {
        Origin::Snapshot => "backed up",
        Origin::Captured => "captured",
        Origin::Compared => "found by a scan",
        Origin::Reported => return reported(version),
    };
    let also = match version.snapshots.len() as u64 {
        0 | 1 => String::new(),
        snapshots => format!(", in {} snapshots", count(snapshots)),
    };
    format!("{seen} at {}{also}", version.point)
}

/// What an event told is no more than that, and ends with the next moment that is known.
fn reported(version: &ToldVersion) -> String {
    match version.until {
        Some(until) => format!("reported by an event, until {until} at the longest"),
        None => "reported by an event, and not confirmed yet".to_owned(),
    }
}

const fn name(change: Change) -> &'static str {
    match change {
        Change::Created => "created",
        Change::Updated => "updated",
        Change::Deleted => "deleted",
        Change::Same => "same",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;

    #[test]
    fn a_period_that_ends_before_it_begins_is_bad_usage() {
        let period = |line: &str| period(&Cli::arguments("history", &format!("users/a {line}")).unwrap());
        let refused = period("--from 2026-11-24T11:00:00Z --to 2026-11-24T10:59:59.9Z").unwrap_err();
        assert_eq!(refused.kind(), "usage", "{refused}");
        for good in ["", "--from 2026-11-24T11:00:00Z", "--from 2026-11-24T11:00:00Z --to 2026-11-24T11:00:00Z"] {
            assert!(period(good).is_ok(), "{good}");
        }
    }
}
