//! Who may do what.

use serde::{Deserialize, Serialize};

/// A role in an organization; a later one may do all that an earlier one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Makes backups and restores too.
    Member,
    /// Looks after projects, destinations, schedules and keys too.
    Admin,
    /// May do everything.
    Owner,
}

/// What a verb asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// To see what is no secret.
    Read,
    /// To start and cancel backups and restores.
    RunJobs,
    /// To change projects, destinations and schedules, and to delete backups.
    Manage,
    /// To make and revoke API keys, up to one's own role.
    ManageKeys,
    /// To invite and to change members, up to one's own role.
    ManageMembers,
    /// To read the audit log.
    ReadAudit,
    /// To change the organization itself.
    ManageOrganization,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Member, Self::Admin, Self::Owner];

    /// Whether the role includes the right.
    #[must_use]
    pub const fn may(self, right: Right) -> bool {
        let least = match right {
            Right::Read => Self::Viewer,
            Right::RunJobs | Right::ReadAudit => Self::Member,
            Right::Manage | Right::ManageKeys | Right::ManageMembers => Self::Admin,
            Right::ManageOrganization => Self::Owner,
        };
        self as u8 >= least as u8
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}
