//! The collections of a database, kept as they were seen last: looking takes a read a thousand documents, and a second.

use firebackup_model::Timestamp;
use firebackup_model::port::ItemWrite;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::database::Ability;
use crate::error::{ControlError, Result};
use crate::id::ProjectId;
use crate::page::{Page, Paged};
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::Right;
use crate::tenant::{Caller, OrganizationScope};

/// A collection, as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionFacts {
    /// Its id.
    pub id: String,
    /// How many documents lie directly in it; nothing where they were not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<u64>,
    /// Whether there may be more.
    #[serde(default)]
    pub at_least: bool,
}

/// A collection at the root of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Collection {
    /// Its id.
    #[schema(example = "users")]
    pub id: String,
    /// The database it is in.
    #[schema(example = "(default)")]
    pub database: String,
    /// How many documents lie directly in it; left out where they were not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<u64>,
    /// Whether there may be more documents: a million is where counting ends.
    pub at_least: bool,
    /// When this was seen.
    #[schema(value_type = String, format = DateTime)]
    pub synced_at: Timestamp,
}

/// What came of looking at the collections of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionSync {
    /// The database.
    pub database: String,
    /// How many collections were found.
    pub collections: u64,
    /// Whether there are more than are listed, which are 1,000.
    pub partial: bool,
    /// When it was looked.
    #[schema(value_type = String, format = DateTime)]
    pub synced_at: Timestamp,
}

/// The collections of a database, as they are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CollectionList {
    collections: Vec<CollectionFacts>,
    partial: bool,
    synced_at: Timestamp,
}

impl Control {
    /// The collections of a database of a project, by id, as they were seen last; none where nobody has looked. Of those whose
    /// id contains `search`, where it is given.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`Unprocessable`](crate::Kind::Unprocessable) where the project has no such
    /// database, or several and none is named; when the page cannot be.
    pub async fn collections(
        &self,
        caller: &Caller,
        id: &ProjectId,
        (database, search): (Option<&str>, Option<&str>),
        page: &Page,
    ) -> Result<Paged<Collection>> {
        caller.may(Right::Read)?;
        let database = self.project_record(caller.scope(), id).await?.value.database(database)?;
        let list: Option<Stored<CollectionList>> = self.load(&caller.scope().collections_key(id, &database)).await?;
        let Some(list) = list.map(|list| list.value) else { return page.of(Vec::new(), |one: &Collection| &one.id) };
        let is_found = |facts: &CollectionFacts| search.is_none_or(|search| facts.id.contains(search));
        let collections = list.collections.into_iter().filter(is_found);
        let shown = collections.map(|CollectionFacts { id, documents, at_least }| Collection {
            id,
            database: database.clone(),
            documents,
            at_least,
            synced_at: list.synced_at,
        });
        page.of(shown.collect(), |one| &one.id)
    }

    /// Looks at the collections of a database of a project, and keeps what is seen in the place of what was seen before.
    ///
    /// # Errors
    /// As [`Self::collections`]; [`Conflict`](crate::Kind::Conflict) where the project is disconnected, or the database
    /// switched off; [`Upstream`](crate::Kind::Upstream) where Google does not let us look.
    pub async fn sync_collections(
        &self,
        caller: &Caller,
        id: &ProjectId,
        database: Option<&str>,
    ) -> Result<CollectionSync> {
        caller.may(Right::RunJobs)?;
        let scope = caller.scope();
        let project = self.project_record(scope, id).await?.value;
        project.check_usable()?;
        let database = project.database(database)?;
        project.check_able(&database, Ability::Backup)?;
        let access = self.project_access(&self.organization_record(scope).await?, &project).await?;
        let found = self.ports().probes.collections(&access, &database).await?;
        let sync = CollectionSync {
            collections: found.collections.len() as u64,
            partial: found.partial,
            synced_at: self.now(),
            database,
        };
        let list = CollectionList { collections: found.collections, partial: found.partial, synced_at: sync.synced_at };
        self.keep_collections(scope, id, &sync.database, list).await?;
        Ok(sync)
    }

    /// Keeps a list unless a newer one is there already, or the project is gone.
    async fn keep_collections(
        &self,
        scope: &OrganizationScope,
        id: &ProjectId,
        database: &str,
        list: CollectionList,
    ) -> Result<()> {
        let key = scope.collections_key(id, database);
        for _ in 0..MAX_ATTEMPTS {
            let project = self.project_record(scope, id).await?;
            let write = match self.load::<CollectionList>(&key).await? {
                Some(kept) if kept.value.synced_at > list.synced_at => return Ok(()),
                Some(kept) => ItemWrite::Replace(new_item(key.clone(), &list, None)?, kept.version),
                None => ItemWrite::Create(new_item(key.clone(), &list, None)?),
            };
            // what a verb remembers for itself is no change: nobody asks who has looked
            if self.write_unrecorded(vec![project.check(), write]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Forgets what was seen of a project that is gone. Whoever dies before leaves what nothing leads to.
    pub(crate) async fn forget_collections(&self, scope: &OrganizationScope, id: &ProjectId) {
        let forgotten = async {
            for list in self.all::<CollectionList>(scope.collections(id)).await? {
                self.write_unrecorded(vec![list.delete()]).await?;
            }
            Ok::<_, ControlError>(())
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(project = %id, error = %error, "what was seen of a project that is gone is still there");
        }
    }
}
