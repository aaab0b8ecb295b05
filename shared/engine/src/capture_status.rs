//! How the capture of a database stands, told by its segments alone: whoever captures need not be asked.

use firebackup_model::segment::{Gap, SegmentManifest};
use firebackup_model::{DatabaseName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chain::{Stretch, are_joined};
use crate::error::Result;
use crate::moments::Moments;
use crate::repository::Repository;

const DAY_SECONDS: f64 = 24.0 * 3600.0;

/// How a capture stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureState {
    /// Changes are captured, and proven to be all of them.
    Active,
    /// Changes are captured, and for long it could not be proven that they are all of them.
    Degraded,
    /// Nothing was captured for long.
    Paused,
    /// Nothing was ever captured.
    Disabled,
}

/// What is long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StatusBounds {
    /// For how many seconds a capture that works may put nothing.
    pub captured_seconds: f64,
    /// For how many seconds what was captured may stay without a proof.
    pub proven_seconds: f64,
}

impl StatusBounds {
    /// Of a capture that puts something each so many seconds: two of them, and three minutes at least. A proof may take a
    /// quarter of an hour.
    #[must_use]
    pub fn of_window(seconds: f64) -> Self {
        Self { captured_seconds: (2.0 * seconds).max(180.0), proven_seconds: 900.0 }
    }
}

/// How the capture of a database stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptureStatus {
    /// In one word.
    pub state: CaptureState,
    /// The last consistent point in a segment.
    pub captured_through: Option<Timestamp>,
    /// The last one up to which nothing is missing: it can be put back.
    pub proven_through: Option<Timestamp>,
    /// Seconds since then.
    pub lag_seconds: Option<f64>,
    /// Segments that there are.
    pub segments: u64,
    /// Documents that they say were put or deleted.
    pub changes: u64,
    /// Bytes of their runs in the repository.
    pub stored_bytes: u64,
    /// How often the whole database was read in the last 24 hours because the stream could not be believed.
    pub scans_today: u64,
    /// Document reads of that.
    pub scan_reads_today: u64,
    /// Stretches of time that are lost, oldest first.
    pub gaps: Vec<Gap>,
}

/// Tells how the capture of a database stands.
///
/// # Errors
/// When the store fails, or a segment's manifest cannot be read.
pub async fn capture_status(
    repository: &Repository,
    database: &DatabaseName,
    bounds: StatusBounds,
) -> Result<CaptureStatus> {
    let segments = repository.all_segments(database).await?;
    let whole = repository.all_manifests(|manifest| manifest.is_whole() && manifest.source == *database).await?;
    let moments = Moments::of(database.clone(), whole, &segments);
    let start = segments.first().map(|segment| segment.after);
    // a point that no backup leads to can be proven, and is no moment
    let hole = moments.hole();
    let moments: Vec<_> = moments.points().filter(|point| start.is_some_and(|start| start <= *point)).collect();
    let status = CaptureStatus::of(&segments, &moments, repository.world().now(), bounds);
    Ok(CaptureStatus { gaps: status.gaps.into_iter().chain(hole).collect(), ..status })
}

impl CaptureStatus {
    fn of(segments: &[SegmentManifest], moments: &[Timestamp], now: Timestamp, bounds: StatusBounds) -> Self {
        let stretches = Stretch::all(segments);
        let captured_through = segments.last().map(SegmentManifest::end);
        let proven_through = moments.last().copied();
        let is_of_today = |time: Timestamp| now.seconds_since(time) < DAY_SECONDS;
        let scans = segments.iter().flat_map(|segment| &segment.gaps).filter(|gap| is_of_today(gap.until));
        let read = segments.iter().filter(|segment| is_of_today(segment.end())).map(|segment| segment.reads);
        let joined = |pair: &&[Timestamp]| are_joined(&stretches, pair[0], pair[1]);
        let gaps = moments.windows(2).filter(|pair| !joined(pair));
        Self {
            state: state(captured_through, proven_through, now, bounds),
            captured_through,
            proven_through,
            lag_seconds: proven_through.map(|point| now.seconds_since(point).max(0.0)),
            segments: segments.len() as u64,
            changes: segments.iter().map(|segment| segment.totals.documents + segment.totals.deletions).sum(),
            stored_bytes: segments.iter().map(|segment| segment.stored_bytes).sum(),
            scans_today: scans.count() as u64,
            scan_reads_today: read.sum(),
            gaps: gaps.map(|pair| Gap { after: pair[0], until: pair[1] }).collect(),
        }
    }
}

fn state(captured: Option<Timestamp>, proven: Option<Timestamp>, now: Timestamp, bounds: StatusBounds) -> CaptureState {
    let Some(captured) = captured else { return CaptureState::Disabled };
    if now.seconds_since(captured) > bounds.captured_seconds {
        return CaptureState::Paused;
    }
    let is_proven =
        proven.is_some_and(|proven| proven == captured || now.seconds_since(proven) <= bounds.proven_seconds);
    if is_proven { CaptureState::Active } else { CaptureState::Degraded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_model::manifest::{Compression, Counts};
    use firebackup_model::segment::{Proof, SegmentKind};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(1_700_000_000 + seconds, 0)
    }

    /// A segment from `after` with one point, which it proves along with those since `from`.
    fn segment(sequence: u64, after: i64, point: i64, from: Option<i64>) -> SegmentManifest {
        SegmentManifest {
            format: 1,
            source: DatabaseName::new("p", "(default)"),
            base: "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            sequence,
            first_sequence: None,
            proven_documents: None,
            after: at(after),
            kind: SegmentKind::Listened,
            level: 0,
            gaps: Vec::new(),
            points: vec![at(point)],
            proofs: from.into_iter().map(|from| Proof { from: at(from), through: at(point) }).collect(),
            runs: Vec::new(),
            totals: Counts { documents: 2, deletions: 1, bytes: 10 },
            collections: Default::default(),
            documents: Default::default(),
            token: None,
            job: None,
            compression: Compression::default(),
            key: None,
            stored_bytes: 100,
            reads: 0,
            tool: String::new(),
            finished: at(point),
        }
    }

    fn compared(sequence: u64, after: i64, point: i64) -> SegmentManifest {
        let gaps = vec![Gap { after: at(after), until: at(point) }];
        SegmentManifest { kind: SegmentKind::Compared, gaps, reads: 7, ..segment(sequence, after, point, Some(point)) }
    }

    /// Where the chain begins, which is the read time of a backup, and the proven points.
    fn moments(segments: &[SegmentManifest]) -> Vec<Timestamp> {
        let start = segments.first().map(|segment| segment.after);
        let stretches = Stretch::all(segments);
        start.into_iter().chain(stretches.iter().flat_map(|stretch| stretch.proven.keys().copied())).collect()
    }

    fn status(segments: &[SegmentManifest], now: i64) -> CaptureStatus {
        CaptureStatus::of(segments, &moments(segments), at(now), StatusBounds::of_window(60.0))
    }

    #[test]
    fn no_chain_is_a_capture_that_is_off() {
        let status = status(&[], 0);
        assert_eq!((status.state, status.lag_seconds, status.segments), (CaptureState::Disabled, None, 0));
    }

    #[test]
    fn what_is_young_and_proven_is_active_and_what_is_old_is_paused() {
        let segments = [segment(0, 0, 60, Some(60)), segment(1, 60, 120, Some(120))];
        let young = status(&segments, 200);
        assert_eq!((young.state, young.lag_seconds), (CaptureState::Active, Some(80.0)));
        assert_eq!((young.captured_through, young.proven_through), (Some(at(120)), Some(at(120))));
        assert_eq!((young.changes, young.stored_bytes, young.gaps), (6, 200, vec![]));
        assert_eq!(status(&segments, 301).state, CaptureState::Paused);
        // a slow capture has more time
        let slow = CaptureStatus::of(&segments, &moments(&segments), at(301), StatusBounds::of_window(600.0));
        assert_eq!(slow.state, CaptureState::Active);
    }

    #[test]
    fn what_is_not_proven_for_long_is_degraded() {
        let mut segments = vec![segment(0, 0, 60, Some(60)), segment(1, 60, 500, None)];
        assert_eq!(status(&segments, 600).state, CaptureState::Active);
        segments.push(segment(2, 500, 1000, None));
        let late = status(&segments, 1001);
        assert_eq!((late.state, late.proven_through), (CaptureState::Degraded, Some(at(60))));
        assert_eq!(late.gaps, [], "what can still be proven is no gap");
        // one proof for all of them
        segments.push(segment(3, 1000, 1060, Some(500)));
        let proven = status(&segments, 1061);
        assert_eq!((proven.state, proven.proven_through, proven.gaps), (CaptureState::Active, Some(at(1060)), vec![]));
    }

    #[test]
    fn a_scan_and_a_missing_segment_are_gaps_and_scans_are_counted_for_a_day() {
        let segments = [
            segment(0, 0, 60, Some(60)),
            compared(1, 60, 300),
            segment(2, 300, 360, Some(360)),
            segment(9, 900, 960, Some(960)),
        ];
        let now = status(&segments, 961);
        let expected = [(60, 300), (360, 960)].map(|(after, until)| Gap { after: at(after), until: at(until) });
        assert_eq!(now.gaps, expected);
        assert_eq!((now.scans_today, now.scan_reads_today), (1, 7));
        assert_eq!(status(&segments, 300 + 24 * 3600).scans_today, 0);
    }
}
