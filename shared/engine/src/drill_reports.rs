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

impl Repository {
    /// Drills that have begun and not ended.
    pub(crate) async fn drills_begun(&self) -> Result<Vec<DrillBegun>> {
        let mut begun = Vec::new();
        for meta in self.list("drills").await? {
            if meta.location.filename() == Some("begun") {
                begun.extend(self.drill_object(&meta.location).await?.map(|(begun, _)| begun));
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

    /// What the newest drills have found, at most so many, oldest first, and whether each report is by a writer that is believed.
    ///
    /// # Errors
    /// When the store fails. A report that is damaged, or by somebody who is not believed, is passed over with a warning.
    pub async fn drills(&self, most: usize) -> Result<Vec<(DrillReport, ProvenOrigin)>> {
        let newest = self.drill_reports().await?.into_iter().take(most);
        let read = stream::iter(newest).map(|(_, path)| async move { self.drill_object(&path).await });
        let reports: Vec<Option<_>> = read.buffered(PARALLEL).try_collect().await?;
        let mut reports: Vec<(DrillReport, ProvenOrigin)> = reports.into_iter().flatten().collect();
        reports.sort_by_key(|(report, _)| report.started);
        Ok(reports)
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
            let report: Option<(DrillReport, _)> = self.drill_object(&path).await?;
            let newer = newer.entry(report.map(|(report, _)| report.source)).or_default();
            if is_old(&drill) && *newer >= KEPT_DRILLS {
                old.push(path);
            }
            *newer += 1;
        }
        Ok(old)
    }

    async fn drill_object<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<(T, ProvenOrigin)>> {
        match self.get_sealed(ObjectType::Drill, path).await {
            Err(error) if !error.may_pass() && error.is_of_the_object() => {
                tracing::warn!(path = %path, error = %error.in_full(), "what a drill has left cannot be read: passed over");
                Ok(None)
            }
            read => read,
        }
    }
}
