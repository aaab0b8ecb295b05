//! Bodies that cannot be read, and such that are wrong.

use serde_json::json;

use crate::world::{World, bucket, emulator_project, folder, schedule};

#[tokio::test]
async fn what_is_malformed_is_400_and_what_is_wrong_is_422() {
    let world = World::new().await;
    let long = "n".repeat(101);
    for (body, status, code) in [
        ("", 400, "INVALID_REQUEST"),
        ("{", 400, "INVALID_REQUEST"),
        (r#"{"name":"a","url":"file:///a"} {}"#, 400, "INVALID_REQUEST"),
        ("\u{feff}{}", 400, "INVALID_REQUEST"),
        ("[]", 422, "VALIDATION_FAILED"),
        ("null", 422, "VALIDATION_FAILED"),
        (r#"{"name":"a"}"#, 422, "VALIDATION_FAILED"),
        (r#"{"name":"a","url":1}"#, 422, "VALIDATION_FAILED"),
        (r#"{"name":"a","url":"file:///a","urls":1}"#, 422, "VALIDATION_FAILED"),
        (r#"{"name":"","url":"file:///a"}"#, 422, "VALIDATION_FAILED"),
        (r#"{"name":"a","url":"ftp://a"}"#, 422, "VALIDATION_FAILED"),
        (&format!(r#"{{"name":"{long}","url":"file:///a"}}"#), 422, "VALIDATION_FAILED"),
    ] {
        let call = world.call("POST", "/api/v1/storage/destinations").header("content-type", "application/json");
        let reply = call.bytes(body).send().await;
        assert_eq!(reply.outcome(), (status, code), "{body}: {}", reply.text);
    }
}

#[tokio::test]
async fn fields_that_are_not_known_are_refused_everywhere() {
    let world = World::new().await;
    let project = world.project().await;
    let unknown = "unknownField";
    for (method, path, mut body) in [
        ("POST", "/api/v1/projects", emulator_project("A")),
        ("POST", "/api/v1/storage/destinations", folder("A")),
        ("POST", "/api/v1/backups", json!({"projectId": project})),
        ("POST", "/api/v1/backups/restore", json!({"backupId": "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV"})),
        ("POST", "/api/v1/schedules", schedule(&project)),
        ("POST", "/api/v1/organizations/current/service-account", json!({"name": "A", "role": "viewer"})),
        ("PUT", "/api/v1/organizations/current", json!({})),
        ("PUT", &format!("/api/v1/projects/{project}"), json!({})),
    ] {
        body[unknown] = json!(1);
        let reply = world.call(method, path).json(&body).send().await;
        assert_eq!(reply.outcome(), (422, "VALIDATION_FAILED"), "{method} {path}: {}", reply.text);
        assert!(reply.text.contains(unknown), "{method} {path}: {}", reply.text);
    }
    let mut nested = schedule(&project);
    nested["backupConfig"] = json!({"includeAuth": true, unknown: 1});
    let reply = world.call("POST", "/api/v1/schedules").json(&nested).send().await;
    assert_eq!(reply.outcome(), (422, "VALIDATION_FAILED"), "{}", reply.text);
}

#[tokio::test]
async fn a_huge_body_and_one_that_is_no_json_are_refused() {
    let world = World::new().await;
    let create = || world.call("POST", "/api/v1/projects");
    let huge = format!(r#"{{"name":"{}"}}"#, "a".repeat(1024 * 1024));
    let reply = create().header("content-type", "application/json").bytes(huge).send().await;
    assert_eq!(reply.outcome(), (413, "PAYLOAD_TOO_LARGE"));
    let reply = create().bytes(emulator_project("A").to_string()).send().await;
    assert_eq!(reply.outcome(), (415, "UNSUPPORTED_MEDIA_TYPE"));
    let reply = create().header("content-type", "text/plain").bytes("{}").send().await;
    assert_eq!(reply.outcome(), (415, "UNSUPPORTED_MEDIA_TYPE"));
    let binary = create().header("content-type", "application/json").bytes(vec![0xff, 0xfe]).send().await;
    assert_eq!(binary.outcome(), (400, "INVALID_REQUEST"));
}

#[tokio::test]
async fn a_stranger_learns_nothing_of_the_body() {
    let world = World::new().await;
    let reply = world.call("POST", "/api/v1/projects").stranger().bytes("{").send().await;
    assert_eq!(reply.outcome(), (401, "UNAUTHORIZED"));
}

#[tokio::test]
async fn a_path_that_holds_no_id_names_nothing() {
    let world = World::new().await;
    for path in ["/projects/x", "/projects/org_01ARZ3NDEKTSV4RRFFQ69G5FAV", "/restores/bkp_", "/schedules/%00"] {
        assert_eq!(world.get(&format!("/api/v1{path}")).await.outcome(), (404, "NOT_FOUND"), "{path}");
    }
}

#[tokio::test]
async fn trouble_with_google_and_with_a_destination_is_502() {
    let world = World::new().await;
    let mut project = emulator_project("A");
    project["credentials"]["host"] = json!("nowhere:1");
    let reply = world.call("POST", "/api/v1/projects").json(&project).send().await;
    assert_eq!(reply.outcome(), (502, "GOOGLE_FAILED"));
    let destination = json!({"name": "A", "url": "s3://nowhere/a"});
    let reply = world.call("POST", "/api/v1/storage/destinations").json(&destination).send().await;
    assert_eq!(reply.outcome(), (502, "DESTINATION_FAILED"));
}

#[tokio::test]
async fn a_service_of_ours_that_does_not_answer_is_503_and_nothing_is_told_of_it() {
    let world = World::new().await;
    world.keys.fail(Some(firebackup_model::ErrorKind::Unavailable));
    // no opened key is kept that long
    world.clock.advance(3600);
    let reply = world.call("POST", "/api/v1/storage/destinations").json(&bucket("A")).send().await;
    assert_eq!(reply.outcome(), (503, "UNAVAILABLE"), "{}", reply.text);
    assert!(!reply.text.contains("told to fail"), "{}", reply.text);
}

#[tokio::test]
async fn a_secret_that_is_not_there_cannot_be_exchanged() {
    let world = World::new().await;
    let slack = json!({"name": "Channel", "type": "slack", "url": "https://hooks.slack.com/services/T/B/x"});
    let made = world.post("/api/v1/webhooks", slack).await;
    let path = format!("/api/v1/webhooks/{}/secret", made["id"].as_str().unwrap());
    assert_eq!(world.call("POST", &path).send().await.outcome(), (422, "VALIDATION_FAILED"));
}
