//! Collects records into blocks.

use firebackup_model::manifest::{Counts, GroupCounts, RunKind};
use firebackup_model::{DocumentPath, Timestamp, path};

use crate::error::FormatError;
use crate::limit::{MAX_BLOCK_SIZE, MAX_RAW_BLOCK};
use crate::record::{self, RecordRef};
use crate::run::ladder::Ladder;

/// Given-back buffers that are kept for reuse.
const SPARE_BUFFERS: usize = 16;

/// The records of a block, before compression, and what is to be known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBlock {
    /// The encoded records.
    pub bytes: Vec<u8>,
    /// What they are.
    pub summary: BlockSummary,
}

/// What a run's footer and totals need to know of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSummary {
    /// How many records.
    pub records: u32,
    /// The first record's path.
    pub first: DocumentPath,
    /// The last record's path.
    pub last: DocumentPath,
    /// Counts for each collection group (of a users run: for each tenant).
    pub collections: GroupCounts,
    /// The earliest and latest update time, where any is known.
    pub times: Option<(Timestamp, Timestamp)>,
}

/// Collects records into blocks and holds them to the run's order, across blocks too.
#[derive(Debug)]
pub struct BlockBuilder {
    block_size: usize,
    ladder: Ladder,
    bytes: Vec<u8>,
    records: u32,
    first: String,
    last: String,
    tally: Tally,
    times: Option<(Timestamp, Timestamp)>,
    spare: Vec<Vec<u8>>,
}

impl BlockBuilder {
    /// Collects records of a run of this kind into blocks of about `block_size` bytes (at most 8 MiB).
    #[must_use]
    pub fn new(kind: RunKind, block_size: usize) -> Self {
        Self {
            block_size: block_size.clamp(1, MAX_BLOCK_SIZE as usize),
            ladder: Ladder::new(kind),
            bytes: Vec::new(),
            records: 0,
            first: String::new(),
            last: String::new(),
            tally: Tally::default(),
            times: None,
            spare: Vec::new(),
        }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When it does not stand behind the record before, has no valid path or times, or is too large. Nothing is added then.
    pub fn push(&mut self, record: &RecordRef<'_>) -> Result<(), FormatError> {
        record.check()?;
        let before = self.bytes.len();
        if before == 0 && self.bytes.capacity() == 0 {
            self.bytes = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(self.block_size + self.block_size / 16));
        }
        record::encode(record, &mut self.bytes);
        let admitted = if self.bytes.len() > MAX_RAW_BLOCK {
            Err(FormatError::limit(
                before as u64,
                format!("a block larger than {MAX_RAW_BLOCK} bytes: take it before it grows"),
            ))
        } else {
            self.ladder.admit(record, before as u64)
        };
        if let Err(error) = admitted {
            self.bytes.truncate(before);
            return Err(error);
        }
        self.note(record);
        Ok(())
    }

    fn note(&mut self, record: &RecordRef<'_>) {
        if self.records == 0 {
            self.first.clear();
            self.first.push_str(record.path);
        }
        self.last.clear();
        self.last.push_str(record.path);
        self.records += 1;
        self.tally.add(record);
        if let Some(time) = record.update_time {
            self.times = span(self.times, (time, time));
        }
    }

    /// Whether the block has reached the size that was aimed at.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= self.block_size
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes of the block so far, before compression.
    #[must_use]
    pub const fn raw_len(&self) -> usize {
        self.bytes.len()
    }

    /// The path of the last record that was pushed, in this block or before; nothing before the first.
    #[must_use]
    pub fn last_path(&self) -> Option<&str> {
        if self.last.is_empty() { None } else { Some(&self.last) }
    }

    /// Hands the block out and begins the next; nothing when there are no records.
    ///
    /// # Errors
    /// Never for paths that [`Self::push`] admitted.
    pub fn take(&mut self) -> Result<Option<RawBlock>, FormatError> {
        if self.is_empty() {
            return Ok(None);
        }
        let path = |text: &str| {
            DocumentPath::new(text).map_err(|error| FormatError::damaged(0, "not a document path").with_source(error))
        };
        let summary = BlockSummary {
            records: self.records,
            first: path(&self.first)?,
            last: path(&self.last)?,
            collections: self.tally.take(),
            times: self.times.take(),
        };
        self.records = 0;
        let next = self.spare.pop().unwrap_or_default();
        Ok(Some(RawBlock { bytes: std::mem::replace(&mut self.bytes, next), summary }))
    }

    /// Takes back a buffer that was handed out, for a block to come.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// The span of both.
pub(crate) fn span(a: Option<(Timestamp, Timestamp)>, b: (Timestamp, Timestamp)) -> Option<(Timestamp, Timestamp)> {
    Some(a.map_or(b, |a| (a.0.min(b.0), a.1.max(b.1))))
}

/// Counts by collection group. Neighbours are mostly of one group, so the map is touched only when it changes.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    groups: GroupCounts,
    group: String,
    counts: Counts,
}

impl Tally {
    pub(crate) fn add(&mut self, record: &RecordRef<'_>) {
        let group = path::collection_group_of(record.path);
        if group != self.group {
            self.settle();
            self.group.push_str(group);
        }
        match record.body {
            Some(body) => {
                self.counts.documents += 1;
                self.counts.bytes += body.len() as u64;
            }
            None => self.counts.deletions += 1,
        }
    }

    fn settle(&mut self) {
        let group = std::mem::take(&mut self.group);
        let counts = std::mem::take(&mut self.counts);
        if !group.is_empty() {
            self.groups.entry(group).or_default().add(counts);
        }
    }

    pub(crate) fn take(&mut self) -> GroupCounts {
        self.settle();
        std::mem::take(&mut self.groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FormatErrorKind;
    use crate::limit::MAX_BODY;
    use crate::record::Records;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp::new(seconds, 0))
    }

    #[test]
    fn a_block_knows_what_it_holds() {
        let mut builder = BlockBuilder::new(RunKind::Delta, 40);
        assert!(builder.take().unwrap().is_none());
        builder.push(&RecordRef::document("a/1", b"xyz", at(5))).unwrap();
        builder.push(&RecordRef::tombstone("a/1/b/1")).unwrap();
        builder.push(&RecordRef::document("a/2", b"u", at(3))).unwrap();
        assert!(!builder.is_full());
        builder.push(&RecordRef::document("b/1", &[0; 40], None)).unwrap();
        assert!(builder.is_full());
        let block = builder.take().unwrap().unwrap();
        let summary = &block.summary;
        assert_eq!((summary.records, summary.first.as_str(), summary.last.as_str()), (4, "a/1", "b/1"));
        assert_eq!(summary.times, Some((Timestamp::new(3, 0), Timestamp::new(5, 0))));
        let expected = [
            ("a".to_owned(), Counts { documents: 2, deletions: 0, bytes: 4 }),
            ("b".to_owned(), Counts { documents: 1, deletions: 1, bytes: 40 }),
        ];
        assert_eq!(summary.collections, GroupCounts::from(expected));
        assert_eq!(Records::new(&block.bytes).count(), 4);
        assert!(builder.is_empty() && builder.raw_len() == 0);
    }

    #[test]
    fn order_is_held_across_blocks_and_a_refusal_changes_nothing() {
        let mut builder = BlockBuilder::new(RunKind::Base, 1);
        builder.push(&RecordRef::document("a/2", b"x", None)).unwrap();
        let first = builder.take().unwrap().unwrap();
        let pointer = first.bytes.as_ptr();
        builder.recycle(first.bytes);
        for bad in ["a/2", "a/1", "A/9"] {
            let error = builder.push(&RecordRef::document(bad, b"x", None)).unwrap_err();
            assert_eq!(error.kind(), FormatErrorKind::Order, "{bad}");
        }
        assert!(builder.push(&RecordRef::tombstone("a/3")).is_err());
        assert!(builder.push(&RecordRef::document("a", b"x", None)).is_err());
        assert!(builder.is_empty() && builder.take().unwrap().is_none());
        builder.push(&RecordRef::document("a/3", b"x", None)).unwrap();
        let second = builder.take().unwrap().unwrap();
        assert_eq!(second.bytes.as_ptr(), pointer, "the buffer is used again");
        assert_eq!(second.summary.first.as_str(), "a/3");
    }

    #[test]
    fn versions_of_a_path_ascend_in_a_delta() {
        let mut builder = BlockBuilder::new(RunKind::Delta, 1);
        let version =
            |point, time| RecordRef { point: at(point), update_time: at(time), ..RecordRef::tombstone("a/1") };
        builder.push(&version(1, 9)).unwrap();
        builder.push(&version(2, 1)).unwrap();
        for bad in [version(2, 1), version(2, 0), version(1, 9)] {
            assert_eq!(builder.push(&bad).unwrap_err().kind(), FormatErrorKind::Order);
        }
    }

    #[test]
    fn what_is_too_large_or_no_time_is_refused() {
        let mut builder = BlockBuilder::new(RunKind::Base, 1);
        let huge = vec![0; MAX_BODY + 1];
        assert_eq!(builder.push(&RecordRef::document("a/1", &huge, None)).unwrap_err().kind(), FormatErrorKind::Limit);
        let bad = Some(Timestamp { seconds: 0, nanos: 1_000_000_000 });
        assert!(builder.push(&RecordRef::document("a/1", b"", bad)).is_err());
        builder.push(&RecordRef::document("a/1", &huge[1..], None)).unwrap();
        let error = builder.push(&RecordRef::document("a/2", &huge[1..], None)).unwrap_err();
        assert_eq!(error.kind(), FormatErrorKind::Limit, "two would pass the limit of a block");
        assert_eq!(builder.take().unwrap().unwrap().summary.records, 1);
    }
}
