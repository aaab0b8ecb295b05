//! People: they sign in, join, act by their role, and sign out.

use serde_json::{Value, json};

use crate::world::{World, id};

const CURRENT: &str = "/api/v1/organizations/current";

#[tokio::test]
async fn a_sign_in_leads_through_the_issuer_to_tokens() {
    let world = World::new().await;
    let began = world.call("GET", "/api/v1/auth/google").stranger().send().await;
    let cookie = began.headers["set-cookie"].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/api/v1/auth", "Max-Age=600"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let (access, refresh) = world.sign_in("ada").await;
    let me = world.call("GET", "/api/v1/auth/me").token(&access).send().await;
    assert_eq!(me.data()["user"]["email"], "ada@example.com");
    let own = world.call("GET", CURRENT).token(&access).send().await;
    assert_eq!(own.data()["name"], "ada's organization");
    let next =
        world.call("POST", "/api/v1/auth/refresh").stranger().json(&json!({"refreshToken": refresh})).send().await;
    assert_eq!(
        (next.status, &next.data()["expiresIn"], &next.data()["tokenType"]),
        (200, &json!(3600), &json!("Bearer"))
    );
    let again =
        world.call("POST", "/api/v1/auth/refresh").stranger().json(&json!({"refreshToken": refresh})).send().await;
    assert_eq!(again.outcome(), (401, "INVALID_REFRESH_TOKEN"));
    let ended = world.call("GET", "/api/v1/auth/me").token(next.data()["accessToken"].as_str().unwrap()).send().await;
    assert_eq!(ended.outcome(), (401, "INVALID_TOKEN"), "the whole family has ended");
}

#[tokio::test]
async fn a_browser_that_comes_back_without_what_it_was_given_is_sent_away() {
    let world = World::new().await;
    for query in ["", "?state=a&code=b", "?error=access_denied&state=a"] {
        let path = format!("/api/v1/auth/google/callback{query}");
        let reply = world.call("GET", &path).stranger().send().await;
        assert_eq!(reply.outcome(), (401, "SIGN_IN_FAILED"), "{query}");
    }
    world.issuer.set_down(true);
    let reply = world.call("GET", "/api/v1/auth/google").stranger().send().await;
    assert_eq!(reply.outcome(), (502, "ISSUER_FAILED"));
}

#[tokio::test]
async fn whoever_signs_out_is_out() {
    let world = World::new().await;
    let (access, _) = world.sign_in("ada").await;
    assert_eq!(world.call("POST", "/api/v1/auth/logout").token(&access).send().await.status, 200);
    assert_eq!(world.call("GET", CURRENT).token(&access).send().await.outcome(), (401, "INVALID_TOKEN"));
}

#[tokio::test]
async fn an_access_token_ends_after_an_hour_and_says_when() {
    let world = World::new().await;
    let (access, _) = world.sign_in("ada").await;
    world.clock.advance(3600);
    let reply = world.call("GET", CURRENT).token(&access).send().await;
    assert_eq!(reply.outcome(), (401, "TOKEN_EXPIRED"));
    assert!(reply.body["error"]["details"]["expiredAt"].is_string(), "{}", reply.text);
}

#[tokio::test]
async fn a_member_of_several_says_which_and_acts_by_the_role_there() {
    let world = World::new().await;
    let (access, user) = world.member("bob", "viewer").await;
    assert_eq!(world.call("GET", CURRENT).token(&access).send().await.outcome(), (400, "ORGANIZATION_REQUIRED"));
    let here = world.organization.to_string();
    let call = |method: &str, path: &str| world.call(method, path).token(&access).header("x-organization-id", &here);
    assert_eq!(call("GET", CURRENT).send().await.data()["name"], "First");
    let change = json!({"name": "Renamed"});
    assert_eq!(call("PUT", CURRENT).json(&change).send().await.outcome(), (403, "FORBIDDEN"));
    let promoted = world.call("PUT", &format!("{CURRENT}/members/{user}")).json(&json!({"role": "owner"})).send().await;
    assert_eq!(promoted.data()["role"], "owner");
    assert_eq!(call("PUT", CURRENT).json(&change).send().await.status, 200);
    let last = call("DELETE", &format!("{CURRENT}/members/{user}")).send().await;
    assert_eq!(last.outcome(), (409, "LAST_OWNER"));
    let foreign =
        world.call("GET", CURRENT).token(&access).header("x-organization-id", "org_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert_eq!(foreign.send().await.outcome(), (403, "FORBIDDEN"));
    let listed = world.call("GET", "/api/v1/organizations").token(&access).send().await;
    assert_eq!(listed.data().as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_invite_is_good_once_and_for_its_address() {
    let world = World::new().await;
    let invite = world.post(&format!("{CURRENT}/invites"), json!({"email": "bob@example.com", "role": "member"})).await;
    let accept = async |access: &str, token: &Value| {
        let call = world.call("POST", "/api/v1/organizations/invites/accept").token(access);
        call.json(&json!({"token": token})).send().await
    };
    let (eve, _) = world.sign_in("eve").await;
    assert_eq!(accept(&eve, &invite["token"]).await.outcome(), (404, "INVITE_INVALID"));
    let (bob, _) = world.sign_in("bob").await;
    assert_eq!(accept(&bob, &invite["token"]).await.status, 200);
    assert_eq!(accept(&bob, &invite["token"]).await.outcome(), (404, "INVITE_INVALID"));
    let listed = world.get(&format!("{CURRENT}/invites")).await;
    assert_eq!(listed.data(), &json!([]));
    assert!(!listed.text.contains("token"));
}

#[tokio::test]
async fn what_is_for_people_is_not_for_keys() {
    let world = World::new().await;
    for (method, path, body) in [
        ("GET", "/api/v1/organizations", None),
        ("POST", "/api/v1/organizations", Some(json!({"name": "X"}))),
        ("POST", "/api/v1/auth/logout", None),
    ] {
        let call = world.call(method, path);
        let call = if let Some(body) = &body { call.json(body) } else { call };
        assert_eq!(call.send().await.outcome(), (403, "FORBIDDEN"), "{method} {path}");
    }
    let me = world.get("/api/v1/auth/me").await;
    assert_eq!(
        (&me.data()["apiKey"]["role"], &me.data()["organizationId"]),
        (&json!("owner"), &json!(world.organization.to_string()))
    );
}

#[tokio::test]
async fn people_make_organizations() {
    let world = World::new().await;
    let (access, _) = world.sign_in("ada").await;
    let made = world.call("POST", "/api/v1/organizations").token(&access).json(&json!({"name": "Second"})).send().await;
    assert_eq!(made.status, 201, "{}", made.text);
    let there = world.call("GET", CURRENT).token(&access).header("x-organization-id", &id(made.data())).send().await;
    assert_eq!(there.data()["name"], "Second");
}

#[tokio::test]
async fn an_owner_deletes_their_organization_by_its_name() {
    let world = World::new().await;
    let (access, _) = world.sign_in("ada").await;
    let me = world.call("GET", "/api/v1/organizations").token(&access).send().await;
    let (own, name) = (id(&me.data()[0]), me.data()[0]["name"].clone());
    let delete = async |name: &Value| {
        let call = world.call("POST", "/api/v1/organizations/current/delete").token(&access);
        call.header("x-organization-id", &own).json(&json!({ "name": name })).send().await
    };
    assert_eq!(delete(&json!("Another")).await.outcome(), (422, "VALIDATION_FAILED"));
    let deleted = delete(&name).await;
    assert_eq!((deleted.status, &deleted.data()["id"], &deleted.data()["left"]), (202, &json!(own), &json!([])));
    assert_eq!(delete(&name).await.outcome(), (403, "FORBIDDEN"));
    let none = world.call("GET", "/api/v1/organizations").token(&access).send().await;
    assert_eq!(none.data(), &json!([]));
    let first = world.call("POST", "/api/v1/organizations/current/delete").json(&json!({"name": "First"})).send().await;
    assert_eq!(first.outcome(), (409, "CONFLICT"));
}
