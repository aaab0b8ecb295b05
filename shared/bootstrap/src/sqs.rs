//! Messages of SQS, each on its own: one that fails does not bring the others back.

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use firebackup_model::port::StepError;

/// Deals with each message; says which failed and are to come again.
pub async fn each_message<F>(event: SqsEvent, mut handle: F) -> SqsBatchResponse
where
    F: AsyncFnMut(&SqsMessage) -> Result<(), StepError>,
{
    let mut response = SqsBatchResponse::default();
    for message in event.records {
        let Err(error) = handle(&message).await else { continue };
        let id = message.message_id.clone().unwrap_or_default();
        tracing::warn!(message = %id, error = %error, "a message failed, and comes again");
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id;
        response.batch_item_failures.push(failure);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_model::port::StepErrorKind;
    use serde_json::json;

    #[tokio::test]
    async fn only_what_failed_comes_again() {
        let record = |id: &str, body: &str| json!({"messageId": id, "body": body});
        let event: SqsEvent =
            serde_json::from_value(json!({"Records": [record("a", "good"), record("b", "bad"), record("c", "good")]}))
                .unwrap();
        let mut seen = Vec::new();
        let response = each_message(event, async |message| {
            let body = message.body.clone().unwrap_or_default();
            seen.push(body.clone());
            match body.as_str() {
                "bad" => Err(StepError::new(StepErrorKind::Fatal, "bad".to_owned())),
                _ => Ok(()),
            }
        })
        .await;
        let failed: Vec<_> = response.batch_item_failures.iter().map(|item| item.item_identifier.as_str()).collect();
        assert_eq!((seen.len(), failed), (3, vec!["b"]));
    }
}
