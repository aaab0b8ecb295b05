//! Verifying a backup within one request: all of a small one is read back, of a large one its structure is looked at.

use std::sync::Arc;

use firebackup_control::{Code, ControlError, Kind, ProjectId, Verified};
use firebackup_engine::{EngineError, Meter, Repository, Verification, check, verify};
use firebackup_model::id::JobId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::failure::Failure;
use crate::unreadable::{problem, unreachable_place};

/// The largest backup that is read in full unasked, in stored bytes.
const MAX_UNASKED: u64 = 64 * 1024 * 1024;
/// The largest backup that is read in one request at all.
const MAX_ASKED: u64 = 1024 * 1024 * 1024;

/// How much may be read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct VerificationParameters {
    /// Whether everything of a backup of 64 MiB to 1 GiB is read back too, instead of its structure. Behind a gateway that
    /// ends a request after some time, that may be too long.
    #[serde(default)]
    #[param(default = false)]
    full: bool,
}

/// How much of a backup was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Depth {
    /// Everything was read back: every block opened, every hash and count compared.
    Full,
    /// Every run is there with its size, and its index says what the manifest says. Documents were not read.
    Structure,
}

impl Depth {
    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Structure => "structure",
        }
    }
}

/// What a verification found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupVerification {
    /// The backup.
    #[schema(value_type = String, example = "bkp_01JZ8Q6V7C9X2M4T5B8K1N3R6W")]
    backup_id: JobId,
    /// Whether all that was looked at is as it was written.
    verified: bool,
    /// How much was looked at.
    depth: Depth,
    /// What is wrong: the first damage that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Whether it is proven who wrote it.
    origin_proven: bool,
    /// Runs (objects with documents) that were read, or looked at.
    runs: u64,
    /// Blocks that were opened, or found in indexes.
    blocks: u64,
    /// Documents and users that were read, or counted by indexes.
    records: u64,
    /// Bytes that were read.
    bytes: u64,
}

/// Verifies a backup. Damage is an answer, not a failure.
pub(crate) async fn verification(
    repository: &Repository,
    backup: &JobId,
    asked: &VerificationParameters,
) -> Result<BackupVerification, Failure> {
    let stored = match repository.manifest(backup).await {
        Ok((manifest, _)) => manifest.stored_bytes,
        Err(error) => return BackupVerification::of_damage(backup, Depth::Structure, error),
    };
    let depth = depth(backup, stored, asked.full)?;
    let meter = Arc::new(Meter::default());
    let found = match depth {
        Depth::Full => verify(repository, backup, &meter).await,
        Depth::Structure => check(repository, backup, &meter).await,
    };
    match found {
        Ok(found) => Ok(BackupVerification::of(depth, found)),
        Err(error) => BackupVerification::of_damage(backup, depth, error),
    }
}

/// How much of a backup is looked at.
fn depth(backup: &JobId, stored: u64, full: bool) -> Result<Depth, Failure> {
    match (stored, full) {
        (..=MAX_UNASKED, _) | (..=MAX_ASKED, true) => Ok(Depth::Full),
        (_, false) => Ok(Depth::Structure),
        (_, true) => Err(too_large(backup, stored)),
    }
}

fn too_large(backup: &JobId, stored: u64) -> Failure {
    let command = format!("firebackup verify {backup}");
    let message = format!(
        "the backup has {stored} bytes, too many to read in one request: leave `full` out to look at its structure, or run \
         `{command}` on a machine"
    );
    let details = json!({ "storedBytes": stored, "command": command });
    ControlError::new(Kind::Unprocessable, Code::BackupTooLarge, message).with_details(details).into()
}

impl BackupVerification {
    /// What is noted of it.
    pub(crate) const fn to_note<'a>(&'a self, project: &'a ProjectId) -> Verified<'a> {
        Verified { project, backup: &self.backup_id, verified: self.verified, depth: self.depth.name() }
    }

    fn of(depth: Depth, found: Verification) -> Self {
        Self {
            backup_id: found.snapshot,
            verified: true,
            depth,
            problem: None,
            origin_proven: found.origin_proven,
            runs: found.runs,
            blocks: found.blocks,
            records: found.records,
            bytes: found.bytes,
        }
    }

    fn of_damage(backup: &JobId, depth: Depth, error: EngineError) -> Result<Self, Failure> {
        if !error.is_of_the_backup() {
            return Err(unreachable_place(error));
        }
        tracing::warn!(job = %backup, error = %error.in_full(), "a backup is damaged");
        Ok(Self {
            backup_id: backup.clone(),
            verified: false,
            depth,
            problem: Some(problem(&error)),
            origin_proven: false,
            runs: 0,
            blocks: 0,
            records: 0,
            bytes: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use firebackup_model::id::JobKind;

    use super::*;

    #[test]
    fn small_backups_are_read_and_of_large_ones_the_structure_is_looked_at() {
        let backup = JobId::new(JobKind::Backup, 1, [0; 10]);
        for (stored, full, expect) in [
            (0, false, Some(Depth::Full)),
            (MAX_UNASKED, false, Some(Depth::Full)),
            (MAX_UNASKED + 1, false, Some(Depth::Structure)),
            (MAX_UNASKED + 1, true, Some(Depth::Full)),
            (MAX_ASKED, true, Some(Depth::Full)),
            (MAX_ASKED + 1, false, Some(Depth::Structure)),
            (MAX_ASKED + 1, true, None),
        ] {
            match depth(&backup, stored, full) {
                Ok(found) => assert_eq!(Some(found), expect, "{stored} {full}"),
                Err(failure) => {
                    assert_eq!(expect, None, "{stored} {full}");
                    assert_eq!(failure.status(), 422);
                    assert!(failure.message().contains("run `firebackup verify bkp_"), "{}", failure.message());
                }
            }
        }
    }
}
