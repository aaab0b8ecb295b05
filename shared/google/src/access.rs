//! How a Google API is reached: a local emulator, or Google with credentials.

use std::fmt;
use std::path::PathBuf;

use firebackup_model::error::{ErrorKind, PortError};
use gcloud_sdk::error::ErrorKind as SdkErrorKind;
use gcloud_sdk::{GCP_DEFAULT_SCOPES, GoogleAuthHeaders};
use zeroize::Zeroizing;

use crate::consent::UserConsent;
use crate::federation::Federation;

/// What every emulator takes for an administrator's token. It is no secret.
pub(crate) const EMULATOR_AUTHORIZATION: &str = "Bearer owner";

const OPERATION: &str = "load Google credentials";

/// How a Google API is reached. Environment variables play no part, except that Google's own search for application
/// default credentials reads `GOOGLE_APPLICATION_CREDENTIALS`, and that a federation signs with the AWS credentials of the
/// environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// A local emulator, without credentials.
    Emulator {
        /// `host:port`, as in `FIRESTORE_EMULATOR_HOST` or `FIREBASE_AUTH_EMULATOR_HOST`.
        host: String,
    },
    /// Google, with the key of a service account: a JSON file as Google hands it out.
    ServiceAccountFile(PathBuf),
    /// The same, already read.
    ServiceAccountKey(ServiceAccountKey),
    /// Google, as whom it takes the AWS identity of this process for: no key is kept anywhere.
    Federated(Federation),
    /// Google, by a person's consent.
    Consented(UserConsent),
    /// Google, with the credentials of the machine or of the user who signed in with `gcloud`.
    ApplicationDefault,
}

/// The JSON of a service account's key. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccountKey(Zeroizing<String>);

impl ServiceAccountKey {
    /// The key in `json`. Whether it is one shows when it is used.
    #[must_use]
    pub const fn new(json: Zeroizing<String>) -> Self {
        Self(json)
    }
}

impl fmt::Debug for ServiceAccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccountKey")
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emulator { host } => write!(f, "the emulator at {host}"),
            Self::ServiceAccountFile(path) => write!(f, "the service account key {}", path.display()),
            Self::ServiceAccountKey(_) => f.write_str("a service account key"),
            Self::Federated(federation) => write!(f, "{federation}"),
            Self::Consented(_) => f.write_str("the consent of a Google account"),
            Self::ApplicationDefault => f.write_str("application default credentials"),
        }
    }
}

/// The source of the headers that authenticate requests, with the `cloud-platform` scope or what was consented to; none for an emulator.
pub(crate) async fn auth_headers(access: &Access) -> Result<Option<GoogleAuthHeaders>, PortError> {
    match access {
        Access::Emulator { .. } => Ok(None),
        Access::ServiceAccountFile(path) => {
            let unusable = |reason: &str| unusable(&path.display().to_string(), reason);
            let text = tokio::fs::read(path).await.map_err(|source| unusable("cannot be read").with_source(source))?;
            service_account(&text, unusable).await.map(Some)
        }
        Access::ServiceAccountKey(key) => {
            service_account(key.0.as_bytes(), |reason| unusable("the service account key", reason)).await.map(Some)
        }
        Access::Federated(federation) => federation.auth_headers().await.map(Some),
        Access::Consented(consent) => consent.auth_headers().await.map(Some),
        Access::ApplicationDefault => GoogleAuthHeaders::from_adc().await.map(Some).map_err(|source| {
            let message = "there are none; set GOOGLE_APPLICATION_CREDENTIALS to a service account key, or run \
                           `gcloud auth application-default login`";
            PortError::new(ErrorKind::Unauthenticated, OPERATION, message).with_source(source)
        }),
    }
}

fn unusable(key: &str, reason: &str) -> PortError {
    PortError::new(ErrorKind::Unauthenticated, OPERATION, format!("{key} {reason}"))
}

async fn service_account(text: &[u8], unusable: impl Fn(&str) -> PortError) -> Result<GoogleAuthHeaders, PortError> {
    // serde's message may quote the text, which is a private key: only the place is told
    let key = serde_json::from_slice(text).map_err(|error: serde_json::Error| {
        unusable(&format!("is not JSON (line {}, column {})", error.line(), error.column()))
    })?;
    let headers = GoogleAuthHeaders::from_service_account_key(key, GCP_DEFAULT_SCOPES.clone()).await;
    headers.map_err(|_| unusable("is not a service account key"))
}

/// What kind of failure an error of Google's SDK is: bad credentials are told from a token server that is down.
pub(crate) fn sdk_error_kind(error: &gcloud_sdk::error::Error) -> ErrorKind {
    match error.kind() {
        SdkErrorKind::Credentials(credentials) if credentials.is_transient() => ErrorKind::Unavailable,
        SdkErrorKind::Credentials(_) | SdkErrorKind::CredentialsBuild(_) => ErrorKind::Unauthenticated,
        SdkErrorKind::GrpcStatus(_) => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bad_key_file_is_named_and_never_quoted() {
        let folder = std::env::temp_dir().join(format!("firebackup-access-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("key.json");
        for text in ["{\"private_key\": \"s3cret\"", "{\"private_key\": \"s3cret\"}", "\"s3cret\""] {
            std::fs::write(&path, text).unwrap();
            let error = auth_headers(&Access::ServiceAccountFile(path.clone())).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unauthenticated);
            assert!(error.to_string().contains("key.json"), "{error}");
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
        let error = auth_headers(&Access::ServiceAccountFile(path)).await.unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }

    #[tokio::test]
    async fn a_bad_key_is_never_quoted() {
        for text in ["{\"private_key\": \"s3cret\"", "{\"private_key\": \"s3cret\"}", "\"s3cret\"", ""] {
            let access = Access::ServiceAccountKey(ServiceAccountKey::new(text.to_owned().into()));
            let error = auth_headers(&access).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unauthenticated);
            assert!(!format!("{error:?} {access:?} {access}").contains("s3cret"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn an_emulator_needs_no_credentials() {
        assert!(auth_headers(&Access::Emulator { host: "localhost:1".into() }).await.unwrap().is_none());
    }
}
