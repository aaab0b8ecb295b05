//! The clients of AWS, with time-outs and retries set on purpose.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use firebackup_model::{ErrorKind, PortError};

use crate::public_names::PublicNames;

/// The services stand in the same region: who is not let in within this time has met a machine that is gone.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// One try. The slowest answers that are wanted (a transaction of 100 items, a list of chunks put into a bucket) take
/// well below a second.
pub(crate) const ATTEMPT_LIMIT: Duration = Duration::from_secs(8);
/// All tries of one request. Half a minute is as long as API Gateway waits for the function that asks.
const OPERATION_LIMIT: Duration = Duration::from_secs(24);
/// The first try included. Throttling passes within a few tries or not at all; whoever called tries again later.
const MAX_ATTEMPTS: u32 = 4;
/// The bound of the first wait between two tries; the SDK's own second is long where an answer takes milliseconds.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(3);

/// Where AWS is. Whatever is left out is found by the SDK's own chain (environment, profile, role).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// The region, such as `eu-central-1`. The metadata service of a machine is not asked for one.
    pub region: Option<String>,
    /// A URL that stands for all services, such as that of a local AWS.
    pub endpoint: Option<String>,
    /// The profile of the shared configuration files.
    pub profile: Option<String>,
    /// Whether the endpoint was chosen by somebody who must not reach this machine and its networks by it.
    pub public_only: bool,
}

/// What loads the configuration that all clients are made from; nobody is spoken to.
#[must_use]
pub fn config_loader(settings: &AwsSettings) -> ConfigLoader {
    // one HTTP client for all services: the certificates of the system are read once and not once a service
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
    let http = if settings.public_only { http.build_with_resolver(PublicNames) } else { http.build_https() };
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(region(settings))
        .timeout_config(timeouts())
        .retry_config(retries());
    let loader = match AppName::new("firebackup") {
        Ok(name) => loader.app_name(name),
        Err(_) => loader,
    };
    let loader = match &settings.endpoint {
        Some(endpoint) => loader.endpoint_url(endpoint),
        None => loader,
    };
    match &settings.profile {
        Some(profile) => loader.profile_name(profile),
        None => loader,
    }
}

/// The SDK's own chain ends at the metadata service of the machine, which would be waited for where there is none.
fn region(settings: &AwsSettings) -> RegionProviderChain {
    let profile = match &settings.profile {
        Some(name) => ProfileFileRegionProvider::builder().profile_name(name).build(),
        None => ProfileFileRegionProvider::new(),
    };
    RegionProviderChain::first_try(settings.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile)
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_LIMIT)
        .read_timeout(ATTEMPT_LIMIT)
        .operation_attempt_timeout(ATTEMPT_LIMIT)
        .operation_timeout(OPERATION_LIMIT)
        .build()
}

/// Standard mode: it tries again what can be tried again, waits at random and longer each time, and stops when too many
/// requests fail at once. The adaptive mode would hold back requests of one tenant because of another's.
fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(MAX_ATTEMPTS)
        .with_initial_backoff(FIRST_BACKOFF)
        .with_max_backoff(LAST_BACKOFF)
}

/// What all clients are made from: one configuration, one HTTP client. A client is made by the adapter that needs it, so
/// that a program is linked with those that it uses and no others.
#[derive(Debug, Clone)]
pub struct AwsClients(SdkConfig);

impl AwsClients {
    /// Clients for what `settings` say. Nobody is spoken to: missing credentials are told by the first request.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when there is no region, neither here nor in the SDK's own chain.
    pub async fn load(settings: &AwsSettings) -> Result<Self, PortError> {
        Ok(Self(with_region(config_loader(settings).load().await)?))
    }

    /// Clients of a configuration that was loaded.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        Self(config.clone())
    }

    #[cfg(feature = "kms")]
    pub(crate) fn kms(&self) -> aws_sdk_kms::Client {
        aws_sdk_kms::Client::new(&self.0)
    }

    /// Behind an endpoint of its own a bucket is a part of the path: names below that host resolve nowhere.
    #[cfg(feature = "control")]
    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        let path_style = self.0.endpoint_url().is_some();
        aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&self.0).force_path_style(path_style).build())
    }

    #[cfg(feature = "control")]
    pub(crate) fn gateway_management(&self, endpoint: &str) -> aws_sdk_apigatewaymanagement::Client {
        let config = aws_sdk_apigatewaymanagement::config::Builder::from(&self.0).endpoint_url(endpoint).build();
        aws_sdk_apigatewaymanagement::Client::from_conf(config)
    }

    #[cfg(feature = "control")]
    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.0)
    }

    #[cfg(feature = "control")]
    pub(crate) fn eventbridge(&self) -> aws_sdk_eventbridge::Client {
        aws_sdk_eventbridge::Client::new(&self.0)
    }

    #[cfg(feature = "control")]
    pub(crate) fn scheduler(&self) -> aws_sdk_scheduler::Client {
        aws_sdk_scheduler::Client::new(&self.0)
    }

    #[cfg(feature = "control")]
    pub(crate) fn sfn(&self) -> aws_sdk_sfn::Client {
        aws_sdk_sfn::Client::new(&self.0)
    }

    #[cfg(feature = "control")]
    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.0)
    }
}

/// Without a region no request can be signed, and what the SDK says then looks like a failure of the network.
pub(crate) fn with_region(config: SdkConfig) -> Result<SdkConfig, PortError> {
    const MESSAGE: &str = "there is no region: set AWS_REGION, or a region in the profile";
    match config.region() {
        Some(_) => Ok(config),
        None => Err(PortError::new(ErrorKind::InvalidArgument, "reach AWS", MESSAGE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn loaded(settings: &AwsSettings) -> SdkConfig {
        config_loader(settings).empty_test_environment().load().await
    }

    #[tokio::test]
    async fn settings_go_before_everything_else() {
        let settings = AwsSettings {
            region: Some("eu-central-1".to_owned()),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            ..AwsSettings::default()
        };
        let config = loaded(&settings).await;
        assert_eq!(config.region().map(AsRef::as_ref), Some("eu-central-1"));
        assert_eq!(config.endpoint_url(), Some("http://127.0.0.1:1"));
    }

    #[tokio::test]
    async fn a_missing_region_is_told_at_once() {
        let error = with_region(loaded(&AwsSettings::default()).await).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("AWS_REGION"), "{error}");
        let settings = AwsSettings { region: Some("eu-central-1".to_owned()), ..AwsSettings::default() };
        assert!(with_region(loaded(&settings).await).is_ok());
    }

    #[tokio::test]
    async fn every_wait_is_bounded() {
        let config = loaded(&AwsSettings { region: Some("eu-central-1".to_owned()), ..AwsSettings::default() }).await;
        let timeouts = config.timeout_config().unwrap();
        assert_eq!(timeouts.connect_timeout(), Some(CONNECT_LIMIT));
        assert_eq!(timeouts.read_timeout(), Some(ATTEMPT_LIMIT));
        assert_eq!(timeouts.operation_attempt_timeout(), Some(ATTEMPT_LIMIT));
        assert_eq!(timeouts.operation_timeout(), Some(OPERATION_LIMIT));
        let retries = config.retry_config().unwrap();
        assert_eq!((retries.max_attempts(), retries.initial_backoff()), (MAX_ATTEMPTS, FIRST_BACKOFF));
        assert!(OPERATION_LIMIT > ATTEMPT_LIMIT * 2, "a try that hangs leaves time for others");
    }
}
