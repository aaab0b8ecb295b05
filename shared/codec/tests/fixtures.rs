//! What version 1 wrote opens for ever.

mod sample;
#[path = "sample/fixtures.rs"]
mod written;

use std::path::PathBuf;

use firebackup_codec::Sealing;
use firebackup_codec::object::{self, ObjectType};
use firebackup_codec::run::reader::read_whole;
use firebackup_codec::signature::WriterKey;
use firebackup_codec::wrap::Wrap;
use firebackup_model::manifest::Manifest;
use sample::{REPOSITORY, RUN, key};
use written::{MANIFEST, MANIFEST_PATH, PASSPHRASE, ROOT_ID};

fn kept(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_runs_of_version_1_open() {
    for (name, sealing, blocks) in
        [("base.run", key(), written::base()), ("delta-plain.run", Sealing::Plain, written::delta())]
    {
        let expected: Vec<_> = blocks.into_iter().flat_map(|(.., records)| records).collect();
        let mut seen = 0;
        let footer = read_whole(&kept(name), RUN, REPOSITORY, &sealing, |record| {
            assert_eq!(record, expected[seen], "{name}");
            seen += 1;
        });
        assert_eq!((footer.unwrap().records, seen), (expected.len() as u64, expected.len()));
    }
}

#[test]
fn the_manifest_of_version_1_opens_and_says_who_wrote_it() {
    let opened =
        object::open(ObjectType::Manifest, REPOSITORY, MANIFEST_PATH, &key(), &kept("snapshot.manifest")).unwrap();
    assert_eq!(opened.json, MANIFEST.trim_end().as_bytes());
    assert_eq!(opened.signer, Some(WriterKey::derive(&written::root(), REPOSITORY).public()));
    let manifest: Manifest = serde_json::from_slice(&opened.json).unwrap();
    assert_eq!((manifest.runs[0].id, manifest.totals.documents), (RUN, 6));
}

#[test]
fn the_wraps_of_version_1_open() {
    let wrap = |name| serde_json::from_slice::<Wrap>(&kept(name)).unwrap();
    let root = [
        wrap("wrap-local.json").open_local(&written::master()),
        wrap("wrap-passphrase.json").open_passphrase(PASSPHRASE),
        wrap("wrap-recovery.json").open_recovery(&written::recovery().private),
    ]
    .map(Result::unwrap);
    assert!(root.iter().all(|key| key.expose() == written::root().expose()));
    let data = wrap("wrap-key.json").open_key(&root[0], ROOT_ID).unwrap();
    assert!(matches!(key(), Sealing::Key { key, .. } if key.expose() == data.expose()));
}

/// A compressor's new version may write other bytes that mean the same. Then, and only then, this test may compare
/// with a fixture of the new release, while the old one stays and still opens.
#[test]
fn the_same_input_still_writes_the_same_bytes() {
    for (name, bytes) in written::files() {
        assert!(bytes == kept(name), "{name} is written in another way than it was");
    }
}
