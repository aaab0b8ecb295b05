//! Puts what was reported between what is known.
//!
//! What a snapshot or a proven point says of a document is final, and where it says nothing the document is as it was before. What an
//! event told lies between two of these moments and ends with the second: so an event that came late, or whose successor was lost,
//! changes nothing of any moment. The same goes for what a backup saw between two points and had come and gone at the second.

use std::collections::{BTreeSet, HashSet};

use firebackup_model::Timestamp;
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::{Consistency, Manifest, SnapshotKind};

use crate::chain::Stretch;
use crate::history::Origin;
use crate::moments::Moments;
use crate::sighting::Sighting;

/// What says how a document was, also by saying nothing.
pub(crate) struct Knowledge<'m> {
    moments: &'m Moments,
    increments: Vec<Increment>,
}

/// A backup that holds differences. Of a document that is not among them it says that it is as in the backups below.
struct Increment {
    at: Timestamp,
    /// What it builds on, the nearest first, each with the time until which changes count.
    below: Vec<(SnapshotId, Option<Timestamp>)>,
}

/// A moment at which it would have been said if the document had changed.
enum Silence<'m> {
    /// A proven point: nothing has changed since the one before.
    Point(Timestamp, &'m Stretch),
    Increment(&'m Increment),
}

impl Silence<'_> {
    const fn at(&self) -> Timestamp {
        match self {
            Self::Point(at, _) => *at,
            Self::Increment(increment) => increment.at,
        }
    }

    const fn origin(&self) -> Origin {
        match self {
            Self::Point(..) => Origin::Captured,
            Self::Increment(_) => Origin::Snapshot,
        }
    }

    /// How the document is, if that is known: by what said so last.
    fn state(&self, known: &[Sighting]) -> Option<Sighting> {
        match self {
            Self::Point(at, stretch) => {
                let until = known.partition_point(|known| known.at <= *at);
                let last = known.iter().take(until).rfind(|known| !is_unsettled(known, stretch));
                last.filter(|known| known.at >= stretch.start()).cloned()
            }
            Self::Increment(increment) => increment.below.iter().find_map(|(id, until)| {
                let mut found = known.iter().find(|known| known.snapshot.as_ref() == Some(id))?.clone();
                if until.is_some_and(|until| found.update_time > Some(until)) {
                    (found.document, found.update_time, found.create_time) = (None, None, None);
                }
                Some(found)
            }),
        }
    }
}

/// Whether a backup saw a document that was changed since the point before: whether it is still so at the next one, that one says.
fn is_unsettled(known: &Sighting, stretch: &Stretch) -> bool {
    let is_there = known.snapshot.is_some() && known.document.is_some();
    is_there && known.at >= stretch.start() && known.update_time > Some(stretch.point_before(known.at))
}

impl<'m> Knowledge<'m> {
    /// Of the backups, those that say something of the document.
    pub(crate) fn new(moments: &'m Moments, backups: &[&Manifest]) -> Self {
        let says_all =
            |one: &&&Manifest| one.kind == SnapshotKind::Incremental && one.consistency == Consistency::Snapshot;
        let increments = backups
            .iter()
            .filter(says_all)
            .filter_map(|one| Some(Increment { at: one.read_time()?, below: below(one, backups) }));
        Self { moments, increments: increments.collect() }
    }

    /// The first silence from a moment on, whatever was said then.
    fn silence(&self, from: Timestamp) -> Option<Silence<'_>> {
        let point = self.moments.first_proven(from).map(|(at, stretch)| Silence::Point(at, stretch));
        let increments = self.increments.iter().filter(|increment| increment.at >= from);
        let increment = increments.min_by_key(|increment| increment.at).map(Silence::Increment);
        point.into_iter().chain(increment).min_by_key(Silence::at)
    }

    /// Known sightings with the reported ones among them, in order. `known` is in order.
    pub(crate) fn between(&self, known: Vec<Sighting>, reported: Vec<Sighting>) -> Vec<Sighting> {
        let (mut added, mut ended) = (Vec::new(), BTreeSet::new());
        let there = known.iter().filter(|known| known.document.is_some());
        let versions: HashSet<_> = there.map(|known| known.update_time).collect();
        // it is the version that is known then, whoever saw it later
        let is_known = |one: &Sighting| one.document.is_some() && versions.contains(&one.update_time);
        for mut sighting in reported.into_iter().filter(|reported| !is_known(reported)) {
            let next = known.get(known.partition_point(|known| known.at < sighting.at)).map(|next| next.at);
            let silence = self.silence(sighting.at).filter(|silence| next.is_none_or(|next| silence.at() < next));
            sighting.until = silence.as_ref().map(Silence::at).or(next);
            // what a moment says of itself is final
            if sighting.until != Some(sighting.at) {
                added.push(sighting);
                ended.extend(silence.map(|silence| silence.at()));
            }
        }
        ended.extend(self.ends_of_unsettled(&known));
        let is_silent = |at: &Timestamp| known.binary_search_by_key(at, |known| known.at).is_err();
        ended.extend(self.increments.iter().map(|increment| increment.at).filter(is_silent));
        for silence in ended.into_iter().filter_map(|at| self.silence(at)) {
            added.extend(silence.state(&known).map(|state| as_before(state, &silence)));
        }
        added.extend(known);
        added.sort_by_key(|sighting| (sighting.at, sighting.rank));
        added
    }

    /// The points at which nothing is said of what a backup saw since the point before.
    fn ends_of_unsettled(&self, known: &[Sighting]) -> impl Iterator<Item = Timestamp> {
        let nexts = known.iter().skip(1).map(|next| Some(next.at)).chain([None]);
        known.iter().zip(nexts).filter_map(|(known, next)| {
            let (at, stretch) = self.moments.first_proven(known.at)?;
            (is_unsettled(known, stretch) && next.is_none_or(|next| at < next)).then_some(at)
        })
    }
}

/// What an incremental backup builds on, as far as it is there.
fn below(increment: &Manifest, backups: &[&Manifest]) -> Vec<(SnapshotId, Option<Timestamp>)> {
    let (mut below, mut until, mut upper) = (Vec::new(), None, increment);
    while upper.kind == SnapshotKind::Incremental
        && let Some(parent) = backups.iter().find(|one| upper.parent.as_ref() == Some(&one.id))
        && below.len() < backups.len()
    {
        until = [until, upper.parent_changed_until].into_iter().flatten().min();
        below.push((parent.id.clone(), until));
        upper = parent;
    }
    below
}

fn as_before(state: Sighting, silence: &Silence<'_>) -> Sighting {
    Sighting { at: silence.at(), rank: u64::MAX, origin: silence.origin(), snapshot: None, until: None, ..state }
}
