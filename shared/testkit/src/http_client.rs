//! A small HTTP client for tests: JSON there and back, and nothing in between.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde_json::Value;

const REQUEST_LIMIT: Duration = Duration::from_secs(120);

/// Speaks HTTP to servers of this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpClient(reqwest::Client);

/// What a server said.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl HttpAnswer {
    /// The body as JSON; `null` where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient {
    /// A client. A proxy of this machine has nothing to do with its loopback interface.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let builder = reqwest::Client::builder().no_proxy().timeout(REQUEST_LIMIT);
        Self(builder.build().expect("an HTTP client"))
    }

    /// Sends a request with these headers and gives the answer, whatever its status.
    ///
    /// # Panics
    /// When `method` is none, or nobody answers within two minutes.
    pub async fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> HttpAnswer {
        let method = Method::from_bytes(method.as_bytes()).expect("a method of HTTP");
        let mut request = self.0.request(method.clone(), url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{method} {url}: {error:?}"));
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap_or_else(|error| panic!("{method} {url}: {error:?}"));
        HttpAnswer { status, body }
    }
}
