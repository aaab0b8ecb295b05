//! How a destination stands: what a look at it finds, and what jobs find out by using it.

use firebackup_model::Timestamp;
use serde_json::json;

use crate::audit::Act;
use crate::control::Control;
use crate::destination::{Destination, DestinationRecord, DestinationTrouble};
use crate::error::{Code, ControlError, Result};
use crate::id::DestinationId;
use crate::job::{Job, JobErrorCode};
use crate::probes::DestinationFindings;
use crate::record::{MAX_ATTEMPTS, Stored, Written};
use crate::role::Right;
use crate::tenant::{Author, Caller, Worker};

/// What is told where a destination begins to be in trouble, and only then.
const ERROR: &str = "storage.error";
const VERIFIED: &str = "storage.verified";
/// The most characters that are kept of what is wrong.
const MAX_MESSAGE: usize = 1000;

impl Destination {
    /// Takes what a look found.
    pub(crate) fn verified(&mut self, findings: DestinationFindings, now: Timestamp) {
        self.verified_at = now;
        match findings.missing.is_empty() {
            true => self.error = None,
            false => self.in_trouble(&format!("it does not allow to {}", findings.missing.join(", ")), now),
        }
        self.findings = findings;
    }

    /// The first time stays: trouble goes on until a look finds none.
    fn in_trouble(&mut self, message: &str, now: Timestamp) {
        let since = self.error.take().map_or(now, |before| before.since);
        let message = message.chars().take(MAX_MESSAGE).collect();
        self.error = Some(DestinationTrouble { message, since });
    }
}

impl Control {
    /// Looks at a destination again.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`Upstream`](crate::Kind::Upstream) where it cannot be reached.
    pub async fn verify_destination(&self, caller: &Caller, id: &DestinationId) -> Result<DestinationFindings> {
        caller.may(Right::Manage)?;
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.destination_record(caller.scope(), id).await?;
            let organization = self.organization_record(caller.scope()).await?;
            let access = self.destination_access(&organization, &record.value).await?;
            let findings = match self.ports().probes.destination(&access).await {
                Ok(findings) => findings,
                Err(error) => return Err(self.unreachable(caller.author(), id, error).await),
            };
            let was_well = record.value.destination.error.is_none();
            record.value.destination.verified(findings.clone(), self.now());
            let is_new = was_well && record.value.destination.error.is_some();
            let act = Act::new(if is_new { ERROR } else { VERIFIED }, id);
            let act = act.with(json!({ "missing": findings.missing }));
            if self.commit(caller.author(), act, vec![record.replace(None)?]).await? == Written::Yes {
                return Ok(findings);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Keeps that a destination could not be reached, and gives back what is told of it. Whoever asked is told in any case.
    async fn unreachable(&self, author: &Author, id: &DestinationId, error: ControlError) -> ControlError {
        if error.code == Code::DestinationFailed
            && let Err(unnoted) = self.note_trouble(author, id, &error.message).await
        {
            tracing::warn!(destination = %id, error = %unnoted, "what is wrong with a destination could not be noted");
        }
        error
    }

    /// Notes what a job that failed has found out of its destination. The job has ended, whether that succeeds or not.
    pub(crate) async fn note_trouble_of(&self, worker: &Worker, job: &Job) {
        let (id, error) = (job.destination(), job.facts().error.as_ref());
        let Some(error) = error.filter(|error| error.code == JobErrorCode::DestinationFailed) else { return };
        if let Err(unnoted) = self.note_trouble(&worker.author(), &id, &error.message).await {
            tracing::warn!(destination = %id, error = %unnoted, "what is wrong with a destination could not be noted");
        }
    }

    /// Notes that a destination is in trouble, and tells of it where it was not before.
    async fn note_trouble(&self, author: &Author, id: &DestinationId, message: &str) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let record: Option<Stored<DestinationRecord>> = self.load(&author.scope().destination_key(id)).await?;
            let Some(mut record) = record.filter(|record| record.value.destination.error.is_none()) else {
                return Ok(());
            };
            record.value.destination.in_trouble(message, self.now());
            let act = Act::new(ERROR, id).with(json!({ "code": Code::DestinationFailed }));
            if self.commit(author, act, vec![record.replace(None)?]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }
}
