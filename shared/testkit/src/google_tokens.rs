//! A stand-in for Google's token servers: the exchange of a signed AWS request for a token (`sts.googleapis.com`), and
//! tokens of service accounts (`iamcredentials.googleapis.com`).
//!
//! Google would send the signed request to AWS. Here the AWS identity is known, so the signature is made again and
//! compared: the same refusals without AWS.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, PrimitiveDateTime};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::form_urlencoded;

const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
const IAM: &str = "https://www.googleapis.com/auth/iam";
const TARGET: &str = "x-goog-cloud-target-resource";
/// What the signature must cover, in order.
const SIGNED: [&str; 4] = ["host", "x-amz-date", "x-amz-security-token", TARGET];
/// How old a signature AWS still takes.
const SIGNATURE_LIFE: Duration = Duration::from_secs(15 * 60);

/// The AWS identity that is let in: what stands in the environment of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsIdentity {
    /// Such as `eu-central-1`.
    pub region: String,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: String,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: String,
}

/// A running server that knows one provider, one AWS identity and one service account that it may act as. It stops when
/// dropped.
#[derive(Debug)]
pub struct GoogleTokens {
    url: String,
    task: JoinHandle<()>,
    inside: Arc<Inside>,
}

#[derive(Debug)]
struct Inside {
    identity: AwsIdentity,
    audience: String,
    account: String,
    exchanges: AtomicU64,
    impersonations: AtomicU64,
    life_seconds: AtomicU64,
    /// A status; zero for none.
    refusal: AtomicU16,
}

impl GoogleTokens {
    /// Starts on a free port. Tokens live an hour.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(identity: AwsIdentity, audience: &str, account: &str) -> io::Result<Self> {
        let inside = Arc::new(Inside {
            identity,
            audience: audience.to_owned(),
            account: account.to_owned(),
            exchanges: AtomicU64::new(0),
            impersonations: AtomicU64::new(0),
            life_seconds: AtomicU64::new(3600),
            refusal: AtomicU16::new(0),
        });
        let router = Router::new()
            .route("/v1/token", post(exchange))
            .route("/v1/projects/-/serviceAccounts/{method}", post(impersonate))
            .with_state(Arc::clone(&inside));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serve tokens") });
        Ok(Self { url, task, inside })
    }

    /// Its base URL, for both servers.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// How many exchanges were asked for, refused ones included.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.inside.exchanges.load(Ordering::SeqCst)
    }

    /// How many tokens of the service account were given.
    #[must_use]
    pub fn impersonations(&self) -> u64 {
        self.inside.impersonations.load(Ordering::SeqCst)
    }

    /// How long tokens live that are given from now on.
    pub fn tokens_live(&self, life: Duration) {
        self.inside.life_seconds.store(life.as_secs(), Ordering::SeqCst);
    }

    /// Refuses every exchange with this status; none refuses no more.
    pub fn refuse_exchanges(&self, status: Option<u16>) {
        self.inside.refusal.store(status.unwrap_or(0), Ordering::SeqCst);
    }
}

impl Drop for GoogleTokens {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The subject token: a request that was signed and not sent.
#[derive(Debug, Deserialize)]
struct SignedRequest {
    url: String,
    method: String,
    headers: Vec<Header>,
    #[serde(default)]
    body: String,
}

#[derive(Debug, Deserialize)]
struct Header {
    key: String,
    value: String,
}

async fn exchange(State(inside): State<Arc<Inside>>, body: String) -> Response {
    let number = inside.exchanges.fetch_add(1, Ordering::SeqCst) + 1;
    if let Ok(status @ 400..) =
        StatusCode::from_u16(inside.refusal.load(Ordering::SeqCst)).map(|status| status.as_u16())
    {
        return answer(status, &json!({ "error": "refused", "error_description": "told to refuse" }));
    }
    match inside.check_exchange(&body) {
        Ok(()) => answer(
            200,
            &json!({
                "access_token": format!("exchanged-token-{number}"),
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": inside.life_seconds.load(Ordering::SeqCst),
            }),
        ),
        Err(reason) => answer(400, &json!({ "error": "invalid_grant", "error_description": reason })),
    }
}

async fn impersonate(
    State(inside): State<Arc<Inside>>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    if !authorization.starts_with("Bearer exchanged-token-") || body["scope"] != json!([CLOUD_PLATFORM]) {
        return answer(401, &json!({ "error": { "status": "UNAUTHENTICATED" } }));
    }
    if method != format!("{}:generateAccessToken", inside.account) {
        let message = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).";
        return answer(403, &json!({ "error": { "code": 403, "message": message, "status": "PERMISSION_DENIED" } }));
    }
    let number = inside.impersonations.fetch_add(1, Ordering::SeqCst) + 1;
    let end = OffsetDateTime::now_utc() + Duration::from_secs(inside.life_seconds.load(Ordering::SeqCst));
    let end = end.format(&Rfc3339).expect("a time of this century");
    answer(200, &json!({ "accessToken": format!("account-token-{number}"), "expireTime": end }))
}

fn answer(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}

impl Inside {
    fn check_exchange(&self, body: &str) -> Result<(), String> {
        let form: BTreeMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let field = |name: &str| form.get(name).map(String::as_str).ok_or_else(|| format!("no {name}"));
        expect("grant_type", field("grant_type")?, "urn:ietf:params:oauth:grant-type:token-exchange")?;
        expect("subject_token_type", field("subject_token_type")?, "urn:ietf:params:aws:token-type:aws4_request")?;
        expect("audience", field("audience")?, &self.audience)?;
        // whoever acts as a service account asks for no more than that takes
        if ![IAM, CLOUD_PLATFORM].contains(&field("scope")?) {
            return Err("an unexpected scope".to_owned());
        }
        // it is encoded by itself, before the form is
        let token = form_urlencoded::parse(format!("t={}", field("subject_token")?).as_bytes())
            .next()
            .map(|(_, token)| token.into_owned());
        let request: SignedRequest =
            serde_json::from_str(&token.unwrap_or_default()).map_err(|error| format!("no signed request: {error}"))?;
        self.check_signature(&request, OffsetDateTime::now_utc())
    }

    /// Whether AWS would say whose request it is.
    fn check_signature(&self, request: &SignedRequest, now: OffsetDateTime) -> Result<(), String> {
        let host = format!("sts.{}.amazonaws.com", self.identity.region);
        let query = "Action=GetCallerIdentity&Version=2011-06-15";
        expect("url", &request.url, &format!("https://{host}/?{query}"))?;
        expect("method", &request.method, "POST")?;
        let headers: BTreeMap<String, &str> =
            request.headers.iter().map(|header| (header.key.to_lowercase(), header.value.as_str())).collect();
        let header = |name: &str| headers.get(name).copied().ok_or_else(|| format!("no header {name}"));
        expect("host", header("host")?, &host)?;
        expect("the session", header("x-amz-security-token")?, &self.identity.session_token)?;
        // it keeps a signature that was meant for another provider from being used here
        expect(TARGET, header(TARGET)?, &self.audience)?;
        let date = header("x-amz-date")?;
        check_age(date, now)?;
        if headers.len() != SIGNED.len() + 1 {
            return Err("headers that no signature covers".to_owned());
        }
        let lines: String = SIGNED.iter().map(|name| format!("{name}:{}\n", headers[*name])).collect();
        let canonical = [&request.method, "/", query, &lines, &SIGNED.join(";"), &sha256(&request.body)].join("\n");
        expect("authorization", header("authorization")?, &self.authorization(date, &canonical))
    }

    fn authorization(&self, date: &str, canonical: &str) -> String {
        let (day, region) = (&date[..8], &self.identity.region);
        let scope = format!("{day}/{region}/sts/aws4_request");
        let text = ["AWS4-HMAC-SHA256", date, &scope, &sha256(canonical)].join("\n");
        let key = format!("AWS4{}", self.identity.secret_key).into_bytes();
        let key = [day, region.as_str(), "sts", "aws4_request"].iter().fold(key, |key, part| hmac(&key, part));
        let (access_key, signed, signature) =
            (&self.identity.access_key, SIGNED.join(";"), hex::encode(hmac(&key, &text)));
        format!("AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={signed}, Signature={signature}")
    }
}

fn expect(what: &str, given: &str, wanted: &str) -> Result<(), String> {
    if given == wanted { Ok(()) } else { Err(format!("{what} is not as expected")) }
}

fn check_age(date: &str, now: OffsetDateTime) -> Result<(), String> {
    let format = time::format_description::parse_borrowed::<2>("[year][month][day]T[hour][minute][second]Z")
        .map_err(|error| error.to_string())?;
    let signed = PrimitiveDateTime::parse(date, &format).map_err(|error| format!("no date: {error}"))?.assume_utc();
    if (now - signed).unsigned_abs() > SIGNATURE_LIFE {
        return Err("the signature is too old".to_owned());
    }
    Ok(())
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;
    const AUDIENCE: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q";

    fn inside() -> Inside {
        let text = |text: &str| text.to_owned();
        Inside {
            identity: AwsIdentity {
                region: text("eu-central-1"),
                access_key: text("A"),
                secret_key: text("s"),
                session_token: text("t"),
            },
            audience: text(AUDIENCE),
            account: text("a"),
            exchanges: AtomicU64::new(0),
            impersonations: AtomicU64::new(0),
            life_seconds: AtomicU64::new(1),
            refusal: AtomicU16::new(0),
        }
    }

    /// Signed by our own means, which other tests hold against those of Google's library.
    fn signed(inside: &Inside, date: &str, target: &str) -> SignedRequest {
        let host = "sts.eu-central-1.amazonaws.com";
        let query = "Action=GetCallerIdentity&Version=2011-06-15";
        let values = [host, date, "t", target];
        let lines: String = SIGNED.iter().zip(values).map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = ["POST", "/", query, &lines, &SIGNED.join(";"), &sha256("")].join("\n");
        let authorization = inside.authorization(date, &canonical);
        let all = SIGNED.iter().copied().zip(values).chain([("Authorization", authorization.as_str())]);
        let headers = all.map(|(key, value)| Header { key: key.to_owned(), value: value.to_owned() }).collect();
        SignedRequest {
            url: format!("https://{host}/?{query}"),
            method: "POST".to_owned(),
            headers,
            body: String::new(),
        }
    }

    #[test]
    fn a_signature_is_for_one_provider_one_identity_and_a_quarter_of_an_hour() {
        let inside = inside();
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        let check = |request: &SignedRequest| inside.check_signature(request, now);
        let date = "20231114T221320Z";
        assert_eq!(check(&signed(&inside, date, AUDIENCE)), Ok(()));
        assert!(check(&signed(&inside, "20231114T215819Z", AUDIENCE)).unwrap_err().contains("too old"));
        assert!(check(&signed(&inside, date, "//other")).unwrap_err().contains(TARGET));
        let mut stranger = Inside { ..self::inside() };
        stranger.identity.secret_key.push('x');
        assert!(check(&signed(&stranger, date, AUDIENCE)).unwrap_err().contains("authorization"));
        let mut more = signed(&inside, date, AUDIENCE);
        more.headers.push(Header { key: "x-more".to_owned(), value: String::new() });
        assert!(check(&more).is_err());
        let mut elsewhere = signed(&inside, date, AUDIENCE);
        elsewhere.url = elsewhere.url.replace("amazonaws.com", "example");
        assert!(check(&elsewhere).unwrap_err().contains("url"));
    }
}
