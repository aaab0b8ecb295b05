//! What differs between two moments: a merge-join of two streams.

use std::collections::BTreeMap;

use firebackup_codec::canonical::{Names, same_content};
use firebackup_model::DocumentPath;

use crate::contents::{Contents, Item};
use crate::error::{EngineError, Result};

/// How one document differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the second has it.
    Created,
    /// Only the first has it.
    Deleted,
    /// Both have it, with other contents.
    Updated,
    /// Both have it, with the same contents once create and update times are set aside.
    Same,
}

/// Counts of each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ChangeCounts {
    /// Documents to create.
    pub created: u64,
    /// Documents to update.
    pub updated: u64,
    /// Documents to delete.
    pub deleted: u64,
    /// Documents that stay as they are.
    pub same: u64,
}

impl ChangeCounts {
    /// Counts one more.
    pub const fn count(&mut self, change: Change) {
        match change {
            Change::Created => self.created += 1,
            Change::Updated => self.updated += 1,
            Change::Deleted => self.deleted += 1,
            Change::Same => self.same += 1,
        }
    }

    /// Adds others.
    pub const fn add(&mut self, other: Self) {
        self.created += other.created;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.same += other.same;
    }

    /// Whether nothing differs.
    #[must_use]
    pub const fn nothing_differs(&self) -> bool {
        self.created == 0 && self.updated == 0 && self.deleted == 0
    }
}

/// What differs, counted by collection group, with the first paths of each.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Difference {
    /// Everything counted together.
    pub totals: ChangeCounts,
    /// Counts for each collection group.
    pub collections: BTreeMap<String, ChangeCounts>,
    /// The first documents that differ.
    pub samples: Vec<Sample>,
}

/// A document that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    /// Its path.
    pub path: String,
    /// How it differs.
    pub change: Change,
}

impl Difference {
    /// Adds what another part of the same comparison found, with its samples as far as there is room.
    pub(crate) fn add(&mut self, other: Self, samples: usize) {
        self.totals.add(other.totals);
        for (group, counts) in other.collections {
            self.collections.entry(group).or_default().add(counts);
        }
        let room = samples.saturating_sub(self.samples.len());
        self.samples.extend(other.samples.into_iter().take(room));
    }

    /// Counts one document, and keeps it as a sample when it differs and there is room.
    pub fn count(&mut self, path: &DocumentPath, change: Change, samples: usize) {
        self.totals.count(change);
        self.collections.entry(path.collection_group().to_owned()).or_default().count(change);
        if change != Change::Same && self.samples.len() < samples {
            self.samples.push(Sample { path: path.to_string(), change });
        }
    }
}

/// Compares two contents and counts; `each` sees every pair that differs.
///
/// # Errors
/// When a side cannot be read.
pub async fn diff(
    before: &mut Contents,
    after: &mut Contents,
    samples: usize,
    mut each: impl FnMut(&DocumentPath, Change) + Send,
) -> Result<Difference> {
    let mut difference = Difference::default();
    let (mut left, mut right) = (before.next().await?, after.next().await?);
    loop {
        let (path, change) = match (&left, &right) {
            (None, None) => return Ok(difference),
            (Some(item), None) => (item.path.clone(), Change::Deleted),
            (None, Some(item)) => (item.path.clone(), Change::Created),
            (Some(a), Some(b)) => match a.path.cmp(&b.path) {
                std::cmp::Ordering::Less => (a.path.clone(), Change::Deleted),
                std::cmp::Ordering::Greater => (b.path.clone(), Change::Created),
                std::cmp::Ordering::Equal => (a.path.clone(), compare(a, b)?),
            },
        };
        difference.count(&path, change, samples);
        if change != Change::Same {
            each(&path, change);
        }
        if left.as_ref().is_some_and(|item| item.path == path) {
            left = before.next().await?;
        }
        if right.as_ref().is_some_and(|item| item.path == path) {
            right = after.next().await?;
        }
    }
}

fn compare(a: &Item, b: &Item) -> Result<Change> {
    match (&a.document, &b.document) {
        (None, None) => Ok(Change::Same),
        (Some(_), None) => Ok(Change::Deleted),
        (None, Some(_)) => Ok(Change::Created),
        (Some(x), Some(y)) => same(&a.path, x, y).map(|same| if same { Change::Same } else { Change::Updated }),
    }
}

/// Whether two documents have the same contents, times and name set aside.
pub(crate) fn same(path: &DocumentPath, a: &[u8], b: &[u8]) -> Result<bool> {
    same_content(a, b, Names::Ignore).map_err(|source| EngineError::Compare { path: path.to_string(), source })
}
