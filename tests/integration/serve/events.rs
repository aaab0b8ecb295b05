//! Events of changes that are posted to a server: who may, in which form, how often, and what a history tells of them.

use std::time::Duration;

use firebackup_testkit::OAuthServer;
use serde_json::{Value, json};

use super::PATIENCE;
use super::installation::{Api, Place, SMALL};
use crate::posted::{self, ACCOUNT, AUDIENCE, CLIENT, PATH, PLANTED, Request, event, now, signed};

/// A server that takes events of a project, and the issuer of those who post them.
struct Taking {
    place: Place,
    issuer: OAuthServer,
    secret: String,
}

impl Taking {
    async fn new() -> Self {
        let issuer = OAuthServer::start(CLIENT.0, CLIENT.1).await;
        let mut place = Place::with(20).await;
        place.server.running.child.kill().unwrap();
        place.server.running.child.wait().unwrap();
        let mut taking = Self { place, issuer, secret: String::new() };
        taking.start().await;
        let api = taking.place.api();
        let backup = api.back_up(&taking.place.project).await;
        api.ends(&taking.place.backup_path(&backup), "completed").await;
        let push = json!({"serviceAccount": ACCOUNT, "audience": AUDIENCE, "hmac": true});
        let config = json!({"changeWindowMinutes": 60, "push": push});
        api.post("/pitr/enable", json!({"projectId": taking.place.project, "config": config})).await;
        let secret = api.post(&taking.route("events/secret"), json!({})).await["secret"].as_str().unwrap().to_owned();
        taking.secret = secret;
        taking
    }

    /// Starts the server that is to take events, when the one before has ended.
    async fn start(&mut self) {
        let arguments = [&SMALL[..], &["--events-issuer", self.issuer.issuer()]].concat();
        self.place.server = self.place.installation.start(&arguments).await;
    }

    fn route(&self, what: &str) -> String {
        format!("/pitr/{}/{what}", self.place.project)
    }

    async fn token(&self, told: Value) -> Vec<(String, String)> {
        self.issuer.tell(told).await;
        let token = self.issuer.account_token(CLIENT).await;
        vec![("authorization".to_owned(), format!("Bearer {token}"))]
    }

    async fn good_token(&self) -> Vec<(String, String)> {
        self.token(json!({"claims": {"aud": AUDIENCE, "email": ACCOUNT}})).await
    }

    async fn post(&self, proof: &[(String, String)], request: Request) -> (u16, Value) {
        let api = self.place.api();
        posted::post(&api.client, &format!("{}{}", api.address, self.route("events")), proof, request).await
    }

    async fn takes(&self, proof: &[(String, String)], request: Request) -> String {
        let (status, body) = self.post(proof, request).await;
        assert_eq!(status, 202, "{body:#}");
        body["data"]["outcome"].as_str().unwrap().to_owned()
    }

    /// Waits until so many events stand in the repository.
    async fn folded(&self, api: &Api, events: u64) -> Value {
        let is_done = |statistics: &Value| {
            statistics["push"]["folded"].as_u64() >= Some(events) && statistics["push"]["backlog"] == 0
        };
        api.wait(&self.route("statistics"), "events that are folded", is_done).await
    }

    /// The versions that were reported, the numbers in them, in order.
    fn reported(&self) -> Vec<String> {
        let told = self.place.installation.cli(&self.place.project, &["history", PATH, "--json"]);
        let told: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"));
        // one of which nothing is known is an error
        let Some(versions) = told["versions"].as_array() else { return Vec::new() };
        let reported = versions.iter().filter(|version| version["origin"] == "reported");
        let mut numbers: Vec<_> = reported
            .map(|version| version["document"]["fields"]["n"]["integerValue"].as_str().unwrap_or("gone").to_owned())
            .collect();
        numbers.sort();
        numbers
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_in_every_form_come_into_the_history_once_and_nobody_else_posts_any() {
    let taking = Taking::new().await;
    let api = taking.place.api();
    let token = taking.good_token().await;
    // out of order, and each twice
    for (form, n) in [(3, 14), (0, 11), (5, 16), (1, 12), (4, 15), (2, 13)] {
        for expect in ["buffered", "duplicate"] {
            assert_eq!(taking.takes(&token, event(form, &format!("evt-{n}"), n)).await, expect, "form {form}");
        }
    }
    let by_secret = event(3, "evt-17", 17);
    let proof = signed(&taking.secret, now(), &by_secret.body);
    assert_eq!(taking.takes(&proof, by_secret).await, "buffered");

    for claims in [
        json!({"aud": "https://elsewhere.example", "email": ACCOUNT}),
        json!({"aud": AUDIENCE, "email": "others@demo-app.iam.gserviceaccount.com"}),
        json!({"aud": AUDIENCE, "email": ACCOUNT, "email_verified": false}),
        json!({"aud": AUDIENCE, "email": ACCOUNT, "iss": "https://accounts.evil.example"}),
    ] {
        let proof = taking.token(json!({"claims": claims})).await;
        assert_eq!(taking.post(&proof, event(0, "evt-99", 99)).await.0, 401, "{claims}");
    }
    let stranger = taking.token(json!({"claims": {"aud": AUDIENCE, "email": ACCOUNT}, "signature": "stranger"})).await;
    assert_eq!(taking.post(&stranger, event(0, "evt-99", 99)).await.0, 401);
    assert_eq!(taking.post(&[], event(0, "evt-99", 99)).await.0, 401);
    let other = event(3, "evt-99", 99);
    for proof in [
        signed("whsec_AAAA", now(), &other.body),
        signed(&taking.secret, now().plus_seconds(-400), &other.body),
        signed(&taking.secret, now(), b"another"),
    ] {
        assert_eq!(taking.post(&proof, event(3, "evt-99", 99)).await.0, 401);
    }

    let mut foreign = event(0, "evt-99", 99);
    foreign.headers.iter_mut().filter(|(name, _)| name == "ce-source").for_each(|(_, value)| {
        *value = value.replace("demo-app", "demo-other");
    });
    assert_eq!(taking.takes(&token, foreign).await, "refused");
    let nonsense = Request { headers: Vec::new(), body: b"nonsense".to_vec() };
    assert_eq!(taking.takes(&token, nonsense).await, "refused");
    // dated three days ahead: it is taken, and left out when it is folded
    assert_eq!(taking.takes(&token, event(0, "evt-98", 3 * 24 * 3600)).await, "buffered");

    let statistics = taking.folded(&api, 7).await;
    let push = &statistics["push"];
    assert_eq!(
        (&push["received"], &push["duplicates"], &push["refused"]),
        (&json!(8), &json!(6), &json!(3)),
        "{push:#}"
    );
    assert_eq!(taking.reported(), ["11", "12", "13", "14", "15", "16", "17"]);
    assert_nothing_is_told(&taking);
}

/// Neither a document nor who has written it stands in the log or, in clear, in a file of the server.
fn assert_nothing_is_told(taking: &Taking) {
    let log = taking.place.installation.log();
    for secret in [PLANTED, &taking.secret, CLIENT.1] {
        assert!(!log.contains(secret), "the log holds {secret}");
        for file in super::installation::files(&taking.place.installation.data()) {
            let bytes = std::fs::read(&file).unwrap();
            let holds = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!holds, "{} holds {secret}", file.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_taken_survive_whoever_took_them() {
    let mut taking = Taking::new().await;
    let folder = taking.place.installation.backups();
    let away = folder.with_extension("away");
    let token = taking.good_token().await;
    assert_eq!(taking.takes(&token, event(0, "evt-1", 11)).await, "buffered");
    // killed between the buffer and the repository
    taking.place.server.running.child.kill().unwrap();
    taking.place.server.running.child.wait().unwrap();
    assert!(taking.reported().is_empty());
    taking.start().await;
    taking.folded(&taking.place.api(), 1).await;
    assert_eq!(taking.reported(), ["11"]);
    assert_eq!(taking.takes(&token, event(0, "evt-1", 11)).await, "duplicate");

    // killed again while the repository is out of reach
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    assert_eq!(taking.takes(&token, event(0, "evt-2", 12)).await, "buffered");
    let failed = async {
        while !taking.place.installation.log().contains("events could not be folded") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.expect("a fold that fails");
    taking.place.server.running.child.kill().unwrap();
    taking.place.server.running.child.wait().unwrap();
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    taking.start().await;
    let statistics = taking.folded(&taking.place.api(), 2).await;
    assert_eq!(statistics["push"]["received"], 2, "{statistics:#}");
    assert_eq!(taking.reported(), ["11", "12"]);
}
