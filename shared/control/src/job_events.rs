//! What others are told of jobs, schedules and changes.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::port::DomainEvent;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::audit::AuditEntry;
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::id::{ScheduleId, ulid_of};
use crate::job::{Job, JobStatus, Progress};
use crate::pitr_record::PitrRecord;
use crate::tenant::OrganizationScope;
use crate::webhook_event::EventName;

impl Control {
    pub(crate) async fn publish_started(&self, scope: &OrganizationScope, job: &Job) -> Result<()> {
        let at = job.facts().started_at.unwrap_or(job.facts().created_at);
        self.publish(job_event(scope, job, "started", at)).await
    }

    /// Says how far a job is. Nobody waits for this one: the job goes on whether others can be told or not.
    pub(crate) async fn publish_progress(&self, scope: &OrganizationScope, job: &Job, tenth: u64, progress: &Progress) {
        let mut told = job_event(scope, job, "progress", self.now());
        // of two that are told of one tenth each knows that it is the same
        let begun = job.facts().started_at.unwrap_or(job.facts().created_at);
        told.id = event_id(begun, &format!("{} {} {tenth}", job.id(), told.kind));
        told.data["progress"] = json!(progress);
        if let Err(error) = self.publish(told).await {
            tracing::warn!(job = %job.id(), error = %error, "nobody is told how far a job is");
        }
    }

    /// Says to live clients alone how far a job is. The next second they are told again.
    pub(crate) async fn publish_live_progress(
        &self,
        scope: &OrganizationScope,
        job: &Job,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<()> {
        let mut told = job_event(scope, job, "progress", now);
        told.data["progress"] = json!(progress);
        Ok(self.ports().events.publish_live(&told).await?)
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

    /// Says that a schedule has made a backup: at a due time, or because somebody asked. Nobody waits for this one: the
    /// backup is made whether others can be told or not.
    pub(crate) async fn publish_triggered(
        &self,
        scope: &OrganizationScope,
        schedule: &ScheduleId,
        job: &JobId,
        at: Timestamp,
    ) {
        let name = EventName::ScheduleTriggered.as_str();
        let id = event_id(at, &format!("{schedule} {job} {name}"));
        let data = json!({ "id": schedule, "jobId": job });
        if let Err(error) = self.publish(event(scope, id, name.to_owned(), at, data)).await {
            tracing::warn!(schedule = %schedule, error = %error, "nobody is told that a schedule has made a backup");
        }
    }

    /// Says how many changes were captured since it was said last. Nobody waits for this one either.
    pub(crate) async fn publish_captured(&self, scope: &OrganizationScope, pitr: &PitrRecord, changes: u64) {
        let (at, name) = (self.now(), EventName::PitrChangeCaptured.as_str());
        let facts = &pitr.course.facts;
        let id = event_id(at, &format!("{} {:?} {name}", pitr.id, facts.captured_through));
        let data = json!({
            "id": pitr.id, "projectId": pitr.project_id, "database": pitr.database, "changes": changes,
            "capturedThrough": facts.captured_through, "provenThrough": facts.proven_through,
        });
        if let Err(error) = self.publish(event(scope, id, name.to_owned(), at, data)).await {
            tracing::warn!(pitr = %pitr.id, error = %error, "nobody is told that changes were captured");
        }
    }

    /// Says what was done, where others are told of such. It is done whether they can be told or not.
    pub(crate) async fn publish_done(&self, scope: &OrganizationScope, entry: &AuditEntry) {
        let Some(done) = self.event_of(scope, entry) else { return };
        if let Err(error) = self.publish(done).await {
            tracing::warn!(action = entry.action, error = %error, "nobody is told of a change");
        }
    }

    /// The event that tells of an entry, where one does.
    pub(crate) fn event_of(&self, scope: &OrganizationScope, entry: &AuditEntry) -> Option<DomainEvent> {
        let name = EventName::of_action(&entry.action)?;
        let mut data = entry.details.clone().unwrap_or_else(|| json!({}));
        data["id"] = json!(entry.resource);
        Some(event(scope, entry.id.to_string(), name.as_str().to_owned(), entry.timestamp, data))
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
