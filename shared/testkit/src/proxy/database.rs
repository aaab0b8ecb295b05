//! What the admin service says of a database, of which the emulator knows nothing.

use bytes::Bytes;
use firebackup_model::Timestamp;
use prost::Message;
use tonic::{Request, Response};

/// The method's path.
pub(super) const GET_DATABASE: &str = "/google.firestore.admin.v1.FirestoreAdmin/GetDatabase";
/// The method that lists them.
pub(super) const LIST_DATABASES: &str = "/google.firestore.admin.v1.FirestoreAdmin/ListDatabases";

/// `google.firestore.admin.v1.Database`, of which only what a client asks for.
#[derive(Clone, PartialEq, Message)]
struct Database {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "18")]
    earliest_version_time: Option<prost_types::Timestamp>,
    #[prost(int32, tag = "21")]
    point_in_time_recovery_enablement: i32,
}

/// The answer of a database that has had point-in-time recovery since `oldest`. The request names the database in field
/// 1, as its answer does.
pub(super) fn with_recovery(request: Request<Bytes>, oldest: Timestamp) -> Response<Bytes> {
    let name = Database::decode(request.into_inner()).map(|named| named.name).unwrap_or_default();
    let earliest = prost_types::Timestamp { seconds: oldest.seconds, nanos: oldest.nanos as i32 };
    let database = Database { name, earliest_version_time: Some(earliest), point_in_time_recovery_enablement: 1 };
    Response::new(database.encode_to_vec().into())
}
