//! What a piece of work on the database can fail with, before it is known which operation it was part of.

use firebackup_model::{ErrorKind, PortError};
use rusqlite::ErrorCode;

pub(crate) type Outcome<T> = Result<T, Failure>;

/// Why work on the database failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite said so.
    Sqlite(rusqlite::Error),
    /// What is stored cannot be read.
    Json(serde_json::Error),
    /// The request does not fit what there is.
    Port(PortError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

impl Failure {
    /// The error of the operation that the work was part of.
    pub(crate) fn during(self, operation: &str) -> PortError {
        match self {
            Self::Sqlite(error) => PortError::new(kind(&error), operation, "").with_source(error),
            Self::Json(error) => PortError::new(ErrorKind::Corrupt, operation, "").with_source(error),
            Self::Port(error) => error,
        }
    }
}

fn kind(error: &rusqlite::Error) -> ErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            ErrorKind::Aborted
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
        Some(ErrorCode::DiskFull | ErrorCode::OutOfMemory) => ErrorKind::ResourceExhausted,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => ErrorKind::PermissionDenied,
        Some(ErrorCode::TooBig) => ErrorKind::InvalidArgument,
        Some(ErrorCode::SystemIoFailure) => ErrorKind::Internal,
        _ => ErrorKind::Other,
    }
}
