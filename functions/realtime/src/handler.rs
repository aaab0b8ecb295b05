//! Connections come, subscribe and go; events of the bus are told to those that want them.

use firebackup_bootstrap::aws::AwsApp;
use firebackup_bootstrap::{LiveAnswer, LiveInput, live};
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;

/// Deals with what a connection does, or tells live clients of an event.
///
/// # Errors
/// Retryable when a service failed.
pub async fn handle(app: AwsApp, event: LambdaEvent<LiveInput>) -> Result<LiveAnswer, StepError> {
    live(&app.control, event.payload).await
}
