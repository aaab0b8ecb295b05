//! What drills have left in a repository: what they found, and that they have begun; and for how long that is kept.

use std::collections::HashMap;

use firebackup_codec::object::ObjectType;
use firebackup_model::drill::{DrillBegun, DrillReport};
use firebackup_model::id::{JobId, JobKind, SnapshotId};
use firebackup_model::manifest::FORMAT_VERSION;
use firebackup_model::{DatabaseName, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use serde::de::DeserializeOwned;

use crate::error::{EngineError, Result};
use crate::layout;
use crate::repository::{ProvenOrigin, Repository};

/// The most reports that are read at one time of asking, the newest.
pub const MOST_DRILLS: usize = 1000;
/// For how many days every report is kept.
pub const KEPT_DRILL_DAYS: i64 = 400;
/// How many reports of each database are kept, however old.
pub const KEPT_DRILLS: usize = 100;
/// Reports read at one time.
const PARALLEL: usize = 16;

/// What drills have found, as far as it can be read.
#[derive(Debug, Default)]
pub struct KeptDrills {
    /// Reports, oldest first, and whether each is by a writer that is believed.
    pub reports: Vec<(DrillReport, ProvenOrigin)>,
    /// Reports that cannot be read, newest first: damaged, not opened by the keys, or by somebody who is not believed.
    pub unreadable: Vec<UnreadableDrill>,
}

/// A report that cannot be read. Of which backup it is nobody knows then, for its name does not say it.
#[derive(Debug)]
pub struct UnreadableDrill {
    /// The drill.
    pub id: JobId,
    /// The object.
    pub path: String,
    /// Why.
    pub error: EngineError,
}

impl UnreadableDrill {
    /// When the drill began, as its name says.
    #[must_use]
    pub fn begun(&self) -> Timestamp {
        Timestamp::from_millis(self.id.millis().cast_signed())
    }
}

impl KeptDrills {
    /// When each backup has passed its last drill. One whose last drill failed has passed none.
    ///
    /// A report that cannot be read may be of any backup, and may say that it failed: so no drill counts that did not begin
    /// after it. Neither does one whose report anybody may have written.
    #[must_use]
    pub fn restored(&self) -> HashMap<SnapshotId, Timestamp> {
        let unknown = self.unreadable.iter().map(|drill| drill.id.millis()).max();
        let mut restored = HashMap::new();
        for (report, origin) in &self.reports {
            let is_known = unknown.is_none_or(|unknown| report.id.millis() > unknown);
            match is_known && report.has_passed() && matches!(origin, ProvenOrigin::Proven(_)) {
                true => restored.insert(report.snapshot.clone(), report.finished),
                false => restored.remove(&report.snapshot),
            };
        }
        restored
    }

    /// When the last drill of each backup failed, of those whose last one did. Nothing is believed less of a backup for it than
    /// [`Self::restored`] has it: so a report counts here whoever wrote it.
    #[must_use]
    pub fn failed(&self) -> HashMap<SnapshotId, Timestamp> {
        let mut failed = HashMap::new();
        for (report, _) in &self.reports {
            match report.has_passed() {
                true => failed.remove(&report.snapshot),
                false => failed.insert(report.snapshot.clone(), report.finished),
            };
        }
        failed
    }
}

impl Repository {
    /// Drills that have begun and not ended.
    pub(crate) async fn drills_begun(&self) -> Result<Vec<DrillBegun>> {
        let mut begun = Vec::new();
        for meta in self.list("drills").await? {
            if meta.location.filename() == Some("begun") {
                begun.extend(self.readable::<DrillBegun>(&meta.location).await?);
            }
        }
        Ok(begun)
    }

    pub(crate) async fn keep_drill(&self, report: &DrillReport) -> Result<()> {
        let path = layout::drill_report(&report.id);
        self.put_sealed(ObjectType::Drill, &path, &self.root_sealing(), report).await.map(drop)
    }

    /// Keeps a report of a backup of which not even the manifest can be read, so that nothing could be restored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn report_unreadable(
        &self,
        snapshot: &SnapshotId,
        source: DatabaseName,
        scratch: DatabaseName,
        error: &EngineError,
    ) -> Result<DrillReport> {
        let (world, now) = (self.world(), self.world().now());
        let report = DrillReport {
            format: FORMAT_VERSION,
            id: world.job_id(JobKind::Drill),
            source,
            snapshot: snapshot.clone(),
            scratch,
            is_whole: false,
            seed: 0,
            moments_wanted: 0,
            exercises: Vec::new(),
            users: None,
            failure: Some(error.in_full()),
            bytes: 0,
            started: now,
            finished: now,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.keep_drill(&report).await?;
        Ok(report)
    }

    /// What the newest drills have found, at most so many.
    ///
    /// # Errors
    /// When the store fails. A report that cannot be read is no error.
    pub async fn drills(&self, most: usize) -> Result<KeptDrills> {
        let newest = self.drill_reports().await?.into_iter().take(most);
        let reads = stream::iter(newest).map(|(id, path)| async move {
            let read = self.drill_object::<DrillReport>(&path).await?;
            Ok::<_, EngineError>((id, path, read))
        });
        let reads: Vec<_> = reads.buffered(PARALLEL).try_collect().await?;
        let mut kept = KeptDrills::default();
        for (id, path, read) in reads {
            match read {
                // a prune dropped it since it was listed
                Ok(None) => {}
                Ok(Some(report)) => kept.reports.push(report),
                Err(error) => kept.unreadable.push(UnreadableDrill { id, path: path.to_string(), error }),
            }
        }
        kept.reports.sort_by_key(|(report, _)| report.started);
        Ok(kept)
    }

    /// Where reports lie, and of which drill each is, newest first.
    async fn drill_reports(&self) -> Result<Vec<(JobId, Path)>> {
        let is_report = |path: &Path| path.filename() == Some("report");
        let paths = self.list("drills").await?.into_iter().map(|meta| meta.location).filter(is_report);
        let mut reports: Vec<_> = paths.filter_map(|path| Some((layout::job_of(&path)?, path))).collect();
        reports.sort_by_key(|(report, _)| std::cmp::Reverse(report.millis()));
        Ok(reports)
    }

    /// Reports that are kept no longer. Nothing is read as long as none is old.
    pub(crate) async fn old_drills(&self, now: Timestamp) -> Result<Vec<Path>> {
        let reports = self.drill_reports().await?;
        let since = now.plus_seconds(-KEPT_DRILL_DAYS * 86_400).millis();
        let is_old = |drill: &JobId| drill.millis().cast_signed() < since;
        let mut old = Vec::new();
        if !reports.last().is_some_and(|(drill, _)| is_old(drill)) {
            return Ok(old);
        }
        let mut newer: HashMap<Option<DatabaseName>, usize> = HashMap::new();
        for (drill, path) in reports {
            let report = self.readable::<DrillReport>(&path).await?;
            let newer = newer.entry(report.map(|report| report.source)).or_default();
            if is_old(&drill) && *newer >= KEPT_DRILLS {
                old.push(path);
            }
            *newer += 1;
        }
        Ok(old)
    }

    /// What a drill has left, where nothing is built on what cannot be read.
    async fn readable<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        match self.drill_object::<T>(path).await? {
            Ok(found) => Ok(found.map(|(value, _)| value)),
            Err(error) => {
                tracing::warn!(path = %path, error = %error.in_full(), "what a drill has left cannot be read: passed over");
                Ok(None)
            }
        }
    }

    /// What a drill has left, or why that cannot be read; nothing where it is gone.
    async fn drill_object<T: DeserializeOwned>(&self, path: &Path) -> Result<Result<Option<(T, ProvenOrigin)>>> {
        match self.get_sealed(ObjectType::Drill, path).await {
            Err(error) if !error.may_pass() && error.is_of_the_object() => Ok(Err(error)),
            read => read.map(Ok),
        }
    }
}
