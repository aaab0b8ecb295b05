//! A full backup that reads nothing from Firestore: what a moment is made of, merged into runs of its own.
//!
//! It is an ordinary backup of a database that is the moment: plan, chunks, receipts and proofs are those of any other, and
//! so is going on where a killed one stopped.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use firebackup_model::document::RawDocument;
use firebackup_model::id::SnapshotId;
use firebackup_model::job::Plan;
use firebackup_model::manifest::Consistency;
use firebackup_model::port::{DocumentSource, DocumentStream};
use firebackup_model::{DatabaseName, DocumentPath, ErrorKind, PathRange, PortError, Selection, Timestamp};
use futures::{StreamExt, stream};

use crate::backup::{Backup, BackupBuilder, Basis};
use crate::contents::Contents;
use crate::error::{EngineError, Result};
use crate::incremental::captured_moments;
use crate::merge::Layer;
use crate::moments::{Moment, Moments, QUIET_SECONDS};
use crate::read::RunSource;
use crate::repository::Repository;
use crate::world::Meter;

/// A moment as a database that can be read, at one read time: its own.
pub(crate) struct MomentSource {
    repository: Repository,
    database: DatabaseName,
    /// Nothing where the moment is not chosen yet: then nothing can be read.
    point: Option<Timestamp>,
    layers: Vec<Layer>,
    meter: Arc<Meter>,
}

/// Sets up a full backup that is merged from what a moment is made of.
///
/// # Errors
/// When the moment cannot be put back, or is a snapshot already.
pub fn synthesize(repository: &Repository, moments: &Moments, moment: &Moment) -> Result<BackupBuilder> {
    if moment.is_base {
        return Err(nothing_to_merge(moment));
    }
    merged(merging(repository, moments.database()), moments, moment)
}

/// Sets up a full backup that is merged from the newest moment that there is when it is planned, in steps
/// ([`BackupBuilder::steps`]).
#[must_use]
pub fn merging(repository: &Repository, database: &DatabaseName) -> BackupBuilder {
    let source = MomentSource::of(repository, database, None, Vec::new());
    let mut backup = Backup::builder(repository.clone(), Arc::new(source));
    backup.basis = Basis::Moment;
    backup
}

/// When the backup was read on top of which changes are captured; nothing where no change of the newest moment would be merged.
///
/// # Errors
/// When the store fails, or there is no backup.
pub async fn captured_since(repository: &Repository, database: &DatabaseName) -> Result<Option<Timestamp>> {
    let (moment, read) = Moments::read(repository, database).await?.newest()?;
    Ok((!moment.is_base).then_some(read))
}

/// Merges the newest moment. Where that is a backup it is merged alone, if nothing can have changed since: a copy, which
/// outlives what it was made of.
pub(crate) async fn merged_from_newest(backup: BackupBuilder) -> Result<BackupBuilder> {
    let moments = Moments::read(&backup.repository, backup.source.database()).await?;
    let (moment, _) = moments.newest()?;
    if moment.is_base && backup.repository.world().now().seconds_since(moment.point) > QUIET_SECONDS {
        return Err(nothing_to_merge(&moment));
    }
    merged(backup, &moments, &moment)
}

/// Merges the moment that a plan names. Segments may have been merged since: what is known of the moment is the same.
pub(crate) async fn merged_as_planned(backup: BackupBuilder, plan: &Plan, base: &SnapshotId) -> Result<BackupBuilder> {
    let (manifest, _) = backup.repository.manifest(base).await?;
    let is_base = manifest.consistency == Consistency::Snapshot && manifest.read_time() == Some(plan.read_time);
    let moments = captured_moments(&backup.repository, &plan.source, vec![manifest]).await?;
    merged(backup, &moments, &Moment { point: plan.read_time, base: base.clone(), is_base })
}

fn merged(backup: BackupBuilder, moments: &Moments, moment: &Moment) -> Result<BackupBuilder> {
    let layers = moments.layers(moment)?;
    let backup = backup.merged_from(moment.base.clone(), &layers);
    let source = MomentSource::new(&backup.repository, moments.database(), moment.point, layers);
    Ok(backup.reading(Arc::new(source), moment.point))
}

fn nothing_to_merge(moment: &Moment) -> EngineError {
    EngineError::Refused(format!(
        "{} is the moment of the backup {}: there is nothing to merge",
        moment.point, moment.base
    ))
}

impl MomentSource {
    pub(crate) fn new(repository: &Repository, database: &DatabaseName, point: Timestamp, layers: Vec<Layer>) -> Self {
        Self::of(repository, database, Some(point), layers)
    }

    fn of(repository: &Repository, database: &DatabaseName, point: Option<Timestamp>, layers: Vec<Layer>) -> Self {
        let (repository, database) = (repository.clone(), database.clone());
        Self { repository, database, point, layers, meter: Arc::default() }
    }

    fn contents(&self, range: &PathRange) -> Result<Contents> {
        let everything = Selection::default();
        let contents = Contents::of_layers(&self.repository, self.layers.clone(), &everything, &self.meter)?;
        Ok(contents.within(vec![range.clone()]))
    }

    fn check(&self, at: Timestamp) -> Result<(), PortError> {
        if self.point == Some(at) {
            return Ok(());
        }
        let text = self.point.map_or_else(not_chosen, |point| format!("only what was at {point} is known"));
        Err(PortError::new(ErrorKind::InvalidArgument, "read a moment", text))
    }

    /// Where its chunks may begin: at blocks of the base, or where there is none of the captured changes.
    fn cut_layers(&self) -> Vec<&Layer> {
        let base: Vec<&Layer> = self.layers.iter().filter(|layer| layer.span.is_none()).collect();
        if base.is_empty() { self.layers.iter().collect() } else { base }
    }
}

fn not_chosen() -> String {
    "which moment is merged is found by the steps of a backup, or by `synthesize`".to_owned()
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
        self.point.ok_or_else(|| PortError::new(ErrorKind::InvalidArgument, "read a moment", not_chosen()))
    }

    async fn versions_since(&self) -> Result<Option<Timestamp>, PortError> {
        Ok(None)
    }

    /// Cuts where blocks begin: nothing but footers is read for it.
    async fn split_points(
        &self,
        range: &PathRange,
        wanted: usize,
        at: Timestamp,
    ) -> Result<Vec<DocumentPath>, PortError> {
        self.check(at)?;
        let mut starts = Vec::new();
        for layer in self.cut_layers() {
            let run = RunSource::open(&self.repository, layer.key, &layer.entry, &self.meter).await.map_err(failed)?;
            starts
                .extend(run.footer().blocks.iter().map(|block| block.first.clone()).filter(|path| range.covers(path)));
        }
        starts.sort_unstable();
        starts.dedup();
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

    /// About how many, and no fewer: whoever counts what a merge comes to reads all of it.
    async fn count(&self, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.check(at)?;
        let touched = self.layers.iter().filter(|layer| layer.may_lie_in(range));
        Ok(touched.map(|layer| layer.entry.records).sum())
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
