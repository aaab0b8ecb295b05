//! What is needed to reach a project or a destination, opened. `Debug` shows no secret.

use std::fmt;

use zeroize::Zeroizing;

use crate::server_side_encryption::ServerSideEncryption;

/// A Google project and what opens it.
#[derive(Debug, Clone)]
pub struct ProjectAccess {
    /// The Google Cloud project id.
    pub google_project: String,
    /// What opens it.
    pub credentials: Credentials,
}

/// How Google is told who we are.
#[derive(Clone)]
pub enum Credentials {
    /// An emulator, which does not ask.
    Emulator {
        /// Host and port of Firestore.
        host: String,
        /// Host and port of Auth, where there is one.
        auth_host: Option<String>,
    },
    /// The AWS identity of this installation, as whom Google takes it for. No secret.
    Federation {
        /// The provider, such as `//iam.googleapis.com/projects/…/providers/…`.
        audience: String,
        /// The address of the service account to act as, where there is one.
        service_account: Option<String>,
    },
    /// The consent of a Google account.
    Oauth {
        /// With it access tokens are had.
        refresh_token: Zeroizing<String>,
    },
    /// A service account's key.
    ServiceAccount {
        /// The key file.
        key_json: Zeroizing<String>,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emulator { host, auth_host } => {
                f.debug_struct("Emulator").field("host", host).field("auth_host", auth_host).finish()
            }
            Self::Federation { audience, service_account } => f
                .debug_struct("Federation")
                .field("audience", audience)
                .field("service_account", service_account)
                .finish(),
            Self::Oauth { .. } => f.debug_struct("Oauth").finish_non_exhaustive(),
            Self::ServiceAccount { .. } => f.debug_struct("ServiceAccount").finish_non_exhaustive(),
        }
    }
}

/// A destination and what opens it.
#[derive(Clone)]
pub struct DestinationAccess {
    /// Such as `s3://bucket/prefix`.
    pub url: String,
    /// The base URL of an S3-compatible service.
    pub endpoint: Option<String>,
    /// Names (in upper case) and values such as `AWS_ACCESS_KEY_ID`.
    pub options: Vec<(String, Zeroizing<String>)>,
}

impl DestinationAccess {
    /// The same, where what is put is encrypted so.
    pub(crate) fn encrypting(mut self, encryption: Option<&ServerSideEncryption>) -> Self {
        self.options.extend(encryption.map(ServerSideEncryption::options).unwrap_or_default());
        self
    }
}

impl fmt::Debug for DestinationAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.options.iter().map(|(name, _)| name.as_str()).collect();
        let mut shown = f.debug_struct("DestinationAccess");
        shown.field("url", &self.url).field("endpoint", &self.endpoint).field("options", &names).finish()
    }
}
