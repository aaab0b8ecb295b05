//! Reads runs: the footer by one request, then any block by another.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use firebackup_codec::record::{Origin, RecordRef, Records};
use firebackup_codec::run::TRAILER;
use firebackup_codec::run::footer::Footer;
use firebackup_codec::run::header::HEADER;
use firebackup_codec::run::reader::{RunOpener, footer_length};
use firebackup_model::id::{KeyId, RunId};
use firebackup_model::manifest::RunEntry;
use firebackup_model::{DocumentPath, PathRange, Timestamp, path};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::mpsc;

use crate::error::{EngineError, Result};
use crate::layout;
use crate::repository::Repository;
use crate::world::Meter;

/// How much of a run's end is read at once, in the hope that the footer lies within.
const TAIL_BYTES: u64 = 32 * 1024;
/// Blocks of one run that are looked through at one time.
const PARALLEL_BLOCKS: usize = 4;

/// A run that can be read.
#[derive(Clone)]
pub(crate) struct RunSource(Arc<Inner>);

/// Blocks that were read last, for who reads one document after the other: the next stands in the same block as a rule.
#[derive(Clone, Default)]
pub(crate) struct RecentBlocks(Arc<Mutex<VecDeque<(RunId, usize, Bytes)>>>);

impl RecentBlocks {
    /// How many are kept: a block has up to some MiB.
    const MOST: usize = 8;

    fn get(&self, run: RunId, index: usize) -> Option<Bytes> {
        let blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.iter().find(|(of, at, _)| (*of, *at) == (run, index)).map(|(_, _, raw)| raw.clone())
    }

    fn keep(&self, run: RunId, index: usize, raw: &Bytes) {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.truncate(Self::MOST - 1);
        blocks.push_front((run, index, raw.clone()));
    }
}

struct Inner {
    store: Arc<dyn ObjectStore>,
    path: Path,
    opener: RunOpener,
    footer: Footer,
    /// The point of records that name none.
    read_time: Option<Timestamp>,
    meter: Arc<Meter>,
    id: RunId,
    recent: Option<RecentBlocks>,
}

impl RunSource {
    /// Opens the run of `entry`, sealed with `key`.
    pub(crate) async fn open(
        repository: &Repository,
        key: Option<KeyId>,
        entry: &RunEntry,
        meter: &Arc<Meter>,
    ) -> Result<Self> {
        Self::open_with(repository, key, entry, meter, None).await
    }

    /// The same, keeping the blocks that are read among the others of who reads on.
    pub(crate) async fn open_with(
        repository: &Repository,
        key: Option<KeyId>,
        entry: &RunEntry,
        meter: &Arc<Meter>,
        recent: Option<RecentBlocks>,
    ) -> Result<Self> {
        let sealing = repository.sealing(key).await?;
        let path = layout::run(entry.id);
        let store = Arc::clone(repository.store());
        let size = entry.size;
        let least = (HEADER + TRAILER) as u64;
        if size < least {
            return Err(EngineError::Damaged(format!("`{path}` is too short to be a run")));
        }
        let tail_start = size - TAIL_BYTES.min(size);
        let (header, tail) = read_ends(&*store, &path, tail_start, size, meter).await?;
        let named = |error: firebackup_codec::error::FormatError| error.in_object(path.as_ref());
        let opener = RunOpener::open(&header, entry.id, repository.id(), &sealing).map_err(named)?;
        let trailer =
            tail.last_chunk::<TRAILER>().ok_or_else(|| EngineError::Damaged(format!("`{path}` is cut short")))?;
        let footer_bytes = u64::from(footer_length(trailer).map_err(named)?);
        let footer_end = size - TRAILER as u64;
        let footer_start = footer_end.checked_sub(footer_bytes).filter(|start| *start >= HEADER as u64);
        let footer_start = footer_start.ok_or_else(|| EngineError::Damaged(format!("`{path}` is cut short")))?;
        let footer = if footer_start >= tail_start {
            tail.slice((footer_start - tail_start) as usize..(footer_end - tail_start) as usize)
        } else {
            read_range(&*store, &path, footer_start, footer_end, meter).await?
        };
        let footer = opener.footer(&footer, trailer, size).map_err(named)?;
        let (read_time, meter) = (entry.read_time, Arc::clone(meter));
        Ok(Self(Arc::new(Inner { store, path, opener, footer, read_time, meter, id: entry.id, recent })))
    }

    /// How many blocks it has.
    pub(crate) fn blocks(&self) -> usize {
        self.0.footer.blocks.len()
    }

    /// Its index.
    pub(crate) fn footer(&self) -> &Footer {
        &self.0.footer
    }

    /// Reads, opens and decompresses a block.
    pub(crate) async fn block(&self, index: usize) -> Result<Bytes> {
        let Inner { id, recent, .. } = &*self.0;
        if let Some(raw) = recent.as_ref().and_then(|recent| recent.get(*id, index)) {
            return Ok(raw);
        }
        let sealed = self.sealed_block(index).await?;
        let raw = self.open_block(index, sealed).await?;
        if let Some(recent) = recent {
            recent.keep(*id, index, &raw);
        }
        Ok(raw)
    }

    /// A block as it is stored.
    pub(crate) async fn sealed_block(&self, index: usize) -> Result<Bytes> {
        let info = self.0.footer.blocks.get(index);
        let info = info.ok_or_else(|| EngineError::Damaged(format!("`{}` has no block {index}", self.0.path)))?;
        self.bytes(info.offset..info.offset + u64::from(info.length)).await
    }

    /// Opens and decompresses a block.
    pub(crate) async fn open_block(&self, index: usize, sealed: Bytes) -> Result<Bytes> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            let mut raw = Vec::new();
            let opened = inner.opener.block(&inner.footer, index, &sealed, &mut raw);
            opened.map_err(|error| error.in_object(inner.path.as_ref()))?;
            Ok(Bytes::from(raw))
        })
        .await?
    }

    /// Bytes of the object.
    pub(crate) async fn bytes(&self, range: Range<u64>) -> Result<Bytes> {
        read_range(&*self.0.store, &self.0.path, range.start, range.end, &self.0.meter).await
    }

    /// The records of a block.
    pub(crate) fn records<'r>(&self, raw: &'r Bytes) -> impl Iterator<Item = Result<RecordRef<'r>>> + use<'r> {
        let path = self.0.path.clone();
        Records::new(raw).map(move |record| record.map_err(|error| error.in_object(path.as_ref()).into()))
    }

    /// The records of `path`, by reading the one block that may hold them, and those behind it that begin with more.
    pub(crate) async fn find_all(&self, path: &DocumentPath) -> Result<Vec<Record>> {
        let mut found = Vec::new();
        for index in self.blocks_with(path) {
            let raw = self.block(index).await?;
            for record in self.records(&raw) {
                let record = record?;
                if record.path == path.as_str() {
                    found.push(Record::from_ref(&record, &raw, self.0.read_time)?);
                }
            }
        }
        Ok(found)
    }

    /// What `keep` takes of the records of many paths, ascending, as they stand in the run: each block is read once, however
    /// many of them it may hold. A record that is kept keeps its whole block.
    pub(crate) async fn find_each<T>(
        &self,
        paths: &[&DocumentPath],
        keep: impl Fn(Record) -> Option<T>,
    ) -> Result<Vec<T>> {
        let wanted: BTreeSet<usize> = paths.iter().flat_map(|path| self.blocks_with(path)).collect();
        let reads = stream::iter(wanted).map(|index| self.find_in(index, paths, &keep)).buffered(PARALLEL_BLOCKS);
        Ok(reads.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
    }

    async fn find_in<T>(
        &self,
        index: usize,
        paths: &[&DocumentPath],
        keep: impl Fn(Record) -> Option<T>,
    ) -> Result<Vec<T>> {
        let raw = self.block(index).await?;
        let mut found = Vec::new();
        for record in self.records(&raw) {
            let record = record?;
            if paths.binary_search_by(|path| path::compare(path.as_str(), record.path)).is_ok() {
                found.extend(keep(Record::from_ref(&record, &raw, self.0.read_time)?));
            }
        }
        Ok(found)
    }

    /// The blocks that may hold records of a path.
    fn blocks_with(&self, path: &DocumentPath) -> Range<usize> {
        let blocks = &self.0.footer.blocks;
        let Some(first) = self.0.footer.find(path.as_str()) else { return 0..0 };
        first..blocks.partition_point(|block| block.first <= *path)
    }

    /// The records in `range`, a block ahead of whoever takes them.
    pub(crate) fn stream(&self, range: &PathRange) -> RecordFeed {
        self.feed(range, Self::batch)
    }

    /// The same without what does not count, as `counts` says by update time and point, and of those of one path that follow one
    /// another in a block the last one only: what a document was in between is not even copied.
    pub(crate) fn stream_latest(&self, range: &PathRange, counts: impl Counts) -> RecordFeed {
        self.feed(range, move |run, raw, range| run.latest(raw, range, &counts))
    }

    fn feed(
        &self,
        range: &PathRange,
        batch: impl Fn(&Self, &Bytes, &PathRange) -> Result<Vec<Record>> + Send + 'static,
    ) -> RecordFeed {
        let (to_feed, blocks) = mpsc::channel(1);
        let (run, range) = (self.clone(), range.clone());
        tokio::spawn(async move {
            for index in run.0.footer.blocks_in(&range) {
                let batch = run.block(index).await.and_then(|raw| batch(&run, &raw, &range)).map(Some);
                let failed = batch.is_err();
                if to_feed.send(batch).await.is_err() || failed {
                    return;
                }
            }
            // said outright: a feeder that died must not look like the end of the run
            let _ = to_feed.send(Ok(None)).await;
        });
        RecordFeed { blocks, current: Vec::new().into_iter(), has_ended: false }
    }

    fn batch(&self, raw: &Bytes, range: &PathRange) -> Result<Vec<Record>> {
        let mut batch = Vec::new();
        for record in self.records(raw) {
            let record = record?;
            if range.covers_text(record.path) {
                batch.push(Record::from_ref(&record, raw, self.0.read_time)?);
            }
        }
        Ok(batch)
    }

    fn latest(&self, raw: &Bytes, range: &PathRange, counts: &impl Counts) -> Result<Vec<Record>> {
        let read_time = self.0.read_time;
        let mut batch = Vec::new();
        let mut last: Option<RecordRef<'_>> = None;
        for record in self.records(raw) {
            let record = record?;
            if !range.covers_text(record.path) || !counts(record.update_time, record.point.or(read_time)) {
                continue;
            }
            if let Some(before) = last.replace(record)
                && before.path != record.path
            {
                batch.push(Record::from_ref(&before, raw, read_time)?);
            }
        }
        if let Some(last) = last {
            batch.push(Record::from_ref(&last, raw, read_time)?);
        }
        Ok(batch)
    }
}

/// Whether a record of an update time and a point counts.
pub(crate) trait Counts: Fn(Option<Timestamp>, Option<Timestamp>) -> bool + Send + 'static {}

impl<F: Fn(Option<Timestamp>, Option<Timestamp>) -> bool + Send + 'static> Counts for F {}

async fn read_ends(
    store: &dyn ObjectStore,
    path: &Path,
    tail_start: u64,
    size: u64,
    meter: &Meter,
) -> Result<(Bytes, Bytes)> {
    let tail = read_range(store, path, tail_start, size, meter).await?;
    if tail_start == 0 {
        return Ok((tail.slice(..HEADER), tail));
    }
    Ok((read_range(store, path, 0, HEADER as u64, meter).await?, tail))
}

async fn read_range(store: &dyn ObjectStore, path: &Path, start: u64, end: u64, meter: &Meter) -> Result<Bytes> {
    let bytes = store.get_range(path, start..end).await.map_err(EngineError::store("read", path))?;
    meter.stored.add(bytes.len() as u64);
    // a store answers a range past the end with what there is
    if bytes.len() as u64 == end - start {
        Ok(bytes)
    } else {
        Err(EngineError::Damaged(format!(
            "`{path}` is cut short: {} of {} bytes from offset {start} on",
            bytes.len(),
            end - start
        )))
    }
}

/// A record that owns its bytes, together with the block it came from.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) path: DocumentPath,
    /// The document; nothing for a tombstone.
    pub(crate) body: Option<Bytes>,
    pub(crate) update_time: Option<Timestamp>,
    /// The consistent point or read time that it is of.
    pub(crate) point: Option<Timestamp>,
    /// When the change was committed, where that is known.
    pub(crate) commit_time: Option<Timestamp>,
    pub(crate) origin: Origin,
}

impl Record {
    fn from_ref(record: &RecordRef<'_>, block: &Bytes, read_time: Option<Timestamp>) -> Result<Self> {
        let path = DocumentPath::new(record.path).map_err(|error| EngineError::Refused(error.to_string()))?;
        let body = record.body.map(|body| block.slice_ref(body));
        let RecordRef { update_time, commit_time, origin, .. } = *record;
        Ok(Self { path, body, update_time, point: record.point.or(read_time), commit_time, origin })
    }

    /// The record as it was read, with its point.
    pub(crate) fn as_change(&self) -> RecordRef<'_> {
        let Self { update_time, commit_time, origin, point, .. } = *self;
        RecordRef { path: self.path.as_str(), body: self.body.as_deref(), origin, update_time, commit_time, point }
    }

    /// The record as it is written into a run.
    pub(crate) fn as_ref(&self) -> RecordRef<'_> {
        RecordRef {
            path: self.path.as_str(),
            body: self.body.as_deref(),
            origin: Origin::Base,
            update_time: self.update_time,
            commit_time: None,
            point: None,
        }
    }
}

/// Records of one run, in order.
pub(crate) struct RecordFeed {
    /// The records of a block; nothing at the end.
    blocks: mpsc::Receiver<Result<Option<Vec<Record>>>>,
    current: std::vec::IntoIter<Record>,
    has_ended: bool,
}

impl RecordFeed {
    /// The next record, or nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Record>> {
        loop {
            if let Some(record) = self.current.next() {
                return Ok(Some(record));
            }
            if self.has_ended {
                return Ok(None);
            }
            match self.blocks.recv().await.ok_or(EngineError::Worker)?? {
                None => self.has_ended = true,
                Some(batch) => self.current = batch.into_iter(),
            }
        }
    }
}
