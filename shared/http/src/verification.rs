//! Verifying a backup within one request: everything of it is read back, so it must be small enough.

use std::sync::Arc;

use firebackup_control::{Code, ControlError, Kind};
use firebackup_engine::{EngineError, Meter, Repository, Verification, verify};
use firebackup_model::id::JobId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::failure::Failure;
use crate::unreadable::{is_of_the_backup, problem, unreachable_place};

/// The largest backup that is read unasked, in stored bytes.
const MAX_UNASKED: u64 = 64 * 1024 * 1024;
/// The largest backup that is read in one request at all.
const MAX_ASKED: u64 = 1024 * 1024 * 1024;

/// How much may be read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct VerificationParameters {
    /// Whether backups of 64 MiB to 1 GiB are read too. Behind a gateway that ends a request after some time, that may
    /// be too long.
    #[serde(default)]
    #[param(default = false)]
    full: bool,
}

/// What a verification found. Everything was read back: every block opened, every hash and count compared.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupVerification {
    /// The backup.
    #[schema(value_type = String, example = "bkp_01JZ8Q6V7C9X2M4T5B8K1N3R6W")]
    backup_id: JobId,
    /// Whether all of it is as it was written.
    verified: bool,
    /// What is wrong: the first damage that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Whether it is proven who wrote it.
    origin_proven: bool,
    /// Runs (objects with documents) that were read.
    runs: u64,
    /// Blocks that were opened.
    blocks: u64,
    /// Documents and users that were read.
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
        Err(error) => return BackupVerification::of_damage(backup, error),
    };
    check_size(backup, stored, asked.full)?;
    match verify(repository, backup, &Arc::new(Meter::default())).await {
        Ok(found) => Ok(BackupVerification::of(found)),
        Err(error) => BackupVerification::of_damage(backup, error),
    }
}

fn check_size(backup: &JobId, stored: u64, full: bool) -> Result<(), Failure> {
    if stored <= MAX_UNASKED || full && stored <= MAX_ASKED {
        return Ok(());
    }
    let command = format!("firebackup verify {backup}");
    let way = if stored <= MAX_ASKED { "send `full=true`, or run" } else { "run" };
    let message = format!("the backup has {stored} bytes, too many to read unasked: {way} `{command}` on a machine");
    let details = json!({ "storedBytes": stored, "command": command });
    Err(ControlError::new(Kind::Unprocessable, Code::BackupTooLarge, message).with_details(details).into())
}

impl BackupVerification {
    fn of(found: Verification) -> Self {
        Self {
            backup_id: found.snapshot,
            verified: true,
            problem: None,
            origin_proven: found.origin_proven,
            runs: found.runs,
            blocks: found.blocks,
            records: found.records,
            bytes: found.bytes,
        }
    }

    fn of_damage(backup: &JobId, error: EngineError) -> Result<Self, Failure> {
        if !is_of_the_backup(&error) {
            return Err(unreachable_place(error));
        }
        tracing::warn!(job = %backup, error = %error.in_full(), "a backup is damaged");
        Ok(Self {
            backup_id: backup.clone(),
            verified: false,
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
    fn large_backups_are_read_only_when_asked_for_and_the_largest_never() {
        let backup = JobId::new(JobKind::Backup, 1, [0; 10]);
        for (stored, full, expect) in [
            (MAX_UNASKED, false, None),
            (MAX_UNASKED + 1, false, Some("send `full=true`, or run `firebackup verify bkp_")),
            (MAX_ASKED, true, None),
            (MAX_ASKED + 1, true, Some("unasked: run `firebackup verify bkp_")),
            (MAX_ASKED + 1, false, Some("unasked: run `firebackup verify bkp_")),
        ] {
            let found = check_size(&backup, stored, full).err();
            assert_eq!(found.is_some(), expect.is_some(), "{stored} {full}");
            if let (Some(failure), Some(expect)) = (found, expect) {
                assert!(failure.message().contains(expect), "{}", failure.message());
                assert_eq!(failure.status(), 422);
            }
        }
    }
}
