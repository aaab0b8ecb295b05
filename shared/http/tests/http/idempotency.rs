//! Requests that are sent twice.

use serde_json::{Value, json};

use crate::world::{World, id, schedule};

async fn start(world: &World, path: &str, body: &Value, key: &str) -> (u16, String) {
    let reply = world.call("POST", path).header("idempotency-key", key).json(body).send().await;
    let text = reply.data()["id"].as_str().unwrap_or_else(|| reply.code()).to_owned();
    (reply.status, text)
}

#[tokio::test]
async fn the_same_request_under_the_same_key_starts_one_job() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(5).await;
    let schedule = id(&world.post("/api/v1/schedules", schedule(&project)).await);
    let backups = json!({"projectId": project});
    let other = json!({"projectId": project, "includeAuth": true});
    let trigger = format!("/api/v1/schedules/{schedule}/trigger");
    for (path, body, other) in [
        ("/api/v1/backups", backups.clone(), Some(other)),
        ("/api/v1/backups/restore", json!({"backupId": backup, "dryRun": true}), Some(json!({"backupId": backup}))),
        (&trigger, json!({}), None),
    ] {
        let (key, next) = (format!("1-{path}"), format!("2-{path}"));
        let first = start(&world, path, &body, &key).await;
        assert_eq!(first.0, 202, "{path}: {}", first.1);
        assert_eq!(start(&world, path, &body, &key).await, first, "{path}");
        assert_ne!(start(&world, path, &body, &next).await.1, first.1, "{path}");
        if let Some(other) = other {
            let reused = start(&world, path, &other, &key).await;
            assert_eq!(reused, (409, "IDEMPOTENCY_KEY_REUSED".to_owned()), "{path}");
        }
        // a key is one for all routes: under another one it is another request
        let elsewhere = if path == "/api/v1/backups" { "/api/v1/backups/restore" } else { "/api/v1/backups" };
        let wrong = if path == "/api/v1/backups" { json!({"backupId": backup}) } else { backups.clone() };
        assert_eq!(start(&world, elsewhere, &wrong, &key).await.0, 409, "{path}");
        world.clock.advance(25 * 60 * 60);
        assert_ne!(start(&world, path, &body, &key).await.1, first.1, "{path}");
    }
}

#[tokio::test]
async fn without_a_key_every_request_starts_a_job() {
    let world = World::new().await;
    let (project, first) = world.started_backup().await;
    let second = id(&world.post("/api/v1/backups", json!({"projectId": project})).await);
    assert_ne!(first, second);
}

#[tokio::test]
async fn of_many_requests_at_one_time_one_makes_the_job() {
    let world = World::new().await;
    let project = world.project().await;
    world.destination().await;
    let body = json!({"projectId": project});
    let starts = (0..8).map(|_| start(&world, "/api/v1/backups", &body, "key-1"));
    let started = futures::future::join_all(starts).await;
    assert!(started.iter().all(|one| one == &started[0] && one.0 == 202), "{started:?}");
}

#[tokio::test]
async fn a_key_that_can_be_none_is_refused() {
    let world = World::new().await;
    let (project, _) = world.started_backup().await;
    for key in ["", "with space", &"k".repeat(256)] {
        let found = start(&world, "/api/v1/backups", &json!({"projectId": project}), key).await;
        assert_eq!(found, (400, "INVALID_REQUEST".to_owned()), "{key}");
    }
}
