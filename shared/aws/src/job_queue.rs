//! The queue on SQS.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::operation::delete_message::DeleteMessageError;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};
use firebackup_model::port::{JobQueue, MAX_DELAY, MAX_MESSAGE_BYTES, MAX_MESSAGES, Message, Turn};
use firebackup_model::{ErrorKind, PortError};

use crate::config::{ATTEMPT_LIMIT, AwsClients};
use crate::error::{kind_of_code, port_error};

const SEND: &str = "send a message";
const RECEIVE: &str = "receive messages";
const DELETE: &str = "delete a message";
const RELEASE: &str = "give a message back";
const DEAD_LETTERS: &str = "count the dead letters";
const REDRIVE: &str = "move the dead letters back";

/// What SQS waits at most for a message.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// What SQS hides a message for at most.
const LONGEST_HIDING: Duration = Duration::from_secs(12 * 60 * 60);
/// Dead letters are hidden for so long while they are moved.
const MOVE_LIMIT: Duration = Duration::from_secs(60);
/// The most that one call moves, so that it ends though messages fail again meanwhile.
const MOST_MOVED: u64 = 10_000;

/// A queue of SQS, with the dead-letter queue that its redrive policy names. Times are whole seconds; a part of one counts as
/// one. To one of kind FIFO messages are sent in turn only.
#[derive(Debug, Clone)]
pub struct SqsJobQueue {
    client: aws_sdk_sqs::Client,
    url: String,
    dead_letter_url: String,
}

impl SqsJobQueue {
    /// The queue at `url` and its dead-letter queue.
    #[must_use]
    pub fn new(clients: &AwsClients, url: impl Into<String>, dead_letter_url: impl Into<String>) -> Self {
        Self { client: clients.sqs(), url: url.into(), dead_letter_url: dead_letter_url.into() }
    }

    async fn receive_from(
        &self,
        operation: &str,
        url: &str,
        most: usize,
        wait: Duration,
        hidden: Duration,
    ) -> Result<Vec<aws_sdk_sqs::types::Message>, PortError> {
        let wait = whole_seconds(wait.min(LONGEST_WAIT));
        let request = self.client.receive_message().queue_url(url).max_number_of_messages(message_count(most));
        let request = request.message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let request = request.message_system_attribute_names(MessageSystemAttributeName::MessageGroupId);
        let request = request.wait_time_seconds(wait).visibility_timeout(whole_seconds(hidden.min(LONGEST_HIDING)));
        // a long poll is answered after its wait: that is no time-out
        let limit = Duration::from_secs(wait.unsigned_abs().into()) + ATTEMPT_LIMIT;
        let limits = TimeoutConfig::builder().read_timeout(limit).operation_attempt_timeout(limit);
        let config = aws_sdk_sqs::Config::builder().timeout_config(limits.operation_timeout(limit * 2).build());
        let answer = request.customize().config_override(config).send().await;
        Ok(answer.map_err(|error| port_error(operation, error))?.messages.unwrap_or_default())
    }

    /// Moves some dead letters; says how many, and how many there were.
    async fn move_some(&self) -> Result<(u64, usize), PortError> {
        // the shortest long poll asks all servers of the queue, where a short one asks some
        let wait = Duration::from_secs(1);
        let letters = self.receive_from(REDRIVE, &self.dead_letter_url, MAX_MESSAGES, wait, MOVE_LIMIT).await?;
        if letters.is_empty() {
            return Ok((0, 0));
        }
        let sent = self.send_all(&letters).await?;
        self.forget(&letters, &sent).await?;
        Ok((sent.len() as u64, letters.len()))
    }

    /// Sends the letters to the queue; the places of those that it took.
    async fn send_all(&self, letters: &[aws_sdk_sqs::types::Message]) -> Result<Vec<usize>, PortError> {
        let entries = letters.iter().enumerate().map(|(index, letter)| {
            let entry = SendMessageBatchRequestEntry::builder().id(index.to_string());
            let entry = entry.message_body(letter.body().unwrap_or_default()).set_message_group_id(group_of(letter));
            // by its first id it would not be taken, if that was just now
            let id = group_of(letter).and_then(|_| letter.message_id.clone());
            entry.set_message_deduplication_id(id).build()
        });
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(|error| corrupt(REDRIVE).with_source(error))?;
        let request = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries));
        let answer = request.send().await.map_err(|error| port_error(REDRIVE, error))?;
        let sent: Vec<usize> = answer.successful.iter().filter_map(|entry| entry.id.parse().ok()).collect();
        match answer.failed.first() {
            Some(failed) if sent.is_empty() => Err(not_taken(&failed.code)),
            _ => Ok(sent),
        }
    }

    /// Deletes the letters that were sent. One that cannot be deleted is delivered twice, which everybody expects.
    async fn forget(&self, letters: &[aws_sdk_sqs::types::Message], sent: &[usize]) -> Result<(), PortError> {
        let receipts = sent.iter().filter_map(|index| Some((index, letters.get(*index)?.receipt_handle()?)));
        let entries = receipts.map(|(index, receipt)| {
            DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(receipt).build()
        });
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(|error| corrupt(REDRIVE).with_source(error))?;
        let request = self.client.delete_message_batch().queue_url(&self.dead_letter_url).set_entries(Some(entries));
        request.send().await.map(drop).map_err(|error| port_error(REDRIVE, error))
    }
}

/// The group of a message, where its queue has some.
fn group_of(message: &aws_sdk_sqs::types::Message) -> Option<String> {
    message.attributes.as_ref()?.get(&MessageSystemAttributeName::MessageGroupId).cloned()
}

/// What may be sent has a body, and not too large a one.
fn check_body(body: &str) -> Result<(), PortError> {
    match body.is_empty() || body.len() > MAX_MESSAGE_BYTES {
        true => Err(invalid(SEND, "a message has 1 byte to 256 KiB")),
        false => Ok(()),
    }
}

fn is_unknown_receipt(error: &SdkError<DeleteMessageError>) -> bool {
    error.as_service_error().is_some_and(DeleteMessageError::is_receipt_handle_is_invalid)
}

fn not_taken(code: &str) -> PortError {
    PortError::new(kind_of_code(code), REDRIVE, format!("the queue took none of them ({code})"))
}

fn corrupt(operation: &str) -> PortError {
    PortError::new(ErrorKind::Corrupt, operation, "a message lacks a part")
}

fn invalid(operation: &str, message: &str) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, operation, message)
}

/// SQS counts whole seconds.
fn whole_seconds(time: Duration) -> i32 {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

fn message_count(most: usize) -> i32 {
    i32::try_from(most.clamp(1, MAX_MESSAGES)).unwrap_or(1)
}

fn message_of(message: aws_sdk_sqs::types::Message) -> Result<Message, PortError> {
    let deliveries = message.attributes.as_ref().and_then(|attributes| {
        attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount)?.parse::<u32>().ok()
    });
    match (message.body, message.receipt_handle, deliveries) {
        (Some(body), Some(receipt), Some(deliveries)) => Ok(Message { body, receipt, deliveries }),
        _ => Err(corrupt(RECEIVE)),
    }
}

#[async_trait]
impl JobQueue for SqsJobQueue {
    async fn send(&self, body: &str, delay: Duration) -> Result<(), PortError> {
        check_body(body)?;
        if delay > MAX_DELAY {
            return Err(invalid(SEND, "a message is held back for 15 minutes at most"));
        }
        let request = self.client.send_message().queue_url(&self.url).message_body(body);
        let request = request.delay_seconds(whole_seconds(delay));
        request.send().await.map(drop).map_err(|error| port_error(SEND, error))
    }

    async fn send_in_turn(&self, body: &str, turn: Turn<'_>) -> Result<(), PortError> {
        check_body(body)?;
        let request = self.client.send_message().queue_url(&self.url).message_body(body);
        let request = request.message_group_id(turn.group).message_deduplication_id(turn.id);
        request.send().await.map(drop).map_err(|error| port_error(SEND, error))
    }

    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Message>, PortError> {
        let messages = self.receive_from(RECEIVE, &self.url, most, wait, hidden).await?;
        messages.into_iter().map(message_of).collect()
    }

    async fn delete(&self, receipt: &str) -> Result<(), PortError> {
        let request = self.client.delete_message().queue_url(&self.url).receipt_handle(receipt);
        match request.send().await {
            // a server that has forgotten the message has forgotten its receipt too
            Err(error) if is_unknown_receipt(&error) => Ok(()),
            other => other.map(drop).map_err(|error| port_error(DELETE, error)),
        }
    }

    async fn release(&self, receipt: &str, delay: Duration) -> Result<(), PortError> {
        if delay > LONGEST_HIDING {
            return Err(invalid(RELEASE, "a message is hidden for 12 hours at most"));
        }
        let request = self.client.change_message_visibility().queue_url(&self.url).receipt_handle(receipt);
        let answer = request.visibility_timeout(whole_seconds(delay)).send().await;
        match answer.map_err(|error| port_error(RELEASE, error)) {
            // it is nobody's any more: that is what was asked for
            Err(error) if error.kind == ErrorKind::FailedPrecondition => Ok(()),
            other => other.map(drop),
        }
    }

    async fn dead_letters(&self) -> Result<u64, PortError> {
        let request = self.client.get_queue_attributes().queue_url(&self.dead_letter_url);
        let request = request.attribute_names(QueueAttributeName::ApproximateNumberOfMessages);
        let answer = request.send().await.map_err(|error| port_error(DEAD_LETTERS, error))?;
        let count = answer
            .attributes
            .as_ref()
            .and_then(|attributes| attributes.get(&QueueAttributeName::ApproximateNumberOfMessages)?.parse().ok());
        count.ok_or_else(|| PortError::new(ErrorKind::Corrupt, DEAD_LETTERS, "the answer lacks the number"))
    }

    /// Moves them one batch after the other, so that how many is known; SQS's own task does not say.
    async fn redrive(&self) -> Result<u64, PortError> {
        let mut moved = 0;
        while moved < MOST_MOVED {
            let (some, seen) = self.move_some().await?;
            moved += some;
            if seen == 0 {
                break;
            }
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_second_counts_as_one() {
        for (millis, seconds) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (900_000, 900)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds, "{millis}");
        }
        assert_eq!(whole_seconds(Duration::MAX), i32::MAX);
    }

    #[test]
    fn no_more_is_asked_for_than_sqs_gives() {
        for (asked, count) in [(0, 1), (1, 1), (10, 10), (11, 10), (usize::MAX, 10)] {
            assert_eq!(message_count(asked), count);
        }
    }

    #[test]
    fn a_message_without_a_count_of_deliveries_is_told() {
        let builder = aws_sdk_sqs::types::Message::builder().body("x").receipt_handle("r");
        assert_eq!(message_of(builder.clone().build()).unwrap_err().kind, ErrorKind::Corrupt);
        let counted = builder.attributes(MessageSystemAttributeName::ApproximateReceiveCount, "3").build();
        let message = Message { body: "x".to_owned(), receipt: "r".to_owned(), deliveries: 3 };
        assert_eq!(message_of(counted).unwrap(), message);
    }
}
