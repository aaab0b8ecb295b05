//! Stands between the functions of a stack and its local AWS, and makes that fail as AWS does.
//!
//! Every request is passed on as it came, unless a rule strikes: it is throttled, refused, or it is done and the process
//! that sent it is killed before it reads the answer. Which process that is says the kernel's table of connections, so a
//! kill hits exactly the function that did what it is killed for (on Linux; elsewhere nobody is killed).

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::peer_process::{kill, process_of};

const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;

/// One request to AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsCall {
    /// The service as signatures name it: `dynamodb`, `s3`, `states`, `kms`, `sqs`.
    pub service: String,
    /// The operation, such as `TransactWriteItems`; of S3 the method of HTTP.
    pub operation: String,
    /// The path: of S3 bucket and key.
    pub path: String,
    /// How many items it is about: those of a transaction of DynamoDB, otherwise one.
    pub items: usize,
    /// The attributes that an update of DynamoDB names.
    pub attributes: Vec<String>,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsFault {
    /// The service says that it is asked too often, and does nothing.
    Throttle,
    /// The service says that it may not be asked, and does nothing.
    Refuse,
    /// The service does what it is asked for; whoever asked is killed and never knows.
    KillCaller,
}

/// What struck, in order.
pub type Struck = Vec<(AwsCall, AwsFault)>;

type Rule = Box<dyn FnMut(&AwsCall) -> Option<AwsFault> + Send>;

/// The handle to a running proxy; clones are handles to the same one.
#[derive(Clone, Default)]
pub struct AwsFaults(Arc<Mutex<Faults>>);

#[derive(Default)]
struct Faults {
    rules: Vec<Rule>,
    struck: Struck,
    killed: Vec<u32>,
}

impl AwsFaults {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks this of every request from now on; the first rule that says something decides.
    pub fn strike(&self, rule: impl FnMut(&AwsCall) -> Option<AwsFault> + Send + 'static) {
        self.faults().rules.push(Box::new(rule));
    }

    /// Takes every rule back, and gives what has struck since the last time.
    pub fn clear(&self) -> Struck {
        let mut faults = self.faults();
        faults.rules.clear();
        std::mem::take(&mut faults.struck)
    }

    /// What has struck so far.
    #[must_use]
    pub fn struck(&self) -> Struck {
        self.faults().struck.clone()
    }

    /// The processes that were killed, since the start.
    #[must_use]
    pub fn killed(&self) -> Vec<u32> {
        self.faults().killed.clone()
    }

    fn of(&self, call: &AwsCall) -> Option<AwsFault> {
        let mut faults = self.faults();
        let fault = faults.rules.iter_mut().find_map(|rule| rule(call))?;
        faults.struck.push((call.clone(), fault));
        Some(fault)
    }
}

impl fmt::Debug for AwsFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AwsFaults").field(&self.struck()).finish()
    }
}

/// A running proxy; it ends when it is dropped.
pub struct AwsProxy {
    address: SocketAddr,
    forwarder: Arc<Forwarder>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Forwarder {
    client: reqwest::Client,
    upstream: OnceLock<String>,
    faults: AwsFaults,
}

impl AwsProxy {
    /// Starts one on a free port. It has nobody to pass requests on to until [`Self::connect`].
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        let forwarder = Arc::new(Forwarder { client, ..Forwarder::default() });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind a port for the proxy");
        let address = listener.local_addr().expect("the proxy's address");
        let router = Router::new().fallback(pass).with_state(Arc::clone(&forwarder));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(async move { axum::serve(listener, service).await.expect("serve the proxy") });
        Self { address, forwarder, serving }
    }

    /// Passes requests on to this base URL from now on.
    ///
    /// # Panics
    /// When it was told before.
    pub fn connect(&self, upstream: &str) {
        self.forwarder.upstream.set(upstream.to_owned()).expect("connected once");
    }

    /// Its base URL, to use as `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets faults and says which struck; clone it to keep it.
    #[must_use]
    pub fn faults(&self) -> &AwsFaults {
        &self.forwarder.faults
    }
}

impl Drop for AwsProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(
    State(forwarder): State<Arc<Forwarder>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = match to_bytes(body, MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    let call = call(&parts, &body);
    let request = Request::from_parts(parts, Body::from(body));
    match forwarder.faults.of(&call) {
        Some(AwsFault::Throttle) => throttled(&call.service),
        Some(AwsFault::Refuse) => failure(&call.service, StatusCode::BAD_REQUEST, "AccessDeniedException"),
        Some(AwsFault::KillCaller) => {
            let process = process_of(peer, forwarder_port(&request));
            let answer = forwarder.forward(request).await;
            if process.is_some_and(kill) {
                forwarder.faults.faults().killed.extend(process);
            }
            answer
        }
        None => forwarder.forward(request).await,
    }
}

/// The port that the request came to, as its `Host` header says.
fn forwarder_port(request: &Request) -> u16 {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
}

impl Forwarder {
    async fn forward(&self, request: Request) -> Response {
        let Some(upstream) = self.upstream.get() else {
            return (StatusCode::BAD_GATEWAY, "the proxy is not connected").into_response();
        };
        match self.send(upstream, request).await {
            Ok(response) => response,
            Err(error) => (StatusCode::BAD_GATEWAY, error).into_response(),
        }
    }

    async fn send(&self, upstream: &str, request: Request) -> Result<Response, String> {
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| error.to_string())?;
        let sent = self.client.request(parts.method, format!("{upstream}{target}"));
        let sent = sent.headers(end_to_end(&parts.headers)).body(body).send().await;
        let answer = sent.map_err(|error| format!("{error:?}"))?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        *response.headers_mut() = end_to_end(answer.headers());
        *response.body_mut() = Body::from(answer.bytes().await.map_err(|error| format!("{error:?}"))?);
        Ok(response)
    }
}

/// All headers but those of one connection. The length of an answer without a body (`HEAD`) is what was asked for.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    const OF_ONE_CONNECTION: [HeaderName; 4] =
        [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::EXPECT];
    let mut headers = headers.clone();
    for name in OF_ONE_CONNECTION {
        headers.remove(name);
    }
    headers
}

fn call(request: &Parts, body: &[u8]) -> AwsCall {
    let text = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let target = text("x-amz-target");
    let operation = target.rsplit_once('.').map_or(request.method.as_str(), |(_, operation)| operation);
    AwsCall {
        service: service(text("authorization")).to_owned(),
        operation: operation.to_owned(),
        path: request.uri.path().to_owned(),
        items: if operation == "TransactWriteItems" { items_of(body) } else { 1 },
        attributes: if operation == "UpdateItem" { attributes_of(body) } else { Vec::new() },
    }
}

fn attributes_of(update: &[u8]) -> Vec<String> {
    let update: Value = serde_json::from_slice(update).unwrap_or_default();
    let names = update["ExpressionAttributeNames"].as_object().into_iter().flat_map(|names| names.values());
    names.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

fn items_of(transaction: &[u8]) -> usize {
    let transaction: Value = serde_json::from_slice(transaction).unwrap_or_default();
    transaction["TransactItems"].as_array().map_or(1, Vec::len)
}

/// The service that a signature is for: `Credential=<key>/<date>/<region>/<service>/aws4_request`.
fn service(authorization: &str) -> &str {
    let scope = authorization.split_once("Credential=").map_or("", |(_, scope)| scope);
    scope.split('/').nth(3).unwrap_or_default()
}

fn throttled(service: &str) -> Response {
    match service {
        "s3" => failure(service, StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        "dynamodb" => failure(service, StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException"),
        _ => failure(service, StatusCode::BAD_REQUEST, "ThrottlingException"),
    }
}

/// A failure as the service words it.
fn failure(service: &str, status: StatusCode, code: &str) -> Response {
    let message = "failed on demand";
    let (kind, body) = match service {
        "s3" => ("application/xml", format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>")),
        _ => ("application/x-amz-json-1.0", format!(r#"{{"__type":"{code}","message":"{message}"}}"#)),
    };
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::HttpClient;

    const SIGNED: (&str, &str) =
        ("authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request");

    async fn upstream() -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let echo = async |request: Request| format!("{} {}", request.method(), request.uri());
        let router = Router::new().fallback(echo);
        (address, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
    }

    #[tokio::test]
    async fn passes_everything_on_but_what_is_struck() {
        let (address, _serving) = upstream().await;
        let proxy = AwsProxy::start().await;
        proxy.connect(&address);
        let url = format!("{}/bucket/key?x=%2F", proxy.endpoint());
        let client = HttpClient::new();
        let answer = client.send("PUT", &url, &[SIGNED], "body").await;
        assert_eq!((answer.status, answer.text()), (200, "PUT /bucket/key?x=%2F".to_owned()));

        let mut left = 1;
        proxy.faults().strike(move |call| {
            (call.operation == "PUT" && std::mem::take(&mut left) == 1).then_some(AwsFault::Throttle)
        });
        assert_eq!(client.send("GET", &url, &[SIGNED], "").await.status, 200);
        let answer = client.send("PUT", &url, &[SIGNED], "body").await;
        assert_eq!(answer.status, 503);
        assert!(answer.text().contains("<Code>SlowDown</Code>"), "{}", answer.text());
        assert_eq!(client.send("PUT", &url, &[SIGNED], "body").await.status, 200);
        let struck = proxy.faults().clear();
        let expected = AwsCall {
            service: "s3".into(),
            operation: "PUT".into(),
            path: "/bucket/key".into(),
            items: 1,
            attributes: Vec::new(),
        };
        assert_eq!(struck, [(expected, AwsFault::Throttle)]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn kills_who_asked_once_it_is_done() {
        use std::os::unix::process::ExitStatusExt;
        let (address, _serving) = upstream().await;
        let proxy = AwsProxy::start().await;
        proxy.connect(&address);
        proxy.faults().strike(|_| Some(AwsFault::KillCaller));
        // a shell that opens the connection itself
        let port = proxy.endpoint().rsplit_once(':').unwrap().1.to_owned();
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET /a HTTP/1.1\\r\\nHost: 127.0.0.1:{port}\\r\\n\\r\\n' >&3; \
             read -r line <&3; sleep 60"
        );
        let status = tokio::process::Command::new("bash").args(["-c", &script]).status().await.unwrap();
        assert_eq!(status.signal(), Some(9));
        assert_eq!((proxy.faults().struck().len(), proxy.faults().killed().len()), (1, 1));
    }
}
