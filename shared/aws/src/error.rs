//! From what AWS says to what a caller can act on: one map for all services.

use std::error::Error;
use std::{fmt, iter};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use firebackup_model::{ErrorKind, PortError};

/// The most that is repeated of what a service said.
const MAX_WORDS: usize = 300;

/// A kind, and what is said to people.
type Meaning = (ErrorKind, &'static str);

const NOT_THERE: Meaning = (ErrorKind::NotFound, "it does not exist");
const THERE: Meaning = (ErrorKind::AlreadyExists, "it exists already");
const CONDITION: Meaning = (ErrorKind::FailedPrecondition, "a condition of the request did not hold");
const IN_THE_WAY: Meaning = (ErrorKind::Aborted, "another writer was in the way");
const SLOW_DOWN: Meaning = (ErrorKind::ResourceExhausted, "the service asks to slow down");
const LATE: Meaning = (ErrorKind::DeadlineExceeded, "the service did not answer in time");
const DOWN: Meaning = (ErrorKind::Unavailable, "the service failed");
const FAILED: Meaning = (ErrorKind::Internal, "the service failed");
const NOT_ACCEPTED: Meaning = (ErrorKind::Unauthenticated, "the credentials were not accepted");
const NOT_ALLOWED: Meaning = (ErrorKind::PermissionDenied, "the credentials do not allow it");
const NOT_OPENED: Meaning = (ErrorKind::PermissionDenied, "the master key does not open it");
const WRONG: Meaning = (ErrorKind::InvalidArgument, "the service refused the request");
const CANNOT: Meaning = (ErrorKind::Unimplemented, "the service cannot do this");

/// The codes of all services that are used. Where two services use one code, it means the same in both.
const CODES: &[(Meaning, &[&str])] = &[
    (
        NOT_THERE,
        &[
            "ExecutionDoesNotExist",
            "NoSuchBucket",
            "NoSuchKey",
            "NoSuchVersion",
            "NotFound",
            "NotFoundException",
            "AWS.SimpleQueueService.NonExistentQueue",
            "QueueDoesNotExist",
            "ResourceNotFoundException",
            "StateMachineDoesNotExist",
        ],
    ),
    (THERE, &["ConflictException", "ExecutionAlreadyExists", "ResourceInUseException"]),
    (
        CONDITION,
        &[
            "ConditionalCheckFailed",
            "ConditionalCheckFailedException",
            "DisabledException",
            "KMSInvalidStateException",
            "MessageNotInflight",
            "PreconditionFailed",
        ],
    ),
    (
        IN_THE_WAY,
        &[
            "ConcurrentModificationException",
            "ConditionalRequestConflict",
            "OperationAborted",
            "TransactionConflict",
            "TransactionConflictException",
            "TransactionInProgressException",
        ],
    ),
    (
        SLOW_DOWN,
        &[
            "ExecutionLimitExceeded",
            "LimitExceededException",
            "OverLimit",
            "ProvisionedThroughputExceeded",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "ServiceQuotaExceededException",
            "SlowDown",
            "Throttled",
            "Throttling",
            "ThrottlingError",
            "ThrottlingException",
            "TooManyRequestsException",
        ],
    ),
    (LATE, &["DependencyTimeoutException", "RequestTimeout", "RequestTimeoutException"]),
    (DOWN, &["KeyUnavailableException", "ServiceUnavailable", "ServiceUnavailableException"]),
    (
        FAILED,
        &[
            "InternalError",
            "InternalException",
            "InternalFailure",
            "InternalServerError",
            "InternalServiceError",
            "KMSInternalException",
        ],
    ),
    (
        NOT_ACCEPTED,
        &[
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "InvalidToken",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ],
    ),
    (NOT_ALLOWED, &["AccessDenied", "AccessDeniedException", "AllAccessDisabled", "KmsAccessDenied"]),
    (NOT_OPENED, &["IncorrectKeyException", "InvalidCiphertextException"]),
    (
        WRONG,
        &[
            "InvalidArn",
            "InvalidExecutionInput",
            "InvalidKeyUsageException",
            "InvalidMessageContents",
            "InvalidName",
            "InvalidParameterValue",
            "ItemCollectionSizeLimitExceeded",
            "ItemCollectionSizeLimitExceededException",
            "ReceiptHandleIsInvalid",
            "ValidationError",
            "ValidationException",
        ],
    ),
    (CANNOT, &["InvalidAction", "NotImplemented", "UnknownOperationException", "UnsupportedOperation"]),
];

/// What a failure of a service means. `operation` is a verb phrase (`read an item`).
///
/// The SDK's own error is not kept: its `Debug` shows the answer as it came.
pub(crate) fn port_error<E: ProvideErrorMetadata>(operation: &str, error: SdkError<E>) -> PortError {
    let answer = Answer::of(&error);
    match error {
        SdkError::ServiceError(refusal) => {
            let metadata = refusal.err();
            let refused = refused(operation, metadata.code(), metadata.message(), answer.status);
            refused.with_source(answer)
        }
        SdkError::ResponseError(_) => {
            PortError::new(ErrorKind::Internal, operation, "the service's answer cannot be read").with_source(answer)
        }
        SdkError::TimeoutError(_) => PortError::new(LATE.0, operation, LATE.1),
        SdkError::DispatchFailure(failure) => unreached(operation, failure.as_connector_error()),
        SdkError::ConstructionFailure(_) => {
            PortError::new(ErrorKind::InvalidArgument, operation, "no request could be made of it")
        }
        _ => PortError::new(ErrorKind::Other, operation, "the request failed"),
    }
}

fn refused(operation: &str, code: Option<&str>, words: Option<&str>, status: Option<u16>) -> PortError {
    let (kind, meaning) = meaning(code, status);
    // a service that did not accept a signature repeats the request, the session token among its headers
    let words = words.filter(|_| kind != ErrorKind::Unauthenticated).map(in_one_line).filter(|words| !words.is_empty());
    let message = match (code, words) {
        (Some(code), Some(words)) => format!("{meaning} ({code}: {words})"),
        (Some(words), None) => format!("{meaning} ({words})"),
        (None, Some(words)) => format!("{meaning} ({words})"),
        (None, None) => meaning.to_owned(),
    };
    PortError::new(kind, operation, message)
}

/// What a code means.
#[cfg(feature = "control")]
pub(crate) fn kind_of_code(code: &str) -> ErrorKind {
    meaning(Some(code), None).0
}

fn meaning(code: Option<&str>, status: Option<u16>) -> Meaning {
    // some services put a namespace before it, or an address behind it
    let code = code.map(|code| code.rsplit_once('#').map_or(code, |(_, code)| code));
    let known = code.and_then(|code| CODES.iter().find(|(_, codes)| codes.contains(&code)));
    known.map_or_else(|| meaning_of_status(status), |(meaning, _)| *meaning)
}

fn meaning_of_status(status: Option<u16>) -> Meaning {
    match status {
        Some(401) => NOT_ACCEPTED,
        Some(403) => NOT_ALLOWED,
        Some(404) => NOT_THERE,
        Some(409) => IN_THE_WAY,
        Some(412) => CONDITION,
        Some(408 | 504) => LATE,
        Some(429) => SLOW_DOWN,
        Some(501) => CANNOT,
        Some(503) => DOWN,
        Some(500..=599) => FAILED,
        Some(400..=499) => WRONG,
        _ => (ErrorKind::Other, "the service refused the request"),
    }
}

fn in_one_line(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The request may not have arrived.
fn unreached(operation: &str, error: Option<&ConnectorError>) -> PortError {
    let (kind, meaning) = match error {
        Some(error) if is_about_credentials(error) => {
            (ErrorKind::Unauthenticated, "no credentials for AWS were found, or they cannot be used")
        }
        Some(error) if error.is_timeout() => LATE,
        _ => (ErrorKind::Unavailable, "the service cannot be reached"),
    };
    let error_of = PortError::new(kind, operation, meaning);
    match error.map(words_of_causes).filter(|words| !words.is_empty()) {
        Some(words) => error_of.with_source(words),
        None => error_of,
    }
}

/// The error and its causes, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source())
}

fn is_about_credentials(error: &ConnectorError) -> bool {
    chain(error).any(|cause| cause.is::<CredentialsError>())
}

fn words_of_causes(error: &ConnectorError) -> String {
    chain(error).skip(1).map(|cause| in_one_line(&cause.to_string())).collect::<Vec<_>>().join(": ")
}

/// That a service answered, and what its operators ask for when they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: Option<u16>,
    request: Option<String>,
}

impl Answer {
    fn of<E>(error: &SdkError<E>) -> Self {
        let status = error.raw_response().map(|response| response.status().as_u16());
        Self { status, request: error.request_id().map(ToOwned::to_owned) }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "the service answered {status}")?,
            None => write!(f, "the service answered")?,
        }
        match &self.request {
            Some(request) => write!(f, " to request {request}"),
            None => Ok(()),
        }
    }
}

impl Error for Answer {}

#[cfg(all(test, feature = "control"))]
mod tests {
    use std::collections::BTreeSet;

    use aws_sdk_kms::config::http::HttpResponse;
    use aws_sdk_kms::error::ErrorMetadata;
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    fn response(status: u16, body: &str) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
    }

    fn refusal(code: &str, message: &str, status: u16) -> PortError {
        let error = ErrorMetadata::builder().code(code).message(message).build();
        port_error("test", SdkError::service_error(error, response(status, "a body with hunter2")))
    }

    fn shown(error: &PortError) -> String {
        format!("{error} {error:?} {:?}", error.source().map(ToString::to_string))
    }

    #[test]
    fn codes_have_their_kind_whatever_the_status() {
        for (code, kind, retried) in [
            ("ThrottlingException", ErrorKind::ResourceExhausted, true),
            ("ProvisionedThroughputExceededException", ErrorKind::ResourceExhausted, true),
            ("com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", ErrorKind::FailedPrecondition, false),
            ("TransactionConflictException", ErrorKind::Aborted, true),
            ("AccessDeniedException", ErrorKind::PermissionDenied, false),
            ("UnrecognizedClientException", ErrorKind::Unauthenticated, false),
            ("ResourceNotFoundException", ErrorKind::NotFound, false),
            ("ExecutionAlreadyExists", ErrorKind::AlreadyExists, false),
            ("ValidationException", ErrorKind::InvalidArgument, false),
            ("InvalidCiphertextException", ErrorKind::PermissionDenied, false),
            ("InternalServerError", ErrorKind::Internal, true),
        ] {
            for status in [400, 500] {
                let error = refusal(code, "x", status);
                assert_eq!((error.kind, error.can_be_retried()), (kind, retried), "{code}");
            }
        }
    }

    #[test]
    fn what_has_no_known_code_is_read_from_its_status() {
        for (status, kind) in [
            (400, ErrorKind::InvalidArgument),
            (401, ErrorKind::Unauthenticated),
            (403, ErrorKind::PermissionDenied),
            (404, ErrorKind::NotFound),
            (409, ErrorKind::Aborted),
            (412, ErrorKind::FailedPrecondition),
            (429, ErrorKind::ResourceExhausted),
            (500, ErrorKind::Internal),
            (501, ErrorKind::Unimplemented),
            (503, ErrorKind::Unavailable),
            (504, ErrorKind::DeadlineExceeded),
            (302, ErrorKind::Other),
        ] {
            assert_eq!(refusal("SomethingNew", "", status).kind, kind, "{status}");
        }
    }

    #[test]
    fn no_code_stands_in_two_places() {
        let all: Vec<_> = CODES.iter().flat_map(|(_, codes)| *codes).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn people_read_what_the_service_said_and_never_the_answer() {
        let error = refusal("ValidationException", "the item\n   is too large", 400);
        let text = "could not test: the service refused the request (ValidationException: the item is too large)";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.source().unwrap().to_string(), "the service answered 400");
        assert!(!shown(&error).contains("hunter2"), "{}", shown(&error));
        let long = refusal("ValidationException", &"ä".repeat(5000), 400);
        assert!(long.message().chars().count() < MAX_WORDS + 100);
    }

    #[test]
    fn a_refused_signature_is_not_repeated() {
        let error = refusal("InvalidSignatureException", "x-amz-security-token:hunter2", 403);
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
        assert!(!shown(&error).contains("hunter2"), "{}", shown(&error));
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_not_shown() {
        let unread: SdkError<ErrorMetadata> = SdkError::response_error("hunter2", response(200, "hunter2"));
        let error = port_error("test", unread);
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(!shown(&error).contains("hunter2"), "{}", shown(&error));
    }

    #[test]
    fn the_way_to_a_service_can_be_retried_and_missing_credentials_cannot() {
        let dispatch = |error| port_error::<ErrorMetadata>("test", SdkError::dispatch_failure(error));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = dispatch(ConnectorError::io(refused.into()));
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert_eq!(error.source().unwrap().to_string(), "connection refused");
        assert_eq!(dispatch(ConnectorError::timeout("x".into())).kind, ErrorKind::DeadlineExceeded);
        let late: SdkError<ErrorMetadata> = SdkError::timeout_error("x");
        assert_eq!(port_error("test", late).kind, ErrorKind::DeadlineExceeded);
        let none = CredentialsError::not_loaded("nothing was set");
        let error = dispatch(ConnectorError::other(none.into(), None));
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
        assert!(!error.can_be_retried());
    }

    #[test]
    fn the_causes_are_told_once() {
        let cause = std::io::Error::other("a\nb");
        let error = port_error::<ErrorMetadata>("test", SdkError::dispatch_failure(ConnectorError::io(cause.into())));
        assert_eq!(error.to_string(), "could not test: the service cannot be reached");
        assert_eq!(error.source().unwrap().to_string(), "a b");
    }
}
