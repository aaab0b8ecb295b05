//! What the sweep does about jobs that may have been forgotten.

/// What a job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// Nothing: it has ended, or goes on.
    None,
    /// It waited for too long, and its message was sent again.
    SentAgain,
    /// It was to run and did not: its workflow was started again.
    StartedAgain,
    /// Its workflow has ended without it: run its finalize step (as after a failure), which either adopts what was
    /// committed or ends the job.
    Finalize,
}
