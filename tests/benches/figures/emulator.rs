//! Against the official emulator, warmed up. It shares the cores with the engine.

use std::sync::Arc;
use std::time::Instant;

use firebackup_embedded::emulator::{Emulator, EmulatorOptions};
use firebackup_engine::{Backup, Meter, Repository, Restore, RestoreOptions, Stop, Target};
use firebackup_google::sample::sample;
use firebackup_google::{Firestore, Retrying};
use firebackup_model::DatabaseName;
use firebackup_model::id::SnapshotId;
use firebackup_model::port::{DocumentSink, Precondition, Write};
use futures::{StreamExt, TryStreamExt, stream};

use crate::stage::{Rate, Result, backup, bare_read, firestore, median, rate, repository, share};

const DOCUMENTS: usize = 20_000;
const READ_ROUNDS: usize = 15;
const WRITE_ROUNDS: usize = 9;
/// Batches on their way at one time, as a restore has them.
const PARALLEL: usize = 4;

pub async fn run() -> Result<()> {
    let emulator = Emulator::start_with(&EmulatorOptions { heap_mib: 4096, ..EmulatorOptions::default() }).await?;
    let database = DatabaseName::new("demo-bench", "(default)");
    let source = firestore(emulator.host(), database.clone()).await?;
    println!(
        "\n# official emulator, {DOCUMENTS} documents of about 1 KB, warmed up, medians of {READ_ROUNDS} and {WRITE_ROUNDS}"
    );
    for _ in 0..3 {
        bare_write(&source, &database).await?;
        bare_read(&source).await?;
    }
    reading(&source).await?;
    writing(&emulator, &source, &database).await
}

async fn reading(source: &Firestore) -> Result<()> {
    let (mut bare, mut none, mut auto, mut levels) = (Vec::new(), Vec::new(), Vec::new(), None);
    for round in 0..READ_ROUNDS {
        // each comes first, second and last in turn
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => bare.push(bare_read(source).await?),
                1 => none.push(backup(source, "none", 1).await?.0),
                _ => {
                    let (rate, outcome) = backup(source, "brotli:auto", 1).await?;
                    auto.push(rate);
                    levels = Some(outcome.manifest.levels);
                }
            }
        }
    }
    let of_bare = (share(&none, &bare), share(&auto, &bare));
    println!("bare RunQuery loop       {:>8.0} docs/s", median(bare).per_second());
    let of_none = share(&auto, &none);
    println!("backup, none             {:>8.0} docs/s   {:.2} of bare", median(none).per_second(), of_bare.0);
    println!(
        "backup, brotli:auto      {:>8.0} docs/s   {:.2} of bare, {of_none:.2} of none; levels {:?}",
        median(auto).per_second(),
        of_bare.1,
        levels.unwrap_or_default()
    );
    Ok(())
}

async fn writing(emulator: &Emulator, source: &Firestore, database: &DatabaseName) -> Result<()> {
    let (_folder, repository) = repository().await?;
    let snapshot = Backup::builder(repository.clone(), Arc::new(source.clone())).build().run().await?.manifest.id;
    let (mut bare, mut plain, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WRITE_ROUNDS {
        for turn in 0..2 {
            emulator.clear(database).await?;
            match (round + turn) % 2 {
                0 => bare.push(bare_write(source, database).await?),
                _ => plain.push(restored(&repository, &snapshot, source, false).await?),
            }
        }
        bare_write_other(source, database).await?;
        kept.push(restored(&repository, &snapshot, source, true).await?);
    }
    let (of_plain, of_kept) = (share(&plain, &bare), share(&kept, &bare));
    println!("bare BatchWrite loop     {:>8.0} docs/s", median(bare).per_second());
    println!("restore, empty database  {:>8.0} docs/s   {of_plain:.2} of bare", median(plain).per_second());
    println!(
        "restore, in place, undo  {:>8.0} docs/s   {of_kept:.2} of bare (reads, seals and conditions each write besides)",
        median(kept).per_second()
    );
    Ok(())
}

async fn restored(repository: &Repository, snapshot: &SnapshotId, target: &Firestore, undo: bool) -> Result<Rate> {
    let start = Instant::now();
    let restore = Restore {
        repository: repository.clone(),
        snapshot: snapshot.clone(),
        at: None,
        target: Target { source: Arc::new(Retrying::new(target.clone())), sink: Arc::new(target.clone()) },
        options: RestoreOptions { undo, ramp: false, parallel: PARALLEL, ..RestoreOptions::default() },
        meter: Arc::new(Meter::default()),
        stop: Stop::default(),
    };
    let report = restore.run().await?;
    assert_eq!((report.tally.failed, report.tally.written), (0, DOCUMENTS as u64));
    Ok(rate(report.tally.written, 0, start.elapsed()))
}

async fn bare_write(sink: &Firestore, database: &DatabaseName) -> Result<Rate> {
    write_sample(sink, database, 1).await
}

/// The same paths with other contents, so that a restore has something to replace.
async fn bare_write_other(sink: &Firestore, database: &DatabaseName) -> Result<()> {
    let documents: Vec<_> = sample(database, DOCUMENTS, 1).collect();
    let changed = documents.into_iter().map(|(path, bytes)| {
        let name = firebackup_model::document::head(&bytes).map(|head| head.name.to_owned());
        let mut out = Vec::new();
        firebackup_model::wire::put_bytes_field(&mut out, 1, name.unwrap_or_default().as_bytes());
        (path, bytes::Bytes::from(out))
    });
    write(sink, changed.collect()).await?;
    Ok(())
}

async fn write_sample(sink: &Firestore, database: &DatabaseName, seed: u64) -> Result<Rate> {
    write(sink, sample(database, DOCUMENTS, seed).collect()).await
}

async fn write(sink: &Firestore, mut documents: Vec<(firebackup_model::DocumentPath, bytes::Bytes)>) -> Result<Rate> {
    documents.sort_by(|a, b| a.0.cmp(&b.0));
    let count = documents.len() as u64;
    let one = |(path, document)| Write { path, document: Some(document), precondition: Precondition::None };
    let batches: Vec<Vec<Write>> =
        documents.chunks(500).map(|chunk| chunk.iter().cloned().map(one).collect()).collect();
    let start = Instant::now();
    let sent = stream::iter(batches).map(|batch| sink.write(batch)).buffer_unordered(PARALLEL);
    sent.try_for_each(|outcomes| async { outcomes.into_iter().try_for_each(|outcome| outcome.map(|_| ())) }).await?;
    Ok(rate(count, 0, start.elapsed()))
}
