//! Making a bucket with the credentials that somebody brings. It is no destination yet, and nothing of it is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::access::DestinationAccess;
use crate::audit::Act;
use crate::control::Control;
use crate::destination::NewPlace;
use crate::error::{ControlError, Result};
use crate::project::check_google_project;
use crate::secrets::SecretText;
use crate::tenant::Caller;

/// A bucket that is to be made.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewBucket {
    /// As the URL of a destination: `s3://bucket`, `gs://bucket`, `az://container`. A prefix behind it needs no making.
    #[schema(example = "s3://my-backups")]
    pub url: String,
    /// The base URL of an S3-compatible service; `https`, or on the loopback interface `http`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Credentials and other options, such as `AWS_ACCESS_KEY_ID`; not kept.
    #[serde(default)]
    #[schema(write_only, value_type = BTreeMap<String, String>)]
    pub options: BTreeMap<String, SecretText>,
    /// Where it is made: a region of S3, in place of `AWS_REGION` among the options, or a location of Google's, such as `EU`.
    #[serde(default)]
    #[schema(pattern = "^[A-Za-z0-9-]{1,40}$", example = "eu-central-1")]
    pub location: Option<String>,
    /// Whether objects in it can be locked; of S3 only, and only now.
    #[serde(default)]
    #[schema(default = false)]
    pub object_lock: bool,
    /// The Google Cloud project that a bucket of Google's belongs to; that of the service account's key where none is named.
    #[serde(default)]
    #[schema(example = "my-app-1234")]
    pub google_project: Option<String>,
}

/// A bucket that is to be made, looked at.
#[derive(Debug, Clone)]
pub struct BucketToMake {
    /// What opens it, once it is there.
    pub access: DestinationAccess,
    /// Where it is to be.
    pub location: Option<String>,
    /// Whether objects in it can be locked.
    pub object_lock: bool,
    /// The Google Cloud project that it is to belong to.
    pub google_project: Option<String>,
}

/// A bucket that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BucketMade {
    /// `s3`, `gcs` or `azure`.
    pub kind: String,
    /// Whether the public cannot be let in, by mistake or on purpose.
    pub closed_to_public: bool,
    /// Whether it keeps versions of what is replaced or deleted; of S3 only.
    pub keeps_versions: bool,
    /// Whether objects in it can be locked.
    pub object_lock: bool,
    /// What could not be switched on, and why: a right that is missing, or a service that does not know it.
    pub problems: Vec<String>,
}

impl Control {
    /// What is needed to make a bucket. That somebody has asked for it is noted before it is made: what dies in between leaves a
    /// bucket, and that it was asked for.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where a field may not be so.
    pub async fn bucket_to_make(&self, caller: &Caller, new: NewBucket) -> Result<BucketToMake> {
        let NewBucket { url, endpoint, options, location, object_lock, google_project } = new;
        let place = NewPlace { url, endpoint, options, server_side_encryption: None };
        let access = self.place_access(caller, place).await?;
        let bucket = BucketToMake { access, location, object_lock, google_project };
        bucket.check()?;
        let act = Act::new("storage.bucket_requested", &bucket.access.url);
        self.commit(caller.author(), act, Vec::new()).await?;
        Ok(bucket)
    }

    /// Notes that a bucket was made.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_bucket(&self, caller: &Caller, bucket: &BucketToMake, made: &BucketMade) -> Result<()> {
        let act = Act::new("storage.bucket_created", &bucket.access.url);
        let act = act.with(json!({ "closedToPublic": made.closed_to_public, "keepsVersions": made.keeps_versions,
            "objectLock": made.object_lock }));
        self.commit(caller.author(), act, Vec::new()).await.map(drop)
    }
}

impl BucketToMake {
    fn check(&self) -> Result<()> {
        let (scheme, _) = self.access.url.split_once(':').unwrap_or_default();
        if scheme == "file" {
            let message = "a folder is made by `POST /storage/buckets/folders/create`";
            return Err(ControlError::field("url", message));
        }
        if self.object_lock && scheme != "s3" {
            return Err(ControlError::field("objectLock", "objects can be locked in buckets of S3 only"));
        }
        self.check_location(scheme)?;
        self.check_project(scheme)
    }

    fn check_location(&self, scheme: &str) -> Result<()> {
        let Some(location) = &self.location else { return Ok(()) };
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if scheme == "az" {
            return Err(ControlError::field("location", "a container lies where its storage account does"));
        }
        match (1..=40).contains(&location.len()) && location.bytes().all(is_letter) {
            true => Ok(()),
            false => Err(ControlError::field("location", "expected a region of S3 or a location of Google's")),
        }
    }

    fn check_project(&self, scheme: &str) -> Result<()> {
        let has_key = self.access.options.iter().any(|(name, _)| name == "GOOGLE_SERVICE_ACCOUNT_KEY");
        match &self.google_project {
            Some(_) if scheme != "gs" => Err(ControlError::field("googleProject", "it has a place at `gs://` only")),
            Some(project) => check_google_project(project),
            None if scheme == "gs" && !has_key => {
                Err(ControlError::field("googleProject", "name the Google Cloud project that the bucket belongs to"))
            }
            None => Ok(()),
        }
    }
}
