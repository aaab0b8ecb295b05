//! What readers do with bytes that somebody, or some disk, has changed.

mod sample;

use firebackup_codec::error::{FormatError, FormatErrorKind};
use firebackup_codec::object::{self, ObjectType};
use firebackup_codec::record::{Origin, RecordRef, Records};
use firebackup_codec::run::footer::Footer;
use firebackup_codec::run::header::HEADER;
use firebackup_codec::run::reader::{RunOpener, footer_length, read_whole};
use firebackup_codec::run::{FRAME, TRAILER};
use firebackup_codec::secret::SecretKey;
use firebackup_codec::signature::WriterKey;
use firebackup_codec::{Sealing, compress};
use firebackup_model::Timestamp;
use firebackup_model::id::{KeyId, RepositoryId, RunId};
use firebackup_model::manifest::{Algorithm, Counts, GroupCounts, RunKind};
use proptest::prelude::*;
use sample::{KEY_ID, REPOSITORY, RUN, key, spec, write};
use sha2::{Digest, Sha256};

fn both() -> [Sealing; 2] {
    [Sealing::Plain, key()]
}

/// Three blocks of the same length, so that one fits where another stood.
fn blocks(letter: &str) -> Vec<(Algorithm, u8, Vec<RecordRef<'_>>)> {
    let document = |path| RecordRef::document(path, letter.as_bytes(), Some(Timestamp::new(7, 0)));
    let block = |a, b| (Algorithm::None, 0, vec![document(a), document(b)]);
    vec![block("c/1", "c/2"), block("c/3", "c/4"), block("c/5", "c/6")]
}

fn small(sealing: &Sealing) -> Vec<u8> {
    write(spec(RunKind::Base), sealing, &blocks("x")).0
}

fn read(bytes: &[u8], sealing: &Sealing) -> Result<Footer, FormatError> {
    read_whole(bytes, RUN, REPOSITORY, sealing, |_| ())
}

/// Reads as a restore does: header, last bytes, footer, each block. The hash of the whole is not looked at.
fn read_by_range(bytes: &[u8], sealing: &Sealing) -> Result<Vec<Vec<u8>>, FormatError> {
    let opener = RunOpener::open(&bytes[..HEADER.min(bytes.len())], RUN, REPOSITORY, sealing)?;
    let cut = || FormatError::new(FormatErrorKind::Damaged, 0, "cut short");
    let trailer = bytes.last_chunk::<TRAILER>().ok_or_else(cut)?;
    let end = bytes.len() - TRAILER;
    let start = end.checked_sub(footer_length(trailer)? as usize).ok_or_else(cut)?;
    let footer = opener.footer(&bytes[start..end], trailer, bytes.len() as u64)?;
    let mut blocks = Vec::new();
    for (index, info) in footer.blocks.iter().enumerate() {
        let start = info.offset as usize;
        let mut raw = Vec::new();
        opener.block(&footer, index, &bytes[start..start + info.length as usize], &mut raw)?;
        blocks.push(raw);
    }
    Ok(blocks)
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

#[test]
fn no_flipped_bit_of_a_run_passes_nor_is_taken_for_a_wrong_key() {
    for sealing in both() {
        let bytes = small(&sealing);
        assert!(read(&bytes, &sealing).is_ok() && read_by_range(&bytes, &sealing).is_ok());
        for bit in 0..bytes.len() * 8 {
            let bytes = flipped(&bytes, bit);
            let whole = read(&bytes, &sealing).expect_err("whole").kind();
            let ranged = read_by_range(&bytes, &sealing).expect_err("ranged").kind();
            for kind in [whole, ranged] {
                assert!(matches!(kind, FormatErrorKind::Damaged | FormatErrorKind::Limit), "bit {bit}: {kind:?}");
            }
        }
    }
}

#[test]
fn no_cut_and_nothing_appended_passes() {
    for sealing in both() {
        let bytes = small(&sealing);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], &sealing).is_err(), "cut to {length}");
            assert!(read_by_range(&bytes[..length], &sealing).is_err(), "cut to {length}");
        }
        for tail in [&[0][..], &[0; 16], &bytes[bytes.len() - TRAILER..], &bytes] {
            assert!(read(&[&bytes, tail].concat(), &sealing).is_err());
            assert!(read_by_range(&[&bytes, tail].concat(), &sealing).is_err());
        }
        for middle in [HEADER, HEADER + FRAME, bytes.len() - TRAILER] {
            let mut longer = bytes.clone();
            longer.insert(middle, 0);
            assert!(read_by_range(&longer, &sealing).is_err(), "a byte at {middle}");
        }
    }
}

#[test]
fn blocks_that_are_swapped_doubled_or_of_another_run_are_refused() {
    for sealing in both() {
        let run = small(&sealing);
        let other_run = write(spec(RunKind::Base), &sealing, &blocks("y")).0;
        let other_salt = firebackup_codec::run::writer::RunSpec { salt: [0x56; 32], ..spec(RunKind::Base) };
        let other_salt = write(other_salt, &sealing, &blocks("x")).0;
        let footer = read(&run, &sealing).unwrap();
        let at = |index: usize| {
            footer.blocks[index].offset as usize
                ..footer.blocks[index].offset as usize + footer.blocks[index].length as usize
        };
        let mut tried = 0;
        for (into, from, source) in [(0, 1, &run), (1, 0, &run), (1, 2, &run), (2, 1, &run), (1, 1, &other_salt)] {
            let mut mixed = run.clone();
            mixed[at(into)].copy_from_slice(&source[at(from)]);
            assert!(read_by_range(&mixed, &sealing).is_err(), "{from} into {into}");
            assert!(read(&mixed, &sealing).is_err(), "{from} into {into}");
            tried += 1;
        }
        assert_eq!(tried, 5);
        // The other run has the same header, so the hash tells; without a cipher only the hash can.
        let mut mixed = run.clone();
        mixed[at(1)].copy_from_slice(&other_run[at(1)]);
        assert!(read(&mixed, &sealing).is_err());
        let mut mixed = other_salt.clone();
        mixed[..HEADER].copy_from_slice(&run[..HEADER]);
        assert!(read_by_range(&mixed, &sealing).is_err());
    }
}

#[test]
fn keys_runs_and_repositories_are_told_apart() {
    let bytes = small(&key());
    let kind =
        |run, repository, sealing: &Sealing| read_whole(&bytes, run, repository, sealing, |_| ()).unwrap_err().kind();
    let other_key = Sealing::Key { id: KEY_ID, key: SecretKey::from_bytes([0x45; 32]) };
    let other_id = Sealing::Key { id: KeyId([0x34; 16]), key: SecretKey::from_bytes([0x44; 32]) };
    assert_eq!(kind(RUN, REPOSITORY, &other_key), FormatErrorKind::WrongKey);
    assert_eq!(kind(RUN, REPOSITORY, &other_id), FormatErrorKind::WrongKey);
    assert_eq!(kind(RUN, REPOSITORY, &Sealing::Plain), FormatErrorKind::WrongKey);
    assert_eq!(kind(RUN, RepositoryId([0x12; 16]), &key()), FormatErrorKind::WrongKey);
    assert_eq!(kind(RunId([0x23; 16]), REPOSITORY, &key()), FormatErrorKind::Foreign);
    let plain = small(&Sealing::Plain);
    assert_eq!(read(&plain, &key()).unwrap_err().kind(), FormatErrorKind::Unencrypted);
}

/// A seal of cipher 0, as anybody can make one.
fn plain_seal(nonce: [u8; 12], data: &[u8], bytes: &[u8]) -> Vec<u8> {
    let hash = Sha256::new()
        .chain_update(b"firebackup/v1/plain")
        .chain_update(nonce)
        .chain_update((data.len() as u32).to_le_bytes())
        .chain_update(data)
        .chain_update(bytes)
        .finalize();
    [bytes, &hash[..16]].concat()
}

/// One block as an attacker can write it into a run in the clear.
struct Forged {
    payload: Vec<u8>,
    raw_length: u32,
    records: u32,
    algorithm: u8,
    last: bool,
}

/// A run in the clear of forged blocks; the footer lists the first `listed` of them, as `c/1` to `c/1`.
fn forge(blocks: &[Forged], listed: usize) -> Vec<u8> {
    let mut run = small(&Sealing::Plain)[..HEADER].to_vec();
    let header_hash = Sha256::digest(&run);
    let mut footer_blocks = vec![listed as u8];
    let mut totals = [0u64; 4];
    for (index, block) in blocks.iter().enumerate() {
        let mut frame = [0; FRAME];
        frame[..4].copy_from_slice(&(block.payload.len() as u32 + 16).to_le_bytes());
        frame[4..8].copy_from_slice(&block.raw_length.to_le_bytes());
        frame[8..12].copy_from_slice(&block.records.to_le_bytes());
        (frame[12], frame[14]) = (block.algorithm, u8::from(block.last));
        let mut nonce = [0; 12];
        nonce[11] = index as u8;
        let data = [&header_hash[..], &(index as u64).to_le_bytes(), &frame].concat();
        if index < listed {
            run.extend_from_slice(&frame);
            run.extend_from_slice(&plain_seal(nonce, &data, &block.payload));
            for number in [block.payload.len() as u64 + 16, u64::from(block.raw_length), u64::from(block.records)] {
                firebackup_model::wire::put_varint(&mut footer_blocks, number);
            }
            footer_blocks.extend_from_slice(b"\x03c/1\x03c/1");
            totals[0] += u64::from(block.records);
            totals[3] += u64::from(block.raw_length);
        }
    }
    let mut payload = Vec::new();
    for total in totals {
        firebackup_model::wire::put_varint(&mut payload, total);
    }
    payload.extend_from_slice(&[0, 0]);
    payload.extend_from_slice(&footer_blocks);
    payload.extend_from_slice(&[1, 1, b'c']);
    firebackup_model::wire::put_varint(&mut payload, totals[0]);
    payload.extend_from_slice(&[0, 0]);
    payload.extend_from_slice(&Sha256::digest(&run));
    let data = [&header_hash[..], &(run.len() as u64).to_le_bytes()].concat();
    let mut footer = plain_seal([0; 12], &data, &payload);
    footer.extend_from_slice(&(footer.len() as u32).to_le_bytes());
    footer.extend_from_slice(&crc32c::crc32c(&footer).to_le_bytes());
    footer.extend_from_slice(b"FBRUNEND");
    run.extend_from_slice(&footer);
    run
}

fn forged(raw: &[u8], last: bool) -> Forged {
    Forged { payload: raw.to_vec(), raw_length: raw.len() as u32, records: 1, algorithm: 0, last }
}

const RECORD: &[u8] = b"\0\x03c/1\0";

#[test]
fn a_forged_run_is_good_when_nothing_is_wrong_with_it() {
    // Without this the refusals below could be for another reason than they say.
    assert_eq!(read(&forge(&[forged(RECORD, true)], 1), &Sealing::Plain).unwrap().records, 1);
}

#[test]
fn a_run_cut_to_fewer_blocks_is_refused_even_with_a_footer_made_to_fit() {
    let error = read(&forge(&[forged(RECORD, false), forged(RECORD, true)], 1), &Sealing::Plain).unwrap_err();
    assert!(error.reason().contains("not the one in its footer"), "{error}");
}

#[test]
fn records_out_of_order_are_refused_within_blocks_and_between_them() {
    let twice = [RECORD, RECORD].concat();
    let block = Forged { records: 2, ..forged(&twice, true) };
    assert_eq!(read(&forge(&[block], 1), &Sealing::Plain).unwrap_err().kind(), FormatErrorKind::Order);
    let blocks = [forged(RECORD, false), forged(RECORD, true)];
    assert_eq!(read(&forge(&blocks, 2), &Sealing::Plain).unwrap_err().kind(), FormatErrorKind::Order);
    let tombstone = forged(b"\x01\x03c/1", true);
    assert_eq!(read(&forge(&[tombstone], 1), &Sealing::Plain).unwrap_err().kind(), FormatErrorKind::Order);
}

#[test]
fn counts_and_paths_that_lie_are_refused() {
    let more = Forged { records: 2, ..forged(RECORD, true) };
    assert!(read(&forge(&[more], 1), &Sealing::Plain).is_err());
    let other_path = forged(b"\0\x03c/2\0", true);
    assert!(read(&forge(&[other_path], 1), &Sealing::Plain).is_err());
}

#[test]
fn bombs_take_no_more_memory_than_they_say_and_may_not_say_much() {
    let zeros = vec![0; 30 << 20];
    for (algorithm, code) in [(Algorithm::Brotli, 1), (Algorithm::Zstd, 2), (Algorithm::Gzip, 3)] {
        let mut payload = Vec::new();
        compress::compress(algorithm, 1, &zeros, &mut payload).unwrap();
        let raw_length = payload.len() as u32;
        let bomb = Forged { payload: payload.clone(), raw_length, records: 1, algorithm: code, last: true };
        let bytes = forge(&[bomb], 1);
        let opener = RunOpener::open(&bytes[..HEADER], RUN, REPOSITORY, &Sealing::Plain).unwrap();
        let trailer = bytes.last_chunk().unwrap();
        let start = bytes.len() - TRAILER - footer_length(trailer).unwrap() as usize;
        let footer = opener.footer(&bytes[start..bytes.len() - TRAILER], trailer, bytes.len() as u64).unwrap();
        let mut out = Vec::new();
        assert!(opener.block(&footer, 0, &bytes[HEADER..start], &mut out).is_err(), "{algorithm:?}");
        assert!(out.capacity() <= raw_length as usize + 64, "{algorithm:?} took {}", out.capacity());
        let absurd = Forged { payload, raw_length: u32::MAX, records: 1, algorithm: code, last: true };
        assert_eq!(read(&forge(&[absurd], 1), &Sealing::Plain).unwrap_err().kind(), FormatErrorKind::Limit);
    }
}

#[test]
fn an_absurd_footer_length_is_refused() {
    let mut trailer = [0; TRAILER];
    trailer[8..].copy_from_slice(b"FBRUNEND");
    for length in [0u32, 15, (64 << 20) + 1, u32::MAX] {
        trailer[..4].copy_from_slice(&length.to_le_bytes());
        assert_eq!(footer_length(&trailer).unwrap_err().kind(), FormatErrorKind::Limit, "{length}");
    }
    trailer[..4].copy_from_slice(&(64u32 << 20).to_le_bytes());
    assert_eq!(footer_length(&trailer).unwrap(), 64 << 20);
}

#[test]
fn planted_plain_text_is_in_nothing_that_is_sealed() {
    const PATH: &str = "planted-collection/planted-document";
    const TEXT: &str = "planted plain text";
    let found = |bytes: &[u8]| bytes.windows(7).any(|window| window == b"planted");
    let records = vec![RecordRef::document(PATH, TEXT.as_bytes(), None)];
    let run = |sealing: &Sealing| write(spec(RunKind::Base), sealing, &[(Algorithm::None, 0, records.clone())]).0;
    let manifest = |sealing: &Sealing| {
        object::seal(ObjectType::Manifest, REPOSITORY, "p", sealing, None, [1; 32], TEXT.as_bytes()).unwrap()
    };
    assert!(!found(&run(&key())) && !found(&manifest(&key())));
    assert!(found(&run(&Sealing::Plain)) && found(&manifest(&Sealing::Plain)), "the search itself works");
}

#[test]
fn writers_refuse_blocks_out_of_turn_and_runs_without_an_end() {
    use firebackup_codec::run::block::BlockBuilder;
    use firebackup_codec::run::writer::{RunSealer, RunWriter, Scratch};
    let sealer = RunSealer::new(spec(RunKind::Base), &key());
    let mut builder = BlockBuilder::new(RunKind::Base, 1);
    let mut raw = |path| {
        builder.push(&RecordRef::document(path, b"x", None)).unwrap();
        builder.take().unwrap().unwrap()
    };
    let (first, second) = (raw("a/1"), raw("a/2"));
    let seal =
        |block, index, last| sealer.seal_block(block, index, last, Algorithm::Zstd, 3, true, &mut Scratch::default());
    assert_eq!(seal(&first, 65_536, false).unwrap_err().kind(), FormatErrorKind::Limit);
    let mut writer = RunWriter::new(sealer.clone());
    let early = writer.append(&seal(&second, 1, true).unwrap(), &second.summary);
    assert_eq!(early.unwrap_err().kind(), FormatErrorKind::Order);
    writer.append(&seal(&second, 0, false).unwrap(), &second.summary).unwrap();
    let behind = writer.append(&seal(&first, 1, true).unwrap(), &first.summary);
    assert_eq!(behind.unwrap_err().kind(), FormatErrorKind::Order);
    assert!(writer.finish().is_err(), "there was no last block");
    assert!(RunWriter::new(sealer.clone()).finish().is_err(), "there was no block");
    let mut writer = RunWriter::new(sealer.clone());
    writer.append(&seal(&first, 0, true).unwrap(), &first.summary).unwrap();
    assert!(writer.append(&seal(&second, 1, true).unwrap(), &second.summary).is_err(), "the last has been");
    assert_eq!(writer.finish().unwrap().levels, [("none".to_owned(), 1)].into(), "what does not shrink is stored");
}

fn manifest(sealing: &Sealing, writer: Option<&WriterKey>) -> Vec<u8> {
    let json = br#"{"id":"x","text":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#;
    object::seal(ObjectType::Manifest, REPOSITORY, "snapshots/x", sealing, writer, [0x66; 32], json).unwrap()
}

fn open(bytes: &[u8], sealing: &Sealing) -> Result<object::OpenedObject, FormatError> {
    object::open(ObjectType::Manifest, REPOSITORY, "snapshots/x", sealing, bytes)
}

fn writer(seed: u8) -> WriterKey {
    WriterKey::from_seed(&SecretKey::from_bytes([seed; 32]))
}

#[test]
fn no_flipped_bit_cut_or_appendix_of_a_manifest_passes() {
    for sealing in both() {
        for signer in [None, Some(writer(1))] {
            let bytes = manifest(&sealing, signer.as_ref());
            assert_eq!(open(&bytes, &sealing).unwrap().signer, signer.as_ref().map(WriterKey::public));
            for bit in 0..bytes.len() * 8 {
                let kind = open(&flipped(&bytes, bit), &sealing).expect_err("a flipped bit").kind();
                let signed = bit / 8 >= bytes.len() - 96;
                let expected = if signed { FormatErrorKind::Signature } else { FormatErrorKind::Damaged };
                assert_eq!(kind, expected, "bit {bit}");
            }
            for length in 0..bytes.len() {
                assert!(open(&bytes[..length], &sealing).is_err(), "cut to {length}");
            }
            for tail in [&[0][..], &[0; 96], &bytes] {
                assert!(open(&[&bytes, tail].concat(), &sealing).is_err());
            }
        }
    }
}

#[test]
fn a_manifest_opens_only_where_it_belongs() {
    for sealing in both() {
        let bytes = manifest(&sealing, Some(&writer(1)));
        let kind = |kind, repository, path| object::open(kind, repository, path, &sealing, &bytes).unwrap_err().kind();
        let encrypted = sealing.key_id().is_some();
        assert_eq!(kind(ObjectType::Plan, REPOSITORY, "snapshots/x"), FormatErrorKind::Foreign);
        assert_eq!(kind(ObjectType::Manifest, REPOSITORY, "snapshots/y"), FormatErrorKind::Damaged);
        let expected = if encrypted { FormatErrorKind::WrongKey } else { FormatErrorKind::Damaged };
        assert_eq!(kind(ObjectType::Manifest, RepositoryId([0; 16]), "snapshots/x"), expected);
    }
    let bytes = manifest(&key(), None);
    for (id, key) in [(KEY_ID, [0x45; 32]), (KeyId([0; 16]), [0x44; 32])] {
        let sealing = Sealing::Key { id, key: SecretKey::from_bytes(key) };
        assert_eq!(open(&bytes, &sealing).unwrap_err().kind(), FormatErrorKind::WrongKey);
    }
    assert_eq!(open(&bytes, &Sealing::Plain).unwrap_err().kind(), FormatErrorKind::WrongKey);
    let plain = manifest(&Sealing::Plain, Some(&writer(1)));
    assert_eq!(open(&plain, &key()).unwrap_err().kind(), FormatErrorKind::Unencrypted);
    assert_eq!(object::key_of(&bytes).unwrap(), Some(KEY_ID));
    assert_eq!(object::key_of(&plain).unwrap(), None);
}

#[test]
fn who_signed_is_visible_and_cannot_be_changed_only_taken_away() {
    let bytes = manifest(&key(), Some(&writer(1)));
    let mut stripped = bytes.clone();
    let end = stripped.len();
    stripped[end - 96..].fill(0);
    assert_eq!(open(&stripped, &key()).unwrap().signer, None);
    let foreign = manifest(&key(), Some(&writer(2)));
    let signer = open(&foreign, &key()).unwrap().signer;
    assert_eq!(signer, Some(writer(2).public()));
    assert_ne!(signer, Some(writer(1).public()));
    // the name of one writer over the signature of the other
    let mut renamed = bytes.clone();
    renamed[end - 96..end - 64].copy_from_slice(&foreign[end - 96..end - 64]);
    assert_eq!(open(&renamed, &key()).unwrap_err().kind(), FormatErrorKind::Signature);
    // a signature of another object
    let json = b"{}";
    let other = object::seal(ObjectType::Plan, REPOSITORY, "p", &key(), Some(&writer(1)), [1; 32], json).unwrap();
    let mut moved = bytes;
    moved[end - 64..].copy_from_slice(&other[other.len() - 64..]);
    assert_eq!(open(&moved, &key()).unwrap_err().kind(), FormatErrorKind::Signature);
}

#[test]
fn an_objects_lengths_are_bounded_before_memory_is_taken() {
    let mut bytes = manifest(&Sealing::Plain, None);
    for (raw, stored) in [(u32::MAX, u32::MAX), ((64 << 20) + 1, 16), (100, 117), (100, 15)] {
        bytes[96..100].copy_from_slice(&raw.to_le_bytes());
        bytes[100..104].copy_from_slice(&stored.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..104]);
        bytes[104..108].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(open(&bytes, &Sealing::Plain).unwrap_err().kind(), FormatErrorKind::Limit, "{raw} {stored}");
    }
}

#[test]
fn a_writer_makes_nothing_that_no_reader_takes() {
    use firebackup_codec::run::block::BlockBuilder;
    use firebackup_codec::run::writer::{RunSealer, RunSpec, RunWriter, Scratch};
    use firebackup_model::manifest::{Compression, Level};
    let compression = Compression { algorithm: Algorithm::Gzip, level: Level::Fixed(200) };
    let odd = RunSpec { compression, block_size: u32::MAX, ..spec(RunKind::Delta) };
    let sealer = RunSealer::new(odd, &key());
    assert!(RunOpener::open(&sealer.header_bytes(), RUN, REPOSITORY, &key()).is_ok());
    let mut builder = BlockBuilder::new(RunKind::Delta, 1);
    builder.push(&RecordRef::tombstone("a/1")).unwrap();
    let raw = builder.take().unwrap().unwrap();
    let sealed = sealer.seal_block(&raw, 0, true, Algorithm::Gzip, 200, true, &mut Scratch::default()).unwrap();
    let finish = |points| {
        let mut writer = RunWriter::new(sealer.clone());
        writer.set_points(points);
        writer.append(&sealed, &raw.summary).unwrap();
        writer.finish()
    };
    assert!(finish(vec![Timestamp { seconds: 1, nanos: u32::MAX }]).is_err());
    let points = vec![Timestamp::new(2, 0), Timestamp::new(1, 0), Timestamp::new(2, 0)];
    let end = finish(points).unwrap();
    let bytes = [&sealer.header_bytes()[..], &sealed.bytes, &end.bytes].concat();
    assert_eq!(read(&bytes, &key()).unwrap().points, [Timestamp::new(1, 0), Timestamp::new(2, 0)]);
}

type Owned = (String, Option<Vec<u8>>, Option<i64>, Option<i64>, Origin);

fn any_records(kind: RunKind) -> impl Strategy<Value = Vec<Owned>> {
    let delta = kind == RunKind::Delta;
    let body = proptest::collection::vec(any::<u8>(), 0..200);
    let body = if delta { proptest::option::of(body).boxed() } else { body.prop_map(Some).boxed() };
    let origin = prop_oneof![Just(Origin::Base), Just(Origin::Pull), Just(Origin::Push)];
    let path = ("[a-c]{1,2}", "[a-z0-9]{1,3}", proptest::option::of(("[xy]", "[0-9]{1,2}")));
    let path = path.prop_map(|(a, b, below)| match below {
        None => format!("{a}/{b}"),
        Some((c, d)) => format!("{a}/{b}/{c}/{d}"),
    });
    let time = || proptest::option::of(0i64..4);
    proptest::collection::vec((path, body, time(), time(), origin), 1..60).prop_map(move |mut records| {
        records.sort_by(|a, b| firebackup_codec::record::order(&borrow(a), &borrow(b)));
        records.dedup_by(|a, b| match delta {
            true => firebackup_codec::record::order(&borrow(a), &borrow(b)).is_eq(),
            false => a.0 == b.0,
        });
        records
    })
}

fn borrow((path, body, update, point, origin): &Owned) -> RecordRef<'_> {
    RecordRef {
        path,
        body: body.as_deref(),
        origin: *origin,
        update_time: update.map(|seconds| Timestamp::new(seconds, 1000)),
        commit_time: update.map(|seconds| Timestamp::new(seconds, 999)),
        point: point.map(|seconds| Timestamp::new(seconds, 0)),
    }
}

fn any_run() -> impl Strategy<Value = (RunKind, Vec<Owned>)> {
    prop_oneof![
        any_records(RunKind::Base).prop_map(|records| (RunKind::Base, records)),
        any_records(RunKind::Delta).prop_map(|records| (RunKind::Delta, records)),
        any_records(RunKind::Users).prop_map(|records| (RunKind::Users, records)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn runs_round_trip((kind, records) in any_run(), size in 1usize..20, encrypted: bool) {
        let sealing = if encrypted { key() } else { Sealing::Plain };
        let algorithms = [(Algorithm::Brotli, 4), (Algorithm::Zstd, 3), (Algorithm::Gzip, 6), (Algorithm::None, 0)];
        let chunks = records.chunks(size).zip(algorithms.iter().cycle());
        let blocks: Vec<_> = chunks.map(|(chunk, (algorithm, level))| (*algorithm, *level, chunk.iter().map(borrow).collect())).collect();
        let (bytes, end) = write(spec(kind), &sealing, &blocks);

        let mut seen = 0;
        let footer = read_whole(&bytes, RUN, REPOSITORY, &sealing, |record| {
            assert_eq!(record, borrow(&records[seen]));
            seen += 1;
        }).unwrap();
        prop_assert_eq!(seen, records.len());
        let entry = &end.entry;
        prop_assert_eq!(entry.size, bytes.len() as u64);
        prop_assert_eq!(&entry.sha256, &hex::encode(Sha256::digest(&bytes)));
        prop_assert_eq!((entry.records, entry.blocks), (records.len() as u64, blocks.len() as u64));
        prop_assert_eq!((entry.first.as_str(), entry.last.as_str()), (&*records[0].0, &*records[seen - 1].0));
        prop_assert_eq!(&end.collections, &footer.collections);
        prop_assert_eq!(footer.raw_bytes, entry.raw_bytes);
        prop_assert_eq!(end.levels.values().sum::<u64>(), entry.blocks);
        prop_assert_eq!(total(&footer.collections).documents + footer.tombstones, footer.records);

        let ranged = read_by_range(&bytes, &sealing).unwrap();
        let ranged: Vec<_> = ranged.iter().flat_map(|raw| Records::new(raw)).collect::<Result<_, _>>().unwrap();
        let expected: Vec<_> = records.iter().map(borrow).collect();
        prop_assert_eq!(ranged, expected);
        for record in &records {
            let block = footer.find(&record.0);
            prop_assert!(block.is_some_and(|block| footer.blocks[block].first.as_str() <= record.0.as_str()));
        }
    }

    #[test]
    fn rubbish_never_panics(bytes: Vec<u8>, at in 0usize..600, with in proptest::collection::vec(any::<u8>(), 1..40)) {
        for sealing in both() {
            prop_assert!(read(&bytes, &sealing).is_err());
            let mut run = small(&sealing);
            let at = at % run.len();
            let end = (at + with.len()).min(run.len());
            let changed = run[at..end] != with[..end - at];
            run[at..end].copy_from_slice(&with[..end - at]);
            prop_assert_eq!(read(&run, &sealing).is_err(), changed);
        }
    }
}

fn total(groups: &GroupCounts) -> Counts {
    groups.values().fold(Counts::default(), |mut sum, counts| {
        sum.add(*counts);
        sum
    })
}
