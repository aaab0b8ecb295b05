//! Secrets that are handed out once and kept as a hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use firebackup_model::port::Random;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use ulid::Ulid;
use zeroize::Zeroizing;

/// Random bytes of a secret.
const SECRET: usize = 32;
/// Characters of a ULID.
const ULID: usize = 26;

/// What is kept of a secret: its SHA-256, in hexadecimal digits. A slow hash makes guessing expensive where people choose
/// what is hashed; these secrets have 256 random bits, which nobody guesses at any speed.
pub(crate) fn hash(secret: &[u8]) -> String {
    hex::encode(Sha256::digest(secret))
}

/// A new secret: 43 characters.
pub(crate) fn secret(random: &dyn Random) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; SECRET]);
    random.fill(&mut *bytes);
    Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes))
}

/// A new token that names what it belongs to, `<prefix><ULID>_<43 characters>`, and what is kept of it.
pub(crate) fn named(prefix: &str, id: Ulid, random: &dyn Random) -> (Zeroizing<String>, String) {
    let (secret, hash) = hashed(random);
    (Zeroizing::new(format!("{prefix}{id}_{}", secret.as_str())), hash)
}

/// A new token that is all secret, `<prefix><43 characters>`, and what is kept of it.
pub(crate) fn bare(prefix: &str, random: &dyn Random) -> (Zeroizing<String>, String) {
    let (secret, hash) = hashed(random);
    (Zeroizing::new(format!("{prefix}{}", secret.as_str())), hash)
}

fn hashed(random: &dyn Random) -> (Zeroizing<String>, String) {
    let secret = secret(random);
    let hash = secret_hash(&secret).unwrap_or_default();
    (secret, hash)
}

/// A token as it is presented: the id in it, and the hash of the secret.
pub(crate) struct Presented {
    pub(crate) id: Ulid,
    hash: String,
}

impl Presented {
    /// Reads a token; nothing if it cannot be one of this kind.
    pub(crate) fn parse(prefix: &str, token: &str) -> Option<Self> {
        let (ulid, secret) = token.strip_prefix(prefix)?.split_at_checked(ULID)?;
        let id = Ulid::from_string(ulid).ok().filter(|id| id.to_string() == ulid)?;
        Some(Self { id, hash: secret_hash(secret.strip_prefix('_')?)? })
    }

    /// Whether the secret has this hash, found out in constant time.
    pub(crate) fn has(&self, hash: &str) -> bool {
        is_same(&self.hash, hash)
    }
}

/// The hash of one of our secrets; nothing if the text cannot be one.
fn secret_hash(text: &str) -> Option<String> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
    (bytes.len() == SECRET).then(|| hash(&bytes))
}

/// Whether a text can be one of our secrets.
pub(crate) fn is_secret(text: &str) -> bool {
    secret_hash(text).is_some()
}

/// The hash of a token of one kind that is all secret; nothing if it cannot be one.
pub(crate) fn hash_of(prefix: &str, token: &str) -> Option<String> {
    token.strip_prefix(prefix).and_then(secret_hash)
}

/// Compares in constant time.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use firebackup_testkit::memory_ports::CountedRandom;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_made_and_nothing_else_is() {
        let id = Ulid::from_string("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        let (token, kept) = named("fbx_", id, &CountedRandom::default());
        let presented = Presented::parse("fbx_", &token).unwrap();
        assert_eq!(presented.id, id);
        assert!(presented.has(&kept) && !presented.has("") && !presented.has(&hash(b"other")));
        let lower = token.to_lowercase();
        let others =
            [format!("{}=", token.as_str()), token.replacen('_', "-", 2), format!("fbx_{id}"), format!("fbx_{id}_")];
        let others = others.iter().map(String::as_str);
        let bad = ["", "fbx_", "fby_", "fbx_01ARZ3NDEKTSV4RRFFQ69G5FA\u{00e4}_x"].into_iter().chain(others);
        for bad in bad.chain([&token[1..], &token[..token.len() - 1], &lower]) {
            assert!(Presented::parse("fbx_", bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_bare_secret_is_known_by_its_prefix_and_length() {
        let (token, kept) = bare("fbr_", &CountedRandom::default());
        assert_eq!(hash_of("fbr_", &token), Some(kept));
        for bad in ["fbr_", "", "fbr_abc", &token[4..], &format!("{}A", token.as_str())] {
            assert!(hash_of("fbr_", bad).is_none(), "{bad}");
        }
    }
}
