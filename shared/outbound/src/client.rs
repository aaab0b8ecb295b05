//! The HTTP client for addresses that somebody else chose.

use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, StatusCode, redirect};
use url::Url;

use crate::error::OutboundError;
use crate::guard::AddressGuard;
use crate::request::OutboundRequest;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const USER_AGENT: &str = concat!("firebackup/", env!("CARGO_PKG_VERSION"));

/// What came back. Debug shows no byte of the body.
#[derive(Clone)]
pub struct Answer {
    /// Of any kind: an answer of 500 is an answer, and so is a redirect, which is not followed.
    pub status: StatusCode,
    /// For how many seconds the server asks not to be called again, where it says so in seconds.
    pub retry_after: Option<u32>,
    /// As much of the body as the request wanted to read.
    pub body: Vec<u8>,
    /// Whether there was more.
    pub is_cut: bool,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, bytes, is_cut) = (&self.status, self.body.len(), &self.is_cut);
        f.debug_struct("Answer").field("status", status).field("bytes", &bytes).field("is_cut", is_cut).finish()
    }
}

/// Calls what its guard lets it call. No redirects, no proxy, no cookies, and a connection a request: its address was
/// checked for this one.
#[derive(Debug, Clone)]
pub struct OutboundClient {
    http: Client,
    guard: AddressGuard,
}

impl OutboundClient {
    /// A client behind `guard`.
    ///
    /// # Errors
    /// When TLS cannot be set up on this machine.
    pub fn new(guard: AddressGuard) -> Result<Self, reqwest::Error> {
        let builder = Client::builder()
            .dns_resolver(guard.clone())
            .https_only(!guard.allows_inside())
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_LIMIT)
            .user_agent(USER_AGENT);
        Ok(Self { http: builder.build()?, guard })
    }

    /// Whether every address may be called.
    #[must_use]
    pub fn allows_inside(&self) -> bool {
        self.guard.allows_inside()
    }

    /// Whether `url` might be called: [`AddressGuard::check`].
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, url: &Url) -> Result<(), OutboundError> {
        self.guard.check(url).map_err(|source| OutboundError::Refused { host: host(url), source })
    }

    /// Sends a request, once, and reads the answer as far as the request says.
    ///
    /// # Errors
    /// When the address may not be called, or no whole answer came in time.
    pub async fn send(&self, request: OutboundRequest) -> Result<Answer, OutboundError> {
        self.check(&request.url)?;
        let (host, limit) = (host(&request.url), request.limit);
        match tokio::time::timeout(limit, self.exchange(request)).await {
            Ok(answer) => answer.map_err(|error| OutboundError::from_client(&host, error)),
            Err(_) => Err(OutboundError::TooSlow { host, limit }),
        }
    }

    async fn exchange(&self, request: OutboundRequest) -> Result<Answer, reqwest::Error> {
        let builder = self.http.request(request.method, request.url).headers(request.headers);
        let mut response = builder.body(request.body).send().await?;
        let (status, mut body, retry_after) = (response.status(), Vec::new(), retry_after(response.headers()));
        while let Some(chunk) = response.chunk().await? {
            let room = request.answer_bytes - body.len();
            if chunk.len() > room {
                body.extend_from_slice(&chunk[..room]);
                return Ok(Answer { status, retry_after, body, is_cut: true });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, retry_after, body, is_cut: false })
    }
}

fn retry_after(headers: &HeaderMap) -> Option<u32> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// All of a URL that may be shown.
fn host(url: &Url) -> String {
    url.host_str().unwrap_or("an address without a host").to_owned()
}
