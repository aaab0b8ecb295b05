//! A look at the world outside, before a record is made of it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::access::{DestinationAccess, ProjectAccess};
use crate::collection::CollectionFacts;
use crate::database::DatabaseFacts;
use crate::error::ControlError;

/// Looks at projects and destinations. What goes wrong there is an error of kind
/// [`Upstream`](crate::Kind::Upstream) with a message for the client.
#[async_trait]
pub trait Probes: Send + Sync {
    /// Which databases a project has, and what the credentials may not do there.
    async fn project(&self, access: &ProjectAccess) -> Result<ProjectFindings, ControlError>;

    /// Which collections a database has, and how many documents: within the time that a request has.
    async fn collections(&self, access: &ProjectAccess, database: &str) -> Result<CollectionFindings, ControlError>;

    /// Writes, reads, lists and deletes a probe in a destination, and says what of it is not possible.
    async fn destination(&self, place: &DestinationAccess) -> Result<DestinationFindings, ControlError>;
}

/// What was found of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProjectFindings {
    /// The ids of its databases, `(default)` first.
    pub databases: Vec<String>,
    /// What of [`asked_permissions`](crate::asked_permissions) IAM grants on the project; nothing where it could not be asked.
    pub granted: Option<Vec<String>>,
    /// The permissions that a trial has shown to be there.
    pub allowed: Vec<String>,
    /// The permissions whose trial was refused.
    pub refused: Vec<String>,
    /// How the databases are set up; those of which Google says nothing are left out.
    pub facts: Vec<DatabaseFacts>,
}

/// What was found of the collections of a database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CollectionFindings {
    /// Those at the root, by id.
    pub collections: Vec<CollectionFacts>,
    /// Whether there are more than were listed.
    pub partial: bool,
}

/// What was found of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationFindings {
    /// What kind of destination: `s3`, `gcs`, `azure`, `folder`.
    pub kind: String,
    /// Rights that are missing: `write`, `read`, `list`, `delete`, `create-only`.
    pub missing: Vec<String>,
    /// What was said about them.
    pub problems: Vec<String>,
    /// What the bucket should do to be guarded better and does not, such as `keep versions`; of S3 only.
    #[serde(default)]
    pub advice: Vec<String>,
}
