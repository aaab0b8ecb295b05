//! Sealed objects: small JSON documents (manifests, plans, receipts, intents) in an encrypted and signed envelope.

use firebackup_model::id::{KeyId, RepositoryId};
use firebackup_model::manifest::{Algorithm, Cipher, FORMAT_VERSION};

use crate::compress;
use crate::error::{FormatError, FormatErrorKind};
use crate::limit::MAX_PAYLOAD;
use crate::primitive::Cursor;
use crate::sealing::{Aead, NONCE_ZERO, Sealing, TAG};
use crate::signature::{SIGNATURE, WriterKey, WriterPublicKey};

const MAGIC: [u8; 8] = *b"\x89FBOBJ\r\n";
const HEADER: usize = 108;
const CHECKED: usize = HEADER - 4;
const SIGNED: usize = 32 + SIGNATURE;
const LEVEL: u8 = 3;

const KEY_LABEL: &str = "firebackup/v1/object";
const COMMITMENT_LABEL: &str = "firebackup/v1/object/commitment";

/// What a sealed object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectType {
    /// A snapshot's or segment's manifest.
    Manifest = 1,
    /// What a backup is going to read.
    Plan = 2,
    /// What one step of a chunk wrote.
    Receipt = 3,
    /// What a running job relies on.
    Intent = 4,
    /// What a prune is going to delete.
    PruneMark = 5,
    /// The Auth users of a backup.
    UsersReceipt = 6,
    /// What a restore was about to replace.
    UndoReceipt = 7,
    /// How far a restore came.
    RestoreMark = 8,
    /// What one step of a part of a restore has done.
    RestoreReceipt = 9,
    /// Entries of an organization's audit log, of one month.
    AuditPart = 10,
    /// A manifest of versions that events told of.
    Reported = 11,
    /// That a drill began, or what it found.
    Drill = 12,
}

impl ObjectType {
    const fn name(self) -> &'static str {
        match self {
            Self::Manifest => "a manifest",
            Self::Plan => "a plan",
            Self::Receipt => "a receipt",
            Self::Intent => "an intent",
            Self::PruneMark => "a prune mark",
            Self::UsersReceipt => "a users receipt",
            Self::UndoReceipt => "an undo receipt",
            Self::RestoreMark => "a mark of a restore",
            Self::RestoreReceipt => "a receipt of a restore",
            Self::AuditPart => "a part of an audit log",
            Self::Reported => "a manifest of reported versions",
            Self::Drill => "of a drill",
        }
    }
}

/// What was in a sealed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedObject {
    /// The JSON, as it was sealed.
    pub json: Vec<u8>,
    /// Whose valid signature it carries. Whether that writer is believed is the caller's to decide.
    pub signer: Option<WriterPublicKey>,
}

struct Header {
    kind: u8,
    algorithm: Algorithm,
    key: Option<KeyId>,
    salt: [u8; 32],
    commitment: [u8; 32],
    raw_length: usize,
    stored_length: usize,
}

/// Seals `json` as the object of this type at `path` in the repository. `salt` is random and used once.
///
/// # Errors
/// When `json` is larger than 64 MiB.
pub fn seal(
    kind: ObjectType,
    repository: RepositoryId,
    path: &str,
    sealing: &Sealing,
    signer: Option<&WriterKey>,
    salt: [u8; 32],
    json: &[u8],
) -> Result<Vec<u8>, FormatError> {
    if json.len() > MAX_PAYLOAD {
        return Err(FormatError::limit(0, format!("a payload of {} bytes, at most {MAX_PAYLOAD}", json.len())));
    }
    let mut payload = Vec::new();
    compress::compress(Algorithm::Zstd, LEVEL, json, &mut payload)?;
    let algorithm = if payload.len() < json.len() { Algorithm::Zstd } else { Algorithm::None };
    let payload = if algorithm == Algorithm::None { json } else { &payload };
    let commitment =
        sealing.derive(&salt, COMMITMENT_LABEL, &[&repository.0]).map_or([0; 32], |commitment| *commitment);
    let header = Header {
        kind: kind as u8,
        algorithm,
        key: sealing.key_id(),
        salt,
        commitment,
        raw_length: json.len(),
        stored_length: payload.len() + TAG,
    };
    let mut out = Vec::with_capacity(HEADER + payload.len() + TAG + SIGNED);
    header.encode(sealing.cipher(), &mut out);
    let data = additional_data(&out, repository, path);
    out.extend_from_slice(payload);
    object_aead(sealing, &salt, repository).seal(NONCE_ZERO, &data, &mut out, HEADER);
    let signed = signer.map_or([0; SIGNED], |signer| sign(signer, &data, &out[HEADER..]));
    out.extend_from_slice(&signed);
    Ok(out)
}

fn sign(signer: &WriterKey, data: &[u8], sealed: &[u8]) -> [u8; SIGNED] {
    let mut signed = [0; SIGNED];
    signed[..32].copy_from_slice(signer.public().as_bytes());
    signed[32..].copy_from_slice(&signer.sign(data, sealed));
    signed
}

/// The key that an object takes; nothing when it is in the clear. Needs no key, and believes nothing but a checksum.
///
/// # Errors
/// When the header is damaged or of an unknown version.
pub fn key_of(bytes: &[u8]) -> Result<Option<KeyId>, FormatError> {
    Header::parse(bytes).map(|header| header.key)
}

/// Opens the object of this type that was found at `path` in the repository. A signature that is there must be valid.
///
/// # Errors
/// When it is damaged, sealed with another key, of another type, in the clear although `sealing` is a key, or was
/// written for another path or repository.
pub fn open(
    kind: ObjectType,
    repository: RepositoryId,
    path: &str,
    sealing: &Sealing,
    bytes: &[u8],
) -> Result<OpenedObject, FormatError> {
    let header = Header::parse(bytes)?;
    if header.kind != kind as u8 {
        let reason = format!("it is of type {}, not {}", header.kind, kind.name());
        return Err(FormatError::new(FormatErrorKind::Foreign, 10, reason));
    }
    if bytes.len() != HEADER + header.stored_length + SIGNED {
        return Err(FormatError::damaged(bytes.len() as u64, "it is longer or shorter than its header says"));
    }
    let expected = sealing.derive(&header.salt, COMMITMENT_LABEL, &[&repository.0]);
    sealing.check_header(header.key, &header.commitment, expected, 16)?;
    let data = additional_data(&bytes[..HEADER], repository, path);
    let (sealed, signed) = bytes[HEADER..].split_at(header.stored_length);
    let mut payload = sealed.to_vec();
    let aead = object_aead(sealing, &header.salt, repository);
    aead.open(NONCE_ZERO, &data, &mut payload).map_err(|_| {
        let reason = "its payload is not what was sealed, or it was written for another path or repository";
        FormatError::damaged(HEADER as u64, reason)
    })?;
    let signer = verify(&data, sealed, signed, (HEADER + header.stored_length) as u64)?;
    let mut json = Vec::new();
    compress::decompress(header.algorithm, &payload, header.raw_length, &mut json)?;
    Ok(OpenedObject { json, signer })
}

fn verify(data: &[u8], sealed: &[u8], signed: &[u8], offset: u64) -> Result<Option<WriterPublicKey>, FormatError> {
    if signed.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let mut cursor = Cursor::new(signed, offset);
    let signer = WriterPublicKey::from_bytes(cursor.array()?);
    let signature = cursor.array()?;
    signer.verify(data, sealed, &signature).map_err(|error| {
        FormatError::new(FormatErrorKind::Signature, offset, format!("not by {signer}")).with_source(error)
    })?;
    Ok(Some(signer))
}

fn object_aead(sealing: &Sealing, salt: &[u8; 32], repository: RepositoryId) -> Aead {
    sealing.aead(salt, KEY_LABEL, &[&repository.0])
}

fn additional_data(header: &[u8], repository: RepositoryId, path: &str) -> Vec<u8> {
    [header, &repository.0, &(path.len() as u32).to_le_bytes(), path.as_bytes()].concat()
}

impl Header {
    fn encode(&self, cipher: Cipher, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[self.kind, crate::run::cipher_code(cipher), compress::code(self.algorithm), 0, 0, 0]);
        out.extend_from_slice(&self.key.map_or([0; 16], |key| key.0));
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.commitment);
        out.extend_from_slice(&(self.raw_length as u32).to_le_bytes());
        out.extend_from_slice(&(self.stored_length as u32).to_le_bytes());
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(bytes, 0);
        if cursor.array()? != MAGIC {
            return Err(FormatError::damaged(0, "it does not begin like a sealed object"));
        }
        let version = cursor.u16()?;
        crate::run::check_crc(bytes, CHECKED)?;
        crate::run::check_version(version)?;
        let kind = cursor.byte()?;
        let cipher = crate::run::cipher(cursor.byte()?, 11)?;
        let algorithm = compress::algorithm(cursor.byte()?, 12)?;
        cursor.reserved(3)?;
        let (key, salt, commitment) = (cursor.array()?, cursor.array()?, cursor.array()?);
        let raw_length = cursor.u32()? as usize;
        let stored_length = cursor.u32()? as usize;
        if raw_length > MAX_PAYLOAD || stored_length > raw_length.saturating_add(TAG) || stored_length < TAG {
            return Err(FormatError::limit(96, format!("a payload of {raw_length} bytes, stored as {stored_length}")));
        }
        if !matches!(algorithm, Algorithm::None | Algorithm::Zstd) {
            return Err(FormatError::new(FormatErrorKind::Unsupported, 12, "an object is compressed with zstd or not"));
        }
        let key = crate::run::key_of_cipher(cipher, key, &commitment, 16)?;
        Ok(Self { kind, algorithm, key, salt, commitment, raw_length, stored_length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretKey;
    use proptest::prelude::*;

    const REPOSITORY: RepositoryId = RepositoryId([3; 16]);

    fn sealings() -> [Sealing; 2] {
        [Sealing::Plain, Sealing::Key { id: KeyId([4; 16]), key: SecretKey::from_bytes([5; 32]) }]
    }

    proptest! {
        #[test]
        fn objects_round_trip(json: Vec<u8>, salt: [u8; 32], signed: bool) {
            let writer = signed.then(|| WriterKey::from_seed(&SecretKey::from_bytes([9; 32])));
            for sealing in sealings() {
                let bytes = seal(ObjectType::Plan, REPOSITORY, "p", &sealing, writer.as_ref(), salt, &json).unwrap();
                prop_assert_eq!(key_of(&bytes).unwrap(), sealing.key_id());
                let opened = open(ObjectType::Plan, REPOSITORY, "p", &sealing, &bytes).unwrap();
                prop_assert_eq!(&opened.json, &json);
                prop_assert_eq!(opened.signer, writer.as_ref().map(WriterKey::public));
            }
        }

        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>) {
            for sealing in sealings() {
                prop_assert!(open(ObjectType::Plan, REPOSITORY, "p", &sealing, &bytes).is_err());
            }
        }
    }
}
