//! Connects to Google with what a project was connected with.

use std::sync::Arc;
use std::time::Duration;

use firebackup_control::{Credentials, ProjectAccess};
use firebackup_engine::Target;
use firebackup_google::{
    Access, Federation, Firestore, FirestoreOptions, IdentityOptions, IdentityToolkit, ResourceManager,
    ResourceManagerOptions, RetryPolicy, Retrying, ServiceAccountKey,
};
use firebackup_model::port::{DocumentSource, UserSink, UserSource};
use firebackup_model::{DatabaseName, ErrorKind, PortError};

use crate::oauth_client::OauthClient;

/// Somebody waits while IAM is asked, and it can be done without.
const ASKING: RetryPolicy = RetryPolicy { attempts: 3, base: Duration::from_millis(250), cap: Duration::from_secs(1) };
const ONE_ASKING: Duration = Duration::from_secs(5);

/// Connects to Google. Cheap to clone.
#[derive(Clone, Default)]
pub struct Projects {
    /// The client by whose consents projects are let in, where there is one.
    client: Option<OauthClient>,
}

impl Projects {
    pub(crate) const fn new(client: Option<OauthClient>) -> Self {
        Self { client }
    }

    /// A database to read.
    ///
    /// # Errors
    /// When there are no credentials, or nothing answers.
    pub async fn source(&self, project: &ProjectAccess, database: &str) -> Result<Arc<dyn DocumentSource>, PortError> {
        Ok(Arc::new(Retrying::new(self.firestore(project, database).await?)))
    }

    /// A database to listen to, and to read.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub(crate) async fn changes(
        &self,
        project: &ProjectAccess,
        database: &str,
    ) -> Result<Arc<Retrying<Firestore>>, PortError> {
        Ok(Arc::new(Retrying::new(self.firestore(project, database).await?)))
    }

    /// A database to restore into. Writes are not tried again here: the engine must know of every try.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub async fn target(&self, project: &ProjectAccess, database: &str) -> Result<Target, PortError> {
        let firestore = self.firestore(project, database).await?;
        Ok(Target { source: Arc::new(Retrying::new(firestore.clone())), sink: Arc::new(firestore) })
    }

    /// The project's Auth users, to read.
    ///
    /// # Errors
    /// When the project is an emulator without Auth, or as [`Self::source`].
    pub async fn users(&self, project: &ProjectAccess) -> Result<Arc<dyn UserSource>, PortError> {
        Ok(Arc::new(self.identity(project).await?))
    }

    /// The project's Auth users, to write.
    ///
    /// # Errors
    /// As [`Self::users`].
    pub async fn user_sink(&self, project: &ProjectAccess) -> Result<Arc<dyn UserSink>, PortError> {
        Ok(Arc::new(self.identity(project).await?))
    }

    /// Finds out whether the consent still holds that a project stands on, where it stands on one.
    ///
    /// # Errors
    /// [`Unauthenticated`](ErrorKind::Unauthenticated) where it was taken back, and for no other reason.
    pub(crate) async fn check_consent(&self, project: &ProjectAccess) -> Result<(), PortError> {
        match &project.credentials {
            Credentials::Oauth { refresh_token } => self.client()?.consent(refresh_token).await?.check().await,
            _ => Ok(()),
        }
    }

    /// Which of these permissions IAM grants on a project; nothing of an emulator, which knows none.
    ///
    /// # Errors
    /// When IAM cannot be asked.
    pub(crate) async fn granted(
        &self,
        project: &ProjectAccess,
        permissions: &[&str],
    ) -> Result<Option<Vec<String>>, PortError> {
        if matches!(project.credentials, Credentials::Emulator { .. }) {
            return Ok(None);
        }
        let access = self.access(&project.credentials).await?;
        let options = ResourceManagerOptions { project: project.google_project.clone(), access, limit: ONE_ASKING };
        let manager = Retrying::with_policy(ResourceManager::connect(options).await?, ASKING);
        manager.granted(permissions).await.map(Some)
    }

    /// A database of a project.
    pub(crate) async fn firestore(&self, project: &ProjectAccess, database: &str) -> Result<Firestore, PortError> {
        let access = self.access(&project.credentials).await?;
        let database = DatabaseName::new(project.google_project.as_str(), database);
        // the plan decides how many chunks there are: it has counted
        Ok(Firestore::connect(FirestoreOptions { database, access }).await?.with_split_threshold(0))
    }

    async fn identity(&self, project: &ProjectAccess) -> Result<Retrying<IdentityToolkit>, PortError> {
        let access = match &project.credentials {
            Credentials::Emulator { auth_host: Some(host), .. } => Access::Emulator { host: host.clone() },
            Credentials::Emulator { auth_host: None, .. } => return Err(no_auth_emulator()),
            // a token of whoever stands in Google's place is nothing for Google itself
            Credentials::Oauth { .. } if self.client()?.is_emulated() => return Err(no_auth_emulator()),
            credentials => self.access(credentials).await?,
        };
        let options = IdentityOptions { project: project.google_project.clone(), access };
        Ok(Retrying::new(IdentityToolkit::connect(options).await?))
    }

    async fn access(&self, credentials: &Credentials) -> Result<Access, PortError> {
        Ok(match credentials {
            Credentials::Emulator { host, .. } => Access::Emulator { host: host.clone() },
            Credentials::Federation { audience, service_account } => {
                Access::Federated(Federation::new(audience, service_account.clone()))
            }
            Credentials::ServiceAccount { key_json } => {
                Access::ServiceAccountKey(ServiceAccountKey::new(key_json.clone()))
            }
            Credentials::Oauth { refresh_token } => Access::Consented(self.client()?.consent(refresh_token).await?),
        })
    }

    fn client(&self) -> Result<&OauthClient, PortError> {
        self.client.as_ref().ok_or_else(|| {
            let message =
                "the project was let in by consent, and this installation has no OAuth client of Google's any more";
            PortError::new(ErrorKind::FailedPrecondition, "reach a project by consent", message)
        })
    }
}

fn no_auth_emulator() -> PortError {
    let message = "the project is an emulator, and was connected without its Auth emulator";
    PortError::new(ErrorKind::InvalidArgument, "reach the Auth users", message)
}
