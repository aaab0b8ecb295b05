//! Preview and verification: what is read in a repository.

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;

use crate::world::{World, id};

#[tokio::test]
async fn a_preview_counts_documents_by_collection() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(30).await;
    let reply = world.get(&format!("/api/v1/backups/{project}/{backup}/preview")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let data = reply.data();
    assert_eq!((&data["backupId"], &data["documents"]), (&json!(backup), &json!(30)));
    assert_eq!(data["source"], "demo-shop/(default)");
    let collections: Vec<_> =
        data["collections"].as_array().unwrap().iter().map(|one| (&one["name"], &one["documents"])).collect();
    assert_eq!(collections, [(&json!("orders"), &json!(10)), (&json!("users"), &json!(20))]);
    assert_eq!((&data["encrypted"], &data["originProven"]), (&json!(true), &json!(true)));
    assert_eq!(data["readTimes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_backup_that_is_whole_is_verified() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(30).await;
    let reply = world.get(&format!("/api/v1/backups/{project}/{backup}/verify?full=true")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let data = reply.data();
    assert_eq!((&data["verified"], &data["originProven"]), (&json!(true), &json!(true)));
    assert_eq!((&data["records"], &data["depth"]), (&json!(30), &json!("full")));
    assert!(data["bytes"].as_u64().unwrap() > 0);
    let noted = world.get("/api/v1/audit?action=verification.").await;
    let entry = &noted.data()[0];
    assert_eq!((&entry["action"], &entry["resource"]), (&json!("verification.completed"), &json!(backup)));
    assert_eq!(entry["details"], json!({ "projectId": project, "verified": true, "depth": "full" }));
}

#[tokio::test]
async fn damage_is_an_answer_that_names_the_object() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(30).await;
    let path = format!("/api/v1/backups/{project}/{backup}/verify");
    let run = object(&world, "runs").await;
    let whole = world.store.get(&run).await.unwrap().bytes().await.unwrap();

    let mut damaged = whole.to_vec();
    damaged[100] ^= 1;
    world.store.put(&run, damaged.into()).await.unwrap();
    let found = world.get(&path).await;
    assert_eq!((found.status, &found.data()["verified"]), (200, &json!(false)), "{}", found.text);
    assert!(found.data()["problem"].as_str().unwrap().contains(run.as_ref()), "{}", found.text);
    let noted = world.get("/api/v1/audit?action=verification.failed").await;
    assert_eq!(noted.data()[0]["resource"], json!(backup), "{}", noted.text);

    world.store.put(&run, whole.slice(..whole.len() - 1).into()).await.unwrap();
    let found = world.get(&path).await;
    assert!(found.data()["problem"].as_str().unwrap().contains("bytes, not"), "{}", found.text);

    world.store.delete(&run).await.unwrap();
    let found = world.get(&path).await;
    assert_eq!(found.data()["problem"], format!("`{run}` is gone"), "{}", found.text);

    world.store.put(&run, whole.into()).await.unwrap();
    assert_eq!(world.get(&path).await.data()["verified"], true);
}

#[tokio::test]
async fn a_manifest_that_is_damaged_or_gone_makes_a_backup_unreadable() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(30).await;
    let manifest = object(&world, "snapshots").await;
    let mut damaged = world.store.get(&manifest).await.unwrap().bytes().await.unwrap().to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    world.store.put(&manifest, damaged.into()).await.unwrap();
    for _ in 0..2 {
        let preview = world.get(&format!("/api/v1/backups/{project}/{backup}/preview")).await;
        assert_eq!(preview.outcome(), (422, "BACKUP_UNREADABLE"), "{}", preview.text);
        let verified = world.get(&format!("/api/v1/backups/{project}/{backup}/verify")).await;
        assert_eq!((verified.status, &verified.data()["verified"]), (200, &json!(false)), "{}", verified.text);
        // the second time it is gone
        let _ = world.store.delete(&manifest).await;
    }
}

#[tokio::test]
async fn what_is_not_done_cannot_be_read() {
    let world = World::new().await;
    let (project, backup) = world.started_backup().await;
    for what in ["preview", "verify"] {
        let reply = world.get(&format!("/api/v1/backups/{project}/{backup}/{what}")).await;
        assert_eq!(reply.outcome(), (409, "JOB_STATE"), "{what}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_destination_that_fails_is_told_apart_from_damage() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(5).await;
    world.repositories.fail_from_now_on();
    for what in ["preview", "verify"] {
        let reply = world.get(&format!("/api/v1/backups/{project}/{backup}/{what}")).await;
        assert_eq!(reply.outcome(), (502, "DESTINATION_FAILED"), "{what}: {}", reply.text);
    }
}

#[tokio::test]
async fn two_backups_are_compared_by_collection_with_samples() {
    let world = World::new().await;
    let (project, first) = world.completed_backup(30).await;
    let second = world.another_backup(&project, 33, 100).await;
    let path = |from: &str, to: &str| format!("/api/v1/backups/{project}/diff?from={from}&to={to}");
    let found = world.get(&path(&first, &second)).await;
    assert_eq!(found.status, 200, "{}", found.text);
    assert_eq!(found.data()["totals"], json!({"created": 3, "updated": 10, "deleted": 0, "same": 20}));
    let orders = json!({"name": "orders", "created": 1, "updated": 4, "deleted": 0, "same": 6});
    assert_eq!((&found.data()["collections"][0], &found.data()["from"]), (&orders, &json!(first)));
    let samples = found.data()["samples"].as_array().unwrap();
    assert_eq!((samples.len(), &samples[0]), (13, &json!({"path": "orders/d00000", "change": "updated"})));
    let back = world.get(&path(&second, &first)).await;
    assert_eq!(back.data()["totals"], json!({"created": 0, "updated": 10, "deleted": 3, "same": 20}));
    let same = world.get(&format!("{}&full=true", path(&first, &first))).await;
    assert_eq!((&same.data()["totals"]["same"], &same.data()["samples"]), (&json!(30), &json!([])));
}

#[tokio::test]
async fn what_cannot_be_compared_is_said() {
    let world = World::new().await;
    let (project, first) = world.completed_backup(5).await;
    let running = id(&world.post("/api/v1/backups", json!({"projectId": project})).await);
    let path = |from: &str, to: &str| format!("/api/v1/backups/{project}/diff?from={from}&to={to}");
    let unknown = "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    assert_eq!(world.get(&path(&first, &running)).await.outcome(), (409, "JOB_STATE"));
    assert_eq!(world.get(&path(unknown, &first)).await.outcome(), (404, "NOT_FOUND"));
    assert_eq!(world.get(&path(&first, "nonsense")).await.outcome(), (400, "INVALID_REQUEST"));
    let elsewhere = path(&first, &first).replace(&project, &world.project().await);
    assert_eq!(world.get(&elsewhere).await.outcome(), (404, "NOT_FOUND"), "of another project");
    world.repositories.fail_from_now_on();
    assert_eq!(world.get(&path(&first, &first)).await.outcome(), (502, "DESTINATION_FAILED"));
}

/// The one object in a folder of the repository.
async fn object(world: &World, folder: &str) -> Path {
    let listed: Vec<_> = futures::StreamExt::collect::<Vec<_>>(world.store.list(Some(&Path::from(folder)))).await;
    assert_eq!(listed.len(), 1, "{folder}");
    listed.into_iter().next().unwrap().unwrap().location
}
