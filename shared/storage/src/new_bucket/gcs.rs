//! A bucket of Google Cloud Storage: who may what is said by IAM alone, and the public can be let in by nobody.

use firebackup_model::PortError;
use object_store::gcp::GcpCredential;
use serde_json::{Value, json};
use url::Url;

use super::request::{Connection, Reply, request};
use super::{BucketWishes, MAKE, MadeBucket, MakeBucketError, refused};
use crate::destination::DestinationKind;
use crate::error::port_error;
use crate::remote::{self, Patience};
use crate::settings::DestinationSettings;

const GOOGLE: &str = "https://storage.googleapis.com";
const RIGHT: &str = "storage.buckets.create (such as roles/storage.admin) in the project";
/// How Google says that the bucket that is there is the caller's own.
const YOURS: &str = "you already own it";

pub(super) async fn make(
    bucket: &str,
    settings: &DestinationSettings,
    wishes: &BucketWishes,
) -> Result<MadeBucket, MakeBucketError> {
    let project = wishes.google_project.clone().or_else(|| project_of_key(settings));
    let project = project.ok_or_else(|| refused("name the Google Cloud project that it belongs to"))?;
    let endpoint = remote::gcs_endpoint(settings)?;
    let is_http = endpoint.as_ref().is_some_and(|endpoint| endpoint.is_http);
    let base = endpoint.map_or_else(|| GOOGLE.to_owned(), |endpoint| endpoint.url);
    let url = Url::parse_with_params(&format!("{base}/storage/v1/b"), [("project", project)])
        .map_err(|source| refused("the endpoint makes no address").with_source(source))?;
    let store = remote::gcs(bucket, settings, Patience::Brief)?;
    let credential = store.credentials().get_credential().await.map_err(|error| port_error(MAKE, error))?;
    let headers = [("content-type", "application/json"), ("authorization", &*bearer(&credential))];
    let request = request(MAKE, "POST", url.as_str(), &headers, configuration(bucket, wishes).to_string())?;
    let reply = Connection::new(settings, is_http)?.send(MAKE, request).await?;
    match reply.status {
        _ if reply.is_success() => Ok(made(&reply)),
        409 if reply.body.contains(YOURS) => Err(MakeBucketError::Yours),
        409 => Err(MakeBucketError::Others),
        _ => Err(refusal(&reply).into()),
    }
}

fn bearer(credential: &GcpCredential) -> String {
    format!("Bearer {}", credential.bearer)
}

fn configuration(bucket: &str, wishes: &BucketWishes) -> Value {
    let closed = json!({ "uniformBucketLevelAccess": { "enabled": true }, "publicAccessPrevention": "enforced" });
    let mut configuration = json!({ "name": bucket, "iamConfiguration": closed });
    if let Some(location) = &wishes.location {
        configuration["location"] = json!(location);
    }
    configuration
}

/// What Google says of the bucket it made; what it does not say was not done.
fn made(reply: &Reply) -> MadeBucket {
    let bucket: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let iam = &bucket["iamConfiguration"];
    let is_closed = iam["publicAccessPrevention"] == "enforced" && iam["uniformBucketLevelAccess"]["enabled"] == true;
    let problems =
        if is_closed { Vec::new() } else { vec!["the store does not say that the bucket is closed".to_owned()] };
    MadeBucket { kind: DestinationKind::Gcs, is_closed, keeps_versions: false, locks_objects: false, problems }
}

/// Google's answers are JSON.
fn refusal(reply: &Reply) -> PortError {
    let error = reply.refusal(MAKE, RIGHT);
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    match body.pointer("/error/message").and_then(Value::as_str) {
        Some(said) => PortError::new(error.kind, MAKE, format!("{} (the store said: {said})", error.message())),
        None => error,
    }
}

/// The project that a service account's key belongs to.
fn project_of_key(settings: &DestinationSettings) -> Option<String> {
    let key: Value = serde_json::from_str(settings.option("google_service_account_key")?).ok()?;
    Some(key["project_id"].as_str()?.to_owned())
}
