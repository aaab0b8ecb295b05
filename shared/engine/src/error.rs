//! What can go wrong in a verb. Every error names its operation and keeps its source; what to do about it stands in the text.

use firebackup_codec::canonical::CanonicalError;
use firebackup_codec::error::FormatError;
use firebackup_codec::rewrite::RewriteError;
use firebackup_codec::wrap::KeyError;
use firebackup_model::document::DocumentError;
use firebackup_model::id::{JobId, SnapshotId};
use firebackup_model::selection::SelectionError;
use firebackup_model::{DatabaseName, ErrorKind, PortError};

/// A verb's result.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The object store failed.
    #[error("could not {operation} `{path}` in the repository")]
    Store {
        /// What was being done.
        operation: &'static str,
        /// The object.
        path: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// Firestore or Identity Toolkit failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Bytes in the repository are not what they should be.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// An object is another than what refers to it says.
    #[error("{0}")]
    Damaged(String),
    /// A key could not be made or wrapped.
    #[error("could not make a key of the repository")]
    Key(#[from] KeyError),
    /// A key that stands in the repository could not be opened.
    #[error("could not open the key in `{object}`")]
    Wrap {
        /// The wrap.
        object: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// Another failure, with what it keeps from being done and what to do about it.
    #[error("{text}")]
    Explained {
        /// What to do.
        text: String,
        /// What failed.
        #[source]
        source: Box<EngineError>,
    },
    /// What captured changes build on is gone or damaged, and there is no whole backup behind it to begin anew from.
    #[error(
        "{reason}, and what the captured changes of {database} build on is gone or damaged: make a full backup, and the capture goes \
         on from there"
    )]
    NoBase {
        /// Why it was needed.
        reason: String,
        /// Of which database.
        database: DatabaseName,
        /// What is damaged; nothing where it is gone.
        #[source]
        source: Option<Box<EngineError>>,
    },
    /// The snapshot that `latest` would mean cannot be read.
    #[error("could not read {id}, the newest snapshot")]
    Latest {
        /// The snapshot.
        id: SnapshotId,
        /// Why.
        #[source]
        source: Box<EngineError>,
    },
    /// A document from the server is not readable.
    #[error("could not read a document{}", .path.as_ref().map(|path| format!(" (`{path}`)")).unwrap_or_default())]
    Document {
        /// The document, where it is known.
        path: Option<String>,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// Two documents could not be compared.
    #[error("could not compare `{path}`")]
    Compare {
        /// The document.
        path: String,
        /// What is wrong with it.
        #[source]
        source: CanonicalError,
    },
    /// A document could not be brought under its new name.
    #[error("could not move `{path}`")]
    Rewrite {
        /// The document.
        path: String,
        /// What is wrong with it.
        #[source]
        source: RewriteError,
    },
    /// A pattern of the selection is wrong.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// The request cannot or must not be carried out; the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// The job was stopped on request and can go on.
    #[error("stopped before the end of {job}; run the same command again to go on")]
    Interrupted {
        /// The job.
        job: JobId,
    },
    /// The job would have passed its read budget and can go on.
    #[error(
        "{job} stopped at {reads} of at most {max} document reads; run it again within 12 hours with a higher --max-reads to go on"
    )]
    ReadBudget {
        /// The job.
        job: JobId,
        /// Reads so far.
        reads: u64,
        /// The budget.
        max: u64,
    },
    /// The receipts of a job do not add up to a whole backup; nothing was committed.
    #[error("cannot commit {job}: {reason}")]
    Incomplete {
        /// The job.
        job: JobId,
        /// Which proof failed.
        reason: String,
    },
    /// A background task ended abnormally.
    #[error("a background task failed")]
    Task(#[from] tokio::task::JoinError),
    /// What compresses and seals, or opens and decompresses, died.
    #[error("a thread that works on blocks failed")]
    Worker,
    /// JSON in the repository does not have the expected shape.
    #[error("`{path}` does not hold what it should")]
    Json {
        /// The object.
        path: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
}

impl EngineError {
    /// A store failure on `path`.
    pub(crate) fn store(operation: &'static str, path: impl ToString) -> impl FnOnce(object_store::Error) -> Self {
        let path = path.to_string();
        move |source| Self::Store { operation, path, source }
    }

    /// A failure of what an object holds, with what to do about it. One of the way to it explains itself, and stays.
    pub(crate) fn explained(self, text: impl Into<String>) -> Self {
        if self.is_of_the_object() { Self::Explained { text: text.into(), source: Box::new(self) } } else { self }
    }

    /// Whether the failure is about what an object holds, and not about the way to it: trying again does not help.
    pub(crate) const fn is_of_the_object(&self) -> bool {
        !matches!(self, Self::Store { .. } | Self::Port(_) | Self::Task(_) | Self::Worker)
    }

    /// Whether the failure says something of what is kept, and not of the way to it: something of it is gone, damaged, or not opened
    /// by the keys.
    #[must_use]
    pub fn is_of_the_backup(&self) -> bool {
        match self {
            Self::Store { source, .. } => matches!(source, object_store::Error::NotFound { .. }),
            Self::Explained { source, .. } | Self::Latest { source, .. } => source.is_of_the_backup(),
            other => other.is_of_the_object() && !other.is_resumable_stop(),
        }
    }

    /// Whether an object of the repository is gone, damaged, or not opened by its key: what is built on it cannot be read any more.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Store { source, .. } => matches!(source, object_store::Error::NotFound { .. }),
            Self::Explained { source, .. } | Self::Latest { source, .. } => source.is_damage(),
            Self::Format(_) | Self::Damaged(_) | Self::Wrap { .. } | Self::Json { .. } => true,
            _ => false,
        }
    }

    /// The failure with its causes, in one line. Of what a store said only what it means: addresses and whole answers, in which a
    /// credential may stand, are left out.
    #[must_use]
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            if let Some(failure) = cause.downcast_ref::<object_store::Error>() {
                return format!("{text}: {}", in_words(failure));
            }
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    /// Whether the same call may succeed later, with nothing changed: the way to a store or a server was in trouble.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Port(error) => error.can_be_retried(),
            Self::Store { source, .. } if is_read_only(source) => false,
            Self::Store { source, .. } => !matches!(
                source,
                object_store::Error::NotFound { .. }
                    | object_store::Error::NotSupported { .. }
                    | object_store::Error::NotImplemented { .. }
                    | object_store::Error::InvalidPath { .. }
                    | object_store::Error::PermissionDenied { .. }
                    | object_store::Error::Unauthenticated { .. }
                    | object_store::Error::UnknownConfigurationKey { .. }
            ),
            Self::Explained { source, .. } | Self::Latest { source, .. } => source.may_pass(),
            Self::Task(_) | Self::Worker => true,
            _ => false,
        }
    }

    /// Whether the job can be run again to go on from where it stopped.
    #[must_use]
    pub const fn is_resumable_stop(&self) -> bool {
        matches!(self, Self::Interrupted { .. } | Self::ReadBudget { .. })
    }

    /// The port error's kind, where it is one.
    #[must_use]
    pub const fn port_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Port(error) => Some(error.kind),
            _ => None,
        }
    }
}

/// What a store's failure means, in words that hold nothing of what it said.
fn in_words(failure: &object_store::Error) -> String {
    use object_store::Error as Store;
    let words = match failure {
        Store::NotFound { .. } => "there is no such object",
        Store::AlreadyExists { .. } => "the object exists already",
        Store::Precondition { .. } | Store::NotModified { .. } => "a condition of the request did not hold",
        Store::PermissionDenied { .. } => "the credentials do not allow it",
        Store::Unauthenticated { .. } => "the credentials were not accepted",
        Store::NotSupported { .. } | Store::NotImplemented { .. } => "the store cannot do this",
        _ => {
            // what the system of this machine said, if it did; what a client made may hold a URL, and a URL a signature
            let causes = std::iter::successors(std::error::Error::source(failure), |cause| (*cause).source());
            let words =
                causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).last().map(ToString::to_string);
            let words = words.filter(|words| !words.contains("://"));
            return words.map_or_else(|| "the store failed".to_owned(), |words| format!("the store failed: {words}"));
        }
    };
    words.to_owned()
}

/// Whether a file system takes no writes. One that is full may be emptied.
fn is_read_only(error: &object_store::Error) -> bool {
    let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    let mut files = causes.filter_map(|error| error.downcast_ref::<std::io::Error>());
    files.any(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_file_system_that_is_read_only_stays_so_and_one_that_is_full_does_not() {
        for (kind, may_pass) in [(ErrorKind::ReadOnlyFilesystem, false), (ErrorKind::StorageFull, true)] {
            let source = object_store::Error::Generic { store: "folder", source: Box::new(Error::from(kind)) };
            assert_eq!(EngineError::store("write", "runs/a")(source).may_pass(), may_pass, "{kind:?}");
        }
    }

    #[test]
    fn what_a_store_answered_is_in_no_text() {
        let planted = "Server returned non-2xx status code: 403: <CanonicalRequest>x-amz-security-token:planted</CanonicalRequest>";
        let signed = Error::other("https://b.example/?sig=planted");
        let generic = |source| object_store::Error::Generic { store: "S3", source };
        for source in [
            object_store::Error::PermissionDenied { path: "runs/a".to_owned(), source: planted.into() },
            generic(planted.into()),
            generic(signed.into()),
        ] {
            let source = Box::new(EngineError::store("read", "runs/a")(source));
            let text = EngineError::Explained { text: "do that".to_owned(), source }.in_full();
            assert!(text.contains("runs/a") && !text.contains("planted"), "{text}");
        }
        let full = generic(Error::from(ErrorKind::StorageFull).into());
        let text = EngineError::store("write", "runs/a")(full).in_full();
        assert!(text.ends_with(&format!("the store failed: {}", ErrorKind::StorageFull)), "{text}");
    }
}
