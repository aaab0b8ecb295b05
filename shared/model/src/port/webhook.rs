//! The way to whoever wants to be told of what happened.

use std::fmt;

use async_trait::async_trait;

/// What is posted. Debug shows none of it: the address is often a secret, and a header proves who sends.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookPost {
    /// Where to.
    pub url: String,
    /// Names in lower case, and what they say.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
}

impl fmt::Debug for WebhookPost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookPost(..)")
    }
}

/// What a receiver answered. The rest of an answer is not given, for it may repeat the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookAnswer {
    /// Its status: that of a redirect too, which is not followed.
    pub status: u16,
    /// For how many seconds it asks not to be called again (`Retry-After`, in seconds).
    pub retry_after: Option<u32>,
}

impl From<u16> for WebhookAnswer {
    fn from(status: u16) -> Self {
        Self { status, retry_after: None }
    }
}

/// Why there is no answer. The texts are for the client and show no more of an address than its host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookFailure {
    /// The address may not be called, now or ever.
    #[error("the address may not be called: {reason}")]
    Refused {
        /// Why not.
        reason: String,
    },
    /// No name, no connection, no TLS, or nothing that is HTTP.
    #[error("{host} cannot be reached, or does not answer in HTTP")]
    Unreachable {
        /// Of the address.
        host: String,
    },
    /// The answer was not there in time.
    #[error("{host} did not answer within {seconds} seconds")]
    TooSlow {
        /// Of the address.
        host: String,
        /// How long it had.
        seconds: u64,
    },
}

/// Posts to addresses that users chose.
#[async_trait]
pub trait WebhookSender: Send + Sync {
    /// Whether addresses on this machine and in its network may be called: for whoever runs the server for themselves.
    fn allows_inside(&self) -> bool;

    /// Looks at an address without calling it, or asking where its name leads.
    fn check(&self, url: &str) -> Result<(), WebhookFailure>;

    /// Posts once, in bounded time.
    async fn post(&self, post: WebhookPost) -> Result<WebhookAnswer, WebhookFailure>;
}
