//! Captures of a server on one machine: whatever is due, at most so many databases at one time.

use std::collections::HashMap;
use std::time::Duration;

use firebackup_control::DueCapture;
use firebackup_engine::Stop;
use tokio::task::{Id, JoinError, JoinSet};

use crate::failure::of_control;
use crate::steps::AppSteps;

/// How often it is looked what is due.
const TICK: Duration = Duration::from_secs(1);
/// How long captures may seal what they heard once the server is to stop. What is cut off goes on where it was.
const PATIENCE: Duration = Duration::from_secs(10);

/// Captures what is due.
pub(crate) struct Captures {
    steps: AppSteps,
    most: usize,
    windows: JoinSet<()>,
    /// Those that go on: which, and what asks them to stop.
    going: HashMap<Id, (DueCapture, Stop)>,
}

impl Captures {
    /// At most so many at one time.
    pub(crate) fn new(steps: AppSteps, most: usize) -> Self {
        Self { steps, most, windows: JoinSet::new(), going: HashMap::new() }
    }

    /// Captures until it is stopped; then those that go on seal what they heard.
    pub(crate) async fn run(mut self, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        loop {
            self.begin_due().await;
            tokio::select! {
                () = &mut stopped => return self.end().await,
                Some(ended) = self.windows.join_next_with_id() => self.forget(ended),
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn begin_due(&mut self) {
        let free = self.most.saturating_sub(self.going.len());
        if free == 0 {
            return;
        }
        // those that go on are due later, unless this process was held up for long
        match self.steps.control.due_captures(self.most as u32 + 1).await.map_err(of_control) {
            Ok(due) => {
                let waits = |due: &DueCapture| self.going.values().all(|(going, _)| going != due);
                let due: Vec<_> = due.into_iter().filter(waits).take(free).collect();
                due.into_iter().for_each(|due| self.begin(due));
            }
            Err(error) => tracing::warn!(error = %error, "it cannot be looked which changes are to be captured"),
        }
    }

    fn begin(&mut self, due: DueCapture) {
        let (steps, stop) = (self.steps.clone(), Stop::default());
        let (what, asked) = (due.clone(), stop.clone());
        let window = self.windows.spawn(async move {
            let project = due.project;
            if let Err(error) = steps.capture_window(due, &asked).await {
                tracing::warn!(project = %project, error = %error, "what came of a window could not be noted");
            }
        });
        self.going.insert(window.id(), (what, stop));
    }

    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(error = %error, "a window ended by a panic");
                error.id()
            }
        };
        self.going.remove(&id);
    }

    async fn end(mut self) {
        self.going.values().for_each(|(_, stop)| stop.request());
        let ended = async { while self.windows.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, ended).await.is_err() {
            tracing::warn!("captures did not end in time: they go on where they were");
        }
        self.windows.shutdown().await;
    }
}
