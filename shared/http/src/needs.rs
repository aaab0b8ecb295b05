//! What somebody must be allowed to whose body is read at all.
//!
//! The verbs decide what a caller may. This comes before: else somebody without a right would be told what is wrong with what
//! they sent, and of their attempt nothing would be noted.

use firebackup_control::{
    BulkDeletion, CatalogSync, DestinationChange, MemberChange, NewApiKey, NewBackup, NewBucket, NewDestination,
    NewDrills, NewInvite, NewMigration, NewOrganization, NewPitr, NewPlace, NewProject, NewRestore, NewSchedule,
    NewSchedulePreview, NewWebhook, OrganizationChange, OrganizationDeletion, PitrChange, ProjectChange, Right,
    ScheduleChange, WebhookChange,
};
use serde::de::DeserializeOwned;

use crate::orphans::{FileDeletion, OrphanCleanup};

/// A body, and the right without which no verb takes it.
pub(crate) trait Body: DeserializeOwned {
    /// Nothing where it is sent by somebody of whom no role is asked.
    const NEEDS: Option<Right>;
}

macro_rules! needs {
    ($($right:expr => $($body:ty),+;)+) => {
        $($(
            impl Body for $body {
                const NEEDS: Option<Right> = $right;
            }
        )+)+
    };
}

needs! {
    None => NewOrganization;
    Some(Right::Read) => NewSchedulePreview;
    Some(Right::RunJobs) => NewBackup, NewRestore;
    Some(Right::Manage) => NewProject, ProjectChange, NewDestination, DestinationChange, NewPlace, NewBucket, NewMigration,
        CatalogSync, BulkDeletion, FileDeletion, OrphanCleanup, NewDrills, NewPitr, PitrChange, NewSchedule, ScheduleChange, NewWebhook, WebhookChange;
    Some(Right::ManageKeys) => NewApiKey;
    Some(Right::ManageMembers) => NewInvite, MemberChange;
    Some(Right::ManageOrganization) => OrganizationChange, OrganizationDeletion;
}
