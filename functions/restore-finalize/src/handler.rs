//! Ends a restore whose parts are done, or one that failed: either way what it replaced becomes an undo.

use firebackup_bootstrap::aws::AwsApp;
use firebackup_bootstrap::{FinalizeInput, Finalized};
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;

/// Ends a restore whose parts are done, or one that failed: either way what it replaced becomes an undo.
///
/// # Errors
/// `Retryable`, `Fatal` or `Cancelled`, as the state machine matches them.
pub async fn handle(app: AwsApp, event: LambdaEvent<FinalizeInput>) -> Result<Finalized, StepError> {
    app.steps.restore_finalize(event.payload).await
}
