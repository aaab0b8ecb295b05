//! What surrounds every answer: ids, headers, fall-backs, panics.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn health_and_the_document_are_open_to_everybody() {
    let world = World::new().await;
    let reply = world.call("GET", "/health").stranger().send().await;
    assert_eq!(reply.body, json!({"success": true, "data": {"status": "ok", "version": "1.2.3"}}));
    let reply = world.call("GET", "/openapi.json").stranger().undocumented().send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, serde_json::to_value(firebackup_http::openapi()).unwrap());
}

#[tokio::test]
async fn an_unknown_route_and_an_unknown_method_are_answered_in_the_envelope() {
    let world = World::new().await;
    for path in [
        "/",
        "/docs/",
        "/docs/nothing.js",
        "/api/v1",
        "/api/v1/nothing",
        "/api/v1/projects/",
        "/api/v2/projects",
        "/projects",
    ] {
        let reply = world.call("GET", path).undocumented().send().await;
        assert_eq!(reply.outcome(), (404, "ROUTE_NOT_FOUND"), "{path}");
        assert_eq!(reply.body["success"], false);
    }
    for (method, path) in [("DELETE", "/api/v1/projects"), ("POST", "/health"), ("PATCH", "/api/v1/restores")] {
        let reply = world.call(method, path).undocumented().send().await;
        assert_eq!(reply.outcome(), (405, "METHOD_NOT_ALLOWED"), "{method} {path}");
        assert!(reply.headers["allow"].to_str().unwrap().contains("GET") || path == "/health", "{method} {path}");
    }
}

#[tokio::test]
async fn a_request_is_named_in_its_answer() {
    let world = World::new().await;
    let reply = world.call("GET", "/api/v1/projects").header("x-request-id", "my-request.1").send().await;
    assert_eq!(reply.headers["x-request-id"], "my-request.1");
    let (first, second) = (world.get("/api/v1/projects").await, world.get("/api/v1/projects").await);
    assert_ne!(first.headers["x-request-id"], second.headers["x-request-id"]);
    let reply = world.call("GET", "/api/v1/nothing").header("x-request-id", "a b").undocumented().send().await;
    assert_eq!(reply.headers["x-request-id"].len(), 32);
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_service_goes_on() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(5).await;
    let path = format!("/api/v1/backups/{project}/{backup}/preview");
    world.repositories.panic_from_now_on();
    let reply = world.get(&path).await;
    assert_eq!(reply.outcome(), (500, "INTERNAL"));
    assert_eq!(world.get("/api/v1/projects").await.status, 200);
}

#[tokio::test]
async fn two_of_a_header_that_may_come_once_are_refused() {
    let world = World::new().await;
    let call = world.call("GET", "/api/v1/projects").header("authorization", "Bearer fb_x");
    assert_eq!(call.send().await.outcome(), (400, "INVALID_REQUEST"));
}

#[tokio::test]
async fn an_observer_is_told_of_routes_and_of_nothing_that_a_client_wrote() {
    let world = World::new().await;
    let project = world.project().await;
    world.answers.0.lock().unwrap().clear();
    world.get(&format!("/api/v1/projects/{project}")).await;
    world.call("GET", "/api/v1/invented?q=1").undocumented().send().await;
    world.call("INVENTED", "/health").undocumented().send().await;
    let told = world.answers.0.lock().unwrap().clone();
    let expect = [("GET", "/api/v1/projects/{projectId}", "2xx"), ("GET", "none", "4xx"), ("other", "/health", "4xx")];
    assert_eq!(told, expect.map(|(method, route, class)| (method, route.to_owned(), class)));
}

#[tokio::test]
async fn what_was_counted_is_no_route_of_the_api() {
    let world = World::new().await;
    let reply = world.call("GET", firebackup_http::METRICS_PATH).undocumented().send().await;
    assert_eq!(reply.status, 404);
}
