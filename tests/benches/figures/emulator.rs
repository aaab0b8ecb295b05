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

use crate::stage::{Rate, Result, backup, bare_read, firestore, median, rate, repository};

const DOCUMENTS: usize = 20_000;
const ROUNDS: usize = 5;
/// Batches on their way at one time, as a restore has them.
const PARALLEL: usize = 4;

pub async fn run() -> Result<()> {
    let emulator = Emulator::start_with(&EmulatorOptions { heap_mib: 4096, ..EmulatorOptions::default() }).await?;
    let database = DatabaseName::new("demo-bench", "(default)");
    let source = firestore(emulator.host(), database.clone()).await?;
    println!("\n# official emulator, {DOCUMENTS} documents of about 1 KB, warmed up, median of {ROUNDS}");
    for _ in 0..3 {
        bare_write(&source, &database).await?;
        bare_read(&source).await?;
    }
    reading(&source).await?;
    writing(&emulator, &source, &database).await
}

async fn reading(source: &Firestore) -> Result<()> {
    let (mut bare, mut none, mut auto, mut levels) = (Vec::new(), Vec::new(), Vec::new(), None);
    for _ in 0..ROUNDS {
        bare.push(bare_read(source).await?);
        none.push(backup(source, "none", 1).await?.0);
        let (rate, outcome) = backup(source, "brotli:auto", 1).await?;
        auto.push(rate);
        levels = Some(outcome.manifest.levels);
    }
    let (bare, none, auto) = (median(bare).per_second(), median(none).per_second(), median(auto).per_second());
    println!("bare RunQuery loop       {bare:>8.0} docs/s");
    println!("backup, none             {none:>8.0} docs/s   {:.2} of bare", none / bare);
    println!(
        "backup, brotli:auto      {auto:>8.0} docs/s   {:.2} of bare, {:.2} of none; levels {:?}",
        auto / bare,
        auto / none,
        levels.unwrap_or_default()
    );
    Ok(())
}

async fn writing(emulator: &Emulator, source: &Firestore, database: &DatabaseName) -> Result<()> {
    let (_folder, repository) = repository().await?;
    let snapshot = Backup::builder(repository.clone(), Arc::new(source.clone())).build().run().await?.manifest.id;
    let (mut bare, mut plain, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        emulator.clear(database).await?;
        bare.push(bare_write(source, database).await?);
        emulator.clear(database).await?;
        plain.push(restored(&repository, &snapshot, source, false).await?);
        bare_write_other(source, database).await?;
        kept.push(restored(&repository, &snapshot, source, true).await?);
    }
    let (bare, plain, kept) = (median(bare).per_second(), median(plain).per_second(), median(kept).per_second());
    println!("bare BatchWrite loop     {bare:>8.0} docs/s");
    println!("restore, empty database  {plain:>8.0} docs/s   {:.2} of bare", plain / bare);
    println!(
        "restore, in place, undo  {kept:>8.0} docs/s   {:.2} of bare (reads, seals and conditions each write besides)",
        kept / bare
    );
    Ok(())
}

async fn restored(repository: &Repository, snapshot: &SnapshotId, target: &Firestore, undo: bool) -> Result<Rate> {
    let start = Instant::now();
    let restore = Restore {
        repository: repository.clone(),
        snapshot: snapshot.clone(),
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
