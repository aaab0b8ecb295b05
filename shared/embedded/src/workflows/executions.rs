//! The rows that executions are.

use std::collections::BTreeSet;

use firebackup_model::PortError;
use firebackup_model::port::{Started, Workflow, WorkflowState};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::START;
use crate::database::{Database, Outcome};

const STOP: &str = "stop a workflow";
const READ: &str = "read the state of a workflow";
const NOTE: &str = "note how far a workflow has come";

/// Names an execution.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Execution {
    pub(super) workflow: Workflow,
    pub(super) name: String,
}

impl Execution {
    pub(super) fn new(workflow: Workflow, name: &str) -> Self {
        Self { workflow, name: name.to_owned() }
    }
}

/// What failed for good, as a finalize step is told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    /// The error type that a state machine matches.
    #[serde(rename = "Error")]
    pub(super) error: String,
    /// Why, in words.
    #[serde(rename = "Cause")]
    pub(super) cause: String,
}

/// How far an execution has come.
pub(super) struct Progress {
    pub(super) input: Value,
    /// What the plan gave, once it was made.
    pub(super) plan: Option<Value>,
    /// What failed; only finalize is left then.
    pub(super) failed: Option<Failed>,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Succeeded,
    Failed,
    Stopped,
}

impl End {
    const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// All executions of a database.
#[derive(Clone)]
pub(super) struct Executions {
    database: Database,
}

impl Executions {
    pub(super) const fn new(database: Database) -> Self {
        Self { database }
    }

    pub(super) async fn start(&self, execution: Execution, input: String) -> Result<Started, PortError> {
        const SQL: &str = "INSERT OR IGNORE INTO executions (workflow, name, input) VALUES (?1, ?2, ?3)";
        let work = move |transaction: &Transaction<'_>| {
            Ok(transaction.execute(SQL, params![execution.workflow.name(), execution.name, input])?)
        };
        let inserted = self.database.write(START, work).await?;
        Ok(if inserted == 1 { Started::New } else { Started::Before })
    }

    /// The first reason counts.
    pub(super) async fn stop(&self, execution: Execution, reason: String) -> Result<(), PortError> {
        const SQL: &str = "UPDATE executions SET stop_reason = coalesce(stop_reason, ?3)
            WHERE workflow = ?1 AND name = ?2 AND ended IS NULL";
        self.note(STOP, execution, SQL, reason).await
    }

    /// One that is to be stopped is as good as stopped: on AWS it is at once.
    pub(super) async fn state(&self, execution: Execution) -> Result<Option<WorkflowState>, PortError> {
        const SQL: &str = "SELECT coalesce(ended, iif(stop_reason IS NULL, 'running', 'stopped')) FROM executions
            WHERE workflow = ?1 AND name = ?2";
        let work = move |transaction: &Transaction<'_>| {
            let values = [execution.workflow.name(), &execution.name];
            Ok(transaction.query_row(SQL, values, |row| row.get::<_, String>(0)).optional()?)
        };
        let state = self.database.read(READ, work).await?;
        Ok(state.map(|state| match state.as_str() {
            "succeeded" => WorkflowState::Succeeded,
            "failed" => WorkflowState::Failed,
            "stopped" => WorkflowState::Stopped,
            _ => WorkflowState::Running,
        }))
    }

    /// Those that have steps left to do.
    pub(super) async fn not_ended(&self) -> Result<BTreeSet<Execution>, PortError> {
        self.database.read(READ, read_not_ended).await
    }

    pub(super) async fn progress(&self, execution: &Execution) -> Result<Progress, PortError> {
        let execution = execution.clone();
        self.database.read(READ, move |transaction| read_progress(transaction, &execution)).await
    }

    pub(super) async fn stop_reason(&self, execution: &Execution) -> Result<Option<String>, PortError> {
        const SQL: &str = "SELECT stop_reason FROM executions WHERE workflow = ?1 AND name = ?2";
        let execution = execution.clone();
        let work = move |transaction: &Transaction<'_>| {
            Ok(transaction.query_row(SQL, [execution.workflow.name(), &execution.name], |row| row.get(0))?)
        };
        self.database.read(READ, work).await
    }

    pub(super) async fn note_plan(&self, execution: &Execution, plan: &Value) -> Result<(), PortError> {
        const SQL: &str = "UPDATE executions SET plan = ?3 WHERE workflow = ?1 AND name = ?2";
        self.note(NOTE, execution.clone(), SQL, plan.to_string()).await
    }

    pub(super) async fn note_failure(&self, execution: &Execution, failed: &Failed) -> Result<(), PortError> {
        const SQL: &str = "UPDATE executions SET failure = ?3 WHERE workflow = ?1 AND name = ?2";
        let failed = serde_json::json!(failed).to_string();
        self.note(NOTE, execution.clone(), SQL, failed).await
    }

    /// Who was told that it is stopped is never told otherwise.
    pub(super) async fn end(&self, execution: &Execution, end: End) -> Result<(), PortError> {
        const SQL: &str = "UPDATE executions SET plan = NULL, ended = iif(stop_reason IS NULL, ?3, 'stopped')
            WHERE workflow = ?1 AND name = ?2";
        self.note(NOTE, execution.clone(), SQL, end.name().to_owned()).await
    }

    async fn note(
        &self,
        operation: &'static str,
        execution: Execution,
        sql: &'static str,
        value: String,
    ) -> Result<(), PortError> {
        let work = move |transaction: &Transaction<'_>| {
            transaction.execute(sql, [execution.workflow.name(), &execution.name, &value])?;
            Ok(())
        };
        self.database.write(operation, work).await
    }
}

fn read_not_ended(transaction: &Transaction<'_>) -> Outcome<BTreeSet<Execution>> {
    const SQL: &str = "SELECT name FROM executions WHERE workflow = ?1 AND ended IS NULL";
    let mut found = BTreeSet::new();
    for workflow in Workflow::ALL {
        let mut statement = transaction.prepare(SQL)?;
        for name in statement.query_map([workflow.name()], |row| row.get(0))? {
            found.insert(Execution { workflow, name: name? });
        }
    }
    Ok(found)
}

fn read_progress(transaction: &Transaction<'_>, execution: &Execution) -> Outcome<Progress> {
    const SQL: &str = "SELECT input, plan, failure FROM executions WHERE workflow = ?1 AND name = ?2";
    let values = [execution.workflow.name(), &execution.name];
    let (input, plan, failed): (String, Option<String>, Option<String>) =
        transaction.query_row(SQL, values, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(Progress {
        input: serde_json::from_str(&input)?,
        plan: plan.as_deref().map(serde_json::from_str).transpose()?,
        failed: failed.as_deref().map(serde_json::from_str).transpose()?,
    })
}
