//! What a step that failed says, and whether it is worth trying again.

use std::error::Error;

use firebackup_control::{Code, ControlError, Kind};
use firebackup_engine::EngineError;
use firebackup_model::port::{JOB_FAILED, StepError, StepErrorKind};
use firebackup_model::{ErrorKind, PortError};
use firebackup_storage::describe;

/// A failure of a verb of the control plane.
pub(crate) fn of_control(error: ControlError) -> StepError {
    let kind = match error.kind {
        Kind::Cancelled => StepErrorKind::Cancelled,
        _ if error.can_be_retried() => StepErrorKind::Retryable,
        _ => StepErrorKind::Fatal,
    };
    if let Some(source) = Error::source(&error) {
        tracing::warn!(error = %error, source = %in_words(source), "a verb failed");
    }
    StepError::new(kind, error.to_string())
}

/// A failure of a verb on documents. What names a document stays in the log: state machines keep what a step says, and
/// names are often e-mail addresses.
pub(crate) fn of_engine(error: EngineError) -> StepError {
    let words = in_words(&error);
    match &error {
        // somebody wanted it so
        EngineError::Interrupted { .. } => tracing::info!(error = %words, "a step was stopped"),
        _ => tracing::warn!(error = %words, "a step failed"),
    }
    let kind = match &error {
        EngineError::Interrupted { .. } => StepErrorKind::Cancelled,
        error if error.may_pass() => StepErrorKind::Retryable,
        _ => StepErrorKind::Fatal,
    };
    let message =
        if names_a_document(&error) { "a document cannot be read; the log names it".to_owned() } else { words };
    let code = if is_of_the_destination(&error) { Code::DestinationFailed.as_str() } else { JOB_FAILED };
    StepError { code, ..StepError::new(kind, message) }
}

/// Whether a store could not be reached, or refused. An object that is gone or damaged is no trouble of its store.
fn is_of_the_destination(error: &EngineError) -> bool {
    match error {
        EngineError::Store { source, .. } => match describe(source) {
            (ErrorKind::NotFound, message) => message.contains("no such bucket"),
            (kind, _) => matches!(
                kind,
                ErrorKind::PermissionDenied
                    | ErrorKind::Unauthenticated
                    | ErrorKind::Unavailable
                    | ErrorKind::DeadlineExceeded
                    | ErrorKind::ResourceExhausted
                    | ErrorKind::Other
            ),
        },
        EngineError::Explained { source, .. } | EngineError::Latest { source, .. } => is_of_the_destination(source),
        _ => false,
    }
}

fn names_a_document(error: &EngineError) -> bool {
    match error {
        EngineError::Document { .. } | EngineError::Compare { .. } | EngineError::Rewrite { .. } => true,
        EngineError::Explained { source, .. } | EngineError::Latest { source, .. } => names_a_document(source),
        _ => false,
    }
}

/// A failure behind a port.
pub(crate) fn of_port(error: PortError) -> StepError {
    of_engine(EngineError::Port(error))
}

/// A request that is none.
pub(crate) fn unreadable(error: serde_json::Error) -> StepError {
    let message = format!("the input of the step cannot be read (line {}, column {})", error.line(), error.column());
    StepError::new(StepErrorKind::Fatal, message)
}

/// An error and its causes in one line, as far as they may be shown: what a store answered may repeat a credential.
fn in_words(error: &dyn Error) -> String {
    let said = error.to_string();
    let causes = firebackup_storage::causes(error, &said);
    std::iter::once(said).chain(causes).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANTED: &str = "planted-session-token";

    fn refused_by_store() -> EngineError {
        let answer = format!("<CanonicalRequest>PUT /b/o\nx-amz-security-token:{PLANTED}</CanonicalRequest>");
        let source = object_store::Error::PermissionDenied { path: "o".to_owned(), source: answer.into() };
        EngineError::Store { operation: "write", path: "runs/o.run".to_owned(), source }
    }

    #[test]
    fn what_a_store_answers_stays_out_of_what_a_step_says() {
        let explained = EngineError::Explained { text: "do that".to_owned(), source: Box::new(refused_by_store()) };
        for error in [refused_by_store(), explained] {
            let said = of_engine(error);
            assert_eq!((said.kind, said.code), (StepErrorKind::Fatal, "DESTINATION_FAILED"));
            assert!(!said.message.contains(PLANTED), "{}", said.message);
            assert!(
                said.message.contains("`runs/o.run`") && said.message.contains("do not allow it"),
                "{}",
                said.message
            );
        }
    }

    #[test]
    fn what_is_no_trouble_of_the_destination_is_not_told_as_such() {
        let gone = object_store::Error::NotFound { path: "o".to_owned(), source: "gone".into() };
        let unreadable = EngineError::Store { operation: "read", path: "o".to_owned(), source: gone };
        let full = PortError::new(ErrorKind::Unavailable, "read documents", "no answer");
        for error in [unreadable, full.into(), EngineError::Worker, EngineError::Refused("no".to_owned())] {
            assert_eq!(of_engine(error).code, JOB_FAILED);
        }
    }
}
