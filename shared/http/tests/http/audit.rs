//! The audit log, as a client reads it.

use serde_json::{Value, json};

use crate::world::World;

const CURRENT: &str = "/api/v1/organizations/current";

#[tokio::test]
async fn a_change_is_told_with_who_and_from_where() {
    let world = World::new().await;
    let renamed =
        world.call("PUT", CURRENT).header("x-request-id", "abc").json(&json!({"name": "Renamed"})).send().await;
    assert_eq!(renamed.status, 200);
    let listed = world.get("/api/v1/audit?action=organization.updated").await;
    let entry = &listed.data()[0];
    assert_eq!((&entry["requestId"], &entry["address"]), (&json!("abc"), &json!("192.0.2.7")));
    assert_eq!((&entry["outcome"], &entry["details"]["name"]), (&json!("done"), &json!("Renamed")));
    assert!(entry["actor"].as_str().unwrap().starts_with("key_"));
}

#[tokio::test]
async fn whoever_is_refused_is_an_entry_and_a_stranger_one_a_minute() {
    let world = World::new().await;
    let viewer = world.key("viewer").await;
    for _ in 0..3 {
        let refused = world.call("PUT", CURRENT).token(&viewer).json(&json!({"name": "X"})).send().await;
        assert_eq!(refused.status, 403);
    }
    let listed = world.get("/api/v1/audit?outcome=refused").await;
    let entries = listed.data().as_array().unwrap();
    let counted: u64 = entries.iter().map(|entry| entry["count"].as_u64().unwrap()).sum();
    assert!(counted == 3 && entries.len() <= 2, "{}", listed.text);
    assert_eq!(entries[0]["action"], "PUT /api/v1/organizations/current");
    for token in ["fb_nonsense", "fba_nonsense", "nonsense"] {
        assert_eq!(world.call("GET", "/api/v1/projects").token(token).send().await.status, 401);
    }
    let strangers = world.get("/api/v1/audit/strangers").await;
    let entries = strangers.data().as_array().unwrap();
    let counted: u64 = entries.iter().map(|entry| entry["count"].as_u64().unwrap()).sum();
    assert!(counted == 3 && entries.len() <= 2, "{}", strangers.text);
    assert_eq!((&entries[0]["address"], &entries[0]["actor"]), (&json!("192.0.2.7"), &json!("stranger")));
}

#[tokio::test]
async fn an_export_is_all_of_it_a_line_an_entry() {
    let world = World::new().await;
    for _ in 0..2100 {
        world.control.update_organization(&world.caller().await, Default::default()).await.unwrap();
    }
    let first = world.get("/api/v1/audit/export?action=organization.updated").await;
    let lines = |text: &str| text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    assert_eq!(lines(&first.text).len(), 2000);
    let cursor = first.headers["x-next-cursor"].to_str().unwrap();
    let cursor: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
    let rest = world.get(&format!("/api/v1/audit/export?action=organization.updated&cursor={cursor}")).await;
    assert_eq!(lines(&rest.text).len(), 100);
    assert!(!rest.headers.contains_key("x-next-cursor"));
    let mut ids: Vec<_> =
        [lines(&first.text), lines(&rest.text)].concat().iter().map(|one| one["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2100);
}

#[tokio::test]
async fn what_is_asked_for_must_be_readable() {
    let world = World::new().await;
    for bad in ["from=yesterday", "outcome=maybe", "limit=0", "cursor=nonsense"] {
        let reply = world.get(&format!("/api/v1/audit?{bad}")).await;
        assert!(matches!(reply.status, 400 | 422), "{bad}: {}", reply.text);
    }
}
