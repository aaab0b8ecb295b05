//! From what a store says to what a caller can act on.

use std::error::Error;
use std::io;
use std::iter;

use firebackup_model::error::is_caused_by;
use firebackup_model::{ErrorKind, PortError};
use object_store::client::{HttpError, HttpErrorKind};

use crate::public_connector::{LEADS_INSIDE, LeadsInside};

/// What a failure of a store means. `operation` is a verb phrase (`read the manifest`). A full disk has the kind
/// [`ErrorKind::Other`], as trying again does not empty it; failures on the way to a remote store can be retried.
#[must_use]
pub fn port_error(operation: impl Into<String>, error: object_store::Error) -> PortError {
    let (kind, message) = describe(&error);
    PortError::new(kind, operation, message).with_source(error)
}

/// What a failure of a store means, and that in words for people: as [`port_error`], for an error that is kept as it is.
/// The words hold no address of a request and no credential.
#[must_use]
pub fn describe(error: &object_store::Error) -> (ErrorKind, String) {
    let reply = Reply::of(error);
    let (kind, message) = meaning(error, reply.as_ref());
    let message = match (reply.and_then(|reply| reply.words()), system_words(error)) {
        (Some(words), _) => format!("{message} (the store said: {words})"),
        (None, Some(words)) if leaves_the_cause_open(kind) => format!("{message}: {words}"),
        (None, _) => message.to_owned(),
    };
    (kind, message)
}

/// Whether an object is not there, or ends before what was to be read of it: no try of the same finds it.
#[must_use]
pub fn is_gone_or_short(error: &object_store::Error) -> bool {
    let (kind, words) = meaning(error, Reply::of(error).as_ref());
    words == ENDS_BEFORE || kind == ErrorKind::NotFound && words != NO_BUCKET.1
}

/// What an answer means that is no success: its status and its body.
pub(crate) fn refusal(operation: &str, status: u16, body: &str) -> PortError {
    let reply = Reply::of_answer(status, body);
    let (kind, message) = reply.meaning();
    let words = reply.words().map_or_else(String::new, |words| format!(" (the store said: {words})"));
    PortError::new(kind, operation, format!("{message}{words}"))
}

/// The code of an answer in XML.
pub(crate) fn code_of(body: &str) -> Option<String> {
    element(body, "Code")
}

/// The causes of an error, outermost first, without those that `said` or the cause before has said already. What the client
/// of a store says is put into words, and what lies below that left out: addresses, retries and whole answers, in which a
/// credential may stand.
#[must_use]
pub fn causes(error: &dyn Error, said: &str) -> Vec<String> {
    let mut said = said.to_owned();
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let failure = cause.downcast_ref::<object_store::Error>();
        let text = failure.map_or_else(|| cause.to_string(), |failure| describe(failure).1);
        if !said.contains(text.trim()) {
            said = text.clone();
            causes.push(text);
        }
        source = if failure.is_some() { None } else { cause.source() };
    }
    causes
}

const fn leaves_the_cause_open(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Other | ErrorKind::Unavailable | ErrorKind::DeadlineExceeded)
}

/// What the system of this machine said, where an error of it lies at the bottom.
fn system_words(error: &object_store::Error) -> Option<String> {
    let errors = chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    // one that the client made may hold a URL, and a URL a signature
    errors.last().map(ToString::to_string).filter(|words| !words.contains("://"))
}

/// A kind, and what is said to people.
type Meaning = (ErrorKind, &'static str);

const DISK_FULL: Meaning = (ErrorKind::Other, "the disk is full");
const NO_BUCKET: Meaning = (ErrorKind::NotFound, "there is no such bucket");
const NO_OBJECT: Meaning = (ErrorKind::NotFound, "there is no such object");
const ENDS_BEFORE: &str = "the object ends before the range asked for";
const NOT_ACCEPTED: Meaning = (ErrorKind::Unauthenticated, "the credentials were not accepted");
const NOT_ALLOWED: Meaning = (ErrorKind::PermissionDenied, "the credentials do not allow it");

fn meaning(error: &object_store::Error, reply: Option<&Reply>) -> Meaning {
    use object_store::Error as Store;
    match error {
        Store::NotFound { .. } if reply.is_some_and(|reply| reply.has_code("NoSuchBucket")) => NO_BUCKET,
        Store::NotFound { .. } => NO_OBJECT,
        Store::AlreadyExists { .. } => (ErrorKind::AlreadyExists, "the object exists already"),
        Store::Precondition { .. } | Store::NotModified { .. } => {
            (ErrorKind::FailedPrecondition, "a condition of the request did not hold")
        }
        Store::PermissionDenied { .. } if reply.is_some_and(Reply::is_about_credentials) => NOT_ACCEPTED,
        Store::PermissionDenied { .. } => NOT_ALLOWED,
        Store::Unauthenticated { .. } => NOT_ACCEPTED,
        Store::NotSupported { .. } | Store::NotImplemented { .. } => {
            (ErrorKind::Unimplemented, "the store cannot do this")
        }
        Store::InvalidPath { .. } => (ErrorKind::InvalidArgument, "a name cannot be used as the name of an object"),
        Store::UnknownConfigurationKey { .. } => (ErrorKind::InvalidArgument, "an option is not known"),
        Store::Generic { store, .. } => generic(error, store, reply),
        _ => (ErrorKind::Other, "the store failed"),
    }
}

fn generic(error: &object_store::Error, store: &str, reply: Option<&Reply>) -> Meaning {
    if is_caused_by::<LeadsInside>(error) {
        return (ErrorKind::InvalidArgument, LEADS_INSIDE);
    }
    if asked_the_machine_for_credentials(error) {
        return (ErrorKind::Unauthenticated, "no credentials were given, and this machine has no role of its own");
    }
    if let Some(reply) = reply {
        return reply.meaning();
    }
    if let Some(http) = find::<HttpError>(error) {
        return match http.kind() {
            HttpErrorKind::Timeout => (ErrorKind::DeadlineExceeded, "the store did not answer in time"),
            HttpErrorKind::Decode => (ErrorKind::Internal, "the store's answer cannot be read"),
            _ => (ErrorKind::Unavailable, "the store cannot be reached"),
        };
    }
    match find::<io::Error>(error) {
        Some(error) => io_kind(error),
        None if chain(error).any(|cause| cause.to_string().starts_with("Wanted range starting at")) => {
            (ErrorKind::InvalidArgument, ENDS_BEFORE)
        }
        None if store == "LocalFileSystem" => (ErrorKind::Other, "the folder cannot be used"),
        None => (ErrorKind::Unavailable, "the store failed"),
    }
}

/// What an input or output error of this machine means.
pub(crate) fn io_kind(error: &io::Error) -> Meaning {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DISK_FULL,
        io::ErrorKind::NotFound => (ErrorKind::NotFound, "there is no such file or folder"),
        io::ErrorKind::AlreadyExists => (ErrorKind::AlreadyExists, "it exists already"),
        io::ErrorKind::PermissionDenied => (ErrorKind::PermissionDenied, "this user may not do it"),
        io::ErrorKind::ReadOnlyFilesystem => (ErrorKind::PermissionDenied, "the file system is read-only"),
        io::ErrorKind::NotADirectory => (ErrorKind::InvalidArgument, "a file is in the way of a folder"),
        io::ErrorKind::TimedOut => (ErrorKind::DeadlineExceeded, "the disk did not answer in time"),
        _ => (ErrorKind::Other, "the file system failed"),
    }
}

/// The error and its causes, outermost first.
fn chain(error: &object_store::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    iter::successors(Some(error as &(dyn Error + 'static)), |error: &&(dyn Error + 'static)| (*error).source())
}

fn find<E: Error + 'static>(error: &object_store::Error) -> Option<&E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// Without a credential the clients ask the metadata service of a cloud machine, which nothing else is ever asked.
fn asked_the_machine_for_credentials(error: &object_store::Error) -> bool {
    chain(error).any(|cause| {
        let text = cause.to_string();
        text.contains("://169.254.169.254") || text.contains("://metadata.google.internal")
    })
}

/// A refusal that came over HTTP. The client's own type for it is private, so it is read from its text.
struct Reply {
    status: u16,
    code: Option<String>,
    text: Option<String>,
}

impl Reply {
    fn of(error: &object_store::Error) -> Option<Self> {
        const REDIRECT: &str = "Received redirect without LOCATION";
        const STATUS: &str = "Server returned non-2xx status code: ";
        chain(error).find_map(|cause| {
            let shown = cause.to_string();
            if shown.starts_with(REDIRECT) {
                return Some(Self { status: 301, code: None, text: None });
            }
            let status = shown.strip_prefix(STATUS)?.get(..3)?.parse().ok()?;
            Some(Self { status, code: element(&shown, "Code"), text: element(&shown, "Message") })
        })
    }

    /// That of an answer that is at hand.
    fn of_answer(status: u16, body: &str) -> Self {
        Self { status, code: element(body, "Code"), text: element(body, "Message") }
    }

    fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    fn is_about_credentials(&self) -> bool {
        const CODES: [&str; 7] = [
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "NotSignedUp",
            "ExpiredToken",
            "InvalidToken",
            "RequestTimeTooSkewed",
            "AuthenticationFailed",
        ];
        CODES.iter().any(|code| self.has_code(code))
    }

    fn words(&self) -> Option<String> {
        match (&self.code, &self.text) {
            (Some(code), Some(text)) => Some(format!("{code}: {text}")),
            (Some(words), None) | (None, Some(words)) => Some(words.clone()),
            (None, None) => None,
        }
    }

    fn meaning(&self) -> Meaning {
        if self.is_about_credentials() {
            return NOT_ACCEPTED;
        }
        match self.status {
            401 => NOT_ACCEPTED,
            403 => NOT_ALLOWED,
            404 if self.has_code("NoSuchBucket") => NO_BUCKET,
            404 => NO_OBJECT,
            412 => (ErrorKind::FailedPrecondition, "a condition of the request did not hold"),
            300..=399 => (ErrorKind::InvalidArgument, "the bucket lies in another region; set AWS_REGION to its own"),
            408 | 504 => (ErrorKind::DeadlineExceeded, "the store did not answer in time"),
            416 => (ErrorKind::InvalidArgument, ENDS_BEFORE),
            429 => (ErrorKind::ResourceExhausted, "the store asks to slow down"),
            501 => (ErrorKind::Unimplemented, "the store cannot do this"),
            503 if self.has_code("SlowDown") => (ErrorKind::ResourceExhausted, "the store asks to slow down"),
            507 => DISK_FULL,
            500..=599 => (ErrorKind::Unavailable, "the store failed"),
            _ => (ErrorKind::InvalidArgument, "the store refused the request"),
        }
    }
}

/// The content of the first `<name>` in a body, in one line.
fn element(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    let words: Vec<_> = content.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic_of(store: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> PortError {
        port_error("test", object_store::Error::Generic { store, source: source.into() })
    }

    fn reply(status: &str, body: &str) -> String {
        format!("Server returned non-2xx status code: {status}: {body}")
    }

    #[test]
    fn meanings_of_a_store_keep_their_kind() {
        let path = || "a".to_owned();
        for (error, kind) in [
            (object_store::Error::NotFound { path: path(), source: "x".into() }, ErrorKind::NotFound),
            (object_store::Error::AlreadyExists { path: path(), source: "x".into() }, ErrorKind::AlreadyExists),
            (object_store::Error::Precondition { path: path(), source: "x".into() }, ErrorKind::FailedPrecondition),
            (object_store::Error::PermissionDenied { path: path(), source: "x".into() }, ErrorKind::PermissionDenied),
            (object_store::Error::Unauthenticated { path: path(), source: "x".into() }, ErrorKind::Unauthenticated),
            (object_store::Error::NotSupported { source: "x".into() }, ErrorKind::Unimplemented),
        ] {
            let error = port_error("test", error);
            assert_eq!(error.kind, kind);
            assert!(!error.can_be_retried() && error.source().is_some(), "{error:?}");
        }
    }

    #[test]
    fn a_full_disk_says_so_and_is_not_retried() {
        for error in [
            generic_of("LocalFileSystem", io::Error::from(io::ErrorKind::StorageFull)),
            generic_of("LocalFileSystem", io::Error::from_raw_os_error(28)),
            generic_of("S3", reply("507 Insufficient Storage", "<Code>XMinioStorageFull</Code>")),
        ] {
            assert!(error.to_string().contains("disk is full"), "{error}");
            assert!(!error.can_be_retried());
        }
    }

    #[test]
    fn a_refusal_over_http_is_read_from_its_status() {
        for (status, kind, retried) in [
            ("400 Bad Request", ErrorKind::InvalidArgument, false),
            ("401 Unauthorized", ErrorKind::Unauthenticated, false),
            ("403 Forbidden", ErrorKind::PermissionDenied, false),
            ("404 Not Found", ErrorKind::NotFound, false),
            ("416 Range Not Satisfiable", ErrorKind::InvalidArgument, false),
            ("429 Too Many Requests", ErrorKind::ResourceExhausted, true),
            ("500 Internal Server Error", ErrorKind::Unavailable, true),
            ("501 Not Implemented", ErrorKind::Unimplemented, false),
            ("503 Service Unavailable", ErrorKind::Unavailable, true),
            ("504 Gateway Timeout", ErrorKind::DeadlineExceeded, true),
        ] {
            let error = generic_of("S3", reply(status, ""));
            assert_eq!((error.kind, error.can_be_retried()), (kind, retried), "{status}");
        }
        let slow =
            generic_of("S3", reply("503 Slow Down", "<Error><Code>SlowDown</Code><Message>Less</Message></Error>"));
        assert_eq!(slow.kind, ErrorKind::ResourceExhausted);
        assert!(slow.to_string().ends_with("(the store said: SlowDown: Less)"), "{slow}");
    }

    #[test]
    fn the_cause_is_told_in_words_without_addresses() {
        let words = |store: &'static str, source: Box<dyn Error + Send + Sync>| {
            describe(&object_store::Error::Generic { store, source }).1
        };
        let refused = || io::Error::from_raw_os_error(111);
        assert!(words("LocalFileSystem", Box::new(refused())).starts_with("the file system failed: "));
        let broken = HttpError::new(HttpErrorKind::Connect, refused());
        assert_eq!(words("S3", Box::new(broken)), format!("the store cannot be reached: {}", refused()));
        let signed = io::Error::other("error for url (https://account.example/?sig=hunter2)");
        let broken = HttpError::new(HttpErrorKind::Connect, signed);
        assert_eq!(words("S3", Box::new(broken)), "the store cannot be reached");
        let machine = "Error performing PUT http://169.254.169.254/latest/api/token in 5s - HTTP error";
        let (kind, text) = describe(&object_store::Error::Generic { store: "S3", source: machine.into() });
        assert_eq!(kind, ErrorKind::Unauthenticated);
        assert!(text.starts_with("no credentials were given") && !text.contains("://"), "{text}");
        let body = "<Code>X</Code><Message>one\n  line</Message>";
        assert!(words("S3", reply("400 Bad Request", body).into()).ends_with("(the store said: X: one line)"));
    }

    #[test]
    fn bad_credentials_are_told_from_missing_rights() {
        let denied = |code: &str| {
            let source = reply("403 Forbidden", &format!("<Code>{code}</Code>")).into();
            port_error("test", object_store::Error::PermissionDenied { path: "a".to_owned(), source }).kind
        };
        assert_eq!(denied("AccessDenied"), ErrorKind::PermissionDenied);
        assert_eq!(denied("SignatureDoesNotMatch"), ErrorKind::Unauthenticated);
        assert_eq!(denied("InvalidAccessKeyId"), ErrorKind::Unauthenticated);
    }

    #[test]
    fn the_way_to_a_remote_store_can_be_retried() {
        let broken = HttpError::new(HttpErrorKind::Interrupted, io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(generic_of("GCS", broken).kind, ErrorKind::Unavailable);
        let late = HttpError::new(HttpErrorKind::Timeout, io::Error::from(io::ErrorKind::TimedOut));
        assert_eq!(generic_of("GCS", late).kind, ErrorKind::DeadlineExceeded);
        assert!(generic_of("GCS", "?").can_be_retried());
        assert!(!generic_of("LocalFileSystem", "?").can_be_retried());
    }
}
