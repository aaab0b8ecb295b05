//! Every destination that can be run here passes the suite, and a probe tells what is missing.

use std::sync::Arc;

use firebackup_model::{ErrorKind, LockMode, LockRule};
use firebackup_storage::{Destination, DestinationKind, DestinationSettings};
use firebackup_testkit::HandClock;
use firebackup_testkit::faulty_store::FaultyStore;
use firebackup_testkit::gcs_server::GcsServer;
use firebackup_testkit::ministack::Ministack;
use firebackup_testkit::s3_server::S3Server;
use firebackup_testkit::store_suite;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn folder_url(folder: &TempDir, name: &str) -> String {
    format!("file://{}/{name}", folder.path().display())
}

fn s3(server: &S3Server, prefix: &str) -> Destination {
    let settings = DestinationSettings {
        endpoint: Some(server.endpoint().to_owned()),
        options: server.options(),
        public_only: false,
    };
    Destination::open(&format!("s3://{}{prefix}", server.bucket()), &settings).unwrap()
}

fn gcs(server: &GcsServer, prefix: &str) -> Destination {
    let settings = DestinationSettings {
        endpoint: Some(server.endpoint().to_owned()),
        options: server.options(),
        public_only: false,
    };
    Destination::open(&format!("gs://{}{prefix}", server.bucket()), &settings).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_conforms() {
    let folder = TempDir::new().unwrap();
    let url = folder_url(&folder, "deep/repository");
    let missing = Destination::open(&url, &DestinationSettings::default()).unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing}");
    let destination = Destination::create(&url, &DestinationSettings::default()).unwrap();
    assert_eq!((destination.kind(), destination.to_string()), (DestinationKind::Folder, url.clone()));
    store_suite::conforms(destination.store()).await;
    assert!(destination.probe().await.unwrap().is_complete());
    assert!(Destination::open(&url, &DestinationSettings::default()).is_ok());
    assert_eq!(files(&folder.path().join("deep/repository")), Vec::<String>::new(), "no temporary file is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_upload_leaves_in_a_folder_is_not_listed() {
    let folder = TempDir::new().unwrap();
    let destination = Destination::create(&folder_url(&folder, "r"), &DestinationSettings::default()).unwrap();
    let store = FaultyStore::new(destination.store());
    let mut upload = store.put_multipart(&Path::from("runs/ab/x.run")).await.unwrap();
    upload.put_part("half".into()).await.unwrap();
    store.crash_after(0);
    drop(upload);
    assert_eq!(files(&folder.path().join("r")).len(), 1, "the killed process could not tidy up");
    assert_eq!(listed(&destination.store()).await, Vec::<String>::new());
    let level = destination.store().list_with_delimiter(Some(&Path::from("runs/ab"))).await.unwrap();
    assert!(level.objects.is_empty());
    destination.store().put(&Path::from("runs/ab/x.run"), "whole".into()).await.unwrap();
    assert_eq!(listed(&destination.store()).await, ["runs/ab/x.run"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_are_listed_one_level_deep() {
    let (folder, s3_server, gcs_server) = (TempDir::new().unwrap(), S3Server::start().await, GcsServer::start().await);
    let local = Destination::create(&folder_url(&folder, "r"), &DestinationSettings::default()).unwrap();
    for destination in [local, s3(&s3_server, "/r"), gcs(&gcs_server, "/r")] {
        assert!(destination.folders().await.unwrap().is_empty(), "{destination}");
        for name in ["b/x", "a/deep/y", "a/z", "file"] {
            destination.store().put(&Path::from(name), "1".into()).await.unwrap();
        }
        assert_eq!(destination.folders().await.unwrap(), ["a", "b"], "{destination}");
    }
}

/// Every file below a folder, staging files included.
fn files(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path.display().to_string()] }).collect()
}

#[cfg(unix)]
#[test]
fn a_new_folder_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    Destination::create(&folder_url(&folder, "a/b"), &DestinationSettings::default()).unwrap();
    for name in ["a", "a/b"] {
        let mode = folder.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
}

#[test]
fn a_file_is_no_folder() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let url = folder_url(&folder, "file");
    let error = Destination::open(&url, &DestinationSettings::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
    assert!(Destination::create(&format!("{url}/below"), &DestinationSettings::default()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms() {
    let server = S3Server::start().await;
    let destination = s3(&server, "/some/prefix");
    assert_eq!(destination.to_string(), "s3://firebackup-test/some/prefix");
    store_suite::conforms(destination.store()).await;
    let report = destination.probe().await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    store_suite::conforms(s3(&server, "").store()).await;
    assert_eq!(server.unchecked_writes(), 0, "every object and part carries its checksum");
}

fn s3_with(server: &S3Server, option: (&str, &str)) -> Destination {
    let mut options = server.options();
    options.push((option.0.to_owned(), option.1.to_owned()));
    let settings = DestinationSettings { endpoint: Some(server.endpoint().to_owned()), options, public_only: false };
    Destination::open("s3://firebackup-test/p", &settings).unwrap()
}

async fn upload(store: &Arc<dyn ObjectStore>, name: &str, bytes: &'static str) -> Result<(), Error> {
    let mut upload = store.put_multipart(&Path::from(name)).await?;
    upload.put_part(bytes.into()).await?;
    upload.complete().await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_replaces_nothing_unless_that_is_switched_off() {
    let server = S3Server::start().await;
    let destination = s3(&server, "/p");
    let store = destination.store();
    upload(&store, "runs/a", "first").await.unwrap();
    let refused = upload(&store, "runs/a", "second").await;
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
    assert_eq!(store.get(&Path::from("runs/a")).await.unwrap().bytes().await.unwrap(), "first");
    assert!(destination.probe().await.unwrap().conditional_multipart);

    let switched_off = s3_with(&server, ("AWS_CONDITIONAL_COMPLETE", "none"));
    upload(&switched_off.store(), "runs/a", "second").await.unwrap();
    assert_eq!(store.get(&Path::from("runs/a")).await.unwrap().bytes().await.unwrap(), "second");
    let report = switched_off.probe().await.unwrap();
    assert!(!report.conditional_multipart && report.is_complete(), "{report:?}");
}

const RULE: LockRule = LockRule { mode: LockMode::Governance, days: 3 };

fn locked(destination: Destination) -> Arc<dyn ObjectStore> {
    destination.locked(RULE, Arc::new(HandClock::new("2030-01-01T12:00:00Z".parse().unwrap()))).unwrap().store()
}

/// `s3s` checks the signature over every header, and knows those of locks.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_lock_are_signed() {
    let server = S3Server::start().await;
    store_suite::conforms(locked(s3(&server, ""))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_locked_a_lock_is_refused() {
    let (s3_server, gcs_server, folder) = (S3Server::start().await, GcsServer::start().await, TempDir::new().unwrap());
    let folder = Destination::create(&folder_url(&folder, "r"), &DestinationSettings::default()).unwrap();
    for destination in [folder, gcs(&gcs_server, ""), s3_with(&s3_server, ("AWS_CHECKSUM_ALGORITHM", "none"))] {
        let error = destination.locked(RULE, Arc::new(HandClock::default())).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
    }
}

/// A request as it stands on the wire; its answer.
async fn raw(ministack: &Ministack, request: &str, headers: &str) -> String {
    let address = ministack.endpoint().trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let text =
        format!("{request} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_locked_in_the_request_that_puts_them() {
    let ministack = Ministack::start().await;
    let made = raw(&ministack, "PUT /locked", "x-amz-bucket-object-lock-enabled: true\r\n").await;
    assert!(made.starts_with("HTTP/1.1 200"), "{made}");
    let settings = DestinationSettings { endpoint: None, options: ministack.environment(), public_only: false };
    let destination = Destination::open("s3://locked/p", &settings).unwrap();
    let store = locked(destination);
    store.put_opts(&Path::from("keys/a"), "key".into(), PutMode::Create.into()).await.unwrap();
    store.put_opts(&Path::from("firebackup.json"), "{}".into(), PutMode::Create.into()).await.unwrap();
    upload(&store, "runs/a", "run").await.unwrap();
    let refused = upload(&store, "runs/a", "other").await;
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
    for path in ["keys/a", "firebackup.json"] {
        let lock = raw(&ministack, &format!("GET /locked/p/{path}?retention"), "").await;
        assert!(lock.contains("GOVERNANCE") && lock.contains("2030-01-05T00:00:00"), "{path}: {lock}");
    }
    for path in ["receipts/a", "intents/a", "probes/a", "prunes/a"] {
        store.put(&Path::from(path), "x".into()).await.unwrap();
        let lock = raw(&ministack, &format!("GET /locked/p/{path}?retention"), "").await;
        assert!(lock.contains("NoSuchObjectLockConfiguration"), "{path}: {lock}");
    }

    raw(&ministack, "PUT /simple", "").await;
    let simple = locked(Destination::open("s3://simple", &settings).unwrap());
    let refused = simple.put(&Path::from("runs/a"), "run".into()).await;
    assert!(refused.is_err(), "a bucket without Object Lock takes nothing that is to be locked");
    // ministack reads the lock of an upload in parts, and forgets it: that it was asked for shows by its being refused
    assert!(upload(&simple, "runs/b", "run").await.is_err(), "nor in parts");
    upload(&simple, "receipts/b", "receipt").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_can_be_left_out_for_services_that_refuse_them() {
    let server = S3Server::start().await;
    let mut options = server.options();
    options.push(("AWS_CHECKSUM_ALGORITHM".to_owned(), "none".to_owned()));
    let settings = DestinationSettings { endpoint: Some(server.endpoint().to_owned()), options, public_only: false };
    let destination = Destination::open("s3://firebackup-test", &settings).unwrap();
    assert!(destination.probe().await.unwrap().is_complete());
    assert!(server.unchecked_writes() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn gcs_conforms() {
    let server = GcsServer::start().await;
    let destination = gcs(&server, "/some/prefix");
    assert_eq!(destination.to_string(), "gs://firebackup-test/some/prefix");
    store_suite::conforms(destination.store()).await;
    let report = destination.probe().await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    store_suite::conforms(gcs(&server, "").store()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_do_not_see_each_other() {
    let server = S3Server::start().await;
    let (one, other, above) = (s3(&server, "/a/b"), s3(&server, "/a/bc"), s3(&server, "/a"));
    one.store().put(&Path::from("x"), "1".into()).await.unwrap();
    assert!(matches!(other.store().head(&Path::from("x")).await, Err(Error::NotFound { .. })));
    assert_eq!(listed(&other.store()).await, Vec::<String>::new());
    assert_eq!(listed(&one.store()).await, ["x"]);
    assert_eq!(listed(&above.store()).await, ["b/x"]);
}

async fn listed(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_leaves_nothing_behind() {
    let server = S3Server::start().await;
    let destination = s3(&server, "/p");
    assert!(destination.probe().await.unwrap().is_complete());
    assert_eq!(listed(&destination.store()).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_told() {
    let server = S3Server::start_without_conditions().await;
    let report = s3(&server, "").probe().await.unwrap();
    assert!(!report.conditional_put, "{report:?}");
    assert_eq!(report.missing().len(), 1, "{report:?}");
    assert!(report.problems.iter().any(|problem| problem.to_string().contains("was replaced")), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_that_are_switched_off_are_told() {
    let server = S3Server::start().await;
    let mut options = server.options();
    options.push(("AWS_CONDITIONAL_PUT".to_owned(), "disabled".to_owned()));
    let settings = DestinationSettings { endpoint: Some(server.endpoint().to_owned()), options, public_only: false };
    let destination = Destination::open("s3://firebackup-test", &settings).unwrap();
    let report = destination.probe().await.unwrap();
    assert!(report.write && report.read && !report.conditional_put, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_told() {
    for (operation, missing) in [
        ("PutObject", vec!["put objects"]),
        ("GetObject", vec!["read objects", "read a range of an object"]),
        ("ListObjectsV2", vec!["list objects"]),
        ("DeleteObjects", vec!["delete objects under probes/, receipts/ and intents/"]),
        ("CreateMultipartUpload", vec!["put objects in parts (multipart upload)"]),
    ] {
        let server = S3Server::start().await;
        server.deny(operation);
        let report = s3(&server, "").probe().await.unwrap();
        for what in &missing {
            assert!(report.missing().contains(what), "{operation}: {report:?}");
        }
        let problem = &report.problems[0];
        assert_eq!(problem.kind, ErrorKind::PermissionDenied, "{operation}: {problem}");
        assert!(operation == "PutObject" || report.missing() == missing, "{operation}: {report:?}");
    }
}

fn s3_error_settings(server: &S3Server, secret: &str) -> DestinationSettings {
    let options = [("aws_access_key_id", server.access_key()), ("AWS_Secret_Access_Key", secret)];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    DestinationSettings { endpoint: Some(server.endpoint().to_owned()), options, public_only: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_why_it_got_nowhere() {
    const SECRET: &str = "hunter2-hunter2-hunter2";
    let server = S3Server::start().await;
    let right = s3_error_settings(&server, server.secret_key());
    let no_bucket = Destination::open("s3://no-such-bucket", &right).unwrap().probe().await.unwrap_err();
    assert_eq!(no_bucket.kind, ErrorKind::NotFound, "{no_bucket}");
    assert!(no_bucket.to_string().contains("bucket"), "{no_bucket}");

    let wrong = Destination::open("s3://firebackup-test", &s3_error_settings(&server, SECRET)).unwrap();
    let refused = wrong.probe().await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unauthenticated, "{refused}");
    let mut source = std::error::Error::source(&refused);
    let mut shown = format!("{refused} {refused:?} {wrong} {wrong:?} {:?} {}", wrong.store(), wrong.store());
    while let Some(cause) = source {
        shown.push_str(&format!("{cause} {cause:?}"));
        source = cause.source();
    }
    assert!(!shown.contains(SECRET), "{shown}");
}

/// Whatever a name is said to lead to: the listener is never connected to.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_inside_is_not_connected_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let key = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AZURE_STORAGE_ACCOUNT_NAME", "c")];
    let key = key.into_iter().chain([("AZURE_STORAGE_ACCOUNT_KEY", "ZGVtbw==")]);
    let options: Vec<_> = key.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let settings = DestinationSettings { endpoint: Some(endpoint), options, public_only: true };
    for url in ["s3://bucket", "az://container"] {
        let error = Destination::open(url, &settings).unwrap().probe().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{url}: {error}");
        assert!(error.to_string().contains("an address inside"), "{url}: {error}");
    }
    assert!(listener.accept().is_err(), "somebody connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_can_be_retried() {
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let options = vec![("AWS_SKIP_SIGNATURE".to_owned(), "true".to_owned())];
    let settings =
        DestinationSettings { endpoint: Some(format!("http://127.0.0.1:{port}")), options, public_only: false };
    let error = Destination::open("s3://bucket", &settings).unwrap().probe().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.can_be_retried());
}

#[test]
fn options_that_cannot_be_used_are_refused_without_their_values() {
    const SECRET: &str = "hunter2-hunter2-hunter2";
    for (url, name, says) in [
        ("s3://bucket", "AWS_SECRET_ACCESS_KEY", "without AWS_ACCESS_KEY_ID"),
        ("s3://bucket", "AWS_ACCESS_KEY_ID", "without AWS_SECRET_ACCESS_KEY"),
        ("s3://bucket", "AWS_CHECKSUM_ALGORITHM", "does not take"),
        ("s3://bucket", "AWS_ENDPOINT_URL", "not a url"),
        ("gs://bucket", "GOOGLE_SERVICE_ACCOUNT_KEY", "not the JSON"),
        ("gs://bucket", "GOOGLE_SERVICE_ACCOUNT", "cannot be opened"),
        ("az://container", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_NAME"),
    ] {
        let settings = DestinationSettings {
            endpoint: None,
            options: vec![(name.to_owned(), SECRET.to_owned())],
            public_only: false,
        };
        let error = Destination::open(url, &settings).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{name}: {error}");
        assert!(error.to_string().contains(says), "{name}: {error}");
        assert!(!format!("{error} {error:?}").contains(SECRET), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn clients_do_not_show_their_tokens() {
    const SECRET: &str = "hunter2-hunter2-hunter2";
    for (url, options) in [
        ("s3://bucket", vec![("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_PROFILE", "x")]),
        ("gs://bucket", vec![("GOOGLE_BEARER_TOKEN", SECRET)]),
        ("az://container", vec![("AZURE_STORAGE_ACCOUNT_NAME", "name"), ("AZURE_STORAGE_TOKEN", SECRET)]),
    ] {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let destination =
            Destination::open(url, &DestinationSettings { endpoint: None, options, public_only: false }).unwrap();
        let store = destination.store();
        let shown = format!("{destination} {destination:?} {store} {store:?}");
        assert!(!shown.contains(SECRET) && shown.contains(url), "{shown}");
    }
}
