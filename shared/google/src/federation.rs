//! Google without a key: Workload Identity Federation from the AWS identity of this process.
//!
//! A request `GetCallerIdentity` is signed with the AWS credentials of the environment and never sent: Google sends it,
//! and learns from AWS whose it is. The signature covers the audience, so that nobody else can use it elsewhere. Google's
//! library signs, exchanges, keeps the token and gets the next one four minutes before the end; here stands what it is
//! told, and what its failures mean.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use firebackup_model::error::{ErrorKind, PortError};
use gcloud_sdk::error::ErrorKind as SdkErrorKind;
use gcloud_sdk::google_cloud_auth::credentials::external_account::Builder;
use gcloud_sdk::{GCP_DEFAULT_SCOPES, GoogleAuthHeaders};
use reqwest::Url;
use serde_json::json;

use crate::access::sdk_error_kind;

const OPERATION: &str = "get a Google token for the AWS identity";
const SUBJECT_TOKEN_TYPE: &str = "urn:ietf:params:aws:token-type:aws4_request";
/// Google asks the region's own server; the library puts the region in.
const CALLER_IDENTITY: &str = "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15";
/// The exchange takes well below a second, and the library has no limit of its own.
const FIRST_TOKEN_LIMIT: Duration = Duration::from_secs(30);

/// Whom Google takes the AWS identity of this process for. Nothing in it is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Federation {
    audience: String,
    service_account: Option<String>,
    servers: TokenServers,
}

/// Where tokens are had. No setting leads elsewhere: whoever could choose would be sent our signature.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TokenServers {
    exchange: String,
    accounts: String,
}

impl Default for TokenServers {
    fn default() -> Self {
        Self {
            exchange: "https://sts.googleapis.com".to_owned(),
            accounts: "https://iamcredentials.googleapis.com".to_owned(),
        }
    }
}

impl Federation {
    /// The provider `audience` (`//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/
    /// PROVIDER`), and the address of the service account to act as; without one the AWS identity itself is granted roles.
    #[must_use]
    pub fn new(audience: impl Into<String>, service_account: Option<String>) -> Self {
        Self { audience: audience.into(), service_account, servers: TokenServers::default() }
    }

    /// Other servers, which only tests have.
    #[cfg(test)]
    fn at(mut self, server: &str) -> Self {
        self.servers = TokenServers { exchange: server.to_owned(), accounts: server.to_owned() };
        self
    }

    fn configuration(&self) -> Result<serde_json::Value, PortError> {
        let mut configuration = json!({
            "type": "external_account",
            "audience": self.audience,
            "subject_token_type": SUBJECT_TOKEN_TYPE,
            "token_url": format!("{}/v1/token", self.servers.exchange),
            "credential_source": {
                "environment_id": "aws1",
                "regional_cred_verification_url": CALLER_IDENTITY,
            },
        });
        if let Some(account) = &self.service_account {
            let url = account_url(&self.servers.accounts, account).map_err(|source| {
                PortError::new(ErrorKind::InvalidArgument, OPERATION, "the service account has no valid address")
                    .with_source(source)
            })?;
            configuration["service_account_impersonation_url"] = json!(url.as_str());
        }
        Ok(configuration)
    }

    /// The headers of requests. The first token is fetched here, so that whoever connects is told what is missing.
    ///
    /// Nothing is shared between two connections: a function of Lambda that was frozen for an hour would find a token
    /// that has ended, while its clock says that it has not.
    pub(crate) async fn auth_headers(&self) -> Result<GoogleAuthHeaders, PortError> {
        let credentials = Builder::new(self.configuration()?).with_scopes(GCP_DEFAULT_SCOPES.iter()).build();
        let credentials = credentials.map_err(|source| {
            PortError::new(ErrorKind::InvalidArgument, OPERATION, "the federation is not usable").with_source(source)
        })?;
        let headers = GoogleAuthHeaders::from(credentials);
        match tokio::time::timeout(FIRST_TOKEN_LIMIT, headers.headers()).await {
            Ok(Ok(_)) => Ok(headers),
            Ok(Err(error)) => Err(self.refused(error)),
            Err(source) => Err(self.silent(source)),
        }
    }

    fn silent(&self, source: impl Into<Box<dyn Error + Send + Sync>>) -> PortError {
        PortError::new(ErrorKind::Unavailable, OPERATION, "Google's token servers do not answer").with_source(source)
    }

    /// What is missing, by the step that failed.
    fn refused(&self, error: gcloud_sdk::error::Error) -> PortError {
        let can_be_retried = sdk_error_kind(&error).can_be_retried();
        let cause = cause(error);
        if can_be_retried {
            return self.silent(cause);
        }
        let (kind, message) = match failed_step(&*cause) {
            Step::Sign => (
                ErrorKind::Unauthenticated,
                "this process has no AWS identity (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION)".to_owned(),
            ),
            Step::Exchange => (ErrorKind::Unauthenticated, self.not_let_in()),
            Step::Impersonate => (ErrorKind::PermissionDenied, self.not_bound()),
            Step::Unknown => (ErrorKind::Unauthenticated, "Google gave no token".to_owned()),
        };
        PortError::new(kind, OPERATION, message).with_source(cause)
    }

    fn not_let_in(&self) -> String {
        format!(
            "the provider {} does not let the AWS identity in: check that it exists, that its AWS account is that of this \
             installation, and that its attribute condition is for the role that asks (infra/google/set-up makes it so)",
            self.audience
        )
    }

    fn not_bound(&self) -> String {
        let account = self.service_account.as_deref().unwrap_or("the service account");
        format!(
            "the AWS identity may not act as {account}: grant roles/iam.workloadIdentityUser on it to \
             principalSet:{}/attribute.aws_role/ROLE, where ROLE is the role that asks (infra/google/set-up does it)",
            self.pool()
        )
    }

    /// The pool that the provider is in.
    fn pool(&self) -> &str {
        self.audience.split_once("/providers/").map_or(self.audience.as_str(), |(pool, _)| pool)
    }
}

impl fmt::Display for Federation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "workload identity federation through {}", self.audience)?;
        self.service_account.as_ref().map_or(Ok(()), |account| write!(f, " as {account}"))
    }
}

/// The address is one segment of the path, whatever is in it.
fn account_url(server: &str, account: &str) -> Result<Url, Box<dyn Error + Send + Sync>> {
    let mut url = Url::parse(server)?;
    let method = format!("{account}:generateAccessToken");
    url.path_segments_mut().map_err(|()| "no base")?.pop_if_empty().extend([
        "v1",
        "projects",
        "-",
        "serviceAccounts",
        &method,
    ]);
    Ok(url)
}

/// The SDK's own error does not tell its source.
fn cause(error: gcloud_sdk::error::Error) -> Box<dyn Error + Send + Sync> {
    match error.into_kind() {
        SdkErrorKind::Credentials(credentials) => credentials.into(),
        kind => gcloud_sdk::error::Error::from(kind).into(),
    }
}

/// The steps to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Sign,
    Exchange,
    Impersonate,
    Unknown,
}

/// The library tells its steps apart by their texts only; a test holds them.
fn failed_step(error: &(dyn Error + 'static)) -> Step {
    const TEXTS: [(&str, Step); 4] = [
        ("could not resolve AWS region", Step::Sign),
        ("AWS metadata server", Step::Sign),
        ("failed to exchange token", Step::Exchange),
        ("failed to fetch token", Step::Impersonate),
    ];
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if let Some((_, step)) = TEXTS.iter().find(|(part, _)| text.contains(part)) {
            return *step;
        }
        cause = error.source();
    }
    Step::Unknown
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::Command;

    use firebackup_testkit::google_tokens::{AwsIdentity, GoogleTokens};
    use http::header::AUTHORIZATION;

    use super::*;

    pub(crate) const AUDIENCE: &str =
        "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/firebackup/providers/org-1";
    pub(crate) const ACCOUNT: &str = "backup@shop-1.iam.gserviceaccount.com";
    const SECRET: &str = "planted-secret-key";
    const SESSION: &str = "planted-session-token/+=";

    fn identity() -> AwsIdentity {
        AwsIdentity {
            region: "eu-central-1".to_owned(),
            access_key: "ASIAPLANTED".to_owned(),
            secret_key: SECRET.to_owned(),
            session_token: SESSION.to_owned(),
        }
    }

    /// Whether this process has the AWS identity. If not, `test` (its whole name) is run in one that has: a process does
    /// not change its own environment.
    pub(crate) fn has_identity(test: &str) -> bool {
        if std::env::var("AWS_SESSION_TOKEN").is_ok_and(|token| token == SESSION) {
            return true;
        }
        let identity = identity();
        run_again(
            test,
            &[
                ("AWS_REGION", &identity.region),
                ("AWS_ACCESS_KEY_ID", &identity.access_key),
                ("AWS_SECRET_ACCESS_KEY", &identity.secret_key),
                ("AWS_SESSION_TOKEN", &identity.session_token),
            ],
        );
        false
    }

    fn run_again(test: &str, environment: &[(&str, &str)]) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture"]).env("NO_PROXY", "127.0.0.1");
        for name in
            ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
        {
            command.env_remove(name);
        }
        let output = command.envs(environment.iter().copied()).output().unwrap();
        let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("1 passed"), "{said}\n{failed}");
    }

    pub(crate) async fn token_server() -> GoogleTokens {
        GoogleTokens::start(identity(), AUDIENCE, ACCOUNT).await.unwrap()
    }

    pub(crate) fn federation(server: &GoogleTokens, account: Option<&str>) -> Federation {
        Federation::new(AUDIENCE, account.map(str::to_owned)).at(&server.url())
    }

    async fn token(headers: &GoogleAuthHeaders) -> String {
        headers.headers().await.unwrap()[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    async fn refusal(federation: &Federation) -> PortError {
        let error = federation.auth_headers().await.unwrap_err();
        let told = format!("{error} {error:?} {federation} {federation:?}");
        assert!(!told.contains("planted"), "{told}");
        error
    }

    #[tokio::test]
    async fn a_signature_becomes_a_token_of_the_service_account() {
        if !has_identity("federation::tests::a_signature_becomes_a_token_of_the_service_account") {
            return;
        }
        let server = token_server().await;
        let account = federation(&server, Some(ACCOUNT)).auth_headers().await.unwrap();
        assert_eq!(token(&account).await, "Bearer account-token-1");
        assert!(account.headers().await.unwrap()[AUTHORIZATION].is_sensitive());
        let itself = federation(&server, None).auth_headers().await.unwrap();
        assert_eq!(token(&itself).await, "Bearer exchanged-token-2");
        assert_eq!((server.exchanges(), server.impersonations()), (2, 1));
    }

    #[tokio::test]
    async fn a_token_is_had_once_and_anew_before_it_ends() {
        if !has_identity("federation::tests::a_token_is_had_once_and_anew_before_it_ends") {
            return;
        }
        let server = token_server().await;
        // four minutes before its end a token is exchanged for the next one
        server.tokens_live(Duration::from_secs(242));
        let headers = federation(&server, Some(ACCOUNT)).auth_headers().await.unwrap();
        server.tokens_live(Duration::from_secs(3600));
        let many = futures::future::join_all((0..50).map(|_| token(&headers))).await;
        assert!(many.iter().all(|token| token == "Bearer account-token-1"), "{many:?}");
        assert_eq!(server.exchanges(), 1);
        let renewed = async {
            while token(&headers).await == "Bearer account-token-1" {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), renewed).await.unwrap();
        assert_eq!(token(&headers).await, "Bearer account-token-2");
        assert_eq!((server.exchanges(), server.impersonations()), (2, 2));
    }

    #[tokio::test]
    async fn a_refusal_says_which_binding_is_missing() {
        if !has_identity("federation::tests::a_refusal_says_which_binding_is_missing") {
            return;
        }
        let server = token_server().await;
        let stranger = Federation::new(AUDIENCE.replace("org-1", "org-2"), None).at(&server.url());
        let error = refusal(&stranger).await;
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
        assert!(error.message().contains("providers/org-2 does not let the AWS identity in"), "{error}");

        let error = refusal(&federation(&server, Some("other@shop-1.iam.gserviceaccount.com"))).await;
        assert_eq!(error.kind, ErrorKind::PermissionDenied);
        let told = error.message();
        assert!(
            told.contains("may not act as other@shop-1") && told.contains("roles/iam.workloadIdentityUser"),
            "{told}"
        );
        let principals = "principalSet://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/firebackup/attribute";
        assert!(told.contains(principals), "{told}");
        let reason = failed_step(Error::source(&error).unwrap());
        assert_eq!(reason, Step::Impersonate, "what Google said is kept");

        server.refuse_exchanges(Some(403));
        assert_eq!(refusal(&federation(&server, None)).await.kind, ErrorKind::Unauthenticated);
        server.refuse_exchanges(Some(503));
        let error = refusal(&federation(&server, Some(ACCOUNT))).await;
        assert_eq!((error.kind, error.can_be_retried()), (ErrorKind::Unavailable, true), "{error:?}");
    }

    #[tokio::test]
    async fn without_an_aws_identity_nobody_is_asked() {
        const NAME: &str = "federation::tests::without_an_aws_identity_nobody_is_asked";
        if std::env::var_os("FIREBACKUP_NO_IDENTITY").is_none() {
            run_again(NAME, &[("FIREBACKUP_NO_IDENTITY", "1")]);
            run_again(NAME, &[("FIREBACKUP_NO_IDENTITY", "1"), ("AWS_REGION", "eu-central-1")]);
            return;
        }
        let server = token_server().await;
        let error = refusal(&federation(&server, Some(ACCOUNT))).await;
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
        assert!(error.message().contains("no AWS identity"), "{error:?}");
        assert_eq!(server.exchanges(), 0);
    }

    #[test]
    fn requests_go_to_google_whatever_the_account_is_called() {
        let configuration = Federation::new(AUDIENCE, Some(ACCOUNT.to_owned())).configuration().unwrap();
        assert_eq!(configuration["token_url"], "https://sts.googleapis.com/v1/token");
        let url = |account: &str| {
            let configuration = Federation::new(AUDIENCE, Some(account.to_owned())).configuration().unwrap();
            configuration["service_account_impersonation_url"].as_str().unwrap().to_owned()
        };
        let accounts = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts";
        assert_eq!(url(ACCOUNT), format!("{accounts}/{ACCOUNT}:generateAccessToken"));
        assert_eq!(url("../../a?b#c"), format!("{accounts}/..%2F..%2Fa%3Fb%23c:generateAccessToken"));
        assert!(url("http://169.254.169.254/").starts_with(accounts));
        assert!(
            Federation::new(AUDIENCE, None).configuration().unwrap().get("service_account_impersonation_url").is_none()
        );
    }
}
