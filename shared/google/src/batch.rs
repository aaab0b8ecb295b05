//! A batch of writes to a BatchWrite request, and its response to outcomes.

use firebackup_model::database::DatabaseName;
use firebackup_model::document;
use firebackup_model::error::{ErrorKind, PortError};
use firebackup_model::port::{MAX_BATCH_BYTES, MAX_BATCH_WRITES, Precondition, Write, WriteOutcome};
use firebackup_model::timestamp::Timestamp;
use prost::Message;
use tonic::{Code, Status};

use crate::proto::{self, BatchWriteRequest, BatchWriteResponse, from_proto, to_proto};
use crate::status::Operation;

/// The request for `writes`, whose documents it takes over as they are.
pub(crate) fn request(
    database: &DatabaseName,
    writes: Vec<Write>,
    operation: Operation,
) -> Result<BatchWriteRequest, PortError> {
    let refused = |message: String| PortError::new(ErrorKind::InvalidArgument, operation.name, message);
    if writes.len() > MAX_BATCH_WRITES {
        return Err(refused(format!("{} writes in a batch, at most {MAX_BATCH_WRITES} are allowed", writes.len())));
    }
    let misnamed = writes.iter().position(|write| !is_named_by_its_path(database, write));
    if let Some(index) = misnamed {
        return Err(refused(format!("write {index} of the batch holds a document of another name")));
    }
    let writes = writes.into_iter().map(|write| proto_write(database, write)).collect();
    let request = BatchWriteRequest { database: database.resource(), writes, ..BatchWriteRequest::default() };
    let length = request.encoded_len();
    if length > MAX_BATCH_BYTES {
        return Err(refused(format!("a batch of {length} bytes, at most {MAX_BATCH_BYTES} are allowed")));
    }
    Ok(request)
}

/// The server writes to the name in the bytes, whatever the caller thinks.
fn is_named_by_its_path(database: &DatabaseName, write: &Write) -> bool {
    write.document.as_ref().is_none_or(|bytes| {
        document::head(bytes).is_ok_and(|head| database.relative(head.name) == Some(write.path.as_str()))
    })
}

fn proto_write(database: &DatabaseName, write: Write) -> proto::Write {
    let delete = write.document.is_none().then(|| database.document_name(write.path.as_str()));
    let condition =
        |exists, update_time: Option<Timestamp>| proto::Precondition { exists, update_time: update_time.map(to_proto) };
    let current_document = match write.precondition {
        Precondition::None => None,
        Precondition::Absent => Some(condition(Some(false), None)),
        Precondition::UpdatedAt(time) => Some(condition(None, Some(time))),
    };
    proto::Write { update: write.document, delete, current_document }
}

/// One outcome a write. After a deletion the server may give no update time: it is then the epoch.
pub(crate) fn outcomes(
    response: BatchWriteResponse,
    writes: usize,
    operation: Operation,
) -> Result<Vec<WriteOutcome>, PortError> {
    if response.status.len() != writes || response.write_results.len() != writes {
        return Err(operation.corrupt("the server did not answer every write of the batch"));
    }
    let outcome = |(status, result): (proto::Status, proto::WriteResult)| match Code::from(status.code) {
        Code::Ok => Ok(result.update_time.as_ref().map(from_proto).unwrap_or_default()),
        code => Err(operation.failed(Status::new(code, status.message))),
    };
    Ok(response.status.into_iter().zip(response.write_results).map(outcome).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use firebackup_model::path::DocumentPath;

    const WRITE: Operation = Operation::writing("write documents");

    fn database() -> DatabaseName {
        DatabaseName::new("p", "d")
    }

    fn write(path: &str, precondition: Precondition, padding: usize) -> Write {
        let mut bytes = Vec::new();
        firebackup_model::wire::put_bytes_field(&mut bytes, 1, database().document_name(path).as_bytes());
        firebackup_model::wire::put_bytes_field(&mut bytes, 99, &vec![0; padding]);
        Write { path: DocumentPath::new(path).unwrap(), document: Some(bytes.into()), precondition }
    }

    #[test]
    fn writes_keep_their_bytes_and_conditions() {
        let put = write("a/b", Precondition::Absent, 3);
        let bytes = put.document.clone();
        let moment = Timestamp::new(9, 1000);
        let delete = Write { document: None, ..write("a/c", Precondition::UpdatedAt(moment), 0) };
        let request = request(&database(), vec![put, delete], WRITE).unwrap();
        assert_eq!(request.database, "projects/p/databases/d");
        assert_eq!(request.writes[0].update, bytes);
        assert_eq!(request.writes[0].current_document.as_ref().unwrap().exists, Some(false));
        assert_eq!(request.writes[1].delete.as_deref(), Some("projects/p/databases/d/documents/a/c"));
        let condition = request.writes[1].current_document.as_ref().unwrap();
        assert_eq!(condition.update_time.as_ref().map(from_proto), Some(moment));
    }

    #[test]
    fn refuses_batches_that_firestore_would_refuse() {
        let many = (0..=MAX_BATCH_WRITES).map(|n| write(&format!("a/{n}"), Precondition::None, 0)).collect();
        let large = (0..11).map(|n| write(&format!("a/{n}"), Precondition::None, 1 << 20)).collect();
        for writes in [many, large] {
            let error = request(&database(), writes, WRITE).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument);
        }
        let full = (0..MAX_BATCH_WRITES).map(|n| write(&format!("a/{n}"), Precondition::None, 0)).collect();
        assert!(request(&database(), full, WRITE).is_ok());
    }

    #[test]
    fn refuses_a_document_of_another_name() {
        for document in [write("a/other", Precondition::None, 0).document, Some(Bytes::new())] {
            let write = Write { document, ..write("a/b", Precondition::None, 0) };
            let error = request(&database(), vec![write], WRITE).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn statuses_become_outcomes_one_a_write() {
        let result = |update_time| proto::WriteResult { update_time };
        let status = |code, message: &str| proto::Status { code, message: message.into() };
        let response = BatchWriteResponse {
            write_results: vec![result(Some(to_proto(Timestamp::new(5, 0)))), result(None), result(None)],
            status: vec![status(0, ""), status(6, "there"), status(0, "")],
        };
        let outcomes_of_three = outcomes(response.clone(), 3, WRITE).unwrap();
        assert_eq!(*outcomes_of_three[0].as_ref().unwrap(), Timestamp::new(5, 0));
        assert_eq!(outcomes_of_three[1].as_ref().unwrap_err().kind, ErrorKind::AlreadyExists);
        assert_eq!(*outcomes_of_three[2].as_ref().unwrap(), Timestamp::default());
        assert_eq!(outcomes(response, 2, WRITE).unwrap_err().kind, ErrorKind::Corrupt);
    }
}
