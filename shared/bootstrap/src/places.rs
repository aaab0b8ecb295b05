//! Where repositories are, and how they are opened: one for each project below its destination.

use std::sync::Arc;

use async_trait::async_trait;
use firebackup_aws::BucketFolder;
use firebackup_codec::secret::SecretKey;
use firebackup_control::{
    BucketMade, BucketToMake, Code, ControlError, DestinationAccess, OpenedPlace, OrganizationId, ProjectId,
};
use firebackup_engine::{EngineError, Repository, Secrets, ServiceKey, World};
use firebackup_http::Repositories;
use firebackup_model::port::{EncryptionContext, KeyService};
use firebackup_model::{ErrorKind, LockMode, LockRule, PortError};
use firebackup_storage::{BucketWishes, Destination, DestinationKind, DestinationSettings, MakeBucketError};
use object_store::ObjectStore;
use serde_json::json;

use crate::buckets::{KEY_ID, bucket_of, option};
use crate::probes::{destination_failed as refused, kind_of};

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
    /// The installation's own bucket, and for how many days objects in it are locked where a destination says nothing.
    own_bucket: Option<(String, u32)>,
    allow_private_addresses: bool,
}

/// Where somebody brings one of these, nothing of our own that could open anything is used beside it.
const CREDENTIALS: [&str; 8] = [
    KEY_ID,
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_CLIENT_SECRET",
];
/// What of where we run opens nothing: it says where a store is, and how it is spoken to.
const HARMLESS: [&str; 16] = [
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ALLOW_HTTP",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_CHECKSUM_ALGORITHM",
    "AWS_CONDITIONAL_COMPLETE",
    LOCK_MODE,
    "GOOGLE_BASE_URL",
    "GOOGLE_ALLOW_HTTP",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_ENDPOINT",
    "AZURE_ALLOW_HTTP",
];
/// How hard objects are locked: `GOVERNANCE`, where nothing is said, or `COMPLIANCE`.
const LOCK_MODE: &str = "AWS_OBJECT_LOCK_MODE";
/// How objects are encrypted by S3: what of it a destination says is not mixed with what is said of ours.
const ENCRYPTION: [&str; 3] = ["AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_KMS_KEY_ID", "AWS_SSE_BUCKET_KEY_ENABLED"];

/// What the name of a repository ends with that is not encrypted.
const UNENCRYPTED: &str = "-unencrypted";

/// Names the use in an encryption context.
const USE: &str = "repository";

impl Places {
    /// What opens repositories with these keys; `ambient` are options such as `AWS_REGION`, for destinations that say
    /// nothing of it.
    #[must_use]
    pub const fn new(masters: MasterKeys, world: World, ambient: Vec<(String, String)>) -> Self {
        Self { masters, world, ambient, own_bucket: None, allow_private_addresses: false }
    }

    /// The same, locking what is put into the installation's own bucket for so many days, where a destination does not say
    /// for how many.
    #[must_use]
    pub fn locking(self, own_bucket: Option<&str>, days: u32) -> Self {
        Self { own_bucket: own_bucket.map(|bucket| (bucket.to_owned(), days)), ..self }
    }

    /// The same; endpoints that destinations bring may lead to this machine and its networks where that is allowed.
    #[must_use]
    pub fn reaching(self, allow_private_addresses: bool) -> Self {
        Self { allow_private_addresses, ..self }
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
        // folders are made below the one that was named; of a bucket nothing needs to be made
        Destination::create(url, &self.settings(place))
    }

    /// How a destination is reached.
    pub(crate) fn settings(&self, place: &DestinationAccess) -> DestinationSettings {
        let public_only = !self.allow_private_addresses;
        DestinationSettings { endpoint: place.endpoint.clone(), options: self.options(place), public_only }
    }

    /// The options of a destination, behind those of where we run. Credentials of its own are mixed with none of ours, of
    /// whatever vendor, nor is an encryption.
    fn options(&self, place: &DestinationAccess) -> Vec<(String, String)> {
        let is_one_of = |name: &str, names: &[&str]| names.iter().any(|part| name.eq_ignore_ascii_case(part));
        let says = |wanted: &str| place.options.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let (brings_key, has_encryption) = (CREDENTIALS.iter().any(|name| says(name)), says(ENCRYPTION[0]));
        let is_taken = |name: &str| match is_one_of(name, &ENCRYPTION) {
            true => !has_encryption,
            false => !brings_key || is_one_of(name, &HARMLESS),
        };
        let ambient = self.ambient.iter().filter(|(name, _)| is_taken(name)).cloned();
        ambient.chain(place.options.iter().map(|(name, value)| (name.clone(), value.to_string()))).collect()
    }

    /// Opens the destination of a project's repository, so that what is put is locked where that is wanted.
    fn repository(&self, place: &OpenedPlace) -> Result<Destination, PortError> {
        self.locked_destination(&repository_url(place), &place.access, place.destination.retention_lock_days)
    }

    /// The objects of a project's repository, whether or not there is one yet; what is put is locked where that is wanted.
    ///
    /// # Errors
    /// When the destination cannot be understood.
    pub(crate) fn store(&self, place: &OpenedPlace) -> Result<Arc<dyn ObjectStore>, PortError> {
        Ok(self.repository(place)?.store())
    }

    /// Opens a destination, so that what is put is locked where that is wanted.
    pub(crate) fn locked_destination(
        &self,
        url: &str,
        access: &DestinationAccess,
        days: Option<u32>,
    ) -> Result<Destination, PortError> {
        let destination = self.destination(url, access)?;
        match self.lock_rule(access, days, &destination)? {
            Some(rule) => destination.locked(rule, Arc::clone(&self.world.clock)),
            None => Ok(destination),
        }
    }

    /// How what is put is locked: for `days`, where the destination says so.
    fn lock_rule(
        &self,
        access: &DestinationAccess,
        days: Option<u32>,
        destination: &Destination,
    ) -> Result<Option<LockRule>, PortError> {
        let bucket = destination.s3_folder().map(|(bucket, _)| bucket);
        let own = self.own_bucket.as_ref().filter(|(own, _)| bucket == Some(own.as_str())).map(|(_, days)| *days);
        let Some(days) = days.or(own).filter(|days| *days > 0) else { return Ok(None) };
        let mode = option(&self.options(access), &[LOCK_MODE]).map_or(Ok(LockMode::default()), |text| text.parse())?;
        Ok(Some(LockRule { mode, days }))
    }

    /// The versions of the objects of a project's repository, and the rule by which they are locked; nothing where the
    /// destination is no bucket of S3. A service that only speaks its protocol is asked for versions only where objects
    /// are locked: it may know none.
    ///
    /// # Errors
    /// When the destination cannot be understood.
    pub async fn versions(&self, place: &OpenedPlace) -> Result<Option<(BucketFolder, Option<LockRule>)>, PortError> {
        let destination = self.destination(&repository_url(place), &place.access)?;
        let rule = self.lock_rule(&place.access, place.destination.retention_lock_days, &destination)?;
        if rule.is_none() && place.access.endpoint.is_some() {
            return Ok(None);
        }
        let found = bucket_of(&destination, &self.settings(&place.access)).await?;
        let mode = rule.map_or_else(LockMode::default, |rule| rule.mode);
        Ok(found.map(|(bucket, prefix)| (BucketFolder::new(bucket, &prefix, mode), rule)))
    }

    /// Opens the repository of a project, to read in it or to finish what was begun.
    ///
    /// # Errors
    /// When there is none, or the keys do not open it.
    pub async fn open(&self, place: &OpenedPlace) -> Result<Repository, EngineError> {
        let store = self.repository(place)?.store();
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
        let store = self.repository(place)?.store();
        match Repository::init(store, self.secrets(place)?, self.world.clone()).await {
            // another job of the same project made it at the same time
            Err(EngineError::Refused(_)) => self.open(place).await,
            made => made,
        }
    }

    /// Lets everybody open the repository that should by now: the organization's master key and recovery key may have
    /// been set after it was made. Returns how many were added; nobody is taken away.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn add_missing_holders(&self, place: &OpenedPlace) -> Result<u64, EngineError> {
        self.open(place).await?.add_missing_holders(&self.secrets(place)?).await
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
                let former = &organization.former_kms_keys;
                let masters = organization.kms_key.iter().chain([own]).chain(former).cloned().collect();
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
    format!("{}/{}", place.access.url.trim_end_matches('/'), repository_name(place))
}

/// Its name below the destination.
pub(crate) fn repository_name(place: &OpenedPlace) -> String {
    let suffix = if place.encrypted { "" } else { UNENCRYPTED };
    format!("{}{suffix}", place.project)
}

/// Whose repository has this name, and whether that is encrypted; nothing where it is no repository's.
fn repository_of(name: &str) -> Option<(ProjectId, bool)> {
    let (project, encrypted) = name.strip_suffix(UNENCRYPTED).map_or((name, true), |project| (project, false));
    project.parse().ok().map(|project| (project, encrypted))
}

#[async_trait]
impl Repositories for Places {
    async fn open(&self, place: &OpenedPlace) -> Result<Repository, ControlError> {
        Self::open(self, place).await.map_err(unreadable)
    }

    async fn objects(&self, place: &OpenedPlace) -> Result<Arc<dyn ObjectStore>, ControlError> {
        self.store(place).map_err(refused)
    }

    async fn all_objects(&self, destination: &DestinationAccess) -> Result<Arc<dyn ObjectStore>, ControlError> {
        Ok(self.destination(&destination.url, destination).map_err(refused)?.store())
    }

    async fn found(&self, destination: &DestinationAccess) -> Result<Vec<(ProjectId, bool)>, ControlError> {
        let opened = self.destination(&destination.url, destination).map_err(|error| unreadable(error.into()))?;
        let names = opened.folders().await.map_err(|error| unreadable(error.into()))?;
        let mut found: Vec<_> = names.iter().filter_map(|name| repository_of(name)).collect();
        found.sort_unstable();
        Ok(found)
    }

    async fn folders(&self, place: &DestinationAccess) -> Result<Vec<String>, ControlError> {
        let opened = Destination::open(&place.url, &self.settings(place)).map_err(refused)?;
        opened.folders().await.map_err(refused)
    }

    async fn make_folder(&self, place: &DestinationAccess) -> Result<bool, ControlError> {
        let opened = self.destination(&place.url, place).map_err(refused)?;
        Ok(opened.kind() == DestinationKind::Folder)
    }

    async fn make_bucket(&self, bucket: &BucketToMake) -> Result<BucketMade, ControlError> {
        let wishes = BucketWishes {
            object_lock: bucket.object_lock,
            location: bucket.location.clone(),
            google_project: bucket.google_project.clone(),
        };
        let settings = self.settings(&bucket.access);
        let made = Destination::make_bucket(&bucket.access.url, &settings, &wishes).await.map_err(unmade)?;
        Ok(BucketMade {
            kind: kind_of(made.kind).to_owned(),
            closed_to_public: made.is_closed,
            keeps_versions: made.keeps_versions,
            object_lock: made.locks_objects,
            problems: made.problems,
        })
    }
}

/// What a client is told of a bucket that was not made.
fn unmade(error: MakeBucketError) -> ControlError {
    let is_there =
        |owner: &str| ControlError::conflict(Code::Conflict, error.to_string()).with_details(json!({ "owner": owner }));
    match error {
        MakeBucketError::Yours => is_there("you"),
        MakeBucketError::Others => is_there("other"),
        MakeBucketError::Port(error) => refused(error),
    }
}

/// What a client is told of a repository that cannot be opened.
pub(crate) fn unreadable(error: EngineError) -> ControlError {
    let is_missing = matches!(&error, EngineError::Port(port) if port.kind == ErrorKind::NotFound);
    let message = match &error {
        EngineError::NotFound(_) => "the repository of the backup is not there any more",
        _ if is_missing => "the destination is not there any more",
        EngineError::Store { .. } | EngineError::Port(_) => "the destination cannot be reached, or refuses",
        _ => "the keys do not open the repository of the backup",
    };
    ControlError::destination(message).with_source(error)
}

#[cfg(test)]
mod tests {
    use firebackup_embedded::{SystemClock, SystemRandom};

    use super::*;

    fn places() -> Places {
        let ambient = [
            ("AWS_REGION", "r"),
            ("AWS_ACCESS_KEY_ID", "ours"),
            ("AWS_SESSION_TOKEN", "ours"),
            ("AWS_SSE_KMS_KEY_ID", "ours"),
        ];
        let ambient = ambient.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let world = World { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) };
        Places::new(MasterKeys::Local(SecretKey::from_bytes([1; 32])), world, ambient)
    }

    fn access(url: &str, options: &[(&str, &str)]) -> DestinationAccess {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned().into())).collect();
        DestinationAccess { url: url.to_owned(), endpoint: None, options }
    }

    #[test]
    fn a_key_of_a_destinations_own_is_not_mixed_with_ours() {
        let own = places().options(&access("s3://b", &[(KEY_ID, "its"), ("AWS_SECRET_ACCESS_KEY", "its")]));
        assert_eq!(option(&own, &[KEY_ID]).as_deref(), Some("its"));
        assert_eq!(option(&own, &["AWS_SESSION_TOKEN"]), None);
        assert_eq!(option(&own, &["AWS_REGION"]).as_deref(), Some("r"));
        let none = places().options(&access("s3://b", &[("AWS_REGION", "other")]));
        assert_eq!(option(&none, &["AWS_SESSION_TOKEN"]).as_deref(), Some("ours"));
        assert_eq!(option(&none, &["AWS_REGION"]).as_deref(), Some("other"));
    }

    /// Another organization's destination was opened with the operator's key, where it brought one of another vendor.
    #[test]
    fn whoever_brings_any_credentials_has_none_of_ours() {
        let ours = [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_SAS_KEY",
            "AZURE_CLIENT_SECRET",
            "AZURE_FEDERATED_TOKEN_FILE",
        ];
        let mut places = places();
        let ambient = ours.iter().chain(&["AWS_REGION", "AZURE_STORAGE_ENDPOINT"]);
        places.ambient = ambient.map(|name| ((*name).to_owned(), "ours".to_owned())).collect();
        for brought in CREDENTIALS {
            let options = places.options(&access("az://container", &[(brought, "its")]));
            let secrets: Vec<_> = options.iter().filter(|(name, _)| ours.contains(&name.as_str())).collect();
            assert!(secrets.iter().all(|(_, value)| value == "its"), "{brought}: {secrets:?}");
            assert_eq!(option(&options, &["AWS_REGION"]).as_deref(), Some("ours"), "{brought}");
        }
        assert_eq!(places.options(&access("az://container", &[])).len(), ours.len() + 2);
    }

    #[test]
    fn names_of_repositories_are_read_as_they_are_made() {
        let project: ProjectId = "proj_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        assert_eq!(repository_of(&project.to_string()), Some((project, true)));
        assert_eq!(repository_of(&format!("{project}{UNENCRYPTED}")), Some((project, false)));
        for other in ["", "runs", "proj_x", "proj_01ARZ3NDEKTSV4RRFFQ69G5FAV-", "storage_01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            assert_eq!(repository_of(other), None, "{other}");
        }
    }

    #[test]
    fn an_encryption_of_a_destinations_own_is_not_mixed_with_ours() {
        let own = places().options(&access("s3://b", &[("AWS_SERVER_SIDE_ENCRYPTION", "AES256")]));
        assert_eq!(option(&own, &["AWS_SSE_KMS_KEY_ID"]), None);
        let none = places().options(&access("s3://b", &[]));
        assert_eq!(option(&none, &["AWS_SSE_KMS_KEY_ID"]).as_deref(), Some("ours"));
    }

    #[test]
    fn a_destination_says_how_it_is_locked_and_the_own_bucket_where_it_does_not() {
        let places = places().locking(Some("own"), 30);
        let rule = |url: &str, days, options: &[(&str, &str)]| {
            let credentials = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
            let access = access(url, &[&credentials, options].concat());
            let destination = places.destination(url, &access).unwrap();
            places.lock_rule(&access, days, &destination)
        };
        let governance = |days| Some(LockRule { mode: LockMode::Governance, days });
        assert_eq!(rule("s3://own/backups", None, &[]).unwrap(), governance(30));
        assert_eq!(rule("s3://own/backups", Some(7), &[]).unwrap(), governance(7));
        assert_eq!(rule("s3://other", None, &[]).unwrap(), None);
        let hard = rule("s3://other", Some(1), &[(LOCK_MODE, "compliance")]).unwrap();
        assert_eq!(hard, Some(LockRule { mode: LockMode::Compliance, days: 1 }));
        assert!(rule("s3://other", Some(1), &[(LOCK_MODE, "HARDER")]).is_err());
    }
}
