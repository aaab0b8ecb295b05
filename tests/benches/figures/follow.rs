//! How far a capture is behind its writers, one that follows and one in windows, and what the former costs them. The emulator
//! behind the proxy of `testkit`, which answers listeners as production does; all of them share the cores.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use firebackup_embedded::emulator::{Emulator, EmulatorOptions};
use firebackup_engine::{Backup, Capture, CaptureEvent, CaptureOptions, EngineError, Repository, Stop};
use firebackup_google::sample::sample;
use firebackup_google::{Firestore, Retrying};
use firebackup_model::port::{ChangeSource, DocumentSink, DocumentSource, ListenFrom, Precondition, Write};
use firebackup_model::wire::{put_bytes_field, put_varint};
use firebackup_model::{DatabaseName, Timestamp};
use firebackup_testkit::{ListenMode, Proxy, ProxyOptions};
use futures::StreamExt;
use tokio::time::MissedTickBehavior;

use crate::stage::{Result, firestore, repository};

const DOCUMENTS: usize = 5_000;
const A_SECOND: u64 = 500;
const STEADY: Duration = Duration::from_secs(60);
/// The window of `firebackup pitr start`, where nobody says another.
const WINDOW: Duration = Duration::from_secs(60);
/// What is written a second beside a capture in windows, and for how many of them.
const A_SECOND_IN_WINDOWS: u64 = 100;
const WINDOWS: u32 = 4;
/// How far a capture may be behind, besides its window.
const BEHIND: Duration = Duration::from_secs(5);
/// How often it is looked whether something has come about.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
const FULL: Duration = Duration::from_secs(6);
const ROUNDS: usize = 5;
/// How long a capture may take to catch up.
const LONGEST: Duration = Duration::from_secs(60);
/// Documents a batch of a writer.
const BATCH: usize = 5;
const WRITERS: usize = 8;

pub async fn run() -> Result<()> {
    println!("\n# a capture beside writers, emulator behind the proxy, {DOCUMENTS} documents of about 1 KB");
    recovery_point(&Stage::new().await?, None, A_SECOND, STEADY).await?;
    recovery_point(&Stage::new().await?, Some(WINDOW), A_SECOND_IN_WINDOWS, WINDOW * WINDOWS).await?;
    cost_for_writers().await
}

/// A database with documents, and a backup of it.
struct Stage {
    source: Firestore,
    repository: Repository,
    _folder: tempfile::TempDir,
    _proxy: Proxy,
    _emulator: Emulator,
}

impl Stage {
    async fn new() -> Result<Self> {
        let emulator = Emulator::start_with(&EmulatorOptions { heap_mib: 4096, ..EmulatorOptions::default() }).await?;
        let options = ProxyOptions { listen: ListenMode::Production, ..ProxyOptions::default() };
        let proxy = Proxy::start(emulator.host(), options).await?;
        let database = DatabaseName::new("demo-follow", "(default)");
        let source = firestore(&proxy.host(), database.clone()).await?;
        for batch in writes(&database, DOCUMENTS, 1).chunks(400) {
            source.write(batch.to_vec()).await?;
        }
        let (folder, repository) = repository().await?;
        Backup::builder(repository.clone(), Arc::new(source.clone())).build().run().await?;
        Ok(Self { source, repository, _folder: folder, _proxy: proxy, _emulator: emulator })
    }
}

fn writes(database: &DatabaseName, count: usize, seed: u64) -> Vec<Write> {
    let write = |(path, document)| Write { path, document: Some(document), precondition: Precondition::None };
    sample(database, count, seed).map(write).collect()
}

/// A capture at work.
struct Following {
    stop: Stop,
    task: tokio::task::JoinHandle<std::result::Result<(), String>>,
    /// The end of each segment, and when it was sealed.
    sealed: Arc<Mutex<Vec<(Timestamp, f64)>>>,
    scans: Arc<AtomicU64>,
}

impl Following {
    /// Begins to capture as `firebackup pitr start` does: in windows, or without one with `--follow`.
    fn start(repository: &Repository, source: &Firestore, window: Option<Duration>) -> Self {
        let usual = CaptureOptions::default();
        let stop = Stop::default();
        let retrying = Arc::new(Retrying::new(source.clone()));
        let capture = Capture {
            repository: repository.clone(),
            source: retrying.clone(),
            changes: retrying,
            options: CaptureOptions { seal_every: window.unwrap_or(usual.seal_every), ..usual },
            meter: Arc::default(),
            stop: stop.clone(),
        };
        let (sealed, scans): (Arc<Mutex<Vec<_>>>, Arc<AtomicU64>) = Default::default();
        let (seen, scanned) = (Arc::clone(&sealed), Arc::clone(&scans));
        let task = tokio::spawn(async move {
            let mut told = |event: CaptureEvent| match event {
                CaptureEvent::Sealed(segment) => seen.lock().expect("no one panics").push((segment.end(), now())),
                CaptureEvent::Scanning(reason) => {
                    eprintln!("scanned: {reason}");
                    scanned.fetch_add(1, Ordering::Relaxed);
                }
                CaptureEvent::Degraded(reason) => eprintln!("degraded: {reason}"),
                CaptureEvent::Reopened(reason) => eprintln!("reopened: {reason}"),
                CaptureEvent::Unproven(reason) => eprintln!("unproven: {reason}"),
                CaptureEvent::Overtaken => eprintln!("overtaken"),
            };
            let ended = match window {
                None => capture.follow(&mut told).await.map(drop),
                Some(window) => in_windows(&capture, window, &mut told).await,
            };
            ended.map_err(|error| error.in_full())
        });
        Self { stop, task, sealed, scans }
    }

    fn sealed_until(&self) -> Option<Timestamp> {
        self.sealed.lock().expect("no one panics").last().map(|(end, _)| *end)
    }

    /// Waits until what was committed at `commit` is sealed, or nobody captures any more: [`Self::end`] says why.
    async fn wait_until_sealed(&self, commit: Timestamp, bound: Duration) -> Result<()> {
        let begun = Instant::now();
        while self.sealed_until() < Some(commit) && !self.task.is_finished() {
            if begun.elapsed() > bound {
                return Err(format!("the capture is not there after {bound:?}").into());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Ok(())
    }

    async fn end(self) -> Result<(Vec<(Timestamp, f64)>, u64)> {
        self.stop.request();
        self.task.await??;
        let sealed = std::mem::take(&mut *self.sealed.lock().expect("no one panics"));
        Ok((sealed, self.scans.load(Ordering::Relaxed)))
    }
}

/// Captures a window on each beat, as `firebackup pitr start` does.
async fn in_windows(
    capture: &Capture,
    window: Duration,
    told: &mut (dyn FnMut(CaptureEvent) + Send),
) -> std::result::Result<(), EngineError> {
    let mut beat = tokio::time::interval(window);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = requested(&capture.stop) => return Ok(()),
        }
        capture.until_now(told).await?;
    }
}

async fn requested(stop: &Stop) {
    while !stop.is_requested() {
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Writes at a steady pace; the commit time of each document.
async fn steadily(source: &Firestore, a_second: u64, time: Duration) -> Result<Vec<Timestamp>> {
    let database = DocumentSource::database(source).clone();
    let (mut commits, mut seed) = (Vec::new(), 100);
    let mut due = tokio::time::interval(Duration::from_secs_f64(BATCH as f64 / a_second as f64));
    let start = Instant::now();
    let mut waiting = writes(&database, DOCUMENTS, seed);
    while start.elapsed() < time {
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

async fn recovery_point(stage: &Stage, window: Option<Duration>, a_second: u64, time: Duration) -> Result<()> {
    let Stage { repository, source, .. } = stage;
    let following = Following::start(repository, source, window);
    let commits = steadily(source, a_second, time).await?;
    let last = commits.iter().max().copied().ok_or("nothing was written")?;
    following.wait_until_sealed(last, LONGEST + window.unwrap_or_default()).await?;
    let (sealed, scans) = following.end().await?;
    let delay = |commit: &Timestamp| {
        let at = sealed.iter().find(|(end, _)| end >= commit).map_or(f64::INFINITY, |(_, at)| *at);
        at - (commit.seconds as f64 + f64::from(commit.nanos) / 1e9)
    };
    let mut delays: Vec<f64> = commits.iter().map(delay).collect();
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    let how = window.map_or_else(|| "--follow".to_owned(), |window| format!("windows of {} s", window.as_secs()));
    println!(
        "{how}: {} writes in {:.0} s ({:.0}/s), {} segments, {scans} scans: sealed {:.2} s behind the commit (half), {:.2} s (99 %), {:.2} s (all); wanted is {} s at most",
        delays.len(),
        time.as_secs_f64(),
        delays.len() as f64 / time.as_secs_f64(),
        sealed.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        (window.unwrap_or_default() + BEHIND).as_secs()
    );
    Ok(())
}

/// The events that one writer writes over and over: no two writers wait for one another.
fn events(database: &DatabaseName, writer: usize) -> Vec<Write> {
    let mut all = writes(database, DOCUMENTS, 1_000 + writer as u64);
    all.retain(|write| write.path.as_str().starts_with("events/"));
    all
}

/// The same document with another field: what is written as it stands is no change.
fn numbered(write: &Write, number: u64) -> Write {
    const FIELDS: u32 = 2;
    let (mut value, mut field) = (vec![2 << 3], Vec::new());
    put_varint(&mut value, number);
    put_bytes_field(&mut field, 1, b"number");
    put_bytes_field(&mut field, 2, &value);
    let mut document = write.document.as_deref().unwrap_or_default().to_vec();
    put_bytes_field(&mut document, FIELDS, &field);
    Write { document: Some(document.into()), ..write.clone() }
}

/// Writes as fast as the emulator takes it; documents a second.
async fn at_full_rate(source: &Firestore) -> Result<f64> {
    let (done, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (source, done, ends) = (source.clone(), Arc::clone(&done), Arc::clone(&ends));
        let all = events(DocumentSource::database(&source), writer);
        writers.push(tokio::spawn(async move {
            for (number, batch) in all.chunks(50).cycle().enumerate() {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let batch = batch.iter().map(|write| numbered(write, number as u64)).collect();
                let outcomes = source.write(batch).await.map_err(|error| error.to_string())?;
                done.fetch_add(outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64, Ordering::Relaxed);
            }
            Ok::<_, String>(())
        }));
    }
    let start = Instant::now();
    tokio::time::sleep(FULL).await;
    let rate = done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    ends.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    Ok(rate)
}

async fn beside_a_listener(source: &Firestore) -> Result<f64> {
    let groups: BTreeSet<String> = ["users", "orders", "products", "events"].map(str::to_owned).into();
    let from = ListenFrom::ReadTime(source.snapshot_time().await?);
    let mut stream = source.listen(&groups, from).await?;
    let listener = tokio::spawn(async move { while stream.next().await.is_some() {} });
    let rate = at_full_rate(source).await?;
    listener.abort();
    Ok(rate)
}

/// The rate, and how many seconds after the writers the capture had everything.
async fn beside_a_capture(repository: &Repository, source: &Firestore) -> Result<(f64, f64)> {
    let following = Following::start(repository, source, None);
    caught_up(&following, source).await?;
    let rate = at_full_rate(source).await?;
    let behind = caught_up(&following, source).await?;
    following.end().await?;
    Ok((rate, behind))
}

/// Waits until everything up to now is sealed; how many seconds that took.
async fn caught_up(following: &Following, source: &Firestore) -> Result<f64> {
    let (end, begun) = (source.snapshot_time().await?, Instant::now());
    while following.sealed_until() < Some(end) {
        if begun.elapsed() > LONGEST {
            return Err(format!("the capture is not there after {LONGEST:?}").into());
        }
        // what is quiet is not sealed: one write more
        let seed = 100_000 + begun.elapsed().as_millis() as u64;
        source.write(writes(DocumentSource::database(source), 1, seed)).await?;
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Ok(begun.elapsed().as_secs_f64())
}

async fn cost_for_writers() -> Result<()> {
    let (mut shares, mut behind) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        // an emulator for each, which keeps every version and grows slower by and by; both are first in half of the rounds
        let stage = Stage::new().await?;
        let Stage { source, repository, .. } = &stage;
        at_full_rate(source).await?;
        let first = if round % 2 == 0 { Some(beside_a_listener(source).await?) } else { None };
        let (captured, late) = beside_a_capture(repository, source).await?;
        let bare = match first {
            Some(bare) => bare,
            None => beside_a_listener(source).await?,
        };
        println!(
            "writers at full rate: {bare:.0} docs/s beside a bare listener, {captured:.0} beside a capture, which was there {late:.1} s after them"
        );
        shares.push(captured / bare);
        behind.push(late);
    }
    shares.sort_by(f64::total_cmp);
    behind.sort_by(f64::total_cmp);
    println!(
        "writers beside a capture: {:.2} of what they do beside a bare listener (median of {shares:.2?}); caught up {:.1} s after them (median)",
        shares[ROUNDS / 2],
        behind[ROUNDS / 2]
    );
    Ok(())
}
