//! Who wrote a sealed object.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use firebackup_model::id::RepositoryId;
use sha2::{Digest, Sha256};

use crate::sealing::derive;
use crate::secret::SecretKey;

const WRITER_LABEL: &str = "firebackup/v1/writer";
const SIGNATURE_LABEL: &[u8] = b"firebackup/v1/signature\0";

/// Bytes of a signature.
pub(crate) const SIGNATURE: usize = 64;

/// The Ed25519 key that signs what a writer puts. Wiped when dropped, never shown.
#[derive(Clone)]
pub struct WriterKey(SigningKey);

/// The public half of a writer key, by which its objects are recognised. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriterPublicKey([u8; 32]);

/// The text is not the public half of a writer key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a writer key: expected the 64 hexadecimal digits of a public key")]
pub struct WriterKeyError {
    text: String,
}

impl WriterKey {
    /// The writer key of a machine that signs with a key file of its own.
    #[must_use]
    pub fn from_seed(seed: &SecretKey) -> Self {
        Self(SigningKey::from_bytes(seed.expose()))
    }

    /// The writer key of everybody who holds the repository key.
    #[must_use]
    pub fn derive(repository_key: &SecretKey, repository: RepositoryId) -> Self {
        Self(SigningKey::from_bytes(&derive(repository_key, Some(&repository.0), WRITER_LABEL, &[])))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> WriterPublicKey {
        WriterPublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a sealed payload and what it is bound to.
    pub(crate) fn sign(&self, data: &[u8], sealed: &[u8]) -> [u8; SIGNATURE] {
        self.0.sign(&message(data, sealed, &self.public())).to_bytes()
    }
}

impl WriterPublicKey {
    /// Takes the bytes of a public key; whether they are one shows when a signature is checked.
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature of [`WriterKey::sign`].
    pub(crate) fn verify(
        &self,
        data: &[u8],
        sealed: &[u8],
        signature: &[u8; SIGNATURE],
    ) -> Result<(), ed25519_dalek::SignatureError> {
        let key = VerifyingKey::from_bytes(&self.0)?;
        // strict: a key of small order would accept signatures that nobody made
        key.verify_strict(&message(data, sealed, self), &Signature::from_bytes(signature))
    }
}

fn message(data: &[u8], sealed: &[u8], signer: &WriterPublicKey) -> Vec<u8> {
    let hash = Sha256::new().chain_update(data).chain_update(sealed).chain_update(signer.0).finalize();
    [SIGNATURE_LABEL, hash.as_slice()].concat()
}

impl fmt::Debug for WriterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriterKey({})", self.public())
    }
}

impl fmt::Display for WriterPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for WriterPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriterPublicKey({self})")
    }
}

impl FromStr for WriterPublicKey {
    type Err = WriterKeyError;

    fn from_str(text: &str) -> Result<Self, WriterKeyError> {
        let mut bytes = [0; 32];
        let decoded = hex::decode_to_slice(text.trim(), &mut bytes).is_ok();
        let usable = decoded && VerifyingKey::from_bytes(&bytes).is_ok_and(|key| !key.is_weak());
        if usable { Ok(Self(bytes)) } else { Err(WriterKeyError { text: text.to_owned() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_signature_holds_for_just_what_was_signed(seed: [u8; 32], data: Vec<u8>, sealed: Vec<u8>) {
            let writer = WriterKey::from_seed(&SecretKey::from_bytes(seed));
            let signature = writer.sign(&data, &sealed);
            let public: WriterPublicKey = writer.public().to_string().parse().unwrap();
            prop_assert!(public.verify(&data, &sealed, &signature).is_ok());
            let longer = [&sealed[..], b"x"].concat();
            prop_assert!(public.verify(&data, &longer, &signature).is_err());
            let other = WriterKey::from_seed(&SecretKey::from_bytes(seed.map(|byte| byte ^ 1)));
            prop_assert!(other.public().verify(&data, &sealed, &signature).is_err());
        }
    }

    #[test]
    fn the_writer_key_belongs_to_key_and_repository() {
        let (a, b) = (SecretKey::from_bytes([1; 32]), SecretKey::from_bytes([2; 32]));
        let (x, y) = (RepositoryId([1; 16]), RepositoryId([2; 16]));
        assert_eq!(WriterKey::derive(&a, x).public(), WriterKey::derive(&a, x).public());
        assert_ne!(WriterKey::derive(&a, x).public(), WriterKey::derive(&a, y).public());
        assert_ne!(WriterKey::derive(&a, x).public(), WriterKey::derive(&b, x).public());
    }

    #[test]
    fn weak_or_malformed_public_keys_are_refused() {
        for bad in ["", "00", &"00".repeat(32), &format!("01{}", "00".repeat(31)), &"zz".repeat(32)] {
            assert!(bad.parse::<WriterPublicKey>().is_err(), "{bad}");
        }
    }
}
