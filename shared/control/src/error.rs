//! What went wrong, as a client is told and as we log it: two things.

use std::error::Error;
use std::fmt;

use firebackup_model::{ErrorKind, PortError, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

/// What verbs return.
pub type Result<T, E = ControlError> = std::result::Result<T, E>;

/// What kind of failure it was; each is one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is malformed (400).
    Invalid,
    /// Nobody knows who calls (401).
    Unauthorized,
    /// The caller may not do this (403).
    Forbidden,
    /// There is no such thing, or it is somebody else's: nobody is told which (404).
    NotFound,
    /// It is at odds with how things stand (409).
    Conflict,
    /// The request is understood, and wrong (422).
    Unprocessable,
    /// Too much at one time (429).
    TooMany {
        /// Seconds after which it may be tried again.
        retry_after: u32,
    },
    /// Google or the destination failed or refused (502).
    Upstream,
    /// Something of ours is down or busy; trying again helps (503).
    Unavailable,
    /// We failed (500).
    Internal,
    /// Somebody has asked for the job's end. Steps are told so; no client is.
    Cancelled,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// What a program tells failures apart by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// As it stands in answers.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

codes! {
    /// No credentials came with the request.
    Unauthorized = "UNAUTHORIZED",
    /// The token or API key is not valid: unknown, malformed or revoked.
    InvalidToken = "INVALID_TOKEN",
    /// The access token or API key has expired; `details.expiredAt` says when.
    TokenExpired = "TOKEN_EXPIRED",
    /// The refresh token is unknown, too old or was used before.
    InvalidRefreshToken = "INVALID_REFRESH_TOKEN",
    /// The sign-in proves nothing: begun elsewhere, too late, or repeated.
    SignInFailed = "SIGN_IN_FAILED",
    /// Nobody may sign up with this address.
    SignUpClosed = "SIGN_UP_CLOSED",
    /// No issuer is set up to sign in with.
    SignInUnavailable = "SIGN_IN_UNAVAILABLE",
    /// The invite is unknown, used, taken back, too old, or for another address.
    InviteInvalid = "INVITE_INVALID",
    /// Whoever is a member of several organizations must say which.
    OrganizationRequired = "ORGANIZATION_REQUIRED",
    /// The role does not allow this, or the key belongs to another organization.
    Forbidden = "FORBIDDEN",
    /// There is no such thing in this organization.
    NotFound = "NOT_FOUND",
    /// There is no such route.
    RouteNotFound = "ROUTE_NOT_FOUND",
    /// The route does not know this method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED",
    /// The body, a parameter or a header cannot be read.
    InvalidRequest = "INVALID_REQUEST",
    /// The body is larger than is taken.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE",
    /// The body is not JSON by its content type.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE",
    /// The cursor is not one that this listing gave.
    InvalidCursor = "INVALID_CURSOR",
    /// A field is not allowed to be so; `details.field` names it.
    ValidationFailed = "VALIDATION_FAILED",
    /// Something is at odds with how things stand.
    Conflict = "CONFLICT",
    /// Others changed the same thing at the same time, again and again.
    ConcurrentChange = "CONCURRENT_CHANGE",
    /// It is still in use; `details` says by what.
    InUse = "IN_USE",
    /// It would leave the organization without an owner.
    LastOwner = "LAST_OWNER",
    /// The idempotency key was used for another request.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED",
    /// The job has ended, or is in a state in which this cannot be done.
    JobState = "JOB_STATE",
    /// No client of Google's is set up by which people could let us into their projects.
    ConsentUnavailable = "CONSENT_UNAVAILABLE",
    /// The consent was not given whole, begun elsewhere, too late, or repeated.
    ConsentFailed = "CONSENT_FAILED",
    /// Something is switched off in the database that this needs; `details.remedy` says how it is switched on.
    DatabaseSwitchedOff = "DATABASE_SWITCHED_OFF",
    /// The project's credentials lack a permission that this needs; `details.remedy` says how it is granted.
    PermissionMissing = "PERMISSION_MISSING",
    /// The project is disconnected.
    ProjectDisconnected = "PROJECT_DISCONNECTED",
    /// The organization has as many unfinished jobs as it may.
    TooManyJobs = "TOO_MANY_JOBS",
    /// The organization has as many of these as it may.
    LimitReached = "LIMIT_REACHED",
    /// This installation captures no changes.
    PitrUnavailable = "PITR_UNAVAILABLE",
    /// Too many events of changes wait to be folded; send it again after `Retry-After`.
    BacklogFull = "BACKLOG_FULL",
    /// The moment cannot be put back; `details` says which ones beside it can.
    MomentUnavailable = "MOMENT_UNAVAILABLE",
    /// Google could not be reached, or refused.
    GoogleFailed = "GOOGLE_FAILED",
    /// The issuer that people sign in with could not be reached.
    IssuerFailed = "ISSUER_FAILED",
    /// The destination could not be reached, or refused.
    DestinationFailed = "DESTINATION_FAILED",
    /// The backup is too large to do this in one request; `details` names the command that does it.
    BackupTooLarge = "BACKUP_TOO_LARGE",
    /// The backup cannot be read: damaged, or its origin is not proven.
    BackupUnreadable = "BACKUP_UNREADABLE",
    /// A service that we stand on does not answer.
    Unavailable = "UNAVAILABLE",
    /// We failed; the request id finds the entry in our log.
    Internal = "INTERNAL",
    /// The job was cancelled.
    Cancelled = "CANCELLED",
}

/// A failure of a verb. [`Display`](fmt::Display) is the message for the client; what else is to be logged is the
/// source.
#[derive(Debug)]
pub struct ControlError {
    /// What kind.
    pub kind: Kind,
    /// Which one exactly.
    pub code: Code,
    /// For the client: no secret, no name of ours, nothing of other organizations.
    pub message: String,
    /// More for the client's program.
    pub details: Option<Value>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ControlError {
    /// A failure.
    #[must_use]
    pub fn new(kind: Kind, code: Code, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), details: None, source: None }
    }

    /// Adds what the client's program may want.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Keeps the cause, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A field that may not be so; `message` says what is expected.
    #[must_use]
    pub fn field(field: &str, message: impl fmt::Display) -> Self {
        Self::new(Kind::Unprocessable, Code::ValidationFailed, format!("{field}: {message}"))
            .with_details(json!({ "field": field }))
    }

    /// There is no such thing (`project`, `backup`, …), or it is another organization's.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, Code::NotFound, format!("there is no such {what}"))
    }

    /// It is at odds with how things stand.
    #[must_use]
    pub fn conflict(code: Code, message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, code, message)
    }

    /// The credentials are no good.
    #[must_use]
    pub fn invalid_token() -> Self {
        Self::new(Kind::Unauthorized, Code::InvalidToken, "the token or api key is not valid")
    }

    /// The credentials were good until then; for their holder only.
    #[must_use]
    pub fn expired(at: Timestamp) -> Self {
        Self::new(Kind::Unauthorized, Code::TokenExpired, "the token or api key has expired")
            .with_details(json!({ "expiredAt": at }))
    }

    /// The caller may not do this.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, Code::Forbidden, message)
    }

    /// Google failed or refused; `message` is for the client.
    #[must_use]
    pub fn google(message: impl Into<String>) -> Self {
        Self::new(Kind::Upstream, Code::GoogleFailed, message)
    }

    /// The destination failed or refused; `message` is for the client.
    #[must_use]
    pub fn destination(message: impl Into<String>) -> Self {
        Self::new(Kind::Upstream, Code::DestinationFailed, message)
    }

    /// We failed. The client is told no more than that.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Kind::Internal, Code::Internal, "something failed on our side").with_source(source)
    }

    /// The job is to end.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, Code::Cancelled, "the job was cancelled")
    }

    /// Whether the same request may succeed later, with nothing changed by anybody.
    #[must_use]
    pub const fn can_be_retried(&self) -> bool {
        match self.kind {
            Kind::Unavailable | Kind::Internal | Kind::Upstream | Kind::TooMany { .. } => true,
            Kind::Conflict => matches!(self.code, Code::ConcurrentChange),
            _ => false,
        }
    }

    pub(crate) fn concurrent_change() -> Self {
        Self::conflict(Code::ConcurrentChange, "others were changing the same thing; try again")
    }
}

/// A failure of one of our own services. What is the client's doing is told apart by whoever calls the port.
impl From<PortError> for ControlError {
    fn from(error: PortError) -> Self {
        match error.kind {
            ErrorKind::Aborted | ErrorKind::FailedPrecondition => Self::concurrent_change().with_source(error),
            ErrorKind::ResourceExhausted | ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => {
                let message = "a service that we stand on does not answer; try again";
                Self::new(Kind::Unavailable, Code::Unavailable, message).with_source(error)
            }
            _ => Self::internal(error),
        }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ControlError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_a_text_of_its_own() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!(code.as_str().bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{code:?}");
        }
    }

    #[test]
    fn a_client_is_told_nothing_of_our_services() {
        for kind in [ErrorKind::Unavailable, ErrorKind::Aborted, ErrorKind::Corrupt, ErrorKind::PermissionDenied] {
            let error = ControlError::from(PortError::new(kind, "read item", "table-of-ours"));
            assert!(!error.to_string().contains("table-of-ours"), "{error}");
            assert!(error.source().is_some_and(|source| source.to_string().contains("table-of-ours")));
            let may_help = matches!(kind, ErrorKind::Unavailable | ErrorKind::Aborted) || error.kind == Kind::Internal;
            assert_eq!(error.can_be_retried(), may_help, "{kind:?}");
        }
    }
}
