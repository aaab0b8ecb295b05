//! What nothing refers to: counted, and handed over to be deleted.

use firebackup_control::Worker;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Value, json};

use crate::world::{Reply, World, id};

const ORPHAN: &str = "runs/ab/ab000000000000000000000000000000.run";

/// A project with a backup and an object that nothing refers to; the path of its destination.
async fn with_orphan() -> (World, String, String) {
    let world = World::new().await;
    let (project, _) = world.completed_backup(30).await;
    world.store.put(&Path::from(ORPHAN), "12345".into()).await.unwrap();
    let destination = id(&world.get("/api/v1/storage/destinations").await.data()[0]);
    (world, project, format!("/api/v1/storage/destinations/{destination}"))
}

async fn clean_up(world: &World, destination: &str, body: Value) -> Reply {
    world.call("POST", &format!("{destination}/cleanup-orphans")).json(&body).send().await
}

fn worker(world: &World) -> Worker {
    world.control.worker(&world.organization)
}

async fn waiting(world: &World) -> usize {
    world.control.cleanups(&worker(world)).await.unwrap().len()
}

#[tokio::test]
async fn a_dry_run_counts_and_hands_nothing_over() {
    let (world, project, destination) = with_orphan().await;
    for body in [json!({}), json!({"dryRun": true})] {
        let reply = clean_up(&world, &destination, body).await;
        assert_eq!((reply.status, &reply.data()["dryRun"]), (200, &json!(true)));
        let found = &reply.data()["found"];
        assert_eq!((&found["objects"], &found["bytes"], &found["partial"]), (&json!(1), &json!(5), &json!(false)));
        let of = json!({
            "projectId": project, "encrypted": true, "objects": 1, "bytes": 5, "due": 0, "dueBytes": 0, "undos": 0
        });
        assert_eq!(found["repositories"], json!([of]));
    }
    assert_eq!(waiting(&world).await, 0);
    let reply = clean_up(&world, &destination, json!({"dryRun": false})).await;
    assert_eq!((reply.status, reply.data()), (202, &json!({"dryRun": false})));
    assert_eq!(waiting(&world).await, 1);
    assert!(world.store.head(&Path::from(ORPHAN)).await.is_ok(), "who answers requests deletes nothing");
}

#[tokio::test]
async fn what_cannot_be_known_is_said_and_nothing_is_an_orphan() {
    let (world, project, destination) = with_orphan().await;
    world.store.put(&Path::from("snapshots/stranger"), "x".into()).await.unwrap();
    let reply = clean_up(&world, &destination, json!({})).await;
    let found = &reply.data()["found"]["repositories"][0];
    assert!(found["objects"] == 0 && found["problem"].as_str().unwrap().contains("stranger"), "{}", reply.text);
    let asked = json!({"projectId": project, "names": [ORPHAN]});
    let refused = world.call("POST", &format!("{destination}/files/bulk-delete")).json(&asked).send().await;
    assert_eq!(refused.outcome(), (409, "CONFLICT"));
    assert_eq!(waiting(&world).await, 0);
}

#[tokio::test]
async fn files_are_told_apart_and_only_orphans_are_handed_over() {
    let (world, project, destination) = with_orphan().await;
    let files = world.get(&format!("{destination}/files?projectId={project}&limit=100")).await;
    let mut names: Vec<String> =
        files.data().as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect();
    names.push("runs/ef/ef000000000000000000000000000000.run".to_owned());
    let path = format!("{destination}/files/bulk-delete");
    let ask = async |dry_run: bool| {
        let body = json!({"projectId": project, "names": names, "dryRun": dry_run});
        world.call("POST", &path).json(&body).send().await
    };
    let dry = ask(true).await;
    assert_eq!((dry.status, waiting(&world).await), (200, 0));
    let real = ask(false).await;
    assert_eq!((real.status, waiting(&world).await), (202, 1));
    assert_eq!(real.data()["files"], dry.data()["files"]);
    let told = real.data()["files"].as_array().unwrap();
    assert_eq!(told.len(), names.len());
    for (file, name) in told.iter().zip(&names) {
        let expect = match name.as_str() {
            ORPHAN => json!({"name": name, "deleting": true, "bytes": 5}),
            missing if missing.starts_with("runs/ef") => {
                json!({"name": name, "deleting": false, "code": "NOT_FOUND", "message": file["message"]})
            }
            _ => json!({"name": name, "deleting": false, "code": "IN_USE", "message": file["message"]}),
        };
        assert_eq!(*file, expect);
    }
    let of = destination.rsplit('/').next().unwrap().parse().unwrap();
    let begun = world.control.begin_cleanup(&worker(&world), &of).await.unwrap().unwrap();
    let places = world.control.places_to_clean(&worker(&world), &begun).await.unwrap();
    let only = places.into_iter().next().unwrap().unwrap().only.unwrap();
    assert_eq!(only.into_iter().collect::<Vec<_>>(), [ORPHAN]);
}

#[tokio::test]
async fn one_file_is_as_several() {
    let (world, project, destination) = with_orphan().await;
    let delete = async |name: &str, more: &str| {
        let path = format!("{destination}/files?projectId={project}&name={name}{more}");
        world.call("DELETE", &path).send().await
    };
    let kept = delete("firebackup.json", "").await;
    assert_eq!((kept.status, &kept.data()["files"][0]["code"]), (202, &json!("IN_USE")));
    assert_eq!(delete(ORPHAN, "&dryRun=true").await.status, 200);
    assert_eq!(waiting(&world).await, 0);
    let gone = delete(ORPHAN, "").await;
    assert_eq!((gone.status, &gone.data()["files"][0]["deleting"]), (202, &json!(true)));
    assert_eq!(waiting(&world).await, 1);
    assert_eq!(delete("", "").await.outcome(), (422, "VALIDATION_FAILED"));
}

#[tokio::test]
async fn what_may_not_be_is_refused() {
    let (world, project, destination) = with_orphan().await;
    let path = format!("{destination}/files/bulk-delete");
    for names in [Vec::new(), vec!["a".to_owned(); 101], vec![String::new()], vec!["a".repeat(1025)]] {
        let body = json!({"projectId": project, "names": names});
        assert_eq!(world.call("POST", &path).json(&body).send().await.outcome(), (422, "VALIDATION_FAILED"));
    }
    let body = json!({"projectId": project, "encrypted": false, "names": ["a"]});
    assert_eq!(world.call("POST", &path).json(&body).send().await.outcome(), (404, "NOT_FOUND"), "no such repository");
    world.repositories.fail_from_now_on();
    let body = json!({"projectId": project, "names": ["a"]});
    assert_eq!(world.call("POST", &path).json(&body).send().await.outcome(), (502, "DESTINATION_FAILED"));
}
