//! WebSockets of live clients, for a server that takes connections itself.
//!
//! What a client says and is told is decided by [`Control::live_request`](firebackup_control::Control); here are the
//! connection and its bounds. A token travels in the first message: no cookie and no address opens anything, and who has not
//! subscribed soon is sent away, whatever else they say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use axum::routing::get;
use axum::{Router, extract::ws::Utf8Bytes};
use firebackup_control::{Control, LiveStanding, MAX_LIVE_REQUEST, Origin, SUBSCRIPTION_SECONDS};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout};

use crate::authentication::From;
use crate::request::new_id;
use crate::state::HttpState;

/// Where live clients connect.
pub(crate) const PATH: &str = "/api/v1/realtime";
/// How long a connection stays open over which nothing is said.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// How long one stays open that is not subscribed.
const UNSUBSCRIBED: Duration = Duration::from_secs(10);
/// For how long one is subscribed.
const SUBSCRIBED: Duration = Duration::from_secs(SUBSCRIPTION_SECONDS.unsigned_abs());
/// How long a client may take to take a message.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Keeps open connections, so that they can be sent to.
pub trait LiveConnections: Send + Sync {
    /// Opens one: what is sent to it, until it is closed or behind. Nothing where none is opened any more.
    fn open(&self, connection: &str) -> Option<Receiver<String>>;

    /// Lets one in that has said who it is. Whether there is a place.
    fn admit(&self, connection: &str) -> bool;

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

    /// Deals with what the client says. What it has become by that, or why it ends.
    async fn said(&self, message: Message) -> Result<LiveStanding, End> {
        let text = match message {
            Message::Text(text) => text,
            // answered by the library
            Message::Ping(_) | Message::Pong(_) => return Ok(LiveStanding::Unchanged),
            Message::Binary(_) | Message::Close(_) => return Err(GOODBYE),
        };
        let dealt = self.control.live_request(&self.connection, &text, &self.origin).await;
        let standing = dealt.map_err(|error| {
            tracing::warn!(error = %error, "a live client could not be answered");
            GOODBYE
        })?;
        if standing == LiveStanding::Subscribed && !self.connections.admit(&self.connection) {
            return Err((close_code::AGAIN, TOO_MANY));
        }
        Ok(standing)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("connection", &self.connection).finish_non_exhaustive()
    }
}

async fn serve(socket: WebSocket, client: Client) {
    let (mut tell, mut hear) = socket.split();
    let Some(told) = client.connections.open(&client.connection) else {
        close(&mut tell, (close_code::AWAY, AGAIN)).await;
        return;
    };
    let stay = Stay::from(Instant::now(), UNSUBSCRIBED);
    let end = talk((&mut hear, &mut tell), told, stay, |message| client.said(message)).await;
    client.connections.close(&client.connection);
    if let Err(error) = client.control.live_gone(&client.connection).await {
        // it expires by itself
        tracing::warn!(error = %error, "a live client that is gone could not be forgotten");
    }
    close(&mut tell, end).await;
}

/// Until one of both ends it: why.
async fn talk<H, T, F>(
    (hear, tell): (&mut H, &mut T),
    mut told: Receiver<String>,
    mut stay: Stay,
    said: impl Fn(Message) -> F,
) -> End
where
    H: Stream<Item = Result<Message, axum::Error>> + Unpin,
    T: Sink<Message> + Unpin,
    F: Future<Output = Result<LiveStanding, End>>,
{
    loop {
        let (until, end) = stay.end();
        tokio::select! {
            message = told.recv() => {
                let Some(message) = message else { return (close_code::AWAY, AGAIN) };
                let sending = tell.send(Message::Text(Utf8Bytes::from(message)));
                if !matches!(timeout(SEND_LIMIT, sending).await, Ok(Ok(()))) {
                    return (close_code::POLICY, "too slow");
                }
                stay.goes_on(Instant::now());
            }
            message = hear.next() => {
                let Some(Ok(message)) = message else { return GOODBYE };
                match said(message).await {
                    Ok(standing) => stay.is(standing, Instant::now()),
                    Err(end) => return end,
                }
            }
            () = tokio::time::sleep_until(until) => return end,
        }
    }
}

/// Why a connection ends: a code and a reason.
type End = (u16, &'static str);

const GOODBYE: End = (close_code::NORMAL, "");
const AGAIN: &str = "connect again";
const TOO_MANY: &str = "there are too many live clients";

/// How long a connection may stay. Whatever is said keeps it from being idle; that it must be subscribed is put off by
/// subscribing alone.
#[derive(Debug)]
struct Stay {
    idle: Instant,
    unsubscribed: Instant,
    patience: Duration,
}

impl Stay {
    /// That of a stranger who may take so long to subscribe.
    fn from(now: Instant, patience: Duration) -> Self {
        Self { idle: now + IDLE, unsubscribed: now + patience, patience }
    }

    fn goes_on(&mut self, now: Instant) {
        self.idle = now + IDLE;
    }

    fn is(&mut self, standing: LiveStanding, now: Instant) {
        self.goes_on(now);
        match standing {
            LiveStanding::Subscribed => self.unsubscribed = now + SUBSCRIBED + self.patience,
            // whoever was a stranger before gains nothing by it
            LiveStanding::Unsubscribed => self.unsubscribed = self.unsubscribed.min(now + self.patience),
            LiveStanding::Unchanged => {}
        }
    }

    /// When it ends, and why.
    fn end(&self) -> (Instant, End) {
        if self.unsubscribed <= self.idle {
            return (self.unsubscribed, (close_code::POLICY, "not subscribed"));
        }
        (self.idle, (close_code::NORMAL, "idle"))
    }
}

/// Says goodbye to whoever still listens.
async fn close(tell: &mut (impl Sink<Message> + Unpin), (code, why): End) {
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(why) };
    drop(timeout(SEND_LIMIT, tell.send(Message::Close(Some(frame)))).await);
}

#[cfg(test)]
mod tests {
    use futures::{sink, stream};
    use tokio::sync::mpsc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_subscribing_keeps_a_connection() {
        let start = Instant::now();
        let mut stay = Stay::from(start, UNSUBSCRIBED);
        let stranger = (start + UNSUBSCRIBED, (close_code::POLICY, "not subscribed"));
        assert_eq!(stay.end(), stranger);
        for standing in [LiveStanding::Unchanged, LiveStanding::Unsubscribed] {
            stay.is(standing, start + 5 * SECOND);
            assert_eq!(stay.end(), stranger, "{standing:?}");
        }
        stay.is(LiveStanding::Subscribed, start + 6 * SECOND);
        assert_eq!(stay.end(), (start + 6 * SECOND + IDLE, (close_code::NORMAL, "idle")));
        stay.goes_on(start + IDLE);
        let over = start + 6 * SECOND + SUBSCRIBED + UNSUBSCRIBED;
        assert_eq!(stay.end(), (over, (close_code::POLICY, "not subscribed")), "it subscribes again, or goes");
        stay.is(LiveStanding::Unsubscribed, start + IDLE);
        assert_eq!(stay.end().0, start + IDLE + UNSUBSCRIBED);
    }

    #[tokio::test]
    async fn who_only_pings_is_answered_and_sent_away() {
        let mut pings = Box::pin(stream::unfold((), |()| async {
            tokio::task::yield_now().await;
            Some((Ok(Message::Text("ping".into())), ()))
        }));
        let (_open, told) = mpsc::channel(1);
        let stay = Stay::from(Instant::now(), SECOND / 20);
        let count = std::cell::Cell::new(0);
        let mut answers = sink::drain();
        let talking = talk((&mut pings, &mut answers), told, stay, |_| {
            count.set(count.get() + 1);
            std::future::ready(Ok(LiveStanding::Unchanged))
        });
        let end = timeout(30 * SECOND, talking).await.expect("a stranger stays by pinging");
        assert_eq!(end, (close_code::POLICY, "not subscribed"));
        assert!(count.get() > 0);
    }
}
