//! What stands around all that is logged of a job: which it is, and which request asked for it.

use std::time::Instant;

use firebackup_control::Job;
use firebackup_model::id::JobId;
use firebackup_model::port::StepError;
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

/// The span of a step. Which request asked for the job is said by the verb that reads the job.
pub(super) fn of_step(step: &'static str, job: &JobId) -> Span {
    tracing::info_span!("step", step, job = %job, request_id = Empty)
}

/// The span in which a job that is known is looked after.
pub(crate) fn of_care(job: &Job) -> Span {
    let request = job.facts().request_id.as_deref().map(display);
    tracing::info_span!("look-after", job = %job.id(), request_id = request)
}

/// Does a step in its span, and logs what it came to and how long it took.
pub(super) async fn within<T>(span: Span, step: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
    let timed = async {
        let began = Instant::now();
        let done = step.await;
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &done {
            Ok(_) => tracing::info!(millis, "a step is done"),
            Err(error) => tracing::warn!(millis, kind = error.kind.name(), error = %error, "a step has failed"),
        }
        done
    };
    timed.instrument(span).await
}
