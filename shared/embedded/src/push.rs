//! Live clients of this process: each has a short queue, and who does not read it is let go.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use firebackup_model::port::{MAX_PUSH_BYTES, Push, Pushed};
use firebackup_model::{ErrorKind, PortError};
use tokio::sync::mpsc;

/// How many messages a client may be behind.
const BACKLOG: usize = 64;
/// The most clients at one time that have said who they are.
const MOST: usize = 1000;
/// The most clients at one time that have not: a count of their own, so that strangers keep nobody out.
const MOST_WAITING: usize = 100;

/// The open connections of this process. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct LocalPush {
    open: Arc<Mutex<Connections>>,
}

#[derive(Debug, Default)]
struct Connections {
    senders: HashMap<String, mpsc::Sender<String>>,
    /// Those among them that have not said who they are, the first first.
    waiting: VecDeque<String>,
    is_closed: bool,
}

impl Connections {
    fn forget(&mut self, connection: &str) {
        self.senders.remove(connection);
        self.waiting.retain(|waiting| waiting != connection);
    }

    fn admitted(&self) -> usize {
        self.senders.len() - self.waiting.len()
    }
}

impl LocalPush {
    /// Opens a connection: what is sent to it, until it is closed or behind. Nothing where all were closed for good. Where
    /// too many wait to be [admitted](Self::admit), the one that has waited longest is closed.
    #[must_use]
    pub fn open(&self, connection: &str) -> Option<mpsc::Receiver<String>> {
        let mut open = self.lock();
        if open.is_closed {
            return None;
        }
        open.forget(connection);
        if open.waiting.len() >= MOST_WAITING
            && let Some(first) = open.waiting.pop_front()
        {
            open.senders.remove(&first);
        }
        let (sender, receiver) = mpsc::channel(BACKLOG);
        open.senders.insert(connection.to_owned(), sender);
        open.waiting.push_back(connection.to_owned());
        Some(receiver)
    }

    /// Lets a connection in that has said who it is: from now on it counts among those. Whether there is a place; one that is
    /// in stays in.
    #[must_use]
    pub fn admit(&self, connection: &str) -> bool {
        let mut open = self.lock();
        let Some(place) = open.waiting.iter().position(|waiting| waiting == connection) else {
            return open.senders.contains_key(connection);
        };
        if open.admitted() >= MOST {
            return false;
        }
        open.waiting.remove(place);
        true
    }

    /// Closes a connection. One that is not open is no error.
    pub fn close(&self, connection: &str) {
        self.lock().forget(connection);
    }

    /// Closes all connections, and opens none any more.
    pub fn close_all(&self) {
        *self.lock() = Connections { is_closed: true, ..Connections::default() };
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
                open.forget(connection);
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
    }

    #[tokio::test]
    async fn strangers_keep_nobody_out_and_there_are_only_so_many() {
        let push = LocalPush::default();
        let mut opened: Vec<_> = (0..=MOST_WAITING).map(|number| push.open(&number.to_string()).unwrap()).collect();
        assert_eq!(push.lock().senders.len(), MOST_WAITING);
        assert_eq!(opened[0].recv().await, None, "who has waited longest makes room");
        assert!(!push.admit("0") && !push.admit("nobody"));
        assert!(push.admit("1") && push.admit("1"));
        let _more: Vec<_> = (0..2 * MOST_WAITING).map(|number| push.open(&format!("more {number}"))).collect();
        assert_eq!(push.push("1", "a").await.unwrap(), Pushed::Sent, "who is in is put out by no stranger");
        assert_eq!(push.lock().admitted(), 1);
    }

    #[tokio::test]
    async fn whoever_says_who_they_are_is_let_in_while_there_is_a_place() {
        let push = LocalPush::default();
        let in_order = (0..MOST).map(|number| number.to_string());
        let _all: Vec<_> =
            in_order.map(|name| (push.open(&name).unwrap(), assert!(push.admit(&name), "{name}"))).collect();
        let _late = push.open("late").unwrap();
        assert!(!push.admit("late"));
        push.close("7");
        assert!(push.admit("late"));
        let open = push.lock();
        assert_eq!((open.admitted(), open.waiting.len()), (MOST, 0));
    }
}
