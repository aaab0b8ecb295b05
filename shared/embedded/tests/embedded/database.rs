//! Files that are not as they should be, and two processes' worth of handles on one file.

use std::error::Error;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firebackup_embedded::{Database, SqliteItemStore};
use firebackup_model::port::{ItemBody, ItemKey, ItemQuery, ItemStore, ItemWrite, NewItem};
use firebackup_model::{ErrorKind, PortError};
use firebackup_testkit::HandClock;
use rusqlite::Connection;
use serde_json::json;
use tokio::task::JoinSet;

fn body(value: serde_json::Value) -> ItemBody {
    value.as_object().unwrap().clone()
}

fn items(database: &Database) -> SqliteItemStore {
    SqliteItemStore::new(database.clone(), Arc::new(HandClock::default()))
}

fn create(sort: &str) -> ItemWrite {
    ItemWrite::Create(NewItem::new(ItemKey::new("p", sort), body(json!({"sort": sort}))))
}

#[track_caller]
fn says(error: &PortError, kind: ErrorKind, text: &str) {
    assert_eq!(error.kind, kind, "{error:?}");
    assert!(error.to_string().contains(text), "{error}");
}

async fn refused(path: &Path) -> PortError {
    let before = fs::read(path).unwrap();
    let error = Database::open(path).await.map(drop).unwrap_err();
    assert!(fs::read(path).unwrap() == before, "what is refused is left as it was");
    error
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let first = Database::open(&path).await.unwrap();
    items(&first).write(vec![create("a")]).await.unwrap();
    drop(first);
    let second = Database::open(&path).await.unwrap();
    assert!(items(&second).get(&ItemKey::new("p", "a")).await.unwrap().is_some());
    assert_eq!(second.path(), path);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_any_of_its_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let database = Database::open(&path).await.unwrap();
    items(&database).write(vec![create("a")]).await.unwrap();
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
    assert!(files.len() >= 2, "the log stands beside the file");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    drop(Database::open(&path).await.unwrap());
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 1000).unwrap();
    drop(connection);
    let error = refused(&path).await;
    says(&error, ErrorKind::FailedPrecondition, "newer version of firebackup wrote it (schema 1000");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", -1).unwrap();
    drop(connection);
    says(&refused(&path).await, ErrorKind::FailedPrecondition, "schema -1");
}

#[tokio::test]
async fn the_database_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, sql) in [
        ("tables.db", "CREATE TABLE items (a)"),
        ("version.db", "PRAGMA user_version = 1; VACUUM"),
        ("application.db", "PRAGMA application_id = 7; VACUUM"),
    ] {
        let path = folder.path().join(name);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        says(&refused(&path).await, ErrorKind::FailedPrecondition, "another program wrote this file");
    }
}

#[tokio::test]
async fn what_is_no_database_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    for content in ["x".repeat(10), "no database\n".repeat(1000)] {
        fs::write(&path, content).unwrap();
        let error = refused(&path).await;
        says(&error, ErrorKind::Corrupt, "state.db is damaged, or no database");
        assert!(error.source().is_some());
    }
    let missing = Database::open(folder.path().join("no/state.db")).await.map(drop).unwrap_err();
    says(&missing, ErrorKind::NotFound, "state.db");
    let error = Database::open(folder.path()).await.map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error:?}");
}

#[tokio::test]
async fn damage_within_the_file_is_an_error_and_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let database = Database::open(&path).await.unwrap();
    for index in 0..50 {
        items(&database).write(vec![create(&format!("{index:0>900}"))]).await.unwrap();
    }
    drop(database);
    // the last handle is closed by its own thread
    let log = folder.path().join("state.db-wal");
    firebackup_testkit::eventually("it is closed", Duration::from_secs(20), async || (!log.exists()).then_some(()))
        .await;
    let length = fs::metadata(&path).unwrap().len();
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    // all but the first pages, which hold the schema
    file.seek(SeekFrom::Start(12 * 4096)).unwrap();
    file.write_all(&vec![0xa5; (length - 12 * 4096) as usize]).unwrap();
    drop(file);
    let database = Database::open(&path).await.unwrap();
    let error = items(&database).query(&ItemQuery::prefix("p", "")).await.map(drop).unwrap_err();
    says(&error, ErrorKind::Corrupt, "could not query items");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_make_the_same_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut tasks = JoinSet::new();
    for index in 0..8 {
        let path = path.clone();
        tasks.spawn(async move {
            let database = Database::open(path).await.unwrap();
            items(&database).write(vec![create(&index.to_string())]).await.unwrap();
        });
    }
    tasks.join_all().await;
    let database = Database::open(&path).await.unwrap();
    assert_eq!(items(&database).query(&ItemQuery::prefix("p", "")).await.unwrap().items.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_lose_no_addition_and_no_condition() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let handles = [Database::open(&path).await.unwrap(), Database::open(&path).await.unwrap()];
    let mut tasks = JoinSet::new();
    for index in 0..40 {
        let store = items(&handles[index % 2]);
        tasks.spawn(async move {
            store.add(&ItemKey::new("counters", "n"), &[("n", 1)], None).await.unwrap();
            store.write(vec![create("raced")]).await.is_ok()
        });
    }
    let winners = tasks.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(winners, 1, "one creates");
    let counters = items(&handles[0]).get(&ItemKey::new("counters", "n")).await.unwrap().unwrap();
    assert_eq!(counters.body, body(json!({"n": 40})));
}

#[tokio::test]
async fn expired_items_are_removed_by_later_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let clock = Arc::new(HandClock::default());
    let store = SqliteItemStore::new(Database::open(&path).await.unwrap(), clock.clone());
    let expires = Some(firebackup_model::port::Clock::now(clock.as_ref()).plus_seconds(10));
    for index in 0..5 {
        let item = NewItem::new(ItemKey::new("p", index.to_string()), body(json!({})));
        store.write(vec![ItemWrite::Create(NewItem { expires, ..item })]).await.unwrap();
    }
    let rows = || -> i64 {
        let connection = Connection::open(&path).unwrap();
        connection.query_row("SELECT count(*) FROM items", [], |row| row.get(0)).unwrap()
    };
    clock.advance(9);
    store.write(vec![create("a")]).await.unwrap();
    assert_eq!(rows(), 6);
    clock.advance(1);
    store.write(vec![create("b")]).await.unwrap();
    assert_eq!(rows(), 2);
}
