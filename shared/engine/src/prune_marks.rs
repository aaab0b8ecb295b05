//! What prunes have marked, to be deleted a grace period later.

use std::collections::HashSet;

use firebackup_codec::object::ObjectType;
use firebackup_model::Timestamp;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::prune::GRACE_SECONDS;
use crate::repository::Repository;

/// `prunes/<id>`: objects that nothing referred to at a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PruneMark {
    pub(crate) created: Timestamp,
    pub(crate) objects: Vec<String>,
}

/// What earlier prunes have marked.
#[derive(Default)]
pub(crate) struct Marks {
    /// Objects whose grace period is over, and those whose is not.
    pub(crate) ripe: HashSet<String>,
    pub(crate) marked: HashSet<String>,
    /// Marks that have served, and those that have not.
    pub(crate) spent: Vec<Path>,
    pub(crate) waiting: Vec<Path>,
}

impl Marks {
    /// Reads all marks; one that cannot be read marks nothing.
    pub(crate) async fn read(repository: &Repository) -> Result<Self> {
        let now = repository.world().now();
        let mut marks = Self::default();
        for meta in repository.list("prunes").await? {
            let found: Result<Option<(PruneMark, _)>> =
                repository.get_sealed(ObjectType::PruneMark, &meta.location).await;
            match found {
                Ok(None) => {}
                Ok(Some((mark, _))) if now.seconds_since(mark.created) >= GRACE_SECONDS as f64 => {
                    marks.ripe.extend(mark.objects);
                    marks.spent.push(meta.location);
                }
                Ok(Some((mark, _))) => {
                    marks.marked.extend(mark.objects);
                    marks.waiting.push(meta.location);
                }
                // it marks nothing, and what it marked is marked anew
                Err(error) if error.is_of_the_object() => {
                    tracing::warn!(mark = %meta.location, error = %error, "a prune's mark cannot be read");
                    marks.spent.push(meta.location);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(marks)
    }

    /// Every mark, served or not.
    pub(crate) fn all(self) -> impl Iterator<Item = Path> {
        self.spent.into_iter().chain(self.waiting)
    }
}
