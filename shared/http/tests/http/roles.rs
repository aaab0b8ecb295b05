//! Every route with every role, and with everybody who has none.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::contract::{operation, operations};
use crate::world::{World, bucket, drills, emulator_project, furnish, schedule, webhook};

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
    ("POST", "/storage/buckets/create", "admin"),
    ("POST", "/storage/buckets/verify", "admin"),
    ("POST", "/storage/buckets/folders", "admin"),
    ("POST", "/storage/buckets/folders/create", "admin"),
    ("POST", "/storage/sync", "admin"),
    ("GET", "/storage/destinations/{destinationId}/files", "viewer"),
    ("GET", "/storage/destinations/{destinationId}/files/stats", "viewer"),
    ("DELETE", "/storage/destinations/{destinationId}/files", "admin"),
    ("POST", "/storage/destinations/{destinationId}/files/bulk-delete", "admin"),
    ("POST", "/storage/destinations/{destinationId}/cleanup-orphans", "admin"),
    ("POST", "/storage/destinations/{destinationId}/migrate", "admin"),
    ("DELETE", "/storage/destinations/{destinationId}/migrate", "admin"),
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
    ("POST", "/pitr/enable", "admin"),
    ("POST", "/pitr/{projectId}/disable", "admin"),
    ("POST", "/pitr/{projectId}/pause", "admin"),
    ("POST", "/pitr/{projectId}/resume", "admin"),
    ("GET", "/pitr/{projectId}/config", "viewer"),
    ("PATCH", "/pitr/{projectId}/config", "admin"),
    ("GET", "/pitr/{projectId}/statistics", "viewer"),
    ("GET", "/pitr/{projectId}/health", "viewer"),
    ("GET", "/pitr/{projectId}/windows", "viewer"),
    ("POST", "/pitr/{projectId}/events/secret", "admin"),
    ("POST", "/pitr/restore", "member"),
    ("GET", "/pitr/{projectId}/restore-jobs", "viewer"),
    ("GET", "/pitr/{projectId}/restore-jobs/{jobId}", "viewer"),
    ("GET", "/drills/{projectId}", "viewer"),
    ("GET", "/drills/{projectId}/config", "viewer"),
    ("PUT", "/drills/{projectId}/config", "admin"),
    ("DELETE", "/drills/{projectId}/config", "admin"),
    ("POST", "/drills/{projectId}/run", "admin"),
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
    ("POST", "/pitr/{projectId}/events"),
];

/// Routes that show or change nothing of one thing, so that a foreign organization has its own.
fn is_of_a_list(path: &str) -> bool {
    !path.contains('{')
}

/// What somebody proves who they are with, and which organization they speak of.
#[derive(Debug, Clone, Default)]
struct Holder {
    token: Option<String>,
    organization: Option<String>,
}

impl Holder {
    fn of(token: &str) -> Self {
        Self { token: Some(token.to_owned()), organization: None }
    }

    /// Somebody who calls with this role: a key, or a person who is signed in.
    async fn with(world: &World, role: &str, is_person: bool) -> Self {
        if is_person {
            let (token, _) = world.member("caller", role).await;
            return Self { token: Some(token), organization: Some(world.organization.to_string()) };
        }
        Self::of(&world.key(role).await)
    }
}

fn body(method: &str, path: &str, ids: &BTreeMap<&str, String>) -> Option<Value> {
    let body = match (method, path) {
        ("POST", "/projects") => emulator_project("Another"),
        ("POST", "/storage/destinations") => bucket("Another"),
        ("POST", "/organizations/current/service-account") => json!({"name": "Another", "role": "viewer"}),
        ("POST", "/pitr/restore") => {
            json!({"projectId": ids["projectId"], "pointInTime": "2023-11-14T22:14:00Z", "dryRun": true})
        }
        ("POST", "/pitr/enable") => json!({"projectId": ids["projectId"]}),
        ("PATCH", path) if path.ends_with("/config") => json!({"retentionDays": 14}),
        ("POST", "/backups") => json!({"projectId": ids["projectId"]}),
        (
            "POST",
            "/storage/connect"
            | "/storage/buckets/create"
            | "/storage/buckets/verify"
            | "/storage/buckets/folders"
            | "/storage/buckets/folders/create",
        ) => json!({"url": "s3://backups/shop"}),
        ("POST", "/storage/sync") => json!({}),
        ("POST", path) if path.ends_with("/cleanup-orphans") => json!({"dryRun": false}),
        ("POST", path) if path.ends_with("/migrate") => {
            json!({"targetDestinationId": ids["otherDestinationId"], "dryRun": false})
        }
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
        ("PUT", path) if path.ends_with("/config") => drills(),
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

async fn outcome(world: &World, row: (&str, &str), ids: &BTreeMap<&str, String>, holder: &Holder) -> (u16, String) {
    let (method, path) = row;
    let call = world.call(method, &filled(method, path, ids));
    let mut call = if let Some(token) = &holder.token { call.token(token) } else { call.stranger() };
    if let Some(organization) = &holder.organization {
        call = call.header("x-organization-id", organization);
    }
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

/// Every row for somebody with a role. What changes something finds everything as it was furnished.
async fn check_role(role: &str, is_person: bool) {
    let shared = World::new().await;
    let ids = furnish(&shared).await;
    let holder = Holder::with(&shared, role, is_person).await;
    for (method, path, least) in TABLE {
        let is_allowed = ROLES.iter().position(|one| one == least) <= ROLES.iter().position(|one| *one == role);
        let (status, code) = if is_allowed && *method != "GET" {
            let world = World::new().await;
            let ids = furnish(&world).await;
            let holder = Holder::with(&world, role, is_person).await;
            outcome(&world, (method, path), &ids, &holder).await
        } else {
            outcome(&shared, (method, path), &ids, &holder).await
        };
        // what is allowed may still be at odds with how things stand, such as cancelling what has ended
        let place = format!("{role} {method} {path}, a person: {is_person}: {status} {code}");
        assert_eq!(status != 403, is_allowed, "{place}");
        assert!(status < 300 || status == 403 || status == 409, "{place}");
    }
}

/// What is wrong with a body is told to those who may send one; the others are refused, and that is noted.
#[tokio::test]
async fn whoever_may_not_is_refused_whatever_they_send() {
    let world = World::new().await;
    let ids = furnish(&world).await;
    let takes_body = |method: &str, path: &str| operation(method, &format!("/api/v1{path}")).unwrap().takes_body();
    let rows: Vec<_> = TABLE.iter().filter(|(method, path, _)| takes_body(method, path)).collect();
    assert!(rows.len() > 20, "{rows:?}");
    for (index, role) in ROLES.iter().enumerate() {
        let key = world.key(role).await;
        let mut refused = 0;
        for (method, path, least) in &rows {
            let is_allowed = ROLES.iter().position(|one| one == least) <= Some(index);
            refused += usize::from(!is_allowed);
            for (kind, text) in
                [("application/json", r#"{"nonsense":1}"#), ("application/json", "[{"), ("text/plain", "x")]
            {
                let call = world.call(method, &filled(method, path, &ids)).token(&key).header("content-type", kind);
                let reply = call.bytes(text).send().await;
                let place = format!("{role} {method} {path} {text}: {} {}", reply.status, reply.code());
                assert_eq!(reply.status == 403, !is_allowed, "{place}");
                assert!([400, 403, 415, 422].contains(&reply.status), "{place}");
            }
        }
        let noted = world.get("/api/v1/audit?outcome=refused&limit=100").await;
        assert!(noted.data().as_array().unwrap().len() >= refused, "{role}: {}", noted.text);
    }
}

#[tokio::test]
async fn a_key_may_what_the_table_says_and_nothing_more() {
    for role in ROLES {
        check_role(role, false).await;
    }
}

#[tokio::test]
async fn a_person_may_what_the_table_says_and_nothing_more() {
    for role in ROLES {
        check_role(role, true).await;
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
    let (expired_access, _) = world.member("late", "owner").await;
    world.clock.advance(2 * 86_400);
    let (signed_out, _) = world.sign_in("late").await;
    assert_eq!(world.call("POST", "/api/v1/auth/logout").token(&signed_out).send().await.status, 200);
    let wrong_secret = format!("{}x", &world.owner[..world.owner.len() - 1]);
    let of_roles = TABLE.iter().map(|(method, path, _)| (*method, *path));
    for (method, path) in of_roles.chain([PERSONAL, ANYBODY].concat()) {
        for (token, code) in [
            (None, "UNAUTHORIZED"),
            (Some("fb_nonsense"), "INVALID_TOKEN"),
            (Some(wrong_secret.as_str()), "INVALID_TOKEN"),
            (revoked["apiKey"].as_str(), "INVALID_TOKEN"),
            (expired["apiKey"].as_str(), "TOKEN_EXPIRED"),
            (Some("fba_nonsense"), "INVALID_TOKEN"),
            (Some(signed_out.as_str()), "INVALID_TOKEN"),
            (Some(expired_access.as_str()), "TOKEN_EXPIRED"),
        ] {
            let holder = token.map(Holder::of).unwrap_or_default();
            let found = outcome(&world, (method, path), &ids, &holder).await;
            assert_eq!(found, (401, code.to_owned()), "{method} {path} {token:?}");
        }
    }
    let reply = world.call("GET", "/api/v1/projects").token(expired["apiKey"].as_str().unwrap()).send().await;
    assert_eq!(reply.body["error"]["details"]["expiredAt"], expires);
    assert_eq!(reply.headers["www-authenticate"], "Bearer");
}

/// Whoever calls from another organization, by role: its keys, and a person who has made it.
async fn foreigners(world: &World) -> Vec<(&'static str, Holder)> {
    let (_, owner) = world.another_organization().await;
    let (person, _) = world.sign_in("eve").await;
    let mut foreigners = vec![("owner", Holder::of(&owner)), ("owner", Holder::of(&person))];
    for role in ["viewer", "member", "admin"] {
        let new = json!({"name": role, "role": role});
        let made = world.call("POST", "/api/v1/organizations/current/service-account").token(&owner).json(&new);
        foreigners.push((role, Holder::of(made.send().await.data()["apiKey"].as_str().unwrap())));
    }
    foreigners
}

#[tokio::test]
async fn things_of_another_organization_are_not_there() {
    let world = World::new().await;
    let ids = furnish(&world).await;
    let made_up: BTreeMap<&str, String> = ids
        .iter()
        .map(|(name, id)| (*name, format!("{}_01ARZ3NDEKTSV4RRFFQ69G5FAV", id.split_once('_').unwrap().0)))
        .collect();
    for (role, foreigner) in foreigners(&world).await {
        for (method, path, least) in TABLE {
            if is_of_a_list(path)
                && !["/backups", "/backups/restore", "/pitr/enable", "/pitr/restore"].contains(path)
                && (*method, *path) != ("POST", "/schedules")
            {
                continue;
            }
            let found = outcome(&world, (method, path), &ids, &foreigner).await;
            let unknown = outcome(&world, (method, path), &made_up, &foreigner).await;
            assert_eq!(found, unknown, "{role} {method} {path}");
            let is_allowed = ROLES.iter().position(|one| one == least) <= ROLES.iter().position(|one| *one == role);
            let expect = if is_allowed { (404, "NOT_FOUND") } else { (403, "FORBIDDEN") };
            assert_eq!((found.0, found.1.as_str()), expect, "{role} {method} {path}");
        }
    }
}

#[tokio::test]
async fn lists_show_nothing_of_another_organization() {
    let world = World::new().await;
    let ids = furnish(&world).await;
    for (role, foreigner) in foreigners(&world).await {
        for (method, path, _) in TABLE.iter().filter(|(method, path, _)| *method == "GET" && is_of_a_list(path)) {
            let token = foreigner.token.as_deref().unwrap();
            let reply = world.call(method, &filled(method, path, &ids)).token(token).send().await;
            let place = format!("{role} {method} {path}: {}", reply.text);
            assert!(matches!(reply.status, 200 | 302 | 403), "{place}");
            assert!(ids.values().all(|id| !reply.text.contains(id)), "{place}");
            assert!(!reply.text.contains(&world.organization.to_string()), "{place}");
        }
    }
    // it is not that nothing is shown to anybody
    for list in ["/projects", "/storage/destinations", "/restores", "/schedules", "/webhooks"] {
        let shown = world.get(&format!("/api/v1{list}")).await;
        assert!(ids.values().any(|id| shown.text.contains(id)), "{list}: {}", shown.text);
    }
}

#[tokio::test]
async fn another_organization_is_closed_to_every_role() {
    let world = World::new().await;
    let ids = furnish(&world).await;
    for (role, foreigner) in foreigners(&world).await {
        let knocking = Holder { organization: Some(world.organization.to_string()), ..foreigner };
        for (method, path, _) in TABLE {
            let found = outcome(&world, (method, path), &ids, &knocking).await;
            assert_eq!(found, (403, "FORBIDDEN".to_owned()), "{role} {method} {path}");
        }
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
