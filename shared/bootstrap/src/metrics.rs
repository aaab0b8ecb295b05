//! What is counted, wherever it goes: lines of a log that CloudWatch reads, or what Prometheus asks for.
//!
//! Names are the same in both. Labels and dimensions are words of which there are few: no id, no path, no organization.

pub(crate) mod emf;
pub(crate) mod prometheus;
#[cfg(test)]
mod samples;

use firebackup_control::{Job, QueuedJobs};
use firebackup_http::Observer;

pub(crate) use emf::Emf;
pub(crate) use prometheus::Prometheus;

/// Takes what is to be counted. Nobody waits for it.
pub(crate) trait Metrics: Observer {
    /// A job has ended. One that is told to have ended once more is counted once more: whoever ended it may have died before
    /// it was counted, and an alarm must not miss it.
    fn job_ended(&self, job: &Job);

    /// So many due times of schedules were not served.
    fn schedules_missed(&self, count: u64);

    /// A drill was run, or could not be.
    fn drill_ended(&self, has_passed: bool);

    /// So many captures are degraded or in error, of all organizations.
    fn captures_degraded(&self, count: u64);

    /// So many jobs are there that have not ended, of all organizations.
    fn jobs_queued(&self, queued: QueuedJobs);
}

/// How long a job ran.
fn seconds_of(job: &Job) -> Option<f64> {
    let facts = job.facts();
    let (began, ended) = (facts.started_at?, facts.ended_at?);
    Some(ended.millis().saturating_sub(began.millis()) as f64 / 1000.0)
}

/// The bytes of a backup's documents.
fn bytes_of(job: &Job) -> Option<u64> {
    match job {
        Job::Backup(backup) => backup.job.result.as_ref().map(|result| result.bytes),
        Job::Restore(_) => None,
    }
}
