//! Plans a backup: one read time, and chunks that tile what is selected.

use firebackup_bootstrap::aws::AwsApp;
use firebackup_bootstrap::{JobInput, Planned};
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;

/// Plans a backup: one read time, and chunks that tile what is selected.
///
/// # Errors
/// `Retryable`, `Fatal` or `Cancelled`, as the state machine matches them.
pub async fn handle(app: AwsApp, event: LambdaEvent<JobInput>) -> Result<Planned, StepError> {
    app.steps.backup_plan(event.payload).await
}
