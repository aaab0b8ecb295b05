//! Where a repository lives.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use firebackup_model::port::Clock;
use firebackup_model::{ErrorKind, LockRule, PortError};
use object_store::ObjectStore;

use crate::error::port_error;
use crate::location::Location;
use crate::locked_store::LockedStore;
use crate::new_bucket::{self, BucketWishes, MadeBucket, MakeBucketError};
use crate::probe::{self, ProbeReport};
use crate::settings::DestinationSettings;
use crate::staging::Staging;
use crate::{folder, remote, staging};

/// What keeps the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DestinationKind {
    /// A folder of this machine.
    Folder,
    /// Amazon S3, or a service that speaks its protocol.
    S3,
    /// Google Cloud Storage; Firebase Storage buckets are such.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl DestinationKind {
    /// The scheme of its URLs.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Folder => "file",
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// A prefix in a bucket, or a folder. `Display` is its URL; neither it nor `Debug` shows a credential.
#[derive(Clone)]
pub struct Destination {
    kind: DestinationKind,
    url: String,
    store: Arc<dyn ObjectStore>,
    /// The same place with a client that gives up early: who checks a destination wants an answer, not patience.
    prober: Arc<dyn ObjectStore>,
    /// Where the objects are files.
    folder: Option<PathBuf>,
    /// Where the objects are in a bucket of S3: its name, and the prefix.
    s3_folder: Option<(String, String)>,
    /// Why objects cannot be locked when they are put.
    unlockable: Option<&'static str>,
}

impl Destination {
    /// Whether `url` can be understood. Nothing is opened or spoken to.
    ///
    /// # Errors
    /// [`InvalidArgument`](firebackup_model::ErrorKind::InvalidArgument) when not; the URL is not repeated.
    pub fn check_url(url: &str) -> Result<(), PortError> {
        Location::parse(url).map(drop)
    }

    /// Opens the destination that `url` names. A bucket is not spoken to yet: see [`Self::probe`].
    ///
    /// # Errors
    /// [`InvalidArgument`](firebackup_model::ErrorKind::InvalidArgument) for a URL, an endpoint or an option that cannot
    /// be used; [`NotFound`](firebackup_model::ErrorKind::NotFound) when the folder is missing.
    pub fn open(url: &str, settings: &DestinationSettings) -> Result<Self, PortError> {
        let location = Location::parse(url)?;
        let (store, prober) = match &location {
            Location::Folder(path) => {
                let store: Arc<dyn ObjectStore> = Arc::new(folder::open(path)?);
                (Arc::clone(&store), store)
            }
            Location::Bucket { kind, bucket, prefix } => {
                let open = |patience| remote::open(*kind, bucket, prefix, settings, patience);
                (open(remote::Patience::Patient)?, open(remote::Patience::Brief)?)
            }
        };
        let (kind, url) = (location.kind(), location.url());
        let (folder, s3_folder) = match location {
            Location::Folder(path) => (Some(path), None),
            Location::Bucket { kind: DestinationKind::S3, bucket, prefix } => {
                (None, Some((bucket, prefix.to_string())))
            }
            Location::Bucket { .. } => (None, None),
        };
        let unlockable = unlockable(kind, settings);
        Ok(Self { kind, url, store, prober, folder, s3_folder, unlockable })
    }

    /// As [`Self::open`], but makes the folder (mode 0700) when there is none. Buckets are not made.
    ///
    /// # Errors
    /// As [`Self::open`], and when the folder cannot be made.
    pub fn create(url: &str, settings: &DestinationSettings) -> Result<Self, PortError> {
        if let Location::Folder(path) = Location::parse(url)? {
            folder::create(&path)?;
        }
        Self::open(url, settings)
    }

    /// Makes the bucket that `url` names, closed to the public and, where the vendor can, keeping versions. A prefix needs no
    /// making. Nothing is tried twice: whether a first try made it would not be known.
    ///
    /// # Errors
    /// [`MakeBucketError`]: there is such a bucket, or as [`Self::open`]; an error that says a right is missing names it.
    pub async fn make_bucket(
        url: &str,
        settings: &DestinationSettings,
        wishes: &BucketWishes,
    ) -> Result<MadeBucket, MakeBucketError> {
        new_bucket::make(&Location::parse(url)?, settings, wishes).await
    }

    /// The names of the folders right below it, in order. Asks a client that gives up early.
    ///
    /// # Errors
    /// When the store fails or refuses.
    pub async fn folders(&self) -> Result<Vec<String>, PortError> {
        let listed = self.prober.list_with_delimiter(None).await;
        let listed = listed.map_err(|error| port_error("list the folders of the destination", error))?;
        let mut names: Vec<_> = listed.common_prefixes.iter().filter_map(|path| path.filename()).collect();
        names.sort_unstable();
        Ok(names.into_iter().map(ToOwned::to_owned).collect())
    }

    /// The store, scoped to the prefix.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// The same, with every object locked by `rule` as it is put, but for what a job leaves behind to be removed again:
    /// receipts, intents, probes, marks of prunes.
    ///
    /// # Errors
    /// [`InvalidArgument`](firebackup_model::ErrorKind::InvalidArgument) where objects cannot be locked. Whether the bucket
    /// has Object Lock is told by the first put.
    pub fn locked(self, rule: LockRule, clock: Arc<dyn Clock>) -> Result<Self, PortError> {
        if let Some(why) = self.unlockable {
            return Err(PortError::new(ErrorKind::InvalidArgument, "lock objects at the destination", why));
        }
        Ok(Self { store: Arc::new(LockedStore::new(self.store, rule, clock)), ..self })
    }

    /// Removes what writers that were killed left in the folders `names`, once nobody has written to it for `age`; with
    /// `dry_run` only counts it. Buckets keep no such files.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not be removed.
    pub async fn remove_staging(
        &self,
        names: &'static [&'static str],
        age: Duration,
        dry_run: bool,
    ) -> Result<Staging, PortError> {
        const OPERATION: &str = "remove what killed writers left in the folder";
        let Some(folder) = self.folder.clone() else { return Ok(Staging::default()) };
        let sweep = tokio::task::spawn_blocking(move || staging::sweep(&folder, names, age, dry_run));
        let swept =
            sweep.await.map_err(|error| PortError::new(ErrorKind::Internal, OPERATION, "").with_source(error))?;
        swept.map_err(|error| folder::io_error(OPERATION, error))
    }

    /// The bucket of S3 and the prefix in it, without slashes around it; nothing for other kinds.
    #[must_use]
    pub fn s3_folder(&self) -> Option<(&str, &str)> {
        self.s3_folder.as_ref().map(|(bucket, prefix)| (bucket.as_str(), prefix.as_str()))
    }

    /// What keeps the objects.
    #[must_use]
    pub const fn kind(&self) -> DestinationKind {
        self.kind
    }

    /// Finds out what can be done here, with a few small objects under `probes/` that it removes again.
    ///
    /// # Errors
    /// When nothing can be found out: the bucket is missing, the credentials are not accepted, or nobody answers. A right
    /// or an ability that is missing is no error but told by the report.
    pub async fn probe(&self) -> Result<ProbeReport, PortError> {
        probe::run(self.prober.as_ref(), &self.url).await
    }
}

fn unlockable(kind: DestinationKind, settings: &DestinationSettings) -> Option<&'static str> {
    if kind != DestinationKind::S3 {
        return Some("objects can be locked in buckets of S3 only");
    }
    let has_no_checksum =
        settings.option("aws_checksum_algorithm").is_some_and(|value| value.eq_ignore_ascii_case("none"));
    has_no_checksum.then_some("S3 locks no object without a checksum: leave AWS_CHECKSUM_ALGORITHM=none out")
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination").field("kind", &self.kind).field("url", &self.url).finish_non_exhaustive()
    }
}
