//! What executions and schedules may be named.

use firebackup_model::{ErrorKind, PortError};

/// Whether `name` has letters, digits, `-` and `_` only, and `most` of them at most.
pub(crate) fn check(name: &str, most: usize, operation: &str) -> Result<(), PortError> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_plain && (1..=most).contains(&name.len()) {
        return Ok(());
    }
    let message = format!("a name has 1 to {most} letters, digits, `-` and `_`");
    Err(PortError::new(ErrorKind::InvalidArgument, operation, message))
}
