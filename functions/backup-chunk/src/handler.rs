//! Does one step of a chunk, and hands over before the time is up.

use firebackup_bootstrap::aws::AwsApp;
use firebackup_bootstrap::{ChunkDone, ChunkInput};
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;

/// Does one step of a chunk, and hands over before the time is up.
///
/// # Errors
/// `Retryable`, `Fatal` or `Cancelled`, as the state machine matches them.
pub async fn handle(app: AwsApp, event: LambdaEvent<ChunkInput>) -> Result<ChunkDone, StepError> {
    app.steps_until(event.context.deadline()).backup_chunk(event.payload).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_event_is_read() {
        firebackup_testkit::events::each("backup-chunk", &["negative"], |text| serde_json::from_str::<ChunkInput>(text).map(drop));
    }
}
