//! One execution, step by step.

use std::sync::Arc;
use std::time::Duration;

use firebackup_model::PortError;
use firebackup_model::port::{Random, StepError, StepErrorKind, Steps};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::executions::{End, Execution, Executions, Failed, Progress};
use super::{POLL, WorkflowOptions};

/// An execution that is being run.
pub(super) struct Run {
    pub(super) execution: Execution,
    pub(super) executions: Executions,
    pub(super) steps: Arc<dyn Steps>,
    pub(super) random: Arc<dyn Random>,
    pub(super) options: WorkflowOptions,
    pub(super) changes: watch::Receiver<()>,
}

/// Why an execution does not go on.
enum Halt {
    /// A step failed for good, or it was stopped.
    Failed(Failed),
    /// It cannot be known how far it came, or not be noted: it goes on later.
    Later(PortError),
}

impl From<PortError> for Halt {
    fn from(error: PortError) -> Self {
        Self::Later(error)
    }
}

impl From<StepError> for Halt {
    fn from(error: StepError) -> Self {
        Self::Failed(Failed { error: error.kind.name().to_owned(), cause: error.message })
    }
}

fn fatal(message: &str) -> Halt {
    StepError::new(StepErrorKind::Fatal, message.to_owned()).into()
}

/// Whether a step is not begun any more once the execution is to be stopped.
#[derive(Clone, Copy, PartialEq)]
enum HeedsStop {
    Yes,
    /// Cleaning up is what is done then.
    No,
}

impl Run {
    /// Runs the execution to its end. When that cannot be noted it gives up for now, after a while.
    pub(super) async fn until_it_ends(self) {
        if let Err(error) = self.advance().await {
            let (workflow, name) = (self.execution.workflow.name(), &self.execution.name);
            tracing::warn!(workflow, name, error = %error, "an execution cannot go on; it is tried again");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn advance(&self) -> Result<(), PortError> {
        let progress = self.executions.progress(&self.execution).await?;
        let halt = match self.go_through(&progress).await {
            Ok(()) => return self.executions.end(&self.execution, End::Succeeded).await,
            Err(halt) => halt,
        };
        match halt {
            Halt::Later(error) => Err(error),
            Halt::Failed(failed) => self.clean_up(&progress.input, failed).await,
        }
    }

    async fn go_through(&self, progress: &Progress) -> Result<(), Halt> {
        if let Some(failed) = &progress.failed {
            return Err(Halt::Failed(failed.clone()));
        }
        let plan = match &progress.plan {
            Some(plan) => plan.clone(),
            None => self.plan(&progress.input).await?,
        };
        let chunks = plan["chunks"].as_u64().ok_or_else(|| fatal("the plan does not say how many chunks it has"))?;
        futures::stream::iter(0..chunks)
            .map(|chunk| self.chunk(&progress.input, chunk))
            .buffer_unordered(self.options.parallel_chunks.max(1))
            .try_collect::<()>()
            .await?;
        self.step("finalize", subject(&progress.input), HeedsStop::Yes).await?;
        Ok(())
    }

    async fn plan(&self, input: &Value) -> Result<Value, Halt> {
        let plan = self.step("plan", input.clone(), HeedsStop::Yes).await?;
        self.executions.note_plan(&self.execution, &plan).await?;
        Ok(plan)
    }

    /// Does a chunk, sequence after sequence. After a restart it begins with the first again, which finds the receipts of
    /// those that were done.
    async fn chunk(&self, input: &Value, chunk: u64) -> Result<(), Halt> {
        let mut sequence = 0;
        loop {
            let mut request = subject(input);
            request["chunk"] = chunk.into();
            request["sequence"] = sequence.into();
            let given = self.step("chunk", request, HeedsStop::Yes).await?;
            if given["done"] == true {
                return Ok(());
            }
            match given["sequence"].as_u64() {
                Some(next) if next > sequence => sequence = next,
                _ => return Err(fatal("a chunk neither ended nor went on")),
            }
        }
    }

    /// Notes what failed first: after a restart nothing but this is left to do.
    async fn clean_up(&self, input: &Value, failed: Failed) -> Result<(), PortError> {
        self.executions.note_failure(&self.execution, &failed).await?;
        let mut request = subject(input);
        request["failed"] = json!(failed);
        match self.step("finalize", request, HeedsStop::No).await {
            Ok(_) => {}
            Err(Halt::Later(error)) => return Err(error),
            Err(Halt::Failed(second)) => {
                let (workflow, name) = (self.execution.workflow.name(), &self.execution.name);
                tracing::error!(workflow, name, cause = %second.cause, "what a failed execution left was not cleaned up");
            }
        }
        let is_cancelled = failed.error == StepErrorKind::Cancelled.name();
        self.executions.end(&self.execution, if is_cancelled { End::Stopped } else { End::Failed }).await
    }

    async fn step(&self, verb: &str, input: Value, heeds_stop: HeedsStop) -> Result<Value, Halt> {
        let step = format!("{}-{verb}", self.execution.workflow.name());
        let mut tries = 1;
        loop {
            if heeds_stop == HeedsStop::Yes {
                self.check_stop().await?;
            }
            let error = match self.try_step(&step, input.clone()).await {
                Ok(given) => return Ok(given),
                Err(error) => error,
            };
            if error.kind != StepErrorKind::Retryable || tries >= self.options.tries {
                return Err(error.into());
            }
            let name = &self.execution.name;
            tracing::warn!(step, name, tries, cause = %error, "a step failed and is tried again");
            self.pause(tries, heeds_stop).await?;
            tries += 1;
        }
    }

    /// In a task of its own, so that a panic ends this try and nothing else. Dropped, it ends the task.
    async fn try_step(&self, step: &str, input: Value) -> Result<Value, StepError> {
        let (steps, step) = (Arc::clone(&self.steps), step.to_owned());
        let mut task = JoinSet::new();
        task.spawn(async move { steps.run(&step, input).await });
        match task.join_next().await {
            Some(Ok(done)) => done,
            // what a panic says may hold anything, and is not for the user
            Some(Err(_)) | None => {
                let message = "the step ended unexpectedly".to_owned();
                Err(StepError::new(StepErrorKind::Retryable, message))
            }
        }
    }

    async fn check_stop(&self) -> Result<(), Halt> {
        match self.executions.stop_reason(&self.execution).await? {
            None => Ok(()),
            Some(reason) => Err(StepError::new(StepErrorKind::Cancelled, reason).into()),
        }
    }

    /// Waits before the next try, unless the execution is stopped.
    async fn pause(&self, tries: u32, heeds_stop: HeedsStop) -> Result<(), Halt> {
        let delay = delay(&self.options, tries, self.random.as_ref());
        if heeds_stop == HeedsStop::No {
            tokio::time::sleep(delay).await;
            return Ok(());
        }
        timeout(delay, self.stopped()).await.unwrap_or(Ok(()))
    }

    /// Ends when the execution is stopped.
    async fn stopped(&self) -> Result<(), Halt> {
        let mut changes = self.changes.clone();
        loop {
            changes.borrow_and_update();
            self.check_stop().await?;
            // why the wait ended does not matter: the next look tells
            let _ = timeout(POLL, changes.changed()).await;
        }
    }
}

/// Whose job it is: what every step is told.
fn subject(input: &Value) -> Value {
    json!({"job": input["job"], "organization": input["organization"]})
}

/// How long to wait after so many tries: twice as long each time, and half of it left to chance.
fn delay(options: &WorkflowOptions, tries: u32, random: &dyn Random) -> Duration {
    let doubled = 2_u32.saturating_pow(tries.saturating_sub(1));
    let most = options.first_delay.saturating_mul(doubled).min(options.most_delay);
    let mut chance = [0; 2];
    random.fill(&mut chance);
    most.mul_f64(0.5 + 0.5 * f64::from(u16::from_le_bytes(chance)) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Always(u8);

    impl Random for Always {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn waits_grow_up_to_a_bound_and_are_spread() {
        let options = WorkflowOptions::default();
        let seconds = |tries, chance| delay(&options, tries, &Always(chance)).as_secs_f64();
        let shortest: Vec<f64> = (1..8).map(|tries| seconds(tries, 0)).collect();
        assert_eq!(shortest, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        let longest: Vec<f64> = (1..8).map(|tries| seconds(tries, 0xff)).collect();
        assert_eq!(longest, [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert_eq!(seconds(u32::MAX, 0xff), 60.0);
    }
}
