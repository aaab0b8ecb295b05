//! How a store is to encrypt stands on every request that begins an object, and on no other.

use std::sync::Arc;

use firebackup_model::port::Clock;
use firebackup_model::{LockMode, LockRule};
use firebackup_storage::{Destination, DestinationSettings};
use firebackup_testkit::HandClock;
use firebackup_testkit::gcs_server::GcsServer;
use firebackup_testkit::s3_server::S3Server;
use firebackup_testkit::seen_requests::SeenRequest;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

const SSE: &str = "x-amz-server-side-encryption";
const SSE_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const SSE_BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const GCS_KEY: &str = "x-goog-encryption-kms-key-name";
const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd";
const KEY_NAME: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k";

fn open(url: &str, endpoint: &str, mut options: Vec<(String, String)>, more: &[(&str, &str)]) -> Destination {
    options.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let settings = DestinationSettings { endpoint: Some(endpoint.to_owned()), options, public_only: false };
    Destination::open(url, &settings).unwrap()
}

fn s3(server: &S3Server, more: &[(&str, &str)]) -> Destination {
    open(&format!("s3://{}/backups", server.bucket()), server.endpoint(), server.options(), more)
}

fn gcs(server: &GcsServer, more: &[(&str, &str)]) -> Destination {
    open(&format!("gs://{}/backups", server.bucket()), server.endpoint(), server.options(), more)
}

/// Everything that puts an object: at once, only if there is none, in parts, by a copy, and the probe.
async fn put_in_every_way(destination: &Destination) {
    let store = destination.store();
    store.put(&Path::from("intents/a"), "1".into()).await.unwrap();
    store.put_opts(&Path::from("keys/a"), "2".into(), PutMode::Create.into()).await.unwrap();
    let mut upload = store.put_multipart(&Path::from("runs/ab/a.run")).await.unwrap();
    upload.put_part("3".into()).await.unwrap();
    upload.complete().await.unwrap();
    store.copy(&Path::from("keys/a"), &Path::from("keys/b")).await.unwrap();
    assert_eq!(store.get(&Path::from("runs/ab/a.run")).await.unwrap().bytes().await.unwrap(), "3");
    let report = destination.probe().await.unwrap();
    assert!(report.is_complete(), "{report:?}");
}

/// How many requests began an object; each says `expect`, and no other says anything of it.
fn beginnings(seen: &[SeenRequest], expect: &[(&str, Option<&str>)]) -> usize {
    for request in seen {
        for (name, value) in expect {
            let value = value.filter(|_| request.begins_an_object());
            assert_eq!(request.header(name), value, "{name}: {} {}", request.method, request.target);
        }
    }
    seen.iter().filter(|request| request.begins_an_object()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_is_told_the_key_by_whatever_begins_an_object() {
    let server = S3Server::start().await;
    let more = [
        ("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms"),
        ("AWS_SSE_KMS_KEY_ID", KEY),
        ("AWS_SSE_BUCKET_KEY_ENABLED", "true"),
    ];
    put_in_every_way(&s3(&server, &more)).await;
    let expect = [(SSE, Some("aws:kms")), (SSE_KEY, Some(KEY)), (SSE_BUCKET_KEY, Some("true"))];
    assert!(beginnings(&server.seen(), &expect) >= 4 + 3, "four of ours and those of the probe");
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_is_told_to_use_its_own_keys_or_nothing() {
    let server = S3Server::start().await;
    put_in_every_way(&s3(&server, &[("AWS_SERVER_SIDE_ENCRYPTION", "AES256")])).await;
    beginnings(&server.seen(), &[(SSE, Some("AES256")), (SSE_KEY, None), (SSE_BUCKET_KEY, None)]);
    let server = S3Server::start().await;
    put_in_every_way(&s3(&server, &[])).await;
    assert!(beginnings(&server.seen(), &[(SSE, None), (SSE_KEY, None), (SSE_BUCKET_KEY, None)]) >= 7);
}

/// A locked put is signed anew: the server checks the signature, which covers both.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_and_a_key_go_together() {
    let server = S3Server::start().await;
    let more = [("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms"), ("AWS_SSE_KMS_KEY_ID", KEY)];
    let clock: Arc<dyn Clock> = Arc::new(HandClock::default());
    let rule = LockRule { mode: LockMode::Governance, days: 1 };
    let store = s3(&server, &more).locked(rule, clock).unwrap().store();
    store.put_opts(&Path::from("keys/a"), "1".into(), PutMode::Create.into()).await.unwrap();
    let mut upload = store.put_multipart(&Path::from("runs/ab/a.run")).await.unwrap();
    upload.put_part("2".into()).await.unwrap();
    upload.complete().await.unwrap();
    let expect = [(SSE, Some("aws:kms")), (SSE_KEY, Some(KEY)), ("x-amz-object-lock-mode", Some("GOVERNANCE"))];
    assert_eq!(beginnings(&server.seen(), &expect), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn google_is_told_the_key_by_whatever_begins_an_object() {
    let server = GcsServer::start().await;
    put_in_every_way(&gcs(&server, &[("GOOGLE_KMS_KEY_NAME", KEY_NAME)])).await;
    assert!(beginnings(&server.seen(), &[(GCS_KEY, Some(KEY_NAME))]) >= 4 + 3);
    let server = GcsServer::start().await;
    put_in_every_way(&gcs(&server, &[])).await;
    assert!(beginnings(&server.seen(), &[(GCS_KEY, None)]) >= 7);
}

#[test]
fn a_key_that_is_no_header_is_refused_and_not_repeated() {
    let settings = DestinationSettings {
        options: vec![("GOOGLE_KMS_KEY_NAME".to_owned(), "planted\nkey".to_owned())],
        ..DestinationSettings::default()
    };
    let error = Destination::open("gs://bucket", &settings).unwrap_err();
    assert!(error.to_string().contains("GOOGLE_KMS_KEY_NAME") && !error.to_string().contains("planted"), "{error}");
}
