//! A gRPC proxy before the Firestore emulator: what production refuses, what the emulator lacks, and faults on demand.
//!
//! Messages pass as the bytes they are; only what a rule is about is looked at. Without faults, a client sees through
//! the proxy exactly what the emulator sends. On top of that the proxy
//!
//! - *takes* a `BatchWrite` of more than 4 MiB, which the emulator does not, and hands it on in parts;
//! - *enforces* production's limits: 500 writes and 10 MiB a `BatchWrite` or `Commit`, no document twice in a
//!   `BatchWrite`, no read time older than an hour (or than [`ProxyOptions::oldest_read_time`]);
//! - *answers* `PartitionQuery`, which the emulator does not have, from a keys-only query, and with an oldest read time
//!   `GetDatabase` of the admin service, as a database that has PITR;
//! - *answers* `Listen` as production does, if it is to ([`ListenMode::Production`]);
//! - *refuses* to count all collections together, if it is to ([`Control::refuse_kindless_counts`]);
//! - *injects* what [`Control`] is told to, at run time;
//! - *counts* what passes ([`Counts`]).
//!
//! It does not look into the `Listen` and `Write` streams that it hands on, and not at the read time of a transaction.

mod batch;
mod control;
mod database;
mod limits;
mod listen;
pub(crate) mod partition;

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use firebackup_model::Timestamp;
use firebackup_model::wire::Fields;
use futures::Stream;
use futures::future::BoxFuture;
use gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use gcloud_sdk::google::firestore::v1::{PartitionQueryRequest, RunQueryRequest};
use http::uri::PathAndQuery;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::{ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::{Channel, Endpoint};
use tonic::{Extensions, Request, Response, Status, Streaming};

pub use control::{Control, Counts};
pub use listen::ListenMode;

use crate::bytes_codec::BytesCodec;
use crate::grpc_server::GrpcServer;
use crate::method::{Flow, Method};
use control::OpenStream;
use listen::Listens;

/// The largest request that the emulator takes is 4 MiB.
const EMULATOR_MAX_BYTES: usize = 4 * 1024 * 1024 - 1024;
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Headers that are about one connection or one encoding, not about the call.
const NOT_FORWARDED: [&str; 4] = ["grpc-accept-encoding", "grpc-encoding", "accept-encoding", "content-length"];

type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// How a proxy behaves from the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProxyOptions {
    /// Read times before this are refused; without it, those more than an hour old. With it, as on a database that
    /// has PITR, a read time more than an hour old must be a whole minute.
    pub oldest_read_time: Option<Timestamp>,
    /// Who answers `Listen`: without it, the server behind the proxy.
    pub listen: ListenMode,
}

/// A running proxy; it and all its connections end when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    server: GrpcServer,
    control: Control,
}

impl Proxy {
    /// Starts a proxy before the server at `upstream_host` (`127.0.0.1:8080`).
    ///
    /// # Errors
    /// When the host is not one, no port can be bound, or the proxy is to answer `Listen` and the server does not tell the
    /// time.
    pub async fn start(upstream_host: &str, options: ProxyOptions) -> io::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{upstream_host}"))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let upstream = endpoint
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect_lazy();
        let control = Control::new(options.oldest_read_time);
        let listens = match options.listen {
            ListenMode::Forwarded => None,
            ListenMode::Production => {
                Some(Listens::start(upstream.clone(), control.clone()).await.map_err(io::Error::other)?)
            }
        };
        let forwarder = Arc::new(Forwarder { upstream, control: control.clone(), listens });
        let server = GrpcServer::start(move |request| answer(Arc::clone(&forwarder), request)).await?;
        Ok(Self { server, control })
    }

    /// Where it listens, as `127.0.0.1:<port>`.
    #[must_use]
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// Sets faults and reads counts; clone it to keep it.
    #[must_use]
    pub const fn control(&self) -> &Control {
        &self.control
    }
}

struct Forwarder {
    upstream: Channel,
    control: Control,
    /// There where the proxy answers `Listen`.
    listens: Option<Listens>,
}

async fn answer(forwarder: Arc<Forwarder>, request: http::Request<Body>) -> http::Response<Body> {
    let Some(path) = request.uri().path_and_query().cloned() else {
        return Status::unimplemented("a request without a path").into_http();
    };
    let method = Method::of_path(path.path());
    let call = Call { forwarder, method, path };
    // larger than the limit that is enforced, so that the limit answers and not the decoder
    let mut server = tonic::server::Grpc::new(BytesCodec).max_decoding_message_size(4 * limits::MAX_REQUEST_BYTES);
    match method.map_or(Flow::Unary, Method::flow) {
        Flow::Unary => server.unary(call, request).await,
        Flow::ServerStream => server.server_streaming(call, request).await,
        Flow::Both => server.streaming(call, request).await,
    }
}

/// One call on its way.
#[derive(Clone)]
struct Call {
    forwarder: Arc<Forwarder>,
    method: Option<Method>,
    path: PathAndQuery,
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let call = self.clone();
        Box::pin(async move { call.unary(request).await })
    }
}

impl ServerStreamingService<Bytes> for Call {
    type Response = Bytes;
    type ResponseStream = ByteStream;
    type Future = BoxFuture<'static, Result<Response<ByteStream>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let call = self.clone();
        Box::pin(async move { call.server_stream(request).await })
    }
}

impl StreamingService<Bytes> for Call {
    type Response = Bytes;
    type ResponseStream = ByteStream;
    type Future = BoxFuture<'static, Result<Response<ByteStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let call = self.clone();
        Box::pin(async move { call.both_ways(request).await })
    }
}

impl Call {
    fn control(&self) -> &Control {
        &self.forwarder.control
    }

    async fn upstream(&self) -> Result<tonic::client::Grpc<Channel>, Status> {
        let mut client =
            tonic::client::Grpc::new(self.forwarder.upstream.clone()).max_decoding_message_size(usize::MAX);
        client.ready().await.map_err(|error| Status::unavailable(format!("the upstream is not ready: {error}")))?;
        Ok(client)
    }

    /// Counts the call, holds it up and fails it, as told.
    async fn admit(&self) -> Result<(), Status> {
        let Some(method) = self.method else { return Ok(()) };
        let (delay, failure) = self.control().admit(method);
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        failure.map_or(Ok(()), Err)
    }

    async fn unary(self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        self.admit().await?;
        if let Some(method) = self.method {
            limits::check(self.control(), method, request.get_ref())?;
        }
        if let (database::GET_DATABASE, Some(oldest)) = (self.path.path(), self.control().oldest_read_time()) {
            return Ok(database::with_recovery(request, oldest));
        }
        if let (database::LIST_DATABASES, Some(databases)) = (self.path.path(), self.control().databases()) {
            return Ok(Response::new(databases));
        }
        match (self.method, self.forwarder.listens.clone()) {
            (Some(method), Some(listens)) => {
                listens.write(method, request, |request| async move { self.answered(request).await }).await
            }
            _ => self.answered(request).await,
        }
    }

    async fn answered(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        match self.method {
            Some(Method::PartitionQuery) => self.partition_query(request).await,
            Some(Method::BatchWrite) => self.batch_write(request).await,
            _ => self.forward(request).await,
        }
    }

    async fn forward(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        self.upstream().await?.unary(cleaned(request), self.path.clone(), BytesCodec).await
    }

    async fn server_stream(self, request: Request<Bytes>) -> Result<Response<ByteStream>, Status> {
        self.admit().await?;
        if let Some(method) = self.method {
            limits::check(self.control(), method, request.get_ref())?;
        }
        let open = self.open_stream();
        let response = self.upstream().await?.server_streaming(cleaned(request), self.path.clone(), BytesCodec).await?;
        let control = self.control().clone();
        let is_query = self.method == Some(Method::RunQuery);
        Ok(response
            .map(|stream| if is_query { documents(stream, control, open) } else { Box::pin(stream) as ByteStream }))
    }

    async fn both_ways(self, request: Request<Streaming<Bytes>>) -> Result<Response<ByteStream>, Status> {
        self.admit().await?;
        let open = self.open_stream();
        let (metadata, _, inbound) = request.into_parts();
        match (self.method, &self.forwarder.listens) {
            (Some(Method::Listen), Some(listens)) => return Ok(Response::new(listens.open(inbound, open))),
            (Some(Method::Write), Some(_)) => return Err(Status::unimplemented("write streams cannot be listened to")),
            _ => {}
        }
        let inbound = inbound.map_while(Result::ok);
        let request = Request::from_parts(forwarded(metadata), Extensions::default(), inbound);
        let response = self.upstream().await?.streaming(request, self.path.clone(), BytesCodec).await?;
        Ok(response.map(|stream| {
            Box::pin(stream.map(move |message| {
                let _open = &open;
                message
            })) as ByteStream
        }))
    }

    /// What is open for long counts as a stream: queries and listens.
    fn open_stream(&self) -> Option<OpenStream> {
        let is_long = matches!(self.method, Some(Method::RunQuery | Method::Listen));
        is_long.then(|| self.control().open_stream())
    }

    /// Fails single writes, as told. What is left goes on: as it came, or in parts where the emulator could not take
    /// it at once (a batch is not atomic, so that parts of it are the same).
    async fn batch_write(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let (metadata, _, message) = request.into_parts();
        let batch = batch::Batch::read(&message)?;
        let failures = self.control().write_failures(batch.paths());
        let all_pass = failures.iter().all(Option::is_none);
        if all_pass && message.len() <= EMULATOR_MAX_BYTES {
            return self.forward(Request::from_parts(metadata, Extensions::default(), message)).await;
        }
        let mut answers = Vec::new();
        for part in batch.requests(&failures, EMULATOR_MAX_BYTES) {
            let request = Request::from_parts(metadata.clone(), Extensions::default(), part);
            // protobuf messages one behind the other are their lists one behind the other
            answers.extend_from_slice(&self.forward(request).await?.into_inner());
        }
        Ok(Response::new(batch::answer(answers.into(), &failures)?))
    }

    async fn partition_query(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let (metadata, _, message) = request.into_parts();
        let request = PartitionQueryRequest::decode(message)
            .map_err(|error| Status::invalid_argument(format!("not a PartitionQueryRequest: {error}")))?;
        let query = partition::keys_query(&request)?;
        let names = self.names(query, forwarded(metadata)).await?;
        let answer = partition::answer(&request, &names)?;
        Ok(Response::new(answer.encode_to_vec().into()))
    }

    async fn names(&self, query: RunQueryRequest, metadata: MetadataMap) -> Result<Vec<String>, Status> {
        let mut client = FirestoreClient::new(self.forwarder.upstream.clone());
        let request = Request::from_parts(metadata, Extensions::default(), query);
        let mut answers = client.run_query(request).await?.into_inner();
        let mut names = Vec::new();
        while let Some(answer) = answers.message().await? {
            names.extend(answer.document.map(|document| document.name));
        }
        Ok(names)
    }
}

fn cleaned(request: Request<Bytes>) -> Request<Bytes> {
    let (metadata, _, message) = request.into_parts();
    Request::from_parts(forwarded(metadata), Extensions::default(), message)
}

fn forwarded(mut metadata: MetadataMap) -> MetadataMap {
    for name in NOT_FORWARDED {
        metadata.remove(name);
    }
    metadata
}

/// Passes query results on, counts their documents, and cuts the stream when told to.
fn documents(stream: Streaming<Bytes>, control: Control, open: Option<OpenStream>) -> ByteStream {
    let state = (Some(stream), 0u64, open);
    Box::pin(futures::stream::unfold(state, move |(stream, passed, open)| {
        let control = control.clone();
        async move {
            let mut stream = stream?;
            match stream.message().await {
                Ok(None) => None,
                Err(status) => Some((Err(status), (None, passed, open))),
                Ok(Some(message)) if has_document(&message) => match control.pass_document(passed) {
                    Ok(()) => Some((Ok(message), (Some(stream), passed + 1, open))),
                    Err(status) => Some((Err(status), (None, passed, open))),
                },
                Ok(Some(message)) => Some((Ok(message), (Some(stream), passed, open))),
            }
        }
    }))
}

/// Whether a `RunQueryResponse` holds a document (field 1).
fn has_document(message: &[u8]) -> bool {
    let mut fields = Fields::of(message);
    while let Ok(Some(field)) = fields.next() {
        if field.number == 1 {
            return true;
        }
    }
    false
}
