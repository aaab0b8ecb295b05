//! WebSockets of live clients, for a server that takes connections itself.
//!
//! What a client says and is told is decided by [`Control::live_request`](firebackup_control::Control); here are the
//! connection and its bounds. A token travels in the first message: no cookie and no address opens anything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use axum::routing::get;
use axum::{Router, extract::ws::Utf8Bytes};
use firebackup_control::{Control, MAX_LIVE_REQUEST, Origin};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout};

use crate::authentication::From;
use crate::request::new_id;
use crate::state::HttpState;

/// Where live clients connect.
pub(crate) const PATH: &str = "/api/v1/realtime";
/// How long a connection stays open over which nothing is said.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// How long a client may take to take a message.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Keeps open connections, so that they can be sent to.
pub trait LiveConnections: Send + Sync {
    /// Opens one: what is sent to it, until it is closed or behind. Nothing where there are too many.
    fn open(&self, connection: &str) -> Option<Receiver<String>>;

    /// Closes one.
    fn close(&self, connection: &str);
}

/// The route, and what it stands on.
pub(crate) fn route(connections: Arc<dyn LiveConnections>) -> Router<HttpState> {
    Router::new().route(PATH, get(move |upgrade, state, origin| connect(upgrade, state, origin, connections)))
}

async fn connect(
    upgrade: WebSocketUpgrade,
    State(state): State<HttpState>,
    From(origin): From,
    connections: Arc<dyn LiveConnections>,
) -> Response {
    let upgrade = upgrade.max_message_size(MAX_LIVE_REQUEST).max_frame_size(MAX_LIVE_REQUEST);
    upgrade.on_upgrade(move |socket| serve(socket, Client::new(state, origin, connections)))
}

/// A live client.
struct Client {
    connection: String,
    control: Control,
    origin: Origin,
    connections: Arc<dyn LiveConnections>,
}

impl Client {
    fn new(state: HttpState, origin: Origin, connections: Arc<dyn LiveConnections>) -> Self {
        let connection = new_id(state.random.as_ref());
        Self { connection, control: state.control, origin, connections }
    }

    /// Deals with what the client says. Whether it goes on.
    async fn said(&self, message: Message) -> bool {
        let text = match message {
            Message::Text(text) => text,
            // answered by the library
            Message::Ping(_) | Message::Pong(_) => return true,
            Message::Binary(_) | Message::Close(_) => return false,
        };
        let dealt = self.control.live_request(&self.connection, &text, &self.origin).await;
        dealt.inspect_err(|error| tracing::warn!(error = %error, "a live client could not be answered")).is_ok()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("connection", &self.connection).finish_non_exhaustive()
    }
}

async fn serve(mut socket: WebSocket, client: Client) {
    let Some(told) = client.connections.open(&client.connection) else {
        close(&mut socket, close_code::AGAIN, "there are too many live clients").await;
        return;
    };
    let (code, why) = talk(&mut socket, &client, told).await;
    client.connections.close(&client.connection);
    if let Err(error) = client.control.live_gone(&client.connection).await {
        // it expires by itself
        tracing::warn!(error = %error, "a live client that is gone could not be forgotten");
    }
    close(&mut socket, code, why).await;
}

/// Until one of both ends it: why.
async fn talk(socket: &mut WebSocket, client: &Client, mut told: Receiver<String>) -> (u16, &'static str) {
    let mut idle = Instant::now() + IDLE;
    loop {
        tokio::select! {
            message = told.recv() => {
                let Some(message) = message else { return (close_code::AWAY, "connect again") };
                let sending = socket.send(Message::Text(Utf8Bytes::from(message)));
                if !matches!(timeout(SEND_LIMIT, sending).await, Ok(Ok(()))) {
                    return (close_code::POLICY, "too slow");
                }
            }
            message = socket.recv() => {
                let Some(Ok(message)) = message else { return (close_code::NORMAL, "") };
                if !client.said(message).await {
                    return (close_code::NORMAL, "");
                }
            }
            () = tokio::time::sleep_until(idle) => return (close_code::NORMAL, "idle"),
        }
        idle = Instant::now() + IDLE;
    }
}

/// Says goodbye to whoever still listens.
async fn close(socket: &mut WebSocket, code: u16, why: &'static str) {
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(why) };
    drop(timeout(SEND_LIMIT, socket.send(Message::Close(Some(frame)))).await);
}
