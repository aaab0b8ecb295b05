//! How Google is told who we are: credentials of projects, looked at, sealed and opened.

use firebackup_model::port::ItemWrite;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::access::{Credentials, ProjectAccess};
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::federation;
use crate::id::ProjectId;
use crate::limit;
use crate::organization::OrganizationRecord;
use crate::project::ProjectRecord;
use crate::record::Stored;
use crate::secrets::{SealedSecret, SecretText};
use crate::service_account::ServiceAccount;
use crate::tenant::{Caller, OrganizationScope};

/// How Google is told who we are.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum NewCredentials {
    /// A service account's key.
    ServiceAccount {
        /// The text of the key file, as Google gave it.
        #[schema(write_only, value_type = String)]
        key: SecretText,
    },
    /// Workload Identity Federation: Google takes the AWS identity of the installation for one of its own, and no key is
    /// kept. Where the installation has an AWS identity.
    Federation {
        /// The provider: `//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER`,
        /// where the last is `org-` and the ULID of the organization in small letters.
        #[schema(max_length = 200)]
        audience: String,
        /// The address of the service account to act as; without one the AWS identity itself must have been granted roles.
        #[serde(default, rename = "serviceAccount")]
        #[schema(max_length = 320, example = "firebackup@my-app.iam.gserviceaccount.com")]
        service_account: Option<String>,
    },
    /// The consent of a Google account: `GET /projects/oauth` says where it is asked for. Where the installation's OAuth client is
    /// Google's.
    Oauth {
        /// What the browser came back with, good once and for ten minutes, for whoever asked.
        #[schema(write_only, value_type = String, example = "fbg_…")]
        grant: SecretText,
    },
    /// An emulator; where the installation allows it.
    Emulator {
        /// Host and port of Firestore.
        host: String,
        /// Host and port of Auth.
        // spelt out: the OpenAPI document does not see `rename_all_fields`
        #[serde(default, rename = "authHost")]
        auth_host: Option<String>,
    },
}

/// What a project's credentials are sealed for.
pub(crate) const CREDENTIALS: &str = "credentials";
/// The most bytes a key file may have; Google's have about 2,400.
const MAX_KEY_FILE: usize = 16 * 1024;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum StoredCredentials {
    ServiceAccount { key: SealedSecret },
    Federation { audience: String, service_account: Option<String> },
    Oauth { token: SealedSecret },
    Emulator { host: String, auth_host: Option<String> },
}

/// Credentials of a request, looked at.
pub(crate) struct CheckedCredentials {
    pub(crate) opened: Credentials,
    pub(crate) kind: &'static str,
    pub(crate) service_account: Option<String>,
    /// The Google account whose consent it is.
    pub(crate) account: Option<String>,
    /// What takes the grant away that they came from: it is good once.
    pub(crate) spent: Option<ItemWrite>,
}

impl CheckedCredentials {
    pub(crate) const fn of(opened: Credentials, kind: &'static str) -> Self {
        Self { opened, kind, service_account: None, account: None, spent: None }
    }
}

impl Control {
    /// What opens a project.
    pub(crate) async fn project_access(
        &self,
        organization: &Stored<OrganizationRecord>,
        record: &ProjectRecord,
    ) -> Result<ProjectAccess> {
        let credentials = match &record.credentials {
            StoredCredentials::Emulator { host, auth_host } => {
                Credentials::Emulator { host: host.clone(), auth_host: auth_host.clone() }
            }
            StoredCredentials::Federation { audience, service_account } => {
                Credentials::Federation { audience: audience.clone(), service_account: service_account.clone() }
            }
            StoredCredentials::ServiceAccount { key } => {
                Credentials::ServiceAccount { key_json: self.opened_secret(organization, record, key).await? }
            }
            StoredCredentials::Oauth { token } => {
                Credentials::Oauth { refresh_token: self.opened_secret(organization, record, token).await? }
            }
        };
        Ok(ProjectAccess { google_project: record.project.google_project.clone(), credentials })
    }

    async fn opened_secret(
        &self,
        organization: &Stored<OrganizationRecord>,
        record: &ProjectRecord,
        sealed: &SealedSecret,
    ) -> Result<Zeroizing<String>> {
        let organization = &organization.value;
        let secrets = self.secret_box(organization.organization.id, &organization.data_key).await?;
        secrets.open(&record.project.id.to_string(), CREDENTIALS, sealed)
    }

    pub(crate) async fn check_credentials(&self, caller: &Caller, new: NewCredentials) -> Result<CheckedCredentials> {
        match new {
            NewCredentials::Oauth { grant } => self.granted(caller, grant.expose()).await,
            NewCredentials::Emulator { host, auth_host } => {
                self.check_emulators(caller.scope()).await?;
                limit::ascii("credentials.host", &host, 255)?;
                auth_host.as_deref().map_or(Ok(()), |host| limit::ascii("credentials.authHost", host, 255))?;
                let opened = Credentials::Emulator { host, auth_host };
                Ok(CheckedCredentials::of(opened, "emulator"))
            }
            NewCredentials::Federation { audience, service_account } => {
                self.check_federation(caller.scope(), &audience, service_account.as_deref())?;
                let opened = Credentials::Federation { audience, service_account: service_account.clone() };
                Ok(CheckedCredentials { service_account, ..CheckedCredentials::of(opened, "federation") })
            }
            NewCredentials::ServiceAccount { key } => {
                if key.expose().len() > MAX_KEY_FILE {
                    return Err(ControlError::field("credentials.key", format!("at most {MAX_KEY_FILE} bytes")));
                }
                let account = ServiceAccount::read(key.expose());
                let account = account.map_err(|reason| ControlError::field("credentials.key", reason))?;
                let opened = Credentials::ServiceAccount { key_json: key.expose().to_owned().into() };
                let service_account = Some(account.email);
                Ok(CheckedCredentials { service_account, ..CheckedCredentials::of(opened, "service_account") })
            }
        }
    }

    fn check_federation(&self, scope: &OrganizationScope, audience: &str, service_account: Option<&str>) -> Result<()> {
        if !self.ports().settings.allow_federation {
            return Err(ControlError::field("credentials", "federation needs an installation with an AWS identity"));
        }
        federation::check_audience(audience, scope.organization())
            .map_err(|reason| ControlError::field("credentials.audience", reason))?;
        service_account
            .map_or(Ok(()), federation::check_service_account)
            .map_err(|reason| ControlError::field("credentials.serviceAccount", reason))
    }

    pub(crate) async fn stored_credentials(
        &self,
        scope: &OrganizationScope,
        id: ProjectId,
        credentials: &CheckedCredentials,
    ) -> Result<StoredCredentials> {
        match &credentials.opened {
            Credentials::Emulator { host, auth_host } => {
                Ok(StoredCredentials::Emulator { host: host.clone(), auth_host: auth_host.clone() })
            }
            Credentials::Federation { audience, service_account } => Ok(StoredCredentials::Federation {
                audience: audience.clone(),
                service_account: service_account.clone(),
            }),
            Credentials::ServiceAccount { key_json } => {
                Ok(StoredCredentials::ServiceAccount { key: self.sealed_secret(scope, id, key_json).await? })
            }
            Credentials::Oauth { refresh_token } => {
                Ok(StoredCredentials::Oauth { token: self.sealed_secret(scope, id, refresh_token).await? })
            }
        }
    }

    async fn sealed_secret(&self, scope: &OrganizationScope, id: ProjectId, secret: &str) -> Result<SealedSecret> {
        let organization = self.organization_record(scope).await?.value;
        let secrets = self.secret_box(scope.organization(), &organization.data_key).await?;
        Ok(secrets.seal(self, &id.to_string(), CREDENTIALS, secret))
    }

    pub(crate) async fn take_credentials(
        &self,
        scope: &OrganizationScope,
        record: &mut ProjectRecord,
        credentials: &CheckedCredentials,
    ) -> Result<()> {
        record.credentials = self.stored_credentials(scope, record.project.id, credentials).await?;
        record.project.credentials_type = credentials.kind.to_owned();
        record.project.service_account.clone_from(&credentials.service_account);
        record.project.account.clone_from(&credentials.account);
        Ok(())
    }
}
