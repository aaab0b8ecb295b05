//! Somebody signs in through the deployed API.

use std::fs;

use firebackup_testkit::OAuthServer;
use serde_json::{Value, json};

use super::deployed::{BOUND, Deployed};
use super::live::{conforms, is_watched};
use crate::browser::{Browser, CLIENT, person};

/// The secret of the sign-in opens with the stack's key alone; a backup is watched live, and a webhook told of it.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_signs_in_and_watches_a_backup() {
    let issuer = OAuthServer::start(CLIENT.0, CLIENT.1).await;
    issuer.tell(person("ada", "ada@example.com")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client-secret");
    fs::write(&file, format!("{}\n", CLIENT.1)).unwrap();
    let parameters = format!(
        "ChunkDocuments=20 OidcClientId={} OidcIssuer={} AllowPrivateAddresses=true SignUp=ada@example.com,@example.org",
        CLIENT.0,
        issuer.issuer()
    );
    let stack = Deployed::signing_in(&parameters, Some(file)).await;
    stack.explaining("signing in", signs_in(&stack, &issuer)).await;
    stack.explaining("watching", is_watched(&stack)).await;
    stack.explaining("pushing", conforms(&stack)).await;
    stack.explaining("letting in", lets_in(&stack, &issuer)).await;
    // the template, the function's settings and the table have it in no form but the one that KMS made
    let function = stack.aws.function("firebackup-api").await;
    let variables = &function["Environment"]["Variables"];
    assert_eq!(variables["FIREBACKUP_OIDC_CLIENT_ID"], CLIENT.0, "{function:#}");
    assert!(variables["FIREBACKUP_OIDC_CLIENT_SECRET"].as_str().is_some_and(|sealed| sealed.len() > 100));
    assert!(!function.to_string().contains(CLIENT.1));
    assert!(!stack.ministack.output().contains(CLIENT.1));
    for function in ["api", "backup-plan", "backup-chunk", "backup-finalize"] {
        for line in stack.aws.logs(&format!("firebackup-{function}")).await {
            assert!(!line.contains(CLIENT.1) && !line.contains(CONSENT), "{line}");
        }
    }
}

/// A refresh token, which must be found nowhere.
const CONSENT: &str = "planted-refresh-token";

/// The functions that back up are let in by a consent: each opens the client's secret by itself.
async fn lets_in(stack: &Deployed, issuer: &OAuthServer) {
    stack.project("demo-let-in", 60).await;
    // the one token that an emulator takes
    issuer.tell(json!({ "refreshToken": CONSENT, "accessToken": "owner" })).await;
    let address = format!("{}/api/v1", stack.api.url());
    let grant = Browser::new(&address).grant(issuer, stack.key()).await;
    let credentials = json!({ "type": "oauth", "grant": grant });
    let new = json!({ "name": "let in", "googleProject": "demo-let-in", "credentials": credentials });
    let project = stack.api.post("/projects", new).await;
    assert_eq!((&project["status"], &project["account"]), (&json!("connected"), &json!("ada@example.com")));
    let path = stack.api.backup(project["id"].as_str().unwrap()).await;
    let backup = stack.api.reaches(&path, &["completed"], BOUND).await;
    assert_eq!(backup["result"]["documents"], 60, "{backup:#}");
    issuer.tell(json!({ "forgetConsents": true })).await;
    let path = stack.api.backup(project["id"].as_str().unwrap()).await;
    let backup = stack.api.reaches(&path, &["failed"], BOUND).await;
    let told = backup["error"]["message"].as_str().unwrap();
    assert!(told.contains("connect the project again"), "{backup:#}");
    let project = stack.api.get(&format!("/projects/{}", project["id"].as_str().unwrap())).await;
    assert_eq!(project["status"], "error", "{project:#}");
}

async fn signs_in(stack: &Deployed, issuer: &OAuthServer) {
    let address = format!("{}/api/v1", stack.api.url());
    let mut browser = Browser::new(&address);
    let returning = browser.goes(issuer).await;
    let (status, _, body) = Browser::new(&address).comes_back(&returning).await;
    assert_eq!((status, &body["error"]["code"]), (401, &json!("SIGN_IN_FAILED")), "{body:#}");
    let tokens: Value = browser.tokens(issuer).await;
    let (status, me) = browser.asks("/auth/me", &tokens["accessToken"]).await;
    assert_eq!((status, &me["data"]["user"]["email"]), (200, &json!("ada@example.com")), "{me:#}");
    let refresh = json!({ "refreshToken": tokens["refreshToken"] });
    let (first, second) =
        (browser.posts("/auth/refresh", &refresh).await, browser.posts("/auth/refresh", &refresh).await);
    assert_eq!((first.0, second.0), (200, 401), "{:#}", second.1);
    issuer.tell(person("eve", "eve@example.com")).await;
    let (status, body) = Browser::new(&address).signs_in(issuer).await;
    assert_eq!((status, &body["error"]["code"]), (403, &json!("SIGN_UP_CLOSED")), "{body:#}");
}
