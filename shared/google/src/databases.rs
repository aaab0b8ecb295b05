//! The databases of a project, and how they are set up.

use firebackup_model::error::PortError;

use crate::firestore::Firestore;
use crate::proto::{Database, ListDatabasesRequest, ListDatabasesResponse};
use crate::status::Operation;

const LIST_DATABASES: Operation = Operation::reading("list databases");
const METHOD: &str = "/google.firestore.admin.v1.FirestoreAdmin/ListDatabases";

/// What a database is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseType {
    /// Firestore's own API.
    Native,
    /// Datastore's API; Firestore's does not open it.
    Datastore,
}

/// What a database is sold as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseEdition {
    /// All is switched on.
    Standard,
    /// Ways in can be switched off.
    Enterprise,
}

/// How a database is set up. Nothing where Google says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Its id, such as `(default)`.
    pub id: String,
    /// Where it is, such as `nam5`.
    pub location: Option<String>,
    /// What it is made for.
    pub database_type: Option<DatabaseType>,
    /// What it is sold as.
    pub edition: Option<DatabaseEdition>,
    /// Whether it keeps versions for point-in-time recovery.
    pub point_in_time_recovery: Option<bool>,
    /// Whether it cannot be deleted.
    pub delete_protection: Option<bool>,
    /// The customer's key that encrypts it, a resource name of Cloud KMS.
    pub kms_key: Option<String>,
    /// Whether Firestore's API opens it.
    pub firestore_access: Option<bool>,
    /// Whether it tells of changes as they happen.
    pub realtime_updates: Option<bool>,
    /// Whether MongoDB's API opens it.
    pub mongodb_access: Option<bool>,
}

impl Firestore {
    /// The databases of the project, by id, and how they are set up.
    ///
    /// # Errors
    /// `PermissionDenied` where the credentials may not list them; `Unimplemented` of the emulator.
    pub async fn databases(&self) -> Result<Vec<DatabaseFacts>, PortError> {
        let parent = format!("projects/{}", self.database.project);
        let request = ListDatabasesRequest { parent: parent.clone() };
        let listed = self.rpc.unary_of(("parent", &parent), METHOD, request).await;
        let listed: ListDatabasesResponse = listed.map_err(|status| LIST_DATABASES.failed(status))?;
        let mut databases: Vec<_> = listed.databases.into_iter().filter_map(facts).collect();
        databases.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(databases)
    }
}

/// Google may name the project by its number, so only the end of the name is looked at.
fn facts(database: Database) -> Option<DatabaseFacts> {
    let id = database.name.strip_prefix("projects/")?.split_once("/databases/")?.1;
    if id.is_empty() || id.contains('/') {
        return None;
    }
    Some(DatabaseFacts {
        id: id.to_owned(),
        location: Some(database.location_id).filter(|location| !location.is_empty()),
        database_type: pick(database.database_type, DatabaseType::Native, DatabaseType::Datastore),
        edition: pick(database.edition, DatabaseEdition::Standard, DatabaseEdition::Enterprise),
        point_in_time_recovery: pick(database.point_in_time_recovery, true, false),
        delete_protection: pick(database.delete_protection, false, true),
        kms_key: database.cmek.map(|cmek| cmek.kms_key_name).filter(|key| !key.is_empty()),
        firestore_access: pick(database.firestore_data_access, true, false),
        realtime_updates: pick(database.realtime_updates, true, false),
        mongodb_access: pick(database.mongodb_data_access, true, false),
    })
}

/// What a number of an enumeration with two values stands for.
fn pick<T>(number: i32, one: T, two: T) -> Option<T> {
    match number {
        1 => Some(one),
        2 => Some(two),
        _ => None,
    }
}
