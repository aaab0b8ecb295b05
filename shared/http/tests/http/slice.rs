//! What a user does, from the first key to a restore.

use serde_json::json;

use crate::world::{World, emulator_project, folder, id, schedule};

#[tokio::test]
async fn from_connecting_to_restoring() {
    let world = World::new().await;
    let mut asked = emulator_project("Shop");
    asked["credentials"]["authHost"] = json!("127.0.0.1:9099");
    let project = world.post("/api/v1/projects", asked).await;
    assert_eq!((&project["status"], &project["databases"]), (&json!("connected"), &json!(["(default)"])));
    let destination = world.post("/api/v1/storage/destinations", folder("Here")).await;
    assert_eq!((&destination["isDefault"], &destination["kind"]), (&json!(true), &json!("folder")));
    let project = id(&project);

    let asked = json!({
        "projectId": project, "type": "full", "collections": ["users"], "excludeCollections": [],
        "includeSubcollections": true, "includeAuth": false, "storageDestinationId": id(&destination),
        "compression": "zstd:3", "encrypt": true
    });
    let backup = world.post("/api/v1/backups", asked).await;
    assert_eq!((&backup["status"], &backup["storageDestinationId"]), (&json!("pending"), &destination["id"]));
    let path = format!("/api/v1/backups/{project}/{}", id(&backup));
    assert_eq!(world.get(&path).await.data()["config"]["compression"], "zstd:3");
    let listed = world.get(&format!("/api/v1/backups/project/{project}")).await;
    assert_eq!(listed.data().as_array().unwrap().iter().map(id).collect::<Vec<_>>(), [id(&backup)]);

    // it cannot be deleted while it is made; it can be cancelled
    assert_eq!(world.call("DELETE", &path).send().await.outcome(), (409, "JOB_STATE"));
    let cancelled = world.call("POST", &format!("{path}/cancel")).send().await;
    assert_eq!(cancelled.status, 202, "{}", cancelled.text);
    assert!(["cancelled", "cancelling"].contains(&cancelled.data()["status"].as_str().unwrap()));
}

#[tokio::test]
async fn a_backup_that_is_done_is_restored_and_then_deleted() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(10).await;
    let path = format!("/api/v1/backups/{project}/{backup}");
    let shown = world.get(&path).await;
    assert_eq!((&shown.data()["status"], &shown.data()["result"]["documents"]), (&json!("completed"), &json!(10)));
    let asked = json!({
        "backupId": backup, "collections": ["users"], "renames": [{"from": "users", "to": "people"}],
        "mode": "skip-existing", "includeAuth": false, "undo": true, "dryRun": true
    });
    let restore = world.post("/api/v1/backups/restore", asked).await;
    assert_eq!((&restore["mode"], &restore["dryRun"]), (&json!("skip-existing"), &json!(true)));
    let restore_path = format!("/api/v1/restores/{}", id(&restore));
    assert_eq!(world.get(&restore_path).await.data()["backupId"], backup);
    assert_eq!(world.get("/api/v1/restores").await.data().as_array().unwrap().len(), 1);
    assert_eq!(world.call("POST", &format!("{restore_path}/cancel")).send().await.status, 202);

    let deleted = world.call("DELETE", &path).send().await;
    assert_eq!((deleted.status, &deleted.data()["status"]), (202, &json!("deleting")), "{}", deleted.text);
}

#[tokio::test]
async fn a_schedule_is_made_changed_toggled_triggered_and_removed() {
    let world = World::new().await;
    let project = world.project().await;
    world.destination().await;
    let mut asked = schedule(&project);
    asked["retention"] = json!({"type": "count", "value": 7});
    let made = world.post("/api/v1/schedules", asked).await;
    assert_eq!(made["nextRuns"].as_array().unwrap().len(), 5);
    let path = format!("/api/v1/schedules/{}", id(&made));
    let changed =
        world.call("PUT", &path).json(&json!({"cronExpression": "30 4 * * 1", "retention": null})).send().await;
    assert_eq!(changed.data()["cronExpression"], "30 4 * * 1", "{}", changed.text);
    assert!(changed.data().get("retention").is_none(), "{}", changed.text);
    for enabled in [false, true] {
        let toggled = world.call("PATCH", &format!("{path}/toggle")).send().await;
        assert_eq!(toggled.data()["enabled"], enabled);
    }
    let backup = world.call("POST", &format!("{path}/trigger")).send().await;
    assert_eq!((backup.status, &backup.data()["scheduleId"]), (202, &made["id"]), "{}", backup.text);
    assert_eq!(world.get(&format!("/api/v1/schedules/project/{project}")).await.data().as_array().unwrap().len(), 1);
    assert_eq!(world.call("DELETE", &format!("/api/v1/projects/{project}")).send().await.outcome(), (409, "IN_USE"));
    let removed = world.call("DELETE", &path).send().await;
    assert_eq!(removed.body, json!({"success": true, "data": {"id": made["id"]}}));
    assert_eq!(world.get(&path).await.outcome(), (404, "NOT_FOUND"));
    let bad = world.call("POST", "/api/v1/schedules").json(&json!({
        "name": "Bad", "projectId": project, "cronExpression": "61 * * * *"
    }));
    assert_eq!(bad.send().await.outcome(), (422, "VALIDATION_FAILED"));
}

#[tokio::test]
async fn things_are_removed_when_nothing_uses_them() {
    let world = World::new().await;
    let (project, destination) = (world.project().await, world.destination().await);
    for path in [format!("/api/v1/projects/{project}"), format!("/api/v1/storage/destinations/{destination}")] {
        assert_eq!(world.call("DELETE", &path).send().await.status, 200, "{path}");
        assert_eq!(world.get(&path).await.outcome(), (404, "NOT_FOUND"), "{path}");
    }
}

#[tokio::test]
async fn the_organization_is_shown_and_changed() {
    let world = World::new().await;
    let shown = world.get("/api/v1/organizations/current").await;
    assert_eq!(shown.data()["name"], "First");
    let change = json!({"name": "Renamed", "maxRunningJobs": 3});
    let changed = world.call("PUT", "/api/v1/organizations/current").json(&change).send().await;
    assert_eq!((&changed.data()["name"], &changed.data()["maxRunningJobs"]), (&json!("Renamed"), &json!(3)));
    let wrong = world.call("PUT", "/api/v1/organizations/current").json(&json!({"maxRunningJobs": 0})).send().await;
    assert_eq!(wrong.outcome(), (422, "VALIDATION_FAILED"));
}

#[tokio::test]
async fn an_organization_with_too_many_unfinished_jobs_is_told_when_to_try_again() {
    let world = World::new().await;
    let (project, _) = world.started_backup().await;
    let asked = json!({"projectId": project});
    for _ in 0..2000 {
        let reply = world.call("POST", "/api/v1/backups").json(&asked).send().await;
        if reply.status != 202 {
            assert_eq!(reply.outcome(), (429, "TOO_MANY_JOBS"), "{}", reply.text);
            assert!(reply.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
            return;
        }
    }
    panic!("2,000 jobs were taken");
}
