//! Whoever is told of what happened, in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use firebackup_model::port::{WebhookAnswer, WebhookFailure, WebhookPost, WebhookSender};

/// Keeps what is posted to it, and answers as it is told to.
#[derive(Debug, Default)]
pub struct MemoryReceiver {
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    posts: Vec<WebhookPost>,
    answer: Result<WebhookAnswer, WebhookFailure>,
    allows_inside: bool,
}

impl Default for Inside {
    fn default() -> Self {
        Self { posts: Vec::new(), answer: Ok(204.into()), allows_inside: false }
    }
}

impl MemoryReceiver {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers so from now on.
    pub fn answer(&self, answer: Result<u16, WebhookFailure>) {
        self.inside().answer = answer.map(WebhookAnswer::from);
    }

    /// Answers so from now on, asking to be left alone for so many seconds.
    pub fn ask_for_patience(&self, status: u16, seconds: u32) {
        self.inside().answer = Ok(WebhookAnswer { status, retry_after: Some(seconds) });
    }

    /// Whether every address may be called.
    pub fn allow_inside(&self, allows_inside: bool) {
        self.inside().allows_inside = allows_inside;
    }

    /// What was posted, in order.
    #[must_use]
    pub fn posts(&self) -> Vec<WebhookPost> {
        self.inside().posts.clone()
    }
}

#[async_trait]
impl WebhookSender for MemoryReceiver {
    fn allows_inside(&self) -> bool {
        self.inside().allows_inside
    }

    fn check(&self, url: &str) -> Result<(), WebhookFailure> {
        match url.starts_with("https://") || self.inside().allows_inside {
            true => Ok(()),
            false => Err(WebhookFailure::Refused { reason: "it is not an https address".to_owned() }),
        }
    }

    async fn post(&self, post: WebhookPost) -> Result<WebhookAnswer, WebhookFailure> {
        self.check(&post.url)?;
        self.inside().posts.push(post);
        // as a call over a network does: of two at one time the other gets on
        tokio::task::yield_now().await;
        self.inside().answer.clone()
    }
}
