//! The two ways in which signing in fails.

use std::error::Error;

use firebackup_model::error::{ErrorKind, PortError};

const OPERATION: &str = "sign in";

/// What was said is not proven, or the issuer does not take the code. Nothing of what was said is kept.
pub(super) fn denied(message: impl Into<String>) -> PortError {
    PortError::new(ErrorKind::PermissionDenied, OPERATION, message)
}

/// The issuer does not answer, or not as one.
pub(super) fn unavailable(message: impl Into<String>) -> PortError {
    PortError::new(ErrorKind::Unavailable, OPERATION, message)
}

/// As [`unavailable`], because of `source`, which holds nothing secret.
pub(super) fn unavailable_by(message: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> PortError {
    unavailable(message).with_source(source)
}
