//! gRPC statuses to errors of the ports.

use std::error::Error;

use firebackup_model::error::{ErrorKind, PortError};
use tonic::{Code, Status};

use crate::access::sdk_error_kind;

/// What was being done, and the role it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    role: &'static str,
}

impl Operation {
    pub(crate) const fn reading(name: &'static str) -> Self {
        Self { name, role: "roles/datastore.viewer (what a backup needs)" }
    }

    pub(crate) const fn writing(name: &'static str) -> Self {
        Self { name, role: "roles/datastore.user (what a restore needs)" }
    }

    /// The port's error for a status.
    pub(crate) fn failed(self, status: Status) -> PortError {
        let kind = kind_of(&status);
        let message = match kind {
            ErrorKind::PermissionDenied => format!("{}; it takes {}", status.message(), self.role),
            _ => status.message().to_owned(),
        };
        PortError::new(kind, self.name, message).with_source(status)
    }

    /// The server answered what it must not.
    pub(crate) fn corrupt(self, message: &str) -> PortError {
        PortError::new(ErrorKind::Corrupt, self.name, message)
    }
}

fn kind_of(status: &Status) -> ErrorKind {
    match status.code() {
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::FailedPrecondition if says_read_time_too_old(status.message()) => ErrorKind::ReadTimeTooOld,
        Code::FailedPrecondition => ErrorKind::FailedPrecondition,
        Code::InvalidArgument | Code::OutOfRange if says_read_time_too_old(status.message()) => {
            ErrorKind::ReadTimeTooOld
        }
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::Aborted => ErrorKind::Aborted,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        // We never cancel a call and still look at its status: a peer or a proxy has.
        Code::Unavailable | Code::Cancelled => ErrorKind::Unavailable,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::Internal => ErrorKind::Internal,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::Unknown => kind_of_unknown(status),
        Code::Ok => ErrorKind::Other,
    }
}

/// tonic calls a broken connection and a stream without a final status unknown, and the middleware's failure to get
/// a token too.
fn kind_of_unknown(status: &Status) -> ErrorKind {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<gcloud_sdk::error::Error>() {
            return sdk_error_kind(error);
        }
        if let Some(error) = error.downcast_ref::<Box<gcloud_sdk::error::Error>>() {
            return sdk_error_kind(error);
        }
        cause = error.source();
    }
    ErrorKind::Unavailable
}

fn says_read_time_too_old(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let is_about_time = ["read_time", "read time", "snapshot", "timestamp"].iter().any(|word| message.contains(word));
    let is_old =
        ["too old", "older than", "in the past", "retention", "earliest"].iter().any(|word| message.contains(word));
    is_about_time && is_old
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Operation = Operation::reading("read documents");

    fn check(status: Status, kind: ErrorKind, retried: bool) {
        let error = READ.failed(status);
        assert_eq!((error.kind, error.can_be_retried()), (kind, retried), "{error:?}");
        assert!(error.source().is_some_and(|source| source.is::<Status>()));
    }

    #[test]
    fn codes_become_kinds() {
        check(Status::unavailable(""), ErrorKind::Unavailable, true);
        check(Status::cancelled(""), ErrorKind::Unavailable, true);
        check(Status::unknown("transport error"), ErrorKind::Unavailable, true);
        check(Status::resource_exhausted(""), ErrorKind::ResourceExhausted, true);
        check(Status::aborted(""), ErrorKind::Aborted, true);
        check(Status::deadline_exceeded(""), ErrorKind::DeadlineExceeded, true);
        check(Status::internal(""), ErrorKind::Internal, true);
        check(Status::not_found(""), ErrorKind::NotFound, false);
        check(Status::already_exists(""), ErrorKind::AlreadyExists, false);
        check(Status::failed_precondition("the query requires an index"), ErrorKind::FailedPrecondition, false);
        check(Status::invalid_argument("read_time in the future"), ErrorKind::InvalidArgument, false);
        check(Status::unauthenticated(""), ErrorKind::Unauthenticated, false);
        check(Status::unimplemented(""), ErrorKind::Unimplemented, false);
        check(Status::data_loss(""), ErrorKind::Corrupt, false);
    }

    #[test]
    fn old_read_times_are_recognized() {
        for message in [
            "The requested snapshot version is too old.",
            "The requested 'read_time' is too old",
            "read_time cannot be more than 1 hour in the past",
        ] {
            check(Status::failed_precondition(message), ErrorKind::ReadTimeTooOld, false);
            check(Status::invalid_argument(message), ErrorKind::ReadTimeTooOld, false);
        }
    }

    #[test]
    fn a_missing_permission_names_the_role() {
        let read = READ.failed(Status::permission_denied("no")).to_string();
        assert_eq!(read, "could not read documents: no; it takes roles/datastore.viewer (what a backup needs)");
        let write = Operation::writing("write documents").failed(Status::permission_denied("no")).to_string();
        assert!(write.contains("roles/datastore.user"), "{write}");
    }
}
