//! A project's Firebase Auth users, over Identity Toolkit's REST.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use firebackup_model::error::{ErrorKind, PortError};
use firebackup_model::port::{MAX_USERS_PER_CALL, UserFailure, UserPage, UserRecord, UserSink, UserSource};
use http::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, Url};

use crate::access::Access;
use crate::identity_json;
use crate::rest::{Rest, unreadable};

const PRODUCTION: &str = "https://identitytoolkit.googleapis.com";
/// The Auth emulator serves several APIs, each below its host's name.
const EMULATOR_PATH: &str = "identitytoolkit.googleapis.com";
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// A page of a thousand users has a few MB at most.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

const CONNECT: &str = "connect to Identity Toolkit";
const LIST_USERS: &str = "list Auth users";
const LIST_TENANTS: &str = "list Auth tenants";
const READ_HASH_CONFIG: &str = "read the password hash parameters";
const CREATE_USERS: &str = "create Auth users";

const READER: &str = "roles/firebaseauth.viewer (what a backup needs; password hashes need roles/firebaseauth.admin)";
const WRITER: &str = "roles/firebaseauth.admin (what a restore needs)";

/// Which project, and how it is reached.
#[derive(Debug, Clone)]
pub struct IdentityOptions {
    /// The project id.
    pub project: String,
    /// How it is reached; an emulator is the Auth emulator, not Firestore's.
    pub access: Access,
}

/// A project's Auth users: a source and a sink. Clones share connections and tokens.
///
/// Nothing here is tried twice; [`Retrying`](crate::Retrying) does that.
#[derive(Clone)]
pub struct IdentityToolkit {
    rest: Rest,
    endpoint: Endpoint,
}

impl IdentityToolkit {
    /// Prepares the connection; the first request makes it.
    ///
    /// # Errors
    /// When there are no usable credentials (`Unauthenticated`), or the emulator's host is none (`InvalidArgument`).
    pub async fn connect(options: IdentityOptions) -> Result<Self, PortError> {
        let endpoint = Endpoint::new(&options.project, &options.access)?;
        Ok(Self { rest: Rest::connect(&options.access, CONNECT, CALL_TIMEOUT).await?, endpoint })
    }

    async fn call(&self, operation: &'static str, role: &str, request: RequestBuilder) -> Result<Vec<u8>, PortError> {
        let answer = self.rest.send(operation, request, MAX_ANSWER).await?;
        match answer.is_success() {
            true => Ok(answer.body),
            false => Err(identity_json::refusal(operation, role, answer.status, &answer.body)),
        }
    }

    async fn get(&self, operation: &'static str, url: Url) -> Result<Vec<u8>, PortError> {
        self.call(operation, READER, self.rest.request(Method::GET, url)).await
    }
}

#[async_trait]
impl UserSource for IdentityToolkit {
    async fn hash_config(&self) -> Result<Option<serde_json::Value>, PortError> {
        let body = match self.get(READ_HASH_CONFIG, self.endpoint.config()).await {
            Err(error) if error.kind == ErrorKind::PermissionDenied => return Ok(None),
            body => body?,
        };
        identity_json::hash_config(&body).map_err(unreadable(READ_HASH_CONFIG))
    }

    async fn tenants(&self) -> Result<Vec<String>, PortError> {
        let mut tenants = Vec::new();
        let (mut token, mut seen) = (None, HashSet::new());
        loop {
            let body = match self.get(LIST_TENANTS, self.endpoint.tenants(token.as_deref())).await {
                Err(error) if says_there_are_no_tenants(&error) => return Ok(tenants),
                body => body?,
            };
            let (ids, next) = identity_json::tenants(&body).map_err(unreadable(LIST_TENANTS))?;
            tenants.extend(ids);
            match next {
                None => return Ok(tenants),
                Some(next) if seen.insert(next.clone()) => token = Some(next),
                Some(_) => {
                    let text = "the server sent a page token twice: the list would have no end";
                    return Err(PortError::new(ErrorKind::Corrupt, LIST_TENANTS, text));
                }
            }
        }
    }

    async fn page(&self, tenant: Option<&str>, token: Option<&str>) -> Result<UserPage, PortError> {
        let body = self.get(LIST_USERS, self.endpoint.users(tenant, token)).await?;
        identity_json::page(&body, tenant).map_err(unreadable(LIST_USERS))
    }
}

/// A project without Identity Platform refuses to list tenants.
fn says_there_are_no_tenants(error: &PortError) -> bool {
    error.kind == ErrorKind::InvalidArgument
        && ["OPERATION_NOT_ALLOWED", "MULTI_TENANCY", "multi-tenancy"].iter().any(|text| error.message().contains(text))
}

#[async_trait]
impl UserSink for IdentityToolkit {
    /// Redacted hashes are not sent: such users are created without a password.
    async fn create(
        &self,
        tenant: Option<&str>,
        users: &[UserRecord],
        hash_config: Option<&serde_json::Value>,
        overwrite: bool,
    ) -> Result<Vec<UserFailure>, PortError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        if users.len() > MAX_USERS_PER_CALL {
            let message = format!("{} users in a call, at most {MAX_USERS_PER_CALL} are allowed", users.len());
            return Err(PortError::new(ErrorKind::InvalidArgument, CREATE_USERS, message));
        }
        let body = identity_json::batch_create(tenant, users, hash_config, overwrite).map_err(|_| {
            PortError::new(ErrorKind::InvalidArgument, CREATE_USERS, "a user's record is not a JSON object")
        })?;
        let request = self.rest.request(Method::POST, self.endpoint.create(tenant));
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let answer = self.call(CREATE_USERS, WRITER, request).await?;
        identity_json::failures(&answer).map_err(unreadable(CREATE_USERS))
    }
}

/// Where the project's methods are.
#[derive(Debug, Clone)]
struct Endpoint {
    base: Url,
    project: String,
}

impl Endpoint {
    fn new(project: &str, access: &Access) -> Result<Self, PortError> {
        let origin = match access {
            Access::Emulator { host } => format!("http://{host}"),
            Access::ServiceAccountFile(_)
            | Access::ServiceAccountKey(_)
            | Access::Federated(_)
            | Access::Consented(_)
            | Access::ApplicationDefault => PRODUCTION.to_owned(),
        };
        let invalid = || PortError::new(ErrorKind::InvalidArgument, CONNECT, "the emulator's address is no host:port");
        let mut base = Url::parse(&origin).map_err(|source| invalid().with_source(source))?;
        if base.path() != "/" || base.query().is_some() || base.fragment().is_some() {
            return Err(invalid());
        }
        if matches!(access, Access::Emulator { .. }) {
            base.set_path(EMULATOR_PATH);
        }
        Ok(Self { base, project: project.to_owned() })
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    fn config(&self) -> Url {
        self.url(&["v2", "projects", &self.project, "config"])
    }

    fn tenants(&self, token: Option<&str>) -> Url {
        let mut url = self.url(&["v2", "projects", &self.project, "tenants"]);
        url.query_pairs_mut().append_pair("pageSize", "1000");
        if let Some(token) = token {
            url.query_pairs_mut().append_pair("pageToken", token);
        }
        url
    }

    fn accounts(&self, tenant: Option<&str>, method: &str) -> Url {
        match tenant {
            Some(tenant) => self.url(&["v1", "projects", &self.project, "tenants", tenant, method]),
            None => self.url(&["v1", "projects", &self.project, method]),
        }
    }

    fn users(&self, tenant: Option<&str>, token: Option<&str>) -> Url {
        let mut url = self.accounts(tenant, "accounts:batchGet");
        url.query_pairs_mut().append_pair("maxResults", &MAX_USERS_PER_CALL.to_string());
        if let Some(token) = token {
            url.query_pairs_mut().append_pair("nextPageToken", token);
        }
        url
    }

    fn create(&self, tenant: Option<&str>) -> Url {
        self.accounts(tenant, "accounts:batchCreate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn addresses_in_production_and_on_the_emulator() {
        let google = Endpoint::new("p", &Access::ApplicationDefault).unwrap();
        let check = |url: Url, expected: &str| assert_eq!(url.as_str(), expected);
        let base = "https://identitytoolkit.googleapis.com";
        check(google.users(None, None), &format!("{base}/v1/projects/p/accounts:batchGet?maxResults=1000"));
        check(
            google.users(Some("t-1"), Some("a+/=&")),
            &format!("{base}/v1/projects/p/tenants/t-1/accounts:batchGet?maxResults=1000&nextPageToken=a%2B%2F%3D%26"),
        );
        check(google.tenants(Some("n")), &format!("{base}/v2/projects/p/tenants?pageSize=1000&pageToken=n"));
        check(google.config(), &format!("{base}/v2/projects/p/config"));
        let emulator = Endpoint::new("p/q", &Access::Emulator { host: "127.0.0.1:9099".into() }).unwrap();
        let base = "http://127.0.0.1:9099/identitytoolkit.googleapis.com";
        check(emulator.create(None), &format!("{base}/v1/projects/p%2Fq/accounts:batchCreate"));
        check(emulator.create(Some("t")), &format!("{base}/v1/projects/p%2Fq/tenants/t/accounts:batchCreate"));
        for host in ["", "a/b", "http://a", "a?b"] {
            let error = Endpoint::new("p", &Access::Emulator { host: host.into() }).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument, "{host}");
        }
    }

    async fn nobody_there() -> IdentityToolkit {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let options = IdentityOptions { project: "p".into(), access: Access::Emulator { host } };
        IdentityToolkit::connect(options).await.unwrap()
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable() {
        let error = nobody_there().await.page(None, None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(std::error::Error::source(&error).is_some());
    }

    #[tokio::test]
    async fn too_many_users_are_refused_and_none_need_no_call() {
        let toolkit = nobody_there().await;
        let user = UserRecord { id: "a".into(), tenant: None, json: Bytes::from("{}"), redacted: false };
        let error = toolkit.create(None, &vec![user; MAX_USERS_PER_CALL + 1], None, false).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert_eq!(toolkit.create(None, &[], None, false).await.unwrap(), []);
    }

    #[test]
    fn a_project_without_tenants_is_told_from_one_that_refuses() {
        let error = |kind, message: &str| PortError::new(kind, LIST_TENANTS, message);
        assert!(says_there_are_no_tenants(&error(ErrorKind::InvalidArgument, "OPERATION_NOT_ALLOWED : no")));
        assert!(!says_there_are_no_tenants(&error(ErrorKind::PermissionDenied, "OPERATION_NOT_ALLOWED")));
        assert!(!says_there_are_no_tenants(&error(ErrorKind::InvalidArgument, "INVALID_PROJECT_ID")));
    }
}
