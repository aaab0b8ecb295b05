//! Versions that events told of. They stand beside the chain of a database and are read by nothing but the history of a document.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use firebackup_codec::object::ObjectType;
use firebackup_model::Timestamp;
use firebackup_model::id::{CaptureId, KeyId};
use firebackup_model::manifest::{FORMAT_VERSION, RunEntry};
use firebackup_model::reported::ReportedManifest;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;

use crate::chain::{MAX_LISTINGS, PARALLEL_READS, capture_id, no_moment};
use crate::compact::Repeated;
use crate::error::{EngineError, Result};
use crate::layout::{self, ReportName};
use crate::merge::Layer;
use crate::repository::Repository;

/// What is reported of a database.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// What is read.
    pub(crate) manifests: Vec<ReportedManifest>,
    /// Manifests in whose place another one is read.
    pub(crate) covered: Vec<Path>,
}

pub(crate) fn name_of(manifest: &ReportedManifest) -> ReportName {
    let ReportedManifest { first, last, level, id, .. } = *manifest;
    ReportName { first, last, level, id }
}

pub(crate) fn path_in(capture: CaptureId, name: &ReportName) -> Result<Path> {
    layout::reported(capture, name).ok_or_else(|| no_moment(name.last))
}

/// Where a manifest of reported versions stands.
pub(crate) fn path_of(repository: &Repository, manifest: &ReportedManifest) -> Result<Path> {
    path_in(capture_id(repository.id(), &manifest.source), &name_of(manifest))
}

/// Their runs as layers, in which the versions of a path come as they were written.
pub(crate) fn reported_layers(manifests: &[ReportedManifest]) -> Vec<Layer> {
    let runs = manifests.iter().flat_map(|manifest| manifest.runs.iter().map(|run| (run, manifest.key)));
    runs.zip(1..).map(|((entry, key), rank)| layer(entry, key, rank)).collect()
}

fn layer(entry: &RunEntry, key: Option<KeyId>, rank: u64) -> Layer {
    let entry = entry.clone();
    Layer {
        entry,
        key,
        rank,
        except: Arc::default(),
        span: None,
        changed_until: None,
        by_update_time: true,
        only: None,
    }
}

/// Of two records of one path and time, told by two events or by one twice, one is left, whichever came first: a document rather
/// than that it is gone, and of two spellings of it the same one always.
pub(crate) const OF_A_TIME: Repeated = Repeated {
    is_one: |record, other| (&record.path, record.update_time) == (&other.path, other.update_time),
    left: |record, other| if record.body >= other.body { record } else { other },
};

impl Repository {
    async fn report(&self, capture: CaptureId, name: ReportName) -> Result<Option<ReportedManifest>> {
        let path = path_in(capture, &name)?;
        let found: Result<Option<(ReportedManifest, _)>> = self.get_sealed(ObjectType::Reported, &path).await;
        let found = found.map_err(|error| {
            error.explained(format!(
                "`{path}` cannot be read, so that it is not known which versions events told of, and nothing was deleted: put the \
                 object back from a copy or an older version, or remove it, which gives up what was reported there"
            ))
        })?;
        let Some((manifest, _)) = found else { return Ok(None) };
        let is_right = name_of(&manifest) == name
            && manifest.format == FORMAT_VERSION
            && capture_id(self.id(), &manifest.source) == capture;
        match is_right {
            true => Ok(Some(manifest)),
            false => {
                Err(EngineError::Refused(format!("`{path}` is the manifest of other versions or of another format")))
            }
        }
    }

    async fn report_names(&self, capture: CaptureId) -> Result<Vec<ReportName>> {
        let metas = self.list(layout::all_reported(capture).as_ref()).await?;
        Ok(metas.iter().filter_map(|meta| layout::reported_of(&meta.location)).map(|(_, name)| name).collect())
    }

    /// The newest name of all.
    pub(crate) async fn newest_report(&self, capture: CaptureId) -> Result<Option<ReportedManifest>> {
        let names = self.report_names(capture).await?;
        match names.iter().max_by_key(|name| (name.last, name.first)) {
            Some(newest) => self.report(capture, *newest).await,
            None => Ok(None),
        }
    }

    /// What is reported of a database and may be of the time from `first` to `last`.
    pub(crate) async fn reported(
        &self,
        capture: CaptureId,
        first: Option<Timestamp>,
        last: Option<Timestamp>,
    ) -> Result<Reported> {
        let is_of_it = |name: &ReportName| {
            first.is_none_or(|first| first <= name.last) && last.is_none_or(|last| name.first <= last)
        };
        for _ in 0..MAX_LISTINGS {
            let mut names = self.report_names(capture).await?;
            names.retain(is_of_it);
            if let Some(reported) = self.read_reports(capture, names).await? {
                return Ok(reported);
            }
        }
        Err(EngineError::Refused(
            "reported versions go faster than they can be read: is a prune running again and again?".to_owned(),
        ))
    }

    /// Reads what was merged most often first, for that says what else need not be read; nothing where something is gone since it
    /// was listed.
    async fn read_reports(&self, capture: CaptureId, mut names: Vec<ReportName>) -> Result<Option<Reported>> {
        names.sort_unstable_by_key(|name| (Reverse(name.level), *name));
        let (mut reported, mut covered) = (Reported::default(), HashSet::new());
        for level in names.chunk_by(|a, b| a.level == b.level) {
            let mut wanted = Vec::new();
            for name in level {
                match covered.contains(&name.id) {
                    true => reported.covered.push(path_in(capture, name)?),
                    false => wanted.push(*name),
                }
            }
            let reads = stream::iter(wanted).map(|name| self.report(capture, name)).buffered(PARALLEL_READS);
            let read: Vec<Option<ReportedManifest>> = reads.try_collect().await?;
            let Some(read) = read.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
            covered.extend(read.iter().flat_map(|manifest| manifest.merged.iter().copied()));
            reported.manifests.extend(read);
        }
        Ok(Some(reported))
    }

    /// What is reported of all databases.
    ///
    /// # Errors
    /// When one manifest cannot be read, or a name is none: it is not known then what it needs.
    pub(crate) async fn all_reported(&self) -> Result<BTreeMap<CaptureId, Reported>> {
        let (captures, strangers) = self.reported_captures().await?;
        if let Some(path) = strangers.first() {
            return Err(stranger(path));
        }
        let mut all = BTreeMap::new();
        for capture in captures {
            all.insert(capture, self.reported(capture, None, None).await?);
        }
        Ok(all)
    }

    /// All manifests of reported versions, of all databases, also those that cannot be read.
    pub(crate) async fn each_report(&self) -> Result<Vec<(Path, Result<Option<ReportedManifest>>)>> {
        let (captures, strangers) = self.reported_captures().await?;
        let mut each: Vec<_> = strangers.into_iter().map(|path| (path.clone(), Err(stranger(&path)))).collect();
        for capture in captures {
            for name in self.report_names(capture).await? {
                each.push((path_in(capture, &name)?, self.report(capture, name).await));
            }
        }
        Ok(each)
    }

    /// Of which databases there are some, and what is named like none.
    async fn reported_captures(&self) -> Result<(BTreeSet<CaptureId>, Vec<Path>)> {
        let (mut captures, mut strangers) = (BTreeSet::new(), Vec::new());
        for meta in self.list("reported").await? {
            match layout::reported_of(&meta.location) {
                Some((capture, _)) => drop(captures.insert(capture)),
                None => strangers.push(meta.location),
            }
        }
        Ok((captures, strangers))
    }
}

fn stranger(path: &Path) -> EngineError {
    EngineError::Refused(format!(
        "`{path}` is no name of reported versions, so that it is not known what it needs: give it the name that it had, or remove it"
    ))
}
