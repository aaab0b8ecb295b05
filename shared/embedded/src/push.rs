//! Live clients of this process: each has a short queue, and who does not read it is let go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use firebackup_model::port::{MAX_PUSH_BYTES, Push, Pushed};
use firebackup_model::{ErrorKind, PortError};
use tokio::sync::mpsc;

/// How many messages a client may be behind.
const BACKLOG: usize = 64;
/// The most clients at one time.
const MOST: usize = 1000;

/// The open connections of this process. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct LocalPush {
    open: Arc<Mutex<Connections>>,
}

#[derive(Debug, Default)]
struct Connections {
    senders: HashMap<String, mpsc::Sender<String>>,
    is_closed: bool,
}

impl LocalPush {
    /// Opens a connection: what is sent to it, until it is closed or behind. Nothing where there are too many, or where all
    /// were closed for good.
    #[must_use]
    pub fn open(&self, connection: &str) -> Option<mpsc::Receiver<String>> {
        let mut open = self.lock();
        if open.is_closed || open.senders.len() >= MOST {
            return None;
        }
        let (sender, receiver) = mpsc::channel(BACKLOG);
        open.senders.insert(connection.to_owned(), sender);
        Some(receiver)
    }

    /// Closes a connection. One that is not open is no error.
    pub fn close(&self, connection: &str) {
        self.lock().senders.remove(connection);
    }

    /// Closes all connections, and opens none any more.
    pub fn close_all(&self) {
        *self.lock() = Connections { senders: HashMap::new(), is_closed: true };
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        // nobody panics while holding it
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Push for LocalPush {
    async fn push(&self, connection: &str, message: &str) -> Result<Pushed, PortError> {
        if message.len() > MAX_PUSH_BYTES {
            let text = format!("a message of {} bytes is larger than {MAX_PUSH_BYTES}", message.len());
            return Err(PortError::new(ErrorKind::InvalidArgument, "send to a live client", text));
        }
        let mut open = self.lock();
        let Some(sender) = open.senders.get(connection) else { return Ok(Pushed::Gone) };
        match sender.try_send(message.to_owned()) {
            Ok(()) => Ok(Pushed::Sent),
            // full or closed: its end is told by the queue's
            Err(_) => {
                open.senders.remove(connection);
                Ok(Pushed::Gone)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_in_order_until_the_end() {
        let push = LocalPush::default();
        let mut one = push.open("one").unwrap();
        let mut other = push.open("other").unwrap();
        for message in ["a", "b"] {
            assert_eq!(push.push("one", message).await.unwrap(), Pushed::Sent);
        }
        assert_eq!(push.push("nobody", "a").await.unwrap(), Pushed::Gone);
        push.close("one");
        push.close("one");
        assert_eq!(push.push("one", "c").await.unwrap(), Pushed::Gone);
        assert_eq!((one.recv().await.as_deref(), one.recv().await.as_deref()), (Some("a"), Some("b")));
        assert_eq!(one.recv().await, None);
        let large = "x".repeat(MAX_PUSH_BYTES + 1);
        assert_eq!(push.push("other", &large).await.unwrap_err().kind, ErrorKind::InvalidArgument);
        push.close_all();
        assert_eq!(other.recv().await, None);
        assert!(push.open("late").is_none());
    }

    #[tokio::test]
    async fn who_does_not_read_is_let_go_and_costs_a_bounded_queue() {
        let push = LocalPush::default();
        let mut slow = push.open("slow").unwrap();
        for _ in 0..BACKLOG {
            assert_eq!(push.push("slow", "a").await.unwrap(), Pushed::Sent);
        }
        assert_eq!(push.push("slow", "a").await.unwrap(), Pushed::Gone);
        assert_eq!(push.push("slow", "a").await.unwrap(), Pushed::Gone);
        let mut left = 0;
        while slow.recv().await.is_some() {
            left += 1;
        }
        assert_eq!(left, BACKLOG);
        let opened: Vec<_> = (0..=MOST).map(|number| push.open(&number.to_string())).collect();
        assert_eq!(opened.iter().filter(|opened| opened.is_some()).count(), MOST);
    }
}
