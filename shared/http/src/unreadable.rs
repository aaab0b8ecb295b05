//! Failures of reading a repository, as a client is told them.

use firebackup_control::{Code, ControlError, Kind};
use firebackup_engine::EngineError;

use crate::failure::Failure;

/// What is wrong with a backup, in a sentence for the client. What a store said stays in the log.
pub(crate) fn problem(error: &EngineError) -> String {
    match error {
        EngineError::Store { path, .. } => format!("`{path}` is gone"),
        other => other.to_string(),
    }
}

/// A failure to read a backup: of the backup, or of the way to it.
pub(crate) fn unreadable(error: EngineError) -> Failure {
    if error.is_of_the_backup() {
        let message = format!("the backup cannot be read: {}", problem(&error));
        return ControlError::new(Kind::Unprocessable, Code::BackupUnreadable, message).with_source(error).into();
    }
    unreachable_place(error)
}

/// A failure on the way to a repository.
pub(crate) fn unreachable_place(error: EngineError) -> Failure {
    unreached(error).into()
}

/// The same, for a verb.
pub(crate) fn unreached(error: EngineError) -> ControlError {
    match error {
        EngineError::Store { .. } | EngineError::Explained { .. } | EngineError::Latest { .. } => {
            ControlError::destination("the destination could not be read; try again, or verify the destination")
                .with_source(error)
        }
        EngineError::Port(error) => ControlError::from(error),
        other => ControlError::internal(other),
    }
}

#[cfg(test)]
mod tests {
    use firebackup_model::{ErrorKind, PortError};

    use super::*;

    fn store(source: object_store::Error) -> EngineError {
        EngineError::Store { operation: "read", path: "runs/ab/x.run".to_owned(), source }
    }

    fn refused(text: &str) -> Box<dyn std::error::Error + Send + Sync> {
        text.into()
    }

    #[test]
    fn the_backup_and_the_way_to_it_are_told_apart_and_what_a_store_said_is_kept_back() {
        let planted = || refused("https://planted");
        let gone = object_store::Error::NotFound { path: "planted".to_owned(), source: planted() };
        let denied = object_store::Error::PermissionDenied { path: "planted".to_owned(), source: planted() };
        for (error, code, status) in [
            (store(gone), Code::BackupUnreadable, 422),
            (store(denied), Code::DestinationFailed, 502),
            (EngineError::Refused("`snapshots/x` is not signed".to_owned()), Code::BackupUnreadable, 422),
            (PortError::new(ErrorKind::Unavailable, "unwrap a key", "planted").into(), Code::Unavailable, 503),
            (EngineError::Worker, Code::Internal, 500),
        ] {
            let failure = unreadable(error);
            assert_eq!((failure.code(), failure.status().as_u16()), (code, status));
            assert!(!failure.message().contains("planted"), "{}", failure.message());
        }
    }
}
