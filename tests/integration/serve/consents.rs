//! Projects that are let in by a person's consent: `oauth2-mock-server` in the place of Google's issuer and token server, the
//! emulator in the place of Firestore.

use std::fs;

use firebackup_embedded::emulator::Emulator;
use firebackup_google::sample::sample;
use firebackup_testkit::OAuthServer;
use reqwest::Method;
use serde_json::{Value, json};

use super::installation::{Api, Installation, SMALL, Server, files, id};
use crate::browser::{Browser, CLIENT, Returning};
use crate::stage::{database, emulator, firestore, write_all};

const PLANTED: &str = "planted-refresh-token";
const DOCUMENTS: usize = 120;

struct Place {
    installation: Installation,
    issuer: OAuthServer,
    emulator: Emulator,
    server: Server,
}

impl Place {
    async fn new() -> Self {
        let (installation, emulator) = (Installation::new(), emulator().await);
        write_all(&firestore(emulator.host(), &database()).await, sample(&database(), DOCUMENTS, 1)).await;
        let issuer = OAuthServer::start(CLIENT.0, CLIENT.1).await;
        issuer.tell(consenting("ada")).await;
        let client = client(&installation, issuer.issuer());
        let arguments: Vec<&str> = client.iter().map(String::as_str).chain(SMALL).chain(["--sign-up", "*"]).collect();
        let server = installation.spawn_in(&arguments, &[("FIRESTORE_EMULATOR_HOST", emulator.host())]);
        let server = server.listening().await;
        Self { installation, issuer, emulator, server }
    }

    fn owner(&self) -> Api {
        self.server.api(&self.server.owner_key())
    }

    fn browser(&self) -> Browser {
        Browser::new(self.server.address())
    }

    async fn grant(&self, api: &Api) -> String {
        self.browser().grant(&self.issuer, &api.key).await
    }

    /// A browser comes back, and is refused.
    async fn refused(&self, browser: &mut Browser, returning: &Returning) {
        let (status, body) = browser.comes_back_consenting(returning).await;
        assert_eq!((status, &body["error"]["code"]), (401, &json!("CONSENT_FAILED")), "{body:#}");
    }
}

/// The arguments of a server whose client is one of this issuer.
fn client(installation: &Installation, issuer: &str) -> Vec<String> {
    let file = installation.folder.path().join("client-secret");
    fs::write(&file, CLIENT.1).unwrap();
    let file = file.display().to_string();
    ["--oidc-client-id", CLIENT.0, "--oidc-client-secret-file", &file, "--oidc-issuer", issuer]
        .map(str::to_owned)
        .into()
}

/// What the issuer says of somebody who consents; `owner` is the one token that an emulator takes.
fn consenting(name: &str) -> Value {
    let claims = json!({ "sub": name, "email": format!("{name}@example.com"), "email_verified": true });
    json!({ "claims": claims, "refreshToken": format!("{PLANTED}-{name}"), "accessToken": "owner" })
}

fn by_grant(grant: &str) -> Value {
    let credentials = json!({ "type": "oauth", "grant": grant });
    json!({ "name": "Shop", "googleProject": "demo-app", "credentials": credentials })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_backs_up_until_it_is_taken_back_and_again_after_another() {
    let place = Place::new().await;
    let api = place.owner();
    api.post("/storage/destinations", json!({"name": "folder", "url": place.installation.url()})).await;
    let project = api.post("/projects", by_grant(&place.grant(&api).await)).await;
    assert_eq!((&project["credentialsType"], &project["account"]), (&json!("oauth"), &json!("ada@example.com")));
    assert_eq!((&project["status"], &project["databases"]), (&json!("connected"), &json!(["(default)"])));
    let project = id(&project);
    let path = |backup: &str| format!("/backups/{project}/{backup}");
    let first = api.back_up(&project).await;
    api.ends(&path(&first), "completed").await;
    api.verified(&project, &first, DOCUMENTS as u64).await;
    let restore = api.post("/backups/restore", json!({ "backupId": first, "mode": "skip-existing" })).await;
    api.ends(&format!("/restores/{}", id(&restore)), "completed").await;

    place.issuer.tell(json!({ "forgetConsents": true, "accessToken": "owner" })).await;
    for _ in 0..2 {
        let failed = api.back_up(&project).await;
        let failed = api.ends(&path(&failed), "failed").await;
        let told = failed["error"]["message"].as_str().unwrap();
        assert!(told.contains("connect the project again"), "{failed:#}");
    }
    let gone = api.get(&format!("/projects/{project}")).await;
    assert_eq!(gone["status"], "error", "{gone:#}");
    assert!(gone["missing"][0]["remedy"].as_str().is_some_and(|remedy| remedy.contains("/projects/oauth")));
    let told = api.get("/audit?action=project.disconnected").await;
    assert_eq!(told.as_array().map(Vec::len), Some(1), "it is told once: {told:#}");
    assert_eq!((&told[0]["actor"], &told[0]["resource"]), (&json!("system"), &json!(project)), "{told:#}");

    place.issuer.tell(consenting("ada")).await;
    let credentials = json!({ "type": "oauth", "grant": place.grant(&api).await });
    let change = json!({ "credentials": credentials });
    let mended = api.data(Method::PUT, &format!("/projects/{project}"), Some(&change)).await;
    assert_eq!((&mended["status"], &mended["missing"]), (&json!("connected"), &json!([])), "{mended:#}");
    let second = api.back_up(&project).await;
    api.ends(&path(&second), "completed").await;

    assert_eq!(place.issuer.counts().await.revocations, 0, "what one account has just given is not taken back");
    api.data(Method::DELETE, &format!("/projects/{project}"), None).await;
    assert_eq!(place.issuer.counts().await.revocations, 1);
    seen_nowhere(&place, &api).await;
}

/// No token and no secret stands in a file, the log or an answer; the key in the log would be found.
async fn seen_nowhere(place: &Place, api: &Api) {
    let mut told = place.installation.log();
    for path in ["/audit?limit=100", "/audit/export", "/projects", "/storage/destinations"] {
        let request = api.client.get(format!("{}{path}", api.address)).bearer_auth(&api.key);
        told.push_str(&request.send().await.unwrap().text().await.unwrap());
    }
    assert!(told.contains("project.deleted"), "something was looked at");
    for planted in [PLANTED, CLIENT.1] {
        assert!(!told.contains(planted), "{planted} was told");
        for file in files(&place.installation.data()) {
            let bytes = fs::read(&file).unwrap();
            let is_there = bytes.windows(planted.len()).any(|part| part == planted.as_bytes());
            assert!(!is_there, "{planted} stands in {}", file.display());
        }
    }
}

/// The issuer stands in Google's place as Resource Manager, too.
#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_asked_for_said_with_their_remedy_and_asked_for_again() {
    const ALL_OF_DOCUMENTS: [&str; 7] = [
        "datastore.databases.getMetadata",
        "datastore.databases.list",
        "datastore.entities.get",
        "datastore.entities.list",
        "datastore.entities.create",
        "datastore.entities.delete",
        "datastore.entities.update",
    ];
    let place = Place::new().await;
    let api = place.owner();
    api.post("/storage/destinations", json!({"name": "folder", "url": place.installation.url()})).await;
    let project = api.post("/projects", by_grant(&place.grant(&api).await)).await;
    let facts = |project: &Value| json!([project["status"], project["permissions"]["checkedBy"], project["missing"]]);
    assert_eq!(facts(&project), json!(["connected", "trial", []]), "who cannot be asked is no failure");
    let path = format!("/projects/{}", id(&project));
    let looked_at_again = async |permissions: Value| {
        let mut told = consenting("ada");
        told["permissions"] = permissions;
        place.issuer.tell(told).await;
        api.data(Method::PUT, &path, Some(&json!({ "connected": true }))).await
    };
    assert_eq!(facts(&looked_at_again(json!("all")).await), json!(["connected", "iam", []]));

    let looked = looked_at_again(json!(ALL_OF_DOCUMENTS)).await;
    assert_eq!(looked["status"], "connected", "{looked:#}");
    let names: Vec<_> = looked["missing"].as_array().unwrap().iter().map(|one| &one["permission"]).collect();
    assert_eq!(names.len(), 6, "{looked:#}");
    let body = json!({ "projectId": id(&project), "includeAuth": true });
    let (status, refused) = api.ask(Method::POST, "/backups", Some(&body), None).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("PERMISSION_MISSING")), "{refused:#}");
    let remedy = refused["error"]["details"]["remedy"].as_str().unwrap();
    assert!(remedy.contains("add-iam-policy-binding demo-app --member 'user:ada@example.com'"), "{remedy}");
    let backup = api.back_up(&id(&project)).await;
    api.ends(&format!("/backups/{}/{backup}", id(&project)), "completed").await;

    let looked = looked_at_again(json!(ALL_OF_DOCUMENTS[..3])).await;
    assert_eq!(looked["status"], "connected", "the trial shows more than IAM knows of the project: {looked:#}");
    let looked = looked_at_again(json!(["datastore.entities.get", "datastore.entities.delete"])).await;
    assert_eq!(looked["status"], "error", "{looked:#}");
    let list = looked["missing"].as_array().unwrap().iter().find(|one| one["permission"] == "datastore.entities.list");
    assert_eq!(list.unwrap()["neededFor"], json!(["backup", "restore"]), "{looked:#}");
    assert_eq!(api.get(&path).await, looked);
    assert_eq!(facts(&looked_at_again(Value::Null).await), json!(["connected", "trial", []]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_takes_a_consent_and_nobody_twice() {
    let place = Place::new().await;
    let api = place.owner();
    let refused = async |api: &Api, grant: &str| {
        let (status, body) = api.ask(Method::POST, "/projects", Some(&by_grant(grant)), None).await;
        assert_eq!((status, &body["error"]["details"]["field"]), (422, &json!("credentials.grant")), "{body:#}");
    };
    let (mut browser, mut other) = (place.browser(), place.browser());
    let returning = browser.goes_to_consent(&place.issuer, &api.key).await;
    place.refused(&mut other, &returning).await;
    let own = other.goes_to_consent(&place.issuer, &api.key).await;
    let crossed = Returning { code: returning.code.clone(), state: own.state.clone() };
    place.refused(&mut other, &crossed).await;
    // the issuer has seen the code by now, and gives it to nobody
    place.refused(&mut browser, &returning).await;
    let returning = browser.goes_to_consent(&place.issuer, &api.key).await;
    let (status, body) = browser.comes_back_consenting(&returning).await;
    let grant = body["data"]["grant"].as_str().unwrap_or_else(|| panic!("{status} {body:#}")).to_owned();
    place.refused(&mut browser, &returning).await;

    let colleague = api.post("/organizations/current/service-account", json!({"name": "c", "role": "owner"})).await;
    refused(&place.server.api(colleague["apiKey"].as_str().unwrap()), &grant).await;
    let tokens = place.browser().tokens(&place.issuer).await;
    refused(&place.server.api(tokens["accessToken"].as_str().unwrap()), &grant).await;
    api.post("/projects", by_grant(&grant)).await;
    refused(&api, &grant).await;

    // who leaves out what is needed is told so
    place.issuer.tell(json!({ "scope": "openid email" })).await;
    let returning = browser.goes_to_consent(&place.issuer, &api.key).await;
    let (_, body) = browser.comes_back_consenting(&returning).await;
    assert!(body["error"]["message"].as_str().is_some_and(|told| told.contains("every box")), "{body:#}");
    // and whoever says no at Google comes back with an error
    let url = format!("{}/projects/oauth/callback?error=access_denied&state=x", place.server.address());
    let answer = api.client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(!place.emulator.host().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_issuer_opens_no_project_and_it_is_said_what_does() {
    let installation = Installation::new();
    let issuer = OAuthServer::start(CLIENT.0, CLIENT.1).await;
    let client = client(&installation, issuer.issuer());
    let arguments: Vec<&str> = client.iter().map(String::as_str).chain(["--allow-private-addresses"]).collect();
    let server = installation.start(&arguments).await;
    let api = server.api(&server.owner_key());
    let (status, body) = api.ask(Method::GET, "/projects/oauth", None, None).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("CONSENT_UNAVAILABLE")), "{body:#}");
    assert!(body["error"]["message"].as_str().is_some_and(|told| told.contains("https://accounts.google.com")));
}
