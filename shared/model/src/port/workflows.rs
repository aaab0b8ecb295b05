//! Chains of steps that go on until they end, whatever dies in between.

use async_trait::async_trait;
use serde_json::Value;

use crate::error::PortError;

/// Which chain of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Workflow {
    /// Plan, chunks, finalize of a backup.
    Backup,
    /// Plan, chunks, finalize of a restore.
    Restore,
}

impl Workflow {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Backup, Self::Restore];

    /// Its name in settings, templates and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }
}

/// What became of a request to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It runs now.
    New,
    /// One of that name was started before, and runs or has ended.
    Before,
}

/// How an execution stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkflowState {
    /// It goes on.
    Running,
    /// All steps were done.
    Succeeded,
    /// A step failed for good.
    Failed,
    /// It was stopped on request.
    Stopped,
}

/// Starts and stops executions of workflows. An execution's name is its job's id: starting twice is starting once.
#[async_trait]
pub trait Workflows: Send + Sync {
    /// Starts an execution named `name` (letters, digits, `-` and `_`, at most 80). `input` is at most 256 KiB.
    async fn start(&self, workflow: Workflow, name: &str, input: &Value) -> Result<Started, PortError>;

    /// Asks an execution to stop. One that has ended, or never was, is no error.
    async fn stop(&self, workflow: Workflow, name: &str, reason: &str) -> Result<(), PortError>;

    /// How an execution stands; nothing when there is none of that name.
    async fn state(&self, workflow: Workflow, name: &str) -> Result<Option<WorkflowState>, PortError>;
}

/// What a step failed with, as the workflow that runs it must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepErrorKind {
    /// The same step may succeed later.
    Retryable,
    /// It never will.
    Fatal,
    /// Somebody asked for the job's end.
    Cancelled,
}

impl StepErrorKind {
    /// The error type that a state machine matches.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retryable => "Retryable",
            Self::Fatal => "Fatal",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// A step that failed. The text is for the user and holds neither a secret nor a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// What the workflow does about it.
    pub kind: StepErrorKind,
    /// Why, with all causes, in one line.
    pub message: String,
    /// What it is, as a program tells it.
    pub code: &'static str,
}

/// What a step fails with where nobody knows better.
pub const JOB_FAILED: &str = "JOB_FAILED";

impl StepError {
    /// A failure of which nobody knows more than the message.
    pub fn new(kind: StepErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), code: JOB_FAILED }
    }
}

/// Does single steps of workflows, JSON in and JSON out: `backup-plan`, `backup-chunk`, `backup-finalize`, and the same of
/// a restore. Every step can be killed at any instruction and run again.
///
/// | step | takes | gives |
/// |---|---|---|
/// | `…-plan` | `{job, organization}` | `{job, organization, chunks}` |
/// | `…-chunk` | `{job, organization, chunk, sequence}` | the same with the next `sequence`, and `done` |
/// | `…-finalize` | `{job, organization}`, after a failure with `failed: {Error, Cause}` | `{job, organization, status}` |
#[async_trait]
pub trait Steps: Send + Sync {
    /// Does one step.
    async fn run(&self, step: &str, input: Value) -> Result<Value, StepError>;
}
