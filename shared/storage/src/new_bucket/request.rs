//! Requests that no client of an object store makes, over the connection that it would use.

use firebackup_model::{ErrorKind, PortError};
use futures::StreamExt;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse};

use crate::error::{port_error, refusal};
use crate::remote::Patience;
use crate::settings::DestinationSettings;

/// The most bytes of an answer that are read; what stands there is a status and a few words.
const MOST: usize = 64 * 1024;

/// What a store said.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Reply {
    pub(super) const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// What it means where it is no success. A refusal names the right that it takes.
    pub(super) fn refusal(&self, operation: &str, right: &str) -> PortError {
        let error = refusal(operation, self.status, &self.body);
        match error.kind {
            ErrorKind::PermissionDenied => {
                PortError::new(error.kind, operation, format!("{}; it takes {right}", error.message()))
            }
            _ => error,
        }
    }
}

/// A connection to a store: with the guard that its settings ask for, and the patience of somebody who waits.
pub(super) struct Connection(HttpClient);

impl Connection {
    pub(super) fn new(settings: &DestinationSettings, is_http: bool) -> Result<Self, PortError> {
        let connector = Patience::Brief.connector(settings.is_guarded());
        let client = connector.connect(&Patience::Brief.client().with_allow_http(is_http));
        Ok(Self(client.map_err(|error| port_error("connect to the store", error))?))
    }

    pub(super) async fn send(&self, operation: &str, request: HttpRequest) -> Result<Reply, PortError> {
        let failed = |source: HttpError| {
            port_error(operation, object_store::Error::Generic { store: "HTTP", source: source.into() })
        };
        let response = self.0.execute(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        Ok(Reply { status, body: beginning(response).await.map_err(failed)? })
    }
}

/// As much of a body as is looked at.
async fn beginning(response: HttpResponse) -> Result<String, HttpError> {
    let mut chunks = response.into_body().bytes_stream();
    let mut body = Vec::new();
    while body.len() < MOST
        && let Some(chunk) = chunks.next().await
    {
        let chunk = chunk?;
        body.extend_from_slice(&chunk[..chunk.len().min(MOST - body.len())]);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// A request with a body.
pub(super) fn request(
    operation: &str,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Result<HttpRequest, PortError> {
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).map_err(|source| {
        PortError::new(ErrorKind::InvalidArgument, operation, "the endpoint makes no address").with_source(source)
    })
}
