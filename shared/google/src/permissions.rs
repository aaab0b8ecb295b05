//! What the credentials are permitted in a project: Google Cloud IAM is asked, over Resource Manager's REST.
//!
//! Asking takes no permission, but the scope `cloud-platform` or one of its kind, and that the Cloud Resource Manager API is
//! switched on in the project of whoever asks. Where it cannot be asked the error says so, and nothing is known.

use std::time::Duration;

use firebackup_model::error::{ErrorKind, PortError};
use http::header::CONTENT_TYPE;
use reqwest::{Method, Url};
use serde_json::{Map, Value, json};

use crate::access::Access;
use crate::identity_json;
use crate::rest::{Rest, unreadable};
use crate::retry::Retrying;

pub(crate) const RESOURCE_MANAGER_URL: &str = "https://cloudresourcemanager.googleapis.com";
const CONNECT: &str = "connect to Resource Manager";
const ASK: &str = "ask IAM for permissions";
/// What refuses whoever may ask nothing; to ask takes no role.
const TAKES: &str = "the scope cloud-platform, and the Cloud Resource Manager API to be enabled";
/// The permissions that were asked for come back, and there are few of them.
const MAX_ANSWER: usize = 64 * 1024;

/// Which project, and how it is reached.
#[derive(Debug, Clone)]
pub struct ResourceManagerOptions {
    /// The project id.
    pub project: String,
    /// How it is reached; an emulator is one of Resource Manager.
    pub access: Access,
    /// How long one answer may take.
    pub limit: Duration,
}

/// Knows what the credentials are permitted in a project.
///
/// Nothing here is tried twice; [`Retrying`] does that.
#[derive(Clone)]
pub struct ResourceManager {
    rest: Rest,
    url: Url,
}

impl ResourceManager {
    /// Prepares the connection; the first request makes it.
    ///
    /// # Errors
    /// When there are no usable credentials (`Unauthenticated`), or the address is none (`InvalidArgument`).
    pub async fn connect(options: ResourceManagerOptions) -> Result<Self, PortError> {
        let url = url(&options.project, &options.access)?;
        Ok(Self { rest: Rest::connect(&options.access, CONNECT, options.limit).await?, url })
    }

    /// Which of these permissions IAM grants on the project. A grant with a condition on a resource below it is none.
    ///
    /// # Errors
    /// `PermissionDenied` where the token's scopes do not suffice, the API is switched off, or there is no such project;
    /// `InvalidArgument` where one of them is no permission of a project; `Corrupt` where the answer is none.
    pub async fn granted(&self, permissions: &[&str]) -> Result<Vec<String>, PortError> {
        let body = json!({ "permissions": permissions }).to_string();
        let request = self.rest.request(Method::POST, self.url.clone());
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let answer = self.rest.send(ASK, request, MAX_ANSWER).await?;
        if !answer.is_success() {
            return Err(identity_json::refusal(ASK, TAKES, answer.status, &answer.body));
        }
        let mut granted = granted(&answer.body)?;
        granted.retain(|permission| permissions.contains(&permission.as_str()));
        Ok(granted)
    }
}

impl Retrying<ResourceManager> {
    /// As [`ResourceManager::granted`].
    ///
    /// # Errors
    /// As that.
    pub async fn granted(&self, permissions: &[&str]) -> Result<Vec<String>, PortError> {
        self.retry(|| self.inner().granted(permissions)).await
    }
}

fn url(project: &str, access: &Access) -> Result<Url, PortError> {
    let base = match access {
        Access::Emulator { host } => format!("http://{host}"),
        Access::Consented(consent) => consent.resource_manager_url().to_owned(),
        Access::ServiceAccountFile(_)
        | Access::ServiceAccountKey(_)
        | Access::Federated(_)
        | Access::ApplicationDefault => RESOURCE_MANAGER_URL.to_owned(),
    };
    let invalid = || PortError::new(ErrorKind::InvalidArgument, CONNECT, "the server's address is none");
    let mut url = Url::parse(&base).map_err(|source| invalid().with_source(source))?;
    let mut path = url.path_segments_mut().map_err(|()| invalid())?;
    path.pop_if_empty().extend(["v3", "projects", &format!("{project}:testIamPermissions")]);
    drop(path);
    Ok(url)
}

/// The permissions of an answer. An empty object grants none; anything else without permissions is no answer, for what it
/// does not name would be taken for missing.
fn granted(body: &[u8]) -> Result<Vec<String>, PortError> {
    let mut answer: Map<String, Value> = serde_json::from_slice(body).map_err(unreadable(ASK))?;
    match answer.remove("permissions") {
        Some(permissions) => serde_json::from_value(permissions).map_err(unreadable(ASK)),
        None if answer.is_empty() => Ok(Vec::new()),
        None => Err(PortError::new(ErrorKind::Corrupt, ASK, "the answer names no permissions")),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use firebackup_testkit::{LocalServer, OAuthServer, Says};

    use super::*;
    use crate::consent::UserConsent;
    use crate::retry::RetryPolicy;

    const ASKED: [&str; 3] = ["datastore.entities.get", "datastore.entities.list", "firebaseauth.users.get"];
    const SHORT: Duration = Duration::from_millis(300);

    async fn manager(server: &LocalServer, limit: Duration) -> ResourceManager {
        let access = Access::Emulator { host: server.host() };
        ResourceManager::connect(ResourceManagerOptions { project: "my-app".to_owned(), access, limit }).await.unwrap()
    }

    async fn said(says: Says) -> Result<Vec<String>, PortError> {
        let server = LocalServer::start(says).await;
        manager(&server, SHORT * 100).await.granted(&ASKED).await
    }

    #[tokio::test]
    async fn what_is_granted_is_told_and_nothing_else() {
        let some =
            r#"{"permissions":["datastore.entities.list","datastore.entities.get","resourcemanager.projects.get"]}"#;
        let server = LocalServer::start(Says::json(200, some)).await;
        let granted = manager(&server, SHORT * 100).await.granted(&ASKED).await.unwrap();
        assert_eq!(granted, ["datastore.entities.list", "datastore.entities.get"]);
        let request = &server.requests()[0];
        assert!(request.starts_with("POST /v3/projects/my-app:testIamPermissions HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nauthorization: Bearer owner\r\n"), "{request}");
        assert!(request.ends_with(&json!({ "permissions": ASKED }).to_string()), "{request}");
        let all = json!({ "permissions": ASKED }).to_string();
        assert_eq!(said(Says::json(200, &all)).await.unwrap(), ASKED);
        for none in ["{}", r#"{"permissions":[]}"#] {
            assert_eq!(said(Says::json(200, none)).await.unwrap(), [""; 0], "{none}");
        }
    }

    #[tokio::test]
    async fn a_refusal_says_which_it_is_and_shows_no_token() {
        let disabled = r#"{"error":{"code":403,"message":"Cloud Resource Manager API has not been used in project 1 before or it is disabled.","status":"PERMISSION_DENIED","details":[{"reason":"SERVICE_DISABLED"}]}}"#;
        let error = said(Says::json(403, disabled)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::PermissionDenied);
        assert!(error.message().contains("it is disabled") && error.message().contains(TAKES), "{error}");
        let mut kinds = Vec::new();
        for status in [400, 401, 404, 429, 500, 503, 302] {
            let error = said(Says::json(status, "<html>planted</html>")).await.unwrap_err();
            assert!(!format!("{error:?} {:?}", error.source()).contains("owner"), "{error:?}");
            kinds.push((error.kind, error.can_be_retried()));
        }
        use ErrorKind::{Internal, InvalidArgument, NotFound, Other, ResourceExhausted, Unauthenticated, Unavailable};
        let expect = [
            (InvalidArgument, false),
            (Unauthenticated, false),
            (NotFound, false),
            (ResourceExhausted, true),
            (Internal, true),
            (Unavailable, true),
            (Other, false),
        ];
        assert_eq!(kinds, expect);
    }

    #[tokio::test]
    async fn rubbish_is_no_answer_and_never_an_absence_of_permissions() {
        for rubbish in ["", "<html>", "[]", "null", "0", r#"{"error":{}}"#, r#"{"permissions":"all"}"#, "{"] {
            let error = said(Says::json(200, rubbish)).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Corrupt, "{rubbish}");
        }
        let cut = said(Says::Once("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}".to_owned())).await.unwrap_err();
        assert_eq!(cut.kind, ErrorKind::Unavailable, "{cut:?}");
    }

    #[tokio::test]
    async fn who_never_ends_or_never_begins_is_left() {
        let error = said(Says::Endless("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt, "{error:?}");
        for beginning in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"] {
            let server = LocalServer::start(Says::Begins(beginning)).await;
            let error = manager(&server, SHORT).await.granted(&ASKED).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::DeadlineExceeded, "{beginning:?}: {error:?}");
        }
        let host = {
            let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            nobody.local_addr().unwrap().to_string()
        };
        let options =
            ResourceManagerOptions { project: "p".to_owned(), access: Access::Emulator { host }, limit: SHORT * 100 };
        let error = ResourceManager::connect(options).await.unwrap().granted(&ASKED).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn what_passes_is_tried_again_as_often_as_the_policy_says() {
        let policy = RetryPolicy { attempts: 3, base: Duration::from_millis(1), cap: Duration::from_millis(2) };
        let all = Says::json(200, &json!({ "permissions": ASKED }).to_string());
        let server = LocalServer::start_in_turn(vec![Says::json(503, ""), Says::json(429, ""), all]).await;
        let patient = Retrying::with_policy(manager(&server, SHORT * 100).await, policy);
        assert_eq!(patient.granted(&ASKED).await.unwrap().len(), 3);
        assert_eq!(server.hits(), 3);
        let server = LocalServer::start(Says::json(500, "")).await;
        let patient = Retrying::with_policy(manager(&server, SHORT * 100).await, policy);
        assert_eq!(patient.granted(&ASKED).await.unwrap_err().kind, ErrorKind::Internal);
        assert_eq!(server.hits(), 3);
    }

    #[tokio::test]
    async fn a_consents_token_is_shown_to_who_gave_it() {
        let server = OAuthServer::start("client", "secret").await;
        let told = json!({ "consent": "planted", "accessToken": "t", "permissions": [ASKED[1]] });
        server.tell(told).await;
        let consent = UserConsent::new("client".to_owned(), "secret".to_owned().into(), "planted".to_owned().into());
        let consent = consent.at(&format!("{}/token", server.issuer()), "localhost:1");
        let access = Access::Consented(consent);
        let options = ResourceManagerOptions { project: "my-app".to_owned(), access, limit: SHORT * 100 };
        let manager = ResourceManager::connect(options).await.unwrap();
        assert_eq!(manager.granted(&ASKED).await.unwrap(), [ASKED[1]]);
        server.tell(json!({})).await;
        assert_eq!(manager.granted(&ASKED).await.unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn addresses_in_production_and_elsewhere() {
        let google = url("my-app", &Access::ApplicationDefault).unwrap();
        let expected = "https://cloudresourcemanager.googleapis.com/v3/projects/my-app:testIamPermissions";
        assert_eq!(google.as_str(), expected);
        assert!(
            url("a/../b?c", &Access::ApplicationDefault).unwrap().as_str().contains("/projects/a%2F..%2Fb%3Fc:test")
        );
        let error = url("p", &Access::Emulator { host: String::new() }).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }
}
