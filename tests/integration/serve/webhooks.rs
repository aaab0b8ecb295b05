//! Webhooks of a server: signed, tried again, and told of what happened before it was killed.

use axum::http::StatusCode;
use reqwest::Method;
use serde_json::{Value, json};

use super::installation::{Api, Installation, Server, files, id};
use crate::receiver::{PLANTED, Receiver};
use crate::stage::emulator;

const ALLOWED: [&str; 1] = ["--allow-private-addresses"];
/// A webhook that wants everything, and its secret.
async fn webhook(api: &Api, receiver: &Receiver) -> (String, String) {
    let made = api.post("/webhooks", json!({"name": "told", "url": receiver.url})).await;
    (id(&made), made["secret"].as_str().unwrap().to_owned())
}

async fn delivery_of(api: &Api, webhook: &str, kind: &str, status: &str) -> Value {
    let is_so = |list: &Value| {
        let found = list.as_array().unwrap().iter();
        found.filter(|delivery| delivery["eventType"] == kind).any(|delivery| delivery["status"] == status)
    };
    let list = api.wait(&format!("/webhooks/{webhook}/deliveries"), status, is_so).await;
    list.as_array().unwrap().iter().find(|delivery| delivery["eventType"] == kind).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_told_signed_and_what_failed_is_told_again() {
    let (emulator, receiver, installation) = (emulator().await, Receiver::start().await, Installation::new());
    let server = installation.start(&ALLOWED).await;
    let api = server.api(&server.owner_key());
    let (webhook, secret) = webhook(&api, &receiver).await;
    let tried = api.post(&format!("/webhooks/{webhook}/test"), json!({})).await;
    assert_eq!((&tried["status"], &tried["lastStatus"]), (&json!("delivered"), &json!(204)), "{tried:#}");
    receiver.answer(StatusCode::SERVICE_UNAVAILABLE);
    let project = api.connect(emulator.host(), "demo-app").await;
    let failed = receiver.told(&secret, "project.created", 1).await.remove(0);
    assert_eq!(failed["data"]["id"], project.as_str(), "{failed:#}");
    receiver.answer(StatusCode::NO_CONTENT);
    let told = receiver.told(&secret, "project.created", 2).await;
    assert_eq!(told[0], told[1], "the same event");
    let delivery = delivery_of(&api, &webhook, "project.created", "delivered").await;
    assert_eq!((&delivery["attempts"], &delivery["lastStatus"]), (&json!(2), &json!(204)), "{delivery:#}");

    api.post("/storage/destinations", json!({"name": "folder", "url": installation.url()})).await;
    let backup = api.back_up(&project).await;
    for kind in ["storage.connected", "backup.started", "backup.completed"] {
        let event = receiver.told(&secret, kind, 1).await.remove(0);
        assert!(!kind.starts_with("backup") || event["data"]["id"] == backup.as_str(), "{event:#}");
    }
    let once_more = delivery_of(&api, &webhook, "backup.completed", "delivered").await;
    let path = format!("/webhooks/{webhook}/deliveries/{}/redeliver", id(&once_more));
    api.post(&path, json!({})).await;
    receiver.told(&secret, "backup.completed", 2).await;
    assert_unseen(&installation, &[&secret["whsec_".len()..], PLANTED]);
}

/// Neither the database nor the log holds any of it.
fn assert_unseen(installation: &Installation, planted: &[&str]) {
    let mut places = files(&installation.data());
    places.push(installation.log_file());
    assert!(places.len() > 2, "{places:?}");
    for place in places {
        let bytes = std::fs::read(&place).unwrap();
        for planted in planted {
            let is_seen = bytes.windows(planted.len()).any(|part| part == planted.as_bytes());
            assert!(!is_seen, "{} holds {planted}", place.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_before_a_kill_is_told_after_it() {
    let (emulator, receiver, installation) = (emulator().await, Receiver::start().await, Installation::new());
    let server: Server = installation.start(&ALLOWED).await;
    let key = server.owner_key();
    let api = server.api(&key);
    let (webhook, secret) = webhook(&api, &receiver).await;
    receiver.answer(StatusCode::SERVICE_UNAVAILABLE);
    api.connect(emulator.host(), "demo-app").await;
    receiver.told(&secret, "project.created", 1).await;
    server.running.kill();
    receiver.answer(StatusCode::NO_CONTENT);
    let server = installation.start(&ALLOWED).await;
    receiver.told(&secret, "project.created", 2).await;
    delivery_of(&server.api(&key), &webhook, "project.created", "delivered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_on_this_machine_is_called_unless_that_is_allowed() {
    let (receiver, installation) = (Receiver::start().await, Installation::new());
    let server = installation.start(&[]).await;
    let api = server.api(&server.owner_key());
    for url in [receiver.url.clone(), receiver.url.replacen("http:", "https:", 1)] {
        let new = json!({"name": "inside", "url": url});
        let (status, answer) = api.ask(Method::POST, "/webhooks", Some(&new), None).await;
        assert_eq!((status, answer["error"]["details"]["field"].as_str()), (422, Some("url")), "{answer:#}");
    }
}
