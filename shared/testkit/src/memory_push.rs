//! Connections of live clients, in memory.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use firebackup_model::PortError;
use firebackup_model::port::{Push, Pushed};

/// Keeps what is sent to the connections that are open.
#[derive(Debug, Default)]
pub struct MemoryPush {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    open: BTreeSet<String>,
    sent: Vec<(String, String)>,
}

impl MemoryPush {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection.
    pub fn open(&self, connection: &str) {
        self.inside().open.insert(connection.to_owned());
    }

    /// Closes a connection.
    pub fn close(&self, connection: &str) {
        self.inside().open.remove(connection);
    }

    /// What was sent since this was asked last: connections and texts.
    pub fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.inside().sent)
    }
}

#[async_trait]
impl Push for MemoryPush {
    async fn push(&self, connection: &str, message: &str) -> Result<Pushed, PortError> {
        let mut inside = self.inside();
        if !inside.open.contains(connection) {
            return Ok(Pushed::Gone);
        }
        inside.sent.push((connection.to_owned(), message.to_owned()));
        Ok(Pushed::Sent)
    }
}
