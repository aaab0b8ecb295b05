//! Which documents a request writes, as far as the request says.

use bytes::Bytes;
use firebackup_model::document;
use firebackup_model::wire::{Fields, Value, put_bytes_field};
use rand::RngExt;
use rand::distr::Alphanumeric;
use tonic::{Code, Status};

use super::ledger::Name;
use crate::method::Method;
use crate::proxy::batch::Batch;

/// Field numbers of `CreateDocumentRequest`.
const PARENT_FIELD: u32 = 1;
const COLLECTION_FIELD: u32 = 2;
const ID_FIELD: u32 = 3;
/// As long as the ids that Firestore makes up.
const ID_CHARACTERS: usize = 20;

/// The full names of the documents that a request writes; nothing where its method writes none.
pub(super) fn names(method: Method, request: &[u8]) -> Result<Vec<Name>, Status> {
    let names = match method {
        Method::Commit | Method::BatchWrite => Batch::read(request)?.names().map(Name::from).collect(),
        Method::CreateDocument => {
            let [parent, collection, id] = [PARENT_FIELD, COLLECTION_FIELD, ID_FIELD].map(|field| text(request, field));
            vec![format!("{parent}/{collection}/{id}").into()]
        }
        Method::UpdateDocument => bytes(request, 1)
            .and_then(|bytes| document::head(bytes).ok())
            .map_or_else(Vec::new, |head| vec![head.name.into()]),
        Method::DeleteDocument => vec![text(request, 1).into()],
        _ => Vec::new(),
    };
    Ok(names)
}

/// Gives a document that is to be created the id that the server would make up, so that its name is known before it is
/// there.
pub(super) fn with_id(method: Method, request: Bytes) -> Bytes {
    if method != Method::CreateDocument || !text(&request, ID_FIELD).is_empty() {
        return request;
    }
    let id: String = rand::rng().sample_iter(Alphanumeric).take(ID_CHARACTERS).map(char::from).collect();
    let mut request = request.to_vec();
    put_bytes_field(&mut request, ID_FIELD, id.as_bytes());
    request.into()
}

/// Whether an answer of this code says that nothing was written.
pub(super) const fn is_certain(code: Code) -> bool {
    !matches!(
        code,
        Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The last value of a field, as in protobuf.
fn bytes(message: &[u8], number: u32) -> Option<&[u8]> {
    let mut fields = Fields::of(message);
    let mut last = None;
    while let Ok(Some(field)) = fields.next() {
        if let Value::Bytes(bytes) = field.value
            && field.number == number
        {
            last = Some(bytes);
        }
    }
    last
}

fn text(message: &[u8], number: u32) -> &str {
    bytes(message, number).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gcloud_sdk::google::firestore::v1::{
        CommitRequest, CreateDocumentRequest, DeleteDocumentRequest, Document, GetDocumentRequest,
        UpdateDocumentRequest, Write, write::Operation,
    };
    use prost::Message;

    const NAME: &str = "projects/p/databases/d/documents/a/b";

    fn names_of(method: Method, request: &impl Message) -> Vec<String> {
        let names = names(method, &request.encode_to_vec()).unwrap();
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_writing_method_names_its_documents() {
        let document = Document { name: NAME.to_owned(), ..Document::default() };
        let update = UpdateDocumentRequest { document: Some(document.clone()), ..Default::default() };
        assert_eq!(names_of(Method::UpdateDocument, &update), [NAME]);
        let delete = DeleteDocumentRequest { name: NAME.to_owned(), ..Default::default() };
        assert_eq!(names_of(Method::DeleteDocument, &delete), [NAME]);
        let operations = [Operation::Update(document), Operation::Delete(format!("{NAME}c"))];
        let writes = operations.map(|operation| Write { operation: Some(operation), ..Write::default() }).into();
        let commit = CommitRequest { writes, transaction: vec![1], ..Default::default() };
        assert_eq!(names_of(Method::Commit, &commit), [NAME.to_owned(), format!("{NAME}c")]);
        let get = GetDocumentRequest { name: NAME.to_owned(), ..Default::default() };
        assert!(names_of(Method::GetDocument, &get).is_empty());
    }

    #[test]
    fn a_document_to_create_has_a_name_before_it_is_there() {
        let parent = "projects/p/databases/d/documents/a/b".to_owned();
        let mut create = CreateDocumentRequest { parent, collection_id: "c".to_owned(), ..Default::default() };
        let request = with_id(Method::CreateDocument, create.encode_to_vec().into());
        let decoded = CreateDocumentRequest::decode(request.clone()).unwrap();
        assert_eq!(decoded.document_id.len(), ID_CHARACTERS);
        let expected = format!("{NAME}/c/{}", decoded.document_id);
        assert_eq!(names(Method::CreateDocument, &request).unwrap()[0].as_ref(), expected);

        create.document_id = "mine".to_owned();
        let request: Bytes = create.encode_to_vec().into();
        assert_eq!(with_id(Method::CreateDocument, request.clone()), request);
    }
}
