//! A drill that is due: the newest backup of a project, restored into its scratch database and compared.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use firebackup_control::{
    ClaimedDrill, Credentials, DrillEnd, DrillOutcome, DrillWork, DueDrill, HeldDrill, ProjectAccess, ScratchWork,
    Worker,
};
use firebackup_engine::{Drill, DrillOptions, EngineError, Repository, Stop, Target};
use firebackup_model::database::DEFAULT_DATABASE;
use firebackup_model::drill::DrillReport;
use firebackup_model::id::JobId;
use firebackup_model::port::{StepError, StepErrorKind};
use firebackup_model::{DatabaseName, ErrorKind, PortError};
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use super::{AppSteps, WatchGuard};
use crate::failure::{of_control, of_engine};
use crate::places::unreadable as of_repository;

/// For how long a drill is held by whoever says nothing more: then they count as dead.
const LEASE_SECONDS: u32 = 60;
const LEASE: Duration = Duration::from_secs(LEASE_SECONDS as u64);
/// How often whoever holds it says so.
const HOLD: Duration = Duration::from_secs(15);
/// The project of an emulator that is started for a drill.
const PROJECT: &str = "demo-firebackup-drill";
const OUT_OF_TIME: &str =
    "there was not the time for it: take fewer documents, or have `firebackup serve` or `firebackup drill` run it";

/// Starts emulators to restore into.
#[async_trait]
pub(crate) trait ScratchEmulators: Send + Sync {
    /// Starts one for about so many documents.
    async fn start(&self, documents: u64) -> Result<StartedEmulator, PortError>;
}

/// An emulator that runs until this is dropped.
pub(crate) struct StartedEmulator {
    /// Where it listens.
    pub(crate) host: String,
    /// What ends it.
    pub(crate) guard: Box<dyn Any + Send>,
}

/// What ends a drill early.
#[derive(Clone, Default)]
pub(crate) struct DrillBounds {
    /// Asks it to stop, and to empty the scratch database.
    pub(crate) stop: Stop,
    /// When it has no more time to restore, and when none to empty the database either.
    pub(crate) until: Option<(Instant, Instant)>,
}

impl DrillBounds {
    /// Of so much time a third is kept to empty the scratch database.
    pub(crate) fn within(left: Duration) -> Self {
        let now = Instant::now();
        Self { stop: Stop::default(), until: Some((now + left * 2 / 3, now + left)) }
    }
}

/// The database into which is restored, and what ends with it.
struct Scratch {
    target: Target,
    is_emulator: bool,
    _guard: Option<Box<dyn Any + Send>>,
}

impl AppSteps {
    /// Runs the drill of a project, if it is due and nobody else does, and notes what came of it. What goes wrong with it is noted
    /// too, and no failure of the step. Says whether there was something to run.
    ///
    /// # Errors
    /// When the catalog fails.
    pub(crate) async fn drill(
        &self,
        due: &DueDrill,
        emulators: Option<&dyn ScratchEmulators>,
        bounds: &DrillBounds,
    ) -> Result<bool, StepError> {
        let worker = self.control.worker(&due.organization);
        let claimed = self.control.claim_drill(&worker, &due.project, LEASE_SECONDS).await.map_err(of_control)?;
        let Some(claimed) = claimed else { return Ok(false) };
        let span = tracing::info_span!("drill", project = %claimed.project);
        let drilled = async {
            let end = self.held_drill(&worker, &claimed, emulators, bounds).await;
            if self.control.end_drill(&worker, &claimed, &end).await.map_err(of_control)? {
                let has_passed = matches!(&end, DrillEnd::Run { outcome: DrillOutcome::Passed, .. });
                self.metrics.drill_ended(has_passed);
                tracing::info!(has_passed, "a drill has ended");
            }
            Ok(true)
        };
        drilled.instrument(span).await
    }

    /// Drills as long as the claim holds and there is time.
    async fn held_drill(
        &self,
        worker: &Worker,
        claimed: &ClaimedDrill,
        emulators: Option<&dyn ScratchEmulators>,
        bounds: &DrillBounds,
    ) -> DrillEnd {
        let _held = self.hold_drill(worker, claimed, &bounds.stop);
        let _clock = bounds.until.map(|(until, _)| {
            let stop = bounds.stop.clone();
            WatchGuard(tokio::spawn(async move {
                sleep_until(until).await;
                stop.request();
            }))
        });
        // boxed: the layout of all steps in one future is more than the compiler computes
        let drilling: BoxFuture<'_, DrillEnd> = Box::pin(self.drilled(worker, claimed, emulators, &bounds.stop));
        let end = match bounds.until {
            None => drilling.await,
            // what it leaves is taken away by the next one
            Some((_, until)) => tokio::time::timeout_at(until, drilling).await.unwrap_or(DrillEnd::Stopped),
        };
        match end {
            DrillEnd::Stopped if bounds.until.is_some_and(|(until, _)| until <= Instant::now()) => DrillEnd::Run {
                outcome: DrillOutcome::OutOfTime,
                documents: 0,
                moments: 0,
                report: None,
                message: Some(OUT_OF_TIME.to_owned()),
            },
            end => end,
        }
    }

    /// Holds a claim until the guard is dropped, and asks the drill to stop once it does not hold any more or is to. Whoever could not
    /// say for so long that they hold it that others may take them for dead has lost it.
    fn hold_drill(&self, worker: &Worker, claimed: &ClaimedDrill, stop: &Stop) -> WatchGuard {
        let (control, worker, claimed, stop) = (self.control.clone(), *worker, claimed.clone(), stop.clone());
        WatchGuard(tokio::spawn(async move {
            let mut held = Instant::now();
            loop {
                tokio::time::sleep(HOLD).await;
                let asked = Instant::now();
                match tokio::time::timeout(HOLD, control.hold_drill(&worker, &claimed)).await {
                    Ok(Ok(HeldDrill::Lost)) => return stop.request(),
                    Ok(Ok(holds)) => {
                        held = asked;
                        if holds == HeldDrill::Stops {
                            stop.request();
                        }
                    }
                    failed => {
                        tracing::warn!(project = %claimed.project, ?failed, "a drill could not be held");
                        if held.elapsed() + HOLD >= LEASE {
                            stop.request();
                        }
                    }
                }
            }
        }))
    }

    async fn drilled(
        &self,
        worker: &Worker,
        claimed: &ClaimedDrill,
        emulators: Option<&dyn ScratchEmulators>,
        stop: &Stop,
    ) -> DrillEnd {
        let work = match self.control.drill_work(worker, claimed).await {
            Ok(Some(work)) => work,
            Ok(None) => {
                let message = "there is no completed backup to restore".to_owned();
                return DrillEnd::NotRun { message, may_pass: false };
            }
            Err(error) => return DrillEnd::from(&error),
        };
        let repository = match self.places.open(&work.place).await {
            Ok(repository) => repository,
            // what a drill is to find
            Err(error) if error.is_of_the_backup() => return unopened(error),
            Err(error) => return not_run(error),
        };
        match repository.manifest(&work.backup).await {
            Ok(_) => {}
            Err(error) if error.is_of_the_backup() => return unreadable(&repository, &work, &error).await,
            Err(error) => return not_run(error),
        }
        match self.exercised(repository, &work, emulators, stop).await {
            Ok(report) => end_of(&report),
            Err(error) if error.is_resumable_stop() && stop.is_requested() => DrillEnd::Stopped,
            Err(error) => not_run(error),
        }
    }

    async fn exercised(
        &self,
        repository: Repository,
        work: &DrillWork,
        emulators: Option<&dyn ScratchEmulators>,
        stop: &Stop,
    ) -> Result<DrillReport, EngineError> {
        let scratch = self.scratch(work, emulators).await?;
        let drill = Drill {
            repository,
            snapshot: work.backup.clone(),
            scratch: scratch.target.clone(),
            options: DrillOptions {
                sample: work.sample,
                moments: work.moments,
                // small enough for a number in any JSON reader
                seed: u64::from(u32::from_le_bytes(self.places.world().bytes())),
                ramp: !scratch.is_emulator,
                take_over: false,
            },
            by: Some(work.by.clone()),
            meter: Arc::default(),
            stop: stop.clone(),
        };
        drill.run().await
    }

    async fn scratch(&self, work: &DrillWork, emulators: Option<&dyn ScratchEmulators>) -> Result<Scratch, PortError> {
        match &work.scratch {
            ScratchWork::Database { access, database } => {
                let is_emulator = matches!(access.credentials, Credentials::Emulator { .. });
                let target = self.projects.target(access, database).await?;
                Ok(Scratch { target, is_emulator, _guard: None })
            }
            ScratchWork::Emulator => {
                let emulators = emulators.ok_or_else(no_emulators)?;
                let documents = work.sample.map_or(work.documents, |sample| sample.min(work.documents));
                let StartedEmulator { host, guard } = emulators.start(documents).await?;
                let credentials = Credentials::Emulator { host, auth_host: None };
                let access = ProjectAccess { google_project: PROJECT.to_owned(), credentials };
                let target = self.projects.target(&access, DEFAULT_DATABASE).await?;
                Ok(Scratch { target, is_emulator: true, _guard: Some(guard) })
            }
        }
    }
}

fn not_run(error: EngineError) -> DrillEnd {
    let StepError { kind, message, .. } = of_engine(error);
    DrillEnd::NotRun { message, may_pass: kind == StepErrorKind::Retryable }
}

fn no_emulators() -> PortError {
    PortError::new(ErrorKind::FailedPrecondition, "start an emulator", "none are started here: name a database")
}

/// A repository that is gone, damaged or not opened by the keys keeps no report.
fn unopened(error: EngineError) -> DrillEnd {
    tracing::warn!(error = %error.in_full(), "the repository of a backup cannot be opened");
    failed(of_repository(error).to_string(), None)
}

/// Keeps a report of a backup whose manifest cannot be read. That it failed counts whether or not that can be done.
async fn unreadable(repository: &Repository, work: &DrillWork, error: &EngineError) -> DrillEnd {
    tracing::warn!(error = %error.in_full(), "a backup cannot be read");
    let scratch = match &work.scratch {
        ScratchWork::Emulator => DatabaseName::new(PROJECT, DEFAULT_DATABASE),
        ScratchWork::Database { access, database } => DatabaseName::new(&access.google_project, database),
    };
    let kept = repository.report_unreadable(&work.backup, work.source.clone(), scratch, error).await;
    if let Err(error) = &kept {
        tracing::warn!(error = %error.in_full(), "the report of a drill could not be kept");
    }
    failed("the manifest of the backup cannot be read".to_owned(), kept.ok().map(|report| report.id))
}

fn failed(message: String, report: Option<JobId>) -> DrillEnd {
    DrillEnd::Run { outcome: DrillOutcome::Failed, documents: 0, moments: 0, report, message: Some(message) }
}

/// What a report comes to, without the names of documents that stand in it.
fn end_of(report: &DrillReport) -> DrillEnd {
    let same: u64 = report.exercises.iter().map(|exercise| exercise.same).sum();
    let message = match (&report.failure, report.has_passed()) {
        (_, true) => None,
        (Some(_), _) => {
            Some("the backup, or a moment, could not be restored to its end: the report says why".to_owned())
        }
        (None, false) => {
            let all = report.documents();
            Some(format!("of {all} documents {same} are as they should be: the report names what differs"))
        }
    };
    DrillEnd::Run {
        outcome: if report.has_passed() { DrillOutcome::Passed } else { DrillOutcome::Failed },
        documents: report.documents(),
        moments: report.moments() as u64,
        report: Some(report.id.clone()),
        message,
    }
}
