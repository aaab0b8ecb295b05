//! Runs and keys for the tests, the same every time.

use firebackup_codec::Sealing;
use firebackup_codec::record::RecordRef;
use firebackup_codec::run::block::BlockBuilder;
use firebackup_codec::run::writer::{RunEnd, RunSealer, RunSpec, RunWriter, Scratch};
use firebackup_codec::secret::SecretKey;
use firebackup_model::Timestamp;
use firebackup_model::id::{KeyId, RepositoryId, RunId};
use firebackup_model::manifest::{Algorithm, Compression, Level, RunKind};

pub const REPOSITORY: RepositoryId = RepositoryId([0x11; 16]);
pub const RUN: RunId = RunId([0x22; 16]);
pub const KEY_ID: KeyId = KeyId([0x33; 16]);

pub fn key() -> Sealing {
    Sealing::Key { id: KEY_ID, key: SecretKey::from_bytes([0x44; 32]) }
}

pub fn spec(kind: RunKind) -> RunSpec {
    RunSpec {
        repository: REPOSITORY,
        run: RUN,
        kind,
        compression: Compression { algorithm: Algorithm::Zstd, level: Level::Fixed(3) },
        block_size: 1 << 20,
        read_time: Some(Timestamp::new(1_700_000_000, 5000)),
        salt: [0x55; 32],
    }
}

/// Writes a run of these blocks, each with its own algorithm and level: its bytes, and what the writer says of it.
pub fn write(spec: RunSpec, sealing: &Sealing, blocks: &[(Algorithm, u8, Vec<RecordRef<'_>>)]) -> (Vec<u8>, RunEnd) {
    let mut builder = BlockBuilder::new(spec.kind, spec.block_size as usize);
    let sealer = RunSealer::new(spec, sealing);
    let mut writer = RunWriter::new(sealer.clone());
    let mut bytes = writer.header().to_vec();
    let mut scratch = Scratch::default();
    for (index, (algorithm, level, records)) in blocks.iter().enumerate() {
        for record in records {
            builder.push(record).unwrap();
        }
        let raw = builder.take().unwrap().unwrap();
        let last = index + 1 == blocks.len();
        let sealed = sealer.seal_block(&raw, index as u64, last, *algorithm, *level, true, &mut scratch).unwrap();
        assert_eq!(writer.size(), bytes.len() as u64);
        writer.append(&sealed, &raw.summary).unwrap();
        bytes.extend_from_slice(&sealed.bytes);
        builder.recycle(raw.bytes);
    }
    let end = writer.finish().unwrap();
    bytes.extend_from_slice(&end.bytes);
    (bytes, end)
}
