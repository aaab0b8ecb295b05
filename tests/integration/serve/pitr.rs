//! Recovery to a point in time by a server: moments appear by themselves, are put back, and survive whoever captures them.

use std::time::Duration;

use bytes::Bytes;
use firebackup_codec::typed_json::read_json;
use firebackup_google::Firestore;
use firebackup_model::port::{Precondition, Write};
use firebackup_model::{DocumentPath, Timestamp};
use firebackup_testkit::{ListenMode, Proxy, ProxyOptions};
use reqwest::Method;
use serde_json::{Value, json};

use super::installation::{Api, Place, SMALL, id};
use crate::receiver::Receiver;
use crate::stage::{Documents, assert_same, database, emulator, firestore, read_all, write};

const DOCUMENTS: usize = 60;

/// A server whose project listens as production does: through a proxy before an emulator.
pub async fn listening() -> (Place, Proxy) {
    let google = emulator().await;
    let options = ProxyOptions { listen: ListenMode::Production, ..ProxyOptions::default() };
    let proxy = Proxy::start(google.host(), options).await.unwrap();
    proxy.control().set_heartbeat(Duration::from_millis(300));
    let mut place = Place::reached_by(google, &proxy.host(), DOCUMENTS).await;
    // what is written past the proxy it tells nobody
    place.source = firestore(&proxy.host(), &database()).await;
    (place, proxy)
}

fn document(path: &str, n: i64) -> Bytes {
    let name = database().document_name(path);
    read_json(&format!(r#"{{"name": "{name}", "fields": {{"n": {{"integerValue": "{n}"}}}}}}"#)).unwrap().into()
}

pub async fn put(firestore: &Firestore, path: &str, n: i64) {
    let (path, document) = (DocumentPath::new(path).unwrap(), Some(document(path, n)));
    write(firestore, vec![Write { path, document, precondition: Precondition::None }]).await;
}

pub async fn remove(firestore: &Firestore, path: &str) {
    let path = DocumentPath::new(path).unwrap();
    write(firestore, vec![Write { path, document: None, precondition: Precondition::None }]).await;
}

/// What the database holds, and when the last document was put.
pub async fn now(firestore: &Firestore) -> (Documents, Timestamp) {
    let documents = read_all(firestore).await;
    let put = documents.values().filter_map(|bytes| firebackup_model::document::head(bytes).unwrap().update_time);
    let last = put.max().unwrap();
    (documents, last)
}

pub fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().map(|text| text.parse().unwrap())
}

pub fn route(place: &Place, what: &str) -> String {
    format!("/pitr/{}/{what}", place.project)
}

pub async fn enabled(place: &Place, api: &Api) -> Value {
    let pitr = api.post("/pitr/enable", json!({"projectId": place.project})).await;
    assert_eq!(pitr["status"], "initializing", "{pitr:#}");
    pitr
}

/// Waits until everything up to a time is proven: the moment that is.
pub async fn proven(place: &Place, api: &Api, after: Timestamp) -> Timestamp {
    let is_behind = |health: &Value| time(&health["provenThrough"]) >= Some(after);
    let health = api.wait(&route(place, "health"), "a proof", is_behind).await;
    assert_eq!(health["status"], "active", "{health:#}");
    time(&health["provenThrough"]).unwrap()
}

/// A window begins where it is resumed: nobody waits a minute for it.
pub async fn next_window(place: &Place, api: &Api) {
    api.post(&route(place, "pause"), json!({})).await;
    api.post(&route(place, "resume"), json!({})).await;
}

/// Puts a moment back into a project of the same name on another emulator, and compares.
async fn assert_put_back(api: &Api, place: &Place, at: Timestamp, wanted: &Documents) {
    let elsewhere = emulator().await;
    let other = api.connect(elsewhere.host(), "demo-app").await;
    let asked = json!({"projectId": place.project, "pointInTime": at, "exact": true, "targetProjectId": other});
    let restore = api.post("/pitr/restore", asked).await;
    assert_eq!(restore["moment"]["consistentPoint"], json!(at), "{restore:#}");
    let done = api.ends(&route(place, &format!("restore-jobs/{}", id(&restore))), "completed").await;
    assert_eq!(done["result"]["failed"], 0, "{done:#}");
    assert_same(&read_all(&firestore(elsewhere.host(), &database()).await).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn moments_come_by_themselves_and_are_put_back() {
    let (place, _proxy) = listening().await;
    let receiver = Receiver::start().await;
    let api = place.api();
    let webhook = json!({"name": "told", "url": receiver.url, "events": ["pitr.enabled", "pitr.change_captured"]});
    let secret = api.post("/webhooks", webhook).await["secret"].as_str().unwrap().to_owned();
    let pitr = enabled(&place, &api).await;
    let backup = api.ends(&place.backup_path(pitr["initialBackupId"].as_str().unwrap()), "completed").await;
    api.wait(&route(&place, "config"), "a first window", |pitr| pitr["status"] == "active").await;
    receiver.told(&secret, "pitr.enabled", 1).await;

    // by the clock: within a window and what that takes
    put(&place.source, "users/first", 1).await;
    let (first, put_at) = now(&place.source).await;
    let first_at = proven(&place, &api, put_at).await;
    let told = receiver.told(&secret, "pitr.change_captured", 1).await.remove(0);
    assert_eq!((&told["data"]["changes"], &told["data"]["database"]), (&json!(1), &json!("(default)")), "{told:#}");
    put(&place.source, "users/first", 2).await;
    put(&place.source, "orders/second", 2).await;
    let (second, put_at) = now(&place.source).await;
    let second_at = proven(&place, &api, put_at).await;

    let windows = api.get(&route(&place, "windows")).await;
    assert_eq!((&windows["total"], &windows["gaps"]), (&json!(1), &json!([])), "{windows:#}");
    assert_eq!(windows["windows"][0]["start"], backup["result"]["readTime"], "{windows:#}");
    assert_put_back(&api, &place, first_at, &first).await;
    assert_in_place(&place, &api, first_at, &first).await;
    assert_drilled(&place, &api).await;
    assert_ended(&place, &api, second_at, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_captures_may_be_killed_and_no_moment_is_lost() {
    let (mut place, _proxy) = listening().await;
    let api = place.api();
    enabled(&place, &api).await;
    api.wait(&route(&place, "config"), "a first window", |pitr| pitr["status"] == "active").await;
    // two servers on one folder, and the one that captures is killed
    put(&place.source, "users/first", 1).await;
    next_window(&place, &api).await;
    let next = place.installation.spawn(&SMALL).listening().await;
    std::mem::replace(&mut place.server, next).running.kill();
    let api = place.api();
    let (first, put_at) = now(&place.source).await;
    let first_at = proven(&place, &api, put_at).await;

    // killed, and nobody there while things happen
    place.server.running.child.kill().unwrap();
    place.server.running.child.wait().unwrap();
    remove(&place.source, "users/first").await;
    put(&place.source, "users/second", 2).await;
    place.restart().await;
    let api = place.api();
    let (second, put_at) = now(&place.source).await;
    let second_at = proven(&place, &api, put_at).await;

    let windows = api.get(&route(&place, "windows")).await;
    assert_eq!((&windows["total"], &windows["gaps"]), (&json!(1), &json!([])), "{windows:#}");
    for (at, wanted) in [(first_at, &first), (second_at, &second)] {
        assert_put_back(&api, &place, at, wanted).await;
    }
}

/// A drill restores captured moments too.
async fn assert_drilled(place: &Place, api: &Api) {
    let elsewhere = emulator().await;
    let scratch = api.connect(elsewhere.host(), "demo-drill").await;
    let scratch = json!({"kind": "database", "projectId": scratch, "database": "(default)"});
    let config = json!({"cronExpression": "0 4 * * 0", "scratch": scratch, "all": true, "moments": 2});
    let path = |what: &str| format!("/drills/{}/{what}", place.project);
    api.data(Method::PUT, &path("config"), Some(&config)).await;
    api.post(&path("run"), json!({})).await;
    let is_over = |drills: &Value| !drills["lastRun"].is_null() && drills["running"] == false;
    let drilled = api.wait(&path("config"), "a drill", is_over).await["lastRun"].clone();
    assert_eq!((&drilled["outcome"], &drilled["moments"]), (&json!("passed"), &json!(2)), "{drilled:#}");
}

/// A dry run and a restore into the database itself, to a time between two moments.
async fn assert_in_place(place: &Place, api: &Api, at: Timestamp, wanted: &Documents) {
    let before = read_all(&place.source).await;
    let asked = at.plus_seconds(1);
    let body = |dry: bool| json!({"projectId": place.project, "pointInTime": asked, "mode": "mirror", "dryRun": dry});
    let dry = id(&api.post("/backups/restore", body(true)).await);
    let dry = api.ends(&format!("/restores/{dry}"), "completed").await;
    assert_eq!((&dry["result"]["written"], &dry["result"]["deleted"]), (&json!(1), &json!(1)), "{dry:#}");
    let restore = api.post("/backups/restore", body(false)).await;
    assert_eq!(restore["moment"]["pointInTime"], json!(asked), "{restore:#}");
    assert_eq!(restore["moment"]["consistentPoint"], json!(at), "{restore:#}");
    api.ends(&format!("/restores/{}", id(&restore)), "completed").await;
    assert_same(&read_all(&place.source).await, wanted);
    let undo = id(&api.post("/backups/restore", json!({"backupId": id(&restore)})).await);
    api.ends(&format!("/restores/{undo}"), "completed").await;
    assert_same(&read_all(&place.source).await, &before);
}

/// What is disabled is captured no more, and can be put back all the same.
async fn assert_ended(place: &Place, api: &Api, at: Timestamp, wanted: &Documents) {
    let (status, refused) = api.ask(Method::DELETE, &format!("/projects/{}", place.project), None, None).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("IN_USE")), "{refused:#}");
    let disabled = api.post(&route(place, "disable"), json!({})).await;
    assert_eq!(disabled["status"], "disabled");
    let health = api.get(&route(place, "health")).await;
    assert!(health.get("nextWindowAt").is_none(), "{health:#}");
    assert_put_back(api, place, at, wanted).await;
    let actions = api.get("/audit?action=pitr.&limit=100").await;
    let actions: Vec<_> = actions.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["pitr.disabled", "pitr.enabled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_gap_nothing_is_put_back_and_the_moments_beside_it_are_named() {
    // an emulator resets whoever listens: each window is a gap
    let place = Place::with(DOCUMENTS).await;
    let api = place.api();
    let backup = api.back_up(&place.project).await;
    api.ends(&place.backup_path(&backup), "completed").await;
    let pitr = enabled(&place, &api).await;
    assert!(pitr.get("initialBackupId").is_none(), "{pitr:#}");
    let before = time(&api.get(&place.backup_path(&backup)).await["result"]["readTime"]).unwrap();
    let first = proven(&place, &api, before.plus_seconds(0)).await;
    put(&place.source, "users/between", 1).await;
    let (documents, put_at) = now(&place.source).await;
    next_window(&place, &api).await;
    proven(&place, &api, put_at.max(first)).await;

    let windows = api.get(&route(&place, "windows")).await;
    let gap = &windows["gaps"][0];
    let (after, until) = (time(&gap["after"]).unwrap(), time(&gap["until"]).unwrap());
    let inside = Timestamp::new(until.seconds, until.nanos.saturating_sub(1000));
    assert!(after < inside && inside < until, "{windows:#}");
    let asked = json!({"projectId": place.project, "pointInTime": inside});
    for route in ["/pitr/restore", "/backups/restore"] {
        let (status, refused) = api.ask(Method::POST, route, Some(&asked), None).await;
        let error = &refused["error"];
        assert_eq!((status, &error["code"]), (422, &json!("MOMENT_UNAVAILABLE")), "{refused:#}");
        assert_eq!((&error["details"]["before"], &error["details"]["after"]), (&gap["after"], &gap["until"]));
        assert!(error["message"].as_str().unwrap().contains("lies in a gap"), "{refused:#}");
    }
    assert_put_back(&api, &place, until, &documents).await;
    let statistics = api.get(&route(&place, "statistics")).await;
    assert!(statistics["gaps"].as_u64() >= Some(1) && statistics["scansToday"].as_u64() >= Some(1), "{statistics:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_cannot_reach_its_database_says_so_and_recovers() {
    let (place, proxy) = listening().await;
    let api = place.api();
    let backup = api.back_up(&place.project).await;
    api.ends(&place.backup_path(&backup), "completed").await;
    enabled(&place, &api).await;
    api.wait(&route(&place, "config"), "a first window", |pitr| pitr["status"] == "active").await;
    let folder = place.installation.backups();
    let away = folder.with_extension("away");
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    next_window(&place, &api).await;
    let ill = api.wait(&route(&place, "health"), "a failure", |health| health["failures"].as_u64() > Some(0)).await;
    assert!(ill["lastError"].as_str().is_some_and(|text| !text.is_empty()), "{ill:#}");
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    put(&place.source, "users/after", 1).await;
    let (documents, put_at) = now(&place.source).await;
    next_window(&place, &api).await;
    let at = proven(&place, &api, put_at).await;
    assert_put_back(&api, &place, at, &documents).await;
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_asked_to_end_does_so_while_it_captures() {
    let (place, proxy) = listening().await;
    let api = place.api();
    enabled(&place, &api).await;
    api.wait(&route(&place, "config"), "a first window", |pitr| pitr["status"] == "active").await;
    // a window that waits for a point
    proxy.control().set_heartbeat(Duration::from_secs(3600));
    next_window(&place, &api).await;
    let is_held =
        |health: &Value| time(&health["nextWindowAt"]) > time(&health["capturedAt"]).map(|at| at.plus_seconds(5));
    api.wait(&route(&place, "health"), "a window that is held", is_held).await;
    let Place { server, installation, .. } = place;
    let (status, took) = server.running.terminate();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert!(!installation.log().contains("panicked"), "{}", installation.log());
}
