//! A bucket of S3, or of a service that speaks its protocol. Those know less: what of the guards one does not know is told.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use firebackup_model::{ErrorKind, PortError};
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::HttpRequest;
use sha2::{Digest, Sha256};

use super::request::{Connection, Reply, request};
use super::{BucketWishes, MAKE, MadeBucket, MakeBucketError, refused};
use crate::destination::DestinationKind;
use crate::error::{code_of, port_error};
use crate::remote::{self, DEFAULT_REGION, Patience};
use crate::settings::{DestinationSettings, is_label};

const LOOK: &str = "look whether there is such a bucket";
const CLOSE: &str = "close the bucket to the public";
const KEEP_VERSIONS: &str = "have the bucket keep versions";
const READ_LOCK: &str = "look whether the bucket locks objects";

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
const OBJECT_LOCK: (&str, &str) = ("x-amz-bucket-object-lock-enabled", "true");
/// A bucket that was just made may not be known everywhere; to set again what is set changes nothing.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

pub(super) async fn make(
    bucket: &str,
    settings: &DestinationSettings,
    wishes: &BucketWishes,
) -> Result<MadeBucket, MakeBucketError> {
    let place = Place::new(bucket, settings, wishes)?;
    place.check_absent().await?;
    place.make(wishes.object_lock).await?;
    let mut problems = Vec::new();
    let locks_objects = wishes.object_lock && kept(place.locks().await, &mut problems);
    let is_closed =
        kept(place.set(CLOSE, "publicAccessBlock", closed(), "s3:PutBucketPublicAccessBlock").await, &mut problems);
    // a bucket that locks keeps versions
    let keeps_versions = locks_objects
        || kept(place.set(KEEP_VERSIONS, "versioning", versioned(), "s3:PutBucketVersioning").await, &mut problems);
    Ok(MadeBucket { kind: DestinationKind::S3, is_closed, keeps_versions, locks_objects, problems })
}

/// Whether something was switched on; why not is noted.
fn kept(outcome: Result<(), PortError>, problems: &mut Vec<String>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(error) => {
            problems.push(error.to_string());
            false
        }
    }
}

fn closed() -> String {
    let all = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
    let all: String = all.iter().map(|name| format!("<{name}>true</{name}>")).collect();
    format!("<PublicAccessBlockConfiguration xmlns=\"{NAMESPACE}\">{all}</PublicAccessBlockConfiguration>")
}

fn versioned() -> String {
    format!("<VersioningConfiguration xmlns=\"{NAMESPACE}\"><Status>Enabled</Status></VersioningConfiguration>")
}

/// The bucket as it is spoken to.
struct Place {
    connection: Connection,
    store: AmazonS3,
    url: String,
    region: String,
}

impl Place {
    fn new(bucket: &str, settings: &DestinationSettings, wishes: &BucketWishes) -> Result<Self, PortError> {
        let named = || settings.option("aws_region").or_else(|| settings.option("aws_default_region"));
        let region = wishes.location.as_deref().or_else(named).unwrap_or(DEFAULT_REGION).to_owned();
        if !is_label(&region) {
            return Err(refused("the region is no name of one"));
        }
        let endpoint = remote::s3_endpoint(settings)?;
        let is_http = endpoint.as_ref().is_some_and(|endpoint| endpoint.is_http);
        let url = match endpoint {
            // such an endpoint is that of the bucket
            Some(endpoint) if settings.is_on("aws_virtual_hosted_style_request") => format!("{}/", endpoint.url),
            Some(endpoint) => format!("{}/{bucket}", endpoint.url),
            None => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        };
        let store = remote::s3(bucket, settings, Patience::Brief)?;
        Ok(Self { connection: Connection::new(settings, is_http)?, store, url, region })
    }

    /// Goes on only if there is no such bucket, as far as anybody says.
    async fn check_absent(&self) -> Result<(), MakeBucketError> {
        let reply = self.send(LOOK, "HEAD", "", &[], String::new()).await?;
        match reply.status {
            404 => Ok(()),
            200..=299 => Err(MakeBucketError::Yours),
            301 | 307 => Err(MakeBucketError::Others),
            403 => Err(self.why_closed().await?),
            _ => Err(reply.refusal(LOOK, "s3:ListBucket").into()),
        }
    }

    /// Why the bucket may not be looked into: an answer to HEAD has no body, so that it would not be known whether it is somebody
    /// else's or nobody takes the credentials.
    async fn why_closed(&self) -> Result<MakeBucketError, PortError> {
        let error =
            self.send(LOOK, "GET", "?location", &[], String::new()).await?.refusal(LOOK, "s3:GetBucketLocation");
        Ok(match error.kind {
            ErrorKind::Unauthenticated => error.into(),
            _ => MakeBucketError::Others,
        })
    }

    async fn make(&self, object_lock: bool) -> Result<(), MakeBucketError> {
        let headers: &[(&str, &str)] = if object_lock { &[OBJECT_LOCK] } else { &[] };
        let reply = self.send(MAKE, "PUT", "", headers, self.configuration()).await?;
        match code_of(&reply.body).as_deref() {
            _ if reply.is_success() => Ok(()),
            Some("BucketAlreadyOwnedByYou") => Err(MakeBucketError::Yours),
            Some("BucketAlreadyExists") => Err(MakeBucketError::Others),
            _ => Err(reply.refusal(MAKE, "s3:CreateBucket").into()),
        }
    }

    /// Says where the bucket is to be; the first region is the one where nothing is said.
    fn configuration(&self) -> String {
        match self.region.as_str() {
            DEFAULT_REGION | "auto" => String::new(),
            region => format!(
                "<CreateBucketConfiguration xmlns=\"{NAMESPACE}\"><LocationConstraint>{region}</LocationConstraint>\
                 </CreateBucketConfiguration>"
            ),
        }
    }

    /// Sets a part of the bucket's configuration.
    async fn set(&self, operation: &str, part: &str, body: String, right: &str) -> Result<(), PortError> {
        let query = format!("?{part}");
        let mut pauses = PAUSES.iter();
        loop {
            let outcome = match self.send(operation, "PUT", &query, &[], body.clone()).await {
                Ok(reply) if reply.is_success() => return Ok(()),
                Ok(reply) => reply.refusal(operation, right),
                Err(error) => error,
            };
            let may_pass = outcome.can_be_retried() || outcome.kind == ErrorKind::NotFound;
            match pauses.next().filter(|_| may_pass) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return Err(outcome),
            }
        }
    }

    /// That objects can be locked: a service that does not know the header has made a bucket without.
    async fn locks(&self) -> Result<(), PortError> {
        let reply = self.send(READ_LOCK, "GET", "?object-lock", &[], String::new()).await?;
        match reply.is_success() && reply.body.contains("<ObjectLockEnabled>Enabled<") {
            true => Ok(()),
            false => Err(reply.refusal(READ_LOCK, "s3:GetBucketObjectLockConfiguration")),
        }
    }

    async fn send(
        &self,
        operation: &str,
        method: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Reply, PortError> {
        let digest = Sha256::digest(body.as_bytes());
        let checksum = BASE64_STANDARD.encode(digest);
        let mut headers = headers.to_vec();
        if !body.is_empty() {
            headers.extend([
                ("content-type", "application/xml"),
                // S3 wants a checksum named where a bucket is configured
                ("x-amz-sdk-checksum-algorithm", "SHA256"),
                ("x-amz-checksum-sha256", &checksum),
            ]);
        }
        let mut request = request(operation, method, &format!("{}{query}", self.url), &headers, body)?;
        self.sign(operation, &mut request, &digest).await?;
        self.connection.send(operation, request).await
    }

    async fn sign(&self, operation: &str, request: &mut HttpRequest, digest: &[u8]) -> Result<(), PortError> {
        let failed = |error| port_error(operation, error);
        let credential = self.store.credentials().get_credential().await.map_err(failed)?;
        AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(request, Some(digest)).map_err(failed)
    }
}
