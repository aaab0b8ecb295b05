//! Buckets are made: closed to the public from the first moment and, at S3, keeping versions, so that what is deleted or
//! replaced by mistake is not gone.
//!
//! The clients of object stores make none. They sign, though, and know endpoints, credentials and guards: only the requests
//! are ours. Making a bucket is sent once; that it is there already is found out before, since S3 in its oldest region says
//! yes to whoever makes a bucket again, and what guards it would then be put on a bucket in use.

mod azure;
mod gcs;
mod request;
mod s3;

use firebackup_model::{ErrorKind, PortError};

use crate::destination::DestinationKind;
use crate::location::Location;
use crate::settings::{DestinationSettings, is_label};

const MAKE: &str = "make the bucket";

/// How a bucket is to be, besides what every bucket is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketWishes {
    /// Whether objects in it can be locked; of S3 only.
    pub object_lock: bool,
    /// Where it is: a region of S3 in place of that of the options, a location of Google Cloud Storage.
    pub location: Option<String>,
    /// The Google Cloud project that it belongs to.
    pub google_project: Option<String>,
}

/// A bucket that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeBucket {
    /// What keeps it.
    pub kind: DestinationKind,
    /// Whether it can be opened to nobody else by mistake.
    pub is_closed: bool,
    /// Whether it keeps versions of what is replaced or deleted.
    pub keeps_versions: bool,
    /// Whether objects in it can be locked.
    pub locks_objects: bool,
    /// What could not be switched on, and why.
    pub problems: Vec<String>,
}

/// Why no bucket was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeBucketError {
    /// There is one of this name, and these credentials may look into it.
    #[error("there is such a bucket already, and these credentials open it")]
    Yours,
    /// There is one of this name, and it is not known to be ours.
    #[error("there is such a bucket already: somebody else's, or one that these credentials do not open")]
    Others,
    /// Anything else.
    #[error(transparent)]
    Port(#[from] PortError),
}

pub(crate) async fn make(
    location: &Location,
    settings: &DestinationSettings,
    wishes: &BucketWishes,
) -> Result<MadeBucket, MakeBucketError> {
    let Location::Bucket { kind, bucket, .. } = location else {
        return Err(refused("a folder is no bucket").into());
    };
    if wishes.object_lock && *kind != DestinationKind::S3 {
        return Err(refused("objects can be locked in buckets of S3 only").into());
    }
    if wishes.location.as_deref().is_some_and(|location| !is_label(location)) {
        return Err(refused("a location has letters, digits and hyphens").into());
    }
    match kind {
        DestinationKind::S3 => s3::make(bucket, settings, wishes).await,
        DestinationKind::Gcs => gcs::make(bucket, settings, wishes).await,
        DestinationKind::Azure => azure::make(bucket, settings, wishes).await,
        DestinationKind::Folder => Err(refused("a folder is no bucket").into()),
    }
}

fn refused(why: &str) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, MAKE, why)
}
