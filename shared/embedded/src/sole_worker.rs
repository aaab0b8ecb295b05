//! Sees to it that of several processes on one database file only one does a certain work.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(200);

/// The right to do a work; it ends when dropped, and with its process, however that ends.
#[derive(Debug)]
pub struct SoleWorker {
    _lock: Option<File>,
}

impl SoleWorker {
    /// Waits until no other does `work` on `database`. The lock is a file beside the database.
    pub async fn wait(database: &Path, work: &str) -> Self {
        let path = lock_path(database, work);
        let mut is_told = false;
        loop {
            match try_lock(&path) {
                Ok(lock) => return Self { _lock: Some(lock) },
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::info!(work, "another process does this work; waiting for its end");
                    }
                    tokio::time::sleep(BETWEEN_ATTEMPTS).await;
                }
                Err(TryLockError::Error(error)) => {
                    // everything that is done twice is made for that; it only costs
                    tracing::warn!(work, error = %error, "it cannot be known whether another process does this work");
                    return Self { _lock: None };
                }
            }
        }
    }
}

fn lock_path(database: &Path, work: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(format!("-{work}.lock"));
    path.into()
}

fn try_lock(path: &Path) -> Result<File, TryLockError> {
    let file = open(path).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).open(path)
}
