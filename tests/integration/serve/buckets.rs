//! Buckets that the server makes: on a server of S3 that checks signatures and knows no guards, and on a local AWS that knows them.

use firebackup_testkit::ministack::Ministack;
use firebackup_testkit::s3_server::S3Server;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::installation::{Installation, Server};

const PLANTED: &str = "planted-secret-of-a-bucket";

async fn server(installation: &Installation) -> Server {
    installation.start(&["--allow-private-addresses"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_made_becomes_a_destination_and_is_not_made_again() {
    let (installation, store) = (Installation::new(), S3Server::start().await);
    let server = server(&installation).await;
    let api = server.api(&server.owner_key());
    let options: Map<_, _> = store.options().into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    let place = json!({ "url": "s3://made-here/backups", "endpoint": store.endpoint(), "options": options });
    let made = api.post("/storage/buckets/create", place.clone()).await;
    assert_eq!(
        (&made["kind"], &made["closedToPublic"], &made["keepsVersions"]),
        (&json!("s3"), &json!(false), &json!(false))
    );
    assert_eq!(made["problems"].as_array().map(Vec::len), Some(2), "what a service does not know is told: {made:#}");
    let mut destination = place.clone();
    destination["name"] = json!("made");
    let added = api.post("/storage/destinations", destination).await;
    assert_eq!(added["findings"]["missing"], json!([]), "{added:#}");
    let (status, there) = api.ask(Method::POST, "/storage/buckets/create", Some(&place), None).await;
    let error = &there["error"];
    assert_eq!(
        (status, &error["code"], &error["details"]["owner"]),
        (409, &json!("CONFLICT"), &json!("you")),
        "{there:#}"
    );

    let mut stranger = place;
    stranger["url"] = json!("s3://not-made");
    stranger["options"]["AWS_SECRET_ACCESS_KEY"] = json!(PLANTED);
    let (status, refused) = api.ask(Method::POST, "/storage/buckets/create", Some(&stranger), None).await;
    assert_eq!((status, &refused["error"]["code"]), (502, &json!("DESTINATION_FAILED")), "{refused:#}");
    let audit = api.get("/audit?limit=100").await;
    let told = format!("{refused} {audit} {}", installation.log());
    assert!(!told.contains(PLANTED) && told.contains("s3://not-made"), "{told}");
    let actions = |action: &str| audit.as_array().unwrap().iter().filter(|entry| entry["action"] == action).count();
    assert_eq!((actions("storage.bucket_requested"), actions("storage.bucket_created")), (3, 1), "{audit:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_aws_is_closed_keeps_versions_and_locks_and_nothing_is_advised_of_it() {
    let (installation, aws) = (Installation::new(), Ministack::start().await);
    let server = server(&installation).await;
    let api = server.api(&server.owner_key());
    let options = json!({ "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": PLANTED, "AWS_REGION": aws.region() });
    let mut place = json!({ "url": "s3://made-locking", "endpoint": aws.endpoint(), "options": options });
    place["objectLock"] = json!(true);
    let made = api.post("/storage/buckets/create", place.clone()).await;
    let expect = json!({
        "kind": "s3", "closedToPublic": true, "keepsVersions": true, "objectLock": true, "problems": []
    });
    assert_eq!(made, expect);
    place.as_object_mut().unwrap().remove("objectLock");
    let found = api.post("/storage/buckets/verify", place).await;
    let advice = found["advice"].to_string();
    assert!(!advice.contains("version") && !advice.contains("public"), "{found:#}");
    assert_eq!(found["missing"], json!([]), "{found:#}");
}
