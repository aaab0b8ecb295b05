//! Whether anything was changed, by this process or another, told without waiting for the thread that does the work.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use firebackup_model::PortError;
use rusqlite::{Connection, OpenFlags};

use super::{OPEN, Outcome};

/// A connection of its own that reads nothing but SQLite's own count of changes.
pub struct DataVersion(Mutex<Connection>);

impl fmt::Debug for DataVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataVersion")
    }
}

impl DataVersion {
    pub(super) fn of(path: &Path) -> Result<Self, PortError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> Outcome<Connection> { Ok(Connection::open_with_flags(path, flags)?) };
        Ok(Self(Mutex::new(open().map_err(|failure| failure.during(OPEN))?)))
    }

    /// Another number after every commit, of whichever process; nothing where it cannot be read just now. Takes a few
    /// microseconds, and reads no table.
    #[must_use]
    pub fn get(&self) -> Option<i64> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare_cached("PRAGMA data_version").ok()?;
        statement.query_row([], |row| row.get(0)).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use firebackup_model::port::{ItemKey, ItemStore, ItemWrite, NewItem};

    use crate::{Database, SqliteItemStore, SystemClock};

    #[tokio::test]
    async fn every_commit_is_another_version_and_reading_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("database");
        let database = Database::open(&path).await.unwrap();
        let version = database.version().unwrap();
        let (items, elsewhere) = (store(&database), store(&Database::open(&path).await.unwrap()));
        let first = version.get().unwrap();
        items.get(&ItemKey::new("p", "s")).await.unwrap();
        assert_eq!(version.get(), Some(first), "nothing was changed");
        let mut seen = vec![first];
        for (store, sort) in [(&items, "1"), (&elsewhere, "2"), (&items, "3")] {
            let item = NewItem::new(ItemKey::new("p", sort), Default::default());
            store.write(vec![ItemWrite::Create(item)]).await.unwrap();
            seen.push(version.get().unwrap());
            assert_eq!(version.get(), seen.last().copied());
        }
        seen.dedup();
        assert_eq!(seen.len(), 4, "{seen:?}");
    }

    fn store(database: &Database) -> SqliteItemStore {
        SqliteItemStore::new(database.clone(), Arc::new(SystemClock))
    }
}
