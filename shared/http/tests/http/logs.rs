//! What stands in the log: the request's id, the route, who called; and nothing of what was sent.

use firebackup_testkit::Log;
use serde_json::json;

use crate::world::{World, bucket, emulator_project, id, schedule};

#[tokio::test]
async fn a_line_names_the_request_the_route_and_who_called() {
    let world = World::new().await;
    let project = world.project().await;
    let (log, _guard) = Log::listen();
    let path = format!("/api/v1/projects/{project}");
    world.call("GET", &path).header("x-request-id", "find-me").send().await;
    let line = log.line("answered");
    for expect in
        ["find-me", "/api/v1/projects/{projectId}", "method=GET", "status=200", "organization=org_", "actor=key_"]
    {
        assert!(line.contains(expect), "{expect}: {line}");
    }
}

#[tokio::test]
async fn what_failed_is_logged_with_its_cause_under_the_id_that_the_client_was_told() {
    let world = World::new().await;
    let (log, _guard) = Log::listen();
    let mut project = emulator_project("A");
    project["credentials"]["host"] = json!("nowhere:1");
    let reply = world.call("POST", "/api/v1/projects").json(&project).send().await;
    let (line, named) = (log.line("GOOGLE_FAILED"), reply.headers["x-request-id"].to_str().unwrap().to_owned());
    assert!(line.contains(&named) && line.contains("the probe's cause"), "{line}");
}

#[tokio::test]
async fn nothing_that_was_sent_is_logged() {
    let world = World::new().await;
    let (log, _guard) = Log::listen();
    let planted = "planted-in-a-request";
    world.call("GET", &format!("/api/v1/projects?search={planted}")).send().await;
    world.call("GET", &format!("/api/v1/projects?status={planted}")).send().await;
    world.call("GET", &format!("/api/v1/projects/{planted}")).send().await;
    world.call("GET", "/api/v1/projects").token(planted).send().await;
    world.call("GET", "/api/v1/projects").header("x-organization-id", planted).send().await;
    let mut destination = bucket(planted);
    destination["options"]["AWS_SECRET_ACCESS_KEY"] = json!(planted);
    world.call("POST", "/api/v1/storage/destinations").json(&destination).send().await;
    destination["options"]["OTHER"] = json!([planted]);
    world.call("POST", "/api/v1/storage/destinations").json(&destination).send().await;
    world.call("POST", "/api/v1/projects").header("content-type", "application/json").bytes(planted).send().await;
    let text = log.text();
    assert!(text.lines().filter(|line| line.contains("answered")).count() == 8, "{text}");
    assert!(!text.contains(planted), "{text}");
    assert!(!text.contains(&world.owner), "{text}");
}

#[tokio::test]
async fn a_job_keeps_the_id_of_the_request_that_asked_for_it() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(5).await;
    let schedule = id(&world.post("/api/v1/schedules", schedule(&project)).await);
    for (path, body) in [
        ("/api/v1/backups", json!({"projectId": project})),
        ("/api/v1/backups/restore", json!({"backupId": backup, "dryRun": true})),
        (&format!("/api/v1/schedules/{schedule}/trigger"), json!({})),
    ] {
        let reply = world.call("POST", path).header("x-request-id", "find-me").json(&body).send().await;
        assert_eq!(reply.data()["requestId"], "find-me", "{path}");
    }
}
