//! Secrets at rest: sealed under a data key of the organization, which is wrapped under a master key.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_codec::{SecretKey, secret_box};
use firebackup_model::Timestamp;
use firebackup_model::port::{EncryptionContext, WrappedKey};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::id::OrganizationId;

/// How long an unwrapped data key is kept in memory.
const MAX_CACHE_SECONDS: i64 = 5 * 60;
/// What secrets of projects and destinations are sealed for.
const PURPOSE: &str = "control";

/// The most bytes that are opened which were sealed as bytes: more than anything that is taken in.
const MAX_SEALED_BYTES: usize = 128 * 1024 * 1024;

/// A secret that came with a request: never shown, wiped when it is dropped.
#[derive(Clone, Default)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The secret. Never for a log, a record or an answer.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

impl SealedSecret {
    /// As it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What somebody says is a sealed secret of ours; opening shows.
    pub(crate) fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// A sealed secret, as records hold it: base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SealedSecret(String);

/// The data key of an organization, as its record holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredDataKey {
    master: String,
    wrapped: String,
}

/// Unwrapped data keys of the last few minutes.
#[derive(Default)]
pub(crate) struct DataKeys(Mutex<HashMap<OrganizationId, CachedKey>>);

struct CachedKey {
    key: SecretKey,
    stored: StoredDataKey,
    since: Timestamp,
}

impl DataKeys {
    /// The key, if it was unwrapped lately and is still the one that is stored. Those that are too old are dropped.
    fn find(&self, organization: OrganizationId, stored: &StoredDataKey, now: Timestamp) -> Option<SecretKey> {
        let mut cache = self.0.lock().ok()?;
        cache.retain(|_, cached| (0.0..MAX_CACHE_SECONDS as f64).contains(&now.seconds_since(cached.since)));
        cache.get(&organization).filter(|cached| cached.stored == *stored).map(|cached| cached.key.clone())
    }

    /// Wipes the key of an organization that is gone.
    pub(crate) fn forget(&self, organization: OrganizationId) {
        if let Ok(mut cache) = self.0.lock() {
            cache.remove(&organization);
        }
    }

    fn keep(&self, organization: OrganizationId, stored: StoredDataKey, key: SecretKey, since: Timestamp) {
        if let Ok(mut cache) = self.0.lock() {
            cache.insert(organization, CachedKey { key, stored, since });
        }
    }
}

impl StoredDataKey {
    fn new(wrapped: WrappedKey) -> Self {
        Self { master: wrapped.master, wrapped: STANDARD.encode(wrapped.bytes) }
    }

    /// The master key that it is under.
    pub(crate) fn master(&self) -> &str {
        &self.master
    }

    fn wrapped(&self) -> Result<WrappedKey> {
        let bytes = STANDARD.decode(&self.wrapped).map_err(ControlError::internal)?;
        Ok(WrappedKey { master: self.master.clone(), bytes })
    }
}

/// What an organization's data key is bound to.
fn key_context(organization: OrganizationId) -> EncryptionContext {
    [("organization", organization.to_string()), ("use", "secrets".to_owned())]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// What a secret is bound to: whose it is, which record holds it, and what it is for there.
fn secret_context(organization: OrganizationId, record: &str, usage: &str) -> BTreeMap<String, String> {
    [("organization", organization.to_string()), ("record", record.to_owned()), ("use", usage.to_owned())]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// Seals and opens the secrets of one organization.
pub(crate) struct SecretBox {
    organization: OrganizationId,
    key: SecretKey,
}

impl SecretBox {
    /// Seals a secret of `record` for one use.
    pub(crate) fn seal(&self, control: &Control, record: &str, usage: &str, secret: &str) -> SealedSecret {
        let context = secret_context(self.organization, record, usage);
        let random = control.ports().random.as_ref();
        SealedSecret(STANDARD.encode(secret_box::seal(&self.key, PURPOSE, &context, random, secret.as_bytes())))
    }

    /// As [`seal`](Self::seal), of bytes that are kept as bytes.
    pub(crate) fn seal_bytes(&self, control: &Control, record: &str, usage: &str, bytes: &[u8]) -> Vec<u8> {
        let context = secret_context(self.organization, record, usage);
        secret_box::seal(&self.key, PURPOSE, &context, control.ports().random.as_ref(), bytes)
    }

    /// Opens bytes that were sealed for the same record and use.
    pub(crate) fn open_bytes(&self, record: &str, usage: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let context = secret_context(self.organization, record, usage);
        secret_box::open_up_to(MAX_SEALED_BYTES, &self.key, PURPOSE, &context, sealed).map_err(ControlError::internal)
    }

    /// Opens a secret that was sealed for the same record and use.
    pub(crate) fn open(&self, record: &str, usage: &str, sealed: &SealedSecret) -> Result<Zeroizing<String>> {
        let context = secret_context(self.organization, record, usage);
        let bytes = STANDARD.decode(&sealed.0).map_err(ControlError::internal)?;
        let opened = secret_box::open(&self.key, PURPOSE, &context, &bytes).map_err(ControlError::internal)?;
        match std::str::from_utf8(&opened) {
            Ok(text) => Ok(Zeroizing::new(text.to_owned())),
            // the cause would hold the bytes
            Err(_) => Err(ControlError::internal("a secret is not text")),
        }
    }
}

impl Control {
    /// A new data key for an organization.
    pub(crate) async fn new_data_key(
        &self,
        organization: OrganizationId,
        master: Option<&str>,
    ) -> Result<StoredDataKey> {
        let (_, wrapped) = self.ports().keys.generate(master, &key_context(organization)).await?;
        Ok(StoredDataKey::new(wrapped))
    }

    /// The same data key under another master key, or a newer version of its own.
    pub(crate) async fn rewrap_data_key(
        &self,
        organization: OrganizationId,
        stored: &StoredDataKey,
        master: Option<&str>,
    ) -> Result<StoredDataKey> {
        let rewrapped = self.ports().keys.rewrap(&stored.wrapped()?, master, &key_context(organization)).await?;
        Ok(StoredDataKey::new(rewrapped))
    }

    /// Opens an organization's data key; asks the key service at most once in five minutes.
    pub(crate) async fn secret_box(&self, organization: OrganizationId, stored: &StoredDataKey) -> Result<SecretBox> {
        let now = self.now();
        if let Some(key) = self.data_keys().find(organization, stored, now) {
            return Ok(SecretBox { organization, key });
        }
        let bytes = self.ports().keys.unwrap(&stored.wrapped()?, &key_context(organization)).await?;
        let key = SecretKey::from_bytes(*bytes.expose());
        self.data_keys().keep(organization, stored.clone(), key.clone(), now);
        Ok(SecretBox { organization, key })
    }
}
