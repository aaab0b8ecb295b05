//! Errors of the ports: each names its operation, keeps its source and knows whether trying again can help.

use std::error::Error;
use std::{fmt, io, iter};

/// What kind of failure it was; one place maps each to *retry or not* and to what a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing does not exist.
    NotFound,
    /// The thing exists already.
    AlreadyExists,
    /// A condition of the request did not hold.
    FailedPrecondition,
    /// Another writer was in the way.
    Aborted,
    /// A quota or a rate limit; slow down.
    ResourceExhausted,
    /// The server or the way to it is down.
    Unavailable,
    /// The server did not answer in time.
    DeadlineExceeded,
    /// The server failed.
    Internal,
    /// No or bad credentials.
    Unauthenticated,
    /// The credentials may not do this.
    PermissionDenied,
    /// The request is wrong.
    InvalidArgument,
    /// The read time is older than the database keeps.
    ReadTimeTooOld,
    /// The server lacks the operation.
    Unimplemented,
    /// What came back is not what was asked for.
    Corrupt,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn can_be_retried(self) -> bool {
        matches!(
            self,
            Self::Aborted | Self::ResourceExhausted | Self::Unavailable | Self::DeadlineExceeded | Self::Internal
        )
    }

    /// Whether a server that fails like this may not answer such a query at all, rather than not now.
    #[must_use]
    pub const fn is_refusal_of_query(self) -> bool {
        matches!(self, Self::InvalidArgument | Self::Unimplemented | Self::FailedPrecondition)
    }
}

/// A failure behind a port.
pub struct PortError {
    /// What kind of failure.
    pub kind: ErrorKind,
    operation: String,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl PortError {
    /// A failure of `operation` (a verb phrase, such as `read documents`) with what the server said.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, operation: operation.into(), message: message.into(), source: None }
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What was being done.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// What the server said.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn can_be_retried(&self) -> bool {
        self.kind.can_be_retried()
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.operation)?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

impl fmt::Debug for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortError")
            .field("kind", &self.kind)
            .field("operation", &self.operation)
            .field("message", &self.message)
            .field("source", &self.source)
            .finish()
    }
}

impl Error for PortError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
/// Whether an error of type `E` is among the causes of an error, itself included. A wrapper may show what it holds by its
/// source or, as [`io::Error`] does, by name.
#[must_use]
pub fn is_caused_by<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source()).any(|cause| {
        let held = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause.is::<E>() || held.is_some_and(|held| held.is::<E>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_however_deep_and_behind_an_io_error() {
        let behind = || io::Error::other(fmt::Error);
        let deep = PortError::new(ErrorKind::Internal, "a", "").with_source(behind());
        assert!(is_caused_by::<fmt::Error>(&fmt::Error) && is_caused_by::<fmt::Error>(&behind()));
        assert!(is_caused_by::<fmt::Error>(&deep) && !is_caused_by::<std::num::ParseIntError>(&deep));
    }
}
