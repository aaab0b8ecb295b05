//! Wraps: encrypted copies of keys, each under a key of somebody who may open it.

mod derivation;
mod recovery;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_model::Timestamp;
use firebackup_model::id::{KeyId, RepositoryId, WrapId};
use firebackup_model::manifest::FORMAT_VERSION;
use firebackup_model::port::Random;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

pub use derivation::PassphraseParams;
pub use recovery::{RecoveryKeyError, RecoveryKeyPair, RecoveryPrivateKey, RecoveryPublicKey};

use crate::sealing::{Aead, NONCE_ZERO, derive};
use crate::secret::SecretKey;

const WRAP_LABEL: &[u8] = b"firebackup/v1/wrap\0";
const LOCAL_LABEL: &str = "firebackup/v1/wrap/local";
const KEY_LABEL: &str = "firebackup/v1/wrap/key";
const FINGERPRINT_LABEL: &str = "firebackup/v1/fingerprint";

/// Whose key a wrap takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WrapKind {
    /// A master key on this machine.
    Local,
    /// A passphrase.
    Passphrase,
    /// The private half of an offline recovery key.
    Recovery,
    /// Another key of the repository.
    Key,
    /// AWS KMS.
    Kms,
}

impl WrapKind {
    /// The kind's name in a wrap file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Passphrase => "passphrase",
            Self::Recovery => "recovery",
            Self::Key => "key",
            Self::Kms => "kms",
        }
    }
}

impl fmt::Display for WrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a wrap is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrapIds {
    /// The repository.
    pub repository: RepositoryId,
    /// The key that is wrapped.
    pub key: KeyId,
    /// The wrap itself.
    pub wrap: WrapId,
    /// When it was made. Said, not proven: nothing rests on it.
    pub created: Timestamp,
}

/// One encrypted copy of a key: the JSON of `keys/<key>/<wrap>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrap {
    format: u16,
    repository: RepositoryId,
    key: KeyId,
    wrap: WrapId,
    created: Timestamp,
    #[serde(flatten)]
    holder: Holder,
    wrapped: Blob,
}

/// Whose key it takes, and what is needed besides it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "params", rename_all = "snake_case")]
enum Holder {
    Local { salt: Blob, fingerprint: String },
    Passphrase { salt: Blob, memory_kib: u32, iterations: u32, lanes: u32 },
    Recovery { recipient: RecoveryPublicKey, encapsulated: Blob },
    Key { key: KeyId, salt: Blob },
    Kms { arn: String, context: BTreeMap<String, String> },
}

/// What AWS KMS is asked with to open a wrap: the key's ARN, the encryption context, the wrapped bytes.
pub type KmsRequest<'w> = (&'w str, &'w BTreeMap<String, String>, &'w [u8]);

/// Bytes that stand as base64 in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Why a key could not be wrapped or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Nothing at hand is of the wrap's kind.
    #[error("no secret was given that opens this kind of wrap")]
    NoSecret,
    /// The wrap is of another kind than the secret.
    #[error("the wrap is of kind {found}, not {expected}")]
    OtherKind {
        /// The kind that the secret opens.
        expected: WrapKind,
        /// The wrap's kind.
        found: WrapKind,
    },
    /// The master key is another one.
    #[error("the wrap takes the master key with fingerprint {expected}, and the one given has {given}")]
    OtherMasterKey {
        /// The fingerprint that the wrap names.
        expected: String,
        /// The fingerprint of the key that was given.
        given: String,
    },
    /// The recovery key is another one.
    #[error("the wrap takes the private half of recovery key {expected}, and the one given belongs to {given}")]
    OtherRecoveryKey {
        /// The public key that the wrap names.
        expected: RecoveryPublicKey,
        /// The public half of the key that was given.
        given: RecoveryPublicKey,
    },
    /// The wrap is under another key of the repository.
    #[error("the wrap takes key {expected}, not {given}")]
    OtherKey {
        /// The key that the wrap names.
        expected: KeyId,
        /// The key that was given.
        given: KeyId,
    },
    /// One of two, and they cannot be told apart.
    #[error("the passphrase is wrong, or the wrap is damaged")]
    WrongPassphrase,
    /// The public half of a recovery key is no point that anything can be encrypted to.
    #[error("the recovery public key is not usable")]
    UnusableRecoveryKey,
    /// The right key does not open it.
    #[error("the wrap is damaged")]
    Damaged,
    /// What a key is derived with is beyond what is accepted.
    #[error("{what} of {value} is out of bounds: expected {low} to {high}")]
    OutOfBounds {
        /// Which parameter.
        what: &'static str,
        /// What it was.
        value: u64,
        /// The least that is accepted.
        low: u64,
        /// The most that is accepted.
        high: u64,
    },
    /// The wrap is of a newer version.
    #[error("the wrap has format {0}: use a newer firebackup")]
    Unsupported(u16),
}

impl KeyError {
    /// Whether another secret may open it, and nothing is wrong with this one or the wrap.
    #[must_use]
    pub const fn is_no_secret(&self) -> bool {
        matches!(self, Self::NoSecret | Self::OtherKind { .. })
    }

    /// Whether nothing is wrong with the wrap, but it is for another holder than those whose secrets were given.
    #[must_use]
    pub const fn is_for_others(&self) -> bool {
        self.is_no_secret() || matches!(self, Self::OtherRecoveryKey { .. } | Self::OtherMasterKey { .. })
    }
}

/// Says which master key it is and reveals nothing of it: 16 hexadecimal digits.
#[must_use]
pub fn fingerprint(master: &SecretKey) -> String {
    hex::encode(&derive(master, None, FINGERPRINT_LABEL, &[])[..8])
}

impl Wrap {
    /// Wraps `secret` for the holder of a master key.
    ///
    /// # Errors
    /// None so far.
    pub fn wrap_local(
        master: &SecretKey,
        ids: &WrapIds,
        secret: &SecretKey,
        random: &dyn Random,
    ) -> Result<Self, KeyError> {
        let salt = random_bytes::<32>(random);
        let key = derive(master, Some(&salt), LOCAL_LABEL, &[]);
        let holder = Holder::Local { salt: Blob(salt.to_vec()), fingerprint: fingerprint(master) };
        Ok(Self::seal(ids, holder, &key, secret))
    }

    /// Wraps `secret` for whoever knows the passphrase.
    ///
    /// # Errors
    /// When the parameters are out of bounds.
    pub fn wrap_passphrase(
        passphrase: &str,
        params: &PassphraseParams,
        ids: &WrapIds,
        secret: &SecretKey,
        random: &dyn Random,
    ) -> Result<Self, KeyError> {
        let salt = random_bytes::<32>(random);
        let key = derivation::stretch(passphrase, params, &salt)?;
        let PassphraseParams { memory_kib, iterations, lanes } = *params;
        let holder = Holder::Passphrase { salt: Blob(salt.to_vec()), memory_kib, iterations, lanes };
        Ok(Self::seal(ids, holder, &key, secret))
    }

    /// Wraps `secret` for the holder of the private half of a recovery key.
    ///
    /// # Errors
    /// When the public key is not usable.
    pub fn wrap_recovery(
        public: &RecoveryPublicKey,
        ids: &WrapIds,
        secret: &SecretKey,
        random: &dyn Random,
    ) -> Result<Self, KeyError> {
        let data = binding(ids, WrapKind::Recovery);
        let (encapsulated, wrapped) = recovery::seal(public, secret.expose(), &data, random)?;
        let holder = Holder::Recovery { recipient: public.clone(), encapsulated: Blob(encapsulated) };
        Ok(Self::assemble(ids, holder, wrapped))
    }

    /// Wraps `secret` under another key of the repository.
    ///
    /// # Errors
    /// None so far.
    pub fn wrap_key(
        parent: &SecretKey,
        parent_id: KeyId,
        ids: &WrapIds,
        secret: &SecretKey,
        random: &dyn Random,
    ) -> Result<Self, KeyError> {
        let salt = random_bytes::<32>(random);
        let key = derive(parent, Some(&salt), KEY_LABEL, &[]);
        Ok(Self::seal(ids, Holder::Key { key: parent_id, salt: Blob(salt.to_vec()) }, &key, secret))
    }

    /// What AWS KMS made of a key when it was given `context`, which must name at least what [`kms_context`] says.
    #[must_use]
    pub const fn from_kms(ids: &WrapIds, arn: String, context: BTreeMap<String, String>, wrapped: Vec<u8>) -> Self {
        Self::assemble(ids, Holder::Kms { arn, context }, wrapped)
    }

    /// What to ask AWS KMS for to open the wrap: the key's ARN, the context, the wrapped bytes.
    ///
    /// # Errors
    /// When it is of another kind, or its context is not that of this very wrap.
    pub fn kms(&self) -> Result<KmsRequest<'_>, KeyError> {
        let Holder::Kms { arn, context } = &self.holder else {
            return Err(self.other_kind(WrapKind::Kms));
        };
        self.check_format()?;
        let is_ours = kms_context(&self.ids()).iter().all(|(name, value)| context.get(name) == Some(value));
        if is_ours { Ok((arn, context, &self.wrapped.0)) } else { Err(KeyError::Damaged) }
    }

    /// Opens a wrap of [`Self::wrap_local`].
    ///
    /// # Errors
    /// When it is of another kind, under another master key, or damaged.
    pub fn open_local(&self, master: &SecretKey) -> Result<SecretKey, KeyError> {
        let Holder::Local { salt, fingerprint: expected } = &self.holder else {
            return Err(self.other_kind(WrapKind::Local));
        };
        let given = fingerprint(master);
        if *expected != given {
            return Err(KeyError::OtherMasterKey { expected: shown(expected), given });
        }
        self.open(&derive(master, Some(&salt.0), LOCAL_LABEL, &[]))
    }

    /// Opens a wrap of [`Self::wrap_passphrase`]. The parameters are checked before their memory is taken.
    ///
    /// # Errors
    /// When it is of another kind, the passphrase is wrong, or the parameters are out of bounds.
    pub fn open_passphrase(&self, passphrase: &str) -> Result<SecretKey, KeyError> {
        let Holder::Passphrase { salt, memory_kib, iterations, lanes } = &self.holder else {
            return Err(self.other_kind(WrapKind::Passphrase));
        };
        self.check_format()?;
        let params = PassphraseParams { memory_kib: *memory_kib, iterations: *iterations, lanes: *lanes };
        let key = derivation::stretch(passphrase, &params, &salt.0)?;
        self.open(&key).map_err(|error| if error == KeyError::Damaged { KeyError::WrongPassphrase } else { error })
    }

    /// Opens a wrap of [`Self::wrap_recovery`].
    ///
    /// # Errors
    /// When it is of another kind, for another recovery key, or damaged.
    pub fn open_recovery(&self, private: &RecoveryPrivateKey) -> Result<SecretKey, KeyError> {
        let Holder::Recovery { recipient, encapsulated } = &self.holder else {
            return Err(self.other_kind(WrapKind::Recovery));
        };
        self.check_format()?;
        let given = private.public();
        if *recipient != given {
            return Err(KeyError::OtherRecoveryKey { expected: recipient.clone(), given });
        }
        let data = binding(&self.ids(), WrapKind::Recovery);
        let opened = Zeroizing::new(recovery::open(private, &encapsulated.0, &self.wrapped.0, &data)?);
        secret_key(&opened)
    }

    /// Opens a wrap of [`Self::wrap_key`].
    ///
    /// # Errors
    /// When it is of another kind, under another key, or damaged.
    pub fn open_key(&self, parent: &SecretKey, parent_id: KeyId) -> Result<SecretKey, KeyError> {
        let Holder::Key { key, salt } = &self.holder else {
            return Err(self.other_kind(WrapKind::Key));
        };
        if *key != parent_id {
            return Err(KeyError::OtherKey { expected: *key, given: parent_id });
        }
        self.open(&derive(parent, Some(&salt.0), KEY_LABEL, &[]))
    }

    /// Whose key it takes.
    #[must_use]
    pub const fn kind(&self) -> WrapKind {
        match &self.holder {
            Holder::Local { .. } => WrapKind::Local,
            Holder::Passphrase { .. } => WrapKind::Passphrase,
            Holder::Recovery { .. } => WrapKind::Recovery,
            Holder::Key { .. } => WrapKind::Key,
            Holder::Kms { .. } => WrapKind::Kms,
        }
    }

    /// What it says it is bound to.
    #[must_use]
    pub const fn ids(&self) -> WrapIds {
        WrapIds { repository: self.repository, key: self.key, wrap: self.wrap, created: self.created }
    }

    /// Which master key, recovery key or key of the repository it takes; nothing for a passphrase.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        match &self.holder {
            Holder::Local { fingerprint, .. } => Some(shown(fingerprint)),
            Holder::Recovery { recipient, .. } => Some(recipient.to_string()),
            Holder::Key { key, .. } => Some(key.to_string()),
            Holder::Kms { arn, .. } => Some(arn.clone()),
            Holder::Passphrase { .. } => None,
        }
    }

    fn seal(ids: &WrapIds, holder: Holder, key: &[u8; 32], secret: &SecretKey) -> Self {
        let mut wrap = Self::assemble(ids, holder, Vec::new());
        // room for the tag, so that the secret is sealed in place and no copy of it is left behind
        let mut wrapped = Vec::with_capacity(64);
        wrapped.extend_from_slice(secret.expose());
        Aead::new(key).seal(NONCE_ZERO, &binding(ids, wrap.kind()), &mut wrapped, 0);
        wrap.wrapped = Blob(wrapped);
        wrap
    }

    const fn assemble(ids: &WrapIds, holder: Holder, wrapped: Vec<u8>) -> Self {
        let WrapIds { repository, key, wrap, created } = *ids;
        Self { format: FORMAT_VERSION, repository, key, wrap, created, holder, wrapped: Blob(wrapped) }
    }

    fn open(&self, key: &[u8; 32]) -> Result<SecretKey, KeyError> {
        self.check_format()?;
        let mut opened = Zeroizing::new(self.wrapped.0.clone());
        let data = binding(&self.ids(), self.kind());
        Aead::new(key).open(NONCE_ZERO, &data, &mut opened).map_err(|_| KeyError::Damaged)?;
        secret_key(&opened)
    }

    const fn check_format(&self) -> Result<(), KeyError> {
        if self.format == FORMAT_VERSION { Ok(()) } else { Err(KeyError::Unsupported(self.format)) }
    }

    const fn other_kind(&self, expected: WrapKind) -> KeyError {
        KeyError::OtherKind { expected, found: self.kind() }
    }
}

/// A fingerprint from a file is hostile text: only what can be one is shown.
fn shown(fingerprint: &str) -> String {
    fingerprint.chars().filter(char::is_ascii_hexdigit).take(16).collect()
}

fn secret_key(opened: &[u8]) -> Result<SecretKey, KeyError> {
    let bytes: &[u8; 32] = opened.try_into().map_err(|_| KeyError::Damaged)?;
    Ok(SecretKey::from_bytes(*bytes))
}

/// What the encryption context of a wrap by AWS KMS names at least: the wrap itself, so that no other can stand for it.
#[must_use]
pub fn kms_context(ids: &WrapIds) -> BTreeMap<String, String> {
    [("repository", ids.repository.to_string()), ("key", ids.key.to_string()), ("wrap", ids.wrap.to_string())]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// The additional data of a wrap.
fn binding(ids: &WrapIds, kind: WrapKind) -> Vec<u8> {
    [WRAP_LABEL, &ids.repository.0, &ids.key.0, &ids.wrap.0, kind.name().as_bytes()].concat()
}

fn random_bytes<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}
