//! A backup of the stack is watched as it happens, and a webhook is told of it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use firebackup_aws::{AwsClients, AwsSettings, GatewayPush, config_loader};
use firebackup_testkit::push_suite::{self, LiveEnd, OpensConnections};
use serde_json::{Value, json};

use super::api::id_of;
use super::deployed::{BOUND, Deployed};
use crate::live_client::LiveClient;

pub async fn is_watched(stack: &Deployed) {
    let project = stack.project("demo-live", 400).await;
    let (mut client, mut stranger) = (connect(stack).await, connect(stack).await);
    client.subscribe(stack.key()).await;
    stranger.say(&json!({ "type": "subscribe", "token": "fb_planted" })).await;
    assert_eq!(stranger.hear().await["error"]["code"], "INVALID_TOKEN");
    // nobody answers there: the delivery stands all the same
    let webhook = json!({ "name": "w", "url": "http://127.0.0.1:1/hook", "events": ["backup.completed"] });
    let webhook = stack.api.post("/webhooks", webhook).await;
    let path = stack.api.backup(&project.id).await;
    let heard = client.until("backup.completed").await;
    assert!(heard.iter().any(|event| event["type"] == "backup.started"), "{heard:#?}");
    // of twenty chunks; a bus keeps no order
    let progress = heard.iter().filter(|event| event["type"] == "backup.progress");
    assert!(progress.count() >= 3, "how far it is is told too: {heard:#?}");
    let completed = heard.last().unwrap();
    assert_eq!(completed["data"]["id"], id_of(&path), "{completed:#}");
    stack.api.reaches(&path, &["completed"], BOUND).await;
    let deliveries = format!("/webhooks/{}/deliveries", webhook["id"].as_str().unwrap());
    firebackup_testkit::eventually("the webhook is told", BOUND, async || {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let found = stack.api.get(&deliveries).await;
        let told = found.as_array()?.iter().find(|one| one["eventId"] == completed["id"])?.clone();
        (told["attempts"].as_u64() > Some(0)).then_some(())
    })
    .await;
    stranger.say(&json!({ "type": "ping" })).await;
    assert_eq!(stranger.hear().await, json!({ "type": "pong" }), "who has not subscribed has heard of nothing");
}

/// The way to live clients is as the port asks: whoever subscribes stands in the table, under the name of the connection.
pub async fn conforms(stack: &Deployed) {
    let keys = Credentials::new("test", "test", None, None, "tests");
    let settings = AwsSettings { region: Some(stack.ministack.region().to_owned()), ..AwsSettings::default() };
    let config = config_loader(&settings).credentials_provider(keys).load().await;
    let at = format!("{}/_aws/execute-api/{}/live", stack.ministack.endpoint(), stack.output("LiveApiId"));
    push_suite::conforms(&GatewayPush::new(&AwsClients::new(&config), &at), &Subscribers(stack)).await;
}

struct Subscribers<'a>(&'a Deployed);

struct Subscriber(LiveClient);

impl Subscribers<'_> {
    /// The names of those who are subscribed.
    async fn names(&self) -> BTreeSet<String> {
        let items = self.0.aws.items("firebackup").await;
        let keys = items.iter().map(|item| serde_json::from_str::<Value>(item).unwrap());
        keys.filter_map(|item| Some(item["pk"]["S"].as_str()?.strip_prefix("LIVE#")?.to_owned())).collect()
    }
}

#[async_trait]
impl OpensConnections for Subscribers<'_> {
    async fn open(&self) -> (String, Box<dyn LiveEnd>) {
        let before = self.names().await;
        let mut client = connect(self.0).await;
        client.subscribe(self.0.key()).await;
        let name = self.names().await.difference(&before).next().expect("who subscribes stands in the table").clone();
        (name, Box::new(Subscriber(client)))
    }
}

#[async_trait]
impl LiveEnd for Subscriber {
    async fn next(&mut self) -> Option<String> {
        self.0.next_text().await
    }

    async fn close(mut self: Box<Self>) {
        self.0.close().await;
    }
}

async fn connect(stack: &Deployed) -> LiveClient {
    let at = stack.ministack.endpoint().trim_start_matches("http://").to_owned();
    let port = at.rsplit_once(':').unwrap().1;
    let host = format!("{}.execute-api.localhost:{port}", stack.output("LiveApiId"));
    LiveClient::connect(&format!("ws://{at}/live"), Some(&host)).await
}
