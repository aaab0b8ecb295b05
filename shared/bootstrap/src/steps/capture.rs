//! The step of a capture: one window of one database, for whoever has the time. A worker of this machine calls it, and a
//! function may.

use std::sync::Arc;
use std::time::Duration;

use firebackup_control::{
    CaptureFacts, CapturedGap, CapturedWindow, ClaimedWindow, Credentials, DueCapture, Merges, Merging, WindowEnd,
    WindowWork, Worker,
};
use firebackup_engine::{
    Capture, CaptureEvent, CaptureOptions, CaptureState, Captured, Compaction, EngineError, Repository, StatusBounds,
    Stop, capture_status, lacks_base,
};
use firebackup_model::port::{StepError, StepErrorKind};
use firebackup_model::{DatabaseName, ErrorKind, PortError};
use futures::future::BoxFuture;
use serde::Serialize;
use tokio::time::Instant;
use tracing::Instrument;

use super::{AppSteps, WatchGuard};
use crate::failure::{of_control, of_engine};

/// For how long a window is held by whoever says nothing more: then they count as dead.
const LEASE_SECONDS: u32 = 30;
/// How often whoever holds it says so.
const HOLD: Duration = Duration::from_secs(10);
/// For how long a capture that works may put nothing: a quiet database puts something once an hour.
const QUIET_SECONDS: f64 = 3600.0;
/// For how long it must have been merged, before whoever captures had no more time, for that to be too little time: with less the
/// window itself took it, and the next one may leave more.
const TIME_TO_MERGE: Duration = Duration::from_secs(300);
/// How many gaps are told with how a capture stands.
const GAPS: usize = 20;

/// What became of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowOutcome {
    /// It was not due, or somebody else captures it.
    NotDue,
    /// It was captured.
    Captured,
    /// There is no backup to begin from; one was begun.
    NoBackup,
    /// It was asked to stop, and goes on where it was.
    Stopped,
    /// The database had to be read, and there was not the time for all of it.
    TooLong,
    /// It failed, and is tried again.
    Failed,
}

/// What a window came to.
#[derive(Debug, Serialize)]
pub struct WindowDone {
    /// Which.
    #[serde(flatten)]
    pub due: DueCapture,
    /// What became of it.
    pub outcome: WindowOutcome,
}

/// What ends a window early.
#[derive(Clone, Default)]
struct Bounds {
    stop: Stop,
    /// When the time of whoever captures is up.
    until: Option<Instant>,
}

impl Bounds {
    /// How a window ends that was stopped: what was sealed stands, what a scan had read does not.
    fn end(&self, is_scanning: bool) -> WindowEnd {
        match is_scanning && self.are_over() {
            true => WindowEnd::TooLong,
            false => WindowEnd::Stopped,
        }
    }

    /// What became of merging that went on for so long.
    fn merging(&self, merges: Merges, is_whole: bool, took: Duration) -> Merging {
        match (!is_whole && took >= TIME_TO_MERGE && self.are_over(), merges) {
            (false, _) => Merging::Tried,
            (true, Merges::Small) => Merging::SmallTooLong,
            (true, _) => Merging::TooLong,
        }
    }

    fn are_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

/// What a capture told while it went on.
#[derive(Default)]
struct Heard {
    changes: u64,
    has_sealed: bool,
    is_scanning: bool,
    spent: Option<String>,
}

impl Heard {
    fn take(&mut self, event: CaptureEvent) {
        match event {
            CaptureEvent::Sealed(segment) => {
                (self.has_sealed, self.is_scanning) = (true, false);
                self.changes += segment.totals.documents + segment.totals.deletions;
            }
            CaptureEvent::Scanning(reason) => {
                self.is_scanning = true;
                tracing::info!(reason, "the database is read: what it tells cannot be gone on with");
            }
            CaptureEvent::Reopened(reason) => tracing::debug!(reason, "a stream of changes is opened anew"),
            CaptureEvent::Unproven(reason) => {
                tracing::warn!(reason, "what was captured could not be proven, and is sealed all the same");
            }
            CaptureEvent::Degraded(reason) => self.spent = Some(reason),
            CaptureEvent::Overtaken => {
                self.is_scanning = false;
                tracing::info!("another capture of the same database was faster");
            }
        }
    }
}

impl AppSteps {
    /// Captures the changes of one database up to now, and notes what came of it: nothing where that is not due. What goes
    /// wrong with the database or the destination is noted too, and no failure of the step. Doing it twice, or in two places at
    /// once, is doing it once.
    ///
    /// `stop` ends it early, with what was heard sealed: for whoever's own time is up.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn capture_window(&self, due: DueCapture, stop: &Stop) -> Result<WindowDone, StepError> {
        self.capture_bounded(due, &Bounds { stop: stop.clone(), until: None }).await
    }

    /// The same for whoever has so much time: what was heard by then is sealed, and the next window goes on. A database that
    /// has to be read, and cannot be in that time, is noted as such.
    ///
    /// # Errors
    /// As [`Self::capture_window`].
    pub async fn capture_within(&self, due: DueCapture, time: Duration) -> Result<WindowDone, StepError> {
        let until = Instant::now() + time;
        let bounds = Bounds { until: Some(until), ..Bounds::default() };
        let stop = bounds.stop.clone();
        let _watch = WatchGuard(tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            stop.request();
        }));
        self.capture_bounded(due, &bounds).await
    }

    async fn capture_bounded(&self, due: DueCapture, bounds: &Bounds) -> Result<WindowDone, StepError> {
        let worker = self.control.worker(&due.organization);
        let claimed = self.control.claim_window(&worker, &due, LEASE_SECONDS).await.map_err(of_control)?;
        let Some(claimed) = claimed else { return Ok(WindowDone { due, outcome: WindowOutcome::NotDue }) };
        let span = tracing::info_span!("capture", pitr = %claimed.id);
        let work = async {
            let end = {
                let _held = self.hold(&worker, &claimed, &bounds.stop);
                // boxed: the layout of all steps in one future is more than the compiler computes
                let window: BoxFuture<'_, WindowEnd> = Box::pin(self.window(&worker, &claimed, bounds));
                window.await
            };
            self.control.end_window(&worker, &claimed, &end).await.map_err(of_control)?;
            Ok(WindowDone { due, outcome: outcome(&end) })
        };
        work.instrument(span).await
    }

    /// Holds a claim until the guard is dropped, and asks the window to stop once it does not hold any more.
    fn hold(&self, worker: &Worker, claimed: &ClaimedWindow, stop: &Stop) -> WatchGuard {
        let (control, worker, claimed, stop) = (self.control.clone(), *worker, claimed.clone(), stop.clone());
        WatchGuard(tokio::spawn(async move {
            loop {
                tokio::time::sleep(HOLD).await;
                match control.hold_window(&worker, &claimed).await {
                    Ok(true) => {}
                    Ok(false) => return stop.request(),
                    Err(error) => tracing::warn!(pitr = %claimed.id, error = %error, "a window could not be held"),
                }
            }
        }))
    }

    async fn window(&self, worker: &Worker, claimed: &ClaimedWindow, bounds: &Bounds) -> WindowEnd {
        let work = match self.control.window_work(worker, claimed).await {
            Ok(work) => work,
            Err(error) => return WindowEnd::from(&error),
        };
        match self.captured(&work, bounds).await {
            Ok(end) => end,
            Err(error) if error.is_resumable_stop() && bounds.stop.is_requested() => WindowEnd::Stopped,
            Err(error) => self.failed_window(worker, &work, error).await,
        }
    }

    async fn captured(&self, work: &WindowWork, bounds: &Bounds) -> Result<WindowEnd, EngineError> {
        let repository = match self.places.open(&work.place).await {
            // one that was there may be so again: a new one in its place would hide it
            Err(EngineError::NotFound(_)) if !work.has_begun => return Ok(WindowEnd::NoBackup),
            opened => opened?,
        };
        let capture = self.capture(work, repository, &bounds.stop).await?;
        let (repository, database) = (&capture.repository, capture.source.database());
        let mut heard = Heard::default();
        let through = match capture.until_now(&mut |event| heard.take(event)).await {
            Ok(_) if bounds.stop.is_requested() => return Ok(bounds.end(heard.is_scanning)),
            Ok(Captured::Through(through)) => Some(through),
            Ok(Captured::Degraded) => None,
            Err(error @ EngineError::NoBase { .. }) => {
                tracing::warn!(database = %database, error = %error.in_full(), "a new backup is needed to go on from");
                return Ok(WindowEnd::NoBackup);
            }
            Err(error @ (EngineError::NotFound(_) | EngineError::Refused(_))) => {
                return if lacks_base(repository, database).await? { Ok(WindowEnd::NoBackup) } else { Err(error) };
            }
            Err(error) => return Err(error),
        };
        let merging = merge(&capture, work.merges, bounds).await;
        let facts = match heard.has_sealed || merging != Merging::NotTried || work.looks {
            true => Some(facts(repository, database, f64::from(work.window_seconds)).await?),
            false => None,
        };
        let Heard { changes, spent, .. } = heard;
        let expects_gaps = is_emulator(&work.project_access.credentials);
        Ok(WindowEnd::Captured(Box::new(CapturedWindow { through, changes, spent, facts, merging, expects_gaps })))
    }

    async fn capture(&self, work: &WindowWork, repository: Repository, stop: &Stop) -> Result<Capture, PortError> {
        let source = self.projects.changes(&work.project_access, &work.database).await?;
        Ok(Capture {
            repository,
            source: source.clone(),
            changes: source,
            options: options(work.window_seconds, is_emulator(&work.project_access.credentials)),
            meter: Arc::default(),
            stop: stop.clone(),
        })
    }

    /// A window that failed: where the consent is gone that its project stands on, that is why, and the project says so.
    async fn failed_window(&self, worker: &Worker, work: &WindowWork, error: EngineError) -> WindowEnd {
        let StepError { kind, message, .. } = of_engine(error);
        let gone = self.projects.check_consent(&work.project_access).await.err();
        let Some(gone) = gone.filter(|error| error.kind == ErrorKind::Unauthenticated) else {
            return WindowEnd::Failed { message, may_pass: kind == StepErrorKind::Retryable };
        };
        let project = &work.project;
        if let Err(error) = self.control.consent_is_gone(worker, &project.id, project.updated_at).await {
            tracing::warn!(project = %project.id, error = %error, "it cannot be noted that a consent is gone");
        }
        WindowEnd::Failed { message: gone.message().to_owned(), may_pass: false }
    }
}

/// It resets whoever listens, so that each window is a scan and the time before it a gap.
const fn is_emulator(credentials: &Credentials) -> bool {
    matches!(credentials, Credentials::Emulator { .. })
}

const fn outcome(end: &WindowEnd) -> WindowOutcome {
    match end {
        WindowEnd::Captured(_) => WindowOutcome::Captured,
        WindowEnd::NoBackup => WindowOutcome::NoBackup,
        WindowEnd::Stopped => WindowOutcome::Stopped,
        WindowEnd::TooLong => WindowOutcome::TooLong,
        WindowEnd::Failed { .. } => WindowOutcome::Failed,
    }
}

/// Reading an emulator costs nothing. Each window is proven that can be proven cheaply: with its own length for a pace, one that
/// begins a moment early would not be.
fn options(window_seconds: u32, is_emulator: bool) -> CaptureOptions {
    let usual = CaptureOptions::default();
    let (max_scans_a_day, max_scan_reads_a_day) =
        if is_emulator { (None, None) } else { (usual.max_scans_a_day, usual.max_scan_reads_a_day) };
    let prove_cheaply_every_seconds = usual.prove_cheaply_every_seconds.min(window_seconds) / 2;
    let seal_every = usual.seal_every.max(Duration::from_secs(u64::from(window_seconds)));
    CaptureOptions { max_scans_a_day, max_scan_reads_a_day, prove_cheaply_every_seconds, seal_every, ..usual }
}

/// Merges segments, where there are some to merge. What fails or is stopped is tried again later: the chain is whole without it.
async fn merge(capture: &Capture, merges: Merges, bounds: &Bounds) -> Merging {
    let begun = Instant::now();
    let (repository, database) = (capture.repository.clone(), capture.source.database().clone());
    let compaction = Compaction { repository, database, meter: Arc::default(), stop: capture.stop.clone() };
    let merged = match merges {
        Merges::Nothing => return Merging::NotTried,
        Merges::Small => compaction.run_small().await,
        Merges::All => compaction.run().await,
    };
    let is_whole = match merged {
        Ok(report) => {
            tracing::debug!(merged = report.merged, segments = report.segments, "segments were merged");
            !report.is_stopped
        }
        Err(error) => {
            tracing::warn!(error = %of_engine(error), "segments could not be merged");
            false
        }
    };
    let merging = bounds.merging(merges, is_whole, begun.elapsed());
    let rests = match merging {
        Merging::TooLong => "what is large is merged in six hours",
        Merging::SmallTooLong => "they are merged in six hours",
        Merging::NotTried | Merging::Tried => return merging,
    };
    tracing::warn!(database = %compaction.database, rests, "there was not the time to merge segments");
    merging
}

/// How a chain stands, as its repository says.
async fn facts(repository: &Repository, database: &DatabaseName, window: f64) -> Result<CaptureFacts, EngineError> {
    let mut bounds = StatusBounds::of_window(window);
    bounds.captured_seconds += QUIET_SECONDS;
    let status = capture_status(repository, database, bounds).await?;
    let newest = status.gaps.iter().rev().take(GAPS);
    Ok(CaptureFacts {
        captured_through: status.captured_through,
        proven_through: status.proven_through,
        is_unproven: status.state == CaptureState::Degraded,
        segments: status.segments,
        changes: status.changes,
        stored_bytes: status.stored_bytes,
        scans_today: status.scans_today,
        scan_reads_today: status.scan_reads_today,
        gaps: status.gaps.len() as u64,
        newest_gaps: newest.map(|gap| CapturedGap { after: gap.after, until: gap.until }).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_scan_for_which_there_was_not_the_time_is_too_long() {
        let over = Bounds { until: Some(Instant::now()), ..Bounds::default() };
        let not_over = Bounds { until: Some(Instant::now() + Duration::from_secs(60)), ..Bounds::default() };
        assert_eq!((over.end(true), over.end(false)), (WindowEnd::TooLong, WindowEnd::Stopped));
        // somebody paused it, or a server is to stop
        assert_eq!((not_over.end(true), Bounds::default().end(true)), (WindowEnd::Stopped, WindowEnd::Stopped));
    }

    #[test]
    fn merging_takes_too_long_only_where_it_had_some_time_and_that_was_up() {
        let over = Bounds { until: Some(Instant::now()), ..Bounds::default() };
        let not_over = Bounds { until: Some(Instant::now() + Duration::from_secs(60)), ..Bounds::default() };
        let short = Duration::from_secs(299);
        for (merges, too_long) in [(Merges::All, Merging::TooLong), (Merges::Small, Merging::SmallTooLong)] {
            assert_eq!(over.merging(merges, false, TIME_TO_MERGE), too_long);
            assert_eq!(over.merging(merges, true, TIME_TO_MERGE), Merging::Tried);
            assert_eq!(over.merging(merges, false, short), Merging::Tried);
            // it failed, or a server is to stop
            for bounds in [&not_over, &Bounds::default()] {
                assert_eq!(bounds.merging(merges, false, TIME_TO_MERGE), Merging::Tried);
            }
        }
    }

    #[test]
    fn an_emulator_may_be_read_at_will_and_proofs_come_with_windows() {
        let (here, there) = (options(60, true), options(300, false));
        assert_eq!((here.max_scans_a_day, here.max_scan_reads_a_day), (None, None));
        assert_eq!((there.max_scans_a_day, there.max_scan_reads_a_day), (Some(24), Some(10_000_000)));
        assert_eq!((here.prove_cheaply_every_seconds, there.prove_cheaply_every_seconds), (30, 30));
        assert_eq!((here.seal_every, there.seal_every), (Duration::from_secs(60), Duration::from_secs(300)));
    }
}
