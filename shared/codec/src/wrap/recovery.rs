//! Offline recovery keys: backups can be written by a machine that cannot read them (HPKE, RFC 9180, base mode).

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_model::port::Random;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand_core::{TryCryptoRng, TryRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::KeyError;
use crate::secret::SecretKey;

const INFO: &[u8] = b"firebackup/v1/wrap/recovery";

type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// The public half of a recovery key: enough to write backups for its holder. Shown as base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryPublicKey(PublicKey);

/// The private half of a recovery key. Wiped when dropped, never shown.
#[derive(Clone)]
pub struct RecoveryPrivateKey {
    private: PrivateKey,
    public: RecoveryPublicKey,
}

/// Both halves of a recovery key.
#[derive(Debug, Clone)]
pub struct RecoveryKeyPair {
    /// Goes offline, and nowhere else.
    pub private: RecoveryPrivateKey,
    /// May be known to everybody.
    pub public: RecoveryPublicKey,
}

/// The text is not half a recovery key. Holds none of it: it may be the private one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a recovery key: expected 32 bytes in base64 (44 characters)")]
pub struct RecoveryKeyError;

/// Hands the random bytes of the port to ciphers.
struct Source<'a>(&'a dyn Random);

impl TryRng for Source<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(super::random_bytes(self.0)))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(super::random_bytes(self.0)))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

// The port's contract says so: a cryptographic generator outside tests.
impl TryCryptoRng for Source<'_> {}

impl RecoveryKeyPair {
    /// Makes a new one.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let (private, public) = X25519HkdfSha256::gen_keypair_with_rng(&mut Source(random));
        let public = RecoveryPublicKey(public);
        Self { private: RecoveryPrivateKey { private, public: public.clone() }, public }
    }
}

impl RecoveryPrivateKey {
    /// The public half.
    #[must_use]
    pub fn public(&self) -> RecoveryPublicKey {
        self.public.clone()
    }

    /// The key in base64, as it is kept offline; wiped when dropped.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(<[u8; 32]>::from(self.private.to_bytes()));
        SecretKey::from_bytes(*bytes).to_text()
    }
}

impl FromStr for RecoveryPrivateKey {
    type Err = RecoveryKeyError;

    /// Reads base64; blanks around it are ignored.
    fn from_str(text: &str) -> Result<Self, RecoveryKeyError> {
        let bytes: SecretKey = text.parse().map_err(|_| RecoveryKeyError)?;
        let private = PrivateKey::from_bytes(bytes.expose()).map_err(|_| RecoveryKeyError)?;
        let public = RecoveryPublicKey(X25519HkdfSha256::sk_to_pk(&private));
        Ok(Self { private, public })
    }
}

impl fmt::Debug for RecoveryPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecoveryPrivateKey(of {})", self.public)
    }
}

impl fmt::Display for RecoveryPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.to_bytes()))
    }
}

impl FromStr for RecoveryPublicKey {
    type Err = RecoveryKeyError;

    /// Reads base64; blanks around it are ignored.
    fn from_str(text: &str) -> Result<Self, RecoveryKeyError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| RecoveryKeyError)?;
        PublicKey::from_bytes(&bytes).map(Self).map_err(|_| RecoveryKeyError)
    }
}

impl Serialize for RecoveryPublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RecoveryPublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Encrypts to the public key: what is encapsulated, and the ciphertext.
pub(super) fn seal(
    public: &RecoveryPublicKey,
    secret: &[u8; 32],
    data: &[u8],
    random: &dyn Random,
) -> Result<(Vec<u8>, Vec<u8>), KeyError> {
    let (encapsulated, sealed) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public.0,
        INFO,
        secret,
        data,
        &mut Source(random),
    )
    .map_err(|_| KeyError::UnusableRecoveryKey)?;
    Ok((encapsulated.to_bytes().to_vec(), sealed))
}

/// Opposite of [`seal`].
pub(super) fn open(
    private: &RecoveryPrivateKey,
    encapsulated: &[u8],
    sealed: &[u8],
    data: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let encapsulated = EncappedKey::from_bytes(encapsulated).map_err(|_| KeyError::Damaged)?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private.private,
        &encapsulated,
        INFO,
        sealed,
        data,
    )
    .map_err(|_| KeyError::Damaged)
}
