//! Small secrets at rest: credentials and the like, each under a key derived for it alone.
//!
//! | bytes | holds |
//! |---|---|
//! | 1 | version: 1 |
//! | 32 | random salt |
//! | n + 16 | the secret under AES-256-GCM, and its tag |
//!
//! The key is `HKDF-SHA-256(key, salt, "firebackup/v1/secret" ‖ 0x00 ‖ purpose)`. It is used for this one secret, so the
//! nonce is zero. The additional data are the version byte and the context: the number of its entries, then each name
//! and value in the order of names, every text behind its length, all numbers as 32 bits, low byte first.

use std::collections::BTreeMap;

use firebackup_model::port::Random;
use zeroize::Zeroizing;

use crate::error::{FormatError, FormatErrorKind};
use crate::sealing::{Aead, NONCE_ZERO, TAG, derive};
use crate::secret::SecretKey;

const LABEL: &str = "firebackup/v1/secret";
const VERSION: u8 = 1;
const SALT: usize = 32;
/// Where the sealed bytes begin.
const SEALED: usize = 1 + SALT;
/// The most bytes a secret may have.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Seals a secret for one purpose, bound to a context that must be given again to open it. Neither purpose nor context
/// is kept with it, and neither is a secret.
#[must_use]
pub fn seal(
    key: &SecretKey,
    purpose: &str,
    context: &BTreeMap<String, String>,
    random: &dyn Random,
    secret: &[u8],
) -> Vec<u8> {
    let mut salt = [0; SALT];
    random.fill(&mut salt);
    // filled once and never grown: growing would leave a copy of the secret behind
    let mut sealed = Vec::with_capacity(SEALED + secret.len() + TAG);
    sealed.push(VERSION);
    sealed.extend_from_slice(&salt);
    sealed.extend_from_slice(secret);
    aead(key, &salt, purpose).seal(NONCE_ZERO, &additional_data(context), &mut sealed, SEALED);
    sealed
}

/// Opens a secret that was sealed with the same key, purpose and context. Wiped when dropped.
///
/// # Errors
/// - [`Unsupported`](FormatErrorKind::Unsupported): another version.
/// - [`Limit`](FormatErrorKind::Limit): more bytes than a secret may have.
/// - [`Damaged`](FormatErrorKind::Damaged): anything else. What differs, bytes, key, purpose or context, cannot be told.
pub fn open(
    key: &SecretKey,
    purpose: &str,
    context: &BTreeMap<String, String>,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, FormatError> {
    open_up_to(MAX_SECRET_BYTES, key, purpose, context, sealed)
}

/// As [`open`], of what may have `most` bytes.
///
/// # Errors
/// As [`open`].
pub fn open_up_to(
    most: usize,
    key: &SecretKey,
    purpose: &str,
    context: &BTreeMap<String, String>,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, FormatError> {
    if sealed.len() > SEALED.saturating_add(most).saturating_add(TAG) {
        return Err(FormatError::limit(0, format!("a secret of {} bytes", sealed.len())));
    }
    let Some((&version, rest)) = sealed.split_first() else { return Err(FormatError::damaged(0, "cut short")) };
    if version != VERSION {
        let reason = format!("a secret of version {version}; this build knows {VERSION}");
        return Err(FormatError::new(FormatErrorKind::Unsupported, 0, reason));
    }
    let Some((salt, sealed)) = rest.split_first_chunk::<SALT>() else {
        return Err(FormatError::damaged(1, "cut short"));
    };
    let mut opened = Zeroizing::new(sealed.to_vec());
    let broken = |_| FormatError::damaged(SEALED as u64, "the seal is broken, or it is of another key or context");
    aead(key, salt, purpose).open(NONCE_ZERO, &additional_data(context), &mut opened).map_err(broken)?;
    Ok(opened)
}

fn aead(key: &SecretKey, salt: &[u8; SALT], purpose: &str) -> Aead {
    Aead::new(&derive(key, Some(salt), LABEL, &[purpose.as_bytes()]))
}

fn additional_data(context: &BTreeMap<String, String>) -> Vec<u8> {
    let mut data = vec![VERSION];
    data.extend_from_slice(&(context.len() as u32).to_le_bytes());
    for text in context.iter().flat_map(|(name, value)| [name, value]) {
        data.extend_from_slice(&(text.len() as u32).to_le_bytes());
        data.extend_from_slice(text.as_bytes());
    }
    data
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Counts up, so that what is sealed twice differs.
    struct Counting(std::sync::atomic::AtomicU8);

    impl Random for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill_with(|| self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    fn random() -> Counting {
        Counting(0.into())
    }

    fn key() -> SecretKey {
        SecretKey::from_bytes([7; 32])
    }

    fn context(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_nothing_else(
            secret: Vec<u8>,
            context: BTreeMap<String, String>,
            flip in any::<proptest::sample::Index>(),
            cut in any::<proptest::sample::Index>(),
        ) {
            let sealed = seal(&key(), "test", &context, &random(), &secret);
            prop_assert_eq!(sealed.len(), SEALED + secret.len() + TAG);
            let opened = open(&key(), "test", &context, &sealed).unwrap();
            prop_assert_eq!(&*opened, &secret);
            let mut flipped = sealed.clone();
            let bit = flip.index(sealed.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&key(), "test", &context, &flipped).is_err());
            prop_assert!(open(&key(), "test", &context, &sealed[..cut.index(sealed.len())]).is_err());
            let mut longer = sealed;
            longer.push(0);
            prop_assert!(open(&key(), "test", &context, &longer).is_err());
        }

        #[test]
        fn contexts_that_differ_have_different_data(
            one in proptest::collection::btree_map("[ab]{0,2}", "[ab]{0,2}", 0..4),
            other in proptest::collection::btree_map("[ab]{0,2}", "[ab]{0,2}", 0..4),
        ) {
            prop_assert_eq!(one == other, additional_data(&one) == additional_data(&other));
        }
    }

    #[test]
    fn another_key_purpose_or_context_is_refused() {
        let bound = context(&[("organization", "a"), ("use", "b")]);
        let sealed = seal(&key(), "test", &bound, &random(), b"secret");
        assert!(open(&SecretKey::from_bytes([8; 32]), "test", &bound, &sealed).is_err());
        assert!(open(&key(), "tes", &bound, &sealed).is_err());
        for other in [
            context(&[]),
            context(&[("organization", "a")]),
            context(&[("organization", "b"), ("use", "a")]),
            context(&[("organization", "au"), ("se", "b")]),
            context(&[("organization", "a"), ("use", "b"), ("", "")]),
        ] {
            assert!(open(&key(), "test", &other, &sealed).is_err(), "{other:?}");
        }
    }

    #[test]
    fn sealing_twice_gives_different_bytes() {
        let (random, bound) = (random(), context(&[("use", "a")]));
        let one = seal(&key(), "test", &bound, &random, b"secret");
        let two = seal(&key(), "test", &bound, &random, b"secret");
        assert_ne!(one[SEALED..], two[SEALED..]);
        assert!(!one.windows(6).any(|window| window == b"secret"));
    }

    /// What was sealed by an earlier build must open for ever.
    #[test]
    fn the_layout_stays() {
        let sealed = seal(&key(), "test", &context(&[("use", "a"), ("organization", "b")]), &random(), b"secret");
        assert_eq!(hex::encode(&sealed[..SEALED]), format!("01{}", hex::encode((0..32).collect::<Vec<u8>>())));
        assert_eq!(hex::encode(&sealed[SEALED..]), GOLDEN);
        let data = additional_data(&context(&[("use", "a"), ("or", "b")]));
        assert_eq!(data, b"\x01\x02\0\0\0\x02\0\0\0or\x01\0\0\0b\x03\0\0\0use\x01\0\0\0a");
    }

    const GOLDEN: &str = "a8686fd7aeed3d350bc97580d4945dc73d20b9abfd07";

    #[test]
    fn versions_and_lengths_beyond_this_build_are_told() {
        let bound = context(&[]);
        let mut sealed = seal(&key(), "test", &bound, &random(), b"secret");
        sealed[0] = 2;
        assert_eq!(open(&key(), "test", &bound, &sealed).unwrap_err().kind(), FormatErrorKind::Unsupported);
        let long = vec![VERSION; SEALED + MAX_SECRET_BYTES + TAG + 1];
        assert_eq!(open(&key(), "test", &bound, &long).unwrap_err().kind(), FormatErrorKind::Limit);
    }
}
