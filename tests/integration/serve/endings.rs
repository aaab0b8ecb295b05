//! How jobs end that do not come to their end: cancelled, failed, and what they leave; and a server that is asked to end.

use std::time::{Duration, Instant};

use firebackup_testkit::{Method as Call, Proxy, ProxyOptions};
use reqwest::Method;
use serde_json::json;

use super::installation::{Place, has_ended, id};
use crate::stage::{assert_same, emulator, read_all};

/// How long a call is held up: there is time to ask for something before it.
const HELD_UP: Duration = Duration::from_secs(2);
/// By then who asked for an end must have it.
const BOUND: Duration = Duration::from_secs(30);

/// A place behind a proxy that can hold calls up.
async fn slow_place(documents: usize) -> (Proxy, Place) {
    let emulator = emulator().await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    let host = proxy.host();
    let place = Place::reached_by(emulator, &host, documents).await;
    (proxy, place)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_ends_soon_and_leaves_nothing_listed() {
    let (proxy, place) = slow_place(600).await;
    let api = place.api();
    proxy.control().delay(Call::RunQuery, HELD_UP);
    let backup = api.back_up(&place.project).await;
    let path = place.backup_path(&backup);
    api.wait(&path, "a first chunk", |job| job["progress"]["chunksDone"].as_u64() >= Some(1)).await;
    let asked = Instant::now();
    let told = api.data(Method::POST, &format!("{path}/cancel"), None).await;
    assert!(["cancelling", "cancelled"].iter().any(|status| told["status"] == *status), "{told:#}");
    api.ends(&path, "cancelled").await;
    assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
    proxy.control().clear_faults();
    assert_eq!(place.installation.cli_json(&place.project, &["list"])["snapshots"], json!([]));
    assert_eq!(place.installation.cli_json(&place.project, &["jobs"])["jobs"], json!([]));
    let again = api.data(Method::POST, &format!("{path}/cancel"), None).await;
    assert_eq!(again["status"], "cancelled", "asked once more, it stays so");
    // and the next one is not in its way
    let next = api.back_up(&place.project).await;
    api.ends(&place.backup_path(&next), "completed").await;
    api.verified(&place.project, &next, 600).await;
    let late = format!("{}/cancel", place.backup_path(&next));
    let (status, answer) = api.ask(Method::POST, &late, None, None).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("JOB_STATE")), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_restore_ends_soon_and_what_it_did_can_be_taken_back() {
    let (proxy, place) = slow_place(600).await;
    let api = place.api();
    let backup = api.back_up(&place.project).await;
    api.ends(&place.backup_path(&backup), "completed").await;
    crate::stage::write_all(&place.source, firebackup_google::sample::sample(&crate::stage::database(), 600, 2)).await;
    let before = read_all(&place.source).await;
    proxy.control().delay(Call::BatchWrite, HELD_UP);
    let restore = id(&api.post("/backups/restore", json!({"backupId": backup})).await);
    let path = format!("/restores/{restore}");
    api.wait(&path, "a first part", |job| job["progress"]["chunksDone"].as_u64() >= Some(1)).await;
    let asked = Instant::now();
    api.data(Method::POST, &format!("{path}/cancel"), None).await;
    let ended = api.ends(&path, "cancelled").await;
    assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
    proxy.control().clear_faults();
    let undo = id(&api.post("/backups/restore", json!({"backupId": restore})).await);
    let undone = api.wait(&format!("/restores/{undo}"), "an end", has_ended).await;
    assert_eq!(undone["status"], "completed", "{ended:#} {undone:#}");
    assert_same(&read_all(&place.source).await, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_database_that_is_gone_fails_with_a_reason_and_leaves_nothing_listed() {
    let (proxy, place) = slow_place(60).await;
    let api = place.api();
    // nobody answers any more
    drop(proxy);
    let backup = api.back_up(&place.project).await;
    let failed = api.ends(&place.backup_path(&backup), "failed").await;
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.len() > 20 && message.to_lowercase().contains("connect"), "{message}");
    assert_eq!(failed["error"]["code"], "JOB_FAILED");
    assert!(failed["endedAt"].is_string() && failed.get("result").is_none(), "{failed:#}");
    assert_eq!(place.installation.cli_json(&place.project, &["list"])["snapshots"], json!([]));
    assert_eq!(place.installation.cli_json(&place.project, &["jobs"])["jobs"], json!([]));
    let (status, answer) = api.ask(Method::GET, &format!("{}/verify", place.backup_path(&backup)), None, None).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("JOB_STATE")), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_database_is_refused_or_fails_and_is_named() {
    let place = Place::with(60).await;
    let api = place.api();
    for (database, status) in [("no database", 422), ("a/b", 422)] {
        let wanted = json!({"projectId": place.project, "database": database});
        let (actual, answer) = api.ask(Method::POST, "/backups", Some(&wanted), None).await;
        assert_eq!((actual, &answer["error"]["details"]["field"]), (status, &json!("database")), "{answer:#}");
    }
    assert_eq!(api.backups(&place.project).await.len(), 0);
    let nobody = json!({"type": "emulator", "host": "127.0.0.1:1"});
    let wanted = json!({"name": "nobody", "googleProject": "demo-nobody", "credentials": nobody});
    let (status, answer) = api.ask(Method::POST, "/projects", Some(&wanted), None).await;
    assert!((400..600).contains(&status) && answer["error"]["message"].is_string(), "{status}: {answer:#}");
    assert_eq!(api.get("/projects").await.as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_in_the_middle_of_a_job_it_ends_soon_with_0_and_the_job_goes_on_later() {
    let (proxy, mut place) = slow_place(600).await;
    let api = place.api();
    proxy.control().delay(Call::RunQuery, HELD_UP);
    let backup = api.back_up(&place.project).await;
    let path = place.backup_path(&backup);
    api.wait(&path, "a first chunk", |job| job["progress"]["chunksDone"].as_u64() >= Some(1)).await;
    drop(api);
    let next = place.installation.spawn(&super::installation::SMALL);
    let before = std::mem::replace(&mut place.server, next.listening().await);
    let (status, took) = before.running.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(12), "{took:?}");
    proxy.control().clear_faults();
    let api = place.api();
    api.ends(&path, "completed").await;
    api.verified(&place.project, &backup, 600).await;
}
