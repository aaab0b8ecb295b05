//! One Firestore database, over gRPC.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use firebackup_model::database::DatabaseName;
use firebackup_model::document::RawDocument;
use firebackup_model::error::{ErrorKind, PortError};
use firebackup_model::path::{DocumentPath, PROBE_COLLECTION};
use firebackup_model::port::{DocumentSink, DocumentSource, DocumentStream, Precondition, Write, WriteOutcome};
use firebackup_model::range::PathRange;
use firebackup_model::timestamp::Timestamp;
use futures::StreamExt;
use gcloud_sdk::google::firestore::v1::batch_get_documents_request::ConsistencySelector;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, RunAggregationQueryRequest, RunAggregationQueryResponse, StructuredQuery,
};
use tonic::Streaming;

use crate::access::Access;
use crate::batch;
use crate::channel::{self, Rpc};
use crate::documents::Documents;
use crate::proto::{
    BatchGetDocumentsResponse, BatchWriteResponse, DatabaseVersions, GetDatabaseRequest, from_proto, to_proto,
};
use crate::query;
use crate::split;
use crate::status::Operation;

const TELL_TIME: Operation = Operation::reading("ask Firestore for its time");
const TELL_VERSIONS: Operation = Operation::reading("ask Firestore how long it keeps versions");
const STREAM: Operation = Operation::reading("stream documents");
const COUNT: Operation = Operation::reading("count documents");
const GET: Operation = Operation::reading("read documents");
const WRITE: Operation = Operation::writing("write documents");
const CHECK_WRITE: Operation = Operation::writing("check that documents may be written");

const DOCUMENTS_PER_GET: usize = 300;
/// `PointInTimeRecoveryEnablement.POINT_IN_TIME_RECOVERY_ENABLED`.
const RECOVERY_ENABLED: i32 = 1;

/// Ranges with fewer documents are not cut unless told otherwise: a stream reads them in a second or so.
pub const DEFAULT_SPLIT_THRESHOLD: u64 = 10_000;

/// Which database, and how it is reached.
#[derive(Debug, Clone)]
pub struct FirestoreOptions {
    /// The database.
    pub database: DatabaseName,
    /// How it is reached.
    pub access: Access,
}

/// A Firestore database: a source and a sink of documents, and a source of changes. Clones share one connection.
///
/// Nothing here is tried twice; [`Retrying`](crate::Retrying) does that.
#[derive(Clone)]
pub struct Firestore {
    pub(crate) database: DatabaseName,
    pub(crate) rpc: Rpc,
    pub(crate) split_threshold: u64,
    /// Whether the server has refused to count all collections together.
    pub(crate) counts_by_reading: Arc<AtomicBool>,
}

impl Firestore {
    /// Connects. Credentials are loaded here, and used when the first request needs a token.
    ///
    /// # Errors
    /// When there are no usable credentials (`Unauthenticated`) or nothing answers (`Unavailable`).
    pub async fn connect(options: FirestoreOptions) -> Result<Self, PortError> {
        let rpc = Rpc::connect(&options.database, &options.access).await?;
        Ok(Self::over(options.database, rpc))
    }

    pub(crate) fn over(database: DatabaseName, rpc: Rpc) -> Self {
        Self { database, rpc, split_threshold: DEFAULT_SPLIT_THRESHOLD, counts_by_reading: Arc::default() }
    }

    /// Lets [`split_points`](DocumentSource::split_points) cut ranges of at least this many documents.
    #[must_use]
    pub const fn with_split_threshold(mut self, documents: u64) -> Self {
        self.split_threshold = documents;
        self
    }

    async fn batch_write(&self, writes: Vec<Write>, operation: Operation) -> Result<Vec<WriteOutcome>, PortError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let count = writes.len();
        let request = batch::request(&self.database, writes, operation)?;
        let response: Result<BatchWriteResponse, _> =
            self.rpc.unary("/google.firestore.v1.Firestore/BatchWrite", request).await;
        batch::outcomes(response.map_err(|status| operation.failed(status))?, count, operation)
    }

    async fn batch_get(
        &self,
        paths: &[DocumentPath],
        at: Option<Timestamp>,
        operation: Operation,
    ) -> Result<Streaming<BatchGetDocumentsResponse>, PortError> {
        let request = BatchGetDocumentsRequest {
            database: self.database.resource(),
            documents: paths.iter().map(|path| self.database.document_name(path.as_str())).collect(),
            consistency_selector: at.map(|at| ConsistencySelector::ReadTime(to_proto(at))),
            ..BatchGetDocumentsRequest::default()
        };
        let call = self.rpc.streaming("/google.firestore.v1.Firestore/BatchGetDocuments", request);
        call.await.map_err(|status| operation.failed(status))
    }

    /// The documents that a query finds.
    pub(crate) async fn stream_of(&self, query: StructuredQuery, at: Timestamp) -> Result<DocumentStream, PortError> {
        let request = query::run(&self.database, query, at);
        let responses = self.rpc.streaming("/google.firestore.v1.Firestore/RunQuery", request).await;
        Ok(Documents::new(responses.map_err(|status| STREAM.failed(status))?, STREAM).boxed())
    }

    /// What an aggregation counts.
    pub(crate) async fn count_of(&self, request: RunAggregationQueryRequest) -> Result<u64, PortError> {
        let responses = self.rpc.streaming("/google.firestore.v1.Firestore/RunAggregationQuery", request).await;
        let mut responses: Streaming<RunAggregationQueryResponse> = responses.map_err(|status| COUNT.failed(status))?;
        while let Some(response) = channel::next(&mut responses).await.map_err(|status| COUNT.failed(status))? {
            let fields = response.result.map(|result| result.aggregate_fields).unwrap_or_default();
            let value = fields.get(query::COUNT_ALIAS).and_then(|value| value.value_type.as_ref());
            if let Some(ValueType::IntegerValue(count)) = value {
                return u64::try_from(*count).map_err(|_| COUNT.corrupt("the server counted less than nothing"));
            }
        }
        Err(COUNT.corrupt("the server gave no count"))
    }

    async fn get_chunk(
        &self,
        paths: &[DocumentPath],
        at: Option<Timestamp>,
    ) -> Result<Vec<Option<RawDocument>>, PortError> {
        let mut responses = self.batch_get(paths, at, GET).await?;
        let mut answers: HashMap<String, Option<RawDocument>> = HashMap::with_capacity(paths.len());
        while let Some(response) = channel::next(&mut responses).await.map_err(|status| GET.failed(status))? {
            if let Some(bytes) = response.found {
                let document = RawDocument(bytes);
                let name = match document.head() {
                    Ok(head) => head.name.to_owned(),
                    Err(source) => return Err(GET.corrupt("the server sent no document").with_source(source)),
                };
                answers.insert(name, Some(document));
            } else if let Some(name) = response.missing {
                answers.insert(name, None);
            }
        }
        let answer = |path: &DocumentPath| answers.get(&self.database.document_name(path.as_str())).cloned();
        let in_order: Option<Vec<_>> = paths.iter().map(answer).collect();
        in_order.ok_or_else(|| GET.corrupt("the server did not answer for every document"))
    }
}

/// A document that nobody has: asking for it tells the time, and trying to delete it tells the permissions.
fn probe_path(operation: Operation) -> Result<DocumentPath, PortError> {
    let path = DocumentPath::new(format!("{PROBE_COLLECTION}/never-written"));
    path.map_err(|source| operation.corrupt("no probe").with_source(source))
}

/// Whether the write got as far as its condition.
const fn is_refused_by_condition(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::FailedPrecondition | ErrorKind::NotFound | ErrorKind::Aborted)
}

#[async_trait]
impl DocumentSource for Firestore {
    fn database(&self) -> &DatabaseName {
        &self.database
    }

    async fn snapshot_time(&self) -> Result<Timestamp, PortError> {
        let mut responses = self.batch_get(&[probe_path(TELL_TIME)?], None, TELL_TIME).await?;
        while let Some(response) = channel::next(&mut responses).await.map_err(|status| TELL_TIME.failed(status))? {
            if let Some(time) = &response.read_time {
                return Ok(from_proto(time));
            }
        }
        Err(TELL_TIME.corrupt("the server gave no read time"))
    }

    async fn versions_since(&self) -> Result<Option<Timestamp>, PortError> {
        let name = self.database.resource();
        let method = "/google.firestore.admin.v1.FirestoreAdmin/GetDatabase";
        let database: DatabaseVersions =
            match self.rpc.unary_of(("name", &name), method, GetDatabaseRequest { name: name.clone() }).await {
                Ok(database) => database,
                Err(status) => {
                    let error = TELL_VERSIONS.failed(status);
                    // the emulator has no such method, and a credential need not have the right
                    if error.can_be_retried() {
                        return Err(error);
                    }
                    return Ok(None);
                }
            };
        let enabled = database.point_in_time_recovery == RECOVERY_ENABLED;
        Ok(database.earliest_version_time.filter(|_| enabled).map(|time| from_proto(&time)))
    }

    async fn split_points(
        &self,
        range: &PathRange,
        wanted: usize,
        at: Timestamp,
    ) -> Result<Vec<DocumentPath>, PortError> {
        split::points(self, range, wanted, at).await
    }

    async fn stream(&self, range: &PathRange, at: Timestamp, limit: Option<u32>) -> Result<DocumentStream, PortError> {
        if limit == Some(0) {
            return Ok(futures::stream::empty().boxed());
        }
        let mut documents = query::documents(&self.database, range);
        documents.limit = limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
        self.stream_of(documents, at).await
    }

    async fn count(&self, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.count_of(query::count(&self.database, query::documents(&self.database, range), at)).await
    }

    async fn count_surely(&self, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        if !self.counts_by_reading() {
            match self.count(range, at).await {
                Err(error) if error.kind.is_refusal_of_query() => {}
                counted => return counted,
            }
        }
        let count = self.count_names(range, at).await?;
        // a request that is wrong in itself is refused in this form too, and says nothing of counts
        self.counts_by_reading.store(true, Ordering::Relaxed);
        Ok(count)
    }

    fn counts_by_reading(&self) -> bool {
        self.counts_by_reading.load(Ordering::Relaxed)
    }

    async fn get(&self, paths: &[DocumentPath], at: Option<Timestamp>) -> Result<Vec<Option<RawDocument>>, PortError> {
        let mut documents = Vec::with_capacity(paths.len());
        for chunk in paths.chunks(DOCUMENTS_PER_GET) {
            documents.extend(self.get_chunk(chunk, at).await?);
        }
        Ok(documents)
    }
}

#[async_trait]
impl DocumentSink for Firestore {
    fn database(&self) -> &DatabaseName {
        &self.database
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteOutcome>, PortError> {
        self.batch_write(writes, WRITE).await
    }

    /// Tries a deletion whose condition cannot hold: that it comes to the condition says that it was allowed.
    async fn can_write(&self) -> Result<(), PortError> {
        let path = probe_path(CHECK_WRITE)?;
        let precondition = Precondition::UpdatedAt(Timestamp::new(1, 0));
        let write = Write { path, document: None, precondition };
        let outcome = self.batch_write(vec![write], CHECK_WRITE).await?.pop();
        match outcome {
            Some(Err(error)) if !is_refused_by_condition(error.kind) => Err(error),
            _ => Ok(()),
        }
    }
}
