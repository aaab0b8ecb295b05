//! Merges segments into longer ones that are read in their place. All points stay, and so does every version.
//!
//! Eight segments of a level make one of the next, within a day of UTC; when the day is over, what it has left makes one, and
//! eight days make one again. So a chain of any length has at most seven segments of each level, however close its points are.
//! Who merges as [`CompactReport::segments_until_next`] says opens at most [`MAX_FAN_IN`] runs at one time, base included.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use firebackup_codec::object::ObjectType;
use firebackup_codec::sealing::Sealing;
use firebackup_model::manifest::{
    Algorithm, Compression, Counts, FORMAT_VERSION, GroupCounts, Level, RunEntry, RunKind,
};
use firebackup_model::segment::{Proof, SegmentKind, SegmentManifest};
use firebackup_model::{DatabaseName, PathRange, Timestamp};
use serde::Serialize;

use crate::chain::path_of;
use crate::error::{EngineError, Result};
use crate::merge::{Heads, Layer, Span};
use crate::moments::segment_layers;
use crate::objects::Put;
use crate::plan::MAX_JOB_SECONDS;
use crate::read::Record;
use crate::repository::Repository;
use crate::run_upload::{RunSettings, RunUpload};
use crate::world::{Meter, Stop};

/// Segments of a level that make one of the next: a day of two seconds a segment has six levels, and ten years of days have four,
/// so that ten are too many for [`MAX_FAN_IN`].
pub(crate) const TIER: usize = 8;
/// The most runs that are merged at one time.
pub(crate) const MAX_FAN_IN: usize = 64;
/// The level of a day that is over.
const DAY_LEVEL: u32 = 100;
pub(crate) const DAY_SECONDS: i64 = 24 * 3600;
/// Bytes of records after which a run ends.
const RUN_BYTES: u64 = 512 * 1024 * 1024;
pub(crate) const COMPRESSION: Compression = Compression { algorithm: Algorithm::Zstd, level: Level::Fixed(3) };

/// A compaction of the segments of one database that is ready to run.
pub struct Compaction {
    /// The repository.
    pub repository: Repository,
    /// Whose segments.
    pub database: DatabaseName,
    /// Where progress is counted.
    pub meter: Arc<Meter>,
    /// What may ask it to stop, between two merges.
    pub stop: Stop,
}

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CompactReport {
    /// Segments that were made.
    pub made: u64,
    /// Segments in whose place these are read.
    pub merged: u64,
    /// Manifests of reported versions that were merged.
    pub reported: u64,
    /// Segments that the chain consists of now.
    pub segments: u64,
    /// Bytes that were stored.
    pub stored_bytes: u64,
}

impl CompactReport {
    /// How many segments may be put before the next compaction, so that a restore opens no more than 64 runs: those of the
    /// chain, and its base. As many as are merged at least: a chain with a hole has segments besides, which no restore opens.
    #[must_use]
    pub const fn segments_until_next(&self) -> u64 {
        let left = (MAX_FAN_IN as u64 - 1).saturating_sub(self.segments);
        if left < TIER as u64 { TIER as u64 } else { left }
    }
}

impl Compaction {
    /// Merges whatever there is to merge. Can be killed at any time and done again, also by two at once: what is merged
    /// stays until a prune finds that another segment is read in its place.
    ///
    /// # Errors
    /// When the store fails. When a segment is damaged: whatever else there is was merged then.
    pub async fn run(&self) -> Result<CompactReport> {
        let mut segments = self.repository.all_segments(&self.database).await?;
        let mut report = CompactReport::default();
        let (mut broken, mut damage) = (HashSet::new(), None);
        while let Some(range) = next_merge(&segments, &broken)
            && !self.stop.is_requested()
        {
            let merged = match self.merge(&segments[range.clone()]).await {
                Err(error) if error.is_damage() => {
                    broken.extend(segments[range].iter().map(|segment| segment.after));
                    damage.get_or_insert(error);
                    continue;
                }
                merged => merged?,
            };
            let Some(merged) = merged else {
                // another process was faster
                segments = self.repository.all_segments(&self.database).await?;
                continue;
            };
            report.made += 1;
            report.merged += range.len() as u64;
            report.stored_bytes += merged.stored_bytes;
            segments.splice(range, [merged]);
        }
        report.segments = segments.len() as u64;
        self.merge_reported(&mut report).await?;
        damage.map_or(Ok(report), Err)
    }

    async fn merge(&self, segments: &[SegmentManifest]) -> Result<Option<SegmentManifest>> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Err(EngineError::Refused("there is nothing to merge".to_owned()));
        };
        let started = self.repository.world().now();
        let sealing = self.repository.sealing(last.key).await?;
        let everything = Span { after: EARLIEST, until: LATEST };
        let layers: Vec<Layer> = segment_layers(segments, everything).collect();
        let (runs, collections) = self.merge_runs(&layers, &sealing, &OF_A_POINT).await?;
        let points: Vec<Timestamp> = segments.iter().flat_map(|segment| segment.points.iter().copied()).collect();
        let merged = SegmentManifest {
            format: FORMAT_VERSION,
            base: first.base.clone(),
            after: first.after,
            kind: SegmentKind::Compacted,
            level: level_of_merged(segments),
            first_sequence: Some(first.first_sequence()),
            proven_documents: proven_documents(segments),
            gaps: segments.iter().flat_map(|segment| segment.gaps.iter().copied()).collect(),
            proofs: joined(segments.iter().flat_map(|segment| segment.proofs.iter().copied()), &points),
            points,
            stored_bytes: runs.iter().map(|run| run.size).sum(),
            runs,
            totals: Counts::of(&collections),
            collections,
            job: None,
            compression: COMPRESSION,
            reads: segments.iter().map(|segment| segment.reads).sum(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            ..last.clone()
        };
        if !self.is_still_read(segments, started).await? {
            return Ok(None);
        }
        let path = path_of(&self.repository, &merged)?;
        match self.repository.put_sealed(ObjectType::Manifest, &path, &sealing, &merged).await? {
            Put::Stored => Ok(Some(merged)),
            Put::Existed => Ok(None),
        }
    }

    /// Whoever was held up for long must not put what covers segments that others have merged or dropped since.
    async fn is_still_read(&self, segments: &[SegmentManifest], started: Timestamp) -> Result<bool> {
        let now = self.repository.all_segments(&self.database).await?;
        let is_there = |segment: &SegmentManifest| {
            now.iter().any(|one| (one.after, one.end(), one.kind) == (segment.after, segment.end(), segment.kind))
        };
        let took = self.repository.world().now().seconds_since(started);
        Ok(segments.iter().all(is_there) && took < MAX_JOB_SECONDS as f64)
    }

    /// Merges runs into new ones, without what is `repeated`.
    pub(crate) async fn merge_runs(
        &self,
        layers: &[Layer],
        sealing: &Sealing,
        repeated: &Repeated,
    ) -> Result<(Vec<RunEntry>, GroupCounts)> {
        let mut heads = Heads::new(&self.repository, layers, &PathRange::everything(), &self.meter);
        let (mut runs, mut collections) = (Vec::new(), GroupCounts::new());
        let mut next = heads.next().await?;
        while next.is_some() {
            let settings =
                RunSettings::new(self.repository.clone(), sealing.clone(), COMPRESSION, Arc::clone(&self.meter));
            let mut run = RunUpload::start(settings, RunKind::Delta, None)?;
            let mut ends_at = None;
            while let Some((mut record, _)) =
                next.take_if(|(record, _)| ends_at.as_ref().is_none_or(|end| record.path == *end))
            {
                next = heads.next().await?;
                while let Some((later, _)) = next.take_if(|(later, _)| (repeated.is_one)(&record, later)) {
                    record = (repeated.left)(record, later);
                    next = heads.next().await?;
                }
                run.push(&record.as_change()).await?;
                if ends_at.is_none() && run.raw_bytes() >= RUN_BYTES {
                    ends_at = Some(record.path);
                }
            }
            let end = run.finish().await?;
            runs.push(end.entry);
            for (group, counts) in end.collections {
                collections.entry(group).or_default().add(counts);
            }
        }
        Ok((runs, collections))
    }
}

/// Which records that follow one another stand for one, and which of two is left.
pub(crate) struct Repeated {
    pub(crate) is_one: fn(&Record, &Record) -> bool,
    pub(crate) left: fn(Record, Record) -> Record,
}

/// Of two records of one path and point the later one counts.
const OF_A_POINT: Repeated = Repeated {
    is_one: |record, later| (&record.path, record.point) == (&later.path, later.point),
    left: |_, later| later,
};

const EARLIEST: Timestamp = Timestamp::new(i64::MIN, 0);
const LATEST: Timestamp = Timestamp::new(i64::MAX, 999_999_999);

fn day(segment: &SegmentManifest) -> i64 {
    segment.end().seconds.div_euclid(DAY_SECONDS)
}

/// Of what follows one another in one chain, what is to be merged next; nothing of what is known to be broken.
fn next_merge(segments: &[SegmentManifest], broken: &HashSet<Timestamp>) -> Option<std::ops::Range<usize>> {
    let is_broken = |segment: &SegmentManifest| broken.contains(&segment.after);
    let mut start = 0;
    for stretch in segments.chunk_by(|a, b| a.end() == b.after && is_broken(a) == is_broken(b)) {
        if let Some(range) = next_merge_in(stretch).filter(|_| !stretch.first().is_some_and(is_broken)) {
            return Some(start + range.start..start + range.end);
        }
        start += stretch.len();
    }
    None
}

fn next_merge_in(segments: &[SegmentManifest]) -> Option<std::ops::Range<usize>> {
    let today = segments.last().map(day)?;
    let mut start = 0;
    for of_day in segments.chunk_by(|a, b| day(a) == day(b)) {
        if let Some(range) = tier(of_day).or_else(|| whole_day(of_day, today)) {
            return Some(start + range.start..start + range.end);
        }
        start += of_day.len();
    }
    tier_of_days(segments, today)
}

/// The first of one level that follow one another, as many as make one.
fn tier(segments: &[SegmentManifest]) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    for same in segments.chunk_by(|a, b| a.level == b.level) {
        if same.len() >= TIER && same.first().is_some_and(|first| first.level < DAY_LEVEL) {
            return Some(start..start + TIER);
        }
        start += same.len();
    }
    None
}

/// All of a day that is over. There are never too many: each level has less than make one, and levels are few.
fn whole_day(segments: &[SegmentManifest], today: i64) -> Option<std::ops::Range<usize>> {
    let is_over = segments.first().is_some_and(|first| day(first) < today);
    // one that was merged has the name that it would be given again
    let is_one = segments.len() == 1 && segments.first().is_some_and(|first| first.kind == SegmentKind::Compacted);
    (is_over && !is_one).then(|| 0..segments.len().min(MAX_FAN_IN))
}

fn tier_of_days(segments: &[SegmentManifest], today: i64) -> Option<std::ops::Range<usize>> {
    // what a tier has left of a day that is over is that day
    let level = |segment: &SegmentManifest| segment.level.max(if day(segment) < today { DAY_LEVEL } else { 0 });
    let mut start = 0;
    for same in segments.chunk_by(|a, b| level(a) == level(b)) {
        if same.len() >= TIER && same.first().is_some_and(|first| level(first) >= DAY_LEVEL) {
            return Some(start..start + TIER);
        }
        start += same.len();
    }
    None
}

fn level_of_merged(segments: &[SegmentManifest]) -> u32 {
    let are_days = segments.first().map(day) != segments.last().map(day);
    let level = |segment: &SegmentManifest| segment.level.max(if are_days { DAY_LEVEL } else { 0 });
    let highest = segments.iter().map(level).max().unwrap_or_default();
    let is_tier = segments.len() == TIER && segments.iter().all(|segment| level(segment) == highest);
    if is_tier { highest + 1 } else { highest.max(DAY_LEVEL) }
}

/// The counts at the last point that is proven, where that is not the end.
fn proven_documents(segments: &[SegmentManifest]) -> Option<BTreeMap<String, u64>> {
    let end = segments.last()?.end();
    let (through, documents) = segments.iter().rev().find_map(SegmentManifest::anchor)?;
    (through != end).then(|| documents.clone())
}

/// Proofs of which each follows the one before, as one.
fn joined(proofs: impl Iterator<Item = Proof>, points: &[Timestamp]) -> Vec<Proof> {
    let mut joined: Vec<Proof> = Vec::new();
    for proof in proofs {
        let follows = |before: &Proof| {
            let behind = points.partition_point(|point| *point <= before.through);
            points.get(behind).is_some_and(|next| *next == proof.from)
        };
        match joined.last_mut() {
            Some(before) if follows(before) => before.through = proof.through,
            _ => joined.push(proof),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_model::id::{JobId, JobKind};

    fn segment(after: i64, end: i64, level: u32) -> SegmentManifest {
        let points = vec![Timestamp::new(end, 0)];
        SegmentManifest {
            format: 1,
            source: DatabaseName::new("p", "d"),
            base: JobId::new(JobKind::Backup, 0, [0; 10]),
            sequence: 0,
            first_sequence: None,
            proven_documents: None,
            after: Timestamp::new(after, 0),
            kind: SegmentKind::Listened,
            level,
            points,
            gaps: Vec::new(),
            proofs: Vec::new(),
            runs: Vec::new(),
            totals: Counts::default(),
            collections: GroupCounts::new(),
            documents: BTreeMap::new(),
            token: None,
            job: None,
            compression: COMPRESSION,
            key: None,
            stored_bytes: 0,
            reads: 0,
            tool: String::new(),
            finished: Timestamp::default(),
        }
    }

    /// As the real thing merges, without runs.
    fn merge(segments: &mut Vec<SegmentManifest>, range: std::ops::Range<usize>) {
        let (first, last) = (&segments[range.start], &segments[range.end - 1]);
        let level = level_of_merged(&segments[range.clone()]);
        let points = segments[range.clone()].iter().flat_map(|segment| segment.points.clone()).collect();
        let kind = SegmentKind::Compacted;
        let merged = SegmentManifest { after: first.after, kind, level, points, ..last.clone() };
        // what has the name of another is never put
        assert!(range.len() > 1 || last.kind != kind, "{merged:?}");
        segments.splice(range, [merged]);
    }

    /// The longest chain that is merged as often as is asked for, and at least once in ten minutes; and the widest merge.
    fn longest_chain(segment_seconds: i64, days: i64) -> (usize, usize) {
        let (mut segments, mut longest, mut widest) = (Vec::new(), 0, 0);
        let mut due = 0;
        for number in 0..days * DAY_SECONDS / segment_seconds {
            segments.push(segment(number * segment_seconds, (number + 1) * segment_seconds, 0));
            longest = longest.max(segments.len());
            if number < due {
                continue;
            }
            while let Some(range) = next_merge(&segments, &HashSet::new()) {
                widest = widest.max(range.len());
                merge(&mut segments, range);
            }
            let report = CompactReport { segments: segments.len() as u64, ..CompactReport::default() };
            due = number + report.segments_until_next().cast_signed().min(600 / segment_seconds).max(1);
            // to keep the test short
            segments.iter_mut().for_each(|segment| drop(segment.points.drain(..segment.points.len() - 1)));
        }
        assert!(segments.windows(2).all(|pair| pair[0].end() == pair[1].after));
        (longest, widest)
    }

    #[test]
    fn a_chain_stays_short_and_a_merge_narrow_however_close_the_points_are() {
        for (seconds, days) in [(60, 30), (2, 3), (3600, 200), (17, 12), (8640, 4100), (864, 60)] {
            let (longest, widest) = longest_chain(seconds, days);
            assert!(longest < MAX_FAN_IN && widest < MAX_FAN_IN, "{longest} segments, {widest} merged at {seconds} s");
        }
    }

    #[test]
    fn segments_between_which_one_is_missing_are_not_merged() {
        let mut segments: Vec<_> = (0..TIER as i64).map(|number| segment(number, number + 1, 0)).collect();
        assert_eq!(next_merge(&segments, &HashSet::new()), Some(0..TIER));
        segments.remove(4);
        assert_eq!(next_merge(&segments, &HashSet::new()), None);
    }

    #[test]
    fn proofs_that_follow_one_another_are_one() {
        let at = |second| Timestamp::new(second, 0);
        let points: Vec<_> = (1..8).map(at).collect();
        let proof = |from, through| Proof { from: at(from), through: at(through) };
        let proofs = [proof(1, 2), proof(3, 3), proof(5, 6), proof(7, 7)];
        assert_eq!(joined(proofs.into_iter(), &points), [proof(1, 3), proof(5, 7)]);
    }
}
