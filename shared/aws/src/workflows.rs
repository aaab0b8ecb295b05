//! Workflows as executions of Step Functions.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_sfn::types::ExecutionStatus;
use firebackup_model::port::{Started, StepErrorKind, Workflow, WorkflowState, Workflows};
use firebackup_model::{ErrorKind, PortError};
use serde_json::Value;

use crate::config::AwsClients;
use crate::error::port_error;

const OPEN: &str = "use a state machine";
const START: &str = "start a workflow";
const STOP: &str = "stop a workflow";
const STATE: &str = "ask how a workflow stands";

/// What Step Functions takes as input.
const MAX_INPUT_BYTES: usize = 256 * 1024;
const MAX_NAME: usize = 80;
/// The longest text that Step Functions keeps as the reason of an end, in characters.
const MAX_REASON: usize = 32_768;

/// One standard state machine a workflow. The ARN of an execution follows from its name, so that none is kept.
#[derive(Debug, Clone)]
pub struct StepFunctions {
    client: aws_sdk_sfn::Client,
    machines: BTreeMap<Workflow, Machine>,
}

/// A state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Machine {
    arn: String,
    /// What the ARNs of its executions begin with.
    executions: String,
}

impl Machine {
    fn of(arn: &str) -> Option<Self> {
        let parts: Vec<_> = arn.split(':').collect();
        let ["arn", partition, "states", region, account, "stateMachine", name] = parts[..] else { return None };
        let filled = [partition, region, account, name].iter().all(|part| !part.is_empty());
        let executions = format!("arn:{partition}:states:{region}:{account}:execution:{name}");
        filled.then(|| Self { arn: arn.to_owned(), executions })
    }
}

impl StepFunctions {
    /// Workflows by the ARNs of their state machines.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when an ARN is not that of a state machine.
    pub fn new(
        clients: &AwsClients,
        machines: impl IntoIterator<Item = (Workflow, String)>,
    ) -> Result<Self, PortError> {
        let machines = machines.into_iter().map(|(workflow, arn)| {
            let machine = Machine::of(&arn);
            let wrong = || invalid(OPEN, format!("the ARN for {} is not that of a state machine", workflow.name()));
            Ok((workflow, machine.ok_or_else(wrong)?))
        });
        Ok(Self { client: clients.sfn(), machines: machines.collect::<Result<_, PortError>>()? })
    }

    fn machine(&self, operation: &str, workflow: Workflow) -> Result<&Machine, PortError> {
        let missing = || invalid(operation, format!("there is no state machine for {}", workflow.name()));
        self.machines.get(&workflow).ok_or_else(missing)
    }

    fn execution(&self, operation: &str, workflow: Workflow, name: &str) -> Result<String, PortError> {
        check_name(operation, name)?;
        Ok(format!("{}:{name}", self.machine(operation, workflow)?.executions))
    }

    async fn status(&self, operation: &str, execution: &str) -> Result<Option<WorkflowState>, PortError> {
        let answer = self.client.describe_execution().execution_arn(execution).send().await;
        match answer.map_err(|error| port_error(operation, error)) {
            Ok(answer) => state_of(operation, &answer.status).map(Some),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn invalid(operation: &str, message: impl Into<String>) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, operation, message)
}

fn check_name(operation: &str, name: &str) -> Result<(), PortError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
        return Err(invalid(operation, "the name of an execution has 1 to 80 letters, digits, `-` and `_`"));
    }
    Ok(())
}

fn state_of(operation: &str, status: &ExecutionStatus) -> Result<WorkflowState, PortError> {
    match status {
        ExecutionStatus::Running | ExecutionStatus::PendingRedrive => Ok(WorkflowState::Running),
        ExecutionStatus::Succeeded => Ok(WorkflowState::Succeeded),
        ExecutionStatus::Failed | ExecutionStatus::TimedOut => Ok(WorkflowState::Failed),
        ExecutionStatus::Aborted => Ok(WorkflowState::Stopped),
        other => Err(PortError::new(ErrorKind::Corrupt, operation, format!("its state is {other}"))),
    }
}

#[async_trait]
impl Workflows for StepFunctions {
    /// Step Functions says *started* to whoever starts a running execution with its own input once more, so it is asked
    /// first. Two who start at the same moment may both be told [`Started::New`]; there is one execution all the same.
    async fn start(&self, workflow: Workflow, name: &str, input: &Value) -> Result<Started, PortError> {
        let execution = self.execution(START, workflow, name)?;
        let input = input.to_string();
        if input.len() > MAX_INPUT_BYTES {
            return Err(invalid(START, "the input is larger than 256 KiB"));
        }
        if self.status(START, &execution).await?.is_some() {
            return Ok(Started::Before);
        }
        let machine = self.machine(START, workflow)?;
        let request = self.client.start_execution().state_machine_arn(&machine.arn).name(name).input(input);
        match request.send().await.map_err(|error| port_error(START, error)) {
            Ok(_) => Ok(Started::New),
            Err(error) if error.kind == ErrorKind::AlreadyExists => Ok(Started::Before),
            Err(error) => Err(error),
        }
    }

    async fn stop(&self, workflow: Workflow, name: &str, reason: &str) -> Result<(), PortError> {
        let execution = self.execution(STOP, workflow, name)?;
        let reason: String = reason.chars().take(MAX_REASON).collect();
        let request = self.client.stop_execution().execution_arn(&execution);
        let request = request.error(StepErrorKind::Cancelled.name()).cause(reason);
        match request.send().await.map_err(|error| port_error(STOP, error)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            // whatever the service says to the end of what has ended, it has ended
            Err(error) => match self.status(STOP, &execution).await {
                Ok(Some(WorkflowState::Running)) | Err(_) => Err(error),
                Ok(_) => Ok(()),
            },
        }
    }

    async fn state(&self, workflow: Workflow, name: &str) -> Result<Option<WorkflowState>, PortError> {
        let execution = self.execution(STATE, workflow, name)?;
        self.status(STATE, &execution).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_found_by_the_name_of_their_machine() {
        let arn = "arn:aws-cn:states:cn-north-1:111122223333:stateMachine:firebackup-backup";
        let executions = "arn:aws-cn:states:cn-north-1:111122223333:execution:firebackup-backup";
        let machine = Machine { arn: arn.to_owned(), executions: executions.to_owned() };
        assert_eq!(Machine::of(arn), Some(machine));
        for wrong in [
            "",
            "firebackup-backup",
            "arn:aws:states:eu-central-1:111122223333:execution:firebackup-backup:bkp_1",
            "arn:aws:states:eu-central-1:111122223333:stateMachine:",
            "arn:aws:states:eu-central-1:111122223333:stateMachine:firebackup-backup:live",
            "arn:aws:lambda:eu-central-1:111122223333:stateMachine:firebackup-backup",
        ] {
            assert_eq!(Machine::of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_that_could_mean_another_execution_is_refused() {
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["", "a:b", "a b", "a/b", "ä", &long] {
            assert_eq!(check_name("test", name).unwrap_err().kind, ErrorKind::InvalidArgument, "{name}");
        }
        assert!(check_name("test", &"x".repeat(MAX_NAME)).is_ok());
        assert!(check_name("test", "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV-2").is_ok());
    }

    #[test]
    fn every_state_of_an_execution_is_understood() {
        for (status, state) in [
            (ExecutionStatus::Running, WorkflowState::Running),
            (ExecutionStatus::PendingRedrive, WorkflowState::Running),
            (ExecutionStatus::Succeeded, WorkflowState::Succeeded),
            (ExecutionStatus::Failed, WorkflowState::Failed),
            (ExecutionStatus::TimedOut, WorkflowState::Failed),
            (ExecutionStatus::Aborted, WorkflowState::Stopped),
        ] {
            assert_eq!(state_of("test", &status).unwrap(), state);
        }
        assert_eq!(state_of("test", &"NEW".into()).unwrap_err().kind, ErrorKind::Corrupt);
    }
}
