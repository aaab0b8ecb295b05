//! The catalog, made anew from what lies in the repositories.

use firebackup_control::{ProjectId, Worker};
use firebackup_model::id::JobId;
use firebackup_model::port::{ItemKey, ItemStore, ItemWrite};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Value, json};

use crate::world::{World, emulator_project, id};

const SYNC: &str = "/api/v1/storage/sync";

/// A project with backups that lie where every destination leads.
async fn with_backups(count: usize) -> (World, String, Vec<String>) {
    let world = World::new().await;
    let (project, first) = world.completed_backup(30).await;
    let mut backups = vec![first];
    for _ in 1..count {
        backups.push(world.another_backup(&project, 30, 1).await);
    }
    world.repositories.lying.lock().unwrap().push((project.parse().unwrap(), true));
    (world, project, backups)
}

/// What a lost table has lost.
async fn lose(world: &World, sort: &str) {
    let key = ItemKey::new(format!("ORG#{}", world.organization), sort);
    let version = world.items.get(&key).await.unwrap().unwrap().version;
    world.items.write(vec![ItemWrite::Delete(key, version)]).await.unwrap();
}

async fn lose_backup(world: &World, backup: &str) {
    lose(world, &format!("JOB#{backup}")).await;
}

async fn sync(world: &World, body: Value) -> Value {
    let synced = world.post(SYNC, body).await;
    assert_eq!(synced["destinations"].as_array().unwrap().len(), 1, "{synced}");
    synced
}

fn counts(synced: &Value) -> [u64; 4] {
    ["found", "added", "known", "unreadable"].map(|name| synced["destinations"][0][name].as_u64().unwrap())
}

async fn listed(world: &World, project: &str) -> Vec<String> {
    let page = world.get(&format!("/api/v1/backups/project/{project}")).await;
    page.data().as_array().unwrap().iter().map(id).collect()
}

fn worker(world: &World) -> Worker {
    world.control.worker(&world.organization)
}

#[tokio::test]
async fn what_was_lost_comes_back_as_it_was_and_once() {
    let (world, project, backups) = with_backups(2).await;
    let path = format!("/api/v1/backups/{project}/{}", backups[0]);
    let mut before = world.get(&path).await.data().clone();
    // the same in the words of the manifest
    before["config"]["compression"] = json!("brotli:auto");
    lose_backup(&world, &backups[0]).await;
    assert_eq!(world.get(&path).await.status, 404);
    assert_eq!(counts(&sync(&world, json!({})).await), [2, 1, 1, 0]);
    assert_eq!(counts(&sync(&world, json!({})).await), [2, 0, 2, 0], "twice is once");
    let after = world.get(&path).await.data().clone();
    for field in
        ["status", "config", "database", "googleProject", "projectId", "storageDestinationId", "organizationId"]
    {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(after["createdAt"].as_str().map(|at| &at[..19]), before["createdAt"].as_str().map(|at| &at[..19]));
    for field in ["documents", "stored"] {
        assert_eq!(after["result"][field], before["result"][field], "{field}");
    }
    assert!(listed(&world, &project).await.contains(&backups[0]), "the index has it too");
    assert_eq!(world.get(&format!("{path}/preview")).await.status, 200);
    let restore = json!({"backupId": backups[0], "dryRun": true});
    world.post("/api/v1/backups/restore", restore).await;
    let told = world.get("/api/v1/audit?action=backup.recovered").await;
    assert_eq!((told.data().as_array().unwrap().len(), &told.data()[0]["resource"]), (1, &json!(backups[0])));
}

#[tokio::test]
async fn what_builds_on_another_comes_back_as_such_and_can_be_looked_at() {
    let (world, project, backups) = with_backups(1).await;
    let increment = world.incremental_backup(&project, 40).await;
    let path = format!("/api/v1/backups/{project}/{increment}");
    let before = world.get(&path).await.data().clone();
    let told = |backup: &Value| ["kind", "parent", "documents"].map(|field| backup["result"][field].clone());
    assert_eq!(told(&before), [json!("incremental"), json!(backups[0]), json!(10)]);
    lose_backup(&world, &increment).await;
    assert_eq!(counts(&sync(&world, json!({})).await), [2, 1, 1, 0]);
    let after = world.get(&path).await.data().clone();
    assert_eq!((&after["config"]["type"], told(&after)), (&json!("incremental"), told(&before)));
    assert_eq!(world.get(&format!("{path}/verify?full=true")).await.data()["verified"], true);
    let diff = world.get(&format!("/api/v1/backups/{project}/diff?from={}&to={increment}", backups[0])).await;
    assert_eq!((&diff.data()["totals"]["created"], &diff.data()["totals"]["same"]), (&json!(10), &json!(30)));
    let parent = format!("/api/v1/backups/{project}/{}", backups[0]);
    let refused = world.call("DELETE", &parent).send().await;
    assert_eq!((refused.status, refused.code()), (409, "IN_USE"));
}

#[tokio::test]
async fn what_is_deleted_on_purpose_does_not_come_back() {
    let (world, project, backups) = with_backups(2).await;
    let path = format!("/api/v1/backups/{project}/{}", backups[0]);
    assert_eq!(world.call("DELETE", &path).send().await.status, 202);
    assert_eq!(counts(&sync(&world, json!({})).await), [2, 0, 2, 0], "it is about to go");
    assert_eq!(world.get(&path).await.data()["status"], "deleting");
    // as maintenance does it: the manifest, then the record
    let manifest = Path::from(format!("snapshots/{}.manifest", backups[0]));
    world.store.delete(&manifest).await.unwrap();
    assert_eq!(counts(&sync(&world, json!({})).await), [1, 0, 1, 0]);
    let job: JobId = backups[0].parse().unwrap();
    world.control.backup_gone(&worker(&world), &job).await.unwrap();
    assert_eq!(counts(&sync(&world, json!({})).await), [1, 0, 1, 0]);
    assert_eq!(listed(&world, &project).await, [backups[1].clone()]);
}

#[tokio::test]
async fn a_job_that_runs_is_left_alone() {
    let (world, project, _) = with_backups(1).await;
    let running = id(&world.post("/api/v1/backups", json!({"projectId": project})).await);
    let job: JobId = running.parse().unwrap();
    world.control.start_job(&worker(&world), &job).await.unwrap();
    // its manifest is put, and its record does not say so yet
    world.repositories.back_up(&job, (30, 0), false).await;
    assert_eq!(counts(&sync(&world, json!({})).await), [2, 0, 2, 0]);
    assert_eq!(world.get(&format!("/api/v1/backups/{project}/{running}")).await.data()["status"], "running");
}

#[tokio::test]
async fn a_request_does_so_much_and_says_where_to_go_on() {
    let (world, project, mut backups) = with_backups(5).await;
    for backup in &backups {
        lose_backup(&world, backup).await;
    }
    let (mut cursor, mut added) = (Value::Null, Vec::new());
    loop {
        let synced = sync(&world, json!({"limit": 2, "cursor": cursor})).await;
        added.push(counts(&synced)[1]);
        match synced.get("cursor") {
            Some(next) => cursor = next.clone(),
            None => break,
        }
    }
    assert_eq!(added, [2, 2, 1]);
    let mut found = listed(&world, &project).await;
    found.sort();
    backups.sort();
    assert_eq!(found, backups);
}

#[tokio::test]
async fn rubbish_is_named_and_keeps_nobody_from_the_rest() {
    let (world, project, backups) = with_backups(2).await;
    for backup in &backups {
        lose_backup(&world, backup).await;
    }
    let manifest = Path::from(format!("snapshots/{}.manifest", backups[0]));
    world.store.put(&manifest, "rubbish".into()).await.unwrap();
    let synced = sync(&world, json!({})).await;
    assert_eq!(counts(&synced), [2, 1, 0, 1]);
    let problem = &synced["destinations"][0]["problems"][0];
    assert_eq!((&problem["projectId"], &problem["backupId"]), (&json!(project), &json!(backups[0])));
    world.repositories.fail_from_now_on();
    let failed = sync(&world, json!({})).await;
    assert_eq!((counts(&failed), &failed["destinations"][0]["error"]), ([0; 4], &json!("the bucket does not answer")));
}

#[tokio::test]
async fn a_repository_of_an_unknown_project_is_named_and_can_be_attached() {
    let (world, project, backups) = with_backups(1).await;
    // as after a lost database: the project is connected anew
    lose_backup(&world, &backups[0]).await;
    lose(&world, &format!("PROJECT#{project}")).await;
    let anew = id(&world.post("/api/v1/projects", emulator_project("Shop")).await);
    let synced = sync(&world, json!({})).await;
    assert_eq!((counts(&synced), &synced["destinations"][0]["unknownProjects"]), ([0; 4], &json!([project])));
    let mut elsewhere = emulator_project("Elsewhere");
    elsewhere["googleProject"] = json!("another-project");
    let elsewhere = id(&world.post("/api/v1/projects", elsewhere).await);
    let wrong = sync(&world, json!({"attach": {project.clone(): elsewhere}})).await;
    assert_eq!(counts(&wrong), [1, 0, 0, 1], "of another Google project: {wrong}");
    let attach = json!({"attach": {project.clone(): anew.clone()}});
    assert_eq!(counts(&sync(&world, attach.clone()).await), [1, 1, 0, 0]);
    let path = format!("/api/v1/backups/{anew}/{}", backups[0]);
    assert_eq!(world.get(&path).await.data()["repositoryProjectId"], json!(project));
    let (caller, anew): (_, ProjectId) = (world.caller().await, anew.parse().unwrap());
    let place = world.control.open_backup(&caller, &anew, &backups[0].parse().unwrap()).await.unwrap();
    assert_eq!(place.project, project.parse::<ProjectId>().unwrap(), "it is read where it lies");
    let restore = world.post("/api/v1/backups/restore", json!({"backupId": backups[0], "dryRun": true})).await;
    assert_eq!(restore["repositoryProjectId"], json!(project));
    let of_another = json!({"attach": {project.clone(): "proj_01ARZ3NDEKTSV4RRFFQ69G5FAV"}});
    assert_eq!(world.call("POST", SYNC).json(&of_another).send().await.status, 404);
    world.another_organization().await;
    let refused = world.call("POST", SYNC).json(&attach).send().await;
    assert_eq!(refused.outcome(), (422, "VALIDATION_FAILED"), "whose it is is not known any more");
}

#[tokio::test]
async fn what_may_not_be_is_refused() {
    let (world, ..) = with_backups(1).await;
    for (body, expect) in [
        (json!({"limit": 0}), (422, "VALIDATION_FAILED")),
        (json!({"limit": 1001}), (422, "VALIDATION_FAILED")),
        (json!({"cursor": "x"}), (400, "INVALID_CURSOR")),
        (json!({"destinationIds": ["storage_01ARZ3NDEKTSV4RRFFQ69G5FAV"]}), (404, "NOT_FOUND")),
    ] {
        assert_eq!(world.call("POST", SYNC).json(&body).send().await.outcome(), expect, "{body}");
    }
}
