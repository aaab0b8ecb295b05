//! A whole story of an installation, told with secrets that are known, so that they can be looked for everywhere after it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use firebackup_testkit::OAuthServer;
use firebackup_testkit::s3_server::S3Server;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::browser::{Browser, CLIENT, person};
use crate::receiver::{PLANTED, Receiver};
use crate::serve::installation::{Api, files, has_ended, id};

/// Whom the story is told with.
pub struct Story {
    pub issuer: OAuthServer,
    bucket: S3Server,
    receiver: Receiver,
    slack: Receiver,
    /// What must be seen nowhere: what it is, and how it reads.
    planted: Vec<(String, String)>,
    /// What was said by the installation: where, and how it reads.
    said: Vec<(String, String)>,
}

/// A service account's key as Google writes it, which nobody has ever registered; and the lines that must not be seen.
pub fn service_account() -> (Value, Vec<String>) {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap().serialize_pem();
    let lines = key.lines().filter(|line| !line.starts_with("---")).map(str::trim).filter(|line| line.len() > 40);
    let lines = lines.map(str::to_owned).collect();
    let file = json!({
        "type": "service_account", "project_id": "planted-project", "private_key_id": "planted-key-id",
        "private_key": key, "client_email": "backup@planted-project.iam.gserviceaccount.com", "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    (file, lines)
}

impl Story {
    pub async fn begin() -> Self {
        Self {
            issuer: OAuthServer::start(CLIENT.0, CLIENT.1).await,
            bucket: S3Server::start().await,
            receiver: Receiver::start().await,
            slack: Receiver::start().await,
            planted: Vec::new(),
            said: Vec::new(),
        }
    }

    fn plant(&mut self, what: &str, secret: impl Into<String>) {
        let secret = secret.into();
        assert!(secret.len() > 10, "{what}: `{secret}` could be anything");
        self.planted.push((what.to_owned(), secret));
    }

    fn plant_all(&mut self, what: &str, shown: &Value, fields: &[&str]) {
        for field in fields {
            let secret = shown[field].as_str().unwrap_or_else(|| panic!("{what} has no {field}: {shown:#}"));
            self.plant(&format!("{field} of {what}"), secret);
        }
    }

    fn heard(&mut self, place: &str, text: impl Into<String>) {
        self.said.push((place.to_owned(), text.into()));
    }

    /// Asks for something whose answer shows no secret.
    async fn ask(&mut self, api: &Api, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let place = format!("the answer to {method} {path}");
        let (status, answer) = api.ask(method, path, body.as_ref(), None).await;
        self.heard(&place, answer.to_string());
        (status, answer)
    }

    async fn done(&mut self, api: &Api, path: &str, body: Value) -> Value {
        let (status, mut answer) = self.ask(api, Method::POST, path, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer:#}");
        answer["data"].take()
    }

    /// All of it. `emulator` is where the server finds Firestore, with documents in `demo-planted`; by consent it opens that
    /// one too.
    pub async fn tell(&mut self, api: &Api, emulator: &str) {
        self.plant("the owner's key", api.key.clone());
        self.plant("the issuer's client secret", CLIENT.1);
        self.plant("the path of a webhook", PLANTED);
        self.people(&api.address).await;
        self.keys_and_invites(api).await;
        self.webhooks(api).await;
        let project = self.projects(api, emulator).await;
        self.destinations(api).await;
        self.jobs(api, &project).await;
        self.strangers(&api.address).await;
        self.lists(api).await;
    }

    async fn people(&mut self, address: &str) {
        self.issuer.tell(person("ada", "ada@example.com")).await;
        let mut browser = Browser::new(address);
        let returning = browser.goes(&self.issuer).await;
        self.plant("the issuer's code", returning.code.clone());
        self.plant("the state of a sign-in", returning.state.clone());
        self.plant("what the browser keeps of a sign-in", browser.secret().to_owned());
        let (status, _, body) = browser.comes_back(&returning).await;
        assert_eq!(status, 200, "{body:#}");
        self.plant_all("a sign-in", &body["data"], &["code"]);
        let code = json!({ "code": body["data"]["code"], "grant_type": "authorization_code" });
        let (_, tokens) = browser.posts("/auth/token", &code).await;
        self.plant_all("a session", &tokens["data"], &["accessToken", "refreshToken"]);
        let (_, me) = browser.asks("/auth/me", &tokens["data"]["accessToken"]).await;
        assert_eq!(me["data"]["user"]["email"], "ada@example.com", "{me:#}");
        self.heard("who somebody is", me.to_string());
        let refresh = json!({ "refreshToken": tokens["data"]["refreshToken"] });
        let (_, second) = browser.posts("/auth/refresh", &refresh).await;
        self.plant_all("a refreshed session", &second["data"], &["accessToken", "refreshToken"]);
        for (path, body) in [("/auth/refresh", &refresh), ("/auth/token", &code)] {
            let (status, refused) = browser.posts(path, body).await;
            assert_eq!(status, 401, "{refused:#}");
            self.heard(path, refused.to_string());
        }
        let (status, ended) = browser.asks("/auth/me", &second["data"]["accessToken"]).await;
        assert_eq!(status, 401, "{ended:#}");
        self.heard("a session that has ended", ended.to_string());
    }

    async fn keys_and_invites(&mut self, api: &Api) {
        for role in ["viewer", "member", "admin"] {
            let new = json!({ "name": role, "role": role });
            let made = api.post("/organizations/current/service-account", new).await;
            self.plant_all("an API key", &made, &["apiKey"]);
            if role == "viewer" {
                let revoked = Api { client: Client::new(), address: api.address.clone(), key: text(&made["apiKey"]) };
                let path = format!("/organizations/current/service-account/{}", id(&made));
                self.ask(api, Method::DELETE, &path, None).await;
                let (status, _) = self.ask(&revoked, Method::GET, "/projects", None).await;
                assert_eq!(status, 401);
            }
        }
        let invite = json!({ "email": "bob@example.com", "role": "member" });
        let invited = api.post("/organizations/current/invites", invite).await;
        self.plant_all("an invite", &invited, &["token"]);
        let accept = json!({ "token": invited["token"] });
        let (status, _) = self.ask(api, Method::POST, "/organizations/invites/accept", Some(accept)).await;
        assert!((400..500).contains(&status), "a key is nobody who could join");
    }

    async fn webhooks(&mut self, api: &Api) {
        let signed = json!({ "name": "signed", "url": format!("{}?token=planted-query", self.receiver.url) });
        let slack = json!({ "name": "slack", "type": "slack", "url": self.slack.url });
        self.plant("the query of a webhook", "planted-query");
        let made = api.post("/webhooks", signed).await;
        self.plant_all("a webhook", &made, &["secret"]);
        self.done(api, "/webhooks", slack).await;
        let exchanged = api.post(&format!("/webhooks/{}/secret", id(&made)), json!({})).await;
        self.plant_all("an exchanged webhook", &exchanged, &["secret"]);
        let (status, _) = self.ask(api, Method::POST, &format!("/webhooks/{}/test", id(&made)), None).await;
        assert_eq!(status, 200);
    }

    async fn projects(&mut self, api: &Api, emulator: &str) -> String {
        let (account, lines) = service_account();
        for line in lines {
            self.plant("the key of a service account", line);
        }
        for key in [account.to_string(), format!("{{\"private_key\": {}", account["private_key"])] {
            let credentials = json!({ "type": "service_account", "key": key });
            let new = json!({ "name": "planted", "googleProject": "planted-project", "credentials": credentials });
            let (status, answer) = self.ask(api, Method::POST, "/projects", Some(new)).await;
            assert!(status >= 400, "nobody knows this key: {answer:#}");
        }
        let credentials = json!({ "type": "emulator", "host": emulator });
        let new = json!({
            "name": "Other", "googleProject": "demo-planted", "credentials": credentials, "databases": ["(default)"]
        });
        self.done(api, "/projects", new).await;
        self.consent(api).await
    }

    /// A project by somebody's consent.
    async fn consent(&mut self, api: &Api) -> String {
        self.plant("the refresh token of a consent", "planted-refresh-token-of-ada");
        let claims = json!({ "sub": "ada", "email": "ada@example.com", "email_verified": true });
        // `owner` is the one access token that an emulator takes
        let told = json!({ "claims": claims, "refreshToken": "planted-refresh-token-of-ada", "accessToken": "owner" });
        self.issuer.tell(told).await;
        let mut browser = Browser::new(&api.address);
        let returning = browser.goes_to_consent(&self.issuer, &api.key).await;
        self.plant("the issuer's code of a consent", returning.code.clone());
        self.plant("the state of a consent", returning.state.clone());
        self.plant("what the browser keeps of a consent", browser.secret().to_owned());
        let (status, body) = browser.comes_back_consenting(&returning).await;
        assert_eq!(status, 200, "{body:#}");
        self.plant_all("a consent", &body["data"], &["grant"]);
        let credentials = json!({ "type": "oauth", "grant": body["data"]["grant"] });
        let new = json!({ "name": "Shop", "googleProject": "demo-planted", "credentials": credentials });
        let project = id(&self.done(api, "/projects", new.clone()).await);
        let (status, _) = self.ask(api, Method::POST, "/projects", Some(new)).await;
        assert_eq!(status, 422, "a grant is good once");
        project
    }

    async fn destinations(&mut self, api: &Api) {
        let secret = self.bucket.secret_key().to_owned();
        self.plant("the key of a bucket", secret);
        self.plant("the session of a bucket", "planted-session-token");
        let options: serde_json::Map<String, Value> =
            self.bucket.options().into_iter().map(|(name, value)| (name, value.into())).collect();
        let url = format!("s3://{}/planted", self.bucket.bucket());
        let new = json!({
            "name": "s3", "url": url, "endpoint": self.bucket.endpoint(), "options": options, "isDefault": true
        });
        let made = self.done(api, "/storage/destinations", new.clone()).await;
        assert_eq!(made["findings"]["missing"], json!([]), "{made:#}");
        let mut wrong = new;
        wrong["options"]["AWS_SESSION_TOKEN"] = "planted-session-token".into();
        wrong["options"]["AWS_ACCESS_KEY_ID"] = "nobody".into();
        let (status, answer) = self.ask(api, Method::POST, "/storage/destinations", Some(wrong)).await;
        assert!(status >= 400 || answer["data"]["findings"]["missing"] != json!([]), "{answer:#}");
    }

    async fn jobs(&mut self, api: &Api, project: &str) {
        let backup = id(&self.done(api, "/backups", json!({ "projectId": project })).await);
        let path = format!("/backups/{project}/{backup}");
        self.ended(api, &path, "completed").await;
        for read in ["verify", "preview"] {
            let (status, answer) = self.ask(api, Method::GET, &format!("{path}/{read}"), None).await;
            assert_eq!(status, 200, "{answer:#}");
        }
        let restore = json!({ "backupId": backup, "dryRun": true });
        let restore = id(&self.done(api, "/backups/restore", restore).await);
        self.ended(api, &format!("/restores/{restore}"), "completed").await;
        self.bucket.deny("PutObject");
        let failing = id(&self.done(api, "/backups", json!({ "projectId": project })).await);
        self.ended(api, &format!("/backups/{project}/{failing}"), "failed").await;
    }

    async fn ended(&mut self, api: &Api, path: &str, status: &str) {
        let job = api.wait(path, "an end", has_ended).await;
        assert_eq!(job["status"], status, "{job:#}");
        self.heard(path, job.to_string());
    }

    /// Whoever says a secret where none belongs.
    async fn strangers(&mut self, address: &str) {
        let wrong = "fb_planted-wrong-key-of-somebody";
        self.plant("a wrong key", wrong);
        self.plant("a key in a query", "planted-key-in-a-query");
        let stranger = Api { client: Client::new(), address: address.to_owned(), key: wrong.to_owned() };
        for path in ["/projects", "/projects?access_token=planted-key-in-a-query", "/nowhere/planted-key-in-a-query"] {
            let (status, _) = self.ask(&stranger, Method::GET, path, None).await;
            assert!([401, 404].contains(&status), "{path}: {status}");
        }
        let (status, _) =
            self.ask(&stranger, Method::POST, "/auth/refresh", Some(json!({ "refreshToken": wrong }))).await;
        assert_eq!(status, 401);
    }

    /// Everything that can be read.
    async fn lists(&mut self, api: &Api) {
        let webhooks = api.get("/webhooks").await;
        let deliveries =
            webhooks.as_array().unwrap().iter().map(|webhook| format!("/webhooks/{}/deliveries", id(webhook)));
        let mut paths: Vec<String> = deliveries.collect();
        for path in [
            "/organizations/current",
            "/organizations/current/members",
            "/organizations/current/invites",
            "/organizations/current/service-account",
            "/projects",
            "/storage/destinations",
            "/storage/stats",
            "/webhooks",
            "/restores",
            "/audit?limit=100",
            "/audit/strangers",
        ] {
            paths.push(path.to_owned());
        }
        for path in paths {
            let (status, answer) = self.ask(api, Method::GET, &path, None).await;
            assert_eq!(status, 200, "{path}: {answer:#}");
        }
        let export = api.client.get(format!("{}/audit/export", api.address)).bearer_auth(&api.key);
        let export = export.send().await.unwrap().text().await.unwrap();
        assert!(export.contains("webhook.secret_exchanged") && export.contains("verification.completed"), "{export}");
        self.heard("the audit export", export);
        self.told_to_webhooks().await;
    }

    /// What both receivers were told, once they know of the end.
    async fn told_to_webhooks(&mut self) {
        for (name, receiver) in [("a webhook", self.receiver.clone()), ("Slack", self.slack.clone())] {
            firebackup_testkit::eventually(
                &format!("{name} is told of the failure"),
                Duration::from_secs(60),
                async || {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    receiver.heard().iter().any(|post| post.to_lowercase().contains("failed")).then_some(())
                },
            )
            .await;
            for post in receiver.heard() {
                // whom it is posted to may be told where it was posted to
                self.heard(name, post);
            }
        }
    }

    /// What lies in the bucket that backups went to.
    pub fn repository(&self) -> Vec<(String, Vec<u8>)> {
        let objects = files(self.bucket.folder()).into_iter();
        let objects: Vec<_> = objects.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect();
        assert!(objects.iter().any(|(path, _)| path.ends_with(".manifest")), "a backup lies there");
        objects
    }

    /// Looks for all that was planted in all that was said, and in what is given besides; panics where some is seen, be it as
    /// it is, in base64, in hexadecimal or in percent.
    pub fn assert_unseen<'t>(&'t self, besides: impl IntoIterator<Item = (String, &'t [u8])>) {
        assert!(self.planted.len() > 25 && self.said.len() > 40, "{} {}", self.planted.len(), self.said.len());
        let said = self.said.iter().map(|(place, text)| (place.clone(), text.as_bytes()));
        let mut places = 0;
        for (place, bytes) in said.chain(besides) {
            places += 1;
            for (what, secret) in &self.planted {
                for form in forms(secret) {
                    let is_seen = memchr::memmem::find(bytes, form.as_bytes()).is_some();
                    assert!(!is_seen, "{place} holds {what} as {form}");
                }
            }
        }
        assert!(places > self.said.len(), "there was nothing besides");
    }

    /// Writes the issuer's client secret into a file.
    pub fn write_client_secret(&self, folder: &Path) -> std::path::PathBuf {
        let file = folder.join("client-secret");
        fs::write(&file, CLIENT.1).unwrap();
        file
    }
}

/// How a secret reads: as it is, in hexadecimal, in percent, and the part of its base64 that is the same wherever it begins.
fn forms(secret: &str) -> Vec<String> {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let bytes = secret.as_bytes();
    let mut forms = vec![secret.to_owned(), hex::encode(bytes)];
    forms.push(percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string());
    for skipped in 0..3 {
        let whole = &bytes[skipped..bytes.len() - (bytes.len() - skipped) % 3];
        forms.extend([STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole)]);
    }
    forms
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
