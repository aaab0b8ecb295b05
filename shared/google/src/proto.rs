//! Firestore's messages that carry a document, the same on the wire as Google's, with the document as opaque bytes.
//!
//! Fields that are of no use here are left out; prost skips them. An absent document is `None`, an empty one is
//! `Some` of no bytes.

use std::collections::HashMap;

use bytes::Bytes;
use prost_types::Timestamp;

/// `google.firestore.v1.RunQueryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunQueryResponse {
    /// The document; absent in messages that only report progress.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub document: Option<Bytes>,
    /// The time at which the document was read.
    #[prost(message, optional, tag = "3")]
    pub read_time: Option<Timestamp>,
    /// Results skipped by an offset since the last response.
    #[prost(int32, tag = "4")]
    pub skipped_results: i32,
    /// Set when the query has finished.
    #[prost(bool, optional, tag = "6")]
    pub done: Option<bool>,
}

/// `google.firestore.v1.BatchGetDocumentsResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchGetDocumentsResponse {
    /// A document that was asked for.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub found: Option<Bytes>,
    /// The name of a document that was asked for and does not exist.
    #[prost(string, optional, tag = "2")]
    pub missing: Option<String>,
    /// The time at which this was read.
    #[prost(message, optional, tag = "4")]
    pub read_time: Option<Timestamp>,
}

/// `google.firestore.v1.Precondition`; one of the two is set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Precondition {
    /// Whether the document must exist.
    #[prost(bool, optional, tag = "1")]
    pub exists: Option<bool>,
    /// The time at which it must have been changed last.
    #[prost(message, optional, tag = "2")]
    pub update_time: Option<Timestamp>,
}

/// `google.firestore.v1.Write` without masks and transforms; one of `update` and `delete` is set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Write {
    /// The document to write, whole.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub update: Option<Bytes>,
    /// The name of the document to delete.
    #[prost(string, optional, tag = "2")]
    pub delete: Option<String>,
    /// What must hold.
    #[prost(message, optional, tag = "4")]
    pub current_document: Option<Precondition>,
}

/// `google.firestore.v1.BatchWriteRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchWriteRequest {
    /// `projects/<project>/databases/<database>`.
    #[prost(string, tag = "1")]
    pub database: String,
    /// The writes, to different documents.
    #[prost(message, repeated, tag = "2")]
    pub writes: Vec<Write>,
    /// Labels of the request.
    #[prost(map = "string, string", tag = "3")]
    pub labels: HashMap<String, String>,
}

/// `google.firestore.v1.WriteResult`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteResult {
    /// The document's new update time; absent after a deletion.
    #[prost(message, optional, tag = "1")]
    pub update_time: Option<Timestamp>,
}

/// `google.rpc.Status` without details.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// A code of `google.rpc.Code`; 0 is success.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// What went wrong, in English.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `google.firestore.v1.BatchWriteResponse`: both lists in the order of the request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchWriteResponse {
    /// The results of the writes.
    #[prost(message, repeated, tag = "1")]
    pub write_results: Vec<WriteResult>,
    /// What became of each write.
    #[prost(message, repeated, tag = "2")]
    pub status: Vec<Status>,
}

/// `google.firestore.v1.ListenResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListenResponse {
    /// What is said; absent where it is of a kind that is not known here.
    #[prost(oneof = "Told", tags = "2, 3, 4, 5, 6")]
    pub told: Option<Told>,
}

/// What a [`ListenResponse`] says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Told {
    /// Something about targets, not about documents.
    #[prost(message, tag = "2")]
    TargetChange(TargetChange),
    /// A document is there, new or changed.
    #[prost(message, tag = "3")]
    DocumentChange(DocumentChange),
    /// A document was deleted.
    #[prost(message, tag = "4")]
    DocumentDelete(DocumentDelete),
    /// How many documents a target has.
    #[prost(message, tag = "5")]
    Filter(ExistenceFilter),
    /// A document is no longer one of a target.
    #[prost(message, tag = "6")]
    DocumentRemove(DocumentRemove),
}

/// `google.firestore.v1.TargetChange`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TargetChange {
    /// Of `google.firestore.v1.TargetChange.TargetChangeType`.
    #[prost(int32, tag = "1")]
    pub target_change_type: i32,
    /// Which targets; all of them where it is empty.
    #[prost(int32, repeated, tag = "2")]
    pub target_ids: Vec<i32>,
    /// Why targets were removed.
    #[prost(message, optional, tag = "3")]
    pub cause: Option<Status>,
    /// What to resume these targets from; often empty. It is kept for long, so it is no slice of what was received.
    #[prost(bytes = "vec", tag = "4")]
    pub resume_token: Vec<u8>,
    /// The time at which these targets are consistent.
    #[prost(message, optional, tag = "6")]
    pub read_time: Option<Timestamp>,
}

/// `google.firestore.v1.DocumentChange`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DocumentChange {
    /// The document as it is now.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub document: Option<Bytes>,
}

/// `google.firestore.v1.DocumentDelete`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DocumentDelete {
    /// The document's full name.
    #[prost(string, tag = "1")]
    pub document: String,
}

/// `google.firestore.v1.DocumentRemove`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DocumentRemove {
    /// The document's full name.
    #[prost(string, tag = "1")]
    pub document: String,
}

/// `google.firestore.v1.ExistenceFilter` without its Bloom filter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExistenceFilter {
    /// Which target.
    #[prost(int32, tag = "1")]
    pub target_id: i32,
    /// How many documents match it.
    #[prost(int32, tag = "2")]
    pub count: i32,
}

/// `google.firestore.admin.v1.GetDatabaseRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetDatabaseRequest {
    /// `projects/<project>/databases/<database>`.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `google.firestore.admin.v1.Database`, of which only what is kept of the past.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DatabaseVersions {
    /// The earliest time that can be read at.
    #[prost(message, optional, tag = "18")]
    pub earliest_version_time: Option<Timestamp>,
    /// Point-in-time recovery: 1 when it is enabled.
    #[prost(int32, tag = "21")]
    pub point_in_time_recovery: i32,
}

/// `google.firestore.admin.v1.ListDatabasesRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListDatabasesRequest {
    /// `projects/<project>`.
    #[prost(string, tag = "1")]
    pub parent: String,
}

/// `google.firestore.admin.v1.ListDatabasesResponse`: no pages, all there are.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListDatabasesResponse {
    /// The databases.
    #[prost(message, repeated, tag = "1")]
    pub databases: Vec<Database>,
}

/// `google.firestore.admin.v1.Database`, of which what decides whether and how it can be backed up. Numbers are those of
/// Google's enumerations: 0 is always that nothing is said.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Database {
    /// `projects/<project>/databases/<database>`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Such as `nam5` or `europe-west3`.
    #[prost(string, tag = "9")]
    pub location_id: String,
    /// 1 native, 2 Datastore mode.
    #[prost(int32, tag = "10")]
    pub database_type: i32,
    /// 1 on, 2 off.
    #[prost(int32, tag = "21")]
    pub point_in_time_recovery: i32,
    /// 1 off, 2 on.
    #[prost(int32, tag = "22")]
    pub delete_protection: i32,
    /// There where a key of the customer's encrypts it.
    #[prost(message, optional, tag = "23")]
    pub cmek: Option<CmekConfig>,
    /// 1 standard, 2 enterprise.
    #[prost(int32, tag = "28")]
    pub edition: i32,
    /// 1 on, 2 off.
    #[prost(int32, tag = "31")]
    pub realtime_updates: i32,
    /// 1 on, 2 off.
    #[prost(int32, tag = "33")]
    pub firestore_data_access: i32,
    /// 1 on, 2 off.
    #[prost(int32, tag = "34")]
    pub mongodb_data_access: i32,
}

/// `google.firestore.admin.v1.Database.CmekConfig`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CmekConfig {
    /// The key, a resource name of Cloud KMS.
    #[prost(string, tag = "1")]
    pub kms_key_name: String,
}

/// A moment as protobuf states it.
pub(crate) fn to_proto(moment: firebackup_model::Timestamp) -> Timestamp {
    Timestamp { seconds: moment.seconds, nanos: moment.nanos.min(999_999_999) as i32 }
}

/// A moment as the model states it.
pub(crate) fn from_proto(moment: &Timestamp) -> firebackup_model::Timestamp {
    firebackup_model::Timestamp::new(moment.seconds, u32::try_from(moment.nanos).unwrap_or(0).min(999_999_999))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gcloud_sdk::google::firestore::v1 as google;
    use gcloud_sdk::google::rpc;
    use prost::Message;

    const MOMENT: Timestamp = Timestamp { seconds: 7, nanos: 8000 };

    fn google_document() -> google::Document {
        let mut document =
            google::Document { name: "projects/p/databases/d/documents/a/b".into(), ..Default::default() };
        let value = google::Value { value_type: Some(google::value::ValueType::IntegerValue(-1)) };
        document.fields.insert("n".into(), value);
        document
    }

    /// A document with a field number that Google has not given out yet.
    fn document_with_unknown_field() -> Bytes {
        let mut bytes = google_document().encode_to_vec();
        firebackup_model::wire::put_bytes_field(&mut bytes, 4711, b"from the future");
        bytes.into()
    }

    #[test]
    fn reads_what_google_writes() {
        let document = google_document();
        let response = google::RunQueryResponse {
            document: Some(document.clone()),
            read_time: Some(MOMENT),
            skipped_results: 3,
            continuation_selector: Some(google::run_query_response::ContinuationSelector::Done(true)),
            ..Default::default()
        };
        let ours = RunQueryResponse::decode(response.encode_to_vec().as_slice()).unwrap();
        let expected = RunQueryResponse {
            document: Some(document.encode_to_vec().into()),
            read_time: Some(MOMENT),
            skipped_results: 3,
            done: Some(true),
        };
        assert_eq!(ours, expected);
        let missing = google::BatchGetDocumentsResponse {
            result: Some(google::batch_get_documents_response::Result::Missing("x".into())),
            read_time: Some(MOMENT),
            ..Default::default()
        };
        let ours = BatchGetDocumentsResponse::decode(missing.encode_to_vec().as_slice()).unwrap();
        assert_eq!(ours, BatchGetDocumentsResponse { found: None, missing: Some("x".into()), read_time: Some(MOMENT) });
        let written = google::BatchWriteResponse {
            write_results: vec![google::WriteResult { update_time: Some(MOMENT), transform_results: vec![] }],
            status: vec![rpc::Status { code: 6, message: "there".into(), details: vec![] }],
        };
        let ours = BatchWriteResponse::decode(written.encode_to_vec().as_slice()).unwrap();
        assert_eq!(ours.write_results, [WriteResult { update_time: Some(MOMENT) }]);
        assert_eq!(ours.status, [Status { code: 6, message: "there".into() }]);
    }

    #[test]
    fn reads_what_google_says_to_listeners() {
        use google::listen_response::ResponseType;
        let check = |theirs, ours| {
            let message = google::ListenResponse { response_type: Some(theirs) }.encode_to_vec();
            assert_eq!(ListenResponse::decode(message.as_slice()).unwrap().told, Some(ours));
        };
        let document = "projects/p/databases/d/documents/a/b".to_owned();
        let change = google::TargetChange {
            target_change_type: google::target_change::TargetChangeType::Remove as i32,
            target_ids: vec![1, 300],
            cause: Some(rpc::Status { code: 8, message: "quota".into(), details: vec![] }),
            resume_token: vec![0, 255],
            read_time: Some(MOMENT),
        };
        let ours = TargetChange {
            target_change_type: 2,
            target_ids: vec![1, 300],
            cause: Some(Status { code: 8, message: "quota".into() }),
            resume_token: vec![0, 255],
            read_time: Some(MOMENT),
        };
        check(ResponseType::TargetChange(change), Told::TargetChange(ours));
        let change = google::DocumentChange {
            document: Some(google_document()),
            target_ids: vec![1, 2],
            removed_target_ids: vec![3],
        };
        let ours = DocumentChange { document: Some(google_document().encode_to_vec().into()) };
        check(ResponseType::DocumentChange(change), Told::DocumentChange(ours));
        let delete =
            google::DocumentDelete { document: document.clone(), removed_target_ids: vec![1], read_time: Some(MOMENT) };
        check(
            ResponseType::DocumentDelete(delete),
            Told::DocumentDelete(DocumentDelete { document: document.clone() }),
        );
        let remove =
            google::DocumentRemove { document: document.clone(), removed_target_ids: vec![1], read_time: Some(MOMENT) };
        check(ResponseType::DocumentRemove(remove), Told::DocumentRemove(DocumentRemove { document }));
        let unchanged_names = Some(google::BloomFilter { hash_count: 3, ..Default::default() });
        let filter = google::ExistenceFilter { target_id: 2, count: 12, unchanged_names };
        check(ResponseType::Filter(filter), Told::Filter(ExistenceFilter { target_id: 2, count: 12 }));
    }

    #[test]
    fn google_reads_what_we_write() {
        let document = google_document();
        let request = BatchWriteRequest {
            database: "projects/p/databases/d".into(),
            writes: vec![
                Write {
                    update: Some(document.encode_to_vec().into()),
                    delete: None,
                    current_document: Some(Precondition { exists: Some(false), update_time: None }),
                },
                Write {
                    update: None,
                    delete: Some("gone".into()),
                    current_document: Some(Precondition { exists: None, update_time: Some(MOMENT) }),
                },
            ],
            labels: HashMap::from([("k".into(), "v".into())]),
        };
        let theirs = google::BatchWriteRequest::decode(request.encode_to_vec().as_slice()).unwrap();
        use google::precondition::ConditionType;
        use google::write::Operation;
        assert_eq!(theirs.database, "projects/p/databases/d");
        assert_eq!(theirs.labels["k"], "v");
        assert_eq!(theirs.writes[0].operation, Some(Operation::Update(document)));
        assert_eq!(theirs.writes[0].current_document.unwrap().condition_type, Some(ConditionType::Exists(false)));
        assert_eq!(theirs.writes[1].operation, Some(Operation::Delete("gone".into())));
        assert_eq!(theirs.writes[1].current_document.unwrap().condition_type, Some(ConditionType::UpdateTime(MOMENT)));
    }

    #[test]
    fn a_document_passes_untouched_unknown_fields_included() {
        let document = document_with_unknown_field();
        let mut message = Vec::new();
        firebackup_model::wire::put_bytes_field(&mut message, 1, &document);
        let read = RunQueryResponse::decode(message.as_slice()).unwrap().document.unwrap();
        assert_eq!(read, document);
        let request = BatchWriteRequest {
            writes: vec![Write { update: Some(read), ..Default::default() }],
            ..Default::default()
        };
        let encoded = request.encode_to_vec();
        assert!(encoded.windows(document.len()).any(|window| window == document));
    }

    #[test]
    fn an_absent_document_is_told_from_an_empty_one() {
        assert_eq!(RunQueryResponse::decode(&[][..]).unwrap().document, None);
        assert_eq!(RunQueryResponse::decode(&[0x0a, 0][..]).unwrap().document, Some(Bytes::new()));
    }
}
