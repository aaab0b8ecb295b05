//! Recovery to a point in time, as a client sees it.

use firebackup_control::ControlSettings;
use serde_json::{Value, json};

use crate::world::{World, id};

const WINDOWS: &str = "windows?limit=5";

async fn capturing() -> (World, String, String) {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(30).await;
    let pitr = world.post("/api/v1/pitr/enable", json!({"projectId": project, "config": {"retentionDays": 30}})).await;
    assert_eq!((&pitr["status"], &pitr["config"]["retentionDays"]), (&json!("initializing"), &json!(30)));
    assert!(pitr.get("initialBackupId").is_none(), "{pitr}");
    (world, format!("/api/v1/pitr/{project}"), backup)
}

#[tokio::test]
async fn it_is_enabled_paused_resumed_changed_and_disabled() {
    let (world, pitr, _) = capturing().await;
    for (method, what, body, status) in [
        ("POST", "pause", None, "paused"),
        ("POST", "resume", None, "initializing"),
        ("PATCH", "config", Some(json!({"changeWindowMinutes": 5})), "initializing"),
        ("POST", "disable?database=(default)", None, "disabled"),
    ] {
        let call = world.call(method, &format!("{pitr}/{what}"));
        let reply = match &body {
            Some(body) => call.json(body).send().await,
            None => call.send().await,
        };
        assert_eq!((reply.status, &reply.data()["status"]), (200, &json!(status)), "{what}: {}", reply.text);
    }
    let config = world.get(&format!("{pitr}/config")).await;
    assert_eq!(config.data()["config"]["changeWindowMinutes"], 5);
    assert_eq!(world.call("POST", &format!("{pitr}/resume")).send().await.outcome(), (409, "CONFLICT"));
    assert_eq!(world.get(&format!("{pitr}/config?database=other")).await.outcome(), (404, "NOT_FOUND"));
    assert_eq!(world.get(&format!("{pitr}/health")).await.data()["status"], "disabled");
    assert_eq!(world.get(&format!("{pitr}/statistics")).await.data()["segments"], 0);
}

#[tokio::test]
async fn what_may_not_be_is_refused() {
    let (world, pitr, _) = capturing().await;
    let config = format!("{pitr}/config");
    for body in [json!({"retentionDays": 0}), json!({"retentionDays": 91}), json!({"changeWindowMinutes": 61})] {
        let reply = world.call("PATCH", &config).json(&body).send().await;
        assert_eq!(reply.outcome(), (422, "VALIDATION_FAILED"), "{body}");
    }
    let moved = world.call("PATCH", &config).json(&json!({"storageDestinationId": "storage_x"})).send().await;
    assert_eq!(moved.status, 422, "{}", moved.text);
    let wrong = world.get(&format!("{pitr}/windows?limit=0")).await;
    assert_eq!(wrong.outcome(), (422, "VALIDATION_FAILED"));
}

#[tokio::test]
async fn an_installation_that_captures_nothing_says_so() {
    let settings = ControlSettings { allow_emulators: true, allow_folders: true, ..ControlSettings::default() };
    let world = World::with(settings).await;
    let project = world.project().await;
    world.destination().await;
    let reply = world.call("POST", "/api/v1/pitr/enable").json(&json!({"projectId": project})).send().await;
    assert_eq!(reply.outcome(), (409, "PITR_UNAVAILABLE"));
}

#[tokio::test]
async fn moments_are_listed_and_put_back() {
    let (world, pitr, backup) = capturing().await;
    let windows = world.get(&format!("{pitr}/{WINDOWS}")).await;
    let found = windows.data();
    assert_eq!((&found["database"], &found["total"]), (&json!("demo-shop/(default)"), &json!(1)), "{found}");
    let read_time = found["windows"][0]["end"].clone();
    let project = pitr.rsplit('/').next().unwrap();
    let restore = async |at: &Value, exact: bool| {
        let body = json!({"projectId": project, "pointInTime": at, "exact": exact, "dryRun": true});
        world.call("POST", "/api/v1/pitr/restore").json(&body).send().await
    };
    let exact = restore(&read_time, true).await;
    let moment = json!({"pointInTime": read_time, "consistentPoint": read_time, "isBackup": true});
    assert_eq!((exact.status, &exact.data()["moment"]), (202, &moment), "{}", exact.text);
    assert_eq!(exact.data()["backupId"], json!(backup));
    let later = restore(&json!("2023-11-14T22:14:00Z"), false).await;
    assert_eq!(later.data()["moment"]["consistentPoint"], read_time, "{}", later.text);
    let refused = restore(&json!("2023-11-14T22:14:00Z"), true).await;
    assert_eq!(refused.outcome(), (422, "MOMENT_UNAVAILABLE"));
    // longer behind the last moment than a database may be silent
    let unknown = restore(&json!("2030-01-01T00:00:00Z"), false).await;
    assert_eq!(unknown.outcome(), (422, "MOMENT_UNAVAILABLE"));
    let before = restore(&json!("2001-01-01T00:00:00Z"), false).await;
    assert_eq!(before.outcome(), (422, "MOMENT_UNAVAILABLE"));
    let beside = &before.body["error"]["details"];
    assert_eq!((&beside["before"], &beside["after"]), (&Value::Null, &read_time), "{}", before.text);
    let jobs = world.get(&format!("{pitr}/restore-jobs")).await;
    assert_eq!(jobs.data().as_array().unwrap().len(), 2, "{}", jobs.text);
    let one = world.get(&format!("{pitr}/restore-jobs/{}", id(exact.data()))).await;
    assert_eq!(one.data()["moment"], moment);
    assert_eq!(world.get(&format!("{pitr}/restore-jobs/{backup}")).await.outcome(), (404, "NOT_FOUND"));
}

#[tokio::test]
async fn a_backup_is_no_moment_for_this_route_and_a_store_that_fails_is_named() {
    let (world, pitr, backup) = capturing().await;
    let reply = world.call("POST", "/api/v1/pitr/restore").json(&json!({"backupId": backup})).send().await;
    assert_eq!(reply.outcome(), (422, "VALIDATION_FAILED"));
    world.repositories.fail_from_now_on();
    assert_eq!(world.get(&format!("{pitr}/windows")).await.outcome(), (502, "DESTINATION_FAILED"));
    let project = pitr.rsplit('/').next().unwrap();
    let body = json!({"projectId": project, "pointInTime": "2023-11-14T22:14:00Z"});
    let reply = world.call("POST", "/api/v1/backups/restore").json(&body).send().await;
    assert_eq!(reply.outcome(), (502, "DESTINATION_FAILED"));
}

#[tokio::test]
async fn one_document_is_put_back_as_it_was_reported_or_it_is_said_why_not() {
    let (world, pitr, backup) = capturing().await;
    let project = pitr.rsplit('/').next().unwrap();
    let windows = world.get(&format!("{pitr}/{WINDOWS}")).await;
    let read_time = windows.data()["windows"][0]["end"].clone();
    let restore = async |paths: Value, at: &Value| {
        let body = json!({"projectId": project, "pointInTime": at, "reported": true, "paths": paths});
        world.call("POST", "/api/v1/pitr/restore").json(&body).send().await
    };
    let known = restore(json!(["orders/d00000"]), &read_time).await;
    let reported = json!({"document": "orders/d00000", "pointInTime": read_time});
    assert_eq!((known.status, &known.data()["reported"]), (202, &reported), "{}", known.text);
    assert_eq!(known.data()["backupId"], json!(backup));
    let never = restore(json!(["users/never"]), &read_time).await;
    assert_eq!(never.outcome(), (422, "MOMENT_UNAVAILABLE"), "{}", never.text);
    let future = restore(json!(["orders/d00000"]), &json!("2039-01-01T00:00:00Z")).await;
    assert_eq!(future.outcome(), (422, "MOMENT_UNAVAILABLE"), "{}", future.text);
    for paths in [json!([]), json!(["users/a", "users/b"]), json!(["users"])] {
        assert_eq!(restore(paths, &read_time).await.outcome(), (422, "VALIDATION_FAILED"));
    }
    let of_backup = json!({"backupId": backup, "reported": true, "paths": ["users/a"]});
    let of_backup = world.call("POST", "/api/v1/backups/restore").json(&of_backup).send().await;
    assert_eq!(of_backup.outcome(), (422, "VALIDATION_FAILED"));
}
