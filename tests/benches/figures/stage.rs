//! Servers in processes of their own, repositories in folders, and medians.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebackup_codec::secret::SecretKey;
use firebackup_embedded::system::{SystemClock, SystemRandom};
use firebackup_engine::{Backup, BackupOutcome, Repository, Resume, Secrets, World};
use firebackup_google::{Access, Firestore, FirestoreOptions};
use firebackup_model::port::DocumentSource;
use firebackup_model::{DatabaseName, PathRange};
use firebackup_storage::{Destination, DestinationSettings};
use futures::StreamExt;
use tempfile::TempDir;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub fn print_machine() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("?", |text| text.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {cores} cores, {model}; profile: {}", if cfg!(debug_assertions) { "debug" } else { "release" });
}

/// The replay server of `testkit`, in another process.
pub struct ReplayProcess {
    child: Child,
    pub host: String,
}

impl ReplayProcess {
    pub fn start(documents: u64) -> Result<Self> {
        let mut child = Command::new(example("replay")?)
            .args(["--documents", &documents.to_string(), "--size", "1024", "--seed", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        Ok(Self { child, host: format!("127.0.0.1:{}", line.trim()) })
    }

    pub fn database() -> DatabaseName {
        DatabaseName::new("demo-replay", "(default)")
    }
}

impl Drop for ReplayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cargo_build(arguments: &[&str]) -> Result<std::path::PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        // the whole workspace is named, so that one set of features serves all that is built
        .args(["build", "--release", "--locked", "--workspace", "--message-format", "json-render-diagnostics"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()?;
    let built =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?.get("executable")?.as_str().map(Into::into);
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .filter_map(built)
        .next_back()
        .ok_or_else(|| format!("cargo build {arguments:?} built no program").into())
}

fn example(name: &str) -> Result<std::path::PathBuf> {
    cargo_build(&["--example", name])
}

/// The command line, built as users get it.
pub fn firebackup() -> Result<std::path::PathBuf> {
    cargo_build(&["--bin", "firebackup"])
}

pub async fn firestore(host: &str, database: DatabaseName) -> Result<Firestore> {
    let access = Access::Emulator { host: host.to_owned() };
    Ok(Firestore::connect(FirestoreOptions { database, access }).await?)
}

/// A repository in a folder of the target directory's disk.
pub async fn repository() -> Result<(TempDir, Repository)> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let url = format!("file://{}", folder.path().join("repository").display());
    let destination = Destination::create(&url, &DestinationSettings::default())?;
    Ok((folder, Repository::init(destination.store(), secrets(), world()).await?))
}

/// What opens the repositories of all figures.
pub fn secrets() -> Secrets {
    Secrets { masters: vec![SecretKey::from_bytes([42; 32])], ..Secrets::default() }
}

pub fn world() -> World {
    World { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
}

/// Documents and bytes that passed, and how long it took.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub documents: f64,
    pub bytes: f64,
    pub seconds: f64,
}

impl Rate {
    pub fn per_second(&self) -> f64 {
        self.documents / self.seconds
    }

    pub fn megabytes(&self) -> f64 {
        self.bytes / self.seconds / 1e6
    }
}

/// A bare RunQuery loop: what the server gives when nothing is done with it.
pub async fn bare_read(source: &Firestore) -> Result<Rate> {
    let at = source.snapshot_time().await?;
    let start = Instant::now();
    let mut stream = source.stream(&PathRange::everything(), at, None).await?;
    let (mut documents, mut bytes) = (0u64, 0u64);
    while let Some(document) = stream.next().await {
        bytes += document?.0.len() as u64;
        documents += 1;
    }
    Ok(rate(documents, bytes, start.elapsed()))
}

pub async fn backup(source: &Firestore, compression: &str, parallel: usize) -> Result<(Rate, BackupOutcome)> {
    let (_folder, repository) = repository().await?;
    let start = Instant::now();
    let backup = Backup::builder(repository, Arc::new(source.clone())).compression(compression.parse()?);
    let outcome = backup.parallel(parallel).resume(Resume::Never).build().run().await?;
    let totals = outcome.manifest.totals;
    Ok((rate(totals.documents, totals.bytes, start.elapsed()), outcome))
}

pub fn rate(documents: u64, bytes: u64, elapsed: Duration) -> Rate {
    Rate { documents: documents as f64, bytes: bytes as f64, seconds: elapsed.as_secs_f64() }
}

/// The share that `rates` come to of `bare`, taken round by round, and of these the one in the middle: a server that is
/// slower for a while is so for both.
pub fn share(rates: &[Rate], bare: &[Rate]) -> f64 {
    let mut shares: Vec<_> = rates.iter().zip(bare).map(|(rate, bare)| rate.per_second() / bare.per_second()).collect();
    shares.sort_by(f64::total_cmp);
    shares[shares.len() / 2]
}

/// The rate in the middle.
pub fn median(mut rates: Vec<Rate>) -> Rate {
    rates.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
    rates[rates.len() / 2]
}
