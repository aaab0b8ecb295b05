//! Runs workflows in this process, as the state machines on AWS do: plan, chunks side by side, finalize.
//!
//! How far an execution has come stands in the database: killed at any point, it goes on with the next start of the
//! worker. What was under way then is done again, which all steps are made for. So the worker does not wait for steps when it
//! is to end either: it drops them.

mod executions;
mod run;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use firebackup_model::port::{Random, Started, Steps, Workflow, WorkflowState, Workflows};
use firebackup_model::{ErrorKind, PortError};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use self::executions::{Execution, Executions};
use self::run::Run;
use crate::database::Database;
use crate::names;
use crate::sole_worker::SoleWorker;

const START: &str = "start a workflow";
const MAX_NAME: usize = 80;
const MAX_INPUT_BYTES: usize = 256 * 1024;
/// How often to look for what other processes started or stopped.
const POLL: Duration = Duration::from_secs(1);

/// How executions are run.
#[derive(Debug, Clone)]
pub struct WorkflowOptions {
    /// How many chunks of one execution are done at a time; at least one.
    pub parallel_chunks: usize,
    /// How often a step is tried that fails with what may pass; at least once.
    pub tries: u32,
    /// The longest wait before the second try. It doubles with each try; a part of it is left to chance.
    pub first_delay: Duration,
    /// The longest wait before any try.
    pub most_delay: Duration,
}

impl Default for WorkflowOptions {
    fn default() -> Self {
        Self { parallel_chunks: 4, tries: 8, first_delay: Duration::from_secs(2), most_delay: Duration::from_secs(60) }
    }
}

/// The executions of a database file. Clones wake each other.
#[derive(Clone)]
pub struct SqliteWorkflows {
    database: Database,
    executions: Executions,
    random: Arc<dyn Random>,
    options: WorkflowOptions,
    /// Changes when one is started or stopped.
    changes: watch::Sender<()>,
}

impl SqliteWorkflows {
    /// The executions in `database`. They are run while [`Self::run`] is. `random` spreads the times of retries.
    #[must_use]
    pub fn new(database: Database, random: Arc<dyn Random>, options: WorkflowOptions) -> Self {
        let executions = Executions::new(database.clone());
        Self { database, executions, random, options, changes: watch::Sender::new(()) }
    }

    /// Runs executions until `stop` is ready, and drops the steps that are under way then. While another process does so for
    /// the same file, it waits.
    pub async fn run(&self, steps: Arc<dyn Steps>, stop: impl Future<Output = ()>) {
        let work = async {
            let _sole = SoleWorker::wait(self.database.path(), "workflows").await;
            self.run_for_ever(steps).await;
        };
        tokio::select! {
            () = work => {}
            () = stop => {}
        }
    }

    async fn run_for_ever(&self, steps: Arc<dyn Steps>) {
        let mut changes = self.changes.subscribe();
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Id, Execution> = HashMap::new();
        loop {
            // seen before the look: what changes after it is not missed
            changes.borrow_and_update();
            for execution in self.to_run(&running).await {
                let task = tasks.spawn(self.prepare(execution.clone(), &steps).until_it_ends());
                running.insert(task.id(), execution);
            }
            tokio::select! {
                Some(ended) = tasks.join_next_with_id() => {
                    // one that ended before its execution did is begun again
                    running.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
                _ = changes.changed() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// What has not ended and is not being run.
    async fn to_run(&self, running: &HashMap<Id, Execution>) -> BTreeSet<Execution> {
        let mut found = self.executions.not_ended().await.unwrap_or_else(|error| {
            tracing::warn!(error = %error, "executions could not be looked through");
            BTreeSet::new()
        });
        let running: HashSet<&Execution> = running.values().collect();
        found.retain(|execution| !running.contains(execution));
        found
    }

    fn prepare(&self, execution: Execution, steps: &Arc<dyn Steps>) -> Run {
        Run {
            execution,
            executions: self.executions.clone(),
            steps: Arc::clone(steps),
            random: Arc::clone(&self.random),
            options: self.options.clone(),
            changes: self.changes.subscribe(),
        }
    }
}

#[async_trait]
impl Workflows for SqliteWorkflows {
    async fn start(&self, workflow: Workflow, name: &str, input: &Value) -> Result<Started, PortError> {
        names::check(name, MAX_NAME, START)?;
        let input = input.to_string();
        if input.len() > MAX_INPUT_BYTES {
            let message = format!("an input of {} bytes is larger than {MAX_INPUT_BYTES}", input.len());
            return Err(PortError::new(ErrorKind::InvalidArgument, START, message));
        }
        let started = self.executions.start(Execution::new(workflow, name), input).await?;
        self.changes.send_replace(());
        Ok(started)
    }

    async fn stop(&self, workflow: Workflow, name: &str, reason: &str) -> Result<(), PortError> {
        self.executions.stop(Execution::new(workflow, name), reason.to_owned()).await?;
        self.changes.send_replace(());
        Ok(())
    }

    async fn state(&self, workflow: Workflow, name: &str) -> Result<Option<WorkflowState>, PortError> {
        self.executions.state(Execution::new(workflow, name)).await
    }
}
