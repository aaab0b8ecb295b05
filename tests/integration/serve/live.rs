//! A backup is watched as it happens.

use std::collections::BTreeSet;
use std::time::Duration;

use firebackup_google::sample::sample;
use firebackup_testkit::{Method, Proxy, ProxyOptions};
use serde_json::{Value, json};

use super::installation::{Installation, Place, Server};
use crate::live_client::LiveClient;
use crate::stage::{database, emulator, firestore, write_all};

async fn connect(server: &Server) -> LiveClient {
    LiveClient::connect(&format!("{}/realtime", server.address().replace("http://", "ws://")), None).await
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// About twenty chunks, so that each tenth is told; what is told is what a webhook is told, and in its order.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_watched_from_its_start_to_its_end() {
    let place = Place::with(1000).await;
    let api = place.api();
    let mut client = connect(&place.server).await;
    client.subscribe(&place.key).await;
    let told = api
        .post("/webhooks", json!({ "name": "w", "type": "webhook", "url": "http://127.0.0.1:1", "events": [] }))
        .await;
    let backup = api.back_up(&place.project).await;
    let heard = client.until("backup.completed").await;
    assert_eq!(types(&heard)[..1], ["backup.started"], "{heard:#?}");
    let progress: Vec<_> = heard.iter().filter(|event| event["type"] == "backup.progress").collect();
    let percents: Vec<_> =
        progress.iter().map(|event| event["data"]["progress"]["percent"].as_u64().unwrap()).collect();
    let tenths: BTreeSet<_> = percents.iter().map(|percent| percent / 10).collect();
    assert!(percents.is_sorted() && tenths.len() >= 5, "{percents:?}");
    for event in &heard {
        assert_eq!(event["data"]["id"], backup.as_str(), "{event:#}");
        let mut members: Vec<_> = event.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["data", "id", "timestamp", "type"], "{event:#}");
    }
    let completed = heard.last().unwrap();
    let deliveries = format!("/webhooks/{}/deliveries?limit=100", told["id"].as_str().unwrap());
    let delivered = api.wait(&deliveries, "the same event", |found| {
        found.as_array().is_some_and(|found| found.iter().any(|one| one["eventId"] == completed["id"]))
    });
    delivered.await;

    // who has not subscribed is answered all the same, and sent away whatever they say
    let mut stranger = connect(&place.server).await;
    stranger.say(&json!({ "type": "ping" })).await;
    assert_eq!(stranger.hear().await, json!({ "type": "pong" }));
    stranger.say(&json!({ "type": "subscribe", "token": "fb_planted" })).await;
    let refused = stranger.hear().await;
    assert_eq!(refused["error"]["code"], "INVALID_TOKEN", "{refused:#}");
    let mut pings = 0;
    while stranger.try_say(&json!({ "type": "ping" })).await
        && let Some(answer) = stranger.next().await
    {
        assert_eq!(answer, json!({ "type": "pong" }));
        pings += 1;
        assert!(pings < 600, "a stranger stays by pinging");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.say(&json!({ "type": "ping" })).await;
    client.until("pong").await;
    assert!(!place.installation.log().contains(&place.key), "a token that was sent stands in no log");

    // open connections do not keep a server from its end
    let (ended, after) = place.server.running.terminate();
    assert!(ended.success() && after < Duration::from_secs(8), "{ended:?} {after:?}");
    assert_eq!(client.next().await, None);
}

/// One chunk, whose stream is cut again and again: it has no tenths, and what is heard is a second old.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_one_chunk_is_watched_second_by_second() {
    let emulator = emulator().await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    write_all(&firestore(emulator.host(), &database()).await, sample(&database(), 1500, 1)).await;
    let installation = Installation::new();
    let server = installation.start(&[]).await;
    let key = server.owner_key();
    let api = server.api(&key);
    let project = api.connect(&proxy.host(), "demo-app").await;
    api.post("/storage/destinations", json!({ "name": "folder", "url": installation.url() })).await;
    let hook = api.post("/webhooks", json!({ "name": "w", "url": "https://receiver.example/hook" })).await;
    let mut client = connect(&server).await;
    client.subscribe(&key).await;
    proxy.control().delay(Method::RunQuery, Duration::from_millis(400));
    proxy.control().cut_streams_after(100, 15);
    let backup = api.back_up(&project).await;
    let heard = client.until("backup.completed").await;
    let progress: Vec<_> = heard.iter().filter(|event| event["type"] == "backup.progress").collect();
    let documents: Vec<_> =
        progress.iter().map(|event| event["data"]["progress"]["documents"].as_u64().unwrap()).collect();
    assert!(documents.len() >= 3 && documents.is_sorted() && documents[0] < 1500, "{documents:?}");
    let done = api.get(&format!("/backups/{project}/{backup}")).await;
    assert_eq!((&done["progress"]["chunks"], &done["progress"]["documents"]), (&json!(1), &json!(1500)), "{done:#}");
    let deliveries = format!("/webhooks/{}/deliveries?limit=100", hook["id"].as_str().unwrap());
    let delivered = api
        .wait(&deliveries, "the end", |found| {
            found.as_array().is_some_and(|found| found.iter().any(|one| one["eventType"] == "backup.completed"))
        })
        .await;
    let told: Vec<_> = delivered.as_array().unwrap().iter().map(|one| one["eventType"].as_str().unwrap()).collect();
    assert!(!told.contains(&"backup.progress"), "webhooks are told of tenths: {told:?}");
}
