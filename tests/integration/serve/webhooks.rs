//! Webhooks of a server: signed, tried again, and told of what happened before it was killed.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use firebackup_testkit::standard_webhooks::prove;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::PATIENCE;
use super::installation::{Api, Installation, Server, files, id};
use crate::stage::emulator;

const ALLOWED: [&str; 1] = ["--allow-private-addresses"];
/// A part of an address that must be seen nowhere.
const PLANTED: &str = "planted-path";

/// Somebody who wants to be told.
#[derive(Clone)]
struct Receiver {
    inside: Arc<Mutex<Inside>>,
    url: String,
}

struct Inside {
    posts: Vec<(HeaderMap, String)>,
    status: StatusCode,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/{PLANTED}", listener.local_addr().unwrap());
        let inside = Arc::new(Mutex::new(Inside { posts: Vec::new(), status: StatusCode::NO_CONTENT }));
        let receiver = Self { inside, url };
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    fn answer(&self, status: StatusCode) {
        self.inside.lock().unwrap().status = status;
    }

    /// What came of one kind of event; each is proven by the library of the specification.
    fn proven(&self, secret: &str, kind: &str) -> Vec<Value> {
        let posts: Vec<_> = self.inside.lock().unwrap().posts.clone();
        let mut found = Vec::new();
        for (headers, body) in posts {
            let event: Value = serde_json::from_str(&body).unwrap();
            if event["type"] == kind {
                let texts = headers.iter().map(|(name, text)| (name.as_str(), text.to_str().unwrap()));
                assert_eq!(prove(secret, texts, &body), Ok(()), "{body}");
                assert_eq!(headers["webhook-id"], event["id"].as_str().unwrap());
                found.push(event);
            }
        }
        found
    }

    /// Waits until so many came.
    async fn told(&self, secret: &str, kind: &str, times: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let found = self.proven(secret, kind);
            if found.len() >= times {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{kind} was told {} times", found.len());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let mut inside = receiver.inside.lock().unwrap();
    inside.posts.push((headers, body));
    inside.status
}

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
