//! Everything in a destination, moved to another: counted, asked for, looked at, stopped.

use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Value, json};

use crate::world::{Reply, World, bucket, id};

/// A world with a backup; the path of its destination, and the id of a target.
async fn set_up() -> (World, String, String) {
    let world = World::new().await;
    world.completed_backup(30).await;
    let source = id(&world.get("/api/v1/storage/destinations").await.data()[0]);
    let mut target = bucket("Elsewhere");
    target["url"] = json!("s3://backups/elsewhere");
    let target = id(&world.post("/api/v1/storage/destinations", target).await);
    (world, format!("/api/v1/storage/destinations/{source}"), target)
}

async fn migrate(world: &World, source: &str, body: Value) -> Reply {
    world.call("POST", &format!("{source}/migrate")).json(&body).send().await
}

async fn names(world: &World) -> Vec<(String, u64)> {
    let listed = firebackup_engine::Layer::ALL;
    let mut names = Vec::new();
    for layer in listed {
        let found = layer.found(world.store.as_ref()).await.unwrap();
        names.extend(found.into_iter().map(|object| (object.path.to_string(), object.size)));
    }
    names
}

#[tokio::test]
async fn a_dry_run_counts_and_begins_nothing() {
    let (world, source, target) = set_up().await;
    let names = names(&world).await;
    let bytes: u64 = names.iter().map(|(_, size)| size).sum();
    for (there, body) in [(0, json!({})), (1, json!({"dryRun": true}))] {
        let mut body = body;
        body["targetDestinationId"] = json!(target);
        let reply = migrate(&world, &source, body).await;
        assert_eq!((reply.status, &reply.data()["dryRun"]), (200, &json!(true)), "{}", reply.text);
        let found = &reply.data()["found"];
        let total = json!({"objects": names.len(), "bytes": bytes, "alreadyThere": there});
        assert_eq!(found["total"], total);
        assert_eq!(found["repositories"].as_array().unwrap().len(), 1);
        assert_eq!((&found["repositories"][0]["objects"], &found["audit"]["objects"]), (&total["objects"], &json!(0)));
        assert_eq!(
            (&found["obstacles"], &found["waitsFor"], &found["partial"]),
            (&json!([]), &json!([]), &json!(false))
        );
        let uses = json!({"backups": 1, "restores": 0, "schedules": 0, "pitr": 0, "auditParts": 0, "isDefault": true});
        assert_eq!(found["uses"], uses);
        // for the second
        let (name, _) = names.iter().find(|(name, _)| name.starts_with("runs/")).unwrap();
        let run = world.store.get(&Path::from(name.as_str())).await.unwrap().bytes().await.unwrap();
        world.repositories.elsewhere.put(&Path::from(name.as_str()), run.into()).await.unwrap();
    }
    assert!(world.get(&source).await.data().get("migration").is_none());
}

#[tokio::test]
async fn what_is_in_the_way_is_said() {
    let (world, source, target) = set_up().await;
    let dry = json!({"targetDestinationId": target});
    world.repositories.elsewhere.put(&Path::from("firebackup.json"), "{}".into()).await.unwrap();
    let reply = migrate(&world, &source, dry.clone()).await;
    let obstacle = &reply.data()["found"]["obstacles"][0];
    assert_eq!(obstacle["code"], "CONFLICT");
    assert!(obstacle["message"].as_str().unwrap().contains("keys of its own"), "{}", reply.text);

    world.repositories.fail_from_now_on();
    assert_eq!(migrate(&world, &source, dry).await.outcome(), (502, "DESTINATION_FAILED"));
    let itself = json!({"targetDestinationId": source.rsplit('/').next(), "dryRun": false});
    assert_eq!(migrate(&world, &source, itself).await.outcome(), (422, "VALIDATION_FAILED"));
    let unknown = json!({"targetDestinationId": "storage_01ARZ3NDEKTSV4RRFFQ69G5FAV", "dryRun": false});
    assert_eq!(migrate(&world, &source, unknown).await.outcome(), (404, "NOT_FOUND"));
    for wrong in [json!({}), json!({"targetDestinationId": "x"}), json!({"targetDestinationId": target, "other": 1})] {
        assert_eq!(migrate(&world, &source, wrong).await.outcome(), (422, "VALIDATION_FAILED"));
    }
}

#[tokio::test]
async fn it_is_asked_for_once_and_seen_and_stopped_at_its_source() {
    let (world, source, target) = set_up().await;
    let path = format!("{source}/migrate");
    let stop = async || world.call("DELETE", &path).send().await;
    assert_eq!(stop().await.outcome(), (409, "JOB_STATE"));
    let ask = async |key: &str| {
        let body = json!({"targetDestinationId": target, "dryRun": false});
        world.call("POST", &path).header("idempotency-key", key).json(&body).send().await
    };
    let first = ask("one").await;
    assert_eq!((first.status, &first.data()["dryRun"]), (202, &json!(false)), "{}", first.text);
    let migration = &first.data()["migration"];
    assert_eq!((&migration["status"], &migration["targetDestinationId"]), (&json!("copying"), &json!(target)));
    assert_eq!(&world.get(&source).await.data()["migration"], migration);
    for key in ["one", "two"] {
        assert_eq!(&ask(key).await.data()["migration"], migration);
    }
    let reply = world.call("POST", &path).json(&json!({"targetDestinationId": target})).send().await;
    assert_eq!(reply.data()["found"]["obstacles"][0]["code"], "CONFLICT", "it is on its way already");

    let backup = id(&world.get(&format!("{source}/backups")).await.data()[0]);
    let body = json!({"backupIds": [backup]});
    let deleted = world.call("POST", &format!("{source}/backups/bulk-delete")).json(&body).send().await;
    let outcome = &deleted.data()["backups"][0];
    assert_eq!((&outcome["deleting"], &outcome["code"]), (&json!(false), &json!("CONFLICT")), "{}", deleted.text);
    assert_eq!(world.call("DELETE", &source).send().await.outcome(), (409, "IN_USE"));

    let stopped = stop().await;
    assert_eq!((stopped.status, &stopped.data()["status"]), (200, &json!("cancelled")));
    assert!(stopped.data()["endedAt"].is_string());
    assert_eq!(ask("one").await.data()["migration"], *stopped.data(), "the same request begins nothing again");
    let other = json!({"targetDestinationId": target, "dryRun": true});
    assert_eq!(migrate(&world, &source, other).await.status, 200);
    assert_eq!(ask("three").await.data()["migration"]["status"], "copying");
}
