//! A key from a passphrase.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::KeyError;

/// How dear it is to try a passphrase (Argon2id).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassphraseParams {
    /// Memory in KiB; 64 to 1,048,576 (1 GiB).
    pub memory_kib: u32,
    /// Passes over the memory; 1 to 16.
    pub iterations: u32,
    /// Lanes; 1 to 8.
    pub lanes: u32,
}

impl Default for PassphraseParams {
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, iterations: 3, lanes: 1 }
    }
}

impl PassphraseParams {
    /// A wrap file is hostile: without bounds it could take all memory or all day.
    fn check(&self, salt: &[u8]) -> Result<(), KeyError> {
        let bounded = [
            ("argon2 memory in KiB", u64::from(self.memory_kib), 64, 1024 * 1024),
            ("argon2 iterations", u64::from(self.iterations), 1, 16),
            ("argon2 lanes", u64::from(self.lanes), 1, 8),
            ("the length of the salt", salt.len() as u64, 16, 64),
        ];
        match bounded.into_iter().find(|(_, value, low, high)| !(low..=high).contains(&value)) {
            None => Ok(()),
            Some((what, value, low, high)) => Err(KeyError::OutOfBounds { what, value, low, high }),
        }
    }
}

pub(super) fn stretch(
    passphrase: &str,
    params: &PassphraseParams,
    salt: &[u8],
) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    params.check(salt)?;
    let mut key = Zeroizing::new([0; 32]);
    let argon = Params::new(params.memory_kib, params.iterations, params.lanes, Some(key.len()))
        .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
        .map_err(|_| KeyError::Damaged)?;
    argon.hash_password_into(passphrase.as_bytes(), salt, &mut *key).map_err(|_| KeyError::Damaged)?;
    Ok(key)
}
