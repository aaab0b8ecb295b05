//! The databases of a project: how they are set up, and what that rules out.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::control::Control;
use crate::error::{Code, ControlError, Result};
use crate::id::ProjectId;
use crate::page::{Page, Paged};
use crate::role::Right;
use crate::tenant::Caller;

/// What a database is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseType {
    /// Firestore's own API.
    Native,
    /// Datastore's API; Firestore's does not open it.
    Datastore,
}

/// What a database is sold as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseEdition {
    /// All is switched on.
    Standard,
    /// Ways in can be switched off.
    Enterprise,
}

/// How a database is set up; what Google does not say is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseFacts {
    /// Its id.
    #[schema(example = "(default)")]
    pub id: String,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "nam5")]
    pub location: Option<String>,
    /// What it is made for.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub database_type: Option<DatabaseType>,
    /// What it is sold as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<DatabaseEdition>,
    /// Whether it keeps versions of the last seven days (PITR), so that a long backup is of one moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_in_time_recovery: Option<bool>,
    /// Whether it cannot be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_protection: Option<bool>,
    /// The customer's key that encrypts it at Google (CMEK), a resource name of Cloud KMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
    /// Whether Firestore's API opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firestore_access: Option<bool>,
    /// Whether it tells of changes as they happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_updates: Option<bool>,
    /// Whether MongoDB's API opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mongodb_access: Option<bool>,
}

/// What is done with a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ability {
    /// To back it up.
    Backup,
    /// To restore into it.
    Restore,
    /// To see changes as they happen.
    Capture,
}

/// What cannot be done with a database as it is set up, and how it can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseLimit {
    /// The database.
    pub database: String,
    /// What cannot be done.
    pub rules_out: Vec<Ability>,
    /// Why.
    pub reason: String,
    /// How it can: a command, or what to do.
    pub remedy: String,
}

/// A database of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectDatabase {
    /// How it is set up.
    #[serde(flatten)]
    pub facts: DatabaseFacts,
    /// What cannot be done with it.
    pub limits: Vec<DatabaseLimit>,
}

impl Ability {
    const fn name(self) -> &'static str {
        match self {
            Self::Backup => "backed up",
            Self::Restore => "restored into",
            Self::Capture => "watched for changes",
        }
    }
}

impl DatabaseLimit {
    pub(crate) fn rules_out(&self, ability: Ability) -> bool {
        self.rules_out.contains(&ability)
    }

    /// That something cannot be done because of it.
    pub(crate) fn refusal(&self, ability: Ability) -> ControlError {
        let (database, reason, remedy) = (&self.database, &self.reason, &self.remedy);
        let message = format!(
            "the database {database} cannot be {}: {reason}; {remedy}; then have the project looked at again",
            ability.name()
        );
        ControlError::conflict(Code::DatabaseSwitchedOff, message)
            .with_details(json!({ "database": database, "reason": reason, "remedy": remedy }))
    }
}

impl DatabaseFacts {
    /// Whether Firestore's API opens it, as far as is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.database_type != Some(DatabaseType::Datastore) && self.firestore_access != Some(false)
    }

    /// What rules something out, the most first; what is not known rules nothing out.
    fn limit(&self, project: &str) -> Option<DatabaseLimit> {
        let everything = vec![Ability::Backup, Ability::Restore, Ability::Capture];
        let (rules_out, reason, remedy) = if self.database_type == Some(DatabaseType::Datastore) {
            let remedy = "use a database in native mode: only one that is empty can be changed into it (`gcloud firestore \
                          databases update --type=firestore-native`)";
            (everything, "it is in Datastore mode, which Firestore's API does not open", remedy.to_owned())
        } else if self.firestore_access == Some(false) {
            let remedy = switch_on(project, &self.id, "firestoreDataAccessMode", "DATA_ACCESS_MODE_ENABLED");
            (everything, "access by Firestore's API is switched off", remedy)
        } else if self.realtime_updates == Some(false) {
            let remedy = switch_on(project, &self.id, "realtimeUpdatesMode", "REALTIME_UPDATES_MODE_ENABLED");
            (vec![Ability::Capture], "real-time updates are switched off", remedy)
        } else {
            return None;
        };
        Some(DatabaseLimit { database: self.id.clone(), rules_out, reason: reason.to_owned(), remedy })
    }
}

/// How a setting of a database is switched on, as somebody with `roles/datastore.owner`; `gcloud` has no flag for it.
fn switch_on(project: &str, database: &str, field: &str, value: &str) -> String {
    format!(
        "switch it on: curl -X PATCH -H \"Authorization: Bearer $(gcloud auth print-access-token)\" -H 'Content-Type: \
         application/json' -d '{{\"{field}\":\"{value}\"}}' \
         'https://firestore.googleapis.com/v1/projects/{project}/databases/{database}?updateMask={field}'"
    )
}

/// What cannot be done with databases of a Google project.
pub(crate) fn limits_of(project: &str, facts: &[DatabaseFacts]) -> Vec<DatabaseLimit> {
    facts.iter().filter_map(|facts| facts.limit(project)).collect()
}

impl Control {
    /// The databases of a project, by id, as they were when it was looked at last; those whose id contains `search`, where it
    /// is given.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); when the page cannot be.
    pub async fn databases(
        &self,
        caller: &Caller,
        id: &ProjectId,
        search: Option<&str>,
        page: &Page,
    ) -> Result<Paged<ProjectDatabase>> {
        caller.may(Right::Read)?;
        let record = self.project_record(caller.scope(), id).await?.value;
        let (mut ids, mut databases) = (record.project.databases.clone(), Vec::new());
        ids.sort_unstable();
        for id in ids.iter().filter(|id| search.is_none_or(|search| id.contains(search))) {
            let facts = record.facts.iter().find(|facts| facts.id == *id).cloned();
            let facts = facts.unwrap_or_else(|| DatabaseFacts { id: id.clone(), ..DatabaseFacts::default() });
            let limits = record.project.limits.iter().filter(|limit| limit.database == *id).cloned().collect();
            databases.push(ProjectDatabase { facts, limits });
        }
        page.of(databases, |database| &database.facts.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> DatabaseFacts {
        DatabaseFacts { id: "shop".to_owned(), ..DatabaseFacts::default() }
    }

    fn check(facts: &DatabaseFacts, rules_out: &[Ability], remedy: &str) {
        let limits = limits_of("my-app", std::slice::from_ref(facts));
        assert_eq!(limits.iter().flat_map(|limit| limit.rules_out.clone()).collect::<Vec<_>>(), rules_out, "{facts:?}");
        assert!(limits.iter().all(|limit| limit.remedy.contains(remedy)), "{limits:?}");
        assert_eq!(facts.is_open(), !rules_out.contains(&Ability::Backup), "{facts:?}");
    }

    #[test]
    fn what_is_switched_off_rules_out_what_needs_it() {
        use Ability::{Backup, Capture, Restore};
        check(&facts(), &[], "");
        let enterprise = DatabaseFacts { edition: Some(DatabaseEdition::Enterprise), ..facts() };
        check(&enterprise, &[], "");
        let datastore = DatabaseFacts { database_type: Some(DatabaseType::Datastore), ..facts() };
        check(&datastore, &[Backup, Restore, Capture], "native mode");
        let closed =
            DatabaseFacts { firestore_access: Some(false), realtime_updates: Some(false), ..enterprise.clone() };
        check(&closed, &[Backup, Restore, Capture], "my-app/databases/shop?updateMask=firestoreDataAccessMode");
        let silent =
            DatabaseFacts { firestore_access: Some(true), realtime_updates: Some(false), ..enterprise.clone() };
        check(&silent, &[Capture], "?updateMask=realtimeUpdatesMode");
        let open = DatabaseFacts { realtime_updates: Some(true), mongodb_access: Some(false), ..enterprise };
        check(&open, &[], "");
    }
}
