//! What clients of the public service rely on, as data: routes, names, envelopes, paging. Whatever is knowingly missing
//! stands in a list with its reason, and must leave that list once it is there.

use std::collections::BTreeSet;
use std::path::Path;

use firebackup_control::Code;
use serde_json::{Value, json};

use crate::contract::{check, document, operations, resolve};
use crate::world::{World, emulator_project, furnish};

/// Paths below the base, nameless, and their methods.
const ROUTES: &[(&str, &[&str])] = &[
    ("/auth/google", &["GET"]),
    ("/auth/google/callback", &["GET"]),
    ("/auth/token", &["POST"]),
    ("/auth/refresh", &["POST"]),
    ("/auth/me", &["GET"]),
    ("/auth/logout", &["POST"]),
    ("/organizations", &["GET", "POST"]),
    ("/organizations/current", &["GET", "PUT"]),
    ("/organizations/current/delete", &["POST"]),
    ("/organizations/current/members", &["GET"]),
    ("/organizations/current/members/{}", &["PUT", "DELETE"]),
    ("/organizations/current/invites", &["GET", "POST"]),
    ("/organizations/current/invites/{}", &["DELETE"]),
    ("/organizations/current/invites/{}/resend", &["POST"]),
    ("/organizations/current/service-account", &["GET", "POST"]),
    ("/organizations/current/service-account/{}", &["DELETE"]),
    ("/projects", &["GET", "POST"]),
    ("/projects/{}", &["GET", "PUT", "DELETE"]),
    ("/projects/{}/collections", &["GET"]),
    ("/projects/{}/collections/sync", &["POST"]),
    ("/backups", &["POST"]),
    ("/backups/restore", &["POST"]),
    ("/backups/project/{}", &["GET"]),
    ("/backups/{}/{}", &["GET", "DELETE"]),
    ("/backups/{}/{}/verify", &["GET"]),
    ("/backups/{}/{}/preview", &["GET"]),
    ("/backups/{}/diff", &["GET"]),
    ("/restores", &["GET"]),
    ("/restores/{}", &["GET"]),
    ("/restores/{}/cancel", &["POST"]),
    ("/schedules", &["GET", "POST"]),
    ("/schedules/stats/overview", &["GET"]),
    ("/schedules/project/{}", &["GET"]),
    ("/schedules/{}", &["GET", "PUT", "DELETE"]),
    ("/schedules/{}/toggle", &["PATCH"]),
    ("/schedules/{}/trigger", &["POST"]),
    ("/pitr/enable", &["POST"]),
    ("/pitr/restore", &["POST"]),
    ("/pitr/{}/restore-jobs", &["GET"]),
    ("/pitr/{}/restore-jobs/{}", &["GET"]),
    ("/pitr/{}/disable", &["POST"]),
    ("/pitr/{}/pause", &["POST"]),
    ("/pitr/{}/resume", &["POST"]),
    ("/pitr/{}/config", &["GET", "PATCH"]),
    ("/pitr/{}/statistics", &["GET"]),
    ("/pitr/{}/health", &["GET"]),
    ("/pitr/{}/windows", &["GET"]),
    ("/pitr/{}/events", &["POST"]),
    ("/storage/connect", &["POST"]),
    ("/storage/buckets/create", &["POST"]),
    ("/storage/buckets/verify", &["POST"]),
    ("/storage/buckets/folders", &["POST"]),
    ("/storage/buckets/folders/create", &["POST"]),
    ("/storage/destinations", &["GET", "POST"]),
    ("/storage/destinations/{}", &["GET", "PUT", "DELETE"]),
    ("/storage/destinations/{}/verify", &["POST"]),
    ("/storage/destinations/{}/linked", &["GET"]),
    ("/storage/destinations/{}/backups", &["GET"]),
    ("/storage/destinations/{}/backups/bulk-delete", &["POST"]),
    ("/storage/destinations/{}/files", &["GET", "DELETE"]),
    ("/storage/destinations/{}/files/bulk-delete", &["POST"]),
    ("/storage/destinations/{}/cleanup-orphans", &["POST"]),
    ("/storage/destinations/{}/migrate", &["POST"]),
    ("/storage/destinations/{}/files/stats", &["GET"]),
    ("/storage/stats", &["GET"]),
    ("/storage/sync", &["POST"]),
    ("/webhooks", &["GET", "POST"]),
    ("/webhooks/{}", &["GET", "PUT", "DELETE"]),
    ("/webhooks/{}/toggle", &["PATCH"]),
    ("/webhooks/{}/test", &["POST"]),
    ("/webhooks/{}/deliveries", &["GET"]),
    ("/webhooks/{}/deliveries/{}/redeliver", &["POST"]),
    ("/audit", &["GET"]),
    ("/audit/export", &["GET"]),
];

/// Routes that are not there, and why.
const MISSING_ROUTES: &[(&str, &str, &str)] = &[];

/// Fields of bodies and answers, by schema.
const FIELDS: &[(&str, &[&str])] = &[
    ("TokenRequest", &["code", "grant_type"]),
    ("TokenPair", &["accessToken", "refreshToken", "expiresIn", "tokenType"]),
    (
        "NewBackup",
        &[
            "projectId",
            "type",
            "collections",
            "excludeCollections",
            "includeSubcollections",
            "includeAuth",
            "storageDestinationId",
            "compression",
            "encrypt",
        ],
    ),
    (
        "NewRestore",
        &[
            "backupId",
            "pointInTime",
            "exact",
            "targetProjectId",
            "database",
            "paths",
            "renames",
            "mode",
            "includeAuth",
            "dryRun",
        ],
    ),
    (
        "NewSchedule",
        &[
            "name",
            "projectId",
            "cronExpression",
            "timezone",
            "backupConfig",
            "storageDestinationId",
            "retention",
            "gfs",
            "enabled",
        ],
    ),
    ("NewPitr", &["projectId", "config"]),
    ("PitrConfig", &["retentionDays", "changeWindowMinutes", "storageDestinationId"]),
    ("Schedule", &["nextRuns"]),
    ("Retention", &["type", "value"]),
    ("Gfs", &["daily", "weekly", "monthly", "yearly"]),
    ("Meta", &["page", "limit", "total", "totalPages", "cursor"]),
    ("ErrorBody", &["code", "message", "details"]),
    ("NewDestination", &["serverSideEncryption"]),
    ("DestinationChange", &["serverSideEncryption"]),
    ("Destination", &["serverSideEncryption", "migration"]),
    ("NewMigration", &["targetDestinationId", "dryRun"]),
];

/// Fields that are not there, and why.
const MISSING_FIELDS: &[(&str, &str, &str)] = &[(
    "PitrConfig",
    "collections",
    "changes of the whole database are captured: only so is it proven that they are all",
)];

/// What a field is where it is left out.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("NewBackup", "type", r#""full""#),
    ("NewBackup", "collections", "[]"),
    ("NewBackup", "includeSubcollections", "true"),
    ("NewBackup", "includeAuth", "false"),
    ("NewBackup", "compression", r#""brotli""#),
    ("NewBackup", "encrypt", "true"),
    ("NewRestore", "mode", r#""overwrite""#),
    ("NewRestore", "dryRun", "false"),
    ("NewRestore", "exact", "false"),
    ("NewSchedule", "enabled", "true"),
    ("PitrConfig", "retentionDays", "7"),
    ("PitrConfig", "changeWindowMinutes", "1"),
    ("PitrConfig", "mergeAfterDays", "7"),
    ("NewMigration", "dryRun", "true"),
];

/// Values that a schema knows.
const VALUES: &[(&str, &[&str])] = &[
    ("Role", &["viewer", "member", "admin", "owner"]),
    ("ProjectStatus", &["connected", "disconnected", "error"]),
    ("BackupType", &["full", "incremental", "synthetic"]),
    ("JobStatus", &["pending", "running", "completed", "failed", "cancelled"]),
    ("JobErrorCode", &["JOB_FAILED", "DESTINATION_FAILED"]),
    ("RestoreModeName", &["overwrite", "skip-existing", "mirror"]),
    ("RetentionType", &["count", "days", "size"]),
    ("PitrStatus", &["initializing", "active", "paused", "degraded", "error", "disabled"]),
    ("MigrationStatus", &["copying", "switching", "completed", "failed"]),
    ("WebhookType", &["webhook", "slack"]),
    (
        "EventName",
        &[
            "backup.started",
            "backup.progress",
            "backup.completed",
            "backup.failed",
            "restore.started",
            "restore.progress",
            "restore.completed",
            "restore.failed",
            "schedule.created",
            "schedule.updated",
            "schedule.deleted",
            "schedule.triggered",
            "schedule.failed",
            "pitr.enabled",
            "pitr.disabled",
            "pitr.change_captured",
            "pitr.degraded",
            "storage.connected",
            "storage.error",
            "project.created",
            "project.updated",
            "project.deleted",
            "verification.completed",
            "verification.failed",
            "project.disconnected",
            "organization.member_added",
            "organization.member_removed",
        ],
    ),
    ("ErrorCode", &["UNAUTHORIZED", "INVALID_TOKEN", "TOKEN_EXPIRED", "INVALID_REFRESH_TOKEN"]),
];

/// Values that are not known, and why.
const MISSING_VALUES: &[(&str, &str, &str)] = &[
    ("JobStatus", "compressing", "the steps of a stream overlap: it is `running`, with progress"),
    ("JobStatus", "verifying", "a backup that is read back is no job"),
];

/// Filters of lists.
const FILTERS: &[(&str, &[&str])] = &[
    ("/projects", &["status", "search"]),
    ("/projects/{}/collections", &["database", "search"]),
    ("/backups/{}/diff", &["from", "to"]),
    ("/audit", &["actor", "action", "resource", "from", "to"]),
    ("/audit/export", &["actor", "action", "resource", "from", "to"]),
];

/// What begins work, so that sending it twice must not begin it twice.
const STARTING: &[&str] = &[
    "/backups",
    "/backups/restore",
    "/pitr/restore",
    "/schedules/{}/trigger",
    "/drills/{}/run",
    "/storage/destinations/{}/migrate",
];

/// Beginnings of ids, by the name that [`furnish`] gives.
const PREFIXES: &[(&str, &str)] = &[
    ("projectId", "proj_"),
    ("backupId", "bkp_"),
    ("destinationId", "storage_"),
    ("webhookId", "webhook_"),
    ("scheduleId", "sched_"),
    ("restoreId", "restore_"),
    ("apiKeyId", "key_"),
    ("inviteId", "inv_"),
    ("userId", "user_"),
];

/// Lists without numbers of pages, and why.
const WITHOUT_PAGES: &[(&str, &str)] = &[
    ("/storage/destinations/{}/files", "a bucket tells its objects by cursor alone"),
    ("/schedules/presets", "ours: a handful, always the same"),
];

fn nameless(path: &str) -> String {
    let erased = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    let parts: Vec<String> = path.trim_start_matches("/api/v1").split('/').map(erased).collect();
    parts.join("/")
}

/// What the document says of a route, by its nameless path.
fn described(method: &str, path: &str) -> Option<&'static Value> {
    let paths = document()["paths"].as_object().unwrap();
    let (_, item) = paths.iter().find(|(known, _)| known.starts_with("/api/v1") && nameless(known) == path)?;
    item.get(method.to_lowercase())
}

fn parameter(operation: &'static Value, name: &str) -> Option<&'static Value> {
    operation["parameters"].as_array()?.iter().find(|one| one["name"] == name)
}

fn schema(name: &str) -> &'static Value {
    &document()["components"]["schemas"][name]
}

fn values(name: &str) -> BTreeSet<&'static str> {
    schema(name)["enum"].as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

/// The schema of an operation's success, if it answers in JSON.
fn success(operation: &'static Value) -> Option<&'static str> {
    let answers = operation["responses"].as_object().unwrap();
    let (_, answer) = answers.iter().find(|(status, _)| status.starts_with('2'))?;
    answer["content"]["application/json"]["schema"]["$ref"].as_str()?.rsplit('/').next()
}

#[test]
fn every_promised_route_is_there() {
    for (path, methods) in ROUTES {
        for method in *methods {
            assert!(described(method, path).is_some(), "{method} {path}");
        }
    }
    assert_eq!(document()["paths"]["/health"]["get"]["operationId"], "health");
}

#[test]
fn what_is_known_to_be_missing_is_missing() {
    for (method, path, reason) in MISSING_ROUTES {
        assert!(described(method, path).is_none(), "{method} {path} is there now: move it to ROUTES");
        assert!(!reason.is_empty(), "{method} {path}");
    }
    for (name, field, _) in MISSING_FIELDS {
        assert!(schema(name)["properties"].get(field).is_none(), "{name}.{field} is there now: move it to FIELDS");
    }
    for (name, value, _) in MISSING_VALUES {
        assert!(!values(name).contains(value), "{name} knows {value} now: move it to VALUES");
    }
}

#[test]
fn every_promised_name_is_there() {
    for (name, fields) in FIELDS {
        for field in *fields {
            assert!(schema(name)["properties"].get(field).is_some(), "{name}.{field}");
        }
    }
    for (name, expect) in VALUES {
        let known = values(name);
        assert!(expect.iter().all(|value| known.contains(value)), "{name}: {known:?}");
    }
    for (path, filters) in FILTERS {
        let operation = described("GET", path).unwrap();
        for filter in *filters {
            assert!(parameter(operation, filter).is_some(), "{path} {filter}");
        }
    }
}

#[test]
fn defaults_are_the_promised_ones() {
    for (name, field, expect) in DEFAULTS {
        let expect: Value = serde_json::from_str(expect).unwrap();
        assert_eq!(resolve(&schema(name)["properties"][field])["default"], expect, "{name}.{field}");
    }
}

#[test]
fn every_list_takes_pages() {
    let mut lists = 0;
    for (method, path) in operations() {
        let operation = described(&method, &nameless(&path));
        let Some(operation) =
            operation.filter(|one| success(one).is_some_and(|name| name.starts_with("ListEnvelope_")))
        else {
            continue;
        };
        let is_without_pages = WITHOUT_PAGES.iter().any(|(known, _)| *known == nameless(&path));
        assert_eq!(parameter(operation, "page").is_none(), is_without_pages, "{path}");
        if !is_without_pages {
            let page = &parameter(operation, "page").unwrap()["schema"];
            assert_eq!((&page["default"], &page["minimum"]), (&json!(1), &json!(1)), "{path}");
            let limit = &parameter(operation, "limit").unwrap()["schema"];
            assert_eq!((&limit["default"], &limit["maximum"]), (&json!(20), &json!(100)), "{path}");
            assert!(parameter(operation, "cursor").is_some(), "{path}");
        }
        lists += 1;
    }
    assert!(lists > 10, "{lists}");
}

#[test]
fn every_answer_has_an_envelope() {
    for (method, path) in operations() {
        let Some(operation) = described(&method, &nameless(&path)) else { continue };
        let is_wrapped = success(operation).is_some_and(|name| name.contains("Envelope_"));
        // a redirect has no body, an export is a line an entry
        let is_other = ["/auth/google", "/audit/export"].contains(&nameless(&path).as_str());
        assert_ne!(is_wrapped, is_other, "{method} {path}");
        for status in ["400", "401", "403", "429", "500", "503"] {
            assert!(operation["responses"].get(status).is_some(), "{method} {path} {status}");
        }
    }
}

#[test]
fn whoever_starts_work_may_name_the_attempt() {
    for path in STARTING {
        let operation = described("POST", path).unwrap();
        let key = parameter(operation, "Idempotency-Key").unwrap_or_else(|| panic!("{path}"));
        assert_eq!((&key["in"], &key["required"]), (&json!("header"), &json!(false)), "{path}");
        // found by schemathesis: keys were documented as any text
        assert_eq!(key["schema"], json!({"type": "string", "pattern": "^[!-~]{1,255}$"}), "{path}");
    }
}

#[test]
fn too_many_are_told_when_to_try_again() {
    let headers = &document()["components"]["responses"]["TooMany"]["headers"];
    assert!(headers.get("Retry-After").is_some(), "{headers}");
}

#[test]
fn every_code_stands_in_the_document_and_in_the_guide() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(values("ErrorCode"), codes);
    for code in codes {
        assert!(guide.contains(&format!("`{code}`")), "docs/api.md does not know {code}");
    }
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn envelopes_have_the_promised_fields_and_no_other() {
    let world = World::new().await;
    let one = world.call("POST", "/api/v1/projects").json(&emulator_project("Shop")).send().await;
    assert_eq!((one.status, &one.body["success"]), (201, &json!(true)));
    assert_eq!(names(&one.body), BTreeSet::from(["success", "data"]));
    let list = world.get("/api/v1/projects").await;
    assert_eq!(names(&list.body), BTreeSet::from(["success", "data", "meta"]));
    assert_eq!(list.body["meta"], json!({"page": 1, "limit": 20, "total": 1, "totalPages": 1, "cursor": null}));
    let failure = world.get("/api/v1/projects?limit=101").await;
    assert_eq!((failure.status, &failure.body["success"]), (422, &json!(false)));
    assert_eq!(names(&failure.body), BTreeSet::from(["success", "error"]));
    assert_eq!(names(&failure.body["error"]), BTreeSet::from(["code", "message", "details"]));
}

#[tokio::test]
async fn ids_begin_with_what_they_are() {
    let world = World::new().await;
    let mut ids = furnish(&world).await;
    let entry = world.get("/api/v1/audit").await.data()[0]["id"].as_str().unwrap().to_owned();
    ids.extend([("organizationId", world.organization.to_string()), ("entry", entry)]);
    for (name, prefix) in PREFIXES.iter().chain(&[("organizationId", "org_"), ("entry", "evt_")]) {
        let ulid = ids[name].strip_prefix(prefix).unwrap_or_else(|| panic!("{name}: {}", ids[name]));
        let known = |letter: char| "0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(letter);
        assert!(ulid.len() == 26 && ulid.chars().all(known), "{name}: {}", ids[name]);
    }
}

#[test]
fn events_are_documented_by_the_names_that_are_taken() {
    let body = json!({"name": "Told", "url": "https://receiver.example/", "events": ["backup.completed"]});
    assert_eq!(check(schema("NewWebhook"), &body), Vec::<String>::new());
}

/// Found by schemathesis: texts that are no ids were documented as good, and answered 400.
#[test]
fn ids_of_jobs_are_documented_as_ids() {
    let diff = described("GET", "/backups/{}/diff").unwrap();
    let of_parameter = |name: &str| parameter(diff, name).unwrap()["schema"]["pattern"].as_str();
    for (pattern, prefix) in [
        (of_parameter("from"), "^bkp_"),
        (of_parameter("to"), "^bkp_"),
        (schema("NewRestore")["properties"]["backupId"]["pattern"].as_str(), "^(bkp|restore)_"),
    ] {
        assert!(pattern.is_some_and(|pattern| pattern.starts_with(prefix)), "{prefix}: {pattern:?}");
    }
}

/// Found by schemathesis: the document refused what the server takes.
#[tokio::test]
async fn an_event_that_is_named_twice_is_named_once() {
    let world = World::new().await;
    let events = json!(["backup.failed", "backup.failed"]);
    let body = json!({"name": "Told", "url": "https://receiver.example/", "events": events});
    let made = world.post("/api/v1/webhooks", body).await;
    assert_eq!(made["events"], json!(["backup.failed"]));
    for name in ["NewWebhook", "WebhookChange"] {
        assert!(schema(name)["properties"]["events"].get("uniqueItems").is_none(), "{name}");
    }
}
