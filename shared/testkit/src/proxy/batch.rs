//! A `BatchWrite` (or `Commit`) taken apart into its writes, without decoding them.

use bytes::Bytes;
use firebackup_model::document;
use firebackup_model::wire::{Fields, Value, WireError};
use gcloud_sdk::google::firestore::v1::{BatchWriteResponse, WriteResult};
use gcloud_sdk::google::rpc;
use prost::Message;
use tonic::{Code, Status};

/// Field number of `writes` in both requests.
const WRITES_FIELD: u32 = 2;

/// The fields of a request, in their order.
pub(super) struct Batch<'m> {
    parts: Vec<Part<'m>>,
}

struct Part<'m> {
    raw: &'m [u8],
    /// The full name of the document, where the part is a write.
    name: Option<&'m str>,
}

impl<'m> Batch<'m> {
    pub(super) fn read(request: &'m [u8]) -> Result<Self, Status> {
        let parts = parts(request).map_err(|error| Status::invalid_argument(format!("not a batch: {error}")))?;
        Ok(Self { parts })
    }

    /// The full name of each write's document; empty when a write is about none.
    pub(super) fn names(&self) -> impl Iterator<Item = &'m str> {
        self.parts.iter().filter_map(|part| part.name)
    }

    /// The path of each write's document, below the documents root.
    pub(super) fn paths(&self) -> impl Iterator<Item = &'m str> {
        self.names().map(|name| name.split_once("/documents/").map_or(name, |(_, path)| path))
    }

    /// The writes that do not fail as requests of at most `limit` bytes (or of one write); none when all fail. What is
    /// no write goes with each of them.
    pub(super) fn requests(&self, failures: &[Option<Code>], limit: usize) -> Vec<Bytes> {
        let frame: Vec<u8> =
            self.parts.iter().filter(|part| part.name.is_none()).flat_map(|part| part.raw).copied().collect();
        let writes = self.parts.iter().filter(|part| part.name.is_some());
        let kept = writes.enumerate().filter(|(index, _)| failures.get(*index).is_none_or(Option::is_none));
        let mut requests = Vec::new();
        let mut request = frame.clone();
        for (_, write) in kept {
            if request.len() > frame.len() && request.len() + write.raw.len() > limit {
                requests.push(std::mem::replace(&mut request, frame.clone()).into());
            }
            request.extend_from_slice(write.raw);
        }
        if request.len() > frame.len() {
            requests.push(request.into());
        }
        requests
    }
}

fn parts(request: &[u8]) -> Result<Vec<Part<'_>>, WireError> {
    let mut parts = Vec::new();
    let mut fields = Fields::of(request);
    while let Some(field) = fields.next()? {
        let name = match (field.number, field.value) {
            (WRITES_FIELD, Value::Bytes(write)) => Some(name_of(write)?),
            _ => None,
        };
        parts.push(Part { raw: field.raw, name });
    }
    Ok(parts)
}

/// The full name of the document that a `Write` is about; empty when it is about none.
fn name_of(write: &[u8]) -> Result<&str, WireError> {
    let mut name = "";
    let mut fields = Fields::of(write);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            // the name is field 1 of an updated document and of a transform alike
            (1 | 6, Value::Bytes(message)) => name = document::head(message).map_or(name, |head| head.name),
            (2, Value::Bytes(deleted)) => name = std::str::from_utf8(deleted).unwrap_or(name),
            _ => {}
        }
    }
    Ok(name)
}

/// The answer to the whole batch: the failures, and what the emulator answered to the rest in their places.
pub(super) fn answer(to_the_rest: Bytes, failures: &[Option<Code>]) -> Result<Bytes, Status> {
    let rest = BatchWriteResponse::decode(to_the_rest)
        .map_err(|error| Status::internal(format!("the upstream's answer is no BatchWriteResponse: {error}")))?;
    let (mut results, mut statuses) = (rest.write_results.into_iter(), rest.status.into_iter());
    let mut whole = BatchWriteResponse::default();
    for failure in failures {
        let (result, status) = match failure {
            None => (results.next(), statuses.next()),
            Some(code) => (None, Some(failed(*code))),
        };
        whole.write_results.push(result.unwrap_or_else(WriteResult::default));
        whole.status.push(status.unwrap_or_default());
    }
    Ok(whole.encode_to_vec().into())
}

fn failed(code: Code) -> rpc::Status {
    rpc::Status { code: code as i32, message: "write failed on demand".to_owned(), details: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gcloud_sdk::google::firestore::v1::{BatchWriteRequest, Document, DocumentTransform, Write, write::Operation};

    fn request() -> BatchWriteRequest {
        let name = |path: &str| format!("projects/p/databases/d/documents/{path}");
        let operations = [
            Operation::Update(Document { name: name("a/1"), ..Document::default() }),
            Operation::Delete(name("a/2")),
            Operation::Transform(DocumentTransform { document: name("a/3"), field_transforms: Vec::new() }),
        ];
        let writes = operations.map(|operation| Write { operation: Some(operation), ..Write::default() }).into();
        BatchWriteRequest { database: "projects/p/databases/d".to_owned(), writes, ..Default::default() }
    }

    #[test]
    fn takes_out_the_writes_that_fail_and_puts_their_answers_in() {
        let bytes = request().encode_to_vec();
        let batch = Batch::read(&bytes).unwrap();
        assert_eq!(batch.paths().collect::<Vec<_>>(), ["a/1", "a/2", "a/3"]);

        let failures = [None, Some(Code::Aborted), None];
        let mut rest = batch.requests(&failures, usize::MAX);
        assert_eq!(rest.len(), 1);
        let rest = BatchWriteRequest::decode(rest.remove(0)).unwrap();
        let mut expected = request();
        expected.writes.remove(1);
        assert_eq!(rest, expected);

        let written = |seconds| WriteResult {
            update_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..WriteResult::default()
        };
        let upstream = BatchWriteResponse {
            write_results: vec![written(1), written(3)],
            status: vec![rpc::Status::default(), rpc::Status::default()],
        };
        let whole = answer(upstream.encode_to_vec().into(), &failures).unwrap();
        let whole = BatchWriteResponse::decode(whole).unwrap();
        assert_eq!(whole.write_results, [written(1), WriteResult::default(), written(3)]);
        assert_eq!(whole.status.iter().map(|status| status.code).collect::<Vec<_>>(), [0, 10, 0]);
    }

    #[test]
    fn nothing_is_left_when_all_fail() {
        let bytes = request().encode_to_vec();
        assert!(Batch::read(&bytes).unwrap().requests(&[Some(Code::Aborted); 3], usize::MAX).is_empty());
    }

    #[test]
    fn a_large_batch_is_cut_into_smaller_ones() {
        let bytes = request().encode_to_vec();
        let batch = Batch::read(&bytes).unwrap();
        let parts: Vec<BatchWriteRequest> =
            batch.requests(&[None; 3], 1).into_iter().map(|part| BatchWriteRequest::decode(part).unwrap()).collect();
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|part| part.database == request().database));
        let writes: Vec<Write> = parts.into_iter().flat_map(|part| part.writes).collect();
        assert_eq!(writes, request().writes);
    }
}
