//! What stands on captured changes: a merged full backup, a restore to a moment, the history of a document. A database in memory,
//! so that nothing but the engine is measured.

use std::sync::Arc;
use std::time::Instant;

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{
    Backup, Capture, CaptureOptions, Compaction, Contents, Meter, Moments, Period, PrunePolicy, Repository, Restore,
    RestoreOptions, Resume, Target, history, prune, synthesize,
};
use firebackup_google::sample::sample;
use firebackup_model::id::SnapshotId;
use firebackup_model::port::{DocumentSink, DocumentSource, Precondition, Write};
use firebackup_model::{DatabaseName, DocumentPath, Selection, Timestamp};
use firebackup_testkit::faulty_store::{FaultyStore, Operation};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::engine_alone::{blocks, in_memory};
use crate::stage::{Rate, Result, median, rate, repository, secrets, world};

/// The project of the databases that are captured here.
pub const PROJECT: &str = "demo-bench";
const DOCUMENTS: usize = 100_000;
/// Documents of the database whose changes make many segments.
const SMALL: usize = 20_000;
const SEGMENTS: usize = 10_000;
/// Changes a segment.
const CHANGES: usize = 3;
const ROUNDS: usize = 5;

pub async fn run() -> Result<()> {
    merging().await?;
    many_segments().await
}

fn name() -> DatabaseName {
    DatabaseName::new(PROJECT, "(default)")
}

pub async fn filled(documents: usize, seed: u64) -> Result<MemoryDatabase> {
    let database = MemoryDatabase::new(name());
    database.flow();
    write(&database, documents, seed).await?;
    Ok(database)
}

async fn write(database: &MemoryDatabase, documents: usize, seed: u64) -> Result<()> {
    let write = |(path, document)| Write { path, document: Some(document), precondition: Precondition::None };
    let writes: Vec<Write> = sample(&name(), documents, seed).map(write).collect();
    for batch in writes.chunks(500) {
        DocumentSink::write(database, batch.to_vec()).await?;
    }
    Ok(())
}

fn capture(repository: &Repository, database: &MemoryDatabase) -> Capture {
    Capture {
        repository: repository.clone(),
        source: Arc::new(database.clone()),
        changes: Arc::new(database.clone()),
        options: CaptureOptions {
            prove_cheaply_every_seconds: 0,
            cheap_proof_reads: 10_000,
            ..CaptureOptions::default()
        },
        meter: Arc::default(),
        stop: Default::default(),
    }
}

/// Ten segments, each of as many changes as a hundredth of the documents and with a seed of its own, from `seed` on.
pub async fn ten_segments(
    repository: &Repository,
    database: &MemoryDatabase,
    documents: usize,
    seed: u64,
) -> Result<()> {
    for seed in seed..seed + 10 {
        write(database, documents / 100, seed).await?;
        capture(repository, database).until_now(&mut |_| {}).await?;
    }
    Ok(())
}

async fn merging() -> Result<()> {
    let database = filled(DOCUMENTS, 1).await?;
    let (_folder, repository) = repository().await?;
    let first = Backup::builder(repository.clone(), Arc::new(database.clone())).compression("zstd:3".parse()?);
    first.build().run().await?;
    ten_segments(&repository, &database, DOCUMENTS, 2).await?;
    let moments = Moments::read(&repository, &name()).await?;
    let moment = moments.resolve(moments.points().last().ok_or("no moment")?, true)?;
    let blocks = Arc::new(blocks(&database).await?);
    let (mut reads, mut seals, mut merges) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        reads.push(read(&repository, &moments, &moment).await?);
        seals.push(in_memory(&blocks, "zstd:3".parse()?)?);
        let start = Instant::now();
        let merged = synthesize(&repository, &moments, &moment)?.compression("zstd:3".parse()?).resume(Resume::Never);
        let totals = merged.build().run().await?.manifest.totals;
        merges.push(rate(totals.documents, totals.bytes, start.elapsed()));
    }
    let (a, b, merged) = (median(reads), median(seals), median(merges));
    let ideal = 1.0 / (1.0 / a.per_second() + 1.0 / b.per_second());
    println!(
        "\n# synthetic full backup, {DOCUMENTS} documents of about 1 KB, a base and 10 segments, zstd:3, folder, median of {ROUNDS}"
    );
    println!(
        "read and merge {:.0} docs/s, compress and seal {:.0} docs/s, merged backup {:.0} docs/s ({:.0} MB/s): {:.2} of 1/(1/a+1/b)",
        a.per_second(),
        b.per_second(),
        merged.per_second(),
        merged.megabytes(),
        merged.per_second() / ideal
    );
    Ok(())
}

async fn read(repository: &Repository, moments: &Moments, moment: &firebackup_engine::Moment) -> Result<Rate> {
    let start = Instant::now();
    let mut contents =
        Contents::of_moment(repository, moments, moment, &Selection::default(), &Arc::new(Meter::default()))?;
    let (mut documents, mut bytes) = (0, 0);
    while let Some(item) = contents.next().await? {
        documents += 1;
        bytes += item.document.map_or(0, |document| document.len() as u64);
    }
    Ok(rate(documents, bytes, start.elapsed()))
}

async fn many_segments() -> Result<()> {
    let database = filled(SMALL, 1).await?;
    let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let repository = Repository::init(Arc::clone(&store), secrets(), world()).await?;
    let base = Backup::builder(repository.clone(), Arc::new(database.clone())).compression("zstd:3".parse()?);
    base.build().run().await?;
    let watched = DocumentPath::new("watched/one")?;
    let start = Instant::now();
    for segment in 0..SEGMENTS {
        for change in 0..CHANGES {
            database.set(&format!("events/e{}", (segment * CHANGES + change) % 5_000), segment as i64);
        }
        if segment % 100 == 0 {
            database.set(watched.as_str(), segment as i64);
        }
        database.pass_seconds(2);
        capture(&repository, &database).until_now(&mut |_| {}).await?;
        if segment % 100 == 99 {
            compact(&repository).await?;
        }
        if segment % 1000 == 999 {
            prune(&repository, &PrunePolicy { exclusive: true, keep_moments_days: 365, ..PrunePolicy::default() })
                .await?;
        }
    }
    println!(
        "\n# {SEGMENTS} segments of {CHANGES} changes over {SMALL} documents, compacted, store in memory, median of {ROUNDS}"
    );
    println!("capturing and compacting them took {:.0} s", start.elapsed().as_secs_f64());
    restoring(&repository, &database).await?;
    telling(store, &watched).await
}

/// The history of one document, and what it asks of the store.
async fn telling(store: Arc<dyn ObjectStore>, watched: &DocumentPath) -> Result<()> {
    let all = store.list(Some(&Path::from("runs"))).try_collect::<Vec<_>>().await?.len();
    let counting = FaultyStore::new(store);
    let repository = Repository::open(Arc::new(counting.clone()), secrets(), world()).await?;
    // opening it is no part of what is measured
    counting.reset();
    let meter = Arc::new(Meter::default());
    let start = Instant::now();
    let found = history(&repository, &name(), watched, Period::default(), &meter).await?;
    let elapsed = start.elapsed();
    println!(
        "history of one document: {} versions from {} of {all} runs, {} bytes of runs read, {:.1} ms; with all manifests {} GETs of {} bytes, and {} listings",
        found.versions.len(),
        found.runs,
        meter.stored.get(),
        elapsed.as_secs_f64() * 1e3,
        counting.tally(Operation::Get).operations,
        counting.bytes_read(),
        counting.tally(Operation::List).operations
    );
    Ok(())
}

async fn compact(repository: &Repository) -> Result<()> {
    let (repository, database) = (repository.clone(), name());
    let report = Compaction { repository, database, meter: Arc::default(), stop: Default::default() }.run().await?;
    assert!(report.segments < 64, "{report:?}");
    Ok(())
}

async fn restoring(repository: &Repository, database: &MemoryDatabase) -> Result<()> {
    let moments = Moments::read(repository, &name()).await?;
    let moment = moments.resolve(moments.points().last().ok_or("no moment")?, true)?;
    // last, for the moment would else be its own
    let full = Backup::builder(repository.clone(), Arc::new(database.clone())).compression("zstd:3".parse()?);
    let full = full.build().run().await?.manifest;
    let (mut of_full, mut of_moment) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_full.push(restored(repository, &full.id, None).await?);
        of_moment.push(restored(repository, &moment.base, (!moment.is_base).then_some(moment.point)).await?);
    }
    let (of_full, of_moment) = (median(of_full), median(of_moment));
    println!(
        "restore of a full backup {:.0} docs/s, to a moment behind all segments {:.0} docs/s: {:.2} times as long",
        of_full.per_second(),
        of_moment.per_second(),
        of_full.per_second() / of_moment.per_second()
    );
    Ok(())
}

async fn restored(repository: &Repository, snapshot: &SnapshotId, at: Option<Timestamp>) -> Result<Rate> {
    let empty = MemoryDatabase::new(name());
    let source: Arc<dyn DocumentSource> = Arc::new(empty.clone());
    let start = Instant::now();
    let restore = Restore {
        repository: repository.clone(),
        snapshot: snapshot.clone(),
        at,
        target: Target { source, sink: Arc::new(empty.clone()) },
        options: RestoreOptions { ramp: false, undo: false, fresh: true, ..RestoreOptions::default() },
        meter: Arc::default(),
        stop: Default::default(),
    };
    let report = restore.run().await?;
    assert_eq!(report.tally.failed, 0);
    Ok(rate(report.tally.written, 0, start.elapsed()))
}
