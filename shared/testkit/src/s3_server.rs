//! An S3 server in the process: `s3s` over a temporary folder.
//!
//! `s3s-fs` looks for an object and then writes it, so that several conditional puts at once all succeed; here writes
//! take turns, which makes the condition exact. It answers 500 to a suffix range longer than the object, where S3 gives
//! the whole object; so such a range is shortened. Signatures are checked.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use axum::Router;
use axum::error_handling::HandleError;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CopyObjectInput, CopyObjectOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, Error,
    GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
    ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    PutObjectInput, PutObjectOutput, Range, UploadPartInput, UploadPartOutput,
};
use s3s::service::S3ServiceBuilder;
use s3s::{HttpError, S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::seen_requests::{SeenRequest, SeenRequests, note};

const BUCKET: &str = "firebackup-test";
const ACCESS_KEY: &str = "AKIATESTTESTTESTTEST";
const SECRET_KEY: &str = "a-secret-for-tests-only";
/// What the policy of the stack's bucket lets writers replace and delete, at the top of the bucket and further down.
const JOB_STATE: [&str; 3] = ["/receipts/", "/intents/", "/probes/"];

/// What a server does otherwise than a bucket that lets its one user do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Plain,
    WithoutConditions,
    Policed,
}

/// A running server with one bucket; it stops when dropped.
pub struct S3Server {
    endpoint: String,
    denied: Denied,
    unchecked: Arc<AtomicU64>,
    seen: SeenRequests,
    task: JoinHandle<()>,
    folder: TempDir,
}

type Denied = Arc<Mutex<BTreeSet<&'static str>>>;

impl S3Server {
    /// Starts a server on a free port of the loopback interface.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        Self::start_with(Manner::Plain).await
    }

    /// Starts one that does not look at the conditions of a put, as older S3-compatible services do not.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start_without_conditions() -> Self {
        Self::start_with(Manner::WithoutConditions).await
    }

    /// Starts one whose bucket has the policy of the stack's (`BucketPolicy` in `infra/template.yaml`), as every role but
    /// the one of `maintenance` meets it: but for receipts, intents and probes an object is written only if there is none,
    /// in parts or whole, and none is deleted.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start_policed() -> Self {
        Self::start_with(Manner::Policed).await
    }

    async fn start_with(manner: Manner) -> Self {
        let folder = TempDir::new().expect("make a folder for the s3 server");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("make a bucket");
        let files = FileSystem::new(folder.path()).expect("open the folder of the s3 server");
        let denied = Denied::default();
        let unchecked = Arc::<AtomicU64>::default();
        let bucket = Bucket { files, manner, unchecked: Arc::clone(&unchecked), turn: tokio::sync::Mutex::default() };
        let mut service = S3ServiceBuilder::new(bucket);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        service.set_access(Access { manner, denied: Arc::clone(&denied), made: Mutex::default() });
        let router = Router::new().fallback_service(HandleError::new(service.build(), internal_error));
        let seen = SeenRequests::default();
        let router = router.layer(from_fn_with_state(seen.clone(), note));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind a port for the s3 server");
        let endpoint = format!("http://{}", listener.local_addr().expect("the s3 server's address"));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serve s3") });
        Self { endpoint, denied, unchecked, seen, task, folder }
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

    /// Where its objects lie, as files.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The access key id it knows.
    #[must_use]
    pub fn access_key(&self) -> &str {
        ACCESS_KEY
    }

    /// The secret that belongs to it.
    #[must_use]
    pub fn secret_key(&self) -> &str {
        SECRET_KEY
    }

    /// What it was asked so far.
    #[must_use]
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.seen.all()
    }

    /// The options that a destination needs to be let in: names and values.
    #[must_use]
    pub fn options(&self) -> Vec<(String, String)> {
        let options =
            [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY), ("AWS_REGION", "us-east-1")];
        options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// How many objects and parts came without a SHA-256 checksum.
    #[must_use]
    pub fn unchecked_writes(&self) -> u64 {
        self.unchecked.load(Ordering::SeqCst)
    }

    /// From now on refuses an operation of S3, such as `DeleteObjects`, with 403.
    pub fn deny(&self, operation: &'static str) {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).insert(operation);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn internal_error(error: HttpError) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}"))
}

struct Access {
    manner: Manner,
    denied: Denied,
    /// The buckets that somebody had made.
    made: Mutex<BTreeSet<String>>,
}

/// Whether the bucket's policy lets writers replace and delete the object. Its `*` stands for slashes, too.
fn is_job_state(key: &str) -> bool {
    let key = format!("/{key}");
    JOB_STATE.iter().any(|folder| key.contains(folder))
}

/// Whether the bucket's policy refuses a writer what is asked. (Deletions of several objects at once are refused object by
/// object.)
fn is_refused(context: &S3AccessContext<'_>) -> bool {
    if context.s3_path().get_object_key().is_none_or(is_job_state) {
        return false;
    }
    match context.s3_op().name() {
        // what creates an object: neither the beginning of an upload nor its parts
        "PutObject" | "CopyObject" | "CompleteMultipartUpload" => {
            context.headers().get("if-none-match").is_none_or(|condition| condition != "*")
        }
        "DeleteObject" => true,
        _ => false,
    }
}

impl Access {
    /// Whether there is the bucket that a request is about, or it is the one that makes it.
    fn knows_bucket(&self, context: &S3AccessContext<'_>) -> bool {
        let Some(bucket) = context.s3_path().get_bucket_name() else { return false };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if context.s3_op().name() == "CreateBucket" {
            made.insert(bucket.to_owned());
        }
        bucket == BUCKET || made.contains(bucket)
    }
}

#[async_trait]
impl S3Access for Access {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner).contains(context.s3_op().name());
        match context.credentials() {
            // `s3s-fs` would make the bucket
            Some(_) if !self.knows_bucket(context) => Err(s3_error!(NoSuchBucket)),
            Some(_) if self.manner == Manner::Policed && is_refused(context) => Err(s3_error!(AccessDenied)),
            Some(_) if !denied => Ok(()),
            _ => Err(s3_error!(AccessDenied, "Access Denied")),
        }
    }
}

/// As S3 tells it of one object of several.
fn access_denied(key: String) -> Error {
    let (code, message) = (Some("AccessDenied".to_owned()), Some("Access Denied".to_owned()));
    Error { code, message, key: Some(key), ..Error::default() }
}

struct Bucket {
    files: FileSystem,
    manner: Manner,
    unchecked: Arc<AtomicU64>,
    /// Held while an object is written.
    turn: tokio::sync::Mutex<()>,
}

impl Bucket {
    fn check(&self, checksum: Option<&String>) {
        if checksum.is_none() {
            self.unchecked.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl S3 for Bucket {
    async fn put_object(&self, mut request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.check(request.input.checksum_sha256.as_ref());
        if self.manner == Manner::WithoutConditions {
            request.input.if_none_match = None;
            request.input.if_match = None;
        }
        let _turn = self.turn.lock().await;
        self.files.put_object(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let _turn = self.turn.lock().await;
        self.files.complete_multipart_upload(request).await
    }

    async fn get_object(&self, mut request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        if let Some(Range::Suffix { length }) = request.input.range {
            let head = HeadObjectInput {
                bucket: request.input.bucket.clone(),
                key: request.input.key.clone(),
                ..HeadObjectInput::default()
            };
            let size = self.files.head_object(request.clone().map_input(|_| head)).await?.output.content_length;
            let size = u64::try_from(size.unwrap_or_default()).unwrap_or_default();
            request.input.range = Some(Range::Suffix { length: length.min(size) });
        }
        self.files.get_object(request).await
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.files.head_object(request).await
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.files.create_bucket(request).await
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.files.head_bucket(request).await
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        self.files.list_objects(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.files.list_objects_v2(request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.files.delete_object(request).await
    }

    async fn delete_objects(
        &self,
        mut request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let may = |key: &str| self.manner != Manner::Policed || is_job_state(key);
        let asked = std::mem::take(&mut request.input.delete.objects);
        let (deleted, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(|object| may(&object.key));
        request.input.delete.objects = deleted;
        let mut response = self.files.delete_objects(request).await?;
        response.output.errors = Some(refused.into_iter().map(|object| access_denied(object.key)).collect());
        Ok(response)
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let _turn = self.turn.lock().await;
        self.files.copy_object(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.files.create_multipart_upload(request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.check(request.input.checksum_sha256.as_ref());
        self.files.upload_part(request).await
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        self.files.list_parts(request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.files.abort_multipart_upload(request).await
    }
}
