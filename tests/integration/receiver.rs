//! Somebody who is told by webhooks, on this machine.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use firebackup_testkit::standard_webhooks::prove;
use serde_json::Value;
use tokio::net::TcpListener;

/// A part of an address that must be seen nowhere.
pub const PLANTED: &str = "planted-path";
/// How long something may take to be told.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who wants to be told.
#[derive(Clone)]
pub struct Receiver {
    inside: Arc<Mutex<Inside>>,
    pub url: String,
}

struct Inside {
    posts: Vec<(HeaderMap, String)>,
    status: StatusCode,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/{PLANTED}", listener.local_addr().unwrap());
        let inside = Arc::new(Mutex::new(Inside { posts: Vec::new(), status: StatusCode::NO_CONTENT }));
        let receiver = Self { inside, url };
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    pub fn answer(&self, status: StatusCode) {
        self.inside.lock().unwrap().status = status;
    }

    /// All that was said to it: headers, the signature left out, and bodies.
    pub fn heard(&self) -> Vec<String> {
        let posts = self.inside.lock().unwrap().posts.clone();
        let said = |(mut headers, body): (HeaderMap, String)| {
            headers.remove("webhook-signature");
            format!("{headers:?}\n{body}")
        };
        posts.into_iter().map(said).collect()
    }

    /// What came of one kind of event; each is proven by the library of the specification.
    pub fn proven(&self, secret: &str, kind: &str) -> Vec<Value> {
        let posts: Vec<_> = self.inside.lock().unwrap().posts.clone();
        let mut found = Vec::new();
        for (headers, body) in posts {
            let event: Value = serde_json::from_str(&body).unwrap();
            if event["type"] == kind {
                let texts = headers.iter().map(|(name, text)| (name.as_str(), text.to_str().unwrap()));
                assert_eq!(prove(secret, texts, &body), Ok(()), "{body}");
                assert_eq!(headers["webhook-id"], event["id"].as_str().unwrap());
                found.push(event);
            }
        }
        found
    }

    /// Waits until so many came.
    pub async fn told(&self, secret: &str, kind: &str, times: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let found = self.proven(secret, kind);
            if found.len() >= times {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{kind} was told {} times", found.len());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let mut inside = receiver.inside.lock().unwrap();
    inside.posts.push((headers, body));
    inside.status
}
