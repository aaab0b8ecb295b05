//! How fast one thread compresses, seals, opens and compares blocks, and how small they get.
//!
//! `cargo run -p firebackup-codec --example speed`: the ciphers and compressors are optimised in this profile too.

use std::time::Instant;

use firebackup_codec::record::RecordRef;
use firebackup_codec::run::block::{BlockBuilder, RawBlock};
use firebackup_codec::run::writer::{RunSealer, RunSpec, Scratch};
use firebackup_codec::{Sealing, SecretKey};
use firebackup_model::Timestamp;
use firebackup_model::id::{KeyId, RepositoryId, RunId};
use firebackup_model::manifest::{Algorithm, Compression, RunKind};
use firebackup_model::wire::put_bytes_field;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const BLOCKS: usize = 24;
const BLOCK_SIZE: usize = 1 << 20;
const WORDS: [&str; 16] = [
    "order",
    "shipped",
    "Berlin",
    "customer",
    "pending",
    "invoice",
    "blue",
    "express",
    "2026",
    "gift",
    "return",
    "standard",
    "Lisbon",
    "priority",
    "note",
    "warehouse",
];

fn main() {
    let blocks = blocks();
    let raw: usize = blocks.iter().map(|block| block.bytes.len()).sum();
    println!("{BLOCKS} blocks, {:.1} MB; MB/s before compression, on one thread", raw as f64 / 1e6);
    println!("{:<12} {:>9} {:>13} {:>8}", "", "write", "and compare", "ratio");
    let settings = [
        (Algorithm::None, 0),
        (Algorithm::Zstd, 1),
        (Algorithm::Zstd, 3),
        (Algorithm::Zstd, 6),
        (Algorithm::Gzip, 6),
        (Algorithm::Brotli, 1),
        (Algorithm::Brotli, 3),
        (Algorithm::Brotli, 5),
    ];
    for (algorithm, level) in settings {
        let (write, stored) = measure(&blocks, algorithm, level, false);
        let (compare, _) = measure(&blocks, algorithm, level, true);
        let name = format!("{} {level}", algorithm.name());
        let speed = |seconds: f64| raw as f64 / 1e6 / seconds;
        let ratio = stored as f64 / raw as f64;
        println!("{name:<12} {:>9.0} {:>13.0} {ratio:>8.3}", speed(write), speed(compare));
    }
}

/// Seconds and stored bytes.
fn measure(blocks: &[RawBlock], algorithm: Algorithm, level: u8, verify: bool) -> (f64, usize) {
    let spec = RunSpec {
        repository: RepositoryId([1; 16]),
        run: RunId([2; 16]),
        kind: RunKind::Base,
        compression: Compression::default(),
        block_size: BLOCK_SIZE as u32,
        read_time: None,
        salt: [3; 32],
    };
    let sealing = Sealing::Key { id: KeyId([4; 16]), key: SecretKey::from_bytes([5; 32]) };
    let sealer = RunSealer::new(spec, &sealing);
    let mut scratch = Scratch::default();
    let start = Instant::now();
    let mut stored = 0;
    for (index, block) in blocks.iter().enumerate() {
        let sealed = sealer.seal_block(block, index as u64, false, algorithm, level, verify, &mut scratch);
        stored += sealed.expect("a block that was built can be sealed").bytes.len();
    }
    (start.elapsed().as_secs_f64(), stored)
}

fn blocks() -> Vec<RawBlock> {
    let mut random = SmallRng::seed_from_u64(1);
    let mut builder = BlockBuilder::new(RunKind::Base, BLOCK_SIZE);
    let mut blocks = Vec::with_capacity(BLOCKS);
    let mut number = 0u64;
    while blocks.len() < BLOCKS {
        let path = format!("orders/{number:010}");
        let body = document(&path, &mut random);
        let time = Timestamp::new(1_760_000_000 + number as i64, 123_456_000);
        builder.push(&RecordRef::document(&path, &body, Some(time))).expect("paths ascend");
        if builder.is_full() {
            blocks.extend(builder.take().expect("the paths are valid"));
        }
        number += 1;
    }
    blocks
}

/// About 1 KB: names, words, numbers and an id that nothing compresses.
fn document(path: &str, random: &mut SmallRng) -> Vec<u8> {
    let mut document = Vec::new();
    put_bytes_field(&mut document, 1, format!("projects/shop/databases/(default)/documents/{path}").as_bytes());
    for field in 0..18 {
        let text: Vec<_> = (0..4).map(|_| WORDS[random.random_range(0..WORDS.len())]).collect();
        let text = format!("{} {:08x}", text.join(" "), random.random::<u32>());
        let mut value = Vec::new();
        put_bytes_field(&mut value, 17, text.as_bytes());
        let mut entry = Vec::new();
        put_bytes_field(&mut entry, 1, format!("field{field}").as_bytes());
        put_bytes_field(&mut entry, 2, &value);
        put_bytes_field(&mut document, 2, &entry);
    }
    document
}
