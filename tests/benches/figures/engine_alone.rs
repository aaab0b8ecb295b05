//! The engine alone: replay server in another process, folder destination, all cores.
//!
//! With `a` the rate of a bare RunQuery loop and `b` the rate of compressing, sealing, opening and comparing the same bytes in
//! memory on all cores, a pipeline that wastes nothing on machinery comes to 1/(1/a + 1/b).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use firebackup_codec::record::RecordRef;
use firebackup_codec::run::block::{BlockBuilder, RawBlock};
use firebackup_codec::run::writer::{RunSealer, RunSpec, Scratch};
use firebackup_codec::sealing::Sealing;
use firebackup_codec::secret::SecretKey;
use firebackup_google::Firestore;
use firebackup_model::id::{KeyId, RepositoryId, RunId};
use firebackup_model::manifest::{Compression, Level, RunKind};
use firebackup_model::port::DocumentSource;
use firebackup_model::{PathRange, document};
use futures::StreamExt;

use crate::stage::{Rate, ReplayProcess, Result, backup, bare_read, firestore, median, rate, share};

const DOCUMENTS: u64 = 200_000;
const ROUNDS: usize = 5;
/// What differs little needs more rounds to be told apart.
const AUTO_ROUNDS: usize = 15;
/// Blocks for the measurement in memory.
const BLOCKS: usize = 96;

pub async fn run() -> Result<()> {
    let replay = ReplayProcess::start(DOCUMENTS)?;
    let source = firestore(&replay.host, ReplayProcess::database()).await?;
    println!(
        "\n# engine alone: replay server, {DOCUMENTS} documents of about 1 KB, folder destination, median of {ROUNDS}"
    );
    let blocks = Arc::new(blocks(&source).await?);
    bare_read(&source).await?;
    println!("compression   a docs/s  b docs/s  engine docs/s   MB/s   ratio to 1/(1/a+1/b)");
    for compression in ["brotli:5", "zstd:3", "none"] {
        compare(&source, &blocks, compression).await?;
    }
    automatic(&source).await
}

async fn compare(source: &Firestore, blocks: &Arc<Vec<RawBlock>>, compression: &str) -> Result<()> {
    let (mut a, mut b, mut engine) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(bare_read(source).await?);
        b.push(in_memory(blocks, compression.parse()?)?);
        engine.push(backup(source, compression, 1).await?.0);
    }
    let (a, b, engine) = (median(a), median(b), median(engine));
    let ideal = 1.0 / (1.0 / a.per_second() + 1.0 / b.per_second());
    println!(
        "{compression:<12} {:>9.0} {:>9.0} {:>14.0} {:>6.0}   {:.2}",
        a.per_second(),
        b.per_second(),
        engine.per_second(),
        engine.megabytes(),
        engine.per_second() / ideal
    );
    Ok(())
}

/// `auto` against `none`, interleaved, with the levels it chose.
async fn automatic(source: &Firestore) -> Result<()> {
    println!("auto          docs/s  of none   levels chosen");
    for algorithm in ["brotli", "zstd", "gzip"] {
        let (mut auto, mut none, mut levels) = (Vec::new(), Vec::new(), None);
        for round in 0..AUTO_ROUNDS {
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    none.push(backup(source, "none", 1).await?.0);
                    continue;
                }
                let (rate, outcome) = backup(source, &format!("{algorithm}:auto"), 1).await?;
                auto.push(rate);
                levels = Some(outcome.manifest.levels);
            }
        }
        let of_none = share(&auto, &none);
        let levels = levels.unwrap_or_default();
        println!("{algorithm:<12} {:>7.0}   {of_none:.2}    {levels:?}", median(auto).per_second());
    }
    Ok(())
}

/// The first documents, in blocks as the engine makes them.
pub async fn blocks(source: &dyn DocumentSource) -> Result<Vec<RawBlock>> {
    let at = source.snapshot_time().await?;
    let mut stream = source.stream(&PathRange::everything(), at, None).await?;
    let mut builder = BlockBuilder::new(RunKind::Base, 1024 * 1024);
    let mut blocks = Vec::new();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?.0;
        let head = document::head(&bytes)?;
        let path = source.database().path_of(head.name)?;
        builder.push(&RecordRef::document(path.as_str(), &bytes, head.update_time))?;
        if builder.is_full() {
            blocks.extend(builder.take()?);
            if blocks.len() == BLOCKS {
                break;
            }
        }
    }
    Ok(blocks)
}

/// Compresses, seals, opens and compares all blocks, on all cores.
pub fn in_memory(blocks: &Arc<Vec<RawBlock>>, compression: Compression) -> Result<Rate> {
    let level = match compression.level {
        Level::Fixed(level) => level,
        Level::Auto => 0,
    };
    let sealing = Sealing::Key { id: KeyId([1; 16]), key: SecretKey::from_bytes([2; 32]) };
    let repository = RepositoryId([3; 16]);
    let spec = RunSpec {
        repository,
        run: RunId([4; 16]),
        kind: RunKind::Base,
        compression,
        block_size: 1 << 20,
        read_time: None,
        salt: [5; 32],
    };
    let sealer = RunSealer::new(spec, &sealing);
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut scratch = Scratch::default();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(block) = blocks.get(index) else { break };
                    let sealed =
                        sealer.seal_block(block, index as u64, false, compression.algorithm, level, true, &mut scratch);
                    std::hint::black_box(sealed).expect("the same block was sealed before");
                }
            });
        }
    });
    let documents = blocks.iter().map(|block| u64::from(block.summary.records)).sum();
    let bytes = blocks.iter().map(|block| block.bytes.len() as u64).sum();
    Ok(rate(documents, bytes, start.elapsed()))
}
