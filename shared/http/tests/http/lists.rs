//! Lists: pages, cursors, filters.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::world::{World, emulator_project, id};

const PROJECTS: &str = "/api/v1/projects";

async fn with_projects(count: usize) -> World {
    let world = World::new().await;
    for n in 0..count {
        world.post(PROJECTS, emulator_project(&format!("Project {n:03}"))).await;
    }
    world
}

fn names(data: &Value) -> Vec<&str> {
    data.as_array().unwrap().iter().map(|project| project["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_empty_list_is_a_page_without_entries() {
    let world = World::new().await;
    let reply = world.get(PROJECTS).await;
    let meta = json!({"page": 1, "limit": 20, "total": 0, "totalPages": 0, "cursor": null});
    assert_eq!(reply.body, json!({"success": true, "data": [], "meta": meta}));
}

#[tokio::test]
async fn pages_by_number_are_counted() {
    let world = with_projects(23).await;
    let first = world.get(PROJECTS).await;
    assert_eq!(first.data().as_array().unwrap().len(), 20);
    assert_eq!((&first.body["meta"]["total"], &first.body["meta"]["totalPages"]), (&json!(23), &json!(2)));
    let second = world.get(&format!("{PROJECTS}?page=2&limit=20")).await;
    assert_eq!(names(second.data()), ["Project 020", "Project 021", "Project 022"]);
    assert_eq!(second.body["meta"]["cursor"], Value::Null);
    let beyond = world.get(&format!("{PROJECTS}?page=9&limit=20")).await;
    assert_eq!((beyond.status, beyond.data()), (200, &json!([])));
}

#[tokio::test]
async fn cursors_lead_through_all_of_a_list_once() {
    let world = with_projects(23).await;
    let mut seen = Vec::new();
    let mut path = format!("{PROJECTS}?limit=5");
    loop {
        let reply = world.get(&path).await;
        seen.extend(reply.data().as_array().unwrap().iter().map(id));
        let Some(cursor) = reply.body["meta"]["cursor"].as_str() else { break };
        let cursor: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
        path = format!("{PROJECTS}?limit=5&cursor={cursor}");
        assert!(seen.len() < 100, "the list has no end");
    }
    assert_eq!(seen.len(), 23);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 23);
}

#[tokio::test]
async fn pages_that_cannot_be_are_refused() {
    let world = with_projects(3).await;
    let of_schedules = world.get("/api/v1/schedules?limit=1").await.body["meta"]["cursor"].clone();
    assert_eq!(of_schedules, Value::Null);
    for (query, status, code) in [
        ("limit=0", 422, "VALIDATION_FAILED"),
        ("limit=101", 422, "VALIDATION_FAILED"),
        ("page=0", 422, "VALIDATION_FAILED"),
        ("page=1000&limit=100", 422, "VALIDATION_FAILED"),
        ("page=x", 400, "INVALID_REQUEST"),
        ("page=-1", 400, "INVALID_REQUEST"),
        ("limit=99999999999", 400, "INVALID_REQUEST"),
        ("cursor=nonsense", 400, "INVALID_CURSOR"),
        ("status=nonsense", 400, "INVALID_REQUEST"),
    ] {
        let reply = world.get(&format!("{PROJECTS}?{query}")).await;
        assert_eq!(reply.outcome(), (status, code), "{query}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_cursor_of_another_organization_shows_nothing_of_it() {
    let world = with_projects(3).await;
    let cursor = world.get(&format!("{PROJECTS}?limit=1")).await.body["meta"]["cursor"].as_str().unwrap().to_owned();
    let (_, foreign) = world.another_organization().await;
    let cursor: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
    let reply = world.call("GET", &format!("{PROJECTS}?cursor={cursor}")).token(&foreign).send().await;
    assert_eq!(reply.outcome(), (400, "INVALID_CURSOR"));
}

#[tokio::test]
async fn projects_are_found_by_name_and_status() {
    let world = with_projects(12).await;
    let reply = world.get(&format!("{PROJECTS}?search=ject%20011")).await;
    assert_eq!(names(reply.data()), ["Project 011"]);
    let reply = world.get(&format!("{PROJECTS}?status=disconnected")).await;
    assert_eq!(reply.data(), &json!([]));
    let reply = world.get(&format!("{PROJECTS}?status=connected&limit=100")).await;
    assert_eq!(reply.data().as_array().unwrap().len(), 12);
}
