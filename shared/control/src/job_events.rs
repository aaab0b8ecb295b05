//! What others are told of jobs and schedules.

use firebackup_model::Timestamp;
use firebackup_model::port::DomainEvent;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::id::{ScheduleId, ulid_of};
use crate::job::{Job, JobStatus};
use crate::tenant::OrganizationScope;

impl Control {
    pub(crate) async fn publish_started(&self, scope: &OrganizationScope, job: &Job) -> Result<()> {
        let at = job.facts().started_at.unwrap_or(job.facts().created_at);
        self.publish(job_event(scope, job, "started", at)).await
    }

    /// Says how a job has ended.
    pub(crate) async fn publish_ended(&self, scope: &OrganizationScope, job: &Job) -> Result<()> {
        let what = match job.status() {
            JobStatus::Completed => "completed",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
            JobStatus::Pending | JobStatus::Running | JobStatus::Cancelling | JobStatus::Deleting => return Ok(()),
        };
        let at = job.facts().ended_at.unwrap_or(job.facts().created_at);
        self.publish(job_event(scope, job, what, at)).await
    }

    /// Says that a schedule was due and made no job.
    pub(crate) async fn publish_schedule_failed(
        &self,
        scope: &OrganizationScope,
        schedule: &ScheduleId,
        scheduled: Timestamp,
        reason: &ControlError,
    ) -> Result<()> {
        let kind = "schedule.failed";
        let id = event_id(scheduled, &format!("{schedule} {scheduled} {kind}"));
        let data = json!({
            "id": schedule, "scheduled": scheduled,
            "error": { "code": reason.code, "message": reason.message },
        });
        self.publish(event(scope, id, kind.to_owned(), scheduled, data)).await
    }

    async fn publish(&self, event: DomainEvent) -> Result<()> {
        Ok(self.ports().events.publish(&[event]).await?)
    }
}

fn event(scope: &OrganizationScope, id: String, kind: String, timestamp: Timestamp, data: Value) -> DomainEvent {
    DomainEvent { id, kind, timestamp, organization: scope.organization().to_string(), data }
}

/// What happened to a job. Saying it twice says the same, id and time included.
fn job_event(scope: &OrganizationScope, job: &Job, what: &str, at: Timestamp) -> DomainEvent {
    let kind = format!("{}.{what}", job.noun());
    let facts = job.facts();
    let mut data = json!({
        "id": facts.id,
        "projectId": job.project(),
        "storageDestinationId": job.destination(),
        "status": facts.status,
    });
    if let Job::Backup(backup) = job
        && let Some(schedule) = &backup.schedule_id
    {
        data["scheduleId"] = json!(schedule);
    }
    if let Some(result) = &facts.result {
        // not the preview of a dry run: it names documents
        data["result"] = json!({ "documents": result.documents, "bytes": result.bytes, "stored": result.stored });
    }
    if let Some(error) = &facts.error {
        data["error"] = json!({ "code": error.code });
    }
    event(scope, event_id(at, &format!("{} {kind}", facts.id)), kind, at, data)
}

/// An id that is made of what happened, so that whoever is told twice can know.
fn event_id(at: Timestamp, what: &str) -> String {
    format!("evt_{}", ulid_of(at, &Sha256::digest(what).into()))
}
