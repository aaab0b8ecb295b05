//! Which moments of a database can be put back, and what each is made of.
//!
//! A moment is the read time of a whole snapshot, or a consistent point of the captured changes that was proven to be
//! complete. Moments between which nothing is missing make a window. Every moment is a snapshot and the changes since.

use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::{Consistency, Manifest};
use firebackup_model::segment::{Gap, SegmentManifest};
use firebackup_model::{DatabaseName, Timestamp};
use serde::Serialize;

use crate::chain::{Stretch, are_joined};
use crate::error::{EngineError, Result};
use crate::merge::{Layer, Span, layers};
use crate::repository::Repository;

/// How long after its last moment a captured database may be as it was then without a word: a heartbeat comes every twenty minutes,
/// and a window may last an hour.
pub(crate) const QUIET_SECONDS: f64 = 4500.0;
/// How far the clocks of this machine and of Firestore may be apart before a time that has not come is refused.
const SKEW_SECONDS: f64 = 60.0;

/// A stretch of time in which the newest moment at or before any time is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Its first moment.
    pub start: Timestamp,
    /// Its last moment.
    pub end: Timestamp,
    /// How many moments it has.
    pub moments: u64,
}

/// What a moment is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The moment.
    pub point: Timestamp,
    /// The snapshot that it builds on.
    pub base: SnapshotId,
    /// Whether it is the snapshot itself, without a change.
    pub is_base: bool,
}

/// A moment that nothing is missing to.
pub(crate) struct Joined<'m> {
    pub(crate) point: Timestamp,
    /// The segments that lead there.
    pub(crate) segments: &'m [SegmentManifest],
    /// The last point at or before where they lead from.
    pub(crate) changed_until: Timestamp,
}

/// All moments of one database.
pub struct Moments {
    database: DatabaseName,
    /// Whole snapshots of the database, by their last read time.
    snapshots: Vec<Manifest>,
    stretches: Vec<Stretch>,
    all: BTreeSet<Timestamp>,
    /// When they were read, by the clock of the machine; nothing where they were given.
    read: Option<Timestamp>,
}

impl Moments {
    /// Reads what there is of a database.
    ///
    /// # Errors
    /// When the store fails, or a manifest cannot be read: what it would make restorable is then not known.
    pub async fn read(repository: &Repository, database: &DatabaseName) -> Result<Self> {
        let snapshots = repository.all_manifests(|manifest| manifest.source == *database).await?;
        let segments = repository.all_segments(database).await?;
        let read = Some(repository.world().now());
        Ok(Self { read, ..Self::of(database.clone(), snapshots, &segments) })
    }

    /// Of snapshots of the database, and all its segments.
    pub(crate) fn of(database: DatabaseName, mut snapshots: Vec<Manifest>, segments: &[SegmentManifest]) -> Self {
        snapshots.retain(Manifest::is_whole);
        snapshots.sort_by_key(Manifest::read_time);
        let stretches = Stretch::all(segments);
        let mut moments = Self { database, snapshots, stretches, all: BTreeSet::new(), read: None };
        moments.all = moments.find_all();
        moments
    }

    fn find_all(&self) -> BTreeSet<Timestamp> {
        let of_snapshots = self.snapshots.iter().filter(|manifest| manifest.consistency == Consistency::Snapshot);
        of_snapshots.filter_map(Manifest::read_time).chain(self.captured()).collect()
    }

    /// Those that were captured, whether or not they are snapshots besides; of each stretch ascending.
    pub(crate) fn captured(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.stretches.iter().flat_map(move |stretch| {
            // what comes behind the first snapshot that leads on has a base
            let bases = self.snapshots.iter().filter(|manifest| is_base_in(stretch, manifest));
            let first = bases.filter_map(Manifest::read_time).min();
            let behind = first.map(|first| stretch.proven.range(first..));
            behind.into_iter().flatten().map(|(point, _)| *point)
        })
    }

    /// Whether it is a moment.
    pub(crate) fn holds(&self, point: Timestamp) -> bool {
        self.all.contains(&point)
    }

    /// Moments that together are made of all that any is: of those between two snapshots, and two ends of stretches, the first and
    /// the last.
    pub(crate) fn outermost(&self) -> BTreeSet<Timestamp> {
        let ends = self.stretches.iter().flat_map(|stretch| [stretch.start(), stretch.end()]);
        let cuts: BTreeSet<_> = self.snapshots.iter().filter_map(Manifest::read_time).chain(ends).collect();
        let before = cuts.iter().filter_map(|cut| self.all.range(..*cut).next_back());
        let behind = cuts.iter().filter_map(|cut| self.all.range(*cut..).next());
        before.chain(behind).copied().collect()
    }

    /// Whose moments these are.
    #[must_use]
    pub const fn database(&self) -> &DatabaseName {
        &self.database
    }

    /// All moments, ascending.
    pub fn points(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.all.iter().copied()
    }

    /// The windows, oldest first.
    #[must_use]
    pub fn windows(&self) -> Vec<Window> {
        let mut windows: Vec<Window> = Vec::new();
        for point in self.all.iter().copied() {
            match windows.last_mut() {
                Some(window) if self.are_joined(window.end, point) => {
                    window.end = point;
                    window.moments += 1;
                }
                _ => windows.push(Window { start: point, end: point, moments: 1 }),
            }
        }
        windows
    }

    /// What lies between the windows, oldest first, and what was captured behind the last one to no end.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        self.between_windows().into_iter().chain(self.hole()).collect()
    }

    pub(crate) fn between_windows(&self) -> Vec<Gap> {
        let windows = self.windows();
        let pairs = windows.iter().zip(windows.iter().skip(1));
        pairs.map(|(before, behind)| Gap { after: before.end, until: behind.start }).collect()
    }

    fn are_joined(&self, a: Timestamp, b: Timestamp) -> bool {
        are_joined(&self.stretches, a, b)
    }

    /// The first moment from `from` on and before `end`.
    pub(crate) fn first_from(&self, from: Timestamp, end: Option<Timestamp>) -> Option<Timestamp> {
        self.all.range(from..).next().copied().filter(|moment| end.is_none_or(|end| *moment < end))
    }

    /// The first proven point from `from` on, and the changes that lead there.
    pub(crate) fn first_proven(&self, from: Timestamp) -> Option<(Timestamp, &Stretch)> {
        let first = |stretch: &Stretch| stretch.proven.range(from..).next().map(|(point, _)| *point);
        let firsts = self.stretches.iter().filter_map(|stretch| Some((first(stretch)?, stretch)));
        firsts.min_by_key(|(point, _)| *point)
    }

    /// The whole snapshot that stands for a time at which nothing else does: the newest one before it, or the oldest of all.
    #[must_use]
    pub fn snapshot_near(&self, at: Timestamp) -> Option<SnapshotId> {
        let before = self.snapshots.iter().rev().find(|manifest| manifest.read_time() <= Some(at));
        before.or(self.snapshots.first()).map(|manifest| manifest.id.clone())
    }

    /// The newest moment at or before `at`. With `exact`, `at` itself. Behind the last moment it is taken for as long as a database
    /// that does not change may go without one, and has come.
    ///
    /// # Errors
    /// When there is none, `at` lies in a gap or in the future, or `exact` is wanted of what is no moment; the text says what there is.
    pub fn resolve(&self, at: Timestamp, exact: bool) -> Result<Moment> {
        let Some(point) = self.all.range(..=at).next_back().copied() else { return Err(self.none_before(at)) };
        let next = self.all.range(at..).next().copied();
        match next {
            Some(next) if point != at && !self.are_joined(point, next) => Err(in_a_gap(at, point, next)),
            None if self.hole().is_some_and(|hole| hole.after < at) => Err(behind_a_hole(at, point)),
            None if self.is_in_the_future(at, point) => Err(in_the_future(at, point)),
            None if at.seconds_since(point) > QUIET_SECONDS => Err(behind_all(at, point)),
            _ if point != at && exact => Err(not_exact(at, point, next)),
            _ => self.moment(point),
        }
    }

    /// Whether a time had not come when this was read. What is known has come, whatever the clock says.
    fn is_in_the_future(&self, at: Timestamp, last: Timestamp) -> bool {
        self.read.is_some_and(|read| at.seconds_since(read.max(last)) > SKEW_SECONDS)
    }

    /// What was captured behind the last moment and leads there from nowhere, for something before it is missing: until the next
    /// backup it is no moment.
    pub(crate) fn hole(&self) -> Option<Gap> {
        let last = self.all.last().copied()?;
        let reached = self.stretches.iter().filter(|stretch| stretch.start() <= last && last <= stretch.end());
        let reached = reached.map(Stretch::end).max().unwrap_or(last);
        // one that others went on beside begins before that
        let lost = self.stretches.iter().map(Stretch::end).filter(|end| *end > reached).max();
        lost.map(|until| Gap { after: reached, until })
    }

    /// What a point that [`Self::resolve`] found is made of.
    pub(crate) fn moment(&self, point: Timestamp) -> Result<Moment> {
        let is_itself =
            |manifest: &&Manifest| manifest.consistency == Consistency::Snapshot && manifest.read_time() == Some(point);
        if let Some(manifest) = self.snapshots.iter().rev().find(is_itself) {
            return Ok(Moment { point, base: manifest.id.clone(), is_base: true });
        }
        for stretch in self.stretches.iter().filter(|stretch| stretch.proven.contains_key(&point)) {
            let before = self.snapshots.iter().rev().filter(|manifest| manifest.read_time() <= Some(point));
            if let Some(base) = before.into_iter().find(|manifest| is_base_in(stretch, manifest)) {
                return Ok(Moment { point, base: base.id.clone(), is_base: false });
            }
        }
        Err(EngineError::NotFound(format!("{point} is no moment that can be put back")))
    }

    /// The segments of a moment, and the last point at which its base was not read yet; nothing for that of a snapshot.
    fn leading_to(&self, moment: &Moment) -> Result<Option<(&[SegmentManifest], Timestamp)>> {
        if moment.is_base {
            return Ok(None);
        }
        let base = self.base(moment)?;
        let from = base.read_times.first().copied().unwrap_or_default();
        for stretch in self.stretches.iter().filter(|stretch| is_base_in(stretch, base)) {
            if let Some(last) = stretch.proven.get(&moment.point) {
                let first = stretch.segments.partition_point(|segment| segment.end() <= from);
                let segments = stretch.segments.get(first..=*last).unwrap_or_default();
                return Ok(Some((segments, stretch.point_before(from))));
            }
        }
        Err(EngineError::NotFound(format!("{} is no moment that can be put back any more", moment.point)))
    }

    fn base(&self, moment: &Moment) -> Result<&Manifest> {
        let found = self.snapshots.iter().find(|manifest| manifest.id == moment.base);
        found.ok_or_else(|| {
            EngineError::NotFound(format!("there is no whole snapshot {} of {}", moment.base, self.database))
        })
    }

    /// The layers whose merge is the moment.
    pub(crate) fn layers(&self, moment: &Moment) -> Result<Vec<Layer>> {
        let base = self.base(moment)?;
        let Some((segments, point)) = self.leading_to(moment)? else { return Ok(layers(base)) };
        let after = base.read_times.first().copied().unwrap_or_default();
        let mut all = settled(layers(base), point);
        all.extend(segment_layers(segments, Span { after, until: moment.point }));
        Ok(all)
    }

    /// The newest moment that nothing is missing to from `from` on, with the segments that lead there; nothing where that
    /// is none but `from`.
    pub(crate) fn newest_joined(&self, from: Timestamp) -> Option<Joined<'_>> {
        self.stretches.iter().filter(|stretch| stretch.leads_on(from)).find_map(|stretch| {
            let newer = stretch.proven.range(from..).map(|(point, _)| *point).filter(|point| *point > from);
            let joined_up = newer.scan(from, |last, point| {
                let joins = stretch.is_unbroken(*last, point);
                *last = point;
                joins.then_some(point)
            });
            joined_up.last().and_then(|point| joined(stretch, from, point))
        })
    }

    /// The same of one moment.
    pub(crate) fn joined_at(&self, from: Timestamp, point: Timestamp) -> Option<Joined<'_>> {
        let leads_there = |stretch: &&Stretch| stretch.leads_on(from) && stretch.is_unbroken(from, point);
        self.stretches.iter().filter(leads_there).find_map(|stretch| joined(stretch, from, point))
    }

    /// The newest moment, and when the snapshot was read that it builds on.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn newest(&self) -> Result<(Moment, Timestamp)> {
        let newest = self.all.last().copied();
        let newest = newest.ok_or_else(|| EngineError::NotFound(self.none_at_all()))?;
        let moment = self.moment(newest)?;
        let read = self.base(&moment)?.read_times.first().copied().unwrap_or_default();
        Ok((moment, read))
    }

    fn none_at_all(&self) -> String {
        format!("there is no backup of the whole of {}: make one first", self.database)
    }

    /// The snapshot and the layers whose merge is what is known at `point` of the chain, proven or not; nothing where what they
    /// build on is gone. `first` is the snapshot with which a chain begins that has no segment yet.
    pub(crate) fn layers_until(&self, point: Timestamp, first: &SnapshotId) -> Option<(SnapshotId, Vec<Layer>)> {
        let within = |stretch: &&Stretch| stretch.start() <= point && point <= stretch.end();
        let stretch = self.stretches.iter().rfind(within);
        let is_fit = |manifest: &&Manifest| match stretch {
            Some(stretch) => is_base_in(stretch, manifest),
            None => manifest.id == *first,
        };
        // a base of several read times is what it was at none of them: what was captured until its last completes it, or the
        // scan with which a chain begins there
        let is_before =
            |manifest: &&Manifest| manifest.read_time() <= Some(point) || manifest.read_times.first() == Some(&point);
        let base = self.snapshots.iter().rev().filter(is_before).find(is_fit)?;
        let after = base.read_times.first().copied().unwrap_or_default();
        let mut all = layers(base);
        if let Some(stretch) = stretch {
            if point > after {
                all = settled(all, stretch.point_before(after));
            }
            let behind = stretch.segments.partition_point(|segment| segment.end() <= after);
            let segments = stretch.segments.get(behind..).unwrap_or_default();
            all.extend(segment_layers(segments, Span { after, until: point }));
        }
        Some((base.id.clone(), all))
    }

    fn none_before(&self, at: Timestamp) -> EngineError {
        EngineError::NotFound(match self.all.first() {
            Some(first) => format!("nothing is known of {} before {first}: {at} cannot be put back", self.database),
            None => self.none_at_all(),
        })
    }
}

/// What leads from `from` to a point of a stretch that was proven.
fn joined(stretch: &Stretch, from: Timestamp, point: Timestamp) -> Option<Joined<'_>> {
    let last = *stretch.proven.get(&point)?;
    let first = stretch.segments.partition_point(|segment| segment.end() <= from);
    let segments = stretch.segments.get(first..=last).unwrap_or_default();
    Some(Joined { point, segments, changed_until: stretch.point_before(from) })
}

/// Whether the changes of a stretch can be put on top of a snapshot. A scan is a difference to what was known when the stream was
/// lost: where a snapshot was read in part before that and in part behind it, it says nothing of what that part holds, unless the
/// stretch begins with it.
pub(crate) fn is_base_in(stretch: &Stretch, manifest: &Manifest) -> bool {
    let (Some(first), Some(last)) = (manifest.read_times.first(), manifest.read_time()) else { return false };
    // nor is one that was read on behind all of it
    let is_within = last <= stretch.end() && (*first == stretch.start() || !stretch.has_gap(*first, last));
    is_within && stretch.leads_on(*first)
}

/// Layers of a snapshot on top of which captured changes are put that begin at `point`.
pub(crate) fn settled(layers: Vec<Layer>, point: Timestamp) -> Vec<Layer> {
    layers.into_iter().map(|layer| Layer { changed_until: Some(point), ..layer }).collect()
}

/// The runs of segments as layers, of which what lies within `span` counts.
pub(crate) fn segment_layers(segments: &[SegmentManifest], span: Span) -> impl Iterator<Item = Layer> + '_ {
    let runs = segments.iter().flat_map(|segment| segment.runs.iter().map(|run| (run, segment.key)));
    runs.zip(1..).map(move |((entry, key), rank)| Layer {
        entry: entry.clone(),
        key,
        rank,
        except: Arc::default(),
        span: Some(span),
        changed_until: None,
        by_update_time: false,
        only: None,
    })
}

pub(crate) fn behind_all(at: Timestamp, last: Timestamp) -> EngineError {
    EngineError::Refused(format!(
        "nothing is known of {at} yet: the last moment is {last}; give that one, or capture or back up what came behind it"
    ))
}

fn in_the_future(at: Timestamp, last: Timestamp) -> EngineError {
    EngineError::Refused(format!("{at} is in the future: the last moment is {last}; give that one"))
}

fn behind_a_hole(at: Timestamp, last: Timestamp) -> EngineError {
    EngineError::Refused(format!(
        "{at} lies behind a hole: changes that were captured behind {last} are missing or damaged, so that nothing behind it can be put \
         back; give that one, or make a full backup, from which moments go on"
    ))
}

pub(crate) fn in_a_gap(at: Timestamp, before: Timestamp, after: Timestamp) -> EngineError {
    EngineError::Refused(format!(
        "{at} lies in a gap: nothing is known between {before} and {after}; give one of these two, or a moment of another \
         window"
    ))
}

fn not_exact(at: Timestamp, point: Timestamp, next: Option<Timestamp>) -> EngineError {
    let next = next.map(|next| format!(", the next one {next}")).unwrap_or_default();
    EngineError::Refused(format!(
        "{at} is no consistent point: the newest before it is {point}{next}; that one is taken where not exactly this time is asked \
         for"
    ))
}
