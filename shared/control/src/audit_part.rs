//! Parts of a month of the audit log as sealed objects, and the key of the month beside them.
//!
//! | object below the destination | holds |
//! |---|---|
//! | `audit/<org>/<month>/key` | the month's data key, wrapped under the installation's master key; JSON |
//! | `audit/<org>/<month>/<evt>-<digest>` | entries from that one on, as a sealed object of type 10 |
//!
//! The key is bound to organization, month and use, and lies beside what it opens: whoever holds the master key reads a
//! month without this installation's table. The name of a part is made of what it holds, so that sealing twice is sealing
//! once.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_codec::object::{self, ObjectType};
use firebackup_codec::{Sealing, SecretKey};
use firebackup_model::Timestamp;
use firebackup_model::id::{KeyId, RepositoryId};
use firebackup_model::port::{EncryptionContext, WrappedKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::archive::ArchivePlace;
use crate::audit::AuditEntry;
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::id::{AuditId, DestinationId, OrganizationId};
use crate::month::Month;

/// The most bytes a part is read with; a thousand entries are far below.
const MAX_PART_BYTES: u64 = 32 << 20;
/// The most bytes the file of a key has.
const MAX_KEY_BYTES: u64 = 16 << 10;

/// Where a part lies and which entries it holds, as the table remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SealedPart {
    pub(crate) destination: DestinationId,
    pub(crate) name: String,
    pub(crate) first: AuditId,
    pub(crate) last: AuditId,
    pub(crate) entries: u64,
    pub(crate) key: MonthKey,
    pub(crate) sealed_at: Timestamp,
}

/// The key of a month, under the installation's master key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MonthKey {
    master: String,
    /// Base64.
    wrapped: String,
    context: BTreeMap<String, String>,
}

/// What a part holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Contents {
    organization: OrganizationId,
    month: String,
    /// Oldest first.
    entries: Vec<AuditEntry>,
}

/// Of whom and of when the entries of a part are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartOf {
    pub(crate) organization: OrganizationId,
    pub(crate) month: Month,
}

impl MonthKey {
    fn new(wrapped: WrappedKey, context: EncryptionContext) -> Self {
        Self { master: wrapped.master, wrapped: STANDARD.encode(wrapped.bytes), context }
    }

    fn wrapped(&self) -> Result<WrappedKey> {
        let bytes = STANDARD.decode(&self.wrapped).map_err(ControlError::internal)?;
        Ok(WrappedKey { master: self.master.clone(), bytes })
    }
}

/// Where the sealed months of an organization lie below a destination.
pub(crate) fn folder_of(organization: OrganizationId) -> String {
    format!("audit/{organization}")
}

impl PartOf {
    fn folder(&self) -> String {
        format!("{}/{}", folder_of(self.organization), self.month)
    }

    fn context(&self) -> EncryptionContext {
        [
            ("organization", self.organization.to_string()),
            ("month", self.month.to_string()),
            ("use", "audit".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    const fn repository(&self) -> RepositoryId {
        RepositoryId(self.organization.ulid().to_bytes())
    }
}

impl Control {
    /// The key of a month: the one that lies there, else a new one that is put there.
    pub(crate) async fn month_key(&self, place: &ArchivePlace, of: PartOf) -> Result<MonthKey> {
        let name = format!("{}/key", of.folder());
        if let Some(found) = self.found_key(place, &name).await? {
            return Ok(found);
        }
        let (keys, master) = (&self.ports().keys, self.ports().settings.master_key.as_deref());
        let (_, wrapped) = keys.generate(master, &of.context()).await?;
        let key = MonthKey::new(wrapped, of.context());
        let bytes = serde_json::to_vec(&key).map_err(ControlError::internal)?;
        if self.ports().archive.put(place, &name, bytes).await? {
            return Ok(key);
        }
        let gone = || ControlError::destination("the key of a month of the audit log is there, and cannot be read");
        self.found_key(place, &name).await?.ok_or_else(gone)
    }

    async fn found_key(&self, place: &ArchivePlace, name: &str) -> Result<Option<MonthKey>> {
        let Some(bytes) = self.ports().archive.get(place, name, MAX_KEY_BYTES).await? else { return Ok(None) };
        let strange = |error| {
            ControlError::destination(format!("{name} is not the key of a month of the audit log")).with_source(error)
        };
        serde_json::from_slice(&bytes).map(Some).map_err(strange)
    }

    /// Seals entries, oldest first and at least one, as a part of their month, reads it back and compares. What it returns
    /// is not yet remembered by anybody.
    pub(crate) async fn put_part(
        &self,
        (place, destination): (&ArchivePlace, DestinationId),
        of: PartOf,
        entries: Vec<AuditEntry>,
    ) -> Result<SealedPart> {
        let ids = entries.first().zip(entries.last()).map(|(first, last)| (first.id, last.id));
        let (first, last) = ids.ok_or_else(|| ControlError::internal("a part without an entry"))?;
        let count = entries.len() as u64;
        let contents = Contents { organization: of.organization, month: of.month.to_string(), entries };
        let json = serde_json::to_vec(&contents).map_err(ControlError::internal)?;
        let digest = hex::encode(&Sha256::digest(&json)[..8]);
        let name = format!("{}/{first}-{digest}", of.folder());
        let key = self.month_key(place, of).await?;
        let part = SealedPart { destination, name, first, last, entries: count, key, sealed_at: self.now() };
        let sealed = self.sealed(&part, of, &json).await?;
        self.ports().archive.put(place, &part.name, sealed).await?;
        match self.opened(place, &part, of).await? == json {
            true => Ok(part),
            false => Err(ControlError::destination(format!("{} is not what was sealed", part.name))),
        }
    }

    /// The entries of a part, oldest first.
    pub(crate) async fn read_part(
        &self,
        place: &ArchivePlace,
        part: &SealedPart,
        of: PartOf,
    ) -> Result<Vec<AuditEntry>> {
        let json = self.opened(place, part, of).await?;
        let contents: Contents = serde_json::from_slice(&json).map_err(ControlError::internal)?;
        Ok(contents.entries)
    }

    async fn sealed(&self, part: &SealedPart, of: PartOf, json: &[u8]) -> Result<Vec<u8>> {
        let (sealing, mut salt) = (self.part_sealing(part, of).await?, [0; 32]);
        self.ports().random.fill(&mut salt);
        object::seal(ObjectType::AuditPart, of.repository(), &part.name, &sealing, None, salt, json)
            .map_err(ControlError::internal)
    }

    async fn opened(&self, place: &ArchivePlace, part: &SealedPart, of: PartOf) -> Result<Vec<u8>> {
        let name = &part.name;
        let gone =
            || ControlError::destination(format!("the sealed part {name} of the audit log is not there any more"));
        let bytes = self.ports().archive.get(place, name, MAX_PART_BYTES).await?.ok_or_else(gone)?;
        let sealing = self.part_sealing(part, of).await?;
        let damaged = |error| {
            ControlError::destination(format!("the sealed part {name} of the audit log is damaged")).with_source(error)
        };
        let opened = object::open(ObjectType::AuditPart, of.repository(), name, &sealing, &bytes).map_err(damaged)?;
        Ok(opened.json)
    }

    async fn part_sealing(&self, part: &SealedPart, of: PartOf) -> Result<Sealing> {
        let wrapped = part.key.wrapped()?;
        let bytes = self.ports().keys.unwrap(&wrapped, &of.context()).await?;
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(&wrapped.bytes)[..16]);
        Ok(Sealing::Key { id: KeyId(id), key: SecretKey::from_bytes(*bytes.expose()) })
    }
}
