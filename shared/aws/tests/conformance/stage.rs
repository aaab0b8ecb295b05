//! A local AWS, and what stands in it before the adapters come.

use aws_credential_types::Credentials;
use firebackup_aws::{AwsClients, AwsSettings, config_loader};
use firebackup_testkit::ministack::Ministack;

/// A local AWS with clients for what the tests make themselves.
pub struct Stage {
    pub ministack: Ministack,
    pub config: aws_config::SdkConfig,
    pub clients: AwsClients,
}

impl Stage {
    pub async fn start() -> Self {
        let ministack = Ministack::start().await;
        let config = config_of(ministack.endpoint(), ministack.region()).await;
        Self { ministack, clients: AwsClients::new(&config), config }
    }
}

/// What the adapters are made from, with keys that every local AWS takes.
pub async fn config_of(endpoint: &str, region: &str) -> aws_config::SdkConfig {
    let settings =
        AwsSettings { region: Some(region.to_owned()), endpoint: Some(endpoint.to_owned()), ..AwsSettings::default() };
    let keys = Credentials::new("test", "a-secret-for-tests-only", None, None, "tests");
    config_loader(&settings).credentials_provider(keys).load().await
}
