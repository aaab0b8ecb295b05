//! The one merge: many runs, one stream of records in path order, one record a path.
//!
//! Of the records of one path, that of the newest point is taken where changes were captured, and otherwise (and of one
//! point) that of the run of the highest rank; captured changes come before what they are put on top of. Runs are opened when the merge
//! reaches their first path, so that runs which follow one another (the chunks of a snapshot, the batches of an undo)
//! cost the memory of one.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use firebackup_model::id::{KeyId, RunId};
use firebackup_model::manifest::{Manifest, RunEntry};
use firebackup_model::{DocumentPath, PathRange, Timestamp};

use crate::error::Result;
use crate::read::{RecentBlocks, Record, RecordFeed, RunSource};
use crate::repository::Repository;
use crate::world::Meter;

/// A run with its rank.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) entry: RunEntry,
    pub(crate) key: Option<KeyId>,
    /// Of two records of one path, that of the higher rank counts.
    pub(crate) rank: u64,
    /// Records of these paths do not count.
    pub(crate) except: Arc<HashSet<DocumentPath>>,
    /// Of captured changes: which records count.
    pub(crate) span: Option<Span>,
    /// Only documents that were changed last at or before this point count: what was changed behind it stands in captured
    /// changes, and where it does not, it had come and gone before the next point.
    pub(crate) changed_until: Option<Timestamp>,
    /// Of reported versions, which belong to no point: whether they come in the order in which they were written.
    pub(crate) by_update_time: bool,
    /// Only the record of this update time and point counts.
    pub(crate) only: Option<(Option<Timestamp>, Option<Timestamp>)>,
}

/// Of the records of one path, that with the greatest counts: the point of a captured change, then the rank of the run.
pub(crate) type Precedence = (Option<Timestamp>, u64);

impl Layer {
    /// Whether a record of it may lie in `range`.
    pub(crate) fn may_lie_in(&self, range: &PathRange) -> bool {
        let ends_before = range.end.as_ref().is_some_and(|end| self.entry.first >= *end);
        !ends_before && !range.behind_all_of(&self.entry.last)
    }

    /// Whether a record of this layer counts at all.
    pub(crate) fn counts(&self, record: &Record) -> bool {
        self.counts_by(record.update_time, record.point) && !self.except.contains(&record.path)
    }

    /// Whether a record of these times counts, whatever its path is.
    fn counts_by(&self, update_time: Option<Timestamp>, point: Option<Timestamp>) -> bool {
        let is_settled = self.changed_until.is_none_or(|until| update_time.is_none_or(|time| time <= until));
        let is_meant = self.only.is_none_or(|only| only == (update_time, point));
        is_settled && is_meant && self.span.is_none_or(|span| span.covers(point))
    }

    /// What of a run comes into a merge. Of captured changes that follow one another, the one of the newest point is the one that is
    /// taken, so that the others need not come at all.
    fn feed(&self, run: &RunSource, range: &PathRange, takes_one: bool) -> RecordFeed {
        if !takes_one || self.span.is_none() {
            return run.stream(range);
        }
        let layer = self.clone();
        run.stream_latest(range, move |update_time, point| layer.counts_by(update_time, point))
    }

    pub(crate) fn precedence(&self, record: &Record) -> Precedence {
        let moment = if self.by_update_time { record.update_time } else { self.span.and(record.point) };
        (moment, self.rank)
    }
}

/// Which of captured changes count: what is dated at or before the base's read time never overrides it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Records of points behind this one,
    pub(crate) after: Timestamp,
    /// and not behind this one.
    pub(crate) until: Timestamp,
}

impl Span {
    fn covers(self, point: Option<Timestamp>) -> bool {
        point.is_some_and(|point| self.after < point && point <= self.until)
    }
}

/// The layers of a snapshot that stands on its own.
pub(crate) fn layers(manifest: &Manifest) -> Vec<Layer> {
    manifest
        .runs
        .iter()
        .map(|entry| Layer {
            entry: entry.clone(),
            key: manifest.key,
            rank: 0,
            except: Arc::default(),
            span: None,
            changed_until: None,
            by_update_time: false,
            only: None,
        })
        .collect()
}

/// Runs that were opened, for merges of one range after the other: the index of a run is read once, and a block once for the
/// documents that follow one another in it.
#[derive(Default)]
pub(crate) struct OpenRuns {
    runs: HashMap<RunId, RunSource>,
    recent: RecentBlocks,
}

impl OpenRuns {
    /// How many indexes are kept.
    const MOST: usize = 256;

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn keep(&mut self, run: RunId, source: &RunSource) {
        if self.runs.len() >= Self::MOST {
            self.runs.clear();
        }
        self.runs.insert(run, source.clone());
    }
}

/// Records of several runs, merged: of each path the one that counts.
pub(crate) struct Merge(Heads);

/// Records of several runs in order, all that count: of one path those of lower precedence first.
pub(crate) struct Heads {
    repository: Repository,
    meter: Arc<Meter>,
    range: PathRange,
    /// Not opened yet, the next one last.
    waiting: Vec<Layer>,
    open: BinaryHeap<Reverse<Head>>,
    /// Runs that were opened before, where they are kept.
    runs: Option<OpenRuns>,
    /// Whether of the records of one path no more than the one that counts is asked for.
    takes_one: bool,
}

/// The next record of an open run.
struct Head {
    record: Record,
    from: Layer,
    feed: RecordFeed,
}

impl Head {
    fn precedence(&self) -> Precedence {
        self.from.precedence(&self.record)
    }

    fn order(&self) -> (&DocumentPath, Precedence) {
        (&self.record.path, self.precedence())
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl Merge {
    /// Merges what of `layers` lies in `range`.
    pub(crate) fn new(repository: &Repository, layers: &[Layer], range: &PathRange, meter: &Arc<Meter>) -> Self {
        Self(Heads { takes_one: true, ..Heads::new(repository, layers, range, meter) })
    }

    /// The same, with runs that a merge of another range has opened; they are to be taken on to the next.
    pub(crate) fn with(mut self, runs: OpenRuns) -> Self {
        self.0.runs = Some(runs);
        self
    }

    /// The runs that were opened.
    pub(crate) fn into_runs(self) -> OpenRuns {
        self.0.runs.unwrap_or_default()
    }

    /// The next record, or nothing at the end. What captured changes say is gone is left out.
    pub(crate) async fn next(&mut self) -> Result<Option<Record>> {
        while let Some((mut record, mut is_change)) = self.0.next().await? {
            while self.0.stands_at(&record.path)
                && let Some(later) = self.0.next().await?
            {
                (record, is_change) = later;
            }
            if record.body.is_some() || !is_change {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

impl Heads {
    /// What of `layers` lies in `range`.
    pub(crate) fn new(repository: &Repository, layers: &[Layer], range: &PathRange, meter: &Arc<Meter>) -> Self {
        let mut waiting: Vec<Layer> = layers.iter().filter(|layer| layer.may_lie_in(range)).cloned().collect();
        waiting.sort_by(|a, b| b.entry.first.cmp(&a.entry.first));
        Self {
            repository: repository.clone(),
            meter: Arc::clone(meter),
            range: range.clone(),
            waiting,
            open: BinaryHeap::new(),
            runs: None,
            takes_one: false,
        }
    }

    /// The next record, and whether it is a captured change; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<(Record, bool)>> {
        self.open_reached().await?;
        let Some(Reverse(Head { record, from, feed })) = self.open.pop() else { return Ok(None) };
        let is_change = from.span.is_some();
        self.push(feed, from).await?;
        Ok(Some((record, is_change)))
    }

    /// Whether the next record is one of `path`. Whatever begins at it is open when the first of them was taken.
    pub(crate) fn stands_at(&self, path: &DocumentPath) -> bool {
        self.open.peek().is_some_and(|Reverse(head)| head.record.path == *path)
    }

    /// Puts the feed's next record that counts among the heads.
    async fn push(&mut self, mut feed: RecordFeed, from: Layer) -> Result<()> {
        while let Some(record) = feed.next().await? {
            if from.counts(&record) {
                self.open.push(Reverse(Head { record, from, feed }));
                return Ok(());
            }
        }
        Ok(())
    }

    async fn open_reached(&mut self) -> Result<()> {
        while let Some(layer) = self.waiting.last() {
            let reached = self.open.peek().is_none_or(|Reverse(head)| layer.entry.first <= head.record.path);
            if !reached {
                return Ok(());
            }
            if let Some(layer) = self.waiting.pop() {
                let run = self.run(&layer).await?;
                let feed = layer.feed(&run, &self.range, self.takes_one);
                self.push(feed, layer).await?;
            }
        }
        Ok(())
    }

    async fn run(&mut self, layer: &Layer) -> Result<RunSource> {
        let id = layer.entry.id;
        if let Some(run) = self.runs.as_ref().and_then(|runs| runs.runs.get(&id)) {
            return Ok(run.clone());
        }
        let recent = self.runs.as_ref().map(|runs| runs.recent.clone());
        let run = RunSource::open_with(&self.repository, layer.key, &layer.entry, &self.meter, recent).await?;
        if let Some(runs) = &mut self.runs {
            runs.keep(id, &run);
        }
        Ok(run)
    }
}
