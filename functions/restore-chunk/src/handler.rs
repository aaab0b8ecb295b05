//! Does one step of a part, and hands over before the time is up.

use firebackup_bootstrap::aws::AwsApp;
use firebackup_bootstrap::{ChunkDone, ChunkInput};
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;

/// Does one step of a part, and hands over before the time is up.
///
/// # Errors
/// `Retryable`, `Fatal` or `Cancelled`, as the state machine matches them.
pub async fn handle(app: AwsApp, event: LambdaEvent<ChunkInput>) -> Result<ChunkDone, StepError> {
    app.steps_until(event.context.deadline()).restore_chunk(event.payload).await
}
