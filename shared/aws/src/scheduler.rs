//! Schedules of EventBridge Scheduler.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_scheduler::operation::get_schedule::GetScheduleOutput;
use aws_sdk_scheduler::types::{
    DeadLetterConfig, FlexibleTimeWindow, FlexibleTimeWindowMode, RetryPolicy, ScheduleState, Target,
};
use firebackup_model::port::{ScheduleRule, Scheduler};
use firebackup_model::{ErrorKind, PortError};
use serde_json::{Value, json};

use crate::config::AwsClients;
use crate::error::port_error;

/// The time zone of a schedule that names none.
const UTC: &str = "UTC";
const PUT: &str = "store a schedule";
const REMOVE: &str = "remove a schedule";
const READ: &str = "read a schedule";

/// Stands for the time that was due; the scheduler puts it in.
const SCHEDULED: &str = "<aws.scheduler.scheduled-time>";
/// What all such texts begin with.
const PLACEHOLDER: &str = "<aws.scheduler.";
/// A time that could not be told for so long goes to the dead letters: the next is due soon then.
const OLDEST: Duration = Duration::from_secs(60 * 60);
const RETRIES: i32 = 20;
const MAX_NAME: usize = 64;
/// Two who store and remove one schedule at a time can get past each other only so often.
const ATTEMPTS: usize = 4;

/// What schedules are made of beside their rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerSettings {
    /// The schedule group that holds them.
    pub group: String,
    /// The ARN of the function that is called.
    pub target_arn: String,
    /// The ARN of the role that may call it.
    pub role_arn: String,
    /// The ARN of the queue that gets what could not be told.
    pub dead_letter_arn: String,
}

/// EventBridge Scheduler. The function gets `{"payload": …, "scheduled": "2026-01-31T14:03:00Z"}`.
#[derive(Debug, Clone)]
pub struct EventBridgeScheduler {
    client: aws_sdk_scheduler::Client,
    settings: SchedulerSettings,
}

/// A rule in the words of the service.
struct Parts {
    expression: String,
    target: Target,
    window: FlexibleTimeWindow,
    state: ScheduleState,
}

impl EventBridgeScheduler {
    /// The schedules of one group.
    #[must_use]
    pub fn new(clients: &AwsClients, settings: SchedulerSettings) -> Self {
        Self { client: clients.scheduler(), settings }
    }

    fn parts(&self, rule: &ScheduleRule) -> Result<Parts, PortError> {
        let expression = rule.cron.eventbridge().map_err(|error| {
            let message = "EventBridge Scheduler cannot say when it is due";
            invalid(message).with_source(error)
        })?;
        let window = FlexibleTimeWindow::builder().mode(FlexibleTimeWindowMode::Off).build().map_err(incomplete)?;
        let state = if rule.enabled { ScheduleState::Enabled } else { ScheduleState::Disabled };
        Ok(Parts { expression, target: self.target(&rule.payload)?, window, state })
    }

    fn target(&self, payload: &Value) -> Result<Target, PortError> {
        let retries = RetryPolicy::builder().maximum_retry_attempts(RETRIES);
        let retries = retries.maximum_event_age_in_seconds(i32::try_from(OLDEST.as_secs()).unwrap_or(i32::MAX));
        let dead_letters = DeadLetterConfig::builder().arn(&self.settings.dead_letter_arn).build();
        let target = Target::builder().arn(&self.settings.target_arn).role_arn(&self.settings.role_arn);
        let target = target.input(input(payload)?).retry_policy(retries.build()).dead_letter_config(dead_letters);
        target.build().map_err(incomplete)
    }

    async fn create(&self, rule: &ScheduleRule) -> Result<(), PortError> {
        let parts = self.parts(rule)?;
        let request = self.client.create_schedule().group_name(&self.settings.group).name(&rule.name);
        let request = request.schedule_expression(parts.expression).schedule_expression_timezone(rule.cron.timezone());
        let request = request.target(parts.target).flexible_time_window(parts.window).state(parts.state);
        request.send().await.map(drop).map_err(|error| port_error(PUT, error))
    }

    async fn update(&self, rule: &ScheduleRule) -> Result<(), PortError> {
        let parts = self.parts(rule)?;
        let request = self.client.update_schedule().group_name(&self.settings.group).name(&rule.name);
        let request = request.schedule_expression(parts.expression).schedule_expression_timezone(rule.cron.timezone());
        let request = request.target(parts.target).flexible_time_window(parts.window).state(parts.state);
        request.send().await.map(drop).map_err(|error| port_error(PUT, error))
    }

    /// The schedule of this name; a group that is missing is not taken for an answer.
    async fn get(&self, name: &str) -> Result<Option<GetScheduleOutput>, PortError> {
        let request = self.client.get_schedule().group_name(&self.settings.group).name(name);
        match request.send().await.map_err(|error| port_error(READ, error)) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn invalid(message: &str) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, PUT, message)
}

fn incomplete(error: aws_sdk_scheduler::error::BuildError) -> PortError {
    invalid("the schedule is incomplete").with_source(error)
}

/// What the function gets, the time still open. The scheduler replaces its texts wherever they stand: a payload must
/// not hold one.
fn input(payload: &Value) -> Result<String, PortError> {
    if payload.to_string().contains(PLACEHOLDER) {
        return Err(invalid("the payload holds a text that the scheduler would replace"));
    }
    Ok(json!({"payload": payload, "scheduled": SCHEDULED}).to_string())
}

fn check_name(name: &str) -> Result<(), PortError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
        return Err(invalid("the name of a schedule has 1 to 64 letters, digits, `-` and `_`"));
    }
    Ok(())
}

#[async_trait]
impl Scheduler for EventBridgeScheduler {
    async fn put(&self, rule: &ScheduleRule) -> Result<(), PortError> {
        check_name(&rule.name)?;
        for _ in 0..ATTEMPTS {
            match self.create(rule).await {
                Err(error) if error.kind == ErrorKind::AlreadyExists => {}
                other => return other,
            }
            match self.update(rule).await {
                Err(error) if error.kind == ErrorKind::NotFound => {}
                other => return other,
            }
        }
        Err(PortError::new(ErrorKind::Aborted, PUT, "somebody stores and removes it all the time"))
    }

    async fn remove(&self, name: &str) -> Result<(), PortError> {
        let request = self.client.delete_schedule().group_name(&self.settings.group).name(name);
        match request.send().await.map_err(|error| port_error(REMOVE, error)) {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }

    async fn fires_as(&self, rule: &ScheduleRule) -> Result<bool, PortError> {
        let Some(known) = self.get(&rule.name).await? else { return Ok(false) };
        let wanted = self.parts(rule)?;
        let zone = known.schedule_expression_timezone.as_deref().unwrap_or(UTC);
        Ok(known.state == Some(wanted.state)
            && known.schedule_expression.as_deref() == Some(&wanted.expression)
            && zone == rule.cron.timezone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_gets_the_payload_and_the_time() {
        let text = input(&json!({"schedule": "sch_1"})).unwrap();
        let golden = json!({"payload": {"schedule": "sch_1"}, "scheduled": "<aws.scheduler.scheduled-time>"});
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), golden);
    }

    #[test]
    fn a_payload_cannot_hold_what_the_scheduler_replaces() {
        let error = input(&json!({"name": "x <aws.scheduler.schedule-arn>"})).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }
}
