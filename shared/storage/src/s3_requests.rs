//! What requests to S3 carry that the client does not write.
//!
//! - `If-None-Match: *` on the completion of an upload in parts: like every other object outside receipts, intents and
//!   probes it must not replace anything, and the policy of the stack's bucket asks for it. Signature version 4 covers the
//!   headers that it lists and all of `x-amz-*`; this one need be neither, so the request stays signed as it is.
//! - The lock of an object, on the request that puts it or begins its upload. Its headers are `x-amz-*`, so the request
//!   is signed anew. A lock that came after the put would leave a moment, and after a kill a lifetime, in which the object
//!   can be deleted.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use firebackup_model::{LockMode, Timestamp};
use http::HeaderValue;
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{
    CredentialProvider, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientOptions, Result};

use crate::public_connector::Connector;

const COMPLETE_ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The lock of the object that a request puts; it travels in the extensions of the put.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ObjectLock {
    pub(crate) mode: LockMode,
    /// In whole seconds.
    pub(crate) until: Timestamp,
}

type Credentials = dyn CredentialProvider<Credential = AwsCredential>;

/// Makes the clients of one store.
#[derive(Clone)]
pub(crate) struct S3Requests {
    /// Whether uploads in parts are completed only if there is no such object.
    conditional_complete: bool,
    region: String,
    connector: Connector,
    /// Those of the store that this serves: it holds them, so they are not held here.
    credentials: Arc<OnceLock<Weak<Credentials>>>,
}

impl S3Requests {
    pub(crate) fn new(region: String, conditional_complete: bool, connector: Connector) -> Self {
        Self { conditional_complete, region, connector, credentials: Arc::default() }
    }

    /// Says how requests are signed, once the store is made.
    pub(crate) fn sign_with(&self, credentials: &AwsCredentialProvider) {
        // there is one store, so that this is said once
        let _ = self.credentials.set(Arc::downgrade(credentials));
    }

    fn adorned(&self, inner: HttpClient) -> HttpClient {
        HttpClient::new(Adorned { inner, requests: self.clone() })
    }

    async fn lock(&self, request: &mut HttpRequest, lock: ObjectLock) -> Result<(), HttpError> {
        let headers = request.headers_mut();
        headers.insert("x-amz-object-lock-mode", header(lock.mode.name())?);
        headers.insert("x-amz-object-lock-retain-until-date", header(&lock.until.to_string())?);
        if headers.contains_key("x-amz-checksum-sha256") {
            // S3 wants a locked object's checksum named, or its MD5
            headers.insert("x-amz-sdk-checksum-algorithm", header("SHA256")?);
        }
        let is_signed = headers.remove("authorization").is_some();
        if is_signed { self.sign(request).await } else { Ok(()) }
    }

    async fn sign(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        let credentials = self.credentials.get().and_then(Weak::upgrade);
        let credentials = credentials.ok_or_else(|| unsigned("the store that made the request is gone"))?;
        let credential = credentials.get_credential().await.map_err(unsigned)?;
        let digest = request.headers().get("x-amz-content-sha256").and_then(|value| hex::decode(value).ok());
        let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region).with_sign_payload(digest.is_some());
        authorizer.try_authorize(request, digest.as_deref()).map_err(unsigned)
    }
}

impl HttpConnector for S3Requests {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(self.adorned(self.connector.connect(options)?))
    }
}

impl fmt::Debug for S3Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Requests").field("conditional_complete", &self.conditional_complete).finish_non_exhaustive()
    }
}

/// A client that writes them.
#[derive(Debug)]
struct Adorned {
    inner: HttpClient,
    requests: S3Requests,
}

#[async_trait]
impl HttpService for Adorned {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if let Some(lock) = request.extensions().get::<ObjectLock>().copied() {
            self.requests.lock(&mut request, lock).await?;
        }
        if self.requests.conditional_complete && completes_an_upload(&request) {
            return self.complete(request).await;
        }
        self.inner.execute(request).await
    }
}

impl Adorned {
    /// S3 answers 409 while another write of the name is in flight, which may be our own, sent again. What is still in the
    /// way then is told to the caller.
    async fn complete(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        request.headers_mut().insert("if-none-match", header("*")?);
        let mut pause = FIRST_PAUSE;
        for _ in 1..COMPLETE_ATTEMPTS {
            let answer = self.inner.execute(request.clone()).await?;
            if answer.status() != 409 {
                return Ok(answer);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.inner.execute(request).await
    }
}

/// `POST ?uploadId=…`; the beginning of an upload is `POST ?uploads`, a part is put.
fn completes_an_upload(request: &HttpRequest) -> bool {
    let parameters = request.uri().query().unwrap_or_default().split('&');
    request.method() == "POST" && parameters.into_iter().any(|parameter| parameter.starts_with("uploadId="))
}

fn header(value: &str) -> Result<HeaderValue, HttpError> {
    HeaderValue::from_str(value).map_err(unsigned)
}

fn unsigned(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HttpError {
    HttpError::new_boxed(HttpErrorKind::Unknown, error.into())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
    use object_store::path::Path;
    use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions};

    use super::*;
    use crate::remote::Patience;

    const ANYWHERE: Connector = Connector { public_only: false, patience: Patience::Brief };
    const BEGUN: &str = "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>";
    const COMPLETED: &str = "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>";

    /// A service that keeps what it is asked, and answers completions as it is told to: with 200 once that is used up.
    #[derive(Debug, Clone, Default)]
    struct Tape {
        asked: Arc<Mutex<Vec<HttpRequest>>>,
        answers: Arc<Mutex<VecDeque<u16>>>,
        /// Whether it answers 503 to whatever it is asked for the first time.
        is_busy: bool,
    }

    impl Tape {
        fn status(&self, request: &HttpRequest) -> Option<u16> {
            let is_same = |asked: &HttpRequest| (asked.method(), asked.uri()) == (request.method(), request.uri());
            if self.is_busy && !self.asked.lock().unwrap().iter().any(is_same) {
                return Some(503);
            }
            if completes_an_upload(request) { self.answers.lock().unwrap().pop_front() } else { None }
        }
    }

    #[async_trait]
    impl HttpService for Tape {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let status = self.status(&request);
            let body = if completes_an_upload(&request) { COMPLETED } else { BEGUN };
            self.asked.lock().unwrap().push(request);
            let answer = http::Response::builder().status(status.unwrap_or(200)).header("etag", "e");
            Ok(answer.body(body.to_owned().into()).unwrap())
        }
    }

    #[derive(Debug)]
    struct TapeConnector(S3Requests, Tape);

    impl HttpConnector for TapeConnector {
        fn connect(&self, _: &ClientOptions) -> Result<HttpClient> {
            Ok(self.0.adorned(HttpClient::new(self.1.clone())))
        }
    }

    fn store(tape: &Tape, conditional_complete: bool) -> AmazonS3 {
        let requests = S3Requests::new("eu-central-1".to_owned(), conditional_complete, ANYWHERE);
        let builder = AmazonS3Builder::new().with_bucket_name("b").with_region("eu-central-1");
        let builder = builder.with_access_key_id("id").with_secret_access_key("secret");
        let builder = builder.with_checksum_algorithm(Checksum::SHA256);
        let store = builder.with_http_connector(TapeConnector(requests.clone(), tape.clone())).build().unwrap();
        requests.sign_with(store.credentials());
        store
    }

    async fn upload(store: &AmazonS3, options: PutMultipartOptions) -> Result<()> {
        let mut upload = store.put_multipart_opts(&Path::from("runs/a"), options).await?;
        upload.put_part("part".into()).await?;
        upload.complete().await.map(|_| ())
    }

    fn text<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
        request.headers().get(name).map(|value| value.to_str().unwrap())
    }

    /// The names of the headers that the signature covers.
    fn signed(request: &HttpRequest) -> Vec<&str> {
        let authorization = text(request, "authorization").unwrap();
        let (_, rest) = authorization.split_once("SignedHeaders=").unwrap();
        rest.split_once(',').unwrap().0.split(';').collect()
    }

    /// The signature covers all that Amazon wants signed, the lock among it.
    fn assert_locked(request: &HttpRequest) {
        assert_eq!(text(request, "x-amz-object-lock-mode"), Some("COMPLIANCE"));
        assert_eq!(text(request, "x-amz-object-lock-retain-until-date"), Some("2030-01-03T00:00:00Z"));
        let signed = signed(request);
        for name in request.headers().keys().map(|name| name.as_str()).filter(|name| name.starts_with("x-amz-")) {
            assert!(signed.contains(&name), "{name} is not signed");
        }
    }

    fn lock() -> ObjectLock {
        ObjectLock { mode: LockMode::Compliance, until: "2030-01-03T00:00:00Z".parse().unwrap() }
    }

    fn locked_upload() -> PutMultipartOptions {
        let mut options = PutMultipartOptions::default();
        options.extensions.insert(lock());
        options
    }

    fn locked_put() -> PutOptions {
        let mut options = PutOptions::from(PutMode::Create);
        options.extensions.insert(lock());
        options
    }

    #[tokio::test]
    async fn only_the_completion_of_an_upload_carries_the_condition() {
        let tape = Tape::default();
        upload(&store(&tape, true), PutMultipartOptions::default()).await.unwrap();
        let asked = tape.asked.lock().unwrap();
        let conditions: Vec<_> = asked.iter().map(|request| text(request, "if-none-match")).collect();
        assert_eq!(conditions, [None, None, Some("*")]);
        assert!(!signed(&asked[2]).contains(&"if-none-match"));
        assert!(asked.iter().all(|request| text(request, "x-amz-object-lock-mode").is_none()));
    }

    #[tokio::test]
    async fn the_condition_can_be_switched_off() {
        let tape = Tape::default();
        upload(&store(&tape, false), PutMultipartOptions::default()).await.unwrap();
        assert!(tape.asked.lock().unwrap().iter().all(|request| text(request, "if-none-match").is_none()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_is_waited_for_and_not_for_ever() {
        let tape = Tape::default();
        tape.answers.lock().unwrap().extend([409, 409]);
        upload(&store(&tape, true), PutMultipartOptions::default()).await.unwrap();
        assert_eq!(tape.asked.lock().unwrap().len(), 5);

        let tape = Tape::default();
        tape.answers.lock().unwrap().extend([409; 20]);
        let failed = upload(&store(&tape, true), PutMultipartOptions::default()).await;
        assert!(matches!(failed, Err(Error::AlreadyExists { .. })), "{failed:?}");
        assert_eq!(tape.asked.lock().unwrap().len(), 2 + COMPLETE_ATTEMPTS as usize);
    }

    #[tokio::test]
    async fn a_lock_is_signed_where_the_object_begins_and_nowhere_else() {
        let tape = Tape::default();
        let store = store(&tape, true);
        upload(&store, locked_upload()).await.unwrap();
        store.put_opts(&Path::from("keys/a"), "key".into(), locked_put()).await.unwrap();
        store.put(&Path::from("receipts/a"), "receipt".into()).await.unwrap();

        let asked = tape.asked.lock().unwrap();
        let modes: Vec<_> = asked.iter().map(|request| text(request, "x-amz-object-lock-mode")).collect();
        assert_eq!(modes, [Some("COMPLIANCE"), None, None, Some("COMPLIANCE"), None]);
        for locked in [&asked[0], &asked[3]] {
            assert_locked(locked);
        }
        assert_eq!(text(&asked[3], "x-amz-sdk-checksum-algorithm"), Some("SHA256"));
        assert_eq!(text(&asked[3], "x-amz-content-sha256").map(str::len), Some(64), "the body stays signed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_and_a_condition_survive_a_retry() {
        let tape = Tape { is_busy: true, ..Tape::default() };
        let store = store(&tape, true);
        upload(&store, locked_upload()).await.unwrap();
        store.put_opts(&Path::from("keys/a"), "key".into(), locked_put()).await.unwrap();

        let asked = tape.asked.lock().unwrap();
        let methods: Vec<_> = asked.iter().map(|request| request.method().as_str()).collect();
        assert_eq!(methods, ["POST", "POST", "PUT", "PUT", "POST", "POST", "PUT", "PUT"], "each is tried twice");
        let conditions: Vec<_> = asked.iter().map(|request| text(request, "if-none-match")).collect();
        assert_eq!(conditions, [None, None, None, None, Some("*"), Some("*"), Some("*"), Some("*")]);
        for locked in [&asked[0], &asked[1], &asked[6], &asked[7]] {
            assert_locked(locked);
        }
        for other in &asked[2..6] {
            assert_eq!(text(other, "x-amz-object-lock-mode"), None);
        }
    }

    #[tokio::test]
    async fn a_request_that_nobody_signed_stays_unsigned() {
        let requests = S3Requests::new("eu-central-1".to_owned(), true, ANYWHERE);
        let mut request = HttpRequest::new(String::new().into());
        let lock = ObjectLock { mode: LockMode::Governance, until: Timestamp::new(1_900_000_000, 0) };
        requests.lock(&mut request, lock).await.unwrap();
        assert_eq!(
            (text(&request, "authorization"), text(&request, "x-amz-object-lock-mode")),
            (None, Some("GOVERNANCE"))
        );
    }
}
