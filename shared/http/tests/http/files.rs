//! The objects of a repository, and places that are looked at before they are added.

use serde_json::{Value, json};

use crate::world::{PLANTED, World, bucket, id};

/// The names on all pages of a list, `limit` a page.
async fn names(world: &World, path: &str, limit: usize) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("{path}&limit={limit}&cursor={cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let entries = page.data().as_array().unwrap();
        assert!(!entries.is_empty() && entries.len() <= limit, "{}", page.text);
        names.extend(entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()));
        match page.body["meta"]["cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return names,
        }
    }
}

async fn destination(world: &World) -> String {
    id(&world.get("/api/v1/storage/destinations").await.data()[0])
}

#[tokio::test]
async fn objects_are_listed_once_in_order_and_counted() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(30).await;
    let base = format!("/api/v1/storage/destinations/{}/files", destination(&world).await);
    let path = format!("{base}?projectId={project}");
    let all = names(&world, &path, 100).await;
    assert!(all.is_sorted() && all.iter().any(|name| name.contains(&backup)), "{all:?}");
    for limit in [1, 2, all.len()] {
        assert_eq!(names(&world, &path, limit).await, all, "{limit} a page");
    }
    let stats = world.get(&format!("{base}/stats?projectId={project}")).await;
    assert_eq!((&stats.data()["files"], &stats.data()["partial"]), (&json!(all.len()), &json!(false)));
    let folders = stats.data()["folders"].as_array().unwrap();
    let sum = |field: &str| folders.iter().map(|folder| folder[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!(
        (json!(sum("files")), json!(sum("bytes"))),
        (stats.data()["files"].clone(), stats.data()["bytes"].clone())
    );
    assert!(folders.iter().any(|folder| folder["name"] == "runs"), "{}", stats.text);
    for (bad, outcome) in [("limit=0", (422, "VALIDATION_FAILED")), ("cursor=//", (400, "INVALID_CURSOR"))] {
        assert_eq!(world.get(&format!("{path}&{bad}")).await.outcome(), outcome, "{bad}");
    }
}

#[tokio::test]
async fn a_bucket_that_lists_in_order_is_paged_alike() {
    let world = World::new().await;
    let made = world.post("/api/v1/storage/destinations", bucket("Bucket")).await;
    let (project, _) = world.completed_backup(30).await;
    let path = format!("/api/v1/storage/destinations/{}/files?projectId={project}", id(&made));
    let all = names(&world, &path, 100).await;
    assert!(all.len() > 3);
    assert_eq!(names(&world, &path, 1).await, all);
}

#[tokio::test]
async fn a_repository_without_a_backup_of_ones_own_is_not_there() {
    let world = World::new().await;
    let (project, _) = world.completed_backup(5).await;
    let base = format!("/api/v1/storage/destinations/{}/files", destination(&world).await);
    for query in [
        format!("projectId={project}&encrypted=false"),
        format!("projectId={}", world.project().await),
        "projectId=proj_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
    ] {
        for path in [format!("{base}?{query}"), format!("{base}/stats?{query}")] {
            assert_eq!(world.get(&path).await.outcome(), (404, "NOT_FOUND"), "{path}");
        }
    }
    // the same bucket, named by somebody else: its repositories are not theirs
    let (_, foreign) = world.another_organization().await;
    let made = world.call("POST", "/api/v1/storage/destinations").token(&foreign);
    let made = made.json(&json!({"name": "Same", "url": "file:///srv/backups"})).send().await;
    let path = format!("/api/v1/storage/destinations/{}/files?projectId={project}", id(made.data()));
    assert_eq!(world.call("GET", &path).token(&foreign).send().await.outcome(), (404, "NOT_FOUND"));
}

#[tokio::test]
async fn a_place_is_looked_at_and_not_kept() {
    let world = World::new().await;
    let options = json!({"AWS_ACCESS_KEY_ID": "AKIA0", "AWS_SECRET_ACCESS_KEY": PLANTED});
    for path in ["/api/v1/storage/connect", "/api/v1/storage/buckets/verify"] {
        let found = world.post(path, json!({"url": "s3://backups/shop", "options": options})).await;
        assert_eq!((&found["kind"], &found["missing"]), (&json!("s3"), &json!([])));
        let refused = async |body: Value| {
            let reply = world.call("POST", path).json(&body).send().await;
            (reply.status, reply.code().to_owned())
        };
        assert_eq!(refused(json!({"url": "s3://nowhere"})).await, (502, "DESTINATION_FAILED".to_owned()));
        assert_eq!(refused(json!({"url": "https://backups"})).await, (422, "VALIDATION_FAILED".to_owned()));
    }
    assert_eq!(world.get("/api/v1/storage/destinations").await.data(), &json!([]));
}

#[tokio::test]
async fn folders_of_a_place_are_listed_and_made_where_there_are_any() {
    const FOLDERS: &str = "/api/v1/storage/buckets/folders";
    let world = World::new().await;
    let listed = world.post(FOLDERS, json!({"url": "s3://backups", "options": {"AWS_REGION": "eu-west-1"}})).await;
    assert_eq!(listed, json!({"folders": ["a", "b"], "partial": false}));
    let many = world.post(FOLDERS, json!({"url": "s3://many"})).await;
    assert_eq!((many["folders"].as_array().unwrap().len(), &many["partial"]), (1000, &json!(true)));
    let create = format!("{FOLDERS}/create");
    assert_eq!(world.post(&create, json!({"url": "file:///srv/new"})).await, json!({"made": true}));
    assert_eq!(world.post(&create, json!({"url": "s3://backups/new"})).await, json!({"made": false}));
    let told = world.get("/api/v1/audit?action=storage.folder_created").await;
    assert_eq!(told.data()[1]["resource"], "file:///srv/new");
    for (path, url, expect) in [
        (FOLDERS, "s3://nowhere", (502, "DESTINATION_FAILED")),
        (FOLDERS, "s3://key:secret@b", (422, "VALIDATION_FAILED")),
        (create.as_str(), "file:///srv/receipts", (422, "VALIDATION_FAILED")),
        (create.as_str(), "ftp://b", (422, "VALIDATION_FAILED")),
    ] {
        assert_eq!(world.call("POST", path).json(&json!({"url": url})).send().await.outcome(), expect, "{url}");
    }
}

#[tokio::test]
async fn a_bucket_is_made_and_noted_and_one_that_is_there_is_told() {
    const CREATE: &str = "/api/v1/storage/buckets/create";
    let world = World::new().await;
    let options = json!({"AWS_ACCESS_KEY_ID": "AKIA0", "AWS_SECRET_ACCESS_KEY": PLANTED});
    let body = json!({"url": "s3://new/shop", "options": options, "objectLock": true, "location": "eu-central-1"});
    let made = world.post(CREATE, body).await;
    let expect =
        json!({"kind": "s3", "closedToPublic": true, "keepsVersions": true, "objectLock": true, "problems": []});
    assert_eq!(made, expect);
    assert_eq!(world.get("/api/v1/storage/destinations").await.data(), &json!([]));
    let taken = world.call("POST", CREATE).json(&json!({"url": "s3://taken"})).send().await;
    assert_eq!(taken.outcome(), (409, "CONFLICT"));
    assert_eq!(taken.body["error"]["details"]["owner"], "other");
    for (body, expect) in [
        (json!({"url": "s3://nowhere"}), (502, "DESTINATION_FAILED")),
        (json!({"url": "file:///srv/new"}), (422, "VALIDATION_FAILED")),
        (json!({"url": "gs://new"}), (422, "VALIDATION_FAILED")),
        (json!({"url": "s3://new", "endpoint": "https://10.0.0.1"}), (422, "VALIDATION_FAILED")),
    ] {
        assert_eq!(world.call("POST", CREATE).json(&body).send().await.outcome(), expect, "{body}");
    }
    let body = json!({"url": "s3://new", "serverSideEncryption": {"type": "sse-s3"}});
    let unknown = world.call("POST", CREATE).json(&body).undocumented().send().await;
    assert_eq!(unknown.outcome(), (422, "VALIDATION_FAILED"));
    let told = world.get("/api/v1/audit").await;
    let told: Vec<_> =
        told.data().as_array().unwrap().iter().map(|entry| json!([entry["action"], entry["resource"]])).collect();
    for (action, url) in [
        ("storage.bucket_created", "s3://new/shop"),
        ("storage.bucket_requested", "s3://new/shop"),
        ("storage.bucket_requested", "s3://taken"),
    ] {
        assert_eq!(told.iter().filter(|entry| **entry == json!([action, url])).count(), 1, "{told:?}");
    }
    assert!(!told.contains(&json!(["storage.bucket_created", "s3://taken"])));
}
