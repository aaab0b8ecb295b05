//! Whoever writes, and notes in the oracle what was committed when.

use std::collections::BTreeMap;
use std::sync::Arc;

use firebackup_codec::canonical::canonical;
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use gcloud_sdk::google::firestore::v1::get_document_request::ConsistencySelector;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::write::Operation;
use gcloud_sdk::google::firestore::v1::{
    BeginTransactionRequest, CommitRequest, Document, GetDocumentRequest, Value, Write,
};
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::oracle::Oracle;

/// What becomes of documents that are committed together.
#[derive(Debug, Clone, Default)]
pub struct Changes(BTreeMap<String, Option<Fields>>);

/// What a document holds.
#[derive(Debug, Clone, Copy)]
struct Fields {
    number: i64,
    padding: usize,
}

impl Changes {
    /// A document with a number in it.
    pub fn put(self, path: impl Into<String>, number: i64) -> Self {
        self.put_padded(path, number, 0)
    }

    /// The same with so many bytes more.
    pub fn put_padded(mut self, path: impl Into<String>, number: i64, padding: usize) -> Self {
        self.0.insert(path.into(), Some(Fields { number, padding }));
        self
    }

    pub fn delete(mut self, path: impl Into<String>) -> Self {
        self.0.insert(path.into(), None);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Clones write through one connection and into one oracle.
#[derive(Clone)]
pub struct Writer {
    client: FirestoreClient<Channel>,
    database: DatabaseName,
    oracle: Arc<Oracle>,
}

impl Writer {
    pub fn new(host: &str, database: &DatabaseName, oracle: Arc<Oracle>) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{host}")).unwrap().tcp_nodelay(true);
        Self { client: FirestoreClient::new(endpoint.connect_lazy()), database: database.clone(), oracle }
    }

    /// Commits changes together; says when that was.
    pub async fn commit(&mut self, changes: Changes) -> Timestamp {
        self.committed(changes, Vec::new()).await.expect("a commit without a condition")
    }

    /// Reads a document and commits changes in one transaction, as often as it takes.
    pub async fn transact(&mut self, read: &str, changes: Changes) -> Timestamp {
        for _ in 0..100 {
            let transaction = self.begin(read).await;
            if let Some(at) = self.committed(changes.clone(), transaction).await {
                return at;
            }
        }
        panic!("a transaction was aborted a hundred times");
    }

    async fn begin(&mut self, read: &str) -> Vec<u8> {
        let begin = BeginTransactionRequest { database: self.database.resource(), ..Default::default() };
        let transaction = self.client.begin_transaction(owner(begin)).await.unwrap().into_inner().transaction;
        let get = GetDocumentRequest {
            name: self.database.document_name(read),
            consistency_selector: Some(ConsistencySelector::Transaction(transaction.clone())),
            ..Default::default()
        };
        match self.client.get_document(owner(get)).await {
            Err(status) if status.code() != Code::NotFound => panic!("could not read `{read}`: {status}"),
            _ => transaction,
        }
    }

    /// Nothing when it was aborted.
    async fn committed(&mut self, Changes(changes): Changes, transaction: Vec<u8>) -> Option<Timestamp> {
        let documents =
            changes.into_iter().map(|(path, fields)| (fields.map(|fields| self.document(&path, fields)), path));
        let documents: Vec<_> = documents.collect();
        let writes = documents.iter().map(|(document, path)| self.write(path, document.clone())).collect();
        let request = CommitRequest { database: self.database.resource(), writes, transaction, ..Default::default() };
        let answer = match self.client.commit(owner(request)).await {
            Err(status) if status.code() == Code::Aborted => return None,
            answer => answer.unwrap().into_inner(),
        };
        let moment = |time: prost_types::Timestamp| Timestamp::new(time.seconds, time.nanos.cast_unsigned());
        let at = moment(answer.commit_time.unwrap());
        for ((document, path), result) in documents.into_iter().zip(answer.write_results) {
            let content = |document: Document| canonical(&document.encode_to_vec()).unwrap();
            let written = document.map(|document| (content(document), moment(result.update_time.unwrap())));
            self.oracle.note(DocumentPath::new(path).unwrap(), written, at);
        }
        Some(at)
    }

    fn write(&self, path: &str, document: Option<Document>) -> Write {
        let deletion = || Operation::Delete(self.database.document_name(path));
        Write { operation: Some(document.map_or_else(deletion, Operation::Update)), ..Write::default() }
    }

    /// Of several fields, so that their order shows.
    fn document(&self, path: &str, Fields { number, padding }: Fields) -> Document {
        let value = |value_type| Value { value_type: Some(value_type) };
        let fields = [
            (NUMBER.to_owned(), value(ValueType::IntegerValue(number))),
            ("text".to_owned(), value(ValueType::StringValue(format!("{path} {number}")))),
            ("bytes".to_owned(), value(ValueType::BytesValue(vec![number.to_le_bytes()[0]; padding]))),
        ];
        Document { name: self.database.document_name(path), fields: fields.into(), ..Document::default() }
    }
}

const NUMBER: &str = "number";

/// The number in a document that a [`Writer`] wrote.
pub fn number(document: &[u8]) -> i64 {
    let mut document = Document::decode(document).unwrap();
    match document.fields.remove(NUMBER).and_then(|value| value.value_type) {
        Some(ValueType::IntegerValue(number)) => number,
        other => panic!("{other:?} is no number"),
    }
}

/// The emulator lets this bearer past any security rules.
fn owner<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer owner"));
    request
}
