//! Every version of one document that is known: of each run that may hold it the footer, then the blocks that do.
//!
//! A snapshot and a captured change both say how the document was at one moment. Put in order of these moments, what is
//! the same as before is no new version, however many snapshots hold it. What events told lies between them ([`between`](crate::between)).

use std::sync::Arc;

use bytes::Bytes;
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::{Consistency, Manifest, SnapshotKind};
use firebackup_model::segment::{Gap, SegmentManifest};
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use serde::{Deserialize, Serialize};

use crate::between::Knowledge;
use crate::chain::capture_id;
use crate::diff::Change;
use crate::error::{EngineError, Result};
use crate::lookup::Lookup;
use crate::merge::Layer;
use crate::moments::{Moments, QUIET_SECONDS, behind_all, in_a_gap};
use crate::repository::Repository;
use crate::sighting::{Sighting, in_reports, in_segments, in_snapshot};
use crate::world::Meter;

/// How much later a segment may still tell of a moment: what is found by a proof is put with that.
const LATE_SECONDS: i64 = 2 * 3600;
const EARLIEST: Timestamp = Timestamp::new(i64::MIN, 0);

/// Who saw a version first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A backup.
    Snapshot,
    /// The stream of changes.
    Captured,
    /// A scan that took the place of the stream: there may have been versions before it that nobody saw.
    Compared,
    /// An event told of it, and no more: it lies between two moments that are known, and no restore but that of the one document
    /// puts it back.
    Reported,
}

/// A version of a document, or that it was gone.
#[derive(Debug, Clone)]
pub struct Version {
    /// What it was to the version before: created, updated or deleted.
    pub change: Change,
    /// When it came about, as well as that is known: when it was written, or where that is not it, when it was seen.
    pub began: Timestamp,
    /// The first moment at which it was seen; of what was reported when that came about.
    pub point: Timestamp,
    /// When it was written, by the server. A deletion is dated by when it was seen, unless an event told of it: then by that.
    pub update_time: Option<Timestamp>,
    /// When the document was created.
    pub create_time: Option<Timestamp>,
    /// The protobuf bytes as they came from the server; nothing of a deletion.
    pub document: Option<Bytes>,
    /// Who saw it first.
    pub origin: Origin,
    /// The snapshots that hold it, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// The first moment at which the database can be put back with it; nothing where it was never proven, or stands in
    /// backups of some collections only.
    pub moment: Option<Timestamp>,
    /// Of what was reported: until when at the longest. Nothing where that is not known yet: it lies behind all that was captured.
    pub until: Option<Timestamp>,
    layer: Option<Arc<Layer>>,
}

impl Version {
    /// When it came about, as well as that is known.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.began
    }

    /// The record of it; nothing of a deletion.
    pub(crate) fn layer(&self) -> Option<Layer> {
        self.layer.as_deref().filter(|_| self.document.is_some()).cloned()
    }

    /// Whether it is not known how the document was at `at`, though this is the last version before.
    fn ends_before(&self, at: Timestamp) -> bool {
        self.origin == Origin::Reported && self.until.is_some_and(|until| until <= at)
    }
}

/// Which versions: those that came about in between, both ends included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    /// From when on.
    pub from: Option<Timestamp>,
    /// Until when.
    pub to: Option<Timestamp>,
}

impl Period {
    fn covers(self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time <= to)
    }
}

/// The versions of a document, and what it took to find them.
#[derive(Debug, Clone)]
pub struct History {
    /// The versions, newest first.
    pub versions: Vec<Version>,
    /// How many runs were opened.
    pub runs: u64,
}

/// Finds the versions of a document. Only runs whose manifest says that they may hold it are opened, and of a period no
/// more than those from the backup before it to the backup behind it.
///
/// # Errors
/// When the store fails, or a manifest or a run cannot be read.
pub async fn history(
    repository: &Repository,
    database: &DatabaseName,
    path: &DocumentPath,
    period: Period,
    meter: &Arc<Meter>,
) -> Result<History> {
    let Around { mut history, .. } = around(repository, database, path, period, meter).await?;
    history.versions.retain(|version| period.covers(version.time()));
    history.versions.reverse();
    Ok(history)
}

/// The version of a document that was there at a time, as far as anybody told: a backup, captured changes, or an event. It may be that
/// the document was gone.
///
/// # Errors
/// When it is not known how the document was then, the store fails, or a manifest or a run cannot be read.
pub async fn as_reported(
    repository: &Repository,
    database: &DatabaseName,
    path: &DocumentPath,
    at: Timestamp,
    meter: &Arc<Meter>,
) -> Result<Version> {
    let period = Period { from: Some(at), to: Some(at) };
    let around = around(repository, database, path, period, meter).await?;
    let gap = around.gap_at(at);
    around.check_heard(at)?;
    match around.history.versions.into_iter().rfind(|version| version.began <= at) {
        Some(version) if version.origin == Origin::Reported && !version.ends_before(at) => Ok(version),
        // what somebody saw is not taken to last through a time of which nothing is known
        Some(version) if version.origin != Origin::Reported => {
            gap.map_or(Ok(version), |gap| Err(in_a_gap(at, gap.after, gap.until)))
        }
        _ => Err(EngineError::NotFound(format!("nothing is known of `{path}` in {database} as it was at {at}"))),
    }
}

/// What is known around a period.
struct Around {
    history: History,
    moments: Moments,
    /// The times of which nothing was captured: what scans have left, and what lies between two segments that do not follow one another.
    not_captured: Vec<Gap>,
    /// The last time of which anybody told.
    heard: Option<Timestamp>,
}

impl Around {
    /// What was heard last is taken to last for as long as a database that does not change may go without a word, and no longer.
    fn check_heard(&self, at: Timestamp) -> Result<()> {
        match self.heard {
            Some(heard) if at.seconds_since(heard) > QUIET_SECONDS => Err(behind_all(at, heard)),
            _ => Ok(()),
        }
    }

    /// The gap in which a time lies. What was captured and not proven so far is none.
    fn gap_at(&self, at: Timestamp) -> Option<Gap> {
        let is_one = |gap: &Gap| self.not_captured.iter().any(|time| time.after < gap.until && time.until > gap.after);
        self.moments.between_windows().into_iter().filter(is_one).find(|gap| gap.after < at && at < gap.until)
    }
}

/// The versions of a document, oldest first, from the backup before a period to the one behind it.
async fn around(
    repository: &Repository,
    database: &DatabaseName,
    path: &DocumentPath,
    period: Period,
    meter: &Arc<Meter>,
) -> Result<Around> {
    let manifests = repository.all_manifests(|manifest| manifest.source == *database).await?;
    let segments = repository.all_segments(database).await?;
    let moments = Moments::of(database.clone(), manifests.clone(), &segments);
    let bounds = Bounds::new(&manifests, period);
    let lookup = Lookup::new(repository, &[], meter);
    let around: Vec<&Manifest> = manifests.iter().filter(|manifest| bounds.admit_snapshot(manifest)).collect();
    let (mut seen, mut backups) = (Vec::new(), Vec::new());
    for manifest in around {
        if admits(manifest, path)? {
            seen.extend(in_snapshot(&lookup, manifest, path).await?);
            backups.push(manifest);
        }
    }
    let admitted: Vec<_> = segments.iter().filter(|segment| bounds.admit_segment(segment)).cloned().collect();
    seen.extend(in_segments(&lookup, &admitted, path).await?);
    seen.sort_by_key(|sighting| (sighting.at, sighting.rank));
    let reported = repository.reported(capture_id(repository.id(), database), bounds.first, bounds.last).await?;
    // of whatever document
    let told: Vec<_> = reported.manifests.iter().map(|manifest| manifest.last).collect();
    let reported = in_reports(&lookup, &reported.manifests, path).await?.into_iter();
    let reported: Vec<_> = reported.filter(|sighting| bounds.admit_time(sighting.at)).collect();
    let captured = segments.iter().map(SegmentManifest::end);
    let heard = seen.iter().chain(&reported).map(|sighting| sighting.at).chain(captured).chain(moments.points());
    let heard = heard.chain(told).max();
    let seen = Knowledge::new(&moments, &backups).between(seen, reported);
    let history = History { versions: versions(seen, &moments), runs: lookup.opened().await };
    let scanned = segments.iter().flat_map(|segment| segment.gaps.iter().copied());
    let not_captured = scanned.chain(cuts(&segments)).collect();
    Ok(Around { history, moments, not_captured, heard })
}

/// What lies between segments that do not follow one another: a chain that began anew at a backup, or one of which a part is lost.
fn cuts(segments: &[SegmentManifest]) -> impl Iterator<Item = Gap> + '_ {
    let mut reached: Option<Timestamp> = None;
    segments.iter().filter_map(move |segment| {
        let cut = reached.filter(|reached| *reached < segment.after);
        reached = reached.max(Some(segment.end()));
        cut.map(|after| Gap { after, until: segment.after })
    })
}

/// The backups of one read time around a period: behind and before them nothing is to be found.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Bounds {
    fn new(manifests: &[Manifest], period: Period) -> Self {
        let is_sure = |manifest: &&Manifest| manifest.is_whole() && manifest.consistency == Consistency::Snapshot;
        let times = || manifests.iter().filter(is_sure).filter_map(Manifest::read_time);
        let first = period.from.and_then(|from| times().filter(|time| *time <= from).max());
        let last = period.to.and_then(|to| times().filter(|time| *time >= to).min());
        Self { first, last }
    }

    fn admit_snapshot(self, manifest: &Manifest) -> bool {
        let newest = manifest.read_time();
        let oldest = manifest.read_times.first();
        self.first.is_none_or(|first| newest >= Some(first)) && self.last.is_none_or(|last| oldest <= Some(&last))
    }

    fn admit_time(self, time: Timestamp) -> bool {
        self.first.is_none_or(|first| first < time) && self.last.is_none_or(|last| time <= last)
    }

    fn admit_segment(self, segment: &SegmentManifest) -> bool {
        self.first.is_none_or(|first| segment.end() > first)
            && self.last.is_none_or(|last| segment.after < last.plus_seconds(LATE_SECONDS))
    }
}

/// Whether a snapshot can say something of a document. What a restore replaced says nothing of a moment.
fn admits(manifest: &Manifest, path: &DocumentPath) -> Result<bool> {
    let is_of_a_moment = manifest.kind != SnapshotKind::Undo;
    Ok(is_of_a_moment && (manifest.selection.is_everything() || manifest.selection.filter()?.selects(path)))
}

/// What was seen, in order, as versions, oldest first.
fn versions(seen: Vec<Sighting>, moments: &Moments) -> Vec<Version> {
    let mut versions: Vec<Version> = Vec::new();
    let mut is_known_absent = false;
    let mut rest = seen.into_iter().peekable();
    while let Some(sighting) = rest.next() {
        let is_replaced = |next: &Sighting| next.at == sighting.at && sighting.snapshot.is_none();
        if rest.peek().is_some_and(is_replaced) {
            continue;
        }
        match versions.last_mut() {
            Some(last) if sighting.is_what(last) => last.snapshots.extend(sighting.snapshot),
            Some(last) if is_deletion_of(last, &sighting) => (last.origin, last.point) = (sighting.origin, sighting.at),
            last => {
                let was_there = last.as_ref().is_some_and(|last| last.document.is_some());
                // that it was gone is no news where it was not there; a change of what nobody saw is
                let is_news = sighting.document.is_some()
                    || was_there
                    || last.is_none() && !is_known_absent && sighting.origin != Origin::Snapshot;
                is_known_absent |= sighting.document.is_none();
                let change = change(last.as_deref(), &sighting, is_known_absent);
                if is_news {
                    versions.push(version(sighting, change));
                }
            }
        }
    }
    let ends: Vec<_> = versions.iter().skip(1).map(|next| Some(next.point)).chain([None]).collect();
    let mut before = EARLIEST;
    for (version, end) in versions.iter_mut().zip(ends) {
        // a version that is there again was written earlier, and began anew
        version.began =
            version.update_time.filter(|time| before < *time && *time <= version.point).unwrap_or(version.point);
        before = version.began;
        match version.origin {
            Origin::Reported => version.until = [version.until, end].into_iter().flatten().min(),
            _ => (version.moment, version.until) = (moments.first_from(version.point, end), None),
        }
    }
    versions
}

/// Whether a moment confirms that a document was gone, as it was reported: it is that deletion then, dated by the event.
fn is_deletion_of(version: &Version, sighting: &Sighting) -> bool {
    version.origin == Origin::Reported
        && version.document.is_none()
        && sighting.document.is_none()
        && sighting.origin != Origin::Reported
}

fn change(before: Option<&Version>, now: &Sighting, is_known_absent: bool) -> Change {
    let is_new = match before {
        Some(before) if before.document.is_some() => before.create_time != now.create_time,
        Some(_) => true,
        None => is_known_absent || now.create_time == now.update_time,
    };
    match (&now.document, is_new) {
        (None, _) => Change::Deleted,
        (Some(_), true) => Change::Created,
        (Some(_), false) => Change::Updated,
    }
}

fn version(sighting: Sighting, change: Change) -> Version {
    let is_there = sighting.document.is_some();
    Version {
        change,
        point: sighting.at,
        began: sighting.at,
        update_time: sighting.update_time.filter(|_| is_there || sighting.origin == Origin::Reported),
        create_time: sighting.create_time,
        document: sighting.document,
        origin: sighting.origin,
        snapshots: sighting.snapshot.filter(|_| is_there).into_iter().collect(),
        moment: None,
        until: sighting.until,
        layer: sighting.layer,
    }
}
