//! What one document costs in a repository of 100,000.

use std::sync::Arc;
use std::time::Instant;

use firebackup_engine::{Backup, Meter, lookup};
use firebackup_model::port::DocumentSource;
use firebackup_model::{PathRange, document};
use futures::StreamExt;

use crate::stage::{ReplayProcess, Result, firestore, repository};

const DOCUMENTS: u64 = 100_000;

pub async fn run() -> Result<()> {
    let replay = ReplayProcess::start(DOCUMENTS)?;
    let source = firestore(&replay.host, ReplayProcess::database()).await?;
    let (_folder, repository) = repository().await?;
    let manifest = Backup::builder(repository.clone(), Arc::new(source.clone()))
        .compression("zstd:3".parse()?)
        .build()
        .run()
        .await?
        .manifest;
    let at = source.snapshot_time().await?;
    let bytes = source
        .stream(&PathRange::everything(), at, Some(50_000))
        .await?
        .skip(49_999)
        .next()
        .await
        .ok_or("no document")??;
    let path = source.database().path_of(document::head(&bytes.0)?.name)?;
    let meter = Arc::new(Meter::default());
    let start = Instant::now();
    let found = lookup(&repository, &manifest, &path, &meter).await?.ok_or("not found")?;
    let elapsed = start.elapsed();
    assert_eq!(found.document, bytes.0);
    let largest = manifest.runs.iter().map(|run| run.size / run.blocks.max(1)).max().unwrap_or_default();
    println!("\n# one document of {DOCUMENTS}, zstd:3, folder");
    println!(
        "{} bytes read of {} stored in {:.1} ms: header, end of the run with its footer, one block of about {largest} bytes",
        meter.stored.get(),
        manifest.stored_bytes,
        elapsed.as_secs_f64() * 1e3
    );
    Ok(())
}
