//! What listeners ask for and what they are told. A document stands in it as the bytes it is.

use bytes::Bytes;
use firebackup_model::Timestamp;
use gcloud_sdk::google::firestore::v1::listen_response::ResponseType;
use gcloud_sdk::google::firestore::v1::target::{ResumeType, TargetType, query_target};
use gcloud_sdk::google::firestore::v1::target_change::TargetChangeType;
use gcloud_sdk::google::firestore::v1::{
    DocumentDelete, ExistenceFilter, ListenResponse, StructuredQuery, Target, TargetChange,
};
use prost::Message;
use tonic::Status;

use super::token::Token;
use super::upstream::proto;

/// A collection group that is to be listened to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub target: i32,
    pub group: String,
    /// Nothing: from nothing.
    pub resume: Option<ResumeType>,
}

impl Wanted {
    /// Reads what a client asks for; refuses what this proxy does not answer.
    pub(super) fn read(target: Target) -> Result<Self, Status> {
        if target.target_id <= 0 || target.once {
            return Err(Status::unimplemented("the proxy listens to targets with ids of their own, and on and on"));
        }
        let group = group_of(target.target_type).ok_or_else(|| {
            Status::unimplemented("the proxy listens to whole collection groups, below the documents root, only")
        })?;
        let resume = target.resume_type.filter(|resume| !matches!(resume, ResumeType::ResumeToken(t) if t.is_empty()));
        Ok(Self { target: target.target_id, group, resume })
    }
}

fn group_of(target: Option<TargetType>) -> Option<String> {
    let Some(TargetType::Query(query)) = target else { return None };
    let query_target::QueryType::StructuredQuery(mut structured) = query.query_type?;
    let from = structured.from.pop()?;
    let plain = StructuredQuery { order_by: structured.order_by.clone(), ..StructuredQuery::default() };
    let is_whole = from.all_descendants && structured == plain && query.parent.ends_with("/documents");
    (is_whole && !from.collection_id.is_empty()).then_some(from.collection_id)
}

/// `google.firestore.v1.ListenResponse` with a changed document.
#[derive(Clone, PartialEq, Message)]
struct Changed {
    #[prost(message, optional, tag = "3")]
    change: Option<DocumentChange>,
}

/// `google.firestore.v1.DocumentChange`.
#[derive(Clone, PartialEq, Message)]
struct DocumentChange {
    #[prost(bytes = "bytes", optional, tag = "1")]
    document: Option<Bytes>,
    #[prost(int32, repeated, tag = "5")]
    target_ids: Vec<i32>,
}

/// A document as it is now.
pub(super) fn changed(document: Bytes, target_ids: Vec<i32>) -> Bytes {
    let change = Some(DocumentChange { document: Some(document), target_ids });
    Changed { change }.encode_to_vec().into()
}

/// A document that was not there at `read_time`.
pub(super) fn deleted(name: &str, removed_target_ids: Vec<i32>, read_time: Timestamp) -> Bytes {
    let read_time = Some(proto(read_time));
    encode(ResponseType::DocumentDelete(DocumentDelete { document: name.to_owned(), removed_target_ids, read_time }))
}

/// How many documents a target holds.
pub(super) fn filter(target_id: i32, count: i32) -> Bytes {
    encode(ResponseType::Filter(ExistenceFilter { target_id, count, unchanged_names: None }))
}

/// What has become of a target, without a moment.
pub(super) fn target(change: TargetChangeType, target_id: i32) -> Bytes {
    let change =
        TargetChange { target_change_type: change as i32, target_ids: vec![target_id], ..TargetChange::default() };
    encode(ResponseType::TargetChange(change))
}

/// Everything up to the token's moment has been said: of one target, or of the whole stream.
pub(super) fn complete(target_id: Option<i32>, token: Token) -> Bytes {
    let change = if target_id.is_some() { TargetChangeType::Current } else { TargetChangeType::NoChange };
    encode(ResponseType::TargetChange(TargetChange {
        target_change_type: change as i32,
        target_ids: target_id.into_iter().collect(),
        cause: None,
        resume_token: token.encode(),
        read_time: Some(proto(token.read_time)),
    }))
}

fn encode(response: ResponseType) -> Bytes {
    ListenResponse { response_type: Some(response) }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gcloud_sdk::google::firestore::v1::structured_query::CollectionSelector;
    use gcloud_sdk::google::firestore::v1::target::{DocumentsTarget, QueryTarget};
    use gcloud_sdk::google::firestore::v1::{self as google, Document};

    fn target(query: StructuredQuery) -> Target {
        let query_type = Some(query_target::QueryType::StructuredQuery(query));
        let query = QueryTarget { parent: "projects/p/databases/d/documents".to_owned(), query_type };
        Target { target_id: 7, target_type: Some(TargetType::Query(query)), ..Target::default() }
    }

    fn query() -> StructuredQuery {
        let from = vec![CollectionSelector { collection_id: "orders".to_owned(), all_descendants: true }];
        StructuredQuery { from, ..StructuredQuery::default() }
    }

    #[test]
    fn takes_collection_groups_and_nothing_else() {
        let wanted = Wanted::read(target(query())).unwrap();
        assert_eq!(wanted, Wanted { target: 7, group: "orders".to_owned(), resume: None });
        let empty = Target { resume_type: Some(ResumeType::ResumeToken(Vec::new())), ..target(query()) };
        assert_eq!(Wanted::read(empty).unwrap().resume, None);

        let documents = TargetType::Documents(DocumentsTarget::default());
        let refused = [
            target(StructuredQuery { limit: Some(3), ..query() }),
            target(StructuredQuery { from: Vec::new(), ..query() }),
            target(StructuredQuery { from: vec![CollectionSelector::default()], ..query() }),
            Target { target_id: 0, ..target(query()) },
            Target { once: true, ..target(query()) },
            Target { target_type: Some(documents), ..target(query()) },
        ];
        for target in refused {
            assert!(Wanted::read(target.clone()).is_err(), "{target:?}");
        }
    }

    #[test]
    fn google_reads_a_changed_document() {
        let document = Document { name: "projects/p/databases/d/documents/a/b".to_owned(), ..Document::default() };
        let message = changed(document.encode_to_vec().into(), vec![3, 4]);
        let change = google::DocumentChange { document: Some(document), target_ids: vec![3, 4], ..Default::default() };
        let expected = ListenResponse { response_type: Some(ResponseType::DocumentChange(change)) };
        assert_eq!(ListenResponse::decode(message).unwrap(), expected);
    }
}
