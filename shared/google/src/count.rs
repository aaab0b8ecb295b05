//! Counts documents by their names, for a server that does not count all collections together.

use firebackup_model::document::RawDocument;
use firebackup_model::error::PortError;
use firebackup_model::path::DocumentPath;
use firebackup_model::port::DocumentStream;
use firebackup_model::range::PathRange;
use firebackup_model::timestamp::Timestamp;
use futures::StreamExt;

use crate::firestore::Firestore;
use crate::query;
use crate::status::Operation;

const COUNT: Operation = Operation::reading("count documents by their names");

impl Firestore {
    /// Counts the names of a range. A stream that breaks is gone on with behind its last name, as long as each tells some: from
    /// the beginning, a large database would never be counted to its end.
    pub(crate) async fn count_names(&self, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        let (mut rest, mut count) = (range.clone(), 0);
        loop {
            let names = self.stream_of(query::names(&self.database, &rest), at).await?;
            let mut last = None;
            let counted = count_all(names, &mut count, &mut last).await;
            match (counted, last) {
                (Ok(()), _) => return Ok(count),
                (Err(error), Some(last)) if error.can_be_retried() => rest = rest.behind(self.path_of(&last)?),
                (Err(error), _) => return Err(error),
            }
        }
    }

    fn path_of(&self, document: &RawDocument) -> Result<DocumentPath, PortError> {
        let head = document.head();
        let head = head.map_err(|source| COUNT.corrupt("the server sent no document").with_source(source))?;
        let path = self.database.path_of(head.name);
        path.map_err(|source| COUNT.corrupt("the server sent a foreign name").with_source(source))
    }
}

async fn count_all(
    mut names: DocumentStream,
    count: &mut u64,
    last: &mut Option<RawDocument>,
) -> Result<(), PortError> {
    while let Some(document) = names.next().await {
        *last = Some(document?);
        *count += 1;
    }
    Ok(())
}
