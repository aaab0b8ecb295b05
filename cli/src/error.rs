//! What can go wrong in a command: how it ends the process, and what a user can do about it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use firebackup_bootstrap::server::ServerError;
use firebackup_codec::canonical::CanonicalError;
use firebackup_codec::error::FormatErrorKind;
use firebackup_codec::typed_json::WriteJsonError;
use firebackup_control::{ControlError, Kind};
use firebackup_embedded::{EmulatorError, KeyFileError, KeyTextError};
use firebackup_engine::EngineError;
use firebackup_model::document::DocumentError;
use firebackup_model::port::StepError;
use firebackup_model::{ErrorKind, PortError};
use serde::Serialize;

use crate::exit::Exit;
use crate::table::{printable, printable_lines};

/// A command's result.
pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// A pattern cannot be understood.
    #[error("could not understand the pattern `{pattern}`: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It must not be done; the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// A destination lacks what a repository needs.
    #[error("{destination} cannot hold a repository: it is not possible to {missing}")]
    Unfit {
        /// The destination.
        destination: String,
        /// Verb phrases.
        missing: String,
        /// What was found out on the way.
        problems: Vec<PortError>,
    },
    /// A backup is so damaged that no drill can begin: it cannot be restored.
    #[error("the backup cannot be restored")]
    Unrestorable(#[source] EngineError),
    /// A verb failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Google or a destination failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A verb of the control plane failed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A step or a service of the server failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The server cannot be started.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A key file is of no use.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A key in the environment is of no use.
    #[error("could not use the key in {variable}")]
    KeyVariable {
        /// The variable's name.
        variable: &'static str,
        /// What is wrong with it.
        #[source]
        source: KeyTextError,
    },
    /// The emulator is not there.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    /// A document cannot be written as JSON.
    #[error("could not show `{path}`")]
    Show {
        /// The document.
        path: String,
        /// Why.
        #[source]
        source: WriteJsonError,
    },
    /// A document from the server is not readable.
    #[error("could not read a document that the server sent")]
    Document(#[from] DocumentError),
    /// Two documents cannot be compared.
    #[error("could not compare `{path}`")]
    Compare {
        /// The document.
        path: String,
        /// Why.
        #[source]
        source: CanonicalError,
    },
    /// A file or folder cannot be used.
    #[error("could not {operation} {}", .path.display())]
    File {
        /// What was being done.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error("could not write the result")]
    Output(#[source] io::Error),
    /// There is no runtime.
    #[error("could not start")]
    Runtime(#[source] io::Error),
    /// A drill was stopped: what the engine says of the restore in it, that it goes on, is not so.
    #[error("stopped before the end of the drill; the same command begins it anew")]
    DrillStopped,
    /// The user ended it.
    #[error("interrupted")]
    Interrupted,
}

/// An error as `--json` tells it: `{"error": {…}}`.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorReport {
    /// What failed.
    pub(crate) message: String,
    /// Why, outermost first.
    pub(crate) causes: Vec<String>,
    /// What kind of failure it was.
    pub(crate) kind: &'static str,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl CliError {
    /// A file operation that failed.
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// The failure as one of a drill, which never goes on with another one.
    pub(crate) fn of_drill(self) -> Self {
        match self {
            Self::Engine(EngineError::Interrupted { .. }) => Self::DrillStopped,
            other => other,
        }
    }

    /// How the process ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Pattern { .. } => Exit::Usage,
            Self::Server(error) if error.is_of_usage() => Exit::Usage,
            Self::NotFound(_) | Self::Engine(EngineError::NotFound(_)) => Exit::NotFound,
            Self::Port(error) if is_missing_repository(error) => Exit::NotFound,
            Self::Engine(error) if error.is_resumable_stop() => Exit::Stopped,
            Self::DrillStopped => Exit::Stopped,
            Self::Unrestorable(_) => Exit::Partial,
            Self::Interrupted => Exit::Interrupted,
            _ => Exit::Failed,
        }
    }

    /// The kind of failure, one word for programs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Usage(_) | Self::Pattern { .. } => "usage",
            Self::Server(error) if error.is_of_usage() => "usage",
            Self::Refused(_) | Self::Unfit { .. } => "refused",
            Self::NotFound(_) => "not_found",
            Self::Engine(error) | Self::Unrestorable(error) => engine_kind(error),
            Self::KeyFile(_) | Self::KeyVariable { .. } => "key",
            Self::Port(error) => port_kind(error.kind),
            Self::Emulator(_) => "emulator",
            Self::File { .. } | Self::Output(_) => "file",
            Self::Server(ServerError::Listen { .. }) => "unavailable",
            Self::Server(_) => "file",
            Self::Control(error) if error.kind == Kind::Upstream => "unavailable",
            Self::Control(_) | Self::Step(_) => "internal",
            Self::DrillStopped => "stopped",
            Self::Interrupted => "interrupted",
            Self::Show { .. } | Self::Document(_) | Self::Compare { .. } | Self::Runtime(_) => "internal",
        }
    }

    /// What a user can do about it, where that is known and the message does not say it.
    fn hint(&self) -> Option<String> {
        match self {
            Self::KeyFile(KeyFileError::Read { path, source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Some(format!("make one with `firebackup key generate --output {}`", path.display()))
            }
            Self::Port(error) if is_missing_repository(error) => {
                Some("make a repository with `firebackup init`".to_owned())
            }
            Self::Port(error) if error.operation().starts_with("make the folder") => {
                Some("choose a folder that this user may make and write, and name it with --repo".to_owned())
            }
            Self::Pattern { .. } => {
                Some("a backslash takes the meaning from each of `* ? [ ] { } \\`: `\\[` is `[` as it is".to_owned())
            }
            Self::Engine(EngineError::Latest { source, .. }) if is_for_others(source) => {
                Some(WRITTEN_FOR_RECOVERY.to_owned())
            }
            Self::Engine(EngineError::Wrap { source, .. }) if source.is_no_secret() => {
                Some(WRITTEN_FOR_RECOVERY.to_owned())
            }
            Self::Engine(EngineError::Latest { .. }) => {
                Some("name an older one; `firebackup list` shows which can be read".to_owned())
            }
            Self::Engine(EngineError::Selection(_)) => {
                Some("quote patterns with `*` so that the shell leaves them alone".to_owned())
            }
            Self::Engine(error) if is_lost_run(error) => Some(LOST_RUN.to_owned()),
            _ => match (store_failure(self), self) {
                (Some(failure), _) => store_hint(failure),
                (None, Self::Engine(EngineError::Port(error)) | Self::Port(error)) => port_hint(error.kind),
                (None, _) => None,
            },
        }
    }

    /// Message, causes and what to do, for people and programs alike. It may quote a user, a database or a repository:
    /// nothing in it steers a terminal, and only what an emulator said has several lines.
    pub(crate) fn report(&self) -> ErrorReport {
        let clean = |text: String| match self {
            Self::Emulator(_) => printable_lines(&text),
            _ => printable(&text).into_owned(),
        };
        let message = self.to_string();
        let causes: Vec<String> = match self {
            Self::Unfit { problems, .. } => problems.iter().map(ToString::to_string).collect(),
            _ => firebackup_storage::causes(self, &message),
        };
        ErrorReport {
            message: clean(message),
            causes: causes.into_iter().map(clean).collect(),
            kind: self.kind(),
            hint: self.hint().map(clean),
        }
    }
}

const WRITTEN_FOR_RECOVERY: &str =
    "it was written by a machine that holds only a recovery key: give --recovery-key-file too";

const LOST_RUN: &str = "put the object back from a copy or an older version of it; another moment is listed by `firebackup pitr windows`, another \
     snapshot by `firebackup list`; a full backup is a new beginning";

/// Whether what a backup holds, or what was captured, is gone or damaged: no try of the same finds it.
fn is_lost_run(error: &EngineError) -> bool {
    let is_run = |path: &str| path.starts_with("runs/");
    match error {
        EngineError::Store { operation: "read", path, source } => {
            is_run(path) && firebackup_storage::is_gone_or_short(source)
        }
        EngineError::Format(error) => {
            let is_whole = matches!(
                error.kind(),
                FormatErrorKind::WrongKey | FormatErrorKind::Unencrypted | FormatErrorKind::Unsupported
            );
            error.object().is_some_and(is_run) && !is_whole
        }
        EngineError::Damaged(text) => text.strip_prefix('`').is_some_and(is_run),
        EngineError::Explained { source, .. } => is_lost_run(source),
        _ => false,
    }
}

/// Whether nothing is wrong with what should be read, but the keys that were given are not those that open it.
pub(crate) fn is_for_others(error: &EngineError) -> bool {
    match error {
        EngineError::Wrap { source, .. } => source.is_for_others(),
        EngineError::Explained { source, .. } => is_for_others(source),
        _ => false,
    }
}

/// A destination whose folder is missing holds no repository.
fn is_missing_repository(error: &PortError) -> bool {
    error.kind == ErrorKind::NotFound && error.operation() == "open the folder of the destination"
}

/// The failure of an object store that lies behind an error.
fn store_failure(error: &dyn Error) -> Option<&object_store::Error> {
    std::iter::successors(error.source(), |cause| (*cause).source()).find_map(|cause| cause.downcast_ref())
}

/// The kind of a verb's failure; what explains another one is of that one's kind.
fn engine_kind(error: &EngineError) -> &'static str {
    match error {
        EngineError::Refused(_) | EngineError::NoBase { .. } => "refused",
        EngineError::NotFound(_) => "not_found",
        EngineError::Interrupted { .. } => "stopped",
        EngineError::ReadBudget { .. } => "read_budget",
        EngineError::Incomplete { .. } => "incomplete",
        EngineError::Latest { .. } => "unreadable",
        EngineError::Key(_) | EngineError::Wrap { .. } => "key",
        EngineError::Format(_) | EngineError::Damaged(_) | EngineError::Json { .. } => "damaged",
        EngineError::Store { source, .. } => store_kind(source),
        EngineError::Selection(_) => "selection",
        EngineError::Port(error) => port_kind(error.kind),
        EngineError::Explained { source, .. } => engine_kind(source),
        _ => "internal",
    }
}

fn store_kind(failure: &object_store::Error) -> &'static str {
    match firebackup_storage::describe(failure).0 {
        // what may be missing is no failure to the engine: this should be there
        ErrorKind::NotFound => "damaged",
        ErrorKind::Other => "store",
        kind => port_kind(kind),
    }
}

const fn port_kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not_found",
        ErrorKind::AlreadyExists => "already_exists",
        ErrorKind::FailedPrecondition => "failed_precondition",
        ErrorKind::Aborted => "aborted",
        ErrorKind::ResourceExhausted => "resource_exhausted",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::DeadlineExceeded => "deadline_exceeded",
        ErrorKind::Internal => "internal",
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::PermissionDenied => "permission_denied",
        ErrorKind::InvalidArgument => "invalid_argument",
        ErrorKind::ReadTimeTooOld => "read_time_too_old",
        ErrorKind::Unimplemented => "unimplemented",
        ErrorKind::Corrupt => "corrupt",
        _ => "other",
    }
}

fn store_hint(failure: &object_store::Error) -> Option<String> {
    let is_folder = matches!(failure, object_store::Error::Generic { store: "LocalFileSystem", .. });
    let hint = match (firebackup_storage::describe(failure).0, is_folder) {
        (ErrorKind::Unauthenticated, _) => {
            "give the store's credentials: for s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for gs:// --credentials or \
             GOOGLE_APPLICATION_CREDENTIALS, for az:// AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
        }
        (ErrorKind::PermissionDenied, true) => "give this user the right to read and write the folder and all in it",
        (ErrorKind::PermissionDenied, false) => {
            "give the credentials the rights to list, read and write objects, and to delete them where that is asked for"
        }
        (kind, _) => return port_hint(kind),
    };
    Some(hint.to_owned())
}

fn port_hint(kind: ErrorKind) -> Option<String> {
    let hint = match kind {
        ErrorKind::ResourceExhausted => "a quota is used up: wait, or run the same command again later to go on",
        ErrorKind::ReadTimeTooOld => {
            "Firestore reads back one hour, with point-in-time recovery seven days: take a newer --read-time"
        }
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => {
            "when the way is open again, run the same command again"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_codec::error::FormatError;
    use firebackup_codec::wrap::KeyError;

    fn io_error(kind: io::ErrorKind) -> io::Error {
        kind.into()
    }

    #[test]
    fn causes_are_told_once() {
        let inner = PortError::new(ErrorKind::Other, "read it", "no");
        let outer = PortError::new(ErrorKind::Other, "do it", "could not read it: no").with_source(inner);
        let report = CliError::Port(outer).report();
        assert_eq!(report.message, "could not do it: could not read it: no");
        assert!(report.causes.is_empty(), "{report:?}");

        let error = CliError::file("read", "key")(io_error(io::ErrorKind::PermissionDenied));
        assert_eq!(error.report().message, "could not read key");
        assert_eq!(error.report().causes, ["permission denied"]);
    }

    #[test]
    fn a_missing_key_file_says_how_to_make_one() {
        let error = firebackup_embedded::key_file::read(std::path::Path::new("does-not-exist.key")).unwrap_err();
        let report = CliError::KeyFile(error).report();
        assert_eq!(report.kind, "key");
        assert_eq!(report.hint.as_deref(), Some("make one with `firebackup key generate --output does-not-exist.key`"));
    }

    #[test]
    fn what_is_sealed_for_others_says_which_key_is_missing() {
        let missing = || EngineError::Wrap { object: "keys/a/b".to_owned(), source: KeyError::NoSecret };
        let damaged = || EngineError::Wrap { object: "keys/a/b".to_owned(), source: KeyError::Damaged };
        let latest = |source| {
            let id = "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
            CliError::Engine(EngineError::Latest { id, source: Box::new(source) }).report().hint.unwrap()
        };
        assert!(is_for_others(&missing()) && !is_for_others(&damaged()));
        assert_eq!(latest(missing()), WRITTEN_FOR_RECOVERY);
        assert!(latest(damaged()).contains("firebackup list"));
        assert_eq!(CliError::Engine(missing()).report().hint.as_deref(), Some(WRITTEN_FOR_RECOVERY));
        assert_eq!(CliError::Engine(damaged()).report().hint, None);
    }

    #[test]
    fn a_run_that_is_gone_or_cut_short_says_what_to_do_and_one_of_another_key_does_not() {
        let store = |path: &str, source| EngineError::Store { operation: "read", path: path.to_owned(), source };
        let gone = || object_store::Error::NotFound { path: String::new(), source: "gone".into() };
        let generic = |text: &str| object_store::Error::Generic { store: "S3", source: text.to_owned().into() };
        let format = |kind| EngineError::Format(FormatError::new(kind, 0, "x").in_object("runs/ab/x.run"));
        let explained =
            EngineError::Explained { text: "why".to_owned(), source: Box::new(store("runs/ab/x.run", gone())) };
        for lost in [
            store("runs/ab/x.run", gone()),
            store("runs/ab/x.run", generic("Wanted range starting at 90, but object was only 10 bytes long")),
            EngineError::Damaged("`runs/ab/x.run` is cut short".to_owned()),
            format(FormatErrorKind::Damaged),
            explained,
        ] {
            let error = CliError::Engine(lost);
            assert_eq!(error.report().hint.as_deref(), Some(LOST_RUN), "{error}");
        }
        for other in [
            store("firebackup.json", gone()),
            store("runs/ab/x.run", generic("a long story")),
            // nothing is lost: a key that is disabled, a bucket that is misspelt
            store(
                "runs/ab/x.run",
                generic("Server returned non-2xx status code: 400 Bad Request: <Code>KMS.DisabledException</Code>"),
            ),
            store(
                "runs/ab/x.run",
                generic("Server returned non-2xx status code: 404 Not Found: <Code>NoSuchBucket</Code>"),
            ),
            EngineError::Damaged("`segments/x` is cut short".to_owned()),
            format(FormatErrorKind::WrongKey),
        ] {
            let error = CliError::Engine(other);
            assert_ne!(error.report().hint.as_deref(), Some(LOST_RUN), "{error}");
        }
    }

    #[test]
    fn a_drill_that_was_stopped_begins_anew() {
        let job = "restore_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let stopped = CliError::Engine(EngineError::Interrupted { job }).of_drill();
        assert_eq!((stopped.exit(), stopped.kind()), (Exit::Stopped, "stopped"));
        let said = stopped.to_string();
        assert!(said.contains("anew") && !said.contains("go on") && !said.contains("restore_"), "{said}");
        assert_eq!(CliError::Interrupted.of_drill().exit(), Exit::Interrupted);
    }

    #[test]
    fn kinds_of_failures_end_the_process_differently() {
        let job = "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        for (error, exit, kind) in [
            (CliError::Usage(String::new()), Exit::Usage, "usage"),
            (CliError::Refused(String::new()), Exit::Failed, "refused"),
            (CliError::Engine(EngineError::NotFound(String::new())), Exit::NotFound, "not_found"),
            (CliError::Engine(EngineError::Interrupted { job }), Exit::Stopped, "stopped"),
            (CliError::Interrupted, Exit::Interrupted, "interrupted"),
            (CliError::Output(io_error(io::ErrorKind::StorageFull)), Exit::Failed, "file"),
            (
                CliError::Port(PortError::new(ErrorKind::PermissionDenied, "read documents", "")),
                Exit::Failed,
                "permission_denied",
            ),
        ] {
            assert_eq!((error.exit(), error.kind()), (exit, kind), "{error:?}");
        }
    }

    fn store(source: object_store::Error) -> ErrorReport {
        let path = "firebackup.json".to_owned();
        CliError::Engine(EngineError::Store { operation: "read", path, source }).report()
    }

    #[test]
    fn what_a_store_says_is_put_into_words() {
        let source = "Error performing PUT http://169.254.169.254/latest/api/token in 5s - HTTP error".into();
        let report = store(object_store::Error::Generic { store: "S3", source });
        assert_eq!(report.message, "could not read `firebackup.json` in the repository");
        assert_eq!(report.causes, ["no credentials were given, and this machine has no role of its own"]);
        assert_eq!(report.kind, "unauthenticated");
        assert!(report.hint.is_some_and(|hint| hint.contains("AWS_ACCESS_KEY_ID")));

        let source = "Server returned non-2xx status code: 403 Forbidden: <Code>AccessDenied</Code>".into();
        let report = store(object_store::Error::PermissionDenied { path: String::new(), source });
        assert_eq!(report.causes, ["the credentials do not allow it (the store said: AccessDenied)"]);
        assert_eq!(report.kind, "permission_denied");

        let source = io_error(io::ErrorKind::PermissionDenied).into();
        let report = store(object_store::Error::Generic { store: "LocalFileSystem", source });
        assert_eq!(report.causes, ["this user may not do it"]);
        assert!(report.hint.is_some_and(|hint| hint.contains("folder")));

        let gone = object_store::Error::NotFound { path: String::new(), source: "gone".into() };
        assert_eq!(store(gone).kind, "damaged");
    }

    #[test]
    fn a_failure_of_a_store_is_found_behind_other_errors_and_told_once() {
        let failure = object_store::Error::Generic { store: "GCS", source: "a long story".into() };
        let report = CliError::Port(firebackup_storage::port_error("look around", failure)).report();
        assert_eq!(report.message, "could not look around: the store failed");
        assert!(report.causes.is_empty(), "{report:?}");
        assert_eq!(report.hint.as_deref(), Some("when the way is open again, run the same command again"));
    }

    #[test]
    fn nothing_that_is_reported_steers_a_terminal() {
        let source = serde_json::from_str::<u8>("x").unwrap_err();
        let json = CliError::Engine(EngineError::Json { path: "runs/\u{1b}[2J\n".to_owned(), source }).report();
        assert_eq!(json.message, "`runs/\\u{1b}[2J\\u{a}` does not hold what it should");
        let inner = PortError::new(ErrorKind::Other, "see", "\u{9b}31m");
        let outer = PortError::new(ErrorKind::Other, "look", "").with_source(inner);
        assert_eq!(CliError::Port(outer).report().causes, ["could not see: \\u{9b}31m"]);
        let host = "h".to_owned();
        let silent = CliError::Emulator(EmulatorError::Silent { host, output: "one\n\u{7}two".to_owned() }).report();
        assert!(silent.message.ends_with("it said:\none\n\\u{7}two"), "{silent:?}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let url = format!("file://{}/below", file.path().display());
        let error = CliError::Port(firebackup_storage::Destination::create(&url, &Default::default()).unwrap_err());
        let report = error.report();
        assert!(report.message.starts_with("could not make the folder ") && report.message.contains("/below"));
        assert!(report.hint.is_some_and(|hint| hint.contains("--repo")));
        assert_eq!(error.exit(), Exit::Failed);
    }

    #[test]
    fn a_folder_that_is_missing_is_no_repository() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/nothing", folder.path().display());
        let error = firebackup_storage::Destination::open(&url, &Default::default()).unwrap_err();
        let error = CliError::Port(error);
        assert_eq!(error.exit(), Exit::NotFound, "{error}");
        assert!(error.report().hint.is_some());
    }
}
