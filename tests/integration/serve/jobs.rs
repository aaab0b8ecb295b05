//! Jobs through the API: what was backed up is what comes back, once for each request, and not more at a time than allowed.

use firebackup_testkit::{Method as Call, Proxy, ProxyOptions};
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

use super::installation::{Place, id, other_database};
use crate::stage::{assert_same, emulator, firestore, read_all};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_restores_into_another_project_and_the_command_line_reads_its_repository() {
    let place = Place::with(300).await;
    let api = place.api();
    let wanted = read_all(&place.source).await;
    let backup = api.back_up(&place.project).await;
    let done = api.ends(&place.backup_path(&backup), "completed").await;
    assert_eq!((done["result"]["documents"].as_u64(), &done["result"]["consistency"]), (Some(300), &json!("snapshot")));
    assert!(done["progress"]["chunks"].as_u64().is_some_and(|chunks| chunks > 3), "{done:#}");
    assert_eq!(done["progress"]["chunks"], done["progress"]["chunksDone"], "{done:#}");
    api.verified(&place.project, &backup, 300).await;

    let other = api.connect(place.emulator.host(), "demo-other").await;
    let restore = id(&api.post("/backups/restore", json!({"backupId": backup, "targetProjectId": other})).await);
    api.ends(&format!("/restores/{restore}"), "completed").await;
    let target = firestore(place.emulator.host(), &other_database()).await;
    let copied = read_all(&target).await;
    assert_eq!(copied.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());

    // the database is destroyed, and the command line puts it back while the server runs
    crate::stage::delete_all(&place.source).await;
    let installation = &place.installation;
    installation.cli_json(&place.project, &["verify", "--all"]);
    let listed = installation.cli_json(&place.project, &["list"]);
    assert_eq!(listed["snapshots"][0]["id"].as_str(), Some(backup.as_str()), "{listed:#}");
    let repository = format!("{}/{}", installation.url(), place.project);
    let key = installation.data().join("master.key").display().to_string();
    let restored = installation
        .command(&["restore", "--yes", "--repo", &repository, "--master-key-file", &key])
        .env("FIRESTORE_EMULATOR_HOST", place.emulator.host())
        .output()
        .unwrap();
    assert_eq!(restored.status.code(), Some(0), "{restored:?}");
    assert_same(&read_all(&place.source).await, &wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_an_idempotency_key_starts_one_job_also_after_a_restart() {
    let mut place = Place::with(60).await;
    let api = place.api();
    let body = json!({"projectId": place.project});
    let asks = (0..6).map(|_| api.ask(Method::POST, "/backups", Some(&body), Some("nightly")));
    let mut made = Vec::new();
    for (status, answer) in join_all(asks).await {
        // of those that come at the same time some may be told to try again
        match status {
            202 => made.push(id(&answer["data"])),
            409 => assert_eq!(answer["error"]["code"], "CONCURRENT_CHANGE", "{answer:#}"),
            _ => panic!("{status}: {answer:#}"),
        }
    }
    made.dedup();
    assert_eq!(made.len(), 1, "{made:?}");
    api.ends(&place.backup_path(&made[0]), "completed").await;
    drop(api);
    assert!(std::mem::replace(&mut place.server, place.installation.start(&[]).await).running.terminate().0.success());

    let api = place.api();
    let (status, answer) = api.ask(Method::POST, "/backups", Some(&body), Some("nightly")).await;
    assert_eq!((status, id(&answer["data"])), (202, made[0].clone()), "{answer:#}");
    let another = json!({"projectId": place.project, "compression": "zstd"});
    let (status, answer) = api.ask(Method::POST, "/backups", Some(&another), Some("nightly")).await;
    assert_eq!(answer["error"]["code"], "IDEMPOTENCY_KEY_REUSED", "{status}: {answer:#}");
    assert_eq!(api.backups(&place.project).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn not_more_jobs_run_at_a_time_than_the_organization_may_and_those_that_wait_begin_by_themselves() {
    let emulator = emulator().await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    let place = Place::reached_by(emulator, &proxy.host(), 60).await;
    let api = place.api();
    api.data(Method::PUT, "/organizations/current", Some(&json!({"maxRunningJobs": 1}))).await;
    proxy.control().delay(Call::RunQuery, Duration::from_secs(1));
    let mut backups = Vec::new();
    for _ in 0..3 {
        backups.push(api.back_up(&place.project).await);
    }
    api.wait(&place.backup_path(&backups[0]), "a beginning", |job| job["status"] == "running").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut running = 0;
    for job in api.backups(&place.project).await {
        running += u32::from(job["status"] == "running");
    }
    assert_eq!(running, 1);
    proxy.control().clear_faults();
    let mut spans = Vec::new();
    for backup in &backups {
        let job = api.ends(&place.backup_path(backup), "completed").await;
        spans.push(["startedAt", "endedAt"].map(|name| job[name].as_str().unwrap().to_owned()));
    }
    spans.sort();
    assert!(spans.windows(2).all(|pair| pair[0][1] <= pair[1][0]), "one after the other: {spans:?}");
}
