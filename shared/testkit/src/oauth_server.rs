//! An OpenID Connect issuer that lies when it is told to: `oauth2-mock-server` as a child process.
//!
//! It is a Node program that `make target/oauth/.installed` puts below `target/`, run by `oauth_server.mjs` beside this
//! file. It listens on a free port of the loopback interface and ends when the [`OAuthServer`] is dropped, and when the
//! process that started it dies in any way: it reads a pipe from us. Its clock is that of this machine.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use url::Url;

use crate::installed::installed;

const MODULE: &str = "oauth/node_modules/oauth2-mock-server/dist/index.mjs";
const START_LIMIT: Duration = Duration::from_secs(60);
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// A running issuer with one client; it is stopped when this is dropped.
#[derive(Debug)]
pub struct OAuthServer {
    url: String,
    _process: Child,
}

/// How often the issuer was asked what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct OAuthCounts {
    /// Its configuration.
    pub discovery: u64,
    /// Its keys.
    pub keys: u64,
    /// A code against tokens, refused ones included.
    pub exchanges: u64,
    /// A refresh token against an access token, refused ones included.
    pub refreshes: u64,
    /// To forget a refresh token.
    pub revocations: u64,
}

impl OAuthServer {
    /// Starts one that signs with `RS256`.
    ///
    /// # Panics
    /// When it is not installed, or does not come up within 60 seconds.
    pub async fn start(client_id: &str, client_secret: &str) -> Self {
        let module = installed(MODULE).unwrap_or_else(|| {
            panic!("oauth2-mock-server is not installed: run `make target/oauth/.installed`");
        });
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/oauth_server.mjs");
        let mut process = Command::new("node")
            .arg(program)
            .arg(module)
            .args([client_id, client_secret])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is needed");
        let mut lines = BufReader::new(process.stdout.take().expect("its output is piped")).lines();
        let line = tokio::time::timeout(START_LIMIT, lines.next_line()).await.expect("the issuer did not come up");
        let url = line.ok().flatten().expect("the issuer ended before it was ready");
        Self { url, _process: process }
    }

    /// Its identifier, which is its base URL.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.url
    }

    /// What it is told, in place of what it was told before; `{}` for the truth:
    ///
    /// * `claims`: claims in the place of its own; `times`: the same, in seconds from now; `without`: claims to leave
    ///   out
    /// * `signature`: how the id token is signed instead: `none`, `none-with-signature`, `hmac-pem`, `hmac-modulus`,
    ///   `stranger`, `stripped`, `other-payload`, `garbage`
    /// * `discovery`: fields of its configuration in the place of its own; `login`: how it wants the client's secret
    /// * `newKey`: an algorithm, for which it makes a key in the place of that it has; codes it gave are forgotten
    /// * `keepKeys`: it publishes the keys that it had when it was told this first
    /// * `scope`: what is granted instead of what is asked for; `refreshToken`: the one that it gives
    /// * `accessToken`: the one that it gives for a refresh token; an emulator of Firestore takes `owner` alone
    /// * `permissions`: those that it grants of a project, as Google's Resource Manager is asked for them, or `all`
    /// * `consent`: a refresh token that it takes from now on
    /// * `forgetConsents`: it takes no refresh token any more that it has given until now
    /// * `status`: it answers everything with this status
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn tell(&self, told: Value) {
        let request = client().post(self.control()).json(&told);
        let answer = request.send().await.expect("the issuer answers");
        assert!(answer.status().is_success(), "the issuer does not understand {told}");
    }

    /// [`Self::tell`] it a key for `algorithm`, and else the truth.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn change_key(&self, algorithm: &str) {
        self.tell(json!({ "newKey": algorithm })).await;
    }

    /// How often it was asked what.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn counts(&self) -> OAuthCounts {
        let answer = client().get(self.control()).send().await.expect("the issuer answers");
        answer.json().await.expect("counts")
    }

    /// Opens an authorization URL as a browser in which somebody is signed in does: the code and the state that it is
    /// sent back with.
    ///
    /// # Panics
    /// When the issuer does not send it back.
    pub async fn authorize(&self, authorization_url: &str) -> (String, String) {
        let answer = client().get(authorization_url).send().await.expect("the issuer answers");
        let location = answer.headers().get("location").unwrap_or_else(|| panic!("no redirect: {}", answer.status()));
        let location = Url::parse(location.to_str().expect("a text")).expect("a URL");
        let field = |name: &str| {
            let found = location.query_pairs().find(|(key, _)| key == name);
            found.unwrap_or_else(|| panic!("no {name} in {location}")).1.into_owned()
        };
        (field("code"), field("state"))
    }

    /// An id token of whoever this issuer says it is, as a program is given one that shows who it is.
    ///
    /// # Panics
    /// When the issuer gives none.
    pub async fn account_token(&self, (id, secret): (&str, &str)) -> String {
        let mut url = Url::parse(&format!("{}/authorize", self.url)).expect("a URL");
        let asked = [
            ("response_type", "code"),
            ("client_id", id),
            ("redirect_uri", "https://here.example/"),
            ("scope", "openid email"),
            ("state", "s"),
            ("nonce", "n"),
            ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            ("code_challenge_method", "S256"),
        ];
        url.query_pairs_mut().extend_pairs(asked);
        let (code, _) = self.authorize(url.as_str()).await;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", "https://here.example/"),
            // of RFC 7636, appendix B
            ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ];
        // as RFC 6749 (2.3.1) wants it, both parts are encoded as in a form first
        let part = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let encoded = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = client().post(format!("{}/token", self.url)).body(encoded);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = request.basic_auth(part(id), Some(part(secret)));
        let answer: Value = request.send().await.expect("the issuer answers").json().await.expect("tokens");
        answer["id_token"].as_str().unwrap_or_else(|| panic!("no id token: {answer}")).to_owned()
    }

    fn control(&self) -> String {
        format!("{}/control", self.url)
    }
}

/// A proxy of this machine has nothing to do with its loopback interface.
fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.timeout(REQUEST_LIMIT).build().expect("an HTTP client")
}
