//! The audit log, as a client reads it.

use std::sync::atomic::Ordering;

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
async fn whoever_is_known_is_no_stranger_wherever_they_knock() {
    let world = World::new().await;
    let (foreign, foreign_key) = world.another_organization().await;
    let foreign = foreign.to_string();
    let viewer = world.key("viewer").await;
    let (person, _) = world.member("bob", "viewer").await;
    let invite = json!({"token": "fbi_nonsense"});
    for call in [
        world.call("POST", "/api/v1/organizations").token(&viewer).json(&json!({"name": "X"})),
        world.call("POST", "/api/v1/organizations/invites/accept").token(&viewer).json(&invite),
        world.call("GET", "/api/v1/projects").token(&viewer).header("x-organization-id", &foreign),
        world.call("GET", "/api/v1/schedules").token(&person).header("x-organization-id", &foreign),
    ] {
        assert_eq!(call.send().await.outcome(), (403, "FORBIDDEN"));
    }
    let actions = async |key: &str| {
        let listed = world.call("GET", "/api/v1/audit?outcome=refused").token(key).send().await;
        let mut actions: Vec<_> = listed
            .data()
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["action"].as_str().unwrap().to_owned())
            .collect();
        actions.sort();
        actions
    };
    let own = [
        "GET /api/v1/projects",
        "GET /api/v1/schedules",
        "POST /api/v1/organizations",
        "POST /api/v1/organizations/invites/accept",
    ];
    assert_eq!(actions(&world.owner).await, own);
    assert_eq!(actions(&foreign_key).await, [""; 0], "whoever knocks writes into no foreign log");
    let strangers = world.call("GET", "/api/v1/audit/strangers").token(&foreign_key).send().await;
    assert_eq!((strangers.status, strangers.data()), (200, &json!([])), "{}", strangers.text);
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

#[tokio::test]
async fn a_sealed_month_that_is_out_of_reach_is_said() {
    let world = World::new().await;
    world.destination().await;
    world.clock.advance(60 * 86_400);
    let sealed = world.control.seal_audit(&world.control.worker(&world.organization)).await.unwrap();
    assert!(sealed.entries > 0, "{sealed:?}");
    for path in ["/api/v1/audit", "/api/v1/audit/export"] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
        world.archive.is_down.store(true, Ordering::SeqCst);
        assert_eq!(world.get(path).await.outcome(), (502, "DESTINATION_FAILED"), "{path}");
        world.archive.is_down.store(false, Ordering::SeqCst);
    }
}
