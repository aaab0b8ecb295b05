//! The one SQLite file that keeps the state of an embedded installation.
//!
//! A thread of its own holds the connection and does what it is handed, one piece after the other. SQLite lets one
//! writer in at a time anyway, and tasks that wait for their turn must not fill the runtime's pool of blocking threads,
//! where steps of backups have work to do.
//!
//! Several processes may have the file open: every piece of work is a transaction, and one that changes something takes
//! the writer's lock before it reads. A commit is on the disk when it returns.

mod failure;
mod schema;
mod version;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use firebackup_model::{ErrorKind, PortError, Timestamp};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

pub(crate) use failure::Outcome;
pub use version::DataVersion;

const OPEN: &str = "open the database";
/// How long a piece of work waits for another process that writes.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait between attempts where SQLite does not wait itself.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);
/// Two flushes for macOS, whose usual one leaves the data in the disk's own memory.
const SETTINGS: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
    PRAGMA trusted_schema = OFF;
";

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// An open database. Clones share its connection, which is closed with the last of them.
#[derive(Debug, Clone)]
pub struct Database {
    path: Arc<Path>,
    work: mpsc::Sender<Work>,
}

impl Database {
    /// Opens the database file `path`, and makes it (mode 0600) when there is none. Older schemas are brought up to date.
    ///
    /// # Errors
    /// [`FailedPrecondition`](ErrorKind::FailedPrecondition) when a newer version of FireBackup or another program wrote
    /// it, or when its file system lacks what SQLite needs; [`Corrupt`](ErrorKind::Corrupt) when it is damaged;
    /// [`NotFound`](ErrorKind::NotFound) when its folder is missing.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, PortError> {
        let path: Arc<Path> = path.into().into();
        let (work, works) = mpsc::channel::<Work>();
        let (opened, is_open) = oneshot::channel();
        let thread = thread::Builder::new().name("database".to_owned());
        let file = Arc::clone(&path);
        let spawned = thread.spawn(move || match connect(&file) {
            Ok(connection) => {
                // who does not wait any more has dropped the work's other end too
                let _ = opened.send(Ok(()));
                serve(connection, works);
            }
            Err(error) => drop(opened.send(Err(error))),
        });
        spawned.map_err(|error| PortError::new(ErrorKind::ResourceExhausted, OPEN, "").with_source(error))?;
        is_open.await.map_err(|_| ended_early(OPEN))??;
        Ok(Self { path, work })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells whether anything has changed since.
    ///
    /// # Errors
    /// When the file cannot be opened once more.
    pub fn version(&self) -> Result<DataVersion, PortError> {
        DataVersion::of(&self.path)
    }

    /// Does work that changes nothing, on one state of the database.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Outcome<T> + Send + 'static,
    ) -> Result<T, PortError> {
        self.call(operation, TransactionBehavior::Deferred, work).await
    }

    /// Does all of the work, or nothing when it fails. It is done to its end even when nobody waits for it any more.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Outcome<T> + Send + 'static,
    ) -> Result<T, PortError> {
        self.call(operation, TransactionBehavior::Immediate, work).await
    }

    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> Outcome<T> + Send + 'static,
    ) -> Result<T, PortError> {
        let (answer, answered) = oneshot::channel();
        let piece = move |connection: &mut Connection| {
            let done = || transact(connection, behavior, work).map_err(|failure| failure.during(operation));
            // a panic rolls this piece back, and must not end the thread that all others need
            if let Ok(done) = panic::catch_unwind(AssertUnwindSafe(done)) {
                let _ = answer.send(done);
            }
        };
        self.work.send(Box::new(piece)).map_err(|_| ended_early(operation))?;
        answered.await.map_err(|_| ended_early(operation))?
    }
}

fn ended_early(operation: &str) -> PortError {
    PortError::new(ErrorKind::Internal, operation, "the work on the database ended unexpectedly")
}

fn serve(mut connection: Connection, works: mpsc::Receiver<Work>) {
    for work in works {
        work(&mut connection);
    }
}

fn transact<T>(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    work: impl FnOnce(&Transaction<'_>) -> Outcome<T>,
) -> Outcome<T> {
    let transaction = connection.transaction_with_behavior(behavior)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

fn connect(path: &Path) -> Result<Connection, PortError> {
    make_private(path).map_err(|error| io_error(path, error))?;
    open(path).map_err(|failure| failure.during(OPEN)).map_err(|error| explain(path, error))
}

fn open(path: &Path) -> Outcome<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    // first of all: nothing is changed in a file that is not ours
    schema::check(&mut connection)?;
    log_ahead(&connection)?;
    connection.execute_batch(SETTINGS)?;
    schema::update(&mut connection)?;
    Ok(connection)
}

/// Readers and a writer do not wait for each other then. The file keeps this setting; processes that make it at the same
/// time are in each other's way.
fn log_ahead(connection: &Connection) -> Outcome<()> {
    let begun = Instant::now();
    let mode: String = loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && begun.elapsed() < PATIENCE => {
                thread::sleep(BETWEEN_ATTEMPTS);
            }
            done => break done?,
        }
    };
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    let message = "its file system cannot keep a write-ahead log; use a local one";
    Err(PortError::new(ErrorKind::FailedPrecondition, OPEN, message).into())
}

/// Says which file it is about where that is what the reader must know.
fn explain(path: &Path, error: PortError) -> PortError {
    if error.kind != ErrorKind::Corrupt {
        return error;
    }
    let message = format!("{} is damaged, or no database", path.display());
    PortError::new(ErrorKind::Corrupt, OPEN, message).with_source(error)
}

fn io_error(path: &Path, error: io::Error) -> PortError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
        io::ErrorKind::IsADirectory => ErrorKind::InvalidArgument,
        _ => ErrorKind::Other,
    };
    PortError::new(kind, OPEN, path.display().to_string()).with_source(error)
}

/// Makes the file before SQLite would, which knows no modes; SQLite gives its other files the same.
fn make_private(path: &Path) -> io::Result<()> {
    let file = private().open(path)?;
    restrict(&file, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_folder(folder)
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options
}

/// Takes the rights of others away from a file that there was. Some file systems show the same rights for all files and
/// let none be taken: that is the owner's choice, and only told.
#[cfg(unix)]
fn restrict(file: &File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if file.metadata()?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    if let Err(error) = fs::set_permissions(path, PermissionsExt::from_mode(0o600)) {
        tracing::warn!(path = %path.display(), error = %error, "other users can read the database");
    }
    Ok(())
}

#[cfg(not(unix))]
fn restrict(_: &File, _: &Path) -> io::Result<()> {
    Ok(())
}

/// A new file's name is durable once its folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A moment as the tables keep it.
pub(crate) const fn millis(moment: Timestamp) -> i64 {
    moment.millis()
}

/// A duration as the tables add it to moments; very long ones are cut.
pub(crate) fn duration_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}
