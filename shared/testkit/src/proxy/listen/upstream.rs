//! What the proxy itself reads of a database: its time, and documents as the bytes they are.

use bytes::Bytes;
use firebackup_model::{Timestamp, document};
use gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use gcloud_sdk::google::firestore::v1::run_aggregation_query_request as count_request;
use gcloud_sdk::google::firestore::v1::structured_aggregation_query::{self as aggregation, Aggregation};
use gcloud_sdk::google::firestore::v1::structured_query::CollectionSelector;
use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, RunAggregationQueryRequest, RunQueryRequest, StructuredAggregationQuery, StructuredQuery,
    batch_get_documents_request, run_query_request, value::ValueType,
};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::ledger::Name;

const RUN_QUERY: &str = "/google.firestore.v1.Firestore/RunQuery";
const BATCH_GET: &str = "/google.firestore.v1.Firestore/BatchGetDocuments";
/// Names a request: at 6 KiB each they stay below the 4 MiB that the emulator takes.
const NAMES_A_REQUEST: usize = 500;
const COUNT: &str = "n";

/// A document at a read time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DocumentState {
    pub name: Name,
    /// Its bytes as they came; nothing where there is none.
    pub document: Option<Bytes>,
    pub update_time: Option<Timestamp>,
}

/// `google.firestore.v1.BatchGetDocumentsResponse`.
#[derive(Clone, PartialEq, Message)]
struct Looked {
    #[prost(bytes = "bytes", optional, tag = "1")]
    found: Option<Bytes>,
    #[prost(string, optional, tag = "2")]
    missing: Option<String>,
}

/// `google.firestore.v1.RunQueryResponse`.
#[derive(Clone, PartialEq, Message)]
struct Queried {
    #[prost(bytes = "bytes", optional, tag = "1")]
    document: Option<Bytes>,
}

/// One database of the server behind the proxy.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    channel: Channel,
    /// `projects/<project>/databases/<database>`.
    database: String,
}

impl Upstream {
    pub(super) const fn new(channel: Channel, database: String) -> Self {
        Self { channel, database }
    }

    /// The server's time. What was committed before it is asked for, was so at or before it.
    pub(super) async fn time(&self) -> Result<Timestamp, Status> {
        let documents = vec![format!("{}/documents/none/none", self.database)];
        let request = BatchGetDocumentsRequest { database: self.database.clone(), documents, ..Default::default() };
        let mut answers = self.client().batch_get_documents(owner(request)).await?.into_inner();
        let read_time = answers.message().await?.and_then(|answer| answer.read_time);
        let read_time = read_time.ok_or_else(|| Status::internal("the upstream says no read time"))?;
        Ok(Timestamp::new(read_time.seconds, read_time.nanos.cast_unsigned()))
    }

    /// These documents as they were at `at`, in any order; without those whose names the server refuses, which name none.
    pub(super) async fn read(&self, names: &[Name], at: Timestamp) -> Result<Vec<DocumentState>, Status> {
        let mut states = Vec::with_capacity(names.len());
        for names in names.chunks(NAMES_A_REQUEST) {
            match self.read_together(names, at).await {
                Err(refused) if refused.code() == Code::InvalidArgument => {
                    states.extend(self.read_singly(names, at).await?);
                }
                read => states.extend(read?),
            }
        }
        Ok(states)
    }

    async fn read_singly(&self, names: &[Name], at: Timestamp) -> Result<Vec<DocumentState>, Status> {
        let mut states = Vec::with_capacity(names.len());
        for name in names {
            match self.read_together(std::slice::from_ref(name), at).await {
                Err(refused) if refused.code() == Code::InvalidArgument => {}
                read => states.extend(read?),
            }
        }
        Ok(states)
    }

    async fn read_together(&self, names: &[Name], at: Timestamp) -> Result<Vec<DocumentState>, Status> {
        let request = BatchGetDocumentsRequest {
            database: self.database.clone(),
            documents: names.iter().map(ToString::to_string).collect(),
            consistency_selector: Some(batch_get_documents_request::ConsistencySelector::ReadTime(proto(at))),
            ..Default::default()
        };
        let mut answers: Streaming<Looked> = self.stream(request, BATCH_GET).await?;
        let mut states = Vec::with_capacity(names.len());
        while let Some(answer) = answers.message().await? {
            states.extend(state(answer)?);
        }
        Ok(states)
    }

    /// The documents of a collection group as they were at `at`, unsorted.
    pub(super) async fn group(&self, group: &str, at: Timestamp) -> Result<Vec<Bytes>, Status> {
        let request = RunQueryRequest {
            parent: self.root(),
            query_type: Some(run_query_request::QueryType::StructuredQuery(of_group(group))),
            consistency_selector: Some(run_query_request::ConsistencySelector::ReadTime(proto(at))),
            ..Default::default()
        };
        let mut answers: Streaming<Queried> = self.stream(request, RUN_QUERY).await?;
        let mut documents = Vec::new();
        while let Some(answer) = answers.message().await? {
            documents.extend(answer.document);
        }
        Ok(documents)
    }

    /// How many documents the collection group held at `at`.
    pub(super) async fn count(&self, group: &str, at: Timestamp) -> Result<i32, Status> {
        let operator = Some(aggregation::aggregation::Operator::Count(aggregation::aggregation::Count::default()));
        let query = StructuredAggregationQuery {
            aggregations: vec![Aggregation { alias: COUNT.to_owned(), operator }],
            query_type: Some(aggregation::QueryType::StructuredQuery(of_group(group))),
        };
        let request = RunAggregationQueryRequest {
            parent: self.root(),
            query_type: Some(count_request::QueryType::StructuredAggregationQuery(query)),
            consistency_selector: Some(count_request::ConsistencySelector::ReadTime(proto(at))),
            ..Default::default()
        };
        let mut answers = self.client().run_aggregation_query(owner(request)).await?.into_inner();
        let mut result = answers.message().await?.and_then(|answer| answer.result);
        match result.as_mut().and_then(|result| result.aggregate_fields.remove(COUNT)?.value_type) {
            Some(ValueType::IntegerValue(count)) => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
            _ => Err(Status::internal("the upstream does not count")),
        }
    }

    fn root(&self) -> String {
        format!("{}/documents", self.database)
    }

    fn client(&self) -> FirestoreClient<Channel> {
        FirestoreClient::new(self.channel.clone())
    }

    async fn stream<Q, A>(&self, request: Q, path: &'static str) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|error| Status::unavailable(format!("the upstream is not ready: {error}")))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.server_streaming(owner(request), PathAndQuery::from_static(path), codec).await?;
        Ok(answer.into_inner())
    }
}

/// What a collection group holds, with all its (sub)collections.
fn of_group(group: &str) -> StructuredQuery {
    let from = vec![CollectionSelector { collection_id: group.to_owned(), all_descendants: true }];
    StructuredQuery { from, ..StructuredQuery::default() }
}

/// Nothing where the answer is about no document.
fn state(answer: Looked) -> Result<Option<DocumentState>, Status> {
    let Some(bytes) = answer.found else {
        return Ok(answer.missing.map(|name| DocumentState { name: name.into(), document: None, update_time: None }));
    };
    let head = document::head(&bytes)
        .map_err(|error| Status::internal(format!("the upstream's answer holds no document: {error}")))?;
    let (name, update_time) = (head.name.into(), head.update_time);
    Ok(Some(DocumentState { name, document: Some(bytes), update_time }))
}

pub(super) fn proto(moment: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: moment.seconds, nanos: moment.nanos.cast_signed() }
}

/// The emulator lets this bearer past any security rules.
fn owner<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer owner"));
    request
}
