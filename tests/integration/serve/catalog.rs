//! A server that has lost its database, and makes its catalog anew from what lies in the destination.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use super::installation::{Api, Installation, Place, id, other_database};
use crate::stage::{firestore, read_all};

/// Everything that the server knew but its key file.
fn lose_the_database(installation: &Installation) {
    let files: Vec<_> = fs::read_dir(installation.data()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let lost = files.iter().filter(|path| path.is_file() && !path.ends_with("master.key"));
    lost.for_each(|path| fs::remove_file(path).unwrap());
    assert!(installation.data().join("master.key").exists() && !installation.data().join("firebackup.db").exists());
}

async fn sync(api: &Api, body: Value) -> Value {
    let synced = api.post("/storage/sync", body).await;
    assert_eq!(synced.get("cursor"), None, "{synced:#}");
    synced["destinations"][0].clone()
}

fn counts(synced: &Value) -> [u64; 4] {
    ["found", "added", "known", "unreadable"].map(|name| synced[name].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_a_destination_outlives_the_database_of_the_server() {
    let mut place = Place::with(120).await;
    let wanted = read_all(&place.source).await;
    let api = place.api();
    let mut backups = Vec::new();
    for _ in 0..2 {
        let backup = api.back_up(&place.project).await;
        api.ends(&place.backup_path(&backup), "completed").await;
        backups.push(backup);
    }
    assert_eq!(counts(&sync(&api, json!({})).await), [2, 0, 2, 0], "nothing is lost yet");

    place.server.running.child.kill().unwrap();
    place.server.running.child.wait().unwrap();
    lose_the_database(&place.installation);
    place.restart().await;
    place.key = place.server.owner_key();
    let api = place.api();
    let anew = api.connect(place.emulator.host(), "demo-app").await;
    api.post("/storage/destinations", json!({"name": "folder", "url": place.installation.url()})).await;
    assert!(api.backups(&anew).await.is_empty());

    let unknown = sync(&api, json!({})).await;
    assert_eq!((counts(&unknown), &unknown["unknownProjects"]), ([0; 4], &json!([place.project])));
    let attach = json!({"attach": {place.project.clone(): anew.clone()}});
    assert_eq!(counts(&sync(&api, attach.clone()).await), [2, 2, 0, 0]);
    assert_eq!(counts(&sync(&api, attach).await), [2, 0, 2, 0]);
    assert_eq!(api.backups(&anew).await.len(), 2);
    api.verified(&anew, &backups[0], 120).await;

    let other = api.connect(place.emulator.host(), "demo-other").await;
    let restore = json!({"backupId": backups[0], "targetProjectId": other});
    let restore = id(&api.post("/backups/restore", restore).await);
    api.ends(&format!("/restores/{restore}"), "completed").await;
    let copied = read_all(&firestore(place.emulator.host(), &other_database()).await).await;
    assert_eq!(copied.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());

    // a new backup goes into a repository of its own, and both are known
    let next = api.back_up(&anew).await;
    api.ends(&format!("/backups/{anew}/{next}"), "completed").await;
    assert!(place.installation.backups().join(&anew).is_dir());
    let path = format!("/backups/{anew}/{}", backups[1]);
    assert_eq!(api.data(Method::DELETE, &path, None).await["status"], "deleting");
    let synced = sync(&api, json!({"attach": {place.project.clone(): anew.clone()}})).await;
    assert_eq!(counts(&synced), [3, 0, 3, 0], "what is about to be deleted is not brought back");
}
