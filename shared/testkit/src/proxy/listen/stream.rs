//! One `Listen` stream, as its client sees it.

use bytes::Bytes;
use gcloud_sdk::google::firestore::v1::{ListenRequest, listen_request::TargetChange};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use super::Listens;
use super::hub::Command;
use super::knobs::{Knobs, Passed};
use super::listener::Answers;
use super::message::Wanted;
use crate::proxy::control::{Control, OpenStream};

/// What a client asks for on one stream.
pub(super) struct Inbound {
    pub listens: Listens,
    pub stream: u64,
    pub answers: Answers,
    /// The database that the first request named.
    pub database: Option<(String, mpsc::UnboundedSender<Command>)>,
}

impl Inbound {
    /// Hands it to the database, until either side has enough.
    pub(super) async fn carry(mut self, mut requests: Streaming<Bytes>) {
        loop {
            let request = tokio::select! {
                () = self.answers.closed() => break,
                request = requests.message() => request,
            };
            let Ok(Some(request)) = request else { break };
            if let Err(refused) = self.hand_over(request) {
                let _ = self.answers.send(Err(refused));
                break;
            }
        }
        if let Some((_, commands)) = self.database {
            let _ = commands.send(Command::Leave { stream: self.stream });
        }
    }

    fn hand_over(&mut self, request: Bytes) -> Result<(), Status> {
        let request = ListenRequest::decode(request)
            .map_err(|error| Status::invalid_argument(format!("not a ListenRequest: {error}")))?;
        let command = self.command(request.target_change)?;
        let (database, commands) = self.database.get_or_insert_with(|| {
            let commands = self.listens.commands(&request.database);
            (request.database.clone(), commands)
        });
        if *database != request.database {
            return Err(Status::invalid_argument("a stream is about one database"));
        }
        commands.send(command).map_err(|_| Status::unavailable("the proxy has ended"))
    }

    fn command(&self, change: Option<TargetChange>) -> Result<Command, Status> {
        let (stream, answers) = (self.stream, self.answers.clone());
        match change {
            Some(TargetChange::AddTarget(target)) => {
                Ok(Command::Add { stream, answers, wanted: Wanted::read(target)? })
            }
            Some(TargetChange::RemoveTarget(target)) => Ok(Command::Remove { stream, target }),
            None => Err(Status::invalid_argument("a target is required")),
        }
    }
}

/// What a client is told on one stream: what its database says, held back, counted and cut as the knobs have it.
pub(super) struct Outbound {
    answers: mpsc::UnboundedReceiver<Result<Bytes, Status>>,
    knobs: watch::Receiver<Knobs>,
    control: Control,
    /// How many cuts there had been when this was opened.
    cuts: u64,
    passed: Passed,
    is_over: bool,
    _open: Option<OpenStream>,
}

impl Outbound {
    pub(super) fn new(
        answers: mpsc::UnboundedReceiver<Result<Bytes, Status>>,
        control: Control,
        open: Option<OpenStream>,
    ) -> Self {
        let knobs = control.watch_knobs();
        let cuts = knobs.borrow().cuts;
        Self { answers, knobs, control, cuts, passed: Passed::default(), is_over: false, _open: open }
    }

    /// The next message or the error that the stream ends with; nothing at its end.
    pub(super) async fn next(mut self) -> Option<(Result<Bytes, Status>, Self)> {
        if self.is_over {
            return None;
        }
        let answer = match self.answer().await? {
            Ok(message) => self.control.pass_message(&mut self.passed).map(|()| message),
            Err(status) => Err(status),
        };
        self.is_over = answer.is_err();
        Some((answer, self))
    }

    async fn answer(&mut self) -> Option<Result<Bytes, Status>> {
        loop {
            let (cut, is_silent) = {
                let knobs = self.knobs.borrow_and_update();
                (knobs.cut_since(self.cuts), knobs.is_silent)
            };
            if let Some(cut) = cut {
                self.control.count(|counts| counts.injected += 1);
                return Some(Err(cut));
            }
            tokio::select! {
                biased;
                // the sender lives as long as the control that this holds
                _ = self.knobs.changed() => {}
                answer = self.answers.recv(), if !is_silent => return answer,
            }
        }
    }
}
