//! Events of changes, as Google's senders post them.

use firebackup_testkit::memory_issuer::account_token;
use serde_json::{Value, json};

use crate::world::{World, furnish};

const ACCOUNT: &str = "events@shop-1.iam.gserviceaccount.com";
const AUDIENCE: &str = "https://backup.example/events";
const TYPE: &str = "google.cloud.firestore.document.v1.written";

/// A world that takes events of a project, and the address that they are posted to.
async fn taking() -> (World, String) {
    let world = World::new().await;
    let ids = furnish(&world).await;
    let path = format!("/api/v1/pitr/{}", ids["projectId"]);
    let push = json!({ "push": { "serviceAccount": ACCOUNT, "audience": AUDIENCE } });
    let reply = world.call("PATCH", &format!("{path}/config")).json(&push).send().await;
    assert_eq!((reply.status, &reply.body["data"]["config"]["push"]["hmac"]), (200, &json!(false)), "{}", reply.text);
    (world, format!("{path}/events"))
}

fn document() -> Value {
    json!({ "value": {
        "name": "projects/demo-shop/databases/(default)/documents/users/a", "fields": {},
        "createTime": "2023-11-14T22:13:20Z", "updateTime": "2023-11-14T22:13:20Z",
    } })
}

fn attributes(id: &str) -> [(&'static str, String); 5] {
    let source = "//firestore.googleapis.com/projects/demo-shop/databases/(default)";
    [("specversion", "1.0"), ("id", id), ("source", source), ("type", TYPE), ("time", "2023-11-14T22:13:20Z")]
        .map(|(name, value)| (name, value.to_owned()))
}

fn structured(id: &str) -> String {
    let mut event = json!({ "data": document() });
    attributes(id).into_iter().for_each(|(name, value)| event[name] = value.into());
    event.to_string()
}

async fn post(world: &World, path: &str, content_type: &str, body: Vec<u8>) -> (u16, Value) {
    let token = account_token(ACCOUNT, AUDIENCE);
    let call = world.call("POST", path).token(&token).header("content-type", content_type);
    let reply = call.bytes(body).send().await;
    (reply.status, reply.body)
}

#[tokio::test]
async fn an_event_is_taken_and_told_of() {
    let (world, path) = taking().await;
    for expect in ["buffered", "duplicate"] {
        let (status, body) = post(&world, &path, "application/cloudevents+json", structured("1").into()).await;
        assert_eq!((status, &body["data"]), (202, &json!({ "outcome": expect })), "{body}");
    }
    let (status, body) = post(&world, &path, "text/plain", b"nonsense".to_vec()).await;
    assert_eq!((status, &body["data"]["outcome"]), (202, &json!("refused")), "{body}");
    let statistics = world.call("GET", &path.replace("/events", "/statistics")).send().await.body;
    let told = &statistics["data"]["push"];
    assert_eq!(
        (&told["received"], &told["duplicates"], &told["refused"], &told["backlog"]),
        (&json!(1), &json!(1), &json!(1), &json!(1))
    );
}

#[tokio::test]
async fn an_event_may_be_larger_than_other_bodies_and_no_larger_than_it_may() {
    let (world, path) = taking().await;
    let (status, body) = post(&world, &path, "application/json", vec![b' '; 2 << 20]).await;
    assert_eq!((status, &body["data"]["outcome"]), (202, &json!("refused")), "{body}");
    let (status, body) = post(&world, &path, "application/json", vec![b' '; (16 << 20) + 1]).await;
    assert_eq!((status, &body["error"]["code"]), (413, &json!("PAYLOAD_TOO_LARGE")), "{body}");
}

#[tokio::test]
async fn without_a_proof_nothing_is_read() {
    let (world, path) = taking().await;
    let body = vec![b' '; (16 << 20) + 1];
    let reply = world.call("POST", &path).stranger().bytes(body.clone()).send().await;
    assert_eq!((reply.status, &reply.body["error"]["code"]), (401, &json!("UNAUTHORIZED")), "{}", reply.text);
    // the owner's own key proves nothing here
    let reply = world.call("POST", &path).bytes(body).send().await;
    assert_eq!((reply.status, &reply.body["error"]["code"]), (401, &json!("INVALID_TOKEN")), "{}", reply.text);
    let unknown = "/api/v1/pitr/proj_01ARZ3NDEKTSV4RRFFQ69G5FAV/events";
    assert_eq!(post(&world, unknown, "application/json", b"{}".to_vec()).await.0, 404);
}

#[tokio::test]
async fn whoever_comes_while_too_much_waits_is_told_when_to_come_again() {
    let (world, path) = taking().await;
    world.buffer.set_full(true);
    let token = account_token(ACCOUNT, AUDIENCE);
    let call = world.call("POST", &path).token(&token).header("content-type", "application/cloudevents+json");
    let reply = call.bytes(structured("1").into_bytes()).send().await;
    assert_eq!((reply.status, &reply.body["error"]["code"]), (503, &json!("BACKLOG_FULL")), "{}", reply.text);
    assert_eq!(reply.headers["retry-after"], "30");
}

#[tokio::test]
async fn the_secret_is_shown_once_and_signs() {
    let (world, path) = taking().await;
    let config = path.replace("/events", "/config");
    world.call("PATCH", &config).json(&json!({ "push": { "hmac": true } })).send().await;
    let made = world.call("POST", &format!("{path}/secret")).send().await;
    assert_eq!(made.status, 201, "{}", made.text);
    let secret = made.body["data"]["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    let shown = world.call("GET", &config).send().await;
    assert_eq!(shown.body["data"]["config"]["push"], json!({ "hmac": true }));
    assert!(!shown.text.contains(secret));
    let off = world.call("PATCH", &config).json(&json!({ "push": null })).send().await;
    assert!(off.body["data"]["config"].get("push").is_none(), "{}", off.text);
}
