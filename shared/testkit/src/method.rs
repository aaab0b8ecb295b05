//! The methods of the Firestore service, and where their requests carry a read time.

use std::fmt;

use firebackup_model::Timestamp;
use firebackup_model::document;
use firebackup_model::wire::{Fields, Value};

const SERVICE: &str = "/google.firestore.v1.Firestore/";

/// How a method's messages flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// One request, one answer.
    Unary,
    /// One request, many answers.
    ServerStream,
    /// Many of both.
    Both,
}

macro_rules! methods {
    ($($name:ident: $flow:ident, $read_time:expr;)*) => {
        /// A method of `google.firestore.v1.Firestore`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // named as the service names them
        pub enum Method {
            $($name,)*
        }

        impl Method {
            /// The method that an HTTP path names.
            #[must_use]
            pub fn of_path(path: &str) -> Option<Self> {
                match path.strip_prefix(SERVICE)? {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            pub(crate) const fn flow(self) -> Flow {
                match self {
                    $(Self::$name => Flow::$flow,)*
                }
            }

            /// The field of its request that holds a read time; 0 where none does.
            const fn read_time_field(self) -> u32 {
                match self {
                    $(Self::$name => $read_time,)*
                }
            }
        }
    };
}

methods! {
    GetDocument: Unary, 5;
    ListDocuments: Unary, 10;
    CreateDocument: Unary, 0;
    UpdateDocument: Unary, 0;
    DeleteDocument: Unary, 0;
    BatchGetDocuments: ServerStream, 7;
    BeginTransaction: Unary, 0;
    Commit: Unary, 0;
    Rollback: Unary, 0;
    RunQuery: ServerStream, 7;
    ExecutePipeline: ServerStream, 7;
    RunAggregationQuery: ServerStream, 6;
    PartitionQuery: Unary, 6;
    Write: Both, 0;
    Listen: Both, 0;
    ListCollectionIds: Unary, 4;
    BatchWrite: Unary, 0;
}

impl Method {
    /// The read time that a request of this method asks for.
    pub(crate) fn read_time(self, request: &[u8]) -> Option<Timestamp> {
        let mut fields = Fields::of(request);
        let mut found = None;
        while let Ok(Some(field)) = fields.next() {
            if let Value::Bytes(bytes) = field.value
                && field.number == self.read_time_field()
            {
                found = document::timestamp(bytes).ok();
            }
        }
        found
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gcloud_sdk::google::firestore::v1 as proto;
    use prost::Message;

    const MOMENT: prost_types::Timestamp = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 };

    #[test]
    fn paths_name_methods() {
        assert_eq!(Method::of_path("/google.firestore.v1.Firestore/RunQuery"), Some(Method::RunQuery));
        assert_eq!(Method::of_path("/google.firestore.v1.Firestore/Other"), None);
        assert_eq!(Method::of_path("/google.firestore.admin.v1.FirestoreAdmin/RunQuery"), None);
    }

    #[test]
    fn read_times_are_found_where_the_messages_have_them() {
        let query = proto::RunQueryRequest {
            consistency_selector: Some(proto::run_query_request::ConsistencySelector::ReadTime(MOMENT)),
            ..Default::default()
        };
        let count = proto::RunAggregationQueryRequest {
            consistency_selector: Some(proto::run_aggregation_query_request::ConsistencySelector::ReadTime(MOMENT)),
            ..Default::default()
        };
        let list = proto::ListDocumentsRequest {
            consistency_selector: Some(proto::list_documents_request::ConsistencySelector::ReadTime(MOMENT)),
            ..Default::default()
        };
        let expected = Some(Timestamp::new(1_700_000_000, 5));
        assert_eq!(Method::RunQuery.read_time(&query.encode_to_vec()), expected);
        assert_eq!(Method::RunAggregationQuery.read_time(&count.encode_to_vec()), expected);
        assert_eq!(Method::ListDocuments.read_time(&list.encode_to_vec()), expected);
        assert_eq!(Method::RunQuery.read_time(&proto::RunQueryRequest::default().encode_to_vec()), None);
    }
}
