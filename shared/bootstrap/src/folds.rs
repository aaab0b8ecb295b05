//! Events of a server on one machine, folded as they come: a batch of one database at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use firebackup_control::WaitingEvents;
use firebackup_model::port::Clock;
use tokio::time::Instant;

use crate::failure::of_control;
use crate::steps::AppSteps;

/// How often it is looked what waits.
const TICK: Duration = Duration::from_secs(1);
/// How many seconds an event waits for others to be folded with.
const GATHER_SECONDS: i64 = 10;
/// How many databases are looked at in one go.
const MOST: u32 = 100;
/// How long a database is left alone whose events cannot be folded.
const REST: Duration = Duration::from_secs(30);

/// Folds what waits.
pub(crate) struct Folds {
    steps: AppSteps,
    clock: Arc<dyn Clock>,
    /// Until when those are left alone that could not be folded.
    resting: HashMap<String, Instant>,
}

impl Folds {
    pub(crate) fn new(steps: AppSteps, clock: Arc<dyn Clock>) -> Self {
        Self { steps, clock, resting: HashMap::new() }
    }

    /// Folds until it is stopped. A batch that is cut off is folded again.
    pub(crate) async fn run(mut self, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => return,
                () = self.fold_due() => {}
            }
            tokio::select! {
                () = &mut stopped => return,
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn fold_due(&mut self) {
        let now = Instant::now();
        self.resting.retain(|_, until| now < *until);
        match self.steps.control.waiting_events(MOST).await.map_err(of_control) {
            Ok(waiting) => {
                for waiting in waiting {
                    self.fold(&waiting).await;
                }
            }
            Err(error) => tracing::warn!(error = %error, "it cannot be looked which events wait"),
        }
    }

    async fn fold(&mut self, waiting: &WaitingEvents) {
        let name = format!("{}/{}", waiting.of.project, waiting.of.database);
        if !waiting.are_due(self.clock.now(), GATHER_SECONDS) || self.resting.contains_key(&name) {
            return;
        }
        match self.steps.fold_events(&waiting.of).await {
            Ok(Some(_)) => {}
            // no repository yet, or its destination is about to be moved
            Ok(None) => drop(self.resting.insert(name, Instant::now() + REST)),
            Err(error) => {
                tracing::warn!(project = %waiting.of.project, error = %error, "events could not be folded: they wait");
                self.resting.insert(name, Instant::now() + REST);
            }
        }
    }
}
