//! Which tables there are. `user_version` counts the changes that a file has seen.

use firebackup_model::{ErrorKind, PortError};
use rusqlite::{Connection, TransactionBehavior};

use super::{OPEN, Outcome};

/// Every change of the schema, in order; those that were released are never edited.
const CHANGES: [&str; 2] = [include_str!("1.sql"), include_str!("2.sql")];
/// Says whose file it is: `FBkp`.
const APPLICATION: i32 = 0x4642_6b70;

/// Whether this version can work with the file. Changes nothing.
pub(super) fn check(connection: &mut Connection) -> Outcome<()> {
    // one transaction: another process may be about to make the tables
    let transaction = connection.transaction()?;
    let (application, version) = (pragma(&transaction, "application_id")?, version(&transaction)?);
    let is_empty =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0).map(|n: i64| n == 0))?;
    if application != APPLICATION && !(application == 0 && version == 0 && is_empty) {
        return Err(refusal("another program wrote this file".to_owned()).into());
    }
    let known = CHANGES.len();
    if usize::try_from(version).map_or(true, |version| version > known) {
        let message = format!(
            "a newer version of firebackup wrote it (schema {version}; this version knows schemas up to {known}): update firebackup"
        );
        return Err(refusal(message).into());
    }
    Ok(())
}

/// Makes the changes that the file has not seen.
pub(super) fn update(connection: &mut Connection) -> Outcome<()> {
    if is_current(version(connection)?) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // another process may have been faster
    let seen = usize::try_from(version(&transaction)?).unwrap_or_default();
    for change in CHANGES.iter().skip(seen) {
        transaction.execute_batch(change)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    if seen < CHANGES.len() {
        transaction.pragma_update(None, "user_version", CHANGES.len() as i64)?;
    }
    transaction.commit()?;
    Ok(())
}

fn is_current(version: i32) -> bool {
    usize::try_from(version).is_ok_and(|version| version >= CHANGES.len())
}

fn refusal(message: String) -> PortError {
    PortError::new(ErrorKind::FailedPrecondition, OPEN, message)
}

fn version(connection: &Connection) -> Outcome<i32> {
    pragma(connection, "user_version")
}

fn pragma(connection: &Connection, name: &str) -> Outcome<i32> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}
