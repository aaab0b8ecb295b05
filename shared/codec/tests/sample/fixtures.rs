//! The repository of version 1 that is kept for ever: what its files are, and what is in them.

use std::sync::atomic::{AtomicU8, Ordering};

use firebackup_codec::Sealing;
use firebackup_codec::object::{self, ObjectType};
use firebackup_codec::record::{Origin, RecordRef};
use firebackup_codec::run::writer::RunSpec;
use firebackup_codec::secret::SecretKey;
use firebackup_codec::signature::WriterKey;
use firebackup_codec::wrap::{PassphraseParams, RecoveryKeyPair, Wrap, WrapIds};
use firebackup_model::Timestamp;
use firebackup_model::id::{KeyId, WrapId};
use firebackup_model::manifest::{Algorithm, RunKind};
use firebackup_model::port::Random;

use crate::sample::{REPOSITORY, key, spec, write};

/// The manifest's path, which its seal is bound to.
pub const MANIFEST_PATH: &str = "snapshots/bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV.manifest";
/// The manifest's JSON as version 1 wrote it. It stands here as text, so that a field that is added later does not change it.
pub const MANIFEST: &str = include_str!("manifest.json");
/// The passphrase of the passphrase wrap.
pub const PASSPHRASE: &str = "correct horse battery staple";
/// The repository key's id.
pub const ROOT_ID: KeyId = KeyId([0x77; 16]);

/// The repository key.
pub fn root() -> SecretKey {
    SecretKey::from_bytes([0x88; 32])
}

/// The local master key.
pub fn master() -> SecretKey {
    SecretKey::from_bytes([0x99; 32])
}

/// The recovery key.
pub fn recovery() -> RecoveryKeyPair {
    RecoveryKeyPair::generate(&Counting::from(0))
}

/// Bytes that count up: another each time, the same each run.
pub struct Counting(AtomicU8);

impl Counting {
    pub fn from(start: u8) -> Self {
        Self(AtomicU8::new(start))
    }
}

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The records of the sealed base run and of the delta run in the clear, by block.
pub fn base() -> Vec<(Algorithm, u8, Vec<RecordRef<'static>>)> {
    let document = |path, body| RecordRef::document(path, body, Some(Timestamp::new(1_699_999_000, 123_000)));
    let text = "the same words again and again, ".repeat(8).leak().as_bytes();
    vec![
        (Algorithm::None, 0, vec![document("a/__id7__", b"seven"), document("a/b", b"")]),
        (Algorithm::Brotli, 5, vec![document("a/b/c/d", text)]),
        (Algorithm::Zstd, 3, vec![document("a/c", text), document("users/\u{1F600}", text)]),
        (Algorithm::Gzip, 6, vec![document("z/z", text)]),
    ]
}

/// See [`base`].
pub fn delta() -> Vec<(Algorithm, u8, Vec<RecordRef<'static>>)> {
    let at = |seconds| Some(Timestamp::new(seconds, 0));
    let put = RecordRef {
        path: "a/b",
        body: Some(b"new"),
        origin: Origin::Pull,
        update_time: at(1_700_000_100),
        commit_time: at(-1),
        point: at(1_700_000_200),
    };
    let delete = RecordRef { body: None, update_time: None, commit_time: None, point: at(1_700_000_300), ..put };
    vec![
        (Algorithm::None, 0, vec![put]),
        (Algorithm::None, 0, vec![delete, RecordRef { path: "b/b", origin: Origin::Push, ..put }]),
    ]
}

/// Every file, by name.
pub fn files() -> Vec<(&'static str, Vec<u8>)> {
    let delta_spec = RunSpec { read_time: None, ..spec(RunKind::Delta) };
    let writer = WriterKey::derive(&root(), REPOSITORY);
    let json = MANIFEST.trim_end().as_bytes();
    let manifest =
        object::seal(ObjectType::Manifest, REPOSITORY, MANIFEST_PATH, &key(), Some(&writer), [0xaa; 32], json);
    let mut files = vec![
        ("base.run", write(spec(RunKind::Base), &key(), &base()).0),
        ("delta-plain.run", write(delta_spec, &Sealing::Plain, &delta()).0),
        ("snapshot.manifest", manifest.unwrap()),
    ];
    files.extend(wraps().into_iter().map(|(name, wrap)| {
        let mut json = serde_json::to_vec_pretty(&wrap).unwrap();
        json.push(b'\n');
        (name, json)
    }));
    files
}

fn wraps() -> [(&'static str, Wrap); 4] {
    let ids = |key, wrap| WrapIds {
        repository: REPOSITORY,
        key,
        wrap: WrapId([wrap; 16]),
        created: Timestamp::new(1_700_000_000, 0),
    };
    let random = Counting::from(100);
    let cheap = PassphraseParams { memory_kib: 256, iterations: 2, lanes: 1 };
    let Sealing::Key { id: data_id, key: data_key } = key() else { unreachable!("the sample is sealed") };
    let root = root();
    [
        ("wrap-local.json", Wrap::wrap_local(&master(), &ids(ROOT_ID, 1), &root, &random).unwrap()),
        ("wrap-passphrase.json", Wrap::wrap_passphrase(PASSPHRASE, &cheap, &ids(ROOT_ID, 2), &root, &random).unwrap()),
        ("wrap-recovery.json", Wrap::wrap_recovery(&recovery().public, &ids(ROOT_ID, 3), &root, &random).unwrap()),
        ("wrap-key.json", Wrap::wrap_key(&root, ROOT_ID, &ids(data_id, 4), &data_key, &random).unwrap()),
    ]
}
