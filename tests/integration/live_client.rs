//! A client of `/realtime`.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long a message may take.
const BOUND: Duration = Duration::from_secs(120);

/// An open connection.
pub struct LiveClient(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl LiveClient {
    /// Connects to `ws://…`, with another host in the header where one is named.
    pub async fn connect(url: &str, host: Option<&str>) -> Self {
        let mut request = url.into_client_request().unwrap();
        if let Some(host) = host {
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        Self(connect_async(request).await.unwrap_or_else(|error| panic!("{url}: {error:?}")).0)
    }

    pub async fn say(&mut self, message: &Value) {
        assert!(self.try_say(message).await, "the connection was closed");
    }

    /// Says it, unless the connection was closed.
    pub async fn try_say(&mut self, message: &Value) -> bool {
        self.0.send(Message::text(message.to_string())).await.is_ok()
    }

    /// Subscribes to everything, which must succeed.
    pub async fn subscribe(&mut self, key: &str) {
        self.say(&json!({ "type": "subscribe", "token": key })).await;
        let answer = self.hear().await;
        assert_eq!(answer["type"], "subscribed", "{answer:#}");
    }

    /// The next message.
    pub async fn hear(&mut self) -> Value {
        self.next().await.expect("the connection was closed")
    }

    /// The next message; nothing when the connection ends.
    pub async fn next(&mut self) -> Option<Value> {
        self.next_text().await.map(|text| serde_json::from_str(&text).unwrap())
    }

    /// Ends the connection.
    pub async fn close(&mut self) {
        drop(self.0.close(None).await);
    }

    /// The next message, as it was sent.
    pub async fn next_text(&mut self) -> Option<String> {
        loop {
            let message = tokio::time::timeout(BOUND, self.0.next()).await.expect("nothing was said");
            match message {
                Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    /// What is said until a message of this type, which is the last.
    pub async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.hear().await);
            if heard.last().is_some_and(|last| last["type"] == kind) {
                return heard;
            }
        }
    }
}
