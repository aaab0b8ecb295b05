//! Merges segments into longer ones that are read in their place. All points stay, and so does every version.
//!
//! Eight segments of a level make one of the next, within a day of UTC; when the day is over, what it has left makes one, and
//! eight days make one again. So a chain of any length has at most seven segments of each level, however close its points are.
//! Who merges as [`CompactReport::segments_until_next`] says opens at most [`MAX_FAN_IN`] runs at one time, base included.
//!
//! That holds as long as no more than [`MERGED_BYTES`] would have to be merged together: what is larger stays apart, and what lies
//! beside it is merged all the same. Up to 5 GiB of changes a day that is every day, up to 640 MiB every eight days; a chain of
//! more is longer (`docs/adr/0013-merged-segments.md` has the numbers).

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use firebackup_codec::object::ObjectType;
use firebackup_codec::sealing::Sealing;
use firebackup_model::manifest::{
    Algorithm, Compression, Counts, FORMAT_VERSION, GroupCounts, Level, RunEntry, RunKind,
};
use firebackup_model::reported::ReportedManifest;
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
const TIER: usize = 8;
/// The most runs that are merged at one time.
const MAX_FAN_IN: usize = 64;
/// The level of a day that is over.
const DAY_LEVEL: u32 = 100;
pub(crate) const DAY_SECONDS: i64 = 24 * 3600;
/// Bytes of records after which a run ends, where the path changes.
const RUN_BYTES: u64 = 512 * 1024 * 1024;
/// Bytes of records, before compression, that are merged together at most. All of them may be versions of one document, and then
/// stand in one run: 5,121 blocks of 1 MiB at least, of 65,536 that there may be, in 641 parts of 10,000. The index of that run names
/// two paths a block, which are 60 of its 64 MiB where the path is as long as it may be. And a function must be done in 14 minutes.
const MERGED_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// Points that are merged together at most: a manifest names each of them in 33 bytes, and may have 64 MiB. A point a second for eleven
/// days.
const MERGED_POINTS: usize = 1_000_000;
/// Bytes of records, before compression, that are small enough to be merged together where there was not the time for more: a
/// twentieth of [`MERGED_BYTES`]. A function does that in its 14 minutes at 0.3 MiB a second, and in five at 0.9; with less than
/// that it could hardly seal what it captures.
const SMALL_BYTES: u64 = 256 * 1024 * 1024;
pub(crate) const COMPRESSION: Compression = Compression { algorithm: Algorithm::Zstd, level: Level::Fixed(3) };

/// A compaction of the segments of one database that is ready to run.
pub struct Compaction {
    /// The repository.
    pub repository: Repository,
    /// Whose segments.
    pub database: DatabaseName,
    /// Where progress is counted.
    pub meter: Arc<Meter>,
    /// What may ask it to stop. A merge that goes on then leaves at most runs that nothing refers to, for a prune to find.
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
    /// Whether it was asked to stop while there was more to merge.
    pub is_stopped: bool,
}

impl CompactReport {
    /// How many segments may be put before the next compaction, so that a restore opens no more than 64 runs: those of the
    /// chain, and its base. As many as are merged at least: a chain with a hole has segments besides, which no restore opens, and
    /// one of very many changes more than may be merged.
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
        self.run_within(MERGED_BYTES).await
    }

    /// The same with another bound of what is merged together, in bytes of records before compression. Two at once must have the
    /// same one: what they choose would overlap.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_within(&self, most: u64) -> Result<CompactReport> {
        self.run_resting(most, most).await
    }

    /// The same for whoever has not the time for what is large: of what [`run`](Self::run) would merge that alone which is small.
    /// So what both choose never overlaps, and a later `run` comes to what it would have come to without this one. What is reported
    /// rests.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_small(&self) -> Result<CompactReport> {
        self.run_small_up_to(SMALL_BYTES).await
    }

    /// The same with another bound of what is small, in bytes of records before compression.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_small_up_to(&self, small: u64) -> Result<CompactReport> {
        self.run_resting(MERGED_BYTES, small).await
    }

    /// Merges no more than `most` bytes together, and of these merges none of more than `small`.
    async fn run_resting(&self, most: u64, small: u64) -> Result<CompactReport> {
        let mut segments = self.repository.all_segments(&self.database).await?;
        let mut left = segments.len();
        let mut report = CompactReport::default();
        let (mut broken, mut damage) = (HashSet::new(), None);
        while let Some(range) = next_small_merge(&mut segments, &broken, most, small) {
            if self.stop.is_requested() {
                report.is_stopped = true;
                break;
            }
            let merged = match self.merge(&segments[range.clone()]).await {
                Err(error) if error.is_damage() => {
                    broken.extend(segments[range].iter().map(|segment| segment.after));
                    damage.get_or_insert(error);
                    continue;
                }
                merged => merged?,
            };
            let Some(merged) = merged else {
                // another process was faster, or this one is to stop
                segments = self.repository.all_segments(&self.database).await?;
                left = segments.len();
                continue;
            };
            report.made += 1;
            report.merged += range.len() as u64;
            report.stored_bytes += merged.stored_bytes;
            left -= range.len() - 1;
            segments.splice(range, [merged]);
        }
        report.segments = left as u64;
        if small >= most {
            // what is reported is chosen in another way, which a smaller bound would change
            self.merge_reported(&mut report, most).await?;
        }
        damage.map_or(Ok(report), Err)
    }

    /// One segment in the place of several; nothing where another process was faster, or this one was asked to stop.
    async fn merge(&self, segments: &[SegmentManifest]) -> Result<Option<SegmentManifest>> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Err(EngineError::Refused("there is nothing to merge".to_owned()));
        };
        let started = self.repository.world().now();
        let sealing = self.repository.sealing(last.key).await?;
        let everything = Span { after: EARLIEST, until: LATEST };
        let layers: Vec<Layer> = segment_layers(segments, everything).collect();
        let Some((runs, collections)) = self.merge_runs(&layers, &sealing, &OF_A_POINT).await? else {
            return Ok(None);
        };
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

    /// Merges runs into new ones, without what is `repeated`; nothing where it was asked to stop.
    pub(crate) async fn merge_runs(
        &self,
        layers: &[Layer],
        sealing: &Sealing,
        repeated: &Repeated,
    ) -> Result<Option<(Vec<RunEntry>, GroupCounts)>> {
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
                // a run that is dropped before its last block is given up by who uploads it
                if self.stop.is_requested() {
                    return Ok(None);
                }
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
        Ok(Some((runs, collections)))
    }
}

/// What is merged has runs.
pub(crate) trait OfRuns {
    fn runs(&self) -> &[RunEntry];

    /// How many points its manifest names.
    fn points(&self) -> usize {
        0
    }
}

impl OfRuns for SegmentManifest {
    fn runs(&self) -> &[RunEntry] {
        &self.runs
    }

    fn points(&self) -> usize {
        self.points.len()
    }
}

impl OfRuns for ReportedManifest {
    fn runs(&self) -> &[RunEntry] {
        &self.runs
    }
}

fn raw_bytes<T: OfRuns>(one: &T) -> u64 {
    one.runs().iter().map(|run| run.raw_bytes).fold(0, u64::saturating_add)
}

fn raw_bytes_of<T: OfRuns>(all: &[T]) -> u64 {
    all.iter().map(raw_bytes).fold(0, u64::saturating_add)
}

fn points_of<T: OfRuns>(all: &[T]) -> usize {
    all.iter().map(OfRuns::points).sum()
}

/// The first eight that follow one another and may be merged together.
pub(crate) fn eight<T: OfRuns>(same: &[T], most: u64) -> Option<Range<usize>> {
    let fits = |eight: &[T]| raw_bytes_of(eight) <= most && points_of(eight) <= MERGED_POINTS;
    let start = same.windows(TIER).position(fits)?;
    Some(start..start + TIER)
}

/// The first two or more that follow one another and may be merged together, as many as may be.
pub(crate) fn together<T: OfRuns>(all: &[T], most: u64) -> Option<Range<usize>> {
    (0..all.len()).find_map(|start| {
        let sums = all[start..].iter().scan((0_u64, 0), |(bytes, points), one| {
            (*bytes, *points) = (bytes.saturating_add(raw_bytes(one)), *points + one.points());
            Some((*bytes, *points))
        });
        let fits = |(bytes, points): &(u64, usize)| *bytes <= most && *points <= MERGED_POINTS;
        let fitting = sums.take(MAX_FAN_IN).take_while(fits).count();
        (fitting > 1).then_some(start..start + fitting)
    })
}

/// The first that is found in one of several parts that follow one another.
pub(crate) fn first_in<'p, T: 'p>(
    mut parts: impl Iterator<Item = &'p [T]>,
    find: impl Fn(&'p [T]) -> Option<Range<usize>>,
) -> Option<Range<usize>> {
    let mut start = 0;
    parts.find_map(|part| {
        let found = find(part).map(|range| start + range.start..start + range.end);
        start += part.len();
        found
    })
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

/// What is to be merged next that is small. In the place of what is larger something stands from then on that was not made:
/// whatever is chosen with it is larger still, and all else is chosen as if it had been made.
fn next_small_merge(
    segments: &mut Vec<SegmentManifest>,
    broken: &HashSet<Timestamp>,
    most: u64,
    small: u64,
) -> Option<Range<usize>> {
    loop {
        let range = next_merge(segments, broken, most)?;
        let chosen = &segments[range.clone()];
        if raw_bytes_of(chosen) <= small {
            return Some(range);
        }
        let stands = stand_in(chosen)?;
        segments.splice(range, [stands]);
    }
}

/// What these would be merged into, as far as it says what is merged next.
fn stand_in(segments: &[SegmentManifest]) -> Option<SegmentManifest> {
    let (first, last) = (segments.first()?, segments.last()?);
    let runs = segments.iter().flat_map(|segment| segment.runs.iter().cloned()).collect();
    let points = segments.iter().flat_map(|segment| segment.points.iter().copied()).collect();
    let (kind, level) = (SegmentKind::Compacted, level_of_merged(segments));
    Some(SegmentManifest { after: first.after, kind, level, runs, points, ..last.clone() })
}

/// Of what follows one another in one chain, what is to be merged next; nothing of what is known to be broken.
fn next_merge(segments: &[SegmentManifest], broken: &HashSet<Timestamp>, most: u64) -> Option<Range<usize>> {
    let is_broken = |segment: &SegmentManifest| broken.contains(&segment.after);
    let stretches = segments.chunk_by(|a, b| a.end() == b.after && is_broken(a) == is_broken(b));
    first_in(
        stretches,
        |stretch| {
            if stretch.first().is_some_and(is_broken) { None } else { next_merge_in(stretch, most) }
        },
    )
}

/// What is small comes first: a merge for which there is not the time must not keep the others from being done.
fn next_merge_in(segments: &[SegmentManifest], most: u64) -> Option<Range<usize>> {
    let today = segments.last().map(day)?;
    let days = || segments.chunk_by(|a, b| day(a) == day(b));
    first_in(days(), |of_day| tier(of_day, most))
        .or_else(|| first_in(days(), |of_day| whole_day(of_day, today, most)))
        .or_else(|| tier_of_days(segments, today, most))
}

/// The first of one level that follow one another, as many as make one.
fn tier(segments: &[SegmentManifest], most: u64) -> Option<Range<usize>> {
    first_in(segments.chunk_by(|a, b| a.level == b.level), |same| {
        if same.first()?.level < DAY_LEVEL { eight(same, most) } else { None }
    })
}

/// All of a day that is over, or of one of very many changes what may be merged together. Otherwise there are never too many: each
/// level has less than make one, and levels are few.
fn whole_day(segments: &[SegmentManifest], today: i64, most: u64) -> Option<Range<usize>> {
    match segments {
        [first, ..] if day(first) >= today => None,
        // one that was merged has the name that it would be given again
        [one] => (one.kind != SegmentKind::Compacted && raw_bytes(one) <= most).then_some(0..1),
        all => together(all, most),
    }
}

fn tier_of_days(segments: &[SegmentManifest], today: i64, most: u64) -> Option<Range<usize>> {
    // what a tier has left of a day that is over is that day
    let level = |segment: &SegmentManifest| segment.level.max(if day(segment) < today { DAY_LEVEL } else { 0 });
    first_in(segments.chunk_by(|a, b| level(a) == level(b)), |same| {
        if level(same.first()?) >= DAY_LEVEL { eight(same, most) } else { None }
    })
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
pub(crate) mod tests {
    use super::*;
    use firebackup_model::DocumentPath;
    use firebackup_model::id::{JobId, JobKind, RunId};

    pub(crate) fn segment(after: i64, end: i64, level: u32) -> SegmentManifest {
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

    /// A run of so many bytes.
    pub(crate) fn run(raw_bytes: u64) -> RunEntry {
        let path = DocumentPath::new("a/b").unwrap();
        RunEntry {
            id: RunId([0; 16]),
            kind: RunKind::Delta,
            size: 0,
            sha256: String::new(),
            records: 0,
            blocks: 0,
            raw_bytes,
            first: path.clone(),
            last: path,
            read_time: None,
        }
    }

    /// As the real thing merges, without records.
    fn merge(segments: &mut Vec<SegmentManifest>, range: Range<usize>) {
        let (first, last) = (&segments[range.start], &segments[range.end - 1]);
        let level = level_of_merged(&segments[range.clone()]);
        let points = segments[range.clone()].iter().flat_map(|segment| segment.points.clone()).collect();
        let kind = SegmentKind::Compacted;
        let runs = vec![run(segments[range.clone()].iter().map(raw_bytes).sum())];
        let merged = SegmentManifest { after: first.after, kind, level, points, runs, ..last.clone() };
        // what has the name of another is never put
        assert!(range.len() > 1 || last.kind != kind, "{merged:?}");
        segments.splice(range, [merged]);
    }

    /// Only the last point counts: to keep a test short.
    fn forget_points(segments: &mut [SegmentManifest]) {
        segments.iter_mut().for_each(|segment| drop(segment.points.drain(..segment.points.len() - 1)));
    }

    /// The longest chain of so many bytes a day that is merged as often as is asked for, and at least once in ten minutes; and the
    /// widest merge.
    fn longest_chain(segment_seconds: i64, days: i64, bytes_a_day: u64) -> (usize, usize) {
        let (mut segments, mut longest, mut widest) = (Vec::new(), 0, 0);
        let mut due = 0;
        let bytes = bytes_a_day / (DAY_SECONDS / segment_seconds).cast_unsigned();
        for number in 0..days * DAY_SECONDS / segment_seconds {
            let new = segment(number * segment_seconds, (number + 1) * segment_seconds, 0);
            segments.push(SegmentManifest { runs: vec![run(bytes)], ..new });
            longest = longest.max(segments.len());
            if number < due {
                continue;
            }
            while let Some(range) = next_merge(&segments, &HashSet::new(), MERGED_BYTES) {
                widest = widest.max(range.len());
                merge(&mut segments, range);
            }
            let report = CompactReport { segments: segments.len() as u64, ..CompactReport::default() };
            due = number + report.segments_until_next().cast_signed().min(600 / segment_seconds).max(1);
            forget_points(&mut segments);
        }
        assert!(segments.windows(2).all(|pair| pair[0].end() == pair[1].after));
        (longest, widest)
    }

    #[test]
    fn a_chain_stays_short_and_a_merge_narrow_however_close_the_points_are() {
        let few_changes = [(60, 30, 0), (2, 3, 0), (3600, 200, 0), (17, 12, 0), (8640, 4100, 0), (864, 60, 0)];
        // as many a day as are merged together, and an eighth of that
        let many_changes = [(60, 29, MERGED_BYTES), (60, 176, MERGED_BYTES / 8), (24, 24, MERGED_BYTES)];
        for (seconds, days, bytes) in few_changes.into_iter().chain(many_changes) {
            let (longest, widest) = longest_chain(seconds, days, bytes);
            let found = format!("{longest} segments, {widest} merged at {seconds} s, {bytes} bytes a day");
            assert!(longest < MAX_FAN_IN && widest < MAX_FAN_IN, "{found}");
        }
    }

    #[test]
    fn what_is_too_large_together_stays_apart_and_all_else_is_merged() {
        const DAYS: i64 = 12;
        for most in [500, 2000, 12_000] {
            let (mut segments, mut longest) = (Vec::new(), 0);
            for minute in 0..DAYS * 1440 {
                // one a day is too large by itself
                let bytes = if minute % 1440 == 700 { most + 1 } else { 1 };
                let new = segment(minute * 60, (minute + 1) * 60, 0);
                segments.push(SegmentManifest { runs: vec![run(bytes)], ..new });
                while minute % 10 == 9
                    && let Some(range) = next_merge(&segments, &HashSet::new(), most)
                {
                    let bytes: u64 = segments[range.clone()].iter().map(raw_bytes).sum();
                    assert!(bytes <= most, "{bytes} bytes were merged");
                    merge(&mut segments, range);
                }
                forget_points(&mut segments);
                longest = longest.max(segments.len());
            }
            let large = segments.iter().filter(|segment| raw_bytes(*segment) > most);
            assert_eq!(large.filter(|segment| segment.kind == SegmentKind::Listened).count(), DAYS as usize);
            // of each day that one and at most four besides, and what is open of a day
            assert!(longest < 5 * DAYS as usize + 100, "{longest} segments where {most} bytes are merged");
        }
    }

    /// As the real thing merges while what is large rests; says what it made.
    fn merge_small(segments: &mut Vec<SegmentManifest>, most: u64, small: u64) -> Vec<(Timestamp, Timestamp)> {
        let (mut planned, mut made) = (segments.clone(), Vec::new());
        while let Some(range) = next_small_merge(&mut planned, &HashSet::new(), most, small) {
            let chosen = &planned[range.clone()];
            let start = segments.iter().position(|segment| segment.after == chosen[0].after).unwrap();
            let there = start..start + range.len();
            // nothing that only stands in the place of others
            assert_eq!(segments[there.clone()], *chosen);
            assert!(raw_bytes_of(chosen) <= small, "{} bytes were merged", raw_bytes_of(chosen));
            made.push((chosen[0].after, chosen[range.len() - 1].end()));
            merge(segments, there);
            merge(&mut planned, range);
        }
        made
    }

    fn merge_all(segments: &mut Vec<SegmentManifest>, most: u64) -> Vec<(Timestamp, Timestamp)> {
        merge_small(segments, most, most)
    }

    #[test]
    fn while_what_is_large_rests_what_is_small_is_merged_as_it_would_be_otherwise() {
        const DAYS: i64 = 3;
        // all of it fits together, or not even a day; one now and then is large by itself
        for (most, small) in [(1_000_000, 100), (1000, 100)] {
            let (mut resting, mut whole) = (Vec::new(), Vec::new());
            let (mut made_resting, mut made_whole) = (HashSet::new(), HashSet::new());
            let mut longest = 0;
            for minute in 0..DAYS * 1440 {
                let bytes = if minute % 700 == 350 { small + 1 } else { 1 };
                let new = segment(minute * 60, (minute + 1) * 60, 0);
                let new = SegmentManifest { runs: vec![run(bytes)], ..new };
                resting.push(new.clone());
                whole.push(new);
                if minute % 10 == 9 {
                    made_resting.extend(merge_small(&mut resting, most, small));
                    made_whole.extend(merge_all(&mut whole, most));
                    forget_points(&mut resting);
                    forget_points(&mut whole);
                    longest = longest.max(resting.len());
                }
            }
            assert!(longest < 200, "{longest} segments while what is large rests");
            let large = resting.iter().filter(|segment| raw_bytes(*segment) > small);
            assert_eq!(large.filter(|segment| segment.kind == SegmentKind::Listened).count(), 6);
            assert!(resting.windows(2).all(|pair| pair[0].end() == pair[1].after));
            // beside one of all it would have made nothing else, and one of all comes to the same behind it
            assert!(made_resting.is_subset(&made_whole));
            merge_all(&mut resting, most);
            let names = |all: &[SegmentManifest]| -> Vec<_> {
                all.iter().map(|segment| (segment.after, segment.end(), segment.level)).collect()
            };
            assert_eq!(names(&resting), names(&whole));
        }
    }

    #[test]
    fn no_more_points_are_merged_than_a_manifest_may_name() {
        let with_points = |number: i64, points: usize| {
            let end = Timestamp::new(number + 1, 0);
            SegmentManifest { points: vec![end; points], ..segment(number, number + 1, 0) }
        };
        let chain = |each: usize| -> Vec<_> { (0..TIER as i64).map(|number| with_points(number, each)).collect() };
        assert_eq!(eight(&chain(MERGED_POINTS / TIER), u64::MAX), Some(0..TIER));
        assert_eq!(eight(&chain(MERGED_POINTS / TIER + 1), u64::MAX), None);
        assert_eq!(together(&chain(MERGED_POINTS / TIER), u64::MAX), Some(0..TIER));
        assert_eq!(together(&chain(MERGED_POINTS / 3), u64::MAX), Some(0..3));
        // so many nanoseconds as there can be
        let longest = serde_json::to_string(&Timestamp::new(1_700_000_000, 123_456_789)).unwrap().len() + 1;
        assert!(longest * MERGED_POINTS < firebackup_codec::limit::MAX_PAYLOAD / 3 * 2);
    }

    #[test]
    fn segments_between_which_one_is_missing_are_not_merged() {
        let mut segments: Vec<_> = (0..TIER as i64).map(|number| segment(number, number + 1, 0)).collect();
        assert_eq!(next_merge(&segments, &HashSet::new(), 0), Some(0..TIER));
        segments.remove(4);
        assert_eq!(next_merge(&segments, &HashSet::new(), 0), None);
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
