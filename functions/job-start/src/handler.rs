//! Messages of the queue become executions of state machines, each on its own.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use firebackup_bootstrap::aws::AwsApp;
use firebackup_bootstrap::{each_message, start_message};
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;

/// Starts the job of each message; says which messages are to come again.
///
/// # Errors
/// None: a message that fails is told by the answer.
pub async fn handle(app: AwsApp, event: LambdaEvent<SqsEvent>) -> Result<SqsBatchResponse, StepError> {
    let start = async |message: &_| start_message(&app.control, message).await;
    Ok(each_message(event.payload, start).await)
}
