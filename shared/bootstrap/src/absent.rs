//! Ports that a function does not have. It was built without their clients, and is started sooner for it.

use std::time::Duration;

use async_trait::async_trait;
use firebackup_control::{
    Archive, ArchivePlace, CollectionFindings, ControlError, DestinationAccess, DestinationFindings, Probes,
    ProjectAccess, ProjectFindings,
};
use firebackup_model::port::{
    EncryptionContext, JobQueue, KeyBytes, KeyService, Message, Push, Pushed, ScheduleRule, Scheduler, Started,
    Workflow, WorkflowState, Workflows, WrappedKey,
};
use firebackup_model::{ErrorKind, PortError};
use serde_json::Value;

/// Stands where a function needs no port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Absent;

fn absent(what: &str) -> PortError {
    PortError::new(ErrorKind::Unimplemented, what, "this function is not made for it")
}

#[async_trait]
impl Push for Absent {
    async fn push(&self, _: &str, _: &str) -> Result<Pushed, PortError> {
        Err(absent("send to a live client"))
    }
}

#[async_trait]
impl JobQueue for Absent {
    async fn send(&self, _: &str, _: Duration) -> Result<(), PortError> {
        Err(absent("send a message"))
    }

    async fn receive(&self, _: usize, _: Duration, _: Duration) -> Result<Vec<Message>, PortError> {
        Err(absent("receive messages"))
    }

    async fn delete(&self, _: &str) -> Result<(), PortError> {
        Err(absent("delete a message"))
    }

    async fn release(&self, _: &str, _: Duration) -> Result<(), PortError> {
        Err(absent("give a message back"))
    }

    async fn dead_letters(&self) -> Result<u64, PortError> {
        Err(absent("count dead letters"))
    }

    async fn redrive(&self) -> Result<u64, PortError> {
        Err(absent("move dead letters back"))
    }
}

#[async_trait]
impl Workflows for Absent {
    async fn start(&self, _: Workflow, _: &str, _: &Value) -> Result<Started, PortError> {
        Err(absent("start a workflow"))
    }

    async fn stop(&self, _: Workflow, _: &str, _: &str) -> Result<(), PortError> {
        Err(absent("stop a workflow"))
    }

    async fn state(&self, _: Workflow, _: &str) -> Result<Option<WorkflowState>, PortError> {
        Err(absent("read the state of a workflow"))
    }
}

#[async_trait]
impl Scheduler for Absent {
    async fn put(&self, _: &ScheduleRule) -> Result<(), PortError> {
        Err(absent("store a schedule"))
    }

    async fn remove(&self, _: &str) -> Result<(), PortError> {
        Err(absent("remove a schedule"))
    }

    async fn fires_as(&self, _: &ScheduleRule) -> Result<bool, PortError> {
        Err(absent("look for a schedule"))
    }
}

#[async_trait]
impl KeyService for Absent {
    async fn generate(&self, _: Option<&str>, _: &EncryptionContext) -> Result<(KeyBytes, WrappedKey), PortError> {
        Err(absent("make a key"))
    }

    async fn wrap(&self, _: Option<&str>, _: &KeyBytes, _: &EncryptionContext) -> Result<WrappedKey, PortError> {
        Err(absent("wrap a key"))
    }

    async fn unwrap(&self, _: &WrappedKey, _: &EncryptionContext) -> Result<KeyBytes, PortError> {
        Err(absent("unwrap a key"))
    }

    async fn rewrap(&self, _: &WrappedKey, _: Option<&str>, _: &EncryptionContext) -> Result<WrappedKey, PortError> {
        Err(absent("wrap a key anew"))
    }
}

#[async_trait]
impl Archive for Absent {
    async fn put(&self, _: &ArchivePlace, _: &str, _: Vec<u8>) -> Result<bool, ControlError> {
        Err(absent("put a part of the audit log").into())
    }

    async fn get(&self, _: &ArchivePlace, _: &str, _: u64) -> Result<Option<Vec<u8>>, ControlError> {
        Err(absent("read a part of the audit log").into())
    }
}

#[async_trait]
impl Probes for Absent {
    async fn project(&self, _: &ProjectAccess) -> Result<ProjectFindings, ControlError> {
        Err(absent("look at a project").into())
    }

    async fn collections(&self, _: &ProjectAccess, _: &str) -> Result<CollectionFindings, ControlError> {
        Err(absent("look at collections").into())
    }

    async fn destination(&self, _: &DestinationAccess) -> Result<DestinationFindings, ControlError> {
        Err(absent("look at a destination").into())
    }
}
