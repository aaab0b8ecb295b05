//! What is told when AWS is not there, or lacks what it should have.

use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use firebackup_aws::{AwsClients, AwsSettings, DynamoItemStore, SqsJobQueue, config_loader};
use firebackup_model::port::{Clock, ItemKey, ItemStore, JobQueue};
use firebackup_model::{ErrorKind, Timestamp};

use crate::stage::{Stage, config_of};

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::new(1_800_000_000, 0)
    }
}

fn store(clients: &AwsClients) -> DynamoItemStore {
    DynamoItemStore::new(clients, "missing", Arc::new(Standing))
}

fn key() -> ItemKey {
    ItemKey::new("p", "s")
}

pub async fn what_the_stack_lacks_is_told(stage: &Stage) {
    let error = store(&stage.clients).get(&key()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    assert!(error.to_string().starts_with("could not read an item: "), "{error}");
    let url = format!("{}/000000000000/missing", stage.ministack.endpoint());
    let error = SqsJobQueue::new(&stage.clients, &url, &url).send("x", Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_can_be_retried() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = config_of(&format!("http://{address}"), "eu-central-1").await;
    let error = store(&AwsClients::new(&config)).get(&key()).await.unwrap_err();
    assert_eq!((error.kind, error.can_be_retried()), (ErrorKind::Unavailable, true), "{error:?}");
    assert!(error.source().is_some_and(|cause| cause.to_string().contains("refused")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_are_no_passing_failure() {
    let settings = AwsSettings {
        region: Some("eu-central-1".to_owned()),
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        ..AwsSettings::default()
    };
    let config = config_loader(&settings).credentials_provider(Nobody).load().await;
    let error = store(&AwsClients::new(&config)).get(&key()).await.unwrap_err();
    assert_eq!((error.kind, error.can_be_retried()), (ErrorKind::Unauthenticated, false), "{error:?}");
}

/// Has no credentials.
#[derive(Debug)]
struct Nobody;

impl aws_credential_types::provider::ProvideCredentials for Nobody {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let none = aws_credential_types::provider::error::CredentialsError::not_loaded("none were set");
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(none))
    }
}
