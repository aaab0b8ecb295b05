//! The control plane's ports on one database file.

mod conformance;
mod database;
mod killed;
mod lies;
mod queue;
mod scheduler;
mod two_years;
mod workflows;

use firebackup_embedded::Database;
use tempfile::TempDir;

/// A new database, and the folder that it is gone with.
async fn new_database() -> (TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path().join("state.db")).await.unwrap();
    (folder, database)
}
