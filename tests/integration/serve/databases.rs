//! The databases of a project as Google tells of them, which the emulator cannot: a proxy in front of it does.

use firebackup_google::proto::{Database, ListDatabasesResponse};
use firebackup_google::sample::sample;
use firebackup_testkit::{Proxy, ProxyOptions};
use prost::Message;
use reqwest::Method;
use serde_json::{Value, json};

use super::installation::{Installation, SMALL, id};
use crate::stage::{database, emulator, firestore, write_all};

/// An Enterprise database: whether Firestore's API opens it, and whether it tells of changes.
fn enterprise(access: i32, updates: i32) -> Option<bytes::Bytes> {
    let database = Database {
        name: "projects/demo-app/databases/(default)".to_owned(),
        location_id: "nam5".to_owned(),
        database_type: 1,
        edition: 2,
        point_in_time_recovery: 2,
        delete_protection: 2,
        realtime_updates: updates,
        firestore_data_access: access,
        mongodb_data_access: 3 - access,
        ..Database::default()
    };
    let old = Database {
        name: "projects/demo-app/databases/old".to_owned(),
        database_type: 2,
        edition: 1,
        ..Database::default()
    };
    Some(ListDatabasesResponse { databases: vec![old, database] }.encode_to_vec().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_switched_off_is_told_refused_and_switched_on() {
    let (emulator, installation) = (emulator().await, Installation::new());
    write_all(&firestore(emulator.host(), &database()).await, sample(&database(), 60, 1)).await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    proxy.control().set_databases(enterprise(2, 2));
    let server = installation.start(&SMALL).await;
    let api = server.api(&server.owner_key());
    api.post("/storage/destinations", json!({"name": "folder", "url": installation.url()})).await;
    let project = api.connect(&proxy.host(), "demo-app").await;
    let shown = api.get(&format!("/projects/{project}")).await;
    assert_eq!(
        (&shown["status"], &shown["databases"]),
        (&json!("connected"), &json!(["(default)", "old"])),
        "{shown:#}"
    );
    let databases = api.get(&format!("/projects/{project}/databases")).await;
    let closed = &databases[0];
    let facts = ["location", "type", "edition", "pointInTimeRecovery", "deleteProtection", "firestoreAccess"];
    let facts = facts.map(|name| closed[name].clone());
    assert_eq!(json!(facts), json!(["nam5", "native", "enterprise", false, true, false]), "{databases:#}");
    assert_eq!(closed["limits"][0]["rulesOut"], json!(["backup", "restore", "capture"]), "{databases:#}");
    assert_eq!(databases[1]["type"], "datastore", "{databases:#}");
    let refused = async |path: &str, body: Value| {
        let (status, answer) = api.ask(Method::POST, path, Some(&body), None).await;
        assert_eq!((status, &answer["error"]["code"]), (409, &json!("DATABASE_SWITCHED_OFF")), "{answer:#}");
        answer["error"]["details"]["remedy"].as_str().unwrap().to_owned()
    };
    let remedy = refused("/backups", json!({"projectId": project})).await;
    assert!(remedy.contains("updateMask=firestoreDataAccessMode"), "{remedy}");
    let remedy = refused("/backups", json!({"projectId": project, "database": "old"})).await;
    assert!(remedy.contains("native mode"), "{remedy}");

    // it is switched on, and looked at again
    proxy.control().set_databases(enterprise(1, 2));
    let path = format!("/projects/{project}");
    let looked = api.data(Method::PUT, &path, Some(&json!({ "connected": true }))).await;
    assert_eq!(looked["limits"][0]["rulesOut"], json!(["capture"]), "{looked:#}");
    let backup = api.back_up(&project).await;
    api.ends(&format!("/backups/{project}/{backup}"), "completed").await;

    assert_eq!(api.get(&format!("{path}/collections")).await, json!([]));
    let sync = api.data(Method::POST, &format!("{path}/collections/sync"), None).await;
    let collections = api.get(&format!("{path}/collections?limit=100")).await;
    let collections = collections.as_array().unwrap();
    assert_eq!(sync["collections"], collections.len(), "{sync:#}");
    assert!(!collections.is_empty());
    for collection in collections {
        assert!(collection["documents"].is_u64() && collection["syncedAt"] == sync["syncedAt"], "{collection:#}");
    }
    let first = collections[0]["id"].as_str().unwrap();
    let found = api.get(&format!("{path}/collections?search={first}")).await;
    assert_eq!(id(&found[0]), first);
    let (status, _) = api.ask(Method::POST, &format!("{path}/collections/sync?database=old"), None, None).await;
    assert_eq!(status, 409);
}
