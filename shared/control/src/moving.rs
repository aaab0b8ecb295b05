//! What a destination may be used for while everything in it is being moved to another.
//!
//! While objects are copied it is used as ever, but nothing is deleted in it: what was copied would come back. While records
//! are switched nothing new begins in it either: what a schedule makes, and what goes to the default, goes to the target.
//! Whoever begins something holds the version of the destination's record in its transaction, and each of these steps
//! changes that record: so who came first is seen by the other.

use firebackup_model::port::ItemWrite;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::control::Control;
use crate::destination::DestinationRecord;
use crate::error::{Code, ControlError, Result};
use crate::id::{DestinationId, ProjectId};
use crate::job::Job;
use crate::record::Stored;
use crate::tenant::OrganizationScope;

/// In which way a destination takes part in a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "direction")]
pub(crate) enum Moving {
    /// Everything in it goes to another.
    Out {
        /// Which.
        to: DestinationId,
        /// Whether all is copied that was there, and records are about to name the other.
        switching: bool,
    },
    /// Everything in another comes to it.
    In {
        /// Which.
        from: DestinationId,
    },
}

impl Moving {
    /// Goes on only if something new may use the destination.
    pub(crate) fn check_usable(&self) -> Result<()> {
        match self {
            Self::Out { to, switching: true } => Err(refused(
                "everything in the destination is about to be in another",
                &format!("name {to}, or wait until the migration has ended"),
            )),
            Self::Out { .. } | Self::In { .. } => Ok(()),
        }
    }

    /// Where new backups go, while records are switched.
    const fn successor(&self) -> Option<DestinationId> {
        match self {
            Self::Out { to, switching: true } => Some(*to),
            Self::Out { .. } | Self::In { .. } => None,
        }
    }
}

fn refused(message: &str, remedy: &str) -> ControlError {
    ControlError::conflict(Code::Conflict, format!("{message}: {remedy}")).with_details(json!({ "remedy": remedy }))
}

impl DestinationRecord {
    /// Goes on only if something may be deleted in the destination, or be found there that nobody knew of.
    pub(crate) fn check_settled(&self) -> Result<()> {
        match &self.moving {
            None => Ok(()),
            Some(_) => Err(refused(
                "everything in a destination is being moved to another",
                "wait until the migration has ended, or stop it while it copies",
            )),
        }
    }
}

impl Control {
    /// Whether everything in a destination is being moved, or that of another to it. Not where it was removed.
    pub(crate) async fn is_moving(&self, scope: &OrganizationScope, id: &DestinationId) -> Result<bool> {
        let record = self.load::<DestinationRecord>(&scope.destination_key(id)).await?;
        Ok(record.is_some_and(|record| record.value.moving.is_some()))
    }

    /// What must hold for a job to be deleted, as long as its destination is there.
    pub(crate) async fn checks_that_it_may_go(&self, scope: &OrganizationScope, job: &Job) -> Result<Vec<ItemWrite>> {
        let record = self.load::<DestinationRecord>(&scope.destination_key(&job.destination())).await?;
        let Some(record) = record else { return Ok(Vec::new()) };
        record.value.check_settled()?;
        Ok(vec![record.check()])
    }

    /// The destination that a backup goes to which names none, or whose schedule does: the one that takes its place, where it
    /// is about to be moved.
    pub(crate) async fn destination_to_be(
        &self,
        scope: &OrganizationScope,
        named: Option<DestinationId>,
        project: &ProjectId,
    ) -> Result<Stored<DestinationRecord>> {
        let default = self.organization_record(scope).await?.value.default_destination;
        let Some(id) = named.or(default) else { return self.meant_destination(scope, None).await };
        let record = self.destination_record(scope, &id).await?;
        let Some(successor) = record.value.moving.as_ref().and_then(Moving::successor) else {
            record.value.check_usable()?;
            return Ok(record);
        };
        // each would make a repository of its own, were there none yet
        let jobs = self.active_jobs(scope).await?;
        if jobs.iter().any(|job| job.destination == id && job.project == *project) {
            let message = "a job of the project has not ended that began before its destination was about to be moved";
            return Err(refused(message, "wait until it has ended"));
        }
        self.meant_destination(scope, Some(successor)).await
    }
}
