//! What is to be done from time to time, and once at the beginning.

use firebackup_bootstrap::MaintenanceTask;
use firebackup_bootstrap::aws::AwsApp;
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;
use serde_json::Value;

/// Does a task; says what it did.
///
/// # Errors
/// When a service fails: the task is done again later.
pub async fn handle(app: AwsApp, event: LambdaEvent<MaintenanceTask>) -> Result<Value, StepError> {
    app.maintenance_until(event.context.deadline()).run(&event.payload).await
}
