//! `firebackup list`: the snapshots of a repository.

use std::collections::HashMap;

use firebackup_engine::{EngineError, KeptDrills, MOST_DRILLS, ProvenOrigin, Repository, UnreadableDrill};
use firebackup_model::Timestamp;
use firebackup_model::id::{JobId, SnapshotId};
use firebackup_model::manifest::{Consistency, Manifest, SnapshotKind};
use serde::Serialize;

use crate::context::{ANYBODY, Context};
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::selection_args::{EVERYTHING, describe};
use crate::table::table;
use crate::units::{bytes, count, moment};

/// A snapshot in a list.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Entry {
    /// One whose manifest could be read.
    Readable(Summary),
    /// One whose manifest is damaged, or sealed for somebody else.
    Unreadable {
        /// Its name.
        id: SnapshotId,
        /// Why it cannot be read.
        error: String,
    },
}

/// The main things of a snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    id: SnapshotId,
    kind: SnapshotKind,
    project: String,
    database: String,
    read_time: Option<Timestamp>,
    consistency: Consistency,
    selection: String,
    documents: u64,
    deletions: u64,
    bytes: u64,
    stored_bytes: u64,
    users: Option<u64>,
    origin_proven: bool,
    /// When a drill has restored it last and found everything as it should be; nothing where a later drill may have failed.
    restored: Option<Timestamp>,
    /// When its last drill ended, where that failed.
    drill_failed: Option<Timestamp>,
}

#[derive(Serialize)]
struct Listing {
    repository: String,
    snapshots: Vec<Entry>,
    /// Objects where only snapshots should be, which are none by their names.
    strangers: Vec<String>,
    /// Reports of drills that cannot be read.
    unreadable_reports: Vec<UnreadableReport>,
}

/// A report of a drill that cannot be read.
#[derive(Debug, Serialize)]
pub(crate) struct UnreadableReport {
    /// The drill.
    pub(crate) id: JobId,
    /// The object.
    object: String,
    /// When the drill began.
    begun: Timestamp,
    /// Why it cannot be read.
    error: String,
}

/// Lists the snapshots, oldest first. One that cannot be read is listed as such, and what is none is told.
///
/// # Errors
/// When the repository cannot be opened or listed.
pub(crate) async fn run(context: &Context) -> Result<Exit> {
    let repository = context.repository().await?;
    let drills = repository.drills(MOST_DRILLS).await?;
    let entries = entries(&repository, &drills).await?;
    let unreadable_reports: Vec<_> = drills.unreadable.into_iter().map(UnreadableReport::new).collect();
    let has_unreadable = entries.iter().any(|entry| matches!(entry, Entry::Unreadable { .. }));
    let damaged = has_unreadable || !unreadable_reports.is_empty();
    let text = if entries.is_empty() {
        "There is no snapshot yet: make one with `firebackup backup`.".to_owned()
    } else {
        [entries_table(&entries), unproven(&entries)].concat()
    };
    let strangers = repository.strangers().await?;
    warn_strangers(context, &strangers);
    // whoever only writes reads none, nor any snapshot
    if repository.can_read() {
        warn_unreadable(context, &unreadable_reports);
    }
    let is_whole = strangers.is_empty() && !(damaged && repository.can_read());
    let listing =
        Listing { repository: repository.id().to_string(), snapshots: entries, strangers, unreadable_reports };
    context.output.result(&listing, &text)?;
    Ok(if is_whole { Exit::Done } else { Exit::Partial })
}

/// Tells of what lies among the snapshots and is none.
pub(crate) fn warn_strangers(context: &Context, strangers: &[String]) {
    for path in strangers {
        context.output.warn(&format!("`{path}` is no snapshot's name: it is not listed, and stops a prune"));
    }
}

fn warn_unreadable(context: &Context, reports: &[UnreadableReport]) {
    for report in reports {
        context.output.warn(&format!(
            "`{}` cannot be read: {}; it may be of any backup, and say that it failed, so that a backup counts as restored only by a \
             drill that began after {}",
            report.object, report.error, report.begun
        ));
    }
}

impl UnreadableReport {
    pub(crate) fn new(drill: UnreadableDrill) -> Self {
        Self { begun: drill.begun(), id: drill.id, object: drill.path, error: why(drill.error) }
    }

    /// What is told of it in a list.
    pub(crate) fn line(&self) -> String {
        format!("{}  cannot be read: {}", self.object, self.error)
    }
}

/// Why something cannot be read, in one line.
fn why(error: EngineError) -> String {
    let report = CliError::Engine(error).report();
    let causes = report.causes.into_iter().map(|cause| format!(": {cause}"));
    causes.fold(report.message, |text, cause| text + &cause)
}

/// A line below the table where nothing says who wrote the snapshots.
fn unproven(entries: &[Entry]) -> String {
    let is_unproven = |entry: &Entry| matches!(entry, Entry::Readable(summary) if !summary.origin_proven);
    if entries.iter().any(is_unproven) { format!("\n\nOrigin not proven: {ANYBODY}") } else { String::new() }
}

/// Reads the manifests of all snapshots, oldest first; `drills` say which have passed their last drill, which have not, and when.
///
/// # Errors
/// When the store fails.
pub(crate) async fn entries(repository: &Repository, drills: &KeptDrills) -> Result<Vec<Entry>> {
    let (restored, failed) = (drills.restored(), drills.failed());
    let mut entries = Vec::new();
    for id in repository.snapshot_ids().await? {
        entries.push(match repository.manifest(&id).await {
            Ok((manifest, origin)) => Entry::Readable(summary(manifest, &origin, (&restored, &failed))),
            // a prune dropped it since it was listed
            Err(EngineError::NotFound(_)) if repository.is_dropped(&id).await? => continue,
            Err(error @ (EngineError::Store { .. } | EngineError::Port(_))) => return Err(error.into()),
            Err(error) => Entry::Unreadable { id, error: why(error) },
        });
    }
    Ok(entries)
}

/// When drills ended, of the snapshots that they were of.
type Ends = HashMap<SnapshotId, Timestamp>;

fn summary(manifest: Manifest, origin: &ProvenOrigin, (restored, failed): (&Ends, &Ends)) -> Summary {
    Summary {
        restored: restored.get(&manifest.id).copied(),
        drill_failed: failed.get(&manifest.id).copied(),
        read_time: manifest.read_time(),
        id: manifest.id,
        kind: manifest.kind,
        project: manifest.source.project,
        database: manifest.source.database,
        consistency: manifest.consistency,
        selection: describe(&manifest.selection),
        documents: manifest.totals.documents,
        deletions: manifest.totals.deletions,
        bytes: manifest.totals.bytes,
        stored_bytes: manifest.stored_bytes,
        users: manifest.auth.map(|auth| auth.users),
        origin_proven: matches!(origin, ProvenOrigin::Proven(_)),
    }
}

/// The kind of a snapshot, one word.
pub(crate) const fn kind_name(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Full => "full",
        SnapshotKind::Incremental => "incremental",
        SnapshotKind::Synthetic => "synthetic",
        SnapshotKind::Undo => "undo",
    }
}

/// The entries as a table, and below it what cannot be read. Columns in which nothing stands out are left out.
pub(crate) fn entries_table(entries: &[Entry]) -> String {
    let readable = entries.iter().filter_map(|entry| match entry {
        Entry::Readable(summary) => Some(summary),
        Entry::Unreadable { .. } => None,
    });
    let has_users = readable.clone().any(|summary| summary.users.is_some());
    let is_drilled = readable.clone().any(|summary| summary.restored.is_some() || summary.drill_failed.is_some());
    let is_partial = readable.clone().any(|summary| summary.selection != EVERYTHING);
    let shows = |column: &Column| match column.header {
        "USERS" => has_users,
        "SELECTION" => is_partial,
        "RESTORED" => is_drilled,
        _ => true,
    };
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| shows(column)).collect();
    let header: Vec<&str> = columns.iter().map(|column| column.header).collect();
    let rows: Vec<Vec<_>> =
        readable.map(|summary| columns.iter().map(|column| (column.cell)(summary)).collect()).collect();
    let mut parts = Vec::new();
    if !rows.is_empty() {
        parts.push(table(&header, &["DOCUMENTS", "SIZE", "STORED", "USERS"], rows));
    }
    parts.extend(entries.iter().filter_map(|entry| match entry {
        Entry::Unreadable { id, error } => Some(format!("{id}  cannot be read: {error}")),
        Entry::Readable(_) => None,
    }));
    parts.join("\n")
}

/// A column of the list.
struct Column {
    header: &'static str,
    cell: fn(&Summary) -> String,
}

const COLUMNS: [Column; 10] = [
    Column { header: "SNAPSHOT", cell: |summary| summary.id.to_string() },
    Column { header: "KIND", cell: |summary| kind_name(summary.kind).to_owned() },
    Column { header: "DATABASE", cell: |summary| format!("{}/{}", summary.project, summary.database) },
    Column { header: "READ TIME", cell: read_time },
    Column { header: "DOCUMENTS", cell: |summary| count(summary.documents) },
    Column { header: "SIZE", cell: |summary| bytes(summary.bytes) },
    Column { header: "STORED", cell: |summary| bytes(summary.stored_bytes) },
    Column { header: "USERS", cell: |summary| summary.users.map_or_else(nothing, count) },
    Column { header: "RESTORED", cell: restored },
    Column { header: "SELECTION", cell: |summary| summary.selection.clone() },
];

fn read_time(summary: &Summary) -> String {
    let ranged = if summary.consistency == Consistency::Ranged { " (ranged)" } else { "" };
    summary.read_time.map_or_else(nothing, |time| moment(time) + ranged)
}

fn restored(summary: &Summary) -> String {
    match (summary.restored, summary.drill_failed) {
        (Some(time), _) => moment(time),
        (None, Some(time)) => format!("failed {}", moment(time)),
        (None, None) => "never".to_owned(),
    }
}

fn nothing() -> String {
    "–".to_owned()
}
