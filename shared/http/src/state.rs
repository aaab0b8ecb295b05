//! What the handlers stand on.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use firebackup_control::{BucketMade, BucketToMake, Control, DestinationAccess, OpenedPlace, ProjectId, Result};
use firebackup_engine::Repository;
use firebackup_model::port::Random;
use object_store::ObjectStore;
use url::Url;

use crate::observer::Observer;
use crate::remembered::Remembered;

/// Finds and opens the repositories that backups lie in, to read them.
#[async_trait]
pub trait Repositories: Send + Sync {
    /// Opens the repository of `place`. What goes wrong is told to the client as it stands in the error.
    async fn open(&self, place: &OpenedPlace) -> Result<Repository>;

    /// The objects of a project's repository, whether or not there is one, to list them.
    async fn objects(&self, place: &OpenedPlace) -> Result<Arc<dyn ObjectStore>>;

    /// The objects of a destination, to list them.
    async fn all_objects(&self, destination: &DestinationAccess) -> Result<Arc<dyn ObjectStore>>;

    /// What lies in a destination under the name of a repository, in order: of which project, and whether it is encrypted.
    async fn found(&self, destination: &DestinationAccess) -> Result<Vec<(ProjectId, bool)>>;

    /// The names of the folders right below a place, in order.
    async fn folders(&self, place: &DestinationAccess) -> Result<Vec<String>>;

    /// Makes the folder of a place, where there is none; says whether the place is such that one needs to be made.
    async fn make_folder(&self, place: &DestinationAccess) -> Result<bool>;

    /// Makes a bucket, and says what guards it. One that is there is left alone: a [`Conflict`](firebackup_control::Kind::Conflict).
    async fn make_bucket(&self, bucket: &BucketToMake) -> Result<BucketMade>;
}

/// What the router needs. Cheap to clone.
#[derive(Clone)]
pub struct HttpState {
    /// The verbs.
    pub control: Control,
    /// Opens repositories.
    pub repositories: Arc<dyn Repositories>,
    /// Makes request ids.
    pub random: Arc<dyn Random>,
    /// The version that `/health` says.
    pub version: &'static str,
    /// How a browser is sent back after a sign-in.
    pub sign_in: SignInPages,
    /// Who is told of every answer.
    pub observer: Arc<dyn Observer>,
    /// Answers that are the same until something changes, where the store can tell.
    pub remembered: Option<Remembered>,
}

/// How a browser is sent back after a sign-in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignInPages {
    /// Where it goes with its code, as `?code=`, or a consent's grant, as `?grant=`; without one it is shown the code as JSON.
    pub app_url: Option<String>,
    /// Whether browsers reach us by TLS, so that cookies may say so.
    pub is_secure: bool,
}

impl SignInPages {
    /// Where a browser goes with a code, where there is an application.
    ///
    /// # Errors
    /// When its address is none.
    pub fn with_code(&self, code: &str) -> Result<Option<String>, url::ParseError> {
        self.with("code", code)
    }

    /// Where a browser goes with a consent, where there is an application.
    ///
    /// # Errors
    /// When its address is none.
    pub fn with_grant(&self, grant: &str) -> Result<Option<String>, url::ParseError> {
        self.with("grant", grant)
    }

    fn with(&self, name: &str, value: &str) -> Result<Option<String>, url::ParseError> {
        let Some(app) = &self.app_url else { return Ok(None) };
        let mut url = Url::parse(app)?;
        url.query_pairs_mut().append_pair(name, value);
        Ok(Some(url.into()))
    }
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState").field("version", &self.version).finish_non_exhaustive()
    }
}
