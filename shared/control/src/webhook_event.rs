//! What webhooks can be told of.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

macro_rules! event_names {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// What a webhook can be told of. Names stay: records hold them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum EventName {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl EventName {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// As it stands in events.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

event_names! {
    /// A backup has begun.
    BackupStarted = "backup.started",
    /// A backup has come another tenth of its way.
    BackupProgress = "backup.progress",
    /// A backup is complete and can be restored.
    BackupCompleted = "backup.completed",
    /// A backup has failed.
    BackupFailed = "backup.failed",
    /// A backup was cancelled.
    BackupCancelled = "backup.cancelled",
    /// A restore has begun.
    RestoreStarted = "restore.started",
    /// A restore has come another tenth of its way.
    RestoreProgress = "restore.progress",
    /// A restore has written everything.
    RestoreCompleted = "restore.completed",
    /// A restore has failed.
    RestoreFailed = "restore.failed",
    /// A restore was cancelled.
    RestoreCancelled = "restore.cancelled",
    /// A schedule was made.
    ScheduleCreated = "schedule.created",
    /// A schedule was changed.
    ScheduleUpdated = "schedule.updated",
    /// A schedule was removed.
    ScheduleDeleted = "schedule.deleted",
    /// A schedule has made a backup, by the clock or by hand.
    ScheduleTriggered = "schedule.triggered",
    /// A schedule was due, and its backup could not be made.
    ScheduleFailed = "schedule.failed",
    /// Changes of a database are captured from now on.
    PitrEnabled = "pitr.enabled",
    /// Changes of a database are not captured any more.
    PitrDisabled = "pitr.disabled",
    /// Changes were captured: once a minute at most, with how many.
    PitrChangeCaptured = "pitr.change_captured",
    /// Changes are not captured as they should be, so that what happens now may be no moment to go back to; or a time was lost.
    PitrDegraded = "pitr.degraded",
    /// A destination was added.
    StorageConnected = "storage.connected",
    /// A destination, until then in order, could not be reached or refused.
    StorageError = "storage.error",
    /// A project was connected.
    ProjectCreated = "project.created",
    /// A project was changed.
    ProjectUpdated = "project.updated",
    /// A project was disconnected, by somebody or because the consent that it stands on is gone.
    ProjectDisconnected = "project.disconnected",
    /// A project was removed.
    ProjectDeleted = "project.deleted",
    /// A backup was read back, and is as it was written.
    VerificationCompleted = "verification.completed",
    /// A backup was read back, and is damaged.
    VerificationFailed = "verification.failed",
    /// Somebody has joined the organization.
    MemberAdded = "organization.member_added",
    /// Somebody has left the organization, or was taken out of it.
    MemberRemoved = "organization.member_removed",
}

/// The derive reads no name that a macro puts in.
impl utoipa::PartialSchema for EventName {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("What a webhook can be told of."))
            .enum_values(Some(Self::ALL.iter().map(|name| name.as_str())))
            .into()
    }
}

impl utoipa::ToSchema for EventName {
    fn name() -> Cow<'static, str> {
        "EventName".into()
    }
}

impl EventName {
    /// The event that tells of an action in the audit log; nothing where none does, or the action's own verb publishes it.
    pub(crate) fn of_action(action: &str) -> Option<Self> {
        match action {
            "schedule.created" => Some(Self::ScheduleCreated),
            "schedule.updated" => Some(Self::ScheduleUpdated),
            "schedule.deleted" => Some(Self::ScheduleDeleted),
            "pitr.enabled" => Some(Self::PitrEnabled),
            "pitr.disabled" => Some(Self::PitrDisabled),
            "pitr.degraded" => Some(Self::PitrDegraded),
            "storage.connected" => Some(Self::StorageConnected),
            "storage.error" => Some(Self::StorageError),
            "project.created" => Some(Self::ProjectCreated),
            "project.updated" => Some(Self::ProjectUpdated),
            "project.disconnected" => Some(Self::ProjectDisconnected),
            "project.deleted" => Some(Self::ProjectDeleted),
            "verification.completed" => Some(Self::VerificationCompleted),
            "verification.failed" => Some(Self::VerificationFailed),
            "member.added" => Some(Self::MemberAdded),
            "member.removed" => Some(Self::MemberRemoved),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_records_hold() {
        for name in EventName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
        }
    }
}
