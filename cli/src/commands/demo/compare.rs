//! Reads a database raw, and compares what was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use firebackup_codec::canonical::{Names, same_content};
use firebackup_engine::{Contents, Meter, Repository};
use firebackup_model::manifest::Manifest;
use firebackup_model::port::DocumentSource;
use firebackup_model::{DocumentPath, PathRange, Selection};
use futures::TryStreamExt;
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::units::{count, of};

/// Documents as the server sent them.
pub(super) type Documents = BTreeMap<DocumentPath, Bytes>;

/// What differs between a database before and after.
#[derive(Debug, Default, Serialize)]
pub(super) struct Comparison {
    /// Documents that are the same, create and update times set aside.
    pub(super) same: u64,
    /// Documents with other contents.
    pub(super) different: Vec<String>,
    /// Documents that are gone.
    pub(super) missing: Vec<String>,
    /// Documents that were not there.
    pub(super) extra: Vec<String>,
    /// Records in the repository that are byte for byte what the server had sent.
    pub(super) stored_identical: u64,
}

impl Comparison {
    /// Whether everything is as it was, in the database and in the repository.
    pub(super) const fn is_identical(&self) -> bool {
        self.different.is_empty()
            && self.missing.is_empty()
            && self.extra.is_empty()
            && self.same > 0
            && self.stored_identical == self.same
    }

    /// The documents that are not as they were.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> + '_ {
        let all = [("different", &self.different), ("missing", &self.missing), ("too many", &self.extra)];
        all.into_iter().flat_map(|(what, paths)| paths.iter().map(move |path| format!("{what}: {path}")))
    }
}

/// Reads a whole database at one moment.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn read_all(source: &dyn DocumentSource) -> Result<Documents> {
    let at = source.snapshot_time().await?;
    let mut stream = source.stream(&PathRange::everything(), at, None).await?;
    let mut documents = Documents::new();
    while let Some(document) = stream.try_next().await? {
        let name = document.head()?.name.to_owned();
        let path = source.database().path_of(&name);
        let path = path.map_err(|error| CliError::Refused(format!("the server sent `{name}`: {error}")))?;
        // copied: the bytes may pin a receive buffer
        documents.insert(path, Bytes::copy_from_slice(&document.0));
    }
    Ok(documents)
}

/// The collection groups of a database, the largest first, with their numbers of documents.
pub(super) fn groups(documents: &Documents) -> String {
    const SHOWN: usize = 5;
    let mut groups: BTreeMap<&str, u64> = BTreeMap::new();
    for path in documents.keys() {
        *groups.entry(path.collection_group()).or_default() += 1;
    }
    let mut sorted: Vec<_> = groups.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let shown: Vec<_> =
        sorted.iter().take(SHOWN).map(|(group, number)| format!("{group} {}", count(*number))).collect();
    let rest = sorted.len().saturating_sub(SHOWN);
    let more = if rest > 0 { format!(" and {} more", count(rest as u64)) } else { String::new() };
    format!("{} ({}{more})", of(sorted.len() as u64, "collection group"), shown.join(", "))
}

/// Compares two readings of a database.
///
/// # Errors
/// When a document is malformed.
pub(super) fn databases(before: &Documents, after: &Documents) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    let paths: BTreeSet<&DocumentPath> = before.keys().chain(after.keys()).collect();
    for path in paths {
        match (before.get(path), after.get(path)) {
            (Some(_), None) => comparison.missing.push(path.to_string()),
            (None, _) => comparison.extra.push(path.to_string()),
            (Some(a), Some(b)) => {
                let same = same_content(a, b, Names::Compare)
                    .map_err(|source| CliError::Compare { path: path.to_string(), source })?;
                if same {
                    comparison.same += 1;
                } else {
                    comparison.different.push(path.to_string());
                }
            }
        }
    }
    Ok(comparison)
}

/// How many records of a snapshot are byte for byte what was read from the server.
///
/// # Errors
/// When the repository cannot be read.
pub(super) async fn stored(repository: &Repository, manifest: &Manifest, before: &Documents) -> Result<u64> {
    let meter = Arc::new(Meter::default());
    let mut contents = Contents::of_snapshot(repository, &manifest.id, &Selection::default(), &meter).await?;
    let mut identical = 0;
    while let Some(item) = contents.next().await? {
        identical += u64::from(item.document.is_some() && item.document.as_ref() == before.get(&item.path));
    }
    Ok(identical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_google::corpus::corpus;
    use firebackup_model::DatabaseName;

    #[test]
    fn nothing_that_differs_is_missed() {
        let database = DatabaseName::new("p", "(default)");
        let before: Documents = corpus(&database).into_iter().collect();
        let mut same = databases(&before, &before).unwrap();
        same.stored_identical = same.same;
        assert!(same.is_identical());
        same.stored_identical -= 1;
        assert!(!same.is_identical());

        let mut after = before.clone();
        let (first, second) = (before.keys().next().unwrap().clone(), before.keys().nth(1).unwrap().clone());
        after.remove(&first);
        let other = before.values().nth(2).unwrap().clone();
        after.insert(second.clone(), other.clone());
        after.insert(DocumentPath::new("new/document").unwrap(), other);
        let comparison = databases(&before, &after).unwrap();
        assert_eq!(comparison.missing, [first.to_string()]);
        assert_eq!(comparison.different, [second.to_string()]);
        assert_eq!(comparison.extra, ["new/document"]);
        assert_eq!(comparison.problems().count(), 3);
        assert!(!comparison.is_identical());
    }

    #[test]
    fn an_empty_database_proves_nothing() {
        assert!(!databases(&Documents::new(), &Documents::new()).unwrap().is_identical());
    }
}
