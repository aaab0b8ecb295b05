//! Plans a restore: parts that tile what is put back.

use firebackup_bootstrap::aws::AwsApp;
use firebackup_bootstrap::{JobInput, Planned};
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;

/// Plans a restore: parts that tile what is put back.
///
/// # Errors
/// `Retryable`, `Fatal` or `Cancelled`, as the state machine matches them.
pub async fn handle(app: AwsApp, event: LambdaEvent<JobInput>) -> Result<Planned, StepError> {
    app.steps.restore_plan(event.payload).await
}
