//! How bytes are sealed: with a key, or in the clear with a hash against accidents.

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use firebackup_model::id::KeyId;
use firebackup_model::manifest::Cipher;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{FormatError, FormatErrorKind};
use crate::secret::SecretKey;

/// Bytes of a tag.
pub(crate) const TAG: usize = 16;
/// The nonce of what is sealed once under its key.
pub(crate) const NONCE_ZERO: [u8; 12] = [0; 12];

const PLAIN_LABEL: &[u8] = b"firebackup/v1/plain";

/// What to seal with, or to open with.
#[derive(Debug, Clone)]
pub enum Sealing {
    /// No key: written in the clear. A reader that holds a key and passes this accepts what is not encrypted.
    Plain,
    /// AES-256-GCM under keys derived from this one.
    Key {
        /// Names the key in headers.
        id: KeyId,
        /// The key.
        key: SecretKey,
    },
}

impl Sealing {
    /// The cipher that goes into headers.
    #[must_use]
    pub const fn cipher(&self) -> Cipher {
        match self {
            Self::Plain => Cipher::None,
            Self::Key { .. } => Cipher::Aes256Gcm,
        }
    }

    /// The key's id, where there is one.
    #[must_use]
    pub const fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::Plain => None,
            Self::Key { id, .. } => Some(*id),
        }
    }

    /// Derives what belongs to `label`: `HKDF(key, salt, label ‖ 0x00 ‖ context)`. Nothing without a key.
    pub(crate) fn derive(&self, salt: &[u8; 32], label: &str, context: &[&[u8]]) -> Option<Zeroizing<[u8; 32]>> {
        match self {
            Self::Plain => None,
            Self::Key { key, .. } => Some(derive(key, Some(salt), label, context)),
        }
    }

    /// Derives the cipher that belongs to `label`.
    pub(crate) fn aead(&self, salt: &[u8; 32], label: &str, context: &[&[u8]]) -> Aead {
        self.derive(salt, label, context).map_or(Aead::Plain, |key| Aead::new(&key))
    }

    /// Compares what a header says of cipher, key and commitment with what this key would have written.
    pub(crate) fn check_header(
        &self,
        key: Option<KeyId>,
        commitment: &[u8; 32],
        expected: Option<Zeroizing<[u8; 32]>>,
        offset: u64,
    ) -> Result<(), FormatError> {
        let wrong = |reason: String| Err(FormatError::new(FormatErrorKind::WrongKey, offset, reason));
        match (key, self.key_id(), expected) {
            (None, None, _) => Ok(()),
            (None, Some(_), _) => {
                let reason = "a key was given, so what is in the clear is refused unless it is allowed on purpose";
                Err(FormatError::new(FormatErrorKind::Unencrypted, offset, reason))
            }
            (Some(key), None, _) => wrong(format!("it takes key {key}, and no key was given")),
            (Some(key), Some(given), _) if key != given => wrong(format!("it takes key {key}, not {given}")),
            (_, _, Some(expected)) if same(&expected, commitment) => Ok(()),
            (Some(key), ..) => wrong(format!("key {key} is not the one it was sealed with, or not in this repository")),
        }
    }
}

/// `HKDF-SHA-256(key, salt, label ‖ 0x00 ‖ context)`, 32 bytes; without a context only the label.
pub(crate) fn derive(key: &SecretKey, salt: Option<&[u8]>, label: &str, context: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut info = vec![label.as_bytes()];
    if !context.is_empty() {
        info.push(&[0]);
        info.extend_from_slice(context);
    }
    let mut derived = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(salt, key.expose())
        .expand_multi_info(&info, &mut *derived)
        .expect("HKDF-SHA-256 gives up to 8,160 bytes, and 32 are asked for");
    derived
}

/// Compares in constant time.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The seal did not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// A cipher ready for use.
#[derive(Clone)]
pub(crate) enum Aead {
    Plain,
    Gcm(Box<Aes256Gcm>),
}

impl fmt::Debug for Aead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aead(..)")
    }
}

impl Aead {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self::Gcm(Box::new(Aes256Gcm::new(key.into())))
    }

    /// Seals what stands in `buffer` from `from` on and appends the tag.
    pub(crate) fn seal(&self, nonce: [u8; 12], data: &[u8], buffer: &mut Vec<u8>, from: usize) {
        let tag = match self {
            Self::Plain => plain_tag(nonce, data, &buffer[from..]),
            Self::Gcm(cipher) => cipher
                .encrypt_inout_detached(&nonce.into(), data, (&mut buffer[from..]).into())
                .expect("AES-GCM takes 64 GiB a message, and every limit of the format is far below")
                .into(),
        };
        buffer.extend_from_slice(&tag);
    }

    /// Opens what stands in `buffer`, the tag at its end, and takes the tag off. What is left after a failure is of no use.
    pub(crate) fn open(&self, nonce: [u8; 12], data: &[u8], buffer: &mut Vec<u8>) -> Result<(), Broken> {
        let length = buffer.len().checked_sub(TAG).ok_or(Broken)?;
        let mut tag = [0; TAG];
        tag.copy_from_slice(&buffer[length..]);
        buffer.truncate(length);
        match self {
            Self::Plain if plain_tag(nonce, data, buffer) == tag => Ok(()),
            Self::Plain => Err(Broken),
            Self::Gcm(cipher) => cipher
                .decrypt_inout_detached(&nonce.into(), data, buffer.as_mut_slice().into(), &tag.into())
                .map_err(|_| Broken),
        }
    }
}

fn plain_tag(nonce: [u8; 12], data: &[u8], bytes: &[u8]) -> [u8; TAG] {
    let mut hash = Sha256::new();
    hash.update(PLAIN_LABEL);
    hash.update(nonce);
    hash.update((data.len() as u32).to_le_bytes());
    hash.update(data);
    hash.update(bytes);
    let mut tag = [0; TAG];
    tag.copy_from_slice(&hash.finalize()[..TAG]);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn aeads() -> [Aead; 2] {
        [Aead::Plain, Aead::new(&[7; 32])]
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_nothing_else(bytes: Vec<u8>, data: Vec<u8>, flip in any::<proptest::sample::Index>()) {
            for aead in aeads() {
                let mut sealed = b"front".to_vec();
                sealed.extend_from_slice(&bytes);
                aead.seal(NONCE_ZERO, &data, &mut sealed, 5);
                prop_assert_eq!(&sealed[..5], b"front");
                let sealed = sealed[5..].to_vec();
                let mut opened = sealed.clone();
                prop_assert_eq!(aead.open(NONCE_ZERO, &data, &mut opened), Ok(()));
                prop_assert_eq!(&opened, &bytes);
                let mut flipped = sealed.clone();
                let bit = flip.index(sealed.len() * 8);
                flipped[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(aead.open(NONCE_ZERO, &data, &mut flipped), Err(Broken));
                let other = [&data[..], b"x"].concat();
                prop_assert_eq!(aead.open(NONCE_ZERO, &other, &mut sealed.clone()), Err(Broken));
                prop_assert_eq!(aead.open([1; 12], &data, &mut sealed.clone()), Err(Broken));
            }
        }
    }

    #[test]
    fn less_than_a_tag_is_refused() {
        for aead in aeads() {
            assert_eq!(aead.open(NONCE_ZERO, &[], &mut vec![0; 15]), Err(Broken));
        }
    }

    #[test]
    fn labels_salts_and_contexts_give_different_keys() {
        let key = SecretKey::from_bytes([1; 32]);
        let derived = [
            derive(&key, Some(&[0; 32]), "a", &[b"x"]),
            derive(&key, Some(&[1; 32]), "a", &[b"x"]),
            derive(&key, Some(&[0; 32]), "b", &[b"x"]),
            derive(&key, Some(&[0; 32]), "a", &[b"y"]),
            derive(&SecretKey::from_bytes([2; 32]), Some(&[0; 32]), "a", &[b"x"]),
        ];
        for (index, one) in derived.iter().enumerate() {
            assert!(derived[index + 1..].iter().all(|other| **other != **one));
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let sealing = Sealing::Key { id: KeyId([1; 16]), key: SecretKey::from_bytes([0xab; 32]) };
        let text = format!("{sealing:?} {:?}", aeads());
        assert!(!text.contains("171") && !text.contains("ab, ab"), "{text}");
    }
}
