//! Which capture runs on this machine: a file that it holds a lock of, and in it its process id.
//!
//! A lock ends with its process, however that ends. Whoever looks holds a second lock, the gate, and so does whoever
//! begins and ends: what the file says is then of the process that holds its lock, and never of one before it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use firebackup_engine::{Repository, capture_id};
use firebackup_model::{DatabaseName, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::context::Context;
use crate::error::{CliError, Result};

const TICK: Duration = Duration::from_millis(20);
/// How long to wait for somebody else to look: they only look.
const GATE_PATIENCE: Duration = Duration::from_secs(10);

/// Where the captures of one database into one repository leave their mark.
#[derive(Debug)]
pub(super) struct Mark {
    lock: PathBuf,
    gate: PathBuf,
    degraded: PathBuf,
}

/// Why a capture that runs does not know what the database is, and since when. The repository does not say so before it does again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Degraded {
    pub(super) reason: String,
    /// Moments behind this one are lost.
    pub(super) lost_since: Option<Timestamp>,
}

/// A capture that runs: this process. What is dropped runs no more.
#[derive(Debug)]
pub(super) struct Running {
    file: File,
    gate: PathBuf,
    degraded: PathBuf,
}

/// Who runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    /// The process, where it could be read.
    Process(Option<u32>),
}

impl Mark {
    /// The mark of a database; nothing where there is no folder for it.
    pub(super) fn of(context: &Context, repository: &Repository, database: &DatabaseName) -> Option<Self> {
        let folder = context.settings.state_folder.as_deref()?;
        let capture = capture_id(repository.id(), database);
        Some(Self::named(folder, &format!("capture-{}-{capture}", repository.id())))
    }

    fn named(folder: &Path, name: &str) -> Self {
        let named = |kind: &str| folder.join(format!("{name}.{kind}"));
        Self { lock: named("lock"), gate: named("gate"), degraded: named("degraded") }
    }

    /// Marks that this process captures.
    ///
    /// # Errors
    /// When another one on this machine does, or the mark cannot be written ([`CliError::File`]).
    pub(super) async fn claim(&self) -> Result<Running> {
        if let Some(folder) = self.lock.parent() {
            std::fs::create_dir_all(folder).map_err(CliError::file("make the folder", folder))?;
        }
        let _gate = passed(&self.gate).await?;
        let mut file = opened(&self.lock)?;
        if let Holder::Process(pid) = self.holder_of(&mut file)? {
            let pid = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            return Err(CliError::Refused(format!(
                "another capture of this database runs on this machine already{pid}: end it with `firebackup pitr stop`"
            )));
        }
        let written = file.set_len(0).and_then(|()| file.rewind());
        let written = written.and_then(|()| write!(file, "{}", std::process::id())).and_then(|()| file.sync_data());
        written.map_err(CliError::file("write", &self.lock))?;
        let running = Running { file, gate: self.gate.clone(), degraded: self.degraded.clone() };
        // of one before that was killed
        running.tell(None);
        Ok(running)
    }

    /// Why the capture that runs is degraded, as it says; whether one runs is the caller's to know.
    pub(super) fn degraded(&self) -> Option<Degraded> {
        serde_json::from_slice(&std::fs::read(&self.degraded).ok()?).ok()
    }

    /// Who runs, now.
    ///
    /// # Errors
    /// When the mark cannot be read.
    pub(super) async fn holder(&self) -> Result<Holder> {
        self.with_holder(Ok).await
    }

    /// Does something to who runs, while that one can neither end in order nor be followed by another.
    ///
    /// # Errors
    /// As `act`, or when the mark cannot be read.
    pub(super) async fn with_holder<T>(&self, act: impl FnOnce(Holder) -> Result<T>) -> Result<T> {
        if !self.lock.exists() {
            return act(Holder::Nobody);
        }
        let _gate = passed(&self.gate).await?;
        act(self.holder_of(&mut opened(&self.lock)?)?)
    }

    /// Who holds the lock. Where nobody does, `file` does from now on.
    fn holder_of(&self, file: &mut File) -> Result<Holder> {
        match file.try_lock() {
            Ok(()) => Ok(Holder::Nobody),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(CliError::file("read", &self.lock))?;
                Ok(Holder::Process(text.trim().parse().ok()))
            }
            Err(TryLockError::Error(error)) => Err(CliError::file("lock", &self.lock)(error)),
        }
    }
}

impl Running {
    /// Says whether it is degraded, to whoever asks for its status. Where that cannot be written, its own output says it.
    pub(super) fn tell(&self, degraded: Option<&Degraded>) {
        let told = match degraded.map(serde_json::to_vec) {
            // in one step, so that nobody reads half of it
            Some(Ok(text)) => {
                let new = self.degraded.with_extension("degraded.new");
                std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.degraded))
            }
            Some(Err(error)) => Err(error.into()),
            None if self.degraded.exists() => std::fs::remove_file(&self.degraded),
            None => Ok(()),
        };
        if let Err(error) = told {
            tracing::debug!(error = %error, "whether the capture is degraded cannot be written down");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tell(None);
        // whoever looks just now ends doing so: what they do to this process they do to this one
        let gate = opened(&self.gate).ok().filter(|gate| gate.lock().is_ok());
        // where this fails the lock says it all the same
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
        drop(gate);
    }
}

fn opened(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(CliError::file("open", path))
}

async fn passed(path: &Path) -> Result<File> {
    let (gate, begun) = (opened(path)?, Instant::now());
    loop {
        match gate.try_lock() {
            Ok(()) => return Ok(gate),
            Err(TryLockError::WouldBlock) if begun.elapsed() < GATE_PATIENCE => tokio::time::sleep(TICK).await,
            Err(TryLockError::WouldBlock) => {
                return Err(CliError::Refused(format!("{} is locked by a process that does not end", path.display())));
            }
            Err(TryLockError::Error(error)) => return Err(CliError::file("lock", path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_runs_at_a_time_and_what_is_left_of_one_before_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (mark, other) = (Mark::named(&folder.path().join("state"), "a"), Mark::named(folder.path(), "b"));
        assert_eq!(mark.holder().await.unwrap(), Holder::Nobody);
        let running = mark.claim().await.unwrap();
        assert_eq!(mark.holder().await.unwrap(), Holder::Process(Some(std::process::id())));
        let refused = mark.claim().await.unwrap_err();
        assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
        other.claim().await.unwrap();
        drop(running);
        assert_eq!(mark.holder().await.unwrap(), Holder::Nobody);
        // killed: the lock is free, and a process id stands there that may be another's by now
        std::fs::write(&mark.lock, "1").unwrap();
        assert_eq!(mark.holder().await.unwrap(), Holder::Nobody);
        let running = mark.claim().await.unwrap();
        assert_eq!(mark.holder().await.unwrap(), Holder::Process(Some(std::process::id())));
        drop(running);
    }

    #[tokio::test]
    async fn that_one_is_degraded_is_known_while_it_runs_and_is_and_not_of_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mark = Mark::named(folder.path(), "a");
        let degraded = Degraded { reason: "it was read twice".to_owned(), lost_since: Some(Timestamp::new(7, 0)) };
        let running = mark.claim().await.unwrap();
        assert_eq!(mark.degraded(), None);
        running.tell(Some(&degraded));
        assert_eq!(mark.degraded(), Some(degraded.clone()));
        running.tell(None);
        assert_eq!(mark.degraded(), None);
        running.tell(Some(&degraded));
        drop(running);
        assert_eq!(mark.degraded(), None);
        // killed
        std::fs::write(&mark.degraded, serde_json::to_vec(&degraded).unwrap()).unwrap();
        let _running = mark.claim().await.unwrap();
        assert_eq!(mark.degraded(), None);
    }

    #[tokio::test]
    async fn that_no_mark_can_be_left_is_a_failure_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let taken = Mark::named(folder.path(), "taken");
        std::fs::create_dir(&taken.lock).unwrap();
        for mark in [Mark::named(&file.join("state"), "a"), taken] {
            assert!(matches!(mark.claim().await.unwrap_err(), CliError::File { .. }), "{mark:?}");
        }
    }
}
