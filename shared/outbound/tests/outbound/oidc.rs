//! Signing in with a real issuer, which lies when it is told to.

use std::sync::Arc;
use std::time::SystemTime;

use firebackup_model::error::ErrorKind;
use firebackup_model::port::{AccountTokens, Consent, ConsentIssuer, Identity, IdentityProvider, SignIn};
use firebackup_model::{PortError, Timestamp};
use firebackup_outbound::{AddressGuard, OidcAccounts, OidcProvider, OidcSettings, OutboundClient, Url};
use firebackup_testkit::{HandClock, OAuthServer};
use serde_json::{Value, json};

const CLIENT: &str = "a client/of:ours";
const SECRET: &str = "planted-secret:with/all+kinds=of&signs%20";
const REDIRECT: &str = "https://backup.example/v1/sign-in/back?a=b";
const VERIFIER: &str = "planted-verifier-0123456789-0123456789-0123456789";
const NONCE: &str = "planted-nonce";
const STATE: &str = "state-1";

/// An issuer and we.
struct Stage {
    server: OAuthServer,
    clock: Arc<HandClock>,
    provider: OidcProvider,
}

impl Stage {
    async fn new() -> Self {
        let server = OAuthServer::start(CLIENT, SECRET).await;
        // the issuer's clock is that of the machine
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let clock = Arc::new(HandClock::new(Timestamp::new(since.as_secs() as i64, 0)));
        let provider = provider(settings(server.issuer()), &clock);
        Self { server, clock, provider }
    }

    /// The code that a browser comes back with.
    async fn code(&self) -> String {
        let url = self.provider.authorization_url(&sign_in()).await.unwrap();
        let (code, state) = self.server.authorize(&url).await;
        assert_eq!(state, STATE);
        code
    }

    /// The whole way; no failure may say anything that was planted.
    async fn sign_in(&self) -> Result<Identity, PortError> {
        self.identify(&self.code().await, &sign_in()).await
    }

    async fn identify(&self, code: &str, sign_in: &SignIn) -> Result<Identity, PortError> {
        let identity = self.provider.identify(code, sign_in).await;
        if let Err(error) = &identity {
            assert_silent(error, code);
        }
        identity
    }

    async fn refused(&self, told: Value, expect: &str) {
        self.server.tell(told.clone()).await;
        let error = self.sign_in().await.expect_err("it is refused");
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{told}: {error:?}");
        assert!(error.message().contains(expect), "{told}: {error}");
    }

    async fn unavailable(&self, expect: &str) -> PortError {
        let error = self.provider.authorization_url(&sign_in()).await.unwrap_err();
        assert_silent(&error, "planted");
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
        assert!(error.message().contains(expect), "{error}");
        error
    }
}

fn settings(issuer: &str) -> OidcSettings {
    OidcSettings {
        issuer: issuer.to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: SECRET.to_owned().into(),
        redirect_uri: REDIRECT.to_owned(),
    }
}

fn provider(settings: OidcSettings, clock: &Arc<HandClock>) -> OidcProvider {
    let client = OutboundClient::new(AddressGuard::new(true)).unwrap();
    OidcProvider::new(settings, client, Arc::clone(clock) as _)
}

fn sign_in() -> SignIn {
    SignIn { state: STATE.to_owned(), nonce: NONCE.to_owned(), verifier: VERIFIER.to_owned() }
}

/// No code, token or secret stands in the error or in any of its causes.
#[track_caller]
fn assert_silent(error: &PortError, code: &str) {
    let mut told = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        told.push_str(&format!(" {error} {error:?}"));
        cause = error.source();
    }
    for secret in ["planted", code, "eyJ", "ada@example.com"] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[tokio::test]
async fn somebody_signs_in() {
    let stage = Stage::new().await;
    let url = Url::parse(&stage.provider.authorization_url(&sign_in()).await.unwrap()).unwrap();
    let asked: Vec<_> = url.query_pairs().into_owned().collect();
    let field = |name: &str| asked.iter().find(|(key, _)| key == name).unwrap().1.as_str();
    assert_eq!((field("response_type"), field("client_id"), field("redirect_uri")), ("code", CLIENT, REDIRECT));
    assert_eq!((field("scope"), field("prompt")), ("openid email profile", "select_account"));
    assert_eq!((field("state"), field("nonce"), field("code_challenge_method")), (STATE, NONCE, "S256"));
    assert!(!url.as_str().contains(VERIFIER) && !url.as_str().contains("planted-secret"));

    let identity = stage.sign_in().await.unwrap();
    let expect = Identity {
        issuer: stage.server.issuer().to_owned(),
        subject: "johndoe".to_owned(),
        email: Some("ada@example.com".to_owned()),
        email_verified: true,
        name: Some("Ada".to_owned()),
    };
    assert_eq!(identity, expect);
    assert!(!format!("{:?}", stage.provider).contains("planted"));
}

#[tokio::test]
async fn what_an_issuer_publishes_is_kept_for_an_hour() {
    let stage = Stage::new().await;
    for _ in 0..3 {
        stage.sign_in().await.unwrap();
    }
    let counts = stage.server.counts().await;
    assert_eq!((counts.discovery, counts.keys, counts.exchanges), (1, 1, 3));
    stage.clock.advance(3600);
    stage.sign_in().await.unwrap();
    let counts = stage.server.counts().await;
    assert_eq!((counts.discovery, counts.keys), (2, 2));
}

#[tokio::test]
async fn the_secret_is_sent_as_the_issuer_wants_it() {
    for login in ["client_secret_basic", "client_secret_post"] {
        let stage = Stage::new().await;
        stage.server.tell(json!({ "login": login })).await;
        stage.sign_in().await.unwrap();
    }
    let stage = Stage::new().await;
    stage.server.tell(json!({ "login": "private_key_jwt" })).await;
    stage.unavailable("takes no client secret").await;
}

#[tokio::test]
async fn a_code_is_good_once_for_who_began_and_for_this_client() {
    let stage = Stage::new().await;
    let code = stage.code().await;
    stage.identify(&code, &sign_in()).await.unwrap();
    let denied = async |code: &str, sign_in: SignIn| {
        let error = stage.identify(code, &sign_in).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error:?}");
        assert!(error.message().contains("does not take the code"), "{error}");
    };
    denied(&code, sign_in()).await;
    denied("planted-code", sign_in()).await;
    let other = VERIFIER.replace('0', "1");
    denied(&stage.code().await, SignIn { verifier: other, ..sign_in() }).await;

    let mut stranger = settings(stage.server.issuer());
    stranger.client_secret = "planted-other".to_owned().into();
    let error = provider(stranger, &stage.clock).identify(&stage.code().await, &sign_in()).await.unwrap_err();
    assert!(error.kind == ErrorKind::PermissionDenied && error.message().contains("invalid_client"), "{error:?}");
    assert_silent(&error, "planted");
}

#[tokio::test]
async fn a_signature_that_is_not_the_issuers_proves_nothing() {
    let stage = Stage::new().await;
    let forged = async |signature: &str, expect: &str| stage.refused(json!({ "signature": signature }), expect).await;
    for signature in ["none", "none-with-signature"] {
        forged(signature, "not signed").await;
    }
    for signature in ["hmac-pem", "hmac-modulus"] {
        forged(signature, "in a way that anybody could").await;
    }
    for signature in ["stranger", "stripped", "other-payload"] {
        forged(signature, "signature of the id token does not hold").await;
    }
    forged("garbage", "not signed").await;
    stage.server.tell(json!({})).await;
    stage.sign_in().await.unwrap();
    assert_eq!(stage.server.counts().await.keys, 1, "a forged signature makes nobody look for keys");
}

#[tokio::test]
async fn a_token_that_is_not_of_this_sign_in_proves_nothing() {
    let stage = Stage::new().await;
    stage.refused(json!({"claims": {"iss": "https://planted.example"}}), "another issuer's").await;
    let slash = format!("{}/", stage.server.issuer());
    stage.refused(json!({"claims": {"iss": slash}}), "another issuer's").await;
    for audience in [json!("planted"), json!(["planted", CLIENT])] {
        stage.refused(json!({"claims": {"aud": audience}}), "for somebody else").await;
    }
    stage.refused(json!({"claims": {"azp": "planted"}}), "for somebody else").await;
    stage.refused(json!({"claims": {"aud": [CLIENT, "planted"], "azp": "planted"}}), "for somebody else").await;
    stage.refused(json!({"claims": {"nonce": "planted-other"}}), "another sign-in").await;
    stage.refused(json!({"without": ["nonce"]}), "another sign-in").await;
    let other = SignIn { nonce: "planted-other".to_owned(), ..sign_in() };
    stage.server.tell(json!({})).await;
    assert!(stage.identify(&stage.code().await, &other).await.unwrap_err().message().contains("another sign-in"));
    for subject in [json!(""), json!("planted".repeat(40))] {
        stage.refused(json!({"claims": {"sub": subject}}), "whose it is").await;
    }
    for claim in ["iss", "sub", "aud", "exp", "iat"] {
        stage.refused(json!({"without": [claim]}), "lacks what one says").await;
        stage.refused(json!({"claims": {claim: {"planted": 1}}}), "lacks what one says").await;
    }
    stage.server.tell(json!({"claims": {"aud": ["planted", CLIENT], "azp": CLIENT}})).await;
    stage.sign_in().await.unwrap();
}

#[tokio::test]
async fn a_token_counts_for_its_time_by_our_clock() {
    let stage = Stage::new().await;
    stage.refused(json!({"times": {"exp": -120}}), "expired").await;
    stage.refused(json!({"times": {"iat": 120}}), "not valid yet").await;
    stage.refused(json!({"times": {"nbf": 120}}), "not valid yet").await;
    stage.server.tell(json!({"times": {"exp": -30, "iat": 30, "nbf": 30}})).await;
    stage.sign_in().await.unwrap();
    stage.clock.advance(-300);
    stage.refused(json!({}), "not valid yet").await;
    stage.clock.advance(300 + 1800);
    stage.sign_in().await.unwrap();
    stage.clock.advance(1800 + 120);
    stage.refused(json!({}), "expired").await;
}

#[tokio::test]
async fn what_is_said_of_somebody_is_taken_with_care() {
    let stage = Stage::new().await;
    let told = async |told: Value| {
        stage.server.tell(told).await;
        stage.sign_in().await.unwrap()
    };
    let email = |identity: Identity| (identity.email.is_some(), identity.email_verified);
    assert_eq!(email(told(json!({"without": ["email"]})).await), (false, false));
    assert_eq!(email(told(json!({"without": ["email_verified"]})).await), (true, false));
    assert_eq!(email(told(json!({"claims": {"email_verified": false}})).await), (true, false));
    assert_eq!(email(told(json!({"claims": {"email_verified": "true"}})).await), (true, true));
    assert_eq!(told(json!({"without": ["name"]})).await.name, None);
    assert_eq!(told(json!({"claims": {"name": "n".repeat(500)}})).await.name, Some("n".repeat(100)));
}

#[tokio::test]
async fn every_algorithm_is_verified_with_the_issuers_key() {
    let stage = Stage::new().await;
    for algorithm in ["RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"] {
        stage.server.change_key(algorithm).await;
        // else the key would not be searched for again so soon
        stage.clock.advance(60);
        stage.sign_in().await.unwrap_or_else(|error| panic!("{algorithm}: {error:?}"));
        stage.refused(json!({"signature": "stripped"}), "does not hold").await;
    }
}

#[tokio::test]
async fn a_new_key_is_looked_for_once_and_an_unknown_one_once_a_minute() {
    let stage = Stage::new().await;
    let keys = async || stage.server.counts().await.keys;
    stage.sign_in().await.unwrap();
    stage.server.change_key("RS256").await;
    for _ in 0..3 {
        stage.sign_in().await.unwrap();
    }
    assert_eq!(keys().await, 2, "the new key was looked for once");

    stage.clock.advance(60);
    stage.server.tell(json!({"keepKeys": true, "newKey": "RS256"})).await;
    let unknown = async || {
        let error = stage.sign_in().await.unwrap_err();
        assert!(error.kind == ErrorKind::PermissionDenied, "{error:?}");
        assert!(error.message().contains("not signed with the issuer's key"), "{error}");
    };
    for _ in 0..3 {
        unknown().await;
    }
    stage.clock.advance(59);
    unknown().await;
    assert_eq!(keys().await, 3, "a minute has not passed");
    stage.clock.advance(1);
    unknown().await;
    assert_eq!(keys().await, 4);
    stage.server.tell(json!({})).await;
    stage.clock.advance(60);
    stage.sign_in().await.unwrap();
    assert_eq!(keys().await, 5);
}

#[tokio::test]
async fn those_who_sign_in_at_once_find_a_new_key_together() {
    let stage = Stage::new().await;
    stage.sign_in().await.unwrap();
    stage.server.change_key("ES256").await;
    let (a, b, c) = tokio::join!(stage.sign_in(), stage.sign_in(), stage.sign_in());
    for identity in [a, b, c] {
        identity.unwrap();
    }
    assert_eq!(stage.server.counts().await.keys, 2);
}

#[tokio::test]
async fn an_issuer_that_calls_itself_otherwise_is_none() {
    let stage = Stage::new().await;
    let slash = format!("{}/", stage.server.issuer());
    for issuer in ["https://accounts.google.com", slash.as_str(), ""] {
        stage.server.tell(json!({"discovery": {"issuer": issuer}})).await;
        stage.unavailable("another name").await;
    }
    stage.server.tell(json!({})).await;
    let other = provider(settings(&slash), &stage.clock);
    let error = other.authorization_url(&sign_in()).await.unwrap_err();
    assert!(error.message().contains("another name"), "{error}");
    stage.sign_in().await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_is_down_or_none_is_unavailable() {
    let stage = Stage::new().await;
    for told in [json!({"status": 503}), json!({"status": 404}), json!({"status": 302})] {
        stage.server.tell(told).await;
        stage.unavailable("instead of its configuration").await;
    }
    stage.server.tell(json!({"discovery": {"jwks_uri": "planted"}})).await;
    stage.unavailable("no URL").await;
    stage.server.tell(json!({"discovery": {"token_endpoint": "ftp://a:planted@issuer.example/planted"}})).await;
    stage.unavailable("may not be called").await;
    stage.server.tell(json!({"discovery": {"token_endpoint": 1}})).await;
    stage.unavailable("is none").await;

    stage.server.tell(json!({})).await;
    let code = stage.code().await;
    stage.server.tell(json!({"status": 500})).await;
    let error = stage.identify(&code, &sign_in()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Unavailable && error.can_be_retried(), "{error:?}");
    let Stage { server, provider, .. } = stage;
    drop(server);
    let error = provider.identify(&code, &sign_in()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Unavailable && error.message().contains("cannot be asked"), "{error:?}");
    assert_silent(&error, &code);
}

/// Whoever names an issuer cannot have our network asked.
#[tokio::test]
async fn an_issuer_inside_is_not_asked() {
    let stage = Stage::new().await;
    let client = OutboundClient::new(AddressGuard::new(false)).unwrap();
    for issuer in [stage.server.issuer().to_owned(), stage.server.issuer().replace("http:", "https:")] {
        let provider = OidcProvider::new(settings(&issuer), client.clone(), Arc::clone(&stage.clock) as _);
        let error = provider.authorization_url(&sign_in()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    }
    assert_eq!(stage.server.counts().await.discovery, 0);
}

const DATASTORE: &str = "https://www.googleapis.com/auth/datastore";

impl Stage {
    /// Somebody is asked for their consent, and comes back; no failure may say anything that was planted.
    async fn consent(&self) -> Result<Consent, PortError> {
        let url = self.provider.consent_url(&sign_in()).await.unwrap();
        let (code, _) = self.server.authorize(&url).await;
        let consent = self.provider.take_consent(&code, &sign_in()).await;
        if let Err(error) = &consent {
            assert_silent(error, &code);
        }
        consent
    }
}

#[tokio::test]
async fn somebody_consents_and_the_consent_is_given_back() {
    let stage = Stage::new().await;
    stage.server.tell(json!({ "refreshToken": "planted-refresh-token" })).await;
    let url = Url::parse(&stage.provider.consent_url(&sign_in()).await.unwrap()).unwrap();
    let asked: Vec<_> = url.query_pairs().into_owned().collect();
    let field = |name: &str| asked.iter().find(|(key, _)| key == name).unwrap().1.as_str();
    assert_eq!((field("access_type"), field("prompt")), ("offline", "select_account consent"));
    let scopes: Vec<&str> = field("scope").split(' ').collect();
    let toolkit = "https://www.googleapis.com/auth/identitytoolkit";
    assert_eq!(scopes, ["openid", "email", DATASTORE, toolkit], "nothing opens all of a project");
    assert_eq!((field("state"), field("code_challenge_method")), (STATE, "S256"));

    let consent = stage.consent().await.unwrap();
    assert_eq!(consent.refresh_token.as_str(), "planted-refresh-token");
    assert_eq!(consent.account.as_deref(), Some("ada@example.com"));
    assert!(!format!("{consent:?}").contains("planted"), "{consent:?}");
    for _ in 0..2 {
        // the second time it is unknown there, which is what was wanted
        stage.provider.give_back(&consent.refresh_token).await.unwrap();
    }
    assert_eq!(stage.server.counts().await.revocations, 2);
    stage.server.tell(json!({ "status": 503 })).await;
    let error = stage.provider.give_back(&consent.refresh_token).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_silent(&error, "planted");
}

#[tokio::test]
async fn half_a_consent_is_none() {
    let stage = Stage::new().await;
    let planted = "planted-refresh-token";
    for scope in ["openid email", "openid email https://www.googleapis.com/auth/datastore.more"] {
        stage.server.tell(json!({ "scope": scope, "refreshToken": planted })).await;
        assert_eq!(stage.consent().await.unwrap_err().kind, ErrorKind::FailedPrecondition, "{scope}");
    }
    stage.server.tell(json!({ "scope": format!("openid {DATASTORE}"), "refreshToken": planted })).await;
    assert!(stage.consent().await.is_ok(), "whoever has no Auth users need not show them");
    stage.server.tell(json!({ "claims": { "email_verified": false }, "refreshToken": planted })).await;
    assert_eq!(stage.consent().await.unwrap().account, None, "an address that nobody vouches for is none");
    stage.server.tell(json!({ "claims": { "nonce": "another" }, "refreshToken": planted })).await;
    assert_eq!(stage.consent().await.unwrap_err().kind, ErrorKind::PermissionDenied);
    // a sign-in is no consent: it gives nothing that lasts
    stage.server.tell(json!({ "refreshToken": planted })).await;
    let code = stage.code().await;
    let error = stage.provider.take_consent(&code, &sign_in()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::FailedPrecondition);
}

/// What a program is given that shows who it is: the same token as of somebody who signs in, for another audience.
async fn account_token(stage: &Stage, told: Value) -> String {
    stage.server.tell(told).await;
    stage.server.account_token((CLIENT, SECRET)).await
}

#[tokio::test]
async fn a_program_shows_whose_account_it_is() {
    let stage = Stage::new().await;
    let client = OutboundClient::new(AddressGuard::new(true)).unwrap();
    let accounts = OidcAccounts::new(stage.server.issuer().to_owned(), client, Arc::clone(&stage.clock) as _);
    let told = json!({ "claims": { "aud": "https://here/events", "email": "push@p.iam.gserviceaccount.com" } });
    let token = account_token(&stage, told.clone()).await;
    for _ in 0..2 {
        assert_eq!(accounts.account(&token, "https://here/events").await.unwrap(), "push@p.iam.gserviceaccount.com");
    }
    assert_eq!(stage.server.counts().await.keys, 1, "keys are kept");
    for (token, audience) in [(token.as_str(), "https://here/others"), ("eyJ.planted", "https://here/events"), ("", "")]
    {
        let error = accounts.account(token, audience).await.unwrap_err();
        assert_silent(&error, "planted");
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error:?}");
    }
    for signature in ["none", "stranger", "garbage", "other-payload"] {
        let mut told = told.clone();
        told["signature"] = signature.into();
        let token = account_token(&stage, told).await;
        let error = accounts.account(&token, "https://here/events").await.unwrap_err();
        assert_silent(&error, "planted");
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{signature}: {error:?}");
    }
    stage.clock.advance(3700);
    let error = accounts.account(&token, "https://here/events").await.unwrap_err();
    assert!(error.message().contains("expired"), "{error}");
    stage.clock.advance(3700);
    stage.server.tell(json!({ "status": 503 })).await;
    let error = accounts.account(&token, "https://here/events").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
}
