//! Events of changes that are posted to the stack: they wait in its table, are folded by whoever is woken, and one document is put
//! back as it was reported. Functions that die, messages that come twice, and the buffer on the stack's own table.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use firebackup_aws::{AwsClients, AwsSettings, DynamoItemStore, config_loader};
use firebackup_codec::typed_json::write_json;
use firebackup_control::ItemEventBuffer;
use firebackup_model::{DocumentPath, Timestamp};
use firebackup_testkit::{AwsFault, HandClock, OAuthServer, event_buffer_suite, eventually};
use serde_json::{Value, json};

use super::api::path_of;
use super::deployed::{BOUND, Connected, Deployed};
use crate::posted::{self, ACCOUNT, AUDIENCE, CLIENT, PATH, PLANTED, Request, event, now, signed};
use crate::stage::read_all;

/// Until the tick after next finds what waits: nothing else asks for what came while somebody folded.
const UNTIL_FOLDED: Duration = Duration::from_secs(240);

/// A stack that takes events of a project.
struct Taking {
    stack: Deployed,
    project: Connected,
    issuer: OAuthServer,
    client: reqwest::Client,
    secret: String,
}

impl Taking {
    async fn new() -> Self {
        let issuer = OAuthServer::start(CLIENT.0, CLIENT.1).await;
        let parameters =
            format!("ChunkDocuments=60 PartDocuments=60 EventsIssuer={} AllowPrivateAddresses=true", issuer.issuer());
        let stack = Deployed::with(&parameters).await;
        stack.api.add_destination(&stack.bucket_url()).await;
        let project = stack.project("demo-app", 20).await;
        let backup = stack.api.backup(&project.id).await;
        stack.api.reaches(&backup, &["completed"], BOUND).await;
        let push = json!({"serviceAccount": ACCOUNT, "audience": AUDIENCE, "hmac": true});
        let config = json!({"changeWindowMinutes": 60, "push": push});
        stack.api.post("/pitr/enable", json!({"projectId": project.id, "config": config})).await;
        let route = format!("/pitr/{}/events/secret", project.id);
        let secret = stack.api.post(&route, json!({})).await["secret"].as_str().unwrap().to_owned();
        Self { stack, project, issuer, client: reqwest::Client::new(), secret }
    }

    fn route(&self, what: &str) -> String {
        format!("/pitr/{}/{what}", self.project.id)
    }

    async fn post(&self, proof: &[(String, String)], request: Request) -> (u16, Value) {
        let url = format!("{}/api/v1{}", self.stack.api.url(), self.route("events"));
        posted::post(&self.client, &url, proof, request).await
    }

    /// Posts an event that is signed; what became of it.
    async fn takes(&self, request: Request) -> String {
        let proof = signed(&self.secret, now(), &request.body);
        let (status, body) = self.post(&proof, request).await;
        assert_eq!(status, 202, "{body:#}");
        body["data"]["outcome"].as_str().unwrap().to_owned()
    }

    async fn push(&self) -> Value {
        self.stack.api.get(&self.route("statistics")).await["push"].clone()
    }

    /// Waits until so many events stand in the repository, and none waits.
    async fn folded(&self, events: u64) -> Value {
        eventually("events are folded", UNTIL_FOLDED, async || {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let push = self.push().await;
            (push["folded"].as_u64() >= Some(events) && push["backlog"] == 0).then_some(push)
        })
        .await
    }

    /// What `api` sends for the first event that waits.
    fn message(&self) -> String {
        let organization = &self.stack.organization;
        json!({"fold": {"organization": organization, "project": self.project.id, "database": "(default)"}}).to_string()
    }

    /// The batches that stand in the repository.
    async fn batches(&self) -> Vec<String> {
        let prefix = format!("{}/reported/", self.project.id);
        self.stack.aws.objects(self.stack.output("BucketName"), &prefix).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_taken_folded_once_and_put_back_as_they_were_reported() {
    let all = Taking::new().await;
    let stack = &all.stack;
    stack.explaining("the buffer", a_buffer_on_the_stacks_table_conforms(stack)).await;
    stack.explaining("taken", are_taken(&all)).await;
    stack.explaining("put back", is_put_back(&all)).await;
    stack.explaining("twice", a_message_that_comes_twice(&all)).await;
    stack.explaining("killed", killed_behind_the_batch(&all)).await;
    nothing_is_told(&all).await;
}

async fn a_buffer_on_the_stacks_table_conforms(stack: &Deployed) {
    let (region, endpoint) = (stack.ministack.region().to_owned(), stack.ministack.endpoint().to_owned());
    let settings = AwsSettings { region: Some(region), endpoint: Some(endpoint), ..AwsSettings::default() };
    let keys = Credentials::new("test", "a-secret-for-tests-only", None, None, "tests");
    let config = config_loader(&settings).credentials_provider(keys).load().await;
    let clock = Arc::new(HandClock::default());
    let items = DynamoItemStore::new(&AwsClients::new(&config), stack.output("TableName"), clock.clone());
    let buffer = ItemEventBuffer::new(Arc::new(items), clock.clone());
    event_buffer_suite::conforms(Arc::new(buffer), &clock).await;
}

/// Signed or with a token, in any form, once and twice; what may not be is not taken, and what cannot be is refused.
async fn are_taken(all: &Taking) {
    all.issuer.tell(json!({"claims": {"aud": AUDIENCE, "email": ACCOUNT}})).await;
    let token = all.issuer.account_token(CLIENT).await;
    let token = vec![("authorization".to_owned(), format!("Bearer {token}"))];
    let (status, body) = all.post(&token, event(1, "evt-11", 11)).await;
    assert_eq!((status, &body["data"]["outcome"]), (202, &json!("buffered")), "{body:#}");
    for (form, n) in [(3, 14), (2, 13), (4, 15), (3, 12)] {
        for expect in ["buffered", "duplicate"] {
            assert_eq!(all.takes(event(form, &format!("evt-{n}"), n)).await, expect, "form {form}");
        }
    }
    assert_eq!(all.takes(event(1, "evt-11", 11)).await, "duplicate");
    let malformed = Request { headers: Vec::new(), body: b"nonsense".to_vec() };
    assert_eq!(all.takes(malformed).await, "refused");
    let mut large: Value = serde_json::from_slice(&event(3, "evt-98", 98).body).unwrap();
    large["data"]["value"]["fields"]["text"]["stringValue"] = "x".repeat(3 << 20).into();
    let headers = vec![("content-type".to_owned(), "application/cloudevents+json".to_owned())];
    assert_eq!(all.takes(Request { headers, body: large.to_string().into_bytes() }).await, "refused");
    let other = event(3, "evt-99", 99);
    for proof in [signed("whsec_AAAA", now(), &other.body), signed(&all.secret, now(), b"another"), Vec::new()] {
        assert_eq!(all.post(&proof, event(3, "evt-99", 99)).await.0, 401);
    }
    let push = all.folded(5).await;
    assert_eq!((&push["received"], &push["folded"]), (&json!(5), &json!(5)), "{push:#}");
    assert_eq!((&push["duplicates"], &push["refused"]), (&json!(5), &json!(2)), "{push:#}");
    assert!(push["lastEventAt"].is_string(), "{push:#}");
}

/// One version among several that no moment knows.
async fn is_put_back(all: &Taking) {
    let before = all.batches().await.len();
    let (first, second) = (event(3, "evt-21", 21), event(3, "evt-41", 41));
    let written: Value = serde_json::from_slice(&first.body).unwrap();
    let at: Timestamp = written["data"]["value"]["updateTime"].as_str().unwrap().parse().unwrap();
    for request in [first, second] {
        assert_eq!(all.takes(request).await, "buffered");
    }
    all.folded(7).await;
    assert!(all.batches().await.len() > before);
    let asked =
        json!({"projectId": all.project.id, "pointInTime": at.plus_seconds(1), "reported": true, "paths": [PATH]});
    let restore = all.stack.api.post("/pitr/restore", asked.clone()).await;
    assert_eq!(restore["reported"]["document"], PATH, "{restore:#}");
    let done = all.stack.api.reaches(&path_of(&restore), &["completed"], BOUND).await;
    assert_eq!((&done["result"]["written"], &done["result"]["failed"]), (&json!(1), &json!(0)), "{done:#}");
    let documents = read_all(&all.project.source).await;
    assert_eq!(documents.len() as u64, all.project.documents + 1);
    let mut restored = Vec::new();
    write_json(&documents[&DocumentPath::new(PATH).unwrap()], &mut restored).unwrap();
    let restored: Value = serde_json::from_slice(&restored).unwrap();
    assert_eq!(restored["fields"]["n"]["integerValue"], "21", "{restored:#}");
    for paths in [json!([PATH, "users/a"]), json!([])] {
        let mut wrong = asked.clone();
        wrong["paths"] = paths;
        assert_eq!(all.stack.api.refused("/pitr/restore", &wrong).await, (422, "VALIDATION_FAILED".to_owned()));
    }
    let mut unknown = asked;
    unknown["paths"] = json!(["users/never"]);
    unknown["pointInTime"] = json!(at.plus_seconds(-86_400));
    assert_eq!(all.stack.api.refused("/pitr/restore", &unknown).await, (422, "MOMENT_UNAVAILABLE".to_owned()));
}

/// Two functions at one time, past the queue that keeps them apart, and the message that `api` sent besides.
async fn a_message_that_comes_twice(all: &Taking) {
    assert_eq!(all.takes(event(3, "evt-31", 31)).await, "buffered");
    let event = || json!({"Records": [{"messageId": "one", "body": all.message()}]});
    let invoke = || all.stack.aws.invoke("firebackup-pitr-ingest", event());
    let (one, other) = tokio::join!(invoke(), invoke());
    assert_eq!((&one["batchItemFailures"], &other["batchItemFailures"]), (&json!([]), &json!([])), "{one} {other}");
    let push = all.folded(8).await;
    assert_eq!((&push["received"], &push["folded"]), (&json!(8), &json!(8)), "{push:#}");
    // nothing waits: the message is for nothing, and no mistake
    let again = all.stack.aws.invoke("firebackup-pitr-ingest", event()).await;
    assert_eq!(again["batchItemFailures"], json!([]));
}

/// The function dies when the batch's manifest is put and before its events are settled. The message comes again, or the next tick
/// does: the same batch is found there, and counted once.
async fn killed_behind_the_batch(all: &Taking) {
    let faults = all.stack.aws_proxy.faults();
    let (killed_before, batches) = (faults.killed().len(), all.batches().await.len());
    let mut has_struck = false;
    faults.strike(move |call| {
        let strikes =
            !has_struck && call.service == "s3" && call.operation == "PUT" && call.path.contains("/reported/");
        has_struck |= strikes;
        strikes.then_some(AwsFault::KillCaller)
    });
    assert_eq!(all.takes(event(3, "evt-51", 51)).await, "buffered");
    eventually("it is killed", UNTIL_FOLDED, async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (faults.killed().len() > killed_before).then_some(())
    })
    .await;
    faults.clear();
    assert_eq!(all.takes(event(3, "evt-51", 51)).await, "duplicate");
    let push = all.folded(9).await;
    assert_eq!((&push["received"], &push["folded"]), (&json!(9), &json!(9)), "{push:#}");
    assert_eq!(all.batches().await.len(), batches + 1);
    assert_eq!(all.stack.aws.waiting(all.stack.output("PitrDeadLettersUrl")).await, 0);
}

/// Neither a document nor who has written it stands in the table or in a log.
async fn nothing_is_told(all: &Taking) {
    for item in all.stack.aws.items(all.stack.output("TableName")).await {
        assert!(!item.contains(PLANTED), "{item}");
    }
    for function in ["api", "pitr-ingest"] {
        for line in all.stack.aws.logs(&format!("firebackup-{function}")).await {
            assert!(!line.contains(PLANTED) && !line.contains(&all.secret), "{line}");
        }
    }
}
