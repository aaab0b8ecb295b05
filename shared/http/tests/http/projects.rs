//! Consents, databases and collections of projects, as a client sees them.

use firebackup_control::ControlSettings;
use firebackup_testkit::memory_issuer::identity;
use serde_json::{Value, json};

use crate::world::{Reply, World, emulator_project, id, key_file};

const BASE: &str = "/api/v1/projects/oauth";

/// A browser is sent to Google by whoever holds `token`, and is about to come back: where to, and its cookie.
async fn asked(world: &World, token: &str) -> (String, String) {
    let began = world.call("GET", BASE).token(token).send().await;
    assert_eq!(began.status, 200, "{}", began.text);
    let cookie = began.headers["set-cookie"].to_str().unwrap();
    for part in ["firebackup-consent=org_", "Path=/api/v1/projects/oauth;", "HttpOnly", "SameSite=Lax", "Secure"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let url = began.data()["url"].as_str().unwrap();
    assert!(url.contains("/consent?"), "{url}");
    let (state, code) = world.issuer.sign_in(url, identity("ada", "ada@example.com"));
    (format!("{BASE}/callback?state={state}&code={code}"), cookie.split(';').next().unwrap().to_owned())
}

async fn back(world: &World, path: &str, cookie: &str) -> Reply {
    world.call("GET", path).stranger().header("cookie", cookie).send().await
}

fn by_grant(grant: &Value) -> Value {
    json!({"name": "Shop", "googleProject": "demo-shop", "credentials": {"type": "oauth", "grant": grant}})
}

#[tokio::test]
async fn a_browser_comes_back_with_a_grant_that_connects_a_project() {
    let world = World::new().await;
    let admin = world.key("admin").await;
    let (path, cookie) = asked(&world, &admin).await;
    assert_eq!(back(&world, &path, "a=b").await.outcome(), (401, "CONSENT_FAILED"));
    let ended = back(&world, &path, &cookie).await;
    assert_eq!(ended.status, 200, "{}", ended.text);
    let gone = ended.headers["set-cookie"].to_str().unwrap();
    assert!(gone.starts_with("firebackup-consent=;") && gone.contains("Max-Age=0"), "{gone}");
    let body = by_grant(&ended.data()["grant"]);
    let made = world.call("POST", "/api/v1/projects").token(&admin).json(&body).send().await;
    assert_eq!((made.status, &made.data()["account"]), (201, &json!("ada@example.com")), "{}", made.text);
    let other = world.call("POST", "/api/v1/projects").json(&body).send().await;
    assert_eq!(other.outcome(), (422, "VALIDATION_FAILED"));
    assert!(!format!("{} {} {}", ended.text, made.text, other.text).contains("planted-refresh-token"));
    for refused in ["", "?error=access_denied", "?state=x&code=y&error=z", "?state=x"] {
        let reply = back(&world, &format!("{BASE}/callback{refused}"), &cookie).await;
        assert_eq!(reply.outcome(), (401, "CONSENT_FAILED"), "{refused}");
    }
}

#[tokio::test]
async fn databases_and_collections_are_lists() {
    let world = World::with(ControlSettings { allow_emulators: true, ..ControlSettings::default() }).await;
    let mut silent = emulator_project("Silent");
    silent["googleProject"] = json!("demo-silent");
    let project = format!("/api/v1/projects/{}", id(&world.post("/api/v1/projects", silent).await));
    let databases = world.get(&format!("{project}/databases")).await;
    let expected = json!([{
        "id": "(default)", "location": "nam5", "type": "native", "edition": "enterprise", "realtimeUpdates": false,
        "limits": databases.data()[0]["limits"],
    }]);
    assert_eq!((databases.data(), &databases.body["meta"]["total"]), (&expected, &json!(1)));
    assert_eq!(databases.data()[0]["limits"][0]["rulesOut"], json!(["capture"]));
    assert_eq!(world.get(&project).await.data()["limits"], databases.data()[0]["limits"]);
    assert_eq!(world.get(&format!("{project}/databases?search=x")).await.data(), &json!([]));

    let collections = format!("{project}/collections");
    assert_eq!(world.get(&collections).await.data(), &json!([]));
    let sync = world.call("POST", &format!("{collections}/sync")).send().await;
    assert_eq!((sync.status, &sync.data()["collections"]), (200, &json!(2)), "{}", sync.text);
    let listed = world.get(&collections).await;
    let at = &sync.data()["syncedAt"];
    let expected = json!([
        {"id": "orders", "database": "(default)", "atLeast": false, "syncedAt": at},
        {"id": "users", "database": "(default)", "documents": 7, "atLeast": false, "syncedAt": at},
    ]);
    assert_eq!(listed.data(), &expected);
    let first = world.get(&format!("{collections}?limit=1")).await;
    let cursor = first.body["meta"]["cursor"].as_str().unwrap();
    let second = world.get(&format!("{collections}?limit=1&cursor={cursor}")).await;
    assert_eq!((&second.data()[0]["id"], &second.body["meta"]["cursor"]), (&json!("users"), &Value::Null));
    for (query, expect) in [
        ("?cursor=%3D", (400, "INVALID_CURSOR")),
        ("?database=nothing", (422, "VALIDATION_FAILED")),
        ("?limit=0", (422, "VALIDATION_FAILED")),
    ] {
        assert_eq!(world.get(&format!("{collections}{query}")).await.outcome(), expect, "{query}");
    }
}

#[tokio::test]
async fn what_the_credentials_may_not_is_told_with_its_remedy_and_refused_where_it_is_certain() {
    let world = World::new().await;
    world.destination().await;
    let credentials = json!({"type": "service_account", "key": key_file()});
    let new = json!({"name": "Shop", "googleProject": "demo-without-users", "credentials": credentials});
    let project = world.post("/api/v1/projects", new).await;
    assert_eq!((&project["status"], &project["permissions"]["checkedBy"]), (&json!("connected"), &json!("iam")));
    assert!(project["permissions"]["checkedAt"].is_string(), "{project}");
    let missing = project["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 6, "{project}");
    for missing in missing {
        assert!(["authBackup", "authRestore"].contains(&missing["neededFor"][0].as_str().unwrap()), "{missing}");
        let remedy = missing["remedy"].as_str().unwrap();
        assert!(remedy.contains("--member 'serviceAccount:backup@demo-shop.iam.gserviceaccount.com'"), "{remedy}");
    }
    let body = json!({"projectId": project["id"], "includeAuth": true});
    let refused = world.call("POST", "/api/v1/backups").json(&body).send().await;
    assert_eq!(refused.outcome(), (409, "PERMISSION_MISSING"), "{}", refused.text);
    assert_eq!(refused.body["error"]["details"]["permission"], "firebaseauth.users.get");
    world.post("/api/v1/backups", json!({"projectId": project["id"]})).await;
    let emulator = world.post("/api/v1/projects", emulator_project("Local")).await;
    assert_eq!((&emulator["permissions"]["checkedBy"], &emulator["missing"]), (&json!("trial"), &json!([])));
}
