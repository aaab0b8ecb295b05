//! One stream, as its database sees it.

use std::collections::BTreeMap;

use bytes::Bytes;
use firebackup_model::Timestamp;
use gcloud_sdk::google::firestore::v1::target_change::TargetChangeType;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use super::message::{self, Wanted};
use super::token::Token;
use super::upstream::DocumentState;

/// Where what a stream says goes.
pub(super) type Answers = mpsc::UnboundedSender<Result<Bytes, Status>>;

#[derive(Debug)]
pub(super) struct Listener {
    answers: Answers,
    /// The collection group of each target that is current.
    pub targets: BTreeMap<i32, String>,
    /// Targets that have been asked for and told nothing.
    pub wanted: Vec<Wanted>,
    /// Whether it has heard something since its last point.
    pub is_owed_a_point: bool,
    /// When it last had a point.
    pub spoke_at: Instant,
}

impl Listener {
    pub(super) fn new(answers: Answers) -> Self {
        Self { answers, targets: BTreeMap::new(), wanted: Vec::new(), is_owed_a_point: false, spoke_at: Instant::now() }
    }

    /// Whether somebody still hears what it says.
    pub(super) fn is_open(&self) -> bool {
        !self.answers.is_closed()
    }

    pub(super) fn add(&mut self, wanted: Wanted) {
        self.wanted.push(wanted);
    }

    pub(super) fn remove(&mut self, target: i32) {
        self.wanted.retain(|wanted| wanted.target != target);
        self.targets.remove(&target);
        self.say(message::target(TargetChangeType::Remove, target));
    }

    /// Whether a collection group is listened to.
    pub(super) fn hears(&self, group: &str) -> bool {
        self.targets.values().any(|of| of == group)
    }

    /// The targets that a collection group is listened to by.
    pub(super) fn targets_of(&self, group: &str) -> Vec<i32> {
        self.targets.iter().filter(|(_, of)| *of == group).map(|(target, _)| *target).collect()
    }

    /// Whoever has gone need not be told.
    pub(super) fn say(&self, message: Bytes) {
        let _ = self.answers.send(Ok(message));
    }

    /// Says what a document is for these targets, if there are any.
    pub(super) fn tell(&mut self, state: &DocumentState, targets: Vec<i32>, read_time: Timestamp) {
        if targets.is_empty() {
            return;
        }
        self.is_owed_a_point = true;
        self.say(match &state.document {
            Some(document) => message::changed(document.clone(), targets),
            None => message::deleted(&state.name, targets, read_time),
        });
    }

    /// Says all that a target holds.
    pub(super) fn say_whole(&self, target: i32, documents: Vec<Bytes>, token: Token) {
        for document in documents {
            self.say(message::changed(document, vec![target]));
        }
        self.say(message::complete(Some(target), token));
    }

    pub(super) fn end(self, status: &Status) {
        let _ = self.answers.send(Err(status.clone()));
    }
}
