//! Listening to a server that says what it is told to: what the emulator does not do, and what no server should.

use std::time::Duration;

use bytes::Bytes;
use firebackup_google::{Access, Firestore, FirestoreOptions};
use firebackup_model::document::RawDocument;
use firebackup_model::error::{ErrorKind, PortError};
use firebackup_model::port::{Change, ChangeSource, ChangeStream, ListenFrom};
use firebackup_model::wire::put_bytes_field;
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use firebackup_testkit::bytes_codec::BytesCodec;
use firebackup_testkit::grpc_server::GrpcServer;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{FutureExt, StreamExt};
use gcloud_sdk::google::firestore::v1 as google;
use gcloud_sdk::google::rpc;
use google::listen_response::ResponseType;
use google::target_change::TargetChangeType;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use tonic::body::Body;
use tonic::codec::{EncodeBody, SingleMessageCompressionOverride};
use tonic::{Code, Status, Streaming};

const BOUND: Duration = Duration::from_secs(30);

/// A Listen as the server has it.
struct Call {
    headers: HeaderMap,
    requests: Streaming<Bytes>,
    answers: UnboundedSender<Result<Bytes, Status>>,
}

impl Call {
    async fn request(&mut self) -> google::ListenRequest {
        let message = tokio::time::timeout(BOUND, self.requests.message()).await.expect("a request in time");
        google::ListenRequest::decode(message.expect("no error").expect("a request")).expect("a ListenRequest")
    }

    /// Waits until the client asks for nothing more, be it by an end or by a break.
    async fn hears_the_end(&mut self) {
        let end = tokio::time::timeout(BOUND, self.requests.message()).await.expect("an end in time");
        assert!(end.is_err() || end.is_ok_and(|message| message.is_none()));
    }

    fn say(&self, message: impl Into<Bytes>) {
        self.answers.unbounded_send(Ok(message.into())).expect("the call is open");
    }

    fn tell(&self, told: ResponseType) {
        self.say(google::ListenResponse { response_type: Some(told) }.encode_to_vec());
    }

    fn change(&self, change: TargetChangeType, target_ids: &[i32]) {
        self.tell(ResponseType::TargetChange(target_change(change, target_ids)));
    }

    /// A read time of the whole stream.
    fn consistent(&self, seconds: i64, token: &[u8]) {
        let read_time = Some(prost_types::Timestamp { seconds, nanos: 5000 });
        let change = google::TargetChange { resume_token: token.to_vec(), read_time, ..Default::default() };
        self.tell(ResponseType::TargetChange(change));
    }

    fn fail(&self, status: Status) {
        self.answers.unbounded_send(Err(status)).expect("the call is open");
    }
}

fn target_change(change: TargetChangeType, target_ids: &[i32]) -> google::TargetChange {
    google::TargetChange {
        target_change_type: change as i32,
        target_ids: target_ids.to_vec(),
        ..google::TargetChange::default()
    }
}

/// A database, its server, and the calls that come to it.
struct Script {
    _server: GrpcServer,
    calls: UnboundedReceiver<Call>,
    firestore: Firestore,
}

impl Script {
    async fn start() -> Self {
        let (sender, calls) = unbounded();
        let server = GrpcServer::start(move |request| futures::future::ready(accept(&sender, request))).await.unwrap();
        let firestore = connect(&server).await;
        Self { _server: server, calls, firestore }
    }

    async fn listen(&mut self, groups: &[&str], from: ListenFrom) -> (ChangeStream, Call) {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let changes = self.firestore.listen(&groups, from).await.expect("the server answers");
        (changes, self.calls.next().await.expect("a call"))
    }

    async fn orders_and_users(&mut self) -> (ChangeStream, Call) {
        self.listen(&["orders", "users"], ListenFrom::ReadTime(Timestamp::new(100, 0))).await
    }
}

async fn connect(server: &GrpcServer) -> Firestore {
    let options = FirestoreOptions { database: database(), access: Access::Emulator { host: server.host() } };
    Firestore::connect(options).await.expect("the server answers")
}

fn accept(calls: &UnboundedSender<Call>, request: http::Request<Body>) -> http::Response<Body> {
    assert_eq!(request.uri().path(), "/google.firestore.v1.Firestore/Listen");
    let (parts, body) = request.into_parts();
    let (answers, said) = unbounded();
    let requests = Streaming::new_request(BytesCodec, body, None, None);
    let _ = calls.unbounded_send(Call { headers: parts.headers, requests, answers });
    let plain = SingleMessageCompressionOverride::default();
    let mut response = http::Response::new(Body::new(EncodeBody::new_server(BytesCodec, said, None, plain, None)));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn database() -> DatabaseName {
    DatabaseName::new("p", "orders")
}

fn gone(path: &str) -> Change {
    Change::Gone(DocumentPath::new(path).unwrap())
}

fn point(seconds: i64, token: Option<&'static [u8]>) -> Change {
    Change::Point { read_time: Timestamp::new(seconds, 5000), token: token.map(Bytes::from_static) }
}

async fn next(changes: &mut ChangeStream) -> Result<Change, PortError> {
    tokio::time::timeout(BOUND, changes.next()).await.expect("a change in time").expect("no end without an error")
}

async fn check(changes: &mut ChangeStream, expected: &[Change]) {
    for change in expected {
        assert_eq!(next(changes).await.unwrap(), *change);
    }
}

/// The stream's error; behind it comes nothing.
async fn error(changes: &mut ChangeStream) -> PortError {
    let error = next(changes).await.unwrap_err();
    assert!(changes.next().await.is_none());
    assert!(error.to_string().starts_with("could not listen to changes: "), "{error}");
    error
}

#[tokio::test]
async fn a_target_a_group_is_asked_for_with_what_to_resume_from_and_without_a_deadline() {
    use google::target::{QueryTarget, ResumeType, TargetType, query_target::QueryType};
    let time = ResumeType::ReadTime(prost_types::Timestamp { seconds: 7, nanos: 8000 });
    let token = ResumeType::ResumeToken(vec![0, 255]);
    let mut script = Script::start().await;
    for (from, expected) in [
        (ListenFrom::ReadTime(Timestamp::new(7, 8000)), time),
        (ListenFrom::Token(Bytes::from_static(&[0, 255])), token),
    ] {
        let (_changes, mut call) = script.listen(&["users", "orders"], from).await;
        assert_eq!(call.headers.get("grpc-timeout"), None);
        assert_eq!(call.headers["google-cloud-resource-prefix"], "projects/p/databases/orders");
        for (target_id, group) in [(1, "orders"), (2, "users")] {
            let from =
                google::structured_query::CollectionSelector { collection_id: group.to_owned(), all_descendants: true };
            let query = google::StructuredQuery { from: vec![from], ..Default::default() };
            let target = google::Target {
                target_id,
                target_type: Some(TargetType::Query(QueryTarget {
                    parent: "projects/p/databases/orders/documents".to_owned(),
                    query_type: Some(QueryType::StructuredQuery(query)),
                })),
                resume_type: Some(expected.clone()),
                ..Default::default()
            };
            let request = google::ListenRequest {
                database: "projects/p/databases/orders".to_owned(),
                target_change: Some(google::listen_request::TargetChange::AddTarget(target)),
                ..Default::default()
            };
            assert_eq!(call.request().await, request);
        }
    }
}

#[tokio::test]
async fn requests_stay_open_until_the_stream_is_dropped() {
    let mut script = Script::start().await;
    let (mut changes, mut call) = script.orders_and_users().await;
    call.request().await;
    call.request().await;
    call.change(TargetChangeType::Add, &[1, 2]);
    check(&mut changes, &[Change::Alive]).await;
    assert!(call.requests.message().now_or_never().is_none(), "the requests have ended");
    drop(changes);
    call.hears_the_end().await;
}

#[tokio::test]
async fn requests_end_with_a_stream_that_broke() {
    let mut script = Script::start().await;
    let (mut changes, mut call) = script.orders_and_users().await;
    call.request().await;
    call.request().await;
    call.change(TargetChangeType::Remove, &[1]);
    error(&mut changes).await;
    call.hears_the_end().await;
}

#[tokio::test]
async fn a_point_is_said_once_all_targets_are_current() {
    let mut script = Script::start().await;
    let (mut changes, call) = script.orders_and_users().await;
    call.change(TargetChangeType::Add, &[1]);
    call.change(TargetChangeType::Add, &[2]);
    call.consistent(110, b"early");
    call.change(TargetChangeType::Current, &[2]);
    call.consistent(111, b"half");
    call.tell(ResponseType::TargetChange(google::TargetChange {
        read_time: Some(prost_types::Timestamp { seconds: 112, nanos: 5000 }),
        resume_token: b"of one".to_vec(),
        ..target_change(TargetChangeType::Current, &[1])
    }));
    check(&mut changes, &[const { Change::Alive }; 6]).await;
    call.consistent(112, b"all");
    call.consistent(113, b"");
    check(&mut changes, &[point(112, Some(b"all")), point(113, None)]).await;
    call.tell(ResponseType::TargetChange(google::TargetChange {
        read_time: Some(prost_types::Timestamp { seconds: 114, nanos: 5000 }),
        resume_token: b"of one".to_vec(),
        ..target_change(TargetChangeType::NoChange, &[1])
    }));
    call.change(TargetChangeType::NoChange, &[]);
    call.consistent(115, b"next");
    check(&mut changes, &[Change::Alive, Change::Alive, point(115, Some(b"next"))]).await;
    call.consistent(114, b"back");
    assert_eq!(error(&mut changes).await.kind, ErrorKind::Corrupt);
}

#[tokio::test]
async fn documents_come_as_the_bytes_they_are() {
    let document = google::Document { name: database().document_name("users/a/orders/1"), ..Default::default() };
    let mut document = document.encode_to_vec();
    put_bytes_field(&mut document, 4711, b"from the future");
    let mut change = Vec::new();
    put_bytes_field(&mut change, 1, &document);
    put_bytes_field(&mut change, 6, &[1]);
    let mut message = Vec::new();
    put_bytes_field(&mut message, 3, &change);
    let mut script = Script::start().await;
    let (mut changes, call) = script.orders_and_users().await;
    call.say(message);
    check(&mut changes, &[Change::Put(RawDocument(document.into()))]).await;
}

#[tokio::test]
async fn deletions_filters_and_resets_are_told() {
    let mut script = Script::start().await;
    let (mut changes, call) = script.orders_and_users().await;
    let delete =
        google::DocumentDelete { document: database().document_name("users/a/orders/__id7__"), ..Default::default() };
    call.tell(ResponseType::DocumentDelete(delete));
    let remove = google::DocumentRemove { document: database().document_name("users/b"), ..Default::default() };
    call.tell(ResponseType::DocumentRemove(remove));
    let unchanged_names = Some(google::BloomFilter { hash_count: 3, ..Default::default() });
    call.tell(ResponseType::Filter(google::ExistenceFilter { target_id: 2, count: 12, unchanged_names }));
    call.change(TargetChangeType::Reset, &[2]);
    call.change(TargetChangeType::Reset, &[]);
    let reset = |group: &str| Change::Reset { group: group.to_owned() };
    let filter = Change::Filter { group: "users".to_owned(), documents: 12 };
    let expected =
        [gone("users/a/orders/__id7__"), gone("users/b"), filter, reset("users"), reset("orders"), reset("users")];
    check(&mut changes, &expected).await;
}

#[tokio::test]
async fn what_nobody_knows_yet_says_that_the_stream_lives() {
    let mut script = Script::start().await;
    let (mut changes, call) = script.orders_and_users().await;
    let mut unknown = Vec::new();
    put_bytes_field(&mut unknown, 99, b"from the future");
    call.say(unknown);
    call.say(Bytes::new());
    let change = google::TargetChange { target_change_type: 99, ..Default::default() };
    call.tell(ResponseType::TargetChange(change));
    check(&mut changes, &[const { Change::Alive }; 3]).await;
}

#[tokio::test]
async fn a_removed_target_ends_the_stream_with_its_cause() {
    for (cause, kind) in [
        (Some(Code::ResourceExhausted), ErrorKind::ResourceExhausted),
        (Some(Code::InvalidArgument), ErrorKind::InvalidArgument),
        (Some(Code::PermissionDenied), ErrorKind::PermissionDenied),
        (Some(Code::Ok), ErrorKind::Unavailable),
        (None, ErrorKind::Unavailable),
    ] {
        let mut script = Script::start().await;
        let (mut changes, call) = script.orders_and_users().await;
        let cause = cause.map(|code| rpc::Status { code: code as i32, message: "so".to_owned(), details: vec![] });
        let change = google::TargetChange { cause, ..target_change(TargetChangeType::Remove, &[2]) };
        call.tell(ResponseType::TargetChange(change));
        let error = error(&mut changes).await;
        assert_eq!(error.kind, kind, "{error:?}");
        assert_eq!(error.to_string().contains("roles/datastore.viewer"), kind == ErrorKind::PermissionDenied);
    }
}

#[tokio::test]
async fn however_it_breaks_the_stream_ends_with_an_error() {
    type Break = fn(&Call);
    let breaks: [(Break, ErrorKind); 5] = [
        (|call| call.answers.close_channel(), ErrorKind::Unavailable),
        (|call| call.fail(Status::resource_exhausted("quota")), ErrorKind::ResourceExhausted),
        (|call| call.fail(Status::failed_precondition("the read_time is too old")), ErrorKind::ReadTimeTooOld),
        (|call| call.say(&b"\xff\xff rubbish"[..]), ErrorKind::Internal),
        (
            |call| {
                let document = "projects/q/databases/orders/documents/users/a".to_owned();
                call.tell(ResponseType::DocumentDelete(google::DocumentDelete { document, ..Default::default() }));
            },
            ErrorKind::Corrupt,
        ),
    ];
    for (index, (end, kind)) in breaks.into_iter().enumerate() {
        let mut script = Script::start().await;
        let (mut changes, call) = script.orders_and_users().await;
        call.change(TargetChangeType::Add, &[1, 2]);
        check(&mut changes, &[Change::Alive]).await;
        end(&call);
        assert_eq!(error(&mut changes).await.kind, kind, "{index}");
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_can_be_tried_again() {
    let Script { _server, mut calls, firestore } = Script::start().await;
    let from = ListenFrom::ReadTime(Timestamp::new(1, 0));
    let mut changes = firestore.listen(&["users".to_owned()].into(), from).await.unwrap();
    let call = calls.next().await.unwrap();
    call.change(TargetChangeType::Add, &[1]);
    check(&mut changes, &[Change::Alive]).await;
    drop(_server);
    let error = error(&mut changes).await;
    assert!(error.can_be_retried(), "{error:?}");
}

#[tokio::test]
async fn nothing_to_listen_to_is_refused_before_anybody_is_asked() {
    let mut script = Script::start().await;
    for groups in [vec![], vec![String::new(), "users".to_owned()]] {
        let from = ListenFrom::Token(Bytes::new());
        let error = script.firestore.listen(&groups.into_iter().collect(), from).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }
    assert!(script.calls.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_refused_call_is_an_error_of_the_opening() {
    let refused = |_| futures::future::ready(Status::permission_denied("no").into_http());
    let server = GrpcServer::start(refused).await.unwrap();
    let from = ListenFrom::Token(Bytes::from_static(b"token"));
    let error = connect(&server).await.listen(&["users".to_owned()].into(), from).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
}

/// The clock runs as soon as everybody waits.
#[tokio::test]
async fn the_opening_is_bounded_and_silence_behind_it_is_not() {
    let server = GrpcServer::start(|_| futures::future::pending()).await.unwrap();
    let silent = connect(&server).await;
    let mut script = Script::start().await;
    let (mut changes, call) = script.orders_and_users().await;
    tokio::time::pause();
    let from = ListenFrom::Token(Bytes::from_static(b"token"));
    let error = silent.listen(&["users".to_owned()].into(), from).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    assert!(tokio::time::timeout(Duration::from_secs(3600), changes.next()).await.is_err(), "nothing was said");
    tokio::time::resume();
    call.change(TargetChangeType::Add, &[1, 2]);
    check(&mut changes, &[Change::Alive]).await;
}
