//! Merges reported versions, so that a history opens few runs however many batches came.
//!
//! Eight manifests of a level make one of the next, within the day of their last version; when a day has been over for a day, what it
//! has left makes one. Nobody waits for a merge, and one that happens twice does no harm: a version that stands in two runs is one.

use std::collections::BTreeSet;

use firebackup_model::Timestamp;
use firebackup_model::id::ReportId;
use firebackup_model::manifest::Counts;
use firebackup_model::reported::ReportedManifest;

use crate::chain::capture_id;
use crate::compact::{CompactReport, Compaction, DAY_SECONDS, eight, first_in, together};
use crate::error::Result;
use crate::fold::{commit, id_of, report};
use crate::layout::ReportName;
use crate::objects::Put;
use crate::reported::{OF_A_TIME, name_of, reported_layers};

impl Compaction {
    /// Merges whatever there is to merge of the versions that events told of, so many bytes together at most.
    pub(crate) async fn merge_reported(&self, told: &mut CompactReport, most: u64) -> Result<()> {
        let capture = capture_id(self.repository.id(), &self.database);
        let mut manifests = self.repository.reported(capture, None, None).await?.manifests;
        while let Some(chosen) = next_merge(&mut manifests, self.repository.world().now(), most) {
            let merged = if self.stop.is_requested() { None } else { self.merge_reports(&chosen).await? };
            let Some(merged) = merged else {
                told.is_stopped |= self.stop.is_requested();
                return Ok(());
            };
            told.reported += chosen.len() as u64;
            told.stored_bytes += merged.stored_bytes;
            manifests.push(merged);
        }
        Ok(())
    }

    /// One manifest in the place of several; nothing where another process was faster, or this one was asked to stop.
    async fn merge_reports(&self, parts: &[ReportedManifest]) -> Result<Option<ReportedManifest>> {
        let begun = self.repository.world().now();
        let ids: BTreeSet<ReportId> = parts.iter().map(|part| part.id).collect();
        let id = id_of(ids.iter().map(|id| [id.0]));
        let merged = parts.iter().flat_map(|part| &part.merged).copied().chain(ids).collect();
        let first = parts.iter().map(|part| part.first).min().unwrap_or_default();
        let last = parts.iter().map(|part| part.last).max().unwrap_or_default();
        let name = ReportName { first, last, level: level_of_merged(parts), id };
        // the youngest key: a prune lets it live the longest
        let key = parts.iter().max_by_key(|part| part.finished).and_then(|part| part.key);
        let sealing = self.repository.sealing(key).await?;
        let Some((runs, collections)) = self.merge_runs(&reported_layers(parts), &sealing, &OF_A_TIME).await? else {
            return Ok(None);
        };
        let manifest = ReportedManifest {
            merged,
            stored_bytes: runs.iter().map(|run| run.size).sum(),
            runs,
            totals: Counts::of(&collections),
            collections,
            key: sealing.key_id(),
            ..report(&self.repository, &self.database, name)
        };
        let put = commit(&self.repository, &manifest, &sealing, begun).await?;
        Ok((put == Put::Stored).then_some(manifest))
    }
}

fn day(manifest: &ReportedManifest) -> i64 {
    manifest.last.seconds.div_euclid(DAY_SECONDS)
}

/// Takes out what is to be merged next, if anything is.
fn next_merge(manifests: &mut Vec<ReportedManifest>, now: Timestamp, most: u64) -> Option<Vec<ReportedManifest>> {
    manifests.sort_by_key(|manifest| (day(manifest), manifest.level, name_of(manifest)));
    let today = now.seconds.div_euclid(DAY_SECONDS);
    let range = first_in(manifests.chunk_by(|a, b| day(a) == day(b)), |of_day| {
        let is_over = day(of_day.first()?) + 1 < today;
        let whole = if is_over { together(of_day, most) } else { None };
        whole.or_else(|| first_in(of_day.chunk_by(|a, b| a.level == b.level), |same| eight(same, most)))
    })?;
    Some(manifests.drain(range).collect())
}

fn level_of_merged(parts: &[ReportedManifest]) -> u32 {
    parts.iter().map(|part| part.level).max().unwrap_or_default() + 1
}
