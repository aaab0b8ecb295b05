//! Google's REST APIs: requests with a token, answers with a bound.

use std::sync::Arc;
use std::time::Duration;

use firebackup_model::error::{ErrorKind, PortError};
use gcloud_sdk::GoogleAuthHeaders;
use http::header::AUTHORIZATION;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, Url};

use crate::access::{Access, EMULATOR_AUTHORIZATION, auth_headers, sdk_error_kind};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

const NO_TOKEN: &str = "no access token could be had; check the service account key or the federation, or run `gcloud auth \
                        application-default login`";

/// Sends requests to one of Google's REST APIs. Clones share connections and tokens.
#[derive(Clone)]
pub(crate) struct Rest {
    client: Client,
    /// Nothing for an emulator.
    auth: Option<Arc<GoogleAuthHeaders>>,
}

/// What a server said, whatever its status.
pub(crate) struct RestAnswer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl RestAnswer {
    pub(crate) const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

impl Rest {
    /// Prepares the connection, the first request makes it; an answer may take as long as `limit`.
    pub(crate) async fn connect(access: &Access, operation: &'static str, limit: Duration) -> Result<Self, PortError> {
        let auth = auth_headers(access).await?.map(Arc::new);
        // no API of Google's sends elsewhere, and whoever did would get the token
        let mut client =
            Client::builder().connect_timeout(CONNECT_TIMEOUT.min(limit)).timeout(limit).redirect(Policy::none());
        if auth.is_none() {
            // an emulator is local, and no proxy leads there
            client = client.no_proxy();
        }
        let client = client.build().map_err(|source| {
            PortError::new(ErrorKind::Other, operation, "no HTTP client could be made").with_source(source)
        })?;
        Ok(Self { client, auth })
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends a request, and reads an answer of at most `most` bytes.
    pub(crate) async fn send(
        &self,
        operation: &'static str,
        request: RequestBuilder,
        most: usize,
    ) -> Result<RestAnswer, PortError> {
        let request = self.authorized(operation, request).await?;
        let response = request.send().await.map_err(|source| silent(operation, source))?;
        let status = response.status().as_u16();
        Ok(RestAnswer { status, body: bounded(operation, response, most).await? })
    }

    async fn authorized(&self, operation: &'static str, request: RequestBuilder) -> Result<RequestBuilder, PortError> {
        let Some(auth) = &self.auth else { return Ok(request.header(AUTHORIZATION, EMULATOR_AUTHORIZATION)) };
        let headers = auth
            .headers()
            .await
            .map_err(|source| PortError::new(sdk_error_kind(&source), operation, NO_TOKEN).with_source(source))?;
        Ok(request.headers((*headers).clone()))
    }
}

async fn bounded(operation: &'static str, mut response: Response, most: usize) -> Result<Vec<u8>, PortError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|source| silent(operation, source))? {
        if body.len() + chunk.len() > most {
            return Err(PortError::new(
                ErrorKind::Corrupt,
                operation,
                format!("the answer is larger than {most} bytes"),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn silent(operation: &'static str, source: reqwest::Error) -> PortError {
    let kind = if source.is_timeout() { ErrorKind::DeadlineExceeded } else { ErrorKind::Unavailable };
    // the address may hold ids of users
    PortError::new(kind, operation, "the server did not answer").with_source(source.without_url())
}

/// serde's message may quote what it read, which may be a hash: only the place is told.
pub(crate) fn unreadable(operation: &'static str) -> impl Fn(serde_json::Error) -> PortError {
    move |error| {
        let place = format!("the answer is not as expected (line {}, column {})", error.line(), error.column());
        PortError::new(ErrorKind::Corrupt, operation, place)
    }
}
