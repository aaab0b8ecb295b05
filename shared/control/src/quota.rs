//! What an organization may have, and has. The limits stand in `limit.rs`, where the verbs take them from.

use serde::Serialize;

use crate::control::Control;
use crate::error::Result;
use crate::limit::{MAX_ACTIVE, MAX_RUNNING};
use crate::role::Right;
use crate::room::Kept;
use crate::tenant::{Caller, OrganizationScope};

/// How much of something an organization has, and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// How many there are.
    pub used: u64,
    /// How many there may be; nothing where there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Up to how many an owner can have it be; nothing where the limit stands for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changeable_to: Option<u64>,
    /// Whether there are more than were counted.
    #[serde(skip_serializing_if = "is_exact")]
    pub or_more: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_exact(or_more: &bool) -> bool {
    !*or_more
}

/// What an organization may have, and has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quotas {
    /// Projects.
    pub projects: Quota,
    /// Destinations.
    pub destinations: Quota,
    /// Schedules.
    pub schedules: Quota,
    /// Members.
    pub members: Quota,
    /// Open invites.
    pub invites: Quota,
    /// Webhooks.
    pub webhooks: Quota,
    /// API keys, revoked ones too.
    pub api_keys: Quota,
    /// Jobs that run: others wait for their turn. An owner changes it by `maxRunningJobs` of the organization.
    pub running_jobs: Quota,
    /// Jobs that have not ended: more are refused.
    pub unfinished_jobs: Quota,
    /// Backups, however they ended. At most 10,000 are counted.
    pub backups: Quota,
}

/// The most that is counted.
const MOST: u64 = 10_000;

impl Quota {
    const fn of(used: u64, limit: u64) -> Self {
        Self { used, limit: Some(limit), changeable_to: None, or_more: false }
    }
}

impl Control {
    /// What the organization may have, and has.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn quotas(&self, caller: &Caller) -> Result<Quotas> {
        caller.may(Right::Read)?;
        let scope = caller.scope();
        let (backups, or_more) = self.count_up_to(scope.backups(), MOST).await?;
        let most_running = self.organization_record(scope).await?.value.organization.max_running_jobs;
        let running = self.running(scope).await?.map_or(0, |running| running.value.jobs.len());
        Ok(Quotas {
            projects: self.kept(scope, Kept::Projects).await?,
            destinations: self.kept(scope, Kept::Destinations).await?,
            schedules: self.kept(scope, Kept::Schedules).await?,
            members: self.kept(scope, Kept::Members).await?,
            invites: self.kept(scope, Kept::Invites).await?,
            webhooks: self.kept(scope, Kept::Webhooks).await?,
            api_keys: self.kept(scope, Kept::ApiKeys).await?,
            running_jobs: Quota {
                changeable_to: Some(u64::from(MAX_RUNNING)),
                ..Quota::of(running as u64, u64::from(most_running))
            },
            unfinished_jobs: Quota::of(self.count_up_to(scope.active_jobs(), MOST).await?.0, MAX_ACTIVE as u64),
            backups: Quota { used: backups, limit: None, changeable_to: None, or_more },
        })
    }

    async fn kept(&self, scope: &OrganizationScope, kept: Kept) -> Result<Quota> {
        Ok(Quota::of(self.count_up_to(kept.records(scope), MOST).await?.0, kept.most() as u64))
    }
}
