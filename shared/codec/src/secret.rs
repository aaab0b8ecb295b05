//! A secret key that is wiped from memory when it is dropped and never shown.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// 32 secret bytes: a master key, the repository key, a data key or a seed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

/// The text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key: expected 32 bytes in base64 (44 characters)")]
pub struct SecretKeyError;

impl SecretKey {
    /// Takes the bytes of a key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a cipher or a key file. Never for a log.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key in base64, as key files hold it; wiped when dropped.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }
}

impl FromStr for SecretKey {
    type Err = SecretKeyError;

    /// Reads base64; blanks around it are ignored. The error never holds any of the text.
    fn from_str(text: &str) -> Result<Self, SecretKeyError> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| SecretKeyError)?);
        let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| SecretKeyError)?;
        Ok(Self(*bytes))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_rubbish_is_refused() {
        let key = SecretKey::from_bytes([0xa7; 32]);
        let read: SecretKey = format!(" {}\n", *key.to_text()).parse().unwrap();
        assert_eq!(read.expose(), key.expose());
        for bad in ["", "AAAA", "not base64!", &"A".repeat(44)] {
            assert!(bad.parse::<SecretKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", SecretKey::from_bytes([0xa7; 32])), "SecretKey(..)");
    }
}
