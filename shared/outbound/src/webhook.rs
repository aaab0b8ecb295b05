//! Telling whoever wants to know, at the address that they chose.

use std::time::Duration;

use async_trait::async_trait;
use firebackup_model::port::{WebhookAnswer, WebhookFailure, WebhookPost, WebhookSender};
use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use crate::client::OutboundClient;
use crate::error::OutboundError;
use crate::request::OutboundRequest;

/// How long a receiver has for the whole of its answer.
const LIMIT: Duration = Duration::from_secs(10);
/// How much of an answer is read: an ordinary one is not broken off, and none of it is kept.
const ANSWER_BYTES: usize = 4 * 1024;

/// Posts over an [`OutboundClient`].
#[derive(Debug, Clone)]
pub struct OutboundWebhooks {
    client: OutboundClient,
    limit: Duration,
}

impl OutboundWebhooks {
    /// Each post has ten seconds.
    #[must_use]
    pub const fn new(client: OutboundClient) -> Self {
        Self { client, limit: LIMIT }
    }

    /// Each post has this time.
    #[must_use]
    pub const fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    fn request(&self, post: WebhookPost) -> Result<OutboundRequest, WebhookFailure> {
        let mut request = OutboundRequest::post(parsed(&post.url)?, post.body);
        for (name, text) in post.headers {
            let text = HeaderValue::from_str(&text).map_err(|_| refused("a header cannot be sent"))?;
            request = request.header(HeaderName::from_static(name), text);
        }
        Ok(request.within(self.limit).reading(ANSWER_BYTES))
    }
}

#[async_trait]
impl WebhookSender for OutboundWebhooks {
    fn allows_inside(&self) -> bool {
        self.client.allows_inside()
    }

    fn check(&self, url: &str) -> Result<(), WebhookFailure> {
        self.client.check(&parsed(url)?).map_err(failure)
    }

    async fn post(&self, post: WebhookPost) -> Result<WebhookAnswer, WebhookFailure> {
        let answer = self.client.send(self.request(post)?).await.map_err(failure)?;
        Ok(WebhookAnswer { status: answer.status.as_u16(), retry_after: answer.retry_after })
    }
}

/// The parser's own words could repeat the address.
fn parsed(url: &str) -> Result<Url, WebhookFailure> {
    Url::parse(url).map_err(|_| refused("it is no URL"))
}

fn refused(reason: &str) -> WebhookFailure {
    WebhookFailure::Refused { reason: reason.to_owned() }
}

/// What the client is told. What failed below it is for the log, where `send` has not put the address either.
fn failure(error: OutboundError) -> WebhookFailure {
    tracing::debug!(error = %error, source = ?std::error::Error::source(&error), "a webhook was not reached");
    match error {
        OutboundError::Refused { source, .. } => refused(&source.to_string()),
        OutboundError::Unreachable { host, .. } | OutboundError::Answer { host, .. } => {
            WebhookFailure::Unreachable { host }
        }
        OutboundError::TooSlow { host, limit } => WebhookFailure::TooSlow { host, seconds: limit.as_secs() },
    }
}
