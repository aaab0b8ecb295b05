//! People who sign in with an OpenID Connect issuer, here `oauth2-mock-server`.

use std::fs;

use firebackup_testkit::OAuthServer;
use reqwest::Method;
use serde_json::{Value, json};

use super::installation::{Installation, Server, files};
use crate::browser::{Browser, CLIENT, Returning, person};

struct Place {
    installation: Installation,
    issuer: OAuthServer,
    server: Server,
}

impl Place {
    async fn with(arguments: &[&str]) -> Self {
        let (installation, issuer) = (Installation::new(), OAuthServer::start(CLIENT.0, CLIENT.1).await);
        let secret = installation.folder.path().join("client-secret");
        fs::write(&secret, CLIENT.1).unwrap();
        let secret = secret.display().to_string();
        let client = ["--oidc-client-id", CLIENT.0, "--oidc-client-secret-file", &secret];
        let at = ["--oidc-issuer", issuer.issuer(), "--allow-private-addresses"];
        let server = installation.start(&[&client[..], &at, arguments].concat()).await;
        Self { installation, issuer, server }
    }

    fn browser(&self) -> Browser {
        Browser::new(self.server.address())
    }

    /// Somebody comes back from the issuer, and what is said to them.
    async fn refused(&self, browser: &mut Browser, returning: &Returning) -> Value {
        let (status, _, body) = browser.comes_back(returning).await;
        assert_eq!(status, 401, "{body:#}");
        body["error"]["code"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_signs_in_and_a_copied_refresh_token_ends_it() {
    let place = Place::with(&["--sign-up", "@example.com"]).await;
    place.issuer.tell(person("ada", "ada@example.com")).await;
    let mut browser = place.browser();
    let first = browser.tokens(&place.issuer).await;
    let (status, me) = browser.asks("/auth/me", &first["accessToken"]).await;
    assert_eq!((status, &me["data"]["user"]["email"]), (200, &json!("ada@example.com")), "{me:#}");
    let (_, organizations) = browser.asks("/organizations", &first["accessToken"]).await;
    assert_eq!(organizations["data"].as_array().map(Vec::len), Some(1), "{organizations:#}");

    let refresh = |tokens: &Value| json!({ "refreshToken": tokens["refreshToken"] });
    let (status, second) = browser.posts("/auth/refresh", &refresh(&first)).await;
    assert_eq!(status, 200, "{second:#}");
    let (status, reused) = browser.posts("/auth/refresh", &refresh(&first)).await;
    assert_eq!((status, &reused["error"]["code"]), (401, &json!("INVALID_REFRESH_TOKEN")), "{reused:#}");
    let (status, ended) = browser.asks("/auth/me", &second["data"]["accessToken"]).await;
    assert_eq!(status, 401, "the whole family has ended: {ended:#}");
    let (status, ended) = browser.posts("/auth/refresh", &refresh(&second["data"])).await;
    assert_eq!(status, 401, "{ended:#}");

    // nothing that opens something stands in a file
    for file in files(&place.installation.folder.path().join("data")) {
        let bytes = fs::read(&file).unwrap();
        for token in [&first["accessToken"], &first["refreshToken"], &second["data"]["refreshToken"]] {
            let token = token.as_str().unwrap().as_bytes();
            assert!(!bytes.windows(token.len()).any(|part| part == token), "{}", file.display());
        }
        let secret = CLIENT.1.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", file.display());
    }
    assert!(!place.installation.log().contains(CLIENT.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_by_another_way() {
    let place = Place::with(&["--sign-up", "*"]).await;
    let (mut ada, mut eve) = (place.browser(), place.browser());
    place.issuer.tell(person("ada", "ada@example.com")).await;
    let first = ada.goes(&place.issuer).await;
    assert_eq!(place.refused(&mut eve, &first).await, "SIGN_IN_FAILED", "another browser, without a cookie");
    let own = eve.goes(&place.issuer).await;
    let crossed = Returning { code: first.code.clone(), state: own.state.clone() };
    assert_eq!(place.refused(&mut eve, &crossed).await, "SIGN_IN_FAILED", "a code that another verifier belongs to");
    let (status, _, body) = ada.comes_back(&first).await;
    // the issuer has seen the code by now, and gives it to nobody
    assert_eq!(status, 401, "{body:#}");
    let again = ada.goes(&place.issuer).await;
    assert_eq!(ada.comes_back(&again).await.0, 200);
    assert_eq!(place.refused(&mut ada, &again).await, "SIGN_IN_FAILED", "the same once more");
    for lie in [
        json!({ "claims": { "iss": "https://accounts.evil.example" } }),
        json!({ "claims": { "aud": "another" } }),
        json!({ "claims": { "nonce": "another" } }),
        json!({ "times": { "exp": -3600 } }),
        json!({ "signature": "none" }),
        json!({ "signature": "stranger" }),
    ] {
        place.issuer.tell(lie.clone()).await;
        let returning = ada.goes(&place.issuer).await;
        assert_eq!(place.refused(&mut ada, &returning).await, "SIGN_IN_FAILED", "{lie}");
    }
}

/// Only who is invited may come, with the address that is invited, once.
#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_for_one_address_and_good_once() {
    let place = Place::with(&[]).await;
    let owner = place.server.api(&place.server.owner_key());
    place.issuer.tell(person("eve", "eve@example.com")).await;
    let (status, body) = place.browser().signs_in(&place.issuer).await;
    assert_eq!((status, &body["error"]["code"]), (403, &json!("SIGN_UP_CLOSED")), "{body:#}");
    let invited =
        owner.post("/organizations/current/invites", json!({ "email": "ada@example.com", "role": "admin" })).await;
    let token = invited["token"].as_str().unwrap();
    // an address that the issuer does not vouch for is no address
    let unverified = json!({ "claims": { "sub": "eve", "email": "ada@example.com", "email_verified": false } });
    place.issuer.tell(unverified).await;
    let (status, body) = place.browser().signs_in(&place.issuer).await;
    assert_eq!((status, &body["error"]["code"]), (403, &json!("SIGN_UP_CLOSED")), "{body:#}");

    place.issuer.tell(person("ada", "Ada@example.com")).await;
    let mut browser = place.browser();
    let tokens = browser.tokens(&place.issuer).await;
    let ada = place.server.api(tokens["accessToken"].as_str().unwrap());
    let accept = json!({ "token": token });
    let (status, joined) = ada.ask(Method::POST, "/organizations/invites/accept", Some(&accept), None).await;
    assert_eq!(status, 200, "{joined:#}");
    let (status, again) = ada.ask(Method::POST, "/organizations/invites/accept", Some(&accept), None).await;
    assert_eq!((status, &again["error"]["code"]), (404, &json!("INVITE_INVALID")), "{again:#}");
    let members = owner.get("/organizations/current/members").await;
    let ada = members.as_array().unwrap().iter().find(|member| member["email"] == "ada@example.com");
    assert_eq!(ada.map(|ada| &ada["role"]), Some(&json!("admin")), "{members:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_sent_on_to_the_application() {
    let place = Place::with(&["--sign-up", "*", "--app-url", "http://localhost:5173/in?x=1"]).await;
    let mut browser = place.browser();
    let returning = browser.goes(&place.issuer).await;
    let (status, to, _) = browser.comes_back(&returning).await;
    let to = to.unwrap();
    assert!(status == 302 && to.starts_with("http://localhost:5173/in?x=1&code=fbc_"), "{status} {to}");
    let link = place.server.told["signInLink"].as_str().unwrap();
    let code = place.server.told["signInCode"].as_str().unwrap();
    assert_eq!(link, format!("http://localhost:5173/in?x=1&code={code}"));
}

#[test]
fn an_issuer_inside_is_refused_before_anything_is_made() {
    let installation = Installation::new();
    let secret = installation.folder.path().join("client-secret");
    fs::write(&secret, CLIENT.1).unwrap();
    let client = ["--oidc-client-id", CLIENT.0, "--oidc-client-secret-file", secret.to_str().unwrap()];
    for issuer in ["https://127.0.0.1:1", "https://169.254.169.254", "https://[fd00::1]", "http://issuer.example"] {
        let (code, told) = installation.refused(&[&client[..], &["--oidc-issuer", issuer]].concat());
        let text = told.to_string();
        assert!(code != 0 && text.contains("may not be called"), "{issuer}: {code} {text}");
        assert!(!text.contains(CLIENT.1), "{text}");
    }
}
