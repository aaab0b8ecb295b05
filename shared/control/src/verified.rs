//! That a backup was read back, and what was found.

use firebackup_model::id::JobId;
use firebackup_model::port::ItemWrite;
use serde_json::json;

use crate::audit::{Act, id_of, minute};
use crate::control::Control;
use crate::error::Result;
use crate::id::ProjectId;
use crate::month::Month;
use crate::record::{Written, new_item};
use crate::role::Right;
use crate::tenant::Caller;

/// What a verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified<'a> {
    /// The backup's project.
    pub project: &'a ProjectId,
    /// The backup.
    pub backup: &'a JobId,
    /// Whether all that was looked at is as it was written.
    pub verified: bool,
    /// How much was looked at: `full` or `structure`.
    pub depth: &'a str,
}

impl Control {
    /// Notes what a verification found, and tells others. Whoever verifies again and again is noted once a minute for what
    /// they find: nobody can fill the table by reading.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_verified(&self, caller: &Caller, found: Verified<'_>) -> Result<()> {
        caller.may(Right::Read)?;
        let action = if found.verified { "verification.completed" } else { "verification.failed" };
        let details = json!({ "projectId": found.project, "verified": found.verified, "depth": found.depth });
        let mut entry = self.new_entry(caller.author(), Act::new(action, found.backup).with(details));
        entry.timestamp = minute(entry.timestamp);
        entry.id = id_of(entry.timestamp, &[action, &entry.actor, &found.backup.to_string(), found.depth]);
        let key = caller.scope().audit_key(Month::of(entry.timestamp), &entry.id);
        let write = ItemWrite::Create(new_item(key, &entry, None)?);
        if self.write_unrecorded(vec![write]).await? == Written::Yes {
            self.publish_done(caller.scope(), &entry).await;
        }
        Ok(())
    }
}
