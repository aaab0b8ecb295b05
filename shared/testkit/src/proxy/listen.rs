//! `Listen` as production answers it, which the emulator does not: there, every change of a collection group is a
//! `RESET` and the whole group.
//!
//! No listen goes upstream. What is written passes the proxy, which notes the documents before it hands a write on
//! ([`ledger`]); a task a database ([`hub`]) asks the server for its time, reads whatever was written by then as it was
//! at that time, tells who listens, and says that this was all: a consistent point. So
//!
//! - several writes of a document within [`Control::set_coalescing`] are told as one;
//! - a deletion is dated by the point at which it was seen, and one of a document that nobody was told of may be told,
//!   unless [`Control::leave_out_what_came_and_went`] says otherwise;
//! - a document may be told again as it was told before, when a write of it failed or was of no effect;
//! - a target goes on from a token or a read time, unless the token was forgotten or either is from before the proxy's
//!   start: then it is `RESET` and begins from nothing;
//! - what is written past the proxy, by another way to the same emulator, is never told;
//! - `Write` streams are refused, and so are targets that are no collection group below the documents root.

mod begin;
mod hub;
mod knobs;
mod ledger;
mod listener;
mod message;
mod stream;
mod token;
mod upstream;
mod writes;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use firebackup_model::Timestamp;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::control::{Control, OpenStream};
use super::{ByteStream, EMULATOR_MAX_BYTES};
use crate::method::Method;
use hub::{Command, Hub};
pub(super) use knobs::Knobs;
use ledger::Ledger;
use stream::{Inbound, Outbound};
use upstream::Upstream;

/// Any database tells the time.
const SOME_DATABASE: &str = "projects/demo-firebackup-proxy/databases/(default)";

/// Who answers `Listen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenMode {
    /// The server behind the proxy.
    #[default]
    Forwarded,
    /// The proxy, as production does, from the writes that pass it. The server has to answer when the proxy starts.
    Production,
}

/// All that is listened to. Clones are of the same.
#[derive(Debug, Clone)]
pub(super) struct Listens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    channel: Channel,
    control: Control,
    /// From when on every write is noted.
    since: Timestamp,
    streams: AtomicU64,
    databases: Mutex<HashMap<String, Database>>,
}

/// Its task ends when this is dropped.
#[derive(Debug, Clone)]
struct Database {
    ledger: Arc<Ledger>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Listens {
    pub(super) async fn start(channel: Channel, control: Control) -> Result<Self, Status> {
        let since = Upstream::new(channel.clone(), SOME_DATABASE.to_owned()).time().await?;
        let (streams, databases) = (AtomicU64::default(), Mutex::default());
        Ok(Self(Arc::new(Shared { channel, control, since, streams, databases })))
    }

    /// Opens a stream that asks for `requests`.
    pub(super) fn open(&self, requests: Streaming<Bytes>, open: Option<OpenStream>) -> ByteStream {
        let stream = self.0.streams.fetch_add(1, Ordering::Relaxed);
        let (answers, said) = mpsc::unbounded_channel();
        let inbound = Inbound { listens: self.clone(), stream, answers, database: None };
        tokio::spawn(inbound.carry(requests));
        Box::pin(futures::stream::unfold(Outbound::new(said, self.0.control.clone(), open), Outbound::next))
    }

    /// Hands a request on by `forward`, and tells of what it writes. What has gone on its way is carried to its end, whether
    /// the client waits for it or not: else nobody knew whether it was done.
    pub(super) async fn write<F, A>(
        &self,
        method: Method,
        request: Request<Bytes>,
        forward: F,
    ) -> Result<Response<Bytes>, Status>
    where
        F: FnOnce(Request<Bytes>) -> A + Send + 'static,
        A: Future<Output = Result<Response<Bytes>, Status>> + Send,
    {
        let (mut metadata, extensions, message) = request.into_parts();
        let message = writes::with_id(method, message);
        let is_split = method == Method::BatchWrite && message.len() > EMULATOR_MAX_BYTES;
        let mut names = writes::names(method, &message)?;
        names.retain(|name| name.contains("/documents/"));
        let Some((database, _)) = names.first().and_then(|name| name.split_once("/documents/")) else {
            return forward(Request::from_parts(metadata, extensions, message)).await;
        };
        let writing = self.database(database).ledger.begin(names);
        metadata.remove("grpc-timeout");
        let carried = tokio::spawn(async move {
            let answer = forward(Request::from_parts(metadata, extensions, message)).await;
            // of several parts, an earlier one may have been written
            writing.end(answer.as_ref().err().is_none_or(|error| is_split || !writes::is_certain(error.code())));
            answer
        });
        carried.await.unwrap_or_else(|error| Err(Status::internal(format!("the write was not carried: {error}"))))
    }

    fn commands(&self, database: &str) -> mpsc::UnboundedSender<Command> {
        self.database(database).commands
    }

    fn database(&self, name: &str) -> Database {
        let mut databases = self.0.databases.lock().unwrap_or_else(PoisonError::into_inner);
        databases.entry(name.to_owned()).or_insert_with(|| self.begin(name)).clone()
    }

    fn begin(&self, database: &str) -> Database {
        let Shared { channel, control, since, .. } = &*self.0;
        let (commands, asked) = mpsc::unbounded_channel();
        let ledger = Arc::new(Ledger::default());
        let upstream = Upstream::new(channel.clone(), database.to_owned());
        tokio::spawn(Hub::new(upstream, Arc::clone(&ledger), control.clone(), *since, asked).run());
        Database { ledger, commands }
    }
}
