//! What a backup of very many documents comes to: the real plan over a database that only pretends to hold them, and
//! the quotas of AWS beside it. Prints the table of `docs/benchmarks.md`.

use std::sync::Arc;

use async_trait::async_trait;
use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{BackupSteps, Repository};
use firebackup_model::document::RawDocument;
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::port::{DocumentSource, DocumentStream};
use firebackup_model::{DatabaseName, DocumentPath, ErrorKind, PathRange, PortError, RangeStart, Timestamp};
use object_store::ObjectStoreExt;
use serde_json::{Value, json};

use crate::fixture::{Fixture, all_whole, backup_of};

/// The stack's defaults.
const CHUNK_DOCUMENTS: u64 = 250_000;
const CONCURRENCY: u64 = 20;
const STEP_SECONDS: u64 = 600;
/// A step ends behind so many bytes too; documents of 1 KB.
const STEP_DOCUMENTS: u64 = 512 * 1024;
/// Documents a second of one chunk: a tenth of what `docs/benchmarks.md` measured against the emulator on two cores.
const RATE: u64 = 3_200;

/// Quotas of AWS Step Functions and Lambda, and our own limit of a sealed object.
const MOST_CHUNKS: u64 = 10_000;
const MOST_PAYLOAD: usize = 256 * 1024;
const MOST_EVENTS: u64 = 25_000;
const LAMBDA_SECONDS: u64 = 900;
const SEALED_BYTES: usize = 64 * 1024 * 1024;
/// After this time a job may not commit.
const JOB_SECONDS: u64 = 12 * 3600;
/// How long a request to the store takes, and how many are under way at a time.
const REQUEST_MILLIS: u64 = 50;
const PARALLEL_REQUESTS: u64 = 16;

/// Pretends to hold `documents`, of which each chunk's first is really there.
struct Pretender {
    documents: u64,
    /// What a document's name ends with.
    padding: String,
    /// Whether the server counts in time.
    counts: bool,
    really: MemoryDatabase,
}

impl Pretender {
    fn new(documents: u64, padding: String) -> Self {
        let really = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
        Self { documents, padding, counts: true, really }
    }

    fn path(&self, number: u64) -> DocumentPath {
        DocumentPath::new(format!("orders/{number:012}{}", self.padding)).unwrap()
    }

    /// The numbers of the documents in a range: the first, and the first behind it.
    fn numbers(&self, range: &PathRange) -> (u64, u64) {
        let from = match &range.start {
            RangeStart::Beginning => 0,
            RangeStart::At(start) => self.first(|path| path >= *start),
            RangeStart::After(start) => self.first(|path| path > *start),
        };
        (from, range.end.as_ref().map_or(self.documents, |end| self.first(|path| path >= *end)))
    }

    /// The first number from which on something holds of its path.
    fn first(&self, holds: impl Fn(DocumentPath) -> bool) -> u64 {
        let (mut low, mut high) = (0, self.documents);
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(self.path(middle)) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}

#[async_trait]
impl DocumentSource for Pretender {
    fn database(&self) -> &DatabaseName {
        DocumentSource::database(&self.really)
    }

    async fn snapshot_time(&self) -> Result<Timestamp, PortError> {
        self.really.snapshot_time().await
    }

    async fn versions_since(&self) -> Result<Option<Timestamp>, PortError> {
        Ok(None)
    }

    async fn split_points(
        &self,
        range: &PathRange,
        wanted: usize,
        _: Timestamp,
    ) -> Result<Vec<DocumentPath>, PortError> {
        let (from, to) = self.numbers(range);
        let parts = wanted as u64;
        Ok((1..parts).map(|part| self.path(from + (to - from) * part / parts)).collect())
    }

    async fn stream(
        &self,
        range: &PathRange,
        time: Timestamp,
        limit: Option<u32>,
    ) -> Result<DocumentStream, PortError> {
        self.really.stream(range, time, limit).await
    }

    async fn count(&self, range: &PathRange, _: Timestamp) -> Result<u64, PortError> {
        let (from, to) = self.numbers(range);
        match self.counts {
            true => Ok(to - from),
            false => Err(PortError::new(ErrorKind::DeadlineExceeded, "count", "it took more than a minute")),
        }
    }

    async fn get(
        &self,
        paths: &[DocumentPath],
        time: Option<Timestamp>,
    ) -> Result<Vec<Option<RawDocument>>, PortError> {
        self.really.get(paths, time).await
    }
}

/// The machine that runs the steps: what a walk through its states writes into its history.
struct Machine {
    parent: u64,
    /// Events of one step of a chunk, and of the most retries that it may take.
    step: u64,
    retried: u64,
}

impl Machine {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/statemachines/backup.asl.json");
        let machine: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let states = &machine["States"];
        let chunk = &states["Chunks"]["ItemProcessor"]["States"];
        let way = ["Plan", "AnyChunks", "Chunks", "Finalize", "FinalizeFailed", "Ended", "Completed"];
        let events = |states: &Value, names: &[&str]| names.iter().map(|name| events(&states[*name])).sum::<u64>();
        let retries = |states: &Value, names: &[&str]| names.iter().map(|name| retries(&states[*name])).sum::<u64>();
        let step = events(chunk, &["Chunk", "ChunkDone"]);
        Self {
            // all of the way, the failed end too, and every retry on it; begin and end
            parent: events(states, &way) + retries(states, &way) + 2,
            step,
            retried: step + retries(chunk, &["Chunk"]),
        }
    }
}

/// Events of one visit of a state.
fn events(state: &Value) -> u64 {
    match state["Type"].as_str() {
        // entered, scheduled, started, succeeded, exited
        Some("Task") => 5,
        // entered, started, succeeded, exited
        Some("Map") => 4,
        Some("Choice" | "Pass" | "Succeed" | "Fail") => 2,
        other => panic!("a state of type {other:?}"),
    }
}

/// Events of all retries of one visit: each is scheduled, started and fails.
fn retries(state: &Value) -> u64 {
    let attempts = state["Retry"].as_array().into_iter().flatten().filter_map(|retry| retry["MaxAttempts"].as_u64());
    3 * attempts.sum::<u64>()
}

/// What a plan came to.
struct Planned {
    chunks: u64,
    sealed: usize,
}

async fn plan(source: Arc<Pretender>, chunk_documents: u64) -> (Fixture, Repository, JobId, Planned) {
    let (fixture, repository) = Fixture::new(0).await;
    let job = fixture.world.job_id(JobKind::Backup);
    let chunks = steps(&repository, &source, chunk_documents).plan(&job).await.unwrap().chunks;
    let sealed = fixture.read(&format!("receipts/{job}/plan")).await.len();
    (fixture, repository, job, Planned { chunks: chunks.into(), sealed })
}

fn steps(repository: &Repository, source: &Arc<Pretender>, chunk_documents: u64) -> BackupSteps {
    backup_of(repository, source.clone()).chunk_documents(chunk_documents).steps()
}

/// A line of the list that the map reads, with ids and a number as long as they may be.
fn list_line(chunk: u64) -> usize {
    let ulid = "0".repeat(26);
    json!({"job": format!("bkp_{ulid}"), "organization": format!("org_{ulid}"), "chunk": chunk, "sequence": 0})
        .to_string()
        .len()
        + 1
}

/// The most that is handed from state to state: of the parent the list's place and an error, of a child its line.
fn payload(chunks: u64) -> usize {
    let ulid = "0".repeat(26);
    // the longest that Step Functions keeps of an error and of its cause
    let failed = json!({"Error": "e".repeat(256), "Cause": "c".repeat(32 * 1024)});
    let items = json!({"bucket": "b".repeat(63), "key": format!("jobs/bkp_{ulid}/chunks.jsonl")});
    let plan = json!({"chunks": chunks, "items": items, "concurrency": CONCURRENCY});
    json!({"job": format!("bkp_{ulid}"), "organization": format!("org_{ulid}"), "plan": plan, "failed": failed})
        .to_string()
        .len()
}

#[tokio::test]
async fn a_billion_documents_keep_to_every_quota() {
    let machine = Machine::read();
    assert!(machine.parent < MOST_EVENTS, "{} events of the parent", machine.parent);
    println!(
        "| documents | counted | chunks | plan | list | steps a chunk | events a chunk | finalize | {CONCURRENCY} at a time |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (documents, counts) in
        [(10_000_000, true), (100_000_000, true), (1_000_000_000, true), (1_000_000_000, false), (10_000_000_000, true)]
    {
        let source = Pretender { counts, ..Pretender::new(documents, "-01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned()) };
        let (.., planned) = plan(Arc::new(source), CHUNK_DOCUMENTS).await;
        let a_chunk = documents.div_ceil(planned.chunks);
        let a_step = a_chunk.min(STEP_DOCUMENTS).min(RATE * STEP_SECONDS);
        let steps = a_chunk.div_ceil(a_step);
        let events = steps * machine.retried + 4;
        let list: usize = (0..planned.chunks).map(list_line).sum();
        // the receipt of each step is read, and its run looked at
        let finalize = 2 * planned.chunks * steps * REQUEST_MILLIS / PARALLEL_REQUESTS / 1000;
        let all = planned.chunks.div_ceil(CONCURRENCY) * (a_chunk / RATE);
        println!(
            "| {documents} | {} | {} | {} KiB | {} KiB | {steps} of at most {} s | {events} | {finalize} s | {:.1} h |",
            if counts { "yes" } else { "no" },
            planned.chunks,
            planned.sealed.div_ceil(1024),
            list.div_ceil(1024),
            a_step / RATE,
            all as f64 / 3600.0
        );
        assert!(planned.chunks <= MOST_CHUNKS, "{} chunks", planned.chunks);
        assert!(planned.sealed < SEALED_BYTES / 16, "a plan of {} bytes: every step reads it", planned.sealed);
        assert!(list < 10 * 1024 * 1024, "a list of {list} bytes");
        assert!(payload(planned.chunks) < MOST_PAYLOAD && list_line(planned.chunks) < MOST_PAYLOAD);
        assert!(events < MOST_EVENTS, "{events} events of a chunk");
        assert!(finalize < LAMBDA_SECONDS, "{finalize} s to commit");
        // of ten billion the reads alone take longer than a job may: more have to be read at a time
        assert_eq!(all < JOB_SECONDS, documents <= 1_000_000_000, "{all} s");
    }
    // a job has ended by its time before a chunk can fill its history, though every step be cut short and tried again
    let most_steps = JOB_SECONDS / (STEP_DOCUMENTS / (10 * RATE));
    assert!(most_steps * machine.step < MOST_EVENTS, "{most_steps} steps of {} events", machine.step);
    println!(
        "events: parent at most {}, a step {}, with every retry {}",
        machine.parent, machine.step, machine.retried
    );
    // a step hands over, and has a minute to upload and to say so
    const { assert!(STEP_SECONDS + 60 < LAMBDA_SECONDS) };
}

#[tokio::test]
async fn plans_of_the_longest_paths_fit_with_fewer_chunks() {
    let long = |with: &str, bytes: usize| with.repeat(bytes - "orders/000000000000".len());
    for (padding, chunk_documents, fewest) in [
        (long("x", 1_500), CHUNK_DOCUMENTS, 4_000),
        (long("x", 6 * 1024), CHUNK_DOCUMENTS, 1_000),
        // six bytes of JSON each
        (long("\u{1}", 6 * 1024), 1_000, 100),
    ] {
        let source = Arc::new(Pretender::new(1_000_000_000, padding));
        let (_fixture, repository, job, planned) = plan(source.clone(), chunk_documents).await;
        println!("paths of {} bytes: {} chunks", source.path(0).as_str().len(), planned.chunks);
        assert!((fewest..=MOST_CHUNKS).contains(&planned.chunks), "{}", planned.chunks);
        // the plan is read again, and its chunks are done from the first to the last
        let steps = steps(&repository, &source, chunk_documents);
        for chunk in [0, u32::try_from(planned.chunks).unwrap() - 1] {
            assert!(steps.chunk(&job, chunk, 0).await.unwrap().done);
        }
        let error = steps.finalize(&job).await.unwrap_err().to_string();
        assert!(error.contains("chunk 1 was not read to its end"), "{error}");
    }
}

#[tokio::test]
async fn what_a_pretended_database_holds_is_backed_up_chunk_by_chunk() {
    let source = Arc::new(Pretender::new(10_000_000, String::new()));
    for chunk in 0..40 {
        source.really.set(source.path(chunk * CHUNK_DOCUMENTS).as_str(), 1);
    }
    let (fixture, repository, job, planned) = plan(source.clone(), CHUNK_DOCUMENTS).await;
    assert_eq!(planned.chunks, 40);
    let steps = steps(&repository, &source, CHUNK_DOCUMENTS);
    for chunk in 0..40 {
        let done = steps.chunk(&job, chunk, 0).await.unwrap();
        assert_eq!((done.done, done.documents), (true, 1), "chunk {chunk}");
    }
    let manifest = steps.finalize(&job).await.unwrap();
    assert_eq!((manifest.runs.len(), manifest.totals.documents), (40, 40));
    assert_eq!(all_whole(&repository).await.len(), 1);
    let sealed = fixture.store.head(&format!("snapshots/{job}.manifest").as_str().into()).await.unwrap().size;
    println!("a manifest of {} runs: {sealed} bytes; of 10,000 about {} KiB", 40, sealed * 250 / 1024);
    assert!(sealed * 250 < SEALED_BYTES as u64);
}
