//! Secrets go in and never come out. Every answer of every test is searched for planted ones; here they are planted.

use serde_json::json;

use crate::world::{PLANTED, World, bucket, id, key_file, webhook};

#[tokio::test]
async fn what_is_secret_is_in_no_answer() {
    let world = World::new().await;
    let credentials = json!({"type": "service_account", "key": key_file()});
    let project = json!({"name": "Shop", "googleProject": "demo-shop", "credentials": credentials});
    let project = id(&world.post("/api/v1/projects", project).await);
    let destination = id(&world.post("/api/v1/storage/destinations", bucket("Bucket")).await);
    let change = json!({"options": {"AWS_ACCESS_KEY_ID": "AKIA0", "AWS_SECRET_ACCESS_KEY": PLANTED}});
    let place = format!("/api/v1/storage/destinations/{destination}");
    let changed = world.call("PUT", &place).json(&change).send().await;
    assert_eq!(changed.data()["options"], json!(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]));
    for path in ["/api/v1/projects", "/api/v1/storage/destinations", &place, &format!("/api/v1/projects/{project}")] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
    assert_eq!(world.call("POST", &format!("{place}/verify")).send().await.status, 200);
}

#[tokio::test]
async fn what_is_secret_and_wrong_is_not_repeated() {
    let world = World::new().await;
    let of_project = |credentials| json!({"name": "Shop", "googleProject": "demo-shop", "credentials": credentials});
    for (path, body) in [
        ("/api/v1/projects", of_project(json!({"type": "service_account", "key": PLANTED}))),
        ("/api/v1/projects", of_project(json!({"type": "service_account", "key": {"a": PLANTED}}))),
        ("/api/v1/projects", of_project(json!({"type": "service_account", "key": format!("{{\"a\":\"{PLANTED}\"}}")}))),
        ("/api/v1/projects", of_project(json!(PLANTED))),
        ("/api/v1/storage/destinations", json!({"name": "B", "url": "s3://b/a", "options": PLANTED})),
        ("/api/v1/storage/destinations", json!({"name": "B", "url": "s3://b/a", "options": {"AWS_REGION": [PLANTED]}})),
        ("/api/v1/storage/destinations", json!({"name": "B", "url": "s3://b/a", "options": {"OTHER": PLANTED}})),
        ("/api/v1/storage/destinations", json!({"name": "B", "url": format!("s3://user:{PLANTED}@b/a")})),
    ] {
        let reply = world.call("POST", path).json(&body).send().await;
        assert_eq!(reply.outcome(), (422, "VALIDATION_FAILED"), "{body}: {}", reply.text);
    }
}

#[tokio::test]
async fn an_api_key_is_shown_once() {
    let world = World::new().await;
    let secret = world.key("member").await;
    let part = secret.rsplit('_').next().unwrap();
    let listed = world.get("/api/v1/organizations/current/service-account").await;
    assert!(listed.data().as_array().unwrap().len() == 2 && !listed.text.contains(part), "{}", listed.text);
    assert!(listed.data().as_array().unwrap().iter().all(|key| key.get("apiKey").is_none()));
}

#[tokio::test]
async fn the_secret_of_a_webhook_is_shown_once_and_its_address_never() {
    let world = World::new().await;
    let made = world.post("/api/v1/webhooks", webhook("Told")).await;
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"), "{made}");
    let place = format!("/api/v1/webhooks/{}", id(&made));
    let tried = world.call("POST", &format!("{place}/test")).send().await;
    assert_eq!((tried.status, &tried.data()["lastStatus"]), (200, &json!(204)), "{}", tried.text);
    let renamed = world.call("PUT", &place).json(&json!({"name": "Renamed"})).send().await;
    let toggled = world.call("PATCH", &format!("{place}/toggle")).send().await;
    let (shown, listed) = (world.get(&place).await, world.get("/api/v1/webhooks").await);
    let deliveries = world.get(&format!("{place}/deliveries")).await;
    for reply in [tried, renamed, toggled, shown, listed, deliveries] {
        assert!(reply.status == 200 && !reply.text.contains(&secret[6..]), "{}", reply.text);
    }
    let bad = json!({"name": "a", "url": format!("http://receiver.example/{PLANTED}")});
    assert_eq!(world.call("POST", "/api/v1/webhooks").json(&bad).send().await.outcome(), (422, "VALIDATION_FAILED"));
}
