//! Connects to Google with what a project was connected with.

use std::sync::Arc;

use firebackup_control::{Credentials, ProjectAccess};
use firebackup_engine::Target;
use firebackup_google::{
    Access, Federation, Firestore, FirestoreOptions, IdentityOptions, IdentityToolkit, Retrying, ServiceAccountKey,
};
use firebackup_model::port::{DocumentSource, UserSink, UserSource};
use firebackup_model::{DatabaseName, ErrorKind, PortError};

/// Connects to Google.
#[derive(Debug, Clone, Copy, Default)]
pub struct Projects;

impl Projects {
    /// A database to read.
    ///
    /// # Errors
    /// When there are no credentials, or nothing answers.
    pub async fn source(self, project: &ProjectAccess, database: &str) -> Result<Arc<dyn DocumentSource>, PortError> {
        Ok(Arc::new(Retrying::new(firestore(project, database).await?)))
    }

    /// A database to restore into. Writes are not tried again here: the engine must know of every try.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub async fn target(self, project: &ProjectAccess, database: &str) -> Result<Target, PortError> {
        let firestore = firestore(project, database).await?;
        Ok(Target { source: Arc::new(Retrying::new(firestore.clone())), sink: Arc::new(firestore) })
    }

    /// The project's Auth users, to read.
    ///
    /// # Errors
    /// When the project is an emulator without Auth, or as [`Self::source`].
    pub async fn users(self, project: &ProjectAccess) -> Result<Arc<dyn UserSource>, PortError> {
        Ok(Arc::new(identity(project).await?))
    }

    /// The project's Auth users, to write.
    ///
    /// # Errors
    /// As [`Self::users`].
    pub async fn user_sink(self, project: &ProjectAccess) -> Result<Arc<dyn UserSink>, PortError> {
        Ok(Arc::new(identity(project).await?))
    }
}

async fn firestore(project: &ProjectAccess, database: &str) -> Result<Firestore, PortError> {
    let access = match &project.credentials {
        Credentials::Emulator { host, .. } => Access::Emulator { host: host.clone() },
        Credentials::Federation { audience, service_account } => federated(audience, service_account.as_deref()),
        Credentials::ServiceAccount { key_json } => service_account(key_json),
    };
    let database = DatabaseName::new(project.google_project.as_str(), database);
    // the plan decides how many chunks there are: it has counted
    Ok(Firestore::connect(FirestoreOptions { database, access }).await?.with_split_threshold(0))
}

async fn identity(project: &ProjectAccess) -> Result<Retrying<IdentityToolkit>, PortError> {
    let access = match &project.credentials {
        Credentials::Emulator { auth_host: Some(host), .. } => Access::Emulator { host: host.clone() },
        Credentials::Emulator { auth_host: None, .. } => {
            let message = "the project is an emulator, and was connected without its Auth emulator";
            return Err(PortError::new(ErrorKind::InvalidArgument, "reach the Auth users", message));
        }
        Credentials::Federation { audience, service_account } => federated(audience, service_account.as_deref()),
        Credentials::ServiceAccount { key_json } => service_account(key_json),
    };
    let options = IdentityOptions { project: project.google_project.clone(), access };
    Ok(Retrying::new(IdentityToolkit::connect(options).await?))
}

fn federated(audience: &str, service_account: Option<&str>) -> Access {
    Access::Federated(Federation::new(audience, service_account.map(str::to_owned)))
}

fn service_account(key_json: &str) -> Access {
    Access::ServiceAccountKey(ServiceAccountKey::new(key_json.to_owned().into()))
}
