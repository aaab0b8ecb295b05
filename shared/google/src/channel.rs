//! The gRPC channel to Firestore: plain to an emulator, authenticated to Google.

use std::time::Duration;

use firebackup_model::database::DatabaseName;
use firebackup_model::error::{ErrorKind, PortError};
use firestore::{FirestoreDb, FirestoreDbOptions};
use futures::Stream;
use gcloud_sdk::GoogleAuthHeaders;
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::access::{Access, EMULATOR_AUTHORIZATION, auth_headers};

pub(crate) const FIRESTORE_URL: &str = "https://firestore.googleapis.com";
const CONNECT_OPERATION: &str = "connect to Firestore";
const ROUTING_HEADER: &str = "x-goog-request-params";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How much a stream may send ahead of what is read. It bounds memory and, with the way's delay, speed.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// How much all streams of a connection may send ahead.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Documents of Enterprise databases go up to 16 MiB, so responses may be larger.
const MAX_RESPONSE_BYTES: usize = 32 * 1024 * 1024;
/// How long a call with one answer may take; Firestore itself gives up after a minute.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

type Service = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

/// Calls methods of Firestore on a channel, with the headers that every request needs. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Rpc {
    service: Service,
    metadata: MetadataMap,
}

impl Rpc {
    /// Connects to the database's server.
    pub(crate) async fn connect(database: &DatabaseName, access: &Access) -> Result<Self, PortError> {
        let mut metadata = routing(database)?;
        let service = match (access, auth_headers(access).await?) {
            (Access::Emulator { host }, _) => {
                metadata.insert("authorization", MetadataValue::from_static(EMULATOR_AUTHORIZATION));
                BoxCloneSyncService::new(
                    emulator_channel(host).await?.map_err(|error| Status::from_error(error.into())),
                )
            }
            (Access::Consented(consent), Some(auth)) => google_service(database, consent.firestore_url(), auth).await?,
            (_, Some(auth)) => google_service(database, FIRESTORE_URL, auth).await?,
            (_, None) => return Err(PortError::new(ErrorKind::Unauthenticated, CONNECT_OPERATION, "no credentials")),
        };
        Ok(Self { service, metadata })
    }

    /// A call with one answer.
    pub(crate) async fn unary<Q, A>(&self, method: &'static str, message: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.ready().await?;
        let mut request = self.request(message);
        request.set_timeout(CALL_TIMEOUT);
        let call = grpc.unary(request, path(method), ProstCodec::default());
        in_time(call).await.map(Response::into_inner)
    }

    /// A call of the admin service, which finds what it is about under another name: `name` or `parent`.
    pub(crate) async fn unary_of<Q, A>(
        &self,
        (field, resource): (&str, &str),
        method: &'static str,
        message: Q,
    ) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut rpc = self.clone();
        let routed = MetadataValue::try_from(format!("{field}={}", escaped(resource)));
        rpc.metadata.insert(ROUTING_HEADER, routed.map_err(|error| Status::invalid_argument(error.to_string()))?);
        rpc.unary(method, message).await
    }

    /// A call whose answer is a stream; it waits until the stream begins.
    pub(crate) async fn streaming<Q, A>(&self, method: &'static str, message: Q) -> Result<Streaming<A>, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.ready().await?;
        let call = grpc.server_streaming(self.request(message), path(method), ProstCodec::default());
        in_time(call).await.map(Response::into_inner)
    }

    /// A call with streams both ways, for which neither side is told a deadline; it waits until the answers begin. The
    /// server reads `messages` for as long as they last.
    pub(crate) async fn bidirectional<Q, A>(
        &self,
        method: &'static str,
        messages: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.ready().await?;
        let call = grpc.streaming(self.request(messages), path(method), ProstCodec::default());
        in_time(call).await.map(Response::into_inner)
    }

    async fn ready(&self) -> Result<Grpc<Service>, Status> {
        let mut grpc = Grpc::new(self.service.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES);
        grpc.ready().await?;
        Ok(grpc)
    }

    fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request
    }
}

/// The next message of a stream that is short and read at once.
pub(crate) async fn next<A>(responses: &mut Streaming<A>) -> Result<Option<A>, Status> {
    in_time(responses.message()).await
}

async fn in_time<A>(call: impl Future<Output = Result<A, Status>>) -> Result<A, Status> {
    let late = || Status::deadline_exceeded(format!("no answer within {} seconds", CALL_TIMEOUT.as_secs()));
    tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(late()))
}

fn path(method: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(method)
}

/// The headers by which Google's front end finds the database; without them a named database is not found.
fn routing(database: &DatabaseName) -> Result<MetadataMap, PortError> {
    let value = |text: String| {
        MetadataValue::<Ascii>::try_from(text).map_err(|source| {
            PortError::new(ErrorKind::InvalidArgument, CONNECT_OPERATION, "the database has no valid name")
                .with_source(source)
        })
    };
    let mut metadata = MetadataMap::new();
    metadata.insert("google-cloud-resource-prefix", value(database.resource())?);
    metadata.insert(ROUTING_HEADER, value(format!("database={}", escaped(&database.resource())))?);
    Ok(metadata)
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") }).collect()
}

async fn emulator_channel(host: &str) -> Result<Channel, PortError> {
    let refused = |kind, source: tonic::transport::Error| {
        PortError::new(kind, CONNECT_OPERATION, format!("no emulator answers at {host}")).with_source(source)
    };
    let endpoint = Endpoint::from_shared(format!("http://{host}"))
        .map_err(|source| refused(ErrorKind::InvalidArgument, source))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    endpoint.connect().await.map_err(|source| refused(ErrorKind::Unavailable, source))
}

/// The authenticated service of the `firestore` crate. Its channel keeps the connection alive with a ping a minute,
/// sends without delay, and has hyper's windows: 2 MiB a stream, 5 MiB a connection.
async fn google_service(database: &DatabaseName, url: &str, auth: GoogleAuthHeaders) -> Result<Service, PortError> {
    let mut options = FirestoreDbOptions::new(database.project.clone()).with_database_id(database.database.clone());
    // Said outright, or a stray FIRESTORE_EMULATOR_HOST would send what is meant for Google to an emulator.
    options.firebase_api_url = Some(url.to_owned());
    let db = FirestoreDb::with_options_auth(options, auth).await.map_err(|source| {
        PortError::new(ErrorKind::Unavailable, CONNECT_OPERATION, format!("{url} does not answer")).with_source(source)
    })?;
    Ok(BoxCloneSyncService::new(db.client().get_with(|service| service).map_err(Status::from_error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Firestore;
    use crate::federation::tests::{ACCOUNT, federation, has_identity, token_server};
    use firebackup_embedded::emulator::Emulator;
    use firebackup_model::port::DocumentSource;
    use firebackup_model::timestamp::Timestamp;
    use firebackup_testkit::grpc_server::GrpcServer;
    use gcloud_sdk::google_cloud_auth::credentials::anonymous;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_named_database_is_in_the_headers() {
        let metadata = routing(&DatabaseName::new("p", "orders")).unwrap();
        assert_eq!(metadata.get("google-cloud-resource-prefix").unwrap(), "projects/p/databases/orders");
        assert_eq!(metadata.get("x-goog-request-params").unwrap(), "database=projects%2Fp%2Fdatabases%2Forders");
        let default = routing(&DatabaseName::new("p", "(default)")).unwrap();
        assert_eq!(default.get("x-goog-request-params").unwrap(), "database=projects%2Fp%2Fdatabases%2F%28default%29");
        assert_eq!(routing(&DatabaseName::new("p\n", "d")).unwrap_err().kind, ErrorKind::InvalidArgument);
    }

    /// The authenticated channel, to an emulator in Google's place.
    async fn authenticated(emulator: &Emulator, auth: GoogleAuthHeaders) -> Result<Timestamp, PortError> {
        let database = DatabaseName::new("p", "named");
        let service = google_service(&database, &format!("http://{}", emulator.host()), auth).await?;
        let rpc = Rpc { service, metadata: routing(&database)? };
        Firestore::over(database, rpc).snapshot_time().await
    }

    #[tokio::test]
    async fn the_authenticated_channel_carries_our_messages_and_its_failures() {
        let emulator = Emulator::start().await.unwrap();
        let anonymous = anonymous::Builder::new().build();
        let time = authenticated(&emulator, anonymous.into()).await.unwrap();
        assert!(time.seconds > 1_700_000_000, "{time}");
        let key = serde_json::json!({
            "type": "service_account", "client_email": "a@b.example", "private_key_id": "k", "project_id": "p",
            "private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        });
        let unusable = GoogleAuthHeaders::from_service_account_key(key, vec!["scope".into()]).await.unwrap();
        let error = authenticated(&emulator, unusable).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthenticated, "{error:?}");
    }

    #[tokio::test]
    async fn calls_carry_the_token_of_a_federation() {
        if !has_identity("channel::tests::calls_carry_the_token_of_a_federation") {
            return;
        }
        let tokens = token_server().await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&seen);
        let server = GrpcServer::start(move |request: http::Request<Body>| {
            let authorization = request.headers()["authorization"].to_str().unwrap().to_owned();
            recorded.lock().unwrap().push((request.uri().path().to_owned(), authorization));
            async { Status::permission_denied("seen").into_http() }
        });
        let server = server.await.unwrap();
        let database = DatabaseName::new("p", "named");
        let auth = auth_headers(&Access::Federated(federation(&tokens, Some(ACCOUNT)))).await.unwrap().unwrap();
        let service = google_service(&database, &format!("http://{}", server.host()), auth).await.unwrap();
        let rpc = Rpc { service, metadata: routing(&database).unwrap() };
        let error = Firestore::over(database, rpc).snapshot_time().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error:?}");
        let seen = seen.lock().unwrap();
        let (path, authorization) = &seen[0];
        assert!(path.starts_with("/google.firestore.v1.Firestore/"), "{path}");
        assert_eq!(authorization, "Bearer account-token-1");
    }

    #[tokio::test]
    async fn an_emulator_that_is_not_there_is_unavailable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        drop(listener);
        let access = Access::Emulator { host: host.clone() };
        let error = Rpc::connect(&DatabaseName::new("p", "d"), &access).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.to_string().contains(&host), "{error}");
    }
}
