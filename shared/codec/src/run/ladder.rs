//! The order that records keep within a run, checked by writer and reader alike.

use firebackup_model::manifest::RunKind;
use firebackup_model::{Timestamp, path};

use crate::error::{FormatError, FormatErrorKind};
use crate::record::{self, Origin, RecordRef};

/// Remembers the record before, and admits only records that stand behind it.
#[derive(Debug, Clone)]
pub(crate) struct Ladder {
    kind: RunKind,
    path: String,
    point: Option<Timestamp>,
    update_time: Option<Timestamp>,
    origin: Origin,
    empty: bool,
}

impl Ladder {
    pub(crate) const fn new(kind: RunKind) -> Self {
        Self { kind, path: String::new(), point: None, update_time: None, origin: Origin::Base, empty: true }
    }

    /// Refuses a record that does not stand behind the one before, or not in this kind of run.
    pub(crate) fn admit(&mut self, record: &RecordRef<'_>, offset: u64) -> Result<(), FormatError> {
        let refuse = |reason: &'static str| Err(FormatError::new(FormatErrorKind::Order, offset, reason));
        if record.body.is_none() && self.kind != RunKind::Delta {
            return refuse("only a delta run holds tombstones");
        }
        let by_path = if self.empty { std::cmp::Ordering::Less } else { path::compare(&self.path, record.path) };
        if by_path.is_gt() {
            return refuse("a path stands behind a greater one");
        }
        if by_path.is_eq() && self.kind != RunKind::Delta {
            return refuse("a path stands twice");
        }
        if by_path.is_eq() && record::order_at_path(&self.last(), record).is_ge() {
            return refuse("two versions of a path do not ascend");
        }
        self.remember(record, by_path.is_eq());
        Ok(())
    }

    fn last(&self) -> RecordRef<'_> {
        RecordRef {
            path: &self.path,
            body: None,
            origin: self.origin,
            update_time: self.update_time,
            commit_time: None,
            point: self.point,
        }
    }

    fn remember(&mut self, record: &RecordRef<'_>, same_path: bool) {
        if !same_path {
            self.path.clear();
            self.path.push_str(record.path);
        }
        self.point = record.point;
        self.update_time = record.update_time;
        self.origin = record.origin;
        self.empty = false;
    }
}
