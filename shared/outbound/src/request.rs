//! What is asked of somebody else's server, and how much of an answer is waited for.

use std::fmt;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

const LIMIT: Duration = Duration::from_secs(15);
const ANSWER_BYTES: usize = 64 * 1024;

/// One request. Debug shows its method and host only.
#[derive(Clone)]
pub struct OutboundRequest {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) limit: Duration,
    pub(crate) answer_bytes: usize,
}

impl OutboundRequest {
    /// A request without a body. It has 15 seconds in all, and 64 KiB of its answer are read.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Vec::new(), limit: LIMIT, answer_bytes: ANSWER_BYTES }
    }

    /// As [`Self::new`], to read.
    #[must_use]
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// As [`Self::new`], to send `body`.
    #[must_use]
    pub fn post(url: Url, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new(Method::POST, url) }
    }

    /// Adds a header, in the place of one of this name.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The time from the beginning to the end of the answer's body.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How many bytes of the answer's body are read at most.
    #[must_use]
    pub fn reading(mut self, bytes: usize) -> Self {
        self.answer_bytes = bytes;
        self
    }
}

impl fmt::Debug for OutboundRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, host) = (&self.method, self.url.host_str().unwrap_or_default());
        write!(f, "OutboundRequest({method} {host})")
    }
}
