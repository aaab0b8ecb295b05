//! A server that answers queries from memory, as fast as the loopback interface carries them.
//!
//! The emulator is the slowest part of whatever is measured on it. This server holds its answers ready made, framing
//! included: a range of documents is one slice of memory, sent as it lies there. It knows what a backup asks for:
//!
//! - `RunQuery` over a parent or a collection (group), by name: cursors, offset, limit, keys only;
//! - `RunAggregationQuery` that counts, `PartitionQuery`, `BatchGetDocuments`;
//! - `BatchWrite` and `Commit`, which succeed, are counted and forgotten.
//!
//! It lives at one moment: [`Replay::read_time`], which every answer states whatever read time was asked for.
//! Everything else is `UNIMPLEMENTED`.

mod answer;
mod documents;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use firebackup_model::Timestamp;
use firebackup_model::document::DocumentError;
use firebackup_model::wire::{Fields, Value};
use gcloud_sdk::google::firestore::v1::{
    AggregationResult, BatchGetDocumentsRequest, PartitionQueryRequest, RunAggregationQueryRequest,
    RunAggregationQueryResponse, RunQueryRequest, StructuredAggregationQuery, StructuredQuery, Value as FieldValue,
    WriteResult, run_aggregation_query_request, run_query_request, structured_aggregation_query,
    structured_aggregation_query::aggregation::Operator, value::ValueType,
};
use gcloud_sdk::google::firestore::v1::{BatchWriteResponse, CommitResponse};
use gcloud_sdk::google::rpc;
use prost::Message;
use tonic::body::Body;
use tonic::codec::Streaming;
use tonic::{Code, Status};

use crate::bytes_codec::BytesCodec;
use crate::grpc_server::GrpcServer;
use crate::method::Method;
use crate::proxy::partition;
use documents::{Documents, Selected};

const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// Why a replay server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// No port could be bound.
    #[error("could not start the replay server")]
    Bind(#[source] io::Error),
    /// What was given is no document.
    #[error("could not take document {index} to replay")]
    Document {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// The documents do not ascend by path.
    #[error("could not take document {index} to replay: it does not stand behind the one before it")]
    Unsorted {
        /// Which one, from 0.
        index: usize,
    },
}

/// A running replay server; it ends when this is dropped.
#[derive(Debug)]
pub struct Replay {
    server: GrpcServer,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    documents: Documents,
    read_time: Timestamp,
    writes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Replay {
    /// Starts a server that holds `documents` (`google.firestore.v1.Document`, of one database, sorted by path).
    ///
    /// # Errors
    /// When they are not that, or no port can be bound.
    pub async fn start(documents: impl IntoIterator<Item = Bytes>) -> Result<Self, ReplayError> {
        let read_time = now();
        let documents = Documents::collect(documents, read_time)?;
        let state =
            Arc::new(State { documents, read_time, writes: AtomicU64::new(0), written_bytes: AtomicU64::new(0) });
        let handler_state = Arc::clone(&state);
        let server = GrpcServer::start(move |request| answer(Arc::clone(&handler_state), request)).await;
        Ok(Self { server: server.map_err(ReplayError::Bind)?, state })
    }

    /// Where it listens, as `127.0.0.1:<port>`.
    #[must_use]
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// The moment at which its documents are.
    #[must_use]
    pub fn read_time(&self) -> Timestamp {
        self.state.read_time
    }

    /// How many writes it has taken.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state.writes.load(Ordering::Relaxed)
    }

    /// How many bytes the requests had that brought them.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.state.written_bytes.load(Ordering::Relaxed)
    }
}

/// Now, in microseconds as Firestore counts.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(since.as_secs().cast_signed(), since.subsec_micros() * 1000)
}

async fn answer(state: Arc<State>, request: http::Request<Body>) -> http::Response<Body> {
    respond(&state, request).await.unwrap_or_else(Status::into_http)
}

async fn respond(state: &Arc<State>, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
    let path = request.uri().path().to_owned();
    let message = Streaming::new_request(BytesCodec, request.into_body(), None, Some(MAX_REQUEST_BYTES))
        .message()
        .await?
        .ok_or_else(|| Status::invalid_argument("a request without a message"))?;
    match Method::of_path(&path) {
        Some(Method::RunQuery) => state.run_query(message),
        Some(Method::RunAggregationQuery) => state.count(message),
        Some(Method::PartitionQuery) => state.partition(message),
        Some(Method::BatchGetDocuments) => state.batch_get(message),
        Some(Method::BatchWrite) => state.batch_write(&message),
        Some(Method::Commit) => state.commit(&message),
        _ => Err(Status::unimplemented(format!("the replay server does not know {path}"))),
    }
}

impl State {
    fn run_query(self: &Arc<Self>, message: Bytes) -> Result<http::Response<Body>, Status> {
        let request: RunQueryRequest = decoded(message)?;
        let Some(run_query_request::QueryType::StructuredQuery(query)) = &request.query_type else {
            return Err(Status::invalid_argument("a query is required"));
        };
        let selected = Selected::by(&self.documents, &request.parent, query)?;
        Ok(answer::of(self.documents.chunks(selected)))
    }

    fn count(&self, message: Bytes) -> Result<http::Response<Body>, Status> {
        let request: RunAggregationQueryRequest = decoded(message)?;
        let Some(run_aggregation_query_request::QueryType::StructuredAggregationQuery(aggregation)) =
            &request.query_type
        else {
            return Err(Status::invalid_argument("an aggregation is required"));
        };
        let query = counted_query(aggregation)?;
        let count = Selected::by(&self.documents, &request.parent, query)?.count(&self.documents);
        let mut result = AggregationResult::default();
        for (index, aggregation) in aggregation.aggregations.iter().enumerate() {
            let Some(Operator::Count(up_to)) = aggregation.operator else {
                return Err(Status::unimplemented("the replay server only counts"));
            };
            let count = i64::try_from(count).unwrap_or(i64::MAX).min(up_to.up_to.unwrap_or(i64::MAX));
            let alias = match aggregation.alias.as_str() {
                "" => format!("field_{}", index + 1),
                alias => alias.to_owned(),
            };
            result.aggregate_fields.insert(alias, FieldValue { value_type: Some(ValueType::IntegerValue(count)) });
        }
        let response = RunAggregationQueryResponse {
            result: Some(result),
            read_time: Some(self.proto_read_time()),
            ..RunAggregationQueryResponse::default()
        };
        Ok(answer::of_message(&response))
    }

    fn partition(&self, message: Bytes) -> Result<http::Response<Body>, Status> {
        let request: PartitionQueryRequest = decoded(message)?;
        let keys = partition::keys_query(&request)?;
        let Some(run_query_request::QueryType::StructuredQuery(query)) = &keys.query_type else {
            return Err(Status::internal("a keys-only query without a query"));
        };
        let selected = Selected::by(&self.documents, &keys.parent, query)?;
        let names: Vec<String> =
            selected.indices(&self.documents).map(|index| self.documents.name(index).to_owned()).collect();
        Ok(answer::of_message(&partition::answer(&request, &names)?))
    }

    fn batch_get(self: &Arc<Self>, message: Bytes) -> Result<http::Response<Body>, Status> {
        let request: BatchGetDocumentsRequest = decoded(message)?;
        Ok(answer::of(self.documents.lookups(&request.documents)))
    }

    fn batch_write(&self, message: &[u8]) -> Result<http::Response<Body>, Status> {
        let write_results = self.take_writes(message)?;
        let status = vec![rpc::Status { code: Code::Ok as i32, ..rpc::Status::default() }; write_results.len()];
        Ok(answer::of_message(&BatchWriteResponse { write_results, status }))
    }

    fn commit(&self, message: &[u8]) -> Result<http::Response<Body>, Status> {
        let write_results = self.take_writes(message)?;
        let response = CommitResponse { write_results, commit_time: Some(self.proto_read_time()) };
        Ok(answer::of_message(&response))
    }

    /// Both requests hold their writes in field 2.
    fn take_writes(&self, request: &[u8]) -> Result<Vec<WriteResult>, Status> {
        let mut fields = Fields::of(request);
        let mut writes = 0;
        while let Some(field) = fields.next().map_err(|error| Status::invalid_argument(error.to_string()))? {
            writes += usize::from(field.number == 2 && matches!(field.value, Value::Bytes(_)));
        }
        self.writes.fetch_add(writes as u64, Ordering::Relaxed);
        self.written_bytes.fetch_add(request.len() as u64, Ordering::Relaxed);
        let result = WriteResult { update_time: Some(self.proto_read_time()), ..WriteResult::default() };
        Ok(vec![result; writes])
    }

    fn proto_read_time(&self) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds: self.read_time.seconds, nanos: self.read_time.nanos.cast_signed() }
    }
}

fn counted_query(aggregation: &StructuredAggregationQuery) -> Result<&StructuredQuery, Status> {
    match &aggregation.query_type {
        Some(structured_aggregation_query::QueryType::StructuredQuery(query)) => Ok(query),
        None => Err(Status::invalid_argument("a query to aggregate is required")),
    }
}

fn decoded<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::invalid_argument(format!("a malformed request: {error}")))
}
