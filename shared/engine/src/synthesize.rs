//! A full backup that reads nothing from Firestore: what a moment is made of, merged into runs of its own.
//!
//! It is an ordinary backup of a database that is the moment: plan, chunks, receipts and proofs are those of any other, and
//! so is going on where a killed one stopped.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use firebackup_model::document::RawDocument;
use firebackup_model::port::{DocumentSource, DocumentStream};
use firebackup_model::{DatabaseName, DocumentPath, ErrorKind, PathRange, PortError, Selection, Timestamp};
use futures::{StreamExt, stream};

use crate::backup::{Backup, BackupBuilder};
use crate::contents::Contents;
use crate::error::{EngineError, Result};
use crate::merge::Layer;
use crate::moments::{Moment, Moments};
use crate::read::RunSource;
use crate::repository::Repository;
use crate::world::Meter;

/// A moment as a database that can be read, at one read time: its own.
pub(crate) struct MomentSource {
    repository: Repository,
    database: DatabaseName,
    point: Timestamp,
    layers: Vec<Layer>,
    meter: Arc<Meter>,
}

/// Sets up a full backup that is merged from what a moment is made of.
///
/// # Errors
/// When the moment cannot be put back, or is a snapshot already.
pub fn synthesize(repository: &Repository, moments: &Moments, moment: &Moment) -> Result<BackupBuilder> {
    if moment.is_base {
        return Err(EngineError::Refused(format!(
            "{} is the moment of the backup {}: there is nothing to merge",
            moment.point, moment.base
        )));
    }
    let layers = moments.layers(moment)?;
    let runs = layers.iter().filter(|layer| layer.span.is_some()).map(|layer| layer.entry.id).collect();
    let (repository, database) = (repository.clone(), moments.database().clone());
    let source =
        MomentSource { repository: repository.clone(), database, point: moment.point, layers, meter: Arc::default() };
    let backup = Backup::builder(repository, Arc::new(source));
    Ok(backup.merged_from(moment.base.clone(), runs).read_time(Some(moment.point)).may_reanchor(false))
}

impl MomentSource {
    fn contents(&self, range: &PathRange) -> Result<Contents> {
        let everything = Selection::default();
        let contents = Contents::of_layers(&self.repository, self.layers.clone(), &everything, &self.meter)?;
        Ok(contents.within(vec![range.clone()]))
    }

    fn check(&self, at: Timestamp) -> Result<(), PortError> {
        if at == self.point {
            return Ok(());
        }
        let text = format!("only what was at {} is known", self.point);
        Err(PortError::new(ErrorKind::InvalidArgument, "read a moment", text))
    }
}

/// A failure of the repository as one of the database that it stands for.
fn failed(error: EngineError) -> PortError {
    match error {
        EngineError::Port(error) => error,
        error => {
            let kind = if error.may_pass() { ErrorKind::Unavailable } else { ErrorKind::Corrupt };
            PortError::new(kind, "read a moment from the repository", error.to_string()).with_source(error)
        }
    }
}

#[async_trait]
impl DocumentSource for MomentSource {
    fn database(&self) -> &DatabaseName {
        &self.database
    }

    async fn snapshot_time(&self) -> Result<Timestamp, PortError> {
        Ok(self.point)
    }

    async fn versions_since(&self) -> Result<Option<Timestamp>, PortError> {
        Ok(None)
    }

    /// Cuts where blocks of the base begin: nothing but footers is read for it.
    async fn split_points(
        &self,
        range: &PathRange,
        wanted: usize,
        at: Timestamp,
    ) -> Result<Vec<DocumentPath>, PortError> {
        self.check(at)?;
        let mut starts = Vec::new();
        for layer in self.layers.iter().filter(|layer| layer.span.is_none()) {
            let run = RunSource::open(&self.repository, layer.key, &layer.entry, &self.meter).await.map_err(failed)?;
            starts
                .extend(run.footer().blocks.iter().map(|block| block.first.clone()).filter(|path| range.covers(path)));
        }
        let step = (starts.len() / (wanted + 1)).max(1);
        Ok(starts.into_iter().step_by(step).skip(1).take(wanted).collect())
    }

    async fn stream(&self, range: &PathRange, at: Timestamp, limit: Option<u32>) -> Result<DocumentStream, PortError> {
        self.check(at)?;
        let contents = self.contents(range).map_err(failed)?;
        let next = |mut contents: Contents| async move {
            let item = contents.next().await.map_err(failed).transpose()?;
            Some((item.map(|item| RawDocument(item.document.unwrap_or_else(Bytes::new))), contents))
        };
        let documents = stream::unfold(contents, next);
        Ok(documents.take(limit.map_or(usize::MAX, |limit| limit as usize)).boxed())
    }

    async fn count(&self, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        let mut documents = self.stream(range, at, None).await?;
        let mut count = 0;
        while let Some(document) = documents.next().await {
            document?;
            count += 1;
        }
        Ok(count)
    }

    async fn get(&self, paths: &[DocumentPath], at: Option<Timestamp>) -> Result<Vec<Option<RawDocument>>, PortError> {
        at.map_or(Ok(()), |at| self.check(at))?;
        let lookup = crate::lookup::Lookup::new(&self.repository, &self.layers, &self.meter);
        let mut found = Vec::with_capacity(paths.len());
        for path in paths {
            found.push(lookup.find(path).await.map_err(failed)?.map(|found| RawDocument(found.document)));
        }
        Ok(found)
    }
}
