//! The one merge: many runs, one stream of records in path order, one record a path.
//!
//! Each run has a rank, and of the records of one path that of the highest rank is taken. Runs are opened when the merge
//! reaches their first path, so that runs which follow one another (the chunks of a snapshot, the batches of an undo)
//! cost the memory of one.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use firebackup_model::id::KeyId;
use firebackup_model::manifest::{Manifest, RunEntry};
use firebackup_model::{DocumentPath, PathRange};

use crate::error::Result;
use crate::read::{Record, RecordFeed, RunSource};
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
}

/// The layers of a snapshot that stands on its own.
pub(crate) fn layers(manifest: &Manifest) -> Vec<Layer> {
    manifest
        .runs
        .iter()
        .map(|entry| Layer { entry: entry.clone(), key: manifest.key, rank: 0, except: Arc::default() })
        .collect()
}

/// Records of several runs, merged.
pub(crate) struct Merge {
    repository: Repository,
    meter: Arc<Meter>,
    range: PathRange,
    /// Not opened yet, the next one last.
    waiting: Vec<Layer>,
    open: BinaryHeap<Reverse<Head>>,
}

/// The next record of an open run.
struct Head {
    record: Record,
    rank: u64,
    except: Arc<HashSet<DocumentPath>>,
    feed: RecordFeed,
}

impl Head {
    fn order(&self) -> (&DocumentPath, Reverse<u64>) {
        (&self.record.path, Reverse(self.rank))
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
        let touches = |layer: &&Layer| {
            let ends_before = range.end.as_ref().is_some_and(|end| layer.entry.first >= *end);
            !ends_before && !range.behind_all_of(&layer.entry.last)
        };
        let mut waiting: Vec<Layer> = layers.iter().filter(touches).cloned().collect();
        waiting.sort_by(|a, b| b.entry.first.cmp(&a.entry.first));
        Self {
            repository: repository.clone(),
            meter: Arc::clone(meter),
            range: range.clone(),
            waiting,
            open: BinaryHeap::new(),
        }
    }

    /// The next record, or nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Record>> {
        self.open_reached().await?;
        let Some(Reverse(head)) = self.open.pop() else { return Ok(None) };
        let record = self.advance(head).await?;
        while let Some(Reverse(other)) = self.open.peek() {
            if other.record.path != record.path {
                break;
            }
            if let Some(Reverse(outranked)) = self.open.pop() {
                self.advance(outranked).await?;
            }
        }
        Ok(Some(record))
    }

    /// Takes the head's record and puts the feed's next one in its place.
    async fn advance(&mut self, head: Head) -> Result<Record> {
        let Head { record, rank, except, feed } = head;
        self.push(feed, rank, except).await?;
        Ok(record)
    }

    /// Puts the feed's next record that counts among the heads.
    async fn push(&mut self, mut feed: RecordFeed, rank: u64, except: Arc<HashSet<DocumentPath>>) -> Result<()> {
        while let Some(record) = feed.next().await? {
            if !except.contains(&record.path) {
                self.open.push(Reverse(Head { record, rank, except, feed }));
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
                let run = RunSource::open(&self.repository, layer.key, &layer.entry, &self.meter).await?;
                self.push(run.stream(&self.range), layer.rank, layer.except).await?;
            }
        }
        Ok(())
    }
}
