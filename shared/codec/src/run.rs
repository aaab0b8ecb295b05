//! Runs: immutable, sorted, sealed sequences of records.

pub mod block;
pub mod footer;
pub mod header;
mod ladder;
pub mod reader;
pub mod writer;

use firebackup_model::id::{KeyId, RepositoryId};
use firebackup_model::manifest::{Cipher, FORMAT_VERSION};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{FormatError, FormatErrorKind};
use crate::run::header::RunHeader;
use crate::sealing::{Aead, NONCE_ZERO, Sealing};

/// Bytes of a block's frame, before its sealed bytes.
pub const FRAME: usize = 16;
/// Bytes of a trailer.
pub const TRAILER: usize = 16;

const BLOCK_LABEL: &str = "firebackup/v1/run/block";
const FOOTER_LABEL: &str = "firebackup/v1/run/footer";
const COMMITMENT_LABEL: &str = "firebackup/v1/run/commitment";
const TRAILER_MAGIC: [u8; 8] = *b"FBRUNEND";

pub(crate) const fn cipher_code(cipher: Cipher) -> u8 {
    match cipher {
        Cipher::None => 0,
        Cipher::Aes256Gcm => 1,
    }
}

pub(crate) fn cipher(code: u8, offset: u64) -> Result<Cipher, FormatError> {
    match code {
        0 => Ok(Cipher::None),
        1 => Ok(Cipher::Aes256Gcm),
        _ => Err(FormatError::new(FormatErrorKind::Unsupported, offset, format!("unknown cipher {code}"))),
    }
}

/// Compares the checksum at `checked` with what stands before it.
pub(crate) fn check_crc(bytes: &[u8], checked: usize) -> Result<(), FormatError> {
    let crc = bytes.get(checked..checked + 4);
    let crc = crc.ok_or_else(|| FormatError::damaged(bytes.len() as u64, "cut short"))?;
    if crc == crc32c::crc32c(&bytes[..checked]).to_le_bytes() {
        return Ok(());
    }
    Err(FormatError::damaged(0, "the checksum of its header is wrong"))
}

pub(crate) fn check_version(version: u16) -> Result<(), FormatError> {
    if version == FORMAT_VERSION {
        return Ok(());
    }
    let reason = format!("it has format version {version}, this build knows {FORMAT_VERSION}");
    Err(FormatError::new(FormatErrorKind::Unsupported, 8, reason))
}

/// The key id of a header; without a cipher both it and the commitment must be zero.
pub(crate) fn key_of_cipher(
    cipher: Cipher,
    key: [u8; 16],
    commitment: &[u8; 32],
    offset: u64,
) -> Result<Option<KeyId>, FormatError> {
    match cipher {
        Cipher::Aes256Gcm => Ok(Some(KeyId(key))),
        Cipher::None if key == [0; 16] && *commitment == [0; 32] => Ok(None),
        Cipher::None => Err(FormatError::damaged(offset, "it names a key and no cipher")),
    }
}

/// The ciphers of one run and what they bind blocks and footer to.
#[derive(Debug, Clone)]
struct RunCipher {
    block: Aead,
    footer: Aead,
    header_hash: [u8; 32],
}

impl RunCipher {
    fn new(sealing: &Sealing, repository: RepositoryId, header: &RunHeader, bytes: &[u8; header::HEADER]) -> Self {
        let context: [&[u8]; 2] = [&repository.0, &header.run.0];
        Self {
            block: sealing.aead(&header.salt, BLOCK_LABEL, &context),
            footer: sealing.aead(&header.salt, FOOTER_LABEL, &context),
            header_hash: Sha256::digest(bytes).into(),
        }
    }

    fn commitment(sealing: &Sealing, repository: RepositoryId, header: &RunHeader) -> Option<Zeroizing<[u8; 32]>> {
        sealing.derive(&header.salt, COMMITMENT_LABEL, &[&repository.0, &header.run.0])
    }

    /// Nonce and additional data of a block.
    fn block_binding(&self, index: u64, frame: &[u8; FRAME]) -> ([u8; 12], [u8; 56]) {
        let mut nonce = NONCE_ZERO;
        nonce[4..].copy_from_slice(&index.to_be_bytes());
        let mut data = [0; 56];
        data[..32].copy_from_slice(&self.header_hash);
        data[32..40].copy_from_slice(&index.to_le_bytes());
        data[40..].copy_from_slice(frame);
        (nonce, data)
    }

    /// Additional data of the footer.
    fn footer_binding(&self, offset: u64) -> [u8; 40] {
        let mut data = [0; 40];
        data[..32].copy_from_slice(&self.header_hash);
        data[32..].copy_from_slice(&offset.to_le_bytes());
        data
    }
}
