//! What a step that failed says, and whether it is worth trying again.

use firebackup_control::{ControlError, Kind};
use firebackup_engine::EngineError;
use firebackup_model::PortError;
use firebackup_model::port::{StepError, StepErrorKind};

/// A failure of a verb of the control plane.
pub(crate) fn of_control(error: ControlError) -> StepError {
    let kind = match error.kind {
        Kind::Cancelled => StepErrorKind::Cancelled,
        _ if error.can_be_retried() => StepErrorKind::Retryable,
        _ => StepErrorKind::Fatal,
    };
    if let Some(source) = std::error::Error::source(&error) {
        tracing::warn!(error = %error, source = %in_full(source), "a verb failed");
    }
    StepError { kind, message: error.to_string() }
}

/// A failure of a verb on documents. What names a document stays in the log: state machines keep what a step says, and
/// names are often e-mail addresses.
pub(crate) fn of_engine(error: EngineError) -> StepError {
    tracing::warn!(error = %error.in_full(), "a step failed");
    let kind = match &error {
        EngineError::Interrupted { .. } => StepErrorKind::Cancelled,
        error if error.may_pass() => StepErrorKind::Retryable,
        _ => StepErrorKind::Fatal,
    };
    let message = match &error {
        EngineError::Document { .. } | EngineError::Compare { .. } | EngineError::Rewrite { .. } => {
            "a document cannot be read; the log names it".to_owned()
        }
        error => error.in_full(),
    };
    StepError { kind, message }
}

/// A failure behind a port.
pub(crate) fn of_port(error: PortError) -> StepError {
    of_engine(EngineError::Port(error))
}

/// A request that is none.
pub(crate) fn unreadable(error: serde_json::Error) -> StepError {
    let message = format!("the input of the step cannot be read (line {}, column {})", error.line(), error.column());
    StepError { kind: StepErrorKind::Fatal, message }
}

fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
