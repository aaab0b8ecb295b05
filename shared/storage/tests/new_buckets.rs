//! Buckets are made, on servers that check signatures, that know the guards, and that refuse.

use firebackup_model::ErrorKind;
use firebackup_storage::{
    BucketWishes, Destination, DestinationKind, DestinationSettings, MadeBucket, MakeBucketError,
};
use firebackup_testkit::ministack::Ministack;
use firebackup_testkit::s3_server::S3Server;
use firebackup_testkit::{LocalServer, Says};
use serde_json::{Value, json};

const LOCKING: fn() -> BucketWishes = || BucketWishes { object_lock: true, ..BucketWishes::default() };
const PLANTED: &str = "planted-secret";

fn settings(endpoint: &str, options: &[(&str, &str)]) -> DestinationSettings {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    DestinationSettings { endpoint: Some(endpoint.to_owned()), options, public_only: false }
}

fn s3_at(endpoint: &str) -> DestinationSettings {
    settings(endpoint, &[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", PLANTED)])
}

async fn make(url: &str, settings: &DestinationSettings, wishes: &BucketWishes) -> Result<MadeBucket, MakeBucketError> {
    let outcome = Destination::make_bucket(url, settings, wishes).await;
    let told = format!("{outcome:?}");
    assert!(!told.contains(PLANTED), "{told}");
    outcome
}

/// What the scripted server led to, and what it was asked, in first lines.
async fn scripted(says: Vec<Says>, wishes: &BucketWishes) -> (Result<MadeBucket, MakeBucketError>, Vec<String>) {
    let server = LocalServer::start_in_turn(says).await;
    let outcome = make("s3://new-bucket/prefix", &s3_at(&format!("http://{}", server.host())), wishes).await;
    let first_line = |request: String| request.lines().next().unwrap_or_default().to_owned();
    (outcome, server.requests().into_iter().map(first_line).collect())
}

fn says(status: u16, code: &str) -> Says {
    Says::json(status, &format!("<Error><Code>{code}</Code><Message>said so</Message></Error>"))
}

fn port(outcome: Result<MadeBucket, MakeBucketError>) -> (ErrorKind, String) {
    match outcome {
        Err(MakeBucketError::Port(error)) => (error.kind, error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_service_that_knows_no_guards_makes_a_bucket_and_that_is_told() {
    let server = S3Server::start().await;
    let settings = DestinationSettings {
        endpoint: Some(server.endpoint().to_owned()),
        options: server.options(),
        public_only: false,
    };
    let made = make("s3://new-bucket/prefix", &settings, &LOCKING()).await.unwrap();
    assert_eq!(made.kind, DestinationKind::S3);
    assert!(!made.is_closed && !made.keeps_versions && !made.locks_objects, "{made:?}");
    assert_eq!(made.problems.len(), 3, "{made:?}");
    let report = Destination::open("s3://new-bucket/prefix", &settings).unwrap().probe().await.unwrap();
    assert!(report.write && report.read, "{report:?}");
    assert!(matches!(make("s3://new-bucket", &settings, &LOCKING()).await, Err(MakeBucketError::Yours)));
    let mut stranger = settings;
    stranger.options.push(("AWS_SECRET_ACCESS_KEY".to_owned(), PLANTED.to_owned()));
    let refused = make("s3://other-bucket", &stranger, &BucketWishes::default()).await;
    assert_eq!(port(refused).0, ErrorKind::Unauthenticated, "a wrong secret is not taken for somebody else's bucket");
}

#[tokio::test]
async fn a_bucket_of_s3_is_closed_and_keeps_versions_from_the_beginning() {
    let aws = Ministack::start().await;
    let settings = s3_at(aws.endpoint());
    let wishes = BucketWishes { location: Some("eu-central-1".to_owned()), ..BucketWishes::default() };
    let made = make("s3://plain-bucket", &settings, &wishes).await.unwrap();
    let expect = MadeBucket {
        kind: DestinationKind::S3,
        is_closed: true,
        keeps_versions: true,
        locks_objects: false,
        problems: Vec::new(),
    };
    assert_eq!(made, expect);
    let locking = make("s3://locking-bucket", &settings, &LOCKING()).await.unwrap();
    assert_eq!(locking, MadeBucket { locks_objects: true, ..expect });
    assert!(matches!(make("s3://plain-bucket", &settings, &wishes).await, Err(MakeBucketError::Yours)));
}

#[tokio::test]
async fn a_bucket_that_is_there_is_left_alone() {
    for status in [200, 403, 301] {
        let (outcome, asked) = scripted(vec![says(status, "")], &BucketWishes::default()).await;
        let is_ours = matches!(outcome, Err(MakeBucketError::Yours));
        assert!(is_ours == (status == 200) && (is_ours || matches!(outcome, Err(MakeBucketError::Others))));
        let looked = ["HEAD /new-bucket HTTP/1.1", "GET /new-bucket?location HTTP/1.1"];
        assert_eq!(asked, looked[..1 + usize::from(status == 403)], "{status}");
    }
    // somebody else was faster
    for (code, is_ours) in [("BucketAlreadyOwnedByYou", true), ("BucketAlreadyExists", false)] {
        let (outcome, asked) = scripted(vec![says(404, ""), says(409, code)], &BucketWishes::default()).await;
        assert_eq!(matches!(outcome, Err(MakeBucketError::Yours)), is_ours, "{code}: {outcome:?}");
        assert_eq!(asked.len(), 2);
    }
}

#[tokio::test]
async fn a_refusal_names_the_right_that_is_missing() {
    let (outcome, _) = scripted(vec![says(404, ""), says(403, "AccessDenied")], &BucketWishes::default()).await;
    let (kind, told) = port(outcome);
    assert_eq!(kind, ErrorKind::PermissionDenied);
    assert!(told.contains("s3:CreateBucket") && told.contains("AccessDenied: said so"), "{told}");
    let (outcome, _) =
        scripted(vec![says(404, ""), says(403, "SignatureDoesNotMatch")], &BucketWishes::default()).await;
    assert_eq!(port(outcome).0, ErrorKind::Unauthenticated);
    let (outcome, _) = scripted(vec![says(404, ""), says(400, "InvalidBucketName")], &BucketWishes::default()).await;
    let (kind, told) = port(outcome);
    assert!(kind == ErrorKind::InvalidArgument && told.contains("InvalidBucketName"), "{told}");
    // made, and what guards it may not be set
    let script = vec![says(404, ""), says(200, ""), says(403, "AccessDenied")];
    let (made, asked) = scripted(script, &BucketWishes::default()).await;
    let made = made.unwrap();
    assert!(!made.is_closed && !made.keeps_versions, "{made:?}");
    assert!(made.problems[0].contains("s3:PutBucketPublicAccessBlock"), "{made:?}");
    assert!(made.problems[1].contains("s3:PutBucketVersioning"), "{made:?}");
    let expect =
        ["HEAD /new-bucket", "PUT /new-bucket", "PUT /new-bucket?publicAccessBlock", "PUT /new-bucket?versioning"];
    assert_eq!(asked, expect.map(|line| format!("{line} HTTP/1.1")));
}

#[tokio::test]
async fn making_is_sent_once_and_what_guards_it_again() {
    let breaks = Says::Once(String::new());
    let (outcome, asked) = scripted(vec![says(404, ""), breaks.clone()], &BucketWishes::default()).await;
    assert_eq!((port(outcome).0, asked.len()), (ErrorKind::Unavailable, 2));
    let (outcome, asked) = scripted(vec![says(404, ""), says(503, "")], &BucketWishes::default()).await;
    assert_eq!((port(outcome).0, asked.len()), (ErrorKind::Unavailable, 2));
    let script = vec![says(404, ""), says(200, ""), says(404, "NoSuchBucket"), says(503, ""), says(200, "")];
    let (made, asked) = scripted(script, &BucketWishes::default()).await;
    let made = made.unwrap();
    assert!(made.is_closed && made.keeps_versions && made.problems.is_empty(), "{made:?}");
    assert_eq!(asked.len(), 6);
    let (outcome, _) = scripted(vec![says(404, ""), Says::Endless("HTTP/1.1 400 Bad\r\n\r\n")], &LOCKING()).await;
    assert_eq!(port(outcome).0, ErrorKind::InvalidArgument);
}

fn google(host: &str) -> DestinationSettings {
    let key = json!({
        "gcs_base_url": format!("http://{host}"), "disable_oauth": true, "client_email": "", "private_key": PLANTED,
        "private_key_id": "", "project_id": "my-app",
    });
    settings(&format!("http://{host}"), &[("GOOGLE_SERVICE_ACCOUNT_KEY", &key.to_string())])
}

#[tokio::test]
async fn a_bucket_of_google_is_closed_by_iam_alone() {
    let closed = json!({ "uniformBucketLevelAccess": { "enabled": true }, "publicAccessPrevention": "enforced" });
    let server = LocalServer::start(Says::json(200, &json!({ "iamConfiguration": closed }).to_string())).await;
    let wishes = BucketWishes { location: Some("EU".to_owned()), ..BucketWishes::default() };
    let made = make("gs://new_bucket", &google(&server.host()), &wishes).await.unwrap();
    assert!(made.kind == DestinationKind::Gcs && made.is_closed && made.problems.is_empty(), "{made:?}");
    let request = &server.requests()[0];
    assert!(request.starts_with("POST /storage/v1/b?project=my-app HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nauthorization: Bearer "), "{request}");
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body, json!({ "name": "new_bucket", "location": "EU", "iamConfiguration": closed }));
    let other = BucketWishes { google_project: Some("other".to_owned()), ..BucketWishes::default() };
    let silent = LocalServer::start(Says::json(200, "<html>")).await;
    let made = make("gs://new_bucket", &google(&silent.host()), &other).await.unwrap();
    assert!(!made.is_closed && made.problems.len() == 1, "{made:?}");
    assert!(silent.requests()[0].starts_with("POST /storage/v1/b?project=other "));
}

#[tokio::test]
async fn google_says_whose_the_bucket_is_and_which_right_is_missing() {
    let said = async |status, message: &str| {
        let body = json!({ "error": { "code": status, "message": message } }).to_string();
        let server = LocalServer::start(Says::json(status, &body)).await;
        make("gs://new_bucket", &google(&server.host()), &BucketWishes::default()).await
    };
    let yours = "Your previous request to create the named bucket succeeded and you already own it.";
    assert!(matches!(said(409, yours).await, Err(MakeBucketError::Yours)));
    assert!(matches!(said(409, "The requested bucket name is not available.").await, Err(MakeBucketError::Others)));
    let (kind, told) = port(said(403, "x does not have storage.buckets.create access").await);
    assert_eq!(kind, ErrorKind::PermissionDenied);
    assert!(told.contains("it takes storage.buckets.create") && told.contains("x does not have"), "{told}");
    let lock = make("gs://b", &google("localhost:1"), &LOCKING()).await;
    assert_eq!(port(lock).0, ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_container_of_azure_is_made_as_they_are() {
    let azure = |host: &str| {
        let options =
            [("AZURE_STORAGE_ACCOUNT_NAME", "account"), ("AZURE_STORAGE_ACCOUNT_KEY", "cGxhbnRlZC1zZWNyZXQ=")];
        settings(&format!("http://{host}"), &options)
    };
    let server = LocalServer::start(Says::json(201, "")).await;
    let made = make("az://container/prefix", &azure(&server.host()), &BucketWishes::default()).await.unwrap();
    assert!(made.kind == DestinationKind::Azure && made.is_closed, "{made:?}");
    let request = &server.requests()[0];
    assert!(request.starts_with("PUT /container?restype=container HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nauthorization: SharedKey account:"), "{request}");
    let server = LocalServer::start(says(409, "ContainerAlreadyExists")).await;
    let there = make("az://container", &azure(&server.host()), &BucketWishes::default()).await;
    assert!(matches!(there, Err(MakeBucketError::Yours)), "{there:?}");
    let server = LocalServer::start(says(403, "AuthorizationPermissionMismatch")).await;
    let (kind, told) = port(make("az://container", &azure(&server.host()), &BucketWishes::default()).await);
    assert_eq!(kind, ErrorKind::PermissionDenied);
    assert!(told.contains("blobServices/containers/write"), "{told}");
}

#[tokio::test]
async fn nothing_leads_inside_or_elsewhere() {
    let server = LocalServer::start(says(404, "")).await;
    let inside = DestinationSettings { public_only: true, ..s3_at(&format!("http://{}", server.host())) };
    assert_eq!(port(make("s3://b", &inside, &BucketWishes::default()).await).0, ErrorKind::InvalidArgument);
    let by_region = |region: &str| {
        let options = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", PLANTED), ("AWS_REGION", region)];
        DestinationSettings { endpoint: None, public_only: true, ..settings("", &options) }
    };
    let host = server.host();
    for region in [format!("@{host}/"), format!("x.{host}#"), "a/b".to_owned(), "<x/>".to_owned()] {
        let error = port(make("s3://b", &by_region(&region), &BucketWishes::default()).await);
        assert_eq!(error.0, ErrorKind::InvalidArgument, "{region}: {error:?}");
        let opened = Destination::open("s3://b", &by_region(&region)).unwrap_err();
        assert_eq!(opened.kind, ErrorKind::InvalidArgument, "{region}");
    }
    let options = [("AZURE_STORAGE_ACCOUNT_NAME", &*format!("{host}/x?")), ("AZURE_STORAGE_ACCOUNT_KEY", "cA==")];
    let account = DestinationSettings { endpoint: None, public_only: true, ..settings("", &options) };
    assert_eq!(port(make("az://b", &account, &BucketWishes::default()).await).0, ErrorKind::InvalidArgument);
    let wishes = BucketWishes { location: Some("eu</LocationConstraint>".to_owned()), ..BucketWishes::default() };
    assert_eq!(port(make("s3://b", &s3_at("http://localhost:1"), &wishes).await).0, ErrorKind::InvalidArgument);
    let folder = make("file:///srv/backups", &s3_at("http://localhost:1"), &BucketWishes::default()).await;
    assert_eq!(port(folder).0, ErrorKind::InvalidArgument);
    assert_eq!(server.hits(), 0);
}
