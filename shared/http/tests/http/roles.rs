//! Every route with every role, and with everybody who has none.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::contract::operations;
use crate::world::{World, bucket, emulator_project, furnish, schedule, webhook};

const ROLES: [&str; 4] = ["viewer", "member", "admin", "owner"];

/// The least role that may use a route, and a body that it takes.
const TABLE: &[(&str, &str, &str)] = &[
    ("GET", "/organizations/current", "viewer"),
    ("PUT", "/organizations/current", "owner"),
    ("POST", "/organizations/current/delete", "owner"),
    ("GET", "/organizations/current/quotas", "viewer"),
    ("GET", "/organizations/current/service-account", "viewer"),
    ("POST", "/organizations/current/service-account", "admin"),
    ("DELETE", "/organizations/current/service-account/{apiKeyId}", "admin"),
    ("GET", "/organizations/current/members", "viewer"),
    ("PUT", "/organizations/current/members/{userId}", "admin"),
    ("DELETE", "/organizations/current/members/{userId}", "admin"),
    ("GET", "/organizations/current/invites", "admin"),
    ("POST", "/organizations/current/invites", "admin"),
    ("DELETE", "/organizations/current/invites/{inviteId}", "admin"),
    ("POST", "/organizations/current/invites/{inviteId}/resend", "admin"),
    ("GET", "/audit", "member"),
    ("GET", "/audit/export", "member"),
    ("GET", "/audit/strangers", "owner"),
    ("GET", "/projects", "viewer"),
    ("POST", "/projects", "admin"),
    ("GET", "/projects/oauth", "admin"),
    ("GET", "/projects/{projectId}", "viewer"),
    ("PUT", "/projects/{projectId}", "admin"),
    ("DELETE", "/projects/{projectId}", "admin"),
    ("GET", "/projects/{projectId}/databases", "viewer"),
    ("GET", "/projects/{projectId}/collections", "viewer"),
    ("POST", "/projects/{projectId}/collections/sync", "member"),
    ("GET", "/storage/destinations", "viewer"),
    ("POST", "/storage/destinations", "admin"),
    ("GET", "/storage/destinations/{destinationId}", "viewer"),
    ("PUT", "/storage/destinations/{destinationId}", "admin"),
    ("DELETE", "/storage/destinations/{destinationId}", "admin"),
    ("POST", "/storage/destinations/{destinationId}/verify", "admin"),
    ("GET", "/storage/destinations/{destinationId}/linked", "viewer"),
    ("GET", "/storage/destinations/{destinationId}/backups", "viewer"),
    ("POST", "/storage/destinations/{destinationId}/backups/bulk-delete", "admin"),
    ("GET", "/storage/stats", "viewer"),
    ("POST", "/storage/connect", "admin"),
    ("POST", "/storage/buckets/verify", "admin"),
    ("POST", "/storage/buckets/folders", "admin"),
    ("POST", "/storage/buckets/folders/create", "admin"),
    ("POST", "/storage/sync", "admin"),
    ("GET", "/storage/destinations/{destinationId}/files", "viewer"),
    ("GET", "/storage/destinations/{destinationId}/files/stats", "viewer"),
    ("DELETE", "/storage/destinations/{destinationId}/files", "admin"),
    ("POST", "/storage/destinations/{destinationId}/files/bulk-delete", "admin"),
    ("POST", "/storage/destinations/{destinationId}/cleanup-orphans", "admin"),
    ("POST", "/backups", "member"),
    ("POST", "/backups/restore", "member"),
    ("GET", "/backups/project/{projectId}", "viewer"),
    ("GET", "/backups/{projectId}/{backupId}", "viewer"),
    ("DELETE", "/backups/{projectId}/{backupId}", "admin"),
    ("POST", "/backups/{projectId}/{backupId}/cancel", "member"),
    ("GET", "/backups/{projectId}/{backupId}/verify", "viewer"),
    ("GET", "/backups/{projectId}/{backupId}/preview", "viewer"),
    ("GET", "/backups/{projectId}/diff", "viewer"),
    ("GET", "/restores", "viewer"),
    ("GET", "/restores/{restoreId}", "viewer"),
    ("POST", "/restores/{restoreId}/cancel", "member"),
    ("GET", "/schedules", "viewer"),
    ("POST", "/schedules", "admin"),
    ("GET", "/schedules/stats/overview", "viewer"),
    ("GET", "/schedules/presets", "viewer"),
    ("POST", "/schedules/preview", "viewer"),
    ("GET", "/schedules/project/{projectId}", "viewer"),
    ("GET", "/schedules/{scheduleId}", "viewer"),
    ("PUT", "/schedules/{scheduleId}", "admin"),
    ("DELETE", "/schedules/{scheduleId}", "admin"),
    ("PATCH", "/schedules/{scheduleId}/toggle", "admin"),
    ("POST", "/schedules/{scheduleId}/trigger", "member"),
    ("GET", "/webhooks", "viewer"),
    ("POST", "/webhooks", "admin"),
    ("GET", "/webhooks/{webhookId}", "viewer"),
    ("PUT", "/webhooks/{webhookId}", "admin"),
    ("DELETE", "/webhooks/{webhookId}", "admin"),
    ("PATCH", "/webhooks/{webhookId}/toggle", "admin"),
    ("POST", "/webhooks/{webhookId}/test", "admin"),
    ("POST", "/webhooks/{webhookId}/secret", "admin"),
    ("GET", "/webhooks/{webhookId}/deliveries", "viewer"),
    ("POST", "/webhooks/{webhookId}/deliveries/{deliveryId}/redeliver", "admin"),
];

/// Routes of people, which speak of no organization: an access token opens them, an API key does not.
const PERSONAL: &[(&str, &str)] = &[
    ("GET", "/organizations"),
    ("POST", "/organizations"),
    ("POST", "/organizations/invites/accept"),
    ("POST", "/auth/logout"),
];
/// Routes for whoever holds anything that is good.
const ANYBODY: &[(&str, &str)] = &[("GET", "/auth/me")];
/// Routes for strangers: what they bring is looked at by the route itself.
const OPEN: &[(&str, &str)] = &[
    ("GET", "/auth/google"),
    ("GET", "/auth/google/callback"),
    ("POST", "/auth/token"),
    ("POST", "/auth/refresh"),
    ("GET", "/projects/oauth/callback"),
];

/// Routes that show or change nothing of one thing, so that a foreign organization has its own.
fn is_of_a_list(path: &str) -> bool {
    !path.contains('{')
}

fn body(method: &str, path: &str, ids: &BTreeMap<&str, String>) -> Option<Value> {
    let body = match (method, path) {
        ("POST", "/projects") => emulator_project("Another"),
        ("POST", "/storage/destinations") => bucket("Another"),
        ("POST", "/organizations/current/service-account") => json!({"name": "Another", "role": "viewer"}),
        ("POST", "/backups") => json!({"projectId": ids["projectId"]}),
        (
            "POST",
            "/storage/connect"
            | "/storage/buckets/verify"
            | "/storage/buckets/folders"
            | "/storage/buckets/folders/create",
        ) => json!({"url": "s3://backups/shop"}),
        ("POST", "/storage/sync") => json!({}),
        ("POST", path) if path.ends_with("/cleanup-orphans") => json!({"dryRun": false}),
        ("POST", path) if path.ends_with("/files/bulk-delete") => {
            json!({"projectId": ids["projectId"], "names": ["firebackup.json"]})
        }
        ("POST", path) if path.ends_with("/bulk-delete") => json!({"backupIds": [ids["backupId"]]}),
        ("POST", "/backups/restore") => json!({"backupId": ids["backupId"], "dryRun": true}),
        ("POST", "/schedules/preview") => json!({"cronExpression": "0 3 * * *"}),
        ("POST", "/schedules") => schedule(&ids["projectId"]),
        ("POST", "/organizations/current/invites") => json!({"email": "another@example.com", "role": "viewer"}),
        ("PUT", "/organizations/current/members/{userId}") => json!({"role": "viewer"}),
        ("POST", "/organizations/current/delete") => json!({"name": "First"}),
        ("POST", "/organizations") => json!({"name": "Another"}),
        ("POST", "/organizations/invites/accept") => json!({"token": "fbi_nonsense"}),
        ("POST", "/auth/token") => json!({"code": "fbc_nonsense", "grant_type": "authorization_code"}),
        ("POST", "/auth/refresh") => json!({"refreshToken": "fbr_nonsense"}),
        ("POST", "/webhooks") => webhook("Another"),
        ("PUT", _) => json!({"name": "Renamed"}),
        _ => return None,
    };
    Some(body)
}

fn filled(method: &str, path: &str, ids: &BTreeMap<&str, String>) -> String {
    let mut filled = format!("/api/v1{path}");
    for (name, id) in ids {
        filled = filled.replace(&format!("{{{name}}}"), id);
    }
    match path.rsplit('/').next() {
        Some("files") if method == "DELETE" => format!("{filled}?projectId={}&name=firebackup.json", ids["projectId"]),
        Some("files" | "stats") if path.contains("/files") => format!("{filled}?projectId={}", ids["projectId"]),
        Some("diff") => format!("{filled}?from={0}&to={0}", ids["backupId"]),
        _ => filled,
    }
}

async fn outcome(world: &World, row: (&str, &str), ids: &BTreeMap<&str, String>, token: Option<&str>) -> (u16, String) {
    let (method, path) = row;
    let call = world.call(method, &filled(method, path, ids));
    let mut call = if let Some(token) = token { call.token(token) } else { call.stranger() };
    if let Some(body) = body(method, path, ids) {
        call = call.json(&body);
    }
    let reply = call.send().await;
    (reply.status, reply.code().to_owned())
}

#[test]
fn the_table_knows_every_route() {
    let mut documented: Vec<(String, String)> = operations();
    documented.retain(|(_, path)| path != "/health");
    let of_roles = TABLE.iter().map(|(method, path, _)| (*method, *path));
    let others = [PERSONAL, ANYBODY, OPEN].concat();
    let known = of_roles.chain(others).map(|(method, path)| (method.to_owned(), format!("/api/v1{path}")));
    let mut known: Vec<(String, String)> = known.collect();
    documented.sort();
    known.sort();
    assert_eq!(documented, known);
}

#[tokio::test]
async fn a_role_may_what_the_table_says_and_nothing_more() {
    for role in ROLES {
        for (method, path, least) in TABLE {
            let world = World::new().await;
            let ids = furnish(&world).await;
            let token = world.key(role).await;
            let (status, code) = outcome(&world, (method, path), &ids, Some(&token)).await;
            let is_allowed = ROLES.iter().position(|one| one == least) <= ROLES.iter().position(|one| *one == role);
            // what is allowed may still be at odds with how things stand, such as cancelling what has ended
            let found = status != 403;
            assert_eq!(found, is_allowed, "{role} {method} {path}: {status} {code}");
            assert!(status < 300 || status == 403 || status == 409, "{role} {method} {path}: {status} {code}");
        }
    }
}

#[tokio::test]
async fn whoever_is_nobody_is_told_so_by_every_route() {
    let world = World::new().await;
    let ids = furnish(&world).await;
    let revoked =
        world.post("/api/v1/organizations/current/service-account", json!({"name": "R", "role": "owner"})).await;
    let path = format!("/api/v1/organizations/current/service-account/{}", revoked["id"].as_str().unwrap());
    assert_eq!(world.call("DELETE", &path).send().await.status, 200);
    let expires = "2023-11-15T00:00:00Z";
    let expiring = json!({"name": "E", "role": "owner", "expiresAt": expires});
    let expired = world.post("/api/v1/organizations/current/service-account", expiring).await;
    world.clock.advance(2 * 86_400);
    let wrong_secret = format!("{}x", &world.owner[..world.owner.len() - 1]);
    let of_roles = TABLE.iter().map(|(method, path, _)| (*method, *path));
    for (method, path) in of_roles.chain([PERSONAL, ANYBODY].concat()) {
        for (token, code) in [
            (None, "UNAUTHORIZED"),
            (Some("fb_nonsense"), "INVALID_TOKEN"),
            (Some(wrong_secret.as_str()), "INVALID_TOKEN"),
            (revoked["apiKey"].as_str(), "INVALID_TOKEN"),
            (expired["apiKey"].as_str(), "TOKEN_EXPIRED"),
        ] {
            let found = outcome(&world, (method, path), &ids, token).await;
            assert_eq!(found, (401, code.to_owned()), "{method} {path} {token:?}");
        }
    }
    let reply = world.call("GET", "/api/v1/projects").token(expired["apiKey"].as_str().unwrap()).send().await;
    assert_eq!(reply.body["error"]["details"]["expiredAt"], expires);
    assert_eq!(reply.headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn things_of_another_organization_are_not_there() {
    let world = World::new().await;
    let ids = furnish(&world).await;
    let (_, foreign) = world.another_organization().await;
    let made_up: BTreeMap<&str, String> = ids
        .iter()
        .map(|(name, id)| (*name, format!("{}_01ARZ3NDEKTSV4RRFFQ69G5FAV", id.split_once('_').unwrap().0)))
        .collect();
    for (method, path, _) in TABLE {
        if is_of_a_list(path)
            && !["/backups", "/backups/restore"].contains(path)
            && (*method, *path) != ("POST", "/schedules")
        {
            continue;
        }
        let found = outcome(&world, (method, path), &ids, Some(&foreign)).await;
        let unknown = outcome(&world, (method, path), &made_up, Some(&foreign)).await;
        assert_eq!(found, unknown, "{method} {path}");
        let is_list = *method == "GET" && path.contains("/project/");
        assert!(found == (404, "NOT_FOUND".to_owned()) || is_list && found.0 == 200, "{method} {path}: {found:?}");
    }
    for list in ["/projects", "/storage/destinations", "/restores", "/schedules"] {
        let reply = world.call("GET", &format!("/api/v1{list}")).token(&foreign).send().await;
        assert_eq!((reply.status, reply.data()), (200, &json!([])), "{list}");
    }
}

#[tokio::test]
async fn a_key_acts_in_its_own_organization_only() {
    let world = World::new().await;
    let (other, _) = world.another_organization().await;
    let named = async |organization: &str| {
        let reply = world.call("GET", "/api/v1/organizations/current").header("x-organization-id", organization);
        reply.send().await
    };
    assert_eq!(named(&world.organization.to_string()).await.status, 200);
    assert_eq!(named(&other.to_string()).await.outcome(), (403, "FORBIDDEN"));
    assert_eq!(named("org_01ARZ3NDEKTSV4RRFFQ69G5FAV").await.outcome(), (403, "FORBIDDEN"));
    assert_eq!(named("nonsense").await.outcome(), (400, "INVALID_REQUEST"));
}

#[tokio::test]
async fn nobody_grants_more_than_their_own_role_and_the_last_owner_stays() {
    let world = World::new().await;
    let admin = world.key("admin").await;
    let keys = "/api/v1/organizations/current/service-account";
    let reply = world.call("POST", keys).token(&admin).json(&json!({"name": "O", "role": "owner"})).send().await;
    assert_eq!(reply.outcome(), (403, "FORBIDDEN"));
    let listed = world.get(keys).await;
    let owner = listed.data().as_array().unwrap().iter().find(|key| key["role"] == "owner").unwrap();
    let reply = world.call("DELETE", &format!("{keys}/{}", owner["id"].as_str().unwrap())).send().await;
    assert_eq!(reply.outcome(), (409, "LAST_OWNER"));
}
