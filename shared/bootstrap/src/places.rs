//! Where repositories are, and how they are opened: one for each project below its destination.

use std::sync::Arc;

use async_trait::async_trait;
use firebackup_codec::secret::SecretKey;
use firebackup_control::{ControlError, DestinationAccess, OpenedPlace, OrganizationId, ProjectId};
use firebackup_engine::{EngineError, Repository, Secrets, ServiceKey, World};
use firebackup_http::Repositories;
use firebackup_model::port::{EncryptionContext, KeyService};
use firebackup_model::{ErrorKind, PortError};
use firebackup_storage::{Destination, DestinationSettings};

/// What opens repositories, besides what a destination says.
#[derive(Clone)]
pub enum MasterKeys {
    /// A key on this machine.
    Local(SecretKey),
    /// A key service; the ARN is that of the installation's own key.
    Service {
        /// The service.
        service: Arc<dyn KeyService>,
        /// The installation's own key.
        own: String,
    },
}

/// Opens and makes repositories.
#[derive(Clone)]
pub struct Places {
    masters: MasterKeys,
    world: World,
    /// Credentials and endpoints of where we run, for destinations that bring none.
    ambient: Vec<(String, String)>,
}

/// Names the use in an encryption context.
const USE: &str = "repository";

impl Places {
    /// What opens repositories with these keys; `ambient` are options such as `AWS_REGION`, for destinations that say
    /// nothing of it.
    #[must_use]
    pub const fn new(masters: MasterKeys, world: World, ambient: Vec<(String, String)>) -> Self {
        Self { masters, world, ambient }
    }

    /// Time and randomness.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The destination itself, as the user named it.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn destination(&self, url: &str, place: &DestinationAccess) -> Result<Destination, PortError> {
        let mut options = self.ambient.clone();
        options.extend(place.options.iter().map(|(name, value)| (name.clone(), value.to_string())));
        let settings = DestinationSettings { endpoint: place.endpoint.clone(), options };
        // folders are made below the one that was named; of a bucket nothing needs to be made
        Destination::create(url, &settings)
    }

    /// Opens the repository of a project, to read in it or to finish what was begun.
    ///
    /// # Errors
    /// When there is none, or the keys do not open it.
    pub async fn open(&self, place: &OpenedPlace) -> Result<Repository, EngineError> {
        let store = self.destination(&repository_url(place), &place.access)?.store();
        Repository::open(store, self.secrets(place)?, self.world.clone()).await
    }

    /// The same, making it where there is none yet.
    ///
    /// # Errors
    /// As [`Self::open`], and when it cannot be made.
    pub async fn open_or_make(&self, place: &OpenedPlace) -> Result<Repository, EngineError> {
        match self.open(place).await {
            Err(EngineError::NotFound(_)) => {}
            opened => return opened,
        }
        let store = self.destination(&repository_url(place), &place.access)?.store();
        match Repository::init(store, self.secrets(place)?, self.world.clone()).await {
            // another job of the same project made it at the same time
            Err(EngineError::Refused(_)) => self.open(place).await,
            made => made,
        }
    }

    fn secrets(&self, place: &OpenedPlace) -> Result<Secrets, EngineError> {
        if !place.encrypted {
            return Ok(Secrets::default());
        }
        let organization = &place.organization;
        let mut secrets = Secrets::default();
        match &self.masters {
            MasterKeys::Local(key) => secrets.masters.push(key.clone()),
            MasterKeys::Service { service, own } => {
                // the organization's own key first: it is the one to wrap with
                let masters = organization.kms_key.iter().chain([own]).cloned().collect();
                let context = context(organization.id, place.project);
                secrets.service = Some(ServiceKey { service: Arc::clone(service), masters, context });
            }
        }
        if let Some(text) = &organization.recovery_public_key {
            let key = text.parse().map_err(|_| {
                EngineError::Refused("the organization's recovery public key is not one: set it anew".to_owned())
            })?;
            secrets.recovery_public = Some(key);
        }
        Ok(secrets)
    }
}

/// What every unwrap of a repository's key must say.
fn context(organization: OrganizationId, project: ProjectId) -> EncryptionContext {
    [("organization", organization.to_string()), ("project", project.to_string()), ("use", USE.to_owned())]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// What is not encrypted has a repository of its own: an encrypted one takes nothing in the clear.
fn repository_url(place: &OpenedPlace) -> String {
    let base = place.access.url.trim_end_matches('/');
    let suffix = if place.encrypted { "" } else { "-unencrypted" };
    format!("{base}/{}{suffix}", place.project)
}

#[async_trait]
impl Repositories for Places {
    async fn open(&self, place: &OpenedPlace) -> Result<Repository, ControlError> {
        Self::open(self, place).await.map_err(unreadable)
    }
}

/// What a client is told of a repository that cannot be opened.
fn unreadable(error: EngineError) -> ControlError {
    let is_missing = matches!(&error, EngineError::Port(port) if port.kind == ErrorKind::NotFound);
    let message = match &error {
        EngineError::NotFound(_) => "the repository of the backup is not there any more",
        _ if is_missing => "the destination is not there any more",
        EngineError::Store { .. } | EngineError::Port(_) => "the destination cannot be reached, or refuses",
        _ => "the keys do not open the repository of the backup",
    };
    ControlError::destination(message).with_source(error)
}
