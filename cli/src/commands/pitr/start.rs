//! `firebackup pitr start`: captures changes until it is asked to end.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use firebackup_engine::{
    Capture, CaptureEvent, CaptureOptions, Captured, CompactReport, Compaction, EngineError, Repository, StatusBounds,
    capture_status,
};
use firebackup_model::manifest::Compression;
use firebackup_model::{DatabaseName, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::pace::Pace;
use super::running::{Mark, Running};
use super::telling::{Event, Teller};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::units::{parse_count, parse_window};

/// How often segments are merged, or sooner: a restore must not open too many.
const COMPACT_EVERY: Duration = Duration::from_secs(600);
/// Segments behind which it is tried again where they could not be merged.
const TRIED_AGAIN_BEHIND: u64 = 30;

/// How changes are captured.
#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// Listen all the time, and put what changed within seconds
    #[arg(long, conflicts_with_all = ["window", "once"])]
    follow: bool,
    /// How often to listen, and put what changed since as one segment
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_window)]
    window: Duration,
    /// One window, then end: for cron
    #[arg(long)]
    once: bool,
    /// How often to count documents, to prove that nothing is missing: only proven moments can be put back [default: 60s, or
    /// the window if that is shorter; 10m at least where counting costs more than 200 reads]
    #[arg(long, value_name = "TIME", value_parser = parse_window)]
    prove_every: Option<Duration>,
    /// How often in 24 hours the whole database may be read because the stream cannot be believed [default: 24, an emulator's:
    /// always]
    #[arg(long, value_name = "N")]
    max_scans_a_day: Option<u32>,
    /// How many documents that may read in 24 hours [default: 10M, of an emulator any number]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    max_scan_reads_a_day: Option<u64>,
    /// brotli, zstd, gzip or none, with a level
    #[arg(long, value_name = "ALGORITHM", default_value = "zstd:3")]
    compression: Compression,
}

impl StartArgs {
    /// Reading an emulator costs nothing.
    fn options(&self, is_emulator: bool) -> CaptureOptions {
        let usual = CaptureOptions::default();
        let (scans, reads) =
            if is_emulator { (None, None) } else { (usual.max_scans_a_day, usual.max_scan_reads_a_day) };
        let prove_cheaply_every = u64::from(usual.prove_cheaply_every_seconds);
        let in_windows = if self.follow { prove_cheaply_every } else { prove_cheaply_every.min(self.window.as_secs()) };
        let prove_every = self.prove_every.map_or(in_windows, |every| every.as_secs());
        let prove_every = u32::try_from(prove_every).unwrap_or(u32::MAX);
        CaptureOptions {
            compression: self.compression,
            prove_cheaply_every_seconds: prove_every,
            prove_every_seconds: usual.prove_every_seconds.max(prove_every),
            seal_every: if self.follow { usual.seal_every } else { self.window.max(usual.seal_every) },
            max_scans_a_day: self.max_scans_a_day.or(scans),
            max_scan_reads_a_day: self.max_scan_reads_a_day.or(reads),
            ..usual
        }
    }
}

/// Captures.
///
/// # Errors
/// When there is no backup to begin from, another capture runs here, or something fails for good; with `--once` also when
/// it may pass.
pub(super) async fn run(context: &Context, args: StartArgs) -> Result<Exit> {
    context.output.stream();
    let database = context.settings.database()?;
    let repository = context.repository().await?;
    let running = claim(context, &repository, &database).await?;
    let status = capture_status(&repository, &database, StatusBounds::of_window(0.0)).await?;
    let capture = capture(context, &args, repository, &database).await?;
    let mut teller = Teller::new(context.output.clone(), status.proven_through, running);
    let (captured_through, proven_through) = (status.captured_through, status.proven_through);
    teller.tell(&Event::Started { database, captured_through, proven_through });
    let merging = Merging::behind(status.segments);
    let exit = match (args.once, args.follow) {
        (true, _) => once(context, &capture, &mut teller, &merging).await,
        (false, true) => follow(&capture, &mut teller, merging).await,
        (false, false) => in_windows(context, &capture, args.window, &mut teller, merging).await,
    };
    // what a capture was asked to leave unfinished is no failure
    let exit = match exit {
        Err(CliError::Engine(error)) if error.is_resumable_stop() && capture.stop.is_requested() => Exit::Stopped,
        exit => exit?,
    };
    let proven_through = proven_through_in_the_end(&capture, teller.proven_through()).await;
    teller.end(proven_through)?;
    Ok(if exit == Exit::Stopped && !args.once { Exit::Done } else { exit })
}

/// Where it is not known how far all is proven, because another capture was faster, the repository says it; if it can be read.
async fn proven_through_in_the_end(capture: &Capture, known: Option<Timestamp>) -> Option<Timestamp> {
    if known.is_some() {
        return known;
    }
    let (repository, database) = (&capture.repository, capture.source.database());
    capture_status(repository, database, StatusBounds::of_window(0.0)).await.ok()?.proven_through
}

async fn claim(context: &Context, repository: &Repository, database: &DatabaseName) -> Result<Option<Running>> {
    let reason = match Mark::of(context, repository, database) {
        Some(mark) => match mark.claim().await {
            // the repository alone keeps captures apart, too
            Err(CliError::File { operation, path, source }) => {
                format!("could not {operation} {}: {source}", path.display())
            }
            claimed => return claimed.map(Some),
        },
        None => "neither XDG_STATE_HOME nor HOME is set".to_owned(),
    };
    context.output.warn(&format!("{reason}: `firebackup pitr stop` will not find this capture"));
    Ok(None)
}

async fn capture(
    context: &Context,
    args: &StartArgs,
    repository: Repository,
    database: &DatabaseName,
) -> Result<Capture> {
    let source = context.changes(database).await?;
    Ok(Capture {
        repository,
        source: source.clone(),
        changes: source,
        options: args.options(context.settings.is_emulator()),
        meter: Arc::default(),
        stop: context.interrupt.graceful(),
    })
}

/// When segments are merged again.
struct Merging {
    /// How many segments were put since this process began.
    put: watch::Sender<u64>,
    /// How many that were when they were last merged: those that come meanwhile are not among what was merged.
    before: u64,
    /// How many that may be when they are merged next.
    due: u64,
    last: Instant,
}

impl Merging {
    fn behind(segments: u64) -> Self {
        let due = CompactReport { segments, ..CompactReport::default() }.segments_until_next();
        Self { put: watch::Sender::new(0), before: 0, due, last: Instant::now() }
    }

    fn is_due(&self) -> bool {
        *self.put.borrow() >= self.due || self.last.elapsed() >= COMPACT_EVERY
    }

    /// Notes that they are merged now.
    fn begins(&mut self) {
        self.before = *self.put.borrow();
    }

    /// Notes that they were merged, or could not be: then it is tried again later.
    fn was_tried(&mut self, report: Option<&CompactReport>) {
        self.due = match report {
            Some(report) => self.before + report.segments_until_next(),
            None => *self.put.borrow() + TRIED_AGAIN_BEHIND,
        };
        self.last = Instant::now();
    }
}

/// One window. Ends with 3 where it could not catch up with the database, or found segments that cannot be merged, which are damaged
/// then: what was captured stands all the same. Ends with 4 where it was stopped before.
async fn once(context: &Context, capture: &Capture, teller: &mut Teller, merging: &Merging) -> Result<Exit> {
    let captured = window(capture, teller, merging).await?;
    match captured {
        _ if capture.stop.is_requested() => return Ok(Exit::Stopped),
        Captured::Degraded => return Ok(Exit::Partial),
        Captured::Through(_) => {}
    }
    let merged = compaction(capture).run().await;
    let is_well = merged.as_ref().err().is_none_or(EngineError::may_pass);
    tell_merged(context, teller, merged);
    Ok(if is_well { Exit::Done } else { Exit::Partial })
}

async fn window(capture: &Capture, teller: &mut Teller, merging: &Merging) -> Result<Captured, EngineError> {
    let captured = capture.until_now(&mut told(capture, teller, merging.put.clone())).await?;
    if let Captured::Through(through) = captured {
        teller.tell(&Event::Captured { through });
    }
    Ok(captured)
}

/// Tells what the engine tells. Where nobody can be told any more, the capture ends.
fn told<'t>(
    capture: &'t Capture,
    teller: &'t mut Teller,
    put: watch::Sender<u64>,
) -> impl FnMut(CaptureEvent) + Send + 't {
    move |event| {
        if matches!(event, CaptureEvent::Sealed(_)) {
            put.send_modify(|put| *put += 1);
        }
        teller.captured(event);
        if !teller.is_heard() {
            capture.stop.request();
        }
    }
}

/// One window after the other, and segments merged beside: meanwhile it is captured on.
async fn in_windows(
    context: &Context,
    capture: &Capture,
    every: Duration,
    teller: &mut Teller,
    mut merging: Merging,
) -> Result<Exit> {
    let mut pace = Pace::new(every, Instant::now());
    // one at a time; dropped, it is ended
    let mut beside: JoinSet<Result<CompactReport, EngineError>> = JoinSet::new();
    loop {
        let failure = match window(capture, teller, &merging).await {
            Ok(_) => None,
            Err(error) if error.may_pass() && !capture.stop.is_requested() => Some(error),
            Err(error) => return Err(error.into()),
        };
        if let Some(merged) = beside.try_join_next() {
            let merged = merged.unwrap_or_else(|error| Err(error.into()));
            merging.was_tried(tell_merged(context, teller, merged).as_ref());
        }
        if failure.is_none() && merging.is_due() && beside.is_empty() {
            merging.begins();
            let compaction = compaction(capture);
            beside.spawn(async move { compaction.run().await });
        }
        if capture.stop.is_requested() || !teller.is_heard() {
            return Ok(Exit::Stopped);
        }
        let now = Instant::now();
        let due = pace.next(now, failure.is_some());
        if let Some(error) = failure {
            teller.failed(error.in_full(), due.duration_since(now));
        }
        if is_asked_before(context, due).await {
            return Ok(Exit::Stopped);
        }
    }
}

async fn is_asked_before(context: &Context, due: Instant) -> bool {
    let mut asked = context.interrupt.asked();
    tokio::time::timeout_at(due, asked.wait_for(|asked| *asked)).await.is_ok()
}

async fn follow(capture: &Capture, teller: &mut Teller, merging: Merging) -> Result<Exit> {
    let mut tell = told(capture, teller, merging.put.clone());
    let following = capture.follow(&mut tell);
    let merging = compact_regularly(capture, merging);
    tokio::select! {
        captured = following => captured.map(|_| Exit::Stopped).map_err(CliError::from),
        () = merging => Ok(Exit::Stopped),
    }
}

/// Merges segments whenever it is due, for ever. What fails is tried again: the chain is whole without it.
async fn compact_regularly(capture: &Capture, mut merging: Merging) {
    let mut put = merging.put.subscribe();
    loop {
        let due = merging.due;
        let _ = tokio::time::timeout_at(merging.last + COMPACT_EVERY, put.wait_for(|put| *put >= due)).await;
        merging.begins();
        let report = compaction(capture).run().await;
        if let Err(error) = &report {
            tracing::warn!(error = %error.in_full(), "segments could not be merged");
        }
        merging.was_tried(report.ok().as_ref());
    }
}

/// Tells what merging came to. What fails is tried again: the chain is whole without it.
fn tell_merged(
    context: &Context,
    teller: &mut Teller,
    merged: Result<CompactReport, EngineError>,
) -> Option<CompactReport> {
    match merged {
        Ok(report) => {
            teller.compacted(&report);
            Some(report)
        }
        Err(error) => {
            context.output.warn(&format!("segments could not be merged: {}", error.in_full()));
            None
        }
    }
}

fn compaction(capture: &Capture) -> Compaction {
    let (repository, database) = (capture.repository.clone(), capture.source.database().clone());
    Compaction { repository, database, meter: Arc::default(), stop: capture.stop.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;

    #[test]
    fn segments_are_merged_before_a_restore_would_open_too_many_of_them() {
        let mut merging = Merging::behind(10);
        merging.put.send_replace(52);
        assert!(!merging.is_due());
        merging.put.send_replace(53);
        assert!(merging.is_due());
        merging.begins();
        merging.put.send_replace(60);
        merging.was_tried(Some(&CompactReport { segments: 63, ..CompactReport::default() }));
        assert!(!merging.is_due());
        // eight, seven of which came while it was merged
        merging.put.send_replace(61);
        assert!(merging.is_due());
        merging.begins();
        merging.was_tried(None);
        merging.put.send_replace(61 + TRIED_AGAIN_BEHIND - 1);
        assert!(!merging.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn segments_are_merged_after_ten_minutes_however_few_they_are() {
        let merging = Merging::behind(1);
        assert!(!merging.is_due());
        tokio::time::advance(COMPACT_EVERY).await;
        assert!(merging.is_due());
    }

    fn parse(line: &str) -> Result<StartArgs, clap::Error> {
        Cli::arguments("pitr start", line)
    }

    #[test]
    fn an_emulator_may_be_read_at_will_unless_somebody_says_otherwise() {
        let usual = parse("").unwrap();
        let (here, there) = (usual.options(true), usual.options(false));
        assert_eq!((here.max_scans_a_day, here.max_scan_reads_a_day), (None, None));
        assert_eq!((there.max_scans_a_day, there.max_scan_reads_a_day), (Some(24), Some(10_000_000)));
        assert_eq!((here.seal_every, here.prove_cheaply_every_seconds), (Duration::from_secs(60), 60));
        let proofs = |line: &str| {
            let options = parse(line).unwrap().options(false);
            (options.prove_cheaply_every_seconds, options.prove_every_seconds)
        };
        assert_eq!(proofs("--window 5s"), (5, 600));
        assert_eq!(proofs("--follow --prove-every 20m"), (1200, 1200));
        let told = parse("--follow --max-scans-a-day 2 --max-scan-reads-a-day 5k").unwrap().options(true);
        assert_eq!((told.max_scans_a_day, told.max_scan_reads_a_day), (Some(2), Some(5000)));
        assert_eq!(told.seal_every, Duration::from_secs(2));
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        assert!(parse("--once --window 5m").is_ok());
        for bad in ["--follow --once", "--follow --window 5m", "--window 0s", "--window 60", "--max-scans-a-day many"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
