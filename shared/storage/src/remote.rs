//! Clients of the object stores of the clouds.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use firebackup_model::{ErrorKind, PortError};
use http::HeaderValue;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use crate::destination::DestinationKind;
use crate::gcs_requests::GcsRequests;
use crate::guard::GuardedStore;
use crate::public_connector::Connector;
use crate::s3_requests::S3Requests;
use crate::settings::{DestinationSettings, Endpoint, is_label};

/// The client's own, where none is said.
pub(crate) const DEFAULT_REGION: &str = "us-east-1";
/// An option of ours: the client knows none for it.
const GCS_KEY_NAME: &str = "google_kms_key_name";

/// How long a request is tried for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Ten times, which takes some seconds: for jobs, whose steps are tried again.
    Patient,
    /// A few seconds: for a person who waits.
    Brief,
}

impl Patience {
    fn retry(self) -> RetryConfig {
        match self {
            Self::Patient => RetryConfig::default(),
            Self::Brief => {
                RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(15), ..RetryConfig::default() }
            }
        }
    }

    /// How long a connection may take to stand.
    pub(crate) const CONNECT: Duration = Duration::from_secs(5);

    /// A part of 8 MiB has to pass within one request, over slow lines too; the client's own limit of 30 s would not
    /// let it at 2 Mbit/s.
    pub(crate) const fn request(self) -> Duration {
        match self {
            Self::Patient => Duration::from_secs(300),
            Self::Brief => Duration::from_secs(20),
        }
    }

    pub(crate) fn client(self) -> ClientOptions {
        ClientOptions::new().with_timeout(self.request()).with_connect_timeout(Self::CONNECT)
    }

    pub(crate) const fn connector(self, public_only: bool) -> Connector {
        Connector { public_only, patience: self }
    }
}

/// A client for `prefix` in `bucket`.
///
/// # Errors
/// When an option or the endpoint cannot be used.
pub(crate) fn open(
    kind: DestinationKind,
    bucket: &str,
    prefix: &Path,
    settings: &DestinationSettings,
    patience: Patience,
) -> Result<Arc<dyn ObjectStore>, PortError> {
    match kind {
        DestinationKind::S3 => s3(bucket, settings, patience).map(|store| scoped(store, prefix)),
        DestinationKind::Gcs => gcs(bucket, settings, patience).map(|store| scoped(store, prefix)),
        DestinationKind::Azure => azure(bucket, settings, patience).map(|store| scoped(store, prefix)),
        DestinationKind::Folder => Err(refused("a folder has no bucket")),
    }
}

fn scoped(store: impl ObjectStore, prefix: &Path) -> Arc<dyn ObjectStore> {
    Arc::new(GuardedStore::new(PrefixStore::new(store, prefix.clone())))
}

/// The endpoint of S3 or of a service that speaks its protocol, where one is named.
pub(crate) fn s3_endpoint(settings: &DestinationSettings) -> Result<Option<Endpoint>, PortError> {
    settings.endpoint("aws_", &["aws_endpoint_url_s3", "aws_endpoint_url", "aws_endpoint"])
}

pub(crate) fn s3(bucket: &str, settings: &DestinationSettings, patience: Patience) -> Result<AmazonS3, PortError> {
    const VENDOR: &str = "aws_";
    let endpoint = s3_endpoint(settings)?;
    let mut builder = AmazonS3Builder::new().with_client_options(patience.client()).with_retry(patience.retry());
    if !settings.option("aws_checksum_algorithm").is_some_and(is_none) {
        // the service compares what arrived with what was sent, part by part
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    builder = with_options(builder, settings, VENDOR, |builder, key: AmazonS3ConfigKey, value| match key {
        AmazonS3ConfigKey::Bucket | AmazonS3ConfigKey::Endpoint | AmazonS3ConfigKey::S3Endpoint => builder,
        AmazonS3ConfigKey::Checksum if is_none(value) => builder,
        key => builder.with_config(key, value),
    });
    builder = builder.with_bucket_name(bucket).with_allow_http(false);
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| DEFAULT_REGION.to_owned());
    match endpoint {
        Some(endpoint) => builder = builder.with_endpoint(endpoint.url).with_allow_http(endpoint.is_http),
        None if is_label(&region) => {}
        None => return Err(refused("AWS_REGION is no name of a region")),
    }
    let is_conditional = !settings.option("aws_conditional_complete").is_some_and(is_none);
    let requests = S3Requests::new(region, is_conditional, patience.connector(settings.is_guarded()));
    let store = builder.with_http_connector(requests.clone()).build().map_err(unusable)?;
    requests.sign_with(store.credentials());
    Ok(store)
}

/// Where Google Cloud Storage is reached, where that is named.
pub(crate) fn gcs_endpoint(settings: &DestinationSettings) -> Result<Option<Endpoint>, PortError> {
    settings.endpoint("google_", &["google_base_url"])
}

pub(crate) fn gcs(
    bucket: &str,
    settings: &DestinationSettings,
    patience: Patience,
) -> Result<GoogleCloudStorage, PortError> {
    const VENDOR: &str = "google_";
    let endpoint = gcs_endpoint(settings)?;
    // by its own default the client speaks plain http wherever a service account key sends it
    let is_http = endpoint.as_ref().is_some_and(|endpoint| endpoint.is_http) || settings.allows_http(VENDOR);
    let client = patience.client().with_allow_http(is_http);
    let mut builder = GoogleCloudStorageBuilder::new().with_client_options(client).with_retry(patience.retry());
    let connector = patience.connector(settings.is_guarded());
    builder = builder.with_http_connector(GcsRequests::new(key_name(settings)?, connector));
    builder = with_options(builder, settings, VENDOR, |builder, key: GoogleConfigKey, value| match key {
        GoogleConfigKey::Bucket | GoogleConfigKey::BaseUrl => builder,
        key => builder.with_config(key, value),
    });
    builder = builder.with_bucket_name(bucket);
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(&endpoint.url);
    }
    builder.build().map_err(unusable)
}

/// The key of Google's key service under which objects are kept; the bucket's own where none is named.
fn key_name(settings: &DestinationSettings) -> Result<Option<HeaderValue>, PortError> {
    let named = settings.option(GCS_KEY_NAME).filter(|name| !name.is_empty()).map(HeaderValue::from_str);
    named.transpose().map_err(|_| refused("GOOGLE_KMS_KEY_NAME is not the name of a key"))
}

/// Where Azure's blobs are reached, where that is named.
pub(crate) fn azure_endpoint(settings: &DestinationSettings) -> Result<Option<Endpoint>, PortError> {
    settings.endpoint("azure_", &["azure_storage_endpoint", "azure_endpoint"])
}

pub(crate) fn azure(
    container: &str,
    settings: &DestinationSettings,
    patience: Patience,
) -> Result<MicrosoftAzure, PortError> {
    const VENDOR: &str = "azure_";
    let endpoint = azure_endpoint(settings)?;
    let mut builder = MicrosoftAzureBuilder::new().with_client_options(patience.client()).with_retry(patience.retry());
    builder = builder.with_http_connector(patience.connector(settings.is_guarded()));
    builder = with_options(builder, settings, VENDOR, |builder, key: AzureConfigKey, value| match key {
        AzureConfigKey::ContainerName | AzureConfigKey::Endpoint => builder,
        key => builder.with_config(key, value),
    });
    builder = builder.with_container_name(container).with_allow_http(false);
    let account = builder.get_config_value(&AzureConfigKey::AccountName).unwrap_or_default();
    match endpoint {
        Some(endpoint) => builder = builder.with_endpoint(endpoint.url).with_allow_http(endpoint.is_http),
        None if account.is_empty() || is_label(&account) => {}
        None => return Err(refused("AZURE_STORAGE_ACCOUNT_NAME is no name of an account")),
    }
    builder.build().map_err(unusable)
}

/// Hands the options of one vendor that the client knows to `set`.
fn with_options<B, K: FromStr>(
    builder: B,
    settings: &DestinationSettings,
    vendor: &str,
    set: impl Fn(B, K, &str) -> B,
) -> B {
    settings.options_of(vendor).fold(builder, |builder, (name, value)| match name.parse() {
        Ok(key) => set(builder, key, value),
        Err(_) => {
            tracing::debug!(option = %name, "the option is not one of the store's and is left alone");
            builder
        }
    })
}

fn is_none(value: &str) -> bool {
    value.eq_ignore_ascii_case("none")
}

/// The client's reason may repeat the value of an option, so it is told in our words; the source is left out.
fn unusable(error: object_store::Error) -> PortError {
    let why = error.to_string();
    let says = |text: &str| why.contains(text);
    refused(if says("Missing AccessKeyId") {
        "AWS_SECRET_ACCESS_KEY is given without AWS_ACCESS_KEY_ID"
    } else if says("Missing SecretAccessKey") {
        "AWS_ACCESS_KEY_ID is given without AWS_SECRET_ACCESS_KEY"
    } else if says("Account must be specified") {
        "AZURE_STORAGE_ACCOUNT_NAME is not given"
    } else if says("One of service account path or service account key") {
        "GOOGLE_SERVICE_ACCOUNT and GOOGLE_SERVICE_ACCOUNT_KEY are both given"
    } else if says("Unable to open service account file") {
        "the Google credential file cannot be opened"
    } else if says("Unable to decode service account file") {
        "the Google credential is not the JSON of a service account or of a user"
    } else {
        "an option has a value that the store's client does not take"
    })
}

fn refused(why: &str) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, "set up the client of the destination", why)
}
