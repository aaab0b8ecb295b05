//! `firebackup pitr status`: how far changes are captured and proven.

use std::time::Duration;

use clap::Args;
use firebackup_engine::{CaptureState, CaptureStatus, StatusBounds, capture_status};
use firebackup_model::{DatabaseName, Timestamp};
use serde::Serialize;

use super::check_project;
use super::running::{Degraded, Holder, Mark};
use super::telling::lost;
use crate::context::Context;
use crate::error::Result;
use crate::exit::Exit;
use crate::table::{indented, pairs};
use crate::units::{bytes, count, of, parse_window, seconds};

/// After how long a capture says that it listens although nothing changes.
const HEARTBEAT: Duration = Duration::from_secs(3600);

/// What to expect of the capture.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The window that it was started with: without a point for two of them, and three minutes, it is paused
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_window)]
    window: Duration,
}

#[derive(Serialize)]
struct Told {
    database: DatabaseName,
    /// The process on this machine that captures, if one does.
    process: Option<u32>,
    /// Why that one does not know what the database is, and since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<Degraded>,
    #[serde(flatten)]
    status: CaptureStatus,
}

/// Tells how the capture stands.
///
/// # Errors
/// When the repository cannot be read.
pub(super) async fn run(context: &Context, args: StatusArgs) -> Result<Exit> {
    let repository = context.repository().await?;
    let database = context.database_in(&repository).await?;
    let mark = Mark::of(context, &repository, &database);
    let holder = match &mark {
        Some(mark) => mark.holder().await?,
        None => Holder::Nobody,
    };
    let degraded = mark.filter(|_| holder != Holder::Nobody).and_then(|mark| mark.degraded());
    // one that runs here may have nothing to say for as long as nothing changes
    let quiet = if holder == Holder::Nobody { Duration::ZERO } else { HEARTBEAT };
    let mut bounds = StatusBounds::of_window(args.window.as_secs_f64());
    bounds.captured_seconds += quiet.as_secs_f64();
    let mut status = capture_status(&repository, &database, bounds).await?;
    if status.state == CaptureState::Disabled {
        check_project(context, &repository, &database).await?;
    }
    if degraded.is_some() {
        status.state = CaptureState::Degraded;
    }
    let process = match holder {
        Holder::Process(process) => process,
        Holder::Nobody => None,
    };
    let told = Told { database, process, degraded, status };
    context.output.result(&told, &text(context, &told))?;
    Ok(Exit::Done)
}

fn text(context: &Context, told: &Told) -> String {
    let status = &told.status;
    let name = context.output.bold(&told.database.to_string());
    if status.state == CaptureState::Disabled {
        let next = told.process.map_or_else(
            || "begin with `firebackup pitr start`".to_owned(),
            |process| format!("process {process} listens"),
        );
        return format!("{name}: no changes were captured yet; {next}");
    }
    let time = |time: Option<Timestamp>| time.map_or_else(|| "–".to_owned(), |time| time.to_string());
    let lag = status.lag_seconds.map(|lag| format!(", {} ago", seconds(lag))).unwrap_or_default();
    let here = told.process.map_or_else(|| "no".to_owned(), |process| format!("process {process}"));
    let scans = format!("{} in 24 hours, {} read", count(status.scans_today), of(status.scan_reads_today, "document"));
    let why = match &told.degraded {
        Some(Degraded { reason, lost_since }) => format!("degraded: {reason}; {}", lost(*lost_since)),
        None => state(status.state).to_owned(),
    };
    let mut lines = vec![
        ("state", why),
        ("captured", format!("through {}", time(status.captured_through))),
        ("proven", format!("through {}{lag}", time(status.proven_through))),
        ("runs here", here),
        ("changes", format!("{} in {}", count(status.changes), of(status.segments, "segment"))),
        ("stored", bytes(status.stored_bytes)),
        ("scans", scans),
        ("gaps", count(status.gaps.len() as u64)),
    ];
    if let Some(last) = status.gaps.last() {
        lines.push(("last gap", format!("between {} and {}", last.after, last.until)));
    }
    format!("{name}\n{}", indented(&pairs(lines)))
}

const fn state(state: CaptureState) -> &'static str {
    match state {
        CaptureState::Active => "active",
        CaptureState::Degraded => "degraded: what was captured is not proven to be all of it",
        CaptureState::Paused => "paused: nothing was captured of late",
        CaptureState::Disabled => "disabled",
    }
}
