//! What the fuzz targets share: the ids and keys of the codec's fixtures, and the repair of seals.
//!
//! Checksums and seals turn nearly every mutation away at the door. So a target gives its reader the bytes as they
//! are, and once more *repaired*: in the clear, with every checksum and tag computed again around what the fuzzer
//! made. The repair follows `docs/format.md` and not the code, and changes no length.

use firebackup_codec::{Sealing, SecretKey};
use firebackup_model::id::{KeyId, RepositoryId, RunId};
use sha2::{Digest, Sha256};

/// The repository of the fixtures.
pub const REPOSITORY: RepositoryId = RepositoryId([0x11; 16]);
/// The run of the fixtures.
pub const RUN: RunId = RunId([0x22; 16]);
/// The repository key's id.
pub const ROOT_ID: KeyId = KeyId([0x77; 16]);
/// The path that the fixture manifest is bound to.
pub const MANIFEST_PATH: &str = "snapshots/bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV.manifest";

const RUN_HEADER: usize = 132;
const FRAME: usize = 16;
const TRAILER: usize = 16;
const TAG: usize = 16;
const OBJECT_HEADER: usize = 108;
const SIGNED: usize = 96;

/// The data key of the fixtures.
#[must_use]
pub fn data_key() -> Sealing {
    Sealing::Key { id: KeyId([0x33; 16]), key: SecretKey::from_bytes([0x44; 32]) }
}

/// Computes the checksums, tags and hash of a run in the clear again; nothing when its parts cannot be told apart.
#[must_use]
pub fn repair_run(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut run = bytes.to_vec();
    put_crc(&mut run, RUN_HEADER)?;
    let header: [u8; 32] = Sha256::digest(&run[..RUN_HEADER]).into();
    let end = run.len().checked_sub(TRAILER)?;
    let footer_length = length_at(&run, end)?;
    let footer = end.checked_sub(footer_length).filter(|footer| *footer >= RUN_HEADER)?;

    let mut start = RUN_HEADER;
    for index in 0u64.. {
        let sealed = start + FRAME;
        let stop = match length_at(&run, start) {
            Some(length) if sealed + length <= footer && length >= TAG => sealed + length,
            _ => break,
        };
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&index.to_be_bytes());
        let data = [&header[..], &index.to_le_bytes(), &run[start..sealed]].concat();
        put_tag(&mut run, sealed, stop, nonce, &data);
        start = stop;
    }

    let hash = Sha256::digest(&run[..footer]);
    run.get_mut(footer..end - TAG)?.last_chunk_mut::<32>()?.copy_from_slice(&hash);
    let data = [&header[..], &(footer as u64).to_le_bytes()].concat();
    put_tag(&mut run, footer, end, [0; 12], &data);
    let crc = crc32c::crc32c(&run[footer..end + 4]);
    run[end + 4..end + 8].copy_from_slice(&crc.to_le_bytes());
    Some(run)
}

/// Computes the checksum and tag of a sealed object in the clear again and takes its signature off; nothing when it is
/// too short for one.
#[must_use]
pub fn repair_object(bytes: &[u8], path: &str) -> Option<Vec<u8>> {
    let mut object = bytes.to_vec();
    put_crc(&mut object, OBJECT_HEADER)?;
    let end = object.len().checked_sub(SIGNED)?;
    object[end..].fill(0);
    if end < OBJECT_HEADER + TAG {
        return None;
    }
    let path_length = (path.len() as u32).to_le_bytes();
    let data = [&object[..OBJECT_HEADER], &REPOSITORY.0, &path_length, path.as_bytes()].concat();
    put_tag(&mut object, OBJECT_HEADER, end, [0; 12], &data);
    Some(object)
}

/// Puts the checksum of a header of `length` bytes into its last four.
fn put_crc(bytes: &mut [u8], length: usize) -> Option<()> {
    let (checked, crc) = bytes.get_mut(..length)?.split_last_chunk_mut::<4>()?;
    *crc = crc32c::crc32c(checked).to_le_bytes();
    Some(())
}

fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*length) as usize)
}

/// Puts the tag of what is sealed in the clear from `start` on into the last bytes before `end`.
fn put_tag(bytes: &mut [u8], start: usize, end: usize, nonce: [u8; 12], data: &[u8]) {
    let mut hash = Sha256::new();
    hash.update(b"firebackup/v1/plain");
    hash.update(nonce);
    hash.update((data.len() as u32).to_le_bytes());
    hash.update(data);
    hash.update(&bytes[start..end - TAG]);
    bytes[end - TAG..end].copy_from_slice(&hash.finalize()[..TAG]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repair_changes_nothing_where_nothing_is_broken() {
        let run = &include_bytes!("../../shared/codec/fixtures/v1/delta-plain.run")[..];
        assert_eq!(repair_run(run).as_deref(), Some(run));
        let mut broken = run.to_vec();
        // the header's checksum, the hash and the tag of the footer, and the trailer's checksum
        for at in [128, run.len() - 40, run.len() - 20, run.len() - 10] {
            broken[at] ^= 0xff;
        }
        assert_eq!(repair_run(&broken).as_deref(), Some(run));
        let manifest = &include_bytes!("../corpus/sealed_object/seed-manifest")[..];
        assert_eq!(repair_object(manifest, MANIFEST_PATH).as_deref(), Some(manifest));
    }
}
