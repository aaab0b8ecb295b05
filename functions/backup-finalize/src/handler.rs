//! Commits a backup whose chunks are done, or clears away one that failed.

use firebackup_bootstrap::aws::AwsApp;
use firebackup_bootstrap::{FinalizeInput, Finalized};
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;

/// Commits a backup whose chunks are done, or clears away one that failed.
///
/// # Errors
/// `Retryable`, `Fatal` or `Cancelled`, as the state machine matches them.
pub async fn handle(app: AwsApp, event: LambdaEvent<FinalizeInput>) -> Result<Finalized, StepError> {
    app.steps.backup_finalize(event.payload).await
}
