//! Listening to the changes of collection groups: the call, and the stream of what it says.

use std::collections::{BTreeSet, VecDeque};

use async_trait::async_trait;
use firebackup_model::database::DatabaseName;
use firebackup_model::error::{ErrorKind, PortError};
use firebackup_model::port::{Change, ChangeSource, ChangeStream, DocumentStream, ListenFrom};
use firebackup_model::range::PathRange;
use firebackup_model::timestamp::Timestamp;
use futures::channel::oneshot;
use futures::future::ready;
use futures::{Stream, StreamExt, stream};
use gcloud_sdk::google::firestore::v1::listen_request::TargetChange;
use gcloud_sdk::google::firestore::v1::structured_query::CollectionSelector;
use gcloud_sdk::google::firestore::v1::target::query_target::QueryType;
use gcloud_sdk::google::firestore::v1::target::{QueryTarget, ResumeType, TargetType};
use gcloud_sdk::google::firestore::v1::{ListenRequest, StructuredQuery, Target};
use tonic::Streaming;

use crate::firestore::Firestore;
use crate::listen_targets::Targets;
use crate::proto::{ListenResponse, to_proto};
use crate::query;
use crate::status::Operation;

pub(crate) const LISTEN: Operation = Operation::reading("listen to changes");
const METHOD: &str = "/google.firestore.v1.Firestore/Listen";

/// An open call. It tells what was said, in order, until it breaks.
struct Listening {
    responses: Streaming<ListenResponse>,
    targets: Targets,
    /// Said by a response that said more than one thing.
    said: VecDeque<Change>,
    /// The requests end with this, and with them the call on the server.
    _open: oneshot::Sender<()>,
}

impl Listening {
    async fn next(&mut self) -> Result<Change, PortError> {
        loop {
            if let Some(change) = self.said.pop_front() {
                return Ok(change);
            }
            let response = self.responses.message().await.map_err(|status| LISTEN.failed(status))?;
            self.said.extend(self.targets.told(response.ok_or_else(ended)?)?);
        }
    }

    fn into_stream(self) -> ChangeStream {
        stream::try_unfold(self, async |mut listening| Ok(Some((listening.next().await?, listening)))).boxed()
    }
}

/// A server ends a call that has lived for long; a listener begins another.
fn ended() -> PortError {
    PortError::new(ErrorKind::Unavailable, LISTEN.name, "the server ended the stream")
}

/// The groups in the order of their targets' ids, the first of which is 1.
fn requests(database: &DatabaseName, groups: &[String], from: &ListenFrom) -> Vec<ListenRequest> {
    let resume = match from {
        ListenFrom::Token(token) => ResumeType::ResumeToken(token.to_vec()),
        ListenFrom::ReadTime(time) => ResumeType::ReadTime(to_proto(*time)),
    };
    let target = |(group, target_id): (&String, i32)| Target {
        target_id,
        target_type: Some(TargetType::Query(group_target(database, group))),
        resume_type: Some(resume.clone()),
        ..Target::default()
    };
    let request = |target| ListenRequest {
        database: database.resource(),
        target_change: Some(TargetChange::AddTarget(target)),
        ..ListenRequest::default()
    };
    groups.iter().zip(1..).map(target).map(request).collect()
}

fn group_target(database: &DatabaseName, group: &str) -> QueryTarget {
    let from = vec![CollectionSelector { collection_id: group.to_owned(), all_descendants: true }];
    let query = StructuredQuery { from, ..StructuredQuery::default() };
    QueryTarget { parent: database.documents_root(), query_type: Some(QueryType::StructuredQuery(query)) }
}

/// The requests, then nothing more until the sender is dropped: a server takes their end for a hang-up.
fn held_open(requests: Vec<ListenRequest>) -> (oneshot::Sender<()>, impl Stream<Item = ListenRequest>) {
    let (open, dropped) = oneshot::channel();
    let nothing_more = stream::once(dropped).filter_map(|_| ready(None));
    (open, stream::iter(requests).chain(nothing_more))
}

#[async_trait]
impl ChangeSource for Firestore {
    /// Silence is the caller's to notice: only the opening is bounded. A document that was put is a slice of the receive
    /// buffer, as it came; whoever keeps one copies it.
    async fn listen(&self, groups: &BTreeSet<String>, from: ListenFrom) -> Result<ChangeStream, PortError> {
        if groups.first().is_none_or(String::is_empty) {
            let message = "it takes collection groups, each with a name";
            return Err(PortError::new(ErrorKind::InvalidArgument, LISTEN.name, message));
        }
        let groups: Vec<String> = groups.iter().cloned().collect();
        let (open, requests) = held_open(requests(&self.database, &groups, &from));
        let responses = self.rpc.bidirectional(METHOD, requests).await.map_err(|status| LISTEN.failed(status))?;
        let targets = Targets::new(self.database.clone(), groups);
        Ok(Listening { responses, targets, said: VecDeque::new(), _open: open }.into_stream())
    }

    async fn count_group(&self, group: &str, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.count_of(query::count(&self.database, query::group(&self.database, group, range), at)).await
    }

    async fn stream_group(&self, group: &str, at: Timestamp) -> Result<DocumentStream, PortError> {
        self.stream_of(query::group(&self.database, group, &PathRange::everything()), at).await
    }
}
