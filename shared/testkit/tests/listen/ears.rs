//! A listener that folds what it hears, as one that captures changes would.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use firebackup_embedded::Emulator;
use firebackup_model::path::collection_group_of;
use firebackup_model::wire::{Fields, Value};
use firebackup_model::{DatabaseName, Timestamp};
use firebackup_testkit::bytes_codec::BytesCodec;
use firebackup_testkit::proxy::Control;
use gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use gcloud_sdk::google::firestore::v1::listen_response::ResponseType;
use gcloud_sdk::google::firestore::v1::structured_query::CollectionSelector;
use gcloud_sdk::google::firestore::v1::target::{QueryTarget, ResumeType, TargetType, query_target};
use gcloud_sdk::google::firestore::v1::target_change::TargetChangeType;
use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, ListenRequest, ListenResponse, RunQueryRequest, StructuredQuery, Target, TargetChange,
    listen_request, run_query_request,
};
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::{OnceCell, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

/// What is listened to, by the targets 1, 2 and 3.
pub const GROUPS: [&str; 3] = ["orders", "items", "users"];
const LIMIT: Duration = Duration::from_secs(30);
const MANY_POINTS: usize = 100;

/// One emulator for all tests of this program, which keep apart by project. It ends with the process.
pub async fn emulator_host() -> &'static str {
    static EMULATOR: OnceCell<Emulator> = OnceCell::const_new();
    EMULATOR.get_or_init(|| async { Emulator::start().await.unwrap() }).await.host()
}

pub fn client(host: &str) -> FirestoreClient<Channel> {
    FirestoreClient::new(channel(host))
}

fn channel(host: &str) -> Channel {
    Endpoint::from_shared(format!("http://{host}")).unwrap().tcp_nodelay(true).connect_lazy()
}

pub fn owner<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer owner"));
    request
}

pub fn proto(moment: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: moment.seconds, nanos: moment.nanos.cast_signed() }
}

fn moment(proto: prost_types::Timestamp) -> Timestamp {
    Timestamp::new(proto.seconds, proto.nanos.cast_unsigned())
}

/// The bytes of a message's only field of this number, itself a message.
fn inner(message: &Bytes, number: u32) -> Option<Bytes> {
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next().unwrap() {
        if let Value::Bytes(bytes) = field.value
            && field.number == number
        {
            return Some(message.slice_ref(bytes));
        }
    }
    None
}

fn named(document: Bytes) -> (String, Bytes) {
    (firebackup_model::document::head(&document).unwrap().name.to_owned(), document)
}

fn of_group(group: &str) -> StructuredQuery {
    let from = vec![CollectionSelector { collection_id: group.to_owned(), all_descendants: true }];
    StructuredQuery { from, ..StructuredQuery::default() }
}

/// The documents of a collection group by name, as the bytes that came over the wire.
pub async fn group_at(host: &str, database: &DatabaseName, group: &str, at: Timestamp) -> BTreeMap<String, Bytes> {
    let request = RunQueryRequest {
        parent: database.documents_root(),
        query_type: Some(run_query_request::QueryType::StructuredQuery(of_group(group))),
        consistency_selector: Some(run_query_request::ConsistencySelector::ReadTime(proto(at))),
        ..RunQueryRequest::default()
    };
    let mut grpc = tonic::client::Grpc::new(channel(host));
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/google.firestore.v1.Firestore/RunQuery");
    let answers = grpc.server_streaming(owner(request.encode_to_vec().into()), path, BytesCodec).await.unwrap();
    let answers: Vec<Bytes> = answers.into_inner().map(Result::unwrap).collect().await;
    answers.iter().filter_map(|answer| inner(answer, 1)).map(named).collect()
}

/// What a stream said.
#[derive(Debug)]
pub enum Heard {
    Added,
    Put(String),
    Gone(String, Timestamp),
    Filter(i32, i32),
    Current,
    Reset,
    Removed(i32),
    /// A consistent point of all targets.
    Point,
    /// One before all targets are current, which says nothing.
    EarlyPoint,
    End(Status),
}

pub struct Ears {
    host: String,
    database: DatabaseName,
    stream: Option<Stream>,
    wanted: BTreeSet<i32>,
    current: BTreeSet<i32>,
    documents: BTreeMap<String, Bytes>,
    token: Option<Vec<u8>>,
    /// Each point with all documents there were.
    pub points: Vec<(Timestamp, BTreeMap<String, Bytes>)>,
}

struct Stream {
    requests: mpsc::UnboundedSender<ListenRequest>,
    answers: Streaming<Bytes>,
}

impl Ears {
    pub fn new(host: &str, database: &DatabaseName) -> Self {
        Self {
            host: host.to_owned(),
            database: database.clone(),
            stream: None,
            wanted: BTreeSet::new(),
            current: BTreeSet::new(),
            documents: BTreeMap::new(),
            token: None,
            points: Vec::new(),
        }
    }

    pub fn database(&self) -> &DatabaseName {
        &self.database
    }

    /// The last point.
    pub fn point(&self) -> Timestamp {
        self.points.last().unwrap().0
    }

    pub fn knows(&self, path: &str) -> bool {
        self.documents.contains_key(&self.database.document_name(path))
    }

    /// One that knows the same, by the last point, and hears nothing yet.
    pub fn clone_knowledge(&self) -> Self {
        self.at(&self.host)
    }

    /// As [`Self::clone_knowledge`], at another proxy.
    pub fn at(&self, host: &str) -> Self {
        let (token, points) = (self.token.clone(), self.points.clone());
        Self { token, points, ..Self::new(host, &self.database) }
    }

    /// Goes on from the last point, or begins from nothing.
    pub async fn listen(&mut self) {
        self.try_listen().await.unwrap();
    }

    pub async fn try_listen(&mut self) -> Result<(), Status> {
        let token = self.token.clone();
        self.try_listen_from(|_| token.clone().map(ResumeType::ResumeToken)).await
    }

    pub async fn listen_from(&mut self, resume: impl Fn(&str) -> Option<ResumeType>) {
        self.try_listen_from(resume).await.unwrap();
    }

    async fn try_listen_from(&mut self, resume: impl Fn(&str) -> Option<ResumeType>) -> Result<(), Status> {
        self.stream = None;
        self.current.clear();
        // what came behind the last point counts for nothing: it is to be told again
        self.documents = self.points.last().map(|(_, documents)| documents.clone()).unwrap_or_default();
        self.wanted = (1..=GROUPS.len() as i32).collect();
        let (requests, asked) = mpsc::unbounded_channel();
        for (target, group) in (1..).zip(GROUPS) {
            requests.send(self.request(self.target(target, group, resume(group)))).unwrap();
        }
        let mut grpc = tonic::client::Grpc::new(channel(&self.host));
        grpc.ready().await.unwrap();
        let asked = UnboundedReceiverStream::new(asked).map(|request: ListenRequest| request.encode_to_vec().into());
        let path = PathAndQuery::from_static("/google.firestore.v1.Firestore/Listen");
        let answers = grpc.streaming(owner(asked), path, BytesCodec).await?.into_inner();
        self.stream = Some(Stream { requests, answers });
        Ok(())
    }

    fn target(&self, target_id: i32, group: &str, resume_type: Option<ResumeType>) -> Target {
        let query_type = Some(query_target::QueryType::StructuredQuery(of_group(group)));
        let query = QueryTarget { parent: self.database.documents_root(), query_type };
        Target { target_id, target_type: Some(TargetType::Query(query)), resume_type, ..Target::default() }
    }

    fn request(&self, target: Target) -> ListenRequest {
        let target_change = Some(listen_request::TargetChange::AddTarget(target));
        ListenRequest { database: self.database.resource(), target_change, ..ListenRequest::default() }
    }

    pub fn add(&self, target: Target) {
        self.stream.as_ref().unwrap().requests.send(self.request(target)).unwrap();
    }

    pub fn remove(&mut self, target: i32) {
        self.wanted.remove(&target);
        let target_change = Some(listen_request::TargetChange::RemoveTarget(target));
        let request = ListenRequest { database: self.database.resource(), target_change, ..ListenRequest::default() };
        self.stream.as_ref().unwrap().requests.send(request).unwrap();
    }

    /// Has the stream cut, and hears that it was.
    pub async fn cut(&mut self, control: &Control, code: Code) {
        control.cut_listens(code);
        assert_eq!(self.hear_end().await.code(), code);
    }

    /// What is said next, once it has been said.
    pub async fn hear(&mut self) -> Heard {
        let stream = self.stream.as_mut().expect("a stream");
        match tokio::time::timeout(LIMIT, stream.answers.message()).await.expect("a message") {
            Ok(Some(message)) => self.fold(&message),
            Ok(None) => Heard::End(Status::ok("")),
            Err(status) => Heard::End(status),
        }
    }

    fn fold(&mut self, message: &Bytes) -> Heard {
        match ListenResponse::decode(message.clone()).unwrap().response_type.unwrap() {
            ResponseType::DocumentChange(_) => {
                let (name, document) = named(inner(message, 3).and_then(|change| inner(&change, 1)).unwrap());
                self.documents.insert(name.clone(), document);
                Heard::Put(name)
            }
            ResponseType::DocumentDelete(gone) => {
                self.documents.remove(&gone.document);
                Heard::Gone(gone.document, moment(gone.read_time.unwrap()))
            }
            ResponseType::Filter(filter) => Heard::Filter(filter.target_id, filter.count),
            ResponseType::TargetChange(change) => self.fold_target(change),
            other => panic!("{other:?}"),
        }
    }

    fn fold_target(&mut self, change: TargetChange) -> Heard {
        let target = change.target_ids.first().copied();
        match (change.target_change_type(), target) {
            (TargetChangeType::Add, Some(_)) => Heard::Added,
            (TargetChangeType::Remove, Some(target)) => Heard::Removed(target),
            (TargetChangeType::Current, Some(target)) => {
                assert!(self.current.insert(target), "{target} is current already");
                Heard::Current
            }
            (TargetChangeType::Reset, Some(target)) => {
                let group = GROUPS[target as usize - 1];
                self.documents.retain(|name, _| collection_group_of(name) != group);
                self.current.remove(&target);
                Heard::Reset
            }
            (TargetChangeType::NoChange, None) if self.current.is_superset(&self.wanted) => {
                let at = moment(change.read_time.unwrap());
                self.token = Some(change.resume_token);
                self.points.push((at, self.documents.clone()));
                Heard::Point
            }
            (TargetChangeType::NoChange, None) => Heard::EarlyPoint,
            other => panic!("{other:?}"),
        }
    }

    /// All that is said until the `count`th point, with it.
    pub async fn hear_points(&mut self, count: usize) -> Vec<Heard> {
        let (mut heard, until) = (Vec::new(), self.points.len() + count);
        while self.points.len() < until {
            heard.push(self.hear().await);
            assert!(!matches!(heard.last(), Some(Heard::End(_))), "{heard:?}");
        }
        heard
    }

    /// Hears until the point at which it knows a document; soon.
    pub async fn hear_until_it_knows(&mut self, path: &str) {
        for _ in 0..MANY_POINTS {
            self.hear_points(1).await;
            if self.knows(path) {
                return;
            }
        }
        panic!("{path}: not within {MANY_POINTS} points");
    }

    /// How the stream ends, whatever it says before.
    pub async fn hear_end(&mut self) -> Status {
        loop {
            if let Heard::End(status) = self.hear().await {
                return status;
            }
        }
    }

    /// Hears until there is a point at `at` or later.
    pub async fn hear_until(&mut self, at: Timestamp) {
        while self.points.last().is_none_or(|(point, _)| *point < at) {
            self.hear_points(1).await;
        }
    }

    pub async fn server_time(&self) -> Timestamp {
        let documents = vec![self.database.document_name("none/none")];
        let request = BatchGetDocumentsRequest { database: self.database.resource(), documents, ..Default::default() };
        let mut answers = client(&self.host).batch_get_documents(owner(request)).await.unwrap().into_inner();
        moment(answers.message().await.unwrap().unwrap().read_time.unwrap())
    }
}
