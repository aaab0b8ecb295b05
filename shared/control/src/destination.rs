//! Verbs on destinations.

use std::collections::BTreeMap;

use firebackup_model::Timestamp;
use firebackup_model::port::ItemWrite;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::access::DestinationAccess;
use crate::audit::Act;
use crate::control::Control;
use crate::error::{Code, ControlError, Result};
use crate::id::DestinationId;
use crate::job::BackupJob;
use crate::limit;
use crate::migration::Migration;
use crate::moving::Moving;
use crate::organization::OrganizationRecord;
use crate::page::{Page, Paged};
use crate::place::{check_encryption, check_endpoint, check_lock, check_url, checked_options, names};
use crate::probes::DestinationFindings;
use crate::project::in_use;
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::Right;
use crate::room::Kept;
use crate::schedule::Schedule;
use crate::secrets::{SealedSecret, SecretText};
use crate::server_side_encryption::ServerSideEncryption;
use crate::tenant::{Author, Caller, OrganizationScope};

/// A destination that is to be added.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDestination {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, or `file:///folder` on one machine.
    #[schema(example = "s3://my-backups/firestore")]
    pub url: String,
    /// The base URL of an S3-compatible service; `https`, or on the loopback interface `http`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Credentials and other options, such as `AWS_ACCESS_KEY_ID`; never shown again.
    #[serde(default)]
    #[schema(write_only, value_type = BTreeMap<String, String>)]
    pub options: BTreeMap<String, SecretText>,
    /// Whether it is used where no destination is named. The first one always is.
    #[serde(default)]
    pub is_default: bool,
    /// For how many days objects are locked when they are put; the bucket must have Object Lock.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 36500)]
    pub retention_lock_days: Option<u32>,
    /// How the store encrypts what is put; as its bucket says where nothing is said.
    #[serde(default)]
    pub server_side_encryption: Option<ServerSideEncryption>,
}

/// A place that may become a destination.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewPlace {
    /// As the URL of a destination.
    #[schema(example = "s3://my-backups/firestore")]
    pub url: String,
    /// The base URL of an S3-compatible service; `https`, or on the loopback interface `http`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Credentials and other options, such as `AWS_ACCESS_KEY_ID`; not kept.
    #[serde(default)]
    #[schema(write_only, value_type = BTreeMap<String, String>)]
    pub options: BTreeMap<String, SecretText>,
    /// How the store is to encrypt what is put.
    #[serde(default)]
    pub server_side_encryption: Option<ServerSideEncryption>,
}

/// What is to be changed of a destination; what is left out stays. Its URL stays for ever: backups lie there.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DestinationChange {
    /// For people.
    pub name: Option<String>,
    /// Credentials and other options; replaced as a whole.
    #[schema(write_only, value_type = Option<BTreeMap<String, String>>)]
    pub options: Option<BTreeMap<String, SecretText>>,
    /// True makes it the default. The default stops being it when another one is made it.
    pub is_default: Option<bool>,
    /// For how many days objects are locked when they are put; `null` for none.
    #[serde(default, deserialize_with = "crate::record::present")]
    #[schema(value_type = Option<u32>)]
    pub retention_lock_days: Option<Option<u32>>,
    /// How the store encrypts what is put from now on; `null` for as its bucket says. What lies there stays as it is.
    #[serde(default, deserialize_with = "crate::record::present")]
    #[schema(value_type = Option<ServerSideEncryption>)]
    pub server_side_encryption: Option<Option<ServerSideEncryption>>,
}

/// A destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// Names it.
    pub id: DestinationId,
    /// For people.
    pub name: String,
    /// `s3`, `gcs`, `azure` or `folder`.
    pub kind: String,
    /// Where it is.
    pub url: String,
    /// The base URL of an S3-compatible service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The names of its options; their values are never shown.
    pub options: Vec<String>,
    /// Whether it is used where no destination is named.
    #[serde(default)]
    pub is_default: bool,
    /// For how many days objects are locked when they are put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_lock_days: Option<u32>,
    /// How the store encrypts what is put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// What the last check found.
    pub findings: DestinationFindings,
    /// How everything in it is moved to another, or was last; only while one destination is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// What is wrong with it: it could not be reached or refused, when it was last checked or written to by a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DestinationTrouble>,
    /// When it was last checked.
    #[schema(value_type = String, format = DateTime)]
    pub verified_at: Timestamp,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// What uses a destination that holds parts of the audit log.
const AUDIT_LOG: &str = "the audit log";
/// What uses a destination from or to which everything is being moved.
const MIGRATION: &str = "a migration";
/// What is wrong with a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationTrouble {
    /// What, for people.
    pub message: String,
    /// Since when: when it was first found.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// What a destination's options are sealed for.
const OPTIONS: &str = "options";

/// A destination, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DestinationRecord {
    #[serde(flatten)]
    pub(crate) destination: Destination,
    /// Names and values, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_options: Option<SealedSecret>,
    /// Whether somebody is about to remove it: nothing new may begin to use it.
    #[serde(default)]
    removing: bool,
    /// Whether parts of the audit log lie there: then it is needed for as long as they are to be read.
    #[serde(default)]
    pub(crate) holds_audit: bool,
    /// Whether everything in it is being moved to another, or that of another to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moving: Option<Moving>,
}

impl Destination {
    /// What it is, as the audit log tells it.
    fn told(&self) -> Value {
        json!({
            "name": self.name, "url": self.url, "endpoint": self.endpoint, "options": self.options,
            "retentionLockDays": self.retention_lock_days, "serverSideEncryption": self.server_side_encryption,
        })
    }
}

impl DestinationRecord {
    /// As clients see it.
    pub(crate) fn shown(record: Self, organization: &OrganizationRecord) -> Destination {
        let is_default = organization.default_destination == Some(record.destination.id);
        Destination { is_default, ..record.destination }
    }

    /// Goes on only if something new may use the destination.
    pub(crate) fn check_usable(&self) -> Result<()> {
        match self.removing {
            true => Err(ControlError::conflict(Code::Conflict, "the destination is being removed")),
            false => self.moving.as_ref().map_or(Ok(()), Moving::check_usable),
        }
    }
}

impl Control {
    /// Adds a destination: looks at it, and keeps its options sealed. What is not possible there is told by its
    /// findings.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where a field may not be so;
    /// [`Upstream`](crate::Kind::Upstream) where it cannot be reached.
    pub async fn add_destination(&self, caller: &Caller, new: NewDestination) -> Result<Destination> {
        caller.may(Right::Manage)?;
        let name = limit::name("name", &new.name)?;
        check_lock(new.retention_lock_days, &new.url)?;
        let access = self.checked_access(caller, new.url, new.endpoint, &new.options).await?;
        let encryption = new.server_side_encryption;
        check_encryption(encryption.as_ref(), &access)?;
        // before it is looked at, and again with what is stored
        self.room_for(caller.scope(), Kept::Destinations).await?;
        let findings = self.ports().probes.destination(&access.clone().encrypting(encryption.as_ref())).await?;
        let now = self.now();
        let destination = Destination {
            id: DestinationId::new(now, self.ports().random.as_ref()),
            name,
            kind: findings.kind.clone(),
            url: access.url.clone(),
            endpoint: access.endpoint.clone(),
            options: names(&access.options),
            is_default: false,
            retention_lock_days: new.retention_lock_days,
            server_side_encryption: encryption,
            findings,
            migration: None,
            error: None,
            verified_at: now,
            created_at: now,
            updated_at: now,
        };
        let organization = self.organization_record(caller.scope()).await?;
        let sealed_options = self.seal_options(&organization, destination.id, &access.options).await?;
        let record =
            DestinationRecord { destination, sealed_options, removing: false, holds_audit: false, moving: None };
        self.store_destination(caller.author(), record, new.is_default).await
    }

    /// Looks at a place as if it were to be added; nothing is stored.
    ///
    /// # Errors
    /// As [`Self::add_destination`].
    pub async fn try_destination(&self, caller: &Caller, place: NewPlace) -> Result<DestinationFindings> {
        let access = self.place_access(caller, place).await?;
        self.ports().probes.destination(&access).await
    }

    /// What opens a place that is no destination, to look at it.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where a field may not be so.
    pub async fn place_access(&self, caller: &Caller, place: NewPlace) -> Result<DestinationAccess> {
        caller.may(Right::Manage)?;
        let access = self.checked_access(caller, place.url, place.endpoint, &place.options).await?;
        let encryption = place.server_side_encryption;
        check_encryption(encryption.as_ref(), &access)?;
        Ok(access.encrypting(encryption.as_ref()))
    }

    /// The same, of a folder that is to be made, and that is noted.
    ///
    /// # Errors
    /// As [`Self::place_access`], and when the store fails.
    pub async fn folder_to_make(&self, caller: &Caller, place: NewPlace) -> Result<DestinationAccess> {
        let access = self.place_access(caller, place).await?;
        let act = Act::new("storage.folder_created", &access.url);
        self.commit(caller.author(), act, Vec::new()).await?;
        Ok(access)
    }

    async fn checked_access(
        &self,
        caller: &Caller,
        url: String,
        endpoint: Option<String>,
        options: &BTreeMap<String, SecretText>,
    ) -> Result<DestinationAccess> {
        let settings = &self.ports().settings;
        check_url(&url, settings.allow_folders)?;
        let allow_private = settings.allow_private_addresses;
        endpoint.as_deref().map_or(Ok(()), |endpoint| check_endpoint(endpoint, allow_private))?;
        let options = checked_options(options)?;
        self.check_reach(caller.scope(), &url, &options).await?;
        Ok(DestinationAccess { url, endpoint, options })
    }

    /// The organization's destinations, oldest first.
    ///
    /// # Errors
    /// When the page cannot be, or the store fails.
    pub async fn destinations(&self, caller: &Caller, page: &Page) -> Result<Paged<Destination>> {
        caller.may(Right::Read)?;
        let organization = self.organization_record(caller.scope()).await?.value;
        let pick = |record| Some(DestinationRecord::shown(record, &organization));
        self.list(caller.scope().destinations(), page, pick).await
    }

    /// A destination.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn destination(&self, caller: &Caller, id: &DestinationId) -> Result<Destination> {
        caller.may(Right::Read)?;
        let record = self.destination_record(caller.scope(), id).await?.value;
        let organization = self.organization_record(caller.scope()).await?.value;
        let migration = self.migration_record(caller.scope(), id).await?.map(|migration| migration.value.shown);
        Ok(Destination { migration, ..DestinationRecord::shown(record, &organization) })
    }

    /// Changes a destination. New options or another encryption have it looked at again.
    ///
    /// # Errors
    /// As [`Self::add_destination`], and [`NotFound`](crate::Kind::NotFound).
    pub async fn update_destination(
        &self,
        caller: &Caller,
        id: &DestinationId,
        change: DestinationChange,
    ) -> Result<Destination> {
        caller.may(Right::Manage)?;
        let name = change.name.map(|name| limit::name("name", &name)).transpose()?;
        let options = change.options.as_ref().map(checked_options).transpose()?;
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.destination_record(caller.scope(), id).await?;
            let mut organization = self.organization_record(caller.scope()).await?;
            if let Some(options) = &options {
                self.check_reach(caller.scope(), &record.value.destination.url, options).await?;
            }
            self.take_access(
                &organization,
                &mut record.value,
                options.as_deref(),
                change.server_side_encryption.clone(),
            )
            .await?;
            let destination = &mut record.value.destination;
            if let Some(name) = &name {
                destination.name.clone_from(name);
            }
            if let Some(days) = change.retention_lock_days {
                check_lock(days, &destination.url)?;
                destination.retention_lock_days = days;
            }
            destination.updated_at = self.now();
            record.value.removing = false;
            if change.is_default == Some(true) {
                record.value.check_usable()?;
            }
            let mut writes = vec![record.replace(None)?];
            if change.is_default == Some(true) {
                organization.value.default_destination = Some(*id);
                writes.push(organization.replace(None)?);
            }
            let act = Act::new("storage.updated", id).with(record.value.destination.told());
            if self.commit(caller.author(), act, writes).await? == Written::Yes {
                return Ok(DestinationRecord::shown(record.value, &organization.value));
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Forgets a destination and its options. Nothing is deleted there.
    ///
    /// # Errors
    /// [`InUse`](Code::InUse) while backups are kept there, or schedules or unfinished jobs use it.
    pub async fn remove_destination(&self, caller: &Caller, id: &DestinationId) -> Result<()> {
        caller.may(Right::Manage)?;
        for _ in 0..MAX_ATTEMPTS {
            // first nothing new may begin to use it, then nothing may be using it: whatever began before is seen
            let mut record = self.destination_record(caller.scope(), id).await?;
            record.value.removing = true;
            if self.write_unrecorded(vec![record.replace(None)?]).await? == Written::Outrun {
                continue;
            }
            let mut record = self.destination_record(caller.scope(), id).await?;
            let mut organization = self.organization_record(caller.scope()).await?;
            let mut users = self.users_of_destination(caller.scope(), id, &organization.value).await?;
            if record.value.holds_audit {
                users.push(AUDIT_LOG.to_owned());
            }
            users.extend(record.value.moving.as_ref().map(|_| MIGRATION.to_owned()));
            if !users.is_empty() {
                record.value.removing = false;
                match self.write_unrecorded(vec![record.replace(None)?]).await? {
                    Written::Yes => return Err(in_use("destination", &users)),
                    Written::Outrun => continue,
                }
            }
            let mut writes = vec![record.delete()];
            writes.extend(self.migration_record(caller.scope(), id).await?.map(|migration| migration.delete()));
            if organization.value.default_destination == Some(*id) {
                organization.value.default_destination = None;
                writes.push(organization.replace(None)?);
            }
            let act = Act::new("storage.deleted", id).with(record.value.destination.told());
            if self.commit(caller.author(), act, writes).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    pub(crate) async fn destination_record(
        &self,
        scope: &OrganizationScope,
        id: &DestinationId,
    ) -> Result<Stored<DestinationRecord>> {
        self.found(&scope.destination_key(id), "destination").await
    }

    /// The destination that is meant: the one named, else the default.
    pub(crate) async fn meant_destination(
        &self,
        scope: &OrganizationScope,
        named: Option<DestinationId>,
    ) -> Result<Stored<DestinationRecord>> {
        let id = match named {
            Some(id) => id,
            None => self.organization_record(scope).await?.value.default_destination.ok_or_else(|| {
                ControlError::field("storageDestinationId", "there is no default destination: name one")
            })?,
        };
        let record = self.destination_record(scope, &id).await?;
        record.value.check_usable()?;
        Ok(record)
    }

    /// What opens a destination.
    pub(crate) async fn destination_access(
        &self,
        organization: &Stored<OrganizationRecord>,
        record: &DestinationRecord,
    ) -> Result<DestinationAccess> {
        let destination = &record.destination;
        let options = match &record.sealed_options {
            None => Vec::new(),
            Some(sealed) => {
                let organization = &organization.value;
                let secrets = self.secret_box(organization.organization.id, &organization.data_key).await?;
                let json = secrets.open(&destination.id.to_string(), OPTIONS, sealed)?;
                let options: BTreeMap<String, SecretText> =
                    // the cause would repeat the text
                    serde_json::from_str(&json).map_err(|_| ControlError::internal("sealed options are no map"))?;
                options.into_iter().map(|(name, value)| (name, value.expose().to_owned().into())).collect()
            }
        };
        let access =
            DestinationAccess { url: destination.url.clone(), endpoint: destination.endpoint.clone(), options };
        Ok(access.encrypting(destination.server_side_encryption.as_ref()))
    }

    /// Stores a new destination; makes it the default if that is wanted, or there is none.
    async fn store_destination(
        &self,
        author: &Author,
        record: DestinationRecord,
        is_default: bool,
    ) -> Result<Destination> {
        let (id, scope) = (record.destination.id, author.scope());
        for _ in 0..MAX_ATTEMPTS {
            let mut organization = self.organization_record(scope).await?;
            let item = new_item(scope.destination_key(&id), &record, None)?;
            let mut writes = vec![ItemWrite::Create(item), self.room_for(scope, Kept::Destinations).await?];
            if is_default || organization.value.default_destination.is_none() {
                organization.value.default_destination = Some(id);
                writes.push(organization.replace(None)?);
            } else {
                writes.push(organization.check());
            }
            let act = Act::new("storage.connected", id).with(record.destination.told());
            if self.commit(author, act, writes).await? == Written::Yes {
                return Ok(DestinationRecord::shown(record, &organization.value));
            }
        }
        Err(ControlError::concurrent_change())
    }

    async fn seal_options(
        &self,
        organization: &Stored<OrganizationRecord>,
        id: DestinationId,
        options: &[(String, Zeroizing<String>)],
    ) -> Result<Option<SealedSecret>> {
        if options.is_empty() {
            return Ok(None);
        }
        let map: BTreeMap<&str, &str> = options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let json = Zeroizing::new(serde_json::to_string(&map).map_err(ControlError::internal)?);
        let organization = &organization.value;
        let secrets = self.secret_box(organization.organization.id, &organization.data_key).await?;
        Ok(Some(secrets.seal(self, &id.to_string(), OPTIONS, &json)))
    }

    /// Takes what opens a destination and how it encrypts, where either is given, and looks at it again.
    async fn take_access(
        &self,
        organization: &Stored<OrganizationRecord>,
        record: &mut DestinationRecord,
        options: Option<&[(String, Zeroizing<String>)]>,
        encryption: Option<Option<ServerSideEncryption>>,
    ) -> Result<()> {
        if options.is_none() && encryption.is_none() {
            return Ok(());
        }
        let mut access = self.destination_access(organization, record).await?;
        let destination = &mut record.destination;
        if let Some(encryption) = encryption {
            destination.server_side_encryption = encryption;
        }
        access.options = match options {
            Some(options) => options.to_vec(),
            None => access.options.into_iter().filter(|(name, _)| destination.options.contains(name)).collect(),
        };
        check_encryption(destination.server_side_encryption.as_ref(), &access)?;
        if let Some(options) = options {
            destination.options = names(options);
            record.sealed_options = self.seal_options(organization, destination.id, options).await?;
        }
        let access = access.encrypting(destination.server_side_encryption.as_ref());
        let findings = self.ports().probes.destination(&access).await?;
        destination.verified(findings, self.now());
        Ok(())
    }

    /// What is kept in a destination or uses it, as ids; schedules that name none use the default.
    async fn users_of_destination(
        &self,
        scope: &OrganizationScope,
        id: &DestinationId,
        organization: &OrganizationRecord,
    ) -> Result<Vec<String>> {
        let mut users = Vec::new();
        for schedule in self.all::<Schedule>(scope.schedules()).await? {
            let schedule = schedule.value;
            if schedule.storage_destination_id.or(organization.default_destination) == Some(*id) {
                users.push(schedule.id.to_string());
            }
        }
        for backup in self.all::<BackupJob>(scope.backups()).await? {
            if backup.value.storage_destination_id == *id {
                users.push(backup.value.job.id.to_string());
            }
        }
        users.extend(self.pitrs_on(scope, |pitr| pitr.storage_destination_id == *id).await?);
        let jobs = self.active_jobs(scope).await?;
        users.extend(jobs.into_iter().filter(|job| job.destination == *id).map(|job| job.job.to_string()));
        users.dedup();
        Ok(users)
    }
}
