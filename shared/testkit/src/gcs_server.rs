//! A stand-in for Google Cloud Storage, in memory: the XML API as `object_store` speaks it, and no more.
//!
//! Puts with `x-goog-if-generation-match`, `ETag` and `x-goog-generation` on every answer, ranges, `list-type=2` in small
//! pages, multipart uploads with the 5 MiB minimum, copies, deletions. Credentials are not checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::seen_requests::{SeenRequest, SeenRequests, note};

const BUCKET: &str = "firebackup-test";
const PAGE: usize = 10;
const LEAST_PART: usize = 5 * 1024 * 1024;
const MOST_BODY: usize = 64 * 1024 * 1024;

/// A running server with one bucket; it stops when dropped.
pub struct GcsServer {
    endpoint: String,
    seen: SeenRequests,
    task: JoinHandle<()>,
}

impl GcsServer {
    /// Starts a server on a free port of the loopback interface.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        let seen = SeenRequests::default();
        let router = Router::new().fallback(serve).with_state(Arc::<Mutex<Bucket>>::default());
        let router = router.layer(from_fn_with_state(seen.clone(), note));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind a port for the gcs server");
        let endpoint = format!("http://{}", listener.local_addr().expect("the gcs server's address"));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serve gcs") });
        Self { endpoint, seen, task }
    }

    /// Its base URL.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        BUCKET
    }

    /// What it was asked so far.
    #[must_use]
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.seen.all()
    }

    /// The options that a destination needs to work without an account: names and values.
    #[must_use]
    pub fn options(&self) -> Vec<(String, String)> {
        let key = serde_json::json!({
            "gcs_base_url": self.endpoint,
            "disable_oauth": true,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        });
        vec![("GOOGLE_SERVICE_ACCOUNT_KEY".to_owned(), key.to_string())]
    }
}

impl Drop for GcsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, (ObjectMeta, Bytes)>,
    uploads: HashMap<String, Upload>,
    generation: u64,
}

struct Upload {
    key: String,
    parts: BTreeMap<usize, (String, Bytes)>,
}

/// A refusal: status and the code of its XML body.
struct Refusal(StatusCode, &'static str);

type Answer = Result<Response, Refusal>;

const NO_KEY: Refusal = Refusal(StatusCode::NOT_FOUND, "NoSuchKey");
const NO_BUCKET: Refusal = Refusal(StatusCode::NOT_FOUND, "NoSuchBucket");
const NO_UPLOAD: Refusal = Refusal(StatusCode::NOT_FOUND, "NoSuchUpload");
const CONDITION: Refusal = Refusal(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
const BAD: Refusal = Refusal(StatusCode::BAD_REQUEST, "InvalidArgument");

struct Call {
    method: Method,
    key: String,
    query: HashMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

async fn serve(State(bucket): State<Arc<Mutex<Bucket>>>, request: Request) -> Response {
    let answer = match read(request).await {
        Ok(call) => bucket.lock().unwrap_or_else(PoisonError::into_inner).answer(&call),
        Err(refusal) => Err(refusal),
    };
    answer.unwrap_or_else(|Refusal(status, code)| {
        let body = format!("<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>");
        respond(status, &[], body)
    })
}

async fn read(request: Request) -> Result<Call, Refusal> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MOST_BODY).await.map_err(|_| BAD)?;
    let Query(query) = Query::try_from_uri(&parts.uri).map_err(|_| BAD)?;
    let path = Path::from_url_path(parts.uri.path()).map_err(|_| BAD)?.to_string();
    let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
    if bucket != BUCKET {
        return Err(NO_BUCKET);
    }
    Ok(Call { method: parts.method, key: key.to_owned(), query, headers: parts.headers, body })
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

impl Bucket {
    fn answer(&mut self, call: &Call) -> Answer {
        let upload = call.query("uploadId");
        match (call.method.as_str(), upload) {
            ("GET", None) if call.key.is_empty() => Ok(self.list(call)),
            ("GET" | "HEAD", None) => self.get(call),
            ("PUT", Some(upload)) => self.put_part(call, upload),
            ("PUT", None) => self.put(call),
            ("POST", None) if call.query("uploads").is_some() => Ok(self.initiate(call)),
            ("POST", Some(upload)) => self.complete(call, upload),
            ("DELETE", Some(upload)) => self.uploads.remove(upload).map(|_| no_content()).ok_or(NO_UPLOAD),
            ("DELETE", None) => self.objects.remove(&call.key).map(|_| no_content()).ok_or(NO_KEY),
            _ => Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed")),
        }
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    fn store(&mut self, key: &str, bytes: Bytes) -> Result<ObjectMeta, Refusal> {
        let generation = self.next_generation();
        let meta = ObjectMeta {
            location: Path::parse(key).map_err(|_| BAD)?,
            last_modified: SystemTime::now().into(),
            size: bytes.len() as u64,
            e_tag: Some(format!("\"etag-{generation}\"")),
            version: Some(generation.to_string()),
        };
        self.objects.insert(key.to_owned(), (meta.clone(), bytes));
        Ok(meta)
    }

    fn put(&mut self, call: &Call) -> Answer {
        if let Some(expected) = call.header("x-goog-if-generation-match") {
            let present = self.objects.get(&call.key).and_then(|(meta, _)| meta.version.as_deref()).unwrap_or("0");
            if present != expected {
                return Err(CONDITION);
            }
        }
        let bytes = match call.header("x-goog-copy-source") {
            None => call.body.clone(),
            Some(source) => {
                let source = Path::from_url_path(source).map_err(|_| BAD)?.to_string();
                let (_, key) = source.split_once('/').ok_or(BAD)?;
                self.objects.get(key).ok_or(NO_KEY)?.1.clone()
            }
        };
        let meta = self.store(&call.key, bytes)?;
        Ok(respond(StatusCode::OK, &described(&meta), String::new()))
    }

    fn get(&self, call: &Call) -> Answer {
        let (meta, bytes) = self.objects.get(&call.key).ok_or(NO_KEY)?;
        let options =
            GetOptions::new().with_if_match(call.header("if-match")).with_if_none_match(call.header("if-none-match"));
        options.check_preconditions(meta).map_err(|error| match error {
            object_store::Error::NotModified { .. } => Refusal(StatusCode::NOT_MODIFIED, "NotModified"),
            _ => CONDITION,
        })?;
        let mut headers = described(meta);
        let Some(range) = call.header("range") else {
            return Ok(body(call, StatusCode::OK, headers, bytes.clone()));
        };
        let (start, end) =
            span(range, bytes.len()).ok_or(Refusal(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"))?;
        headers.push(("content-range", format!("bytes {start}-{}/{}", end - 1, bytes.len())));
        Ok(body(call, StatusCode::PARTIAL_CONTENT, headers, bytes.slice(start..end)))
    }

    fn initiate(&mut self, call: &Call) -> Response {
        let id = format!("upload-{}", self.next_generation());
        let xml = format!(
            "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
            escaped(&call.key)
        );
        self.uploads.insert(id, Upload { key: call.key.clone(), parts: BTreeMap::new() });
        respond(StatusCode::OK, &[], xml)
    }

    fn put_part(&mut self, call: &Call, id: &str) -> Answer {
        let number = call.query("partNumber").and_then(|number| number.parse().ok()).ok_or(BAD)?;
        let tag = format!("\"part-{}\"", self.next_generation());
        let upload = self.uploads.get_mut(id).filter(|upload| upload.key == call.key).ok_or(NO_UPLOAD)?;
        upload.parts.insert(number, (tag.clone(), call.body.clone()));
        Ok(respond(StatusCode::OK, &[("etag", tag)], String::new()))
    }

    fn complete(&mut self, call: &Call, id: &str) -> Answer {
        let upload = self.uploads.get(id).filter(|upload| upload.key == call.key).ok_or(NO_UPLOAD)?;
        let listed = String::from_utf8_lossy(&call.body).replace("&quot;", "\"");
        let mut whole = Vec::new();
        let mut sizes = Vec::new();
        for (index, part) in listed.split("<Part>").skip(1).enumerate() {
            let number: usize = element(part, "PartNumber").and_then(|number| number.parse().ok()).ok_or(BAD)?;
            let (tag, bytes) = upload.parts.get(&number).ok_or(Refusal(StatusCode::BAD_REQUEST, "InvalidPart"))?;
            if number != index + 1 || element(part, "ETag") != Some(tag) {
                return Err(Refusal(StatusCode::BAD_REQUEST, "InvalidPart"));
            }
            sizes.push(bytes.len());
            whole.extend_from_slice(bytes);
        }
        if sizes.is_empty() || sizes[..sizes.len() - 1].iter().any(|size| *size < LEAST_PART) {
            return Err(Refusal(StatusCode::BAD_REQUEST, "EntityTooSmall"));
        }
        self.uploads.remove(id);
        let meta = self.store(&call.key, whole.into())?;
        let tag = escaped(meta.e_tag.as_deref().unwrap_or_default());
        let xml = format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>");
        Ok(respond(StatusCode::OK, &described(&meta), xml))
    }

    fn list(&self, call: &Call) -> Response {
        let prefix = call.query("prefix").unwrap_or_default();
        let delimiter = call.query("delimiter");
        // a token is the last name of the page before, so it moves the start as `start-after` does
        let after = call.query("start-after").max(call.query("continuation-token")).unwrap_or_default();
        let most = call.query("max-keys").and_then(|most| most.parse().ok()).unwrap_or(PAGE).min(PAGE);
        let mut names = BTreeSet::new();
        for key in self.objects.keys().filter(|key| key.starts_with(prefix)) {
            let cut = delimiter.and_then(|d| key[prefix.len()..].find(d).map(|at| prefix.len() + at + d.len()));
            names.insert(&key[..cut.unwrap_or(key.len())]);
        }
        let mut rest = names.into_iter().filter(|name| *name > after);
        let page: Vec<&str> = rest.by_ref().take(most).collect();
        let mut xml = String::from("<ListBucketResult>");
        for name in &page {
            self.write_entry(&mut xml, name);
        }
        if let (Some(_), Some(last)) = (rest.next(), page.last()) {
            let _ = write!(xml, "<NextContinuationToken>{}</NextContinuationToken>", escaped(last));
        }
        xml.push_str("</ListBucketResult>");
        respond(StatusCode::OK, &[], xml)
    }

    fn write_entry(&self, xml: &mut String, name: &str) {
        let key = escaped(name);
        // writing to a string cannot fail
        let _ = match self.objects.get(name) {
            None => write!(xml, "<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>"),
            Some((meta, _)) => write!(
                xml,
                "<Contents><Key>{key}</Key><Size>{}</Size><LastModified>{}</LastModified><ETag>{}</ETag></Contents>",
                meta.size,
                meta.last_modified.to_rfc3339(),
                escaped(meta.e_tag.as_deref().unwrap_or_default()),
            ),
        };
    }
}

/// The bytes that a `Range` header asks for, as far as there are any.
fn span(range: &str, size: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (from, to) {
        ("", length) => (size.saturating_sub(length.parse().ok()?), size),
        (from, "") => (from.parse().ok()?, size),
        (from, last) => (from.parse().ok()?, size.min(last.parse::<usize>().ok()?.checked_add(1)?)),
    };
    (start < end).then_some((start, end))
}

fn described(meta: &ObjectMeta) -> Vec<(&'static str, String)> {
    vec![
        ("etag", meta.e_tag.clone().unwrap_or_default()),
        ("x-goog-generation", meta.version.clone().unwrap_or_default()),
        ("last-modified", meta.last_modified.to_rfc2822()),
    ]
}

fn body(call: &Call, status: StatusCode, mut headers: Vec<(&'static str, String)>, bytes: Bytes) -> Response {
    headers.push((header::CONTENT_LENGTH.as_str(), bytes.len().to_string()));
    let bytes = if call.method == Method::HEAD { Bytes::new() } else { bytes };
    respond(status, &headers, bytes)
}

fn respond(status: StatusCode, headers: &[(&'static str, String)], body: impl Into<Body>) -> Response {
    let response = Response::builder().status(status);
    let response = headers.iter().fold(response, |response, (name, value)| response.header(*name, value));
    response.body(body.into()).expect("headers of this server are plain text")
}

fn no_content() -> Response {
    respond(StatusCode::NO_CONTENT, &[], String::new())
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
