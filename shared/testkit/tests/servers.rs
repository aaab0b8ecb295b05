//! The servers that stand in Firestore's place, against the emulator itself. Without an emulator these tests fail.

use std::time::Duration;

use bytes::Bytes;
use firebackup_embedded::Emulator;
use firebackup_model::{DatabaseName, Timestamp};
use firebackup_testkit::bytes_codec::BytesCodec;
use firebackup_testkit::{Method, Proxy, ProxyOptions, Replay, Transfers, generators, samples, workload};
use gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use gcloud_sdk::google::firestore::v1::structured_query::{
    CollectionSelector, Direction, FieldReference, Order, Projection,
};
use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, BatchWriteRequest, BatchWriteResponse, Cursor, Document, ListenRequest,
    PartitionQueryRequest, RunAggregationQueryRequest, RunQueryRequest, StructuredAggregationQuery, StructuredQuery,
    Target, Value, Write, batch_get_documents_response, listen_request, listen_response, partition_query_request,
    run_aggregation_query_request, run_query_request, structured_aggregation_query, target, target_change,
    value::ValueType, write::Operation,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use prost::Message;
use tokio::sync::OnceCell;
use tokio_stream::StreamExt;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

type Client = FirestoreClient<Channel>;

const LIMIT: Duration = Duration::from_secs(60);

/// One emulator for all tests of this file, which keep apart by project. It ends with the process.
async fn emulator_host() -> &'static str {
    static EMULATOR: OnceCell<Emulator> = OnceCell::const_new();
    EMULATOR.get_or_init(|| async { Emulator::start().await.unwrap() }).await.host()
}

async fn proxy() -> Proxy {
    Proxy::start(emulator_host().await, ProxyOptions::default()).await.unwrap()
}

fn channel(host: &str) -> Channel {
    Endpoint::from_shared(format!("http://{host}")).unwrap().connect_lazy()
}

fn client(host: &str) -> Client {
    FirestoreClient::new(channel(host)).max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20)
}

fn owner<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer owner"));
    request
}

fn proto(moment: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: moment.seconds, nanos: moment.nanos.cast_signed() }
}

fn by_name() -> Vec<Order> {
    let field = Some(FieldReference { field_path: "__name__".to_owned() });
    vec![Order { field, direction: Direction::Ascending as i32 }]
}

fn from(group: &str) -> Vec<CollectionSelector> {
    vec![CollectionSelector { collection_id: group.to_owned(), all_descendants: true }]
}

/// The query of a backup: everything, in path order.
fn everything() -> StructuredQuery {
    StructuredQuery { from: from(""), order_by: by_name(), ..StructuredQuery::default() }
}

fn run(database: &DatabaseName, query: StructuredQuery, at: Option<prost_types::Timestamp>) -> RunQueryRequest {
    RunQueryRequest {
        parent: database.documents_root(),
        query_type: Some(run_query_request::QueryType::StructuredQuery(query)),
        consistency_selector: at.map(run_query_request::ConsistencySelector::ReadTime),
        ..RunQueryRequest::default()
    }
}

fn puts(documents: &[Document]) -> Vec<Write> {
    let put = |document: &Document| Write { operation: Some(Operation::Update(document.clone())), ..Write::default() };
    documents.iter().map(put).collect()
}

async fn write(client: &mut Client, database: &DatabaseName, writes: Vec<Write>) -> Result<BatchWriteResponse, Status> {
    let request = BatchWriteRequest { database: database.resource(), writes, ..BatchWriteRequest::default() };
    client.batch_write(owner(request)).await.map(tonic::Response::into_inner)
}

async fn write_all(client: &mut Client, database: &DatabaseName, documents: &[Document]) {
    for part in documents.chunks(500) {
        let answer = write(client, database, puts(part)).await.unwrap();
        for (status, document) in answer.status.iter().zip(part) {
            assert_eq!(status.code, 0, "{}: {document:?}", status.message);
        }
    }
}

async fn query(client: &mut Client, request: RunQueryRequest) -> Result<Vec<Document>, Status> {
    let mut stream = client.run_query(owner(request)).await?.into_inner();
    let mut documents = Vec::new();
    while let Some(answer) = stream.message().await? {
        documents.extend(answer.document);
    }
    Ok(documents)
}

async fn query_names(client: &mut Client, request: RunQueryRequest) -> Vec<String> {
    query(client, request).await.unwrap().into_iter().map(|document| document.name).collect()
}

/// The messages of an answer as they came over the wire.
async fn raw_answers(host: &str, request: &RunQueryRequest) -> Vec<Bytes> {
    let mut grpc = tonic::client::Grpc::new(channel(host)).max_decoding_message_size(64 << 20);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/google.firestore.v1.Firestore/RunQuery");
    let stream = grpc.server_streaming(owner(request.encode_to_vec().into()), path, BytesCodec).await.unwrap();
    stream.into_inner().map(Result::unwrap).collect().await
}

async fn server_time(client: &mut Client, database: &DatabaseName) -> prost_types::Timestamp {
    let documents = vec![database.document_name("none/none")];
    let request = BatchGetDocumentsRequest { database: database.resource(), documents, ..Default::default() };
    let mut answers = client.batch_get_documents(owner(request)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().read_time.unwrap()
}

/// Generated documents, the same at every run.
fn generated(database: &DatabaseName, count: usize) -> Vec<Document> {
    let mut runner = TestRunner::deterministic();
    generators::any_documents(database, count).new_tree(&mut runner).unwrap().current()
}

fn numbered(database: &DatabaseName, collection: &str, count: usize) -> Vec<Document> {
    let document =
        |n| Document { name: database.document_name(&format!("{collection}/{n:04}")), ..Document::default() };
    (0..count).map(document).collect()
}

fn names(documents: &[Document]) -> Vec<String> {
    documents.iter().map(|document| document.name.clone()).collect()
}

#[tokio::test]
async fn generated_documents_are_taken_given_back_the_same_and_in_our_order() {
    let database = DatabaseName::new("demo-generated-documents", "(default)");
    let mut client = client(emulator_host().await);
    let documents = generated(&database, 400);
    assert!(documents.len() > 300, "too few to say anything: {}", documents.len());
    write_all(&mut client, &database, &documents).await;
    let back = query(&mut client, run(&database, everything(), None)).await.unwrap();
    assert_eq!(names(&back), names(&documents));
    for (back, document) in back.iter().zip(&documents) {
        assert!(generators::same_fields(&back.fields, &document.fields), "\n{back:?}\n{document:?}");
    }
}

#[tokio::test]
async fn bytes_through_the_proxy_are_the_bytes_of_the_emulator() {
    let database = DatabaseName::new("demo-proxy-bytes", "(default)");
    let (proxy, direct) = (proxy().await, emulator_host().await);
    let documents = generated(&database, 60);
    let mut client = client(&proxy.host());
    write_all(&mut client, &database, &documents).await;
    let at = server_time(&mut client, &database).await;
    let request = run(&database, everything(), Some(at));
    let through = raw_answers(&proxy.host(), &request).await;
    assert!(through.len() >= documents.len());
    assert_eq!(through, raw_answers(direct, &request).await);
    let counts = proxy.control().counts();
    assert_eq!(counts.documents_streamed, documents.len() as u64);
    assert_eq!((counts.writes, counts.violations, counts.max_streams), (documents.len() as u64, 0, 1));
    assert_eq!(counts.requests_of(Method::RunQuery), 1);
}

#[tokio::test]
async fn the_proxy_refuses_what_production_refuses() {
    let database = DatabaseName::new("demo-proxy-limits", "(default)");
    let proxy = proxy().await;
    let mut client = client(&proxy.host());
    let documents = numbered(&database, "a", 501);

    let too_many = write(&mut client, &database, puts(&documents)).await.unwrap_err();
    assert_eq!(too_many.code(), Code::InvalidArgument, "{too_many}");
    write(&mut client, &database, puts(&documents[..500])).await.unwrap();

    let twice = write(&mut client, &database, puts(&[documents[0].clone(), documents[0].clone()])).await.unwrap_err();
    assert_eq!(twice.code(), Code::InvalidArgument, "{twice}");

    let big = |n: usize| {
        let value = Value { value_type: Some(ValueType::BytesValue(vec![0; 900_000])) };
        Document { fields: [("b".to_owned(), value)].into(), ..documents[n].clone() }
    };
    let too_large: Vec<Document> = (0..12).map(big).collect();
    let error = write(&mut client, &database, puts(&too_large)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    write(&mut client, &database, puts(&too_large[..11])).await.unwrap();

    let now = server_time(&mut client, &database).await;
    let old = prost_types::Timestamp { seconds: now.seconds - 3700, nanos: 0 };
    let error = query(&mut client, run(&database, everything(), Some(old))).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("read_time") && error.message().contains("too old"), "{error}");
    // a read may become too old while a job runs
    proxy.control().set_oldest_read_time(Some(Timestamp::new(now.seconds + 1, 0)));
    let error = query(&mut client, run(&database, everything(), Some(now))).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);

    let counts = proxy.control().counts();
    assert_eq!((counts.violations, counts.writes, counts.max_writes), (3, 511, 500));
}

fn partition(database: &DatabaseName, query: StructuredQuery, count: i64) -> PartitionQueryRequest {
    PartitionQueryRequest {
        parent: database.documents_root(),
        partition_count: count,
        query_type: Some(partition_query_request::QueryType::StructuredQuery(query)),
        ..PartitionQueryRequest::default()
    }
}

fn cursor_names(cursors: &[Cursor]) -> Vec<String> {
    let name = |cursor: &Cursor| match &cursor.values[..] {
        [Value { value_type: Some(ValueType::ReferenceValue(name)) }] => name.clone(),
        other => panic!("not a name: {other:?}"),
    };
    cursors.iter().map(name).collect()
}

#[tokio::test]
async fn the_proxy_answers_partition_queries() {
    let database = DatabaseName::new("demo-proxy-partitions", "(default)");
    let proxy = proxy().await;
    let mut client = client(&proxy.host());
    write_all(&mut client, &database, &numbered(&database, "orders", 80)).await;
    write_all(&mut client, &database, &numbered(&database, "users/x/orders", 20)).await;
    write_all(&mut client, &database, &numbered(&database, "others", 20)).await;

    let group = StructuredQuery { from: from("orders"), order_by: by_name(), ..StructuredQuery::default() };
    let answer = client.partition_query(owner(partition(&database, group.clone(), 4))).await.unwrap().into_inner();
    let expected = ["orders/0020", "orders/0040", "orders/0060", "users/x/orders/0000"];
    assert_eq!(cursor_names(&answer.partitions), expected.map(|path| database.document_name(path)));

    let kindless = client.partition_query(owner(partition(&database, everything(), 4))).await.unwrap_err();
    assert_eq!(kindless.code(), Code::InvalidArgument);
    let limited = StructuredQuery { limit: Some(5), ..group };
    let limited = client.partition_query(owner(partition(&database, limited, 4))).await.unwrap_err();
    assert_eq!(limited.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_proxy_cuts_streams_and_fails_calls_on_demand() {
    let database = DatabaseName::new("demo-proxy-faults", "(default)");
    let proxy = proxy().await;
    let mut client = client(&proxy.host());
    write_all(&mut client, &database, &numbered(&database, "a", 50)).await;
    let request = || run(&database, everything(), None);

    proxy.control().cut_streams_after(10, 1);
    let mut stream = client.run_query(owner(request())).await.unwrap().into_inner();
    let mut seen = 0;
    let error = loop {
        match stream.message().await {
            Ok(Some(answer)) => seen += usize::from(answer.document.is_some()),
            Ok(None) => panic!("the stream was not cut"),
            Err(error) => break error,
        }
    };
    assert_eq!((seen, error.code()), (10, Code::Unavailable));
    assert_eq!(query(&mut client, request()).await.unwrap().len(), 50);

    proxy.control().fail_next(Method::RunQuery, Code::ResourceExhausted, 1);
    assert_eq!(query(&mut client, request()).await.unwrap_err().code(), Code::ResourceExhausted);
    assert!(query(&mut client, request()).await.is_ok());

    proxy.control().delay(Method::RunQuery, Duration::from_millis(80));
    let begun = std::time::Instant::now();
    query(&mut client, request()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(80));
    assert_eq!(proxy.control().counts().injected, 2);
}

#[tokio::test]
async fn the_proxy_refuses_to_count_all_collections_together_on_demand() {
    let database = DatabaseName::new("demo-proxy-counts", "(default)");
    let proxy = proxy().await;
    let mut client = client(&proxy.host());
    write_all(&mut client, &database, &numbered(&database, "a", 7)).await;
    let seven = Value { value_type: Some(ValueType::IntegerValue(7)) };
    let of_a_group = StructuredQuery { from: from("a"), ..everything() };
    for code in [Code::InvalidArgument, Code::Unimplemented, Code::FailedPrecondition] {
        proxy.control().refuse_kindless_counts(Some(code));
        let refused = try_count(&mut client, &database, everything()).await.unwrap_err();
        assert_eq!(refused.code(), code);
        assert_eq!(count(&mut client, &database, of_a_group.clone()).await, seven);
        assert_eq!(query(&mut client, run(&database, everything(), None)).await.unwrap().len(), 7);
    }
    proxy.control().refuse_kindless_counts(None);
    assert_eq!(count(&mut client, &database, everything()).await, seven);
}

#[tokio::test]
async fn the_proxy_fails_single_writes_on_demand() {
    let database = DatabaseName::new("demo-proxy-writes", "(default)");
    let proxy = proxy().await;
    let mut client = client(&proxy.host());
    let documents = numbered(&database, "a", 10);
    proxy.control().fail_writes(Code::Aborted, |path| path == "a/0003" || path == "a/0007");
    let answer = write(&mut client, &database, puts(&documents)).await.unwrap();
    let failed: Vec<usize> = (0..10).filter(|n| answer.status[*n].code == Code::Aborted as i32).collect();
    assert_eq!(failed, [3, 7]);
    assert!((0..10).all(|n| answer.write_results[n].update_time.is_some() != failed.contains(&n)));
    let there = query_names(&mut client, run(&database, everything(), None)).await;
    assert_eq!(there.len(), 8);
    assert!(!there.contains(&documents[3].name) && !there.contains(&documents[7].name));

    let only_failing = write(&mut client, &database, puts(&documents[3..4])).await.unwrap();
    assert_eq!(only_failing.status[0].code, Code::Aborted as i32);
    proxy.control().clear_faults();
    write_all(&mut client, &database, &documents).await;
    assert_eq!(query_names(&mut client, run(&database, everything(), None)).await, names(&documents));
}

#[tokio::test]
async fn the_proxy_carries_listen_streams() {
    let database = DatabaseName::new("demo-proxy-listen", "(default)");
    let proxy = proxy().await;
    let mut client = client(&proxy.host());
    write_all(&mut client, &database, &numbered(&database, "a", 3)).await;
    let query = StructuredQuery { from: from("a"), ..StructuredQuery::default() };
    let query_target = target::QueryTarget {
        parent: database.documents_root(),
        query_type: Some(target::query_target::QueryType::StructuredQuery(query)),
    };
    let target =
        Target { target_id: 1, target_type: Some(target::TargetType::Query(query_target)), ..Target::default() };
    let add = ListenRequest {
        database: database.resource(),
        target_change: Some(listen_request::TargetChange::AddTarget(target)),
        ..ListenRequest::default()
    };
    let requests = tokio_stream::iter([add]).chain(tokio_stream::pending());
    let mut request = owner(requests);
    // a listen says nothing else before its first message that the emulator could know the database by
    request.metadata_mut().insert("google-cloud-resource-prefix", database.resource().parse().unwrap());
    let mut answers = client.listen(request).await.unwrap().into_inner();
    let initial_state = async {
        let mut documents = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            match answer.response_type {
                Some(listen_response::ResponseType::DocumentChange(_)) => documents += 1,
                Some(listen_response::ResponseType::TargetChange(change))
                    if change.target_change_type == target_change::TargetChangeType::Current as i32 =>
                {
                    break;
                }
                _ => {}
            }
        }
        documents
    };
    assert_eq!(tokio::time::timeout(LIMIT, initial_state).await.unwrap(), 3);
    assert_eq!(proxy.control().counts().max_streams, 1);
}

#[tokio::test]
async fn a_dropped_proxy_takes_its_connections_along() {
    let database = DatabaseName::new("demo-proxy-drop", "(default)");
    let proxy = proxy().await;
    let mut client = client(&proxy.host());
    write_all(&mut client, &database, &numbered(&database, "a", 3)).await;
    drop(proxy);
    let refused = tokio::time::timeout(LIMIT, query(&mut client, run(&database, everything(), None))).await.unwrap();
    assert!(refused.is_err());
}

#[tokio::test]
async fn transfers_keep_the_sum_at_every_moment() {
    let database = DatabaseName::new("demo-transfers", "(default)");
    let host = emulator_host().await;
    let mut transfers = Transfers::start(host, &database, 100, 1_000_003).await.unwrap();
    let mut client = client(host);
    for wanted in [5, 20, 40] {
        tokio::time::timeout(LIMIT, transfers.wait_for(wanted)).await.unwrap();
        let at = server_time(&mut client, &database).await;
        let documents = query(&mut client, run(&database, everything(), Some(at))).await.unwrap();
        let balances = workload::sum(documents.iter().map(Message::encode_to_vec)).unwrap();
        assert_eq!(balances, workload::Balances { accounts: 100, total: 1_000_003 });
    }
    assert!(transfers.stop().await.unwrap() >= 40);
}

/// Queries that a replay server must answer as the emulator does.
fn queries(database: &DatabaseName, names: &[String]) -> Vec<StructuredQuery> {
    let cursor = |name: &str, before| {
        let values = vec![Value { value_type: Some(ValueType::ReferenceValue(name.to_owned())) }];
        Some(Cursor { values, before })
    };
    let keys = Projection { fields: vec![FieldReference { field_path: "__name__".to_owned() }] };
    let customers = database.document_name("customers/__id-9223372036854775808__");
    let group = |group: &str| StructuredQuery { from: from(group), ..everything() };
    vec![
        everything(),
        StructuredQuery { start_at: cursor(&names[7], true), ..everything() },
        StructuredQuery { start_at: cursor(&names[7], false), ..everything() },
        StructuredQuery { end_at: cursor(&names[31], true), ..everything() },
        StructuredQuery { end_at: cursor(&names[31], false), ..everything() },
        StructuredQuery { start_at: cursor(&names[7], false), end_at: cursor(&names[31], true), ..everything() },
        StructuredQuery { start_at: cursor(&names[31], true), end_at: cursor(&names[7], true), ..everything() },
        StructuredQuery { start_at: cursor(&customers, true), limit: Some(9), offset: 5, ..everything() },
        StructuredQuery { limit: Some(0), ..everything() },
        StructuredQuery { offset: 10_000, ..everything() },
        StructuredQuery { select: Some(keys.clone()), offset: 3, ..everything() },
        StructuredQuery { select: Some(keys), limit: Some(1), start_at: cursor(&names[12], false), ..everything() },
        group("orders"),
        group("customers"),
        group("none"),
        StructuredQuery { start_at: cursor(&names[15], true), limit: Some(20), offset: 2, ..group("orders") },
        StructuredQuery {
            from: vec![CollectionSelector { collection_id: "customers".to_owned(), all_descendants: false }],
            ..everything()
        },
    ]
}

async fn count(client: &mut Client, database: &DatabaseName, query: StructuredQuery) -> Value {
    try_count(client, database, query).await.unwrap()
}

async fn try_count(client: &mut Client, database: &DatabaseName, query: StructuredQuery) -> Result<Value, Status> {
    let aggregation = structured_aggregation_query::Aggregation {
        alias: "n".to_owned(),
        operator: Some(structured_aggregation_query::aggregation::Operator::Count(Default::default())),
    };
    let query = StructuredAggregationQuery {
        aggregations: vec![aggregation],
        query_type: Some(structured_aggregation_query::QueryType::StructuredQuery(query)),
    };
    let request = RunAggregationQueryRequest {
        parent: database.documents_root(),
        query_type: Some(run_aggregation_query_request::QueryType::StructuredAggregationQuery(query)),
        ..RunAggregationQueryRequest::default()
    };
    let mut answers = client.run_aggregation_query(owner(request)).await?.into_inner();
    Ok(answers.message().await?.unwrap().result.unwrap().aggregate_fields["n"].clone())
}

#[tokio::test]
async fn replay_answers_queries_and_counts_as_the_emulator_does() {
    let database = DatabaseName::new("demo-replay", "(default)");
    let raw: Vec<Bytes> = samples::documents(&database, 60, 600, 1).collect();
    let documents: Vec<Document> = raw.iter().map(|bytes| Document::decode(bytes.clone()).unwrap()).collect();
    let replay = Replay::start(raw).await.unwrap();
    let (mut emulator, mut replayed) = (client(emulator_host().await), client(&replay.host()));
    write_all(&mut emulator, &database, &documents).await;
    for query in queries(&database, &names(&documents)) {
        let request = run(&database, query.clone(), None);
        let expected = query_names(&mut emulator, request.clone()).await;
        assert_eq!(query_names(&mut replayed, request).await, expected, "{query:?}");
        let expected = count(&mut emulator, &database, query.clone()).await;
        assert_eq!(count(&mut replayed, &database, query.clone()).await, expected, "{query:?}");
    }
}

#[tokio::test]
async fn replay_sends_documents_as_they_were_given_and_keys_without_fields() {
    let database = DatabaseName::new("demo-replay-bytes", "(default)");
    let raw: Vec<Bytes> = samples::documents(&database, 500, 2000, 2).collect();
    let replay = Replay::start(raw.clone()).await.unwrap();
    let answers = raw_answers(&replay.host(), &run(&database, everything(), None)).await;
    let embedded: Vec<Bytes> = answers.iter().map(|answer| first_field(answer)).collect();
    assert_eq!(embedded, raw);

    let keys = Projection { fields: vec![FieldReference { field_path: "__name__".to_owned() }] };
    let keys_only = StructuredQuery { select: Some(keys), ..everything() };
    let mut client = client(&replay.host());
    let bare = query(&mut client, run(&database, keys_only, None)).await.unwrap();
    assert_eq!(bare.len(), 500);
    assert!(bare.iter().all(|document| document.fields.is_empty() && document.update_time.is_some()));
}

/// The bytes of a message's first field, which is length-delimited.
fn first_field(message: &[u8]) -> Bytes {
    match firebackup_model::wire::Fields::of(message).next().unwrap().unwrap().value {
        firebackup_model::wire::Value::Bytes(bytes) => Bytes::copy_from_slice(bytes),
        other => panic!("not a message: {other:?}"),
    }
}

#[tokio::test]
async fn replay_looks_documents_up_partitions_and_takes_writes() {
    let database = DatabaseName::new("demo-replay-rest", "(default)");
    let raw: Vec<Bytes> = samples::documents(&database, 100, 600, 3).collect();
    let documents: Vec<Document> = raw.iter().map(|bytes| Document::decode(bytes.clone()).unwrap()).collect();
    let replay = Replay::start(raw).await.unwrap();
    let mut client = client(&replay.host());
    assert_eq!(server_time(&mut client, &database).await, proto(replay.read_time()));

    let asked = vec![documents[42].name.clone(), database.document_name("no/one"), documents[0].name.clone()];
    let request = BatchGetDocumentsRequest { database: database.resource(), documents: asked, ..Default::default() };
    let answers = client.batch_get_documents(owner(request)).await.unwrap().into_inner();
    let results: Vec<_> = answers.map(|answer| answer.unwrap().result.unwrap()).collect().await;
    let found = |document: &Document| batch_get_documents_response::Result::Found(document.clone());
    let missing = batch_get_documents_response::Result::Missing(database.document_name("no/one"));
    assert_eq!(results, [found(&documents[42]), missing, found(&documents[0])]);

    let group = StructuredQuery { from: from("orders"), order_by: by_name(), ..StructuredQuery::default() };
    let answer = client.partition_query(owner(partition(&database, group, 2))).await.unwrap().into_inner();
    let orders: Vec<&Document> = documents.iter().filter(|document| document.name.contains("/orders/")).collect();
    assert_eq!(cursor_names(&answer.partitions), [&orders[30].name, &orders[60].name].map(Clone::clone));

    let answer = write(&mut client, &database, puts(&documents)).await.unwrap();
    assert!(answer.status.len() == 100 && answer.status.iter().all(|status| status.code == 0));
    assert_eq!((answer.write_results.len(), replay.writes()), (100, 100));
}

#[tokio::test]
async fn replay_refuses_documents_out_of_order() {
    let database = DatabaseName::new("demo-replay-order", "(default)");
    let mut raw: Vec<Bytes> = samples::documents(&database, 10, 600, 4).collect();
    raw.swap(3, 4);
    assert!(Replay::start(raw).await.unwrap_err().to_string().contains("document 4"));
    assert!(Replay::start([Bytes::from_static(&[0xff])]).await.unwrap_err().to_string().contains("document 0"));
}
