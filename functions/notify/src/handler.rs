//! Events of the bus become deliveries to webhooks, and deliveries are tried, each message on its own.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use firebackup_bootstrap::aws::AwsApp;
use firebackup_bootstrap::{each_message, notify_message};
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;

/// Deals with each message; says which are to come again.
///
/// # Errors
/// None: a message that fails is told by the answer.
pub async fn handle(app: AwsApp, event: LambdaEvent<SqsEvent>) -> Result<SqsBatchResponse, StepError> {
    let notify = async |message: &_| notify_message(&app.control, message).await;
    Ok(each_message(event.payload, notify).await)
}
