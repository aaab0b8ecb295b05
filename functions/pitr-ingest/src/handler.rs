//! A tick asks for what is due, and each database that is due is captured up to now.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use firebackup_bootstrap::aws::AwsApp;
use firebackup_bootstrap::each_message;
use firebackup_model::port::StepError;
use lambda_runtime::LambdaEvent;

/// Does what each message asks for; says which are to come again. A batch has one: what comes behind one that failed must not
/// overtake it.
///
/// # Errors
/// None: a message that fails is told by the answer.
pub async fn handle(app: AwsApp, event: LambdaEvent<SqsEvent>) -> Result<SqsBatchResponse, StepError> {
    let ingest = app.ingest_until(event.context.deadline());
    Ok(each_message(event.payload, async |message| ingest.message(message).await).await)
}
