//! The index at the end of a run.

use std::ops::Range;

use firebackup_model::manifest::{Counts, GroupCounts, RunKind};
use firebackup_model::wire::put_varint;
use firebackup_model::{DocumentPath, PathRange, RangeStart, Timestamp, path};

use crate::error::{FormatError, FormatErrorKind};
use crate::limit::{MAX_BLOCKS, MAX_ENTRIES, MAX_RAW_BLOCK};
use crate::primitive::{Cursor, put_text, put_time};
use crate::run::FRAME;
use crate::run::header::HEADER;
use crate::sealing::TAG;

/// The least bytes that a time takes.
const LEAST_TIME: usize = 2;
/// The least bytes that an entry of a block takes: three lengths and two paths of three bytes.
const LEAST_BLOCK: usize = 11;
/// The least bytes that an entry of a collection group takes.
const LEAST_GROUP: usize = 5;

/// Where a block stands and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInfo {
    /// Where its frame begins, in bytes from the start of the run.
    pub offset: u64,
    /// Bytes in the run, the frame included.
    pub length: u32,
    /// Bytes before compression.
    pub raw_length: u32,
    /// Records in it.
    pub records: u32,
    /// The first record's path.
    pub first: DocumentPath,
    /// The last record's path.
    pub last: DocumentPath,
}

/// What the end of a run says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Records in the run.
    pub records: u64,
    /// How many of them are tombstones.
    pub tombstones: u64,
    /// Bytes of all documents.
    pub document_bytes: u64,
    /// Bytes of all blocks before compression.
    pub raw_bytes: u64,
    /// The consistent points that the run proves, ascending.
    pub points: Vec<Timestamp>,
    /// The earliest and latest update time, where any is known.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The blocks, in path order.
    pub blocks: Vec<BlockInfo>,
    /// Counts for each collection group (of a users run: for each tenant).
    pub collections: GroupCounts,
    /// SHA-256 of everything before the footer.
    pub sha256: [u8; 32],
}

impl Footer {
    /// The first block that can hold records of `path`; nothing when none can. In a delta run they may go on in the
    /// blocks that follow, as long as those begin with the same path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<usize> {
        let index = self.blocks.partition_point(|block| path::compare(block.last.as_str(), path).is_lt());
        let block = self.blocks.get(index)?;
        path::compare(block.first.as_str(), path).is_le().then_some(index)
    }

    /// The blocks that can hold records of `range`.
    #[must_use]
    pub fn blocks_in(&self, range: &PathRange) -> Range<usize> {
        let start = match &range.start {
            RangeStart::Beginning => 0,
            RangeStart::At(start) => self.blocks.partition_point(|block| block.last < *start),
            RangeStart::After(start) => self.blocks.partition_point(|block| block.last <= *start),
        };
        let end = match &range.end {
            None => self.blocks.len(),
            Some(end) => self.blocks.partition_point(|block| block.first < *end),
        };
        start..end.max(start)
    }

    /// Where the footer begins, in bytes from the start of the run: right behind the last block.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.blocks.last().map_or(HEADER as u64, |block| block.offset + u64::from(block.length))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [self.records, self.tombstones, self.document_bytes, self.raw_bytes] {
            put_varint(&mut out, number);
        }
        put_varint(&mut out, self.points.len() as u64);
        for point in &self.points {
            put_time(&mut out, *point);
        }
        out.push(u8::from(self.times.is_some()));
        for time in self.times.into_iter().flat_map(|(earliest, latest)| [earliest, latest]) {
            put_time(&mut out, time);
        }
        put_varint(&mut out, self.blocks.len() as u64);
        for block in &self.blocks {
            put_varint(&mut out, u64::from(block.length) - FRAME as u64);
            put_varint(&mut out, u64::from(block.raw_length));
            put_varint(&mut out, u64::from(block.records));
            put_text(&mut out, block.first.as_str());
            put_text(&mut out, block.last.as_str());
        }
        put_varint(&mut out, self.collections.len() as u64);
        for (group, counts) in &self.collections {
            put_text(&mut out, group);
            for number in [counts.documents, counts.deletions, counts.bytes] {
                put_varint(&mut out, number);
            }
        }
        out.extend_from_slice(&self.sha256);
        out
    }

    /// Reads the payload of a footer; `base` is where it stands in the run.
    pub(crate) fn parse(payload: &[u8], base: u64, kind: RunKind) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(payload, base);
        let footer = Self {
            records: cursor.varint()?,
            tombstones: cursor.varint()?,
            document_bytes: cursor.varint()?,
            raw_bytes: cursor.varint()?,
            points: points(&mut cursor)?,
            times: times(&mut cursor)?,
            blocks: blocks(&mut cursor, kind)?,
            collections: collections(&mut cursor)?,
            sha256: cursor.array()?,
        };
        cursor.end()?;
        footer.check_totals(base)?;
        Ok(footer)
    }

    fn check_totals(&self, base: u64) -> Result<(), FormatError> {
        let groups = || self.collections.values();
        let right = sum(self.blocks.iter().map(|block| u64::from(block.records))) == Some(self.records)
            && sum(self.blocks.iter().map(|block| u64::from(block.raw_length))) == Some(self.raw_bytes)
            && sum(groups().map(|counts| counts.deletions)) == Some(self.tombstones)
            && sum(groups().map(|counts| counts.bytes)) == Some(self.document_bytes)
            && sum(groups().flat_map(|counts| [counts.documents, counts.deletions])) == Some(self.records);
        if right { Ok(()) } else { Err(FormatError::damaged(base, "the totals of its footer do not add up")) }
    }
}

/// The sum, unless it overflows.
fn sum(mut numbers: impl Iterator<Item = u64>) -> Option<u64> {
    numbers.try_fold(0, u64::checked_add)
}

fn points(cursor: &mut Cursor<'_>) -> Result<Vec<Timestamp>, FormatError> {
    let count = cursor.count(LEAST_TIME, MAX_ENTRIES, "consistent points")?;
    let mut points: Vec<Timestamp> = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = cursor.offset();
        let point = cursor.time()?;
        if points.last().is_some_and(|last| *last >= point) {
            return Err(FormatError::new(FormatErrorKind::Order, offset, "consistent points do not ascend"));
        }
        points.push(point);
    }
    Ok(points)
}

fn times(cursor: &mut Cursor<'_>) -> Result<Option<(Timestamp, Timestamp)>, FormatError> {
    let offset = cursor.offset();
    match cursor.byte()? {
        0 => Ok(None),
        1 => {
            let (earliest, latest) = (cursor.time()?, cursor.time()?);
            if earliest <= latest {
                return Ok(Some((earliest, latest)));
            }
            Err(FormatError::new(FormatErrorKind::Order, offset, "the earliest update time is later than the latest"))
        }
        _ => Err(FormatError::damaged(offset, "neither with update times nor without")),
    }
}

fn blocks(cursor: &mut Cursor<'_>, kind: RunKind) -> Result<Vec<BlockInfo>, FormatError> {
    let at = cursor.offset();
    let count = cursor.count(LEAST_BLOCK, MAX_BLOCKS, "blocks")?;
    if count == 0 {
        return Err(FormatError::damaged(at, "a run without blocks"));
    }
    let mut blocks: Vec<BlockInfo> = Vec::with_capacity(count);
    let mut offset = HEADER as u64;
    for _ in 0..count {
        let at = cursor.offset();
        let block = block(cursor, offset)?;
        offset += u64::from(block.length);
        let before = blocks.last().map(|before| before.last.cmp(&block.first));
        let repeats = before.is_some_and(|order| order.is_eq() && kind != RunKind::Delta);
        if block.first > block.last || before.is_some_and(std::cmp::Ordering::is_gt) || repeats {
            return Err(FormatError::new(FormatErrorKind::Order, at, "the paths of its blocks do not ascend"));
        }
        blocks.push(block);
    }
    Ok(blocks)
}

fn block(cursor: &mut Cursor<'_>, offset: u64) -> Result<BlockInfo, FormatError> {
    let at = cursor.offset();
    let stored = cursor.size(MAX_RAW_BLOCK + TAG, "stored length of a block")?;
    let raw_length = cursor.size(MAX_RAW_BLOCK, "raw length of a block")?;
    let records = cursor.size(raw_length, "records of a block")?;
    if stored < TAG || stored > raw_length + TAG || records == 0 {
        return Err(FormatError::damaged(at, "the lengths of a block do not fit each other"));
    }
    Ok(BlockInfo {
        offset,
        length: (stored + FRAME) as u32,
        raw_length: raw_length as u32,
        records: records as u32,
        first: document_path(cursor)?,
        last: document_path(cursor)?,
    })
}

fn document_path(cursor: &mut Cursor<'_>) -> Result<DocumentPath, FormatError> {
    let offset = cursor.offset();
    let text = cursor.text(path::MAX_PATH_BYTES, "path")?;
    DocumentPath::new(text)
        .map_err(|error| FormatError::damaged(offset, "a block's path is not a document path").with_source(error))
}

fn collections(cursor: &mut Cursor<'_>) -> Result<GroupCounts, FormatError> {
    let count = cursor.count(LEAST_GROUP, MAX_ENTRIES, "collection groups")?;
    let mut collections = GroupCounts::new();
    for _ in 0..count {
        let offset = cursor.offset();
        let group = cursor.text(path::MAX_PATH_BYTES, "collection group")?;
        if collections.last_key_value().is_some_and(|(last, _)| last.as_str() >= group) {
            return Err(FormatError::new(FormatErrorKind::Order, offset, "collection groups do not ascend"));
        }
        let counts = Counts { documents: cursor.varint()?, deletions: cursor.varint()?, bytes: cursor.varint()? };
        collections.insert(group.to_owned(), counts);
    }
    Ok(collections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> DocumentPath {
        DocumentPath::new(text).unwrap()
    }

    fn footer(paths: &[(&str, &str)]) -> Footer {
        let mut offset = HEADER as u64;
        let blocks: Vec<_> = paths
            .iter()
            .map(|(first, last)| {
                let block =
                    BlockInfo { offset, length: 50, raw_length: 40, records: 2, first: path(first), last: path(last) };
                offset += 50;
                block
            })
            .collect();
        let records = blocks.len() as u64 * 2;
        Footer {
            records,
            tombstones: 1,
            document_bytes: 9,
            raw_bytes: blocks.len() as u64 * 40,
            points: vec![Timestamp::new(1, 0), Timestamp::new(2, 5)],
            times: Some((Timestamp::new(-1, 3), Timestamp::new(4, 0))),
            blocks,
            collections: [("a".to_owned(), Counts { documents: records - 1, deletions: 1, bytes: 9 })].into(),
            sha256: [7; 32],
        }
    }

    #[test]
    fn footers_round_trip() {
        for footer in [
            footer(&[("a/1", "a/3"), ("a/3", "a/5")]),
            Footer { times: None, points: vec![], ..footer(&[("a/1", "a/2")]) },
        ] {
            assert_eq!(Footer::parse(&footer.encode(), 0, RunKind::Delta).unwrap(), footer);
        }
    }

    fn refused(change: impl FnOnce(&mut Footer), kind: RunKind) -> FormatErrorKind {
        let mut footer = footer(&[("a/1", "a/3"), ("a/4", "a/5")]);
        change(&mut footer);
        Footer::parse(&footer.encode(), 0, kind).unwrap_err().kind()
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        use FormatErrorKind::{Damaged, Limit, Order};
        assert_eq!(refused(|footer| footer.blocks.swap(0, 1), RunKind::Delta), Order);
        assert_eq!(refused(|footer| footer.blocks[1].first = path("a/3"), RunKind::Base), Order);
        assert_eq!(refused(|footer| footer.blocks[0].first = path("a/4"), RunKind::Delta), Order);
        assert_eq!(refused(|footer| footer.points.swap(0, 1), RunKind::Delta), Order);
        assert_eq!(
            refused(|footer| footer.times = Some((Timestamp::new(9, 0), Timestamp::new(8, 0))), RunKind::Base),
            Order
        );
        assert_eq!(refused(|footer| footer.blocks.clear(), RunKind::Delta), Damaged);
        assert_eq!(refused(|footer| footer.records += 1, RunKind::Delta), Damaged);
        assert_eq!(refused(|footer| footer.tombstones += 1, RunKind::Delta), Damaged);
        assert_eq!(refused(|footer| footer.document_bytes = u64::MAX, RunKind::Delta), Damaged);
        assert_eq!(refused(|footer| footer.raw_bytes += 1, RunKind::Delta), Damaged);
        assert_eq!(refused(|footer| footer.blocks[0].length = 73, RunKind::Delta), Damaged);
        assert_eq!(refused(|footer| footer.blocks[0].records = 41, RunKind::Delta), Limit);
        assert_eq!(refused(|footer| footer.blocks[0].raw_length = u32::MAX, RunKind::Delta), Limit);
    }

    #[test]
    fn absurd_counts_are_refused_before_memory_is_taken() {
        // records, tombstones, bytes, raw bytes, then a count of 2^62: `with_capacity` of it would abort the process.
        let mut payload = vec![0, 0, 0, 0];
        put_varint(&mut payload, 1 << 62);
        payload.extend_from_slice(&[0; 40]);
        assert!(Footer::parse(&payload, 0, RunKind::Base).is_err());
        let mut payload = vec![0, 0, 0, 0];
        put_varint(&mut payload, MAX_ENTRIES + 1);
        payload.resize(3 << 20, 0);
        assert_eq!(Footer::parse(&payload, 0, RunKind::Base).unwrap_err().kind(), FormatErrorKind::Limit);
        let mut payload = vec![0, 0, 0, 0, 0, 0];
        put_varint(&mut payload, MAX_BLOCKS + 1);
        assert_eq!(Footer::parse(&payload, 0, RunKind::Base).unwrap_err().kind(), FormatErrorKind::Limit);
        let mut payload = vec![0, 0, 0, 0, 0, 0];
        put_varint(&mut payload, MAX_BLOCKS);
        payload.extend_from_slice(&[0; 40]);
        assert_eq!(Footer::parse(&payload, 0, RunKind::Base).unwrap_err().kind(), FormatErrorKind::Damaged);
    }

    #[test]
    fn blocks_are_found_by_path_and_range() {
        let footer = footer(&[("a/2", "a/4"), ("a/4", "a/6"), ("b/1", "b/1/c/1")]);
        let found = ["a/1", "a/2", "a/3", "a/4", "a/5", "a/7", "b/1", "b/1/c/0", "b/2"].map(|path| footer.find(path));
        assert_eq!(found, [None, Some(0), Some(0), Some(0), Some(1), None, Some(2), Some(2), None]);
        let range = |start, end: Option<&str>| footer.blocks_in(&PathRange { start, end: end.map(path) });
        assert_eq!(range(RangeStart::Beginning, None), 0..3);
        assert_eq!(range(RangeStart::At(path("a/4")), Some("b/1")), 0..2);
        assert_eq!(range(RangeStart::After(path("a/4")), Some("b/2")), 1..3);
        assert_eq!(range(RangeStart::At(path("a/7")), Some("b/1")), 2..2);
        assert_eq!(range(RangeStart::At(path("c/1")), None), 3..3);
        assert_eq!(range(RangeStart::Beginning, Some("a/1")), 0..0);
    }

    #[test]
    fn every_cut_of_a_payload_is_refused() {
        let payload = footer(&[("a/1", "a/3"), ("a/4", "a/5")]).encode();
        for cut in 0..payload.len() {
            assert!(Footer::parse(&payload[..cut], 0, RunKind::Base).is_err(), "{cut}");
        }
    }
}
