//! How far a capture that follows is behind its writers, and what it costs them. The emulator behind the proxy of `testkit`, which
//! answers listeners as production does; all of them share the cores.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use firebackup_embedded::emulator::{Emulator, EmulatorOptions};
use firebackup_engine::{Backup, Capture, CaptureEvent, CaptureOptions, Repository, Stop};
use firebackup_google::sample::sample;
use firebackup_google::{Firestore, Retrying};
use firebackup_model::port::{ChangeSource, DocumentSink, DocumentSource, ListenFrom, Precondition, Write};
use firebackup_model::{DatabaseName, Timestamp};
use firebackup_testkit::{ListenMode, Proxy, ProxyOptions};
use futures::StreamExt;

use crate::stage::{Result, firestore, repository};

const DOCUMENTS: usize = 5_000;
const A_SECOND: u64 = 500;
const STEADY: Duration = Duration::from_secs(60);
const FULL: Duration = Duration::from_secs(15);
const ROUNDS: usize = 5;
/// Documents a batch of a writer.
const BATCH: usize = 5;
const WRITERS: usize = 8;

pub async fn run() -> Result<()> {
    let emulator = Emulator::start_with(&EmulatorOptions { heap_mib: 4096, ..EmulatorOptions::default() }).await?;
    let options = ProxyOptions { listen: ListenMode::Production, ..ProxyOptions::default() };
    let proxy = Proxy::start(emulator.host(), options).await?;
    let database = DatabaseName::new("demo-follow", "(default)");
    let source = firestore(&proxy.host(), database.clone()).await?;
    let writes: Vec<Write> = writes(&database, DOCUMENTS, 1);
    for batch in writes.chunks(400) {
        source.write(batch.to_vec()).await?;
    }
    let (_folder, repository) = repository().await?;
    Backup::builder(repository.clone(), Arc::new(source.clone())).build().run().await?;
    println!("\n# capture with --follow, emulator behind the proxy, {DOCUMENTS} documents of about 1 KB");
    recovery_point(&repository, &source).await?;
    cost_for_writers(&repository, &source).await
}

fn writes(database: &DatabaseName, count: usize, seed: u64) -> Vec<Write> {
    let write = |(path, document)| Write { path, document: Some(document), precondition: Precondition::None };
    sample(database, count, seed).map(write).collect()
}

struct Following {
    stop: Stop,
    task: tokio::task::JoinHandle<std::result::Result<(), String>>,
    /// The end of each segment, and when it was sealed.
    sealed: Arc<Mutex<Vec<(Timestamp, f64)>>>,
    scans: Arc<AtomicU64>,
}

impl Following {
    fn start(repository: &Repository, source: &Firestore) -> Self {
        let stop = Stop::default();
        let retrying = Arc::new(Retrying::new(source.clone()));
        let capture = Capture {
            repository: repository.clone(),
            source: retrying.clone(),
            changes: retrying,
            options: CaptureOptions::default(),
            meter: Arc::default(),
            stop: stop.clone(),
        };
        let (sealed, scans): (Arc<Mutex<Vec<_>>>, Arc<AtomicU64>) = Default::default();
        let (seen, scanned) = (Arc::clone(&sealed), Arc::clone(&scans));
        let task = tokio::spawn(async move {
            let mut told = |event: CaptureEvent| match event {
                CaptureEvent::Sealed(segment) => seen.lock().expect("no one panics").push((segment.end(), now())),
                CaptureEvent::Scanning(_) => drop(scanned.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            };
            capture.follow(&mut told).await.map(drop).map_err(|error| error.in_full())
        });
        Self { stop, task, sealed, scans }
    }

    async fn end(self) -> Result<(Vec<(Timestamp, f64)>, u64)> {
        self.stop.request();
        self.task.await??;
        let sealed = std::mem::take(&mut *self.sealed.lock().expect("no one panics"));
        Ok((sealed, self.scans.load(Ordering::Relaxed)))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Writes at a steady pace; the commit time of each document.
async fn steadily(source: &Firestore) -> Result<Vec<Timestamp>> {
    let database = DocumentSource::database(source).clone();
    let (mut commits, mut seed) = (Vec::new(), 100);
    let mut due = tokio::time::interval(Duration::from_secs_f64(BATCH as f64 / A_SECOND as f64));
    let start = Instant::now();
    let mut waiting = writes(&database, DOCUMENTS, seed);
    while start.elapsed() < STEADY {
        due.tick().await;
        if waiting.len() < BATCH {
            seed += 1;
            waiting = writes(&database, DOCUMENTS, seed);
        }
        let batch = waiting.split_off(waiting.len() - BATCH);
        for outcome in source.write(batch).await? {
            commits.push(outcome?);
        }
    }
    Ok(commits)
}

async fn recovery_point(repository: &Repository, source: &Firestore) -> Result<()> {
    let following = Following::start(repository, source);
    let commits = steadily(source).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (sealed, scans) = following.end().await?;
    let delay = |commit: &Timestamp| {
        let at = sealed.iter().find(|(end, _)| end >= commit).map_or(f64::INFINITY, |(_, at)| *at);
        at - (commit.seconds as f64 + f64::from(commit.nanos) / 1e9)
    };
    let mut delays: Vec<f64> = commits.iter().map(delay).collect();
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    println!(
        "{} writes in {:.0} s ({:.0}/s), {} segments, {scans} scans: sealed {:.2} s behind the commit (half), {:.2} s (99 %), {:.2} s (all)",
        delays.len(),
        STEADY.as_secs_f64(),
        delays.len() as f64 / STEADY.as_secs_f64(),
        sealed.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

/// Writes as fast as the emulator takes it; documents a second.
async fn at_full_rate(source: &Firestore, seed: u64) -> Result<f64> {
    let database = DocumentSource::database(source).clone();
    let (done, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut writers = Vec::new();
    let start = Instant::now();
    for writer in 0..WRITERS {
        let (source, done, ends) = (source.clone(), Arc::clone(&done), Arc::clone(&ends));
        let all = writes(&database, DOCUMENTS, seed + writer as u64);
        writers.push(tokio::spawn(async move {
            for batch in all.chunks(50).cycle().skip(writer * 7) {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let outcomes = source.write(batch.to_vec()).await.map_err(|error| error.to_string())?;
                done.fetch_add(outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64, Ordering::Relaxed);
            }
            Ok::<_, String>(())
        }));
    }
    tokio::time::sleep(FULL).await;
    let rate = done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    ends.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    Ok(rate)
}

async fn cost_for_writers(repository: &Repository, source: &Firestore) -> Result<()> {
    at_full_rate(source, 1_000).await?;
    let (mut shares, mut bare, mut captured, mut behind) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let seed = 2_000 + 100 * round as u64;
        let groups: BTreeSet<String> = ["users", "orders", "products", "events"].map(str::to_owned).into();
        let from = ListenFrom::ReadTime(source.snapshot_time().await?);
        let mut stream = source.listen(&groups, from).await?;
        let listener = tokio::spawn(async move { while stream.next().await.is_some() {} });
        let with_listener = at_full_rate(source, seed).await?;
        listener.abort();
        let following = Following::start(repository, source);
        let with_capture = at_full_rate(source, seed + 50).await?;
        let end = source.snapshot_time().await?;
        let begun = Instant::now();
        while following.sealed.lock().expect("no one panics").last().is_none_or(|(last, _)| *last < end) {
            if begun.elapsed() > Duration::from_secs(60) {
                break;
            }
            // what is quiet is not sealed: one write more
            source
                .write(writes(DocumentSource::database(source), 1, seed + 77 + begun.elapsed().as_millis() as u64))
                .await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        behind.push(begun.elapsed().as_secs_f64());
        following.end().await?;
        shares.push(with_capture / with_listener);
        bare.push(with_listener);
        captured.push(with_capture);
    }
    shares.sort_by(f64::total_cmp);
    behind.sort_by(f64::total_cmp);
    println!(
        "writers at full rate: {:.0} docs/s beside a bare listener, {:.0} beside a capture (last of {ROUNDS} rounds); {:.2} of it (median of rounds {shares:.2?}); caught up {:.1} s after them (median)",
        bare[ROUNDS - 1],
        captured[ROUNDS - 1],
        shares[ROUNDS / 2],
        behind[ROUNDS / 2]
    );
    Ok(())
}
