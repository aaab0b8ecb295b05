//! What changed between two backups of one database, within one request.

use std::sync::Arc;
use std::time::Duration;

use firebackup_control::{Code, ControlError, Kind};
use firebackup_engine::{Change, ChangeCounts, Contents, Difference, Meter, Repository, Sample, diff};
use firebackup_model::Selection;
use firebackup_model::id::JobId;
use firebackup_model::manifest::Manifest;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::failure::Failure;
use crate::unreadable::unreadable;

/// The most stored bytes of both backups together that are read unasked.
const MAX_UNASKED: u64 = 64 * 1024 * 1024;
/// The most that are read in one request at all.
const MAX_ASKED: u64 = 1024 * 1024 * 1024;
/// How long an unasked comparison may take: gateways wait for half a minute.
const MAX_TIME: Duration = Duration::from_secs(25);
/// How many documents are named.
const SAMPLES: usize = 20;

/// Which two backups are compared.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ComparisonParameters {
    /// The backup before.
    #[param(value_type = String, pattern = r"^bkp_[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    pub(crate) from: JobId,
    /// The backup after.
    #[param(value_type = String, pattern = r"^bkp_[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    pub(crate) to: JobId,
    /// Whether two that are stored in 64 MiB to 1 GiB together are compared too, and for as long as it takes. Behind a
    /// gateway that ends a request after some time, that may be too long.
    #[serde(default)]
    #[param(default = false)]
    full: bool,
}

/// What changed between two backups.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupComparison {
    /// The backup before.
    #[schema(value_type = String, example = "bkp_01JZ8Q6V7C9X2M4T5B8K1N3R6W")]
    from: JobId,
    /// The backup after.
    #[schema(value_type = String)]
    to: JobId,
    /// Everything counted together.
    totals: ComparedCounts,
    /// By collection (its id, wherever it stands), in order of name; those in which nothing differs too.
    collections: Vec<ComparedCollection>,
    /// The first documents that differ.
    samples: Vec<ComparedDocument>,
}

/// How many documents differ, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ComparedCounts {
    /// Only the backup after has them.
    created: u64,
    /// Both have them, with other contents.
    updated: u64,
    /// Only the backup before has them.
    deleted: u64,
    /// Both have them with the same contents; the times of their creation and update do not matter.
    same: u64,
}

/// How many documents of a collection differ.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ComparedCollection {
    /// The collection's id.
    name: String,
    /// How many.
    #[serde(flatten)]
    counts: ComparedCounts,
}

/// A document that differs.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ComparedDocument {
    /// Its path.
    path: String,
    /// How it differs.
    change: ComparedChange,
}

/// How a document differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ComparedChange {
    /// Only the backup after has it.
    Created,
    /// Both have it, with other contents.
    Updated,
    /// Only the backup before has it.
    Deleted,
    /// Nothing differs.
    Same,
}

/// Compares two backups. Each lies in a repository, which may be the same.
pub(crate) async fn comparison(
    before: &Repository,
    after: &Repository,
    asked: &ComparisonParameters,
) -> Result<BackupComparison, Failure> {
    let (from, _) = before.manifest(&asked.from).await.map_err(unreadable)?;
    let (to, _) = after.manifest(&asked.to).await.map_err(unreadable)?;
    if from.source != to.source {
        let message = format!("expected two backups of one database; they are of {} and {}", from.source, to.source);
        return Err(ControlError::field("to", message).into());
    }
    let stored = from.stored_bytes.saturating_add(to.stored_bytes);
    if stored > if asked.full { MAX_ASKED } else { MAX_UNASKED } {
        return Err(too_large(asked, "they have too many bytes to read in one request"));
    }
    let selection = what_both_say(&from.selection, &to.selection)?;
    let compare = compare((before, &from), (after, &to), &selection);
    let difference = match asked.full {
        true => compare.await?,
        false => in_time(MAX_TIME, compare, asked).await?,
    };
    Ok(BackupComparison::of(asked, difference))
}

async fn compare(
    (before, from): (&Repository, &Manifest),
    (after, to): (&Repository, &Manifest),
    selection: &Selection,
) -> Result<Difference, Failure> {
    let meter = Arc::new(Meter::default());
    let mut left = Contents::of_snapshot(before, &from.id, selection, &meter).await.map_err(unreadable)?;
    let mut right = Contents::of_snapshot(after, &to.id, selection, &meter).await.map_err(unreadable)?;
    diff(&mut left, &mut right, SAMPLES, |_, _| ()).await.map_err(unreadable)
}

async fn in_time(
    most: Duration,
    compare: impl Future<Output = Result<Difference, Failure>>,
    asked: &ComparisonParameters,
) -> Result<Difference, Failure> {
    match tokio::time::timeout(most, compare).await {
        Ok(found) => found,
        Err(_) => Err(too_large(asked, "comparing them takes too long for one request")),
    }
}

fn too_large(asked: &ComparisonParameters, why: &str) -> Failure {
    let command = format!("firebackup diff {} {}", asked.from, asked.to);
    let message = format!("the two backups cannot be compared here: {why}; run `{command}` on a machine");
    let details = json!({ "command": command });
    ControlError::new(Kind::Unprocessable, Code::BackupTooLarge, message).with_details(details).into()
}

/// What both can say something of: a backup of some collections says nothing of the others.
fn what_both_say(from: &Selection, to: &Selection) -> Result<Selection, Failure> {
    if from.is_everything() || from == to {
        return Ok(to.clone());
    }
    match to.is_everything() {
        true => Ok(from.clone()),
        false => Err(ControlError::field("to", "the two backups are of different collections").into()),
    }
}

impl BackupComparison {
    fn of(asked: &ComparisonParameters, difference: Difference) -> Self {
        let collection =
            |(name, counts): (String, ChangeCounts)| ComparedCollection { name, counts: ComparedCounts::of(counts) };
        Self {
            from: asked.from.clone(),
            to: asked.to.clone(),
            totals: ComparedCounts::of(difference.totals),
            collections: difference.collections.into_iter().map(collection).collect(),
            samples: difference.samples.into_iter().map(ComparedDocument::of).collect(),
        }
    }
}

impl ComparedCounts {
    const fn of(counts: ChangeCounts) -> Self {
        let ChangeCounts { created, updated, deleted, same } = counts;
        Self { created, updated, deleted, same }
    }
}

impl ComparedDocument {
    fn of(sample: Sample) -> Self {
        let change = match sample.change {
            Change::Created => ComparedChange::Created,
            Change::Updated => ComparedChange::Updated,
            Change::Deleted => ComparedChange::Deleted,
            Change::Same => ComparedChange::Same,
        };
        Self { path: sample.path, change }
    }
}

#[cfg(test)]
mod tests {
    use firebackup_model::id::JobKind;

    use super::*;

    fn of(collections: &[&str]) -> Selection {
        let include = collections.iter().map(|name| (*name).to_owned()).collect();
        Selection { include, ..Selection::default() }
    }

    #[test]
    fn backups_are_compared_as_far_as_both_say_something() {
        let (all, users) = (of(&[]), of(&["users"]));
        assert_eq!(what_both_say(&all, &all).unwrap(), all);
        for (from, to) in [(&all, &users), (&users, &all), (&users, &users)] {
            assert_eq!(what_both_say(from, to).unwrap(), users);
        }
        assert_eq!(what_both_say(&users, &of(&["orders"])).unwrap_err().status(), 422);
    }

    #[tokio::test]
    async fn what_takes_too_long_says_the_command_that_does_it() {
        let id = |time| JobId::new(JobKind::Backup, time, [0; 10]);
        let asked = ComparisonParameters { from: id(1), to: id(2), full: false };
        let failure = in_time(Duration::ZERO, std::future::pending(), &asked).await.unwrap_err();
        assert_eq!(failure.code(), Code::BackupTooLarge);
        assert!(failure.message().contains(&format!("firebackup diff {} {}", id(1), id(2))), "{}", failure.message());
        let found = in_time(MAX_TIME, std::future::ready(Ok(Difference::default())), &asked).await;
        assert_eq!(found.unwrap(), Difference::default());
    }
}
