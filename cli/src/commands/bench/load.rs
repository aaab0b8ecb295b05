//! What is written again and again: sample documents, and the same ones changed, in batches that are ready to send.

use bytes::Bytes;
use firebackup_google::sample::sample;
use firebackup_model::document::FIELDS_FIELD;
use firebackup_model::port::{MAX_BATCH_WRITES, Precondition, Write};
use firebackup_model::wire::put_bytes_field;
use firebackup_model::{DatabaseName, DocumentPath};

const SEED: u64 = 1;

/// Batches of as many writes as Firestore takes, in path order as a restore sends them.
pub(super) struct Load {
    /// The documents.
    pub(super) documents: Vec<Vec<Write>>,
    /// Others at the same paths: what a restore in place has to replace.
    pub(super) changed: Vec<Vec<Write>>,
    /// Bytes of the documents' protobuf messages.
    pub(super) bytes: u64,
}

impl Load {
    /// `count` documents of about 1 KB for `database`.
    pub(super) fn new(database: &DatabaseName, count: u64) -> Self {
        let mut documents: Vec<_> = sample(database, usize::try_from(count).unwrap_or(usize::MAX), SEED).collect();
        documents.sort_by(|a, b| a.0.cmp(&b.0));
        Self {
            bytes: documents.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
            changed: batches(documents.iter().map(|(path, bytes)| (path.clone(), changed(bytes)))),
            documents: batches(documents.into_iter()),
        }
    }

    /// Where the documents are.
    pub(super) fn paths(&self) -> impl Iterator<Item = &DocumentPath> + Send {
        self.documents.iter().flatten().map(|write| &write.path)
    }
}

fn batches(documents: impl Iterator<Item = (DocumentPath, Bytes)>) -> Vec<Vec<Write>> {
    let write = |(path, bytes)| Write { path, document: Some(bytes), precondition: Precondition::None };
    let writes: Vec<Write> = documents.map(write).collect();
    writes.chunks(MAX_BATCH_WRITES).map(<[Write]>::to_vec).collect()
}

/// The document with one more field.
fn changed(document: &Bytes) -> Bytes {
    /// `Value { boolean_value: true }`.
    const TRUE: [u8; 2] = [0x08, 1];
    let mut entry = Vec::new();
    put_bytes_field(&mut entry, 1, b"changed");
    put_bytes_field(&mut entry, 2, &TRUE);
    let mut out = document.to_vec();
    put_bytes_field(&mut out, FIELDS_FIELD, &entry);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_codec::canonical::{Names, same_content};
    use firebackup_codec::typed_json::write_json;
    use firebackup_model::document::head;

    #[test]
    fn a_changed_document_has_its_name_and_one_more_field() {
        let load = Load::new(&DatabaseName::new("p", "(default)"), 1100);
        let (documents, changed) = (load.documents.concat(), load.changed.concat());
        assert_eq!((documents.len(), changed.len()), (1100, 1100));
        assert_eq!(load.documents.iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 100]);
        assert!(documents.is_sorted_by(|a, b| a.path < b.path));
        for (before, after) in documents.iter().zip(&changed) {
            let (before, after) = (before.document.as_ref().unwrap(), after.document.as_ref().unwrap());
            assert_eq!(head(before).unwrap().name, head(after).unwrap().name);
            assert!(!same_content(before, after, Names::Compare).unwrap());
        }
        let mut json = Vec::new();
        write_json(changed[0].document.as_ref().unwrap(), &mut json).unwrap();
        assert!(String::from_utf8(json).unwrap().contains(r#""changed":{"booleanValue":true}"#));
    }
}
