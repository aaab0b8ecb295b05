//! Jobs to count, for tests.

use firebackup_control::{Job, JobStatus};
use serde_json::{Value, json};

const ULID: &str = "01JZ0000000000000000000000";

/// A backup of 4096 bytes that ran for a minute and a half.
pub(super) fn backup(status: JobStatus) -> Job {
    job(status, json!({ "kind": "backup", "id": format!("bkp_{ULID}"), "config": {} }))
}

/// A restore that ran as long.
pub(super) fn restore(status: JobStatus) -> Job {
    let own = json!({
        "kind": "restore", "id": format!("restore_{ULID}"), "backupId": format!("bkp_{ULID}"),
        "targetProjectId": format!("proj_{ULID}"), "repositoryProjectId": format!("proj_{ULID}"), "encrypted": true,
        "collections": [], "paths": [], "exclude": [], "renames": [], "mode": "overwrite", "includeAuth": false,
        "undo": true, "dryRun": false,
    });
    job(status, own)
}

fn job(status: JobStatus, own: Value) -> Job {
    let mut job = json!({
        "organizationId": format!("org_{ULID}"), "status": status, "createdAt": "2026-03-10T01:00:00Z",
        "startedAt": "2026-03-10T02:00:00Z", "endedAt": "2026-03-10T02:01:30.5Z", "createdBy": format!("key_{ULID}"),
        "result": { "bytes": 4096 }, "projectId": format!("proj_{ULID}"), "googleProject": "shop-1",
        "database": "(default)", "storageDestinationId": format!("storage_{ULID}"),
    });
    job.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    serde_json::from_value(job).unwrap()
}
