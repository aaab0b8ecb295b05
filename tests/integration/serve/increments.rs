//! Incremental and synthetic backups by a server: what they read, and that each is what the database was.

use reqwest::Method;
use serde_json::{Value, json};

use super::installation::{Api, Place, id};
use super::pitr::{enabled, listening, next_window, now, proven, put, remove, route, time};
use crate::stage::{Documents, assert_same, database, emulator, firestore, read_all};

/// A backup of a type, when it is complete.
async fn backed_up(place: &Place, api: &Api, kind: &str) -> Value {
    let asked = api.post("/backups", json!({"projectId": place.project, "type": kind})).await;
    let backup = api.ends(&place.backup_path(&id(&asked)), "completed").await;
    assert_eq!(backup["config"]["type"], kind, "{backup:#}");
    backup
}

/// Put back into a project of the same name on another emulator it is what is expected.
async fn assert_restored(api: &Api, backup: &Value, expected: &Documents) {
    let elsewhere = emulator().await;
    let other = api.connect(elsewhere.host(), "demo-app").await;
    let body = |dry: bool| json!({"backupId": id(backup), "targetProjectId": other, "dryRun": dry});
    let dry = id(&api.post("/backups/restore", body(true)).await);
    let dry = api.ends(&format!("/restores/{dry}"), "completed").await;
    assert_eq!(dry["result"]["written"], expected.len(), "{dry:#}");
    let restore = id(&api.post("/backups/restore", body(false)).await);
    let done = api.ends(&format!("/restores/{restore}"), "completed").await;
    assert_eq!(
        (&done["result"]["written"], &done["result"]["failed"]),
        (&json!(expected.len()), &json!(0)),
        "{done:#}"
    );
    assert_same(&read_all(&firestore(elsewhere.host(), &database()).await).await, expected);
}

/// It can be looked at, read back and compared as a full one can.
async fn assert_readable(place: &Place, api: &Api, backup: &Value, documents: usize) {
    let verified = api.get(&format!("{}/verify?full=true", place.backup_path(&id(backup)))).await;
    assert_eq!(verified["verified"], true, "{verified:#}");
    api.get(&format!("{}/preview", place.backup_path(&id(backup)))).await;
    let full = backed_up(place, api, "full").await;
    assert_eq!(full["result"]["documents"], documents, "{full:#}");
    let (from, to) = (id(backup), id(&full));
    let diff = api.get(&format!("/backups/{}/diff?from={from}&to={to}&full=true", place.project)).await;
    let counts = ["created", "updated", "deleted"].map(|count| diff["totals"][count].clone());
    assert_eq!(counts, [0, 0, 0].map(|none| json!(none)), "{diff:#}");
    assert_eq!(diff["totals"]["same"], documents, "{diff:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_kept_without_a_read_by_a_scan_and_merged() {
    let (place, _proxy) = listening().await;
    let api = place.api();
    let pitr = enabled(&place, &api).await;
    let full = pitr["initialBackupId"].as_str().unwrap().to_owned();
    api.ends(&place.backup_path(&full), "completed").await;
    api.wait(&route(&place, "config"), "a first window", |pitr| pitr["status"] == "active").await;

    put(&place.source, "users/first", 1).await;
    put(&place.source, "users/second", 1).await;
    let (at_first, put_at) = now(&place.source).await;
    next_window(&place, &api).await;
    let point = proven(&place, &api, put_at).await;
    let captured = backed_up(&place, &api, "incremental").await;
    let result = &captured["result"];
    assert_eq!((&result["kind"], &result["parent"]), (&json!("incremental"), &json!(full)), "{captured:#}");
    assert_eq!((&result["documents"], &result["reads"]), (&json!(2), &json!(0)), "{captured:#}");
    assert!(time(&result["readTime"]).unwrap() >= point, "{captured:#}");
    assert_eq!((&captured["progress"]["reads"], &captured["progress"]["documents"]), (&json!(0), &json!(2)));

    // nobody captures
    api.post(&route(&place, "pause"), json!({})).await;
    put(&place.source, "users/first", 2).await;
    remove(&place.source, "users/second").await;
    let (at_second, put_at) = now(&place.source).await;
    // a window that was going on may have proven another moment, which is taken first
    let mut scanned = backed_up(&place, &api, "incremental").await;
    for parent in [&captured["id"], &scanned["id"].clone()] {
        assert_eq!((&scanned["result"]["kind"], &scanned["result"]["parent"]), (&json!("incremental"), parent));
        if scanned["result"]["reads"] != 0 {
            break;
        }
        scanned = backed_up(&place, &api, "incremental").await;
    }
    let result = &scanned["result"];
    assert_eq!((&result["documents"], &result["reads"]), (&json!(1), &json!(at_second.len())), "{scanned:#}");
    assert_readable(&place, &api, &scanned, at_second.len()).await;

    api.post(&route(&place, "resume"), json!({})).await;
    proven(&place, &api, put_at).await;
    let merged = backed_up(&place, &api, "synthetic").await;
    let result = &merged["result"];
    assert_eq!((&result["kind"], result.get("parent")), (&json!("synthetic"), None), "{merged:#}");
    assert_eq!((&result["documents"], &result["reads"]), (&json!(at_second.len()), &json!(0)), "{merged:#}");
    assert_readable(&place, &api, &merged, at_second.len()).await;

    for (backup, expected) in [(&captured, &at_first), (&scanned, &at_second), (&merged, &at_second)] {
        assert_restored(&api, backup, expected).await;
    }
    assert_kept(&place, &api, &scanned).await;
}

/// What is built on is not deleted before what builds on it.
async fn assert_kept(place: &Place, api: &Api, child: &Value) {
    let delete = async |backup: &str| api.ask(Method::DELETE, &place.backup_path(backup), None, None).await;
    let parent = child["result"]["parent"].as_str().unwrap();
    let (status, refused) = delete(parent).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("IN_USE")), "{refused:#}");
    assert_eq!(refused["error"]["details"]["usedBy"], json!([child["id"]]), "{refused:#}");
    for backup in [&id(child), parent] {
        let (status, deleting) = delete(backup).await;
        assert_eq!(status, 202, "{deleting:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_nothing_to_build_on_says_so_and_what_cannot_be_merged_is_refused() {
    let place = Place::with(40).await;
    let api = place.api();
    let first = backed_up(&place, &api, "incremental").await;
    let result = &first["result"];
    assert_eq!((&result["kind"], &result["documents"]), (&json!("full"), &json!(40)), "{first:#}");
    assert!(result["reason"].as_str().unwrap().contains("there is no backup of"), "{first:#}");
    let second = backed_up(&place, &api, "incremental").await;
    assert_eq!((&second["result"]["parent"], second["result"].get("reason")), (&first["id"], None), "{second:#}");
    assert_eq!((&second["result"]["documents"], &second["result"]["stored"]), (&json!(0), &json!(0)), "{second:#}");
    let body = json!({"projectId": place.project, "type": "synthetic"});
    let (status, refused) = api.ask(Method::POST, "/backups", Some(&body), None).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("PITR_UNAVAILABLE")), "{refused:#}");
    let body = json!({"projectId": place.project, "type": "incremental", "includeAuth": true});
    let (status, refused) = api.ask(Method::POST, "/backups", Some(&body), None).await;
    assert_eq!((status, &refused["error"]["details"]["field"]), (422, &json!("includeAuth")), "{refused:#}");
    let listed = place.installation.cli_json(&place.project, &["list"]);
    let kinds: Vec<_> =
        listed["snapshots"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 2, "{listed:#}");
    assert!(kinds.contains(&"incremental") && kinds.contains(&"full"), "{listed:#}");
}
