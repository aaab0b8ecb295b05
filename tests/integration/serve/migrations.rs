//! Everything that a folder keeps is moved into a bucket, by servers that are killed, and the folder is deleted.

use std::fs;
use std::time::{Duration, Instant};

use firebackup_google::sample::sample;
use firebackup_testkit::s3_server::S3Server;
use reqwest::Method;
use serde_json::{Value, json};

use super::PATIENCE;
use super::installation::{Api, Place, files, id, other_database};
use crate::stage::{assert_same, database, emulator, firestore, read_all, write_all};

const DOCUMENTS: usize = 400;

/// A bucket that lets nobody replace or delete what is kept, as that of the stack.
async fn bucket(api: &Api) -> (S3Server, String) {
    let server = S3Server::start_policed().await;
    let options: serde_json::Map<_, _> =
        server.options().into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    let url = format!("s3://{}/moved", server.bucket());
    let new = json!({"name": "bucket", "url": url, "endpoint": server.endpoint(), "options": options});
    let target = id(&api.post("/storage/destinations", new).await);
    (server, target)
}

async fn source_of(api: &Api) -> String {
    id(&api.get("/storage/destinations").await[0])
}

/// Kills the server once the bucket was asked to take some objects more, and starts another one.
async fn kill_while_it_copies(place: &mut Place, server: &S3Server, more: usize) {
    let puts = || server.seen().iter().filter(|request| request.method == "PUT").count();
    let (before, started) = (puts(), Instant::now());
    while puts() < before + more {
        assert!(started.elapsed() < PATIENCE, "nothing is copied");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    place.server.running.child.kill().unwrap();
    place.server.running.child.wait().unwrap();
    place.restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_is_whole_without_the_place_it_came_from_though_servers_were_killed() {
    let mut place = Place::with(DOCUMENTS).await;
    let api = place.api();
    let other = firestore(place.emulator.host(), &other_database()).await;
    write_all(&other, sample(&other_database(), DOCUMENTS, 3)).await;
    let other_project = api.connect(place.emulator.host(), "demo-other").await;
    let mut backups = Vec::new();
    for project in [&place.project, &other_project, &place.project] {
        let backup = api.back_up(project).await;
        api.ends(&format!("/backups/{project}/{backup}"), "completed").await;
        backups.push((project.clone(), backup));
    }
    let source = source_of(&api).await;
    let schedule = json!({
        "name": "Nightly", "projectId": other_project, "cronExpression": "0 3 1 1 *", "storageDestinationId": source,
    });
    let schedule = id(&api.post("/schedules", schedule).await);
    let (server, target) = bucket(&api).await;
    let path = format!("/storage/destinations/{source}");

    let dry = api.post(&format!("{path}/migrate"), json!({"targetDestinationId": target})).await;
    let found = &dry["found"];
    assert_eq!((&found["obstacles"], &found["uses"]["backups"]), (&json!([]), &json!(3)), "{found:#}");
    assert_eq!(found["total"]["alreadyThere"], 0);
    let wanted = json!({"targetDestinationId": target, "dryRun": false});
    let begun = api.post(&format!("{path}/migrate"), wanted.clone()).await;
    assert_eq!(begun["migration"]["status"], "copying");
    for more in [3, 9] {
        kill_while_it_copies(&mut place, &server, more).await;
    }

    let api = place.api();
    let has_ended =
        |shown: &Value| !["copying", "switching"].iter().any(|status| shown["migration"]["status"] == *status);
    let done = api.wait(&path, "the end of a migration", has_ended).await;
    let migration = &done["migration"];
    assert_eq!(migration["status"], "completed", "{done:#}");
    assert_eq!(migration["objects"], found["total"]["objects"], "{done:#}");
    assert_eq!((&migration["objectsDone"], &migration["bytesDone"]), (&migration["objects"], &found["total"]["bytes"]));
    let kept = |path: &std::path::Path| {
        !path.iter().any(|part| ["receipts", "intents", "prunes", "probes"].iter().any(|name| part == *name))
    };
    for file in files(&place.installation.backups()).into_iter().filter(|file| kept(file)) {
        let name = file.strip_prefix(place.installation.backups()).unwrap();
        let copy = server.folder().join(server.bucket()).join("moved").join(name);
        assert_eq!(fs::read(&file).unwrap(), fs::read(copy).unwrap(), "{}", name.display());
    }

    fs::remove_dir_all(place.installation.backups()).unwrap();
    for (project, backup) in &backups {
        let shown = api.get(&format!("/backups/{project}/{backup}")).await;
        assert_eq!(shown["storageDestinationId"], json!(target));
        api.verified(project, backup, DOCUMENTS as u64).await;
        let preview = api.get(&format!("/backups/{project}/{backup}/preview")).await;
        assert!(preview["collections"].as_array().is_some_and(|found| !found.is_empty()), "{preview:#}");
    }
    assert_eq!(api.get(&format!("/schedules/{schedule}")).await["storageDestinationId"], json!(target));
    assert_eq!(api.data(Method::DELETE, &path, None).await["id"], json!(source));
    let left = api.get("/storage/destinations").await;
    assert_eq!((left.as_array().unwrap().len(), &left[0]["isDefault"]), (1, &json!(true)));

    // what was moved is restored, and what is made next goes on in the same repository
    let next = api.back_up(&place.project).await;
    api.ends(&place.backup_path(&next), "completed").await;
    let elsewhere = emulator().await;
    let restored = api.connect(elsewhere.host(), "demo-app").await;
    for backup in [&backups[0].1, &next] {
        let restore = json!({"backupId": backup, "targetProjectId": restored});
        let restore = id(&api.post("/backups/restore", restore).await);
        api.ends(&format!("/restores/{restore}"), "completed").await;
    }
    let copy = firestore(elsewhere.host(), &database()).await;
    assert_same(&read_all(&copy).await, &read_all(&place.source).await);
}
