//! What schedulers and queues bring: a due time, a job to start, an event to tell.

use aws_lambda_events::event::sqs::SqsMessage;
use firebackup_control::{Control, DeliveryMessage, JobMessage, OrganizationId, ScheduleMessage, StartOutcome};
use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::port::{DomainEvent, StepError, StepErrorKind};
use serde::Deserialize;
use tracing::Instrument;
use tracing::field::Empty;

use crate::failure::{of_control, unreadable};

/// What a scheduler sends.
#[derive(Debug, Clone, Deserialize)]
pub struct Due {
    /// What the schedule was made with.
    pub payload: ScheduleMessage,
    /// Which of its times has come.
    pub scheduled: String,
}

/// What a scheduler puts the due time in for. A local AWS leaves it as it is.
const PLACEHOLDER: &str = "<aws.scheduler.scheduled-time>";

impl Due {
    /// The due time; of a scheduler that does not say, the minute that has just begun.
    fn time(&self, now: Timestamp) -> Result<Timestamp, StepError> {
        if self.scheduled == PLACEHOLDER {
            return Ok(Timestamp::new(now.seconds - now.seconds.rem_euclid(60), 0));
        }
        self.scheduled.parse().map_err(|_| {
            StepError::new(StepErrorKind::Fatal, "the scheduler did not say which time has come".to_owned())
        })
    }
}

/// Makes the backup of a due time; nothing where the schedule is disabled or gone.
///
/// # Errors
/// Retryable when a service failed, otherwise what keeps the backup from being made.
pub async fn schedule_due(control: &Control, due: &Due, now: Timestamp) -> Result<Option<JobId>, StepError> {
    let scheduled = due.time(now)?;
    let worker = control.worker(&due.payload.organization);
    control.schedule_due(&worker, &due.payload.schedule, scheduled).await.map_err(of_control)
}

/// Starts the job that a message of the queue names.
///
/// # Errors
/// Retryable when a service failed: the message is to come again. Fatal when it is no message of ours: after some tries it
/// lies in the dead-letter queue. A job that has to wait for another one is no error: it is asked for again when that ends.
pub async fn start_message(control: &Control, message: &SqsMessage) -> Result<(), StepError> {
    start_job(control, message.body.as_deref().unwrap_or_default()).await.map(drop)
}

/// The same of a message's text; says what became of it.
///
/// # Errors
/// As [`start_message`].
pub async fn start_job(control: &Control, body: &str) -> Result<StartOutcome, StepError> {
    let message: JobMessage = serde_json::from_str(body).map_err(unreadable)?;
    let span = tracing::info_span!("job-start", job = %message.job, request_id = Empty);
    let start = async {
        let worker = control.worker(&message.organization);
        let outcome = control.start_job(&worker, &message.job).await.map_err(of_control)?;
        tracing::info!(outcome = ?outcome, "a job was asked to start");
        Ok(outcome)
    };
    start.instrument(span).await
}

/// What the queue of webhooks brings.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Notice {
    /// A delivery that is to be tried.
    Delivery(DeliveryMessage),
    /// An event, as EventBridge hands it on.
    FromBus {
        /// What was published.
        detail: DomainEvent,
    },
    /// An event.
    Event(DomainEvent),
}

/// Tells webhooks what a message of the queue brings: makes the deliveries of an event, or tries one.
///
/// # Errors
/// As [`start_message`]. What a receiver does is no error: the next try has a message of its own.
pub async fn notify_message(control: &Control, message: &SqsMessage) -> Result<(), StepError> {
    notify(control, message.body.as_deref().unwrap_or_default()).await
}

/// The same of a message's text.
///
/// # Errors
/// As [`notify_message`].
pub async fn notify(control: &Control, body: &str) -> Result<(), StepError> {
    match serde_json::from_str(body).map_err(unreadable)? {
        Notice::Delivery(message) => {
            let worker = control.worker(&message.organization);
            let outcome = control.attempt_delivery(&worker, &message).await.map_err(of_control)?;
            tracing::info!(delivery = %message.delivery, attempt = message.attempt, outcome = ?outcome, "a delivery was due");
        }
        Notice::FromBus { detail: event } | Notice::Event(event) => {
            let told = control.fan_out(&control.worker(&organization_of(&event)?), &event).await.map_err(of_control)?;
            tracing::info!(event = %event.id, kind = %event.kind, told, "webhooks are told of an event");
        }
    }
    Ok(())
}

fn organization_of(event: &DomainEvent) -> Result<OrganizationId, StepError> {
    event
        .organization
        .parse()
        .map_err(|_| StepError::new(StepErrorKind::Fatal, "the event does not say whose it is".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(scheduled: &str) -> Due {
        let ids = ("sched_01JZ0000000000000000000002", "org_01JZ0000000000000000000000");
        let payload = serde_json::json!({"schedule": ids.0, "organization": ids.1});
        serde_json::from_value(serde_json::json!({"payload": payload, "scheduled": scheduled})).unwrap()
    }

    #[test]
    fn a_due_time_is_what_the_scheduler_says() {
        let now = "2026-03-10T02:00:07.5Z".parse().unwrap();
        let time = |text: &str| due(text).time(now).map(|time| time.to_string());
        assert_eq!(time("2026-03-09T02:00:00Z").unwrap(), "2026-03-09T02:00:00Z");
        assert_eq!(time(PLACEHOLDER).unwrap(), "2026-03-10T02:00:00Z");
        assert_eq!(time("soon").unwrap_err().kind, StepErrorKind::Fatal);
    }

    #[test]
    fn a_notice_is_an_event_as_either_bus_brings_it_or_a_delivery() {
        let ulid = "01JZ0000000000000000000000";
        let event = serde_json::json!({
            "id": format!("evt_{ulid}"), "type": "project.created", "timestamp": "2026-03-10T02:00:00Z",
            "organization": format!("org_{ulid}"), "data": {},
        });
        let envelope = serde_json::json!({ "source": "firebackup", "detail-type": "project.created", "detail": event });
        let delivery = serde_json::json!({
            "delivery": format!("dlv_{ulid}"), "webhook": format!("webhook_{ulid}"),
            "organization": format!("org_{ulid}"), "attempt": 2,
        });
        let read = |value: &serde_json::Value| serde_json::from_value::<Notice>(value.clone());
        assert!(matches!(read(&event), Ok(Notice::Event(event)) if event.kind == "project.created"));
        assert!(matches!(read(&envelope), Ok(Notice::FromBus { detail }) if detail.kind == "project.created"));
        assert!(matches!(read(&delivery), Ok(Notice::Delivery(message)) if message.attempt == 2));
        assert!(read(&serde_json::json!({ "detail": {} })).is_err());
        let whose = serde_json::from_value::<DomainEvent>(event).map(|event| organization_of(&event).unwrap());
        assert_eq!(whose.unwrap().to_string(), format!("org_{ulid}"));
    }
}
