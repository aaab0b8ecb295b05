//! The Firestore adapter against the real emulator. Where none can be started, these tests fail.

mod changes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use firebackup_embedded::emulator::Emulator;
use firebackup_google::corpus::corpus;
use firebackup_google::proto::{CmekConfig, Database, ListDatabasesResponse};
use firebackup_google::sample::sample;
use firebackup_google::{
    Access, Collections, DatabaseEdition, DatabaseFacts, DatabaseType, Firestore, FirestoreOptions,
};
use firebackup_model::document::{self, FIELDS_FIELD, NAME_FIELD, RawDocument};
use firebackup_model::error::ErrorKind;
use firebackup_model::port::{DocumentSink, DocumentSource, MAX_BATCH_BYTES, Precondition, Write};
use firebackup_model::range::{PathRange, RangeStart};
use firebackup_model::wire::{Fields, Value, put_bytes_field};
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use firebackup_testkit::{Method, Proxy, ProxyOptions};
use futures::{StreamExt, TryStreamExt};
use gcloud_sdk::google::firestore::v1 as google;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tonic::Code;

/// One emulator for all tests, each in a project of its own; it ends with this process.
static EMULATOR: OnceCell<Emulator> = OnceCell::const_new();

async fn host() -> String {
    let emulator = EMULATOR.get_or_init(|| async { Emulator::start().await.expect("the emulator starts") });
    emulator.await.host().to_owned()
}

async fn database(project: &str, database: &str) -> Firestore {
    connect(&host().await, DatabaseName::new(project, database)).await
}

async fn connect(host: &str, database: DatabaseName) -> Firestore {
    let access = Access::Emulator { host: host.to_owned() };
    Firestore::connect(FirestoreOptions { database, access }).await.expect("the emulator answers")
}

fn name(firestore: &Firestore) -> DatabaseName {
    DocumentSource::database(firestore).clone()
}

fn path(text: &str) -> DocumentPath {
    DocumentPath::new(text).unwrap()
}

/// A document with one number in it.
fn numbered(database: &DatabaseName, path: &str, number: i64) -> Bytes {
    let value = google::Value { value_type: Some(google::value::ValueType::IntegerValue(number)) };
    let fields = [("n".to_owned(), value)].into();
    google::Document { name: database.document_name(path), fields, ..Default::default() }.encode_to_vec().into()
}

fn put(firestore: &Firestore, to: &str, number: i64, precondition: Precondition) -> Write {
    Write { path: path(to), document: Some(numbered(&name(firestore), to, number)), precondition }
}

/// Writes everything, in batches of what a request may hold.
async fn write_all(firestore: &Firestore, documents: impl IntoIterator<Item = (DocumentPath, Bytes)>) {
    let mut batch = Vec::new();
    let mut length = 0;
    for (path, bytes) in documents {
        if batch.len() == 400 || length + bytes.len() > MAX_BATCH_BYTES / 2 {
            write_batch(firestore, std::mem::take(&mut batch)).await;
            length = 0;
        }
        length += bytes.len();
        batch.push(Write { path, document: Some(bytes), precondition: Precondition::None });
    }
    write_batch(firestore, batch).await;
}

async fn write_batch(firestore: &Firestore, batch: Vec<Write>) {
    let paths: Vec<_> = batch.iter().map(|write| write.path.clone()).collect();
    let outcomes = firestore.write(batch).await.expect("the batch is taken");
    for (path, outcome) in paths.iter().zip(outcomes) {
        outcome.unwrap_or_else(|error| panic!("{path:?}: {error}"));
    }
}

async fn read(firestore: &Firestore, range: &PathRange, at: Timestamp) -> Vec<RawDocument> {
    firestore.stream(range, at, None).await.unwrap().try_collect().await.unwrap()
}

async fn read_now(firestore: &Firestore, range: &PathRange) -> Vec<RawDocument> {
    read(firestore, range, firestore.snapshot_time().await.unwrap()).await
}

fn path_of(firestore: &Firestore, document: &RawDocument) -> DocumentPath {
    name(firestore).path_of(document.head().unwrap().name).unwrap()
}

fn paths_of(firestore: &Firestore, documents: &[RawDocument]) -> Vec<DocumentPath> {
    documents.iter().map(|document| path_of(firestore, document)).collect()
}

/// The fields of a document as they stand on the wire, without its name and times.
fn raw_fields(document: &[u8]) -> Vec<u8> {
    let (mut fields, mut out) = (Fields::of(document), Vec::new());
    while let Some(field) = fields.next().unwrap() {
        if field.number == FIELDS_FIELD {
            out.extend_from_slice(field.raw);
        }
    }
    out
}

/// The same document for another database: only the name is another, everything else is copied as it stands.
fn renamed(document: &[u8], new_name: &str) -> Bytes {
    let (mut fields, mut out) = (Fields::of(document), Vec::new());
    while let Some(field) = fields.next().unwrap() {
        match (field.number, field.value) {
            (NAME_FIELD, Value::Bytes(_)) => put_bytes_field(&mut out, NAME_FIELD, new_name.as_bytes()),
            _ => out.extend_from_slice(field.raw),
        }
    }
    out.into()
}

/// A value with every bit of it, whatever the order of its maps.
fn shown(value: &google::Value) -> String {
    use google::value::ValueType;
    match value.value_type.as_ref().expect("a value") {
        ValueType::DoubleValue(number) => format!("double {:016x}", number.to_bits()),
        ValueType::GeoPointValue(point) => {
            format!("point {:016x} {:016x}", point.latitude.to_bits(), point.longitude.to_bits())
        }
        ValueType::MapValue(map) => shown_fields(&map.fields),
        ValueType::ArrayValue(array) => format!("[{}]", array.values.iter().map(shown).collect::<Vec<_>>().join(",")),
        other => format!("{other:?}"),
    }
}

fn shown_fields<'a>(fields: impl IntoIterator<Item = (&'a String, &'a google::Value)>) -> String {
    let sorted: BTreeMap<_, _> = fields.into_iter().map(|(key, value)| (key, shown(value))).collect();
    format!("{sorted:?}")
}

fn shown_document(bytes: &[u8]) -> String {
    shown_fields(&google::Document::decode(bytes).unwrap().fields)
}

#[tokio::test]
async fn the_corpus_comes_back_in_order_and_whole() {
    let firestore = database("corpus", "(default)").await;
    let mut written = corpus(&name(&firestore));
    write_all(&firestore, written.clone()).await;
    written.sort_by(|a, b| a.0.cmp(&b.0));
    let read = read_now(&firestore, &PathRange::everything()).await;
    let expected: Vec<_> = written.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths_of(&firestore, &read), expected);
    for ((path, bytes), document) in written.iter().zip(&read) {
        assert_eq!(shown_document(&document.0), shown_document(bytes), "{path:?}");
        assert!(document.head().unwrap().update_time.is_some(), "{path:?}");
    }
}

#[tokio::test]
async fn what_was_read_is_written_byte_for_byte() {
    let source = database("copied", "(default)").await;
    let target = database("copied", "copy").await;
    write_all(&source, corpus(&name(&source))).await;
    let read = read_now(&source, &PathRange::everything()).await;
    let copies = read.iter().map(|document| {
        let path = path_of(&source, document);
        let bytes = renamed(&document.0, &name(&target).document_name(path.as_str()));
        (path, bytes)
    });
    write_all(&target, copies).await;
    let copied = read_now(&target, &PathRange::everything()).await;
    assert_eq!(paths_of(&source, &read), paths_of(&target, &copied));
    for (before, after) in read.iter().zip(&copied) {
        assert_eq!(raw_fields(&before.0), raw_fields(&after.0), "{:?}", path_of(&source, before));
    }
}

#[tokio::test]
async fn a_range_of_a_collection_holds_it_and_all_below_and_nothing_else() {
    let firestore = database("collections", "(default)").await;
    let documents: Vec<_> =
        corpus(&name(&firestore)).into_iter().filter(|(path, _)| !path.as_str().starts_with("values/large")).collect();
    write_all(&firestore, documents.clone()).await;
    let mut paths: Vec<_> = documents.into_iter().map(|(path, _)| path).collect();
    paths.sort();
    let mut collections: BTreeSet<String> = paths.iter().map(|path| path.collection().to_owned()).collect();
    collections.extend(["nothing".to_owned(), "sa".to_owned(), "phantoms/ghost/children/none/toys".to_owned()]);
    let at = firestore.snapshot_time().await.unwrap();
    for collection in collections {
        let range = PathRange::collection(&collection).unwrap_or_else(|error| panic!("{collection}: {error}"));
        let read = paths_of(&firestore, &read(&firestore, &range, at).await);
        let below = format!("{collection}/");
        let expected: Vec<_> = paths.iter().filter(|path| path.as_str().starts_with(&below)).cloned().collect();
        assert_eq!(read, expected, "{collection}");
        assert_eq!(firestore.count(&range, at).await.unwrap(), expected.len() as u64, "{collection}");
    }
}

#[tokio::test]
async fn a_stream_resumes_behind_any_document() {
    let firestore = database("resumed", "(default)").await;
    write_all(&firestore, corpus(&name(&firestore)).into_iter().filter(|(path, _)| is_small(path))).await;
    let at = firestore.snapshot_time().await.unwrap();
    let paths = paths_of(&firestore, &read(&firestore, &PathRange::everything(), at).await);
    for index in (0..paths.len()).step_by(7).chain([paths.len() - 1]) {
        let rest = PathRange::everything().behind(paths[index].clone());
        assert_eq!(paths_of(&firestore, &read(&firestore, &rest, at).await), paths[index + 1..], "{index}");
        let from = PathRange { start: RangeStart::At(paths[index].clone()), end: None };
        assert_eq!(paths_of(&firestore, &read(&firestore, &from, at).await), paths[index..], "{index}");
        let until = PathRange { start: RangeStart::Beginning, end: Some(paths[index].clone()) };
        assert_eq!(paths_of(&firestore, &read(&firestore, &until, at).await), paths[..index], "{index}");
    }
}

#[tokio::test]
async fn where_all_collections_together_are_not_counted_their_names_are() {
    let proxy = Proxy::start(&host().await, ProxyOptions::default()).await.unwrap();
    let control = proxy.control();
    let refusals = [Code::InvalidArgument, Code::Unimplemented, Code::FailedPrecondition];
    for (number, code) in refusals.into_iter().enumerate() {
        let firestore = connect(&proxy.host(), DatabaseName::new(format!("names-{number}"), "(default)")).await;
        let paths: Vec<String> = (0..30).map(|n| format!("c{}/d{n:02}/below/x", n % 3)).collect();
        write_all(&firestore, paths.iter().map(|at| (path(at), numbered(&name(&firestore), at, 1)))).await;
        let at = firestore.snapshot_time().await.unwrap();
        control.refuse_kindless_counts(None);
        assert_eq!(firestore.count_surely(&PathRange::everything(), at).await.unwrap(), 30);
        assert!(!firestore.counts_by_reading());
        control.refuse_kindless_counts(Some(code));
        control.reset_counts();
        // a stream that breaks is gone on with
        control.cut_streams_after(12, 2);
        assert_eq!(firestore.count_surely(&PathRange::everything(), at).await.unwrap(), 30);
        assert_eq!(control.counts().injected, 2);
        assert!(firestore.counts_by_reading() && firestore.clone().counts_by_reading());
        let middle = path("c1/d07/below/x");
        let behind = PathRange::everything().behind(middle.clone());
        let before = PathRange { start: RangeStart::Beginning, end: Some(middle) };
        let mut sum = 1;
        for range in [behind, before] {
            sum += firestore.count_surely(&range, at).await.unwrap();
        }
        assert_eq!(sum, 30);
        assert_eq!(firestore.count_surely(&PathRange::collection("c2").unwrap(), at).await.unwrap(), 10);
        assert_eq!(control.counts().requests_of(Method::RunAggregationQuery), 1, "it is asked once");
        assert!(firestore.count(&PathRange::everything(), at).await.is_err(), "whoever wants a cheap count is told");
    }
}

#[tokio::test]
async fn a_request_that_is_wrong_in_itself_says_nothing_of_counts() {
    let proxy = Proxy::start(&host().await, ProxyOptions::default()).await.unwrap();
    let firestore = connect(&proxy.host(), DatabaseName::new("names-wrong", "(default)")).await;
    let at = firestore.snapshot_time().await.unwrap();
    proxy.control().fail_next(Method::RunAggregationQuery, Code::InvalidArgument, 1);
    proxy.control().fail_next(Method::RunQuery, Code::InvalidArgument, 1);
    let error = firestore.count_surely(&PathRange::everything(), at).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(!firestore.counts_by_reading());
    // what passes is no refusal
    proxy.control().fail_next(Method::RunAggregationQuery, Code::Unavailable, 1);
    assert!(firestore.count_surely(&PathRange::everything(), at).await.is_err());
    assert!(!firestore.counts_by_reading());
}

fn is_small(path: &DocumentPath) -> bool {
    path.collection() != "values"
}

#[tokio::test]
async fn a_read_time_shows_the_database_as_it_was() {
    let firestore = database("times", "(default)").await;
    let write = |to: &str, number| put(&firestore, to, number, Precondition::None);
    write_batch(&firestore, vec![write("a/changed", 1), write("a/deleted", 1)]).await;
    let before = firestore.snapshot_time().await.unwrap();
    let delete = Write { path: path("a/deleted"), document: None, precondition: Precondition::None };
    write_batch(&firestore, vec![write("a/changed", 2), delete, write("a/new", 1)]).await;
    let after = firestore.snapshot_time().await.unwrap();
    assert!(after > before);
    let check = async |at, expected: &[(&str, i64)]| {
        let read = read(&firestore, &PathRange::everything(), at).await;
        let expected: Vec<_> =
            expected.iter().map(|(to, n)| (path(to), shown_document(&numbered(&name(&firestore), to, *n)))).collect();
        let read: Vec<_> =
            read.iter().map(|document| (path_of(&firestore, document), shown_document(&document.0))).collect();
        assert_eq!(read, expected);
        assert_eq!(firestore.count(&PathRange::everything(), at).await.unwrap(), expected.len() as u64);
    };
    check(before, &[("a/changed", 1), ("a/deleted", 1)]).await;
    check(after, &[("a/changed", 2), ("a/new", 1)]).await;
    let got = firestore.get(&[path("a/deleted"), path("a/new")], Some(before)).await.unwrap();
    assert!(got[0].is_some() && got[1].is_none());
}

#[tokio::test]
async fn preconditions_hold_write_by_write() {
    let firestore = database("conditions", "(default)").await;
    let write = async |to: &str, number, precondition| {
        firestore.write(vec![put(&firestore, to, number, precondition)]).await.unwrap().remove(0)
    };
    let first = write("a/b", 1, Precondition::Absent).await.unwrap();
    let batch = vec![put(&firestore, "a/b", 2, Precondition::Absent), put(&firestore, "a/c", 2, Precondition::Absent)];
    let outcomes = firestore.write(batch).await.unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap_err().kind, ErrorKind::AlreadyExists);
    assert!(outcomes[1].is_ok());
    let second = write("a/b", 3, Precondition::UpdatedAt(first)).await.unwrap();
    assert!(second > first);
    let stale = write("a/b", 4, Precondition::UpdatedAt(first)).await.unwrap_err();
    assert_eq!(stale.kind, ErrorKind::FailedPrecondition);
    let document = firestore.get(&[path("a/b")], None).await.unwrap().remove(0).unwrap();
    assert_eq!(document.head().unwrap().update_time, Some(second));
    assert_eq!(shown_document(&document.0), shown_document(&numbered(&name(&firestore), "a/b", 3)));
    let delete = Write { path: path("a/b"), document: None, precondition: Precondition::UpdatedAt(second) };
    write_batch(&firestore, vec![delete]).await;
    assert_eq!(firestore.get(&[path("a/b")], None).await.unwrap(), [None]);
}

#[tokio::test]
async fn databases_of_a_project_are_apart() {
    let (first, second) = (database("two", "(default)").await, database("two", "second").await);
    write_batch(&first, vec![put(&first, "a/first", 1, Precondition::None)]).await;
    write_batch(&second, vec![put(&second, "a/second", 2, Precondition::None)]).await;
    assert_eq!(paths_of(&first, &read_now(&first, &PathRange::everything()).await), [path("a/first")]);
    assert_eq!(paths_of(&second, &read_now(&second, &PathRange::everything()).await), [path("a/second")]);
    let foreign = Write {
        document: put(&first, "a/b", 1, Precondition::None).document,
        ..put(&second, "a/b", 1, Precondition::None)
    };
    assert_eq!(second.write(vec![foreign]).await.unwrap_err().kind, ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn documents_are_got_in_the_order_asked() {
    let firestore = database("got", "(default)").await;
    write_all(
        &firestore,
        (0..700).map(|n| (path(&format!("a/{n}")), numbered(&name(&firestore), &format!("a/{n}"), n))),
    )
    .await;
    let asked: Vec<_> = (0..900).rev().chain([5, 5]).map(|n| path(&format!("a/{n}"))).collect();
    let got = firestore.get(&asked, None).await.unwrap();
    assert_eq!(got.len(), asked.len());
    for (path, document) in asked.iter().zip(&got) {
        let number: i64 = path.id().parse().unwrap();
        assert_eq!(document.is_some(), number < 700, "{path}");
        assert!(document.as_ref().is_none_or(|document| path_of(&firestore, document) == *path));
    }
    assert_eq!(firestore.get(&[], None).await.unwrap(), []);
}

#[tokio::test]
async fn cut_points_tile_a_range_into_even_parts() {
    let firestore = database("cut", "(default)").await.with_split_threshold(1000);
    write_all(&firestore, sample(&name(&firestore), 3000, 1)).await;
    let at = firestore.snapshot_time().await.unwrap();
    let everything = PathRange::everything();
    let users = PathRange::collection("users").unwrap();
    let tail = everything.behind(path("events/8"));
    for range in [everything, users, tail] {
        let total = firestore.count(&range, at).await.unwrap();
        let points = firestore.split_points(&range, 6, at).await.unwrap();
        assert_eq!(points.len(), 6, "{range}");
        let parts = range.cut(&points);
        assert_eq!(parts.len(), 7);
        let mut sum = 0;
        for part in &parts {
            let count = firestore.count(part, at).await.unwrap();
            assert!(count.abs_diff(total / 7) <= 1, "{part}: {count} of {total}");
            sum += count;
        }
        assert_eq!(sum, total);
    }
}

#[tokio::test]
async fn small_ranges_are_not_cut() {
    let firestore = database("uncut", "(default)").await;
    write_all(&firestore, sample(&name(&firestore), 400, 1)).await;
    let at = firestore.snapshot_time().await.unwrap();
    assert_eq!(firestore.split_points(&PathRange::everything(), 4, at).await.unwrap(), []);
    let firestore = firestore.with_split_threshold(100);
    assert_eq!(firestore.split_points(&PathRange::everything(), 4, at).await.unwrap().len(), 4);
    assert_eq!(firestore.split_points(&PathRange::everything(), 0, at).await.unwrap(), []);
    assert_eq!(firestore.split_points(&PathRange::collection("none").unwrap(), 4, at).await.unwrap(), []);
    let more_than_documents = firestore.split_points(&PathRange::everything(), 1000, at).await.unwrap();
    assert_eq!(more_than_documents.len(), 399);
    assert!(more_than_documents.is_sorted());
}

#[tokio::test]
async fn a_limit_bounds_a_stream() {
    let firestore = database("limited", "(default)").await;
    write_all(&firestore, sample(&name(&firestore), 100, 1)).await;
    let at = firestore.snapshot_time().await.unwrap();
    let all = read(&firestore, &PathRange::everything(), at).await;
    for limit in [0, 1, 99, 100, 101, u32::MAX] {
        let stream = firestore.stream(&PathRange::everything(), at, Some(limit)).await.unwrap();
        let read: Vec<_> = stream.try_collect().await.unwrap();
        assert_eq!(read, all[..all.len().min(limit as usize)], "{limit}");
    }
}

#[tokio::test]
async fn whether_it_may_write_is_found_out_without_writing() {
    let firestore = database("probed", "(default)").await;
    firestore.can_write().await.unwrap();
    assert_eq!(read_now(&firestore, &PathRange::everything()).await, []);
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_never_sent() {
    let firestore = database("refused", "(default)").await;
    let batch = (0..501).map(|n| put(&firestore, &format!("a/{n}"), n, Precondition::None)).collect();
    assert_eq!(firestore.write(batch).await.unwrap_err().kind, ErrorKind::InvalidArgument);
    assert_eq!(read_now(&firestore, &PathRange::everything()).await, []);
    assert_eq!(firestore.write(Vec::new()).await.unwrap().len(), 0);
}

/// Forwards one connection to the emulator, and drops it once so many bytes have come from there.
async fn cutting_proxy(emulator: String, bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(emulator).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        let (mut left, mut buffer) = (bytes, vec![0; 16 * 1024]);
        while left > 0 {
            let most = left.min(buffer.len());
            let length = from_server.read(&mut buffer[..most]).await.unwrap();
            to_client.write_all(&buffer[..length]).await.unwrap();
            left -= length;
        }
        up.abort();
    });
    host
}

#[tokio::test]
async fn a_stream_that_is_cut_ends_with_an_error_and_can_be_resumed() {
    let firestore = database("torn", "(default)").await;
    write_all(&firestore, sample(&name(&firestore), 2000, 3)).await;
    let at = firestore.snapshot_time().await.unwrap();
    let all = paths_of(&firestore, &read(&firestore, &PathRange::everything(), at).await);
    let torn = connect(&cutting_proxy(host().await, 700_000).await, name(&firestore)).await;
    let mut stream = torn.stream(&PathRange::everything(), at, None).await.unwrap();
    let mut read_first = Vec::new();
    let error = loop {
        match stream.next().await.expect("an error comes before the end") {
            Ok(document) => read_first.push(path_of(&torn, &document)),
            Err(error) => break error,
        }
    };
    assert!(error.can_be_retried(), "{error:?}");
    assert!(std::error::Error::source(&error).is_some());
    assert!(stream.next().await.is_none());
    assert!(read_first.len() > 100 && read_first.len() < all.len(), "{}", read_first.len());
    let rest = PathRange::everything().behind(read_first.last().unwrap().clone());
    read_first.extend(paths_of(&firestore, &read(&firestore, &rest, at).await));
    assert_eq!(read_first, all);
}

#[tokio::test]
async fn a_read_time_in_the_future_is_an_error_and_no_empty_stream() {
    let firestore = database("future", "(default)").await;
    let at = firestore.snapshot_time().await.unwrap().plus_seconds(3600);
    let outcome = match firestore.stream(&PathRange::everything(), at, None).await {
        Ok(stream) => stream.try_collect::<Vec<_>>().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert_eq!(outcome.unwrap_err().kind, ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_read_time_that_is_too_old_is_told_from_other_errors() {
    let firestore = database("past", "(default)").await;
    let error = firestore.count(&PathRange::everything(), Timestamp::new(1000, 0)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ReadTimeTooOld);
    let error = firestore.split_points(&PathRange::everything(), 3, Timestamp::new(1000, 0)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ReadTimeTooOld);
}

#[tokio::test]
async fn fields_that_nobody_knows_yet_do_not_stop_a_write() {
    let firestore = database("unknown", "(default)").await;
    let mut bytes = numbered(&name(&firestore), "a/b", 1).to_vec();
    put_bytes_field(&mut bytes, 4711, b"from the future");
    let write = Write { path: path("a/b"), document: Some(bytes.into()), precondition: Precondition::None };
    write_batch(&firestore, vec![write]).await;
    let read = read_now(&firestore, &PathRange::everything()).await;
    assert_eq!(document::head(&read[0].0).unwrap().name, name(&firestore).document_name("a/b"));
}

#[tokio::test]
async fn collections_at_the_root_are_listed_and_counted() {
    let firestore = database("collections", "(default)").await;
    let mut paths: Vec<String> = (0..7).map(|number| format!("users/{number}")).collect();
    paths.extend(["users/0/orders/1", "users/1/orders/1", "orders/1", "phantoms/ghost/children/1"].map(str::to_owned));
    let name = name(&firestore);
    write_all(&firestore, paths.iter().map(|at| (path(at), numbered(&name, at, 1)))).await;
    let at = firestore.snapshot_time().await.unwrap();
    let found = firestore.collections(at, Duration::from_secs(30)).await.unwrap();
    let counted: Vec<_> = found.collections.iter().map(|one| (one.id.as_str(), one.documents, one.at_least)).collect();
    let expected = [("orders", Some(1), false), ("phantoms", Some(0), false), ("users", Some(7), false)];
    assert_eq!((counted.as_slice(), found.is_cut), (&expected[..], false));
    let hurried = firestore.collections(at, Duration::ZERO).await.unwrap();
    assert!(hurried.collections.iter().all(|one| one.documents.is_none()), "there was no time: {hurried:?}");
    assert_eq!(hurried.collections.len(), 3);
    let empty = database("no-collections", "(default)").await;
    assert_eq!(empty.collections(at, Duration::from_secs(30)).await.unwrap(), Collections::default());
}

#[tokio::test]
async fn more_collections_than_a_listing_holds_are_cut() {
    let firestore = database("many-collections", "(default)").await;
    let name = name(&firestore);
    let paths: Vec<String> = (0..1003).map(|number| format!("c{number:04}/d")).collect();
    write_all(&firestore, paths.iter().map(|at| (path(at), numbered(&name, at, 1)))).await;
    let at = firestore.snapshot_time().await.unwrap();
    let found = firestore.collections(at, Duration::from_secs(5)).await.unwrap();
    assert_eq!((found.collections.len(), found.is_cut), (1000, true));
}

/// The emulator cannot list databases: a proxy in front of it says what Google would.
#[tokio::test]
async fn databases_are_told_with_how_they_are_set_up() {
    let proxy = Proxy::start(&host().await, ProxyOptions::default()).await.unwrap();
    let firestore = connect(&proxy.host(), DatabaseName::new("databases", "(default)")).await;
    assert_eq!(firestore.databases().await.unwrap_err().kind, ErrorKind::Unimplemented);
    let named = |id: &str| Database { name: format!("projects/123/databases/{id}"), ..Database::default() };
    let databases = vec![
        Database {
            location_id: "nam5".to_owned(),
            database_type: 1,
            point_in_time_recovery: 2,
            delete_protection: 2,
            cmek: Some(CmekConfig { kms_key_name: "projects/p/key".to_owned() }),
            edition: 2,
            realtime_updates: 2,
            firestore_data_access: 2,
            mongodb_data_access: 1,
            ..named("shop")
        },
        Database { database_type: 2, edition: 1, point_in_time_recovery: 1, delete_protection: 1, ..named("old") },
        Database { database_type: 99, edition: -1, ..named("(default)") },
        named("a/b"),
        Database::default(),
    ];
    proxy.control().set_databases(Some(ListDatabasesResponse { databases }.encode_to_vec().into()));
    let found = firestore.databases().await.unwrap();
    let ids: Vec<&str> = found.iter().map(|facts| facts.id.as_str()).collect();
    assert_eq!(ids, ["(default)", "old", "shop"], "what has no name is none");
    let (unsaid, old, shop) = (&found[0], &found[1], &found[2]);
    assert_eq!((unsaid.database_type, unsaid.edition, unsaid.firestore_access), (None, None, None));
    assert_eq!((old.database_type, old.edition), (Some(DatabaseType::Datastore), Some(DatabaseEdition::Standard)));
    assert_eq!((old.point_in_time_recovery, old.delete_protection), (Some(true), Some(false)));
    let expected = DatabaseFacts {
        id: "shop".to_owned(),
        location: Some("nam5".to_owned()),
        database_type: Some(DatabaseType::Native),
        edition: Some(DatabaseEdition::Enterprise),
        point_in_time_recovery: Some(false),
        delete_protection: Some(true),
        kms_key: Some("projects/p/key".to_owned()),
        firestore_access: Some(false),
        realtime_updates: Some(false),
        mongodb_access: Some(true),
    };
    assert_eq!(*shop, expected);
}
