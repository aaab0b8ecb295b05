//! Records: one document (a put) or one tombstone (a delete), with its path and times.

use std::cmp::Ordering;

use firebackup_model::wire::put_varint;
use firebackup_model::{Timestamp, path};

use crate::error::{FormatError, FormatErrorKind};
use crate::limit::MAX_BODY;
use crate::primitive::{Cursor, is_time, put_text, put_time};

const DELETE: u8 = 1;
const ORIGIN_SHIFT: u8 = 1;
const UPDATE_TIME: u8 = 1 << 3;
const COMMIT_TIME: u8 = 1 << 4;
const POINT: u8 = 1 << 5;
const RESERVED: u8 = 0b1100_0000;

/// Where a record was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Read at a read time.
    Base = 0,
    /// From a listen stream, final at its consistent point.
    Pull = 1,
    /// From an event: reported, and no more.
    Push = 2,
}

/// A record in somebody's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// The document's path relative to the documents root (a user's: tenant and id).
    pub path: &'a str,
    /// The document's bytes as they came; nothing for a tombstone.
    pub body: Option<&'a [u8]>,
    /// Where it was learned.
    pub origin: Origin,
    /// When the server says the document was last changed.
    pub update_time: Option<Timestamp>,
    /// When the change was committed, where that is known.
    pub commit_time: Option<Timestamp>,
    /// The consistent point it belongs to; nothing means the run's read time.
    pub point: Option<Timestamp>,
}

impl<'a> RecordRef<'a> {
    /// A document read at the run's read time.
    #[must_use]
    pub const fn document(path: &'a str, body: &'a [u8], update_time: Option<Timestamp>) -> Self {
        Self { path, body: Some(body), origin: Origin::Base, update_time, commit_time: None, point: None }
    }

    /// A tombstone of the run's read time.
    #[must_use]
    pub const fn tombstone(path: &'a str) -> Self {
        Self { path, body: None, origin: Origin::Base, update_time: None, commit_time: None, point: None }
    }

    /// Refuses what a reader would refuse.
    pub(crate) fn check(&self) -> Result<(), FormatError> {
        path::check(self.path).map_err(|error| bad_path(0, error))?;
        if self.body.is_some_and(|body| body.len() > MAX_BODY) {
            return Err(FormatError::limit(0, format!("a document is larger than {MAX_BODY} bytes")));
        }
        let times = [self.update_time, self.commit_time, self.point];
        if times.into_iter().flatten().all(is_time) { Ok(()) } else { Err(FormatError::damaged(0, "not a time")) }
    }
}

fn bad_path(offset: u64, error: path::PathError) -> FormatError {
    FormatError::damaged(offset, "a record's path is not a document path").with_source(error)
}

/// The order of records in a run: path, consistent point, update time, origin; an absent time before any.
#[must_use]
pub fn order(a: &RecordRef<'_>, b: &RecordRef<'_>) -> Ordering {
    path::compare(a.path, b.path).then_with(|| order_at_path(a, b))
}

/// [`order`] of two records of one path.
#[must_use]
pub fn order_at_path(a: &RecordRef<'_>, b: &RecordRef<'_>) -> Ordering {
    (a.point, a.update_time, a.origin).cmp(&(b.point, b.update_time, b.origin))
}

/// Appends the record to `out`. [`Records`] reads it back when its path, times and size are valid.
pub fn encode(record: &RecordRef<'_>, out: &mut Vec<u8>) {
    let mut flags = (record.origin as u8) << ORIGIN_SHIFT;
    let times = [(record.update_time, UPDATE_TIME), (record.commit_time, COMMIT_TIME), (record.point, POINT)];
    for (time, flag) in times {
        flags |= if time.is_some() { flag } else { 0 };
    }
    flags |= if record.body.is_none() { DELETE } else { 0 };
    out.push(flags);
    put_text(out, record.path);
    for time in times.into_iter().filter_map(|(time, _)| time) {
        put_time(out, time);
    }
    if let Some(body) = record.body {
        put_varint(out, body.len() as u64);
        out.extend_from_slice(body);
    }
}

/// The records of a block, before compression. Ends behind the first error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    failed: bool,
}

impl<'a> Records<'a> {
    /// Walks `raw`; offsets in errors count from its start.
    #[must_use]
    pub const fn new(raw: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(raw, 0), failed: false }
    }

    /// How many bytes of the block were read so far.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.cursor.offset()
    }

    fn read(&mut self) -> Result<RecordRef<'a>, FormatError> {
        let start = self.cursor.offset();
        let flags = self.cursor.byte()?;
        if flags & RESERVED != 0 {
            return Err(FormatError::new(FormatErrorKind::Unsupported, start, "a record has unknown flags"));
        }
        let origin = match flags >> ORIGIN_SHIFT & 3 {
            0 => Origin::Base,
            1 => Origin::Pull,
            2 => Origin::Push,
            _ => return Err(FormatError::new(FormatErrorKind::Unsupported, start, "a record has an unknown origin")),
        };
        let path = self.cursor.text(path::MAX_PATH_BYTES, "path")?;
        path::check(path).map_err(|error| bad_path(start, error))?;
        let update_time = self.time(flags & UPDATE_TIME)?;
        let commit_time = self.time(flags & COMMIT_TIME)?;
        let point = self.time(flags & POINT)?;
        let body = if flags & DELETE == 0 { Some(self.body()?) } else { None };
        Ok(RecordRef { path, body, origin, update_time, commit_time, point })
    }

    fn time(&mut self, flag: u8) -> Result<Option<Timestamp>, FormatError> {
        if flag == 0 { Ok(None) } else { self.cursor.time().map(Some) }
    }

    fn body(&mut self) -> Result<&'a [u8], FormatError> {
        let length = self.cursor.size(MAX_BODY, "document")?;
        self.cursor.take(length)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.cursor.remaining() == 0 {
            return None;
        }
        let record = self.read();
        self.failed = record.is_err();
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (String, Option<Vec<u8>>, Origin, [Option<Timestamp>; 3]);

    fn any_time() -> impl Strategy<Value = Option<Timestamp>> {
        proptest::option::of((any::<i64>(), 0u32..1_000_000_000).prop_map(|(s, n)| Timestamp::new(s, n)))
    }

    fn any_record() -> impl Strategy<Value = Owned> {
        let origin = prop_oneof![Just(Origin::Base), Just(Origin::Pull), Just(Origin::Push)];
        let body = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50));
        ("[a-c]{1,3}/\\PC{1,4}", body, origin, [any_time(), any_time(), any_time()])
            .prop_map(|(path, body, origin, times)| (path.replace("//", "/_"), body, origin, times))
            .prop_filter("a document path", |(path, ..)| path::check(path).is_ok())
    }

    fn borrow((path, body, origin, [update_time, commit_time, point]): &Owned) -> RecordRef<'_> {
        RecordRef {
            path,
            body: body.as_deref(),
            origin: *origin,
            update_time: *update_time,
            commit_time: *commit_time,
            point: *point,
        }
    }

    proptest! {
        #[test]
        fn records_round_trip(records in proptest::collection::vec(any_record(), 0..8)) {
            let mut raw = Vec::new();
            for record in &records {
                encode(&borrow(record), &mut raw);
            }
            let read: Vec<_> = Records::new(&raw).collect::<Result<_, _>>().unwrap();
            let written: Vec<_> = records.iter().map(borrow).collect();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn rubbish_never_panics_and_the_walk_ends(bytes: Vec<u8>) {
            prop_assert!(Records::new(&bytes).count() <= bytes.len());
        }

        #[test]
        fn every_cut_inside_a_record_is_seen(record in any_record(), cut in any::<proptest::sample::Index>()) {
            let mut raw = Vec::new();
            encode(&borrow(&record), &mut raw);
            let cut = 1 + cut.index(raw.len());
            if cut < raw.len() {
                prop_assert!(Records::new(&raw[..cut]).any(|record| record.is_err()));
            }
        }
    }

    #[test]
    fn unknown_flags_and_origins_and_bad_paths_are_refused() {
        let kind = |raw: &[u8]| Records::new(raw).next().unwrap().unwrap_err().kind();
        assert_eq!(kind(&[0x41, 3, b'a', b'/', b'b']), FormatErrorKind::Unsupported);
        assert_eq!(kind(&[0x07, 3, b'a', b'/', b'b']), FormatErrorKind::Unsupported);
        assert_eq!(kind(&[0x01, 1, b'a']), FormatErrorKind::Damaged);
        assert_eq!(kind(&[0x01, 3, b'a', b'/', 0xff]), FormatErrorKind::Damaged);
        assert_eq!(kind(&[0x01, 0xff, 0xff, 3, b'a']), FormatErrorKind::Limit);
        assert_eq!(kind(&[0x00, 3, b'a', b'/', b'b', 0xff, 0xff, 0xff, 0x7f]), FormatErrorKind::Limit);
    }

    #[test]
    fn order_is_by_path_then_point_then_time_then_origin() {
        let at = |seconds| Some(Timestamp::new(seconds, 0));
        let base = RecordRef::tombstone("a/b");
        let sorted = [
            base,
            RecordRef { point: at(1), ..base },
            RecordRef { point: at(1), update_time: at(5), ..base },
            RecordRef { point: at(1), update_time: at(5), origin: Origin::Pull, ..base },
            RecordRef { point: at(1), update_time: at(5), origin: Origin::Push, ..base },
            RecordRef { point: at(2), update_time: at(3), ..base },
            RecordRef::tombstone("a/c"),
        ];
        for pair in sorted.windows(2) {
            assert_eq!(order(&pair[0], &pair[1]), Ordering::Less, "{pair:?}");
        }
    }
}
