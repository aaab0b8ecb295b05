//! Events of a server on one machine, folded as they come: a batch of each database at a time.

use std::sync::Arc;
use std::time::Duration;

use firebackup_control::{DueCapture, WaitingEvents};
use firebackup_model::port::Clock;
use futures::future::ready;
use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::failure::of_control;
use crate::steps::AppSteps;

/// How often it is looked what waits.
const TICK: Duration = Duration::from_secs(1);
/// How many seconds an event waits for others to be folded with.
const GATHER_SECONDS: i64 = 10;
/// How many databases are looked at in one go.
const MOST: u32 = 100;
/// Of how many databases a batch is folded at one time.
const AT_ONCE: usize = 4;
/// How long a database is left alone whose events cannot be folded.
const REST: Duration = Duration::from_secs(30);

/// Folds what waits.
pub(crate) struct Folds {
    steps: AppSteps,
    clock: Arc<dyn Clock>,
    /// Until when those are left alone that could not be folded.
    resting: Vec<(DueCapture, Instant)>,
}

impl Folds {
    pub(crate) fn new(steps: AppSteps, clock: Arc<dyn Clock>) -> Self {
        Self { steps, clock, resting: Vec::new() }
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
        self.resting.retain(|(_, until)| now < *until);
        match self.steps.control.waiting_events(MOST).await.map_err(of_control) {
            Ok(waiting) => {
                let due = waiting.into_iter().filter(|waiting| self.is_due(waiting)).map(|waiting| self.fold(waiting));
                let left: Vec<_> = stream::iter(due).buffer_unordered(AT_ONCE).filter_map(ready).collect().await;
                self.resting.extend(left.into_iter().map(|of| (of, Instant::now() + REST)));
            }
            Err(error) => tracing::warn!(error = %error, "it cannot be looked which events wait"),
        }
    }

    fn is_due(&self, waiting: &WaitingEvents) -> bool {
        waiting.are_due(self.clock.now(), GATHER_SECONDS) && !self.resting.iter().any(|(of, _)| *of == waiting.of)
    }

    /// Folds a batch; gives back of what it could not, which is left alone for a while.
    async fn fold(&self, WaitingEvents { of, .. }: WaitingEvents) -> Option<DueCapture> {
        match self.steps.fold_events(&of).await {
            Ok(Some(_)) => None,
            // no repository yet, or its destination is about to be moved
            Ok(None) => Some(of),
            Err(error) => {
                tracing::warn!(project = %of.project, error = %error, "events could not be folded: they wait");
                Some(of)
            }
        }
    }
}
